// Package database is one database: the one door for writes and the one window for reads.
//
// A [Database] is opened on a store and a blob store and runs until its context ends. Whoever reads or writes does
// so through a [Handle], which is the database seen by one principal in one collection. DESIGN.md in this
// folder says what is stored and how a write goes.
package database

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/changes"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/jsondoc"
	"github.com/tidegate/tidegate/internal/script"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/blob"
)

// Database is an open database. It is safe for concurrent use.
type Database struct {
	opts   Options
	space  store.Space
	st     store.Store
	blobs  blob.Store
	access *access.Registry
	hub    *changes.Hub
	stats  *Stats
	log    *slog.Logger

	routes      *store.RoutingCache
	collections []*collection
	byID        map[store.Collection]*collection

	functions runFunctions
	resync    resyncs

	device     *devicesync.Live // nil: there is no device sync to be paused or ended
	deviceRows deviceRows
	clients    clientBook

	clock   *tidegate.Clock
	locks   keyedLocks
	buffers sync.Pool // of *[]byte, for canonical bodies
	sweeper sweeper
	tasks   tasks
	block   writeBlock
	blobGC  *sync.RWMutex // held for reading from the pinning of a blob's content to the commit that refers to it
}

// collection is one collection of a database.
type collection struct {
	space       store.Space
	id          store.Collection
	scope, name string
	sync        script.SyncFunction
	borrowed    bool // sync is somebody else's to close
	// configured is the run of resync whose function sync is, as far as the store knows: the latest one when the database
	// was opened.
	configured uint32
	// latest is the function that an online resync of this process made the collection's; nil: sync is.
	latest atomic.Pointer[script.SyncFunction]
	stats  *CollectionStats
	total  *Stats // of the database
	routes *store.RoutingCache
}

// Open opens the database. Invalid: a sync function does not compile. The caller runs Run and calls Close
// in the end.
func Open(ctx context.Context, st store.Store, blobs blob.Store, opts Options) (*Database, error) {
	opts = opts.withDefaults()
	db := &Database{
		opts: opts, space: opts.Space, st: st, blobs: blobs, stats: opts.Stats, log: opts.Logger,
		routes: store.NewRoutingCache(opts.Space),
		byID:   map[store.Collection]*collection{}, clock: tidegate.NewClock(opts.Now), blobGC: new(sync.RWMutex),
	}
	db.sweeper.init()
	db.functions.init()
	db.device = opts.DeviceSync
	db.clients.init(db)
	db.resync.init()
	err := db.openCollections()
	if err == nil {
		err = db.readConfigured(ctx)
	}
	if err != nil {
		db.closeCollections()
		return nil, err
	}
	cfg := opts.Access
	cfg.Store = st
	cfg.Collections = make([]access.Collection, 0, len(db.collections))
	ids := make([]store.Collection, 0, len(db.collections))
	for _, c := range db.collections {
		cfg.Collections = append(cfg.Collections, access.Collection{Scope: c.scope, Name: c.name, ID: c.id})
		ids = append(ids, c.id)
	}
	if db.access, err = access.Open(ctx, cfg); err != nil {
		db.closeCollections()
		return nil, fmt.Errorf("open principals: %w", err)
	}
	db.hub = changes.NewHub(st, db.space, changes.HubOptions{
		Invalidate: db.access.Invalidate, Wakeups: &db.stats.FeedWakeups,
	})
	db.hub.Collections(ids)
	db.tasks.init(db)
	return db, nil
}

func (db *Database) openCollections() error {
	colls := db.opts.Collections
	if len(colls) == 0 {
		colls = []CollectionOptions{{}}
	}
	for _, o := range colls {
		if o.Scope == "" {
			o.Scope = DefaultScope
		}
		if o.Name == "" {
			o.Name = DefaultCollection
		}
		if db.byID[o.ID] != nil {
			return tidegate.Errorf(tidegate.Invalid, "collection %s.%s has the number of another", o.Scope, o.Name)
		}
		c := &collection{
			space: db.space, id: o.ID, scope: o.Scope, name: o.Name, sync: o.Function, borrowed: o.Function != nil,
			stats: db.stats.collection(o.ID, o.Scope+"."+o.Name), total: db.stats, routes: db.routes,
		}
		if !c.borrowed {
			if err := c.compile(o.Sync, script.Options{Limits: db.opts.Script, Logger: db.log}); err != nil {
				return err
			}
		}
		db.collections = append(db.collections, c)
		db.byID[c.id] = c
	}
	return nil
}

