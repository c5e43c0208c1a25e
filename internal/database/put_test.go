package database_test

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
)

func TestPutAndGet(t *testing.T) {
	e := open(t, database.Options{})
	r1 := e.put(`{"_id":"d","n":12345678901234567890,"channels":["a"]}`)
	doc := e.get(e.admin, "d", tidegate.RevID{})
	if string(doc.Body) != `{"n":12345678901234567890,"channels":["a"]}` || doc.Rev != r1 || doc.Seq != 1 || !doc.Current {
		t.Fatalf("got %+v", doc)
	}
	r2 := e.put(`{"_id":"d","_rev":"` + r1.String() + `","channels":["b"]}`)
	if r2.Generation != 2 {
		t.Fatalf("second revision is %s", r2)
	}
	if got := e.get(e.admin, "d", r1); got.Rev != r1 || got.Current {
		t.Fatalf("old revision: %+v", got)
	}
	raw := e.raw("d")
	if raw.Seq != 2 || !raw.Channels["a"].Removed.Removed || raw.Channels["a"].Removed.Seq != 2 || raw.Channels["b"].Latest.Start != 2 {
		t.Fatalf("raw: %+v", raw)
	}
	e.check()
}

// TestRevIDs pins the digest rule of gateway-rest.md §11.1: the same edit has the same ID wherever it is made.
func TestRevIDs(t *testing.T) {
	e := open(t, database.Options{})
	r := e.put(`{"_id":"a","b":1,"a":[true,null]}`)
	sum := md5.Sum([]byte("\x00" + `{"a":[true,null],"b":1}`))
	if want := "1-" + hex.EncodeToString(sum[:]); r.String() != want {
		t.Errorf("first revision %s, want %s", r, want)
	}
	r1 := e.put(`{"_id":"x","v":1}`)
	r2 := e.put(`{"_id":"x","_rev":"` + r1.String() + `","_deleted":true,"v":2}`)
	sum = md5.Sum([]byte(string(rune(len(r1.String()))) + r1.String() + `{"_deleted":true,"v":2}`))
	if want := "2-" + hex.EncodeToString(sum[:]); r2.String() != want {
		t.Errorf("tombstone: %s, want %s", r2, want)
	}
	if a, b := e.put(`{"_id":"y","v":1,"_exp":1000,"_attachments":{"f":{"data":"aGk="}}}`), e.put(`{"_id":"z","v":1}`); a != b {
		t.Errorf("underscore members change the digest: %s and %s", a, b)
	}
}

