package replicate_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/replicate"
)

// What is pushed while the connection is being ended is stored and acknowledged, or neither: there is no third outcome. The CLOSE frame
// comes after the answers, and says whether to come back.
func TestD42PushesAreStoredAndAnsweredOrNeither(t *testing.T) {
	for name, tt := range map[string]struct {
		cause error
		code  int
	}{
		"paused":      {&devicesync.GateError{Code: devicesync.SyncPaused, State: devicesync.Disabled}, devicesync.CloseRetry},
		"stop":        {&devicesync.GateError{Code: devicesync.SyncTerminated, Stop: true}, devicesync.CloseStop},
		"server ends": {context.Canceled, devicesync.CloseRetry},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t, database.Options{})
			ctx, end := context.WithCancelCause(t.Context())
			c := e.dialIn(ctx, replicate.Peer{Admin: true})
			const revs = 400
			acked := make([]bool, revs)
			var pushes sync.WaitGroup
			first := make(chan struct{}, revs)
			for i := range revs {
				pushes.Go(func() {
					res := c.call("rev", `{"n":1}`, "id", fmt.Sprintf("d%03d", i), "rev", "1-aa")
					acked[i] = res.err == nil
					first <- struct{}{}
				})
			}
			<-first
			end(tt.cause)
			pushes.Wait()
			<-c.over
			stored := 0
			for i, said := range acked {
				_, err := e.admin.Get(t.Context(), fmt.Sprintf("d%03d", i), database.GetOptions{})
				if (err == nil) != said {
					t.Errorf("document %d: acknowledged %v, read: %v", i, said, err)
				}
				if err == nil {
					stored++
				}
			}
			if stored == 0 {
				t.Error("nothing was stored")
			}
			c.near.in.mu.Lock()
			defer c.near.in.mu.Unlock()
			if c.near.in.code != tt.code {
				t.Errorf("closed with %d, want %d", c.near.in.code, tt.code)
			}
		})
	}
}
