package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/store"
)

// This file starts, stops and tells of the resyncs of a database; resyncrun.go is one run of it.

// A ResyncRequest is what a resync is started with (resync.md §3.2, §3.9).
type ResyncRequest struct {
	Scopes     map[string][]string // collections by scope; nil: all
	Regenerate bool
	Reset      bool
	Online     bool
	// SyncFunction, if not nil, is the source of a candidate for the one collection that is chosen.
	SyncFunction *string
}

// ResyncInfo is a status, with names for the collections.
type ResyncInfo struct {
	database.ResyncStatus
	Scopes   map[string][]string
	Warnings []string // about what was asked for
}

// Ended reports whether nothing is being done any more.
func (i *ResyncInfo) Ended() bool {
	return i.State != database.ResyncRunning && i.State != database.ResyncStopping
}

// The refusals of resync.md §3.2.
var (
	errResyncRunning    = tidegate.Errorf(tidegate.Unavailable, "Database _resync already in progress")
	errResyncNotRunning = tidegate.Errorf(tidegate.Invalid, "Database _resync is not running")
	errStoppedAtOnce    = tidegate.Errorf(tidegate.Unavailable, "the resync was stopped before it began")
	errProcessRunning   = tidegate.Errorf(tidegate.Unavailable, "Process already running")
	errReadOnly         = tidegate.Errorf(tidegate.Forbidden, "Database is read-only")
)

func errMustBeOffline(s State) error {
	return tidegate.Errorf(tidegate.Unavailable, "Database must be _offline before calling _resync, current state: %s", s)
}

func errMustBeOnline(s State) error {
	return tidegate.Errorf(tidegate.Unavailable, "Database must be Online for an online _resync, current state: %s", s)
}

