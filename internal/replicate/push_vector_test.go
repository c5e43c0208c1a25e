package replicate_test

import (
	"strings"
	"testing"

	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/replicate"
)

// source is a source of versions, by a name of letters.
func source(name string) string { return name + strings.Repeat("A", 22-len(name)) }

// at is a version.
func at(time, name string) string { return time + "@" + source(name) }

// versionOf is the current version of a document.
func (e *env) versionOf(id string) string {
	e.t.Helper()
	doc, err := e.admin.Get(e.t.Context(), id, database.GetOptions{})
	if err != nil {
		e.t.Fatal(err)
	}
	v, _ := doc.Version()
	return v.Current.String()
}

// TestVectorPush is replication.md §5.7, §5.8 and §7 for version 4.
func TestVectorPush(t *testing.T) {
	e := newEnv(t, database.Options{})
	e.user("bob", "A")
	c := e.dial(replicate.Peer{User: "bob", Version: replicate.V4})
	push := func(rev, history, want string) {
		t.Helper()
		got := c.call("rev", `{"channels":["A"],"rev":"`+rev+`"}`, "id", "d", "rev", rev, "history", history, "noconflicts", "1").String()
		if got != want {
			t.Errorf("%s %s: %s, want %s", rev, history, got, want)
		}
	}
	propose := func(rev, parent, want string) {
		t.Helper()
		if got := c.must("proposeChanges", `[["d","`+rev+`","`+parent+`"]]`, "conflictIncludesRev", "true").body; got != want {
			t.Errorf("propose %s after %s: %s, want %s", rev, parent, got, want)
		}
	}
	a1, a2, b1, b2 := at("10", "a"), at("20", "a"), at("11", "b"), at("25", "b")
	conflict := func(rev string) string { return `[{"status":409,"rev":"` + rev + `"}]` }
	propose(a1, "", `[]`)
	push(a1, "", "")
	propose(a1, "", `[304]`)
	push(a1, "", "") // known
	propose(b1, "", conflict(a1))
	push(b1, "", "HTTP/409: Document revision conflict")
	propose(a2, "", `[]`) // the same source, later
	propose(b1+", "+a1, "", `[]`)
	propose(b1, a1, `[]`)
	push(b1, " "+a1, "") // with a space, as Couchbase Lite has it
	propose(a1, "", `[304]`)
	push(a1, "", "")
	push(a2, "", "HTTP/409: Document revision conflict")
	push(b2, b1+","+a2+";", "") // merge versions of both, no previous ones
	if got := e.versionOf("d"); got != b2 {
		t.Errorf("the document is at %s", got)
	}
	for _, bad := range []string{"x@y", "0@" + source("a"), at("30", "a") + "x", "*", "30@*", at("0030", "a"), "@", at("30", "a") + "," + a1} {
		push(bad, "", "HTTP/422: Invalid version vector")
	}
	for _, bad := range []string{"x", a1 + ",;" + b1 + ";", a1 + "," + a1, ";;", at("40", "c") + "," + at("41", "c"), "1-aa," + a1} {
		push(at("50", "c"), bad, "HTTP/422: Invalid version vector")
	}
	// A reader of each version finds the document under the name that it understands.
	for v, name := range map[replicate.Version]string{replicate.V2: "-", replicate.V3: "-", replicate.V4: b2} {
		p := e.dial(replicate.Peer{User: "bob", Version: v}).pullAll()
		if a := p.revs["d"]; !strings.Contains(a.props["rev"], name) || !strings.Contains(a.body, b2) {
			t.Errorf("version %d gets %v %s", v, a.props, a.body)
		} else if v == replicate.V4 && a.props["history"] != b1+","+a2+";" {
			t.Errorf("its history is %s", a.props["history"])
		}
	}
}

// TestTwoKindsOfClients: one of version 3 and one of version 4 edit the same document in turns, and neither loses anything.
func TestTwoKindsOfClients(t *testing.T) {
	e := newEnv(t, database.Options{})
	e.user("bob", "A")
	old, young := e.as("bob"), e.dial(replicate.Peer{User: "bob", Version: replicate.V4})
	old.must("rev", `{"channels":["A"],"n":1}`, "id", "d", "rev", "1-aa")
	read := func(c *client) asked {
		t.Helper()
		return c.pullAll().revs["d"]
	}
	a := read(young)
	if !strings.Contains(a.props["rev"], "@") || a.body != `{"channels":["A"],"n":1}` {
		t.Fatalf("version 4 reads %v %s", a.props, a.body)
	}
	v2 := at("7fffffffffffff", "phone")
	if got := young.must("proposeChanges", `[["d","`+v2+`","`+a.props["rev"]+`"]]`).body; got != "[]" {
		t.Errorf("version 4 proposes: %s", got)
	}
	young.must("rev", `{"channels":["A"],"n":2}`, "id", "d", "rev", v2, "history", a.props["rev"], "noconflicts", "1")
	b := read(old)
	if !strings.HasPrefix(b.props["rev"], "2-") || b.props["history"] != "1-aa" || b.body != `{"channels":["A"],"n":2}` {
		t.Fatalf("version 3 reads %v %s", b.props, b.body)
	}
	if got := old.must("proposeChanges", `[["d","3-cc","`+b.props["rev"]+`"],["d","2-cc","1-aa"]]`).body; got != "[0,409]" {
		t.Errorf("version 3 proposes: %s", got)
	}
	old.must("rev", `{"channels":["A"],"n":3}`, "id", "d", "rev", "3-cc", "history", b.props["rev"]+",1-aa", "noconflicts", "1")
	if got := old.call("rev", `{"channels":["A"],"n":9}`, "id", "d", "rev", "2-cc", "history", "1-aa", "noconflicts", "1").String(); !strings.HasPrefix(got, "HTTP/409") {
		t.Errorf("an edit beside: %s", got)
	}
	a = read(young)
	if a.body != `{"channels":["A"],"n":3}` || !strings.Contains(a.props["history"], v2) {
		t.Errorf("version 4 reads %v %s", a.props, a.body)
	}
	young.must("rev", `{}`, "id", "d", "rev", at("8fffffffffffff", "phone"), "history", a.props["rev"], "deleted", "1")
	if b := read(old); b.props["deleted"] != "1" || !strings.HasPrefix(b.props["rev"], "4-") {
		t.Errorf("version 3 reads %v %s", b.props, b.body)
	}
}

