package gateway

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/cluster"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/store"
)

// Cluster is what this node knows of the others.
func (g *Gateway) Cluster() *cluster.Cluster { return g.nodes }

// runCluster keeps this node in the cluster until the gateway closes. A node whose id another process has taken ends, since what the two
// say would be taken for each other's, and one that can write no more.
func (g *Gateway) runCluster() {
	if err := g.nodes.Run(g.ctx); cluster.Ended(err) {
		g.end(err)
	}
}

// keysKey holds the id of the key that the node that started last encrypts with.
func keysKey() store.Key { return store.NewKey(0, store.KindMeta).Name("gateway.secrets") }

// sameKeys refuses a node that cannot read what the others encrypt. One that is alone, since the machine with the key is gone, serves: only what
// was encrypted is lost.
func (g *Gateway) sameKeys(ctx context.Context) error {
	if g.nodes.Alone() || g.opts.Secrets == nil {
		return nil
	}
	others := len(g.nodes.Nodes()) > 1
	lost := ""
	err := g.opts.Store.Update(ctx, func(tx store.Tx) error {
		id, err := tx.Get(keysKey())
		lost = ""
		if err == nil && id != nil && !g.opts.Secrets.Has(string(id)) {
			lost = string(id)
		}
		if lost != "" && others {
			err = tidegate.Errorf(tidegate.Invalid, "the nodes of this store encrypt passwords with a key (%s) that this node does not have: give all the same --secrets-key-file", id)
		}
		if err != nil {
			return err
		}
		return tx.Put(keysKey(), []byte(g.opts.Secrets.ID()))
	})
	if err == nil && lost != "" {
		g.log.Error("passwords in stored configs and replications were encrypted with a key that this node does not have: they cannot be used until they are set again", "key", lost)
	}
	return err
}

// topicDefinitions is noted with every change of a definition.
const topicDefinitions = "definitions"

// followRetry is the pause before what other nodes have changed is tried again after an error.
const followRetry = 5 * time.Second

// followDefinitions puts in force what other nodes change: new databases, configs, deleted ones. It goes on until the gateway closes.
func (g *Gateway) followDefinitions() {
	woken, stop := g.nodes.Subscribe(topicDefinitions)
	defer stop()
	retry := time.NewTimer(followRetry)
	defer retry.Stop()
	slots := make(chan struct{}, loadsAtOnce)
	for {
		select {
		case <-g.ctx.Done():
			return
		case <-woken:
		case <-g.compare:
		case <-retry.C:
		}
		retry.Stop()
		if err := g.compareDefinitions(g.ctx, slots); err != nil && g.ctx.Err() == nil {
			g.log.Error("it is not known what other nodes have changed; it is tried again", "error", err)
			retry.Reset(followRetry)
		}
	}
}

// compareSoon has the databases compared with what is stored.
func (g *Gateway) compareSoon() {
	select {
	case g.compare <- struct{}{}:
	default: // it is due already
	}
}

// compareDefinitions compares the databases with what is stored, and has what differs put in force.
func (g *Gateway) compareDefinitions(ctx context.Context, slots chan struct{}) error {
	found, err := readStored(ctx, g.opts.Store, g.opts.Secrets)
	if err != nil {
		return fmt.Errorf("read definitions: %w", err)
	}
	for _, space := range found.purges {
		g.startPurge(space)
	}
	known := map[string]bool{}
	for _, r := range g.Databases() {
		known[r.name] = true
		if current := g.attached(found.definitions, r.definition()); current == nil || !current.sameVersion(r.definition()) || r.isUnfinished() {
			g.followSoon(r.name, slots, r.follow)
		}
	}
	for _, d := range found.definitions {
		if g.Persistent() && d.Detached == "" && !known[d.Name] {
			g.followSoon(d.Name, slots, func(ctx context.Context) error { return g.add(ctx, d.Name) })
		}
	}
	return nil
}

// followSoon runs f for a database, in the background: one that is slow to drain holds up no other. Each database has one at a time; when
// it has ended and more was asked for meanwhile, or it has failed, all is compared again.
func (g *Gateway) followSoon(name string, slots chan struct{}, f func(context.Context) error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, busy := g.following[name]
	g.following[name] = busy
	if busy || g.closed {
		return
	}
	g.background.Go(func() {
		err := func() error {
			slots <- struct{}{}
			defer func() { <-slots }()
			return f(g.ctx)
		}()
		if err != nil && tidegate.ErrorCode(err) != tidegate.NotFound && g.ctx.Err() == nil {
			g.log.Error("what another node has changed is not in force here yet; it is tried again", "database", name, "error", err)
			pause(g.ctx, followRetry)
		}
		g.mu.Lock()
		again := g.following[name] || err != nil
		delete(g.following, name)
		g.mu.Unlock()
		if again {
			g.compareSoon()
		}
	})
}

// attached returns, of what is stored, the definition that serves under the name of d; nil if none does. With disable_persistent_config
// those in use are stored like ones that a config file does not name.
func (g *Gateway) attached(stored []*definition, d *definition) *definition {
	for _, s := range stored {
		switch {
		case s.Name != d.Name:
		case s.Detached == "":
			return s
		case !g.Persistent() && s.Detached == detachedByFile && s.StorageID == d.StorageID:
			c := *s
			c.Detached = ""
			return &c
		}
	}
	return nil
}

