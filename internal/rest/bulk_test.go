package rest

import (
	"fmt"
	"strings"
	"testing"
)

func TestBulkDocs(t *testing.T) {
	r := newRig(t, rigOptions{database: `{"sync":"function(doc){ if (doc.no) throw({forbidden:\"no\"}); if (doc.teapot) reject(418,\"tea\"); if (doc.boom) throw(\"x\"); }"}`})
	rev := r.put("old", `{}`)
	r.a("POST", "/db/_bulk_docs", `{"docs":[
		{"_id":"a","n":1},
		{"_id":"_local/x","n":2},
		{"_id":"old","n":3},
		{"_id":"old","_rev":"`+rev+`","n":4},
		{"_id":"no","no":true},
		{"_id":"tea","teapot":true},
		{"_id":"boom","boom":true},
		{"_id":"_bad"},
		{"_id":7},
		{"_id":"u","_foo":1},
		{"_id":"r","_rev":"x"},
		{"_id":"b","_deleted":true}
	],"all_or_nothing":true}`).want(201, `[
		{"id":"a","rev":"REV"},
		{"id":"old","error":"conflict","reason":"Document exists","status":409},
		{"id":"old","rev":"REV"},
		{"id":"no","error":"forbidden","reason":"no","status":403},
		{"id":"tea","error":"418","reason":"tea","status":418},
		{"id":"boom","error":"500","reason":"Exception in JS sync function","status":500},
		{"id":"_bad","error":"bad_request","reason":"Invalid doc ID","status":400},
		{"id":"","error":"bad_request","reason":"Bad _id: wrong type","status":400},
		{"id":"u","error":"bad_request","reason":"Bad special document member: _foo","status":400},
		{"id":"r","error":"bad_request","reason":"Invalid revision ID","status":400,"rev":"x"},
		{"id":"b","rev":"REV"},
		{"id":"_local/x","rev":"0-1"}]`)
	r.a("GET", "/db/a", "").want(200, `{"_id":"a","_rev":"REV","n":1}`)
	r.a("GET", "/db/_local/x", "").want(200, `{"_id":"_local/x","_rev":"0-1","n":2}`)
	r.a("GET", "/db/no", "").fails(404, "missing")

	// Generated IDs; a document with an attachment.
	a := r.a("POST", "/db/_bulk_docs", `{"docs":[{"n":1},{"n":2,"_attachments":{"a":{"data":"`+base64Of("x")+`"}}}]}`).is(201)
	if strings.Count(a.body, `"rev":"1-`) != 2 {
		t.Errorf("body %s", a.body)
	}
	// Several revisions of one document, in order.
	a = r.a("POST", "/db/_bulk_docs", `{"docs":[{"_id":"dup","n":1},{"_id":"dup","n":2},{"_id":"dup","n":3}]}`).is(201)
	if strings.Count(a.body, `Document exists`) != 2 {
		t.Errorf("body %s", a.body)
	}
	r.a("POST", "/db/_bulk_docs", `{"docs":[]}`).want(201, `[]`)
	// An answer longer than one chunk.
	many := strings.TrimSuffix(strings.Repeat(`{"_id":"some document","_rev":"1-x"},`, 1000), ",")
	a = r.a("POST", "/db/_bulk_docs", `{"docs":[`+many+`]}`).is(201)
	if rows, err := decodeJSON(a.body); err != nil || len(rows.([]any)) != 1000 {
		t.Errorf("long answer: %v", err)
	}
}

func TestBulkDocsNewEditsFalse(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.a("POST", "/db/_bulk_docs", `{"docs":[
		{"_id":"a","v":1,"_rev":"2-b","_revisions":{"start":2,"ids":["b","a"]}},
		{"_id":"t","_deleted":true,"_rev":"3-x"},
		{"_id":"none"}
	],"new_edits":false}`).want(201, `[
		{"id":"a","rev":"2-b"},{"id":"t","rev":"3-x"},
		{"id":"none","error":"bad_request","reason":"Invalid revision ID","status":400}]`)
	r.a("GET", "/db/a?revs=true", "").want(200, `{"_id":"a","_rev":"2-b","_revisions":{"start":2,"ids":["b","a"]},"v":1}`)
	r.a("GET", "/db/t?rev=3-x", "").want(200, `{"_id":"t","_rev":"3-x","_deleted":true}`)
	// Known already: a success. A losing branch, where conflicts are not allowed: a success too, and the server's
	// branch stays (PouchDB takes any error but 401 and 403 for the end of the replication).
	r.a("POST", "/db/_bulk_docs", `{"docs":[
		{"_id":"a","v":9,"_rev":"2-b","_revisions":{"start":2,"ids":["b","a"]}},
		{"_id":"a","v":2,"_rev":"2-z","_revisions":{"start":2,"ids":["z","a"]}}
	],"new_edits":false}`).want(201, `[{"id":"a","rev":"2-b"},{"id":"a","rev":"2-z"}]`)
	r.a("GET", "/db/a?conflicts=true", "").want(200, `{"_id":"a","_rev":"2-b","v":1}`)
}

