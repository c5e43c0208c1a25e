package clustersync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/job"
)

// Reversal exchanges source and destination of a committed sync (spec §14).
type Reversal struct {
	Source, Destination Cluster      // as they were until now
	Journal             *Journal     // on the destination
	Fence               func() int64 // of the lease in the metadata of the old source
	Plan                *Plan
	Log                 *slog.Logger
}

// Check says whether the engine could go the other way: the plan was reversible with writes blocked on both sides, the sync is committed, the
// old source is still blocked (it is blocked again if not), and the old destination still has its changes since the commit
// (OplogRollover). Clusters, versions and privileges are the caller's to check. Errors are ReversePreconditionFailed unless they say otherwise.
func (r Reversal) Check(ctx context.Context) error {
	rec := r.Journal.Get()
	switch {
	case !r.Plan.Reversible || r.Plan.WriteBlocking != BlockBoth:
		return Errorf(ReversePreconditionFailed, "the sync was not started as reversible, with the writes of users blocked on both clusters")
	case rec.CommitStep != CommitFinished || rec.R0.Zero():
		return Errorf(ReversePreconditionFailed, "the sync is not committed")
	}
	if err := r.Source.BlockWrites(ctx, true); err != nil {
		return Errorf(ReversePreconditionFailed, "writes on the old source cannot be blocked: %w", err)
	}
	stream, err := r.Destination.Changes(ctx, rec.R0)
	switch {
	case errors.Is(err, ErrHistoryLost):
		return Errorf(OplogRollover, "the old destination does not have its changes since the commit any more: %w", err)
	case err != nil:
		return Errorf(ReversePreconditionFailed, "the changes of the old destination since the commit cannot be read: %w", err)
	}
	if err := stream.Close(ctx); err != nil {
		return fmt.Errorf("close the changes: %w", err)
	}
	return nil
}

// Run persists state REVERSING, hands the records over to the old source, makes it fit to be written, and returns the journal there, which
// says RUNNING, with Swapped and Epoch moved on. It may be called again after a crash, with the journal that [Latest] gives; if that is
// already the one on the old source, Source is still the old source.
func (r Reversal) Run(ctx context.Context) (*Journal, error) {
	if r.Log == nil {
		r.Log = slog.New(slog.DiscardHandler)
	}
	e, err := r.engine(r.Journal)
	if err != nil {
		return nil, err
	}
	received := r.Journal
	if !r.Journal.Get().Received {
		if err := e.update(ctx, func(rec *Resume) { rec.State = job.SyncReversing.String() }); err != nil {
			return nil, err
		}
		if received, err = r.handOver(ctx, e); err != nil {
			return nil, fmt.Errorf("hand the records over: %w", err)
		}
		if err := e.update(ctx, func(rec *Resume) { rec.HandedOver = true }); err != nil {
			return nil, err
		}
	}
	next, err := r.engine(received)
	if err != nil {
		return nil, err
	}
	if err := next.catalog.load(ctx); err != nil {
		return nil, err
	}
	if err := next.makeWritable(ctx); err != nil {
		return nil, fmt.Errorf("prepare the new destination: %w", err)
	}
	return received, next.enter(ctx, PhaseApply, func(rec *Resume) {
		rec.Swapped, rec.Received, rec.State = !rec.Swapped, false, job.SyncRunning.String()
	})
}

// engine is one with the journal's records: in the old direction with those of the old destination, in the new one with those handed over.
func (r Reversal) engine(j *Journal) (*Engine, error) {
	cfg := EngineConfig{Source: r.Source, Destination: r.Destination, Journal: j, Plan: r.Plan, Log: r.Log}
	if j.Get().Received {
		cfg.Source, cfg.Destination = r.Destination, r.Source
	}
	cfg.Settings.DisableVerification = true // it has nothing to do here
	return NewEngine(cfg)
}

// handOver writes the records down on the old source, as they are for the other direction. The one in resumeData comes last: once it is there,
// with its higher epoch, all others are complete.
func (r Reversal) handOver(ctx context.Context, e *Engine) (*Journal, error) {
	if err := e.catalog.load(ctx); err != nil {
		return nil, err
	}
	old := e.journal.Get()
	meta := r.Source.Metadata()
	for _, name := range []string{uuidMapCollection, indexCollection, partitionCollection, hotCollection, hotIDCollection} {
		if err := r.clear(ctx, e, meta, name); err != nil {
			return nil, err
		}
	}
	if err := r.copyRecord(ctx, e, meta, globalCollection, globalStateID); err != nil {
		return nil, err
	}
	if err := r.copyRecord(ctx, e, meta, statsCollection, old.ID); err != nil {
		return nil, err
	}
	if err := r.copyHot(ctx, e, meta); err != nil {
		return nil, err
	}
	inverted := &catalog{meta: meta, fence: r.Fence, retry: e.retries}
	inverted.reset()
	if err := invert(ctx, e.catalog, inverted); err != nil {
		return nil, err
	}
	j := newJournal(meta, r.Fence, old.ID)
	next := Resume{
		ID: old.ID, State: job.SyncReversing.String(), Phase: PhaseApply, Epoch: old.Epoch + 1, Swapped: old.Swapped, Received: true,
		T0: old.R0, Listed: true, CRUD: old.R0, CRUDTime: old.R0.Time, DDLTime: old.R0.Time, Drained: true, BlockDestination: true,
	}
	err := e.retries.do(ctx, "store the sync's state", func() error { return j.Update(ctx, func(rec *Resume) { *rec = next }) })
	return j, err
}

