package rest

import (
	"crypto/tls"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// cookie returns the session cookie that an answer sets.
func (a reply) cookie() *http.Cookie {
	a.t.Helper()
	set := (&http.Response{Header: a.header}).Cookies()
	if len(set) != 1 {
		a.t.Fatalf("%d cookies are set: %q", len(set), a.header["Set-Cookie"])
	}
	return set[0]
}

// line is the header line with which a client sends a cookie back.
func line(c *http.Cookie) string { return "Cookie: " + c.Name + "=" + c.Value }

// loginRig has a database with the users bob, who has the channel a, and off, who is disabled.
func loginRig(t *testing.T, database string) *rig {
	r := newRig(t, rigOptions{startup: cheapPasswords, database: database})
	r.a("PUT", "/db/_user/bob", `{"password":"letmein","admin_channels":["a"]}`).is(201)
	r.a("PUT", "/db/_user/off", `{"password":"letmein","disabled":true}`).is(201)
	return r
}

const (
	bobCtx   = `{"ok":true,"userCtx":{"name":"bob","channels":{"!":1,"a":1}},"authentication_handlers":["default","cookie"]}`
	guestCtx = `{"ok":true,"userCtx":{"name":null,"channels":{"!":1}},"authentication_handlers":["default","cookie"]}`
)

func TestGetSession(t *testing.T) {
	r := loginRig(t, "")
	login := r.p("POST", "/db/_session", `{"name":"bob","password":"letmein"}`).want(200, bobCtx)
	c := login.cookie()
	for _, tt := range []struct {
		header string
		status int
		body   string
	}{
		{"X: y", 200, guestCtx}, // also where the guest is disabled
		{basic("", ""), 200, guestCtx},
		{"Cookie: SyncGatewaySession=nonsense", 200, guestCtx},
		{basic("bob", "letmein"), 200, bobCtx},
		{line(c), 200, bobCtx},
		{basic("bob", "wrong"), 401, `{"error":"Unauthorized","reason":"Invalid login"}`},
		{basic("off", "letmein"), 401, `{"error":"Unauthorized","reason":"Invalid login"}`},
	} {
		r.p("GET", "/db/_session", "", tt.header).want(tt.status, tt.body)
		r.p("HEAD", "/db/_session/", "", tt.header).is(tt.status)
	}
	r.p("GET", "/none/_session", "").fails(401, "Login required")
	r.a("GET", "/db/_session", "").is(405)
}

func TestLogin(t *testing.T) {
	r := loginRig(t, "")
	a := r.p("POST", "/db/_session", `{"name":"bob","password":"letmein","more":1}`).want(200, bobCtx)
	c := a.cookie()
	if !regexp.MustCompile(`^[0-9a-f]{40}$`).MatchString(c.Value) || c.Name != "SyncGatewaySession" || c.Path != "/db" ||
		c.Secure || c.HttpOnly || c.SameSite != 0 || c.Domain != "" {
		t.Errorf("cookie: %s", a.header.Get("Set-Cookie"))
	}
	if left := time.Until(c.Expires); left < 23*time.Hour || left > 24*time.Hour+time.Minute {
		t.Errorf("the cookie expires in %v", left)
	}
	r.p("GET", "/db/", "", line(c)).is(200)
	for _, tt := range []struct {
		body, header string
		status       int
		reason       string
	}{
		{`{"name":"bob","password":"wrong"}`, "X: y", 401, "Invalid login"},
		{`{"name":"nobody","password":"letmein"}`, "X: y", 401, "Invalid login"},
		{`{"name":"off","password":"letmein"}`, "X: y", 401, "Invalid login"},
		{`{"name":"bob"}`, "X: y", 401, "Invalid login"},
		{`{"name":"","password":""}`, "X: y", 401, "Invalid login"},
		{`{"name":"GUEST","password":""}`, "X: y", 401, "Invalid login"},
		{`{}`, "X: y", 401, "Invalid login"},
		{``, "X: y", 400, "Bad JSON: syntax error at byte 0"},
		{`{"name":"bob","password":letmein}`, "X: y", 400, "Bad JSON…"},
		{`{"name":"bob","password":12345}`, "X: y", 400, "Bad JSON: wrong type of value at \"/password\""},
		{`["bob","letmein"]`, "X: y", 400, "Bad JSON: wrong type of value at \"\""},
		{`{"name":"bob","password":"letmein"}`, "Content-Type: text/plain", 415, "Invalid content type text/plain - expected application/json"},
		{`{"name":"bob","password":"letmein"}`, basic("bob", "wrong"), 401, "Invalid login"},
		{`{"name":"bob","password":"wrong"}`, basic("bob", "letmein"), 401, "Invalid login"},
		{``, line(c), 400, "Bad JSON: syntax error at byte 0"}, // a session does not beget sessions
		{strings.Repeat(" ", maxSessionBody+1), "X: y", 413, "Request body too large"},
	} {
		a := r.p("POST", "/db/_session", tt.body, tt.header)
		a.fails(tt.status, tt.reason)
		if a.header.Get("Set-Cookie") != "" {
			t.Errorf("%.60s: a cookie is set", tt.body)
		}
		if strings.Contains(a.body, "letmein") || strings.Contains(a.body, "12345") {
			t.Errorf("%.60s: the answer quotes the password: %s", tt.body, a.body)
		}
	}
	for _, body := range []string{``, `nonsense`, `{}`, `{"name":""}`, `{"name":"bob","password":"letmein"}`} {
		c := r.p("POST", "/db/_session", body, basic("bob", "letmein")).want(200, bobCtx).cookie()
		r.p("GET", "/db/_session", "", line(c)).want(200, bobCtx)
	}
	guest := newRig(t, rigOptions{startup: cheapPasswords, database: `{"guest":{"disabled":false}}`})
	guest.p("POST", "/db/_session", `{"name":"","password":""}`).fails(401, "Invalid login")
	guest.p("POST", "/db/_session", ``).fails(400, "Bad JSON…")
}

func TestOneTimeLogin(t *testing.T) {
	r := loginRig(t, "")
	a := r.p("POST", "/db/_session?one_time=true", `{"name":"bob","password":"letmein"}`).is(200)
	if a.header.Get("Set-Cookie") != "" {
		t.Error("a cookie is set")
	}
	id := a.member("one_time_session_id")
	r.a("GET", "/db/_session/"+id, "").want(200, bobCtx)
	r.p("GET", "/db/", "", "Cookie: SyncGatewaySession="+id).is(200)
	r.p("GET", "/db/", "", "Cookie: SyncGatewaySession="+id).fails(401, "Session Invalid")
}

func TestLogout(t *testing.T) {
	r := loginRig(t, "")
	c := r.p("POST", "/db/_session", `{"name":"bob","password":"letmein"}`).cookie()
	a := r.p("DELETE", "/db/_session", "", line(c)).want(200, "")
	if gone := a.cookie(); gone.Name != c.Name || gone.Path != c.Path || gone.Value != "" || gone.MaxAge >= 0 || time.Until(gone.Expires) > 0 {
		t.Errorf("cookie: %s", a.header.Get("Set-Cookie"))
	}
	r.p("GET", "/db/", "", line(c)).fails(401, "Session Invalid")
	r.p("DELETE", "/db/_session", "", line(c)).fails(401, "Session Invalid")
	r.p("DELETE", "/db/_session", "").fails(401, "Login required")
	r.p("DELETE", "/db/_session", "", basic("bob", "letmein")).fails(404, "no session")
	r.p("DELETE", "/db/_session", "", basic("bob", "letmein"), line(c)).fails(404, "no session")
}

func TestCookieAttributes(t *testing.T) {
	for _, tt := range []struct {
		database, name string
		tls            bool
		want           string // attributes after Expires
	}{
		{`{}`, "SyncGatewaySession", false, ""},
		{`{}`, "SyncGatewaySession", true, "; Secure"},
		{`{"session_cookie_secure":false}`, "SyncGatewaySession", true, ""},
		{`{"session_cookie_name":"Tide","session_cookie_secure":true,"session_cookie_http_only":true}`, "Tide", false, "; HttpOnly; Secure"},
		{`{"unsupported":{"same_site_cookie":"Lax"}}`, "SyncGatewaySession", false, "; SameSite=Lax"},
		{`{"unsupported":{"same_site_cookie":"Strict"}}`, "SyncGatewaySession", false, "; SameSite=Strict"},
		{`{"unsupported":{"same_site_cookie":"None"},"session_cookie_secure":true}`, "SyncGatewaySession", false, "; Secure; SameSite=None"},
	} {
		r := loginRig(t, tt.database)
		h := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if tt.tls {
				req.TLS = &tls.ConnectionState{}
			}
			r.public.ServeHTTP(w, req)
		})
		a := r.do(h, "POST", "/db/_session", `{"name":"bob","password":"letmein"}`).is(200)
		set := a.header.Get("Set-Cookie")
		if !strings.HasPrefix(set, tt.name+"=") || !regexp.MustCompile(`; Path=/db; Expires=[^;]* GMT`+regexp.QuoteMeta(tt.want)+`$`).MatchString(set) {
			t.Errorf("%s: %s", tt.database, regexp.MustCompile(`=[0-9a-f]{40}`).ReplaceAllString(set, "=…"))
		}
		gone := r.do(h, "DELETE", "/db/_session", "", line(a.cookie())).is(200).header.Get("Set-Cookie")
		if !strings.HasSuffix(gone, "; Max-Age=0"+tt.want) {
			t.Errorf("%s: on logout: %s", tt.database, gone)
		}
		if s := r.a("POST", "/db/_session", `{"name":"bob"}`).member("cookie_name"); s != tt.name {
			t.Errorf("cookie_name %s, want %s", s, tt.name)
		}
	}
}

