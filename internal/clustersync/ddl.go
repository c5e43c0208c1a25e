package clustersync

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// The listing that a sync begins with is later than T0, so the stream tells again of changes that the destination has already. Guards by UUID
// make that harmless (spec §8.6): what was listed is never dropped or overwritten because of an event about another collection, and
// collections that were gone before the listing are never mapped, so that everything about them is ignored.

// applyDDL does on the destination what an event says that is no change of a document. All events before it are applied, and none after it.
func (e *Engine) applyDDL(ctx context.Context, ev Event) error {
	var err error
	switch ev.Op {
	case OpCreate:
		err = e.applyCreate(ctx, ev)
	case OpDrop:
		err = e.applyDrop(ctx, e.catalog.of(ev.Ref))
	case OpDropDatabase:
		err = e.applyDropDatabase(ctx, ev.Ref.Database)
	case OpRename:
		err = e.applyRename(ctx, ev)
	case OpCreateIndexes:
		err = e.applyCreateIndexes(ctx, ev)
	case OpDropIndexes:
		err = e.applyDropIndexes(ctx, ev)
	case OpModify:
		err = e.applyModify(ctx, ev)
	case OpShard:
		err = e.applyShard(ctx, ev)
	default:
		err = e.refuseEvent(ev)
	}
	if err != nil {
		return fmt.Errorf("apply DDL on %s: %w", ev.Ref.Namespace, err)
	}
	e.stats.ddl.Add(1)
	return nil
}

// refuseEvent ends the sync because of what cannot be replicated, if it is any of its affair.
func (e *Engine) refuseEvent(ev Event) error {
	if ev.Ref.Namespace != (Namespace{}) && e.catalog.of(ev.Ref) == nil && !e.cfg.Plan.Filter.Includes(ev.Ref.Namespace) {
		return nil
	}
	reason := ev.Reason
	if reason == "" {
		reason = "an event that cannot be replicated"
	}
	return Errorf(UnsupportedEvent, "%s: %s", ev.Ref.Namespace, reason)
}

func (e *Engine) applyCreate(ctx context.Context, ev Event) error {
	coll := ev.Collection
	coll.Ref = ev.Ref
	if coll.Type == "" {
		coll.Type = Plain
	}
	if !e.cfg.Plan.Filter.Includes(coll.Namespace) {
		return nil
	}
	switch {
	case coll.Unmappable != nil:
		return Errorf(UnsupportedEvent, "%s was created: %w", coll.Namespace, coll.Unmappable)
	case coll.Type == TimeSeries:
		return Errorf(UnsupportedEvent, "%s is a time-series collection", coll.Namespace)
	case coll.Type == View && e.cfg.Plan.PreExistingDestination:
		return nil
	}
	if m := e.catalog.of(coll.Ref); m != nil {
		switch {
		case m.Type == View && coll.Type == View && m.Made:
			return e.redefineView(ctx, m, coll)
		case !m.Made:
			return e.make(ctx, m)
		}
		return nil
	}
	m := e.catalog.newMapping(coll)
	m.Told = ev.Time
	if e.catalog.holder(m.Destination) != nil {
		return nil // the event is older than the listing, and the collection was no more by then
	}
	if err := e.catalog.put(ctx, m); err != nil {
		return err
	}
	return e.make(ctx, m)
}

// redefineView gives a view the definition that an event tells. Later events bring it up to the listing.
func (e *Engine) redefineView(ctx context.Context, m *mapping, coll Collection) error {
	change := bson.D{}
	for _, name := range []string{"viewOn", "pipeline"} {
		if v, err := coll.Options.LookupErr(name); err == nil {
			change = append(change, bson.E{Key: name, Value: v})
		}
	}
	return e.modifyCollection(ctx, m, change)
}

