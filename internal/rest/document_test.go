package rest

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

func TestDocumentLife(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.a("GET", "/db/doc", "").fails(404, "missing")
	rev1 := r.a("PUT", "/db/doc", `{"a":1.0,"big":12345678901234567890,"_id":"doc"}`).
		want(201, `{"id":"doc","ok":true,"rev":"REV"}`).rev()
	r.a("GET", "/db/doc", "").want(200, `{"_id":"doc","_rev":"`+rev1+`","a":1.0,"big":12345678901234567890}`).
		has("ETag", `"`+rev1+`"`).has("Content-Type", "application/json").has("Cache-Control", "")
	head := r.a("HEAD", "/db/doc", "").is(200).has("ETag", `"`+rev1+`"`)
	if get := r.a("GET", "/db/doc", ""); head.header.Get("Content-Length") != get.header.Get("Content-Length") {
		t.Errorf("HEAD has length %q, GET %q", head.header.Get("Content-Length"), get.header.Get("Content-Length"))
	}

	r.a("PUT", "/db/doc", `{"a":2}`).fails(409, "Document exists")
	r.a("PUT", "/db/doc?rev=1-x", `{"a":2}`).fails(409, "Document revision conflict")
	r.a("PUT", "/db/doc?rev=x", `{"a":2}`).fails(400, "Invalid revision ID")
	r.a("PUT", "/db/doc?rev="+rev1, `{"_rev":"1-x"}`).fails(400, "Revision IDs provided do not match")
	r.a("PUT", "/db/doc", `{"_id":"other"}`).fails(400, "The document ID provided in the body does not match the document ID in the path")
	r.a("PUT", "/db/none?rev=1-x", `{}`).fails(409, "Document revision conflict")
	rev2 := r.a("PUT", "/db/doc", `{"a":2,"_rev":"`+rev1+`"}`).is(201).has("ETag", `"`+strings.TrimSpace(r.a("GET", "/db/doc", "").member("_rev"))+`"`).rev()
	rev3 := r.a("PUT", "/db/doc", `{"a":3}`, `If-Match: "`+rev2+`"`).is(201).rev()
	rev4 := r.a("PUT", "/db/doc", `{"a":4}`, `If-Match: `+rev3).is(201).rev() // unquoted
	r.a("PUT", "/db/doc?rev="+rev3, `{"a":5}`, `If-Match: "`+rev4+`"`).fails(409, "Document revision conflict")

	r.a("DELETE", "/db/doc", "").fails(409, "Document exists")
	r.a("DELETE", "/db/doc?rev="+rev3, "").fails(409, "Document revision conflict")
	dead := r.a("DELETE", "/db/doc?rev="+rev4, "").want(200, `{"id":"doc","ok":true,"rev":"REV"}`).rev()
	r.a("GET", "/db/doc", "").fails(404, "deleted")
	r.a("GET", "/db/doc?rev="+dead, "").want(200, `{"_id":"doc","_rev":"`+dead+`","_deleted":true}`)
	r.a("GET", "/db/doc?rev=9-x", "").fails(404, "missing")
	r.a("GET", "/db/doc?rev=x", "").fails(400, "Invalid revision ID")
	r.a("DELETE", "/db/doc", "").want(200, `{"id":"doc","ok":true,"rev":"REV"}`) // a further tombstone
	again := r.a("PUT", "/db/doc", `{"again":true}`).is(201).rev()
	if !strings.HasPrefix(again, "7-") {
		t.Errorf("generation of a document made anew: %s", again)
	}
	if rev := r.a("DELETE", "/db/absent", "").is(200).rev(); !strings.HasPrefix(rev, "1-") {
		t.Errorf("tombstone of an absent document: %s", rev)
	}
	r.a("DELETE", "/db/absent2?rev=1-x", "").fails(409, "Document revision conflict")
}

func TestPutDeletes(t *testing.T) {
	r := newRig(t, rigOptions{})
	rev := r.put("doc", `{"a":1}`)
	dead := r.a("PUT", "/db/doc?rev="+rev, `{"_deleted":true,"why":"x"}`).is(201).rev()
	r.a("GET", "/db/doc", "").fails(404, "deleted")
	r.a("GET", "/db/doc?rev="+dead, "").want(200, `{"_id":"doc","_rev":"`+dead+`","_deleted":true,"why":"x"}`)
}

