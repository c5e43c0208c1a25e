package replicate_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/tidegate/tidegate/internal/blip"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/replicate"
)

// digestOf is the digest of content as _attachments names it.
func digestOf(content []byte) string {
	sum := sha1.Sum(content)
	return "sha1-" + base64.StdEncoding.EncodeToString(sum[:])
}

// proof is replication.md §5.11, written by its words.
func proof(nonce, content string) string {
	return digestOf([]byte(string(rune(len(nonce))) + nonce + content))
}

// TestProofVector keeps the tests' own rule to the vector of the specification.
func TestProofVector(t *testing.T) {
	if got := proof("01234567890123456789", "hello"); got != "sha1-uRFmP9xySSzUNuEEfScT7cEtKlc=" {
		t.Errorf("got %s", got)
	}
}

// stub is an entry of _attachments as clients push it.
func stub(name, content string, more ...string) string {
	return fmt.Sprintf(`{"channels":["A"],"_attachments":{%q:{"stub":true,"digest":%q,"length":%d,"revpos":1%s}}}`, name, digestOf([]byte(content)), len(content), strings.Join(more, ""))
}

// pushing sends a revision and returns its reply when there is one, so that what the server asks can be answered first.
func (c *client) pushing(body string, props ...string) func() string {
	c.t.Helper()
	got := make(chan string, 1)
	err := c.conn.Send(c.t.Context(), message("rev", body, props...), func(r *blip.Reply) {
		defer r.Release()
		if err := r.Err(); err != nil {
			got <- err.Error()
			return
		}
		got <- "stored"
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return func() string { c.t.Helper(); return <-got }
}

// attachment reads one as an administrator; "" if there is none.
func (e *env) attachment(id, name string) string {
	e.t.Helper()
	doc, err := e.admin.Get(e.t.Context(), id, database.GetOptions{})
	if err != nil || doc.Attachments[name].Digest == "" {
		return ""
	}
	r, _, err := e.admin.OpenAttachment(e.t.Context(), doc, name)
	if err != nil {
		e.t.Fatal(err)
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	if err != nil {
		e.t.Fatal(err)
	}
	return string(content)
}

// TestPushedAttachments is replication.md §9 and §15.6: what is asked for, and what follows from the answers.
func TestPushedAttachments(t *testing.T) {
	const content = "abc attachment"
	digest := digestOf([]byte(content))
	for _, v := range []replicate.Version{replicate.V2, replicate.V3, replicate.V4} {
		e := newEnv(t, database.Options{})
		e.user("bob", "A")
		c := e.dial(replicate.Peer{User: "bob", Version: v})
		// New content is fetched.
		reply := c.pushing(stub("blob_/att", content), "id", "att3", "rev", "1-aa")
		a := c.expect("getAttachment")
		if a.props["digest"] != digest || a.props["compress"] != "true" || (a.props["docID"] == "att3") != (v >= replicate.V3) {
			t.Errorf("version %d: getAttachment %v", v, a.props)
		}
		if e.get("att3") != "" {
			t.Error("stored before its attachment came")
		}
		a.answer(content)
		if got := reply(); got != "stored" || e.attachment("att3", "blob_/att") != content {
			t.Errorf("version %d: %s, %q", v, got, e.attachment("att3", "blob_/att"))
		}
		// The same entry again: nothing is asked.
		if got := c.pushing(stub("blob_/att", content), "id", "att3", "rev", "2-bb", "history", "1-aa")(); got != "stored" {
			t.Errorf("version %d, kept: %s", v, got)
		}
		// The entry goes, and comes back under another name: what an older revision has must be proved.
		if got := c.pushing(`{"channels":["A"]}`, "id", "att3", "rev", "3-cc", "history", "2-bb")(); got != "stored" {
			t.Errorf("version %d, taken away: %s", v, got)
		}
		reply = c.pushing(stub("other", content), "id", "att3", "rev", "4-dd", "history", "3-cc,2-bb,1-aa")
		p := c.expect("proveAttachment")
		if p.props["digest"] != digest || len(p.body) != 20 {
			t.Errorf("version %d: proveAttachment %v, nonce of %d", v, p.props, len(p.body))
		}
		p.answer(proof(p.body, content))
		if got := reply(); got != "stored" || e.attachment("att3", "other") != content {
			t.Errorf("version %d, proved: %s", v, got)
		}
		// In another document it is fetched again: its digest alone is no right to it.
		reply = c.pushing(stub("x", content), "id", "att4", "rev", "1-aa")
		c.expect("getAttachment").answer(content)
		if got := reply(); got != "stored" {
			t.Errorf("version %d, in another document: %s", v, got)
		}
	}
}

// TestAttachmentRefusals: what the peer may answer that fails the revision, and no other.
func TestAttachmentRefusals(t *testing.T) {
	const content = "hello"
	e := newEnv(t, database.Options{})
	e.user("bob", "A")
	c := e.as("bob")
	n := 0
	for _, tt := range []struct {
		body   string
		answer func(a asked)
		want   string
	}{
		{stub("x", content), func(a asked) { a.answer("hallo") }, "HTTP/400"},
		{stub("x", content), func(a asked) { a.answer("") }, "HTTP/400"},
		{stub("x", content), func(a asked) { a.answer(content + "!") }, "HTTP/400"},
		{stub("x", content), func(a asked) { a.answer(strings.Repeat(content, 100_000)) }, "HTTP/400"},
		{stub("x", content), func(a asked) { a.r.Fail("HTTP", 404, "missing"); a.r.Release() }, "HTTP/500: error 404 from getAttachment"},
		{stub("x", content), func(a asked) { a.r.Fail("LiteCore", 7, "not found"); a.r.Release() }, "HTTP/500: error 7 from getAttachment"},
		{`{"_attachments":{"x":{"stub":true}}}`, nil, "HTTP/400"},
		{`{"_attachments":{"x":{}}}`, nil, "HTTP/400"},
		{`{"_attachments":{"x":{"digest":"sha1-a\u0000b"}}}`, nil, "HTTP/400"},
		{`{"_attachments":{"x":{"digest":"` + strings.Repeat("x", 200_000) + `"}}}`, nil, "HTTP/400"},
		{`{"_attachments":{"x":{"digest":"sha1-qvTGHdzF6KLavt4PO0gs2a6pQ00=","length":20971521,"stub":true}}}`, nil, "HTTP/413"},
		{`{"_attachments":{"x":{"digest":"sha1-qvTGHdzF6KLavt4PO0gs2a6pQ00=","length":-1,"stub":true}}}`, nil, "HTTP/400"},
		{`{"_attachments":{"x":{"digest":"nonsense"}}}`, func(a asked) { a.answer(content) }, "HTTP/400"},
		{`{"_attachments":{"x":{"data":"aGVsbG8=","digest":"sha1-xvTGHdzF6KLavt4PO0gs2a6pQ00="}}}`, nil, "HTTP/400"},
		{`{"_attachments":{"x":{"data":"aGVsbG8=","length":7}}}`, nil, "HTTP/400"},
	} {
		n++
		reply := c.pushing(tt.body, "id", fmt.Sprintf("d%d", n), "rev", "1-aa")
		if tt.answer != nil {
			tt.answer(c.expect("getAttachment"))
		}
		if got := reply(); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%.100s: %s, want %s", tt.body, got, tt.want)
		}
	}
	for i := 1; i <= n; i++ {
		if got := e.get(fmt.Sprintf("d%d", i)); got != "" {
			t.Errorf("stored: %.200s", got)
		}
	}
	if got := c.pushing(`{"_attachments":{"x":{"data":"aGVsbG8="}}}`, "id", "inline", "rev", "1-aa")(); got != "stored" || e.attachment("inline", "x") != content {
		t.Errorf("inline: %s", got)
	}
}

// TestProofs: a wrong one is no proof, none at all means that the content is fetched.
func TestProofs(t *testing.T) {
	const content = "hello"
	for _, tt := range []struct {
		name   string
		answer func(a asked)
		then   func(c *client)
		want   string
	}{
		{"wrong", func(a asked) { a.answer(proof(a.body, "hallo")) }, nil, "HTTP/403"},
		{"of another nonce", func(a asked) { a.answer(proof(strings.Repeat("x", 20), content)) }, nil, "HTTP/403"},
		{"empty", func(a asked) { a.answer("") }, nil, "HTTP/403"},
		{"endless", func(a asked) { a.answer(strings.Repeat("x", 1<<20)) }, nil, "HTTP/403"},
		{"the digest", func(a asked) { a.answer(digestOf([]byte(content))) }, nil, "HTTP/403"},
		{"lost", func(a asked) { a.r.Fail("HTTP", 404, ""); a.r.Release() }, func(c *client) { c.expect("getAttachment").answer(content) }, "stored"},
		{"unknown profile", func(a asked) { a.r.NoHandler(); a.r.Release() }, func(c *client) { c.expect("getAttachment").answer(content) }, "stored"},
		{"lost, and wrong", func(a asked) { a.r.NoHandler(); a.r.Release() }, func(c *client) { c.expect("getAttachment").answer("hallo") }, "HTTP/400"},
		{"an error", func(a asked) { a.r.Fail("HTTP", 503, ""); a.r.Release() }, nil, "HTTP/500: error 503 from proveAttachment"},
	} {
		e := newEnv(t, database.Options{})
		e.put("d", `{"channels":["secret"],"_attachments":{"x":{"data":"aGVsbG8="}}}`)
		e.user("bob", "A")
		c := e.as("bob") // who may write it, and not read it
		reply := c.pushing(stub("y", content), "id", "d", "rev", "2-aa", "history", currentRev(t, e, "d"))
		tt.answer(c.expect("proveAttachment"))
		if tt.then != nil {
			tt.then(c)
		}
		if got := reply(); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		if got := e.attachment("d", "y"); (got == content) != (tt.want == "stored") {
			t.Errorf("%s: the attachment is %q", tt.name, got)
		}
	}
}

// currentRev is a document's current revision.
func currentRev(t *testing.T, e *env, id string) string {
	t.Helper()
	doc, err := e.admin.Get(t.Context(), id, database.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return doc.Rev.String()
}

// TestLargeAttachments: 20 MiB both ways, a byte more is too much however it is told.
func TestLargeAttachments(t *testing.T) {
	const limit = 20 << 20
	e := newEnv(t, database.Options{})
	c := e.dial(replicate.Peer{Admin: true})
	content := bytes.Repeat([]byte("0123456789abcdef"), limit/16)
	digest := digestOf(content)
	push := func(id, digest string, sent []byte) string {
		reply := c.pushing(`{"_attachments":{"x.jpg":{"stub":true,"digest":"`+digest+`"}}}`, "id", id, "rev", "1-aa")
		a := c.expect("getAttachment")
		if a.props["compress"] != "" {
			t.Error("a picture is to be compressed")
		}
		a.r.Respond(&blip.Message{Body: sent})
		a.r.Release()
		return reply()
	}
	if got := push("largest", digest, content); got != "stored" {
		t.Errorf("the largest: %s", got)
	}
	if got := push("larger", digest, append(content, 0)); !strings.HasPrefix(got, "HTTP/413") {
		t.Errorf("one byte more: %s", got)
	}
	c.must("subChanges", "")
	c.expect("changes").answer("[[]]")
	for a := c.next(); ; a = c.next() {
		if a.profile == "rev" {
			got := c.must("getAttachment", "", "digest", digest, "docID", "largest")
			if digestOf([]byte(got.body)) != digest {
				t.Error("what comes back is another")
			}
			a.answer("")
			return
		}
	}
}
