package database

import (
	"context"

	"github.com/tidegate/tidegate/internal/store"
)

// Fenced returns the Keeper with a fence: each of its transactions calls holds first, and changes nothing if that returns an error, which is
// returned as it is. What one node does for all under a lease is kept by it from going on when the lease has moved on: the holder that was held
// up finds out in the transaction, whatever its clock says.
func (k *Keeper) Fenced(holds func(store.Reader) error) *Keeper {
	db := k.db
	fenced := &Database{
		opts: db.opts, space: db.space, st: fencedStore{db.st, holds}, blobs: db.blobs, access: db.access, hub: db.hub, stats: db.stats, log: db.log,
		routes: db.routes, collections: db.collections, byID: db.byID, device: db.device, clock: db.clock, blobGC: db.blobGC,
	}
	fenced.clients.init(fenced)
	return &Keeper{fenced}
}

// fencedStore asks holds in every transaction.
type fencedStore struct {
	store.Store
	holds func(store.Reader) error
}

func (s fencedStore) guard(fn func(store.Tx) error) func(store.Tx) error {
	return func(tx store.Tx) error {
		if err := s.holds(tx); err != nil {
			return err
		}
		return fn(tx)
	}
}

// Update implements store.Store.
func (s fencedStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	return s.Store.Update(ctx, s.guard(fn))
}
