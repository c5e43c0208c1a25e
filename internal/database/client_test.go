package database_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/store"
)

// visit is a client that reads its checkpoint. It returns the verdict, and whether the checkpoint was there.
func (e *env) visit(h *database.Handle, ref database.ClientRef) (devicesync.VerdictKind, bool) {
	e.t.Helper()
	doc, v, err := h.Checkpoint(e.t.Context(), ref)
	if err != nil && tidegate.ErrorCode(err) != tidegate.NotFound && !mustReset(err) {
		e.t.Fatal(err)
	}
	return v.Kind, doc != nil
}

// storeCheckpoint stores one and returns its revision.
func (e *env) storeCheckpoint(h *database.Handle, ref database.ClientRef, rev, body string) string {
	e.t.Helper()
	rev, err := h.StoreCheckpoint(e.t.Context(), ref, rev, []byte(body))
	if err != nil {
		e.t.Fatal(err)
	}
	return rev
}

// clients lists the client records.
func (e *env) clients() []database.ClientRecord {
	e.t.Helper()
	list, err := e.db.Keeper().Clients(e.t.Context(), database.ClientFilter{})
	if err != nil {
		e.t.Fatal(err)
	}
	return list
}

// newEpoch begins an epoch as the gateway does.
func (e *env) newEpoch(change func(func(*devicesync.Row)), why devicesync.EpochReason) {
	e.t.Helper()
	base := devicesync.NextBase(e.last())
	err := e.st.Update(e.t.Context(), func(tx store.Tx) error { return store.AdvanceSequence(tx, space, base) })
	if err != nil {
		e.t.Fatal(err)
	}
	change(func(r *devicesync.Row) { r.Record.BeginEpoch(base, "next", why, e.clock.now()) })
}

var (
	liteRef  = database.ClientRef{Kind: database.ClientBLIP, ID: "cp-lite"}
	pouchRef = database.ClientRef{Kind: database.ClientCouch, ID: "cp-pouch"}
)

// A client is noted at its first visit, at each checkpoint, and else once a minute at most.
func TestClientRecords(t *testing.T) {
	opts, _, _ := deviceSync(database.Options{})
	e := open(t, opts)
	bob := e.user("bob", "a")
	if kind, there := e.visit(bob, liteRef); kind != devicesync.Fresh || there {
		t.Fatalf("%s %v", kind, there)
	}
	first := e.clients()[0]
	if first.FileIdent != 1 || first.User != "bob" || first.Kind != database.ClientBLIP || first.Checkpoint != "cp-lite" || first.LastSince != "" {
		t.Errorf("%+v", first)
	}
	e.clock.add(30 * time.Second)
	e.visit(bob, liteRef)
	if again := e.clients()[0]; !again.LastSeen.Equal(first.LastSeen) {
		t.Errorf("noted after %v", again.LastSeen.Sub(first.LastSeen))
	}
	e.put(`{"_id":"d"}`)
	e.storeCheckpoint(bob, liteRef, "", `{"local":4,"remote":"1"}`)
	if after := e.clients()[0]; after.LastSince != "1" || after.LastPos != 1 || !after.LastSeen.After(first.LastSeen) || !after.FirstSeen.Equal(first.FirstSeen) {
		t.Errorf("%+v", after)
	}
	if kind, there := e.visit(bob, liteRef); kind != devicesync.OK || !there {
		t.Errorf("%s %v", kind, there)
	}
	// A local document of an application is no client's.
	if _, err := bob.StoreCheckpoint(t.Context(), database.ClientRef{Kind: database.ClientCouch, ID: "mine"}, "", []byte(`{"settings":1}`)); err != nil {
		t.Fatal(err)
	}
	e.visit(bob, pouchRef)
	if n := len(e.clients()); n != 1 {
		t.Errorf("%d clients", n)
	}
	e.check()
}

