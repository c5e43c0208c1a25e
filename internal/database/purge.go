package database

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/changes"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/blob"
)

// purgeBatch is how many documents are purged in one transaction.
const purgeBatch = 32

// Purge removes documents for good, with all their revisions, attachments and grants; the feed does not tell.
// It returns the IDs of those that existed, in order. For administrators: Forbidden to all others, and if the database is read-only.
func (h *Handle) Purge(ctx context.Context, ids []string) ([]string, error) {
	if !h.IsAdmin() {
		return nil, tidegate.ErrForbidden
	}
	if h.db.opts.ReadOnly {
		return nil, errReadOnly
	}
	var purged []string
	for len(ids) > 0 {
		n := min(purgeBatch, len(ids))
		done, err := h.purge(ctx, ids[:n], true, nil)
		purged = append(purged, done...)
		if err != nil {
			return purged, err
		}
		ids = ids[n:]
	}
	return purged, nil
}

// purge purges a few documents in one transaction: those for which only, if not nil, says so. guard: what their revisions
// were is remembered (see guard.go).
func (h *Handle) purge(ctx context.Context, ids []string, guard bool, only func(*recordHead) bool) (purged []string, err error) {
	var changed []string
	var files []blob.Key
	err = h.update(ctx, func() [][]byte { return nil }, func(tx store.Tx) error {
		purged, changed, files = purged[:0], changed[:0], files[:0]
		for _, id := range ids {
			stored, err := h.coll.stored(tx, id)
			if err != nil {
				return err
			}
			if stored == nil {
				continue
			}
			if head, err := parseHead(stored); err != nil || (only != nil && !only(&head)) {
				if err != nil {
					return err
				}
				continue
			}
			if guard {
				if err := h.putGuard(tx, id, stored); err != nil {
					return fmt.Errorf("purge %q: %w", id, err)
				}
			}
			names, keys, err := h.purgeOne(tx, id, stored)
			if err != nil {
				return fmt.Errorf("purge %q: %w", id, err)
			}
			purged, changed, files = append(purged, id), append(changed, names...), append(files, keys...)
		}
		return h.tellPurged(tx, purged)
	})
	if err != nil {
		return nil, err
	}
	if h.db.hub != nil { // else nobody reads
		if len(changed) > 0 {
			h.db.access.Invalidate(changed)
		}
		// Feeds must not show what is gone when the purge is answered. If the store is away now the hub comes to it by itself.
		if err := h.db.hub.CatchUp(ctx); err != nil {
			h.db.log.DebugContext(ctx, "feeds will hear of a purge later", "error", err)
		}
	}
	return purged, h.db.sweepFiles(ctx, files)
}

// tellPurged leaves the event by which the feeds of all nodes forget purged documents, at a sequence of its own.
func (h *Handle) tellPurged(tx store.Tx, purged []string) error {
	if len(purged) == 0 {
		return nil
	}
	seq, err := tx.NextSequence(h.db.space)
	if err != nil {
		return err
	}
	names := make([]string, len(purged))
	for i, id := range purged {
		names[i] = changes.Purged(h.coll.id, id)
	}
	return access.WriteEvents(tx, h.db.space, names, seq)
}

// purgeOne removes every row of a document. It returns the principals whose grants changed, and content in
// the blob store that lost its last reference.
func (h *Handle) purgeOne(tx store.Tx, id string, stored []byte) (changed []string, files []blob.Key, err error) {
	rec, err := parseRecord(stored)
	if err != nil {
		return nil, nil, err
	}
	c := h.coll
	routing, err := c.routes.Read(tx)
	if err != nil {
		return nil, nil, err
	}
	if err := c.purgeNext(tx, routing, id); err != nil {
		return nil, nil, err
	}
	physical := routing.Live(c.id)
	if err := changes.WriteIndex(tx, h.db.space, physical, id, rec.docState(), nil); err != nil {
		return nil, nil, err
	}
	if grants := grantsOf(rec); grants != nil {
		seq, err := tx.NextSequence(h.db.space)
		if err != nil {
			return nil, nil, err
		}
		if changed, err = access.WriteGrants(tx, h.db.space, physical, id, grants, nil, seq); err != nil {
			return nil, nil, err
		}
	}
	if !rec.expiry.IsZero() {
		if err := tx.Delete(c.expiryKey(rec.expiry, expireDoc, id, tidegate.RevID{})); err != nil {
			return nil, nil, err
		}
	}
	if err := tx.Delete(c.docKey(physical, id)); err != nil {
		return nil, nil, err
	}
	if isCompact(stored) {
		if err := countLedger(tx, c.space, -1, time.Time{}); err != nil {
			return nil, nil, err
		}
	}
	files, err = h.db.dropBodies(tx, c, id, func(string, *body) (bool, error) { return true, nil })
	return changed, files, err
}

// removeBlob removes content from the blob store unless a document refers to it or it is pinned. Where nodes share the blobs one transaction
// does both. Elsewhere this process is alone, and the lock makes sure that whoever commits a reference after the look still holds his pin
// (see unpin).
func (db *Database) removeBlob(ctx context.Context, key blob.Key) (removed bool, err error) {
	if shared, ok := db.blobs.(blob.Shared); ok {
		removed, err = shared.RemoveUnless(ctx, db.space, key, func(r store.Reader) (bool, error) { return db.referred(r, key) })
		if errors.Is(err, blob.ErrPinned) {
			return false, nil
		}
		return removed, err
	}
	db.blobGC.Lock()
	defer db.blobGC.Unlock()
	var used bool
	err = db.st.View(ctx, func(r store.Reader) (err error) {
		used, err = db.referred(r, key)
		return err
	})
	if err != nil || used {
		return false, err
	}
	err = db.blobs.Remove(ctx, db.space, key)
	if errors.Is(err, blob.ErrPinned) {
		return false, nil
	}
	return err == nil, err
}
