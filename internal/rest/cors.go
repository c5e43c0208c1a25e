package rest

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/config"
)

// errNoCORS is what a login from an origin that may not log in gets.
var errNoCORS = tidegate.Errorf(tidegate.Invalid, "No CORS")

// cors returns the policy for a request: the database's replaces the server's.
func (s *Server) cors(r *request) *config.CORS {
	if r.running != nil {
		if own := r.running.Settings().CORS; own != nil {
			return own
		}
	}
	return &s.settings.CORS
}

// setCORS adds the CORS headers of gateway-rest.md §7. It runs before anything can fail, so that errors carry
// them too: otherwise browsers hide them from the app.
func (s *Server) setCORS(h http.Header, r *request) {
	origin := r.Header.Get("Origin")
	if origin == "" || r.listener != public {
		return
	}
	policy := s.cors(r)
	h.Add("Vary", "Origin")
	switch {
	case slices.Contains(policy.Origin, origin):
		h.Set("Access-Control-Allow-Origin", origin)
	case slices.Contains(policy.Origin, "*"):
		// Browsers refuse credentials with "*", and PouchDB always sends some.
		if hasCredentials(r.Request) || r.Method == http.MethodOptions {
			h.Set("Access-Control-Allow-Origin", origin)
		} else {
			h.Set("Access-Control-Allow-Origin", "*")
		}
	default:
		return
	}
	h.Set("Access-Control-Allow-Credentials", "true")
	if len(policy.Headers) > 0 {
		h.Set("Access-Control-Allow-Headers", strings.Join(policy.Headers, ", "))
	}
	if r.Method == http.MethodOptions && r.resource != nil {
		if policy.MaxAge != nil {
			h.Set("Access-Control-Max-Age", strconv.Itoa(*policy.MaxAge))
		}
		h.Set("Access-Control-Allow-Methods", r.resource.allow)
	}
}

// checkLoginOrigin refuses a login or logout from a web page that is not among login_origin.
func (s *Server) checkLoginOrigin(r *request) error {
	origin, allowed := r.Header.Get("Origin"), s.cors(r).LoginOrigin
	if origin == "" || r.listener != public || slices.Contains(allowed, origin) || slices.Contains(allowed, "*") {
		return nil
	}
	return errNoCORS
}

// checkWebSocketOrigin refuses an upgrade from a web page whose origin is neither allowed nor the host's own:
// browsers do not ask before they open a WebSocket (gateway-rest.md §7).
func (s *Server) checkWebSocketOrigin(r *request) error {
	origin := r.Header.Get("Origin")
	if origin == "" || r.listener != public || sameHost(origin, r.Host) {
		return nil
	}
	if policy := s.cors(r); slices.Contains(policy.Origin, origin) || slices.Contains(policy.Origin, "*") {
		return nil
	}
	return errForeignOrigin
}
