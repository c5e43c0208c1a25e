package rest

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

var (
	errUnknownURL      = tidegate.Errorf(tidegate.NotFound, "unknown URL")
	errLoginRequired   = tidegate.Errorf(tidegate.Unauthorized, "Login required")
	errInvalidLogin    = tidegate.Errorf(tidegate.Unauthorized, "Invalid login")
	errPanic           = tidegate.Errorf(tidegate.Internal, "a handler panicked")
	errGuestIsReadOnly = tidegate.Errorf(tidegate.Forbidden, "Anonymous access is read-only")
)

// serve returns the handler of one listener.
func (s *Server) serve(l listener) http.Handler {
	return s.handler(l, newRouter(s.routesOf(l)))
}

func (s *Server) handler(l listener, table *router) http.Handler {
	return http.HandlerFunc(func(hw http.ResponseWriter, hr *http.Request) {
		w := s.newResponse(hw, hr)
		r := &request{Request: hr, listener: l, ctx: hr.Context(), answer: w}
		defer func() {
			if r.release != nil {
				r.release()
			}
			s.count(r, w)
		}()
		err := s.guard(w, r, table)
		if err == nil {
			err = w.finish()
		}
		if err != nil {
			s.writeError(w, r, err)
		}
	})
}

// guard runs the steps and turns a panic of any of them into an error, so that one bad request does not take
// the process with it.
func (s *Server) guard(w *response, r *request, table *router) (err error) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if v == http.ErrAbortHandler {
			panic(v) // the agreed way to break the connection
		}
		s.logPanic(v)
		err = errPanic
	}()
	return s.steps(w, r, table)
}

// steps takes a request through everything that comes before its handler, in this order, and then through
// the handler.
func (s *Server) steps(w *response, r *request, table *router) error {
	s.setServerHeader(w.Header(), r)
	path, err := s.pathOf(r)
	if err != nil {
		return err
	}
	if r.resource, r.vars = table.find(path); r.resource != nil {
		r.route = r.resource.routes[r.Method]
		err = s.findDatabase(r)
	}
	s.setCORS(w.Header(), r)
	switch {
	case r.resource == nil:
		if err := s.guardAdmin(r); err != nil {
			return err
		}
		return errUnknownURL
	case r.Method == http.MethodOptions && r.route == nil:
		w.Header().Set("Allow", r.resource.allow)
		return noContent(w)
	case r.route == nil:
		w.Header().Set("Allow", r.resource.allow)
		return tidegate.Errorf(tidegate.NotAllowed, "method %s is not allowed for this URL", r.Method)
	case err != nil && tidegate.ErrorCode(err) != tidegate.NotFound:
		return err
	}
	if err := s.enter(r); err != nil {
		return err
	}
	if err := s.checkWho(r, err); err != nil {
		return err
	}
	if r.q, err = parseQuery(r.URL.RawQuery); err != nil {
		return err
	}
	if r.route.has(syncs) && r.running != nil {
		if err := r.gate(); err != nil {
			if s.refuseUpgrade(w, r, err) {
				s.logFailure(r, errorStatus(err), err)
				return nil
			}
			return err
		}
	}
	if !r.route.has(anyType) {
		if err := accepts(r.Header).checkJSON(); err != nil {
			return err
		}
	}
	if err := s.openHandle(r); err != nil {
		return err
	}
	return r.cutOff(r.route.handler(w, r))
}

