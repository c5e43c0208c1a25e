// Package gatewaycluster is a tidegate deployment as one side of a cluster sync (shared/spec/cluster-sync.md §2.1). It speaks to the admin
// REST API only, so it works with whatever serves that API.
//
// Databases and collections are namespaces; a document goes with all its leaf revisions, their histories, tombstones and attachments, and
// is written with new_edits=false, which makes every write idempotent and convergent. What MongoDB writes down is mapped by package
// mapping. What does not go along is in docs/clustersync-gateways.md.
package gatewaycluster

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// Options of a connection; the zero value is good.
type Options struct {
	// MetadataDB is the database that the records of the sync are kept in; DefaultMetadataDB if empty. It is made when it is needed.
	MetadataDB string
	// TLS of tidegates://; nil: the system's roots.
	TLS *tls.Config
	// Poll is how often databases and collections are looked for; DefaultPoll if 0.
	Poll time.Duration
	// Pauses are made before a request that failed in a way that may pass is made again; a second and a half in all if nil.
	Pauses []time.Duration
	Log    *slog.Logger // nil: none
}

// Defaults.
const (
	DefaultMetadataDB = "tidegate_clustersync"
	DefaultPoll       = 2 * time.Second
)

// Cluster is a tidegate deployment.
type Cluster struct {
	opts   Options
	client *client
	meta   *metadata

	configs keyedLocks // of databases whose config is being changed
	mu      sync.Mutex
	blocked bool             // BlockWrites was asked for: databases that are made are blocked, too
	sizes   map[string]sizes // what Partition counted, by UUID
}

var _ clustersync.Cluster = (*Cluster)(nil)

// Open reads the URI, tidegate://user:password@host:port or tidegates:// for TLS. Several hosts, separated by commas, are gateways of one
// deployment. It does not connect: an unreachable cluster is found by the first call.
func Open(_ context.Context, uri string, opts Options) (*Cluster, error) {
	addr, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	if opts.MetadataDB == "" {
		opts.MetadataDB = DefaultMetadataDB
	}
	if opts.Poll <= 0 {
		opts.Poll = DefaultPoll
	}
	if opts.Pauses == nil {
		opts.Pauses = []time.Duration{50 * time.Millisecond, 250 * time.Millisecond, time.Second}
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	transport := &http.Transport{
		MaxIdleConnsPerHost: maxIdleConns, MaxConnsPerHost: maxConns, IdleConnTimeout: 90 * time.Second, TLSClientConfig: opts.TLS,
		ResponseHeaderTimeout: headerTimeout,
	}
	c := &Cluster{
		opts: opts, client: &client{addr: addr, http: &http.Client{Transport: transport}, log: opts.Log, pauses: opts.Pauses},
		sizes: map[string]sizes{},
	}
	c.meta = newMetadata(c)
	return c, nil
}

// Kind is Tidegate.
func (c *Cluster) Kind() clustersync.Kind { return clustersync.Tidegate }

// Metadata is a database of its own.
func (c *Cluster) Metadata() clustersync.Metadata { return c.meta }

// Close gives the connections back.
func (c *Cluster) Close(context.Context) error {
	c.client.http.CloseIdleConnections()
	return nil
}

// internal reports whether a database is none of the users'.
func (c *Cluster) internal(db string) bool { return db == c.opts.MetadataDB || db == DefaultMetadataDB }

// keyedLocks are locks by name.
type keyedLocks struct {
	mu    sync.Mutex
	locks map[string]*sync.Mutex
}

// lock takes the lock of that name and returns what gives it back.
func (k *keyedLocks) lock(name string) (unlock func()) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[string]*sync.Mutex{}
	}
	l := k.locks[name]
	if l == nil {
		l = new(sync.Mutex)
		k.locks[name] = l
	}
	k.mu.Unlock()
	l.Lock()
	return l.Unlock
}
