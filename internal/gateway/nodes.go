package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidegate/tidegate/internal/cluster"
)

// Cluster is what this node knows of the others.
func (g *Gateway) Cluster() *cluster.Cluster { return g.nodes }

// runCluster keeps this node in the cluster until the gateway closes. A node whose id another process has taken ends: what the two
// say would be taken for each other's.
func (g *Gateway) runCluster() {
	if err := g.nodes.Run(g.ctx); errors.Is(err, cluster.ErrReplaced) {
		g.end(err)
	}
}

// leaveTimeout bounds the goodbye of a node; one that was not said is noticed later.
const leaveTimeout = 5 * time.Second

// leave tells the other nodes that this one is gone.
func (g *Gateway) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if err := g.nodes.Leave(ctx); err != nil {
		return fmt.Errorf("leave the cluster: %w", err)
	}
	return nil
}
