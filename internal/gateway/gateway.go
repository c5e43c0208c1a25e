// Package gateway is the running set of databases of one node: it keeps their definitions, opens, reloads and
// closes them, and gates requests by their state.
//
// Definitions live in the store's space 0; each database has a space of its own, which it keeps for life and
// which a later database of the same name and storage id is attached to again.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/cluster"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/blob"
)

// Options are what a Gateway is made of.
type Options struct {
	Store         store.Store
	Blobs         blob.Store
	NodeID        string // of this node; stable over restarts
	Startup       *config.Startup
	FileDatabases map[string]*config.Database // from the config file, by name
	// Secrets are the keys that passwords in what is stored are encrypted with; nil: they are stored as they are.
	Secrets *config.Keyring
	// NewReplicator makes what runs replications with other gateways; nil: this node runs none, and only keeps their
	// definitions.
	NewReplicator NewReplicatorFunc
	// Cluster is what this node knows of the others. The gateway runs it, and leaves it when it closes. nil: this node is alone.
	Cluster *cluster.Cluster
	Logger  *slog.Logger     // discards if nil
	Now     func() time.Time // time.Now if nil
}

// Gateway is the running set of databases. It is safe for concurrent use.
type Gateway struct {
	opts      Options
	log       *slog.Logger
	passwords *access.Passwords // shared by all databases
	cluster   string
	nodes     *cluster.Cluster
	own       map[string]*own // of a database: what the config file says for this node alone

	ctx        context.Context // ends when all background work is to end
	end        context.CancelCauseFunc
	background sync.WaitGroup

	dryRuns atomic.Int32  // under way
	compare chan struct{} // gets a token when the set of databases is to be compared with what is stored

	// Woken when sessions of device sync come and go; urgent: another node waits for it.
	sessionsChanged, sessionsUrgent chan struct{}

	statesChanged chan struct{} // woken when a database's state changes
	telling       sync.Mutex    // held by who tells the other nodes the states of databases
	toldStates    string        // what was told last; guarded by telling

	mu      sync.Mutex // guards what follows; taken before Running.mu
	dbs     map[string]*Running
	purging map[store.Space]bool // here
	// following are the databases that are brought to what another node has stored; true: once more
	following map[string]bool
	closed    bool
}

// discard is the logger of who gave none.
var discard = slog.New(slog.DiscardHandler)

var (
	errClosed    = tidegate.Errorf(tidegate.Unavailable, "the gateway is closing")
	errResyncing = tidegate.Errorf(tidegate.Unavailable, "Database _resync is in progress, this may take some time, try again later")
)

func errTakeOffline(s State) error {
	return tidegate.Errorf(tidegate.Unavailable, "Unable to take Database offline, database must be in Online state but was %s", s)
}

// loadsAtOnce bounds how many databases are loaded at the same time at start.
const loadsAtOnce = 8

// Open reads the definitions and loads every database. A database that fails to load is there with its error.
// Open fails if the store cannot be read or written, or the file's databases are not valid: a *config.Error.
func Open(ctx context.Context, opts Options) (*Gateway, error) {
	if opts.Logger == nil {
		opts.Logger = discard
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Startup == nil {
		opts.Startup = &config.Startup{}
	}
	if err := checkFile(opts.FileDatabases); err != nil {
		return nil, err
	}
	if opts.Cluster == nil {
		opts.Cluster = cluster.Alone(opts.Store, opts.NodeID)
	}
	g := &Gateway{opts: opts, log: opts.Logger, nodes: opts.Cluster, dbs: map[string]*Running{}, purging: map[store.Space]bool{}, compare: make(chan struct{}, 1), following: map[string]bool{}}
	g.sessionsChanged, g.sessionsUrgent, g.statesChanged = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	if !g.nodes.Alone() {
		g.opts.FileDatabases, g.own = splitFile(opts.FileDatabases)
	}
	g.passwords = access.NewPasswords(access.PasswordsConfig{Cost: opts.Startup.Settings().BcryptCost, Now: opts.Now})
	g.ctx, g.end = context.WithCancelCause(context.Background())
	g.background.Go(g.runCluster)
	if err := g.open0(ctx); err != nil {
		g.end(err)
		g.background.Wait()
		return nil, errors.Join(err, g.leave(ctx))
	}
	return g, nil
}

// open0 is Open after the fields are set.
func (g *Gateway) open0(ctx context.Context) error {
	for _, w := range g.opts.Startup.Warnings() {
		g.log.Warn("a setting has no effect", "setting", w)
	}
	active, err := g.readDefinitions(ctx)
	if err != nil {
		return err
	}
	g.loadAll(ctx, active)
	g.background.Go(g.followDefinitions)
	g.background.Go(g.watchDeviceSync)
	g.background.Go(g.tellPresence)
	g.background.Go(g.tellStates)
	return nil
}

// readDefinitions reads what is stored, brings it together with the config file, and returns what is to be loaded. Nodes do so one
// after another.
func (g *Gateway) readDefinitions(ctx context.Context) ([]*definition, error) {
	if !g.nodes.Alone() { // a lease is a write, and a disk may be nearly full
		turn, err := g.nodes.Lease(ctx, topicDefinitions)
		if err != nil {
			return nil, fmt.Errorf("wait for other nodes that start: %w", err)
		}
		defer turn.Release()
	}
	for range updateTries {
		found, err := readStored(ctx, g.opts.Store, g.opts.Secrets)
		if err != nil {
			return nil, fmt.Errorf("read definitions: %w", err)
		}
		if g.cluster, err = g.clusterUUID(ctx, found.cluster); err != nil {
			return nil, err
		}
		if err := g.sameKeys(ctx); err != nil {
			return nil, err
		}
		// Nodes that serve already change definitions meanwhile.
		if active, err := g.reconcile(ctx, found.definitions); !errors.Is(err, errOutdated) {
			return active, err
		}
	}
	return nil, errContended
}

// loadAll loads the databases of the definitions, some at a time.
func (g *Gateway) loadAll(ctx context.Context, defs []*definition) {
	slots := make(chan struct{}, loadsAtOnce)
	var wg sync.WaitGroup
	for _, d := range defs {
		r := g.newRunning(d)
		g.dbs[d.Name] = r
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			r.op <- struct{}{}
			defer func() { <-r.op }()
			r.loadFirst(ctx, d)
		})
	}
	wg.Wait()
}

