package access

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/tidegate/tidegate"
)

// Stats counts logins, under the names of gateway-rest.md §22.3.
type Stats struct {
	AuthSuccess int64         // auth_success_count
	AuthFailed  int64         // auth_failed_count
	AuthTime    time.Duration // total_auth_time
}

type counters struct{ success, failed, nanos atomic.Int64 }

// Stats returns the counters since Open.
func (r *Registry) Stats() Stats {
	return Stats{r.counters.success.Load(), r.counters.failed.Load(), time.Duration(r.counters.nanos.Load())}
}

func (c *counters) count(began time.Time, err error) {
	if err == nil {
		c.success.Add(1)
	} else {
		c.failed.Add(1)
	}
	c.nanos.Add(int64(time.Since(began)))
}

// Authenticate checks a name and password that came from remoteAddr ("host:port"). Empty ones are the guest.
//
// Unauthorized "Invalid login": the name is unknown, the password wrong or the user disabled; the three take
// the same time. TooMany: too many failed logins from there under that name in the last minute.
// Unavailable: too many logins at once.
func (r *Registry) Authenticate(ctx context.Context, name, password, remoteAddr string) (u *User, err error) {
	began := time.Now()
	defer func() { r.counters.count(began, err) }()
	if name == "" && password == "" {
		return r.enabled(r.user(ctx, ""))
	}
	u, err = r.candidate(ctx, name)
	if err != nil {
		return nil, err
	}
	var hash []byte
	if u != nil {
		hash = u.rec.hash
	}
	if u != nil && hash == nil && password == "" && r.cfg.AllowEmptyPassword {
		return r.enabled(u, nil)
	}
	ok, fresh, err := r.passwords.check(ctx, remoteAddr, name, hash, password)
	switch {
	case err != nil:
		return nil, err
	case !ok || u == nil || u.Disabled():
		return nil, errInvalidLogin
	}
	if fresh {
		r.upgrade(ctx, u, password)
	}
	return u, nil
}

// candidate returns the user who might be logging in, disabled or not; nil if there is none of that name.
func (r *Registry) candidate(ctx context.Context, name string) (*User, error) {
	if name == "" {
		return nil, nil
	}
	if err := r.current(ctx); err != nil {
		return nil, err
	}
	if u := r.cached(name); u != nil { // the guest is not cached under its other name
		return u, nil
	}
	if name == tidegate.GuestName || tidegate.ValidPrincipalName(name) != nil {
		return nil, nil
	}
	u, err := r.user(ctx, name)
	if errors.Is(err, errNoUser) {
		return nil, nil
	}
	return u, err
}

// upgrade stores a hash of the configured cost if the user's is of a lower one. The login does not depend on
// it.
func (r *Registry) upgrade(ctx context.Context, u *User, password string) {
	old := u.rec.hash
	if cost, err := bcrypt.Cost(old); err != nil || cost >= r.passwords.cfg.Cost {
		return
	}
	hash, err := r.passwords.hash(ctx, password)
	if err == nil {
		err = r.change(ctx, userPrefix+u.name, func(rec *record) (*edit, error) {
			if rec == nil || string(rec.hash) != string(old) {
				return nil, errMoved
			}
			next := rec.clone()
			next.hash = hash
			return &edit{next: next}, nil
		})
	}
	if err != nil && !errors.Is(err, errMoved) {
		r.cfg.Logger.Warn("a password's hash could not be renewed at a higher cost", "user", u.name, "error", err)
	}
}
