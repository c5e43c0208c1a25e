package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/store"
)

// Create defines and loads a database and returns its config's version. Invalid: bad name or config. Exists:
// `Duplicate database name "NAME"`. A database that was deleted with its data kept gets them back if name and
// storage id (bucket) are the same.
func (g *Gateway) Create(ctx context.Context, name string, cfg *config.Database) (version string, err error) {
	if err := checkNew(name, cfg); err != nil {
		return "", err
	}
	r, err := g.reserve(name, cfg)
	if err != nil {
		return "", err
	}
	defer func() { <-r.op }()
	ctx = context.WithoutCancel(ctx) // half a creation helps nobody
	d, err := g.create(ctx, r, name, cfg)
	if err != nil {
		g.forget(r)
		return "", err
	}
	return d.version(), nil
}

// checkNew checks the name and the config of a new database.
func checkNew(name string, cfg *config.Database) error {
	if err := config.ValidDatabaseName(name); err != nil {
		return err
	}
	if cfg.Name != "" && cfg.Name != name {
		return tidegate.Errorf(tidegate.Invalid, "the name in the config is not the name in the URL")
	}
	if err := cfg.KeepSecrets(nil); err != nil {
		return err
	}
	return cfg.Check()
}

// reserve puts a new database into the set, Offline, with its op held.
func (g *Gateway) reserve(name string, cfg *config.Database) (*Running, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, errClosed
	}
	if g.dbs[name] != nil {
		return nil, errDuplicate(name)
	}
	r := g.newRunning(&definition{Name: name, Config: strip(cfg)})
	r.op <- struct{}{}
	g.dbs[name] = r
	return r, nil
}

// forget takes a database out of the set. r.op is held.
func (g *Gateway) forget(r *Running) {
	r.deviceSync.unsubscribe()
	g.mu.Lock()
	delete(g.dbs, r.name)
	g.mu.Unlock()
	r.mu.Lock()
	r.deleted = true
	r.mu.Unlock()
	g.compareSoon() // another node may have one of its name
}

// create defines, stores and loads a reserved database.
func (g *Gateway) create(ctx context.Context, r *Running, name string, cfg *config.Database) (*definition, error) {
	d, err := g.define(ctx, name, cfg)
	if err != nil {
		return nil, err
	}
	if err := r.deviceSync.load(ctx, d); err != nil {
		return nil, err
	}
	db, err := g.openNew(ctx, nil, d, r.stats, r.deviceSync.live)
	if err != nil {
		return nil, err
	}
	// Nothing that may fail comes after save: what is refused must not be there after a restart.
	if err := g.installPrincipals(ctx, db, d); err != nil {
		return nil, joinClose(err, db)
	}
	if err := g.saveNew(ctx, d); err != nil {
		return nil, joinClose(err, db)
	}
	g.warn(d)
	r.adopt(d)
	r.deviceSync.follow()
	if r.Settings().Offline || g.halfDone(ctx, r) || r.mustResync(ctx) {
		return d, db.Close()
	}
	return d, r.start(ctx, db)
}

// define makes the definition of a new database: on the data that a deleted one left, or on new ones.
func (g *Gateway) define(ctx context.Context, name string, cfg *config.Database) (*definition, error) {
	old, err := g.detached(ctx, name, storageID(name, cfg))
	if err != nil {
		return nil, err
	}
	if old != nil {
		g.log.Info("the database gets back the data of a deleted one", "database", name, "storage_id", old.StorageID)
		d := old.withConfig(cfg, g.opts.Now())
		d.Detached, d.FileHash = "", ""
		return d, nil
	}
	space, err := newSpace(ctx, g.opts.Store)
	if err != nil {
		return nil, err
	}
	d := newDefinition(name, space, g.opts.Now())
	d.StorageID = storageID(name, cfg)
	return d.withConfig(cfg, g.opts.Now()), nil
}

// newDefinition makes a definition with fresh ids and an empty config.
func newDefinition(name string, space store.Space, now time.Time) *definition {
	now = now.UTC().Truncate(time.Millisecond)
	return &definition{
		Name: name, Space: space, ServerUUID: newHex(), SyncEpoch: newUUID(), EpochStart: now, Created: now,
	}
}

// detached returns the definition that a deleted database left; nil if there is none.
func (g *Gateway) detached(ctx context.Context, name, id string) (*definition, error) {
	var value []byte
	err := g.opts.Store.View(ctx, func(r store.Reader) error {
		v, err := r.Get(definitionKey(name, id))
		value = append(value, v...)
		return err
	})
	if err != nil || value == nil {
		return nil, err
	}
	return decodeDefinition(value, g.opts.Secrets)
}

