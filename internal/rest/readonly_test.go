package rest

import (
	"strings"
	"testing"
)

// Every door by which a document could be written is shut in a read-only database; what is no document is not (resync.md
// §1.4). The doors of replications are in package replicate.
func TestReadOnlyDatabase(t *testing.T) {
	r := newRig(t, rigOptions{startup: cheapPasswords, database: openGuest})
	rev := r.put("doc", `{"a":1}`)
	rev = r.a("PUT", "/db/doc/att?rev="+rev, "text", "Content-Type: text/plain").is(201).rev()
	r.a("PUT", "/db/_user/bob", `{"password":"letmein","admin_channels":["*"]}`).is(201)
	r.a("POST", "/db/_config", `{"read_only":true,"sync":"function (doc) { throw({forbidden: 'the function ran'}); }"}`).is(201)

	const refusal = "Database is read-only"
	for _, who := range []struct {
		name string
		send func(method, target, body string, header ...string) reply
	}{
		{"administrator", r.a},
		{"guest", r.p},
		{"user", func(method, target, body string, header ...string) reply {
			return r.p(method, target, body, append(header, basic("bob", "letmein"))...)
		}},
	} {
		t.Run(who.name, func(t *testing.T) {
			for _, write := range []struct{ method, target, body string }{
				{"PUT", "/db/new", `{}`},
				{"PUT", "/db/doc?rev=" + rev, `{"a":2}`},
				{"PUT", "/db/doc?new_edits=false", `{"_revisions":{"start":3,"ids":["c","b","a"]}}`},
				{"POST", "/db/", `{}`},
				{"DELETE", "/db/doc?rev=" + rev, ""},
				{"PUT", "/db/doc/att?rev=" + rev, "text"},
				{"DELETE", "/db/doc/att?rev=" + rev, ""},
			} {
				var header []string
				if strings.Contains(write.target, "/att") {
					header = []string{"Content-Type: text/plain"}
				}
				who.send(write.method, write.target, write.body, header...).fails(403, refusal)
			}
			for _, edits := range []string{"true", "false"} {
				got := who.send("POST", "/db/_bulk_docs", `{"new_edits":`+edits+`,"docs":[{"_id":"bulk","_rev":"1-a"}]}`).is(201).body
				if !strings.Contains(got, `"status":403`) || !strings.Contains(got, refusal) {
					t.Errorf("_bulk_docs, new_edits=%s: %s", edits, got)
				}
			}
			who.send("GET", "/db/doc", "").is(200)
			who.send("GET", "/db/doc/att", "").is(200)
			who.send("GET", "/db/_changes", "").is(200)
			who.send("POST", "/db/_revs_diff", `{"doc":["1-a"]}`).is(200)
			local := who.send("PUT", "/db/_local/"+who.name, `{"since":1}`).is(201).rev()
			who.send("DELETE", "/db/_local/"+who.name+"?rev="+local, "").is(200)
		})
	}
	r.a("POST", "/db/_purge", `{"doc":["*"]}`).fails(403, refusal)
	r.p("POST", "/db/_session", `{"name":"bob","password":"letmein"}`).is(200)
	r.a("PUT", "/db/_user/eve", `{"password":"letmein"}`).is(201)
	if got := r.a("GET", "/db/_all_docs", "").is(200).body; !strings.Contains(got, `"total_rows":1`) {
		t.Errorf("documents: %s", got)
	}
	r.a("POST", "/db/_config", `{"read_only":null,"sync":null}`).is(201)
	r.a("PUT", "/db/new", `{}`).is(201)
}
