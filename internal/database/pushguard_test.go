package database_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/devicesync"
)

// pushed is a revision as a device pushes it. ids are its digests, newest first.
func (e *env) pushed(h *database.Handle, bulk bool, id string, start int, ids string, deleted bool) (database.Written, error) {
	e.t.Helper()
	raw := fmt.Sprintf(`{"_id":%q,"_revisions":{"start":%d,"ids":["%s"]},"channels":["a"],"edit":%q}`, id, start, strings.ReplaceAll(ids, " ", `","`), ids)
	if deleted {
		raw = strings.Replace(raw, `"_id"`, `"_deleted":true,"_id"`, 1)
	}
	w := e.write(raw, false)
	w.BulkPush = bulk
	return h.Put(e.t.Context(), w)
}

// quarantine lists what is in quarantine.
func (e *env) quarantine() []database.Quarantined {
	e.t.Helper()
	list, err := e.db.Keeper().Quarantine(e.t.Context(), "", 100)
	if err != nil {
		e.t.Fatal(err)
	}
	n, err := e.db.Keeper().QuarantineRows(e.t.Context())
	if err != nil || int(n) != len(list) {
		e.t.Errorf("%d rows, %d counted, %v", len(list), n, err)
	}
	return list
}

// guardEnv has document d, revisions 1-a, 2-b, deleted as 3-t; a user bob who may be in a reset, and whose deletion may be in the ledger.
func guardEnv(t *testing.T, opts database.Options, editWins, ledger, reset bool) (*env, *database.Handle) {
	t.Helper()
	opts, _, change := deviceSync(opts)
	e := open(t, opts)
	bob := e.user("bob", "a")
	for i, ids := range []string{"a", "b a", "t b a"} {
		if _, err := e.pushed(e.admin, false, "d", i+1, ids, i == 2); err != nil {
			t.Fatal(err)
		}
	}
	if ledger {
		e.remember()
	}
	if reset {
		e.storeCheckpoint(bob, liteRef, "", `{"remote":1}`)
		if err := e.db.Keeper().ForceReset(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		e.visit(bob, liteRef)
	}
	if editWins {
		change(func(r *devicesync.Row) { r.Config.ResetDeletedEdits = devicesync.EditWins })
	}
	return e, bob
}

// TestPushGuard goes through the rows of the tables of device-sync.md §12.7 about deleted documents.
func TestPushGuard(t *testing.T) {
	const (
		accepted = "accepted"
		refused  = "refused"
		closed   = "closed"
		known    = "known"
	)
	for _, tt := range []struct {
		name     string
		bulk     bool
		start    int
		ids      string
		ledger   bool
		reset    bool
		editWins bool
		want     string
	}{
		{"the deletion is in the history", false, 4, "e t b a", true, true, false, accepted},
		{"an unedited copy", false, 2, "b a", true, false, false, known},
		{"the deletion itself", false, 3, "t b a", true, false, false, known},
		{"an edit, history kept", false, 3, "e b a", false, false, false, refused},
		{"an edit, ledger", false, 3, "e b a", true, false, false, refused},
		{"an edit, edit wins", false, 3, "e b a", true, false, true, accepted},
		{"an edit of the oldest, ledger", false, 2, "e a", true, true, false, refused},
		{"a new document with the same id", false, 1, "n", true, true, false, accepted},
		{"undecidable", false, 9, "e x", true, true, false, accepted},

		{"bulk: the deletion is in the history", true, 4, "e t b a", true, true, false, accepted},
		{"bulk: an unedited copy", true, 2, "b a", true, true, false, known},
		{"bulk: an ordinary concurrent edit", true, 3, "e b a", false, false, false, accepted},
		{"bulk: an edit in a reset", true, 3, "e b a", false, true, false, closed},
		{"bulk: an edit, only the ledger knows", true, 3, "e b a", true, false, false, closed},
		{"bulk: an edit in a reset, edit wins", true, 3, "e b a", true, true, true, accepted},
		{"bulk: a new document with the same id", true, 1, "n", true, true, false, accepted},
	} {
		for _, conflicts := range []bool{false, true} {
			if conflicts && tt.name == "an edit, history kept" {
				continue // with allow_conflicts an ordinary branch
			}
			t.Run(fmt.Sprintf("%s, allow_conflicts %v", tt.name, conflicts), func(t *testing.T) {
				e, bob := guardEnv(t, database.Options{AllowConflicts: conflicts}, tt.editWins, tt.ledger, tt.reset)
				res, err := e.pushed(bob, tt.bulk, "d", tt.start, tt.ids, false)
				got := accepted
				switch {
				case tidegate.ErrorCode(err) == tidegate.Conflict && err != nil:
					got = refused
				case err != nil:
					t.Fatal(err)
				case res.Closed:
					got = closed
				case res.Existed:
					got = known
				}
				if got != tt.want {
					t.Fatalf("%s, want %s", got, tt.want)
				}
				if live := !e.raw("d").Deleted; live != (tt.want == accepted) {
					t.Errorf("live %v", live)
				}
				list := e.quarantine()
				if (len(list) == 1) != (tt.want == closed) {
					t.Fatalf("quarantine: %+v", list)
				}
				if tt.want == closed && (list[0].Cause != database.QuarantineDeleted || list[0].Rev != "3-e" || list[0].User != "bob" || fmt.Sprint(list[0].History) != "[2-b 1-a]") {
					t.Errorf("%+v", list[0])
				}
				e.check()
			})
		}
	}
}

// A bulk push on a live document that may make no branch is stored and closed, its body in quarantine.
func TestPushGuardClosesBranchesOfLiveDocuments(t *testing.T) {
	opts, _, _ := deviceSync(database.Options{})
	e := open(t, opts)
	if _, err := e.pushed(e.admin, false, "d", 2, "b a", false); err != nil {
		t.Fatal(err)
	}
	res, err := e.pushed(e.admin, true, "d", 2, "x a", false)
	if err != nil || !res.Closed {
		t.Fatalf("%+v %v", res, err)
	}
	list := e.quarantine()
	if len(list) != 1 || list[0].Cause != database.QuarantineClosed || string(list[0].Body) != `{"channels":["a"],"edit":"x a"}` {
		t.Fatalf("%+v", list)
	}
	if again, err := e.pushed(e.admin, true, "d", 2, "x a", false); err != nil || !again.Existed || len(e.quarantine()) != 1 {
		t.Errorf("%+v %v", again, err)
	}
	e.check()
}

// What was purged does not come back from a device that is being reset; for everybody else it never was.
func TestPurgedDocumentsAreGuardedInResets(t *testing.T) {
	e, bob := guardEnv(t, database.Options{}, false, false, true)
	if _, err := e.admin.Purge(t.Context(), []string{"d"}); err != nil {
		t.Fatal(err)
	}
	_, err := e.admin.Get(t.Context(), "d", database.GetOptions{})
	wantErr(t, err, tidegate.NotFound, "missing")
	v, err := bob.Propose(t.Context(), []database.Proposal{{ID: "d", Rev: "2-b"}})
	if err != nil || v[0].Status != 304 {
		t.Errorf("%+v %v", v, err)
	}
	diff, err := bob.RevsDiff(t.Context(), []database.DiffRequest{{ID: "d", Revs: []tidegate.RevID{rev(t, "2-b"), rev(t, "3-e")}}})
	if err != nil || len(diff[0].Missing) != 1 || diff[0].Missing[0].String() != "3-e" {
		t.Errorf("%+v %v", diff, err)
	}
	if res, err := e.pushed(bob, false, "d", 2, "b a", false); err != nil || !res.Existed {
		t.Errorf("%+v %v", res, err)
	}
	if _, err := e.pushed(bob, false, "d", 3, "e b a", false); tidegate.ErrorCode(err) != tidegate.Conflict {
		t.Errorf("%v", err)
	}
	if res, err := e.pushed(bob, true, "d", 3, "e b a", false); err != nil || !res.Closed {
		t.Errorf("%+v %v", res, err)
	}
	if list := e.quarantine(); len(list) != 1 || list[0].DocID != "d" {
		t.Errorf("%+v", list)
	}
	if report := e.check(); report.Documents != 0 || report.Guards != 1 {
		t.Errorf("%+v", report)
	}
	// Anybody else may have it again.
	if res, err := e.pushed(e.admin, false, "d", 2, "b a", false); err != nil || res.Existed || !res.Created {
		t.Errorf("%+v %v", res, err)
	}
	e.check()
}

// Version vectors: an edit that does not know the deletion is refused, and taken if edits win.
func TestPushGuardOfVersions(t *testing.T) {
	for _, editWins := range []bool{false, true} {
		opts, _, change := deviceSync(database.Options{})
		if editWins {
			change(func(r *devicesync.Row) { r.Config.ResetDeletedEdits = devicesync.EditWins })
		}
		e := open(t, opts)
		r := e.put(`{"_id":"d"}`)
		known := e.vector("d")
		e.put(fmt.Sprintf(`{"_id":"d","_rev":%q,"_deleted":true}`, r))
		e.remember()
		edit, err := tidegate.ParseVersionVector("7@BBBBBBBBBBBBBBBBBBBBBA;" + known.Current.String())
		if err != nil {
			t.Fatal(err)
		}
		_, err = e.admin.Put(t.Context(), &database.Write{ID: "d", Body: []byte(`{"v":2}`), Vector: edit})
		if editWins != (err == nil) || !editWins && tidegate.ErrorCode(err) != tidegate.Conflict {
			t.Errorf("edit wins %v: %v", editWins, err)
		}
		if live := !e.raw("d").Deleted; live != editWins {
			t.Errorf("edit wins %v: live %v", editWins, live)
		}
		e.check()
	}
}

// A body in quarantine can be seen, restored on top of what is current, dropped, and expires.
func TestD38QuarantineRestore(t *testing.T) {
	e, bob := guardEnv(t, database.Options{}, false, true, true)
	if _, err := e.pushed(bob, true, "d", 3, "e b a", false); err != nil {
		t.Fatal(err)
	}
	err := bob.HandIn(t.Context(), "cp-lite", []database.HandIn{
		{ID: "d", Rev: "4-h", Body: []byte(`{"channels":["a"],"from":"the app"}`), Attachments: []database.QuarantinedAttachment{{Name: "f", ContentType: "text/plain", Length: 5, Data: []byte("hello")}}},
		{ID: "new", Rev: "1-n", Body: []byte(`{"n":1}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	list := e.quarantine()
	if len(list) != 3 || list[1].Cause != database.QuarantineHandedIn || list[1].FileIdent != 1 || list[1].User != "bob" {
		t.Fatalf("%+v", list)
	}
	before := e.raw("d").Rev
	res, err := e.db.RestoreQuarantined(t.Context(), list[1].ID)
	if err != nil || res.Rev.Generation != before.Generation+1 {
		t.Fatalf("%+v %v", res, err)
	}
	if doc := e.get(e.admin, "d", tidegate.RevID{}); string(doc.Body) != `{"channels":["a"],"from":"the app"}` || e.content(e.admin, "d", doc.Rev, "f") != "hello" {
		t.Errorf("%s", doc.Body)
	}
	if _, err := e.db.RestoreQuarantined(t.Context(), list[2].ID); err != nil {
		t.Fatal(err)
	}
	e.get(e.admin, "new", tidegate.RevID{})
	k := e.db.Keeper()
	if err := k.DropQuarantined(t.Context(), list[0].ID); err != nil {
		t.Fatal(err)
	}
	wantErr(t, k.DropQuarantined(t.Context(), list[0].ID), tidegate.NotFound, "nothing in quarantine has this id")
	_, err = k.Quarantined(t.Context(), "nonsense")
	wantErr(t, err, tidegate.NotFound, "nothing in quarantine has this id")
	if err := bob.HandIn(t.Context(), "", []database.HandIn{{ID: "x", Rev: "1-x"}}); err != nil {
		t.Fatal(err)
	}
	e.clock.add(100 * 24 * time.Hour)
	if err := bob.HandIn(t.Context(), "", []database.HandIn{{ID: "y", Rev: "1-y"}}); err != nil {
		t.Fatal(err)
	}
	if n, err := k.ExpireQuarantine(t.Context(), e.clock.now().Add(-90*24*time.Hour)); err != nil || n != 1 {
		t.Errorf("%d %v", n, err)
	}
	if list := e.quarantine(); len(list) != 1 || list[0].DocID != "y" {
		t.Errorf("%+v", list)
	}
	if one, err := k.Quarantined(t.Context(), e.quarantine()[0].ID); err != nil || one.DocID != "y" {
		t.Errorf("%+v %v", one, err)
	}
	e.check()
}