func TestBulkDocsBadRequests(t *testing.T) {
	r := newRig(t, rigOptions{limits: Limits{BulkDocs: 3}})
	good := `{"_id":"good"}`
	for body, want := range map[string]string{
		``:                                       "Document body is empty",
		`[]`:                                     "Document body must be JSON",
		`{}`:                                     "missing 'docs' property",
		`{"docs":{}}`:                            "missing 'docs' property",
		`{"docs":null}`:                          "missing 'docs' property",
		`{"docs":[` + good + `,7]}`:              "Document body must be JSON",
		`{"docs":[` + good + `,[]]}`:             "Document body must be JSON",
		`{"docs":[` + good + `,{]}`:              "Bad JSON: …",
		`{"docs":[` + good + ` {}]}`:             "Bad JSON: …",
		`{"docs":[` + good + `],"docs":[]}`:      "Bad JSON: …",
		`{"docs":[` + good + `,{"a":1,"a":2}]}`:  "Bad JSON: …",
		`{"docs":[` + good + `,{"a":"\ud800"}]}`: "Bad JSON: …",
		`{"docs":[` + good + `,{"a":"` + "\xff" + `"}]}`: "Bad JSON: …",
		`{"docs":[` + good + `]`:                         "Bad JSON: …",
		`{"docs":[` + good + `,` + strings.Repeat(`{"a":`, 200) + `1` + strings.Repeat(`}`, 200) + `]}`: "Bad JSON: …",
	} {
		r.a("POST", "/db/_bulk_docs", body).fails(400, want)
	}
	r.a("POST", "/db/_bulk_docs", `{"docs":[{},{},{},{}]}`).fails(413, "Too many documents (at most 3)")
	r.a("GET", "/db/good", "").fails(404, "missing")
	r.a("GET", "/db/_all_docs", "").want(200, `{"rows":[],"total_rows":0,"update_seq":0}`)
}

