package database_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/store"
)

func (e *env) sweep() {
	e.t.Helper()
	if err := e.db.Sweep(e.t.Context()); err != nil {
		e.t.Fatal(err)
	}
}

func TestDocumentExpires(t *testing.T) {
	e := open(t, database.Options{AllowConflicts: true})
	e.put(`{"_id":"soon","_exp":100,"channels":["a"]}`)
	e.put(`{"_id":"later","_exp":1000}`)
	r := e.put(`{"_id":"renewed","_exp":100}`)
	e.put(`{"_id":"renewed","_rev":"` + r.String() + `","_exp":1000}`)
	r = e.put(`{"_id":"kept","_exp":100}`)
	e.put(`{"_id":"kept","_rev":"` + r.String() + `"}`)
	e.put(`{"_id":"purged","_exp":100}`)
	for _, raw := range []string{
		`{"_id":"branched","_revisions":{"start":2,"ids":["b","a"]},"_exp":100}`,
		`{"_id":"branched","_revisions":{"start":2,"ids":["a","z"]},"v":1}`,
	} {
		if _, err := e.push(raw); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.admin.Purge(t.Context(), []string{"purged"}); err != nil {
		t.Fatal(err)
	}
	e.check()
	e.clock.add(99 * time.Second)
	e.sweep()
	e.get(e.admin, "soon", tidegate.RevID{})
	e.clock.add(2 * time.Second)
	e.sweep()
	for id, want := range map[string]string{"soon": "deleted", "later": "", "renewed": "", "kept": "", "purged": "missing", "branched": "deleted"} {
		_, err := e.admin.Get(t.Context(), id, database.GetOptions{})
		if got := reason(err); got != want {
			t.Errorf("%s: %q, want %q", id, got, want)
		}
	}
	raw := e.raw("soon")
	if !raw.Deleted || raw.Rev.Generation != 2 || !raw.Channels["a"].Removed.Deleted {
		t.Errorf("%+v", raw)
	}
	if n := e.db.Stats().DocsExpired.Load(); n != 2 {
		t.Errorf("%d documents expired", n)
	}
	e.check()
}

func reason(err error) string {
	if err == nil {
		return ""
	}
	return tidegate.ErrorReason(err)
}

// A sync function that refuses tombstones does not keep a document alive beyond its time.
func TestExpiryIsNotRefused(t *testing.T) {
	e := open(t, database.Options{Collections: []database.CollectionOptions{{
		Sync: `function(doc) { if (doc._deleted) { throw({forbidden: "never"}); } channel("a"); access("bob", "b"); }`,
	}}})
	e.put(`{"_id":"d","_exp":100}`)
	e.clock.add(time.Hour)
	e.sweep()
	if raw := e.raw("d"); !raw.Deleted || len(raw.Access) != 0 || !raw.Channels["a"].Removed.Removed {
		t.Fatalf("%+v", raw)
	}
	e.check()
}

func TestRunSweeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := open(t, database.Options{Now: time.Now})
		e.put(`{"_id":"d","_exp":30}`)
		r := e.put(`{"_id":"e"}`)
		e.put(`{"_id":"e","_rev":"` + r.String() + `"}`)
		time.Sleep(29 * time.Second)
		synctest.Wait()
		e.get(e.admin, "d", tidegate.RevID{})
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if raw := e.raw("d"); !raw.Deleted {
			t.Errorf("d is still there: %+v", raw)
		}
		if raw := e.raw("e"); len(raw.Bodies) != 2 {
			t.Errorf("%d bodies before the time", len(raw.Bodies))
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if raw := e.raw("e"); len(raw.Bodies) != 1 {
			t.Errorf("%d bodies after the time", len(raw.Bodies))
		}
	})
}

