package replicate_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/replicate"
)

// TestProposals walks the statuses of replication.md §5.7 and the form of the answer.
func TestProposals(t *testing.T) {
	for _, v := range []replicate.Version{replicate.V2, replicate.V3, replicate.V4} {
		e := newEnv(t, database.Options{})
		one := e.put("p1", `{"channels":["A"]}`)
		two := e.put("p1", `{"channels":["A"],"_rev":"`+one+`"}`)
		dead := e.put("dead", `{}`)
		tomb := e.put("dead", `{"_rev":"`+dead+`","_deleted":true}`)
		c := e.dial(replicate.Peer{Admin: true, Version: v})
		conflict := `{"status":409,"rev":"` + two + `"}`
		for _, tt := range []struct{ rows, want string }{
			{`[["new","1-ab"]]`, `[]`},
			{`[["new","1-ab",""],["new2","1-ab",null,77],["new3","2-ab","1-aa",5]]`, `[]`},
			{`[["p1","` + two + `"]]`, `[304]`},
			{`[["p1","` + one + `"]]`, `[304]`},
			{`[["p1","3-cc","` + two + `"],["p1","` + two + `"],["new","1-ab"]]`, `[0,304]`},
			{`[["p1","3-dd","` + one + `"],["new","1-ab"],["p1","2-ee"],["p1","3-cc","` + two + `",99]]`, `[` + conflict + `,0,` + conflict + `]`},
			{`[["dead","2-ff"],["dead","2-ff","` + tomb + `"],["dead","2-ff","1-unknown"]]`, `[]`},
			{`[["dead","2-ff","` + dead + `"]]`, `[{"status":409,"rev":"` + tomb + `"}]`},
			{`[["","1-ab"],["_x","1-ab"],["x","nonsense"],["x",""],["p1","` + two + `"]]`, `[400,400,400,400,304]`},
			{`[]`, ``}, {`null`, ``}, {` [ ] `, ``}, {``, ``},
		} {
			r := c.must("proposeChanges", tt.rows, "conflictIncludesRev", "true")
			if r.body != tt.want {
				t.Errorf("version %d, %s: %s, want %s", v, tt.rows, r.body, tt.want)
			}
			if _, ok := r.props["deltas"]; ok {
				t.Errorf("%s: deltas are announced", tt.rows)
			}
		}
		if got := c.must("proposeChanges", `[["p1","3-dd","`+one+`"],["a","1-aa"]]`).body; got != `[409]` {
			t.Errorf("without conflictIncludesRev: %s", got)
		}
		if got := c.must("proposeChanges", `[["p1","3-dd","`+one+`"]]`, "conflictIncludesRev", "1").body; got != `[`+conflict+`]` {
			t.Errorf("conflictIncludesRev=1: %s", got)
		}
		for _, bad := range []string{`{}`, `"x"`, `7`, `[`, `[7]`, `[[]]`, `[["x"]]`, `[[1,"1-aa"]]`, `[["x",1]]`, `[["x","1-aa",1]]`, `[["x","1-aa",[[[[]]]]]]`} {
			if got := c.call("proposeChanges", bad).String(); !strings.HasPrefix(got, "HTTP/400") {
				t.Errorf("version %d, %s: %s", v, bad, got)
			}
		}
		if got := c.call("changes", `[[1,"n1","1-abcd"]]`).String(); got != "HTTP/409: Use 'proposeChanges' instead" {
			t.Errorf("changes: %s", got)
		}
	}
}

// TestProposalsAnnounceDeltas: only where the database has them.
func TestProposalsAnnounceDeltas(t *testing.T) {
	e := newEnv(t, database.Options{})
	c := e.dial(replicate.Peer{Admin: true, Deltas: true})
	if r := c.must("proposeChanges", `[["a","1-aa"]]`); r.props["deltas"] != "true" {
		t.Errorf("got %v", r.props)
	}
}

