package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/store"
)

// abandon gives the data of a definition up for destruction and, in the same transaction, stores what follows
// it: replacement, or nothing if that is nil. The destruction survives restarts. From then on a node that has not heard of it cannot write
// to them any more. errOutdated: d is not the version that is stored.
func (g *Gateway) abandon(ctx context.Context, d, replacement *definition) error {
	var value []byte
	if replacement != nil {
		var err error
		if value, err = g.encode(replacement); err != nil {
			return err
		}
	}
	err := g.opts.Store.Update(ctx, func(tx store.Tx) error {
		if err := g.unchanged(tx, d); err != nil {
			return err
		}
		err := errors.Join(tx.Put(purgeKey(d.Space), []byte(d.Name)), store.GiveUp(tx, d.Space), g.nodes.Note(tx, topicDefinitions))
		if err != nil {
			return err
		}
		if value != nil {
			return tx.Put(definitionKey(d.Name, d.StorageID), value)
		}
		return tx.Delete(definitionKey(d.Name, d.StorageID))
	})
	if err != nil {
		return fmt.Errorf("give up data of %s: %w", d.Name, err)
	}
	g.startPurge(d.Space) // if it does not start now it does at the next start
	return nil
}

// startPurge destroys a space in the background, unless that is under way.
func (g *Gateway) startPurge(space store.Space) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || g.purging[space] {
		return
	}
	g.purging[space] = true
	g.background.Go(func() {
		defer func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			delete(g.purging, space)
		}()
		g.purge(space)
	})
}

// purgeBatch is how many keys one transaction of a purge deletes where the engine has no range delete.
const purgeBatch = 1000

// purgeRetry is the pause after a failed attempt.
const purgeRetry = 10 * time.Second

// purge destroys a space. It goes on until it is done or the gateway closes; then the next start goes on, or another node.
func (g *Gateway) purge(space store.Space) {
	for g.ctx.Err() == nil {
		err := g.nodes.Lead(g.ctx, fmt.Sprintf("purge.%d", space), func(ctx context.Context, _ uint64) error {
			return g.purgeOnce(ctx, space)
		})
		if err == nil || g.ctx.Err() != nil {
			return
		}
		g.log.Error("deleting old data failed; it will be tried again", "space", uint32(space), "error", err)
		select {
		case <-g.ctx.Done():
		case <-time.After(purgeRetry):
		}
	}
}

// purgeOnce destroys a space, unless another node has.
func (g *Gateway) purgeOnce(ctx context.Context, space store.Space) error {
	var due []byte
	err := g.opts.Store.View(ctx, func(r store.Reader) (err error) {
		due, err = r.Get(purgeKey(space))
		return err
	})
	if err != nil || due == nil {
		return err
	}
	if err := g.opts.Blobs.RemoveSpace(ctx, space); err != nil {
		return err
	}
	for more := true; more; {
		err := g.opts.Store.Update(ctx, func(tx store.Tx) (err error) {
			more, err = deleteSpace(tx, space)
			if err != nil || more {
				return err
			}
			if !g.nodes.Alone() { // a node that was held up must still find that it is gone: numbers are not used again
				if err := store.GiveUp(tx, space); err != nil {
					return err
				}
			}
			return errors.Join(g.nodes.Forget(tx, replicationTopic(space)), g.nodes.Forget(tx, deviceSyncTopic(space)),
				g.nodes.Forget(tx, resyncTopic(space)), tx.Delete(purgeKey(space)))
		})
		if err != nil {
			return err
		}
	}
	g.log.Info("old data deleted", "space", uint32(space))
	return nil
}

// deleteSpace deletes the keys of a space, or as many as fit one transaction; then more is true.
func deleteSpace(tx store.Tx, space store.Space) (more bool, err error) {
	rng := store.Prefix(store.SpaceKey(space))
	if d, ok := tx.(store.RangeDeleter); ok {
		return false, d.DeleteRange(rng)
	}
	var keys [][]byte
	it := tx.Scan(rng)
	for len(keys) < purgeBatch && it.Next() {
		keys = append(keys, append([]byte(nil), it.Key()...))
	}
	if err := errors.Join(it.Err(), it.Close()); err != nil {
		return false, err
	}
	for _, key := range keys {
		if err := tx.Delete(key); err != nil {
			return false, err
		}
	}
	return len(keys) == purgeBatch, nil
}

// joinClose closes a database that is not needed after all.
func joinClose(err error, db *database.Database) error { return errors.Join(err, db.Close()) }
