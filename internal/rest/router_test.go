package rest

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// testRouter is a router over the real table, for the public and admin listeners together.
func testRouter() *router {
	s := &Server{}
	return newRouter(s.routesOf(admin))
}

func TestRouterFindsPatterns(t *testing.T) {
	table := testRouter()
	for _, tt := range []struct {
		path, pattern, vars string
	}{
		{"/db/doc", "/{ks}/{docid}", "db doc"},
		{"/db/doc/", "/{ks}/{docid}", "db doc"},
		{"/db/a%2Fb", "/{ks}/{docid}", "db a/b"},
		{"/db/a%2fb/", "/{ks}/{docid}", "db a/b"},
		{"/db/%252F", "/{ks}/{docid}", "db %2F"}, // decoded once
		{"/db/a+b", "/{ks}/{docid}", "db a+b"},
		{"/db/..", "/{ks}/{docid}", "db .."},
		{"/db/..%2f..%2fetc", "/{ks}/{docid}", "db ../../etc"},
		{`/db/a%2Fb"c`, "/{ks}/{docid}", `db a/b"c`}, // url.URL.EscapedPath would split here
		{"/db/%00", "/{ks}/{docid}", "db \x00"},
		{"/db/%5Fall_docs", "/{ks}/{docid}", "db _all_docs"}, // then refused as an ID
		{"/db/_all_docs", "/{ks}/_all_docs", "db"},
		{"/db/_all_docs/", "/{ks}/_all_docs", "db"},
		{"/db.s.c/_all_docs", "/{ks}/_all_docs", "db.s.c"},
		{"/a%2Fb/_changes", "/{ks}/_changes", "a/b"},
		{"/db/_local/x", "/{ks}/_local/{docid}", "db x"},
		{"/db/_local/_x%2Fy%3D%3D", "/{ks}/_local/{docid}", "db _x/y=="},
		{"/db/doc/att", "/{ks}/{docid}/{attachment...}", "db doc att"},
		{"/db/doc/a/b.txt", "/{ks}/{docid}/{attachment...}", "db doc a/b.txt"},
		{"/db/doc/a%2Fb.txt", "/{ks}/{docid}/{attachment...}", "db doc a/b.txt"},
		{"/db/doc/blob_/pic", "/{ks}/{docid}/{attachment...}", "db doc blob_/pic"},
		{"/db/doc/_x", "/{ks}/{docid}/{attachment...}", "db doc _x"},
		{"/db/doc//x", "/{ks}/{docid}/{attachment...}", "db doc /x"},
		{"/db/doc/../x", "/{ks}/{docid}/{attachment...}", "db doc ../x"},
		{"/db/_unknown", "", ""},
		{"/db/_local", "", ""},
		{"/db/_bulk_docs/x", "", ""},
		{"/_unknown", "", ""},
		{"/_unknown/doc", "", ""},
		{"//db/doc", "", ""},
		{"/db//doc", "", ""},
		{"db/doc", "", ""},
		{"", "", ""},
	} {
		res, vars := table.find(tt.path)
		if res == nil {
			if tt.pattern != "" {
				t.Errorf("%q: found nothing, want %s", tt.path, tt.pattern)
			}
			continue
		}
		if res.pattern != tt.pattern {
			t.Errorf("%q: found %s, want %q", tt.path, res.pattern, tt.pattern)
			continue
		}
		var decoded []string
		for i := range vars.n {
			v, err := decodePath(vars.values[i])
			if err != nil {
				t.Errorf("%q: %v", tt.path, err)
			}
			decoded = append(decoded, v)
		}
		if got := strings.Join(decoded, " "); got != tt.vars {
			t.Errorf("%q: vars %q, want %q", tt.path, got, tt.vars)
		}
	}
}

