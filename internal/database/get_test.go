package database_test

import (
	"slices"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
)

// tree writes a document with two live branches and a deleted one:
//
//	1-a ── 2-b ── 3-c      live, channel x
//	  ├─── 2-d             live, channel y
//	  └─── 2-e ── 3-f      deleted, channel x
func (e *env) tree() {
	e.t.Helper()
	for _, raw := range []string{
		`{"_id":"d","_revisions":{"start":1,"ids":["a"]},"channels":["x"],"v":"a"}`,
		`{"_id":"d","_revisions":{"start":2,"ids":["b","a"]},"channels":["x"],"v":"b"}`,
		`{"_id":"d","_revisions":{"start":3,"ids":["c","b","a"]},"channels":["x"],"v":"c"}`,
		`{"_id":"d","_revisions":{"start":2,"ids":["d","a"]},"channels":["y"],"v":"d"}`,
		`{"_id":"d","_revisions":{"start":2,"ids":["e","a"]},"channels":["x"],"v":"e"}`,
		`{"_id":"d","_revisions":{"start":3,"ids":["f","e","a"]},"_deleted":true,"channels":["x"],"v":"f"}`,
	} {
		if _, err := e.push(raw); err != nil {
			e.t.Fatal(err)
		}
	}
}

func TestGetRules(t *testing.T) {
	e := open(t, database.Options{AllowConflicts: true})
	e.tree()
	r := e.put(`{"_id":"gone","channels":["x"]}`)
	tomb := e.put(`{"_id":"gone","_rev":"` + r.String() + `","_deleted":true,"channels":["x"]}`)
	handles := map[string]*database.Handle{
		"admin": e.admin, "all": e.user("all", "*"), "x": e.user("x", "x"), "y": e.user("y", "y"), "none": e.user("none"),
	}
	const redacted, deleted = "_removed", "_deleted"
	for _, tt := range []struct {
		who, id, rev string
		latest       bool
		want         string // the body, "_removed"/"_deleted" for the redacted forms, or an error's reason
	}{
		{"admin", "d", "", false, `{"channels":["x"],"v":"c"}`},
		{"all", "d", "", false, `{"channels":["x"],"v":"c"}`},
		{"x", "d", "", false, `{"channels":["x"],"v":"c"}`},
		{"y", "d", "", false, "forbidden"},
		{"none", "d", "", false, "forbidden"},
		{"y", "d", "2-d", false, `{"channels":["y"],"v":"d"}`},
		{"x", "d", "2-d", false, redacted},
		{"x", "d", "3-f", false, `{"channels":["x"],"v":"f"}`},
		{"y", "d", "3-f", false, deleted},
		{"x", "d", "2-b", false, `{"channels":["x"],"v":"b"}`},
		{"y", "d", "2-b", false, redacted},
		{"y", "d", "1-a", false, redacted},
		{"y", "d", "9-z", false, "missing"},
		{"y", "nope", "", false, "missing"},
		{"y", "nope", "1-a", false, "missing"},
		{"x", "d", "2-b", true, `{"channels":["x"],"v":"c"}`},
		{"x", "d", "1-a", true, `{"channels":["x"],"v":"c"}`},
		{"y", "d", "1-a", true, redacted},
		{"admin", "d", "2-e", true, `{"channels":["x"],"v":"f"}`},
		{"admin", "gone", "", false, "deleted"},
		{"x", "gone", "", false, "deleted"},
		{"y", "gone", "", false, "forbidden"},
		{"x", "gone", tomb.String(), false, `{"channels":["x"]}`},
		{"none", "gone", tomb.String(), false, deleted},
	} {
		o := database.GetOptions{Latest: tt.latest}
		if tt.rev != "" {
			o.Rev = rev(t, tt.rev)
		}
		doc, err := handles[tt.who].Get(t.Context(), tt.id, o)
		got := ""
		switch {
		case err != nil:
			got = tidegate.ErrorReason(err)
		case doc.Removed && doc.Deleted:
			got = deleted
		case doc.Removed:
			got = redacted
		default:
			got = string(doc.Body)
		}
		if got != tt.want {
			t.Errorf("%s gets %s %s (latest %v): %s, want %s", tt.who, tt.id, tt.rev, tt.latest, got, tt.want)
		}
		if doc != nil && doc.Removed && (string(doc.Body) != "{}" || doc.Attachments != nil || doc.Channels != nil || !doc.Expiry.IsZero()) {
			t.Errorf("%s gets too much of %s %s: %+v", tt.who, tt.id, tt.rev, doc)
		}
	}
}

func TestConflictsAndHistory(t *testing.T) {
	e := open(t, database.Options{AllowConflicts: true})
	e.tree()
	doc := e.get(e.admin, "d", tidegate.RevID{})
	if got := revStrings(doc.Conflicts()); !slices.Equal(got, []string{"2-d"}) {
		t.Errorf("conflicts %v", got)
	}
	if got := revStrings(doc.DeletedConflicts()); !slices.Equal(got, []string{"3-f"}) {
		t.Errorf("deleted conflicts %v", got)
	}
	if r := doc.Revisions(0, nil); r.Start != 3 || !slices.Equal(r.IDs, []string{"c", "b", "a"}) {
		t.Errorf("%+v", r)
	}
	if r := doc.Revisions(2, nil); !slices.Equal(r.IDs, []string{"c", "b"}) {
		t.Errorf("%+v", r)
	}
	if r := doc.Revisions(0, []tidegate.RevID{rev(t, "9-q"), rev(t, "2-b"), rev(t, "1-a")}); !slices.Equal(r.IDs, []string{"c", "b"}) {
		t.Errorf("%+v", r)
	}
	if n := doc.AttachmentsSince([]tidegate.RevID{rev(t, "1-a"), rev(t, "2-b"), rev(t, "7-z")}); n != 2 {
		t.Errorf("newest known ancestor is of generation %d", n)
	}
}