// TestRevErrors is replication.md §5.8: what is refused, with which status.
func TestRevErrors(t *testing.T) {
	for _, v := range []replicate.Version{replicate.V2, replicate.V3, replicate.V4} {
		e := newEnv(t, database.Options{MaxDocumentBytes: 4000})
		e.user("bob", "A")
		c := e.dial(replicate.Peer{User: "bob", Version: v})
		c.must("rev", `{"channels":["A"]}`, "id", "here", "rev", "1-aa")
		for _, tt := range []struct {
			body  string
			props []string
			want  string
		}{
			{`{}`, []string{"rev", "1-aa"}, "HTTP/400: "},
			{`{}`, []string{"id", "x"}, "HTTP/400: "},
			{`{}`, []string{"id", "", "rev", ""}, "HTTP/400: "},
			{`{}`, []string{"id", "_x", "rev", "1-aa"}, "HTTP/400: Invalid doc ID"},
			{`{}`, []string{"id", "_design/x", "rev", "1-aa"}, "HTTP/400: Invalid doc ID"},
			{`{}`, []string{"id", "\xff", "rev", "1-aa"}, "HTTP/400: Invalid doc ID"},
			{`{}`, []string{"id", strings.Repeat("x", 251), "rev", "1-aa"}, "HTTP/400: Invalid doc ID"},
			{`{}`, []string{"id", "x", "rev", "1-"}, "HTTP/400: Invalid revision ID"},
			{`{}`, []string{"id", "x", "rev", "0-aa"}, "HTTP/400: Invalid revision ID"},
			{`{}`, []string{"id", "x", "rev", "1-" + strings.Repeat("a", 300)}, "HTTP/400: Invalid revision ID"},
			{`{}`, []string{"id", "x", "rev", "2-aa", "history", "nonsense"}, "HTTP/400: Invalid revision ID"},
			{`{}`, []string{"id", "x", "rev", "2-aa", "history", "2-aa"}, "HTTP/400: "},
			{`{}`, []string{"id", "x", "rev", "2-aa", "history", "3-bb,1-cc"}, "HTTP/400: "},
			{`{}`, []string{"id", "x", "rev", "5-aa", "history", "4-bb,4-bb"}, "HTTP/400: "},
			{`{}`, []string{"id", "x", "rev", "1-aa", "noconflicts", "perhaps"}, "HTTP/400: "},
			{`{"_id":"x"}`, []string{"id", "x", "rev", "1-aa"}, "HTTP/404: Document revision contains a reserved internal property"},
			{`{"_rev":"1-aa"}`, []string{"id", "x", "rev", "1-aa"}, "HTTP/404: "},
			{`{"_deleted":true}`, []string{"id", "x", "rev", "1-aa"}, "HTTP/404: "},
			{`{"_revisions":{}}`, []string{"id", "x", "rev", "1-aa"}, "HTTP/404: "},
			{`{"_sync":{}}`, []string{"id", "x", "rev", "1-aa"}, "HTTP/404: "},
			{`{"_removed":true}`, []string{"id", "x", "rev", "1-aa"}, "HTTP/404: "},
			{`{"_purged":true}`, []string{"id", "x", "rev", "1-aa"}, "HTTP/400: "},
			{`{"_sync_x":1}`, []string{"id", "x", "rev", "1-aa"}, "HTTP/400: "},
			{`{"_exp":"never"}`, []string{"id", "x", "rev", "1-aa"}, "HTTP/400: "},
			{`{"_attachments":1}`, []string{"id", "x", "rev", "1-aa"}, "HTTP/400: "},
			{`{"_attachments":{"x":1}}`, []string{"id", "x", "rev", "1-aa"}, "HTTP/400: "},
			{`{"_attachments":{"x":{"data":"%"}}}`, []string{"id", "x", "rev", "1-aa"}, "HTTP/400: "},
			{`[]`, []string{"id", "x", "rev", "1-aa"}, "HTTP/500: "},
			{`nonsense`, []string{"id", "x", "rev", "1-aa"}, "HTTP/500: "},
			{`{"a":1,"a":2}`, []string{"id", "x", "rev", "1-aa"}, "HTTP/500: "},
			{``, []string{"id", "x", "rev", "1-aa"}, "HTTP/500: "},
			{`{"x":"` + strings.Repeat("x", 4000) + `"}`, []string{"id", "x", "rev", "1-aa"}, "HTTP/413: "},
			{`{"forbid":"not you"}`, []string{"id", "x", "rev", "1-aa"}, "HTTP/403: not you"},
			{`{"boom":1}`, []string{"id", "x", "rev", "1-aa"}, "HTTP/500: Exception in JS sync function"},
			{`{"onlyBy":"alice"}`, []string{"id", "x", "rev", "1-aa"}, "HTTP/403: "},
			{`{}`, []string{"id", "here", "rev", "2-cc", "history", "1-bb", "noconflicts", "1"}, "HTTP/409: Document revision conflict"},
			{`{}`, []string{"id", "here", "rev", "1-bb"}, "HTTP/409: Document revision conflict"},
			{`{"x":[]}`, []string{"id", "here", "rev", "2-bb", "history", "1-aa", "deltaSrc", "1-aa"}, "HTTP/400: Deltas are disabled for this peer"},
		} {
			for _, profile := range []string{"rev", "putRev"} {
				if got := c.call(profile, tt.body, tt.props...).String(); !strings.HasPrefix(got, tt.want) {
					t.Errorf("version %d, %s %v %.60s: %s, want %s", v, profile, tt.props, tt.body, got, tt.want)
				}
			}
		}
		if got := e.get("x"); got != "" {
			t.Errorf("version %d: something was stored: %s", v, got)
		}
		if got := e.get("here"); !strings.Contains(got, `"1-aa"`) {
			t.Errorf("version %d: here is %s", v, got)
		}
	}
}

