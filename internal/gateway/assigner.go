package gateway

import (
	"context"

	"github.com/tidegate/tidegate/internal/replicate"
)

// Assigner says which node runs a replication (inter-gateway.md §12). All nodes of a cluster ask one of these, and all get
// the same answer. It is safe for concurrent use.
type Assigner interface {
	// Join registers this node as one that can run replications of a database. changed is called, and must not block,
	// whenever NodeOf may answer something else. first: no node was registered for the database before.
	Join(ctx context.Context, database string, changed func()) (first bool, err error)
	// Leave takes the registration back.
	Leave(database string)
	// NodeOf is the id of the node that is to run a replication; "" if there is none that can.
	NodeOf(database, replication string) string
}

// alone assigns every replication to the one node there is.
type alone struct{ node string }

func (a alone) Join(context.Context, string, func()) (first bool, err error) { return true, nil }
func (a alone) Leave(string)                                                 {}
func (a alone) NodeOf(string, string) string                                 { return a.node }

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
