package gateway

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
)

// DrainTimeout is how long going offline waits for running requests before they are cut off (resync.md §1.1).
const DrainTimeout = 60 * time.Second

// cutGrace is how long requests that were cut off get to notice it before the database is closed under them.
const cutGrace = time.Second

// start loads the database: Offline → Starting → Online, or back to Offline with an error. r.op is held. db,
// if not nil, is taken instead of opening one.
func (r *Running) start(ctx context.Context, db *database.Database) error {
	if err := r.transition(evLoad, func() { r.err = nil }); err != nil {
		return err
	}
	d := r.definition()
	err := r.mayServe(ctx)
	if err == nil {
		err = r.opens(ctx)
	}
	if err == nil {
		db, d, err = r.openCurrent(ctx, db)
	} else if db != nil {
		err = joinClose(err, db)
	}
	if err == nil {
		if err = r.g.installPrincipals(ctx, db, d); err != nil {
			err = errors.Join(err, db.Close())
		}
	}
	if err != nil {
		return errors.Join(err, r.transition(evFailed, func() { r.err = err }))
	}
	err = r.transition(evLoaded, func() {
		r.inst, r.byHand = r.newInstance(db), false
	})
	if err == nil {
		r.replications.online(ctx, d, db)
		r.resumeOnline(ctx, d, db)
	}
	return err
}

// mayServe refuses to load a database whose routing is another database's (resync.md §3.7).
func (r *Running) mayServe(ctx context.Context) error {
	required, err := r.RequireResync(ctx)
	if err == nil && len(required) > 0 {
		err = tidegate.Errorf(tidegate.Unavailable, "a resync with regenerate_sequences is required before it can be online: %s", strings.Join(required, ", "))
	}
	return err
}