// TestPutRules walks the rules of gateway-rest.md §11.2 and §11.4. Steps are documents to be written; $name is replaced by
// the revision that a step named so made.
func TestPutRules(t *testing.T) {
	const (
		ok       = ""
		exists   = "Document exists"
		conflict = "Document revision conflict"
	)
	type step struct {
		name, raw string // push: … is written with new_edits=false, bulk: … as part of a bulk push too
		want      string
	}
	for _, tt := range []struct {
		name      string
		conflicts bool
		steps     []step
	}{
		{"new", false, []step{{"r", `{}`, ok}}},
		{"no rev on a live document", false, []step{{"r", `{}`, ok}, {"", `{"v":2}`, exists}}},
		{"no rev on a live document with conflicts", true, []step{{"r", `{}`, ok}, {"", `{"v":2}`, exists}}},
		{"rev given and document absent", false, []step{{"", `{"_rev":"1-abc"}`, conflict}}},
		{"rev unknown", false, []step{{"r", `{}`, ok}, {"", `{"_rev":"1-abc"}`, conflict}}},
		{"rev is no leaf", false, []step{{"r", `{}`, ok}, {"", `{"_rev":"$r","v":2}`, ok}, {"", `{"_rev":"$r","v":3}`, conflict}}},
		{"rev is no leaf with conflicts", true, []step{{"r", `{}`, ok}, {"", `{"_rev":"$r","v":2}`, ok}, {"", `{"_rev":"$r","v":3}`, conflict}}},
		{"delete", false, []step{{"r", `{}`, ok}, {"", `{"_rev":"$r","_deleted":true}`, ok}}},
		{"delete without rev", false, []step{{"r", `{}`, ok}, {"", `{"_deleted":true}`, exists}}},
		{"delete an absent document", false, []step{{"r", `{"_deleted":true}`, ok}}},
		{"delete again without rev", false, []step{{"r", `{}`, ok}, {"t", `{"_rev":"$r","_deleted":true}`, ok}, {"", `{"_deleted":true}`, ok}}},
		{"create again without rev", false, []step{{"r", `{}`, ok}, {"t", `{"_rev":"$r","_deleted":true}`, ok}, {"", `{"v":2}`, ok}}},
		{"create again with the tombstone's rev", false, []step{{"r", `{}`, ok}, {"t", `{"_rev":"$r","_deleted":true}`, ok}, {"", `{"_rev":"$t","v":2}`, ok}}},
		{"create again with an old rev", false, []step{{"r", `{}`, ok}, {"t", `{"_rev":"$r","_deleted":true}`, ok}, {"", `{"_rev":"$r","v":2}`, conflict}}},

		{"push a new document", false, []step{{"", `push:{"_rev":"3-c","_revisions":{"start":3,"ids":["c","b","a"]}}`, ok}}},
		{"push a child", false, []step{{"", `push:{"_revisions":{"start":1,"ids":["a"]}}`, ok}, {"", `push:{"_revisions":{"start":3,"ids":["c","b","a"]}}`, ok}}},
		{"push what is known", false, []step{{"", `push:{"_revisions":{"start":1,"ids":["a"]}}`, ok}, {"", `push:{"_revisions":{"start":2,"ids":["b","a"]}}`, ok}, {"", `push:{"_revisions":{"start":1,"ids":["a"]},"other":1}`, ok}}},
		{"push a branch", false, []step{{"", `push:{"_revisions":{"start":1,"ids":["a"]}}`, ok}, {"", `push:{"_revisions":{"start":2,"ids":["b","a"]}}`, ok}, {"", `push:{"_revisions":{"start":2,"ids":["c","a"]}}`, conflict}}},
		{"push a branch with conflicts", true, []step{{"", `push:{"_revisions":{"start":1,"ids":["a"]}}`, ok}, {"", `push:{"_revisions":{"start":2,"ids":["b","a"]}}`, ok}, {"", `push:{"_revisions":{"start":2,"ids":["c","a"]}}`, ok}}},
		{"push an unconnected branch", false, []step{{"", `push:{"_revisions":{"start":1,"ids":["a"]}}`, ok}, {"", `push:{"_revisions":{"start":5,"ids":["z"]}}`, conflict}}},
		{"push an unconnected branch to a tombstone", false, []step{{"r", `{}`, ok}, {"t", `{"_rev":"$r","_deleted":true}`, ok}, {"", `push:{"_revisions":{"start":1,"ids":["z"]}}`, ok}}},
		{"push an unconnected tombstone to a tombstone", false, []step{{"r", `{}`, ok}, {"t", `{"_rev":"$r","_deleted":true}`, ok}, {"", `push:{"_deleted":true,"_revisions":{"start":1,"ids":["z"]}}`, conflict}}},
		{"push a tombstone to nothing", false, []step{{"", `push:{"_deleted":true,"_revisions":{"start":2,"ids":["z","y"]}}`, ok}}},
		{"push a tombstone to a live leaf", true, []step{{"", `push:{"_revisions":{"start":1,"ids":["a"]}}`, ok}, {"", `push:{"_deleted":true,"_revisions":{"start":2,"ids":["z","a"]}}`, ok}}},
		{"bulk push of a branch", false, []step{{"", `push:{"_revisions":{"start":1,"ids":["a"]}}`, ok}, {"", `push:{"_revisions":{"start":2,"ids":["b","a"]}}`, ok}, {"", `bulk:{"_revisions":{"start":2,"ids":["c","a"]}}`, ok}}},
		{"push without revisions", false, []step{{"", `push:{"v":1}`, "Bad _revisions"}}},
		{"push with another rev", false, []step{{"", `push:{"_rev":"1-b","_revisions":{"start":1,"ids":["a"]}}`, "Bad _revisions"}}},
		{"push with too many revisions", false, []step{{"", `push:{"_revisions":{"start":1,"ids":["a","b"]}}`, "Bad _revisions"}}},
		{"malformed rev", false, []step{{"", `{"_rev":"x"}`, "Invalid revision ID"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := open(t, database.Options{AllowConflicts: tt.conflicts})
			revs := []string{}
			for i, s := range tt.steps {
				raw := strings.NewReplacer(revs...).Replace(s.raw)
				kind, raw, found := strings.Cut(raw, ":{")
				if raw = "{" + raw; !found || (kind != "push" && kind != "bulk") {
					kind, raw = "", strings.NewReplacer(revs...).Replace(s.raw)
				}
				res, err := e.putRaw(raw, kind)
				if s.want != ok {
					if err == nil || tidegate.ErrorReason(err) != s.want {
						t.Fatalf("step %d: %v, want %q", i, err, s.want)
					}
					continue
				}
				if err != nil {
					t.Fatalf("step %d: %v", i, err)
				}
				revs = append(revs, "$"+s.name, res.Rev.String())
			}
			e.check()
		})
	}
}

// putRaw writes document d. kind "push": made elsewhere; "bulk": in a bulk push.
func (e *env) putRaw(raw, kind string) (database.Written, error) {
	w, err := parse(raw, kind == "")
	if err != nil {
		return database.Written{}, err
	}
	w.ID, w.BulkPush = "d", kind == "bulk"
	return e.admin.Put(e.t.Context(), w)
}

func TestExistedChangesNothing(t *testing.T) {
	e := open(t, database.Options{})
	first, err := e.push(`{"_id":"d","_revisions":{"start":2,"ids":["b","a"]},"v":1}`)
	if err != nil {
		t.Fatal(err)
	}
	again, err := e.push(`{"_id":"d","_revisions":{"start":2,"ids":["b","a"]},"v":2}`)
	if err != nil {
		t.Fatal(err)
	}
	if !again.Existed || again.Rev != first.Rev || again.Seq != first.Seq {
		t.Fatalf("%+v", again)
	}
	if doc := e.get(e.admin, "d", tidegate.RevID{}); string(doc.Body) != `{"v":1}` {
		t.Fatalf("body %s", doc.Body)
	}
	// An ancestor that is only known by name is known all the same.
	if res, err := e.push(`{"_id":"d","_revisions":{"start":1,"ids":["a"]},"v":0}`); err != nil || !res.Existed {
		t.Fatalf("%+v %v", res, err)
	}
}

// TestBulkPushClosesBranch: gateway-rest.md §11.2, device-sync.md §12.7.
func TestBulkPushClosesBranch(t *testing.T) {
	e := open(t, database.Options{})
	for _, raw := range []string{
		`{"_id":"d","_revisions":{"start":1,"ids":["a"]},"channels":["x"]}`,
		`{"_id":"d","_revisions":{"start":2,"ids":["b","a"]},"channels":["x"],"grant":[["bob",["y"]]]}`,
	} {
		if _, err := e.push(raw); err != nil {
			t.Fatal(err)
		}
	}
	before := e.raw("d")
	w := e.write(`{"_id":"d","_revisions":{"start":5,"ids":["5","4","3","2","a"]},"channels":["z"],"v":"mine","_attachments":{"f":{"data":"aGVsbG8="}}}`, false)
	w.BulkPush = true
	res, err := e.admin.Put(t.Context(), w)
	if err != nil || !res.Closed || res.Rev.String() != "5-5" {
		t.Fatalf("%+v %v", res, err)
	}
	after := e.raw("d")
	if after.Rev != before.Rev || after.Seq <= before.Seq || len(after.Access["bob"]) != 1 {
		t.Fatalf("the document changed: %+v", after)
	}
	if c := after.Channels; len(c) != 1 || c["x"].Removed.Removed {
		t.Fatalf("channels: %+v", c)
	}
	doc := e.get(e.admin, "d", tidegate.RevID{})
	if len(doc.Conflicts()) != 0 || len(doc.DeletedConflicts()) != 1 {
		t.Fatalf("conflicts %v, deleted %v", doc.Conflicts(), doc.DeletedConflicts())
	}
	closing := doc.DeletedConflicts()[0]
	if want := tidegate.NewRevID(res.Rev, []byte(`{"_deleted":true}`)); closing != want {
		t.Fatalf("closed by %s, want %s", closing, want)
	}
	// The body stays, long after bodies of old revisions have gone.
	e.clock.add(24 * 3600e9)
	if err := e.db.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	mine := e.get(e.admin, "d", res.Rev)
	if !strings.Contains(string(mine.Body), "mine") || len(mine.Attachments) != 1 {
		t.Fatalf("closed revision: %+v", mine)
	}
	// Pushed again it is known, and a push of the tombstone is too.
	if res, err := e.admin.Put(t.Context(), w); err != nil || !res.Existed {
		t.Fatalf("%+v %v", res, err)
	}
	e.check()
}

// TestBulkPushToTombstone: on a deleted document the live branch wins (device-sync.md §12.7).
func TestBulkPushToTombstone(t *testing.T) {
	e := open(t, database.Options{})
	for _, raw := range []string{
		`{"_id":"d","_revisions":{"start":1,"ids":["a"]}}`,
		`{"_id":"d","_revisions":{"start":2,"ids":["t","a"]},"_deleted":true}`,
	} {
		if _, err := e.push(raw); err != nil {
			t.Fatal(err)
		}
	}
	w := e.write(`{"_id":"d","_revisions":{"start":2,"ids":["b","a"]},"channels":["x"]}`, false)
	w.BulkPush = true
	if res, err := e.admin.Put(t.Context(), w); err != nil || res.Closed {
		t.Fatalf("%+v %v", res, err)
	}
	if doc := e.get(e.admin, "d", tidegate.RevID{}); doc.Rev.String() != "2-b" {
		t.Fatalf("current is %s", doc.Rev)
	}
	// A tombstone of another branch makes no conflict: it is stored as it is.
	w = e.write(`{"_id":"d","_revisions":{"start":3,"ids":["c","z"]},"_deleted":true}`, false)
	w.BulkPush = true
	if res, err := e.admin.Put(t.Context(), w); err != nil || res.Closed {
		t.Fatalf("%+v %v", res, err)
	}
	if doc := e.get(e.admin, "d", tidegate.RevID{}); doc.Rev.String() != "2-b" {
		t.Fatalf("current is %s", doc.Rev)
	}
	e.check()
}

func TestRefusals(t *testing.T) {
	e := open(t, database.Options{MaxDocumentBytes: 100})
	for _, tt := range []struct {
		raw    string
		code   tidegate.Code
		reason string
	}{
		{`{"_id":"_x"}`, tidegate.Invalid, "Invalid doc ID"},
		{`{"_id":""}`, tidegate.Invalid, "Invalid doc ID"},
		{`{"_id":"` + strings.Repeat("x", 251) + `"}`, tidegate.Invalid, "Invalid doc ID"},
		{`{"_id":"x","v":"` + strings.Repeat("x", 100) + `"}`, tidegate.TooLarge, "Document too large!"},
		{`{"_id":"x","_removed":true}`, tidegate.NotFound, "Document revision is not accessible"},
		{`{"_id":"x","_exp":"soon"}`, tidegate.Invalid, "Invalid expiry: soon"},
	} {
		w, err := parse(tt.raw, true)
		if err == nil {
			_, err = e.admin.Put(t.Context(), w)
		}
		wantErr(t, err, tt.code, tt.reason)
	}
	for _, raw := range []string{`{"_purged":1}`, `{"_sync":1}`, `{"_sync_x":1}`, `{"_foo":1}`, `{"_attachments":[]}`, `{"_attachments":{"a":1}}`} {
		if _, err := parse(raw, true); tidegate.ErrorCode(err) != tidegate.Invalid {
			t.Errorf("%s: %v", raw, err)
		}
	}
	if report := e.check(); report.Documents != 0 || report.LastSequence != 0 {
		t.Errorf("refused writes left something: %s", report)
	}
}

func TestReadOnly(t *testing.T) {
	e := open(t, database.Options{ReadOnly: true})
	_, err := e.admin.Put(t.Context(), e.write(`{"_id":"d"}`, true))
	wantErr(t, err, tidegate.Forbidden, "Database is read-only")
	if _, err := e.admin.PutLocal(t.Context(), "checkpoint", "", []byte(`{}`)); err != nil {
		t.Errorf("local documents work: %v", err)
	}
}

func TestPutAll(t *testing.T) {
	e := open(t, database.Options{})
	r := e.put(`{"_id":"old"}`)
	ws := []*database.Write{
		e.write(`{"_id":"a"}`, true),
		e.write(`{"_id":"old"}`, true),
		e.write(`{"_id":"b","forbid":"no"}`, true),
		e.write(`{"_id":"old","_rev":"`+r.String()+`","v":2}`, true),
		e.write(`{"_id":"a","v":2}`, true),
		e.write(`{"_id":"_bad"}`, true),
		e.write(`{"_id":"dup","_revisions":{"start":1,"ids":["x"]}}`, false),
		e.write(`{"_id":"dup","_revisions":{"start":2,"ids":["y","x"]}}`, false),
		e.write(`{"_id":"dup","_revisions":{"start":3,"ids":["z","y","x"]}}`, false),
	}
	want := []string{"", "Document exists", "no", "", "Document exists", "Invalid doc ID", "", "", ""}
	results := e.admin.PutAll(t.Context(), ws)
	for i, res := range results {
		got := ""
		if res.Err != nil {
			got = tidegate.ErrorReason(res.Err)
		}
		if got != want[i] || res.ID != ws[i].ID {
			t.Errorf("%d (%s): %q, want %q", i, ws[i].ID, got, want[i])
		}
	}
	if doc := e.get(e.admin, "dup", tidegate.RevID{}); doc.Rev.String() != "3-z" || len(doc.History(0)) != 3 {
		t.Errorf("dup is at %s", doc.Rev)
	}
	if report := e.check(); report.LastSequence != 6 {
		t.Errorf("last sequence %d: a refused write must not take one", report.LastSequence)
	}
}

func TestPutAllLarge(t *testing.T) {
	e := open(t, database.Options{})
	ws := make([]*database.Write, 600)
	for i := range ws {
		ws[i] = &database.Write{ID: fmt.Sprintf("d%04d", i), Body: []byte(`{"channels":["a"]}`), NewEdits: true}
	}
	for i, res := range e.admin.PutAll(t.Context(), ws) {
		if res.Err != nil || res.ID != ws[i].ID {
			t.Fatalf("%d: %+v", i, res)
		}
	}
	if report := e.check(); report.Documents != len(ws) || report.IndexEntries != 2*len(ws) {
		t.Fatalf("%s", report)
	}
}

func TestRevsLimit(t *testing.T) {
	e := open(t, database.Options{RevsLimit: 3})
	r := e.put(`{"_id":"d","v":0}`)
	for i := range 10 {
		r = e.put(fmt.Sprintf(`{"_id":"d","_rev":"%s","v":%d}`, r, i+1))
	}
	doc := e.get(e.admin, "d", tidegate.RevID{})
	if h := doc.History(0); len(h) != 3 || h[0].Generation != 11 {
		t.Fatalf("history %v", h)
	}
	e.clock.add(3600e9)
	if err := e.db.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if report := e.check(); report.Bodies != 1 || report.Expiries != 0 {
		t.Fatalf("%s", report)
	}
}
