package rest

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/config"
)

// defaultRealm is what a client that shows a login dialogue names; scripts look for it (gateway-rest.md §5.1).
const defaultRealm = "Couchbase Sync Gateway"

var (
	errForeignHost   = tidegate.Errorf(tidegate.Forbidden, "this listener is for requests from this machine; the Host header names another")
	errForeignOrigin = tidegate.Errorf(tidegate.Forbidden, "requests from other origins are not allowed here")
	errAdminLogin    = tidegate.Errorf(tidegate.Unauthorized, "Login required")
	errAdminRole     = tidegate.Errorf(tidegate.Forbidden, "the administrator's role does not allow this")
)

// authState is what authentication keeps in a Server.
type authState struct {
	admins *access.AdminAccounts
	// local: the listener can be reached from this machine only. login: it wants administrator credentials.
	adminLocal, metricsLocal bool
	adminLogin, metricsLogin bool
}

// newAuthState reads the settings. admins may be nil: nobody can log in as administrator then.
func newAuthState(settings config.ServerSettings, admins *access.AdminAccounts) authState {
	a := authState{
		admins: admins, adminLocal: isLoopback(settings.AdminAddr), metricsLocal: isLoopback(settings.MetricsAddr),
	}
	a.adminLogin = orElse(settings.AdminAuth, !a.adminLocal)
	a.metricsLogin = orElse(settings.MetricsAuth, !a.metricsLocal)
	return a
}

// AdminAccounts makes the administrators of a start-up config; passwords checks their logins. Invalid: an
// account makes no sense.
func AdminAccounts(startup *config.Startup, passwords *access.Passwords) (*access.AdminAccounts, error) {
	var accounts []access.AdminAccount
	for name, admin := range startup.Auth.Administrators {
		hash := admin.PasswordHash.Reveal()
		if hash == "" {
			var err error
			if hash, err = access.HashPassword(admin.Password.Reveal(), startup.Settings().BcryptCost); err != nil {
				return nil, err
			}
		}
		accounts = append(accounts, access.AdminAccount{
			Name: name, PasswordHash: access.NewSecret(hash), Roles: admin.Roles, Databases: admin.Databases,
		})
	}
	return access.NewAdminAccounts(accounts, passwords)
}

func orElse(p *bool, def bool) bool {
	if p == nil {
		return def
	}
	return *p
}

// isLoopback reports whether a listener's address can be reached from this machine only.
func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && isLocalHost(host)
}

func isLocalHost(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.Unmap().IsLoopback()
}

// authenticate finds out who a request on the public listener is from (gateway-rest.md §5.1): the first that
// applies of Basic, one-time session (replications only), session cookie and guest decides.
func (s *Server) authenticate(r *request) (*access.User, error) {
	if r.db == nil { // it is not loaded, so nobody can log in
		if r.route.needs == needOpen || r.route.has(anyState) {
			return nil, nil // the handler tells no more than the gate tells everybody
		}
		if err := r.admit(); err != nil {
			return nil, err
		}
	}
	registry, settings := r.db.Access(), r.running.Settings()
	if scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Basic") && !settings.DisablePasswordAuth {
		name, password, ok := r.BasicAuth()
		switch {
		case !ok:
			return nil, errInvalidLogin // nobody who meant to log in is taken for the guest
		case name == "" && password == "":
			return s.guest(r)
		}
		return registry.Authenticate(r.ctx, name, password, r.RemoteAddr)
	}
	if r.route.has(replicates) {
		if id := oneTimeToken(r.Header); id != "" {
			return registry.OneTimeSession(r.ctx, id)
		}
	}
	if id := sessionCookie(r, settings); id != "" {
		user, session, err := registry.Session(r.ctx, id)
		if err == nil {
			if !session.OneTime { // that one is over
				r.session = id
			}
			if session.Refreshed {
				s.setSessionCookie(r.answer, r, session)
			}
			return user, nil
		}
		if r.route.needs != needOpen || tidegate.ErrorCode(err) != tidegate.Unauthorized {
			return nil, err
		}
	}
	return s.guest(r)
}

// guest returns the guest, if it is enabled or the route is open to everybody.
func (s *Server) guest(r *request) (*access.User, error) {
	guest, err := r.db.Access().Guest(r.ctx)
	if err != nil {
		return nil, err
	}
	if guest.Disabled() && r.route.needs != needOpen {
		return nil, errLoginRequired
	}
	return guest, nil
}

