package replicate_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/delta"
	"github.com/tidegate/tidegate/internal/replicate"
)

// replica is a client that pulls as Couchbase Lite with auto-purge does.
type replica struct {
	name, user  string
	version     replicate.Version
	revocations bool
	deltas      bool
	c           *client
	since       string
	docs        map[string]held
	pending     []pendingRow // in the order of the feed
}

// held is a document in a replica.
type held struct{ rev, body string }

// pendingRow is a row of the feed; done when nothing more comes of it.
type pendingRow struct {
	seq  string
	done bool
}

// world is a database, its oracle and its clients.
type world struct {
	t    *testing.T
	e    *env
	o    *oracle
	n    int // marks given
	revs map[string]string
	all  []*replica
}

// dial connects a replica, from where it was.
func (w *world) dial(r *replica) {
	r.c = w.e.dial(replicate.Peer{User: r.user, Version: r.version, Deltas: r.deltas})
	r.pending = nil
	props := []string{"continuous", "true", "batch", "10", "sendReplacementRevs", "true"}
	if r.revocations {
		props = append(props, "revocations", "true")
	}
	if r.since != "" {
		props = append(props, "since", r.since)
	} else if len(r.docs) == 0 && r.name[0] == 'a' { // as Couchbase Lite does with an empty database
		props = append(props, "activeOnly", "true")
	}
	r.c.must("subChanges", "", props...)
}

// take deals with at most n messages.
func (w *world) take(r *replica, n int) (some bool) {
	for synctest.Wait(); n > 0 && len(r.c.in) > 0; synctest.Wait() {
		some = true
		n--
		a := r.c.next()
		w.o.judge(r.user, a.profile, fmt.Sprint(a.body, a.props))
		switch a.profile {
		case "changes":
			w.changes(r, a)
		case "rev":
			w.rev(r, a)
		case "norev":
			r.done(a.props["sequence"] + quoted(a.props["seq"]))
			a.r.Release()
		}
	}
	return some
}

// quoted is a sequence as JSON, from the plain text of version 2.
func quoted(seq string) string {
	if strings.Contains(seq, ":") {
		return `"` + seq + `"`
	}
	return seq
}

// changes answers a list.
func (w *world) changes(r *replica, a asked) {
	if a.body == "null" {
		a.r.Release()
		return
	}
	var rows [][]json.RawMessage
	if err := json.Unmarshal([]byte(a.body), &rows); err != nil {
		w.o.fault("%s: %v in %s", r.name, err, a.body)
	}
	var answers []string
	for _, row := range rows {
		var id, rev string
		_, _ = json.Unmarshal(row[1], &id), json.Unmarshal(row[2], &rev)
		flags := 0
		if len(row) > 3 && r.version >= replicate.V3 {
			_ = json.Unmarshal(row[3], &flags)
		}
		have, known := r.docs[id]
		p := pendingRow{seq: string(row[0])}
		switch {
		case flags&6 != 0 && flags != 5:
			delete(r.docs, id)
			p.done = true
			answers = append(answers, "0")
		case known && have.rev == rev:
			p.done = true
			answers = append(answers, "0")
		case known:
			answers = append(answers, `["`+have.rev+`"]`)
		default:
			answers = append(answers, "[]")
		}
		r.pending = append(r.pending, p)
	}
	a.answer("["+strings.Join(answers, ",")+"]", "deltas", "true")
	r.advance()
}

// rev takes a revision, with its attachments.
func (w *world) rev(r *replica, a asked) {
	body := a.body
	if src := a.props["deltaSrc"]; src != "" {
		base := r.docs[a.props["id"]]
		if base.rev != src {
			a.r.Fail("HTTP", 422, "no such base")
			a.r.Release()
			return
		}
		whole, err := delta.Apply([]byte(base.body), []byte(body), delta.Limits{})
		if err != nil {
			w.o.fault("%s: a delta that cannot be applied: %v", r.name, err)
		}
		body = string(whole)
	}
	var doc struct {
		Attachments map[string]struct{ Digest string } `json:"_attachments"`
		Removed     bool                               `json:"_removed"`
	}
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		w.o.fault("%s: %v in %s", r.name, err, body)
	}
	for _, att := range doc.Attachments {
		got := r.c.call("getAttachment", "", "digest", att.Digest, "docID", a.props["id"])
		w.o.judge(r.user, "getAttachment", got.String())
	}
	if doc.Removed || a.props["deleted"] == "1" {
		delete(r.docs, a.props["id"])
	} else {
		r.docs[a.props["id"]] = held{a.props["rev"], body}
	}
	seq := a.props["sequence"]
	a.answer("")
	r.done(seq)
}

