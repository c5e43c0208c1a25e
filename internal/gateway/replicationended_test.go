package gateway

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/tidegate/tidegate/internal/job"
)

// TestEndedReplications checks what is remembered of ad hoc replications that are gone, and that it is not too much.
func TestEndedReplications(t *testing.T) {
	bubble(t, func(t *testing.T, e *replEnv) {
		const definition = `{"remote":"http://h/d","direction":"push"`
		g, stop := e.gateway(nil)
		defer stop()
		r := create(t, g, "db", `{}`)
		ended := func(id string, state job.State) {
			t.Helper()
			synctest.Wait()
			if s, ok := r.Replications().Ended(id); !ok || s.State != state || s.ID != id {
				t.Errorf("%s: got %v, %v, want %v", id, s.State, ok, state)
			}
		}
		define(t, r, "completed", definition+`,"adhoc":true}`)
		wantRepl(t, r, "completed", job.Running)
		e.fakes.last("completed").end <- nil
		ended("completed", job.Stopped)
		define(t, r, "stopped", definition+`,"adhoc":true}`)
		act(t, r, "stopped", job.Stop, job.Removed)
		ended("stopped", job.Removed)

		define(t, r, "persistent", definition+`}`)
		if err := r.Replications().Delete(t.Context(), "persistent"); err != nil {
			t.Fatal(err)
		}
		if s, ok := r.Replications().Ended("persistent"); ok {
			t.Errorf("a persistent one is remembered: %v", s)
		}
		for i := range maxEnded {
			id := fmt.Sprintf("r%d", i)
			define(t, r, id, definition+`,"adhoc":true}`)
			act(t, r, id, job.Stop, job.Removed)
		}
		ended("r0", job.Removed)
		if _, ok := r.Replications().Ended("stopped"); ok {
			t.Error("they are remembered for ever")
		}
	})
}
