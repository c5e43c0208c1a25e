package mongocluster

import (
	"cmp"
	"context"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

var _ clustersync.KeyOrder = (*Cluster)(nil)

// Of comparing keys with records.
const (
	orderSample = 1000 // documents
	minOrder    = 20   // fewer tell nothing
)

// RandomKeys implements [clustersync.KeyOrder]: some documents all over the collection are put in the order of their records, and their keys should
// then mostly ascend, or descend. Keys that are random do either half of the time; between a quarter and three quarters is taken for that.
func (c *Cluster) RandomKeys(ctx context.Context, coll clustersync.Collection) (bool, error) {
	caps, err := c.capabilities(ctx)
	if err != nil {
		return false, err
	}
	verb := "compare keys of " + coll.Namespace.String()
	if caps.sharded {
		return false, unsupportedErr(verb, "each shard has records of its own")
	}
	ns, err := c.find(ctx, coll.Ref)
	if err != nil {
		return false, err
	}
	size := max(minOrder, min(orderSample, coll.Count/25)) // $sample is cheap below 5 % of the documents
	sampled, err := c.all(ctx, verb, ns.Database, bson.D{{Key: "aggregate", Value: ns.Collection}, {Key: "pipeline", Value: bson.A{
		bson.D{{Key: "$sample", Value: bson.D{{Key: "size", Value: size}}}}, bson.D{{Key: "$project", Value: byID}},
	}}, {Key: "cursor", Value: bson.D{}}, {Key: "readConcern", Value: bson.D{{Key: "level", Value: "available"}}}})
	if err != nil {
		return false, orUnsupported(verb, err)
	}
	var ids bson.A
	for _, doc := range sampled {
		if id, err := doc.LookupErr("_id"); err == nil {
			ids = append(ids, id)
		}
	}
	type record struct {
		number int64
		id     bson.RawValue
	}
	var records []record
	for part := range slices.Chunk(ids, maxIn) {
		found, err := c.all(ctx, verb, ns.Database, bson.D{{Key: "find", Value: ns.Collection}, {Key: "filter", Value: bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: part}}}}},
			{Key: "projection", Value: byID}, {Key: "showRecordId", Value: true}})
		if err != nil {
			return false, orUnsupported(verb, err)
		}
		for _, doc := range found {
			number, ok := doc.Lookup("$recordId").AsInt64OK()
			id, err := doc.LookupErr("_id")
			if ok && err == nil {
				records = append(records, record{number, id})
			}
		}
	}
	slices.SortFunc(records, func(a, b record) int { return cmp.Compare(a.number, b.number) })
	records = slices.CompactFunc(records, func(a, b record) bool { return a.number == b.number })
	if len(records) < minOrder {
		return false, unsupportedErr(verb, "the server does not tell its records")
	}
	up := 0
	for i := range len(records) - 1 {
		if compare(records[i].id, records[i+1].id) < 0 {
			up++
		}
	}
	pairs := len(records) - 1
	return 4*up > pairs && 4*up < 3*pairs, nil
}

// orUnsupported: what a server refuses here is never worth more than going on without it.
func orUnsupported(verb string, err error) error {
	if passingOnly(err) != nil {
		return err
	}
	return unsupportedErr(verb, err.Error())
}
