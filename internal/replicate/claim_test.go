package replicate_test

import (
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/replicate"
	"github.com/tidegate/tidegate/internal/store"
)

// checkpoints are the replication's checkpoints in a database, by id.
func (e *env) checkpoints() map[string]struct {
	LastSequence string `json:"last_sequence"`
	Node         string
	Epoch        uint64
} {
	e.t.Helper()
	all := map[string]struct {
		LastSequence string `json:"last_sequence"`
		Node         string
		Epoch        uint64
	}{}
	docs, err := e.db.Admin(0).LocalDocs(e.t.Context(), "", 100)
	if err != nil {
		e.t.Fatal(err)
	}
	for _, d := range docs {
		if !strings.HasPrefix(d.ID, "checkpoint/") {
			continue
		}
		one := all[d.ID]
		if err := json.Unmarshal(d.Body, &one); err != nil {
			e.t.Fatal(err)
		}
		all[d.ID] = one
	}
	return all
}

// TestCheckpointsNameTheirRun: on both sides they say which node saved them under which claim, and a run without a claim begins where one with a
// claim has ended.
func TestCheckpointsNameTheirRun(t *testing.T) {
	there, here := newRemote(t, database.Options{}), newEnv(t, database.Options{})
	here.fill("a", 5)
	there.fill("b", 5)
	claim := &replicate.Claim{Node: "n1", Epoch: 7, Check: func(store.Reader) error { return nil }}
	run(t, here.replicator(there, replicate.ActiveOptions{Push: true, Pull: true, Claim: claim}))
	for side, e := range map[string]*env{"here": here, "there": there.env} {
		saved := e.checkpoints()
		if len(saved) != 2 {
			t.Errorf("%s: %v", side, saved)
		}
		for id, cp := range saved {
			if cp.Node != "n1" || cp.Epoch != 7 || cp.LastSequence == "" {
				t.Errorf("%s: %s: %+v", side, id, cp)
			}
		}
	}
	again := here.replicator(there, replicate.ActiveOptions{Push: true, Pull: true})
	run(t, again)
	if st := again.Stats(); st.Pull.Read.Load()+st.Push.Written.Load() != 0 {
		t.Errorf("%d read, %d written again", st.Pull.Read.Load(), st.Push.Written.Load())
	}
}

// TestRunsEndWithTheirClaim: the checkpoint of a run whose claim is over is refused, and the run ends because of that.
func TestRunsEndWithTheirClaim(t *testing.T) {
	there, here := newRemote(t, database.Options{}), newEnv(t, database.Options{})
	there.fill("b", 5)
	over := errors.New("the claim is over")
	var checks atomic.Int64
	claim := &replicate.Claim{Node: "n1", Epoch: 7, Check: func(store.Reader) error { checks.Add(1); return over }}
	rep := here.replicator(there, replicate.ActiveOptions{Pull: true, Claim: claim})
	if err := rep.Run(t.Context()); !errors.Is(err, over) {
		t.Errorf("it ended with %v", err)
	}
	if saved, remote := here.checkpoints(), there.checkpoints(); len(saved)+len(remote) != 0 || checks.Load() == 0 {
		t.Errorf("saved: %v and %v after %d checks", saved, remote, checks.Load())
	}
}

// TestClaimsThatCannotBeChecked: a store that is out of reach for a while does not end a run for good.
func TestClaimsThatCannotBeChecked(t *testing.T) {
	there, here := newRemote(t, database.Options{}), newEnv(t, database.Options{})
	there.fill("b", 5)
	var checks atomic.Int64
	claim := &replicate.Claim{Node: "n1", Epoch: 7, Check: func(store.Reader) error {
		if checks.Add(1) == 1 {
			return tidegate.Errorf(tidegate.Unavailable, "the connection was lost")
		}
		return nil
	}}
	run(t, here.replicator(there, replicate.ActiveOptions{Pull: true, Claim: claim}))
	if saved := here.checkpoints(); len(saved) != 1 || checks.Load() < 2 {
		t.Errorf("saved: %v after %d checks", saved, checks.Load())
	}
}

// TestLaterRunsCheckpointStays: a run that was held up does not overwrite what a later one has saved on the target.
func TestLaterRunsCheckpointStays(t *testing.T) {
	there, here := newRemote(t, database.Options{}), newEnv(t, database.Options{})
	there.fill("b", 5)
	fine := func(store.Reader) error { return nil }
	var later atomic.Bool
	old := &replicate.Claim{Node: "n1", Epoch: 7}
	old.Check = func(store.Reader) error { // just after this the later run comes, and saves on the target
		if later.CompareAndSwap(false, true) {
			other := newEnv(t, database.Options{})
			rep := other.replicator(there, replicate.ActiveOptions{Pull: true, Claim: &replicate.Claim{Node: "n2", Epoch: 8, Check: fine}})
			done := make(chan error, 1)
			t.Cleanup(func() {
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
			go func() { done <- rep.Run(t.Context()) }()
			until(t, "the later run has saved", func() bool { return len(there.checkpoints()) == 1 })
		}
		return nil
	}
	err := here.replicator(there, replicate.ActiveOptions{Pull: true, Claim: old}).Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "a later run has saved one") {
		t.Errorf("it ended with %v", err)
	}
	for id, cp := range there.checkpoints() {
		if cp.Node != "n2" || cp.Epoch != 8 {
			t.Errorf("%s: %+v", id, cp)
		}
	}
}
