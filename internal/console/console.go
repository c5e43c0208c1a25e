package console

import (
	"context"
	"crypto/rand"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// Base is the path that the console is mounted at.
const Base = "/_console"

// Identity is somebody who has logged in. It is safe for concurrent use.
type Identity interface {
	// Name is what the console shows: an administrator's name or a public key.
	Name() string
	// ReadOnly reports whether every change will be refused.
	ReadOnly() bool
	// Sign returns r as a request that the handlers of Options take for one of this identity.
	Sign(r *http.Request) *http.Request
	// Valid reports whether the identity still exists; a deleted key ends its sessions.
	Valid(ctx context.Context) bool
}

// Logins checks who may use the console.
type Logins interface {
	// Login checks a name and its secret: an administrator's password or the private part of an API key, for
	// somebody at remoteAddr. A LoginError is told to them; what other errors say is for the log.
	Login(ctx context.Context, name, secret, remoteAddr string) (Identity, error)
	// Any reports whether there is anybody who could log in.
	Any(ctx context.Context) (bool, error)
}

// LoginError is why a login was refused, as a sentence for whoever tried.
type LoginError string

func (e LoginError) Error() string { return string(e) }

// Options are what a Console is made of. Gateway and Logins are needed; zero values of the others mean the
// defaults in parentheses.
type Options struct {
	Gateway     http.Handler // the gateway's admin API, for requests that an Identity signed
	AppServices http.Handler // the Admin API below /api/admin/v3.0 (none)
	Logins      Logins
	Logger      *slog.Logger     // (discards)
	Version     string           // of the product
	LocalOnly   bool             // the listener is for this machine: other Host headers are refused
	Now         func() time.Time // (time.Now)

	IdleTimeout time.Duration // a session ends when nothing was asked for that long (30 min)
	MaxAge      time.Duration // and this long after its login (12 h)
	MaxSessions int           // at one time; the one idle longest makes room (200)
	MaxStreams  int           // live connections at one time (100)
	LiveEvery   time.Duration // between two live samples (2 s)
}

// The defaults of Options.
const (
	DefaultIdleTimeout = 30 * time.Minute
	DefaultMaxAge      = 12 * time.Hour
	DefaultMaxSessions = 200
	DefaultMaxStreams  = 100
	DefaultLiveEvery   = 2 * time.Second
)

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.IdleTimeout = orDefault(o.IdleTimeout, DefaultIdleTimeout)
	o.MaxAge = orDefault(o.MaxAge, DefaultMaxAge)
	o.MaxSessions = orDefault(o.MaxSessions, DefaultMaxSessions)
	o.MaxStreams = orDefault(o.MaxStreams, DefaultMaxStreams)
	o.LiveEvery = orDefault(o.LiveEvery, DefaultLiveEvery)
	return o
}

func orDefault[T int | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// Console answers the requests below Base. It is safe for concurrent use.
type Console struct {
	o         Options
	mux       *http.ServeMux
	cross     http.CrossOriginProtection
	sessions  *sessions
	loginKey  []byte // proves that a login form came from here
	assets    *assets
	templates map[string]*template.Template // by page
	nav       []navEntry
	topics    map[string]topic
	streams   chan struct{} // holds one for each live connection
	history   *history

	closing   context.Context
	close     context.CancelFunc
	closeOnce sync.Once
}

// New makes a console. It fails only if the embedded files are broken.
func New(o Options) (*Console, error) {
	if o.Gateway == nil || o.Logins == nil {
		return nil, errors.New("make console: a gateway and logins are needed")
	}
	o = o.withDefaults()
	c := &Console{
		o: o, sessions: newSessions(o), loginKey: make([]byte, 32), topics: make(map[string]topic),
		streams: make(chan struct{}, o.MaxStreams),
	}
	c.history = &history{c: c}
	rand.Read(c.loginKey) // it never fails
	c.closing, c.close = context.WithCancel(context.Background())
	var err error
	if c.assets, err = loadAssets(); err != nil {
		return nil, err
	}
	if c.templates, err = c.loadTemplates(); err != nil {
		return nil, err
	}
	c.register()
	return c, nil
}

// Close ends the live connections, so that a server that shuts down need not wait for them. Pages still work.
func (c *Console) Close() { c.closeOnce.Do(c.close) }

// Sessions returns how many sessions there are, expired ones not counted.
func (c *Console) Sessions() int { return c.sessions.len() }