func (e *Engine) applyDrop(ctx context.Context, m *mapping) error {
	if m == nil {
		return nil
	}
	lock := e.catalog.build(m.ID)
	if err := lock.lock(ctx); err != nil {
		return err
	}
	defer lock.unlock()
	// What is about to be done is recorded, dropped first and forgotten then: after a crash in between it is done to the end, since the event
	// may not come again where the collection has been made again (see Amender).
	dropping := *m
	dropping.Dropping = true
	if err := e.catalog.put(ctx, &dropping); err != nil {
		return err
	}
	err := e.retries.do(ctx, "drop "+m.Destination.String(), func() error { return e.cfg.Destination.Drop(ctx, m.Destination) })
	if err != nil {
		return err
	}
	return e.catalog.remove(ctx, m.ID)
}

// settleDrops finishes what a crash has left half dropped, and takes back what it has left half made: if the collection is still there, the source
// tells of it again.
func (e *Engine) settleDrops(ctx context.Context) error {
	for _, m := range e.catalog.all() {
		unmade, err := e.halfMade(ctx, m)
		if err == nil && (m.Dropping || unmade) {
			err = e.applyDrop(ctx, m)
		}
		if err != nil {
			return fmt.Errorf("drop %s: %w", m.Destination, err)
		}
	}
	return nil
}

// halfMade reports whether a crash came while a collection was made, of which a source that looks for collections may never tell again. It is
// empty then: one with documents is somebody else's.
func (e *Engine) halfMade(ctx context.Context, m *mapping) (bool, error) {
	if _, looks := e.cfg.Source.(Amender); !looks || m.Made || m.Copying || m.Told.IsZero() {
		return false, nil
	}
	there, err := e.listDestination(ctx)
	return err == nil && there[m.Destination].Count == 0, err
}

