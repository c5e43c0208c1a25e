package rest

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/tidegate/tidegate/internal/gateway"
	"github.com/tidegate/tidegate/internal/replicate"
)

// idleReplicator connects at once and copies nothing. A one-shot goes on like a continuous one, until a test completes it.
type idleReplicator struct {
	o  replicate.ActiveOptions
	mu sync.Mutex
	st replicate.Status
}

func newIdleReplicator(o replicate.ActiveOptions) (gateway.Replicator, error) {
	r := &idleReplicator{o: o}
	r.st.Push.Active, r.st.Pull.Active = o.Push, o.Pull
	return r, nil
}

func (r *idleReplicator) set(s replicate.State) {
	r.mu.Lock()
	r.st.Push.State, r.st.Pull.State = s, s
	r.mu.Unlock()
	r.o.OnChange()
}

// Run fails where the remote's database is called "broken".
func (r *idleReplicator) Run(ctx context.Context) error {
	if strings.HasSuffix(r.o.Remote.Path, "/broken") {
		return errBroken
	}
	r.set(replicate.Running)
	<-ctx.Done()
	r.set(replicate.Stopped)
	return context.Cause(ctx)
}

func (r *idleReplicator) Status() replicate.Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.st
}

func (r *idleReplicator) Reset(context.Context) error { return nil }

type brokenError struct{}

func (brokenError) Error() string { return "the remote is broken" }

var errBroken error = brokenError{}

// settled waits until a replication is in a state.
func (r *rig) settled(t testing.TB, id, state string) {
	t.Helper()
	for {
		db, err := r.gateway.Database("db")
		if err != nil {
			t.Fatal(err)
		}
		st, err := db.Replications().Status(id)
		if err != nil {
			t.Fatal(err)
		}
		if st.State.String() == state {
			return
		}
		runtime.Gosched()
	}
}
