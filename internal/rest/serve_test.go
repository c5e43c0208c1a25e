package rest

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/tidegate/tidegate/internal/config"
)

func TestUnknownAndWrongMethods(t *testing.T) {
	r := newRig(t, rigOptions{database: openGuest})
	for _, path := range []string{"/_unknown", "/db/_unknown", "/db/_bulk_docs/x", "/db/_local", "/db//x", "//", "/db/_all_docs/x/y"} {
		for _, method := range []string{"GET", "POST", "OPTIONS"} {
			r.p(method, path, "").fails(404, "unknown URL")
			r.a(method, path, "").fails(404, "unknown URL")
		}
	}
	for _, tt := range []struct{ method, path, allow string }{
		{"POST", "/db/doc", "DELETE, GET, HEAD, PUT"},
		{"PATCH", "/db/doc/att", "DELETE, GET, HEAD, PUT"},
		{"GET", "/db/_bulk_docs", "POST"},
		{"DELETE", "/db/_all_docs", "GET, HEAD, POST"},
		{"PUT", "/db/_changes/", "GET, HEAD, POST"},
		{"POST", "/db/_local/x", "DELETE, GET, HEAD, PUT"},
	} {
		r.p(tt.method, tt.path, "").has("Allow", tt.allow).fails(405, "method "+tt.method+" is not allowed for this URL")
		r.p("OPTIONS", tt.path, "").want(204, "").has("Allow", tt.allow)
	}
}

func TestTrailingSlashes(t *testing.T) {
	r := newRig(t, rigOptions{database: openGuest})
	r.p("PUT", "/db/doc/", `{"n":1}`).is(201)
	r.p("GET", "/db/doc", "").is(200)
	r.p("POST", "/db/_bulk_docs/", `{"docs":[]}`).want(201, `[]`)
	r.p("POST", "/db", `{}`).is(200)
	r.p("GET", "/db/_changes/", "").is(200)
	r.p("PUT", "/db/_local/x/", `{}`).is(201)
	r.p("PUT", "/db/other/att/", `x`).is(201)
	r.p("GET", "/db/other/att", ``).want(200, "x")
}

func TestUnknownDatabase(t *testing.T) {
	r := newRig(t, rigOptions{database: openGuest})
	r.p("GET", "/none/doc", "").fails(401, "Login required")
	r.p("GET", "/none/doc", "", "Authorization: Basic Ym9iOnB3").fails(401, "Invalid login")
	r.a("GET", "/none/doc", "").fails(404, `no such database "none"`)
	r.a("GET", "/No%2Fne/doc", "").fails(404, `no such database "No/ne"`)
	for _, ks := range []string{"db.", "db..x", ".x", "db.a.b.c"} {
		r.p("GET", "/"+ks+"/doc", "").fails(400, `unknown keyspace format: "`+ks+`" - expected 1-3 fields`)
	}
	for _, ks := range []string{"db.x", "db._default.x", "db.s._default"} {
		r.p("GET", "/"+ks+"/doc", "").fails(404, "keyspace "+ks+" not found")
	}
	r.p("PUT", "/db._default._default/doc", `{}`).is(201)
	r.p("GET", "/db._default/doc", ``).is(200)
	r.p("GET", "/db/doc", ``).is(200)
}

func TestNamedCollections(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.create("named", `{"scopes":{"s":{"collections":{"c1":{},"c2":{}}}}}`)
	r.a("PUT", "/named.s.c1/doc", `{"in":1}`).is(201)
	r.a("PUT", "/named.c2/doc", `{"in":2}`).is(201)
	r.a("GET", "/named.c1/doc", "").want(200, `{"_id":"doc","_rev":"REV","in":1}`)
	r.a("GET", "/named.s.c2/doc", "").want(200, `{"_id":"doc","_rev":"REV","in":2}`)
	r.a("GET", "/named/doc", "").fails(404, "keyspace named not found")
	r.a("GET", "/named.c3/doc", "").fails(404, "keyspace named.c3 not found")
	r.a("GET", "/named.c1/_changes", "").want(200, `{"results":[{"seq":1,"id":"doc","changes":[{"rev":"REV"}]}],"last_seq":"1"}`)
	r.create("a/b", `{}`)
	r.a("PUT", "/a%2Fb/doc", `{}`).is(201)
	r.a("GET", "/a%2fb/doc", "").is(200)
}

func TestStateGate(t *testing.T) {
	r := newRig(t, rigOptions{database: openGuest})
	if err := r.gateway.TakeOffline(t.Context(), "db"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/db/doc", "/db/_changes", "/db/_all_docs", "/db/_local/x"} {
		r.p("GET", path, "").has("Retry-After", "5").fails(503, "DB is currently under maintenance")
		r.a("GET", path, "").fails(503, "DB is currently under maintenance")
		r.p("GET", path, "", "Authorization: Basic bm9ib2R5Ong=").fails(503, "DB is currently under maintenance") // before credentials
	}
	r.p("PUT", "/db/doc", "{}").fails(503, "DB is currently under maintenance")
	if err := r.gateway.BringOnline(t.Context(), "db", 0, true); err != nil {
		t.Fatal(err)
	}
	r.p("GET", "/db/doc", "").fails(404, "missing")
}