// StartResync begins a resync, or goes on with one that did not come to its end, and returns its status once it runs. The
// errors are those of resync.md §3.2; whatever they are, nothing has changed.
func (g *Gateway) StartResync(ctx context.Context, name string, req ResyncRequest) (*ResyncInfo, error) {
	r, err := g.Database(name)
	if err != nil {
		return nil, err
	}
	run, err := r.startResync(ctx, req)
	if err != nil {
		return nil, err
	}
	select {
	case <-run.begun:
	case <-run.done:
		if err := run.failedToBegin(); err != nil {
			return nil, err
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	info := r.resyncInfo(run.firstStatus())
	info.Warnings = run.plan.warnings
	return info, nil
}

// StopResync asks the resync that runs to stop: an offline one keeps what it has done, of an online one no trace is left.
// Invalid: none is running.
func (g *Gateway) StopResync(ctx context.Context, name string) (*ResyncInfo, error) {
	r, err := g.Database(name)
	if err != nil {
		return nil, err
	}
	if run := r.currentRun(); run != nil {
		run.stop()
		return r.ResyncStatus(ctx)
	}
	space := r.definition().Space
	st, err := g.readResync(ctx, space)
	if err != nil {
		return nil, err
	}
	if !g.elsewhere(&st) {
		return nil, errResyncNotRunning
	}
	if err := g.askToStop(ctx, space, st.ID); err != nil {
		return nil, err
	}
	return r.ResyncStatus(ctx)
}

// ResyncStatus tells of the resync that runs, or else of the last one (resync.md §3.3), in every state of the database.
func (r *Running) ResyncStatus(ctx context.Context) (*ResyncInfo, error) {
	if run := r.currentRun(); run != nil {
		st, err := run.status(ctx)
		if err != nil {
			return nil, fmt.Errorf("read resync status: %w", err)
		}
		return r.resyncInfo(st), nil
	}
	st, err := r.g.readResync(ctx, r.definition().Space)
	if err != nil {
		return nil, err
	}
	if runs(&st) && !r.g.elsewhere(&st) {
		st.State = database.ResyncStopped // nobody has noted the end of it: its process died
	}
	return r.resyncInfo(st), nil
}

// AwaitResync waits for the end of the resync that runs, here or on another node, if one does, or of ctx.
func (r *Running) AwaitResync(ctx context.Context) error {
	run := r.currentRun()
	if run == nil {
		return r.awaitElsewhere(ctx)
	}
	select {
	case <-run.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// RequireResync lists the collections, as "scope.collection", that must not be served before a resync with
// regenerate_sequences (resync.md §3.7).
func (r *Running) RequireResync(ctx context.Context) ([]string, error) {
	d := r.definition()
	ids, err := database.ReadRequireResync(ctx, r.g.opts.Store, d.Space)
	if err != nil {
		return nil, fmt.Errorf("read what requires a resync: %w", err)
	}
	var names []string
	for _, id := range ids {
		if scope, coll := d.collectionName(id); scope != "" {
			names = append(names, scope+"."+coll)
		}
	}
	return names, nil
}

func (r *Running) currentRun() *resyncRun {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.resync
}

// resyncInfo puts names to a status.
func (r *Running) resyncInfo(st database.ResyncStatus) *ResyncInfo {
	info := &ResyncInfo{ResyncStatus: st}
	d := r.definition()
	for _, id := range st.Collections {
		if scope, coll := d.collectionName(id); scope != "" {
			if info.Scopes == nil {
				info.Scopes = map[string][]string{}
			}
			info.Scopes[scope] = append(info.Scopes[scope], coll)
		}
	}
	for _, colls := range info.Scopes {
		slices.Sort(colls)
	}
	return info
}

// startResync checks a request and begins the run.
func (r *Running) startResync(ctx context.Context, req ResyncRequest) (*resyncRun, error) {
	if err := r.mayResync(req); err != nil { // without waiting for a move of the state that is under way
		return nil, err
	}
	unlock, err := r.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	d := r.definition()
	if err := r.mayResync(req); err != nil {
		return nil, err
	}
	plan, err := r.g.planResync(ctx, d, req)
	if err == nil && !req.Online {
		err = r.g.opts.Store.View(ctx, r.offlineElsewhere) // and again when it begins
	}
	if err != nil {
		return nil, err
	}
	return r.beginResync(context.WithoutCancel(ctx), d, plan)
}

// mayResync checks the state.
func (r *Running) mayResync(req ResyncRequest) error {
	state := r.State()
	switch {
	case state == Resyncing || r.currentRun() != nil:
		return errResyncRunning
	case req.Online && state != Online:
		return errMustBeOnline(state)
	case !req.Online && state != Offline:
		return errMustBeOffline(state)
	case r.Settings().ReadOnly:
		return errReadOnly
	}
	if db := r.DB(); db != nil {
		for _, kind := range []database.CompactKind{database.CompactTombstones, database.CompactAttachments} {
			if st := db.CompactStatus(kind).Status; st == "running" || st == "stopping" {
				return errProcessRunning
			}
		}
	}
	return nil
}

// A resyncPlan is a request that was checked against a definition.
type resyncPlan struct {
	options   database.ResyncOptions
	candidate string // "scope.collection" that source is for; "" without one
	source    string
	warnings  []string
}

// planResync finds the collections of a request, and tries its function. Invalid: they do not exist, or it makes no
// sense.
func (g *Gateway) planResync(ctx context.Context, d *definition, req ResyncRequest) (*resyncPlan, error) {
	p := &resyncPlan{options: database.ResyncOptions{Online: req.Online, Regenerate: req.Regenerate, Reset: req.Reset}}
	chosen, err := d.chooseCollections(req.Scopes)
	if err != nil {
		return nil, err
	}
	if len(req.Scopes) > 0 {
		p.options.Collections = slices.Sorted(maps.Values(chosen))
	}
	for _, key := range d.ResyncDue {
		if _, ok := chosen[key]; !ok {
			p.warnings = append(p.warnings, "the sync function of "+key+", which is not chosen, has changed too")
		}
	}
	if req.SyncFunction == nil {
		return p, nil
	}
	switch {
	case !req.Online:
		return nil, tidegate.Errorf(tidegate.Invalid, "sync_function is for online=true and action=dry_run; the offline resync takes the configured function")
	case len(chosen) != 1:
		return nil, tidegate.Errorf(tidegate.Invalid, "sync_function is for one collection; choose it with scopes")
	}
	for key, id := range chosen {
		p.candidate, p.source = key, *req.SyncFunction
		p.options.Functions = map[store.Collection]string{id: p.source}
	}
	return p, g.trySource(ctx, p.source, d.Config.Settings().JavaScriptTimeout)
}

// chooseCollections returns the numbers of the collections that scopes name, by "scope.collection"; of all that are
// configured if it is empty.
func (d *definition) chooseCollections(scopes map[string][]string) (map[string]store.Collection, error) {
	chosen := map[string]store.Collection{}
	for scope, colls := range scopes {
		for _, coll := range colls {
			id, ok := d.collectionID(scope, coll)
			if !ok {
				return nil, tidegate.Errorf(tidegate.Invalid, "failed to find ID for collection %s.%s", scope, coll)
			}
			chosen[scope+"."+coll] = id
		}
	}
	if len(scopes) > 0 && len(chosen) == 0 {
		return nil, tidegate.Errorf(tidegate.Invalid, "scopes names no collection; leave it out for all of them")
	}
	if len(scopes) > 0 {
		return chosen, nil
	}
	for key := range syncSources(d.Config) {
		scope, coll, _ := cutCollection(key)
		if id, ok := d.collectionID(scope, coll); ok {
			chosen[key] = id
		}
	}
	return chosen, nil
}

// resyncLease takes the right to run a resync of a database, of which there is one for all nodes. errProcessRunning: somebody else has it.
func (g *Gateway) resyncLease(ctx context.Context, d *definition) (store.Lease, error) {
	lease, err := g.nodes.TryLease(ctx, resyncLeaseName(d.Space))
	if err != nil {
		return nil, fmt.Errorf("take the lease of a resync: %w", err)
	}
	if lease == nil {
		return nil, errProcessRunning
	}
	return lease, nil
}

// resyncRun is a resync that runs here.
type resyncRun struct {
	db     *database.Database
	dry    *dryRun // nil: it is none
	plan   *resyncPlan
	cancel context.CancelCauseFunc
	begun  chan struct{} // closed at the first news of it
	done   chan struct{} // closed when it is over and the database has moved on

	mu       sync.Mutex // guards what follows
	first    *database.ResyncStatus
	last     database.ResyncStatus
	err      error
	stopping bool
}

// stop asks the run to stop for good.
func (run *resyncRun) stop() {
	run.mu.Lock()
	run.stopping = true
	run.mu.Unlock()
	run.cancel(database.ErrResyncStopped)
}

// status is what the run is doing now.
func (run *resyncRun) status(ctx context.Context) (st database.ResyncStatus, err error) {
	if run.dry != nil {
		st = run.dry.view()
	} else {
		st, err = run.db.ResyncStatus(ctx)
	}
	run.mu.Lock()
	defer run.mu.Unlock()
	if run.stopping && st.State == database.ResyncRunning {
		st.State = database.ResyncStopping
	}
	return st, err
}

// firstStatus is the first that was heard of the run; the last if there was nothing in between.
func (run *resyncRun) firstStatus() database.ResyncStatus {
	run.mu.Lock()
	defer run.mu.Unlock()
	if run.first != nil {
		return *run.first
	}
	return run.last
}

// failedToBegin is why the run has ended before anything was heard of it; nil if there was simply nothing to do.
func (run *resyncRun) failedToBegin() error {
	run.mu.Lock()
	defer run.mu.Unlock()
	if run.first != nil {
		return nil
	}
	if errors.Is(run.err, database.ErrResyncStopped) {
		return errStoppedAtOnce
	}
	return run.err
}
