package database

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidegate/tidegate/internal/store"
)

// Several nodes may have the database open on one store. What is done in the background for all of them is right also when two do it at
// once, since every step is a transaction that looks again; it is done by one at a time, under leases, to spare the store.

// Nodes are the processes that have the database open on one store.
type Nodes interface {
	Self() string         // the id of this one
	Alone() bool          // no other can come
	Alive(id string) bool // as far as this one knows
	// TryLease takes a lease if it is free now; nil if another has it.
	TryLease(ctx context.Context, name string) (store.Lease, error)
}

// upkeepTry bounds how long it may take to ask for a lease.
const upkeepTry = 10 * time.Second

// turn is the right to do a database's upkeep for all nodes, while it is held. It is for one goroutine.
type turn struct {
	db    *Database
	lease store.Lease // nil: not held
}

// take takes the turn, if no other node has it, and returns a context that ends when it is lost.
func (t *turn) take(ctx context.Context) (held context.Context, done func(), ok bool, err error) {
	if t.lease != nil && t.lease.Context().Err() != nil {
		t.release()
	}
	if t.lease == nil {
		try, cancel := context.WithTimeout(ctx, upkeepTry)
		defer cancel()
		lease, err := t.db.opts.Nodes.TryLease(try, fmt.Sprintf("upkeep.%d", t.db.space))
		if err != nil || lease == nil {
			return nil, nil, false, err
		}
		t.lease = lease
	}
	held, done = under(ctx, t.lease)
	return held, done, true, nil
}

// under returns a context that ends with the lease, and what frees it.
func under(ctx context.Context, lease store.Lease) (held context.Context, done func()) {
	held, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(lease.Context(), func() { cancel(context.Cause(lease.Context())) })
	return held, func() {
		stop()
		cancel(nil)
	}
}

// release lets others have the turn.
func (t *turn) release() {
	if t.lease != nil {
		t.lease.Release()
		t.lease = nil
	}
}

// sweep is Sweep, if something is due and it is this node's turn. mine is false if another node sweeps.
func (t *turn) sweep(ctx context.Context) (mine bool, err error) {
	if t.db.opts.Nodes == nil {
		return true, t.db.Sweep(ctx)
	}
	due, err := t.db.dueRows(ctx, nil)
	if err != nil || len(due) == 0 {
		return true, err // a lease that nobody needs is not asked for: an idle database costs one look a minute
	}
	held, done, ok, err := t.take(ctx)
	if err != nil || !ok {
		return false, err
	}
	defer done()
	err = t.db.Sweep(held)
	if err != nil && errors.Is(context.Cause(held), store.ErrLeaseLost) {
		return false, nil // whoever has it now goes on
	}
	return true, err
}
