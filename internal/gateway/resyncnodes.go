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
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/store"
)

// With several nodes one of them runs a resync, under a lease; all tell of it and any can stop it. If that node dies another goes on: each one
// on which the database is in the state that the run needs waits for the lease.

// resyncTopic is noted when a resync of a database begins, ends, or is asked to stop.
func resyncTopic(space store.Space) string { return fmt.Sprintf("resync.%d", space) }

// resyncLeaseName is the lease of who runs a resync of a database.
func resyncLeaseName(space store.Space) string { return fmt.Sprintf("resync.%d", space) }

// resyncStopKey holds the id of the resync that is asked to stop.
func resyncStopKey(space store.Space) store.Key {
	return store.NewKey(space, store.KindMeta).Name("resync.stop")
}

// runs reports whether a status is of a resync that has not ended.
func runs(st *database.ResyncStatus) bool {
	return st.State == database.ResyncRunning || st.State == database.ResyncStopping
}

// readResync reads the last resync of a database, and whether it is asked to stop.
func (g *Gateway) readResync(ctx context.Context, space store.Space) (st database.ResyncStatus, err error) {
	err = g.opts.Store.View(ctx, func(r store.Reader) error {
		if st, err = database.StoredResync(r, space); err != nil || !runs(&st) {
			return err
		}
		stop, err := r.Get(resyncStopKey(space))
		if string(stop) == st.ID {
			st.State = database.ResyncStopping
		}
		return err
	})
	if err != nil {
		return st, fmt.Errorf("read resync status: %w", err)
	}
	return st, nil
}

// elsewhere reports whether a resync that is stored as running is run by another node, or will be gone on with by one. With one node
// nobody would: it has been interrupted.
func (g *Gateway) elsewhere(st *database.ResyncStatus) bool {
	return runs(st) && !g.nodes.Alone()
}

// askToStop asks the node that runs a resync to stop it. Invalid: it has ended.
func (g *Gateway) askToStop(ctx context.Context, space store.Space, id string) error {
	return g.opts.Store.Update(ctx, func(tx store.Tx) error {
		st, err := database.StoredResync(tx, space)
		if err != nil {
			return err
		}
		if st.ID != id || !runs(&st) {
			return errResyncNotRunning // any more
		}
		return cmp.Or(tx.Put(resyncStopKey(space), []byte(id)), g.nodes.Note(tx, resyncTopic(space)))
	})
}

