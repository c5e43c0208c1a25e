package rest

import (
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/telemetry"
)

func TestChannelsArePaged(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{database: openGuest})
	for i := range 5 {
		r.a("PUT", fmt.Sprintf("/db/d%d", i), fmt.Sprintf(`{"channels":["c%d"]}`, i)).is(201)
	}
	r.a("GET", "/db/_channels?limit=3", "").want(200, `{"channels":["c0","c1","c2"],"more":true}`)
	r.a("GET", "/db/_channels?limit=3&after=c2", "").want(200, `{"channels":["c3","c4"],"more":false}`)
	r.a("GET", "/db/_channels?prefix=x", "").want(200, `{"channels":[],"more":false}`)
	r.p("GET", "/db/_channels", "").is(404)
}

func TestLogTail(t *testing.T) {
	t.Parallel()
	ring := telemetry.NewLogRing(3)
	log := slog.New(ring.Tee(slog.NewTextHandler(io.Discard, nil)))
	r := newRig(t, rigOptions{})
	s := NewServer(Deps{Gateway: r.gateway, Config: r.gateway.Startup(), AdminDeps: AdminDeps{LogRing: ring}})
	before := ring.Last()
	for i := range 4 {
		log.Info("entry", "i", i, "password", "hunter2")
	}
	log.Warn("told Loudly")
	get := func(query string) string {
		w := httptest.NewRecorder()
		req := httptest.NewRequestWithContext(t.Context(), "GET", "/_log"+query, nil)
		req.Host = "localhost"
		s.Admin().ServeHTTP(w, req)
		return w.Body.String()
	}
	all := get("")
	if strings.Count(all, `"number"`) != 3 || strings.Contains(all, "hunter2") || !strings.Contains(all, telemetry.Mask) || strings.Contains(all, "i=1 ") {
		t.Errorf("the newest three, masked: %s", all)
	}
	if got := get("?q=LOUDLY&level=warn"); strings.Count(got, `"number"`) != 1 || !strings.Contains(got, fmt.Sprintf(`"last":%d`, before+5)) {
		t.Errorf("by text: %s", got)
	}
	if got := get(fmt.Sprintf("?after=%d", before+5)); !strings.Contains(got, `"entries":[]`) {
		t.Errorf("after the last: %s", got)
	}
	r.a("GET", "/_log", "").is(404) // this server keeps none
}

// TestInsider shows that a call for somebody within the process needs no password and is bound by their role.
func TestInsider(t *testing.T) {
	t.Parallel()
	const startup = `{"api":{"admin_interface":"10.0.0.1:4985","https":{}},"auth":{"administrators":{"a":{"password":"a long secret","roles":["bucket_admin"],"databases":["db"]}}}}`
	r := newRig(t, rigOptions{startup: startup})
	passwords := access.NewPasswords(access.PasswordsConfig{Cost: 10})
	admins, err := AdminAccounts(r.gateway.Startup(), passwords)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(Deps{Gateway: r.gateway, Config: r.gateway.Startup(), Admins: admins})
	call := func(who *Insider, method, target string) int {
		w := httptest.NewRecorder()
		req := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader("{}"))
		req.Header.Set("Content-Type", "application/json")
		if who != nil {
			req = AsInsider(req, *who)
		}
		s.Admin().ServeHTTP(w, req)
		return w.Code
	}
	everything, reading, one := &Insider{Name: "e"}, &Insider{Name: "r", ReadOnly: true}, &Insider{Name: "a", Admin: admins.Account("a")}
	for _, c := range []struct {
		who            *Insider
		method, target string
		want           int
	}{
		{nil, "GET", "/_all_dbs", 401},
		{everything, "GET", "/_all_dbs", 200},
		{everything, "PUT", "/db/x", 201},
		{reading, "GET", "/db/x", 200},
		{reading, "PUT", "/db/y", 403},
		{reading, "DELETE", "/db/x", 403},
		{one, "GET", "/_all_dbs", 403},
		{one, "GET", "/db/x", 200},
		{one, "PUT", "/db/z", 201},
		{one, "PUT", "/other/", 403},
	} {
		if got := call(c.who, c.method, c.target); got != c.want {
			t.Errorf("%+v %s %s: %d, want %d", c.who, c.method, c.target, got, c.want)
		}
	}
}
