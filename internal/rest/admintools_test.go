package rest

import (
	"strings"
	"testing"
)

func TestPurge(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.put("a", `{"_attachments":{"x":{"data":"`+base64Of("x")+`"}}}`)
	rev := r.put("b", `{}`)
	r.a("POST", "/db/_purge", `{"a":["*"],"none":["*"],"b":["`+rev+`"],"c":"*"}`).want(200, `{"purged":{"a":["*"]}}`)
	r.a("GET", "/db/a", "").fails(404, "missing")
	r.a("GET", "/db/b", "").is(200)
	if a := r.a("GET", "/db/_changes", ""); strings.Contains(a.body, `"a"`) {
		t.Errorf("a purged document is in the feed: %s", a.body)
	}
	for _, body := range []string{``, `[]`, `"a"`} {
		r.a("POST", "/db/_purge", body).fails(400, "_purge document ID's must be passed as a JSON")
	}
	r.p("POST", "/db/_purge", `{"b":["*"]}`).fails(404, "unknown URL")
}

func TestRaw(t *testing.T) {
	r := newRig(t, rigOptions{database: `{"allow_conflicts":true,"sync":"function(doc){channel(doc.channels); access(doc.who, \"given\"); role(doc.who, \"role:r\")}"}`})
	r.a("PUT", "/db/doc?new_edits=false", `{"v":1,"channels":["a","b"],"who":"bob","_revisions":{"start":1,"ids":["a"]}}`).is(201)
	r.a("PUT", "/db/doc?new_edits=false", `{"v":2,"channels":["b"],"_revisions":{"start":2,"ids":["c","a"]}}`).is(201)
	r.a("PUT", "/db/doc?new_edits=false", `{"v":3,"channels":["z"],"_revisions":{"start":2,"ids":["b","a"]}}`).is(201)
	a := r.a("GET", "/db/_raw/doc", "").is(200)
	doc, err := decodeJSON(a.body)
	if err != nil {
		t.Fatal(err)
	}
	top := doc.(map[string]any)
	sync := top["_sync"].(map[string]any)
	history := sync["history"].(map[string]any)
	if !sameJSON(top["channels"], []any{"b"}) || sync["rev"] != "2-c" || len(history["revs"].([]any)) != 3 || len(history["parents"].([]any)) != 3 {
		t.Errorf("_raw: %s", a.body)
	}
	channels := sync["channels"].(map[string]any)
	if removed, ok := channels["a"].(map[string]any); !ok || removed["rev"] != "2-c" || channels["b"] != nil {
		t.Errorf("channels: %v", channels)
	}
	if body := r.a("GET", "/db/_raw/doc?include_doc=false", "").is(200).body; strings.Contains(body, `"v":2`) {
		t.Errorf("with the document: %s", body)
	}
	hidden := r.a("GET", "/db/_raw/doc?redact=true&salt=s", "").is(200).body
	if strings.Contains(hidden, `"b"`) || strings.Contains(hidden, `"v":2`) {
		t.Errorf("not redacted: %s", hidden)
	}
	if again := r.a("GET", "/db/_raw/doc?redact=true&salt=s", "").body; again != hidden {
		t.Error("the same salt gives other names")
	}
	r.a("GET", "/db/_raw/doc?redact=true&include_doc=true", "").fails(400, "redact and include_doc cannot be true at the same time")
	r.a("GET", "/db/_raw/none", "").fails(404, "missing")
	dead := r.put("dead", `{}`)
	r.a("DELETE", "/db/dead?rev="+dead, "").is(200)
	r.a("GET", "/db/_raw/dead", "").is(200)
	r.p("GET", "/db/_raw/doc", "").fails(404, "unknown URL")

	tree := r.a("GET", "/db/_revtree/doc", "").is(200)
	for _, want := range []string{"digraph", `"1-a" -> "2-c"`, `"1-a" -> "2-b"`} {
		if !strings.Contains(tree.body, want) {
			t.Errorf("_revtree without %s: %s", want, tree.body)
		}
	}
	r.a("GET", "/db/_revtree/none", "").fails(404, "missing")
}

func TestDumpChannel(t *testing.T) {
	r := newRig(t, rigOptions{})
	rev := r.put("%3Cb%3E", `{"channels":["<c>"]}`)
	r.a("PUT", "/db/%3Cb%3E?rev="+rev, `{"channels":[]}`).is(201)
	r.put("two", `{"channels":["<c>"]}`)
	a := r.a("GET", "/db/_dumpchannel/%3Cc%3E", "").is(200).has("Content-Type", "text/html; charset=utf-8")
	if strings.Contains(a.body, "<b>") || strings.Contains(a.body, "<c>") {
		t.Errorf("names are not escaped: %s", a.body)
	}
	for _, want := range []string{"<tr><td>2</td><td>&lt;b&gt;</td>", "removed", "<td>two</td>"} {
		if !strings.Contains(a.body, want) {
			t.Errorf("no %s in %s", want, a.body)
		}
	}
	r.a("GET", "/db/_dumpchannel/%3Cc%3E?since=3", "").fails(404, "no such channel")
	r.a("GET", "/db/_dumpchannel/none", "").fails(404, "no such channel")
	r.a("GET", "/db/_dumpchannel/a,b", "").fails(400, "Illegal channel name…")
}

func TestOldTools(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.a("POST", "/db/_repair", "").fails(500, "_repair endpoint disabled")
	r.a("POST", "/db/_vacuum", "").want(200, `{"atts":0}`)
}