// TestLegacyOverVersion4: clients of rev trees offer version 4 for pushes (client-facts.md 1).
func TestLegacyOverVersion4(t *testing.T) {
	e := newEnv(t, database.Options{})
	c := e.dial(replicate.Peer{Admin: true, Version: replicate.V4})
	c.must("rev", `{"n":1}`, "id", "d", "rev", "1-aa", "noconflicts", "1")
	c.must("rev", `{"n":3}`, "id", "d", "rev", "3-cc", "history", "2-bb,1-aa", "noconflicts", "1")
	if got := e.get("d"); got != `{"_id":"d","_rev":"3-cc","n":3}` {
		t.Errorf("the document is %s", got)
	}
	for rows, want := range map[string]string{
		`[["d","3-cc"],["d","2-bb"],["d","4-dd","3-cc"]]`: `[304,304]`,
		`[["d","4-dd","2-bb"]]`:                           `[409]`,
		`[["d","4-dd"]]`:                                  `[409]`,
	} {
		if got := c.must("proposeChanges", rows).body; got != want {
			t.Errorf("%s: %s, want %s", rows, got, want)
		}
	}
}

// TestGatewayPeer is replication.md §13: changes that ignore the ban on conflicts, both names in the answers, revTree, and
// 409 for what is left to the other's pull.
func TestGatewayPeer(t *testing.T) {
	e := newEnv(t, database.Options{})
	rev := e.put("conf", `{"n":1}`)
	c := e.dial(replicate.Peer{Admin: true, Version: replicate.V4, Gateway: true})
	a1 := at("18ea", "g")
	rows := `[[1,"a1","` + a1 + `"],[3,"conf","` + at("18eb", "g") + `"],[4,"conf","` + e.versionOf("conf") + `"]]`
	if got := c.must("changes", rows, "ignoreNoConflicts", "true").body; got != `[[],["`+e.versionOf("conf")+`","`+rev+`"],0]` {
		t.Errorf("the answer is %s", got)
	}
	if got := c.must("changes", `null`, "ignoreNoConflicts", "true").body; got != "[]" {
		t.Errorf("caught up: %s", got)
	}
	c.must("rev", `{"n":2}`, "id", "a1", "rev", a1, "revTree", "2-bb,1-aa", "noconflicts", "true", "sequence", "1")
	if got := e.get("a1"); got != `{"_id":"a1","_rev":"2-bb","n":2}` {
		t.Errorf("with a tree: %s", got)
	}
	if got := c.call("rev", `{"n":3}`, "id", "conf", "rev", at("18eb", "g"), "revTree", "1-cc", "noconflicts", "true").String(); !strings.HasPrefix(got, "HTTP/409") {
		t.Errorf("a conflict: %s", got)
	}
	c.must("subChanges", "", "client_sgr2", "true", "since", "0")
	rowsOut := c.expect("changes")
	if rowsOut.props["ignoreNoConflicts"] != "true" {
		t.Errorf("changes: %v", rowsOut.props)
	}
	rowsOut.answer("[[],[]]")
	for seen := 0; seen < 2; {
		a := c.next()
		if a.profile != "rev" {
			a.r.Release()
			continue
		}
		seen++
		if a.r.NoReply() || a.props["id"] == "a1" && a.props["revTree"] != "2-bb,1-aa" || a.props["id"] == "conf" && a.props["revTree"] != rev {
			t.Errorf("rev %v", a.props)
		}
		a.answer("")
	}
	// Both have deleted it: the other's tombstone is taken whatever its history.
	tree := e.dial(replicate.Peer{Admin: true, Version: replicate.V3, Gateway: true})
	e.put("conf", `{"_deleted":true,"_rev":"`+rev+`"}`)
	tree.must("rev", `{}`, "id", "conf", "rev", "5-ff", "history", "4-ee", "deleted", "true", "noconflicts", "true")
	if got := e.dial(replicate.Peer{Admin: true}).call("rev", `{}`, "id", "conf", "rev", "7-ff", "history", "6-ee,"+rev, "deleted", "true", "noconflicts", "true").String(); !strings.HasPrefix(got, "HTTP/409") {
		t.Errorf("an app's tombstone: %s", got)
	}
}
