package database_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/store"
)

// channelsOf returns the user's channels now.
func (e *env) channelsOf(name string) tidegate.Grants {
	e.t.Helper()
	u, err := e.db.Access().User(e.t.Context(), name)
	if err != nil {
		e.t.Fatal(err)
	}
	return u.Channels(0)
}

// fill writes documents until the last sequence is n.
func (e *env) fill(n tidegate.Seq) {
	e.t.Helper()
	for i := 0; ; i++ {
		seq, err := e.db.LastSequence(e.t.Context())
		if err != nil || seq > n {
			e.t.Fatalf("last sequence is %d, want %d (%v)", seq, n, err)
		}
		if seq == n {
			return
		}
		e.put(`{"_id":"fill` + time.Duration(seq).String() + `"}`)
	}
}

// Vector 10 of sync-function.md §11.
func TestGrantKeepsItsSequence(t *testing.T) {
	e := open(t, database.Options{})
	e.user("bob")
	e.fill(9)
	r := e.put(`{"_id":"D","grant":[["bob","x"]]}`)
	if got := e.channelsOf("bob")["x"]; got != 10 {
		t.Fatalf("granted at %d", got)
	}
	e.fill(19)
	r = e.put(`{"_id":"D","_rev":"` + r.String() + `","grant":[["bob",["x"]]],"v":2}`)
	if raw := e.raw("D"); raw.Seq != 20 || raw.Access["bob"]["x"] != 10 {
		t.Fatalf("at %d: granted at %d", raw.Seq, raw.Access["bob"]["x"])
	}
	if got := e.channelsOf("bob")["x"]; got != 10 {
		t.Fatalf("granted at %d", got)
	}
	e.fill(29)
	e.put(`{"_id":"D","_rev":"` + r.String() + `"}`)
	if _, still := e.channelsOf("bob")["x"]; still {
		t.Fatal("the grant is still there")
	}
	u, err := e.db.Access().User(t.Context(), "bob")
	if err != nil {
		t.Fatal(err)
	}
	if h := u.ChannelHistory(0, "x"); len(h) != 1 || h[0].Start != 10 || h[0].End != 30 {
		t.Fatalf("history %v", h)
	}
	e.check()
}

// Vector 11.
func TestGrantOfTwoDocuments(t *testing.T) {
	e := open(t, database.Options{})
	e.user("bob")
	e.fill(9)
	r := e.put(`{"_id":"D1","grant":[["bob","x"]]}`)
	e.fill(14)
	e.put(`{"_id":"D2","grant":[["bob","x"]]}`)
	if got := e.channelsOf("bob")["x"]; got != 10 {
		t.Fatalf("granted at %d", got)
	}
	e.fill(39)
	e.put(`{"_id":"D1","_rev":"` + r.String() + `","_deleted":true}`)
	if got := e.channelsOf("bob")["x"]; got != 15 {
		t.Fatalf("granted at %d", got)
	}
	u, err := e.db.Access().User(t.Context(), "bob")
	if err != nil {
		t.Fatal(err)
	}
	for _, span := range u.ChannelHistory(0, "x") {
		if span.End != 0 {
			t.Fatalf("lost at %d", span.End)
		}
	}
	e.check()
}

// Vector 13: a tombstone is a removal with deletion.
func TestTombstoneLeavesChannels(t *testing.T) {
	e := open(t, database.Options{})
	r := e.put(`{"_id":"d","channels":["a"]}`)
	e.put(`{"_id":"d","_rev":"` + r.String() + `","_deleted":true}`)
	raw := e.raw("d")
	if m := raw.Channels["a"].Removed; !m.Removed || !m.Deleted || m.Seq != 2 || m.Rev != raw.Rev {
		t.Fatalf("%+v", raw.Channels)
	}
	bob := e.user("bob", "a")
	_, err := bob.Get(t.Context(), "d", database.GetOptions{})
	wantErr(t, err, tidegate.NotFound, "deleted")
	amy := e.user("amy", "b")
	_, err = amy.Get(t.Context(), "d", database.GetOptions{})
	wantErr(t, err, tidegate.Forbidden, "forbidden")
	e.check()
}

