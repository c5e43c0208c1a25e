package access

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"runtime"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/tidegate/tidegate"
)

// Defaults and bounds of password checks.
const (
	DefaultBcryptCost       = 10
	DefaultFailures         = 10 // a minute (hardening.md)
	DefaultVerifiedCache    = 10_000
	DefaultVerifiedTTL      = 30 * time.Minute
	maxWaitingForHash       = 256 // callers that wait for their turn to hash, beyond it they are turned away
	maxBcryptPassword       = 72  // bytes; bcrypt looks at no more
	maxFailureRecords       = 10_000
	minPasswordLength       = 3 // characters (gateway-rest.md §16.1)
	bcryptAlphabetForDummy  = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789./"
	dummySaltAndDigestBytes = 53
)

var (
	errInvalidLogin = tidegate.Errorf(tidegate.Unauthorized, "Invalid login")
	errTooManyFails = tidegate.Errorf(tidegate.TooMany, "Too many failed logins; try again in a minute")
	errHashBusy     = tidegate.Errorf(tidegate.Unavailable, "Too many logins at once; try again later")
)

// PasswordsConfig configures Passwords. Zero values mean the defaults.
type PasswordsConfig struct {
	Cost int // of bcrypt, for new hashes: 10
	// FailuresPerMinute is how many failed logins are allowed for each address and name: 10; negative: any
	// number.
	FailuresPerMinute int
	CacheSize         int           // verified credentials kept in memory: 10,000
	CacheTTL          time.Duration // how long each is kept: 30 min
	Concurrency       int           // hashes computed at once: GOMAXPROCS
	Now               func() time.Time
}

// Passwords makes and checks password hashes. A check takes the tenth part of a second of a processor, so
// what was verified is remembered for a while, under a keyed hash from which the password cannot be told;
// only so many hashes are computed at once; and who fails too often is refused without one.
//
// It is safe for concurrent use and shared by all databases of a process.
type Passwords struct {
	cfg   PasswordsConfig
	dummy []byte // a hash that no password has, at the configured cost
	turns chan struct{}
	macs  sync.Pool

	mu          sync.Mutex // guards what follows
	verified    *lru[credential, time.Time]
	flights     map[credential]*flight
	failures    *lru[[sha256.Size]byte, *failures]
	lastFailure time.Time
	waiting     int
}

// credential stands for a pair of hash and password. It is computed with a key that only this process has.
type credential [sha256.Size]byte

// flight is a check under way that others wait for.
type flight struct {
	done chan struct{}
	ok   bool
	err  error
}

// NewPasswords returns a Passwords.
func NewPasswords(cfg PasswordsConfig) *Passwords {
	cfg.Cost = orDefault(cfg.Cost, DefaultBcryptCost)
	cfg.FailuresPerMinute = orDefault(cfg.FailuresPerMinute, DefaultFailures)
	cfg.CacheSize = orDefault(cfg.CacheSize, DefaultVerifiedCache)
	cfg.CacheTTL = orDefault(cfg.CacheTTL, DefaultVerifiedTTL)
	cfg.Concurrency = orDefault(cfg.Concurrency, runtime.GOMAXPROCS(0))
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	var key [sha256.Size]byte
	_, _ = rand.Read(key[:]) // never fails
	return &Passwords{
		cfg:      cfg,
		dummy:    dummyHash(cfg.Cost),
		turns:    make(chan struct{}, cfg.Concurrency),
		macs:     sync.Pool{New: func() any { return hmac.New(sha256.New, key[:]) }},
		verified: newLRU[credential, time.Time](cfg.CacheSize),
		flights:  map[credential]*flight{},
		failures: newLRU[[sha256.Size]byte, *failures](maxFailureRecords),
	}
}

// dummyHash returns a well-formed hash of the cost with a digest drawn at random, to spend on names that do
// not exist the time that those that do take.
func dummyHash(cost int) []byte {
	b := make([]byte, dummySaltAndDigestBytes)
	_, _ = rand.Read(b)
	for i, c := range b {
		b[i] = bcryptAlphabetForDummy[c%64]
	}
	return fmt.Appendf(nil, "$2a$%02d$%s", cost, b)
}