// TestBadInput: malformed requests get the documented status and change nothing.
func TestBadInput(t *testing.T) {
	r := newRig(t, rigOptions{limits: Limits{RequestBytes: 3000, DocumentBytes: 1000}})
	deep := func(n int) string { return strings.Repeat(`{"a":`, n) + `1` + strings.Repeat(`}`, n) }
	bomb := gzipped(`{"x":"` + strings.Repeat("a", 200_000) + `"}`)
	for name, tt := range map[string]struct {
		method, path, body string
		status             int
		reason             string
		header             []string
	}{
		"empty body":             {"PUT", "/db/doc", ``, 400, "Document body is empty", nil},
		"no JSON":                {"PUT", "/db/doc", `nonsense`, 400, "Bad JSON: …", nil},
		"cut off":                {"PUT", "/db/doc", `{"a":1`, 400, "Bad JSON: …", nil},
		"trailing":               {"PUT", "/db/doc", `{"a":1}}`, 400, "Bad JSON: …", nil},
		"single quotes":          {"PUT", "/db/doc", `{'a':1}`, 400, "Bad JSON: …", nil},
		"NaN":                    {"PUT", "/db/doc", `{"a":NaN}`, 400, "Bad JSON: …", nil},
		"array":                  {"PUT", "/db/doc", `[1]`, 400, "Document body must be JSON", nil},
		"string":                 {"PUT", "/db/doc", `"a"`, 400, "Document body must be JSON", nil},
		"null":                   {"PUT", "/db/doc", `null`, 400, "Document body must be JSON", nil},
		"duplicate key":          {"PUT", "/db/doc", `{"a":1,"a":2}`, 400, "Bad JSON: …", nil},
		"duplicate key inside":   {"PUT", "/db/doc", `{"a":{"b":1,"\u0062":2}}`, 400, "Bad JSON: …", nil},
		"duplicate _id":          {"PUT", "/db/doc", `{"_id":"doc","_id":"doc"}`, 400, "Bad JSON: …", nil},
		"not UTF-8":              {"PUT", "/db/doc", "{\"a\":\"\xff\"}", 400, "Bad JSON: …", nil},
		"lone surrogate":         {"PUT", "/db/doc", `{"a":"\ud800"}`, 400, "Bad JSON: …", nil},
		"too deep":               {"PUT", "/db/doc", deep(129), 400, "Bad JSON: …", nil},
		"document too large":     {"PUT", "/db/doc", `{"a":"` + strings.Repeat("x", 1000) + `"}`, 413, "Document too large!", nil},
		"body too large":         {"PUT", "/db/doc", `{"a":"` + strings.Repeat("x", 3000) + `"}`, 413, "Document too large!", nil},
		"bulk too large":         {"POST", "/db/_bulk_docs", `{"docs":["` + strings.Repeat("x", 3000) + `"]}`, 413, "Request body too large", nil},
		"gzip bomb":              {"PUT", "/db/doc", bomb, 413, "Document too large!", []string{"Content-Encoding: gzip"}},
		"bulk gzip bomb":         {"POST", "/db/_bulk_docs", bomb, 413, "Request body too large", []string{"Content-Encoding: gzip"}},
		"bad rev":                {"PUT", "/db/doc?rev=1", `{}`, 400, "Invalid revision ID", nil},
		"bad rev in the body":    {"PUT", "/db/doc", `{"_rev":"0-1"}`, 400, "Invalid revision ID", nil},
		"bad If-Match":           {"PUT", "/db/doc", `{}`, 400, "Invalid revision ID", []string{`If-Match: "x"`}},
		"bad query":              {"DELETE", "/db/doc?rev=%zz", ``, 400, "Bad query string", nil},
		"bad expiry":             {"PUT", "/db/doc", `{"_exp":{}}`, 400, "Invalid expiry: …", nil},
		"bad escape":             {"PUT", "/db/a%zz", `{}`, 400, "Bad percent-encoding in the path", nil},
		"bad escape, database":   {"PUT", "/d%zz/a", `{}`, 400, "Bad percent-encoding in the path", nil},
		"endpoint in disguise":   {"POST", "/db/%5Fbulk_docs", `{}`, 405, "method POST is not allowed for this URL", nil},
		"underscore in disguise": {"PUT", "/db/%5Fbulk_docs", `{}`, 400, "Invalid doc ID", nil},
		"overlong UTF-8":         {"PUT", "/db/%C0%AE%C0%AE", `{}`, 400, "Invalid doc ID", nil},
		"long name":              {"PUT", "/db/" + strings.Repeat("x", 251), `{}`, 400, "Invalid doc ID", nil},
		"local too large":        {"PUT", "/db/_local/x", `{"a":"` + strings.Repeat("x", 1000) + `"}`, 413, "Document too large!", nil},
		"local without a name":   {"PUT", "/db/_local/", `{}`, 404, "unknown URL", nil},
		"long local name":        {"PUT", "/db/_local/" + strings.Repeat("x", 600), `{}`, 400, "Invalid doc ID", nil},
	} {
		t.Run(name, func(t *testing.T) {
			r.raw(t, tt.method, tt.path, tt.body, tt.header...).fails(tt.status, tt.reason)
		})
	}
	r.a("GET", "/db/_changes", "").want(200, `{"results":[],"last_seq":"0"}`)
	r.a("GET", "/db/_all_docs", "").want(200, `{"rows":[],"total_rows":0,"update_seq":0}`)
	r.a("PUT", "/db/doc", deep(128)).is(201) // just fits
}

