package rest

import (
	"errors"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
)

// How long sessions last (gateway-rest.md §15). The longest is a bound on what an administrator may ask for.
const (
	loginTTL       = 24 * time.Hour
	oneTimeTTL     = 5 * time.Minute
	longestTTL     = 100 * 365 * 24 * time.Hour
	maxSessionBody = 64 << 10 // bytes of a login's body
)

var (
	errNoSession = tidegate.Errorf(tidegate.NotFound, "no session")
	errBadTTL    = tidegate.Errorf(tidegate.Invalid, "Invalid or missing ttl")
)

// sessionAnswer is what a client is told of who it is.
type sessionAnswer struct {
	OK      bool        `json:"ok"`
	UserCtx userContext `json:"userCtx"`
	// OneTimeSessionID is set for one-time sessions alone: the others are told by the cookie.
	OneTimeSessionID       string   `json:"one_time_session_id,omitempty"`
	AuthenticationHandlers []string `json:"authentication_handlers"`
}

type userContext struct {
	Name     *string         `json:"name"` // null for the guest
	Channels tidegate.Grants `json:"channels"`
}

func answerOf(user *access.User) sessionAnswer {
	a := sessionAnswer{OK: true, AuthenticationHandlers: []string{"default", "cookie"}}
	a.UserCtx.Channels = user.Channels(0)
	if name := user.PrincipalName(); name != "" {
		a.UserCtx.Name = &name
	}
	return a
}

// handleGetSession answers GET and HEAD /{db}/_session on the public listener: who is asking.
func (s *Server) handleGetSession(w http.ResponseWriter, r *request) error {
	return s.reply(w, http.StatusOK, answerOf(r.user))
}

// handleLogin answers POST /{db}/_session on the public listener: it makes a session for the name and password
// in the body or, if there are none, for who is logged in already.
func (s *Server) handleLogin(w http.ResponseWriter, r *request) error {
	if err := s.checkLoginOrigin(r); err != nil {
		return err
	}
	user, err := s.loginUser(r)
	if err != nil {
		return err
	}
	ttl, oneTime := loginTTL, r.q.boolean("one_time", false)
	if oneTime {
		ttl = oneTimeTTL
	}
	session, err := r.db.Access().CreateSession(r.ctx, user.PrincipalName(), ttl, oneTime)
	if err != nil {
		if code := tidegate.ErrorCode(err); code == tidegate.NotFound || code == tidegate.Invalid {
			return errInvalidLogin // deleted or disabled since a moment
		}
		return err
	}
	a := answerOf(user)
	if oneTime {
		a.OneTimeSessionID = session.ID.Reveal()
	} else {
		s.setSessionCookie(w, r, session)
	}
	w.Header().Set("Cache-Control", "no-store")
	return s.reply(w, http.StatusOK, a)
}

// loginUser returns the user whom a login is for.
func (s *Server) loginUser(r *request) (*access.User, error) {
	var login struct {
		Name     string `json:"name"`
		Password string `json:"password"`
	}
	err := s.readSessionBody(r, &login)
	// A cookie is not enough: it could be used to make sessions without end.
	if (err != nil || login.Name == "") && !r.isGuest() && r.Header.Get("Authorization") != "" {
		return r.user, nil
	}
	switch {
	case r.running.Settings().DisablePasswordAuth:
		return nil, errInvalidLogin
	case err != nil:
		return nil, err
	case login.Name == "":
		return nil, errInvalidLogin // the guest has no sessions
	}
	return r.db.Access().Authenticate(r.ctx, login.Name, login.Password, r.RemoteAddr)
}

// readSessionBody reads a small JSON object. Members that are not asked for are ignored. The reason of an
// error does not quote the body: there is a password in it.
func (s *Server) readSessionBody(r *request, into any) error {
	body, err := s.readJSONUpTo(r, maxSessionBody)
	if err != nil {
		return err
	}
	defer body.Free()
	err = json.Unmarshal(body.bytes, into)
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*json.SemanticError](err); ok {
		return tidegate.Errorf(tidegate.Invalid, "Bad JSON: wrong type of value at %q", e.JSONPointer)
	}
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return tidegate.Errorf(tidegate.Invalid, "Bad JSON: syntax error at byte %d", e.ByteOffset)
	}
	return tidegate.Errorf(tidegate.Invalid, "Bad JSON: not an object as expected")
}

