package database_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/changes"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/store"
)

// deviceSync gives a database a lifecycle that nobody has touched, and returns it with a func that changes it.
func deviceSync(opts database.Options) (database.Options, *devicesync.Live, func(func(*devicesync.Row))) {
	live := devicesync.NewLive(devicesync.Automatic("db", "epoch-0", newClock().t))
	opts.DeviceSync = live
	return opts, live, func(fn func(*devicesync.Row)) {
		row := *live.Row()
		row.Record.Version++
		fn(&row)
		live.Set(&row)
	}
}

// remember makes ledger records of all deleted documents.
func (e *env) remember() int64 {
	e.t.Helper()
	n, err := e.db.Keeper().Remember(e.t.Context(), 0, 0, nil)
	if err != nil {
		e.t.Fatal(err)
	}
	return n
}

// deleteDoc makes a document, edits it so many times and deletes it. It returns its revisions, oldest first.
func (e *env) deleteDoc(id string, edits int) (revs []tidegate.RevID) {
	revs = append(revs, e.put(`{"_id":"`+id+`","channels":["a"],"_attachments":{"f":{"data":"aGVsbG8="}}}`))
	for i := range edits {
		revs = append(revs, e.put(fmt.Sprintf(`{"_id":%q,"_rev":%q,"channels":["a"],"v":%d}`, id, revs[len(revs)-1], i)))
	}
	return append(revs, e.put(fmt.Sprintf(`{"_id":%q,"_rev":%q,"_deleted":true}`, id, revs[len(revs)-1])))
}

// A deletion of the ledger is to all readers what it was before: in feeds at its sequence, by revision, and to pushes.
func TestLedgerReadsAsTheTombstoneDid(t *testing.T) {
	e := open(t, database.Options{})
	bob := e.user("bob", "a")
	revs := e.deleteDoc("d", 3)
	tomb := revs[len(revs)-1]
	before, _ := e.changes(bob, tidegate.Since{}, true)
	e.clock.add(time.Hour)
	e.sweep()
	if n := e.remember(); n != 1 {
		t.Fatalf("%d remembered", n)
	}
	if n := e.remember(); n != 0 {
		t.Fatalf("%d remembered again", n)
	}
	if after, _ := e.changes(bob, tidegate.Since{}, true); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("feed %q, was %q", after, before)
	}
	_, err := e.admin.Get(t.Context(), "d", database.GetOptions{})
	wantErr(t, err, tidegate.NotFound, "deleted")
	doc := e.get(e.admin, "d", tomb)
	if string(doc.AppendJSON(nil)) != `{"_id":"d","_rev":"`+tomb.String()+`","_deleted":true}` || len(doc.History(0)) != 5 {
		t.Errorf("%s %v", doc.AppendJSON(nil), doc.History(0))
	}
	if raw := e.raw("d"); len(raw.Bodies) != 0 {
		t.Errorf("%d bodies", len(raw.Bodies))
	}
	sent, err := bob.Send(t.Context(), []database.Request{{ID: "d", Rev: tomb.String()}}, false, 1<<20)
	if err != nil || sent[0].Doc == nil || !sent[0].Doc.Deleted {
		t.Errorf("%+v %v", sent, err)
	}
	for _, rev := range revs {
		v, err := e.admin.Propose(t.Context(), []database.Proposal{{ID: "d", Rev: rev.String()}})
		if err != nil || v[0].Status != 304 {
			t.Errorf("%s is not known: %+v %v", rev, v, err)
		}
	}
	if report := e.check(); report.Ledger != 1 || report.Blobs != 0 {
		t.Errorf("%+v", report)
	}
}

// Creating the document again goes on from the deletion; the counter follows.
func TestLedgerGoesOnWhenTheDocumentIsCreatedAgain(t *testing.T) {
	e := open(t, database.Options{})
	tomb := e.deleteDoc("d", 1)[2]
	e.deleteDoc("other", 0)
	e.remember()
	next := e.put(`{"_id":"d","v":"again"}`)
	if next.Generation != tomb.Generation+1 {
		t.Errorf("%s after %s", next, tomb)
	}
	l, err := e.db.Keeper().Ledger(t.Context())
	if err != nil || l.Rows != 1 || !l.Oldest.Equal(e.clock.now()) {
		t.Errorf("%+v %v", l, err)
	}
	e.check()
	e.put(fmt.Sprintf(`{"_id":"d","_rev":%q,"_deleted":true}`, next))
	e.check()
	if e.remember() != 1 {
		t.Error("it is not remembered again")
	}
	e.check()
}

// A long history is cut to the newest ancestors and the oldest one.
func TestLedgerKeepsSomeAncestors(t *testing.T) {
	e := open(t, database.Options{})
	revs := e.deleteDoc("d", 40)
	e.remember()
	raw := e.raw("d")
	for i, rev := range revs {
		_, known := raw.Tree.Find(rev)
		if want := i == 0 || i >= len(revs)-21; known != want {
			t.Errorf("revision %d of %d: known %v", i, len(revs), known)
		}
	}
	if e.raw("d").Tree.Len() != 22 {
		t.Errorf("%d revisions", raw.Tree.Len())
	}
	e.check()
}

