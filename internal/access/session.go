package access

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

const (
	sessionIDBytes = 20 // random bytes of a session id, which is their hex form (gateway-rest.md §15.1)
	// sessionCacheTTL is how long a session is believed without looking into the store. Another node that ends it tells
	// by an event; this is how long it takes at most where that does not come through.
	sessionCacheTTL = 4 * time.Second
)

var (
	errSession       = tidegate.Errorf(tidegate.Unauthorized, "Session Invalid")
	errSessionUser   = tidegate.Errorf(tidegate.Unauthorized, "Session no longer valid for user")
	errSessionName   = tidegate.Errorf(tidegate.Invalid, "Invalid or missing user name")
	errSessionTTL    = tidegate.Errorf(tidegate.Invalid, "Invalid or missing ttl")
	errUserDisabled  = tidegate.Errorf(tidegate.Invalid, "User is disabled")
	errSessionNobody = tidegate.ErrMissing
)

// Session is a login that lasts without a password.
type Session struct {
	ID      Secret // 40 hex digits
	User    string
	TTL     time.Duration // how long it lasts after its creation or last extension
	Expires time.Time
	OneTime bool // ends when used
	// Refreshed: this use extended it, so the client must be told the new Expires.
	Refreshed bool
}

// storedSession is what is kept of a session, under the hash of its id.
type storedSession struct {
	user     string
	sessions uint64 // the user's record must still have this value
	ttl      time.Duration
	expires  time.Time
	oneTime  bool
}

func (s storedSession) encode() []byte {
	w := writer{b: append(make([]byte, 0, 64), sessionVersion)}
	w.text(s.user)
	w.uint(s.sessions)
	w.uint(uint64(s.ttl / time.Millisecond))
	w.time(s.expires)
	if s.oneTime {
		w.b = append(w.b, 1)
	} else {
		w.b = append(w.b, 0)
	}
	return w.b
}

func decodeSession(b []byte) (storedSession, error) {
	r := reader{b: b}
	r.version(sessionVersion)
	s := storedSession{user: r.text(), sessions: r.uint(), ttl: time.Duration(r.uint()) * time.Millisecond}
	s.expires, s.oneTime = r.time(), r.byte() == 1
	return s, r.end("session")
}

func (s storedSession) session(id string) Session {
	return Session{ID: NewSecret(id), User: s.user, TTL: s.ttl, Expires: s.expires, OneTime: s.oneTime}
}

// CreateSession logs a user in for ttl, which is at least a second. A one-time session ends when it is used.
//
// Invalid: no or the guest's name, a disabled user, a bad ttl. NotFound: no such user.
func (r *Registry) CreateSession(ctx context.Context, name string, ttl time.Duration, oneTime bool) (Session, error) {
	if name == "" || name == tidegate.GuestName {
		return Session{}, errSessionName
	}
	if ttl < time.Second {
		return Session{}, errSessionTTL
	}
	u, err := r.user(ctx, name)
	if errors.Is(err, errNoUser) {
		return Session{}, tidegate.Errorf(tidegate.NotFound, "No such user %q", name)
	}
	if err != nil {
		return Session{}, err
	}
	if u.Disabled() {
		return Session{}, errUserDisabled
	}
	var random [sessionIDBytes]byte
	_, _ = rand.Read(random[:]) // never fails
	id := hex.EncodeToString(random[:])
	s := storedSession{
		user: name, sessions: u.rec.sessions, ttl: ttl.Truncate(time.Millisecond), oneTime: oneTime,
		expires: r.cfg.Now().Add(ttl).Truncate(time.Millisecond),
	}
	err = r.cfg.Store.Update(ctx, func(tx store.Tx) error {
		return tx.Put(sessionRow(r.cfg.Space, sha256.Sum256([]byte(id))), s.encode())
	})
	if err != nil {
		return Session{}, fmt.Errorf("store session: %w", err)
	}
	return s.session(id), nil
}

// Session returns the user of a session and uses it: after a tenth of its time it is extended by all of it,
// and a one-time session ends.
//
// Unauthorized: there is no such session, or it is no longer good for its user.
func (r *Registry) Session(ctx context.Context, id string) (*User, Session, error) {
	u, s, err := r.checkSession(ctx, id)
	if err != nil {
		return nil, Session{}, err
	}
	hash := sha256.Sum256([]byte(id))
	switch left := s.expires.Sub(r.cfg.Now()); {
	case s.oneTime:
		if err := r.consume(ctx, hash); err != nil {
			return nil, Session{}, err
		}
	case s.ttl-left > s.ttl/10:
		if extended, ok := r.extend(ctx, hash); ok {
			got := extended.session(id)
			got.Refreshed = true
			return u, got, nil
		}
	}
	return u, s.session(id), nil
}