func TestCookiePathOfOddNames(t *testing.T) {
	r := newRig(t, rigOptions{startup: cheapPasswords})
	r.create("a(b)$c+/d", `{}`)
	r.a("PUT", "/a(b)$c+%2Fd/_user/bob", `{"password":"letmein"}`).is(201)
	c := r.p("POST", "/a(b)$c+%2Fd/_session", `{"name":"bob","password":"letmein"}`).is(200).cookie()
	if c.Path != "/a(b)$c+%2Fd" {
		t.Fatalf("path %q", c.Path)
	}
}

// A used cookie is extended after a tenth of its time, by whatever request, also one that fails.
func TestCookieIsExtended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := loginRig(t, "")
		cookie := func() *http.Cookie {
			id := r.a("POST", "/db/_session", `{"name":"bob","ttl":600}`).is(200).member("session_id")
			return &http.Cookie{Name: "SyncGatewaySession", Value: id}
		}
		c := cookie()
		time.Sleep(time.Minute)
		if a := r.p("GET", "/db/", "", line(c)).is(200); a.header.Get("Set-Cookie") != "" {
			t.Error("it is extended before its time")
		}
		for range 3 { // 3 times 8 minutes are more than the 10 it was made for
			time.Sleep(8 * time.Minute)
			extended := r.p("GET", "/db/missing", "", line(c)).is(404).cookie()
			if extended.Value != c.Value || extended.Path != "/db" || time.Until(extended.Expires).Round(time.Second) != 10*time.Minute {
				t.Errorf("it ends in %v", time.Until(extended.Expires))
			}
		}
		time.Sleep(2 * time.Minute)
		if gone := r.p("DELETE", "/db/_session", "", line(c)).is(200).cookie(); gone.Value != "" {
			t.Error("a logout leaves a cookie")
		}
		c = cookie()
		time.Sleep(10 * time.Minute)
		r.p("GET", "/db/", "", line(c)).fails(401, "Session Invalid")
	})
}

