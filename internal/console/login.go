package console

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"
)

// loginPages are the login and what belongs to a session.
func (c *Console) loginPages() page {
	return page{routes: []route{
		{pattern: "GET /login", handler: c.showLogin, open: true},
		{pattern: "POST /login", handler: c.login, open: true},
		{pattern: "POST /logout", handler: c.logout},
	}}
}

// cookieName is the name of the session's cookie; browsers refuse the second form over plain HTTP.
func cookieName(tls bool) string {
	if tls {
		return "__Secure-tidegate-console"
	}
	return "tidegate-console"
}

// preCookie holds a random value while somebody logs in: the form carries a proof of it, so that no other site can
// log a browser in.
const preCookie = "tidegate-console-login"

func (rq *request) setCookie(name, value string, maxAge time.Duration) {
	cookie := &http.Cookie{Name: name, Value: value, Path: Base + "/", HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: rq.TLS != nil}
	if value == "" {
		cookie.MaxAge = -1
	} else {
		cookie.MaxAge = int(maxAge.Seconds())
	}
	http.SetCookie(rq.w, cookie)
}

type loginView struct {
	Name, Next, Proof string
	Problem           string
	Ended, Nobody     bool
}

// showLogin answers GET /login.
func (c *Console) showLogin(rq *request) error {
	if rq.session != nil {
		return rq.redirect(localPath(rq.FormValue("next")), "")
	}
	return rq.loginForm(http.StatusOK, loginView{Next: localPath(rq.FormValue("next")), Ended: rq.FormValue("ended") != ""})
}

func (rq *request) loginForm(status int, v loginView) error {
	any, err := rq.c.o.Logins.Any(rq.Context())
	if err != nil {
		return err
	}
	v.Nobody = !any
	pre := newToken()
	if old, err := rq.Cookie(preCookie); err == nil && len(old.Value) == len(pre) {
		pre = old.Value // the login may be open in another tab
	}
	rq.setCookie(preCookie, pre, time.Hour)
	v.Proof = rq.c.proof(pre)
	return rq.renderStatus(status, "login", "Log in", v)
}

// proof is what only this console can make of a login's random value.
func (c *Console) proof(pre string) string {
	mac := hmac.New(sha256.New, c.loginKey)
	mac.Write([]byte(pre))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// login answers POST /login.
func (c *Console) login(rq *request) error {
	pre, err := rq.Cookie(preCookie)
	if err != nil || !hmac.Equal([]byte(rq.PostFormValue("csrf")), []byte(c.proof(pre.Value))) {
		return errCSRF
	}
	v := loginView{Name: strings.TrimSpace(rq.PostFormValue("name")), Next: localPath(rq.PostFormValue("next"))}
	if v.Name == "" || rq.PostFormValue("secret") == "" {
		v.Problem = "Both fields are needed."
		return rq.loginForm(http.StatusUnprocessableEntity, v)
	}
	who, err := c.o.Logins.Login(rq.Context(), v.Name, rq.PostFormValue("secret"), rq.RemoteAddr)
	if err != nil {
		// Without the name: somebody may have typed a secret in its place.
		c.o.Logger.Warn("console login refused", "remote", rq.RemoteAddr, "error", err)
		v.Problem = "The login could not be checked. The server’s log says why."
		if told, ok := errors.AsType[LoginError](err); ok {
			v.Problem = told.Error()
		}
		return rq.loginForm(http.StatusUnauthorized, v)
	}
	if rq.session != nil {
		c.sessions.end(rq.session)
	}
	token, _ := c.sessions.start(who)
	c.o.Logger.Info("console login", "name", who.Name(), "remote", rq.RemoteAddr)
	rq.setCookie(cookieName(rq.TLS != nil), token, c.o.MaxAge)
	rq.setCookie(preCookie, "", 0)
	return rq.redirect(v.Next, "")
}

// logout answers POST /logout.
func (c *Console) logout(rq *request) error {
	c.sessions.end(rq.session)
	rq.setCookie(cookieName(rq.TLS != nil), "", 0)
	return rq.redirect("/login", "")
}

// localPath returns p if it is an address below Base, else "/".
func localPath(p string) string {
	if !strings.HasPrefix(p, "/") || strings.HasPrefix(p, "//") || strings.ContainsAny(p, "\\\r\n") || strings.HasPrefix(p, "/login") {
		return "/"
	}
	return p
}

// handlePulse answers GET /pulse: the server is there and the session goes on.
func (c *Console) handlePulse(rq *request) error {
	rq.w.WriteHeader(http.StatusNoContent)
	return nil
}