func TestBulkGetJSON(t *testing.T) {
	r := newRig(t, rigOptions{database: `{"allow_conflicts":true}`})
	r.a("PUT", "/db/a?new_edits=false", `{"v":1,"_revisions":{"start":2,"ids":["b","a"]},"_attachments":{"x":{"data":"`+base64Of("xx")+`"}}}`).is(201)
	r.a("PUT", "/db/a?new_edits=false", `{"v":2,"_revisions":{"start":2,"ids":["c","a"]}}`).is(201)
	dead := r.a("DELETE", "/db/dead", "").is(200).rev()
	att := `"_attachments":{"x":{"digest":"` + sha1Digest("xx") + `","length":2,"revpos":2,`
	const json = "Accept: application/json"
	// As PouchDB asks.
	r.a("POST", "/db/_bulk_get?revs=true&latest=true&attachments=true", `{"docs":[{"id":"a","rev":"2-b"},{"id":"a","rev":"1-a"},{"id":"a","rev":"9-x"},{"id":"b","rev":"1-x"}]}`, json).
		want(200, `{"results":[
			{"id":"a","docs":[{"ok":{"_id":"a","_rev":"2-b","_revisions":{"start":2,"ids":["b","a"]},`+att+`"data":"`+base64Of("xx")+`"}},"v":1}}]},
			{"id":"a","docs":[{"ok":{"_id":"a","_rev":"2-c","_revisions":{"start":2,"ids":["c","a"]},"v":2}},
			                  {"ok":{"_id":"a","_rev":"2-b","_revisions":{"start":2,"ids":["b","a"]},`+att+`"data":"`+base64Of("xx")+`"}},"v":1}}]},
			{"id":"a","docs":[{"error":{"id":"a","rev":"9-x","error":"not_found","reason":"missing","status":404}}]},
			{"id":"b","docs":[{"error":{"id":"b","rev":"1-x","error":"not_found","reason":"missing","status":404}}]}]}`)
	r.a("POST", "/db/_bulk_get", `{"docs":[{"id":"a"},{"id":"a","rev":"2-b"},{"id":"dead"},{"id":"dead","rev":"`+dead+`"},{"x":1},{"id":""},{"id":7},7,{"id":"_x"},{"id":"a","rev":"x"},{"id":"a","rev":7}]}`, json).
		want(200, `{"results":[
			{"id":"a","docs":[{"ok":{"_id":"a","_rev":"2-c","v":2}}]},
			{"id":"a","docs":[{"ok":{"_id":"a","_rev":"2-b",`+att+`"stub":true}},"v":1}}]},
			{"id":"dead","docs":[{"error":{"id":"dead","rev":"undefined","error":"not_found","reason":"deleted","status":404}}]},
			{"id":"dead","docs":[{"ok":{"_id":"dead","_rev":"`+dead+`","_deleted":true}}]},
			{"id":"","docs":[{"error":{"id":"","rev":"undefined","error":"bad_request","reason":"Invalid doc's ID in _bulk_get","status":400}}]},
			{"id":"","docs":[{"error":{"id":"","rev":"undefined","error":"bad_request","reason":"Invalid doc's ID in _bulk_get","status":400}}]},
			{"id":"","docs":[{"error":{"id":"","rev":"undefined","error":"bad_request","reason":"Invalid doc's ID in _bulk_get","status":400}}]},
			{"id":"","docs":[{"error":{"id":"","rev":"undefined","error":"bad_request","reason":"Invalid doc's ID in _bulk_get","status":400}}]},
			{"id":"_x","docs":[{"error":{"id":"_x","rev":"undefined","error":"bad_request","reason":"Invalid doc ID","status":400}}]},
			{"id":"a","docs":[{"error":{"id":"a","rev":"x","error":"bad_request","reason":"Invalid revision ID","status":400}}]},
			{"id":"a","docs":[{"error":{"id":"a","rev":"undefined","error":"bad_request","reason":"Invalid revision ID","status":400}}]}]}`)
	r.a("POST", "/db/_bulk_get?attachments=true", `{"docs":[{"id":"a","rev":"2-b","atts_since":["2-b"]},{"id":"a","rev":"2-b","atts_since":["1-a"],"revs_limit":1}]}`, json).
		want(200, `{"results":[
			{"id":"a","docs":[{"ok":{"_id":"a","_rev":"2-b",`+att+`"stub":true}},"v":1}}]},
			{"id":"a","docs":[{"ok":{"_id":"a","_rev":"2-b",`+att+`"data":"`+base64Of("xx")+`"}},"v":1}}]}]}`)
	r.a("POST", "/db/_bulk_get?revs=true", `{"docs":[{"id":"a","rev":"2-b","revs_limit":1},{"id":"a","rev":"2-c","revs_from":["2-c"]}]}`, json).
		want(200, `{"results":[
			{"id":"a","docs":[{"ok":{"_id":"a","_rev":"2-b","_revisions":{"start":2,"ids":["b"]},`+att+`"stub":true}},"v":1}}]},
			{"id":"a","docs":[{"ok":{"_id":"a","_rev":"2-c","_revisions":{"start":2,"ids":["c"]},"v":2}}]}]}`)
	r.a("POST", "/db/_bulk_get", `{}`, json).fails(400, "missing 'docs' property")
	r.a("POST", "/db/_bulk_get", `{"docs":7}`, json).fails(400, "missing 'docs' property")
	r.a("POST", "/db/_bulk_get", `{"docs":[`, json).fails(400, "Bad JSON: …")
	r.a("POST", "/db/_bulk_get", `{"docs":[]}`, json).want(200, `{"results":[]}`)
}