// Vector 14: a document that moves from a to b.
func TestMoveBetweenChannels(t *testing.T) {
	e := open(t, database.Options{})
	bob := e.user("bob", "a")
	r1 := e.put(`{"_id":"d","channels":["a"],"secret":1}`)
	r2 := e.put(`{"_id":"d","_rev":"` + r1.String() + `","channels":["b"],"secret":2}`)
	_, err := bob.Get(t.Context(), "d", database.GetOptions{})
	wantErr(t, err, tidegate.Forbidden, "forbidden")
	if doc := e.get(bob, "d", r2); !doc.Removed || string(doc.AppendJSON(nil)) != `{"_id":"d","_rev":"`+r2.String()+`","_removed":true}` {
		t.Fatalf("%s", doc.AppendJSON(nil))
	}
	if doc := e.get(bob, "d", r1); doc.Removed || !strings.Contains(string(doc.Body), `"secret":1`) {
		t.Fatalf("the revision he had: %s", doc.AppendJSON(nil))
	}
	r3 := e.put(`{"_id":"d","_rev":"` + r2.String() + `","_deleted":true,"why":"secret"}`)
	if doc := e.get(bob, "d", r3); string(doc.AppendJSON(nil)) != `{"_id":"d","_rev":"`+r3.String()+`","_deleted":true}` {
		t.Fatalf("%s", doc.AppendJSON(nil))
	}
	// Once the body is gone, the answer is the same for everybody.
	e.clock.add(time.Hour)
	if err := e.db.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, h := range []*database.Handle{bob, e.admin} {
		_, err = h.Get(t.Context(), "d", database.GetOptions{Rev: r1})
		wantErr(t, err, tidegate.NotFound, "missing")
	}
	e.check()
}

// Vector 15: a losing branch that the function refuses changes nothing.
func TestLosingBranchRefused(t *testing.T) {
	e := open(t, database.Options{AllowConflicts: true})
	for _, raw := range []string{
		`{"_id":"d","_revisions":{"start":1,"ids":["a"]},"channels":["x"]}`,
		`{"_id":"d","_revisions":{"start":3,"ids":["c","b","a"]},"channels":["x"]}`,
	} {
		if _, err := e.push(raw); err != nil {
			t.Fatal(err)
		}
	}
	before := e.raw("d")
	_, err := e.push(`{"_id":"d","_revisions":{"start":2,"ids":["z","a"]},"forbid":"no"}`)
	wantErr(t, err, tidegate.Forbidden, "no")
	if after := e.raw("d"); after.Seq != before.Seq || after.Tree.Len() != before.Tree.Len() {
		t.Fatal("the document changed")
	}
	// One that it takes keeps its own channels and leaves the document's outputs.
	res, err := e.push(`{"_id":"d","_revisions":{"start":2,"ids":["z","a"]},"channels":["y"],"grant":[["bob","q"]]}`)
	if err != nil {
		t.Fatal(err)
	}
	after := e.raw("d")
	if after.Rev != before.Rev || len(after.Channels) != 1 || len(after.Access) != 0 {
		t.Fatalf("%+v", after)
	}
	amy := e.user("amy", "y")
	if doc := e.get(amy, "d", res.Rev); doc.Removed || len(doc.Channels) != 1 {
		t.Fatalf("%+v", doc)
	}
	e.check()
}

// Vector 16: the winning branch is tombstoned.
func TestOlderRevisionBecomesCurrent(t *testing.T) {
	e := open(t, database.Options{AllowConflicts: true})
	for _, raw := range []string{
		`{"_id":"d","_revisions":{"start":1,"ids":["a"]},"channels":["x"],"v":1}`,
		`{"_id":"d","_revisions":{"start":2,"ids":["b","a"]},"channels":["y"],"grant":[["bob","q"]],"keepChannels":true,"_attachments":{"f":{"data":"aGk="}}}`,
		`{"_id":"d","_revisions":{"start":2,"ids":["c","a"]},"channels":["z"]}`,
	} {
		if _, err := e.push(raw); err != nil {
			t.Fatal(err)
		}
	}
	if raw := e.raw("d"); raw.Rev.String() != "2-c" || !raw.Channels["x"].Removed.Removed || raw.Channels["z"].Removed.Removed {
		t.Fatalf("%+v", raw)
	}
	e.put(`{"_id":"d","_rev":"2-c","_deleted":true}`)
	raw := e.raw("d")
	if raw.Rev.String() != "2-b" || raw.Deleted {
		t.Fatalf("current is %s", raw.Rev)
	}
	// keepChannels adds the channels of oldDoc, which is 1-a.
	for channel, in := range map[string]bool{"x": true, "y": true, "z": false} {
		if raw.Channels[channel].Removed.Removed == in {
			t.Errorf("channel %s: %+v", channel, raw.Channels[channel])
		}
	}
	if raw.Channels["z"].Removed.Rev.String() != "2-b" || raw.Access["bob"]["q"] != raw.Seq {
		t.Errorf("%+v", raw)
	}
	if past := raw.Channels["x"].Past; len(past) != 1 || past[0].Start != 1 || past[0].End != 3 {
		t.Errorf("past of x: %v", past)
	}
	e.check()
}

