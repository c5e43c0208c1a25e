package access

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// Defaults of Config.
const (
	DefaultHistoryWindow    = 30 * 24 * time.Hour
	DefaultUserCacheSize    = 500_000
	DefaultSessionCacheSize = 10_000
	DefaultWarnChannels     = 50_000
)

// Collection names a collection, for the JSON form of principals.
type Collection struct {
	Scope, Name string
	ID          store.Collection
}

// Config configures a Registry. Zero values mean the defaults.
type Config struct {
	Store       store.Store
	Space       store.Space
	Collections []Collection // those with names of their own; the default one may be among them

	AllowEmptyPassword bool // users may have no password
	// AllowGuestStar lets the guest have the channel "*", which is refused unless asked for by name
	// (hardening.md).
	AllowGuestStar bool
	HistoryWindow  time.Duration // how long lost channels are remembered for revocations

	BcryptCost             int           // see PasswordsConfig; these four are not looked at if Passwords is set
	LoginFailuresPerMinute int           //
	VerifiedCacheSize      int           //
	VerifiedTTL            time.Duration //
	// Passwords is shared by the databases of a process; nil: one for this registry alone.
	Passwords *Passwords

	UserCacheSize    int // channels and roles of all cached users together, and of all cached roles
	SessionCacheSize int // sessions kept in memory
	WarnChannels     int // a user with more channels than this is worth a warning

	Now    func() time.Time // time.Now if nil
	Logger *slog.Logger     // discards if nil
}

func (c Config) withDefaults() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.HistoryWindow = orDefault(c.HistoryWindow, DefaultHistoryWindow)
	c.UserCacheSize = orDefault(c.UserCacheSize, DefaultUserCacheSize)
	c.SessionCacheSize = orDefault(c.SessionCacheSize, DefaultSessionCacheSize)
	c.WarnChannels = orDefault(c.WarnChannels, DefaultWarnChannels)
	if c.Passwords == nil {
		c.Passwords = NewPasswords(PasswordsConfig{
			Cost: c.BcryptCost, FailuresPerMinute: c.LoginFailuresPerMinute,
			CacheSize: c.VerifiedCacheSize, CacheTTL: c.VerifiedTTL, Now: c.Now,
		})
	}
	return c
}

func orDefault[T int | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}

// Registry holds the principals of one database. It is safe for concurrent use.
type Registry struct {
	cfg       Config
	passwords *Passwords
	routes    *store.RoutingCache
	stripes   *stripes // loads of one user wait for each other

	mu       sync.Mutex // guards what follows
	users    *lru[string, *User]
	roles    *lru[string, *role]
	watched  watches
	ends     sessionWatches
	recent   recentChanges
	lastSeen tidegate.Seq // events up to here have been applied to the caches
	looked   time.Time    // when the store was last asked whether there are more

	sessions *sessionCache
	counters counters
}

// Open returns the registry of a database. It holds nothing that must be closed; the caller runs Run.
func Open(ctx context.Context, cfg Config) (*Registry, error) {
	cfg = cfg.withDefaults()
	r := &Registry{
		cfg: cfg, passwords: cfg.Passwords, stripes: newStripes(), routes: store.NewRoutingCache(cfg.Space),
		users:    newLRU[string, *User](cfg.UserCacheSize),
		roles:    newLRU[string, *role](cfg.UserCacheSize),
		watched:  newWatches(),
		ends:     sessionWatches{},
		sessions: newSessionCache(cfg.SessionCacheSize),
	}
	r.users.weight = (*User).weight
	r.users.gone = func(_ string, u *User) { u.stale.Store(true) }
	r.roles.weight = func(g *role) int {
		if g.rec == nil {
			return 1
		}
		return g.rec.size()
	}
	r.roles.gone = func(_ string, g *role) { g.stale.Store(true) }
	err := cfg.Store.View(ctx, func(rd store.Reader) (err error) {
		r.lastSeen, err = lastEvent(rd, cfg.Space)
		return err
	})
	return r, err
}

// How often Run sweeps, and how much of it at a time.
const (
	sweepInterval = 10 * time.Minute
	sweepBatch    = 1000
)

// Run removes expired sessions and what is no longer needed, until ctx ends.
func (r *Registry) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		for _, sweep := range []func(context.Context, int) (bool, error){r.sweepSessions, r.sweepEvents} {
			for more := true; more && ctx.Err() == nil; {
				var err error
				if more, err = sweep(ctx, sweepBatch); err != nil && ctx.Err() == nil {
					r.cfg.Logger.Warn("sweep of sessions failed; it will be tried again", "error", err)
					break
				}
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// seen returns the sequence up to which events have been applied to the caches.
func (r *Registry) seen() tidegate.Seq {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lastSeen
}

// Invalidate forgets what is cached of principals ("user:bob", "role:r"; a role: of every user that has it), and of whatever else events
// name, and wakes who watches them. It is called after the transaction that changed them, before its caller is answered, and by the
// follower of the store, for changes that other nodes made.
func (r *Registry) Invalidate(principals []string) { r.invalidate(principals, 0) }

// invalidate is Invalidate; seen, if not 0, is the sequence up to which all events have now been applied.
func (r *Registry) invalidate(principals []string, seen tidegate.Seq) {
	tell(r.forget(principals, seen))
}

// forget does what invalidate does, but for calling those whom it returns.
func (r *Registry) forget(principals []string, seen tidegate.Seq) (woken []*watcher) {
	if slices.Contains(principals, allPrincipals) {
		return r.dropAll(seen)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastSeen = max(r.lastSeen, seen)
	for _, principal := range principals {
		if name, ok := strings.CutPrefix(principal, rolePrefix); ok {
			r.recent.add(principal)
			r.roles.remove(name)
			woken = r.watched.wakeRole(name, woken)
		} else if name, ok := strings.CutPrefix(principal, userPrefix); ok {
			r.recent.add(principal)
			r.users.remove(name)
			woken = r.watched.wakeUser(name, woken)
		} else if id, ok := strings.CutPrefix(principal, sessionPrefix); ok {
			r.sessions.forget(id)
			woken = r.ends.ended(id, woken)
		}
	}
	return woken
}

// forgetAll empties the caches and wakes everybody: changes up to seen were not followed one by one.
func (r *Registry) forgetAll(seen tidegate.Seq) {
	tell(r.dropAll(seen))
}

// dropAll does what forgetAll does, but for calling those whom it returns.
func (r *Registry) dropAll(seen tidegate.Seq) (woken []*watcher) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastSeen = max(r.lastSeen, seen)
	r.recent.overflow()
	r.users.clear()
	r.roles.clear()
	r.sessions.clear()
	return r.ends.doubted(r.watched.wakeAll())
}

// recentChanges remembers the last invalidations, so that a load that was under way meanwhile can tell
// whether it is out of date.
type recentChanges struct {
	count uint64 // invalidations so far
	ring  [256]string
}

func (c *recentChanges) add(principal string) {
	c.ring[c.count%uint64(len(c.ring))] = principal
	c.count++
}

// overflow makes every load under way count as out of date.
func (c *recentChanges) overflow() { c.count += uint64(len(c.ring)) + 1 }

// touched reports whether a principal was invalidated since count was the given one.
func (c *recentChanges) touched(since uint64, principals []string) bool {
	if c.count-since > uint64(len(c.ring)) {
		return true
	}
	for n := since; n < c.count; n++ {
		if slices.Contains(principals, c.ring[n%uint64(len(c.ring))]) {
			return true
		}
	}
	return false
}