func TestAdminSessions(t *testing.T) {
	r := loginRig(t, "")
	a := r.a("POST", "/db/_session", `{"name":"bob","ttl":120}`).is(200)
	expires, err := time.Parse(time.RFC3339Nano, a.member("expires"))
	if left := time.Until(expires); err != nil || left < time.Minute || left > 2*time.Minute || !strings.HasSuffix(a.member("expires"), "Z") {
		t.Errorf("expires %s, %v", a.member("expires"), err)
	}
	if a.member("cookie_name") != "SyncGatewaySession" {
		t.Error(a.body)
	}
	id := a.member("session_id")
	day := r.a("POST", "/db/_session", `{"name":"bob"}`).is(200)
	if at, err := time.Parse(time.RFC3339Nano, day.member("expires")); err != nil || time.Until(at) < 23*time.Hour {
		t.Errorf("default ttl: %s", day.body)
	}
	for _, tt := range []struct {
		body   string
		status int
		reason string
	}{
		{`{}`, 400, "Invalid or missing user name"},
		{`{"name":""}`, 400, "Invalid or missing user name"},
		{`{"name":"GUEST"}`, 400, "Invalid or missing user name"},
		{`{"name":"x"}`, 404, `No such user "x"`},
		{`{"name":"bob","ttl":0}`, 400, "Invalid or missing ttl"},
		{`{"name":"bob","ttl":-1}`, 400, "Invalid or missing ttl"},
		{`{"name":"bob","ttl":9223372036854775807}`, 400, "Invalid or missing ttl"},
		{`{"name":"bob","ttl":"x"}`, 400, "Bad JSON…"},
		{`{"name":"off"}`, 400, "User is disabled"},
		{``, 400, "Bad JSON…"},
		{`[`, 400, "Bad JSON…"},
	} {
		r.a("POST", "/db/_session", tt.body).fails(tt.status, tt.reason)
	}
	r.a("GET", "/db/_session/"+id, "").want(200, bobCtx)
	r.a("GET", "/db/_session/"+id, "").want(200, bobCtx) // looking does not use it
	r.a("GET", "/db/_session/unknown", "").fails(404, "missing")
	r.a("DELETE", "/db/_session/unknown", "").fails(404, "missing")
	r.p("GET", "/db/", "", "Cookie: SyncGatewaySession="+id).is(200)
	r.a("DELETE", "/db/_session/"+id, "").want(200, "")
	r.a("DELETE", "/db/_session/"+id, "").fails(404, "missing")
	r.a("GET", "/db/_session/"+id, "").fails(404, "missing")
	r.p("GET", "/db/", "", "Cookie: SyncGatewaySession="+id).fails(401, "Session Invalid")

	r.a("PUT", "/db/_user/amy", `{"password":"letmein"}`).is(201)
	one, two := r.session("db", "bob"), r.session("db", "bob")
	idOf := func(header string) string { _, id, _ := strings.Cut(header, "="); return id }
	r.a("DELETE", "/db/_user/amy/_session/"+idOf(one), "").fails(404, "missing")
	r.a("DELETE", "/db/_user/bob/_session/"+idOf(one), "").want(200, "")
	r.p("GET", "/db/", "", one).fails(401, "Session Invalid")
	r.p("GET", "/db/", "", two).is(200)
	r.a("DELETE", "/db/_user/bob/_session", "").want(200, "")
	r.p("GET", "/db/", "", two).fails(401, "Session no longer valid for user")
	r.a("DELETE", "/db/_user/nobody/_session", "").want(200, "")

	three := r.session("db", "bob")
	r.a("PUT", "/db/_user/bob", `{"password":"changed"}`).is(200)
	r.p("GET", "/db/", "", three).fails(401, "Session no longer valid for user")
	r.p("GET", "/db/", "", basic("bob", "letmein")).fails(401, "Invalid login")
	r.p("GET", "/db/", "", basic("bob", "changed")).is(200)
	four := r.session("db", "bob")
	r.a("DELETE", "/db/_user/bob", "").is(200)
	r.p("GET", "/db/", "", four).fails(401, "Session no longer valid for user")
}