// sessionCookie returns the session id that a request carries; "" for none.
func sessionCookie(r *request, settings config.Settings) string {
	if len(r.Header["Cookie"]) == 0 {
		return ""
	}
	cookie, err := r.Cookie(settings.SessionCookieName)
	if err != nil {
		return ""
	}
	return cookie.Value
}

// setSessionCookie gives the client a session, or the new end of one (gateway-rest.md §15.1).
func (s *Server) setSessionCookie(w http.ResponseWriter, r *request, session access.Session) {
	cookie := s.sessionCookieOf(r)
	cookie.Value, cookie.Expires = session.ID.Reveal(), session.Expires
	http.SetCookie(w, cookie)
}

// sessionCookieOf returns the cookie of a request's database without a value.
func (s *Server) sessionCookieOf(r *request) *http.Cookie {
	settings := r.running.Settings()
	return &http.Cookie{
		Name:     settings.SessionCookieName,
		Path:     "/" + strings.ReplaceAll(r.running.Name(), "/", "%2F"), // as clients send it; no escape elsewhere
		Secure:   orElse(settings.SessionCookieSecure, r.TLS != nil),
		HttpOnly: settings.SessionCookieHTTPOnly,
		SameSite: settings.SameSite,
	}
}

// setChallenge adds WWW-Authenticate to a 401 of the public listener, so that browsers ask for a login.
func (s *Server) setChallenge(h http.Header, r *request) {
	if r.running != nil {
		if settings := r.running.Settings(); !settings.SendWWWAuthenticate || settings.DisablePasswordAuth {
			return
		}
	}
	h.Set("WWW-Authenticate", `Basic realm="`+defaultRealm+`"`)
}

// guardAdmin refuses what a web page elsewhere could make a browser on this machine send to the admin and
// metrics listeners: a Host that is not this machine (DNS rebinding) and an Origin that is not the listener's
// own (gateway-rest.md §5.2).
func (s *Server) guardAdmin(r *request) error {
	if r.insider() != nil {
		return nil // there is no web page behind it
	}
	local := s.authn.adminLocal
	switch r.listener {
	case public:
		return nil
	case metrics:
		local = s.authn.metricsLocal
	}
	if !local {
		return nil // a login is asked for instead, or was given up by name
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if !isLocalHost(host) {
		return errForeignHost
	}
	if origin := r.Header.Get("Origin"); origin != "" && !sameHost(origin, r.Host) {
		return errForeignOrigin
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" {
		return errForeignOrigin
	}
	return nil
}

// sameHost reports whether an origin is that of the host the request was sent to.
func sameHost(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, host)
}

// authenticateAdmin checks administrator credentials where they are asked for, and the role for
// r.route.needs (gateway-rest.md §5.2).
func (s *Server) authenticateAdmin(r *request) error {
	if who := r.insider(); who != nil {
		return who.check(r)
	}
	login := s.authn.adminLogin
	if r.listener == metrics {
		login = s.authn.metricsLogin
	}
	if !login {
		return nil
	}
	err := s.checkAdmin(r)
	if tidegate.ErrorCode(err) == tidegate.Unauthorized {
		r.answer.Header().Set("WWW-Authenticate", `Basic realm="tidegate administration"`)
	}
	return err
}

func (s *Server) checkAdmin(r *request) error {
	name, password, ok := r.BasicAuth()
	if !ok || s.authn.admins == nil {
		return errAdminLogin
	}
	admin, err := s.authn.admins.Authenticate(r.ctx, name, password, r.RemoteAddr)
	if err != nil {
		return err
	}
	return r.checkRole(admin)
}

// checkRole refuses what the administrator's role does not allow.
func (r *request) checkRole(admin *access.Admin) error {
	allowed := false
	switch r.route.needs {
	case needNothing:
		allowed = true
	case needOpen:
		allowed = true
	case needLogin, needDatabase:
		// Who may read everything is told that there is no such database; others are not.
		allowed = admin.MayDatabase(r.keyspace.db) || r.running == nil && admin.MayReadServer()
	case needServerRead:
		allowed = admin.MayReadServer()
	case needServerWrite:
		allowed = admin.MayWriteServer()
	}
	if !allowed {
		return errAdminRole
	}
	return nil
}
