package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/store"
)

// beginResync starts the run of a plan: offline on a database that is opened for it alone, online on the one that serves.
// r.op is held, and the state is the right one.
func (r *Running) beginResync(ctx context.Context, d *definition, plan *resyncPlan) (*resyncRun, error) {
	lease, err := r.g.resyncLease(ctx, d)
	if errors.Is(err, errProcessRunning) {
		if st, err := r.g.readResync(ctx, d.Space); err == nil && runs(&st) {
			return nil, errResyncRunning // on another node
		}
	}
	if err != nil {
		return nil, err
	}
	run, err := r.beginUnder(ctx, lease, d, plan)
	if err != nil {
		lease.Release()
	}
	return run, err
}

// beginUnder is beginResync under a lease, which it gives back at the end of the run.
func (r *Running) beginUnder(ctx context.Context, lease store.Lease, d *definition, plan *resyncPlan) (*resyncRun, error) {
	run := &resyncRun{plan: plan, begun: make(chan struct{}), done: make(chan struct{})}
	plan.options.Node, plan.options.Fence, plan.options.OnChange = r.g.nodes.Self(), lease.Epoch(), r.resyncChanged(d.Space)
	within, finish, err := r.resyncOn(ctx, d, run)
	if err != nil {
		return nil, err
	}
	unhook := context.AfterFunc(lease.Context(), func() { run.cancel(context.Cause(lease.Context())) })
	end := func() {
		unhook()
		lease.Release()
		finish()
		run.cancel(nil)
		close(run.done)
		wake(r.resyncOver)
	}
	if !r.g.spawn(func() {
		defer end()
		r.runResync(within, d, run)
	}) {
		end()
		return nil, errClosed
	}
	r.g.spawn(func() { r.heedStop(d.Space, run) })
	return run, nil
}

// resyncOn gives a run its database and moves the state. It returns the context that the run must end with, and what is
// to be done after it.
func (r *Running) resyncOn(ctx context.Context, d *definition, run *resyncRun) (within context.Context, finish func(), err error) {
	if run.plan.options.Online {
		inst, _, err := r.enter()
		if err != nil {
			return nil, nil, err
		}
		run.db = inst.db
		within, run.cancel = context.WithCancelCause(inst.leaving)
		r.mu.Lock()
		r.resync = run
		r.mu.Unlock()
		return within, func() {
			r.mu.Lock()
			r.resync = nil
			r.mu.Unlock()
			r.exit(inst)
		}, nil
	}
	db, err := r.g.open(ctx, d, r.stats, r.deviceSync.live)
	if err != nil {
		return nil, nil, err
	}
	run.db = db
	within, run.cancel = context.WithCancelCause(r.g.ctx)
	if err := r.transition(evResync, func() { r.resync, r.err = run, nil }); err != nil {
		return nil, nil, joinClose(err, db)
	}
	return within, func() { r.endOffline(run) }, nil
}

// endOffline closes the database of an offline run, and brings it online if a config that came meanwhile says so.
func (r *Running) endOffline(run *resyncRun) {
	if err := run.db.Close(); err != nil {
		r.g.log.Error("database did not close cleanly after a resync", "database", r.name, "error", err)
	}
	comeOnline := false
	err := r.transition(evResynced, func() {
		r.resync = nil
		comeOnline, r.onlineNext = r.onlineNext, false
	})
	if err != nil {
		r.g.log.Error("database does not leave the state of a resync", "database", r.name, "error", err)
	}
	if comeOnline {
		r.g.spawn(func() {
			if err := r.comeOnline(0); err != nil {
				r.g.log.Error("database did not come online", "database", r.name, "error", err)
			}
		})
	}
}

// runResync is the run, and the bookkeeping after it.
func (r *Running) runResync(ctx context.Context, d *definition, run *resyncRun) {
	options := run.plan.options
	options.Concurrency, options.Progress = r.Settings().ResyncConcurrency, run.progress
	var switched *definition
	if options.Online {
		options.OnSwitch = func(tx store.Tx) (err error) {
			switched, err = r.switchTo(tx, d, run.plan)
			return err
		}
	}
	st, err := run.db.Resync(ctx, options)
	interrupted := err != nil && ctx.Err() != nil && !errors.Is(err, database.ErrResyncStopped)
	if interrupted && tidegate.ErrorCode(err) == tidegate.Canceled {
		err = context.Cause(ctx) // for whoever waits for the run to begin: that the database goes offline, say
	}
	run.mu.Lock()
	run.last, run.err = st, err
	run.mu.Unlock()
	if interrupted {
		r.g.log.Warn("resync interrupted; it can go on where it was", "database", r.name, "resync", st.ID, "processed", st.DocsProcessed)
		return
	}
	if err != nil {
		return
	}
	if err := r.noteResynced(context.WithoutCancel(ctx), d, run.plan, switched); err != nil {
		r.g.log.Error("the end of a resync cannot be noted; it will be said to be due still", "database", r.name, "error", err)
	}
}

// switchTo stores what an online run leaves: the candidate as the function of its collection, which is not due any more. It
// is part of the transaction that makes the new routing visible, and may be called more than once.
func (r *Running) switchTo(tx store.Tx, d *definition, p *resyncPlan) (*definition, error) {
	stored, err := r.g.readDefinition(tx, r.definition())
	if err != nil || stored == nil {
		return nil, err
	}
	next := stored
	if p.candidate != "" {
		cfg := stored.Config.Clone()
		setSyncSource(cfg, p.candidate, config.JavaScript(p.source))
		next = stored.withConfig(cfg, r.g.opts.Now())
	}
	next = next.resynced(d, p)
	value, err := r.g.encode(next)
	if err != nil {
		return nil, err
	}
	return next, cmp.Or(tx.Put(definitionKey(next.Name, next.StorageID), value), r.g.nodes.Note(tx, topicDefinitions))
}

