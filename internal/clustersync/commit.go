package clustersync

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"

	"github.com/tidegate/tidegate/internal/job"
)

// maxCommitRounds is how often a commit begins anew because the source was written to meanwhile (spec §13 step 4).
const maxCommitRounds = 10

// startCommit persists the state and wakes Run.
func (e *Engine) startCommit(ctx context.Context) error {
	paused := false // by itself, see pauseForDeletes
	err := e.update(ctx, func(r *Resume) {
		if paused = r.Mass.Asked; !paused {
			r.State, r.CommitStep = job.SyncCommitting.String(), CommitStarted
		}
	})
	if err != nil {
		return err
	}
	if paused {
		return Errorf(CannotCommit, "commit is not possible now: %s", e.journal.Get().Mass.Warning)
	}
	e.cfg.Log.InfoContext(ctx, "Commit handler called")
	e.commitOnce.Do(func() { close(e.commitOn) })
	return nil
}

// applyAndCommit applies changes; once commit is called it does the steps of spec §13.
func (e *Engine) applyAndCommit(ctx context.Context) error {
	for range maxCommitRounds {
		late, err := e.commitRound(ctx)
		if err != nil {
			return e.giveSourceBack(ctx, err)
		}
		if late == 0 {
			return e.cutOver(ctx)
		}
		e.cfg.Log.WarnContext(ctx, "the source was modified after the commit began; a new commit timestamp is taken", "events", late)
	}
	return Errorf(MigrationFailed, "source was modified after commit began: %d commit timestamps in a row were followed by changes; stop all writers", maxCommitRounds)
}

// commitRound applies changes until everything up to a commit timestamp is on the destination and found equal, and reading is over. late is how
// many changes were seen after it.
func (e *Engine) commitRound(ctx context.Context) (late int, err error) {
	a := e.newApplier()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.run(gctx) })
	g.Go(func() error {
		select {
		case <-e.commitOn:
		case <-gctx.Done():
			return context.Cause(gctx)
		}
		if err := e.settle(gctx, a); err != nil {
			return err
		}
		a.stopReading()
		return nil
	})
	if err := g.Wait(); err != nil {
		return 0, err
	}
	return a.lateEvents(), nil
}

// settle does the steps 2 to 7 of a commit: both sides are equal when it returns. All of them may be done again.
func (e *Engine) settle(ctx context.Context, a *applier) error {
	if err := e.blockSource(ctx); err != nil {
		return err
	}
	var tc Position
	err := e.retries.do(ctx, "mark the source", func() (err error) { tc, err = e.cfg.Source.Mark(ctx); return err })
	if err != nil {
		return err
	}
	if err := e.update(ctx, func(r *Resume) { r.Tc, r.CommitStep = tc, CommitMarked }); err != nil {
		return err
	}
	a.markCommit(tc)
	if err := a.reached(ctx, tc); err != nil {
		return err
	}
	if err := e.update(ctx, func(r *Resume) { r.CommitStep = CommitDrained }); err != nil {
		return err
	}
	if err := e.copyHotDocs(ctx); err != nil {
		return err
	}
	if err := e.checkIndexes(ctx); err != nil {
		return err
	}
	if a.lateEvents() > 0 {
		return nil // everything is done again anyway
	}
	if err := e.compare(ctx); err != nil {
		if a.lateEvents() > 0 && errors.Is(err, ErrMismatch) {
			return nil // the source was written to while it was compared
		}
		return err
	}
	return e.update(ctx, func(r *Resume) { r.CommitStep = CommitVerified })
}

// compare is the verifier's last word, or at least that the catalogs agree (spec §13 step 7).
func (e *Engine) compare(ctx context.Context) error {
	if e.verifier != nil {
		return e.verifier.Final(ctx)
	}
	both := sides{e.cfg.Source, e.cfg.Destination, e.cfg.Compare}
	rules := catalogRules{during: true, indexes: func(p Pair) []bson.Raw { return e.wantedIndexes(refKey(p.Source.Ref)) }, foreign: func(ns Namespace) bool { return e.foreign(ns) }}
	var found []Difference
	err := e.retries.do(ctx, "compare the catalogs", func() (err error) { found, err = both.catalogs(ctx, e.pairs(), rules); return err })
	if err == nil && len(found) > 0 {
		err = &MismatchError{Total: int64(len(found)), Differences: found[:min(len(found), maxDifferences)]}
	}
	return err
}

