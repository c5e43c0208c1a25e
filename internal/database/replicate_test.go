package database_test

import (
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
)

// Rows of all kinds in one call, in any order of IDs, each on its own.
func TestProposeRows(t *testing.T) {
	e := open(t, database.Options{})
	b := e.put(`{"_id":"b","channels":"a"}`)
	dead := e.put(`{"_id":"dead","channels":"a"}`)
	tomb := e.put(fmt.Sprintf(`{"_id":"dead","_rev":%q,"_deleted":true}`, dead))
	old := e.put(`{"_id":"old","channels":"a"}`)
	if err := e.admin.WithoutVectors(t.Context(), "old"); err != nil {
		t.Fatal(err)
	}
	v := e.vector("b").Current.String()
	unknown := "5@" + client("x")
	rows := []struct {
		database.Proposal
		status int
		rev    string
	}{
		{database.Proposal{ID: "z", Rev: "1-aa"}, 0, ""},
		{database.Proposal{ID: "b", Rev: b.String()}, 304, ""},
		{database.Proposal{ID: "b", Rev: "2-aa", Parent: b.String()}, 0, ""},
		{database.Proposal{ID: "b", Rev: "2-aa", Parent: "1-cc"}, 409, b.String()},
		{database.Proposal{ID: "b", Rev: "2-aa"}, 409, b.String()},
		{database.Proposal{ID: "b", Rev: v}, 304, ""},
		{database.Proposal{ID: "b", Rev: unknown}, 409, v},
		{database.Proposal{ID: "b", Rev: unknown, Parent: v}, 0, ""},
		{database.Proposal{ID: "b", Rev: unknown + ", " + v}, 0, ""},
		{database.Proposal{ID: "b", Rev: unknown, Parent: b.String()}, 0, ""},
		{database.Proposal{ID: "old", Rev: unknown}, 409, old.String()},
		{database.Proposal{ID: "old", Rev: unknown, Parent: old.String()}, 0, ""},
		{database.Proposal{ID: "dead", Rev: "2-aa", Parent: dead.String()}, 409, tomb.String()},
		{database.Proposal{ID: "dead", Rev: "2-aa"}, 0, ""},
		{database.Proposal{ID: "", Rev: "1-aa"}, 400, ""},
		{database.Proposal{ID: "_x", Rev: "1-aa"}, 400, ""},
		{database.Proposal{ID: "a", Rev: ""}, 400, ""},
		{database.Proposal{ID: "a", Rev: "x"}, 400, ""},
		{database.Proposal{ID: "a", Rev: "1-aa", Parent: "x"}, 400, ""},
		{database.Proposal{ID: "_design/x", Rev: "1-aa"}, 400, ""},
	}
	proposals := make([]database.Proposal, len(rows))
	for i, row := range rows {
		proposals[i] = row.Proposal
	}
	verdicts, err := e.admin.Propose(t.Context(), proposals)
	if err != nil || len(verdicts) != len(rows) {
		t.Fatalf("%v %v", verdicts, err)
	}
	for i, row := range rows {
		if verdicts[i] != (database.Verdict{Status: row.status, Rev: row.rev}) {
			t.Errorf("%+v: %+v, want %d %s", row.Proposal, verdicts[i], row.status, row.rev)
		}
	}
	user := e.user("u", "other")
	verdicts, err = user.Propose(t.Context(), []database.Proposal{{ID: "_design/x", Rev: "1-aa"}, {ID: "b", Rev: "2-aa"}})
	if err != nil || verdicts[0].Status != 0 || verdicts[1] != (database.Verdict{Status: 409, Rev: b.String()}) {
		t.Errorf("a user gets %+v %v", verdicts, err)
	}
	if none, err := e.admin.Propose(t.Context(), nil); err != nil || len(none) != 0 {
		t.Errorf("no proposals: %v %v", none, err)
	}
}

