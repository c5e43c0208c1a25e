package appservices_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/appservices"
)

// D1: log in, be told InvalidSession, refresh, repeat; and everything that tokens are not.
func TestD01LoginRefreshRepeat(t *testing.T) {
	r := newRig(t, "todo")
	in := r.as("", "POST", "/auth/providers/mongodb-cloud/login", map[string]string{"username": r.owner, "apiKey": r.private}).want(200)
	accessToken, refresh := in.text("access_token"), in.text("refresh_token")
	apps := "/groups/" + r.group + "/apps"
	r.as(accessToken, "GET", apps, nil).want(200)

	var claims struct {
		Exp, Iat int64
		Sub, Typ string
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(accessToken, ".")[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		t.Fatalf("the access token is no JWT: %v", err)
	}
	if claims.Exp-claims.Iat != 1800 || claims.Sub != in.text("user_id") || claims.Typ == "" {
		t.Errorf("claims: %+v", claims)
	}

	r.clock.advance(31 * time.Minute)
	r.as(accessToken, "GET", apps, nil).want(401, "InvalidSession")
	again := r.as(refresh, "POST", "/auth/session", nil).want(201).text("access_token")
	r.as(again, "GET", apps, nil).want(200)

	// Types of tokens are told apart.
	r.as(refresh, "GET", apps, nil).want(401, "InvalidSession")
	if said := r.as(again, "POST", "/auth/session", nil).want(401).text("error"); !strings.Contains(said, "token type") {
		t.Errorf("an access token as a refresh token: %s", said)
	}
	r.as(again, "DELETE", "/auth/session", nil).want(401)
	for _, bad := range []string{"", "x", again + "x", strings.Replace(again, ".", ".A", 1), unsigned(again), refresh[:len(refresh)-2]} {
		r.as(bad, "GET", apps, nil).want(401, "InvalidSession")
	}
	r.as("", "POST", "/auth/session", nil).want(401)

	// The end of a login ends its tokens.
	r.as(refresh, "DELETE", "/auth/session", nil).want(204)
	r.as(refresh, "POST", "/auth/session", nil).want(401, "InvalidSession")
	r.as(again, "GET", apps, nil).want(401, "InvalidSession")
	r.clock.advance(61 * 24 * time.Hour)
	r.call("GET", apps, nil).want(401, "InvalidSession")
}

// unsigned is a token that says it has no signature.
func unsigned(token string) string {
	parts := strings.Split(token, ".")
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + parts[1] + "."
}

func TestD01WrongLogins(t *testing.T) {
	r := newRig(t)
	const path = "/auth/providers/mongodb-cloud/login"
	r.as("", "POST", path, map[string]string{"username": r.owner, "api_key": r.private}).want(200)
	r.as("", "POST", path, map[string]string{"username": r.owner}).want(400, "MissingParameter")
	r.as("", "POST", path, map[string]string{"apiKey": r.private}).want(400, "MissingParameter")
	r.as("", "POST", path, `{"username":1}`).want(400, "InvalidParameter")
	r.as("", "POST", path, `nothing`).want(400, "MalformedJson")
	r.as("", "POST", path, `{"username":"a","username":"b"}`).want(400, "MalformedJson")
	r.as("", "POST", "/auth/providers/anon-user/login", `{"username":"a"}`).want(404)
	for range access.DefaultFailures {
		r.as("", "POST", path, map[string]string{"username": r.owner, "apiKey": "wrong"}).want(401, "AuthError")
	}
	r.as("", "POST", path, map[string]string{"username": r.owner, "apiKey": r.private}).want(429, "AuthError")
}

func TestD01LoginOutlivesARestart(t *testing.T) {
	r := newRig(t, "todo")
	before := r.automatic("todo")
	r.restart()
	if after := r.automatic("todo"); after.app != before.app || after.service != before.service {
		t.Errorf("ids were %s and are %s", before.service, after.service)
	}
}

func TestD01DeletedKeyEndsItsLogins(t *testing.T) {
	r := newRig(t)
	all, err := r.keys.List(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	if err := r.keys.Delete(t.Context(), all[0].ID); err != nil {
		t.Fatal(err)
	}
	r.call("GET", "/auth/profile", nil).want(401, "InvalidSession")
}

func TestD01CookieOfABrowser(t *testing.T) {
	r := newRig(t)
	in := r.as("", "POST", "/auth/providers/mongodb-cloud/login?cookie=true", map[string]string{"username": r.owner, "apiKey": r.private}).want(200)
	if in.text("refresh_token") != "" {
		t.Error("scripts can read the refresh token")
	}
	cookie := in.header.Get("Set-Cookie")
	for _, want := range []string{"HttpOnly", "SameSite=Strict", "Path=" + appservices.BasePath + "/auth"} {
		if !strings.Contains(cookie, want) {
			t.Errorf("%s: no %s", cookie, want)
		}
	}
	pair, _, _ := strings.Cut(cookie, ";")
	token := r.as("", "POST", "/auth/session", nil, "Cookie", pair).want(201).text("access_token")
	r.as(token, "GET", "/auth/profile", nil).want(200)
	r.as("", "DELETE", "/auth/session", nil, "Cookie", pair).want(204)
	r.as("", "POST", "/auth/session", nil, "Cookie", pair).want(401, "InvalidSession")
}

func TestRolesOfLogins(t *testing.T) {
	r := newRig(t, "todo")
	key, private, err := r.keys.Create(t.Context(), "reader", access.RoleReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	token := r.as("", "POST", "/auth/providers/mongodb-cloud/login", map[string]string{"username": key.PublicKey, "apiKey": private.Reveal()}).want(200).text("access_token")
	f := r.automatic("todo")
	r.as(token, "GET", f.service+"/config", nil).want(200)
	r.as(token, "PATCH", f.service+"/config", full("disabled", "todo")).want(403, "Unauthorized")
	f.wantState("enabled")
	r.as(token, "POST", f.app+"/drafts", nil).want(403, "Unauthorized")

	hash, err := access.HashPassword("a good password", 4)
	if err != nil {
		t.Fatal(err)
	}
	r.admins = []access.AdminAccount{
		{Name: "root", PasswordHash: access.NewSecret(hash), Roles: []string{"admin"}},
		{Name: "watcher", PasswordHash: access.NewSecret(hash), Roles: []string{"ro_admin"}},
		{Name: "one", PasswordHash: access.NewSecret(hash), Roles: []string{"bucket_admin"}, Databases: []string{"todo"}},
	}
	r.restart()
	in := func(name, password string) *answer {
		return r.as("", "POST", "/auth/providers/local-userpass/login", map[string]string{"username": name, "password": password})
	}
	r.as(in("root", "a good password").want(200).text("access_token"), "PATCH", f.service+"/config", full("enabled", "todo")).want(204)
	r.as(in("watcher", "a good password").want(200).text("access_token"), "PATCH", f.service+"/config", full("enabled", "todo")).want(403, "Unauthorized")
	in("one", "a good password").want(403, "Unauthorized")
	in("root", "a bad password").want(401, "AuthError")
	in("nobody", "a good password").want(401, "AuthError")
	for _, p := range r.as("", "GET", "/auth/providers", nil).want(200).list() {
		if p.(map[string]any)["disabled"] != false {
			t.Errorf("provider %v is off", p)
		}
	}
}

func TestLoginsAreBounded(t *testing.T) {
	r := newRig(t)
	first := r.token
	for range appservices.MaxSessions {
		r.clock.advance(time.Second)
		r.login()
	}
	r.as(first, "GET", "/auth/profile", nil).want(401, "InvalidSession")
	r.call("GET", "/auth/profile", nil).want(200)
}

// Requests of the console are whoever logged in there, without a token.
func TestTrustedRequests(t *testing.T) {
	r := newRig(t)
	who := appservices.Identity{UserID: strings.Repeat("a", 24), Name: "console", Provider: "local-userpass", Role: access.RoleReadOnly}
	for method, code := range map[string]int{"GET": 200, "POST": 403} {
		req := httptest.NewRequest(method, "http://localhost"+appservices.BasePath+"/groups/"+r.group+"/apps", nil)
		w := httptest.NewRecorder()
		r.api.ServeHTTP(w, appservices.AsUser(req, who))
		if w.Code != code {
			t.Errorf("%s: %d %s", method, w.Code, w.Body)
		}
	}
}
