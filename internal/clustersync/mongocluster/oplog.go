package mongocluster

import (
	"context"

	"github.com/tidegate/tidegate/internal/clustersync"
)

func (c *Cluster) oplogMark(ctx context.Context) (clustersync.Position, error) {
	return clustersync.Position{}, unsupportedErr("mark the time", "not yet")
}

func (c *Cluster) tail(ctx context.Context, from clustersync.Position) (clustersync.Stream, error) {
	return nil, unsupportedErr("read changes", "not yet")
}
