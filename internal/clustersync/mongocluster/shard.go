package mongocluster

import (
	"context"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// Shard implements [clustersync.Sharder]: a cluster without shards has nothing to do. The key goes by a collation that compares bytes
// (spec §7.2).
func (c *Cluster) Shard(ctx context.Context, ns clustersync.Namespace, key bson.Raw, unique bool) error {
	caps, err := c.capabilities(ctx)
	if err != nil || !caps.sharded {
		return err
	}
	_, err = c.run(ctx, "shard "+ns.String(), "admin", bson.D{
		{Key: "shardCollection", Value: ns.String()}, {Key: "key", Value: key}, {Key: "unique", Value: unique},
		{Key: "collation", Value: bson.D{{Key: "locale", Value: "simple"}}}, {Key: "writeConcern", Value: majority}})
	c.forgetShardKey(ns)
	return err
}

// FixedCapped implements [clustersync.FixedCapped].
func (c *Cluster) FixedCapped(ctx context.Context) (bool, error) {
	caps, err := c.capabilities(ctx)
	if err != nil {
		return false, err
	}
	return !caps.collMod, nil
}
