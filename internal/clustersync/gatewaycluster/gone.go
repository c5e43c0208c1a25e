package gatewaycluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// isFinal reports whether an error will be the same if the call is made again.
func isFinal(err error) bool { return !errors.Is(err, clustersync.ErrUnreachable) }

// same is ErrGone if the collection of that UUID is not there any more.
func (c *Cluster) same(ctx context.Context, ref clustersync.Ref) error {
	if ref.UUID == "" {
		return nil
	}
	inst, err := c.instance(ctx, ref.Database)
	switch {
	case isNotFound(err), err == nil && collectionUUID(inst.id(), ref.Collection) != ref.UUID:
		return fmt.Errorf("%s: %w", ref.Namespace, clustersync.ErrGone)
	}
	return err
}

// gone makes ErrGone of an error that says that there is no such collection.
func (c *Cluster) gone(_ context.Context, ref clustersync.Ref, err error) error {
	if isNotFound(err) {
		return fmt.Errorf("%s: %w", ref.Namespace, clustersync.ErrGone)
	}
	return err
}
