package console

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// request is a request on its way to a page.
type request struct {
	*http.Request
	c       *Console
	w       http.ResponseWriter
	session *session // nil on open routes without a login
	route   route

	api  *client // the gateway's admin API, as the session's identity
	apps *client // the Admin API of App Services, likewise; its paths begin behind /api/admin/v3.0

	// db is the database that the page is about, for the navigation; it begins as the path's {db}.
	db string
	// sources are the data sources of the app that the page is about, for the navigation.
	sources []navItem
	// live are the topics that the page listens to, "name" or "name:argument".
	live []string
}

// maxFormBytes bounds a form: a document of the largest size fits, escaped.
const maxFormBytes = 64 << 20

var (
	errNoPage      = &pageError{http.StatusNotFound, "There is no such page", "The address is wrong, or what it named is gone."}
	errCSRF        = &pageError{http.StatusForbidden, "This form is out of date", "It did not come from this console, or from an earlier login. Nothing was changed. Open the page again and repeat what you did."}
	errForeignHost = &pageError{http.StatusForbidden, "Not this machine", "This listener is for requests from this machine; the Host header names another."}
	errNotSignedIn = errors.New("no session")
)

// pageError is an error with the words for the page that tells it.
type pageError struct {
	status       int
	title, words string
}

func (e *pageError) Error() string { return e.title + ": " + e.words }

// ServeHTTP implements http.Handler.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	setHeaders(w.Header())
	if r.URL.Path == Base {
		http.Redirect(w, r, Base+"/", http.StatusSeeOther)
		return
	}
	c.mux.ServeHTTP(w, r)
}

// setHeaders sets what every answer carries: nothing is loaded from elsewhere, nothing inline runs, nobody frames us.
func setHeaders(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "+
		"form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	h.Set("Cache-Control", "no-store")
}

// serve makes the handler of a route: it finds the session, refuses forged changes and tells errors.
func (c *Console) serve(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rq := &request{Request: r, c: c, w: w, route: rt, db: r.PathValue("db")}
		if err := rq.run(); err != nil {
			rq.fail(err)
		}
	})
}

func (rq *request) run() error {
	if rq.c.o.LocalOnly && !isLocalHost(rq.Host) {
		return errForeignHost
	}
	if err := rq.c.cross.Check(rq.Request); err != nil {
		return errCSRF
	}
	if cookie, err := rq.Cookie(cookieName(rq.TLS != nil)); err == nil {
		rq.session = rq.c.sessions.find(rq.Context(), cookie.Value, !rq.route.quiet)
	}
	if rq.session != nil {
		rq.api = &client{handler: rq.c.o.Gateway, identity: rq.session.identity}
		rq.apps = &client{handler: rq.c.o.AppServices, identity: rq.session.identity, prefix: "/api/admin/v3.0", origin: "mongodb-baas-ui"}
	}
	if rq.session == nil && !rq.route.open {
		return errNotSignedIn
	}
	if rq.Method == http.MethodPost {
		rq.Body = http.MaxBytesReader(rq.w, rq.Body, maxFormBytes)
		if err := rq.ParseForm(); err != nil {
			return &pageError{http.StatusBadRequest, "The form could not be read", err.Error()}
		}
		if !rq.route.open && !rq.csrfFits() {
			return errCSRF
		}
	}
	return rq.route.handler(rq)
}

// csrfFits reports whether a change carries the session's token, in the form or in the header that htmx sends.
func (rq *request) csrfFits() bool {
	got := rq.PostFormValue("csrf")
	if got == "" {
		got = rq.Header.Get("X-CSRF-Token")
	}
	return subtle.ConstantTimeCompare([]byte(got), []byte(rq.session.csrf)) == 1
}

// partial reports whether htmx asks for a part of a page.
func (rq *request) partial() bool { return rq.Header.Get("HX-Request") == "true" }

// redirect sends the browser to a path below Base, with a message for the page there; "" for none.
func (rq *request) redirect(path, message string) error {
	if message != "" && rq.session != nil {
		rq.session.addFlash("ok", message)
	}
	http.Redirect(rq.w, rq.Request, Base+path, http.StatusSeeOther)
	return nil
}

// fail tells an error: in a page, or to htmx as a status that its page shows as a message.
func (rq *request) fail(err error) {
	if isUnauthorized(err) && rq.session != nil { // the key is gone, or the account
		rq.c.sessions.end(rq.session)
		err = errNotSignedIn
	}
	if errors.Is(err, errNotSignedIn) {
		rq.askLogin()
		return
	}
	told := explain(err)
	if told.status >= http.StatusInternalServerError {
		rq.c.o.Logger.Warn("console page failed", "path", rq.URL.Path, "error", err)
	}
	if rq.partial() || rq.route.quiet {
		http.Error(rq.w, told.title+". "+told.words, told.status)
		return
	}
	view := errorView{Title: told.title, Words: told.words, Status: told.status, Offline: told.status == http.StatusServiceUnavailable && rq.db != ""}
	if err := rq.renderStatus(told.status, "error", told.title, view); err != nil {
		rq.c.o.Logger.Error("console error page failed", "error", err)
	}
}

type errorView struct {
	Title, Words string
	Status       int
	Offline      bool // the database's state may be why
}

// askLogin sends a browser to the login, and tells everybody else that there is no session.
func (rq *request) askLogin() {
	if rq.partial() || rq.route.quiet {
		http.Error(rq.w, "Log in again", http.StatusUnauthorized)
		return
	}
	to := url.Values{}
	if rq.Method == http.MethodGet {
		to.Set("next", strings.TrimPrefix(rq.URL.RequestURI(), Base))
	}
	if _, err := rq.Cookie(cookieName(rq.TLS != nil)); err == nil {
		to.Set("ended", "1")
	}
	http.Redirect(rq.w, rq.Request, Base+"/login?"+to.Encode(), http.StatusSeeOther)
}

// render answers with a page; title is of the window, data what its template gets as .Data.
func (rq *request) render(name, title string, data any) error {
	return rq.renderStatus(http.StatusOK, name, title, data)
}

func (rq *request) renderStatus(status int, name, title string, data any) error {
	return rq.write(status, name, "layout", rq.view(title, data))
}

// part answers with one block of a page's template, for htmx.
func (rq *request) part(name, block string, data any) error {
	return rq.write(http.StatusOK, name, block, rq.view("", data))
}

func (rq *request) write(status int, name, block string, v view) error {
	var b bytes.Buffer
	if err := rq.c.templates[name].ExecuteTemplate(&b, block, v); err != nil {
		return err
	}
	rq.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	rq.w.WriteHeader(status)
	_, _ = b.WriteTo(rq.w) // a browser that went away needs no answer
	return nil
}

// isLocalHost reports whether a Host header names this machine.
func isLocalHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.Unmap().IsLoopback()
}
