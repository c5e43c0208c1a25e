package rest

import (
	"strings"
	"testing"
)

// cors returns the CORS headers of an answer in a fixed order.
func (a reply) cors() string {
	var got []string
	for _, name := range []string{"Origin", "Credentials", "Headers", "Methods"} {
		if v, ok := a.header["Access-Control-Allow-"+name]; ok {
			got = append(got, name+": "+strings.Join(v, "|"))
		}
	}
	if v := a.header.Get("Access-Control-Max-Age"); v != "" {
		got = append(got, "Max-Age: "+v)
	}
	return strings.Join(got, "; ")
}

const serverCORS = `{"auth":{"bcrypt_cost":4},"api":{"cors":{"origin":["https://app.example","http://localhost:3000"],
	"login_origin":["https://app.example"],"headers":["Content-Type","X-Custom"],"max_age":600}}}`

func TestCORS(t *testing.T) {
	r := newRig(t, rigOptions{startup: serverCORS})
	r.create("own", `{"cors":{"origin":["*"],"login_origin":["https://own.example"]}}`)
	r.create("none", `{"cors":{"origin":[]}}`)
	const app = "Origin: https://app.example"
	allowed := "Origin: https://app.example; Credentials: true; Headers: Content-Type, X-Custom"
	for _, tt := range []struct {
		method, path string
		header       []string
		status       int
		want         string
	}{
		{"GET", "/", []string{app}, 200, allowed},
		{"GET", "/", []string{"Origin: http://localhost:3000"}, 200, strings.Replace(allowed, "https://app.example", "http://localhost:3000", 1)},
		{"GET", "/db/_session", []string{app}, 200, allowed},
		// Errors carry them too.
		{"GET", "/db/doc", []string{app}, 401, allowed},
		{"GET", "/unknown/doc", []string{app}, 401, allowed},
		{"GET", "/db/_unknown", []string{app}, 404, allowed},
		{"PATCH", "/db/doc", []string{app}, 405, allowed},
		// No match, no headers.
		{"GET", "/", nil, 200, ""},
		{"GET", "/", []string{"Origin: https://app.example.evil"}, 200, ""},
		{"GET", "/", []string{"Origin: http://app.example"}, 200, ""},
		{"GET", "/", []string{"Origin: null"}, 200, ""},
		{"GET", "/none/_session", []string{app}, 200, ""},
		// Preflight.
		{"OPTIONS", "/db/doc", []string{app, "Access-Control-Request-Method: PUT"}, 204, allowed + "; Methods: DELETE, GET, HEAD, PUT; Max-Age: 600"},
		{"OPTIONS", "/db/doc", []string{"Origin: https://evil.example"}, 204, ""},
		{"OPTIONS", "/db/doc", nil, 204, ""},
		{"OPTIONS", "/db/_unknown", []string{app}, 404, allowed},
		// The database's policy replaces the server's.
		{"GET", "/own/_session", []string{app}, 200, "Origin: *; Credentials: true"},
		{"GET", "/own/doc", []string{app}, 401, "Origin: *; Credentials: true"},
		// With "*" and credentials, browsers want their origin by name.
		{"GET", "/own/_session", []string{app, "Cookie: a=b"}, 200, "Origin: https://app.example; Credentials: true"},
		{"GET", "/own/_session", []string{app, basic("", "")}, 200, "Origin: https://app.example; Credentials: true"},
		{"OPTIONS", "/own/_bulk_docs", []string{app}, 204, "Origin: https://app.example; Credentials: true; Methods: POST"},
	} {
		a := r.p(tt.method, tt.path, "", tt.header...).is(tt.status)
		if got := a.cors(); got != tt.want {
			t.Errorf("%s %s %v: %q, want %q", tt.method, tt.path, tt.header, got, tt.want)
		}
		if len(tt.header) > 0 && !strings.Contains(a.header.Get("Vary"), "Origin") {
			t.Errorf("%s %s: Vary %q", tt.method, tt.path, a.header.Get("Vary"))
		}
	}
	r.p("OPTIONS", "/db/_bulk_docs", "").is(204).has("Allow", "POST")
	r.a("POST", "/db/_offline", "").is(200)
	if a := r.p("GET", "/db/doc", "", app).is(503); a.cors() != allowed {
		t.Errorf("offline: %s", a.cors())
	}
	if a := r.a("GET", "/", "", "Origin: http://localhost"); a.cors() != "" {
		t.Errorf("admin listener: %s", a.cors())
	}
}

func TestLoginOrigin(t *testing.T) {
	r := newRig(t, rigOptions{startup: serverCORS})
	r.create("own", `{"cors":{"origin":["*"],"login_origin":["*"]}}`)
	for _, db := range []string{"db", "own"} {
		r.a("PUT", "/"+db+"/_user/bob", `{"password":"letmein"}`).is(201)
	}
	login := func(db string, header ...string) reply {
		return r.p("POST", "/"+db+"/_session", `{"name":"bob","password":"letmein"}`, header...)
	}
	login("db").is(200)
	login("db", "Origin: https://app.example").is(200)
	login("own", "Origin: https://any.example").is(200)
	for _, origin := range []string{"http://localhost:3000", "https://evil.example", "null", "http://localhost"} {
		a := login("db", "Origin: "+origin)
		a.fails(400, "No CORS")
		if a.header.Get("Set-Cookie") != "" {
			t.Errorf("%s: a cookie is set", origin)
		}
	}
	cookie := line(login("db").cookie())
	r.p("DELETE", "/db/_session", "", cookie, "Origin: https://evil.example").fails(400, "No CORS")
	r.p("GET", "/db/_session", "", cookie, "Origin: https://evil.example").is(200)
	r.p("DELETE", "/db/_session", "", cookie, "Origin: https://app.example").is(200)
	// The admin listener has no CORS: a page elsewhere is refused altogether.
	r.a("POST", "/db/_session", `{"name":"bob"}`, "Origin: https://app.example").is(403)
}
