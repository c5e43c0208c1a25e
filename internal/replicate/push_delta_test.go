package replicate_test

import (
	"strings"
	"testing"

	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/replicate"
)

// TestPushedDeltas is replication.md §15.5: what a delta becomes, and 422 where it cannot be applied.
func TestPushedDeltas(t *testing.T) {
	for _, v := range []replicate.Version{replicate.V2, replicate.V3, replicate.V4} {
		e := newEnv(t, database.Options{OldRevExpiry: -1, MaxDocumentBytes: 4000})
		e.user("bob", "A")
		e.put("secret", `{"channels":["B"],"n":1}`)
		c := e.dial(replicate.Peer{User: "bob", Version: v, Deltas: true})
		c.must("rev", `{"channels":["A"],"z":1,"list":[1,2],"s":"hello"}`, "id", "d", "rev", "1-aa")
		base := c.must("getRev", "", "id", "d").props["rev"] // as this version names it
		for _, tt := range []struct{ delta, src, want string }{
			{`{"z":[],"w":[{"a":1}],"list":{"0":9}}`, "1-zz", "HTTP/422: Can't fetch doc d for deltaSrc=1-zz"},
			{`{"b":{"c":1}}`, base, "HTTP/422"},
			{`{"b":[]}`, base, "HTTP/422"},
			{`{"s":["4=1+p|",0,2]}`, base, "HTTP/422"},
			{`{"s":["9=",0,2]}`, base, "HTTP/422"},
			{`{"list":{"2-":5}}`, base, "HTTP/422"},
			{`nonsense`, base, "HTTP/422"},
			{``, base, "HTTP/422"},
			{`[1]`, base, "HTTP/4"},
			{`7`, base, "HTTP/4"},
			{`{"_id":"x"}`, base, "HTTP/404"},
			{`{"forbid":"no"}`, base, "HTTP/403"},
			{`{"x":"` + strings.Repeat("x", 4000) + `"}`, base, "HTTP/4"},
			{`{"z":[],"w":[{"a":1}],"list":{"0":9}}`, base, ""},
		} {
			got := c.call("rev", tt.delta, "id", "d", "rev", "2-bb", "history", "1-aa", "deltaSrc", tt.src).String()
			if !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" {
				t.Errorf("version %d, %.80s: %s, want %s", v, tt.delta, got, tt.want)
			}
		}
		if got := e.get("d"); got != `{"_id":"d","_rev":"2-bb","channels":["A"],"list":[9,2],"s":"hello","w":{"a":1}}` {
			t.Errorf("version %d: %s", v, got)
		}
		// The base is not kept any more; a whole revision then does.
		if err := e.db.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := c.call("rev", `{"z":1}`, "id", "d", "rev", "3-cc", "history", "2-bb,1-aa", "deltaSrc", "1-aa").String(); !strings.HasPrefix(got, "HTTP/422") {
			t.Errorf("version %d, an old base: %s", v, got)
		}
		c.must("rev", `{"channels":["A"],"z":1}`, "id", "d", "rev", "3-cc", "history", "2-bb,1-aa")
		// A tombstone's body is what it says, whatever deltaSrc is.
		c.must("rev", `{}`, "id", "d", "rev", "4-dd", "history", "3-cc", "deltaSrc", "9-zz", "deleted", "1")
		// What one may not read is no base: whether a delta fits would tell what is in it.
		secret := currentRev(t, e, "secret")
		if got := c.call("rev", `{"n":2}`, "id", "secret", "rev", "2-bb", "history", secret, "deltaSrc", secret).String(); got != "HTTP/422: Can't fetch doc secret for deltaSrc="+secret {
			t.Errorf("version %d, a secret base: %s", v, got)
		}
	}
}

