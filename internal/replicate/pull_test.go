package replicate_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/replicate"
)

// TestOneShotPull is replication.md §15.1.
func TestOneShotPull(t *testing.T) {
	e := newEnv(t, database.Options{})
	e.user("bob", "A")
	one := e.put("doc1", `{"channels":["A"],"n":1}`)
	two := e.put("doc2", `{"channels":["A"],"n":1}`)
	two2 := e.put("doc2", `{"channels":["A"],"n":2,"_rev":"`+two+`"}`)
	e.put("other", `{"channels":["B"]}`)
	four := e.put("doc4", `{"channels":["A"]}`)
	four2 := e.put("doc4", `{"_rev":"`+four+`","_deleted":true}`)
	five := e.put("doc5", `{"channels":["A"],"_attachments":{"hello.txt":{"data":"aGVsbG8=","content_type":"text/plain"}}}`)
	if one != "1-67a06e8ba083e88a8b4a9ad87b73ca37" {
		t.Errorf("digest rule: %s", one)
	}
	c := e.as("bob")
	c.must("subChanges", "", "batch", "200", "sendReplacementRevs", "1", "revocations", "true")
	changes := c.expect("changes")
	want := `[[2,"doc1","` + one + `"],[4,"doc2","` + two2 + `"],[7,"doc4","` + four2 + `",5],[8,"doc5","` + five + `"]]`
	if changes.body != want || !changes.r.Urgent() || changes.r.NoReply() {
		t.Fatalf("changes: %s\n   want: %s", changes.body, want)
	}
	changes.answer(`[[],["`+two+`"],[],[]]`, "maxHistory", "50", "deltas", "true", "blobs", "true")
	got := map[string]asked{}
	for range 5 {
		a := c.next()
		if a.profile == "changes" {
			if a.body != "null" || !a.r.NoReply() {
				t.Errorf("caught up: %s", a.body)
			}
			continue
		}
		got[a.props["id"]] = a
	}
	check := func(id, rev, history, sequence, deleted, body string, noReply bool) {
		t.Helper()
		a := got[id]
		if a.props["rev"] != rev || a.props["history"] != history || a.props["sequence"] != sequence || a.props["deleted"] != deleted ||
			a.body != body || a.r.NoReply() != noReply {
			t.Errorf("%s: %v %s, no reply %v", id, a.props, a.body, a.r.NoReply())
		}
	}
	check("doc1", one, "", "2", "", `{"channels":["A"],"n":1}`, true)
	check("doc2", two2, two, "4", "", `{"channels":["A"],"n":2}`, true)
	check("doc4", four2, four, "7", "1", `{}`, true)
	check("doc5", five, "", "8", "", `{"_attachments":{"hello.txt":{"content_type":"text/plain","digest":"sha1-qvTGHdzF6KLavt4PO0gs2a6pQ00=","length":5,"revpos":1,"stub":true}},"channels":["A"]}`, false)
	// The attachment may be asked for as long as the revision is not answered.
	const digest = "sha1-qvTGHdzF6KLavt4PO0gs2a6pQ00="
	if got := c.must("getAttachment", "", "digest", digest, "docID", "doc5", "compress", "true").body; got != "hello" {
		t.Errorf("attachment: %q", got)
	}
	for _, tt := range []struct {
		props []string
		want  string
	}{
		{[]string{"digest", digest, "docID", "doc1"}, "HTTP/403: Attachment's doc not being synced"},
		{[]string{"digest", "sha1-x", "docID", "doc5"}, "HTTP/403: Attachment's doc not being synced"},
		{[]string{"digest", digest}, "HTTP/400: Missing 'docID'"},
		{[]string{"docID", "doc5"}, "HTTP/400: Missing 'digest'"},
	} {
		if got := c.call("getAttachment", "", tt.props...).String(); got != tt.want {
			t.Errorf("%v: %s", tt.props, got)
		}
	}
	got["doc5"].answer("")
	c.must("PING", "") // what was sent before has been read
	if got := c.call("getAttachment", "", "digest", digest, "docID", "doc5").String(); got != "HTTP/403: Attachment's doc not being synced" {
		t.Errorf("after the answer: %s", got)
	}
	// Nothing is left, and a new subscription is allowed.
	if p := c.pullAll("since", "8"); len(p.rows) != 0 {
		t.Errorf("after all: %v", p.rows)
	}
	if p := c.pullAll("since", `"8"`, "activeOnly", "true"); len(p.rows) != 0 {
		t.Errorf("after all, active only: %v", p.rows)
	}
}