// TestRevs is what is taken, and what it becomes.
func TestRevs(t *testing.T) {
	for _, v := range []replicate.Version{replicate.V2, replicate.V3, replicate.V4} {
		e := newEnv(t, database.Options{})
		e.user("bob", "A")
		c := e.dial(replicate.Peer{User: "bob", Version: v})
		for _, step := range []struct {
			body  string
			props []string
			want  string // of the document afterwards
		}{
			{`{"channels":["A"],"n":1}`, []string{"rev", "1-aa", "sequence", "1", "noconflicts", "1"}, `{"_id":"d","_rev":"1-aa","channels":["A"],"n":1}`},
			{`{"channels":["A"],"n":9}`, []string{"rev", "1-aa"}, `{"_id":"d","_rev":"1-aa","channels":["A"],"n":1}`}, // known
			{`{"channels":["A"],"n":3}`, []string{"rev", "3-cc", "history", "2-bb, 1-aa"}, `{"_id":"d","_rev":"3-cc","channels":["A"],"n":3}`},
			{`{"channels":["A"],"n":8}`, []string{"rev", "2-bb", "history", "1-aa"}, `{"_id":"d","_rev":"3-cc","channels":["A"],"n":3}`}, // known as an ancestor
			{`{"channels":["A"],"_own":1}`, []string{"rev", "4-dd", "history", "3-cc", "deleted", "0", "noconflicts", "true"}, `{"_id":"d","_rev":"4-dd","channels":["A"],"_own":1}`},
			{`{}`, []string{"rev", "5-ee", "history", "4-dd", "deleted", "1"}, ``},
			{`{"channels":["A"],"n":6}`, []string{"rev", "1-ff"}, `{"_id":"d","_rev":"1-ff","channels":["A"],"n":6}`}, // resurrection, nothing known
			{`{"channels":["A"],"n":9}`, []string{"rev", "9-gg", "history", "8-hh,1-ff"}, `{"_id":"d","_rev":"9-gg","channels":["A"],"n":9}`},
		} {
			if got := c.call("rev", step.body, append([]string{"id", "d"}, step.props...)...); got.err != nil || got.body != "" {
				t.Errorf("version %d, %v: %s", v, step.props, got)
			}
			if got := e.get("d"); got != step.want && v != replicate.V4 || (got == "") != (step.want == "") {
				t.Errorf("version %d, %v: the document is %s, want %s", v, step.props, got, step.want)
			}
		}
	}
}

