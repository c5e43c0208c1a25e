package database_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/changes"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/store"
)

// byGroups is what byChannels becomes: documents are routed and grant by other members.
const byGroups = `function(doc, oldDoc) {
	if (doc.fails) { throw({forbidden: "no"}); }
	if (doc.breaks) { nothing.there(); }
	if (doc.onlyBy) { requireUser(doc.onlyBy); requireRole("none"); requireAccess("none"); requireAdmin(); }
	channel(doc.groups);
	if (doc.gives) { for (var i = 0; i < doc.gives.length; i++) { access(doc.gives[i][0], doc.gives[i][1]); } }
	if (doc.until) { expiry(doc.until); }
}`

// bothModes runs a test with an offline and with an online resync to byGroups.
func bothModes(t *testing.T, test func(t *testing.T, e *env, resync func() database.ResyncStatus)) {
	for _, online := range []bool{false, true} {
		t.Run(map[bool]string{false: "offline", true: "online"}[online], func(t *testing.T) {
			e := open(t, database.Options{AllowConflicts: true})
			test(t, e, func() database.ResyncStatus { return e.resync(database.ResyncOptions{Online: online}, byGroups) })
			e.check()
			if online {
				e.tidy()
				e.check()
			}
		})
	}
}

// resync runs a resync with a function for the default collection to its end.
func (e *env) resync(o database.ResyncOptions, source string) database.ResyncStatus {
	e.t.Helper()
	if source != "" {
		o.Functions = map[store.Collection]string{0: source}
	}
	status, err := e.db.Resync(e.t.Context(), o)
	if err != nil {
		e.t.Fatalf("resync: %v", err)
	}
	if status.State != database.ResyncCompleted || status.DocsProcessed != status.DocsTotal {
		e.t.Fatalf("resync ended as %+v", status)
	}
	return status
}

// tidy removes what a resync left.
func (e *env) tidy() {
	e.t.Helper()
	if err := e.db.Tidy(e.t.Context()); err != nil {
		e.t.Fatal(err)
	}
}

// feed reads all changes after a position as a handle sees them: "id" of a document, "-id" of a removal or deletion.
func (e *env) changes(h *database.Handle, since tidegate.Since, revocations bool) (lines []string, last tidegate.Since) {
	e.t.Helper()
	f, err := h.Changes(e.t.Context(), database.ChangesOptions{Request: changes.Request{Since: since, OneShot: true, Revocations: revocations}})
	if err != nil {
		e.t.Fatal(err)
	}
	defer f.Close()
	for !f.Done() {
		entries, err := f.Next(e.t.Context(), 0)
		if err != nil {
			e.t.Fatal(err)
		}
		for _, c := range entries {
			if strings.HasPrefix(c.ID, "_user/") {
				continue
			}
			if c.Left || c.Deleted || c.Revoked {
				c.ID = "-" + c.ID
			}
			lines = append(lines, c.ID)
		}
	}
	return lines, f.Since()
}

func (e *env) last() tidegate.Seq {
	e.t.Helper()
	seq, err := e.db.LastSequence(e.t.Context())
	if err != nil {
		e.t.Fatal(err)
	}
	return seq
}