// TestContinuousPull is replication.md §15.2: caught up once, then what is written.
func TestContinuousPull(t *testing.T) {
	e := newEnv(t, database.Options{})
	e.user("bob", "A")
	c := e.as("bob")
	c.must("subChanges", "", "continuous", "true", "activeOnly", "true")
	if a := c.expect("changes"); a.body != "null" {
		t.Fatalf("first: %s", a.body)
	}
	rev := e.put("d2", `{"channels":["A"]}`)
	a := c.expect("changes")
	if a.body != `[[2,"d2","`+rev+`"]]` {
		t.Fatalf("a write: %s", a.body)
	}
	a.answer("[[]]")
	if a := c.expect("rev"); a.props["id"] != "d2" {
		t.Errorf("rev: %v", a.props)
	}
	// activeOnly is about catching up: deletions come from then on.
	gone := e.put("d2", `{"_rev":"`+rev+`","_deleted":true}`)
	a = c.expect("changes")
	if a.body != `[[3,"d2","`+gone+`",5]]` {
		t.Errorf("a deletion: %s", a.body)
	}
	a.answer("[0]")
	e.put("x", `{"channels":["B"]}`)
	e.put("y", `{"channels":["A"]}`)
	if a := c.expect("changes"); !strings.HasPrefix(a.body, `[[5,"y"`) {
		t.Errorf("another channel's: %s", a.body)
	}
}

// TestActiveOnly leaves deletions out of the first catching up only.
func TestActiveOnly(t *testing.T) {
	e := newEnv(t, database.Options{})
	rev := e.put("gone", `{"channels":["A"]}`)
	e.put("gone", `{"_rev":"`+rev+`","_deleted":true}`)
	e.put("here", `{"channels":["A"]}`)
	c := e.dial(replicate.Peer{Admin: true})
	if p := c.pullAll("activeOnly", "true"); len(p.rows) != 1 || !strings.Contains(p.rows[0], "here") {
		t.Errorf("active only: %v", p.rows)
	}
	if p := c.pullAll("activeOnly", "false"); len(p.rows) != 2 {
		t.Errorf("all: %v", p.rows)
	}
	if p := c.pullAll("future", "true"); len(p.rows) != 0 {
		t.Errorf("future: %v", p.rows)
	}
}

// TestFilters: channels and document IDs.
func TestFilters(t *testing.T) {
	e := newEnv(t, database.Options{})
	e.user("bob", "A", "B")
	for _, id := range []string{"A", "B", "C"} {
		e.put("in"+id, `{"channels":["`+id+`"]}`)
	}
	c := e.as("bob")
	for _, tt := range []struct{ channels, want string }{{"A", "inA"}, {"B,C", "inB"}, {"A,B", "inA inB"}, {"C", ""}} {
		p := c.pullAll("filter", "sync_gateway/bychannel", "channels", tt.channels)
		if got := ids(p.rows); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.channels, got, tt.want)
		}
	}
	c.must("subChanges", `{"docIDs":["inA","inC","nowhere"]}`)
	if a := c.expect("changes"); !strings.Contains(a.body, "inA") || strings.Contains(a.body, "inC") || strings.Contains(a.body, "inB") {
		t.Errorf("docIDs: %s", a.body)
	}
}

// ids are the documents of rows, in order.
func ids(rows []string) string {
	var all []string
	for _, row := range rows {
		all = append(all, strings.Fields(row)[1])
	}
	return strings.Join(all, " ")
}

// grant changes the channels of a user.
func (e *env) grant(user string, channels ...string) {
	e.t.Helper()
	if channels == nil {
		channels = []string{}
	}
	if _, err := e.db.Access().PutUser(e.t.Context(), user, access.UserUpdate{AdminChannels: channels}, false); err != nil {
		e.t.Fatal(err)
	}
}

// TestRevocation is replication.md §15.7: a user loses and regains a channel, and a document moves away.
func TestRevocation(t *testing.T) {
	for _, v := range []replicate.Version{replicate.V3, replicate.V2} {
		e := newEnv(t, database.Options{})
		e.user("bob", "A", "B")
		e.put("onlyA", `{"channels":["A"]}`)
		e.put("both", `{"channels":["A","B"]}`)
		onlyB := e.put("onlyB", `{"channels":["B"]}`)
		c := e.dial(replicate.Peer{User: "bob", Version: v})
		c.must("subChanges", "", "continuous", "true", "revocations", "true")
		row := func() string {
			t.Helper()
			a := c.expect("changes")
			defer a.answer("[]")
			return a.body
		}
		if got := row(); strings.Count(got, `"`) != 12 {
			t.Errorf("version %d: at first %s", v, got)
		}
		if a := c.expect("changes"); a.body != "null" {
			t.Errorf("caught up: %s", a.body)
		}
		e.grant("bob", "B")
		want := map[replicate.Version]string{replicate.V3: `["5:2","onlyA","1-`, replicate.V2: `["5:2","onlyA","1-`}[v]
		got := row()
		if !strings.HasPrefix(got, "["+want) || strings.Contains(got, "both") || strings.HasSuffix(got, ",2]]") != (v == replicate.V3) {
			t.Errorf("version %d: revoked %s", v, got)
		}
		e.grant("bob", "A", "B")
		if got := row(); !strings.HasPrefix(got, `[["6:2","onlyA"`) || !strings.Contains(got, `["6:3","both"`) || strings.Contains(got, "2]") {
			t.Errorf("version %d: given back %s", v, got)
		}
		e.put("onlyB", `{"channels":["C"],"_rev":"`+onlyB+`"}`)
		got = row()
		if !strings.HasPrefix(got, `[[7,"onlyB","2-`) || strings.HasSuffix(got, `,4]]`) != (v == replicate.V3) {
			t.Errorf("version %d: moved away %s", v, got)
		}
	}
}