func TestBulkGetMultipart(t *testing.T) {
	r := newRig(t, rigOptions{})
	rev := r.put("a", `{"v":1,"_attachments":{"x":{"data":"`+base64Of("xx")+`"}}}`)
	for _, accept := range []string{"*/*", "multipart/mixed", "application/json, multipart/mixed"} {
		a := r.a("POST", "/db/_bulk_get?attachments=true", `{"docs":[{"id":"a"},{"id":"b","rev":"1-x"},{"id":"c"}]}`, "Accept: "+accept).is(200)
		parts := readParts(t, a.header.Get("Content-Type"), a.body)
		if len(parts) != 3 || len(parts[0].nested) != 2 || parts[0].nested[1].body != "xx" {
			t.Fatalf("parts: %+v", parts)
		}
		if h := parts[0].header; h.Get("X-Doc-ID") != "a" || h.Get("X-Rev-ID") != rev {
			t.Errorf("header: %+v", h)
		}
		if !sameBody(parts[1].body, `{"id":"b","rev":"1-x","error":"not_found","reason":"missing","status":404}`) ||
			!sameBody(parts[2].body, `{"id":"c","error":"not_found","reason":"missing","status":404}`) ||
			parts[1].header.Get("Content-Type") != `application/json; error="true"` {
			t.Errorf("errors: %+v", parts[1:])
		}
	}
	a := r.a("POST", "/db/_bulk_get", `{"docs":[{"id":"a"}]}`).is(200)
	parts := readParts(t, a.header.Get("Content-Type"), a.body)
	if len(parts) != 1 || !strings.Contains(parts[0].body, `"stub":true`) {
		t.Errorf("without attachments: %+v", parts)
	}
}

func TestBulkGetAccess(t *testing.T) {
	r := newRig(t, rigOptions{database: `{"guest":{"disabled":false,"admin_channels":["a"]}}`})
	rev := r.put("other", `{"channels":["b"],"secret":1,"_attachments":{"x":{"data":"`+base64Of("secret")+`"}}}`)
	a := r.p("POST", "/db/_bulk_get?attachments=true", `{"docs":[{"id":"other"},{"id":"other","rev":"`+rev+`"}]}`, "Accept: application/json").is(200)
	want := `{"results":[{"id":"other","docs":[{"error":{"id":"other","rev":"undefined","error":"forbidden","reason":"forbidden","status":403}}]},
		{"id":"other","docs":[{"ok":{"_id":"other","_rev":"` + rev + `","_removed":true}}]}]}`
	if !sameBody(a.body, want) {
		t.Errorf("body %s", a.body)
	}
}

func TestAllDocs(t *testing.T) {
	r := newRig(t, rigOptions{})
	revs := map[string]string{}
	for _, id := range []string{"a", "b", "c", "d", "é", "Z"} {
		revs[id] = r.put(id, `{"channels":["x"],"n":"`+id+`"}`)
	}
	r.a("DELETE", "/db/c?rev="+revs["c"], "").is(200)
	ids := func(query string, want ...string) {
		t.Helper()
		a := r.a("GET", "/db/_all_docs"+query, "").is(200)
		rows := make([]string, len(want))
		for i, id := range want {
			rows[i] = fmt.Sprintf(`{"key":%q,"id":%q,"value":{"rev":%q}}`, id, id, revs[id])
		}
		if expect := fmt.Sprintf(`{"rows":[%s],"total_rows":%d,"update_seq":7}`, strings.Join(rows, ","), len(want)); !sameBody(a.body, expect) {
			t.Errorf("%s:\n %s\nwant\n %s", query, a.body, expect)
		}
	}
	ids("", "Z", "a", "b", "d", "é")
	ids("?limit=2", "Z", "a")
	ids("?limit=0")
	ids("?skip=1&limit=2", "a", "b")
	ids(`?startkey=%22b%22`, "b", "d", "é")
	ids(`?start_key=b&end_key=d`, "b", "d")
	ids(`?startkey=b&endkey=d&inclusive_end=false`, "b")
	ids(`?descending=true`, "é", "d", "b", "a", "Z")
	ids(`?descending=true&startkey=d&endkey=b`, "d", "b")
	ids(`?key=%22b%22`, "b")
	ids(`?key=%22c%22`)
	ids(`?startkey=%22b%22&endkey=%22d%5Cufff0%22`, "b", "d")

	r.a("GET", `/db/_all_docs?limit=1&include_docs=true&channels=true&update_seq=true`, "").want(200,
		`{"rows":[{"key":"Z","id":"Z","value":{"rev":"`+revs["Z"]+`","channels":["x"]},"doc":{"_id":"Z","_rev":"`+revs["Z"]+`","channels":["x"],"n":"Z"},"update_seq":6}],"total_rows":1,"update_seq":7}`)
	r.a("GET", `/db/_all_docs?key=b&include_docs=true&revs=true`, "").want(200,
		`{"rows":[{"key":"b","id":"b","value":{"rev":"`+revs["b"]+`"},"doc":{"_id":"b","_rev":"`+revs["b"]+`","_revisions":{"start":1,"ids":["`+revs["b"][2:]+`"]},"channels":["x"],"n":"b"}}],"total_rows":1,"update_seq":7}`)

	keys := `{"rows":[{"key":"b","id":"b","value":{"rev":"` + revs["b"] + `"}},{"key":"none","error":"not_found","status":404},{"key":"c","error":"not_found","status":404},{"key":"_x","error":"not_found","status":404}],"total_rows":4,"update_seq":7}`
	r.a("POST", "/db/_all_docs", `{"keys":["b","none","c","_x"]}`).want(200, keys)
	r.a("GET", "/db/_all_docs?keys=%5B%22b%22,%22none%22,%22c%22,%22_x%22%5D", "").want(200, keys)
	r.a("POST", "/db/_all_docs?limit=1", `{"keys":["b","none"]}`).want(200, `{"rows":[{"key":"b","id":"b","value":{"rev":"`+revs["b"]+`"}}],"total_rows":1,"update_seq":7}`)
	r.a("POST", "/db/_all_docs", `{"keys":[]}`).want(200, `{"rows":[],"total_rows":0,"update_seq":7}`)
	r.a("GET", "/db/_all_docs?keys=x", "").fails(400, "Bad keys")
	r.a("GET", "/db/_all_docs?keys=%5B1%5D", "").fails(400, "Bad keys")
	for _, body := range []string{`{"keys":7}`, `{"keys":[7]}`, `[]`, `{"keys":null}`} {
		r.a("POST", "/db/_all_docs", body).fails(400, "Bad/missing keys")
	}
	if a := r.a("POST", "/db/_all_docs", `{}`).is(200); !strings.Contains(a.body, `"total_rows":5`) {
		t.Errorf("POST without keys: %s", a.body)
	}
	if a := r.a("POST", "/db/_all_docs", ``).is(200); !strings.Contains(a.body, `"total_rows":5`) {
		t.Errorf("POST without a body: %s", a.body)
	}
}