// TestDeltaWithAttachments: the base is the body with its _attachments (replication.md §8).
func TestDeltaWithAttachments(t *testing.T) {
	e := newEnv(t, database.Options{})
	c := e.dial(replicate.Peer{Admin: true, Deltas: true})
	c.must("rev", `{"n":1,"_attachments":{"x":{"data":"aGVsbG8="}}}`, "id", "d", "rev", "1-aa")
	reply := c.pushing(`{"n":2,"_attachments":{"y":[{"stub":true,"digest":"`+digestOf([]byte("world"))+`","length":5}]}}`, "id", "d", "rev", "2-bb", "history", "1-aa", "deltaSrc", "1-aa")
	c.expect("getAttachment").answer("world")
	if got := reply(); got != "stored" || e.attachment("d", "x") != "hello" || e.attachment("d", "y") != "world" {
		t.Errorf("%s: %q %q", got, e.attachment("d", "x"), e.attachment("d", "y"))
	}
	if got := c.pushing(`{"_attachments":{"x":[]}}`, "id", "d", "rev", "3-cc", "history", "2-bb", "deltaSrc", "2-bb")(); got != "stored" || e.attachment("d", "x") != "" {
		t.Errorf("taken away: %s, %q", got, e.attachment("d", "x"))
	}
}

// TestPulledDeltas: a delta against the first revision that the peer has, the whole where it refuses that.
func TestPulledDeltas(t *testing.T) {
	for _, v := range []replicate.Version{replicate.V3, replicate.V4} {
		e := newEnv(t, database.Options{})
		e.user("bob", "A")
		long := strings.Repeat("x", 300)
		one := e.put("d", `{"channels":["A"],"long":"`+long+`","n":1}`)
		c := e.dial(replicate.Peer{User: "bob", Version: v, Deltas: true})
		c.must("subChanges", "", "continuous", "true")
		c.expect("changes").answer("[[]]", "deltas", "true")
		base := c.skipTo("rev").props["rev"]
		two := e.put("d", `{"channels":["A"],"long":"`+long+`","n":2,"_rev":"`+one+`"}`)
		c.expect("changes").answer(`[["` + base + `"]]`)
		a := c.expect("rev")
		if a.props["deltaSrc"] != base || a.body != `{"n":2}` || a.r.NoReply() {
			t.Errorf("version %d: %v %s", v, a.props, a.body)
		}
		a.r.Fail("HTTP", 422, "no base")
		a.r.Release()
		whole := c.expect("rev")
		if whole.props["deltaSrc"] != "" || !strings.Contains(whole.body, long) || !whole.r.NoReply() || whole.props["sequence"] != a.props["sequence"] {
			t.Errorf("version %d, the whole: %v %s", v, whole.props, whole.body)
		}
		// No delta to or from a tombstone, and none of what the reader may not see.
		gone := e.put("d", `{"_deleted":true,"_rev":"`+two+`"}`)
		c.expect("changes").answer(`[["` + whole.props["rev"] + `"]]`)
		if a := c.expect("rev"); a.props["deleted"] != "1" || a.props["deltaSrc"] != "" || a.body != "{}" {
			t.Errorf("version %d, a tombstone: %v %s", v, a.props, a.body)
		}
		e.put("d", `{"channels":["A"],"long":"`+long+`","n":3,"_rev":"`+gone+`"}`)
		c.expect("changes").answer(`[["` + gone + `"]]`)
		if a := c.expect("rev"); a.props["deltaSrc"] != "" {
			t.Errorf("version %d, from a tombstone: %v", v, a.props)
		}
	}
}

// skipTo waits for a request of a profile and answers none before it.
func (c *client) skipTo(profile string) asked {
	c.t.Helper()
	for {
		a := c.next()
		if a.profile == profile {
			return a
		}
		a.r.Release()
	}
}

// TestDeltaOfSecretBase: the reader had no right to the older revision that he says he has.
func TestDeltaOfSecretBase(t *testing.T) {
	e := newEnv(t, database.Options{})
	e.user("bob", "A")
	long := strings.Repeat("x", 300)
	one := e.put("d", `{"channels":["B"],"long":"`+long+`","secret":1}`)
	e.put("d", `{"channels":["A"],"long":"`+long+`","n":2,"_rev":"`+one+`"}`)
	c := e.dial(replicate.Peer{User: "bob", Deltas: true})
	c.must("subChanges", "")
	c.expect("changes").answer(`[["`+one+`"]]`, "deltas", "true")
	if a := c.skipTo("rev"); a.props["deltaSrc"] != "" || !strings.Contains(a.body, long) {
		t.Errorf("%v %s", a.props, a.body)
	}
}
