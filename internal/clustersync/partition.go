package clustersync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"
)

// partition is a range of a collection that is copied in one go: a record of partitions.
type partition struct {
	ID        partitionID    `bson:"_id"`
	Namespace Namespace      `bson:"namespace"`
	Range     Range          `bson:"bounds"`
	Phase     PartitionPhase `bson:"partitionPhase"`
	Copied    int64          `bson:"copiedByteCount"`
	Documents int64          `bson:"copiedDocumentCount"`
	Total     int64          `bson:"totalByteCount"`
	Capped    bool           `bson:"isCapped"`
	Natural   bool           `bson:"naturalOrder"`
	// Place is up to where a natural read is on the destination; nil: nowhere, or the source cannot go on with one.
	Place bson.Raw `bson:"place,omitempty"`
}

type partitionID struct {
	Collection string `bson:"srcUUID"`
	Number     int    `bson:"id"`
}

// PartitionPhase is how far a partition is.
type PartitionPhase string

// The phases of a partition.
const (
	PartitionWaiting PartitionPhase = "not started"
	PartitionCopying PartitionPhase = "in progress"
	PartitionDone    PartitionPhase = "done"
)

// maxPartitions bounds the partitions of a collection (spec §7.3).
const maxPartitions = 10_000

// partitionAll cuts all collections into partitions and stores these. It is done anew if it was not done to the end.
func (e *Engine) partitionAll(ctx context.Context) error {
	old, err := e.loadPartitions(ctx)
	if err != nil {
		return err
	}
	if err := e.deletePartitions(ctx, old); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(max(1, e.limits().CopyReaders))
	for _, m := range e.catalog.all() {
		if m.Type == View {
			continue
		}
		g.Go(func() error {
			parts, err := e.partition(gctx, m)
			if err != nil {
				return fmt.Errorf("partition %s: %w", m.Source, err)
			}
			return e.putPartitions(gctx, parts...)
		})
	}
	return g.Wait()
}

// partition cuts a collection. One that is gone has no partitions.
func (e *Engine) partition(ctx context.Context, m *mapping) ([]*partition, error) {
	natural := m.Capped || e.cfg.Plan.Filter.Natural(m.Source)
	if !natural {
		var err error
		natural, err = e.randomKeys(ctx, m)
		if errors.Is(err, ErrGone) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
	}
	ranges := []Range{{}}
	if !natural {
		target := max(e.limits().PartBytes, m.Bytes/maxPartitions)
		err := e.retries.do(ctx, "find partitions", func() (err error) {
			ranges, err = e.cfg.Source.Partition(ctx, m.collection(), target)
			return err
		})
		if errors.Is(err, ErrGone) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
	}
	e.logPartitions(ctx, m, natural, len(ranges))
	out := make([]*partition, len(ranges))
	for i, r := range ranges {
		out[i] = &partition{
			ID: partitionID{m.ID, i}, Namespace: m.Source, Range: r, Phase: PartitionWaiting,
			Total: m.Bytes / int64(len(ranges)), Capped: m.Capped, Natural: natural,
		}
	}
	return out, nil
}

// randomKeys reports whether a large collection is better read in natural order (detectRandomId, spec §5.1). One whose order cannot be told is read
// in the order of keys, which is said.
func (e *Engine) randomKeys(ctx context.Context, m *mapping) (random bool, err error) {
	source, can := e.cfg.Source.(KeyOrder)
	_, clustered := m.Options.LookupErr("clusteredIndex")
	if !e.cfg.Plan.DetectRandomID || !can || m.Bytes <= e.limits().RandomBytes || clustered == nil {
		return false, nil
	}
	err = e.retries.do(ctx, "compare the order of keys", func() (err error) { random, err = source.RandomKeys(ctx, m.collection()); return err })
	if errors.Is(err, ErrUnsupported) {
		e.warn(ctx, fmt.Sprintf("%s: it cannot be told whether its _id is random, so that it is copied in the order of _id (copyInNaturalOrder changes that): %v", m.Source, err))
		return false, nil
	}
	return random, err
}

func (e *Engine) logPartitions(ctx context.Context, m *mapping, natural bool, n int) {
	reason := ""
	switch {
	case m.Capped:
		reason = "Capped collection."
	case natural:
		reason = "Selected for natural order collection reads."
	case n == 1:
		reason = "Small collection."
	}
	text := "Creating initial partitions for non-capped collection"
	if reason != "" {
		text = "Creating a single partition for whole collection"
	}
	e.cfg.Log.DebugContext(ctx, text, "database", m.Source.Database, "collection", m.Source.Collection, "reason", reason)
}

func (e *Engine) loadPartitions(ctx context.Context) (out []*partition, err error) {
	err = e.retries.do(ctx, "read the partitions", func() error {
		out = nil
		return e.journal.meta.All(ctx, partitionCollection, func(raw bson.Raw) error {
			p := &partition{}
			if err := bson.Unmarshal(raw, p); err != nil {
				return fmt.Errorf("decode a partition: %w", err)
			}
			p.Range.From, p.Range.To, p.Place = slices.Clone(p.Range.From), slices.Clone(p.Range.To), slices.Clone(p.Place)
			out = append(out, p)
			return nil
		})
	})
	return out, err
}

func (e *Engine) putPartitions(ctx context.Context, parts ...*partition) error {
	for chunk := range slices.Chunk(parts, maxRecords) {
		records := make([]any, len(chunk))
		for i, p := range chunk {
			records[i] = p
		}
		err := e.retries.do(ctx, "store partitions", func() error {
			return e.journal.meta.Put(ctx, e.journal.fence(), partitionCollection, records...)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) deletePartitions(ctx context.Context, parts []*partition) error {
	for chunk := range slices.Chunk(parts, maxRecords) {
		ids := make([]any, len(chunk))
		for i, p := range chunk {
			ids[i] = p.ID
		}
		err := e.retries.do(ctx, "delete partitions", func() error {
			return e.journal.meta.Delete(ctx, e.journal.fence(), partitionCollection, ids...)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// interleave orders partitions for copying: the largest collections first, one partition of each in turn, so that no worker waits for the
// last collection alone.
func interleave(parts []*partition) {
	size := map[string]int64{}
	for _, p := range parts {
		size[p.ID.Collection] += p.Total
	}
	slices.SortFunc(parts, func(a, b *partition) int {
		return cmp.Or(cmp.Compare(a.ID.Number, b.ID.Number), cmp.Compare(size[b.ID.Collection], size[a.ID.Collection]),
			cmp.Compare(a.ID.Collection, b.ID.Collection))
	})
}