// TestPushedTombstone: conflict rule (c) of replication.md §7 and what readers get of one with a body.
func TestPushedTombstone(t *testing.T) {
	e := newEnv(t, database.Options{AllowConflicts: true})
	e.user("bob", "A")
	c := e.as("bob")
	c.must("rev", `{"channels":["A"]}`, "id", "d", "rev", "1-aa")
	c.must("rev", `{"channels":["A"],"b":1}`, "id", "d", "rev", "2-bb", "history", "1-aa")
	c.must("rev", `{"channels":["A"],"b":2}`, "id", "d", "rev", "2-cc", "history", "1-aa")
	if got := c.call("rev", `{}`, "id", "d", "rev", "2-dd", "history", "1-aa", "noconflicts", "1").String(); got != "HTTP/409: Document revision conflict" {
		t.Errorf("noconflicts where conflicts are allowed: %s", got)
	}
	c.must("rev", `{"why":"lost"}`, "id", "d", "rev", "3-ee", "history", "2-bb,1-aa", "deleted", "true", "noconflicts", "1")
	if got := e.get("d"); !strings.Contains(got, `"2-cc"`) {
		t.Errorf("the winner is %s", got)
	}
	c.must("rev", `{"channels":["A"],"why":"gone"}`, "id", "d", "rev", "3-ff", "history", "2-cc", "deleted", "true")
	p := e.as("bob").pullAll()
	if a := p.revs["d"]; a.props["deleted"] != "1" || a.body != `{"channels":["A"],"why":"gone"}` {
		t.Errorf("the tombstone is %v %s", a.props, a.body)
	}
}

// TestPushedExpiry: _exp is the document's, not its body's.
func TestPushedExpiry(t *testing.T) {
	e := newEnv(t, database.Options{})
	c := e.dial(replicate.Peer{Admin: true})
	c.must("rev", `{"_exp":4102444800,"n":1}`, "id", "d", "rev", "1-aa")
	doc, err := e.admin.Get(t.Context(), "d", database.GetOptions{})
	if err != nil || doc.Expiry.Unix() != 4102444800 || string(doc.Body) != `{"n":1}` {
		t.Errorf("%+v %v", doc, err)
	}
}

// TestReadOnly: a guest who may only read, and a database in which nobody may write.
func TestReadOnly(t *testing.T) {
	e := newEnv(t, database.Options{})
	enabled := false
	if _, err := e.db.Access().PutUser(t.Context(), "", access.UserUpdate{Disabled: &enabled, AdminChannels: []string{"A"}}, true); err != nil {
		t.Fatal(err)
	}
	e.put("d", `{"channels":["A"]}`)
	guest := e.dial(replicate.Peer{ReadOnly: true})
	for _, profile := range []string{"rev", "putRev"} {
		if got := guest.call(profile, `{}`, "id", "x", "rev", "1-aa").String(); got != "HTTP/403: Anonymous access is read-only" {
			t.Errorf("the guest's %s: %s", profile, got)
		}
	}
	guest.must("setCheckpoint", `{"n":1}`, "client", "cp")
	if p := guest.pullAll(); ids(p.rows) != "d" {
		t.Errorf("the guest reads %v", p.rows)
	}
	e = newEnv(t, database.Options{ReadOnly: true})
	c := e.dial(replicate.Peer{Admin: true})
	if got := c.must("proposeChanges", `[["x","1-aa"]]`).body; got != `[403]` {
		t.Errorf("a proposal: %s", got)
	}
	if got := c.call("rev", `{}`, "id", "x", "rev", "1-aa").String(); got != "HTTP/403: Database is read-only" {
		t.Errorf("a revision: %s", got)
	}
	if p := c.pullAll(); len(p.rows) != 0 {
		t.Errorf("a pull: %v", p.rows)
	}
}