// errOutdated says that a definition is not stored any more as it was read.
var errOutdated = errors.New("the definition was changed meanwhile")

// replace stores a definition, unless old is given and is not the version that is stored: then it returns errOutdated. With
// disable_persistent_config only the way to the data is kept: the database counts as detached when the process starts next.
func (g *Gateway) replace(ctx context.Context, d, old *definition) error {
	value, err := g.encode(d)
	if err != nil {
		return err
	}
	err = g.opts.Store.Update(ctx, func(tx store.Tx) error {
		if old != nil {
			if err := g.unchanged(tx, old); err != nil {
				return err
			}
		}
		return cmp.Or(tx.Put(definitionKey(d.Name, d.StorageID), value), g.nodes.Note(tx, topicDefinitions))
	})
	if err != nil {
		return fmt.Errorf("store definition of %s: %w", d.Name, err)
	}
	return nil
}

// unchanged returns errOutdated if d is not the version that is stored.
func (g *Gateway) unchanged(r store.Reader, d *definition) error {
	stored, err := g.readDefinition(r, d)
	if err == nil && (stored == nil || stored.Generation != d.Generation || !stored.sameData(d) || !maps.Equal(stored.FileHashes, d.FileHashes)) {
		err = errOutdated
	}
	return err
}

// saveNew stores the definition of a new database. Exists: another node has made one of this name.
func (g *Gateway) saveNew(ctx context.Context, d *definition) error {
	value, err := g.encode(d)
	if err != nil {
		return err
	}
	err = g.opts.Store.Update(ctx, func(tx store.Tx) error {
		err := scan(tx, definitionPrefix().Name(d.Name), func(_, value []byte) error {
			other, err := decodeDefinition(value, g.opts.Secrets)
			if err == nil && other.Detached == "" {
				err = errDuplicate(d.Name)
			}
			return err
		})
		if err != nil {
			return err
		}
		return cmp.Or(tx.Put(definitionKey(d.Name, d.StorageID), value), g.nodes.Note(tx, topicDefinitions))
	})
	if err != nil && tidegate.ErrorCode(err) != tidegate.Exists {
		err = fmt.Errorf("store definition of %s: %w", d.Name, err)
	}
	return err
}

func errDuplicate(name string) error {
	return tidegate.Errorf(tidegate.Exists, "Duplicate database name %q", name)
}

// encode returns the form in which a definition is stored.
func (g *Gateway) encode(d *definition) ([]byte, error) {
	if !g.Persistent() && d.Detached == "" {
		c := *d
		c.Detached = detachedByFile
		d = &c
	}
	value, err := d.encode(g.opts.Secrets)
	if err != nil {
		return nil, fmt.Errorf("encode definition of %s: %w", d.Name, err)
	}
	return value, nil
}

// readDefinition reads what is stored of the database of d; nil if there is nothing. It counts as attached as d does.
func (g *Gateway) readDefinition(r store.Reader, d *definition) (*definition, error) {
	value, err := r.Get(definitionKey(d.Name, d.StorageID))
	if err != nil || value == nil {
		return nil, err
	}
	stored, err := decodeDefinition(value, g.opts.Secrets)
	if err != nil {
		return nil, err
	}
	stored.Detached = d.Detached
	return stored, nil
}

