package gateway

import (
	"context"
	"sync"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
)

// maxDryRuns is how many dry runs this process carries out at once, of all databases: each has 80 MiB of tables at worst
// (package database, plan.go), which the garbage collector lets grow to twice of that.
const maxDryRuns = 2

var errManyDryRuns = tidegate.Errorf(tidegate.Unavailable, "too many dry runs at once, try again later")

// A DryRunRequest is what a dry run is about (resync.md §3.9).
type DryRunRequest struct {
	Scopes map[string][]string // collections by scope; nil: all
	// SyncFunction, if not nil, is the source of a candidate for the one collection that is chosen; else the functions in
	// force are run.
	SyncFunction *string
}

// DryRun tells what a resync would change, and changes nothing but the count of leases. The database may be in any state;
// offline it is opened for the dry run alone. It counts as the database's resync while it lasts, so that there is one at a
// time, StopResync stops it, and ResyncStatus tells of it. progress must not block.
//
// Invalid: the request makes no sense, or the function is refused as it would be by a change of the config. Unavailable: a
// resync or another dry run is running, or the database leaves its state.
func (g *Gateway) DryRun(ctx context.Context, name string, req DryRunRequest, progress func(*ResyncInfo)) (*database.PlanReport, error) {
	r, err := g.Database(name)
	if err != nil {
		return nil, err
	}
	if g.dryRuns.Add(1) > maxDryRuns {
		g.dryRuns.Add(-1)
		return nil, errManyDryRuns
	}
	defer g.dryRuns.Add(-1)
	dry, err := r.beginDryRun(ctx, req)
	if err != nil {
		return nil, err
	}
	defer dry.end()
	return dry.run.db.Plan(dry.within, dry.options(progress))
}

// dryRun is a dry run under way.
type dryRun struct {
	r      *Running
	plan   *resyncPlan
	run    *resyncRun // stands for it where resyncs are looked at
	within context.Context
	undo   []func() // what end does, last first

	mu   sync.Mutex // guards what follows
	last database.ResyncStatus
}

// view is what the status resource tells of it.
func (d *dryRun) view() database.ResyncStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last
}

// id names it, as resyncs are named.
func (d *dryRun) id() string { return d.view().ID }

// end lets go of everything.
func (d *dryRun) end() {
	for i := len(d.undo) - 1; i >= 0; i-- {
		d.undo[i]()
	}
}

func (d *dryRun) later(f func()) { d.undo = append(d.undo, f) }

// beginDryRun checks a request and takes what a dry run needs.
func (r *Running) beginDryRun(ctx context.Context, req DryRunRequest) (*dryRun, error) {
	if r.currentRun() != nil { // without waiting for a move of the state that is under way
		return nil, errResyncRunning
	}
	unlock, err := r.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if r.currentRun() != nil {
		return nil, errResyncRunning
	}
	dry := &dryRun{r: r, last: database.ResyncStatus{
		State: database.ResyncRunning, Mode: database.ResyncDryRun, ID: newUUID(), StartTime: r.g.opts.Now(),
	}}
	if err := dry.begin(ctx, r.definition(), req); err != nil {
		dry.end()
		return nil, err
	}
	return dry, nil
}

// begin is beginDryRun with r.op held. What it took by the time it fails is let go of by end.
func (d *dryRun) begin(ctx context.Context, def *definition, req DryRunRequest) (err error) {
	g := d.r.g
	d.plan, err = g.planResync(ctx, def, ResyncRequest{Scopes: req.Scopes, SyncFunction: req.SyncFunction, Online: true})
	if err != nil {
		return err
	}
	lease, err := g.resyncLease(ctx, def)
	if err != nil {
		return err
	}
	d.later(lease.Release)
	d.run = &resyncRun{dry: d, plan: &resyncPlan{}, done: make(chan struct{})}
	d.within, d.run.cancel = context.WithCancelCause(ctx)
	d.later(func() { d.run.cancel(nil) })
	d.endWith(lease.Context())
	if err := d.open(ctx, def); err != nil {
		return err
	}
	d.show()
	return nil
}

// endWith makes the dry run end when another context does.
func (d *dryRun) endWith(other context.Context) {
	unhook := context.AfterFunc(other, func() { d.run.cancel(context.Cause(other)) })
	d.later(func() { unhook() })
}

// open takes the database that serves, or else opens it without running it.
func (d *dryRun) open(ctx context.Context, def *definition) error {
	if d.r.State() == Online {
		inst, _, err := d.r.enter()
		if err != nil {
			return err
		}
		d.run.db = inst.db
		d.later(func() { d.r.exit(inst) })
		d.endWith(inst.leaving)
		return nil
	}
	db, err := d.r.g.open(ctx, def, d.r.stats, d.r.deviceSync.live)
	if err != nil {
		return err
	}
	d.run.db = db
	d.later(func() {
		if err := db.Close(); err != nil {
			d.r.g.log.Error("database did not close cleanly after a dry run", "database", d.r.name, "error", err)
		}
	})
	d.endWith(d.r.g.ctx)
	return nil
}

// show makes it the resync of the database. r.op is held.
func (d *dryRun) show() {
	d.r.mu.Lock()
	d.r.resync = d.run
	d.r.mu.Unlock()
	d.later(func() {
		d.r.mu.Lock()
		d.r.resync = nil
		d.r.mu.Unlock()
		close(d.run.done)
	})
}

// options are those for the engine.
func (d *dryRun) options(progress func(*ResyncInfo)) database.PlanOptions {
	return database.PlanOptions{
		Collections: d.plan.options.Collections, Functions: d.plan.options.Functions, Concurrency: d.r.Settings().ResyncConcurrency,
		Progress: func(st database.ResyncStatus) {
			st.ID = d.id()
			d.mu.Lock()
			d.last = st
			d.mu.Unlock()
			if progress != nil {
				progress(d.r.resyncInfo(st))
			}
		},
	}
}
