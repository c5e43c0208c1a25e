package database

import (
	"fmt"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// A guard is what is remembered of a purged document: its revisions, as the ledger keeps those of a deleted one, under a key of its
// own. For all readers and writers the document is one that never was; only the push guard of a client that is being reset asks for
// it (device-sync.md §12.3), so that a copy which a device still has does not bring the document back.

func (c *collection) guardKey(id string) store.Key {
	return store.NewKey(c.space, store.KindGuard).Collection(c.id).Name(id)
}

// putGuard remembers a document that is about to be purged.
func (h *Handle) putGuard(tx store.Tx, id string, stored []byte) error {
	rec, err := parseRecord(stored)
	if err != nil {
		return err
	}
	tree, err := rememberedTree(rec.tree)
	if err != nil {
		return err
	}
	for i := range tree.Len() {
		tree.At(i).Channels = nil
		if tree.IsLeaf(i) {
			tree.At(i).Flags |= tidegate.RevDeleted
		}
	}
	guard := &record{seq: rec.seq, saved: h.db.opts.Now(), tree: tree, vector: rec.vector}
	return tx.Put(h.coll.guardKey(id), guard.appendBinary(nil))
}

// readGuard returns what is remembered of a purged document; nil if nothing is.
func (c *collection) readGuard(r store.Reader, id string) (*record, error) {
	stored, err := r.Get(c.guardKey(id))
	if err != nil || stored == nil {
		return nil, err
	}
	rec, err := parseRecord(stored)
	if err != nil {
		return nil, fmt.Errorf("read what is remembered of %q: %w", id, err)
	}
	return rec, nil
}