func TestAllDocsAccess(t *testing.T) {
	r := newRig(t, rigOptions{database: `{"guest":{"disabled":false,"admin_channels":["a"]},"sync":"function(doc){channel(doc.channels); access(doc.who, doc.channels)}"}`})
	mine := r.put("mine", `{"channels":["a","b"],"who":["bob","role:r"]}`)
	r.put("other", `{"channels":["b"]}`)
	r.p("GET", "/db/_all_docs?channels=true&access=true", "").want(200,
		`{"rows":[{"key":"mine","id":"mine","value":{"rev":"`+mine+`","channels":["a"]}}],"total_rows":1,"update_seq":null}`)
	r.p("POST", "/db/_all_docs", `{"keys":["other","none"]}`).want(200,
		`{"rows":[{"key":"other","error":"forbidden","status":403},{"key":"none","error":"not_found","status":404}],"total_rows":2,"update_seq":null}`)
	r.a("GET", "/db/_all_docs?channels=true&access=true&limit=1", "").want(200,
		`{"rows":[{"key":"mine","id":"mine","value":{"rev":"`+mine+`","channels":["a","b"],"access":{"bob":["a","b"],"role:r":["a","b"]}}}],"total_rows":1,"update_seq":null}`)

	shut := newRig(t, rigOptions{database: `{"guest":{"disabled":false},"disable_public_all_docs":true}`})
	shut.p("GET", "/db/_all_docs", "").fails(403, "public access to _all_docs is disabled for this database")
	shut.a("GET", "/db/_all_docs", "").is(200)
}

func TestRevsDiff(t *testing.T) {
	r := newRig(t, rigOptions{database: `{"guest":{"disabled":false}}`})
	r.a("PUT", "/db/a?new_edits=false", `{"_revisions":{"start":3,"ids":["c","b","a"]}}`).is(201)
	const body = `{"a":["3-c","1-a","4-z","2-x"],"b":["1-x"],"_design/d":["1-x"]}`
	r.p("POST", "/db/_revs_diff", body).want(200, `{"a":{"missing":["4-z","2-x"],"possible_ancestors":["3-c"]},"b":{"missing":["1-x"]}}`).
		has("Content-Type", "application/json")
	r.a("POST", "/db/_revs_diff", body).want(200, `{"a":{"missing":["4-z","2-x"],"possible_ancestors":["3-c"]},"b":{"missing":["1-x"]},"_design/d":{"missing":["1-x"]}}`)
	r.p("POST", "/db/_revs_diff", `{"a":["3-c"]}`).want(200, `{}`)
	for _, bad := range []string{``, `[]`, `{"a":"1-x"}`, `{"a":[1]}`, `{"a":{}}`} {
		r.p("POST", "/db/_revs_diff", bad).fails(400, "Invalid _revs_diff: …")
	}
	r.p("POST", "/db/_revs_diff", `{"a":["x"]}`).fails(400, "Invalid revision ID")
	r.p("POST", "/db/_revs_diff", `{"a":["1-x"],"a":["2-x"]}`).fails(400, "Bad JSON: …")
}

