package clustersync

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"
)

// Limits of building indexes.
const (
	indexTries    = 10 // of making one, and of looking for missing ones at commit (spec §8.8, §13)
	indexBuilders = 4  // collections whose indexes are built at a time
)

// createIndexes makes indexes of a mapping now, as they are during a sync, and notes that they are there. The mapping's build lock is held.
func (e *Engine) createIndexes(ctx context.Context, m *mapping, all []*indexRecord) error {
	for part := range slices.Chunk(all, e.limits().IndexBatch) {
		specs := make([]bson.Raw, len(part))
		for i, x := range part {
			spec, err := transformIndex(x.Spec)
			if err != nil {
				return fmt.Errorf("read index %s: %w", x.ID.Name, err)
			}
			specs[i] = spec
		}
		refused, err := e.createOnDestination(ctx, m, specs)
		if err != nil {
			return err
		}
		done := make([]*indexRecord, len(part))
		for i, x := range part {
			done[i] = x.asBuilt()
			for _, r := range refused {
				if r.Name == x.ID.Name {
					done[i] = e.refusedIndex(ctx, m, x, r.Err)
				}
			}
		}
		if err := e.catalog.putIndexes(ctx, done...); err != nil {
			return err
		}
		e.stats.indexes.Add(int64(len(part) - len(refused)))
	}
	return nil
}

func (e *Engine) createOnDestination(ctx context.Context, m *mapping, specs []bson.Raw) (refused []RefusedIndex, err error) {
	for try := 1; ; try++ {
		err = e.retries.do(ctx, "create indexes on "+m.Destination.String(), func() (err error) {
			refused, err = e.cfg.Destination.CreateIndexes(ctx, m.Destination, specs)
			return err
		})
		if err == nil || ctx.Err() != nil || try == indexTries {
			return refused, err
		}
		e.cfg.Log.WarnContext(ctx, "indexes could not be created", "namespace", m.Destination.String(), "try", try, "error", err)
		if err := pauseFor(ctx, retryFirst<<min(try, 8)); err != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// refusedIndex notes that the sync goes on without an index.
func (e *Engine) refusedIndex(ctx context.Context, m *mapping, x *indexRecord, why error) *indexRecord {
	e.warn(ctx, fmt.Sprintf("%s: the destination does not take the index %s: %v", m.Destination, x.ID.Name, why))
	out := *x
	out.Refused = why.Error()
	return &out
}

// buildIndexes makes all indexes that are not there yet, of the largest collections first.
func (e *Engine) buildIndexes(ctx context.Context) error {
	all := e.catalog.all()
	slices.SortStableFunc(all, func(a, b *mapping) int { return cmp.Compare(b.Bytes, a.Bytes) })
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(indexBuilders)
	if e.cfg.Plan.PreExistingDestination {
		g.SetLimit(1)
	}
	for _, m := range all {
		g.Go(func() error { return e.buildIndexesOf(ctx, m.ID) })
	}
	return g.Wait()
}

func (e *Engine) buildIndexesOf(ctx context.Context, id string) error {
	for ctx.Err() == nil {
		more, err := e.buildBatch(ctx, id)
		if err != nil || !more {
			return err
		}
	}
	return context.Cause(ctx)
}

// buildBatch makes a few indexes of a mapping. DDL on the collection waits for it, and is seen before the next batch.
func (e *Engine) buildBatch(ctx context.Context, id string) (more bool, err error) {
	lock := e.catalog.build(id)
	if err := lock.lock(ctx); err != nil {
		return false, err
	}
	defer lock.unlock()
	m := e.catalog.get(id)
	if m == nil || m.Type == View || !m.Made {
		return false, nil
	}
	var batch []*indexRecord
	for _, x := range e.catalog.indexesOf(id) {
		if x.waiting() && len(batch) < e.limits().IndexBatch {
			batch = append(batch, x)
		}
	}
	if len(batch) == 0 {
		return false, nil
	}
	return true, e.createIndexes(ctx, m, batch)
}

// indexesWaiting reports whether indexes are still to be built.
func (e *Engine) indexesWaiting() bool {
	for _, m := range e.catalog.all() {
		if slices.ContainsFunc(e.catalog.indexesOf(m.ID), (*indexRecord).waiting) {
			return true
		}
	}
	return false
}

// checkIndexes makes sure that the destination has every index of the registry (spec §13 step 6).
func (e *Engine) checkIndexes(ctx context.Context) error {
	for try := 1; ; try++ {
		if err := e.buildIndexes(ctx); err != nil {
			return err
		}
		missing, err := e.missingIndexes(ctx)
		if err != nil {
			return err
		}
		if len(missing) == 0 {
			return nil
		}
		if try == indexTries {
			return Errorf(MigrationFailed, "index %s of %s cannot be created on the destination", missing[0].ID.Name, e.catalog.get(missing[0].ID.Collection).Destination)
		}
		for _, x := range missing {
			again := *x
			again.Last = 0
			if err := e.catalog.putIndexes(ctx, &again); err != nil {
				return err
			}
		}
	}
}

func (e *Engine) missingIndexes(ctx context.Context) ([]*indexRecord, error) {
	there, err := e.listDestination(ctx)
	if err != nil {
		return nil, err
	}
	var missing []*indexRecord
	for _, m := range e.catalog.all() {
		for _, x := range e.catalog.indexesOf(m.ID) {
			has := slices.ContainsFunc(there[m.Destination].Indexes, func(spec bson.Raw) bool { return indexName(spec) == x.ID.Name })
			if !has && x.Refused == "" {
				missing = append(missing, x)
			}
		}
	}
	return missing, nil
}

// listDestination lists the destination by name.
func (e *Engine) listDestination(ctx context.Context) (map[Namespace]Collection, error) {
	var listed []Collection
	err := e.retries.do(ctx, "list the destination", func() (err error) { listed, err = e.cfg.Destination.List(ctx); return err })
	if err != nil {
		return nil, err
	}
	out := make(map[Namespace]Collection, len(listed))
	for _, c := range listed {
		out[c.Namespace] = c
	}
	return out, nil
}