// OneTimeSession returns the user of a one-time session and ends it.
//
// Unauthorized: there is no such session, it lasts, or it is no longer good for its user.
func (r *Registry) OneTimeSession(ctx context.Context, id string) (*User, error) {
	u, s, err := r.checkSession(ctx, id)
	if err != nil {
		return nil, err
	}
	if !s.oneTime {
		return nil, errSession
	}
	return u, r.consume(ctx, sha256.Sum256([]byte(id)))
}

// PeekSession is Session without use. NotFound "missing": there is no such session, or it is no longer good
// for its user.
func (r *Registry) PeekSession(ctx context.Context, id string) (*User, Session, error) {
	u, s, err := r.checkSession(ctx, id)
	if tidegate.ErrorCode(err) == tidegate.Unauthorized {
		err = errSessionNobody
	}
	if err != nil {
		return nil, Session{}, err
	}
	return u, s.session(id), nil
}

// checkSession returns a session that is good now, and its user.
func (r *Registry) checkSession(ctx context.Context, id string) (*User, storedSession, error) {
	if len(id) != 2*sessionIDBytes {
		return nil, storedSession{}, errSession
	}
	s, err := r.findSession(ctx, sha256.Sum256([]byte(id)))
	if err != nil {
		return nil, s, err
	}
	u, err := r.user(ctx, s.user)
	switch {
	case errors.Is(err, errNoUser):
		return nil, s, errSessionUser
	case err != nil:
		return nil, s, err
	case u.rec.sessions != s.sessions, u.Disabled():
		return nil, s, errSessionUser
	}
	return u, s, nil
}

// findSession returns the stored session, from memory if it may be believed, if it has not expired.
func (r *Registry) findSession(ctx context.Context, hash [32]byte) (storedSession, error) {
	now := r.cfg.Now()
	s, ok, round := r.sessions.get(hash, now)
	if !ok {
		err := r.cfg.Store.View(ctx, func(rd store.Reader) (err error) {
			s, ok, err = r.readSession(rd, hash)
			return err
		})
		if err != nil {
			return s, fmt.Errorf("read session: %w", err)
		}
		if !ok {
			return s, errSession
		}
		if !s.oneTime {
			r.sessions.put(hash, s, now, round)
		}
	}
	if !now.Before(s.expires) {
		return s, errSession
	}
	return s, nil
}

func (r *Registry) readSession(rd store.Reader, hash [32]byte) (storedSession, bool, error) {
	b, err := rd.Get(sessionRow(r.cfg.Space, hash))
	if err != nil || b == nil {
		return storedSession{}, false, err
	}
	s, err := decodeSession(b)
	return s, true, err
}

// consume ends a one-time session; of several who try only one succeeds.
func (r *Registry) consume(ctx context.Context, hash [32]byte) error {
	return r.cfg.Store.Update(ctx, func(tx store.Tx) error {
		_, ok, err := r.readSession(tx, hash)
		if err != nil {
			return err
		}
		if !ok {
			return errSession
		}
		return tx.Delete(sessionRow(r.cfg.Space, hash))
	})
}

// extend gives a session all of its time again. If the store cannot take that, the session goes on as it is.
func (r *Registry) extend(ctx context.Context, hash [32]byte) (s storedSession, extended bool) {
	err := r.cfg.Store.Update(ctx, func(tx store.Tx) (err error) {
		s, extended, err = r.readSession(tx, hash)
		if err != nil || !extended {
			return err
		}
		s.expires = r.cfg.Now().Add(s.ttl).Truncate(time.Millisecond)
		return tx.Put(sessionRow(r.cfg.Space, hash), s.encode())
	})
	r.sessions.drop(hash)
	if err != nil {
		r.cfg.Logger.Debug("a session could not be extended", "user", s.user, "error", err)
		return s, false
	}
	return s, extended
}

// DeleteSession ends a session. NotFound "missing": there is none.
func (r *Registry) DeleteSession(ctx context.Context, id string) error {
	return r.deleteSession(ctx, id, func(storedSession) bool { return true })
}

// DeleteUserSession ends a session of the named user. NotFound "missing": there is none, or it is not that
// user's.
func (r *Registry) DeleteUserSession(ctx context.Context, name, id string) error {
	return r.deleteSession(ctx, id, func(s storedSession) bool { return s.user == name })
}