// An online and an offline resync leave deletions of the ledger where they are.
func TestLedgerSurvivesResyncs(t *testing.T) {
	for _, online := range []bool{true, false} {
		e := open(t, database.Options{})
		bob := e.user("bob", "a")
		e.deleteDoc("d", 1)
		e.put(`{"_id":"live","channels":["a"]}`)
		e.remember()
		before, _ := e.changes(bob, tidegate.Since{}, true)
		e.resync(database.ResyncOptions{Online: online}, `function(doc) { channel("a", "more"); }`)
		e.tidy()
		after, _ := e.changes(bob, tidegate.Since{}, true)
		if len(after) != len(before) {
			t.Errorf("online %v: %q, was %q", online, after, before)
		}
		if report := e.check(); report.Ledger != 1 {
			t.Errorf("online %v: %+v", online, report)
		}
	}
}

// Deletions are forgotten after ledger_retention_days, and what was purged with them.
func TestLedgerRetention(t *testing.T) {
	e := open(t, database.Options{})
	e.deleteDoc("old", 1)
	e.put(`{"_id":"purged"}`)
	if _, err := e.admin.Purge(t.Context(), []string{"purged"}); err != nil {
		t.Fatal(err)
	}
	at := e.last()
	e.clock.add(48 * time.Hour)
	e.deleteDoc("young", 1)
	e.remember()
	if report := e.check(); report.Ledger != 2 || report.Guards != 1 {
		t.Fatalf("%+v", report)
	}
	k, limit := e.db.Keeper(), e.clock.now().Add(-24*time.Hour)
	n, highest, err := k.LedgerBefore(t.Context(), limit)
	if err != nil || n != 1 || highest >= at {
		t.Fatalf("%d %d %v", n, highest, err)
	}
	if n, err := k.Forget(t.Context(), limit, nil); err != nil || n != 1 {
		t.Fatalf("%d %v", n, err)
	}
	if report := e.check(); report.Ledger != 1 || report.Guards != 0 || report.Documents != 1 {
		t.Errorf("%+v", report)
	}
}

// A termination keeps documents with the ids of their ancestors, the names of channels and what was lost, and drops old bodies and periods.
func TestCollapseKeepsWhatTellsStaleCopies(t *testing.T) {
	e := open(t, database.Options{})
	bob := e.user("bob", "a")
	r := e.put(`{"_id":"d","channels":["a"]}`)
	for range 3 { // in and out
		r = e.put(fmt.Sprintf(`{"_id":"d","_rev":%q,"channels":["b"]}`, r))
		r = e.put(fmt.Sprintf(`{"_id":"d","_rev":%q,"channels":["a"]}`, r))
	}
	e.put(fmt.Sprintf(`{"_id":"d","_rev":%q,"channels":["b"]}`, r))
	before, _ := e.changes(bob, tidegate.Since{}, true)
	base := devicesync.NextBase(e.last())
	if n, err := e.db.Keeper().Collapse(t.Context(), 0, base, nil); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	raw := e.raw("d")
	if len(raw.Bodies) != 1 || raw.Tree.Len() != 8 || len(raw.Channels["a"].Past) != 0 || !raw.Channels["a"].Removed.Removed {
		t.Errorf("%+v", raw)
	}
	if after, _ := e.changes(bob, tidegate.Since{}, true); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("%q, was %q", after, before)
	}
	if n, err := e.db.Keeper().Collapse(t.Context(), 0, base, nil); err != nil || n != 0 {
		t.Errorf("again: %d %v", n, err)
	}
	e.check()
}

// The same on stores alone, while no database is open.
func TestKeeperOfAClosedDatabase(t *testing.T) {
	e := open(t, database.Options{})
	e.deleteDoc("d", 1)
	k := database.NewKeeper(e.st, e.blobs, database.KeeperOptions{Name: "db", Space: space, Now: e.clock.now})
	if n, err := k.Remember(t.Context(), 0, 0, nil); err != nil || n != 0 {
		t.Fatalf("without collections: %d %v", n, err)
	}
	k = database.NewKeeper(e.st, e.blobs, database.KeeperOptions{Name: "db", Space: space, Collections: []store.Collection{0}, Now: e.clock.now})
	var seen int64
	n, err := k.Remember(t.Context(), 0, 0, func(done int64) error { seen = done; return nil })
	if total, errTotal := k.CountDocuments(t.Context()); err != nil || errTotal != nil || n != 1 || total != seen {
		t.Fatalf("%d %v, %d of %d", n, err, seen, total)
	}
	if n, err := k.Forget(t.Context(), e.clock.now().Add(time.Hour), nil); err != nil || n != 1 {
		t.Fatalf("%d %v", n, err)
	}
	e.check()
}

// A feed that starts at nothing labels what comes before the newest marker, and a position that is not honoured starts at nothing (§12.1).
func TestFeedsKnowMarkersAndFloor(t *testing.T) {
	opts, _, change := deviceSync(database.Options{})
	e := open(t, opts)
	e.put(`{"_id":"a"}`)
	e.put(`{"_id":"b"}`)
	change(func(r *devicesync.Row) { r.Record.Markers, r.Record.HistoryFloor = []tidegate.Seq{2}, 1 })
	e.put(`{"_id":"c"}`)
	for since, want := range map[string]string{
		"": "2:1 2 3", "1": "2:1 2 3", "2": "3", "2:1": "2 3",
	} {
		pos, err := tidegate.ParseSince(since)
		if err != nil {
			t.Fatal(err)
		}
		feed := e.feed(e.admin, database.ChangesOptions{Request: changes.Request{Since: pos, OneShot: true}})
		entries, err := feed.Next(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for i, c := range entries {
			if i > 0 {
				got += " "
			}
			got += c.Seq.String()
		}
		if got != want {
			t.Errorf("since %q: %s, want %s", since, got, want)
		}
	}
}
