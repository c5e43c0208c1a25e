package mongocluster

import (
	"context"
	"errors"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

var _ clustersync.FixedCapped = (*Cluster)(nil)

// FixedCapped implements [clustersync.FixedCapped]: it changes the size of a capped collection of its own, and looks whether it has changed. In
// doubt the sizes are fixed: then collections are made with the size they are to have, which is right anywhere (spec §10).
func (c *Cluster) FixedCapped(ctx context.Context) (bool, error) {
	caps, err := c.capabilities(ctx)
	if err != nil || !caps.collMod {
		return err == nil, err
	}
	c.mu.Lock()
	known := c.fixedCapped
	c.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	fixed, err := c.tryCapped(ctx)
	if err != nil {
		return false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fixedCapped = &fixed
	return fixed, nil
}

func (c *Cluster) tryCapped(ctx context.Context) (fixed bool, err error) {
	probe := clustersync.Collection{Type: clustersync.Plain, Options: marshal(bson.D{{Key: "capped", Value: true}, {Key: "size", Value: int64(4096)}})}
	probe.Database, probe.Collection = scratch, "capped"
	if err := c.Create(ctx, probe); err != nil && !errors.Is(err, clustersync.ErrExists) {
		return true, passingOnly(err)
	}
	err = c.Modify(ctx, probe.Namespace, marshal(bson.D{{Key: "cappedSize", Value: int64(8192)}}))
	return err != nil, errors.Join(passingOnly(err), c.Drop(ctx, probe.Namespace))
}