// compile compiles the collection's sync function.
func (c *collection) compile(source string, opts script.Options) (err error) {
	c.sync, err = script.CompileSync(source, c.defaultChannel(), opts)
	return err
}

// function is the present sync function.
func (c *collection) function() script.SyncFunction {
	if fn := c.latest.Load(); fn != nil {
		return *fn
	}
	return c.sync
}

// source is that of the present sync function.
func (c *collection) source() string { return c.function().Source() }

// defaultChannel is what the default function of a named collection puts documents into.
func (c *collection) defaultChannel() string {
	if c.id == 0 {
		return ""
	}
	return c.name
}

// readConfigured notes which function of the store's each collection was opened with.
func (db *Database) readConfigured(ctx context.Context) error {
	return db.st.View(ctx, func(r store.Reader) error {
		routing, err := db.routes.Read(r)
		for _, c := range db.collections {
			c.configured = routing.Function(c.id)
		}
		return err
	})
}

func (db *Database) closeCollections() {
	for _, c := range db.collections {
		if !c.borrowed {
			c.sync.Close()
		}
	}
}

// The names of what a document is in if no scope and collection is given.
const (
	DefaultScope      = "_default"
	DefaultCollection = "_default"
)

// Run does the work in the background: it follows the store for feeds, lets documents and old bodies expire,
// purges old tombstones and ends sessions. It returns when ctx ends, or with the first failure.
func (db *Database) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, work := range []func(context.Context) error{
		db.hub.Run, db.access.Run, db.runSweeper, db.runCompaction, db.runTidy,
	} {
		wg.Go(func() {
			if err := work(ctx); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("run database %s: %w", db.opts.Name, err))
			}
		})
	}
	<-ctx.Done()
	wg.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return ctx.Err()
}

// Close ends what Start… began and frees the sync functions. Run must have returned. The stores stay open.
func (db *Database) Close() error {
	db.tasks.close()
	db.closeCollections()
	db.functions.close()
	return nil
}

// Access returns the database's principals.
func (db *Database) Access() *access.Registry { return db.access }

// Stats returns the database's counters.
func (db *Database) Stats() *Stats { return db.stats }

// Name returns the name in Options.
func (db *Database) Name() string { return db.opts.Name }

// Source returns the source of versions that are made here.
func (db *Database) Source() string { return db.opts.Source }

// ReadOnly reports whether document writes are refused.
func (db *Database) ReadOnly() bool { return db.opts.ReadOnly }

// AllowConflicts reports whether branches may live side by side.
func (db *Database) AllowConflicts() bool { return db.opts.AllowConflicts }

// JSONLimits are the bounds of a document.
func (db *Database) JSONLimits() jsondoc.Limits {
	return jsondoc.Limits{Depth: db.opts.JSONDepth, Bytes: int(db.opts.MaxDocumentBytes)}
}

// MaxAttachmentBytes is the size of the largest attachment, as it is sent.
func (db *Database) MaxAttachmentBytes() int64 { return db.opts.MaxAttachmentBytes }

// LastSequence returns the last visible sequence.
func (db *Database) LastSequence(ctx context.Context) (tidegate.Seq, error) {
	var seq tidegate.Seq
	err := db.st.View(ctx, func(r store.Reader) (err error) {
		seq, err = r.LastSequence(db.space)
		return err
	})
	return seq, err
}

// Collection returns the number of a collection; "" names the default one. NotFound: it is not configured.
func (db *Database) Collection(scope, name string) (store.Collection, error) {
	if scope == "" {
		scope = DefaultScope
	}
	if name == "" {
		name = DefaultCollection
	}
	for _, c := range db.collections {
		if c.scope == scope && c.name == name {
			return c.id, nil
		}
	}
	return 0, tidegate.Errorf(tidegate.NotFound, "keyspace %s.%s.%s not found", db.opts.Name, scope, name)
}

// CollectionInfo describes a collection.
type CollectionInfo struct {
	Scope, Name string
	ID          store.Collection
	Sync        string // source of the sync function as configured, or as an online resync made it
}

// Collections returns the collections in the order of Options.
func (db *Database) Collections() []CollectionInfo {
	infos := make([]CollectionInfo, len(db.collections))
	for i, c := range db.collections {
		infos[i] = CollectionInfo{Scope: c.scope, Name: c.name, ID: c.id, Sync: c.source()}
	}
	return infos
}
