package gateway

import (
	"context"

	"github.com/tidegate/tidegate/internal/replicate"
)

// Replicator drives one replication. *replicate.Replicator is one.
type Replicator interface {
	// Run replicates until a one-shot has caught up (nil), ctx ends (its cause; what was done is saved by then) or
	// nothing more can be done (the error). It may be called again.
	Run(ctx context.Context) error
	// Status is what it is doing, or did last.
	Status() replicate.Status
	// Reset deletes the local checkpoints. Not while Run is running.
	Reset(ctx context.Context) error
}

// NewReplicatorFunc makes a Replicator. Invalid: the options make no sense.
type NewReplicatorFunc func(replicate.ActiveOptions) (Replicator, error)