// HashPassword returns the bcrypt hash of a password at a cost, without waiting for a turn: for commands.
func HashPassword(password string, cost int) (string, error) {
	h, err := bcrypt.GenerateFromPassword(bcryptInput(password), cost)
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return string(h), nil
}

// bcryptInput is what bcrypt is given for a password: it takes no more than 72 bytes, so a longer one is
// condensed first.
func bcryptInput(password string) []byte {
	if len(password) <= maxBcryptPassword {
		return []byte(password)
	}
	sum := sha256.Sum256([]byte(password))
	return base64.StdEncoding.AppendEncode(nil, sum[:])
}

// hash returns the hash of a password at the configured cost, when it is its turn.
func (p *Passwords) hash(ctx context.Context, password string) (h []byte, err error) {
	err = p.turn(ctx, func() error {
		h, err = bcrypt.GenerateFromPassword(bcryptInput(password), p.cfg.Cost)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("hash password: %w", err)
	}
	return h, nil
}

// turn runs f when few enough others run.
func (p *Passwords) turn(ctx context.Context, f func() error) error {
	p.mu.Lock()
	full := p.waiting >= maxWaitingForHash
	if !full {
		p.waiting++
	}
	p.mu.Unlock()
	if full {
		return errHashBusy
	}
	defer func() {
		p.mu.Lock()
		p.waiting--
		p.mu.Unlock()
	}()
	select {
	case p.turns <- struct{}{}:
		defer func() { <-p.turns }()
		return f()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// check reports whether password has the hash; a nil hash has none, and checking that takes as long. fresh:
// it was computed, not remembered. from and name are whom a failure is counted against.
//
// TooMany: too many failures before. Unavailable: too many callers wait.
func (p *Passwords) check(ctx context.Context, from, name string, hash []byte, password string) (ok, fresh bool, err error) {
	if hash == nil {
		hash = p.dummy
	}
	key := p.credential(hash, password)
	if p.remembers(key) {
		return true, false, nil
	}
	who := attemptKey(from, name)
	for {
		p.mu.Lock()
		now := p.cfg.Now()
		if p.blocked(who, now) {
			p.mu.Unlock()
			return false, false, errTooManyFails
		}
		if until, ok := p.verified.get(key); ok && now.Before(until) {
			p.mu.Unlock()
			return true, false, nil
		}
		f, joined := p.flights[key]
		if !joined {
			f = &flight{done: make(chan struct{})}
			p.flights[key] = f
			p.countFailure(who, now) // taken back if it is none: guesses at once must not get past the limit
		}
		p.mu.Unlock()
		if !joined {
			p.fly(ctx, f, key, who, hash, password)
			return f.ok, true, f.err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return false, false, ctx.Err()
		}
		if f.err == nil {
			return f.ok, true, nil
		}
		// whoever computed it gave up: try again
	}
}

// remembers reports whether the credential was verified lately, while nobody at all has failed lately. It is
// what check decides too, at less cost.
func (p *Passwords) remembers(key credential) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	until, ok := p.verified.get(key)
	if !ok {
		return false
	}
	now := p.cfg.Now()
	if p.failures.len() > 0 && now.Sub(p.lastFailure) >= time.Minute {
		p.failures.clear() // none of them counts any more
	}
	return p.failures.len() == 0 && now.Before(until)
}

// fly computes a check and tells those who wait for it.
func (p *Passwords) fly(ctx context.Context, f *flight, key credential, who [sha256.Size]byte, hash []byte, password string) {
	f.err = p.turn(ctx, func() error {
		f.ok = bcrypt.CompareHashAndPassword(hash, bcryptInput(password)) == nil
		return nil
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.ok {
		p.verified.put(key, p.cfg.Now().Add(p.cfg.CacheTTL))
	}
	if f.ok || f.err != nil {
		p.uncountFailure(who)
	}
	delete(p.flights, key)
	close(f.done)
}

// credential returns the key under which a pair of hash and password is remembered.
func (p *Passwords) credential(h []byte, password string) (c credential) {
	mac := p.macs.Get().(hash.Hash)
	defer p.macs.Put(mac)
	mac.Reset()
	mac.Write([]byte{byte(len(h))})
	mac.Write(h)
	mac.Write([]byte(password))
	mac.Sum(c[:0])
	return c
}