// A termination retires clients: each is told to start again once, by its own protocol's means, and by its record alone (invariant 9).
func TestD31TerminationResetsEachClientOnce(t *testing.T) {
	opts, _, change := deviceSync(database.Options{})
	e := open(t, opts)
	bob := e.user("bob", "a")
	e.put(`{"_id":"d"}`)
	e.storeCheckpoint(bob, liteRef, "", `{"local":1,"remote":"1"}`)
	e.storeCheckpoint(bob, pouchRef, "", `{"session_id":"x","last_seq":1}`)
	if _, err := bob.PutLocal(t.Context(), "mine", "", []byte(`{"settings":1}`)); err != nil {
		t.Fatal(err)
	}
	e.newEpoch(change, devicesync.EpochReenabled)
	for range 2 { // the process died in between
		if _, err := e.db.Keeper().RetireClients(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(e.clients()); n != 0 {
		t.Fatalf("%d records are left", n)
	}
	if _, err := bob.GetLocal(t.Context(), "mine"); err != nil {
		t.Errorf("an application's local document: %v", err)
	}
	for i, ref := range []database.ClientRef{liteRef, pouchRef} {
		if kind, there := e.visit(bob, ref); kind != devicesync.ResetRecover || there {
			t.Errorf("%s: %s %v", ref.ID, kind, there)
		}
		if kind, _ := e.visit(bob, ref); kind != devicesync.ResetRecover { // it did not come far
			t.Errorf("%s again: %s", ref.ID, kind)
		}
		rec := e.clients()[i]
		if rec.Reset != database.ResetRunning || rec.Reason != devicesync.EpochChanged || rec.FileIdent != int64(3+i) {
			t.Errorf("%+v", rec)
		}
		e.storeCheckpoint(bob, ref, "", `{"session_id":"y","remote":"4294967296:1"}`)
		if kind, there := e.visit(bob, ref); kind != devicesync.OK || !there {
			t.Errorf("%s afterwards: %s %v", ref.ID, kind, there)
		}
		if rec := e.clients()[i]; rec.Reset != database.ResetDone || rec.Epoch != 1 {
			t.Errorf("%+v", rec)
		}
	}
	other := database.ClientRef{Kind: database.ClientCouch, ID: "new"}
	if kind, _ := e.visit(bob, other); kind != devicesync.Fresh {
		t.Errorf("a new client: %s", kind)
	}
	e.check()
}

// A client whose position was trimmed away starts again; with recovery disabled, or beyond the ledger, it must discard its database. A peer never
// must.
func TestD34VerdictsOnTrimmedPositions(t *testing.T) {
	for _, tt := range []struct {
		name   string
		row    func(*devicesync.Row)
		peer   bool
		want   devicesync.VerdictKind
		reason devicesync.Reason
	}{
		{"history kept", func(r *devicesync.Row) { r.Record.HistoryFloor = 2 }, false, devicesync.OK, ""},
		{"trimmed", func(r *devicesync.Row) { r.Record.HistoryFloor = 3 }, false, devicesync.ResetRecover, devicesync.HistoryTrimmed},
		{"recovery disabled", func(r *devicesync.Row) { r.Record.HistoryFloor, r.Config.IsRecoveryModeDisabled = 3, true }, false, devicesync.ResetWipe, devicesync.HistoryTrimmed},
		{"beyond the ledger", func(r *devicesync.Row) { r.Record.HistoryFloor, r.Record.LedgerFloor = 5, 4 }, false, devicesync.ResetWipe, devicesync.HistoryTrimmed},
		{"a peer", func(r *devicesync.Row) { r.Record.HistoryFloor, r.Config.IsRecoveryModeDisabled = 3, true }, true, devicesync.ResetRecover, devicesync.HistoryTrimmed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			opts, _, change := deviceSync(database.Options{})
			e := open(t, opts)
			for i := range 6 {
				e.put(fmt.Sprintf(`{"_id":"d%d"}`, i))
			}
			ref := liteRef
			ref.Peer = tt.peer
			e.storeCheckpoint(e.admin, ref, "", `{"remote":3}`)
			change(tt.row)
			doc, v, err := e.admin.Checkpoint(t.Context(), ref)
			if v.Kind != tt.want || v.Reason != tt.reason || (doc != nil) != (tt.want == devicesync.OK) {
				t.Errorf("%+v %v %v", v, doc, err)
			}
			if wiped := mustReset(err); wiped != (tt.want == devicesync.ResetWipe) {
				t.Errorf("%v", err)
			}
			since, err := e.db.JudgeSince(t.Context(), tidegate.Since{Seq: 3}, tt.peer)
			if err != nil || since.Kind != tt.want {
				t.Errorf("since: %+v %v", since, err)
			}
			if tt.want == devicesync.ResetWipe { // the operator allows it again
				change(func(r *devicesync.Row) { r.Config.IsRecoveryModeDisabled, r.Record.LedgerFloor = false, 0 })
				if kind, _ := e.visit(e.admin, ref); kind != devicesync.ResetRecover {
					t.Errorf("afterwards %s", kind)
				}
			}
		})
	}
}

// A position that the database has never given out means that it went back (server_behind); it is never wiped for it alone.
func TestAheadTokens(t *testing.T) {
	opts, _, _ := deviceSync(database.Options{})
	e := open(t, opts)
	v, err := e.db.JudgeSince(t.Context(), tidegate.Since{Seq: 9}, false)
	if err != nil || v != (devicesync.Verdict{Kind: devicesync.ResetRecover, Reason: devicesync.ServerBehind}) {
		t.Errorf("%+v %v", v, err)
	}
	for _, since := range []tidegate.Since{{}, {Trigger: 0}} {
		if v, err := e.db.JudgeSince(t.Context(), since, false); err != nil || v.Kind.Reset() {
			t.Errorf("%v: %+v %v", since, v, err)
		}
	}
}

// An operator resets one client: nobody else is affected, and it is over with its next checkpoint.
func TestD35ForcedReset(t *testing.T) {
	opts, _, _ := deviceSync(database.Options{})
	e := open(t, opts)
	e.put(`{"_id":"d"}`)
	e.storeCheckpoint(e.admin, liteRef, "", `{"remote":1}`)
	e.storeCheckpoint(e.admin, pouchRef, "", `{"session_id":"x"}`)
	k := e.db.Keeper()
	wantErr(t, k.ForceReset(t.Context(), 77), tidegate.NotFound, "no client has this file_ident")
	if err := k.ForceReset(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	pending := database.ResetPending
	if list, err := k.Clients(t.Context(), database.ClientFilter{Reset: &pending}); err != nil || len(list) != 1 || list[0].Checkpoint != "cp-lite" {
		t.Errorf("%+v %v", list, err)
	}
	if v, err := e.admin.JudgeClient(t.Context(), "cp-lite", tidegate.Since{}); err != nil || v.Reason != devicesync.Forced {
		t.Errorf("beforehand: %+v %v", v, err)
	}
	if kind, there := e.visit(e.admin, liteRef); kind != devicesync.ResetRecover || there {
		t.Errorf("%s %v", kind, there)
	}
	if kind, there := e.visit(e.admin, pouchRef); kind != devicesync.OK || !there {
		t.Errorf("another client: %s %v", kind, there)
	}
	e.storeCheckpoint(e.admin, liteRef, "", `{"remote":1}`)
	if kind, there := e.visit(e.admin, liteRef); kind != devicesync.OK || !there {
		t.Errorf("afterwards: %s %v", kind, there)
	}
}

// In an epoch that a restore began a Couchbase Lite is told that there is no checkpoint until it has offered all it has; at most so many times.
func TestD36RestoredEpochsRepeatResets(t *testing.T) {
	opts, _, change := deviceSync(database.Options{})
	e := open(t, opts)
	e.put(`{"_id":"d"}`)
	rev := e.storeCheckpoint(e.admin, liteRef, "", `{"remote":1}`)
	e.newEpoch(change, devicesync.EpochRestored)
	for range 3 {
		if kind, there := e.visit(e.admin, liteRef); kind != devicesync.ResetRecover || there {
			t.Fatalf("%s %v", kind, there)
		}
		rev = e.storeCheckpoint(e.admin, liteRef, "", `{"remote":"4294967296:1"}`) // taken, and forgotten
	}
	if err := e.admin.FinishReset(t.Context(), liteRef); err != nil {
		t.Fatal(err)
	}
	if kind, there := e.visit(e.admin, liteRef); kind != devicesync.OK || !there || rev == "" {
		t.Errorf("%s %v", kind, there)
	}
	// One that never comes to an end.
	slow := database.ClientRef{Kind: database.ClientBLIP, ID: "slow"}
	for range 21 {
		if kind, _ := e.visit(e.admin, slow); kind != devicesync.ResetRecover {
			t.Fatalf("%s", kind)
		}
		e.storeCheckpoint(e.admin, slow, "", `{"remote":"4294967296:1"}`)
	}
	if kind, there := e.visit(e.admin, slow); kind != devicesync.OK || !there {
		t.Errorf("after 20 connections: %s %v", kind, there)
	}
	// A CouchDB client's own checkpoints are as good as its progress.
	e.visit(e.admin, pouchRef)
	e.storeCheckpoint(e.admin, pouchRef, "", `{"session_id":"x"}`)
	if kind, there := e.visit(e.admin, pouchRef); kind != devicesync.OK || !there {
		t.Errorf("%s %v", kind, there)
	}
}

// Clients that have not been seen for long are retired: what they are told then depends on the history that is left.
func TestRetireIdleClients(t *testing.T) {
	opts, _, _ := deviceSync(database.Options{})
	e := open(t, opts)
	e.put(`{"_id":"d"}`)
	e.storeCheckpoint(e.admin, liteRef, "", `{"remote":1}`)
	e.clock.add(48 * time.Hour)
	e.storeCheckpoint(e.admin, pouchRef, "", `{"session_id":"x"}`)
	if n, err := e.db.Keeper().RetireIdle(t.Context(), e.clock.now().Add(-24*time.Hour), nil); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	if kind, there := e.visit(e.admin, liteRef); kind != devicesync.ResetRecover || there {
		t.Errorf("%s %v", kind, there)
	}
	if kind, there := e.visit(e.admin, pouchRef); kind != devicesync.OK || !there {
		t.Errorf("%s %v", kind, there)
	}
}

// Without a lifecycle nothing is noted and nobody is judged.
func TestNoDeviceSync(t *testing.T) {
	e := open(t, database.Options{})
	e.storeCheckpoint(e.admin, liteRef, "", `{"remote":99}`)
	if kind, there := e.visit(e.admin, liteRef); kind != devicesync.OK || !there {
		t.Errorf("%s %v", kind, there)
	}
	if n := len(e.clients()); n != 0 {
		t.Errorf("%d clients", n)
	}
	if _, err := e.admin.Get(t.Context(), "none", database.GetOptions{}); !errors.Is(err, tidegate.ErrMissing) {
		t.Error(err)
	}
}

// mustReset reports whether an error tells a client to discard its database.
func mustReset(err error) bool {
	_, ok := errors.AsType[*database.ResetRequired](err)
	return ok
}
