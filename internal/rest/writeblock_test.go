package rest

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestWriteBlock: who may write while writes are blocked, and what goes on.
func TestWriteBlock(t *testing.T) {
	r := newRig(t, rigOptions{database: openGuest, startup: cheapPasswords})
	r.a("PUT", "/db/_role/movers", `{"admin_channels":["*"]}`).is(201)
	r.a("PUT", "/db/_user/mover", `{"password":"letmein","admin_channels":["*"],"admin_roles":["movers"]}`).is(201)
	r.a("PUT", "/db/_user/bob", `{"password":"letmein","admin_channels":["*"]}`).is(201)
	rev := r.a("PUT", "/db/d", `{"n":1}`).is(201).member("rev")
	r.a("PUT", "/db/d/att?rev="+rev, "hello", "Content-Type: text/plain").is(201)
	rev = r.a("GET", "/db/d", "").is(200).member("_rev")

	r.a("GET", "/db/_write_block", "").want(200, `{"blocked":false}`)
	r.a("PUT", "/db/_write_block", `{"blocked":true,"bypass_role":"movers"}`).want(200, `{"blocked":true,"bypass_role":"movers"}`)
	bob, mover, through := basic("bob", "letmein"), basic("mover", "letmein"), "Tidegate-Bypass-Write-Block: true"
	for _, c := range []struct{ method, path, body string }{
		{"PUT", "/db/new", `{}`}, {"POST", "/db/", `{}`}, {"DELETE", "/db/d?rev=" + rev, ``}, {"PUT", "/db/d/att?rev=" + rev, `x`},
		{"DELETE", "/db/d/att?rev=" + rev, ``}, {"POST", "/db/_bulk_docs", `{"docs":[{"_id":"new"}]}`}, {"POST", "/db/_bulk_docs", `{"docs":[{"_id":"new","_rev":"1-a"}],"new_edits":false}`},
	} {
		header := []string{}
		if strings.HasSuffix(strings.SplitN(c.path, "?", 2)[0], "/att") {
			header = append(header, "Content-Type: text/plain")
		}
		r.a(c.method, c.path, c.body, header...).fails(403, "Database writes are blocked")
		r.p(c.method, c.path, c.body, append(header, bob)...).fails(403, "Database writes are blocked")
		r.p(c.method, c.path, c.body, append(header, bob, through)...).fails(403, "Database writes are blocked") // the header is for administrators
	}
	r.a("POST", "/db/_purge", `{"d":["*"]}`).fails(403, "Database writes are blocked")
	r.p("PUT", "/db/new?new_edits=false", `{"_revisions":{"start":1,"ids":["a"]}}`, bob).fails(503, "Database writes are blocked")

	r.p("GET", "/db/d", "", bob).is(200)
	r.p("GET", "/db/_changes", "", bob).is(200)
	r.p("PUT", "/db/_local/cp", `{"n":1}`, bob).is(201)
	r.p("POST", "/db/_bulk_docs", `{"docs":[{"_id":"_local/cp2"}]}`, bob).is(201)
	r.p("POST", "/db/_session", `{"name":"bob","password":"letmein"}`).is(200)
	r.a("PUT", "/db/_user/carol", `{"password":"letmein"}`).is(201)
	r.a("GET", "/db/new", "").is(404)

	r.p("PUT", "/db/moved", `{"n":1}`, mover).is(201)
	r.a("PUT", "/db/synced", `{"n":1}`, through).is(201)
	r.a("POST", "/db/_bulk_docs", `{"docs":[{"_id":"bulk"}]}`, through).is(201)
	r.a("POST", "/db/_purge", `{"bulk":["*"]}`, through).is(200)

	// A change that does not name the role keeps it; null takes it away.
	r.a("PUT", "/db/_write_block", `{"blocked":false}`).want(200, `{"blocked":false,"bypass_role":"movers"}`)
	r.p("PUT", "/db/new", `{}`, bob).is(201)
	r.a("PUT", "/db/_write_block", `{"blocked":true,"bypass_role":null}`).want(200, `{"blocked":true}`)
	r.p("PUT", "/db/newer", `{}`, mover).fails(403, "Database writes are blocked")
	for _, body := range []string{``, `[]`, `{}`, `{"blocked":1}`, `{"blocked":null}`, `{"blocked":true,"bypass_role":5}`, `{"blocked":true,"x":1}`} {
		r.a("PUT", "/db/_write_block", body).is(400)
	}
	r.a("PUT", "/db/_write_block", `{"blocked":true,"bypass_role":"`+strings.Repeat("x", 240)+`"}`).is(400)
	r.a("GET", "/db/_write_block", "").want(200, `{"blocked":true}`)
	r.p("GET", "/db/_write_block", "", bob).is(404) // a document ID that is none
}

