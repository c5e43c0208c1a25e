package rest

import (
	"context"
	"crypto/sha256"
	"slices"
	"sync"

	"github.com/tidegate/tidegate/internal/access"
)

// logins ends the connections of replications whose login has ended: the user was deleted, disabled or given
// another password, its sessions were ended, or the session that the connection was opened with was deleted. A
// session that merely expires ends nothing: whoever is connected stays.
//
// A connection that waits costs an entry in a map and no goroutine: one goroutine for all looks at the users that
// changed, and only while there are some.
type logins struct {
	mu        sync.Mutex // taken before a registry's lock, which is taken before queue.mu
	users     map[loginOwner]*loginUser
	bySession map[sessionKey][]*login
	watched   map[sessionKey]func() // what ends the watch of a session in bySession, which may be ended on another node

	queue loginQueue
}

// loginOwner is a user of a database as long as that stays open.
type loginOwner struct {
	registry *access.Registry
	name     string // "" is the guest
}

// sessionKey is the hash of a session's id; zero: there is no session.
type sessionKey [sha256.Size]byte

func keyOfSession(id string) sessionKey {
	if id == "" {
		return sessionKey{}
	}
	return sha256.Sum256([]byte(id))
}

// loginUser is a user with open connections.
type loginUser struct {
	loginOwner
	conns  map[*login]struct{}
	stop   func() // ends watching
	queued bool   // guarded by loginQueue.mu
}

// login is one open connection.
type login struct {
	user    *loginUser
	mark    uint64 // access.User.LoginMark of when it was opened
	session sessionKey
	end     func()
	opening bool // add has not returned: it says that the login has ended, and end is not called; guarded by logins.mu
}

func newLogins() *logins {
	return &logins{users: map[loginOwner]*loginUser{}, bySession: map[sessionKey][]*login{}, watched: map[sessionKey]func(){}}
}

// add watches over a connection: end is called, once and soon, when its login has ended. session is the id of the
// session it was opened with, "" for none. The caller calls forget when the connection is over.
//
// The error is errInvalidLogin if the login has ended already.
func (l *logins) add(ctx context.Context, registry *access.Registry, user *access.User, session string, end func()) (forget func(), err error) {
	owner := loginOwner{registry, user.PrincipalName()}
	c := &login{mark: user.LoginMark(), session: keyOfSession(session), end: end, opening: true}
	l.mu.Lock()
	u := l.users[owner]
	if u == nil {
		u = &loginUser{loginOwner: owner, conns: map[*login]struct{}{}}
		u.stop = registry.Watch(owner.name, func() { l.queue.push(u, l.check) })
		l.users[owner] = u
	}
	c.user = u
	u.conns[c] = struct{}{}
	if c.session != (sessionKey{}) {
		if l.watched[c.session] == nil {
			l.watched[c.session] = registry.WatchSession(c.session, func(ended bool) { l.sessionChanged(registry, c.session, ended) })
		}
		l.bySession[c.session] = append(l.bySession[c.session], c)
	}
	l.mu.Unlock()
	// It may have changed between the login and the watch.
	if good := c.good(registry.User(ctx, owner.name)) && c.sessionGood(ctx, registry); !l.opened(c) || !good {
		l.forget(c)
		return nil, errInvalidLogin
	}
	return func() { l.forget(c) }, nil
}

// opened notes that end is called from now on, and reports whether the login has not ended.
func (l *logins) opened(c *login) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.opening = false
	_, there := c.user.conns[c]
	return there
}

// good reports whether a login stands with the user as it is now. Where that cannot be told it does not: the
// client comes back and logs in again.
func (c *login) good(now *access.User, err error) bool {
	return err == nil && now.LoginMark() == c.mark
}

// sessionGood reports whether the session is there still.
func (c *login) sessionGood(ctx context.Context, registry *access.Registry) bool {
	if c.session == (sessionKey{}) {
		return true
	}
	stored, err := registry.SessionStored(ctx, c.session)
	return stored && err == nil
}

// sessionChanged is called when a session was ended on any node, or may have been.
func (l *logins) sessionChanged(registry *access.Registry, session sessionKey, ended bool) {
	if ended {
		l.end(session)
		return
	}
	go func() { // who calls must not wait for the store
		if stored, err := registry.SessionStored(context.Background(), session); err != nil || !stored { // deny by default
			l.end(session)
		}
	}()
}

// forget ends watching over a connection. It is idempotent.
func (l *logins) forget(c *login) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remove(c)
}

// remove is forget with l.mu held.
func (l *logins) remove(c *login) {
	u := c.user
	if _, there := u.conns[c]; !there {
		return
	}
	delete(u.conns, c)
	if len(u.conns) == 0 {
		u.stop()
		delete(l.users, u.loginOwner)
	}
	if c.session == (sessionKey{}) {
		return
	}
	same := l.bySession[c.session]
	i := slices.Index(same, c)
	if same = slices.Delete(same, i, i+1); len(same) == 0 {
		delete(l.bySession, c.session)
		l.watched[c.session]()
		delete(l.watched, c.session)
	} else {
		l.bySession[c.session] = same
	}
}

// check ends the connections of a user whose logins have ended.
func (l *logins) check(u *loginUser) {
	now, err := u.registry.User(context.Background(), u.name)
	var over []*login
	l.mu.Lock()
	for c := range u.conns {
		if !c.good(now, err) {
			over = append(over, c)
		}
	}
	over = l.over(over)
	l.mu.Unlock()
	for _, c := range over {
		c.end()
	}
}

// over removes connections and returns those whose end is to be called. l.mu is held.
func (l *logins) over(conns []*login) []*login {
	for _, c := range conns {
		l.remove(c)
	}
	return slices.DeleteFunc(conns, func(c *login) bool { return c.opening })
}

// sessionEnded ends the connections that were opened with a session which was deleted.
func (l *logins) sessionEnded(id string) { l.end(keyOfSession(id)) }

// end ends the connections that were opened with a session.
func (l *logins) end(session sessionKey) {
	l.mu.Lock()
	over := l.over(slices.Clone(l.bySession[session]))
	l.mu.Unlock()
	for _, c := range over {
		c.end()
	}
}

// loginQueue are the users to be looked at. Its zero value is ready.
type loginQueue struct {
	mu      sync.Mutex
	due     []*loginUser
	running bool
}

// push has check called with u by a goroutine of the queue. It does not wait: registries call it.
func (q *loginQueue) push(u *loginUser, check func(*loginUser)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if u.queued {
		return
	}
	u.queued = true
	q.due = append(q.due, u)
	if !q.running {
		q.running = true
		go q.run(check)
	}
}

func (q *loginQueue) run(check func(*loginUser)) {
	for u := q.pop(); u != nil; u = q.pop() {
		check(u)
	}
}

// pop returns the next user, nil if there is none: then the goroutine ends.
func (q *loginQueue) pop() *loginUser {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.due) == 0 {
		q.due, q.running = nil, false
		return nil
	}
	u := q.due[0]
	q.due = q.due[1:]
	u.queued = false // what happens from now on is another reason to look
	return u
}