// A write fails if the function refuses the revision that it would make current (§5, rule 3).
func TestOlderRevisionRefused(t *testing.T) {
	e := open(t, database.Options{AllowConflicts: true})
	bob := e.user("bob")
	for _, raw := range []string{
		`{"_id":"d","_revisions":{"start":1,"ids":["a"]},"onlyBy":"amy"}`,
		`{"_id":"d","_revisions":{"start":2,"ids":["b","z"]}}`,
	} {
		if _, err := e.push(raw); err != nil {
			t.Fatal(err)
		}
	}
	before := e.raw("d")
	_, err := bob.Put(t.Context(), e.write(`{"_id":"d","_rev":"2-b","_deleted":true}`, true))
	wantErr(t, err, tidegate.Forbidden, "sg wrong user")
	if after := e.raw("d"); after.Seq != before.Seq {
		t.Fatal("the document changed")
	}
	e.check()
}

// Vectors 6 to 9 through the write path: status and statistics.
func TestRejections(t *testing.T) {
	e := open(t, database.Options{})
	bob := e.user("bob", "c")
	for _, tt := range []struct {
		h    *database.Handle
		raw  string
		code tidegate.Code
		want string
	}{
		{bob, `{"_id":"d","onlyBy":"amy"}`, tidegate.Forbidden, "sg wrong user"},
		{bob, `{"_id":"d","needs":"x"}`, tidegate.Forbidden, "sg missing channel access"},
		{bob, `{"_id":"d","forbid":"no"}`, tidegate.Forbidden, "no"},
		{e.admin, `{"_id":"d","channels":"a,b"}`, tidegate.Internal, "Internal error"},
	} {
		_, err := tt.h.Put(t.Context(), e.write(tt.raw, true))
		wantErr(t, err, tt.code, tt.want)
	}
	for _, raw := range []string{`{"_id":"1","onlyBy":"bob"}`, `{"_id":"2","needs":"c"}`} {
		if _, err := bob.Put(t.Context(), e.write(raw, true)); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
	}
	if _, err := e.admin.Put(t.Context(), e.write(`{"_id":"3","needs":"x","onlyBy":"amy"}`, true)); err != nil {
		t.Errorf("require… fails for an administrator: %v", err)
	}
	want := map[string]int64{"sync_function_count": 7, "sync_function_exception_count": 1, "num_doc_writes": 3}
	for name, n := range e.db.Stats().Database() {
		if w, ok := want[name]; ok && n != w {
			t.Errorf("%s is %d, want %d", name, n, w)
		}
	}
	for name, n := range e.db.Stats().Security() {
		if want := map[string]int64{"num_access_errors": 2, "num_docs_rejected": 3}[name]; n != want {
			t.Errorf("%s is %d, want %d", name, n, want)
		}
	}
	e.check()
}

// Vector 17, and _exp.
func TestExpiryOutputs(t *testing.T) {
	e := open(t, database.Options{})
	soon := e.clock.now().Add(100 * time.Second)
	for _, tt := range []struct {
		raw  string
		want time.Time
	}{
		{`{"_id":"a","expires":"2030-01-01T00:00:00Z"}`, time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)},
		{`{"_id":"b","expires":-1}`, time.Time{}},
		{`{"_id":"c","_exp":100}`, soon},
		{`{"_id":"d","_exp":100,"expires":"2030-01-01T00:00:00Z"}`, time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)},
		{`{"_id":"e","_exp":100,"expires":-1}`, soon},
		{`{"_id":"f","_exp":0}`, time.Time{}},
		{`{"_id":"g","_exp":null}`, time.Time{}},
	} {
		r := e.put(tt.raw)
		doc := e.get(e.admin, tt.raw[8:9], tidegate.RevID{})
		if !doc.Expiry.Equal(tt.want) {
			t.Errorf("%s: expires %v, want %v", tt.raw, doc.Expiry, tt.want)
		}
		// It is not inherited.
		e.put(`{"_id":"` + doc.ID + `","_rev":"` + r.String() + `"}`)
		if doc := e.get(e.admin, doc.ID, tidegate.RevID{}); !doc.Expiry.IsZero() {
			t.Errorf("%s: the next revision expires %v", tt.raw, doc.Expiry)
		}
	}
	e.check()
}