// giveSourceBack frees the writes on the source if a commit fails because the sides differ (spec §13 step 7). The destination stays blocked.
func (e *Engine) giveSourceBack(ctx context.Context, why error) error {
	if !errors.Is(why, ErrMismatch) || !e.journal.Get().BlockSource {
		return why
	}
	ctx = context.WithoutCancel(ctx)
	err := e.update(ctx, func(r *Resume) { r.BlockSource = false })
	if err == nil {
		err = e.retries.do(ctx, "free the writes on the source", func() error { return e.cfg.Source.BlockWrites(ctx, false) })
	}
	return errors.Join(why, err)
}

// cutOver does steps 8 to 12. Nothing is read from the source any more.
func (e *Engine) cutOver(ctx context.Context) error {
	if err := e.restoreCapped(ctx); err != nil {
		return err
	}
	if err := e.eachIndex(ctx, e.prepareUnique); err != nil {
		return err
	}
	var r0 Position
	if e.cfg.Plan.Reversible {
		if err := e.noteDestination(ctx); err != nil {
			return err
		}
		err := e.retries.do(ctx, "mark the destination", func() (err error) { r0, err = e.cfg.Destination.Mark(ctx); return err })
		if err != nil {
			return err
		}
	}
	// From here on the destination is never blocked again, and no change of the source is applied.
	err := e.enter(ctx, PhaseCommit, func(r *Resume) { r.R0, r.CommitStep = r0, CommitCanWrite })
	if err != nil {
		return err
	}
	return e.finishCommit(ctx)
}

// noteDestination takes the UUIDs that collections have on the destination, for the map of a reverse. Nobody but the sync writes there yet.
func (e *Engine) noteDestination(ctx context.Context) error {
	there, err := e.listDestination(ctx)
	if err != nil {
		return err
	}
	var all []*mapping
	for _, m := range e.catalog.all() {
		next := *m
		next.DestinationUUID = there[m.Destination].UUID
		all = append(all, &next)
	}
	return e.catalog.put(ctx, all...)
}

// finishCommit does what is left once the destination is the users'.
func (e *Engine) finishCommit(ctx context.Context) error {
	if e.journal.Get().BlockDestination {
		err := e.retries.do(ctx, "free the writes on the destination", func() error { return e.cfg.Destination.BlockWrites(ctx, false) })
		if err != nil {
			return err
		}
	}
	if err := e.update(ctx, func(r *Resume) { r.CanWrite, r.BlockDestination = true, false }); err != nil {
		return err
	}
	if err := e.eachIndex(ctx, e.makeUnique); err != nil {
		return err
	}
	if err := e.eachIndex(ctx, e.restoreIndex); err != nil {
		return err
	}
	return e.enter(ctx, PhaseDone, func(r *Resume) { r.CommitStep, r.State = CommitFinished, job.SyncCommitted.String() })
}

// restoreCapped gives capped collections their sizes (spec §10).
func (e *Engine) restoreCapped(ctx context.Context) error {
	grows, err := e.capsGrow(ctx)
	if err != nil {
		return err
	}
	for _, m := range e.catalog.all() {
		if !m.Capped || !grows {
			continue
		}
		change := bson.D{}
		if v, err := m.Options.LookupErr("size"); err == nil {
			change = append(change, bson.E{Key: "cappedSize", Value: v})
		}
		if v, err := m.Options.LookupErr("max"); err == nil {
			change = append(change, bson.E{Key: "cappedMax", Value: v})
		}
		if err := e.changeOptions(ctx, m, change, "its capped size"); err != nil {
			return err
		}
	}
	return nil
}

// changeOptions changes options of a collection on the destination; what it cannot change is a warning.
func (e *Engine) changeOptions(ctx context.Context, m *mapping, change bson.D, what string) error {
	raw, err := bson.Marshal(change)
	if err != nil || len(change) == 0 {
		return err
	}
	err = e.retries.do(ctx, "modify "+m.Destination.String(), func() error { return e.cfg.Destination.Modify(ctx, m.Destination, raw) })
	if errors.Is(err, ErrUnsupported) {
		e.warn(ctx, fmt.Sprintf("%s: the destination cannot change %s", m.Destination, what))
		return nil
	}
	return err
}