// Old tombstones lose their history and their bodies; that they were deleted is remembered (device-sync.md §12.3).
func TestCompactTombstones(t *testing.T) {
	e := open(t, database.Options{})
	e.put(`{"_id":"live"}`)
	r := e.put(`{"_id":"old","channels":["a"],"grant":[["bob","x"]]}`)
	e.put(`{"_id":"old","_rev":"` + r.String() + `","_deleted":true}`)
	e.clock.add(2 * 24 * time.Hour)
	e.put(`{"_id":"young","_deleted":true}`)
	e.clock.add(24 * time.Hour)
	if s := e.compact(database.CompactTombstones, database.CompactOptions{}); s.Purged != 1 {
		t.Fatalf("%+v", s)
	}
	for id, want := range map[string]string{"live": "", "old": "deleted", "young": "deleted"} {
		if _, err := e.admin.Get(t.Context(), id, database.GetOptions{}); reason(err) != want {
			t.Errorf("%s: %v", id, err)
		}
	}
	if raw := e.raw("old"); len(raw.Bodies) != 0 || !raw.Deleted || raw.Tree.Len() != 2 {
		t.Errorf("%+v", raw)
	}
	if l, err := e.db.Keeper().Ledger(t.Context()); err != nil || l.Rows != 1 {
		t.Errorf("ledger: %+v, %v", l, err)
	}
	e.sweep()
	e.check()
	if s := e.db.CompactStatus(database.CompactAttachments); s.Status != "completed" {
		t.Errorf("%+v", s)
	}
	_, err := e.db.StopCompact(database.CompactTombstones)
	wantErr(t, err, tidegate.Invalid, "Database compact is not running")
}

func TestRunCompacts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := open(t, database.Options{Now: time.Now, TombstoneAge: 3 * time.Hour, CompactInterval: time.Hour})
		e.put(`{"_id":"d","_deleted":true}`)
		time.Sleep(3*time.Hour - time.Minute)
		synctest.Wait()
		if raw := e.raw("d"); len(raw.Bodies) != 1 {
			t.Errorf("compacted too early: %+v", raw)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if raw := e.raw("d"); len(raw.Bodies) != 0 || !raw.Deleted {
			t.Errorf("not compacted: %+v", raw)
		}
	})
}

// A document purged and written again in the same words keeps its body, though the old one had a time to go.
func TestSweepSparesRewritten(t *testing.T) {
	e := open(t, database.Options{})
	r := e.put(`{"_id":"d","v":1}`)
	e.put(`{"_id":"d","_rev":"` + r.String() + `","v":2}`)
	if _, err := e.admin.Purge(t.Context(), []string{"d"}); err != nil {
		t.Fatal(err)
	}
	if again := e.put(`{"_id":"d","v":1}`); again != r {
		t.Fatalf("%s and %s", again, r)
	}
	e.clock.add(time.Hour)
	e.sweep()
	e.get(e.admin, "d", r)
	e.check()
}

func TestPurge(t *testing.T) {
	e := open(t, database.Options{})
	bob := e.user("bob")
	if _, err := bob.Purge(t.Context(), []string{"d"}); tidegate.ErrorCode(err) != tidegate.Forbidden {
		t.Fatalf("%v", err)
	}
	r := e.put(`{"_id":"d","channels":["a"],"grant":[["bob","x"]],"_exp":1000}`)
	e.put(`{"_id":"d","_rev":"` + r.String() + `","channels":["b"],"grant":[["bob","x"]],"_exp":1000}`)
	if _, ok := e.channelsOf("bob")["x"]; !ok {
		t.Fatal("no grant")
	}
	if _, err := e.admin.Purge(t.Context(), []string{"d"}); err != nil {
		t.Fatal(err)
	}
	if _, ok := e.channelsOf("bob")["x"]; ok {
		t.Fatal("the grant outlives its document")
	}
	e.clock.add(time.Hour)
	e.sweep()
	if report := e.check(); report.Documents+report.Bodies+report.IndexEntries+report.Grants+report.Expiries != 0 {
		t.Fatalf("%s, %d expiries", report, report.Expiries)
	}
}