// A session is good in the database it was made in alone.
func TestSessionOfAnotherDatabase(t *testing.T) {
	r := loginRig(t, "")
	r.create("other", `{}`)
	r.a("PUT", "/other/_user/bob", `{"password":"letmein"}`).is(201)
	r.p("GET", "/other/", "", r.session("db", "bob")).fails(401, "Session Invalid")
}

func TestDisabledPasswordAuth(t *testing.T) {
	r := loginRig(t, `{"disable_password_auth":true}`)
	for _, path := range []string{"/db/", "/db/doc"} {
		a := r.p("GET", path, "", basic("bob", "letmein"))
		a.fails(401, "Login required")
		if a.header.Get("WWW-Authenticate") != "" {
			t.Error("a challenge for a password that would not do")
		}
	}
	r.p("POST", "/db/_session", `{"name":"bob","password":"letmein"}`).fails(401, "Invalid login")
	r.p("POST", "/db/_session", `{"name":"bob","password":"letmein"}`, basic("bob", "letmein")).fails(401, "Invalid login")
	r.p("GET", "/db/", "", r.session("db", "bob")).is(200)
}

func TestLoginFailuresAnswer429(t *testing.T) {
	r := loginRig(t, "")
	for range 10 {
		r.p("GET", "/db/", "", basic("bob", "wrong")).fails(401, "Invalid login")
	}
	a := r.p("GET", "/db/", "", basic("bob", "letmein"))
	a.fails(429, "Too many failed logins; try again in a minute")
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	r.p("POST", "/db/_session", `{"name":"bob","password":"letmein"}`).is(429)
	r.doFrom(r.public, "192.0.2.77:1", "GET", "/db/", "", basic("bob", "letmein")).is(200)
	r.p("GET", "/db/", "", r.session("db", "bob")).is(200)
}
