package access

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// errNoUser and errDisabled are what User answers when there is nobody to be.
var (
	errNoUser   = tidegate.ErrMissing
	errDisabled = tidegate.Errorf(tidegate.Unauthorized, "Invalid login")
	errMoved    = tidegate.Errorf(tidegate.Conflict, "the principal was changed meanwhile")
)

// User returns the user as of now: at least as new as everything that was visible in the store when it was
// called. A feed that takes the last sequence first and the user then never sends an entry under rights
// older than the entry. "" or GUEST is the guest.
//
// NotFound "missing": there is no such user. Unauthorized: it is disabled.
func (r *Registry) User(ctx context.Context, name string) (*User, error) {
	name = userKey(name)[len(userPrefix):]
	var cached *User
	err := r.cfg.Store.View(ctx, func(rd store.Reader) error {
		err := r.catchUp(rd)
		cached = r.cached(name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("load user: %w", err)
	}
	return r.enabled(r.userOr(ctx, name, cached))
}

// Guest returns the guest, also when it is disabled.
func (r *Registry) Guest(ctx context.Context) (*User, error) { return r.user(ctx, "") }

// user returns the user, disabled or not, from memory if it is there: as of the last change that this node made or heard of, so no
// more than believeFor old.
func (r *Registry) user(ctx context.Context, name string) (*User, error) {
	if err := r.current(ctx); err != nil {
		return nil, err
	}
	return r.userOr(ctx, name, r.cached(name))
}

// cached returns the user from memory; nil if it is not there.
func (r *Registry) cached(name string) *User {
	r.mu.Lock()
	defer r.mu.Unlock()
	if u, ok := r.users.get(name); ok && u.fresh() {
		return u
	}
	return nil
}

func (r *Registry) userOr(ctx context.Context, name string, cached *User) (*User, error) {
	if cached != nil {
		return cached, nil
	}
	unlock, err := r.stripes.lock(ctx, name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if u := r.cached(name); u != nil {
		return u, nil
	}
	return r.load(ctx, name)
}

func (r *Registry) enabled(u *User, err error) (*User, error) {
	if err == nil && u.Disabled() {
		return nil, errDisabled
	}
	return u, err
}

// stripes are locks by name; names share them.
type stripes struct {
	seed  maphash.Seed
	locks [64]chan struct{}
}

func newStripes() *stripes {
	s := &stripes{seed: maphash.MakeSeed()}
	for i := range s.locks {
		s.locks[i] = make(chan struct{}, 1)
	}
	return s
}

// lock takes the lock of name.
func (s *stripes) lock(ctx context.Context, name string) (unlock func(), err error) {
	stripe := s.locks[maphash.String(s.seed, name)%uint64(len(s.locks))]
	select {
	case stripe <- struct{}{}:
		return func() { <-stripe }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// The tries of load: to find everything unchanged while it is put together, and to store what it computed
// before it holds up other writers for it.
const (
	loadTries    = 4
	rebuildTries = 4
)

// load reads a user and its roles, rebuilds what must be, and caches the result.
func (r *Registry) load(ctx context.Context, name string) (*User, error) {
	for try := 1; ; try++ {
		r.mu.Lock()
		count := r.recent.count
		r.mu.Unlock()
		v, err := r.readUser(ctx, name)
		if err != nil {
			return nil, err
		}
		u := newUser(name, v.rec, v.roles, r.cfg.AllowGuestStar)
		u.switched = v.switched
		kept, woken := r.keep(u, v, count)
		tell(woken)
		if kept || try == loadTries {
			return u, nil
		}
	}
}

// keep caches the user unless it, or a role of it, changed since count. In that case it is returned by load
// only if that keeps happening, and whoever watches it, woken, is to be told to come again.
func (r *Registry) keep(u *User, v *view, count uint64) (kept bool, woken []*watcher) {
	names := v.rec.roleNames()
	principals := make([]string, 0, len(names)+1)
	principals = append(principals, userPrefix+u.name)
	for _, name := range names {
		principals = append(principals, roleKey(name))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.recent.touched(count, principals) {
		return false, r.watched.wakeUser(u.name, nil)
	}
	r.watched.noteRoles(u.name, names)
	if !v.unsaved {
		for name, g := range v.roles {
			if old, ok := r.roles.get(name); !ok || old != g {
				r.roles.put(name, g)
			}
		}
		r.users.put(u.name, u)
	}
	return true, nil
}

// view is a user's record and roles read together.
type view struct {
	rec     *record
	roles   map[string]*role
	unsaved bool // something was rebuilt that the store could not take

	switched uint32 // store.Routing.LastSwitch of the snapshot
}

// readUser reads the records of a user and its roles, rebuilt where marked.
func (r *Registry) readUser(ctx context.Context, name string) (*view, error) {
	return r.assembled(ctx, func(rd store.Reader) (*view, []rebuilt, error) { return r.assemble(rd, name) })
}

// assembled reads a view from one snapshot and stores what it had to rebuild for it.
func (r *Registry) assembled(ctx context.Context, assemble func(store.Reader) (*view, []rebuilt, error)) (*view, error) {
	for try := 1; ; try++ {
		var v *view
		var todo []rebuilt
		read := func(rd store.Reader) (err error) {
			v, todo, err = assemble(rd)
			return err
		}
		if try > rebuildTries { // it keeps moving: hold the others up
			err := r.cfg.Store.Update(ctx, func(tx store.Tx) error {
				if err := read(tx); err != nil {
					return err
				}
				return r.saveAll(tx, todo)
			})
			return v, err
		}
		if err := r.cfg.Store.View(ctx, read); err != nil {
			return nil, err
		}
		if len(todo) == 0 {
			return v, nil
		}
		err := r.cfg.Store.Update(ctx, func(tx store.Tx) error { return r.saveAll(tx, todo) })
		switch {
		case err == nil:
			return v, nil
		case tidegate.ErrorCode(err) == tidegate.Unavailable:
			v.unsaved = true // readers go on when the disk is full; it will be computed again
			return v, nil
		case !errors.Is(err, errMoved):
			return nil, fmt.Errorf("store rebuilt principal: %w", err)
		}
	}
}

// rebuilt is a record that was computed anew, and what it was computed from.
type rebuilt struct {
	principal string
	record    []byte // stored before; nil: none
	routing   *store.Routing
	marks     marks
	next      *record
}

// assemble reads a user with its roles from a snapshot.
func (r *Registry) assemble(rd store.Reader, name string) (*view, []rebuilt, error) {
	var todo []rebuilt
	rec, err := r.read(rd, userPrefix+name, &todo)
	if err != nil {
		return nil, nil, err
	}
	if rec == nil && name != "" {
		return nil, nil, errNoUser
	}
	if rec == nil {
		rec = newRecord(time.Time{}) // a guest that was never configured
		rec.disabled = true
	}
	routing, err := r.routes.Read(rd)
	if err != nil {
		return nil, nil, err
	}
	v := &view{rec: rec, roles: map[string]*role{}, switched: routing.LastSwitch()}
	for _, roleName := range rec.roleNames() {
		if v.roles[roleName], err = r.readRole(rd, roleName, &todo); err != nil {
			return nil, nil, err
		}
	}
	return v, todo, nil
}

// readRole returns a role from memory, or else from the snapshot. What is in memory may be newer than the
// snapshot, but not older, since catchUp has been called.
func (r *Registry) readRole(rd store.Reader, name string, todo *[]rebuilt) (*role, error) {
	r.mu.Lock()
	g, ok := r.roles.get(name)
	r.mu.Unlock()
	if ok {
		return g, nil
	}
	rec, err := r.read(rd, roleKey(name), todo)
	if err != nil {
		return nil, err
	}
	return &role{rec: rec}, nil
}

// read returns a principal's record, nil if there is none. If the principal is marked, the record is rebuilt
// and added to todo.
func (r *Registry) read(rd store.Reader, principal string, todo *[]rebuilt) (*record, error) {
	stored, err := rd.Get(principalRow(r.cfg.Space, principal))
	if err != nil || stored == nil {
		return nil, err
	}
	rec, err := decodeRecord(stored)
	if err != nil {
		return nil, err
	}
	routing, err := r.routes.Read(rd)
	if err != nil {
		return nil, err
	}
	m, err := readMarks(rd, r.cfg.Space, routing, principal)
	if err != nil {
		return nil, err
	}
	first, marked, err := m.first()
	if err != nil || !marked {
		return rec, err
	}
	docs, err := scanGrants(rd, r.cfg.Space, routing, principal)
	if err != nil {
		return nil, err
	}
	next := rebuild(rec, docs, first, r.cfg.HistoryWindow, r.cfg.Now())
	m = marks{bytes.Clone(m.own), bytes.Clone(m.next)}
	*todo = append(*todo, rebuilt{principal, bytes.Clone(stored), routing, m, next})
	r.warnOfChannels(principal, next)
	return next, nil
}

// saveAll stores rebuilt records and takes their marks away; errMoved if one was changed or marked again
// since it was read.
func (r *Registry) saveAll(tx store.Tx, todo []rebuilt) error {
	for _, b := range todo {
		if err := r.save(tx, &b); err != nil {
			return err
		}
	}
	return nil
}

func (r *Registry) save(tx store.Tx, b *rebuilt) error {
	routing, err := r.routes.Read(tx)
	if err != nil {
		return err
	}
	key := principalRow(r.cfg.Space, b.principal)
	stored, err := tx.Get(key)
	if err != nil {
		return err
	}
	m, err := readMarks(tx, r.cfg.Space, routing, b.principal)
	if err != nil {
		return err
	}
	// Grants that are live now, or count no more, are other ones under another routing.
	if !store.SameRouting(routing, b.routing) || !bytes.Equal(stored, b.record) ||
		!bytes.Equal(m.own, b.marks.own) || !bytes.Equal(m.next, b.marks.next) {
		return errMoved
	}
	if err := tx.Put(key, b.next.encode()); err != nil {
		return err
	}
	if m.next != nil {
		if err := tx.Delete(nextMarkRow(r.cfg.Space, routing.Marks, b.principal)); err != nil {
			return err
		}
	}
	return tx.Delete(invalidRow(r.cfg.Space, b.principal))
}

// warnOfChannels tells the log of a principal with very many channels.
func (r *Registry) warnOfChannels(principal string, rec *record) {
	n := 0
	for _, h := range rec.channels {
		n += len(h.grants)
	}
	if n > r.cfg.WarnChannels {
		r.cfg.Logger.Warn("a principal has very many channels", "principal", principal, "channels", n)
	}
}
