package rest

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// DNS rebinding and pages elsewhere: what a browser on this machine can be made to send to a listener on the
// loopback (gateway-rest.md §5.2).
func TestAdminListenerOnTheLoopback(t *testing.T) {
	r := newRig(t, rigOptions{})
	for _, tt := range []struct {
		host, origin, site string
		ok                 bool
	}{
		{"localhost", "", "", true},
		{"localhost:4985", "", "", true},
		{"LOCALHOST:1", "", "", true},
		{"127.0.0.1", "", "", true},
		{"127.0.0.1:4985", "", "", true},
		{"[::1]:4985", "", "", true},
		{"[::1]", "", "", true},
		{"localhost:4985", "http://localhost:4985", "same-origin", true},
		{"localhost:4985", "", "none", true},
		{"evil.example", "", "", false},
		{"evil.example:4985", "", "", false},
		{"localhost.evil.example", "", "", false},
		{"127.0.0.1.evil.example:4985", "", "", false},
		{"0.0.0.0:4985", "", "", false},
		{"192.168.1.2:4985", "", "", false},
		{"", "", "", false},
		{"localhost:4985", "http://evil.example", "", false},
		{"localhost:4985", "http://localhost:3000", "", false},
		{"localhost:4985", "null", "", false},
		{"localhost:4985", "file://", "", false},
		{"localhost:4985", "", "cross-site", false},
	} {
		for l, h := range map[string]http.Handler{"admin": r.admin, "metrics": r.server.Metrics()} {
			with := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				req.Host = tt.host
				h.ServeHTTP(w, req)
			})
			var header []string
			if tt.origin != "" {
				header = append(header, "Origin: "+tt.origin)
			}
			if tt.site != "" {
				header = append(header, "Sec-Fetch-Site: "+tt.site)
			}
			for path, ok := range map[string]int{"/_ping": 200, "/_unknown": 404} {
				want := ok
				if !tt.ok {
					want = 403
				}
				if a := r.do(with, "GET", path, "", header...); a.status != want {
					t.Errorf("%s %s: host %q, origin %q, site %q: %d, want %d", l, path, tt.host, tt.origin, tt.site, a.status, want)
				}
			}
		}
	}
	if a := r.do(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		req.Host = "evil.example"
		r.public.ServeHTTP(w, req)
	}), "GET", "/_ping", "", "Origin: http://evil.example"); a.status != 200 {
		t.Errorf("public listener: %d", a.status)
	}
}

// A listener that is not on the loopback is reached by names we do not know: it asks for a login instead.
func TestAdminListenerElsewhere(t *testing.T) {
	r := newRig(t, rigOptions{startup: cheapPasswords})
	h := r.withAdmins(`{"api":{"admin_interface":":4985"},` + administrators + `}`).Admin()
	r.do(h, "GET", "/_all_dbs", "").fails(401, "Login required")
	named := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		req.Host = "gateway.example:4985"
		h.ServeHTTP(w, req)
	})
	r.do(named, "GET", "/_all_dbs", "", basic("root", "administrator")).want(200, `["db"]`)
	// Nobody can log in where there are no accounts.
	none := NewServer(Deps{Gateway: r.gateway, Config: mustStartup(t, `{"api":{"admin_interface":":4985"}}`), Version: "test"}).Admin()
	r.do(none, "GET", "/_all_dbs", "", basic("root", "administrator")).fails(401, "Login required")
	r.do(none, "GET", "/_ping", "").is(200)
}

func TestChallenge(t *testing.T) {
	for _, tt := range []struct{ database, want string }{
		{`{}`, `Basic realm="Couchbase Sync Gateway"`},
		{`{"send_www_authenticate_header":false}`, ""},
		{`{"disable_password_auth":true}`, ""},
	} {
		r := newRig(t, rigOptions{startup: cheapPasswords, database: tt.database})
		r.p("GET", "/db/doc", "").is(401).has("WWW-Authenticate", tt.want)
		r.p("GET", "/other/doc", "").is(401).has("WWW-Authenticate", `Basic realm="Couchbase Sync Gateway"`)
	}
}

