package database_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
)

// client is the source of a version-vector client.
func client(name string) string { return name + strings.Repeat("A", 22-len(name)) }

// version reads "5@x" as time 5 of client("x").
func version(t testing.TB, s string) tidegate.Version {
	t.Helper()
	hex, name, _ := strings.Cut(s, "@")
	v, err := tidegate.ParseVersion(hex + "@" + client(name))
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return v
}

// pushed makes a write of a version-vector client, whose vector is v with what base knows.
func pushed(id string, v tidegate.Version, base tidegate.VersionVector, body string, deleted bool) *database.Write {
	return &database.Write{ID: id, Body: []byte(body), Deleted: deleted, Vector: base.Next(v)}
}

func (e *env) vector(id string) tidegate.VersionVector {
	e.t.Helper()
	return e.raw(id).Vector
}

// mustPut writes and fails the test if that is refused.
func (e *env) mustPut(w *database.Write) database.Written {
	e.t.Helper()
	res, err := e.admin.Put(e.t.Context(), w)
	if err != nil {
		e.t.Fatalf("put %+v: %v", w, err)
	}
	return res
}

// Whatever changes the current revision makes a version of this database; what does not leaves the vector alone.
func TestEveryWriteHasAVersion(t *testing.T) {
	e := open(t, database.Options{AllowConflicts: true})
	last := tidegate.VersionVector{}
	step := func(what string, changes bool) {
		t.Helper()
		v := e.vector("d")
		switch {
		case !changes && v.String() != last.String():
			t.Errorf("%s: the vector went from %s to %s", what, last, v)
		case changes && (v.Current.Source != e.db.Source() || last.Knows(v.Current) || (!last.IsZero() && !v.Knows(last.Current))):
			t.Errorf("%s: the vector went from %s to %s", what, last, v)
		}
		last = v
	}
	one := e.put(`{"_id":"d","channels":"a"}`)
	step("first", true)
	e.put(fmt.Sprintf(`{"_id":"d","_rev":%q,"channels":"a","n":2}`, one))
	step("edit", true)
	push := func(raw string) {
		t.Helper()
		if _, err := e.push(raw); err != nil {
			t.Fatal(err)
		}
	}
	push(`{"_id":"d","channels":"a","_revisions":{"start":9,"ids":["ff"]}}`)
	step("pushed revision that wins", true)
	push(`{"_id":"d","channels":"a","_revisions":{"start":3,"ids":["aa"]}}`)
	step("pushed revision that loses", false)
	push(`{"_id":"d","_deleted":true,"_revisions":{"start":4,"ids":["bb","aa"]}}`)
	step("tombstone of a losing branch", false)
	push(`{"_id":"d","_deleted":true,"_revisions":{"start":10,"ids":["cc","ff"]}}`)
	step("tombstone of the winner, which makes another revision current", true)
	push(`{"_id":"d","_deleted":true,"_revisions":{"start":10,"ids":["cc","ff"]}}`)
	step("the same again", false)
	e.mustPut(e.write(`{"_id":"d","_deleted":true,"_rev":"`+e.raw("d").Rev.String()+`"}`, true))
	step("deletion", true)
	e.put(`{"_id":"d","channels":"a","_exp":"2026-11-21T13:00:00Z"}`)
	step("created again", true)
	e.clock.add(2 * time.Hour)
	if err := e.db.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !e.raw("d").Deleted {
		t.Fatal("the document did not expire")
	}
	step("expiry", true)
	e.check()
}

// A closed branch changes nothing of what is current.
func TestClosedBranchHasNoVersion(t *testing.T) {
	e := open(t, database.Options{})
	e.put(`{"_id":"d","channels":"a"}`)
	before := e.vector("d")
	w := e.write(`{"_id":"d","channels":"a","_revisions":{"start":7,"ids":["ff"]}}`, false)
	w.BulkPush = true
	if res := e.mustPut(w); !res.Closed || res.Version != before.Current || e.vector("d").String() != before.String() {
		t.Errorf("%+v, vector %s, before %s", res, e.vector("d"), before)
	}
	e.check()
}