func TestRawPath(t *testing.T) {
	for uri, want := range map[string]string{
		"/db/a%2Fb?x=/y":                "/db/a%2Fb",
		`/db/a%2Fb"c`:                   `/db/a%2Fb"c`,
		"http://host:1/db/a%2Fb?q":      "/db/a%2Fb",
		"http://host":                   "",
		"/":                             "/",
		"/db/%E4%BD%A0?since=%22a%2Fb%": "/db/%E4%BD%A0",
	} {
		r := &http.Request{RequestURI: uri, URL: &url.URL{}}
		if got := rawPath(r); got != want {
			t.Errorf("rawPath(%q) = %q, want %q", uri, got, want)
		}
	}
	r := httptest.NewRequest("GET", "/db/x%2Fy", nil)
	r.RequestURI = ""
	if got := rawPath(r); got != "/db/x%2Fy" {
		t.Errorf("without RequestURI: %q", got)
	}
}

// TestRouterRoundTrip: whatever a document's and an attachment's name, a client that escapes each once
// reaches exactly these.
func TestRouterRoundTrip(t *testing.T) {
	table := testRouter()
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringN(1, 40, -1).Filter(func(s string) bool { return s[0] != '_' }).Draw(t, "id")
		att := rapid.StringN(1, 40, -1).Draw(t, "attachment")
		res, vars := table.find("/db/" + url.PathEscape(id) + "/" + url.PathEscape(att))
		if res == nil || res.pattern != "/{ks}/{docid}/{attachment...}" {
			t.Fatalf("found %v", res)
		}
		for i, want := range []string{"db", id, att} {
			if got, err := decodePath(vars.values[i]); err != nil || got != want {
				t.Fatalf("variable %d is %q, want %q (%v)", i, got, want, err)
			}
		}
	})
}

// FuzzRouting: no path makes the router panic, reach a document whose name begins with "_" unescaped, or
// split a variable that the client escaped.
func FuzzRouting(f *testing.F) {
	for _, seed := range []string{"/db/doc", "/db/_local/x", "/%2e%2e/%2e%2e", "/db/a%2Fb/c%2Fd/e", "/db/%", "/db/%zz", "/db/_all_docs/",
		"/db/%00%ff", "//", "/db/doc/////", "/_session", "/db.a.b.c/x"} {
		f.Add(seed)
	}
	table := testRouter()
	f.Fuzz(func(t *testing.T, path string) {
		res, vars := table.find(path)
		if res == nil {
			return
		}
		if vars.n != len(res.vars) {
			t.Fatalf("%q: %d variables for %s", path, vars.n, res.pattern)
		}
		segments := strings.Count(strings.TrimSuffix(path, "/"), "/")
		if want := strings.Count(strings.TrimSuffix(res.pattern, "/"), "/"); segments < want {
			t.Fatalf("%q has %d segments, %s has %d", path, segments, res.pattern, want)
		}
		for i := range vars.n {
			raw := vars.values[i]
			if raw == "" {
				t.Fatalf("%q: empty variable", path)
			}
			if strings.Contains(raw, "/") && res.vars[i] != "attachment" {
				t.Fatalf("%q: variable %q holds a separator", path, raw)
			}
			decoded, err := decodePath(raw)
			if err == nil && !strings.Contains(raw, "%") && decoded != raw {
				t.Fatalf("%q became %q", raw, decoded)
			}
			if err == nil && utf8.ValidString(decoded) && res.vars[i] == "docid" && res.pattern == "/{ks}/{docid}" && raw[0] == '_' {
				t.Fatalf("%q reached a document", path)
			}
		}
	})
}

func TestParseKeyspace(t *testing.T) {
	for _, tt := range []struct {
		in                    string
		db, scope, collection string
		fails                 bool
	}{
		{in: "db", db: "db"},
		{in: "db.c", db: "db", collection: "c"},
		{in: "db.s.c", db: "db", scope: "s", collection: "c"},
		{in: "db._default._default", db: "db", scope: "_default", collection: "_default"},
		{in: "a/b", db: "a/b"},
		{in: "db.", fails: true},
		{in: ".c", fails: true},
		{in: "db..c", fails: true},
		{in: "a.b.c.d", fails: true},
	} {
		ks, err := parseKeyspace(tt.in)
		if tt.fails {
			if errorStatus(err) != 400 || err == nil {
				t.Errorf("%q: %v", tt.in, err)
			}
			continue
		}
		if err != nil || ks.db != tt.db || ks.scope != tt.scope || ks.collection != tt.collection {
			t.Errorf("%q: %+v, %v", tt.in, ks, err)
		}
	}
}