// mustResync notes why a database stays offline until a resync, and reports whether it does.
func (r *Running) mustResync(ctx context.Context) bool {
	err := r.mayServe(ctx)
	if err == nil {
		return false
	}
	r.g.log.Error("database stays offline", "database", r.name, "error", err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
	return true
}

// newInstance starts the background work of an open database.
func (r *Running) newInstance(db *database.Database) *instance {
	inst := &instance{db: db, stopped: make(chan struct{}), idle: make(chan struct{})}
	inst.leaving, inst.leave = context.WithCancelCause(r.g.ctx)
	inst.cut, inst.cutOff = context.WithCancelCause(context.Background())
	ctx, stop := context.WithCancel(r.g.ctx)
	inst.stop = stop
	r.g.background.Go(func() {
		err := db.Run(ctx)
		close(inst.stopped)
		if ctx.Err() == nil {
			r.broken(inst, fmt.Errorf("the database stopped by itself: %w", err))
		}
	})
	return inst
}

// broken takes a database offline whose background work failed.
func (r *Running) broken(inst *instance, cause error) {
	r.g.log.Error("database failed and goes offline", "database", r.name, "error", cause)
	unlock, err := r.lock(r.g.ctx)
	if err != nil {
		return // deleted, or all is closing
	}
	defer unlock()
	r.mu.Lock()
	current := r.inst == inst
	r.mu.Unlock()
	if !current {
		return
	}
	if err := r.stop(r.g.ctx, errGoingOffline); err != nil {
		r.g.log.Error("failed database does not stop", "database", r.name, "error", err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = cause
}

// stop takes the database from Online over Stopping to Offline: feeds end with cause, running requests get
// until ctx ends, DrainTimeout at most. r.op is held.
func (r *Running) stop(ctx context.Context, cause error) error {
	var inst *instance
	err := r.transition(evStop, func() {
		inst = r.inst
		inst.draining = true
		inst.leave(cause)
		if inst.requests == 0 {
			close(inst.idle)
		}
	})
	if err != nil {
		return err
	}
	r.stopReplications(ctx, cause)
	if !drained(ctx, inst, DrainTimeout) {
		r.g.log.Warn("requests were still running and were cut off", "database", r.name)
	}
	inst.cutOff(cause)
	if !drained(context.WithoutCancel(ctx), inst, cutGrace) {
		r.g.log.Warn("requests do not notice that they were cut off; the database is closed under them", "database", r.name)
	}
	inst.stop()
	<-inst.stopped
	if err := inst.db.Close(); err != nil {
		r.g.log.Error("database did not close cleanly", "database", r.name, "error", err)
	}
	return r.transition(evStopped, func() {
		r.inst = nil
		r.auth = addAuth(r.auth, inst.db.Access().Stats())
	})
}

// stopReplications waits for replications with other gateways to stop, as long as for requests.
func (r *Running) stopReplications(ctx context.Context, cause error) {
	ctx, cancel := context.WithTimeout(ctx, DrainTimeout)
	defer cancel()
	r.replications.offline(ctx, cause)
}

// drained waits for the requests of an instance, patience at most, and reports whether all have ended.
func drained(ctx context.Context, inst *instance, patience time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-inst.idle:
		return true
	case <-ctx.Done():
		return false
	}
}

// reload puts a new definition in force that db was opened from: the old database drains while new requests
// wait, then the new one takes over. r.op is held.
func (r *Running) reload(ctx context.Context, d *definition, db *database.Database) error {
	r.mu.Lock()
	r.reloading = true
	online := r.state == Online
	r.mu.Unlock()
	defer func() {
		if r.State() != Online {
			r.replications.leaveCluster(ctx)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.reloading = false
		if r.state != Online { // wake who waits for the reload
			close(r.moved)
			r.moved = make(chan struct{})
		}
	}()
	if online {
		if err := r.stop(ctx, errReloading); err != nil {
			return errors.Join(err, db.Close())
		}
	}
	r.adopt(d)
	return r.start(ctx, db)
}

// adopt puts a definition in force for whoever asks. The database must not be open with another one.
func (r *Running) adopt(d *definition) {
	r.mu.Lock()
	r.def = d
	r.settings = d.Config.Settings()
	r.mu.Unlock()
	r.deviceSync.subscribe(d.Space)
}

// TakeOffline takes a database offline and returns when its requests have ended (resync.md §1.1). One that is
// Offline, Stopping or Resyncing stays so; Unavailable: it is Starting.
func (g *Gateway) TakeOffline(ctx context.Context, name string) error {
	r, err := g.Database(name)
	if err != nil {
		return err
	}
	if done, err := r.goingOffline(ctx); done || err != nil {
		return err
	}
	unlock, err := r.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	r.mu.Lock()
	r.byHand, r.onlineNext = true, false
	state := r.state
	r.mu.Unlock()
	if state != Online {
		return nil
	}
	err = r.stop(context.WithoutCancel(ctx), errGoingOffline)
	if err == nil {
		err = g.tellStatesNow(context.WithoutCancel(ctx)) // a resync may be next, on any node
	}
	if err == nil {
		g.log.Info("database offline", "database", name, "reason", "ADMIN Request")
	}
	return err
}

// goingOffline reports whether the database has gone offline by what was under way already. It does not go offline twice:
// it may have been brought online in between.
func (r *Running) goingOffline(ctx context.Context) (done bool, err error) {
	r.mu.Lock()
	state, reloading, moved := r.state, r.reloading, r.moved
	if state == Stopping {
		r.byHand = true
	}
	r.mu.Unlock()
	switch {
	case state == Starting && !reloading:
		return false, errTakeOffline(state)
	case state != Stopping || reloading:
		return false, nil
	}
	select {
	case <-moved:
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// BringOnline makes a database load after delay, in the background (resync.md §1.2); with wait it returns when
// that has succeeded or failed. One that is Online or Starting stays so. Unavailable: it is Resyncing.
func (g *Gateway) BringOnline(ctx context.Context, name string, delay time.Duration, wait bool) error {
	r, err := g.Database(name)
	if err != nil {
		return err
	}
	switch r.State() {
	case Online, Starting:
		return nil
	case Resyncing:
		return errResyncing
	}
	done := make(chan error, 1)
	if !g.spawn(func() {
		err := r.comeOnline(delay)
		if err != nil {
			g.log.Error("database did not come online", "database", name, "error", err)
		}
		done <- err
	}) {
		return errClosed
	}
	if !wait {
		return nil
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// comeOnline is what BringOnline does in the background.
func (r *Running) comeOnline(delay time.Duration) error {
	ctx := r.g.ctx
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	unlock, err := r.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	switch r.State() {
	case Offline:
	case Resyncing:
		return errResyncing
	default:
		return nil
	}
	if err := r.reread(ctx); err != nil || r.State() == Online {
		return err
	}
	r.warnHalfDone(ctx)
	if err := r.releaseHalfDone(ctx); err != nil {
		return err
	}
	if err := r.start(ctx, nil); err != nil {
		return err
	}
	r.g.log.Info("database online", "database", r.name)
	return nil
}

// warnHalfDone says that an offline resync did not come to its end (resync.md §3.5).
func (r *Running) warnHalfDone(ctx context.Context) {
	st, err := database.ReadResyncStatus(ctx, r.g.opts.Store, r.definition().Space)
	if err == nil && st.Mode == database.ResyncOffline && st.State != database.ResyncCompleted {
		r.g.log.Warn("the database comes online though its resync has not come to its end: some documents are routed by the old function, some by the new one",
			"database", r.name, "resync", st.ID, "processed", st.DocsProcessed, "documents", st.DocsTotal)
	}
}

// reread takes over the definition as it is stored, which another node may have changed. r.op is held.
func (r *Running) reread(ctx context.Context) error {
	d := r.definition()
	stored, err := r.g.stored(ctx, d)
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.err = err
		return err
	}
	switch {
	case stored == nil || stored.Detached != "" && r.g.Persistent():
	case !stored.sameData(d):
		return r.moveTo(ctx, stored)
	case stored.Generation > d.Generation:
		r.adopt(stored)
	}
	return nil
}