// stored is the definition of a database as it is stored now, with what other nodes and runs of resync have changed.
func (g *Gateway) stored(ctx context.Context, d *definition) (*definition, error) {
	var stored *definition
	err := g.opts.Store.View(ctx, func(r store.Reader) (err error) {
		stored, err = g.readDefinition(r, d)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read definition of %s: %w", d.Name, err)
	}
	return stored, nil
}

// A Change is a new config for a database.
type Change struct {
	Config *config.Database
	// OfflineGiven says that the request set offline itself. Otherwise a database that was taken offline by
	// hand stays so.
	OfflineGiven bool
	// AllowDestructive: collections that sync may be dropped, which puts device sync into phase error.
	AllowDestructive bool
}

// errVersion is what a request gets whose If-Match is out of date (gateway-rest.md §10.3): 412.
var errVersion = tidegate.Errorf(tidegate.Exists, "Provided If-Match header does not match current config version")

// Update changes a database's config: change gets a copy of the current one and returns the new one. It
// returns the new version. If ifMatch is not empty and not the current version the error is Exists (412).
//
// The database is reloaded before Update returns, unless it is offline. If the new config is refused or does
// not load, nothing is changed.
func (g *Gateway) Update(ctx context.Context, name, ifMatch string, change func(*config.Database) (Change, error)) (version string, err error) {
	r, err := g.Database(name)
	if err != nil {
		return "", err
	}
	unlock, err := r.lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	for range updateTries {
		if version, err = r.update(ctx, r.definition(), ifMatch, change); !errors.Is(err, errOutdated) {
			return version, err
		}
		if err := r.catchUp(ctx); err != nil {
			return "", err
		}
	}
	return "", errContended
}

var errContended = tidegate.Errorf(tidegate.Unavailable, "the config is being changed by somebody else, try again later")

// disturbs reports whether a change of the config cannot be made while an online resync runs: it gives another function to
// the collection whose candidate will take that place, or takes away or brings collections.
func (r *Running) disturbs(old, cfg *config.Database) bool {
	run := r.currentRun()
	return run != nil && run.plan.options.Online && run.plan.disturbedBy(old, cfg)
}

// disturbedBy is disturbs of an online resync with this plan.
func (p *resyncPlan) disturbedBy(old, cfg *config.Database) bool {
	was, is := syncSources(old), syncSources(cfg)
	if !slices.Equal(slices.Sorted(maps.Keys(was)), slices.Sorted(maps.Keys(is))) {
		return true
	}
	return p.candidate != "" && was[p.candidate] != is[p.candidate]
}

// updateTries is how often a change is made anew because the definition was changed at the same time, as an online resync
// does at its end.
const updateTries = 3

// update makes the change of Update to old. r.op is held.
func (r *Running) update(ctx context.Context, old *definition, ifMatch string, change func(*config.Database) (Change, error)) (version string, err error) {
	if ifMatch != "" && ifMatch != old.version() {
		return "", errVersion
	}
	c, err := change(old.Config.Clone())
	if err != nil {
		return "", err
	}
	if c.Config.Bucket == "" {
		c.Config.Bucket = old.Config.Bucket // like the name, it says which data these are
	}
	if err := checkChange(old, c.Config); err != nil {
		return "", err
	}
	disturbs, err := r.disturbsElsewhere(ctx, old.Config, c.Config)
	if err != nil {
		return "", err
	}
	if disturbs || r.disturbs(old.Config, c.Config) {
		return "", errResyncing
	}
	dropped := r.deviceSync.dropped(old.Config, c.Config)
	if len(dropped) > 0 && !c.AllowDestructive {
		return "", devicesync.Destructive(fmt.Sprintf("device sync breaks when a collection that it serves is dropped (%s): terminate it and enable it again", strings.Join(dropped, ", ")))
	}
	ctx = context.WithoutCancel(ctx)
	d := old.withConfig(c.Config, r.g.opts.Now())
	if err := r.g.forgetDue(ctx, d); err != nil {
		return "", err
	}
	if err := r.apply(ctx, old, d, c); err != nil {
		return "", err
	}
	return d.version(), r.deviceSync.collectionsChanged(ctx, d.Config, dropped)
}

// forgetDue notes that a database without a single write needs no resync.
func (g *Gateway) forgetDue(ctx context.Context, d *definition) error {
	if len(d.ResyncDue) == 0 {
		return nil
	}
	return g.opts.Store.View(ctx, func(r store.Reader) error {
		last, err := r.LastSequence(d.Space)
		if err == nil && last == 0 {
			d.ResyncDue = nil
		}
		return err
	})
}

// checkChange checks the new config of a database.
func checkChange(old *definition, cfg *config.Database) error {
	if cfg.Name != "" && cfg.Name != old.Name {
		return tidegate.Errorf(tidegate.Invalid, "a database cannot be renamed")
	}
	if storageID(old.Name, cfg) != old.StorageID {
		return tidegate.Errorf(tidegate.Invalid, "the bucket of a database cannot be changed; delete the database and create it anew")
	}
	if err := cfg.KeepSecrets(old.Config); err != nil {
		return err
	}
	return cfg.Check()
}

// apply stores a new definition and puts it in force. r.op is held.
func (r *Running) apply(ctx context.Context, old, d *definition, c Change) error {
	g := r.g
	db, err := g.openNew(ctx, old.Config, d, r.stats, r.deviceSync.live)
	if err != nil {
		return err
	}
	if err := g.replace(ctx, d, old); err != nil {
		return joinClose(err, db)
	}
	g.warn(d)
	r.mu.Lock()
	offline := d.Config.Settings().Offline
	if r.byHand && !c.OfflineGiven {
		offline = true
	}
	online := r.state == Online
	resyncing := r.state == Resyncing
	if resyncing && c.OfflineGiven {
		r.onlineNext = !offline
	}
	r.mu.Unlock()
	if resyncing { // it keeps the functions that it began with (resync.md §2)
		r.adopt(d)
		return joinClose(changeGuest(ctx, db, old, d), db)
	}
	if !offline && !r.mustResync(ctx) {
		if err := r.reload(ctx, d, db); err != nil {
			return err
		}
		return changeGuest(ctx, db, old, d)
	}
	if online {
		if err := r.stop(ctx, errGoingOffline); err != nil {
			return joinClose(err, db)
		}
	}
	r.adopt(d)
	return joinClose(changeGuest(ctx, db, old, d), db)
}

// Delete closes a database and removes its definition. Its data stay for a later database of the same name and
// storage id unless purge is set; then they are destroyed in the background, also across restarts.
func (g *Gateway) Delete(ctx context.Context, name string, purge bool) error {
	r, err := g.Database(name)
	if err != nil {
		return err
	}
	unlock, err := r.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	ctx = context.WithoutCancel(ctx)
	release, err := r.shut(ctx)
	if err != nil {
		return err
	}
	if err := r.discard(ctx, purge); err != nil {
		release()
		return err
	}
	g.forget(r) // what was under way of its device sync goes on if the data come back
	g.log.Info("database deleted", "database", name, "purge", purge)
	return nil
}

// endResync ends the resync that runs here, if one does.
func (r *Running) endResync() {
	if run := r.currentRun(); run != nil {
		run.stop()
		<-run.done
	}
}

// shut ends what works on a database that is to be deleted. release lets its device sync go on. r.op is held.
func (r *Running) shut(ctx context.Context) (release func(), err error) {
	r.endResync()
	release = r.deviceSync.hold()
	if r.State() == Online {
		if err := r.stop(ctx, errGoingOffline); err != nil {
			release()
			return nil, err
		}
	}
	return release, nil
}

// discard stores that a database is deleted, which is shut. r.op is held.
func (r *Running) discard(ctx context.Context, purge bool) (err error) {
	for range updateTries {
		old := r.definition()
		if purge {
			err = r.g.abandon(ctx, old, nil)
		} else {
			d := *old
			d.Detached = detachedByAPI
			err = r.g.replace(ctx, &d, old)
		}
		if !errors.Is(err, errOutdated) {
			return err
		}
		d, err := r.g.current(ctx, old) // it is not put in force: that would open the database again
		if err != nil {
			return err
		}
		if d == nil {
			return notFound(r.name)
		}
		r.adopt(d)
	}
	return errContended
}

// Flush deletes everything in a database and opens it empty with the same config: it gets a new space and a
// new sync epoch, and the old space is destroyed in the background. The caller must not have the database acquired.
func (g *Gateway) Flush(ctx context.Context, name string) error {
	r, err := g.Database(name)
	if err != nil {
		return err
	}
	unlock, err := r.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	ctx = context.WithoutCancel(ctx)
	for range updateTries {
		if err = r.flush(ctx); !errors.Is(err, errOutdated) {
			return err
		}
		if err := r.catchUp(ctx); err != nil {
			return err
		}
	}
	return errContended
}

// flush is Flush. r.op is held. errOutdated: the definition was changed meanwhile.
func (r *Running) flush(ctx context.Context) error {
	g := r.g
	if state := r.State(); state != Online {
		return stateError(state)
	}
	old := r.definition()
	space, err := newSpace(ctx, g.opts.Store)
	if err != nil {
		return err
	}
	d := *old
	fresh := newDefinition(r.name, space, g.opts.Now())
	d.Space, d.ServerUUID, d.SyncEpoch, d.EpochStart = fresh.Space, fresh.ServerUUID, fresh.SyncEpoch, fresh.EpochStart
	db, err := g.open(ctx, &d, r.stats, r.deviceSync.live)
	if err != nil {
		return err
	}
	defer r.deviceSync.hold()()
	if err := r.stop(ctx, errReloading); err != nil {
		return joinClose(err, db)
	}
	row, err := r.deviceSync.carryOver(ctx, old, &d)
	if err != nil {
		return errors.Join(joinClose(err, db), r.start(ctx, nil))
	}
	if err := g.abandon(ctx, old, &d); err != nil {
		return errors.Join(joinClose(err, db), r.start(ctx, nil)) // go on with what there is
	}
	r.deviceSync.live.Reset(row)
	return r.reload(ctx, &d, db)
}