func wantLines(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// Channel move a→b (resync.md §6 item 5): reads follow the new routing at once.
func TestResyncMovesChannels(t *testing.T) {
	bothModes(t, func(t *testing.T, e *env, resync func() database.ResyncStatus) {
		amy, bob := e.user("amy", "a"), e.user("bob", "b")
		e.put(`{"_id":"moves","channels":["a"],"groups":["b"]}`)
		e.put(`{"_id":"stays","channels":["a"],"groups":["a"]}`)
		status := resync()
		if status.DocsProcessed != 2 || status.DocsChanged != 1 || status.DocsTotal != 2 {
			t.Errorf("%+v", status)
		}
		if _, err := amy.Get(t.Context(), "moves", database.GetOptions{}); reason(err) != "forbidden" {
			t.Errorf("amy gets what moved: %v", err)
		}
		e.get(bob, "moves", tidegate.RevID{})
		e.get(amy, "stays", tidegate.RevID{})
		lines, _ := e.changes(bob, tidegate.Since{}, false)
		wantLines(t, "bob from 0", lines, "moves")
		lines, _ = e.changes(amy, tidegate.Since{}, false)
		wantLines(t, "amy from 0", lines, "-moves", "stays")
	})
}

// What clients that are past the old sequences see (resync.md §3.6, §3.9).
func TestResyncAndClientsThatFollow(t *testing.T) {
	for _, tt := range []struct {
		o        database.ResyncOptions
		amy, bob []string
		moves    bool // the document gets a new sequence
	}{
		{database.ResyncOptions{}, nil, nil, false},
		{database.ResyncOptions{Regenerate: true}, []string{"-moves", "stays"}, []string{"last", "moves"}, true},
		{database.ResyncOptions{Online: true}, []string{"-moves"}, []string{"moves"}, true},
	} {
		t.Run(fmt.Sprintf("%+v", tt.o), func(t *testing.T) {
			e := open(t, database.Options{})
			amy, bob := e.user("amy", "a"), e.user("bob", "b")
			e.put(`{"_id":"moves","channels":["a"],"groups":["b"]}`)
			e.put(`{"_id":"stays","channels":["a"],"groups":["a"]}`)
			e.put(`{"_id":"last","channels":["b"],"groups":["b"]}`)
			_, amyAt := e.changes(amy, tidegate.Since{}, false)
			_, bobAt := e.changes(bob, tidegate.Since{}, false)
			before := e.raw("moves")
			tt.o.Collections = []store.Collection{0} // principals keep their sequences
			status := e.resync(tt.o, byGroups)
			if want := map[bool]int64{false: 1, true: 3}[tt.o.Regenerate]; status.DocsChanged != want {
				t.Errorf("%d documents changed, want %d", status.DocsChanged, want)
			}
			lines, _ := e.changes(e.as("amy"), amyAt, false)
			wantLines(t, "amy", lines, tt.amy...)
			lines, _ = e.changes(e.as("bob"), bobAt, false)
			wantLines(t, "bob", lines, tt.bob...)
			after := e.raw("moves")
			if (after.Seq != before.Seq) != tt.moves || after.Rev != before.Rev || !after.Saved.Equal(before.Saved) {
				t.Errorf("before %d %s, after %d %s", before.Seq, before.Rev, after.Seq, after.Rev)
			}
			if state := after.Channels["a"]; !tt.moves && state.Removed.Seq != before.Seq {
				t.Errorf("the removal is at %d, not at the old sequence %d", state.Removed.Seq, before.Seq)
			}
			e.check()
		})
	}
}

// Grants that go and come (items 6 and 7).
func TestResyncMovesGrants(t *testing.T) {
	bothModes(t, func(t *testing.T, e *env, resync func() database.ResyncStatus) {
		e.user("loses")
		e.user("gains")
		e.put(`{"_id":"doc","channels":["x"],"groups":["x"]}`)
		e.put(`{"_id":"granter","grant":[["loses","x"],["both","x"]],"gives":[["gains","x"],["both","x"]]}`)
		lines, losesAt := e.changes(e.as("loses"), tidegate.Since{}, true)
		wantLines(t, "loses, before", lines, "doc")
		lines, gainsAt := e.changes(e.as("gains"), tidegate.Since{}, true)
		wantLines(t, "gains, before", lines)
		kept := e.raw("granter").Access["both"]["x"]
		if status := resync(); status.DocsChanged != 1 {
			t.Errorf("%+v", status)
		}
		if _, err := e.as("loses").Get(t.Context(), "doc", database.GetOptions{}); reason(err) != "forbidden" {
			t.Errorf("who lost the channel gets the document: %v", err)
		}
		lines, _ = e.changes(e.as("loses"), losesAt, true)
		wantLines(t, "loses, with revocations", lines, "-doc")
		lines, _ = e.changes(e.as("loses"), losesAt, false)
		wantLines(t, "loses, without", lines)
		lines, _ = e.changes(e.as("gains"), gainsAt, true)
		wantLines(t, "gains", lines, "doc")
		raw := e.raw("granter")
		if raw.Access["both"]["x"] != kept {
			t.Errorf("a grant that goes on is at %d, was at %d", raw.Access["both"]["x"], kept)
		}
		if raw.Access["gains"]["x"] <= gainsAt.Seq {
			t.Errorf("the new grant is at %d, not above what was read, %d", raw.Access["gains"]["x"], gainsAt.Seq)
		}
	})
}

// A feed that waits while the resync goes on is woken and told.
func TestResyncWakesWaitingFeeds(t *testing.T) {
	e := open(t, database.Options{})
	e.user("gains")
	e.put(`{"_id":"doc","channels":["x"],"groups":["x"]}`)
	e.put(`{"_id":"granter","gives":[["gains","x"]]}`)
	f, err := e.as("gains").Changes(t.Context(), database.ChangesOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make(chan string)
	go func() {
		for {
			entries, err := f.Next(t.Context(), 0)
			if err != nil {
				return
			}
			for _, c := range entries {
				if c.ID == "doc" {
					got <- c.Seq.String()
					return
				}
			}
			if len(entries) == 0 && f.Wait(t.Context()) != nil {
				return
			}
		}
	}()
	e.resync(database.ResyncOptions{Online: true}, byGroups)
	<-got
}

// The function refuses or fails for some documents, and its require… pass (items 8 and 9).
func TestResyncOfDocumentsThatFail(t *testing.T) {
	bothModes(t, func(t *testing.T, e *env, resync func() database.ResyncStatus) {
		e.put(`{"_id":"fails","channels":["a"],"grant":[["bob","x"]],"fails":true,"groups":["a"]}`)
		e.put(`{"_id":"breaks","channels":["a"],"breaks":true}`)
		e.put(`{"_id":"only","channels":["a"],"onlyBy":"nobody","groups":["b"]}`)
		status := resync()
		if status.DocsProcessed != 3 || status.DocsChanged != 3 || status.DocsRejected != 2 || status.DocsErrored != 0 {
			t.Errorf("%+v", status)
		}
		for _, id := range []string{"fails", "breaks"} {
			raw := e.raw(id)
			if len(raw.Access) > 0 || !raw.Channels["a"].Removed.Removed && id == "fails" {
				t.Errorf("%s: %+v", id, raw)
			}
			e.get(e.admin, id, raw.Rev)
		}
		e.get(e.user("bob", "b"), "only", tidegate.RevID{})
	})
}

// Every leaf is routed anew; the document's grants are those of the winner (item 12).
func TestResyncOfConflicts(t *testing.T) {
	bothModes(t, func(t *testing.T, e *env, resync func() database.ResyncStatus) {
		for _, raw := range []string{
			`{"_id":"d","channels":["a"],"groups":["low"],"gives":[["bob","no"]],"_revisions":{"start":1,"ids":["a"]}}`,
			`{"_id":"d","channels":["a"],"groups":["high"],"gives":[["bob","yes"]],"_revisions":{"start":1,"ids":["b"]}}`,
		} {
			if _, err := e.push(raw); err != nil {
				t.Fatal(err)
			}
		}
		if status := resync(); status.DocsChanged != 1 {
			t.Errorf("%+v", status)
		}
		low, high := e.user("l", "low"), e.user("h", "high")
		for _, tt := range []struct {
			h    *database.Handle
			rev  string
			sees bool
		}{{low, "1-a", true}, {low, "1-b", false}, {high, "1-a", false}, {high, "1-b", true}} {
			if doc := e.get(tt.h, "d", rev(t, tt.rev)); doc.Removed == tt.sees {
				t.Errorf("%s of %s: removed %v", tt.rev, tt.h.User().PrincipalName(), doc.Removed)
			}
		}
		if raw := e.raw("d"); raw.Access["bob"]["yes"] == 0 || raw.Access["bob"]["no"] != 0 {
			t.Errorf("%v", raw.Access)
		}
	})
}

// A second run changes nothing (item 13), and tombstones are processed.
func TestResyncTwice(t *testing.T) {
	bothModes(t, func(t *testing.T, e *env, resync func() database.ResyncStatus) {
		for i := range 20 {
			r := e.put(fmt.Sprintf(`{"_id":"d%d","channels":["a"],"groups":["b"],"gives":[["bob","x"]],"until":"2099-01-01T00:00:00Z"}`, i))
			if i%5 == 0 {
				e.put(fmt.Sprintf(`{"_id":"d%d","_rev":%q,"_deleted":true,"groups":["gone"]}`, i, r))
			}
		}
		first := resync()
		if first.DocsProcessed != 20 || first.DocsChanged != 20 {
			t.Errorf("%+v", first)
		}
		second := resync()
		if second.DocsProcessed != 20 || second.DocsChanged != 0 || second.ID == first.ID {
			t.Errorf("%+v", second)
		}
		if raw := e.raw("d1"); raw.Expiry.Year() != 2099 {
			t.Errorf("expires at %v", raw.Expiry)
		}
		e.get(e.user("bob", "gone"), "d0", e.raw("d0").Rev)
	})
}

// Options that make no sense change nothing.
func TestResyncIsRefused(t *testing.T) {
	e := open(t, database.Options{})
	e.put(`{"_id":"d","channels":["a"]}`)
	before := e.last()
	for _, tt := range []struct {
		o      database.ResyncOptions
		reason string
	}{
		{database.ResyncOptions{Online: true, Regenerate: true}, "regenerate_sequences"},
		{database.ResyncOptions{Collections: []store.Collection{7}}, "collection 7"},
		{database.ResyncOptions{Functions: map[store.Collection]string{7: ""}}, "collection 7"},
		{database.ResyncOptions{Functions: map[store.Collection]string{0: "function("}}, "yntax"},
	} {
		_, err := e.db.Resync(t.Context(), tt.o)
		if tidegate.ErrorCode(err) != tidegate.Invalid || !strings.Contains(tidegate.ErrorReason(err), tt.reason) {
			t.Errorf("%+v: %v", tt.o, err)
		}
	}
	status, err := e.db.ResyncStatus(t.Context())
	if err != nil || status.ID != "" || status.State != database.ResyncCompleted || !status.StartTime.IsZero() || e.last() != before {
		t.Errorf("%+v %v", status, err)
	}
}

// Stop, resume, reset and what else begins afresh (item 10, resync.md §3.5).
func TestResyncStopsAndResumes(t *testing.T) {
	e := open(t, database.Options{})
	const n = 48
	database.BatchDocs(e.db, 8)
	for i := range n {
		e.put(fmt.Sprintf(`{"_id":"d%04d","channels":["a"],"groups":["b"]}`, i))
	}
	stop := func(o database.ResyncOptions) database.ResyncStatus {
		t.Helper()
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		database.AtBatch(e.db, func(batch int) {
			if batch == 2 {
				cancel(database.ErrResyncStopped)
			}
		})
		defer database.AtBatch(e.db, nil)
		o.Functions = map[store.Collection]string{0: byGroups}
		status, err := e.db.Resync(ctx, o)
		if !errors.Is(err, database.ErrResyncStopped) || status.State != database.ResyncStopped {
			t.Fatalf("%+v %v", status, err)
		}
		if stored, err := e.db.ResyncStatus(t.Context()); err != nil || stored.State != database.ResyncStopped || stored.DocsProcessed != status.DocsProcessed {
			t.Fatalf("%+v %v", stored, err)
		}
		return status
	}
	first := stop(database.ResyncOptions{})
	if first.DocsProcessed == 0 || first.DocsProcessed == n || first.DocsChanged != first.DocsProcessed {
		t.Fatalf("%+v", first)
	}
	e.check() // half done is consistent
	done := e.resync(database.ResyncOptions{}, byGroups)
	if done.ID != first.ID || done.DocsProcessed != n || done.DocsChanged != n || !done.StartTime.Equal(first.StartTime) {
		t.Errorf("resumed: %+v, was %+v", done, first)
	}
	if again := stop(database.ResyncOptions{}); again.ID == done.ID {
		t.Error("a run goes on that was complete")
	}
	for name, o := range map[string]database.ResyncOptions{
		"reset": {Reset: true}, "collections": {Collections: []store.Collection{0}}, "regenerate": {Regenerate: true},
	} {
		was := stop(database.ResyncOptions{})
		if got := e.resync(o, byGroups); got.ID == was.ID || got.DocsProcessed != n {
			t.Errorf("%s: %+v, was %+v", name, got, was)
		}
	}
	was := stop(database.ResyncOptions{})
	if got := e.resync(database.ResyncOptions{}, byChannels); got.ID == was.ID || got.DocsProcessed != n {
		t.Errorf("function: %+v, was %+v", got, was)
	}
	// An online one leaves no trace.
	last, rev := e.last(), e.raw("d0001")
	was = stop(database.ResyncOptions{Online: true})
	if after := e.raw("d0001"); after.Seq != rev.Seq || e.last() != last {
		t.Error("an online resync that was stopped left a trace")
	}
	e.check()
	e.tidy()
	e.check()
	if rows := e.generations(); len(rows) != 0 {
		t.Errorf("rows of generations that are not there: %q", rows)
	}
	if got := e.resync(database.ResyncOptions{Online: true}, byGroups); got.ID == was.ID {
		t.Error("an online resync goes on after it was stopped")
	}
	e.check()
}

// generations are the keys of rows of generations other than the first.
func (e *env) generations() (keys []string) {
	e.t.Helper()
	err := e.st.View(e.t.Context(), func(r store.Reader) error {
		for _, kind := range []store.Kind{store.KindDoc, store.KindChannel, store.KindGrant, store.KindNextMark} {
			it := r.Scan(store.Prefix(store.NewKey(space, kind)))
			defer it.Close()
			for it.Next() {
				rest := it.Key()[store.Header:]
				if kind == store.KindGrant {
					_, rest, _ = store.CutName(rest)
				}
				if coll, _, err := store.CutCollection(rest); err != nil || coll >= store.FirstPhysical || kind == store.KindNextMark {
					keys = append(keys, fmt.Sprintf("%q", it.Key()))
				}
			}
		}
		return nil
	})
	if err != nil {
		e.t.Fatal(err)
	}
	return keys
}