// invert writes down what each collection of the destination is on the source, and the indexes it has.
func invert(ctx context.Context, from, to *catalog) error {
	for _, m := range from.all() {
		source := Ref{Namespace: m.Destination, UUID: m.DestinationUUID}
		back := &mapping{
			ID: refKey(source), UUID: source.UUID, Source: m.Destination, Origin: m.Destination, Destination: m.Source, Type: m.Type,
			Options: m.Options, Capped: m.Capped, Count: m.Count, Bytes: m.Bytes, Made: true,
		}
		if err := to.put(ctx, back); err != nil {
			return err
		}
		var indexes []*indexRecord
		for _, x := range from.indexesOf(m.ID) {
			next := newIndexRecord(back.ID, x.Spec)
			next.Refused = "" // the old source has it
			indexes = append(indexes, next.asBuilt())
		}
		if err := to.putIndexes(ctx, indexes...); err != nil {
			return err
		}
	}
	return nil
}

// clear removes what an earlier direction left in a collection of the metadata.
func (r Reversal) clear(ctx context.Context, e *Engine, meta Metadata, name string) error {
	return e.retries.do(ctx, "remove old records", func() error {
		var ids []any
		err := meta.All(ctx, name, func(raw bson.Raw) error {
			var id struct {
				ID any `bson:"_id"`
			}
			if err := bson.Unmarshal(raw, &id); err != nil {
				return err
			}
			ids = append(ids, id.ID)
			return nil
		})
		if err != nil {
			return err
		}
		for part := range slices.Chunk(ids, maxRecords) {
			if err := meta.Delete(ctx, r.Fence(), name, part...); err != nil {
				return err
			}
		}
		return nil
	})
}

// copyRecord takes a record over as it is.
func (r Reversal) copyRecord(ctx context.Context, e *Engine, meta Metadata, collection, id string) error {
	err := e.retries.do(ctx, "take a record over", func() error {
		var record bson.Raw
		if err := e.journal.meta.Get(ctx, collection, id, &record); err != nil {
			return err
		}
		return meta.Put(ctx, r.Fence(), collection, record)
	})
	return ignoreNotFound(err)
}

// copyHot takes over which documents are hot: that is for as long as there is the sync, whatever its direction.
func (r Reversal) copyHot(ctx context.Context, e *Engine, meta Metadata) error {
	return e.retries.do(ctx, "take over which documents are hot", func() error {
		var all []any
		err := e.journal.meta.All(ctx, hotIDCollection, func(raw bson.Raw) error {
			all = append(all, slices.Clone(raw))
			return nil
		})
		for part := range slices.Chunk(all, maxRecords) {
			err = errors.Join(err, meta.Put(ctx, r.Fence(), hotIDCollection, part...))
		}
		return err
	})
}

// makeWritable has the old source take the writes of the sync, as a destination does: no unique indexes, no expiry, nothing hidden, no
// bounds of capped collections (spec §14.2 step 3). The registry keeps what they were.
func (e *Engine) makeWritable(ctx context.Context) error {
	if err := e.eachIndex(ctx, e.loosenIndex); err != nil {
		return err
	}
	grows, err := e.capsGrow(ctx)
	if err != nil {
		return err
	}
	for _, m := range e.catalog.all() {
		if !m.Capped || !grows {
			continue
		}
		change := bson.D{{Key: "cappedSize", Value: cappedSize}, {Key: "cappedMax", Value: int64(0)}}
		if err := e.changeOptions(ctx, m, change, "its capped size"); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) loosenIndex(ctx context.Context, m *mapping, x *indexRecord) error {
	var changes []bson.D
	if specFlag(x.Spec, "unique") {
		changes = append(changes, bson.D{{Key: "forceNonUnique", Value: true}})
	}
	if _, err := x.Spec.LookupErr("expireAfterSeconds"); err == nil {
		changes = append(changes, bson.D{{Key: "expireAfterSeconds", Value: neverExpires}})
	}
	if specFlag(x.Spec, "hidden") {
		changes = append(changes, bson.D{{Key: "hidden", Value: false}})
	}
	for _, change := range changes {
		// Where it cannot be done the index stays as it is: writes that it refuses are put in order (spec §8.8).
		if err := e.modifyIndex(ctx, m, x, change); err != nil && !errors.Is(err, ErrUnsupported) {
			return err
		}
	}
	return nil
}

// Latest returns which of two journals counts, that of a's or b's cluster; nil if neither was found. A reverse leaves records on both.
func Latest(a, b *Journal) *Journal {
	switch {
	case a == nil:
		return b
	case b == nil || a.Get().Epoch >= b.Get().Epoch:
		return a
	}
	return b
}