func TestPostDocument(t *testing.T) {
	r := newRig(t, rigOptions{})
	for _, path := range []string{"/db/", "/db"} {
		a := r.a("POST", path, `{"a":1}`).is(200)
		id := a.member("id")
		if len(id) != 32 {
			t.Errorf("generated ID %q", id)
		}
		a.has("Location", id).has("ETag", `"`+a.rev()+`"`)
		r.a("GET", "/db/"+id, "").want(200, `{"_id":"`+id+`","_rev":"REV","a":1}`)
	}
	r.a("POST", "/db/", `{"_id":"mine"}`).want(200, `{"id":"mine","ok":true,"rev":"REV"}`).has("Location", "mine")
	r.a("POST", "/db/", `{"_id":"mine","_rev":"1-x"}`).fails(404, "No previous revision to replace")
	r.a("POST", "/db/", `{"_rev":null}`).fails(404, "No previous revision to replace")
	r.a("POST", "/db/", `{"_id":"mine"}`).fails(409, "Document exists")
	r.a("POST", "/db/", `{"_id":"_bad"}`).fails(400, "Invalid doc ID")
	r.a("POST", "/db/", `{"_id":""}`).fails(400, "Invalid doc ID")
	r.a("POST", "/db/", `{"_id":7}`).fails(400, "Bad _id…")
	r.a("POST", "/db/", `{"_id":"`+strings.Repeat("x", 251)+`"}`).fails(400, "Invalid doc ID")
}

func TestGetOptions(t *testing.T) {
	r := newRig(t, rigOptions{database: `{"allow_conflicts":true}`})
	push := func(body string) { r.a("PUT", "/db/doc?new_edits=false", body).is(201) }
	push(`{"v":1,"_revisions":{"start":3,"ids":["c","b","a"]}}`)
	push(`{"v":2,"_revisions":{"start":3,"ids":["d","b","a"]}}`)
	push(`{"_deleted":true,"_revisions":{"start":2,"ids":["x","a"]}}`)
	r.a("GET", "/db/doc", "").want(200, `{"_id":"doc","_rev":"3-d","v":2}`)
	r.a("GET", "/db/doc?revs=true", "").want(200, `{"_id":"doc","_rev":"3-d","_revisions":{"start":3,"ids":["d","b","a"]},"v":2}`)
	r.a("GET", "/db/doc?revs=true&revs_limit=2", "").want(200, `{"_id":"doc","_rev":"3-d","_revisions":{"start":3,"ids":["d","b"]},"v":2}`)
	r.a("GET", `/db/doc?revs=true&revs_from=%5B%221-a%22,%222-b%22%5D`, "").
		want(200, `{"_id":"doc","_rev":"3-d","_revisions":{"start":3,"ids":["d","b"]},"v":2}`)
	r.a("GET", "/db/doc?revs=true&revs_from=nonsense", "").fails(400, "revs_from URL param is not a JSON string array")
	r.a("GET", "/db/doc?atts_since=1", "").fails(400, "atts_since URL param is not a JSON string array")
	r.a("GET", "/db/doc?conflicts=true", "").want(200, `{"_id":"doc","_rev":"3-d","_conflicts":["3-c"],"v":2}`)
	r.a("GET", "/db/doc?deleted_conflicts=true", "").want(200, `{"_id":"doc","_rev":"3-d","_deleted_conflicts":["2-x"],"v":2}`)
	r.a("GET", "/db/doc?revs_info=true&rev=3-c", "").want(200,
		`{"_id":"doc","_rev":"3-c","_revs_info":[{"rev":"3-c","status":"available"},{"rev":"2-b","status":"missing"},{"rev":"1-a","status":"missing"}],"v":1}`)
	r.a("GET", "/db/doc?rev=1-a", "").fails(404, "missing") // known, but its body never came
	r.a("GET", "/db/doc?rev=1-a&latest=true", "").want(200, `{"_id":"doc","_rev":"3-d","v":2}`)
	r.a("GET", "/db/doc?show_exp=true", "").want(200, `{"_id":"doc","_rev":"3-d","v":2}`)
	r.a("PUT", "/db/exp", `{"_exp":"2099-01-02T03:04:05+01:00"}`).is(201)
	r.a("GET", "/db/exp?show_exp=true", "").want(200, `{"_id":"exp","_rev":"REV","_exp":"2099-01-02T02:04:05Z"}`)
	r.a("GET", "/db/exp", "").want(200, `{"_id":"exp","_rev":"REV"}`)
	r.a("PUT", "/db/exp2", `{"_exp":"soon"}`).fails(400, "Invalid expiry: …")

	// open_revs in its JSON form.
	const json = "Accept: application/json"
	r.a("GET", "/db/doc?open_revs=all", "", json).want(200,
		`[{"ok":{"_id":"doc","_rev":"3-d","v":2}},{"ok":{"_id":"doc","_rev":"3-c","v":1}},{"ok":{"_id":"doc","_rev":"2-x","_deleted":true}}]`)
	r.a("GET", `/db/doc?open_revs=%5B%223-c%22,%229-x%22%5D&revs=true`, "", json).want(200,
		`[{"ok":{"_id":"doc","_rev":"3-c","_revisions":{"start":3,"ids":["c","b","a"]},"v":1}},{"missing":"9-x"}]`)
	r.a("GET", `/db/doc?open_revs=%5B%222-b%22%5D&latest=true`, "", json).want(200,
		`[{"ok":{"_id":"doc","_rev":"3-d","v":2}},{"ok":{"_id":"doc","_rev":"3-c","v":1}}]`)
	r.a("GET", `/db/doc?open_revs=%5B%5D`, "", json).want(200, `[]`)
	r.a("GET", "/db/doc?open_revs=nonsense", "", json).fails(400, "bad open_revs")
	r.a("GET", "/db/doc?open_revs=%5B%22x%22%5D", "", json).fails(400, "bad open_revs")
	r.a("GET", "/db/none?open_revs=all", "", json).fails(404, "missing")
	r.a("GET", `/db/none?open_revs=%5B%221-a%22%5D`, "", json).want(200, `[{"missing":"1-a"}]`)
	r.a("GET", "/db/doc?open_revs=all", "", "Accept: text/html").fails(406, "only application/json available")
	r.a("GET", "/db/doc", "", "Accept: text/html").fails(406, "only application/json available")
}