// TestRemovalWithoutRevocations: whoever did not ask is not told of removals, in version 2 it is an ordinary row
// whose revision says what it is.
func TestRemovalWithoutRevocations(t *testing.T) {
	e := newEnv(t, database.Options{})
	e.user("bob", "A")
	rev := e.put("d", `{"channels":["A"],"secret":1}`)
	e.put("d", `{"channels":["B"],"secret":2,"_rev":"`+rev+`"}`)
	if p := e.as("bob").pullAll(); len(p.rows) != 0 {
		t.Errorf("version 3: %v", p.rows)
	}
	p := e.dial(replicate.Peer{User: "bob", Version: replicate.V2}).pullAll()
	if len(p.rows) != 1 || p.revs["d"].body != `{"_removed":true}` || p.revs["d"].props["deleted"] != "" {
		t.Errorf("version 2: %v %s", p.rows, p.revs["d"].body)
	}
	// A peer that asks for a removed row all the same gets no more.
	c := e.as("bob")
	c.must("subChanges", "", "revocations", "true")
	c.expect("changes").answer("[[]]")
	for a := c.next(); ; a = c.next() {
		if a.profile == "rev" {
			if a.body != `{"_removed":true}` {
				t.Errorf("asked for: %s", a.body)
			}
			break
		}
	}
}

// TestReplacement: a revision whose body is gone is replaced by the current one, or said not to come.
func TestReplacement(t *testing.T) {
	for _, replace := range []bool{true, false} {
		e := newEnv(t, database.Options{OldRevExpiry: -1})
		e.user("bob", "A")
		rev := e.put("d", `{"channels":["A"],"n":1}`)
		c := e.as("bob")
		var props []string
		if replace {
			props = []string{"sendReplacementRevs", "true"}
		}
		c.must("subChanges", "", props...)
		changes := c.expect("changes")
		rev2 := e.put("d", `{"channels":["A"],"n":2,"_rev":"`+rev+`"}`)
		if err := e.db.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		changes.answer("[[]]")
		a := c.next()
		for a.profile == "changes" {
			a = c.next()
		}
		if replace {
			if a.profile != "rev" || a.props["rev"] != rev2 || a.props["replacedRev"] != rev || a.props["sequence"] != "2" {
				t.Errorf("replacement: %s %v", a.profile, a.props)
			}
		} else if a.profile != "norev" || a.props["rev"] != rev || a.props["sequence"] != "2" || a.props["error"] != "404" || !a.r.NoReply() {
			t.Errorf("no replacement: %s %v", a.profile, a.props)
		}
	}
}

// TestHistoryIsCut: after the first ancestor that the peer has, and after maxHistory.
func TestHistoryIsCut(t *testing.T) {
	e := newEnv(t, database.Options{})
	var revs []string
	rev := ""
	for range 5 {
		body := `{"n":` + string(rune('1'+len(revs))) + `}`
		if rev != "" {
			body = `{"_rev":"` + rev + `",` + body[1:]
		}
		rev = e.put("d", body)
		revs = append(revs, rev)
	}
	slices.Reverse(revs)
	for _, tt := range []struct {
		answer string
		props  []string
		want   int
	}{
		{`[[]]`, nil, 4},
		{`[["` + revs[2] + `","` + revs[4] + `"]]`, nil, 2},
		{`[[]]`, []string{"maxHistory", "1"}, 1},
		{`[["9-unknown"]]`, []string{"maxHistory", "3"}, 3},
	} {
		c := e.dial(replicate.Peer{Admin: true})
		c.must("subChanges", "")
		c.expect("changes").answer(tt.answer, tt.props...)
		a := c.next()
		for a.profile == "changes" {
			a = c.next()
		}
		if want := strings.Join(revs[1:1+tt.want], ","); a.props["history"] != want {
			t.Errorf("%s %v: history %s, want %s", tt.answer, tt.props, a.props["history"], want)
		}
	}
}

// TestUserGoes: a user who is deleted while connected gets nothing any more, and the connection ends without a goodbye.
func TestUserGoes(t *testing.T) {
	e := newEnv(t, database.Options{})
	e.user("bob", "A")
	c := e.as("bob")
	c.must("subChanges", "", "continuous", "true")
	c.expect("changes")
	if err := e.db.Access().DeleteUser(t.Context(), "bob"); err != nil {
		t.Fatal(err)
	}
	e.put("d", `{"channels":["A"]}`)
	if err := <-c.over; tidegate.ErrorCode(err) != tidegate.NotFound {
		t.Errorf("ended with %v", err)
	}
	select {
	case r := <-c.in:
		t.Errorf("got %s", r.Profile())
	default:
	}
}
