package database_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/store"
)

// beside opens the database once more on the same stores, as another node does.
func (e *env) beside(opts database.Options) *env { return openWith(e.t, e.st, e.blobs, opts) }

// A reset that begins or ends on one node is one for what is pushed to another, whatever that remembers.
func TestResetsHoldForAllNodes(t *testing.T) {
	e, bob := guardEnv(t, database.Options{}, false, false, false)
	opts, _, _ := deviceSync(database.Options{})
	other := e.beside(opts)
	there := other.as("bob")
	if _, err := other.pushed(there, false, "new", 1, "x", false); err != nil { // remembers that bob is in no reset
		t.Fatal(err)
	}
	if _, err := e.admin.Purge(t.Context(), []string{"d"}); err != nil {
		t.Fatal(err)
	}
	e.storeCheckpoint(bob, liteRef, "", `{"remote":1}`)
	if err := e.db.Keeper().ForceReset(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	e.visit(bob, liteRef)
	if res, err := other.pushed(there, true, "d", 3, "e b a", false); err != nil || !res.Closed {
		t.Errorf("pushed to the other node in a reset: %+v, %v", res, err)
	}
	if _, err := other.pushed(there, false, "d", 3, "e b a", false); tidegate.ErrorCode(err) != tidegate.Conflict {
		t.Errorf("pushed to the other node in a reset: %v", err)
	}
	if n := len(e.quarantine()); n != 1 {
		t.Errorf("%d bodies in quarantine", n)
	}
	e.storeCheckpoint(bob, liteRef, "", `{"remote":1}`) // the reset is over
	if res, err := other.pushed(there, false, "d", 3, "e b a", false); err != nil || res.Closed {
		t.Errorf("pushed to the other node after the reset: %+v, %v", res, err)
	}
	e.check()
}

// A run that was held up while another node went on with it stores nothing any more.
func TestResyncIsFenced(t *testing.T) {
	for _, online := range []bool{false, true} {
		t.Run(fmt.Sprintf("online=%t", online), func(t *testing.T) {
			e := open(t, database.Options{})
			for i := range 20 {
				e.put(fmt.Sprintf(`{"_id":"d%02d","channels":["a"]}`, i))
			}
			other := e.beside(database.Options{})
			options := database.ResyncOptions{Online: online, Node: "one", Fence: 1, Concurrency: 1}
			var taken database.ResyncStatus
			database.BatchDocs(e.db, 5)
			database.AtBatch(e.db, func(n int) {
				if n != 2 {
					return
				}
				options := options
				options.Node, options.Fence = "two", 2
				var err error
				if taken, err = other.db.Resync(t.Context(), options); err != nil {
					t.Errorf("the other node: %v", err)
				}
			})
			st, err := e.db.Resync(t.Context(), options)
			if tidegate.ErrorCode(err) != tidegate.Conflict || st.DocsProcessed != 10 {
				t.Errorf("held up, and goes on: %+v, %v", st, err)
			}
			if taken.State != database.ResyncCompleted || taken.ID != st.ID || taken.DocsProcessed != 20 {
				t.Errorf("taken over: %+v", taken)
			}
			stored, err := database.ReadResyncStatus(t.Context(), e.st, space)
			if err != nil || stored.State != database.ResyncCompleted || stored.Node != "two" {
				t.Errorf("stored: %+v, %v", stored, err)
			}
			other.check()
		})
	}
}

// What a Keeper does stops at its fence: the transaction in which that says no changes nothing.
func TestKeeperIsFenced(t *testing.T) {
	e, bob := guardEnv(t, database.Options{}, false, false, false)
	e.storeCheckpoint(bob, liteRef, "", `{"remote":1}`)
	lost := tidegate.Errorf(tidegate.Conflict, "the lease has moved on")
	k := e.db.Keeper().Fenced(func(store.Reader) error { return lost })
	if _, err := k.RetireClients(t.Context(), nil); !errors.Is(err, lost) {
		t.Errorf("clients retired: %v", err)
	}
	if _, err := k.Remember(t.Context(), 0, 0, nil); !errors.Is(err, lost) {
		t.Errorf("deletions made ledger rows: %v", err)
	}
	if n := len(e.clients()); n != 1 {
		t.Errorf("%d clients", n)
	}
	if _, err := e.db.Keeper().Fenced(func(store.Reader) error { return nil }).RetireClients(t.Context(), nil); err != nil || len(e.clients()) != 0 {
		t.Errorf("with the lease: %v, %d clients", err, len(e.clients()))
	}
}