func TestRevsInfo(t *testing.T) {
	e := open(t, database.Options{AllowConflicts: true})
	e.tree()
	for i, want := range []string{"available", "missing"} {
		infos, err := e.admin.RevsInfo(t.Context(), e.get(e.admin, "d", tidegate.RevID{}))
		if err != nil || len(infos) != 3 || infos[0].Status != "available" || infos[1].Status != want || infos[2].Status != want {
			t.Fatalf("%d: %+v %v", i, infos, err)
		}
		e.clock.add(time.Hour)
		if err := e.db.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	// What the reader may not see is missing to him, there or not.
	e.put(`{"_id":"m","channels":["x"]}`)
	r := e.raw("m").Rev
	e.put(`{"_id":"m","_rev":"` + r.String() + `","channels":["y"]}`)
	y := e.user("y", "y")
	infos, err := y.RevsInfo(t.Context(), e.get(y, "m", tidegate.RevID{}))
	if err != nil || len(infos) != 2 || infos[1].Status != "missing" {
		t.Fatalf("%+v %v", infos, err)
	}
}

func TestOpenRevs(t *testing.T) {
	e := open(t, database.Options{AllowConflicts: true})
	e.tree()
	x := e.user("x", "x")
	for _, tt := range []struct {
		h      *database.Handle
		revs   []string
		latest bool
		want   []string // revision, "-" before it if missing, "/" if redacted
	}{
		{e.admin, nil, false, []string{"3-c", "2-d", "3-f"}},
		{x, nil, false, []string{"3-c", "/2-d", "3-f"}},
		{e.admin, []string{"2-d", "1-a", "9-z", "2-d"}, false, []string{"2-d", "1-a", "-9-z", "2-d"}},
		{e.admin, []string{"2-b"}, true, []string{"3-c"}},
		{e.admin, []string{"2-b", "3-c"}, true, []string{"3-c"}},
		{e.admin, []string{"1-a", "9-z"}, true, []string{"3-c", "2-d", "3-f", "-9-z"}},
		{x, []string{"2-d", "2-b"}, false, []string{"/2-d", "2-b"}},
		{e.admin, []string{}, false, nil},
	} {
		var revs []tidegate.RevID
		if tt.revs != nil {
			revs = []tidegate.RevID{}
		}
		for _, s := range tt.revs {
			revs = append(revs, rev(t, s))
		}
		results, err := tt.h.OpenRevs(t.Context(), "d", revs, tt.latest)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, res := range results {
			switch {
			case res.Doc == nil:
				got = append(got, "-"+res.Missing.String())
			case res.Doc.Removed:
				got = append(got, "/"+res.Doc.Rev.String())
			default:
				got = append(got, res.Doc.Rev.String())
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%v latest %v: %v, want %v", tt.revs, tt.latest, got, tt.want)
		}
	}
	_, err := e.admin.OpenRevs(t.Context(), "nope", nil, false)
	wantErr(t, err, tidegate.NotFound, "missing")
	results, err := e.admin.OpenRevs(t.Context(), "nope", []tidegate.RevID{rev(t, "1-a")}, false)
	if err != nil || len(results) != 1 || results[0].Doc != nil || results[0].Missing.String() != "1-a" {
		t.Errorf("%+v %v", results, err)
	}
	_, err = e.admin.OpenRevs(t.Context(), "d", make([]tidegate.RevID, 1001), false)
	if tidegate.ErrorCode(err) != tidegate.TooLarge {
		t.Errorf("%v", err)
	}
}

func TestRevsDiff(t *testing.T) {
	e := open(t, database.Options{AllowConflicts: true})
	e.tree()
	e.clock.add(time.Hour)
	if err := e.db.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	results, err := e.user("none").RevsDiff(t.Context(), []database.DiffRequest{
		{ID: "new", Revs: []tidegate.RevID{rev(t, "1-q")}},
		{ID: "d", Revs: []tidegate.RevID{rev(t, "1-a"), rev(t, "4-q"), rev(t, "3-c")}},
		{ID: "d", Revs: []tidegate.RevID{rev(t, "2-b")}},
	})
	if err != nil || len(results) != 3 {
		t.Fatalf("%+v %v", results, err)
	}
	if got := revStrings(results[0].Missing); !slices.Equal(got, []string{"1-q"}) || results[0].PossibleAncestors != nil {
		t.Errorf("%+v", results[0])
	}
	if got := revStrings(results[1].Missing); !slices.Equal(got, []string{"4-q"}) {
		t.Errorf("%+v", results[1])
	}
	if got := revStrings(results[1].PossibleAncestors); !slices.Equal(got, []string{"3-f", "3-c", "2-d"}) {
		t.Errorf("possible ancestors %v", got)
	}
	if len(results[2].Missing) != 0 {
		t.Errorf("a revision whose body is gone is not missing: %+v", results[2])
	}
}

func revStrings(revs []tidegate.RevID) []string {
	var s []string
	for _, r := range revs {
		s = append(s, r.String())
	}
	return s
}
