package gateway

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/tidegate/tidegate/internal/job"
)

// TestRunsFollowOneAnother: a run that is over, and still writes how it ended, is waited for by the next one. The claim under which both write
// is the replication's, so the end of the first must not take it from the second.
func TestRunsFollowOneAnother(t *testing.T) {
	bubble(t, func(t *testing.T, e *replEnv) {
		g, stop := e.gateway(nil)
		defer stop()
		r := create(t, g, "db", `{}`)
		define(t, r, "r", `{"remote":"http://h/d","direction":"pull","initial_state":"stopped"}`)
		p, err := r.Replications().find("r")
		if err != nil {
			t.Fatal(err)
		}
		over := func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.run = nil
			p.apply(job.Stop)
		}
		written := make(chan struct{})
		second := false
		p.launch(job.Start, func(context.Context, *replicationRun) { over(); <-written })
		wantRepl(t, r, "r", job.Stopped)
		p.launch(job.Start, func(context.Context, *replicationRun) { second = true; over() })
		wantRepl(t, r, "r", job.Starting)
		if second {
			t.Error("the second run has begun before the first had written how it ended")
		}
		close(written)
		wantRepl(t, r, "r", job.Stopped)
		synctest.Wait()
		if !second {
			t.Error("the second run has not begun")
		}
	})
}
