package appservices

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// Changes of apps, drafts and deployments are made one after another, on all nodes of a store: whoever makes one holds a lease. What it stores
// is fenced by the lease's epoch, since a node that is held up may lose the lease without knowing.

// changingLease is held by who makes a change.
const changingLease = "appservices"

// rowFence holds the epoch of the lease under which changes were made last.
const rowFence = "appservices.fence"

// rowPending is there while a deployment is being made.
const rowPending = "appservices.pending"

// errChanging says that the lease was lost before the change was stored.
var errChanging = tidegate.Errorf(tidegate.Unavailable, "the change was not made: another node has changed apps meanwhile; try again")

// fenceKey is where a context carries the epoch of a change.
type fenceKey struct{}

// change takes the right to make a change, and waits for it. Within the context that it returns changes can be stored until release. The
// deployments of a node that died in the middle of a change are settled first.
func (s *Server) change(ctx context.Context) (within context.Context, release func(), err error) {
	s.changing.Lock()
	nodes := s.opts.Gateway.Cluster()
	if nodes.Alone() {
		return ctx, s.changing.Unlock, nil
	}
	lease, err := nodes.Lease(ctx, changingLease)
	if err != nil {
		s.changing.Unlock()
		return nil, nil, fmt.Errorf("take the right to change apps: %w", err)
	}
	within, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(lease.Context(), func() { cancel(context.Cause(lease.Context())) })
	release = func() {
		unhook()
		cancel(nil)
		lease.Release()
		s.changing.Unlock()
	}
	within = context.WithValue(within, fenceKey{}, lease.Epoch())
	var pending bool
	err = s.opts.Store.Update(within, func(tx store.Tx) error {
		value, err := tx.Get(rowKey(rowPending))
		if pending = value != nil; err != nil {
			return err
		}
		last, err := tx.Get(rowKey(rowFence))
		if err == nil && len(last) == 8 && binary.BigEndian.Uint64(last) > lease.Epoch() {
			err = errChanging // this node was held up past its lease
		}
		if err != nil {
			return err
		}
		return tx.Put(rowKey(rowFence), binary.BigEndian.AppendUint64(nil, lease.Epoch()))
	})
	if err == nil && pending {
		err = s.finishDeployments(within)
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	return within, release, nil
}

// fenced is errChanging if the change that a context is of has lost its right. What is no change, as a login, is never fenced.
func fenced(ctx context.Context, r store.Reader) error {
	epoch, ok := ctx.Value(fenceKey{}).(uint64)
	if !ok {
		return nil
	}
	stored, err := r.Get(rowKey(rowFence))
	if err == nil && (len(stored) != 8 || binary.BigEndian.Uint64(stored) != epoch) {
		err = errChanging
	}
	return err
}