func noContent(w http.ResponseWriter) error {
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// findDatabase looks up the database that the path names. NotFound: there is none.
func (s *Server) findDatabase(r *request) error {
	name, isKeyspace := r.databaseVar()
	if name == "" {
		return nil
	}
	text, err := decodePath(r.vars.values[0])
	if err != nil {
		return err
	}
	r.keyspace = keyspace{text: text, db: text}
	if r.route != nil && r.route.has(replicates) && strings.Contains(text, ".") {
		return errNotKeyspace
	}
	if isKeyspace {
		if r.keyspace, err = parseKeyspace(text); err != nil {
			return err
		}
	}
	r.running, err = s.gateway.Database(r.keyspace.db)
	return err
}

// databaseVar returns the name of the pattern's first variable if it names a database, and whether as a
// keyspace.
func (r *request) databaseVar() (name string, isKeyspace bool) {
	if !strings.HasPrefix(r.resource.pattern, "/{db}") && !strings.HasPrefix(r.resource.pattern, "/{ks}") {
		return "", false
	}
	// Routes for the database and for its default keyspace share a resource; the row says which is meant.
	isKeyspace = strings.HasPrefix(r.resource.pattern, "/{ks}")
	if r.route != nil {
		isKeyspace = strings.HasPrefix(r.route.pattern, "/{ks}")
	}
	return r.resource.vars[0], isKeyspace
}

// enter is the gate of gateway-rest.md §6: it counts the request in, if the database's state lets it. It comes
// before credentials. While a change of the config is being applied it waits.
func (s *Server) enter(r *request) error {
	if r.running == nil {
		return nil
	}
	if r.route.has(anyState) {
		r.db = r.running.DB()
		return nil
	}
	return r.admit()
}

// admit counts a request in: from here on it ends when the database does not wait for it any longer.
func (r *request) admit() error {
	a, err := r.running.Admit(r.ctx)
	if err != nil {
		return err
	}
	r.db, r.leaving, r.ctx, r.release = a.DB, a.Leaving(), a.Context(), a.Release
	return nil
}

// cutOff is why a request was ended that the database could not wait for any longer; err if it was not.
func (r *request) cutOff(err error) error {
	if tidegate.ErrorCode(err) == tidegate.Canceled {
		if cause, ok := errors.AsType[*tidegate.Error](context.Cause(r.ctx)); ok {
			return cause
		}
	}
	return err
}

// checkWho finds out who asks and whether they may. missing is the error of findDatabase, if the database
// does not exist: the public listener does not tell that apart from a failed login.
func (s *Server) checkWho(r *request, missing error) error {
	if r.listener != public {
		if err := s.guardAdmin(r); err != nil {
			return err
		}
		r.admin = true
		if r.route.needs != needNothing {
			if err := s.authenticateAdmin(r); err != nil {
				return err
			}
		}
		if r.route.has(creates) {
			return nil
		}
		return missing
	}
	if missing != nil && !r.route.has(creates) {
		if hasCredentials(r.Request) {
			return errInvalidLogin
		}
		return errLoginRequired
	}
	if r.running == nil || r.route.needs == needNothing {
		return nil
	}
	user, err := s.authenticate(r)
	if err != nil {
		return err
	}
	r.user = user
	if r.route.has(writes) && r.isGuest() && r.running.Settings().GuestReadOnly {
		return errGuestIsReadOnly
	}
	return nil
}

// hasCredentials reports whether a request says who it is from.
func hasCredentials(r *http.Request) bool {
	return r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" || oneTimeToken(r.Header) != ""
}

// openHandle makes the Handle of a request for a keyspace. Routes for every state of the database do without:
// it may not be open.
func (s *Server) openHandle(r *request) error {
	if r.running == nil || r.route.has(anyState) || !strings.HasPrefix(r.route.pattern, "/{ks}") {
		return nil
	}
	return s.makeHandle(r)
}

// makeHandle makes the Handle of a request that was counted in.
func (s *Server) makeHandle(r *request) error {
	var err error
	if r.coll, err = s.collection(r); err != nil {
		return err
	}
	if r.admin {
		r.handle = r.bypass(r.db.Admin(r.coll))
	} else {
		r.handle = r.db.As(r.user, r.coll)
	}
	r.markAdmitted()
	return nil
}

// collection resolves the keyspace of a request (gateway-rest.md §2).
func (s *Server) collection(r *request) (store.Collection, error) {
	ks := r.keyspace
	scope := ks.scope
	if ks.collection != "" && scope == "" {
		for _, c := range r.db.Collections() {
			if scope != "" && scope != c.Scope {
				return 0, ks.notFound() // which scope is not said
			}
			scope = c.Scope
		}
	}
	coll, err := r.db.Collection(scope, ks.collection)
	if err != nil {
		return 0, ks.notFound()
	}
	return coll, nil
}

// setServerHeader names the product, unless it is to be hidden.
func (s *Server) setServerHeader(h http.Header, r *request) {
	if s.settings.HideProductVersion && r.listener == public {
		return
	}
	h["Server"] = s.serverHeader
}

// logFailure notes requests that failed: those that are our fault as errors, the others for debugging. It
// names the pattern, not the URL, which can hold private data.
func (s *Server) logFailure(r *request, status int, err error) {
	level := slog.LevelDebug
	if status == http.StatusInternalServerError && tidegate.ErrorCode(err) != tidegate.Canceled {
		level = slog.LevelError
	}
	if !s.log.Enabled(r.ctx, level) {
		return
	}
	pattern := ""
	if r.resource != nil {
		pattern = r.resource.pattern
	}
	s.log.LogAttrs(r.ctx, level, "request failed", slog.String("method", r.Method), slog.String("route", pattern),
		slog.String("listener", r.listener.String()), slog.Int("status", status), slog.Any("error", err))
}