// awaitElsewhere waits for the end of a resync that another node runs, if one does.
func (r *Running) awaitElsewhere(ctx context.Context) error {
	space := r.definition().Space
	woken, stop := r.g.nodes.Subscribe(resyncTopic(space))
	defer stop()
	for {
		st, err := r.g.readResync(ctx, space)
		if err != nil || !r.g.elsewhere(&st) {
			return err
		}
		select {
		case <-woken:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// heedStop stops a run that another node has asked to stop.
func (r *Running) heedStop(space store.Space, run *resyncRun) {
	woken, stop := r.g.nodes.Subscribe(resyncTopic(space))
	defer stop()
	select {
	case <-run.begun:
	case <-run.done:
		return
	}
	var again <-chan time.Time
	for {
		select {
		case <-woken:
		case <-again:
		case <-run.done:
			return
		}
		again = nil
		st, err := r.g.readResync(context.WithoutCancel(r.g.ctx), space)
		if err != nil {
			r.g.log.Warn("it cannot be told whether a resync is to stop", "database", r.name, "error", err)
			again = time.After(rowRetry)
			continue
		}
		if st.ID == run.firstStatus().ID && st.State == database.ResyncStopping {
			run.stop()
			return
		}
	}
}

// resyncChanged is told in the transaction in which a run begins, goes on or ends. An offline one begins only if no other node has the
// database open: that one would go on routing by what it knows.
func (r *Running) resyncChanged(space store.Space) func(store.Tx, database.ResyncStatus) error {
	return func(tx store.Tx, st database.ResyncStatus) error {
		if runs(&st) && st.Mode == database.ResyncOffline {
			if err := r.offlineElsewhere(tx); err != nil {
				return err
			}
		}
		if !runs(&st) { // it may be begun again under the same id
			if err := tx.Delete(resyncStopKey(space)); err != nil {
				return err
			}
		}
		return r.g.nodes.Note(tx, resyncTopic(space))
	}
}

// offlineElsewhere is Unavailable if the database is not offline on another node.
func (r *Running) offlineElsewhere(rd store.Reader) error {
	states, err := r.g.nodeStates(rd)
	if err != nil {
		return err
	}
	var open []string
	for _, node := range slices.Sorted(maps.Keys(states)) {
		state, there := states[node][r.name]
		if node == r.g.nodes.Self() || !there {
			continue
		}
		if state == Resyncing.String() {
			return errResyncRunning
		}
		if state != Offline.String() {
			open = append(open, fmt.Sprintf("%s on node %s", state, node))
		}
	}
	if len(open) > 0 {
		return tidegate.Errorf(tidegate.Unavailable, "Database must be _offline on all nodes before calling _resync, current state: %s", strings.Join(open, ", "))
	}
	return nil
}

// opens counts a database as about to be open, for all nodes to see, unless an offline resync runs somewhere: one transaction decides which of
// the two comes first. Unavailable: one runs.
func (r *Running) opens(ctx context.Context) error {
	g := r.g
	if g.nodes.Alone() {
		return nil
	}
	g.telling.Lock()
	defer g.telling.Unlock()
	value, err := g.encodeStates()
	if err != nil {
		return err
	}
	space := r.definition().Space
	err = g.opts.Store.Update(ctx, func(tx store.Tx) error {
		st, err := database.StoredResync(tx, space)
		if err != nil {
			return err
		}
		if runs(&st) && st.Mode == database.ResyncOffline {
			return errResyncing
		}
		return g.nodes.TellIn(tx, statesTopic, value)
	})
	g.toldStates = string(value)
	if err != nil {
		g.toldStates = "" // it may have been stored
	}
	return err
}

// releaseHalfDone gives up the offline resync that was to be gone on with, since the database is to be online as it is. Unavailable: a node
// runs it.
func (r *Running) releaseHalfDone(ctx context.Context) error {
	g, space := r.g, r.definition().Space
	st, err := g.readResync(ctx, space)
	if err != nil || g.nodes.Alone() || !runs(&st) || st.Mode != database.ResyncOffline {
		return err
	}
	lease, err := g.nodes.TryLease(ctx, resyncLeaseName(space))
	if err != nil {
		return err
	}
	if lease == nil {
		return errResyncing
	}
	defer lease.Release()
	return g.giveUp(ctx, space, st.ID)
}

// disturbsElsewhere is disturbs of a resync that another node runs.
func (r *Running) disturbsElsewhere(ctx context.Context, old, cfg *config.Database) (bool, error) {
	d := r.definition()
	st, err := r.g.readResync(ctx, d.Space)
	if err != nil || !r.g.elsewhere(&st) || st.Mode != database.ResyncOnline || r.currentRun() != nil {
		return false, err
	}
	options, ok, err := database.InterruptedResync(ctx, r.g.opts.Store, d.Space)
	if err != nil || !ok {
		return false, err
	}
	return d.planOf(options).disturbedBy(old, cfg), nil
}

// standby goes on with resyncs of the database that other nodes leave behind, until ctx ends.
func (r *Running) standby(ctx context.Context, space store.Space) {
	woken, stop := r.g.nodes.Subscribe(resyncTopic(space))
	defer stop()
	var last time.Time // when this node began to go on with one
	for ctx.Err() == nil {
		r.mu.Lock()
		state, moved, idle := r.state, r.moved, r.resync == nil
		r.mu.Unlock()
		st, err := r.g.readResync(ctx, space)
		fits := runs(&st) && (st.Mode == database.ResyncOffline && state == Offline || st.Mode == database.ResyncOnline && state == Online)
		waiting, cancel := context.WithCancel(ctx)
		over := make(chan struct{})
		switch {
		case err != nil:
			time.AfterFunc(rowRetry, func() { close(over) })
		case idle && fits:
			go func() {
				defer close(over)
				if pause(waiting, time.Until(last.Add(settleRetry))) && r.goOn(waiting, space) {
					last = time.Now()
				}
			}()
		}
		select {
		case <-woken:
		case <-moved:
		case <-r.resyncOver:
		case <-over:
		case <-ctx.Done():
		}
		cancel()
		if err == nil && idle && fits {
			<-over
		}
	}
}

// goOn waits until nobody runs the resync that is stored as running, and goes on with it. It reports whether it began to.
func (r *Running) goOn(ctx context.Context, space store.Space) (begun bool) {
	lease, err := r.g.nodes.Lease(ctx, resyncLeaseName(space))
	if err == nil {
		begun, err = r.resumeUnder(ctx, lease, space)
	}
	if err == nil || ctx.Err() != nil {
		return begun
	}
	r.g.log.Error("a resync that another node has left behind is not gone on with yet", "database", r.name, "error", err)
	pause(ctx, settleRetry)
	return begun
}

// resumeUnder goes on with the resync that is stored as running, if it still is. The lease is given back unless that has begun.
func (r *Running) resumeUnder(ctx context.Context, lease store.Lease, space store.Space) (begun bool, err error) {
	defer func() {
		if !begun {
			lease.Release()
		}
	}()
	unlock, err := r.lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	d := r.definition()
	st, err := r.g.readResync(ctx, space)
	if err != nil || !runs(&st) || d.Space != space {
		return false, err
	}
	options, ok, err := database.InterruptedResync(ctx, r.g.opts.Store, space)
	if err != nil || !ok {
		return false, err
	}
	if err := r.mayResync(ResyncRequest{Online: options.Online}); err != nil {
		return false, err
	}
	run, err := r.beginUnder(context.WithoutCancel(ctx), lease, d, d.planOf(options))
	if err != nil {
		return false, err
	}
	r.g.log.Info("this node goes on with a resync", "database", r.name, "resync", st.ID, "node_before", st.Node, "processed", st.DocsProcessed)
	r.g.spawn(func() { r.giveUpInvalid(run, space, st.ID) })
	return true, nil
}

// giveUpInvalid gives up a resync that cannot be gone on with, since the config does not have what it works on any more.
func (r *Running) giveUpInvalid(run *resyncRun, space store.Space, id string) {
	<-run.done
	cause := run.failedToBegin()
	if tidegate.ErrorCode(cause) != tidegate.Invalid {
		return
	}
	r.g.log.Error("a resync that another node has left behind cannot be gone on with; start one anew", "database", r.name, "resync", id, "error", cause)
	if err := r.g.giveUp(context.WithoutCancel(r.g.ctx), space, id); err != nil {
		r.g.log.Error("it is not noted that a resync is given up", "database", r.name, "error", err)
	}
}

// giveUp notes that a resync is not gone on with by itself.
func (g *Gateway) giveUp(ctx context.Context, space store.Space, id string) error {
	return g.opts.Store.Update(ctx, func(tx store.Tx) error {
		return cmp.Or(database.GiveUpResync(tx, space, id, g.opts.Now()), tx.Delete(resyncStopKey(space)), g.nodes.Note(tx, resyncTopic(space)))
	})
}

// planOf makes the plan of options that are stored.
func (d *definition) planOf(options database.ResyncOptions) *resyncPlan {
	plan := &resyncPlan{options: options}
	for id, source := range options.Functions {
		scope, name := d.collectionName(id)
		plan.candidate, plan.source = scope+"."+name, source
	}
	return plan
}

// outdated reports whether a newer version of the definition that a database was opened with is stored. Which function routes its documents
// may be another by then, and what the database found in the store may belong to that one.
func (r *Running) outdated(ctx context.Context, d *definition) (newer *definition, err error) {
	if r.g.nodes.Alone() {
		return nil, nil
	}
	stored, err := r.g.current(ctx, d)
	if err != nil || stored == nil || stored.Generation <= d.Generation || !stored.sameData(d) {
		return nil, err
	}
	return stored, nil
}

// openTries is how often a database is opened anew because its definition was changed meanwhile.
const openTries = 5

// openCurrent opens the database with its definition, or takes db, and makes sure that it is the stored one. r.op is held.
func (r *Running) openCurrent(ctx context.Context, db *database.Database) (*database.Database, *definition, error) {
	for range openTries {
		d := r.definition()
		if db == nil {
			err := r.deviceSync.refresh(ctx) // it has a say in how documents are routed
			if err == nil {
				db, err = r.g.open(ctx, d, r.stats, r.deviceSync.live)
			}
			if err != nil {
				return nil, d, err
			}
		}
		newer, err := r.outdated(ctx, d)
		if newer == nil && err == nil {
			return db, d, nil
		}
		if err = errors.Join(err, db.Close()); err != nil {
			return nil, d, err
		}
		r.adopt(newer)
		db = nil
	}
	return nil, r.definition(), errContended
}
