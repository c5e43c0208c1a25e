package clustersync

import (
	"context"
	"fmt"
	"time"
)

// maxLag is how far behind a sync may be that is to be committed (spec §5.2).
const maxLag = 30 // seconds

// Stages of change event application.
const (
	stageDrain  = "collection copy drain"
	stageSteady = "steady state"
)

func (e *Engine) observe(op Operation, began time.Time) {
	if e.cfg.Observer.Duration != nil {
		e.cfg.Observer.Duration(op, time.Since(began))
	}
}

// limits are those of the settings, with defaults for what is not set.
func (e *Engine) limits() Limits {
	l, usual := e.cfg.Settings.Limits, LoadLevel(DefaultLoadLevel)
	for _, v := range []struct{ is, or *int }{
		{&l.CopyReaders, &usual.CopyReaders}, {&l.CopyWriters, &usual.CopyWriters}, {&l.ApplyWorkers, &usual.ApplyWorkers},
		{&l.BatchDocs, &usual.BatchDocs}, {&l.BatchBytes, &usual.BatchBytes}, {&l.IndexBatch, &usual.IndexBatch},
	} {
		if *v.is <= 0 {
			*v.is = *v.or
		}
	}
	if l.InFlightBytes <= 0 {
		l.InFlightBytes = usual.InFlightBytes
	}
	if l.PartBytes <= 0 {
		l.PartBytes = usual.PartBytes
	}
	if l.RandomBytes <= 0 {
		l.RandomBytes = usual.RandomBytes
	}
	if l.SpoolRecords <= 0 {
		l.SpoolRecords = usual.SpoolRecords
	}
	return l
}

func (e *Engine) snapshot() Snapshot {
	rec := e.journal.Get()
	s := Snapshot{
		Phase: rec.Phase, CanWrite: rec.CanWrite, Resume: rec.CRUD, Applied: rec.CRUD, Events: e.stats.events(),
		Warnings: rec.Warnings, BlockedSource: rec.BlockSource, BlockedDest: rec.BlockDestination, PhaseTransitions: rec.PhaseTransitions,
	}
	switch {
	case !rec.CRUD.Zero():
	case !rec.Spool.At.Zero():
		s.Resume = rec.Spool.At
	default:
		s.Resume = rec.T0
	}
	s.Copy, s.Namespaces = e.stats.copyCounts()
	s.CannotCommit = e.cannotCommit()
	s.CanCommit = len(s.CannotCommit) == 0
	if e.verifier != nil {
		p := e.verifier.Progress()
		s.Verification = &p
	}
	if rec.Phase == PhaseDone {
		zero := int64(0)
		s.LagSeconds = &zero
	}
	if rec.Phase != PhaseApply {
		return s
	}
	s.CEAStage = stageDrain
	if rec.Drained {
		s.CEAStage = stageSteady
	}
	s.LagSeconds, s.CatchUpSeconds = e.lag.get()
	if e.cfg.Plan.BuildIndexes.AfterCopy() {
		s.Index = e.indexBuilding()
	}
	return s
}

// indexBuilding counts the indexes that are built after the copy.
func (e *Engine) indexBuilding() *IndexBuilding {
	out := &IndexBuilding{}
	for _, m := range e.catalog.all() {
		waiting, some := false, false
		for _, x := range e.catalog.indexesOf(m.ID) {
			some = true
			out.TotalIndexesToBuild++
			if x.waiting() {
				waiting = true
			} else {
				out.IndexesBuilt++
			}
		}
		if some {
			out.CollectionsTotal++
		}
		if some && !waiting {
			out.CollectionsFinished++
		}
	}
	return out
}

// cannotCommit says why a commit is not possible now (spec §5.2); nothing if it is.
func (e *Engine) cannotCommit() []string {
	rec := e.journal.Get()
	if rec.Phase != PhaseApply {
		return []string{"change event application has not begun"}
	}
	if rec.CommitStep != CommitNone {
		return []string{"the commit has begun"}
	}
	var why []string
	if !rec.Drained {
		why = append(why, "the changes made during the copy are not applied yet")
	}
	if e.indexesWaiting() {
		why = append(why, "indexes are still being built")
	}
	lag, _ := e.lag.get()
	switch {
	case lag == nil:
		why = append(why, "the lag is not known yet")
	case *lag > maxLag:
		why = append(why, fmt.Sprintf("the destination is %d s behind", *lag))
	}
	if e.verifier == nil {
		return why
	}
	p := e.verifier.Progress()
	switch {
	case !e.verifier.Hashing():
		why = append(why, "the verifier is still hashing")
	case max(p.Source.LagTimeSeconds, p.Destination.LagTimeSeconds) > maxLag:
		why = append(why, "the verifier is behind")
	}
	return why
}

// restoreCounts has the snapshot show a copy that is over.
func (e *Engine) restoreCounts(ctx context.Context) error {
	var r statsRecord
	err := e.retries.do(ctx, "read the statistics", func() error { return e.journal.meta.Get(ctx, statsCollection, e.journal.Get().ID, &r) })
	if err != nil {
		return ignoreNotFound(err)
	}
	e.stats.restore(r)
	return nil
}