// TestWriteBlockStays: over changes of the config, which reload the database, and over going offline.
func TestWriteBlockStays(t *testing.T) {
	r := newRig(t, rigOptions{database: `{"unsupported":{"api_endpoints":{"enable_couchbase_bucket_flush":true}}}`})
	r.a("PUT", "/db/_write_block", `{"blocked":true}`).is(200)
	r.a("POST", "/db/_config", `{"revs_limit":30}`).is(201)
	r.a("PUT", "/db/d", `{}`).fails(403, "Database writes are blocked")
	r.a("POST", "/db/_offline", "").is(200)
	r.a("POST", "/db/_online?wait=true", "").is(200)
	r.a("PUT", "/db/d", `{}`).fails(403, "Database writes are blocked")
	r.a("POST", "/db/_flush", "").fails(403, "Database writes are blocked")
	r.a("DELETE", "/db/", "").is(200)
	r.create("db", `{}`)
	r.a("PUT", "/db/d", `{}`).fails(403, "Database writes are blocked") // the data were kept, and so was the block
}

// TestAllDocsDeleted: tombstones are listed for administrators who ask, and those alone.
func TestAllDocsDeleted(t *testing.T) {
	r := newRig(t, rigOptions{database: openGuest})
	r.a("PUT", "/db/live", `{}`).is(201)
	rev := r.a("PUT", "/db/gone", `{}`).is(201).member("rev")
	r.a("DELETE", "/db/gone?rev="+rev, "").is(200)
	ids := func(a reply) string {
		var rows struct {
			Rows []struct {
				ID    string
				Error string
				Value struct{ Deleted bool }
			}
		}
		if err := json.Unmarshal([]byte(a.is(200).body), &rows); err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, row := range rows.Rows {
			out = append(out, row.ID+row.Error)
			if row.Value.Deleted {
				out[len(out)-1] += "*"
			}
		}
		return strings.Join(out, " ")
	}
	for _, c := range []struct{ got, want string }{
		{ids(r.a("GET", "/db/_all_docs", "")), "live"},
		{ids(r.a("GET", "/db/_all_docs?deleted=true", "")), "gone* live"},
		{ids(r.p("GET", "/db/_all_docs?deleted=true", "")), "live"},
		{ids(r.a("POST", "/db/_all_docs?deleted=true&include_docs=true", `{"keys":["gone","none"]}`)), "gone* not_found"},
	} {
		if c.got != c.want {
			t.Errorf("rows %q, want %q", c.got, c.want)
		}
	}
}

// TestKeepBranches: an administrator's copy of a revision tree is stored as it is, where branches are closed otherwise.
func TestKeepBranches(t *testing.T) {
	const branches = `{"docs":[{"_id":"d","_rev":"2-b","_revisions":{"start":2,"ids":["b","a"]},"x":1},{"_id":"d","_rev":"2-c","_revisions":{"start":2,"ids":["c","a"]},"x":2}],"new_edits":false,"keep_branches":true}`
	r := newRig(t, rigOptions{database: openGuest})
	r.a("POST", "/db/_bulk_docs", branches).is(201)
	if doc := r.a("GET", "/db/d?conflicts=true", "").is(200).body; !strings.Contains(doc, `"_rev":"2-c"`) || !strings.Contains(doc, `"_conflicts":["2-b"]`) {
		t.Error(doc)
	}
	r.create("other", openGuest)
	r.p("POST", "/other/_bulk_docs", branches).is(201) // nobody else may
	if doc := r.a("GET", "/other/d?conflicts=true", "").is(200).body; strings.Contains(doc, "_conflicts") {
		t.Error(doc)
	}
}