func TestProposeReadOnly(t *testing.T) {
	e := open(t, database.Options{ReadOnly: true})
	verdicts, err := e.admin.Propose(t.Context(), []database.Proposal{{ID: "a", Rev: "1-aa"}})
	if err != nil || verdicts[0].Status != 403 {
		t.Errorf("%+v %v", verdicts, err)
	}
}

func TestOffered(t *testing.T) {
	e := open(t, database.Options{AllowConflicts: true})
	one := e.put(`{"_id":"d","channels":"a"}`)
	two := e.put(fmt.Sprintf(`{"_id":"d","_rev":%q,"channels":"a"}`, one))
	if _, err := e.push(`{"_id":"d","channels":"a","_revisions":{"start":1,"ids":["ff"]}}`); err != nil {
		t.Fatal(err)
	}
	v := e.vector("d").Current.String()
	user := e.user("u", "other")
	for _, c := range []struct {
		h      *database.Handle
		offer  database.Offer
		limit  int
		wanted bool
		known  []string
	}{
		{e.admin, database.Offer{ID: "new", Rev: "1-aa"}, 10, true, nil},
		{e.admin, database.Offer{ID: "new", Rev: "5@" + client("x")}, 10, true, nil},
		{e.admin, database.Offer{ID: "d", Rev: one.String()}, 10, false, nil},
		{e.admin, database.Offer{ID: "d", Rev: v}, 10, false, nil},
		{e.admin, database.Offer{ID: "d", Rev: "3-aa"}, 10, true, []string{two.String(), one.String(), "1-ff"}},
		{e.admin, database.Offer{ID: "d", Rev: "3-aa"}, 2, true, []string{two.String(), one.String()}},
		{e.admin, database.Offer{ID: "d", Rev: "2-aa"}, 10, true, []string{one.String(), "1-ff"}},
		{e.admin, database.Offer{ID: "d", Rev: "5@" + client("x")}, 10, true, []string{v, two.String()}},
		{e.admin, database.Offer{ID: "d", Rev: "5@" + client("x")}, 1, true, []string{v}},
		{user, database.Offer{ID: "d", Rev: "3-aa"}, 10, true, nil},
		{user, database.Offer{ID: "d", Rev: one.String()}, 10, false, nil},
	} {
		wishes, err := c.h.Offered(t.Context(), []database.Offer{c.offer}, c.limit)
		if err != nil || wishes[0].Wanted != c.wanted || !slices.Equal(wishes[0].Known, c.known) || wishes[0].Err != nil {
			t.Errorf("%+v: %+v %v, want %v %v", c.offer, wishes, err, c.wanted, c.known)
		}
	}
	for _, bad := range []database.Offer{{ID: "", Rev: "1-aa"}, {ID: "d"}, {ID: "d", Rev: "x"}} {
		wishes, err := e.admin.Offered(t.Context(), []database.Offer{bad}, 10)
		if err != nil || wishes[0].Wanted || tidegate.ErrorCode(wishes[0].Err) != tidegate.Invalid {
			t.Errorf("%+v: %+v %v", bad, wishes, err)
		}
	}
}

