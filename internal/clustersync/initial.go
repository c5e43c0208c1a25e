package clustersync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// update changes the journal, and tries again what may pass.
func (e *Engine) update(ctx context.Context, change func(*Resume)) error {
	return e.retries.do(ctx, "store the sync's state", func() error { return e.journal.Update(ctx, change) })
}

// enter begins a phase: persisted first, then told.
func (e *Engine) enter(ctx context.Context, p Phase, also func(*Resume)) error {
	before, now := e.journal.Get().Phase, time.Now()
	err := e.update(ctx, func(r *Resume) {
		r.enter(p, now)
		if also != nil {
			also(r)
		}
	})
	if err != nil {
		return err
	}
	e.cfg.Log.DebugContext(ctx, fmt.Sprintf("Updating the in-memory phase from `%s` to `%s`.", before, p))
	switch p {
	case PhaseCollection, PhasePartition, PhaseCopy, PhaseApply:
		e.cfg.Log.InfoContext(ctx, fmt.Sprintf("Starting %s phase", p))
	}
	if e.cfg.Observer.Phase != nil {
		e.cfg.Observer.Phase(p, now)
	}
	return nil
}

// maxWarnings bounds the warnings that are kept.
const maxWarnings = 100

// warn adds a text to `warnings`, once. Should it not be stored it is lost, which is no reason to stop.
func (e *Engine) warn(ctx context.Context, text string) {
	if rec := e.journal.Get(); slices.Contains(rec.Warnings, text) || len(rec.Warnings) >= maxWarnings {
		return
	}
	e.cfg.Log.WarnContext(ctx, text)
	if err := e.update(ctx, func(r *Resume) { r.Warnings = append(r.Warnings, text) }); err != nil {
		e.cfg.Log.WarnContext(ctx, "the warning could not be stored", "error", err)
	}
	if e.cfg.Observer.Warning != nil {
		e.cfg.Observer.Warning(text)
	}
}

// takeT0 takes the place in the source's history from which changes are applied after the copy, before anything is listed (spec §7.1).
func (e *Engine) takeT0(ctx context.Context) error {
	if !e.journal.Get().T0.Zero() {
		return nil
	}
	var t0 Position
	err := e.retries.do(ctx, "mark the source", func() (err error) { t0, err = e.cfg.Source.Mark(ctx); return err })
	if err != nil {
		return err
	}
	err = e.retries.do(ctx, "open the changes of the source", func() error {
		s, err := e.cfg.Source.Changes(ctx, t0)
		if err != nil {
			return err
		}
		return s.Close(ctx)
	})
	if err != nil {
		return err
	}
	return e.update(ctx, func(r *Resume) { r.T0 = t0 })
}