// A client's version becomes the document's, and the tree goes on as if the edit had been made here.
func TestPushedVersion(t *testing.T) {
	e := open(t, database.Options{})
	one := e.put(`{"_id":"d","channels":"a"}`)
	base := e.vector("d")
	w := pushed("d", version(t, "5@x"), base, `{"channels":"b"}`, false)
	res := e.mustPut(w)
	want := tidegate.NewRevID(one, []byte(`{"channels":"b"}`))
	if res.Rev != want || res.Version != version(t, "5@x") || res.Created || res.Existed {
		t.Fatalf("%+v, want %s", res, want)
	}
	if v := e.vector("d"); v.String() != w.Vector.String() {
		t.Errorf("vector %s, want %s", v, w.Vector)
	}
	doc := e.get(e.admin, "d", tidegate.RevID{})
	if v, ok := doc.Version(); !ok || v.String() != w.Vector.String() || fmt.Sprint(doc.History(0)) != fmt.Sprint([]tidegate.RevID{want, one}) {
		t.Errorf("read as %s, history %v", v, doc.History(0))
	}
	if v, ok := e.get(e.admin, "d", one).Version(); !ok || v.String() != base.Current.String() {
		t.Errorf("the old revision is read as %s, want %s", v, base.Current)
	}
	// Again, and an older one: known. One that was made without knowing: refused.
	again := e.mustPut(w)
	if !again.Existed || again.Rev != want || again.Version != res.Version || again.Seq != res.Seq {
		t.Errorf("again: %+v", again)
	}
	if old := e.mustPut(&database.Write{ID: "d", Vector: base}); !old.Existed {
		t.Errorf("older: %+v", old)
	}
	_, err := e.admin.Put(t.Context(), pushed("d", version(t, "6@y"), base, `{}`, false))
	wantErr(t, err, tidegate.Conflict, "Document revision conflict")
	// A revision made here goes on from the client's.
	e.put(fmt.Sprintf(`{"_id":"d","_rev":%q,"channels":"a"}`, want))
	if v := e.vector("d"); v.Current.Source != e.db.Source() || !v.Knows(version(t, "5@x")) || v.Knows(version(t, "6@x")) {
		t.Errorf("after an edit here: %s", v)
	}
	e.check()
}

// Versions never make branches, even where revisions may; and a tombstone on a document in conflict makes a version of
// this database, since an older revision is current then.
func TestPushedVersionOnConflict(t *testing.T) {
	e := open(t, database.Options{AllowConflicts: true})
	e.put(`{"_id":"d","channels":"a"}`)
	if _, err := e.push(`{"_id":"d","channels":"b","_revisions":{"start":3,"ids":["ff"]}}`); err != nil {
		t.Fatal(err)
	}
	base := e.vector("d")
	_, err := e.admin.Put(t.Context(), pushed("d", version(t, "6@y"), tidegate.VersionVector{}, `{}`, false))
	wantErr(t, err, tidegate.Conflict, "Document revision conflict")
	res := e.mustPut(pushed("d", version(t, "5@x"), base, `{}`, true))
	v := e.vector("d")
	if v.Current.Source != e.db.Source() || !v.Knows(version(t, "5@x")) || res.Version != v.Current || e.raw("d").Deleted {
		t.Errorf("%+v, vector %s", res, v)
	}
	// The revision that is current now becomes old: its body knows which version it was.
	rev := e.raw("d").Rev
	e.put(fmt.Sprintf(`{"_id":"d","_rev":%q,"channels":"a"}`, rev))
	if old, ok := e.get(e.admin, "d", rev).Version(); !ok || old.Current != v.Current {
		t.Errorf("the old revision is version %s, want %s", old.Current, v.Current)
	}
	e.check()
}

// A gateway's own ancestry is used where it leads to the current revision, and nowhere else.
func TestPushedVersionWithTree(t *testing.T) {
	history := func(s string) (revs []tidegate.RevID) {
		for text := range strings.FieldsSeq(s) {
			revs = append(revs, rev(t, text))
		}
		return revs
	}
	e := open(t, database.Options{})
	first := pushed("d", version(t, "5@x"), tidegate.VersionVector{}, `{}`, false)
	first.History = history("2-b 1-a")
	if res := e.mustPut(first); res.Rev != rev(t, "2-b") {
		t.Fatalf("%+v", res)
	}
	next := pushed("d", version(t, "6@x"), first.Vector, `{"n":1}`, false)
	next.History = history("4-d 3-c 2-b")
	if res := e.mustPut(next); res.Rev != rev(t, "4-d") {
		t.Fatalf("%+v", res)
	}
	for i, foreign := range []string{"5-x 4-y 3-z", "5-x", "4-d 3-c", "2-b 1-a"} {
		w := pushed("d", version(t, fmt.Sprintf("%x@x", 7+i)), e.vector("d"), fmt.Sprintf(`{"n":%d}`, i), false)
		w.History = history(foreign)
		parent := e.raw("d").Rev
		if res := e.mustPut(w); res.Rev != tidegate.NewRevID(parent, w.Body) {
			t.Errorf("%s: %+v", foreign, res)
		}
	}
	bad := pushed("d", version(t, "ff@x"), e.vector("d"), `{}`, false)
	bad.History = append(history("2-x"), e.raw("d").Rev)
	_, err := e.admin.Put(t.Context(), bad)
	wantErr(t, err, tidegate.Invalid, "Bad _revisions")
	if n := e.raw("d").Tree.LiveLeaves(); n != 1 {
		t.Errorf("%d live leaves", n)
	}
	e.check()
}