// What a peer asked for comes as the principal may see it, replaced or not at all.
func TestSend(t *testing.T) {
	e := open(t, database.Options{AllowConflicts: true})
	one := e.put(`{"_id":"d","channels":["a","b"],"n":1}`)
	oldVersion := e.vector("d").Current.String()
	two := e.put(fmt.Sprintf(`{"_id":"d","_rev":%q,"channels":["a"],"n":2}`, one))
	v := e.vector("d").Current.String()
	tomb := e.put(fmt.Sprintf(`{"_id":"gone","_rev":%q,"_deleted":true}`, e.put(`{"_id":"gone","channels":"a"}`)))
	inA, inB := e.user("in-a", "a").ForBLIP(), e.user("in-b", "b")
	for _, c := range []struct {
		name     string
		h        *database.Handle
		row      database.Request
		replace  bool
		rev      tidegate.RevID // zero: none is sent
		removed  bool
		replaced bool
	}{
		{"current", inA, database.Request{ID: "d", Rev: two.String()}, false, two, false, false},
		{"current by version", inA, database.Request{ID: "d", Rev: v}, false, two, false, false},
		{"old", inA, database.Request{ID: "d", Rev: one.String()}, false, one, false, false},
		{"old, out of sight since then", inB, database.Request{ID: "d", Rev: one.String()}, false, tidegate.RevID{}, false, false},
		{"current, no access", inB, database.Request{ID: "d", Rev: two.String()}, true, two, true, false},
		{"current by version, no access", inB, database.Request{ID: "d", Rev: v}, true, two, true, false},
		{"old version", inA, database.Request{ID: "d", Rev: oldVersion}, false, tidegate.RevID{}, false, false},
		{"old version, replaced", inA, database.Request{ID: "d", Rev: oldVersion}, true, two, false, true},
		{"old version, no access to what replaces it", inB, database.Request{ID: "d", Rev: oldVersion}, true, tidegate.RevID{}, false, false},
		{"unknown", inA, database.Request{ID: "d", Rev: "1-cc"}, false, tidegate.RevID{}, false, false},
		{"unknown, replaced", inA, database.Request{ID: "d", Rev: "1-cc"}, true, two, false, true},
		{"tombstone, no access", inA, database.Request{ID: "gone", Rev: tomb.String()}, false, tomb, true, false},
		{"no document", inA, database.Request{ID: "none", Rev: "1-cc"}, true, tidegate.RevID{}, false, false},
		{"no revision", inA, database.Request{ID: "d", Rev: "x"}, true, tidegate.RevID{}, false, false},
	} {
		got, err := c.h.Send(t.Context(), []database.Request{c.row}, c.replace, 1<<20)
		if err != nil || len(got) != 1 {
			t.Fatalf("%s: %v %v", c.name, got, err)
		}
		switch doc := got[0].Doc; {
		case (doc == nil) != c.rev.IsZero():
			t.Errorf("%s: %+v", c.name, doc)
		case doc != nil && (doc.Rev != c.rev || doc.Removed != c.removed || got[0].Replaced != c.replaced || (c.removed && string(doc.Body) != "{}")):
			t.Errorf("%s: %+v replaced %v", c.name, doc, got[0].Replaced)
		}
	}
	if n := e.db.Stats().Replication.DocReads.Load(); n != 6 {
		t.Errorf("%d documents were read by BLIP", n)
	}
	// After the old body has gone it is replaced too.
	e.clock.add(time.Hour)
	if err := e.db.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := inA.Send(t.Context(), []database.Request{{ID: "d", Rev: one.String()}}, true, 1<<20)
	if err != nil || !got[0].Replaced || got[0].Doc.Rev != two {
		t.Errorf("%+v %v", got, err)
	}
}

// A page ends when it has enough bytes, and is a beginning of what was asked for.
func TestSendPages(t *testing.T) {
	e := open(t, database.Options{})
	var rows []database.Request
	for _, id := range []string{"m", "c", "x", "a", "none", "b"} {
		row := database.Request{ID: id, Rev: "1-cc"}
		if id != "none" {
			row.Rev = e.put(fmt.Sprintf(`{"_id":%q,"pad":"0123456789"}`, id)).String()
		}
		rows = append(rows, row)
	}
	for _, limit := range []int{0, 1, 45, 60, 1000} {
		var ids []string
		for rest := rows; len(rest) > 0; {
			got, err := e.admin.Send(t.Context(), rest, false, limit)
			if err != nil || len(got) == 0 || (limit < 2 && len(got) > 1 && rest[0].ID != "none") {
				t.Fatalf("limit %d: %v %v", limit, got, err)
			}
			for i, s := range got {
				switch {
				case s.Doc == nil:
					ids = append(ids, "none")
				case s.Doc.ID != rest[i].ID:
					t.Fatalf("%s comes for %s", s.Doc.ID, rest[i].ID)
				default:
					ids = append(ids, s.Doc.ID)
				}
			}
			rest = rest[len(got):]
		}
		if fmt.Sprint(ids) != "[m c x a none b]" {
			t.Errorf("limit %d: %v", limit, ids)
		}
	}
}

