package mongocluster

import (
	"context"
	"errors"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// settle finds out about duplicates of which a server does not say what index they are of (spec §23.5): the insert of an _id that is
// there, or a value of a unique index that another document holds. An upsert finds its _id if it is there, so there the other
// document is looked for first.
func (c *Cluster) settle(ctx context.Context, ns clustersync.Namespace, failed []itemError, upsert bool, body func(int) bson.Raw) error {
	for i := range failed {
		e := &failed[i]
		if !e.unclear() {
			continue
		}
		ways := []func(context.Context, clustersync.Namespace, *itemError, bson.Raw) error{c.blameID, c.blame}
		if upsert {
			ways = []func(context.Context, clustersync.Namespace, *itemError, bson.Raw) error{c.blame, c.blameID}
		}
		for _, way := range ways {
			if err := way(ctx, ns, e, body(e.Index)); err != nil {
				return err
			}
			if len(e.KeyPattern) > 0 {
				break
			}
		}
	}
	return nil
}

// blameID looks whether the _id is there.
func (c *Cluster) blameID(ctx context.Context, ns clustersync.Namespace, e *itemError, body bson.Raw) error {
	id, err := body.LookupErr("_id")
	if err != nil {
		return c.failed("read document", err)
	}
	present, err := c.holder(ctx, ns, bson.D{{Key: "_id", Value: id}})
	if present != nil {
		e.Code, e.KeyPattern = codeDuplicateKey, marshal(byID)
	}
	return err
}

// blame looks for the unique index that refuses a document.
func (c *Cluster) blame(ctx context.Context, ns clustersync.Namespace, e *itemError, body bson.Raw) error {
	specs, err := c.indexes(ctx, ns)
	if errors.Is(err, clustersync.ErrNotFound) {
		return nil
	}
	for _, spec := range specs {
		if !lookupBool(spec, "unique") {
			continue
		}
		key := lookupDoc(spec, "key")
		var filter bson.D
		fields, _ := key.Elements()
		for _, field := range fields {
			if value, ok := lookUpField(body, field.Key()); ok {
				filter = append(filter, bson.E{Key: field.Key(), Value: value})
			}
		}
		if len(filter) < len(fields) {
			continue
		}
		id, _ := body.LookupErr("_id")
		other, err := c.holder(ctx, ns, append(filter, bson.E{Key: "_id", Value: bson.D{{Key: "$ne", Value: id}}}))
		if err != nil {
			return err
		}
		if other != nil {
			e.index, e.KeyPattern, e.KeyValue = lookupString(spec, "name"), key, marshal(filter)
			return nil
		}
	}
	return err
}

// holder returns a document that a filter matches, nil if there is none.
func (c *Cluster) holder(ctx context.Context, ns clustersync.Namespace, filter bson.D) (bson.Raw, error) {
	found, err := c.all(ctx, "look for a document of "+ns.String(), ns.Database, bson.D{{Key: "find", Value: ns.Collection},
		{Key: "filter", Value: filter}, {Key: "projection", Value: byID}, {Key: "limit", Value: 1}})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}
