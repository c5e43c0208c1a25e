package console_test

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tidegate/tidegate/internal/console"
)

// httpClient is a browser without a screen: it keeps cookies and does not follow redirects.
type httpClient struct {
	t    testing.TB
	s    *site
	c    *http.Client
	body string // of the last answer
}

func newHTTPClient(t testing.TB, s *site) *httpClient {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &httpClient{t: t, s: s, c: &http.Client{Jar: jar, Timeout: stepTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (c *httpClient) do(method, path string, form url.Values, header ...string) *http.Response {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, "http://"+c.s.address+"/_console"+path, strings.NewReader(form.Encode()))
	if err != nil {
		c.t.Fatal(err)
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		if name == "Host" {
			r.Host = value
		}
		r.Header.Set(name, value)
	}
	answer, err := c.c.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	c.body = string(b)
	return answer
}

func (c *httpClient) get(path string, header ...string) *http.Response {
	c.t.Helper()
	return c.do("GET", path, nil, header...)
}

var csrfPattern = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

// csrf is the token in the last page.
func (c *httpClient) csrf() string {
	c.t.Helper()
	m := csrfPattern.FindStringSubmatch(c.body)
	if m == nil {
		c.t.Fatal("no token in the page:", c.body)
	}
	return m[1]
}

func (c *httpClient) login(name, secret string) {
	c.t.Helper()
	c.get("/login")
	if got := c.do("POST", "/login", url.Values{"csrf": {c.csrf()}, "name": {name}, "secret": {secret}}); got.StatusCode != http.StatusSeeOther {
		c.t.Fatalf("login: %d", got.StatusCode)
	}
}

func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

func jsonText(s string) string { return quoteJS(s) }

func TestEveryAnswerForbidsForeignThings(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := newHTTPClient(t, s)
	for _, path := range []string{"/login", "/nothing", "/", "/assets/none", "/events", "/pulse"} {
		h := c.get(path).Header
		policy := h.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'"} {
			if !strings.Contains(policy, part) {
				t.Errorf("%s: the policy %q lacks %s", path, policy, part)
			}
		}
		if strings.Contains(policy, "unsafe") || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: %v", path, h)
		}
	}
	page := c.get("/login")
	if page.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("a page may be kept: %v", page.Header)
	}
	asset := regexp.MustCompile(`/_console(/assets/app-[0-9a-f]+\.css)`).FindStringSubmatch(c.body)
	if got := c.get(asset[1]); got.StatusCode != http.StatusOK || !strings.Contains(got.Header.Get("Cache-Control"), "immutable") || !strings.Contains(c.body, "/") {
		t.Errorf("the style sheet: %d %v", got.StatusCode, got.Header)
	}
	if strings.Contains(c.body, `url("inter.woff2")`) {
		t.Error("the style sheet names the typeface without its hash")
	}
}

func TestPagesNeedALogin(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.do("PUT", "/world/", `{}`)
	c := newHTTPClient(t, s)
	for _, path := range []string{"/", "/db/world/", "/db/world/documents", "/metrics", "/log", "/new-database"} {
		if got := c.get(path); got.StatusCode != http.StatusSeeOther || !strings.HasPrefix(got.Header.Get("Location"), "/_console/login?next="+url.QueryEscape(path)) {
			t.Errorf("%s: %d %s", path, got.StatusCode, got.Header.Get("Location"))
		}
	}
	for _, path := range []string{"/events?t=overview", "/pulse", "/metrics/history", "/overview/cards"} {
		if got := c.get(path); got.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %d", path, got.StatusCode)
		}
	}
	if got := c.do("POST", "/new-database", url.Values{"name": {"x"}}); got.StatusCode != http.StatusSeeOther {
		t.Errorf("a change: %d", got.StatusCode)
	}
	c.login("admin", "correct horse")
	if got := c.get("/db/world/"); got.StatusCode != http.StatusOK {
		t.Errorf("after the login: %d", got.StatusCode)
	}
	u, _ := url.Parse("http://" + s.address + "/_console/")
	var session *http.Cookie
	c.get("/login")
	for _, cookie := range c.c.Jar.Cookies(u) {
		if cookie.Name == "tidegate-console" {
			session = cookie
		}
	}
	if session == nil || len(session.Value) < 40 {
		t.Errorf("the session's cookie: %v", session)
	}
}

func TestTheCookieIsForTheConsoleAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := newHTTPClient(t, s)
	c.get("/login")
	got := c.do("POST", "/login", url.Values{"csrf": {c.csrf()}, "name": {"admin"}, "secret": {"correct horse"}})
	for _, line := range got.Header.Values("Set-Cookie") {
		if !strings.Contains(line, "HttpOnly") || !strings.Contains(line, "SameSite=Strict") || !strings.Contains(line, "Path=/_console/") {
			t.Errorf("cookie %s", line)
		}
	}
}

func TestForgedChangesAreRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := newHTTPClient(t, s)
	c.login("admin", "correct horse")
	c.get("/new-database")
	token := c.csrf()
	for name, refused := range map[string]*http.Response{
		"no token":      c.do("POST", "/new-database", url.Values{"name": {"x"}}),
		"another token": c.do("POST", "/new-database", url.Values{"name": {"x"}, "csrf": {"x" + token}}),
		"another site":  c.do("POST", "/new-database", url.Values{"name": {"x"}, "csrf": {token}}, "Sec-Fetch-Site: cross-site"),
		"another host":  c.do("POST", "/new-database", url.Values{"name": {"x"}, "csrf": {token}}, "Host: evil.example"),
		"a login":       newHTTPClient(t, s).do("POST", "/login", url.Values{"name": {"admin"}, "secret": {"correct horse"}}),
	} {
		if refused.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %d", name, refused.StatusCode)
		}
	}
	if got := s.do("GET", "/_all_dbs", ""); got != "[]" {
		t.Errorf("made all the same: %s", got)
	}
	if got := c.do("POST", "/new-database", url.Values{"name": {"x"}, "csrf": {token}}); got.StatusCode != http.StatusSeeOther {
		t.Errorf("with the token: %d %s", got.StatusCode, c.body)
	}
	for _, next := range []string{"//evil.example", "https://evil.example", `/\evil.example`} {
		if got := c.get("/login?next=" + escape(next)); got.Header.Get("Location") != "/_console/" {
			t.Errorf("leads to %s", got.Header.Get("Location"))
		}
	}
}

// TestRolesBindTheConsole shows that the console can do no more than whoever logged in.
func TestRolesBindTheConsole(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.do("PUT", "/world/", `{}`)
	s.do("PUT", "/other/", `{}`)
	c := newHTTPClient(t, s)
	c.login("worlds", "one database")
	for path, want := range map[string]int{"/": 200, "/db/world/": 200, "/db/world/documents": 200, "/db/other/": 403, "/metrics": 403, "/log": 403} {
		if got := c.get(path); got.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, got.StatusCode, want)
		}
	}
	c = newHTTPClient(t, s)
	c.login("reader", "only looking")
	c.get("/db/world/config")
	token := c.csrf()
	if got := c.do("POST", "/db/world/offline", url.Values{"csrf": {token}}); got.StatusCode != http.StatusSeeOther {
		t.Errorf("%d", got.StatusCode)
	}
	if c.get("/db/world/"); !strings.Contains(c.body, "this account may read, not change") || strings.Contains(c.body, `data-testid="offline"`) {
		t.Errorf("a reader takes a database offline: %s", c.body)
	}
	if got := s.do("GET", "/world/", ""); !strings.Contains(got, "Online") {
		t.Errorf("the database is %s", got)
	}
}

func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	alive := func(c *httpClient) bool { return c.get("/pulse").StatusCode == http.StatusNoContent }
	used, idle := newHTTPClient(t, s), newHTTPClient(t, s)
	used.login("admin", "correct horse")
	idle.login("admin", "correct horse")
	for range 30 { // 10 hours
		s.clock.forward(20 * time.Minute)
		if got := used.get("/"); got.StatusCode != http.StatusOK {
			t.Fatalf("a session in use ended: %d", got.StatusCode)
		}
	}
	if alive(idle) {
		t.Error("an idle session lives on")
	}
	s.clock.forward(20 * time.Minute)
	used.get("/")
	for range 6 {
		s.clock.forward(20 * time.Minute)
		used.get("/")
	}
	if alive(used) {
		t.Error("a session lives for ever")
	}

	// Polling keeps nothing alive.
	polled := newHTTPClient(t, s)
	polled.login("admin", "correct horse")
	s.clock.forward(console.DefaultIdleTimeout / 2)
	if !alive(polled) {
		t.Error("ended too early")
	}
	s.clock.forward(console.DefaultIdleTimeout / 2)
	if alive(polled) {
		t.Error("a pulse keeps a session alive")
	}

	// A key that is deleted, and a logout.
	gone := newHTTPClient(t, s)
	gone.login("reader", "only looking")
	s.logins.remove("reader")
	if alive(gone) {
		t.Error("the session of a deleted account lives on")
	}
	out := newHTTPClient(t, s)
	out.login("admin", "correct horse")
	out.get("/")
	if got := out.do("POST", "/logout", url.Values{"csrf": {out.csrf()}}); got.StatusCode != http.StatusSeeOther || alive(out) {
		t.Error("logged out and still there")
	}
}

func TestSessionsAreBounded(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c, err := console.New(console.Options{Gateway: s.admin, Logins: s.logins, MaxSessions: 2, Now: s.clock.Now, LocalOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	s.console = c
	s.server.Handler = c
	var all []*httpClient
	for range 3 {
		one := newHTTPClient(t, s)
		one.login("admin", "correct horse")
		s.clock.forward(time.Second)
		all = append(all, one)
	}
	if c.Sessions() != 2 {
		t.Errorf("%d sessions", c.Sessions())
	}
	if got := all[0].get("/pulse").StatusCode; got != http.StatusUnauthorized {
		t.Errorf("the oldest: %d", got)
	}
	if got := all[2].get("/pulse").StatusCode; got != http.StatusNoContent {
		t.Errorf("the newest: %d", got)
	}
}