// The version of a feed's entry is that of its revision, also when the document has gone on.
func TestVersions(t *testing.T) {
	e := open(t, database.Options{})
	one := e.put(`{"_id":"d","channels":"a"}`)
	first := e.vector("d").Current
	two := e.put(fmt.Sprintf(`{"_id":"d","_rev":%q,"channels":"a"}`, one))
	e.put(`{"_id":"c","channels":"a"}`)
	old := e.put(`{"_id":"old","channels":"a"}`)
	if err := e.admin.WithoutVectors(t.Context(), "old"); err != nil {
		t.Fatal(err)
	}
	entry := func(id string, revs ...tidegate.RevID) tidegate.Change { return tidegate.Change{ID: id, Revs: revs} }
	got, err := e.admin.Versions(t.Context(), []tidegate.Change{
		entry("d", two), entry("d", one), entry("c", e.raw("c").Rev), entry("old", old), entry("none", one), entry("_user/u"), entry("d", rev(t, "1-cc")),
	})
	want := []tidegate.Version{e.vector("d").Current, first, e.vector("c").Current, {}, {}, {}, {}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v %v, want %v", got, err, want)
	}
}

// Deltas are made of what the principal may read, and never of tombstones.
func TestBase(t *testing.T) {
	e := open(t, database.Options{})
	one := e.put(`{"_id":"d","channels":["a","b"],"n":1}`)
	v1 := e.vector("d").Current.String()
	two := e.put(fmt.Sprintf(`{"_id":"d","_rev":%q,"channels":["a"],"n":2}`, one))
	v2 := e.vector("d").Current.String()
	tomb := e.put(fmt.Sprintf(`{"_id":"d","_rev":%q,"_deleted":true,"channels":["a","b"]}`, two))
	v3 := e.vector("d").Current.String()
	inB := e.user("in-b", "b")
	for name, want := range map[string]tidegate.RevID{
		one.String(): one, v1: one, two.String(): two, v2: two, tomb.String(): {}, v3: {}, "1-cc": {}, "5@" + client("x"): {}, "": {}, "x": {},
	} {
		for _, h := range []*database.Handle{e.admin, inB} {
			doc, err := h.Base(t.Context(), "d", name)
			if want.IsZero() || (h == inB && want == two) {
				wantErr(t, err, tidegate.NotFound, "missing")
			} else if err != nil || doc.Rev != want {
				t.Errorf("%s: %+v %v", name, doc, err)
			}
		}
	}
	_, err := e.admin.Base(t.Context(), "none", "1-cc")
	wantErr(t, err, tidegate.NotFound, "missing")
}