// TestWriteBlock: a client is told what passes (replication.md §5.8: 403 would be for good), on a connection that was open already, and comes
// through once writes are let through, or with the role that bypasses the block.
func TestWriteBlock(t *testing.T) {
	e := newEnv(t, database.Options{})
	e.user("bob", "A")
	c := e.dial(replicate.Peer{User: "bob"})
	c.must("rev", `{"channels":["A"]}`, "id", "before", "rev", "1-aa")
	if err := e.db.SetWriteBlock(t.Context(), database.WriteBlock{Blocked: true, BypassRole: "movers"}); err != nil {
		t.Fatal(err)
	}
	for _, profile := range []string{"rev", "putRev"} {
		if got := c.call(profile, `{"channels":["A"]}`, "id", "x", "rev", "1-aa").String(); got != "HTTP/503: Database writes are blocked" {
			t.Errorf("a blocked %s: %s", profile, got)
		}
	}
	c.must("setCheckpoint", `{"n":1}`, "client", "cp")
	if p := c.pullAll(); ids(p.rows) != "before" {
		t.Errorf("bob reads %v", p.rows)
	}
	if got := e.get("x"); got != "" {
		t.Errorf("stored: %s", got)
	}
	if _, err := e.db.Access().PutRole(t.Context(), "movers", access.RoleUpdate{}, true); err != nil {
		t.Fatal(err)
	}
	password := access.NewSecret("letmein")
	if _, err := e.db.Access().PutUser(t.Context(), "mover", access.UserUpdate{Password: &password, AdminRoles: []string{"movers"}}, true); err != nil {
		t.Fatal(err)
	}
	e.dial(replicate.Peer{User: "mover"}).must("rev", `{"channels":["A"]}`, "id", "moved", "rev", "1-aa")
	if err := e.db.SetWriteBlock(t.Context(), database.WriteBlock{}); err != nil {
		t.Fatal(err)
	}
	c.must("rev", `{"channels":["A"]}`, "id", "x", "rev", "1-aa")
}

// TestGetRev is replication.md §5.12.
func TestGetRev(t *testing.T) {
	e := newEnv(t, database.Options{})
	e.user("bob", "A")
	rev := e.put("d", `{"channels":["A"],"n":1}`)
	e.put("secret", `{"channels":["B"]}`)
	gone := e.put("gone", `{"channels":["A"]}`)
	e.put("gone", `{"_rev":"`+gone+`","_deleted":true}`)
	c := e.as("bob")
	for _, tt := range []struct {
		props []string
		want  string
	}{
		{[]string{"id", "d"}, "rev=" + rev + ` {"channels":["A"],"n":1}`},
		{[]string{"id", "d", "ifNotRev", "1-aa"}, "rev=" + rev + ` {"channels":["A"],"n":1}`},
		{[]string{"id", "d", "ifNotRev", rev}, "HTTP/304: Not modified"},
		{[]string{"id", "secret"}, "HTTP/403: forbidden"},
		{[]string{"id", "gone"}, "HTTP/403: forbidden"},
		{[]string{"id", "nowhere"}, "HTTP/404: missing"},
		{[]string{"id", "_x"}, "HTTP/404: missing"},
		{nil, "HTTP/400: Missing docID or revID"},
	} {
		if got := c.call("getRev", "", tt.props...).String(); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.props, got, tt.want)
		}
	}
	hidden := e.dial(replicate.Peer{User: "bob", HideMissing: true})
	if got := hidden.call("getRev", "", "id", "nowhere").String(); got != "HTTP/403: forbidden" {
		t.Errorf("nothing, hidden: %s", got)
	}
}

// TestReplyAfterDurability: what was answered is there for whoever opens the store again (I1). The store in memory forgets
// what was not synced when its file system is cloned as a crash leaves it; here the order is what counts: a
// reader who is told of the reply finds the document.
func TestReplyAfterDurability(t *testing.T) {
	e := newEnv(t, database.Options{})
	c := e.dial(replicate.Peer{Admin: true})
	for i := range 50 {
		id := fmt.Sprintf("d%d", i)
		c.must("rev", `{}`, "id", id, "rev", "1-aa")
		if doc, err := e.admin.Get(t.Context(), id, database.GetOptions{}); err != nil || doc.Rev != (tidegate.RevID{Generation: 1, Digest: "aa"}) {
			t.Fatalf("%s: %v", id, err)
		}
	}
}