// loadFirst loads a database that this node has just heard of. r.op is held.
func (r *Running) loadFirst(ctx context.Context, d *definition) {
	g := r.g
	if err := r.deviceSync.load(ctx, d); err != nil {
		r.mu.Lock()
		r.err = err
		r.mu.Unlock()
		g.log.Error("database does not load", "database", d.Name, "error", err)
		return
	}
	r.deviceSync.follow()
	if d.Config.Settings().Offline {
		return
	}
	g.warn(d)
	if g.halfDone(ctx, r) {
		return
	}
	if err := r.start(ctx, nil); err != nil {
		g.log.Error("database does not load", "database", d.Name, "error", err)
		return
	}
	g.log.Info("database online", "database", d.Name)
}

func (g *Gateway) newRunning(d *definition) *Running {
	r := &Running{
		g: g, name: d.Name, op: make(chan struct{}, 1), moved: make(chan struct{}), resyncOver: make(chan struct{}, 1),
		stats: database.NewStats(), def: d, settings: d.Config.Settings(),
	}
	r.replications = newReplications(r)
	r.deviceSync = newDeviceSync(r, d)
	r.deviceSync.subscribe(d.Space)
	return r
}

// warn logs the settings of a database that do nothing in this version.
func (g *Gateway) warn(d *definition) {
	for _, w := range d.Config.Warnings() {
		g.log.Warn("a setting has no effect", "database", d.Name, "setting", w)
	}
}

// clusterUUID returns the stored id of the cluster, made on the first start.
func (g *Gateway) clusterUUID(ctx context.Context, stored string) (string, error) {
	if stored != "" {
		return stored, nil
	}
	id := newHex()
	err := g.opts.Store.Update(ctx, func(tx store.Tx) error { return tx.Put(clusterKey(), []byte(id)) })
	if err != nil {
		return "", fmt.Errorf("store cluster id: %w", err)
	}
	return id, nil
}

// spawn runs f in the background, unless the gateway is closed.
func (g *Gateway) spawn(f func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.background.Go(f)
	return true
}

// Run returns when ctx ends or the gateway is closed. The databases' own background work runs from the moment
// they are loaded; one whose work fails goes offline with its error, and the others go on.
func (g *Gateway) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-g.ctx.Done():
		return context.Cause(g.ctx)
	}
}

// Close takes all databases offline: feeds end at once, requests get until ctx ends, and at most DrainTimeout. It
// is idempotent. The store stays open.
func (g *Gateway) Close(ctx context.Context) error {
	g.mu.Lock()
	g.closed = true
	all := slices.Collect(maps.Values(g.dbs))
	g.mu.Unlock()
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, r := range all {
		wg.Go(func() { errs[i] = r.close(ctx) })
	}
	wg.Wait()
	g.end(errClosed)
	g.background.Wait()
	return errors.Join(append(errs, g.leave(ctx))...)
}

// close takes one database offline for good. An operation under way is waited for: it ends by itself.
func (r *Running) close(ctx context.Context) error {
	r.op <- struct{}{}
	defer func() { <-r.op }()
	if r.State() != Online {
		return nil
	}
	if err := r.stop(ctx, errGoingOffline); err != nil {
		return fmt.Errorf("close database %s: %w", r.name, err)
	}
	return nil
}

// NodeID is the id of this node.
func (g *Gateway) NodeID() string { return g.opts.NodeID }

// ClusterUUID is the id that all nodes of one cluster share, 32 hex digits.
func (g *Gateway) ClusterUUID() string { return g.cluster }

// Persistent reports whether definitions made over the API outlive the process.
func (g *Gateway) Persistent() bool { return !g.opts.Startup.DisablePersistentConfig }

// Startup is the start-up config; it must not be changed.
func (g *Gateway) Startup() *config.Startup { return g.opts.Startup }

// Passwords is what checks passwords for all databases.
func (g *Gateway) Passwords() *access.Passwords { return g.passwords }

// Names returns the names of all databases, sorted.
func (g *Gateway) Names() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Sorted(maps.Keys(g.dbs))
}

// Databases returns all databases, sorted by name.
func (g *Gateway) Databases() []*Running {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]*Running, 0, len(g.dbs))
	for _, name := range slices.Sorted(maps.Keys(g.dbs)) {
		all = append(all, g.dbs[name])
	}
	return all
}

// Database returns the database of the name, in whatever state; NotFound `no such database "NAME"`.
func (g *Gateway) Database(name string) (*Running, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r := g.dbs[name]; r != nil {
		return r, nil
	}
	return nil, notFound(name)
}
