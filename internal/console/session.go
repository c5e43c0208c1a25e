package console

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"sync"
	"time"
)

// session is one login in one browser.
type session struct {
	key      sessionKey
	identity Identity
	csrf     string // what every change has to carry
	started  time.Time

	mu      sync.Mutex // guards what follows
	used    time.Time
	flashes []flash
}

// sessionKey is the hash of a session's token: who reads our memory cannot log in with it.
type sessionKey [sha256.Size]byte

// flash is a message that the next page shows once.
type flash struct {
	Kind string // "ok" or "error"
	Text string
}

// maxFlashes bounds what a session keeps.
const maxFlashes = 4

func (s *session) addFlash(kind, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flashes = append(s.flashes, flash{kind, text})
	if over := len(s.flashes) - maxFlashes; over > 0 {
		s.flashes = s.flashes[over:]
	}
}

func (s *session) takeFlashes() []flash {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.flashes
	s.flashes = nil
	return f
}

// sessions are those of a process; a restart ends them.
type sessions struct {
	now          func() time.Time
	idle, maxAge time.Duration
	max          int

	mu  sync.Mutex // guards all
	all map[sessionKey]*session
}

func newSessions(o Options) *sessions {
	return &sessions{now: o.Now, idle: o.IdleTimeout, maxAge: o.MaxAge, max: o.MaxSessions, all: make(map[sessionKey]*session)}
}

// start makes a session and returns its token.
func (s *sessions) start(who Identity) (token string, made *session) {
	token = newToken()
	now := s.now()
	made = &session{key: keyOf(token), identity: who, csrf: newToken(), started: now, used: now}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropExpired(now)
	for len(s.all) >= s.max {
		s.dropIdlest()
	}
	s.all[made.key] = made
	return token, made
}

// find returns the session of a token, nil if there is none or it has ended. touch: it counts as used now.
func (s *sessions) find(ctx context.Context, token string, touch bool) *session {
	key := keyOf(token)
	s.mu.Lock()
	found := s.all[key]
	s.mu.Unlock()
	if found == nil || !s.alive(ctx, found) {
		return nil
	}
	if touch {
		found.mu.Lock()
		found.used = s.now()
		found.mu.Unlock()
	}
	return found
}

// alive reports whether a session has not ended; one that has is forgotten.
func (s *sessions) alive(ctx context.Context, one *session) bool {
	s.mu.Lock()
	known := s.all[one.key] == one
	s.mu.Unlock()
	if known && !s.expired(one, s.now()) && one.identity.Valid(ctx) {
		return true
	}
	s.end(one)
	return false
}

func (s *sessions) expired(one *session, now time.Time) bool {
	one.mu.Lock()
	defer one.mu.Unlock()
	return now.Sub(one.used) >= s.idle || now.Sub(one.started) >= s.maxAge
}

func (s *sessions) end(one *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[one.key] == one {
		delete(s.all, one.key)
	}
}

func (s *sessions) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropExpired(s.now())
	return len(s.all)
}

func (s *sessions) dropExpired(now time.Time) {
	for key, one := range s.all {
		if s.expired(one, now) {
			delete(s.all, key)
		}
	}
}

func (s *sessions) dropIdlest() {
	var idlest *session
	var since time.Time
	for _, one := range s.all {
		one.mu.Lock()
		if idlest == nil || one.used.Before(since) {
			idlest, since = one, one.used
		}
		one.mu.Unlock()
	}
	delete(s.all, idlest.key)
}

// newToken returns 256 random bits as text.
func newToken() string {
	var b [32]byte
	rand.Read(b[:]) // it never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func keyOf(token string) sessionKey { return sha256.Sum256([]byte(token)) }
