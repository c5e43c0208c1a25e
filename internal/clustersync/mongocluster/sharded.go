package mongocluster

import (
	"context"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// shardKey is what writes to a collection of a sharded cluster must carry (spec §8.4, §22).
type shardKey struct {
	fields   []string
	collated bool // the collection has a collation, and the key has not: servers below 8.0 must be told
}

// shardKey returns the shard key of a collection; none, if the cluster or the collection is not sharded.
func (c *Cluster) shardKey(ctx context.Context, ns clustersync.Namespace) (shardKey, error) {
	caps, err := c.capabilities(ctx)
	if err != nil || !caps.sharded {
		return shardKey{}, err
	}
	c.mu.Lock()
	known, ok := c.keys[ns]
	c.mu.Unlock()
	if ok {
		return known, nil
	}
	found, err := c.all(ctx, "read shard key of "+ns.String(), "config", bson.D{{Key: "find", Value: "collections"},
		{Key: "filter", Value: bson.D{{Key: "_id", Value: ns.String()}}}, {Key: "limit", Value: 1}})
	if err != nil {
		return shardKey{}, err
	}
	var key shardKey
	if len(found) > 0 && !lookupBool(found[0], "dropped") {
		elements, _ := lookupDoc(found[0], "key").Elements()
		for _, e := range elements {
			key.fields = append(key.fields, e.Key())
		}
		coll, err := c.lookUp(ctx, ns)
		if err != nil {
			return shardKey{}, err
		}
		key.collated = isCollated(coll.Options) && caps.wire < 25
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys[ns] = key
	return key, nil
}

var _ clustersync.Sharder = (*Cluster)(nil)

// codeAlreadySharded: the collection has a shard key.
const codeAlreadySharded = 23

// Shard implements [clustersync.Sharder] (spec §7.2): the key has the simple collation, as all shard keys have.
func (c *Cluster) Shard(ctx context.Context, ns clustersync.Namespace, key bson.Raw, unique bool) error {
	have, err := c.shardKey(ctx, ns)
	if err != nil || len(have.fields) > 0 {
		return err
	}
	caps, err := c.capabilities(ctx)
	if err != nil || !caps.sharded {
		return err
	}
	_, err = c.run(ctx, "shard "+ns.String(), "admin", bson.D{{Key: "shardCollection", Value: ns.String()}, {Key: "key", Value: key}, {Key: "unique", Value: unique},
		{Key: "collation", Value: bson.D{{Key: "locale", Value: "simple"}}}, {Key: "writeConcern", Value: majority}})
	c.forgetShardKey(ns)
	if hasCode(err, codeAlreadySharded) {
		return nil
	}
	return err
}

// forgetShardKey follows a collection that is made, dropped or renamed here.
func (c *Cluster) forgetShardKey(names ...clustersync.Namespace) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ns := range names {
		delete(c.keys, ns)
	}
}