// handleLogout answers DELETE /{db}/_session on the public listener.
func (s *Server) handleLogout(w http.ResponseWriter, r *request) error {
	if err := s.checkLoginOrigin(r); err != nil {
		return err
	}
	id := sessionCookie(r, r.running.Settings())
	if id == "" {
		return errNoSession
	}
	err := r.db.Access().DeleteSession(r.ctx, id)
	if tidegate.ErrorCode(err) == tidegate.NotFound {
		return errNoSession
	}
	if err != nil {
		return err
	}
	s.logins.sessionEnded(id)
	w.Header().Del("Set-Cookie") // one that this request extended on its way here
	s.expireSessionCookie(w, r)
	return replyEmpty(w, http.StatusOK)
}

// expireSessionCookie has the client forget its session.
func (s *Server) expireSessionCookie(w http.ResponseWriter, r *request) {
	cookie := s.sessionCookieOf(r)
	cookie.MaxAge, cookie.Expires = -1, time.Unix(0, 0).Add(time.Second)
	http.SetCookie(w, cookie)
}

// handleCreateSession answers POST /{db}/_session on the admin listener.
func (s *Server) handleCreateSession(w http.ResponseWriter, r *request) error {
	ask := struct {
		Name string `json:"name"`
		TTL  int64  `json:"ttl"` // seconds
	}{TTL: int64(loginTTL / time.Second)}
	if err := s.readSessionBody(r, &ask); err != nil {
		return err
	}
	if ask.TTL < 1 || ask.TTL > int64(longestTTL/time.Second) {
		return errBadTTL
	}
	session, err := r.db.Access().CreateSession(r.ctx, ask.Name, time.Duration(ask.TTL)*time.Second, false)
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	return s.reply(w, http.StatusOK, struct {
		ID     string    `json:"session_id"`
		Until  time.Time `json:"expires"`
		Cookie string    `json:"cookie_name"`
	}{session.ID.Reveal(), session.Expires.UTC(), r.running.Settings().SessionCookieName})
}

// handleShowSession answers GET /{db}/_session/{id} on the admin listener.
func (s *Server) handleShowSession(w http.ResponseWriter, r *request) error {
	id, err := r.pathVar("id")
	if err != nil {
		return err
	}
	user, _, err := r.db.Access().PeekSession(r.ctx, id)
	if err != nil {
		return err
	}
	return s.reply(w, http.StatusOK, answerOf(user))
}

// handleDeleteSession answers DELETE /{db}/_session/{id} on the admin listener.
func (s *Server) handleDeleteSession(w http.ResponseWriter, r *request) error {
	id, err := r.pathVar("id")
	if err != nil {
		return err
	}
	if err := r.db.Access().DeleteSession(r.ctx, id); err != nil {
		return err
	}
	s.logins.sessionEnded(id)
	return replyEmpty(w, http.StatusOK)
}

// handleDeleteUserSessions answers DELETE /{db}/_user/{name}/_session.
func (s *Server) handleDeleteUserSessions(w http.ResponseWriter, r *request) error {
	name, err := r.pathVar("name")
	if err != nil {
		return err
	}
	if err := r.db.Access().DeleteUserSessions(r.ctx, name); err != nil {
		return err
	}
	return replyEmpty(w, http.StatusOK)
}

// handleDeleteUserSession answers DELETE /{db}/_user/{name}/_session/{id}.
func (s *Server) handleDeleteUserSession(w http.ResponseWriter, r *request) error {
	name, err := r.pathVar("name")
	if err != nil {
		return err
	}
	id, err := r.pathVar("id")
	if err != nil {
		return err
	}
	if err := r.db.Access().DeleteUserSession(r.ctx, name, id); err != nil {
		return err
	}
	s.logins.sessionEnded(id)
	return replyEmpty(w, http.StatusOK)
}