// Documents that were written before there were vectors go on by their rev-tree IDs.
func TestDocumentWithoutVector(t *testing.T) {
	e := open(t, database.Options{})
	old := e.put(`{"_id":"d","channels":"a"}`)
	if err := e.admin.WithoutVectors(t.Context(), "d"); err != nil {
		t.Fatal(err)
	}
	if v, ok := e.get(e.admin, "d", tidegate.RevID{}).Version(); ok {
		t.Fatalf("it has version %s", v)
	}
	_, err := e.admin.Put(t.Context(), pushed("d", version(t, "5@x"), tidegate.VersionVector{}, `{}`, false))
	wantErr(t, err, tidegate.Conflict, "Document revision conflict")
	legacy := tidegate.LegacyVersion(old)
	w := pushed("d", version(t, "5@x"), tidegate.VersionVector{}, `{"n":1}`, false)
	w.Legacy = []tidegate.RevID{old}
	res := e.mustPut(w)
	if v := e.vector("d"); v.Current != version(t, "5@x") || !v.Knows(legacy) || res.Rev != tidegate.NewRevID(old, w.Body) {
		t.Errorf("%+v, vector %s", res, v)
	}
	if v, ok := e.get(e.admin, "d", old).Version(); ok {
		t.Errorf("the old revision has version %s", v)
	}
	if err := e.admin.WithoutVectors(t.Context(), "d"); err != nil {
		t.Fatal(err)
	}
	e.put(fmt.Sprintf(`{"_id":"d","_rev":%q,"n":2}`, res.Rev))
	if v := e.vector("d"); v.Current.Source != e.db.Source() || len(v.Previous) != 1 || v.Previous[0] != tidegate.LegacyVersion(res.Rev) {
		t.Errorf("after an edit here: %s", v)
	}
	e.check()
}

// noconflicts of BLIP holds where branches may be made; tombstones of gateways pass.
func TestNoConflictsWrite(t *testing.T) {
	e := open(t, database.Options{AllowConflicts: true})
	e.put(`{"_id":"d","channels":"a"}`)
	w := e.write(`{"_id":"d","_revisions":{"start":1,"ids":["ff"]}}`, false)
	w.NoConflicts = true
	_, err := e.admin.Put(t.Context(), w)
	wantErr(t, err, tidegate.Conflict, "Document revision conflict")
	e.mustPut(e.write(`{"_id":"d","_deleted":true,"_rev":"`+e.raw("d").Rev.String()+`"}`, true))
	w = e.write(`{"_id":"d","_deleted":true,"_revisions":{"start":7,"ids":["ff"]}}`, false)
	w.NoConflicts = true
	_, err = e.admin.Put(t.Context(), w)
	wantErr(t, err, tidegate.Conflict, "Document revision conflict")
	w.Gateway = true
	e.mustPut(w)
	if e.raw("d").Rev != rev(t, "7-ff") {
		t.Errorf("current is %s", e.raw("d").Rev)
	}
	v := e.vector("d").Current
	own := pushed("d", tidegate.Version{Time: v.Time + 1, Source: client("x")}, tidegate.VersionVector{}, `{}`, true)
	_, err = e.admin.Put(t.Context(), own)
	wantErr(t, err, tidegate.Conflict, "Document revision conflict")
	own.Gateway = true
	if res := e.mustPut(own); res.Version != own.Vector.Current || !e.vector("d").Knows(v) {
		t.Errorf("%+v, vector %s", res, e.vector("d"))
	}
	e.check()
}

// A peer cannot drive this database's clock.
func TestVersionFromTheFuture(t *testing.T) {
	e := open(t, database.Options{})
	now := uint64(e.clock.now().UnixNano())
	for i, c := range []struct {
		time uint64
		ok   bool
	}{{now, true}, {now + uint64(time.Hour), true}, {now + uint64(25*time.Hour), false}, {^uint64(0), false}} {
		id := fmt.Sprint("d", i)
		own := tidegate.VersionVector{Current: tidegate.Version{Time: c.time, Source: e.db.Source()}}
		_, err := e.admin.Put(t.Context(), pushed(id, version(t, "5@x"), own, `{}`, false))
		if c.ok != (err == nil) {
			t.Errorf("%x: %v", c.time, err)
		}
		if !c.ok {
			wantErr(t, err, tidegate.Invalid, "Invalid version: it is from the future")
			continue
		}
		e.put(fmt.Sprintf(`{"_id":%q,"_rev":%q}`, id, e.raw(id).Rev))
		if v := e.vector(id).Current; v.Time <= c.time {
			t.Errorf("%x follows %x", v.Time, c.time)
		}
	}
}

// Two databases of different names are different sources; the one that is given is used.
func TestSource(t *testing.T) {
	given := tidegate.NewSource([16]byte{1, 2, 3})
	e := open(t, database.Options{Source: given})
	e.put(`{"_id":"d"}`)
	if v := e.vector("d"); v.Current.Source != given {
		t.Errorf("version %s", v)
	}
	other := open(t, database.Options{})
	if s := other.db.Source(); len(s) != 22 || s == given {
		t.Errorf("source %q", s)
	}
}