func TestLocalDocuments(t *testing.T) {
	e := open(t, database.Options{})
	h := e.user("bob")
	ctx := t.Context()
	_, err := h.GetLocal(ctx, "cp")
	wantErr(t, err, tidegate.NotFound, "missing")
	_, err = h.PutLocal(ctx, "cp", "0-1", []byte(`{}`))
	wantErr(t, err, tidegate.NotFound, "No previous revision to replace")
	put := func(rev, want string) {
		t.Helper()
		if got, err := h.PutLocal(ctx, "cp", rev, []byte(`{"last_seq":"12:7"}`)); err != nil || got != want {
			t.Fatalf("%q %v, want %q", got, err, want)
		}
	}
	put("", "0-1")
	put("0-1", "0-2")
	_, err = h.PutLocal(ctx, "cp", "", []byte(`{}`))
	wantErr(t, err, tidegate.Conflict, "Document update conflict")
	_, err = h.PutLocal(ctx, "cp", "0-1", []byte(`{}`))
	wantErr(t, err, tidegate.Conflict, "Document update conflict")
	doc, err := e.admin.GetLocal(ctx, "cp")
	if err != nil || doc.Rev != "0-2" || string(doc.Body) != `{"last_seq":"12:7"}` {
		t.Fatalf("%+v %v", doc, err)
	}
	e.check()

	// Reading puts off the expiry.
	e.clock.add(80 * 24 * time.Hour)
	if _, err := h.GetLocal(ctx, "cp"); err != nil {
		t.Fatal(err)
	}
	e.clock.add(80 * 24 * time.Hour)
	e.sweep()
	if _, err := h.GetLocal(ctx, "cp"); err != nil {
		t.Fatal(err)
	}
	e.check()
	e.clock.add(91 * 24 * time.Hour)
	_, err = h.GetLocal(ctx, "cp") // before the sweep comes round
	wantErr(t, err, tidegate.NotFound, "missing")
	e.sweep()
	if report := e.check(); report.Locals != 0 || report.Expiries != 0 {
		t.Fatalf("%d local documents, %d expiries", report.Locals, report.Expiries)
	}

	put("", "0-1")
	wantErr(t, h.DeleteLocal(ctx, "cp", "0-9"), tidegate.Conflict, "Document update conflict")
	if err := h.DeleteLocal(ctx, "cp", "0-1"); err != nil {
		t.Fatal(err)
	}
	wantErr(t, h.DeleteLocal(ctx, "cp", "0-1"), tidegate.NotFound, "missing")
	for _, id := range []string{"b", "a", "c"} {
		if _, err := h.PutLocal(ctx, id, "", []byte(`{}`)); err != nil {
			t.Fatal(err)
		}
	}
	docs, err := h.LocalDocs(ctx, "a", 10)
	if err != nil || len(docs) != 2 || docs[0].ID != "b" || docs[1].ID != "c" {
		t.Fatalf("%+v %v", docs, err)
	}
	if report := e.check(); report.Locals != 3 || report.LastSequence != 0 {
		t.Fatalf("%s", report)
	}
}

// A document that makes no sense does not keep others from expiring.
func TestSweepGoesOn(t *testing.T) {
	e := open(t, database.Options{})
	for _, id := range []string{"a", "b", "c"} {
		r := e.put(`{"_id":"` + id + `","_exp":100}`)
		e.put(`{"_id":"` + id + `","_rev":"` + r.String() + `","_exp":100}`)
	}
	err := e.st.Update(t.Context(), func(tx store.Tx) error {
		key := store.NewKey(space, store.KindDoc).Collection(0).Name("b")
		stored, err := tx.Get(key)
		if err != nil {
			return err
		}
		return tx.Put(key, stored[:len(stored)-3])
	})
	if err != nil {
		t.Fatal(err)
	}
	e.clock.add(time.Hour)
	e.sweep()
	for _, id := range []string{"a", "c"} {
		if raw := e.raw(id); !raw.Deleted || len(raw.Bodies) > 2 {
			t.Errorf("%s: %+v", id, raw)
		}
	}
}

func TestStopCompaction(t *testing.T) {
	e := open(t, database.Options{})
	s, err := e.db.StartCompact(database.CompactAttachments, database.CompactOptions{})
	if err != nil || s.Status != "running" {
		t.Fatalf("%+v %v", s, err)
	}
	// It may have ended already; either answer is right, and afterwards it is over.
	if _, err := e.db.StopCompact(database.CompactAttachments); err != nil {
		wantErr(t, err, tidegate.Invalid, "Database compact is not running")
	}
	s, err = e.db.AwaitCompact(t.Context(), database.CompactAttachments)
	if err != nil || (s.Status != "completed" && s.Status != "stopped") {
		t.Fatalf("%+v %v", s, err)
	}
}