// initialSync does the phases before change event application, from the one that the journal says.
func (e *Engine) initialSync(ctx context.Context) error {
	for {
		var err error
		switch p := e.journal.Get().Phase; p {
		case PhaseNone:
			if err = e.Begin(ctx); err == nil {
				err = e.enter(ctx, PhaseCollection, nil)
			}
		case PhaseCollection:
			if err = e.createAll(ctx); err == nil {
				err = e.enter(ctx, PhasePartition, nil)
			}
		case PhasePartition:
			if err = e.partitionAll(ctx); err == nil {
				err = e.enter(ctx, PhaseCopy, nil)
			}
		case PhaseCopy:
			if err = e.spooling(ctx, e.copyAll); err == nil {
				err = e.enter(ctx, PhaseWait, nil)
			}
		case PhaseWait:
			err = e.endCopy(ctx)
		default:
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// endCopy applies what was kept during the copy and takes the mark up to which the rest of its backlog goes.
func (e *Engine) endCopy(ctx context.Context) error {
	if err := e.drainSpool(ctx); err != nil {
		return err
	}
	var mark Position
	err := e.retries.do(ctx, "mark the source", func() (err error) { mark, err = e.cfg.Source.Mark(ctx); return err })
	if err != nil {
		return err
	}
	return e.enter(ctx, PhaseApply, func(r *Resume) {
		from := r.T0
		if r.Spool.Used {
			from = r.Spool.At
		}
		r.CopyEnd, r.CRUD, r.CRUDTime, r.DDLTime = mark, from, from.Time, from.Time
	})
}

// createAll lists the source and makes everything that is synced on the destination.
func (e *Engine) createAll(ctx context.Context) error {
	if !e.journal.Get().Listed {
		if err := e.list(ctx); err != nil {
			return fmt.Errorf("list the source: %w", err)
		}
	}
	// Views come last: a destination may look at what they are on.
	for _, views := range []bool{false, true} {
		for _, m := range e.catalog.all() {
			if (m.Type == View) != views || m.Made {
				continue
			}
			if err := e.make(ctx, m); err != nil {
				return err
			}
		}
	}
	if e.cfg.Plan.BuildIndexes.AfterCopy() {
		return nil
	}
	return e.buildIndexes(ctx)
}

// list puts what is synced into uuidMap and indexCorrection. Until the journal says that it is complete it is done anew.
func (e *Engine) list(ctx context.Context) error {
	for _, m := range e.catalog.all() {
		if err := e.catalog.remove(ctx, m.ID); err != nil {
			return err
		}
	}
	var listed []Collection
	err := e.retries.do(ctx, "list collections", func() (err error) { listed, err = e.cfg.Source.List(ctx); return err })
	if err != nil {
		return err
	}
	there, err := e.listDestination(ctx)
	if err != nil {
		return err
	}
	var all []*mapping
	var indexes []*indexRecord
	for _, coll := range listed {
		m, err := e.admit(coll, there)
		if err != nil {
			return err
		}
		if m == nil {
			continue
		}
		all = append(all, m)
		for _, spec := range coll.Indexes {
			if e.wantsIndex(spec) && indexName(spec) != "_id_" {
				indexes = append(indexes, newIndexRecord(m.ID, spec))
			}
		}
	}
	if err := unambiguous(all); err != nil {
		return err
	}
	if err := errors.Join(e.catalog.put(ctx, all...), e.catalog.putIndexes(ctx, indexes...)); err != nil {
		return err
	}
	return e.update(ctx, func(r *Resume) { r.Listed = true })
}

// admit decides whether a listed namespace is synced; nil if not.
func (e *Engine) admit(coll Collection, there map[Namespace]Collection) (*mapping, error) {
	switch {
	case !e.cfg.Plan.Filter.Includes(coll.Namespace), coll.Type == View && e.cfg.Plan.PreExistingDestination:
		return nil, nil
	case coll.Unmappable != nil:
		return nil, Errorf(UnsupportedServer, "%s cannot be synced: %w", coll.Namespace, coll.Unmappable)
	case coll.Type == TimeSeries:
		return nil, Errorf(UnsupportedServer, "%s is a time-series collection, which cannot be synced", coll.Namespace)
	}
	m := e.catalog.newMapping(coll)
	if _, taken := there[m.Destination]; taken {
		return nil, Errorf(NamespaceConflict, "the destination has %s already", m.Destination)
	}
	return m, nil
}

// unambiguous refuses two collections that would become one.
func unambiguous(all []*mapping) error {
	seen := map[Namespace]*mapping{}
	for _, m := range all {
		if other := seen[m.Destination]; other != nil {
			return Errorf(NamespaceConflict, "%s and %s would both become %s", other.Source, m.Source, m.Destination)
		}
		seen[m.Destination] = m
	}
	return nil
}

// blockDestination blocks the writes of users on the destination if that was asked for (spec §12).
func (e *Engine) blockDestination(ctx context.Context) error {
	if e.cfg.Plan.WriteBlocking == BlockNone || e.journal.Get().BlockDestination {
		return nil
	}
	err := e.block(ctx, e.cfg.Destination, "destination", func(r *Resume, on bool) { r.BlockDestination = on })
	if err != nil {
		return fmt.Errorf("block the destination: %w", err)
	}
	return nil
}

// blockSource does the same with the source, for a commit.
func (e *Engine) blockSource(ctx context.Context) error {
	if e.cfg.Plan.WriteBlocking != BlockBoth {
		return nil
	}
	if err := e.block(ctx, e.cfg.Source, "source", func(r *Resume, on bool) { r.BlockSource = on }); err != nil {
		return fmt.Errorf("block the source: %w", err)
	}
	return nil
}

func (e *Engine) block(ctx context.Context, c Cluster, side string, note func(*Resume, bool)) error {
	if err := e.update(ctx, func(r *Resume) { note(r, true) }); err != nil {
		return err
	}
	err := e.retries.do(ctx, "block writes", func() error { return c.BlockWrites(ctx, true) })
	if err == nil || ctx.Err() != nil {
		return err
	}
	if err := e.update(ctx, func(r *Resume) { note(r, false) }); err != nil {
		return err
	}
	if e.cfg.Plan.WriteBlockingAsked || e.cfg.Plan.WriteBlocking == BlockBoth {
		return Errorf(WriteBlockFailed, "writes on the %s cannot be blocked: %w", side, err)
	}
	e.warn(ctx, fmt.Sprintf("writes of users on the %s could not be blocked, so nothing must write there until canWrite is true: %v", side, err))
	return nil
}

// reassertBlocks blocks again what the journal says is blocked: the servers may have been restarted from elsewhere.
func (e *Engine) reassertBlocks(ctx context.Context) error {
	rec := e.journal.Get()
	for _, c := range []struct {
		on      bool
		cluster Cluster
	}{{rec.BlockDestination, e.cfg.Destination}, {rec.BlockSource, e.cfg.Source}} {
		if !c.on {
			continue
		}
		if err := e.retries.do(ctx, "block writes", func() error { return c.cluster.BlockWrites(ctx, true) }); err != nil {
			return err
		}
	}
	return nil
}