// done notes that a row is dealt with.
func (r *replica) done(seq string) {
	for i := range r.pending {
		if r.pending[i].seq == seq && !r.pending[i].done {
			r.pending[i].done = true
			break
		}
	}
	r.advance()
}

// advance moves the checkpoint over what is done.
func (r *replica) advance() {
	for len(r.pending) > 0 && r.pending[0].done {
		r.since = r.pending[0].seq
		r.pending = r.pending[1:]
	}
}

// write writes a document as an administrator.
func (w *world) write(id string, channels []string, deleted, attachment bool) {
	w.n++
	mark := fmt.Sprintf("mark-%d-", w.n)
	list, _ := json.Marshal(channels)
	body := fmt.Sprintf(`{"channels":%s,"mark":%q,"pad":%q`, list, mark, strings.Repeat("pad ", 80))
	if attachment {
		w.o.marks["mark-9"+fmt.Sprint(w.n)+"-"] = channels
		body += fmt.Sprintf(`,"_attachments":{"x":{"content_type":"text/plain","data":%q}}`, base64Of("mark-9"+fmt.Sprint(w.n)+"-"))
	}
	if rev := w.revs[id]; rev != "" {
		body += `,"_rev":"` + rev + `"`
	}
	if deleted {
		body += `,"_deleted":true`
	}
	w.revs[id] = w.e.put(id, body+"}")
	w.o.wrote(id, oracleDoc{mark: mark, channels: channels, deleted: deleted})
}

// step is one operation of a plan.
type step struct {
	what           int
	user, doc, who int
	channels       []string
	some           int
}

var (
	leakUsers    = []string{"bob", "eve"}
	leakChannels = []string{"A", "B", "C"}
	leakDocs     = []string{"doc-a", "doc-b", "doc-c", "doc-d", "doc-e"}
)

// do does one step.
func (w *world) do(s step) {
	user, id, r := leakUsers[s.user], leakDocs[s.doc], w.all[s.who]
	switch s.what {
	case 0, 1, 2:
		w.write(id, s.channels, false, s.some%3 == 0)
	case 3:
		if d := w.o.docs[id]; d != nil && !d.deleted {
			w.write(id, s.channels, true, false)
		}
	case 4: // an administrator changes what a user has
		w.o.grants[user] = map[string]bool{}
		for _, c := range s.channels {
			w.o.grants[user][c] = true
		}
		if _, err := w.e.db.Access().PutUser(w.t.Context(), user, access.UserUpdate{AdminChannels: s.channels}, false); err != nil {
			w.t.Fatal(err)
		}
		w.o.moved()
	case 5: // a document does
		grant, _ := json.Marshal(s.channels)
		key := "grants of " + user
		body := fmt.Sprintf(`{"grant":[[%q,%s]]`, user, grant)
		if rev := w.revs[key]; rev != "" {
			body += `,"_rev":"` + rev + `"`
		}
		w.revs[key] = w.e.put(key, body+"}")
		w.o.byDoc[user] = map[string]bool{}
		for _, c := range s.channels {
			w.o.byDoc[user][c] = true
		}
		w.o.moved()
	case 6, 7: // a client takes some of what has come
		w.take(r, s.some)
	case 8: // a client is cut off, and comes back
		r.c.conn.Drop(errAborted)
		synctest.Wait()
		w.dial(r)
	case 9: // it asks for what it may not have, and for what it has
		w.o.judge(r.user, "getRev", r.c.call("getRev", "", "id", "doc-"+id[4:]).String())
		got := r.c.call("getAttachment", "", "digest", digestOf(fmt.Appendf(nil, "mark-9%d-", s.some)), "docID", id)
		w.o.judge(r.user, "getAttachment", got.String())
	}
}

// settle lets everybody take everything, and compares.
func (w *world) settle() {
	for again := true; again; {
		again = false
		for _, r := range w.all {
			again = w.take(r, 1<<20) || again
		}
	}
	for _, r := range w.all {
		marks := map[string]string{}
		for id, h := range r.docs {
			marks[id] = markOf(h.body)
		}
		w.o.atRest(r.name, r.user, r.revocations, marks)
	}
	w.o.quiet()
}

// newWorld makes a world with clients of all kinds.
func newWorld(t *testing.T) *world {
	w := &world{t: t, e: newEnv(t, database.Options{}).strict(), o: newOracle(leakUsers...), revs: map[string]string{}}
	for _, user := range leakUsers {
		w.e.user(user)
		for i, r := range []replica{{version: replicate.V3, revocations: true, deltas: true}, {version: replicate.V4, revocations: true}, {version: replicate.V2}, {version: replicate.V3}} {
			r.name, r.user, r.docs = fmt.Sprintf("%c%d of %s", 'a'+i%2, i, user), user, map[string]held{}
			w.all = append(w.all, &r)
			w.dial(&r)
		}
	}
	return w
}