// noteResynced takes over what the switch of an online run has stored, or stores what an offline run has done.
func (r *Running) noteResynced(ctx context.Context, d *definition, p *resyncPlan, switched *definition) error {
	if !p.options.Online {
		err := r.g.opts.Store.Update(ctx, func(tx store.Tx) error {
			stored, err := r.g.readDefinition(tx, r.definition())
			if err != nil || stored == nil {
				return err
			}
			switched = stored.resynced(d, p)
			value, err := r.g.encode(switched)
			if err != nil {
				return err
			}
			return cmp.Or(tx.Put(definitionKey(switched.Name, switched.StorageID), value), r.g.nodes.Note(tx, topicDefinitions))
		})
		if err != nil {
			return fmt.Errorf("store definition of %s: %w", d.Name, err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if switched != nil && switched.Generation >= r.def.Generation {
		r.def, r.settings = switched, switched.Config.Settings()
	}
	return nil
}

// resynced returns the definition without the collections of a plan among those that are due, if their functions are
// those that they had at its start or that it brought.
func (d *definition) resynced(atStart *definition, p *resyncPlan) *definition {
	c := *d
	was, is := syncSources(atStart.Config), syncSources(d.Config)
	c.ResyncDue = slices.DeleteFunc(slices.Clone(d.ResyncDue), func(key string) bool {
		scope, name, _ := cutCollection(key)
		id, ok := d.collectionID(scope, name)
		worked := ok && (p.options.Collections == nil || slices.Contains(p.options.Collections, id))
		return worked && (key == p.candidate || was[key] == is[key])
	})
	return &c
}

// setSyncSource sets the function of a collection, where the config keeps it.
func setSyncSource(cfg *config.Database, key string, source config.JavaScript) {
	scope, name, _ := cutCollection(key)
	coll, inScope := cfg.Scopes[scope].Collections[name]
	if !inScope || scope == config.DefaultName && cfg.Sync != "" {
		cfg.Sync = source
		return
	}
	coll.Sync = source
	cfg.Scopes[scope].Collections[name] = coll
}

// collectionID is the number of a configured collection.
func (d *definition) collectionID(scope, name string) (store.Collection, bool) {
	if scope == config.DefaultName && name == config.DefaultName {
		return 0, d.Config.HasDefaultCollection()
	}
	if _, ok := d.Config.Scopes[scope].Collections[name]; !ok {
		return 0, false
	}
	id, ok := d.Collections[scope+"."+name]
	return id, ok
}

// collectionName is the reverse of collectionID; empty if there is none.
func (d *definition) collectionName(id store.Collection) (scope, name string) {
	if id == 0 {
		return config.DefaultName, config.DefaultName
	}
	for key, n := range d.Collections {
		if n == id {
			scope, name, _ = cutCollection(key)
			return scope, name
		}
	}
	return "", ""
}

// progress takes news of the run.
func (run *resyncRun) progress(st database.ResyncStatus) {
	run.mu.Lock()
	defer run.mu.Unlock()
	if run.first == nil {
		run.first = &st
		close(run.begun)
	}
}

// halfDone leaves a database offline whose offline resync was interrupted: half of its documents are routed by another
// function than the rest (resync.md §3.5). r.op is held.
func (g *Gateway) halfDone(ctx context.Context, r *Running) bool {
	st, err := database.ReadResyncStatus(ctx, g.opts.Store, r.definition().Space)
	switch {
	case err != nil:
		g.log.Error("database stays offline: it cannot be told whether a resync came to its end", "database", r.name, "error", err)
	case st.Mode != database.ResyncOffline || st.State != database.ResyncRunning && st.State != database.ResyncStopping:
		return false
	default:
		err = errHalfDone
		if !g.nodes.Alone() {
			err = errResyncing // standby goes on with it, here or elsewhere
			g.log.Warn("database stays offline: an offline resync of it has not come to its end", "database", r.name, "resync", st.ID, "node", st.Node)
			break
		}
		g.log.Error("database stays offline: its resync was interrupted; go on with POST _resync, or POST _online to serve it as it is",
			"database", r.name, "resync", st.ID, "processed", st.DocsProcessed, "documents", st.DocsTotal)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err, r.byHand = err, true // a change of the config does not bring it online either
	return true
}

var errHalfDone = tidegate.Errorf(tidegate.Unavailable, "the resync of the database was interrupted; POST _resync goes on with it, POST _online serves the database as it is")

// resumeOnline goes on with an online resync that was interrupted: by a crash, by a reload, or because the database was
// taken offline. r.op is held, and the database has just come online.
func (r *Running) resumeOnline(ctx context.Context, d *definition, db *database.Database) {
	if !r.g.nodes.Alone() {
		return // standby does
	}
	options, ok, err := db.InterruptedResync(ctx)
	if err == nil && (!ok || !options.Online) {
		return
	}
	if err == nil {
		_, err = r.beginResync(ctx, d, d.planOf(options))
	}
	if err != nil {
		r.g.log.Error("an online resync that was interrupted does not go on; start it again", "database", r.name, "error", err)
	}
}