// Vector 18.
func TestOldDocAfterRecreation(t *testing.T) {
	e := open(t, database.Options{Collections: []database.CollectionOptions{{
		Sync: `function(doc, oldDoc) { channel(oldDoc === null ? "new" : (oldDoc._deleted === true ? "was-deleted" : "was-live")); }`,
	}}})
	want := func(channel string) {
		t.Helper()
		if raw := e.raw("d"); raw.Channels[channel].Latest.Start != raw.Seq {
			t.Fatalf("not in %s: %+v", channel, raw.Channels)
		}
	}
	r := e.put(`{"_id":"d"}`)
	want("new")
	e.put(`{"_id":"d","_rev":"` + r.String() + `","_deleted":true}`)
	want("was-live")
	e.put(`{"_id":"d","v":2}`)
	want("was-deleted")
	if _, err := e.admin.Purge(t.Context(), []string{"d"}); err != nil {
		t.Fatal(err)
	}
	e.put(`{"_id":"d"}`)
	want("new")
	e.check()
}

// Periods of membership: at most five earlier ones, the two oldest merged (§5).
func TestChannelPeriods(t *testing.T) {
	e := open(t, database.Options{})
	r := e.put(`{"_id":"d","channels":["a"]}`)
	for i := range 16 {
		channels := `[]`
		if i%2 == 1 {
			channels = `["a"]`
		}
		r = e.put(`{"_id":"d","_rev":"` + r.String() + `","channels":` + channels + `}`)
	}
	// Member at 1, 3, 5 … 17.
	a := e.raw("d").Channels["a"]
	if a.Removed.Removed || a.Latest.Start != 17 || a.Latest.End != 0 || len(a.Past) != 5 {
		t.Fatalf("%+v", a)
	}
	if a.Past[0].Start != 1 || a.Past[0].End != 8 || a.Past[1].Start != 9 || a.Past[4].End != 16 {
		t.Fatalf("%+v", a.Past)
	}
	e.check()
}

func TestCollectionDefaults(t *testing.T) {
	e := open(t, database.Options{Collections: []database.CollectionOptions{{}, {Scope: "s", Name: "towns", ID: 3}}})
	id, err := e.db.Collection("s", "towns")
	if err != nil || id != 3 {
		t.Fatalf("%d %v", id, err)
	}
	if _, err := e.db.Collection("s", "x"); tidegate.ErrorCode(err) != tidegate.NotFound {
		t.Fatalf("%v", err)
	}
	for coll, channel := range map[store.Collection]string{0: "mine", 3: "towns"} {
		h := e.db.Admin(coll)
		if _, err := h.Put(t.Context(), e.write(`{"_id":"d","channels":"mine"}`, true)); err != nil {
			t.Fatal(err)
		}
		raw, err := h.Raw(t.Context(), "d")
		if err != nil || len(raw.Channels) != 1 || raw.Channels[channel].Removed.Removed || raw.Channels[channel].Latest.Start == 0 {
			t.Fatalf("collection %d: %+v %v", coll, raw.Channels, err)
		}
	}
	e.check()
}

func TestBadSyncFunction(t *testing.T) {
	st := open(t, database.Options{}).st
	_, err := database.Open(t.Context(), st, nil, database.Options{Space: 8, Collections: []database.CollectionOptions{{Sync: "function(doc) {"}}})
	if tidegate.ErrorCode(err) != tidegate.Invalid {
		t.Fatalf("%v", err)
	}
}

// A revision whose channels changed when it became current is judged by the new ones for ever (I7): also when it is a leaf no
// more and its body is all that tells.
func TestRerunChannelsStay(t *testing.T) {
	e := open(t, database.Options{AllowConflicts: true})
	for _, raw := range []string{
		`{"_id":"d","_revisions":{"start":1,"ids":["a"]},"channels":["x"]}`,
		`{"_id":"d","_revisions":{"start":2,"ids":["b","a"]},"channels":["y"],"keepChannels":true}`,
		`{"_id":"d","_revisions":{"start":2,"ids":["c","a"]}}`,
	} {
		if _, err := e.push(raw); err != nil {
			t.Fatal(err)
		}
	}
	x, y := e.user("x", "x"), e.user("y", "y")
	if doc := e.get(x, "d", rev(t, "2-b")); doc.Removed {
		t.Fatal("2-b is in x by its parent's channels")
	}
	e.clock.add(time.Hour) // the parent's body goes
	e.sweep()
	e.put(`{"_id":"d","_rev":"2-c","_deleted":true}`)
	e.check()
	e.put(`{"_id":"d","_rev":"2-b","channels":["z"]}`)
	if doc := e.get(x, "d", rev(t, "2-b")); !doc.Removed {
		t.Errorf("a reader of x still gets %s", doc.Body)
	}
	if doc := e.get(y, "d", rev(t, "2-b")); doc.Removed {
		t.Error("a reader of y does not")
	}
	e.check()
}