func TestLocalDocuments(t *testing.T) {
	r := newRig(t, rigOptions{database: `{"guest":{"disabled":false}}`})
	const path = "/db/_local/xYz%2F%3D%3D."
	r.p("GET", path, "").fails(404, "missing")
	r.p("PUT", path, `{"_id":"_local/xYz/==.","last_seq":"12:7","history":[]}`).want(201, `{"id":"_local/xYz/==.","ok":true,"rev":"0-1"}`)
	r.p("GET", path, "").want(200, `{"_id":"_local/xYz/==.","_rev":"0-1","last_seq":"12:7","history":[]}`)
	r.p("HEAD", path, "").is(200)
	r.p("PUT", path, `{"n":1}`).fails(409, "Document update conflict")
	r.p("PUT", path, `{"n":1,"_rev":"0-7"}`).fails(409, "Document update conflict")
	r.p("PUT", path, `{"n":1,"_rev":"0-1"}`).want(201, `{"id":"_local/xYz/==.","ok":true,"rev":"0-2"}`)
	r.p("PUT", path+"?rev=0-2", `{"n":2}`).want(201, `{"id":"_local/xYz/==.","ok":true,"rev":"0-3"}`)
	r.p("PUT", "/db/_local/none", `{"_rev":"0-1"}`).fails(404, "No previous revision to replace")
	r.p("PUT", path, `{"_id":"other"}`).fails(400, "The document ID provided in the body does not match the document ID in the path")
	r.p("PUT", path, `[]`).fails(400, "Document body must be JSON")
	r.p("PUT", path, ``).fails(400, "Document body is empty")
	r.p("DELETE", path+"?rev=0-1", "").fails(409, "Document update conflict")
	r.p("DELETE", path, "").fails(409, "Document update conflict")
	r.p("DELETE", path+"?rev=0-3", "").want(200, `{"id":"_local/xYz/==.","ok":true,"rev":"0-0"}`)
	r.p("DELETE", path+"?rev=0-3", "").fails(404, "missing")
	// Not documents: neither listed nor in the feed.
	r.p("PUT", path, `{}`).is(201)
	r.a("GET", "/db/_all_docs", "").want(200, `{"rows":[],"total_rows":0,"update_seq":1}`) // 1 is the guest, who was enabled
	r.a("GET", "/db/_changes", "").want(200, `{"results":[],"last_seq":"0"}`)
}

func TestDesignDocuments(t *testing.T) {
	r := newRig(t, rigOptions{database: `{"guest":{"disabled":false}}`})
	r.p("PUT", "/db/_design/d", `{"views":{}}`).is(401)
	r.a("PUT", "/db/_design/d", `{"_id":"_design/d","views":{"v":{"map":"function(){}"}}}`).want(201, `{"id":"_design/d","ok":true,"rev":"0-1"}`)
	r.a("GET", "/db/_design/d", "").want(200, `{"_id":"_design/d","_rev":"0-1","views":{"v":{"map":"function(){}"}}}`)
	r.p("GET", "/db/_design/d", "").is(200)
	r.p("DELETE", "/db/_design/d?rev=0-1", "").is(401)
	r.a("DELETE", "/db/_design/d?rev=0-1", "").want(200, `{"id":"_design/d","ok":true,"rev":"0-0"}`)
	r.a("GET", "/db/_design/d", "").fails(404, "missing")
	r.a("GET", "/db/_design/d/_view/v", "").fails(404, "unknown URL")
	// No local document is a way to one.
	r.p("PUT", "/db/_local/_design%2Fd", `{}`).fails(400, "Invalid doc ID")
	r.p("POST", "/db/_bulk_docs", `{"docs":[{"_id":"_local/_design/d"},{"_id":"_design/d"}]}`).want(201,
		`[{"id":"_design/d","error":"bad_request","reason":"Invalid doc ID","status":400},{"id":"_local/_design/d","error":"bad_request","reason":"Invalid doc ID","status":400}]`)
}