// Content is asked for if it is not here, proved if it is here but not as it was, and neither if nothing changed.
func TestAttachmentNeeds(t *testing.T) {
	e := open(t, database.Options{})
	const hello, unknown = "sha1-qvTGHdzF6KLavt4PO0gs2a6pQ00=", "sha1-AAXCaDs8DpB0HopgXuac2LyFI50="
	one := e.put(`{"_id":"d","channels":"a","_attachments":{"f":{"data":"aGVsbG8="}}}`)
	stub := func(digest string) database.AttachmentInput {
		return database.AttachmentInput{Stub: true, Digest: digest, Length: -1, EncodedLength: -1}
	}
	inA, other := e.user("in-a", "a"), e.user("other", "x")
	for _, c := range []struct {
		name       string
		h          *database.Handle
		id         string
		in         map[string]database.AttachmentInput
		prove, get []string
	}{
		{"nothing", inA, "d", nil, nil, nil},
		{"unchanged", inA, "d", map[string]database.AttachmentInput{"f": stub(hello)}, nil, nil},
		{"unchanged, no access", other, "d", map[string]database.AttachmentInput{"f": stub(hello)}, []string{"f"}, nil},
		{"other name", inA, "d", map[string]database.AttachmentInput{"f": stub(hello), "g": stub(hello)}, []string{"g"}, nil},
		{"other content", inA, "d", map[string]database.AttachmentInput{"f": stub(unknown), "e": stub(unknown)}, nil, []string{"e", "f"}},
		{"no digest", inA, "d", map[string]database.AttachmentInput{"f": stub("")}, nil, []string{"f"}},
		{"with data", inA, "d", map[string]database.AttachmentInput{"f": {Data: []byte("x")}}, nil, nil},
		{"other document", inA, "e", map[string]database.AttachmentInput{"f": stub(hello)}, nil, []string{"f"}},
	} {
		w := &database.Write{ID: c.id, History: []tidegate.RevID{rev(t, "2-aa"), one}, Attachments: c.in}
		needs, err := c.h.AttachmentNeeds(t.Context(), w)
		if err != nil || !slices.Equal(needs.Prove, c.prove) || !slices.Equal(needs.Get, c.get) {
			t.Errorf("%s: %+v %v, want prove %v, get %v", c.name, needs, err, c.prove, c.get)
		}
	}
	_, err := inA.AttachmentNeeds(t.Context(), &database.Write{ID: "_x"})
	wantErr(t, err, tidegate.Invalid, "Invalid doc ID")

	// What needs nothing, or was proved, is good as a stub.
	w := pushed("d", version(t, "5@x"), e.vector("d"), `{"channels":"a"}`, false)
	w.Attachments = map[string]database.AttachmentInput{"f": stub(hello), "g": stub(hello)}
	e.mustPut(w)
	doc := e.get(inA, "d", tidegate.RevID{})
	if len(doc.Attachments) != 2 || doc.Attachments["f"].RevPos != 1 || doc.Attachments["g"].RevPos != 2 {
		t.Errorf("%+v", doc.Attachments)
	}
	read := func(r io.ReadSeekCloser, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	if got := read(other.OpenForProof(t.Context(), "d", hello)); got != "hello" {
		t.Errorf("for a proof: %q", got)
	}
	_, err = other.OpenForProof(t.Context(), "e", hello)
	wantErr(t, err, tidegate.NotFound, "missing attachment")
	r, a, err := inA.OpenDigest(t.Context(), doc.Attachments, hello)
	if got := read(r, err); got != "hello" || a.Length != 5 {
		t.Errorf("by digest: %q %+v", got, a)
	}
	_, _, err = inA.OpenDigest(t.Context(), doc.Attachments, unknown)
	wantErr(t, err, tidegate.NotFound, "missing attachment")
	e.check()
}

// A Handle for BLIP counts apart, and follows its principal.
func TestForBLIP(t *testing.T) {
	e := open(t, database.Options{})
	h := e.user("u", "a").ForBLIP()
	if _, err := h.Put(t.Context(), &database.Write{ID: "d", Body: []byte(`{"channels":"a"}`), NewEdits: true}); err != nil {
		t.Fatal(err)
	}
	fresh, err := h.Fresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e.get(fresh, "d", tidegate.RevID{})
	e.get(e.admin, "d", tidegate.RevID{})
	s := e.db.Stats()
	if s.Replication.DocReads.Load() != 1 || s.DocReadsREST.Load() != 1 || s.Replication.DocReadsBytes.Load() != 16 || s.Replication.DocWritesBytes.Load() != 16 {
		t.Errorf("%d %d %d %d", s.Replication.DocReads.Load(), s.DocReadsREST.Load(), s.Replication.DocReadsBytes.Load(), s.Replication.DocWritesBytes.Load())
	}
	e.user("u", "b")
	if fresh, err = h.Fresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err = fresh.Get(t.Context(), "d", database.GetOptions{})
	wantErr(t, err, tidegate.Forbidden, "forbidden")
	if admin, err := e.admin.Fresh(t.Context()); err != nil || admin != e.admin {
		t.Errorf("%v %v", admin, err)
	}
}