// While a database is not loaded nobody can log in to it; what is open says so. Its state is told to everybody, as the
// refusals tell it, and nothing else about it.
func TestAuthenticationOffline(t *testing.T) {
	r := newRig(t, rigOptions{startup: cheapPasswords})
	r.a("PUT", "/db/_user/bob", `{"password":"letmein"}`).is(201)
	r.a("POST", "/db/_offline", "").is(200)
	for _, header := range []string{"X: y", basic("bob", "letmein"), "Cookie: SyncGatewaySession=x"} {
		for _, path := range []string{"/db/doc", "/db/_session"} {
			r.p("GET", path, "", header).fails(503, "DB is currently under maintenance")
		}
		r.p("GET", "/db/", "", header).want(200, `{"db_name":"db","update_seq":0,"committed_update_seq":0,"instance_start_time":null,
			"compact_running":false,"purge_seq":0,"disk_format_version":0,"state":"Offline"}`)
	}
	r.p("PUT", "/db/", `{}`).is(412)
	r.a("GET", "/db/", "").is(200)
	r.a("POST", "/db/_online?wait=true", "").is(200)
	r.p("GET", "/db/", "", basic("bob", "letmein")).is(200)
}

// Passwords and session ids are in no log and no answer (hardening.md).
func TestSecretsStayOutOfLogsAndAnswers(t *testing.T) {
	var all lockedBuffer
	r := newRig(t, rigOptions{startup: cheapPasswords, log: slog.New(slog.NewTextHandler(&all, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	note := func(a reply) reply { // Set-Cookie is where a session id belongs
		_, _ = all.Write([]byte(a.body))
		return a
	}
	const one, two, three = "Hush1-a91c", "Hush2-b72d", "Hush3-c53e"
	note(r.a("PUT", "/db/_user/bob", `{"password":"`+one+`","email":"x"}`))
	note(r.a("PUT", "/db/_user/bob", `{"password":"`+two+`","nonsense":1}`))
	note(r.a("PUT", "/db/_user/bob", `{"password":["`+two+`"]}`))
	note(r.a("PUT", "/db/_user/bob", `{"password":"`+two+`"`))
	note(r.a("PUT", "/db/_user/bob", `{"password":"`+two+`","password":"`+three+`"}`))
	note(r.a("POST", "/db/_user/", `{"name":"bob","password":"`+two+`"}`))
	note(r.a("GET", "/db/_user/bob", ""))
	cookie := note(r.p("POST", "/db/_session", `{"name":"bob","password":"`+one+`"}`)).is(200).cookie()
	note(r.p("POST", "/db/_session", `{"name":"bob","password":"`+two+`"}`)).is(401)
	note(r.p("POST", "/db/_session", `{"name":"bob","password":`+two+`}`)).is(400)
	note(r.p("POST", "/db/_session", `{"name":"bob","password":["`+two+`"]}`)).is(400)
	note(r.p("GET", "/db/", "", basic("bob", three))).is(401)
	note(r.p("GET", "/db/doc?password="+three, "", line(cookie)))
	note(r.p("GET", "/db/_session", "", line(cookie))).is(200)
	note(r.a("GET", "/db/_session/"+cookie.Value, "")).is(200)
	note(r.p("DELETE", "/db/_session", "", line(cookie), "Origin: http://evil.example")).is(400)
	note(r.a("DELETE", "/db/_user/amy/_session/"+cookie.Value, "")).is(404)
	note(r.a("DELETE", "/db/_session/"+cookie.Value, "")).is(200)
	note(r.a("DELETE", "/db/_session/"+cookie.Value, "")).is(404)
	note(r.p("GET", "/db/", "", line(cookie))).is(401)
	text := all.String()
	if !strings.Contains(text, "Invalid login") || !strings.Contains(text, "request failed") {
		t.Fatal("the test does not look at the log")
	}
	for _, secret := range []string{one, two, three, cookie.Value} {
		if i := strings.Index(text, secret); i >= 0 {
			t.Errorf("shown: …%s…", text[max(0, i-200):i+10])
		}
	}
}

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