// current reads the definition that serves under the name of d; nil if none does.
func (g *Gateway) current(ctx context.Context, d *definition) (*definition, error) {
	var stored []*definition
	err := g.opts.Store.View(ctx, func(r store.Reader) error {
		stored = nil
		return scan(r, definitionPrefix().Name(d.Name), func(_, value []byte) error {
			s, err := decodeDefinition(value, g.opts.Secrets)
			stored = append(stored, s)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read definition of %s: %w", d.Name, err)
	}
	return g.attached(stored, d), nil
}

// add loads a database that another node has made.
func (g *Gateway) add(ctx context.Context, name string) error {
	r, err := g.reserve(name, &config.Database{})
	if err != nil {
		return nil // made here meanwhile, or all is closing
	}
	defer func() { <-r.op }()
	d, err := g.current(ctx, r.definition()) // it may have been deleted before it was reserved
	if err != nil || d == nil {
		g.forget(r)
		return err
	}
	r.adopt(d)
	r.deviceSync.begin(d)
	r.loadFirst(ctx, d)
	return nil
}

// follow puts in force what another node has changed of a database.
func (r *Running) follow(ctx context.Context) error {
	unlock, err := r.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err = r.catchUp(ctx); err == nil && r.isUnfinished() {
		err = r.finishFollowing(ctx)
	}
	if tidegate.ErrorCode(err) == tidegate.NotFound {
		return r.drop(ctx)
	}
	return err
}

func (r *Running) isUnfinished() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.unfinished
}

// followed notes whether a definition that was adopted could be opened.
func (r *Running) followed(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unfinished = err != nil
	return err
}

// finishFollowing opens what could not be opened when another node had changed it: the store was out of reach, or a resync ran. r.op is held.
func (r *Running) finishFollowing(ctx context.Context) error {
	r.mu.Lock()
	offline := r.settings.Offline || r.byHand || r.state != Offline
	r.mu.Unlock()
	if offline || r.mustResync(ctx) {
		return r.followed(nil)
	}
	return r.followed(r.start(ctx, nil))
}

// catchUp puts the stored definition in force. r.op is held. NotFound: the database was deleted.
func (r *Running) catchUp(ctx context.Context) error {
	old := r.definition()
	d, err := r.g.current(ctx, old)
	switch {
	case err != nil:
		return err
	case d == nil:
		return notFound(r.name)
	case d.sameVersion(old):
		return nil
	}
	r.g.log.Info("another node has changed the database", "database", r.name, "version", d.version())
	return r.putInForce(ctx, old, d)
}

// putInForce puts a definition in force that another node has stored. r.op is held.
func (r *Running) putInForce(ctx context.Context, old, d *definition) error {
	if d.sameData(old) && bytes.Equal(d.Config.Encode(), old.Config.Encode()) && d.Generation == old.Generation {
		r.adopt(d)
		return nil
	}
	if !d.sameData(old) {
		return r.moveTo(ctx, d)
	}
	if err := r.deviceSync.refresh(ctx); err != nil { // it has a say in how documents are routed
		return err
	}
	r.mu.Lock()
	state, offline := r.state, d.Config.Settings().Offline || r.byHand
	r.mu.Unlock()
	if state == Resyncing { // it keeps the functions that it began with (resync.md §2)
		r.adopt(d)
		return nil
	}
	if !offline && !r.mustResync(ctx) {
		db, err := r.g.open(ctx, d, r.stats, r.deviceSync.live)
		if err != nil {
			return err
		}
		return r.followed(r.reload(ctx, d, db))
	}
	if state == Online {
		if err := r.stop(ctx, errGoingOffline); err != nil {
			return err
		}
	}
	r.adopt(d)
	return nil
}

// moveTo goes on with other data: the database was flushed, or deleted and made anew. r.op is held.
func (r *Running) moveTo(ctx context.Context, d *definition) error {
	r.endResync()
	row, _, err := readRow(ctx, r.g.opts.Store, d)
	if err != nil {
		return err
	}
	release := r.deviceSync.hold()
	online := r.State() == Online
	if online {
		if err := r.stop(ctx, errReloading); err != nil {
			release()
			return err
		}
	}
	r.adopt(d)
	r.deviceSync.live.Reset(row)
	release()
	r.deviceSync.follow()
	r.mu.Lock()
	offline := d.Config.Settings().Offline || r.byHand
	r.mu.Unlock()
	if offline || r.State() != Offline || r.mustResync(ctx) {
		return nil
	}
	return r.followed(r.start(ctx, nil))
}

// drop closes a database that another node has deleted. r.op is held.
func (r *Running) drop(ctx context.Context) error {
	if _, err := r.shut(ctx); err != nil {
		return err
	}
	r.g.forget(r)
	r.g.log.Info("database deleted by another node", "database", r.name)
	return nil
}

// leaveTimeout bounds the goodbye of a node; one that was not said is noticed later.
const leaveTimeout = 5 * time.Second

// leave tells the other nodes that this one is gone.
func (g *Gateway) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if err := g.nodes.Leave(ctx); err != nil {
		return fmt.Errorf("leave the cluster: %w", err)
	}
	return nil
}