// applyDropDatabase drops the views of a database, and what is known by name only. Collections with UUIDs have had drop events of their own;
// those that are still mapped were created later.
func (e *Engine) applyDropDatabase(ctx context.Context, database string) error {
	for _, m := range e.catalog.all() {
		if m.Source.Database != database || m.Type != View && m.UUID != "" {
			continue
		}
		if err := e.applyDrop(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) applyRename(ctx context.Context, ev Event) error {
	// First of all, since it is so whatever became of the renamed collection: that may have been gone before the listing.
	if err := e.applyDropTarget(ctx, ev); err != nil {
		return err
	}
	m := e.catalog.of(ev.Ref)
	verdict, reason := e.cfg.Plan.Filter.Rename(ev.Ref.Namespace, ev.To)
	switch {
	case verdict == RenameIgnore:
		return nil
	case verdict == RenameRefuse && m == nil && e.cfg.Plan.Filter.Includes(ev.Ref.Namespace):
		return nil // it had left before the listing
	case verdict == RenameRefuse:
		return Errorf(UnsupportedEvent, "%s", reason)
	}
	if ev.Ref.UUID == "" {
		return e.renameByName(ctx, ev)
	}
	if m == nil && verdict != RenameCopy {
		return nil
	}
	to := e.cfg.Plan.Filter.Target(ev.To)
	switch holder := e.catalog.holder(to); {
	case m != nil && m.Copying:
		return e.copyIn(ctx, ev)
	case m != nil && m.Destination == to:
		return nil
	case holder != nil && holder != m:
		return nil // the event is older than the listing; a later rename has moved this collection on already
	case m == nil:
		return e.copyIn(ctx, ev)
	}
	err := e.rename(ctx, m, ev.To, to)
	if errors.Is(err, ErrUnsupported) {
		return e.renameByCopy(ctx, m, ev)
	}
	return err
}

// renameByCopy is for a destination whose collections keep their names: what has the new name is copied anew. The record that says so comes
// first: after a crash the event finds a copy under way, and does it again.
func (e *Engine) renameByCopy(ctx context.Context, m *mapping, ev Event) error {
	copying := *m
	copying.Moving, copying.Copying = nil, true
	if err := e.catalog.put(ctx, &copying); err != nil {
		return err
	}
	return e.copyIn(ctx, ev)
}

// applyDropTarget drops the collection that gave way to a renamed one, wherever it is on the destination.
func (e *Engine) applyDropTarget(ctx context.Context, ev Event) error {
	if ev.Dropped == "" {
		return nil
	}
	return e.applyDrop(ctx, e.catalog.get(ev.Dropped))
}

// renameByName follows a rename of a source whose collections have only names: what has the new name is copied anew.
func (e *Engine) renameByName(ctx context.Context, ev Event) error {
	for _, ns := range []Namespace{ev.Ref.Namespace, ev.To} {
		if err := e.applyDrop(ctx, e.catalog.of(Ref{Namespace: ns})); err != nil {
			return err
		}
	}
	if !e.cfg.Plan.Filter.Includes(ev.To) {
		return nil
	}
	ev.Ref = Ref{Namespace: ev.To}
	return e.copyIn(ctx, ev)
}

// rename moves a collection on the destination. What is about to be done is recorded, so that it is known after a crash who did it.
func (e *Engine) rename(ctx context.Context, m *mapping, source, to Namespace) error {
	lock := e.catalog.build(m.ID)
	if err := lock.lock(ctx); err != nil {
		return err
	}
	defer lock.unlock()
	about := *m
	about.Moving = &moving{Source: source, Destination: to}
	if err := e.catalog.put(ctx, &about); err != nil {
		return err
	}
	err := e.retries.do(ctx, "rename "+m.Destination.String(), func() error {
		err := e.cfg.Destination.Rename(ctx, m.Destination, to)
		if errors.Is(err, ErrNotFound) || errors.Is(err, ErrExists) {
			return e.renamedAlready(ctx, m.Destination, to, err)
		}
		return err
	})
	if err != nil {
		return err
	}
	moved := *m
	moved.Source, moved.Destination, moved.Moving = source, to, nil
	return e.catalog.put(ctx, &moved)
}

// settleMoves notes renames that were done on the destination when the process ended, before that was recorded. Changes older than the rename, which
// come again, would be written under the old name otherwise, and make a collection there.
func (e *Engine) settleMoves(ctx context.Context) error {
	for _, m := range e.catalog.all() {
		if m.Moving == nil {
			continue
		}
		there, err := e.listDestination(ctx)
		if err != nil {
			return err
		}
		settled := *m
		settled.Moving = nil
		_, from := there[m.Destination]
		if _, to := there[m.Moving.Destination]; to && !from {
			settled.Source, settled.Destination = m.Moving.Source, m.Moving.Destination
		}
		if err := e.catalog.put(ctx, &settled); err != nil {
			return err
		}
	}
	return nil
}

// renamedAlready is nil if a rename that was refused had been done before, of which the answer or the record was lost.
func (e *Engine) renamedAlready(ctx context.Context, from, to Namespace, refused error) error {
	listed, err := e.cfg.Destination.List(ctx)
	if err != nil {
		return err
	}
	var hasFrom, hasTo bool
	for _, c := range listed {
		hasFrom = hasFrom || c.Namespace == from
		hasTo = hasTo || c.Namespace == to
	}
	if hasTo && !hasFrom {
		return nil
	}
	if hasTo {
		return Errorf(NamespaceConflict, "the destination has a collection %s that the sync did not create: %w", to, refused)
	}
	return Errorf(MigrationFailed, "the destination's collection %s is gone: %w", from, refused)
}

// applyShard passes a shard key on to a destination that has shards.
func (e *Engine) applyShard(ctx context.Context, ev Event) error {
	m := e.catalog.of(ev.Ref)
	key, ok := ev.Change.Lookup("shardKey").DocumentOK()
	if m == nil || !ok {
		return nil
	}
	return e.shard(ctx, m, key, specFlag(ev.Change, "unique"))
}

// shard has a collection sharded on a destination that has shards.
func (e *Engine) shard(ctx context.Context, m *mapping, key bson.Raw, unique bool) error {
	sharder, ok := e.cfg.Destination.(Sharder)
	if !ok {
		return nil
	}
	return e.retries.do(ctx, "shard "+m.Destination.String(), func() error { return sharder.Shard(ctx, m.Destination, key, unique) })
}
