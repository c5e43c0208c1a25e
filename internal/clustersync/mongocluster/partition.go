package mongocluster

import (
	"context"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// Limits of partitioning (spec §7.3).
const (
	minPartitioned = 101    // documents; fewer are read in one go
	maxPartitions  = 10_000 // of one collection
	codeSample     = 28799  // too many samples were the same
)

// Partition implements [clustersync.Source] (spec §7.3). Where a collection cannot be cut it is one range.
func (c *Cluster) Partition(ctx context.Context, coll clustersync.Collection, targetBytes int64) ([]clustersync.Range, error) {
	whole := []clustersync.Range{{}}
	if coll.Capped || isCollated(coll.Options) || coll.Type != clustersync.Plain || targetBytes <= 0 {
		return whole, nil
	}
	count, bytes, err := c.size(ctx, coll.Namespace)
	if err != nil {
		return nil, err
	}
	if count < minPartitioned || bytes <= targetBytes {
		return whole, nil
	}
	n := min((bytes+targetBytes-1)/targetBytes, maxPartitions, count)
	bounds, err := c.sampleBounds(ctx, coll.Namespace, n, count)
	if err != nil || len(bounds) < 2 {
		return whole, passingOnly(err)
	}
	if err := c.checkRanges(ctx, coll.Namespace, bounds); err != nil {
		return nil, err
	}
	if c.rangeMode() == rangeFilter {
		return whole, nil // every range would read the whole collection
	}
	return between(bounds), nil
}

// sampleBounds returns keys that cut the collection into about n parts.
func (c *Cluster) sampleBounds(ctx context.Context, ns clustersync.Namespace, n, count int64) ([]bson.RawValue, error) {
	for {
		size := max(1, min(count/25, 3*n)) // $sample is cheap below 5 % of the documents
		buckets, err := c.all(ctx, "sample "+ns.String(), ns.Database, bson.D{{Key: "aggregate", Value: ns.Collection}, {Key: "pipeline", Value: bson.A{
			bson.D{{Key: "$sample", Value: bson.D{{Key: "size", Value: size}}}},
			bson.D{{Key: "$project", Value: bson.D{{Key: "_id", Value: 1}}}},
			bson.D{{Key: "$bucketAuto", Value: bson.D{{Key: "groupBy", Value: "$_id"}, {Key: "buckets", Value: n}}}},
		}}, {Key: "allowDiskUse", Value: true}, {Key: "cursor", Value: bson.D{}}, {Key: "readConcern", Value: bson.D{{Key: "level", Value: "available"}}}})
		if hasCode(err, codeSample) && n > 10 {
			n /= 10
			continue
		}
		if err != nil {
			return nil, err
		}
		var bounds []bson.RawValue
		for _, bucket := range buckets {
			id := lookupDoc(bucket, "_id")
			if low, err := id.LookupErr("min"); err == nil {
				bounds = append(bounds, low)
			}
		}
		return bounds, nil
	}
}

// checkRanges finds out by behaviour how this server reads a range: it must send nothing from outside (spec §23.1). Reading finds out as
// well, but then the collection is cut already.
func (c *Cluster) checkRanges(ctx context.Context, ns clustersync.Namespace, bounds []bson.RawValue) error {
	first, last := bounds[0], bounds[len(bounds)-1]
	for mode := c.rangeMode(); mode != rangeFilter; mode = c.rangeMode() {
		kept, err := c.keepsBounds(ctx, ns, mode, first, last)
		if err != nil && !c.weaken(mode, err) {
			return err
		}
		if err == nil {
			if kept {
				return nil
			}
			c.weaken(mode, errIgnored)
		}
	}
	return nil
}

// keepsBounds reads one document above the last bound and one below the first.
func (c *Cluster) keepsBounds(ctx context.Context, ns clustersync.Namespace, mode rangeMode, first, last bson.RawValue) (bool, error) {
	probe := reader{c: c, at: ns, opts: clustersync.ReadOptions{BatchDocs: 1}}
	for _, side := range []clustersync.Range{{From: idOnly(last)}, {To: idOnly(first)}} {
		probe.bounds = side
		found, err := c.all(ctx, "read "+ns.String(), ns.Database, append(probe.command(mode), bson.E{Key: "limit", Value: 1}))
		if err != nil {
			return false, err
		}
		if len(found) == 0 {
			continue
		}
		id, err := found[0].LookupErr("_id")
		if err != nil || side.From != nil && compare(id, last) < 0 || side.To != nil && compare(id, first) >= 0 {
			return false, nil
		}
	}
	return true, nil
}

// between makes ranges of the bounds, open at both ends. The least bound is no cut: everything below it belongs to the first range.
func between(bounds []bson.RawValue) []clustersync.Range {
	var ranges []clustersync.Range
	var from bson.Raw
	for i, b := range bounds[1:] {
		if compare(bounds[i], b) >= 0 {
			continue // a server that sorts keys otherwise must not make ranges that overlap
		}
		to := idOnly(b)
		ranges = append(ranges, clustersync.Range{From: from, To: to})
		from = to
	}
	return append(ranges, clustersync.Range{From: from})
}

func idOnly(id bson.RawValue) bson.Raw { return newDoc().append("_id", id).end() }