func TestNewEditsFalse(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.a("PUT", "/db/doc?new_edits=false", `{"v":1}`).fails(400, "Bad _revisions")
	r.a("PUT", "/db/doc?new_edits=false", `{"_rev":"1-a"}`).fails(400, "Bad _revisions")
	r.a("PUT", "/db/doc?new_edits=false", `{"_revisions":{"start":1,"ids":["a","b"]}}`).fails(400, "Bad _revisions")
	r.a("PUT", "/db/doc?new_edits=false", `{"_rev":"2-z","_revisions":{"start":2,"ids":["b","a"]}}`).fails(400, "Bad _revisions")
	r.a("PUT", "/db/doc?new_edits=false", `{"v":1,"_rev":"2-b","_revisions":{"start":2,"ids":["b","a"]}}`).
		want(201, `{"id":"doc","ok":true,"rev":"2-b"}`).has("ETag", `"2-b"`)
	r.a("PUT", "/db/doc?new_edits=false", `{"v":9,"_revisions":{"start":2,"ids":["b","a"]}}`).want(201, `{"id":"doc","ok":true,"rev":"2-b"}`)
	r.a("GET", "/db/doc", "").want(200, `{"_id":"doc","_rev":"2-b","v":1}`) // already known: nothing changed
	r.a("PUT", "/db/doc?new_edits=false", `{"_revisions":{"start":2,"ids":["c","a"]}}`).fails(409, "Document revision conflict")
	r.a("PUT", "/db/tomb?new_edits=false", `{"_deleted":true,"_revisions":{"start":2,"ids":["b","a"]}}`).want(201, `{"id":"tomb","ok":true,"rev":"2-b"}`)
	r.a("GET", "/db/tomb?rev=2-b&revs=true", "").want(200, `{"_id":"tomb","_rev":"2-b","_deleted":true,"_revisions":{"start":2,"ids":["b","a"]}}`)
}

// TestNames: a document is reached by exactly its name, however the name looks.
func TestNames(t *testing.T) {
	r := newRig(t, rigOptions{})
	for i, id := range []string{
		"a/b", "a%b", "%2F", "%252F", "100%", "a+b", "a b", "..", "../..", "../../etc/passwd", ".", "doc?x=1", "a#b", "日本語", "é",
		"\x00", "a\x00b", `quote"and\back`, "<script>", "line\nbreak", "a.b", "-", "*", "a:b", strings.Repeat("x", 250),
	} {
		path := "/db/" + url.PathEscape(id)
		if id == "." || id == ".." {
			path = "/db/" + strings.ReplaceAll(id, ".", "%2E")
		}
		a := r.a("PUT", path, fmt.Sprintf(`{"n":%d}`, i)).is(201)
		if got := a.member("id"); got != id {
			t.Errorf("%q became %q", id, got)
		}
		if got := r.a("GET", path, "").is(200).member("_id"); got != id {
			t.Errorf("GET %q answered %q", id, got)
		}
		quoted, _ := json.Marshal(id)
		if rows := r.a("POST", "/db/_all_docs", `{"keys":[`+string(quoted)+`]}`).is(200).body; !strings.Contains(rows, `"value"`) {
			t.Errorf("%q is not listed: %s", id, rows)
		}
	}
	for _, path := range []string{"/db/" + strings.Repeat("x", 251), "/db/%5Fx", "/db/%FF", "/db/a%80b"} {
		r.a("GET", path, "").fails(400, "Invalid doc ID")
		r.a("PUT", path, "{}").fails(400, "Invalid doc ID")
	}
}