// Decompressed bytes are capped in ratio too, where the number alone would let much through.
func TestInflateRatio(t *testing.T) {
	r := newRig(t, rigOptions{})
	bomb := gzipped(`{"x":"` + strings.Repeat("a", 3_000_000) + `"}`)
	r.a("PUT", "/db/doc", bomb, "Content-Encoding: gzip").fails(413, "Request body too large: compressed too well")
	r.a("GET", "/db/doc", "").fails(404, "missing")
}

// Large bodies share a budget of memory; what does not fit is told to come back.
func TestBodyMemoryIsBounded(t *testing.T) {
	r := newRig(t, rigOptions{limits: Limits{BodyMemoryBytes: 1 << 20}})
	big := `{"x":"` + strings.Repeat("ab", 400_000) + `"}`
	r.a("PUT", "/db/doc", big).has("Retry-After", "5").fails(503, "Too many large requests at once, try again later")
	r.a("PUT", "/db/doc", `{"x":"`+strings.Repeat("ab", 150_000)+`"}`).is(201)
	if used := r.server.bodyMemory.used.Load(); used != 0 {
		t.Errorf("%d bytes are still counted", used)
	}
}

// A panic in a handler is an answer, not the end of the process, and its text does not leave the house.
func TestPanicIsAnswered(t *testing.T) {
	var log strings.Builder
	r := newRig(t, rigOptions{log: slog.New(slog.NewTextHandler(&log, nil))})
	table := newRouter([]route{{"GET", "/_boom", admin, needNothing, 0, func(http.ResponseWriter, *request) error { panic("secret detail") }}})
	h := r.server.handler(admin, table)
	r.do(h, "GET", "/_boom", "").fails(500, "Internal error")
	if !strings.Contains(log.String(), "secret detail") {
		t.Error("the panic is not in the log")
	}
}

func TestServerHeader(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.p("GET", "/db/doc", "").has("Server", "tidegate/test")
	hidden := newRig(t, rigOptions{startup: `{"api":{"hide_product_version":true}}`})
	hidden.p("GET", "/db/doc", "").has("Server", "")
	hidden.a("GET", "/db/doc", "").has("Server", "tidegate/test")
}

// Requests that end before the database is left give it back: it can go offline at once.
func TestRequestsGiveTheDatabaseBack(t *testing.T) {
	r := newRig(t, rigOptions{database: openGuest})
	for _, path := range []string{"/db/doc", "/db/_changes?feed=nonsense", "/db/_changes?since=x", "/db.x/doc", "/db/%FF"} {
		r.p("GET", path, "")
		r.a("GET", path, "")
	}
	r.p("PUT", "/db/doc", "nonsense")
	r.p("GET", "/db/doc", "", "Accept: text/html")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := r.gateway.TakeOffline(ctx, "db"); err != nil { // waits for requests
		t.Fatal(err)
	}
}

// One table says what each route needs; every row must name a listener and a permission that exists there.
func TestRouteTable(t *testing.T) {
	s := NewServer(Deps{Config: &config.Startup{}})
	for _, rt := range s.routes() {
		if rt.handler == nil || rt.where == 0 || !strings.HasPrefix(rt.pattern, "/") || rt.methods == "" {
			t.Errorf("route %s %s is incomplete", rt.methods, rt.pattern)
		}
		if rt.where&public != 0 && (rt.needs == needDatabase || rt.needs == needServerRead || rt.needs == needServerWrite) {
			t.Errorf("route %s %s is public and needs an administrator", rt.methods, rt.pattern)
		}
		if rt.where&public != 0 && rt.needs == needNothing && rt.pattern != "/_ping" {
			t.Errorf("route %s %s is open to all", rt.methods, rt.pattern)
		}
		for method := range strings.FieldsSeq(rt.methods) {
			mutates := method == "PUT" || method == "DELETE"
			if mutates && rt.where&public != 0 && strings.HasPrefix(rt.pattern, "/{ks}") && !rt.has(writes) {
				t.Errorf("route %s %s writes documents and does not say so", rt.methods, rt.pattern)
			}
		}
	}
}