func (r *Registry) deleteSession(ctx context.Context, id string, match func(storedSession) bool) error {
	hash := sha256.Sum256([]byte(id))
	err := r.cfg.Store.Update(ctx, func(tx store.Tx) error {
		s, ok, err := r.readSession(tx, hash)
		if err != nil {
			return err
		}
		if !ok || !match(s) || !r.cfg.Now().Before(s.expires) {
			return errSessionNobody
		}
		if err := tx.Delete(sessionRow(r.cfg.Space, hash)); err != nil {
			return err
		}
		seq, err := tx.NextSequence(r.cfg.Space)
		if err != nil {
			return err
		}
		return writeEvents(tx, r.cfg.Space, []string{sessionPrefix + hex.EncodeToString(hash[:])}, seq)
	})
	r.sessions.drop(hash)
	return err
}

// DeleteUserSessions ends all sessions of a user. A user that does not exist has none.
func (r *Registry) DeleteUserSessions(ctx context.Context, name string) error {
	err := r.change(ctx, userKey(name), func(rec *record) (*edit, error) {
		if rec == nil {
			return nil, errNoUser
		}
		next := rec.clone()
		next.sessions = newSessionsValue()
		return &edit{next: next}, nil
	})
	if errors.Is(err, errNoUser) {
		return nil
	}
	return err
}

// newSessionsValue returns a value for record.sessions.
func newSessionsValue() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	r := reader{b: b[:]}
	return r.uint64()
}

// sweepSessions removes expired sessions, looking at up to max in one go, and reports whether there may be
// more to look at.
func (r *Registry) sweepSessions(ctx context.Context, max int) (more bool, err error) {
	var expired []store.Key
	now := r.cfg.Now()
	start, seen := r.sessions.sweepFrom(), 0
	rng := store.Prefix(store.NewKey(r.cfg.Space, store.KindSession))
	if start != nil {
		rng.Start = start
	}
	var next store.Key
	err = r.cfg.Store.View(ctx, func(rd store.Reader) error {
		it := rd.Scan(rng)
		defer it.Close()
		for it.Next() {
			if seen++; seen > max {
				next = store.Key(it.Key()).Clone()
				return nil
			}
			if s, err := decodeSession(it.Value()); err == nil && !now.Before(s.expires) {
				expired = append(expired, store.Key(it.Key()).Clone())
			}
		}
		return it.Err()
	})
	if err != nil {
		return false, err
	}
	r.sessions.setSweepFrom(next)
	if len(expired) == 0 {
		return next != nil, nil
	}
	return next != nil, r.cfg.Store.Update(ctx, func(tx store.Tx) error {
		for _, key := range expired {
			b, err := tx.Get(key)
			if err != nil {
				return err
			}
			if s, err := decodeSession(b); err != nil || now.Before(s.expires) {
				continue // ended or extended meanwhile
			}
			if err := tx.Delete(key); err != nil {
				return err
			}
		}
		return nil
	})
}

// sessionCache keeps sessions in memory for a short while.
type sessionCache struct {
	mu    sync.Mutex
	byID  *lru[[32]byte, cachedSession]
	round uint64 // grows with each drop
	from  store.Key
}

type cachedSession struct {
	storedSession
	read time.Time
}

func newSessionCache(size int) *sessionCache {
	return &sessionCache{byID: newLRU[[32]byte, cachedSession](size)}
}

func (c *sessionCache) get(hash [32]byte, now time.Time) (s storedSession, ok bool, round uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	got, ok := c.byID.get(hash)
	return got.storedSession, ok && now.Sub(got.read) < sessionCacheTTL, c.round
}

// put keeps what was read after get returned round, unless a session was ended or extended since.
func (c *sessionCache) put(hash [32]byte, s storedSession, now time.Time, round uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.round == round {
		c.byID.put(hash, cachedSession{s, now})
	}
}

// forget drops the session whose hash is given in hexadecimal digits.
func (c *sessionCache) forget(id string) {
	if b, err := hex.DecodeString(id); err == nil && len(b) == sha256.Size {
		c.drop([sha256.Size]byte(b))
	}
}

func (c *sessionCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.round++
	c.byID.clear()
}

func (c *sessionCache) drop(hash [32]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.round++
	c.byID.remove(hash)
}

func (c *sessionCache) sweepFrom() store.Key {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.from
}

func (c *sessionCache) setSweepFrom(key store.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.from = bytes.Clone(key)
}