func TestUnderscoreMembers(t *testing.T) {
	r := newRig(t, rigOptions{})
	for body, want := range map[string]struct {
		status int
		reason string
	}{
		`{"_removed":true}`:   {404, "Document revision is not accessible"},
		`{"_purged":true}`:    {400, "user defined top-level property '_purged' is not allowed in document body"},
		`{"_sync":{}}`:        {400, "Bad special document member: _sync"},
		`{"_sync_x":1}`:       {400, "Bad special document member: _sync_x"},
		`{"_foo":1}`:          {400, "Bad special document member: _foo"},
		`{"_cv":"x"}`:         {400, "Bad special document member: _cv"},
		`{"_deleted":"yes"}`:  {400, "Bad _deleted: wrong type"},
		`{"_rev":7}`:          {400, "Bad _rev: wrong type"},
		`{"_attachments":[]}`: {400, "Invalid _attachments"},
	} {
		r.a("PUT", "/db/doc", body).fails(want.status, want.reason)
	}
	r.a("GET", "/db/doc", "").fails(404, "missing")
	r.a("PUT", "/db/doc", `{"x":{"_foo":1}}`).is(201) // only at the top level
}

func TestAccessToDocuments(t *testing.T) {
	r := newRig(t, rigOptions{database: `{"guest":{"disabled":false,"admin_channels":["a"]}}`})
	r.put("mine", `{"channels":["a"]}`)
	other := r.put("other", `{"channels":["b"]}`)
	r.p("GET", "/db/mine", "").is(200)
	r.p("GET", "/db/other", "").fails(401, "login required…")
	r.p("GET", "/db/other?rev="+other, "").want(200, `{"_id":"other","_rev":"`+other+`","_removed":true}`)
	r.p("GET", "/db/other?revs=true&rev="+other, "").want(200,
		`{"_id":"other","_rev":"`+other+`","_removed":true,"_revisions":{"start":1,"ids":["`+strings.TrimPrefix(other, "1-")+`"]}}`)
	dead := r.a("DELETE", "/db/other?rev="+other, "").is(200).rev()
	r.p("GET", "/db/other?rev="+dead, "").want(200, `{"_id":"other","_rev":"`+dead+`","_deleted":true}`)
	r.p("GET", "/db/other?open_revs=all", "", "Accept: application/json").want(200, `[{"ok":{"_id":"other","_rev":"`+dead+`","_deleted":true}}]`)
	r.a("GET", "/db/other?rev="+other, "").is(200)
}

func TestForceForbidden(t *testing.T) {
	r := newRig(t, rigOptions{database: `{"guest":{"disabled":false,"admin_channels":["a"]},"unsupported":{"force_api_forbidden_errors":true},
		"sync":"function(doc){ if (doc.no) throw({forbidden:\"secret reason\"}); channel(doc.channels); }"}`})
	r.put("other", `{"channels":["b"]}`)
	var bodies []string
	for _, path := range []string{"/db/none", "/db/other", "/db/none/att", "/db/other/att"} {
		bodies = append(bodies, r.p("GET", path, "").is(403).body)
	}
	for _, b := range bodies {
		if b != `{"error":"Forbidden","reason":"forbidden"}` {
			t.Errorf("answers differ: %q", bodies)
		}
	}
	r.p("PUT", "/db/x", `{"no":true}`).fails(403, "forbidden")
	r.a("GET", "/db/none", "").fails(404, "missing") // admin is told
}

func TestGuestReadOnly(t *testing.T) {
	r := newRig(t, rigOptions{database: `{"guest":{"disabled":false,"admin_channels":["a"]},"unsupported":{"guest_read_only":true}}`})
	r.put("doc", `{"channels":["a"]}`)
	r.p("GET", "/db/doc", "").is(200)
	for _, req := range [][2]string{{"PUT", "/db/x"}, {"POST", "/db/"}, {"POST", "/db/_bulk_docs"}, {"DELETE", "/db/doc"}, {"PUT", "/db/_local/x"}, {"PUT", "/db/doc/att"}} {
		r.p(req[0], req[1], `{}`).fails(403, "Anonymous access is read-only")
	}
	r.p("POST", "/db/_revs_diff", `{}`).is(200)
}
