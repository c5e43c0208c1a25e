package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/store"
)

// beginResync starts the run of a plan: offline on a database that is opened for it alone, online on the one that serves.
// r.op is held, and the state is the right one.
func (r *Running) beginResync(ctx context.Context, d *definition, plan *resyncPlan) (*resyncRun, error) {
	lease, err := r.g.resyncLease(ctx, d)
	if err != nil {
		return nil, err
	}
	run := &resyncRun{
		plan: plan, begun: make(chan struct{}), done: make(chan struct{}), warnings: plan.warnings,
		log: r.g.log.With("database", r.name),
	}
	within, finish, err := r.resyncOn(ctx, d, run)
	if err != nil {
		lease.Release()
		return nil, err
	}
	unhook := context.AfterFunc(lease.Context(), func() { run.cancel(context.Cause(lease.Context())) })
	end := func() {
		unhook()
		lease.Release()
		finish()
		run.cancel(nil)
		close(run.done)
	}
	if err := r.g.keepRequest(ctx, d, plan.req); err != nil {
		end()
		return nil, err
	}
	if !r.g.spawn(func() {
		defer end()
		r.runResync(within, d, run)
	}) {
		end()
		return nil, errClosed
	}
	return run, nil
}

// resyncOn gives a run its database and moves the state. It returns the context that the run must end with, and what is
// to be done after it.
func (r *Running) resyncOn(ctx context.Context, d *definition, run *resyncRun) (within context.Context, finish func(), err error) {
	if run.plan.req.Online {
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
	db, err := r.g.open(ctx, d, r.stats)
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

// runResync is the run, from its first line in the log to its last.
func (r *Running) runResync(ctx context.Context, d *definition, run *resyncRun) {
	start := time.Now()
	options := r.resyncOptions(d, run)
	var switched *definition
	if options.Online {
		options.OnSwitch = func(tx store.Tx) (err error) {
			switched, err = r.switchTo(tx, d, run.plan)
			return err
		}
	}
	st, err := run.db.Resync(ctx, options)
	interrupted := err != nil && ctx.Err() != nil && !errors.Is(err, database.ErrResyncStopped)
	run.mu.Lock()
	run.last, run.err = st, err
	run.mu.Unlock()
	run.logEnd(st, err, interrupted, time.Since(start))
	if interrupted {
		return
	}
	ctx = context.WithoutCancel(ctx)
	if err == nil {
		if err := r.noteResynced(ctx, d, run.plan, switched); err != nil {
			run.log.Error("the end of a resync cannot be noted; it will be said to be due still", "error", err)
		}
	}
	if err := r.g.dropRequest(ctx, d); err != nil {
		run.log.Error("the end of a resync cannot be noted", "error", err)
	}
}

// resyncOptions are the options of a plan for the engine.
func (r *Running) resyncOptions(d *definition, run *resyncRun) database.ResyncOptions {
	p := run.plan
	o := database.ResyncOptions{
		Online: p.req.Online, Regenerate: p.req.Regenerate, Reset: p.req.Reset, Collections: p.collections,
		Concurrency: r.Settings().ResyncConcurrency, Progress: run.progress,
	}
	if p.candidate != "" {
		scope, name, _ := cutCollection(p.candidate)
		if id, ok := d.collectionID(scope, name); ok {
			o.Functions = map[store.Collection]string{id: *p.req.SyncFunction}
		}
	}
	return o
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
		setSyncSource(cfg, p.candidate, config.JavaScript(*p.req.SyncFunction))
		next = stored.withConfig(cfg, r.g.opts.Now())
	}
	next = next.resynced(d, p)
	value, err := r.g.encode(next)
	if err != nil {
		return nil, err
	}
	return next, tx.Put(definitionKey(next.Name, next.StorageID), value)
}

// noteResynced takes over what the switch of an online run has stored, or stores what an offline run has done.
func (r *Running) noteResynced(ctx context.Context, d *definition, p *resyncPlan, switched *definition) error {
	if !p.req.Online {
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
			return tx.Put(definitionKey(switched.Name, switched.StorageID), value)
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
		worked := ok && (p.collections == nil || slices.Contains(p.collections, id))
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

// progressEvery is how often a run is told of in the log (resync.md §4).
const progressEvery = 10 * time.Second

// progress takes news of the run.
func (run *resyncRun) progress(st database.ResyncStatus) {
	run.mu.Lock()
	defer run.mu.Unlock()
	run.last = st
	if run.first == nil {
		run.first, run.loggedAt = &st, time.Now()
		close(run.begun)
		run.log.Info("resync started", "resync", st.ID, "mode", string(st.Mode), "collections", len(st.Collections),
			"regenerate_sequences", st.Regenerate, "documents", st.DocsTotal, "done_before", st.DocsProcessed)
		return
	}
	if time.Since(run.loggedAt) >= progressEvery {
		run.loggedAt = time.Now()
		run.log.Info("resync", append(figuresOf(st), slog.Int64("documents", st.DocsTotal), slog.Duration("left", st.TimeLeft))...)
	}
}

func figuresOf(st database.ResyncStatus) []any {
	return []any{
		slog.String("resync", st.ID), slog.Int64("processed", st.DocsProcessed), slog.Int64("changed", st.DocsChanged),
		slog.Int64("rejected", st.DocsRejected), slog.Int64("errors", st.DocsErrored),
	}
}

func (run *resyncRun) logEnd(st database.ResyncStatus, err error, interrupted bool, took time.Duration) {
	args := append(figuresOf(st), slog.Duration("took", took.Round(time.Millisecond)))
	switch {
	case err == nil:
		run.log.Info("resync completed", args...)
	case errors.Is(err, database.ErrResyncStopped):
		run.log.Info("resync stopped", args...)
	case interrupted:
		run.log.Warn("resync interrupted; it can go on where it was", args...)
	default:
		run.log.Error("resync failed", append(args, slog.Any("error", err))...)
	}
}

// What a run was started with is kept while it runs, so that an online one can go on after a crash: its candidate is
// nowhere else.

func requestKey(d *definition) store.Key {
	return store.NewKey(0, store.KindMeta).Name("gateway.resync").Name(d.Name).Name(d.StorageID)
}

func (g *Gateway) keepRequest(ctx context.Context, d *definition, req ResyncRequest) error {
	req.Reset = false // it goes on, next time
	value, err := json.Marshal(req)
	if err != nil {
		return fmt.Errorf("encode the request of a resync: %w", err)
	}
	err = g.opts.Store.Update(ctx, func(tx store.Tx) error { return tx.Put(requestKey(d), value) })
	if err != nil {
		return fmt.Errorf("store the request of a resync: %w", err)
	}
	return nil
}

func (g *Gateway) dropRequest(ctx context.Context, d *definition) error {
	err := g.opts.Store.Update(ctx, func(tx store.Tx) error { return tx.Delete(requestKey(d)) })
	if err != nil {
		return fmt.Errorf("delete the request of a resync: %w", err)
	}
	return nil
}

// unfinished returns what a run was started with that was neither completed nor stopped, and does not run; nil if there
// is none.
func (g *Gateway) unfinished(ctx context.Context, d *definition) (*ResyncRequest, error) {
	st, err := database.ReadResyncStatus(ctx, g.opts.Store, d.Space)
	if err != nil {
		return nil, fmt.Errorf("read resync status: %w", err)
	}
	if st.State != database.ResyncRunning && st.State != database.ResyncStopping {
		return nil, nil
	}
	req := &ResyncRequest{Online: st.Mode == database.ResyncOnline, Regenerate: st.Regenerate}
	err = g.opts.Store.View(ctx, func(r store.Reader) error {
		value, err := r.Get(requestKey(d))
		if err != nil || value == nil {
			return err
		}
		*req = ResyncRequest{}
		return json.Unmarshal(value, req)
	})
	if err != nil {
		return nil, fmt.Errorf("read the request of a resync: %w", err)
	}
	return req, nil
}

// halfDone leaves a database offline whose offline resync was interrupted: half of its documents are routed by another
// function than the rest (resync.md §3.5). r.op is held.
func (g *Gateway) halfDone(ctx context.Context, r *Running) bool {
	req, err := g.unfinished(ctx, r.definition())
	switch {
	case err != nil:
		g.log.Error("database stays offline: it cannot be told whether a resync came to its end", "database", r.name, "error", err)
	case req == nil || req.Online:
		return false
	default:
		err = errHalfDone
		g.log.Error("database stays offline: its resync was interrupted; go on with POST _resync, or POST _online to serve it as it is", "database", r.name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err, r.byHand = err, true // a change of the config does not bring it online either
	return true
}

var errHalfDone = tidegate.Errorf(tidegate.Unavailable, "the resync of the database was interrupted; POST _resync goes on with it, POST _online serves the database as it is")

// resumeOnline goes on with an online resync that was interrupted: by a crash, by a reload, or because the database was
// taken offline. r.op is held, and the database has just come online.
func (r *Running) resumeOnline(ctx context.Context, d *definition) {
	req, err := r.g.unfinished(ctx, d)
	if err == nil && (req == nil || !req.Online) {
		return
	}
	var plan *resyncPlan
	if err == nil {
		plan, err = r.g.planResync(ctx, d, *req)
	}
	if err == nil {
		_, err = r.beginResync(ctx, d, plan)
	}
	if err != nil {
		r.g.log.Error("an online resync that was interrupted does not go on; start it again", "database", r.name, "error", err)
	}
}