// TestNoLeaks plays random lives of a database to clients of all kinds.
func TestNoLeaks(t *testing.T) {
	if _, err := compiled(); err != nil {
		t.Fatal(err)
	}
	channels := rapid.SliceOfNDistinct(rapid.SampledFrom(leakChannels), 0, 2, rapid.ID[string])
	rapid.Check(t, func(rt *rapid.T) {
		plan := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
			return step{
				what: rapid.IntRange(0, 9).Draw(rt, "what"), user: rapid.IntRange(0, 1).Draw(rt, "user"), doc: rapid.IntRange(0, 4).Draw(rt, "doc"),
				who: rapid.IntRange(0, 7).Draw(rt, "who"), channels: append([]string{}, channels.Draw(rt, "channels")...), some: rapid.IntRange(1, 12).Draw(rt, "some"),
			}
		}), 1, 40).Draw(rt, "plan")
		var faults []string
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			for i, s := range plan {
				if w.do(s); i%8 == 7 {
					w.settle()
				}
			}
			w.settle()
			faults = w.o.faults
		})
		if len(faults) > 0 {
			rt.Fatalf("%s", strings.Join(faults, "\n"))
		}
	})
}

// TestDeletedUnseen: a document is deleted out of a channel and written again without one before the client has asked for
// the deletion. It must not keep what it has.
func TestDeletedUnseen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for _, s := range []step{{what: 4, user: 1, channels: []string{"C"}}, {what: 0, doc: 4, channels: []string{"C"}}} {
			w.do(s)
		}
		w.settle()
		synctest.Wait()
		w.do(step{what: 3, doc: 4, channels: []string{}})
		synctest.Wait() // the deletion is on its way
		w.do(step{what: 0, doc: 4, channels: []string{}, some: 1})
		w.settle()
		for _, fault := range w.o.faults {
			t.Error(fault)
		}
	})
}

// TestOracle: what it is for is seen.
func TestOracle(t *testing.T) {
	o := newOracle("bob")
	o.grants["bob"]["A"] = true
	o.wrote("doc-a", oracleDoc{mark: "mark-1-", channels: []string{"A"}})
	o.wrote("doc-b", oracleDoc{mark: "mark-2-", channels: []string{"B"}})
	for _, tt := range []struct {
		name  string
		fault bool
		do    func()
	}{
		{"what he may see", false, func() { o.judge("bob", "rev", `{"id":"doc-a","mark":"mark-1-"}`) }},
		{"a secret body", true, func() { o.judge("bob", "rev", `{"mark":"mark-2-"}`) }},
		{"a secret attachment", true, func() { o.judge("bob", "getAttachment", `hello mark-2-`) }},
		{"a secret document's name", true, func() { o.judge("bob", "changes", `[[2,"doc-b","1-aa"]]`) }},
		{"all is well", false, func() { o.atRest("bob", "bob", true, map[string]string{"doc-a": "mark-1-"}) }},
		{"a document is missing", true, func() { o.atRest("bob", "bob", true, nil) }},
		{"an old revision", true, func() { o.atRest("bob", "bob", true, map[string]string{"doc-a": "mark-0-"}) }},
		{"one too many", true, func() { o.atRest("bob", "bob", true, map[string]string{"doc-a": "mark-1-", "doc-b": "mark-2-"}) }},
		{"from nowhere", true, func() { o.atRest("bob", "bob", true, map[string]string{"doc-a": "mark-1-", "doc-z": ""}) }},
		{"lost, and under way", false, func() { o.grants["bob"] = nil; o.moved(); o.judge("bob", "rev", "mark-1-") }},
		{"lost for good", true, func() { o.quiet(); o.judge("bob", "rev", "mark-1-") }},
		{"kept by one who is not told", false, func() { o.atRest("bob", "bob", false, map[string]string{"doc-a": "mark-1-"}) }},
		{"not purged", true, func() { o.atRest("bob", "bob", true, map[string]string{"doc-a": "mark-1-"}) }},
	} {
		o.faults = nil
		if tt.do(); (len(o.faults) > 0) != tt.fault {
			t.Errorf("%s: %v", tt.name, o.faults)
		}
	}
}

// base64Of is what inline data looks like.
func base64Of(s string) string {
	b, _ := json.Marshal([]byte(s))
	return strings.Trim(string(b), `"`)
}
