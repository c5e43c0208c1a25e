package database

import (
	"context"
	"fmt"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/blob"
)

// compactPage is how many rows one snapshot looks at.
const compactPage = 1000

// runCompaction makes ledger records of old tombstones every CompactInterval, until ctx ends.
func (db *Database) runCompaction(ctx context.Context) error {
	if db.opts.CompactInterval < 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	ticker := time.NewTicker(db.opts.CompactInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		if db.opts.ReadOnly || db.compactedLately(ctx) {
			continue
		}
		if _, err := db.StartCompact(CompactTombstones, CompactOptions{}); err != nil && tidegate.ErrorCode(err) != tidegate.Unavailable {
			db.log.WarnContext(ctx, "old tombstones are not compacted now", "error", err) // a store that is away ends no database
		}
	}
}

// compactTombstones makes ledger records of documents that have been tombstones for longer than TombstoneAge: their history and
// bodies go, that they were deleted is remembered.
func (db *Database) compactTombstones(ctx context.Context, t *task) error {
	limit := db.opts.Now().Add(-db.opts.TombstoneAge)
	old := func(h *recordHead) bool {
		return h.flags&(recDeleted|recCompact) == recDeleted && !h.saved.After(limit)
	}
	for _, c := range db.collections {
		after, more := "", true
		for more {
			var ids []string
			var err error
			if ids, after, more, err = c.pickDocs(ctx, db.st, after, old); err != nil {
				return err
			}
			if err := db.rememberAll(ctx, c, ids, old, func(n int64) {
				t.purged.Add(n)
				db.stats.TombstonesCompacted.Add(n)
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

// rememberAll makes ledger records of deleted documents, in small transactions. done is told how many each made.
func (db *Database) rememberAll(ctx context.Context, c *collection, ids []string, only func(*recordHead) bool, done func(n int64)) error {
	for len(ids) > 0 {
		batch := ids[:min(purgeBatch, len(ids))]
		var n int64
		var files []blob.Key
		err := db.st.Update(ctx, func(tx store.Tx) (err error) {
			n, files, err = db.remember(tx, c, batch, only)
			return err
		})
		if err == nil {
			err = db.sweepFiles(ctx, files)
		}
		if err != nil {
			return err
		}
		done(n)
		ids = ids[len(batch):]
	}
	return nil
}

// pickDocs reads one page of documents and returns those of which pick says yes, and where it stopped.
func (c *collection) pickDocs(ctx context.Context, st store.Store, after string, pick func(*recordHead) bool) (ids []string, last string, more bool, err error) {
	err = st.View(ctx, func(r store.Reader) error {
		physical, err := c.physical(r)
		if err != nil {
			return err
		}
		prefix := c.docPrefix(physical)
		rng := store.Prefix(prefix)
		if after != "" {
			rng.Start = store.PrefixEnd(prefix.Clone().Name(after))
		}
		it := r.Scan(rng)
		defer it.Close()
		for n := 0; n < compactPage; n++ {
			if !it.Next() {
				return it.Err()
			}
			id, _, err := store.CutName(it.Key()[len(prefix):])
			if err != nil {
				return err
			}
			head, err := parseHead(it.Value())
			if err != nil {
				return fmt.Errorf("read document %q: %w", id, err)
			}
			last = id
			if pick(&head) {
				ids = append(ids, id)
			}
		}
		more = true
		return nil
	})
	return ids, last, more, err
}

// compactAttachments removes attachment content that no stored revision has: first references that do not
// hold (mark), then content without references (sweep).
func (db *Database) compactAttachments(ctx context.Context, t *task) error {
	t.setPhase("mark")
	if err := db.markAttachments(ctx, t); err != nil {
		return err
	}
	t.setPhase("sweep")
	for key, err := range db.blobs.All(ctx, db.space) {
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		if err := db.sweepBlob(ctx, t, key); err != nil {
			return err
		}
	}
	t.setPhase("cleanup")
	return db.sweepInline(ctx, t)
}

// blobRow is a reference row taken apart.
type blobRow struct {
	row  store.Key
	key  blob.Key
	coll store.Collection
	id   string
}

func parseBlobRow(row []byte) (blobRow, error) {
	b := blobRow{row: append(store.Key(nil), row...)}
	rest := b.row[store.Header:]
	if len(rest) < len(b.key) {
		return b, errBlobRow
	}
	copy(b.key[:], rest)
	var err error
	if b.coll, rest, err = store.CutCollection(rest[len(b.key):]); err != nil {
		return b, errBlobRow
	}
	if b.id, rest, err = store.CutName(rest); err != nil || len(rest) > 0 {
		return b, errBlobRow
	}
	return b, nil
}

var errBlobRow = tidegate.Errorf(tidegate.Corrupt, "a stored reference to an attachment does not make sense")

// markAttachments looks whether references hold and removes those that do not.
func (db *Database) markAttachments(ctx context.Context, t *task) error {
	rng := store.Prefix(store.NewKey(db.space, store.KindBlobRef))
	for {
		var page, stale []blobRow
		err := db.st.View(ctx, func(r store.Reader) error {
			it := r.Scan(rng)
			defer it.Close()
			for len(page) < compactPage && it.Next() {
				row, err := parseBlobRow(it.Key())
				if err != nil {
					return err
				}
				page = append(page, row)
				used, err := db.hasContent(r, row)
				if err != nil {
					return err
				}
				if !used {
					stale = append(stale, row)
				}
			}
			return it.Err()
		})
		if err != nil {
			return err
		}
		t.marked.Add(int64(len(page) - len(stale)))
		if err := db.dropStaleRefs(ctx, t, stale); err != nil {
			return err
		}
		if len(page) < compactPage {
			return nil
		}
		rng.Start = append(page[len(page)-1].row.Clone(), 0)
	}
}

// hasContent reports whether a stored revision of the document has the content.
func (db *Database) hasContent(r store.Reader, row blobRow) (used bool, err error) {
	err = eachBody(r, db.anyCollection(row.coll), row.id, func(_ string, y *body) error {
		for _, a := range y.attachments {
			used = used || a.Key == row.key
		}
		return nil
	})
	return used, err
}

// dropStaleRefs removes references after another look inside a transaction.
func (db *Database) dropStaleRefs(ctx context.Context, t *task, stale []blobRow) error {
	if len(stale) == 0 || t.dryRun {
		return nil
	}
	return db.st.Update(ctx, func(tx store.Tx) error {
		for _, row := range stale {
			if used, err := db.hasContent(tx, row); err != nil {
				return err
			} else if used {
				continue
			}
			if err := tx.Delete(row.row); err != nil {
				return err
			}
		}
		return nil
	})
}

// sweepBlob removes a blob that nothing refers to.
func (db *Database) sweepBlob(ctx context.Context, t *task, key blob.Key) error {
	if t.dryRun {
		var used bool
		err := db.st.View(ctx, func(r store.Reader) (err error) {
			used, err = db.referred(r, key)
			return err
		})
		if err == nil && !used {
			t.purged.Add(1)
		}
		return err
	}
	removed, err := db.removeBlob(ctx, key)
	if removed {
		t.purged.Add(1)
		db.stats.AttachmentsCompacted.Add(1)
	}
	return err
}

// sweepInline removes content in the store that nothing refers to.
func (db *Database) sweepInline(ctx context.Context, t *task) error {
	prefix := store.NewKey(db.space, store.KindBlob)
	rng := store.Prefix(prefix)
	for {
		var last store.Key
		var orphans []blob.Key
		n := 0
		err := db.st.View(ctx, func(r store.Reader) error {
			it := r.Scan(rng)
			defer it.Close()
			for ; n < compactPage && it.Next(); n++ {
				last = append(last[:0], it.Key()...)
				var key blob.Key
				if copy(key[:], last[len(prefix):]) != len(key) {
					return errBlobRow
				}
				if used, err := db.referred(r, key); err != nil {
					return err
				} else if !used {
					orphans = append(orphans, key)
				}
			}
			return it.Err()
		})
		if err != nil {
			return err
		}
		if err := db.dropInline(ctx, t, orphans); err != nil {
			return err
		}
		if n < compactPage {
			return nil
		}
		rng.Start = append(last, 0)
	}
}

func (db *Database) dropInline(ctx context.Context, t *task, orphans []blob.Key) error {
	if len(orphans) == 0 {
		return nil
	}
	n := int64(len(orphans))
	if !t.dryRun {
		err := db.st.Update(ctx, func(tx store.Tx) error {
			n = 0
			for _, key := range orphans {
				if used, err := db.referred(tx, key); err != nil || used {
					if err != nil {
						return err
					}
					continue
				}
				if err := tx.Delete(db.blobKey(key)); err != nil {
					return err
				}
				n++
			}
			return nil
		})
		if err != nil {
			return err
		}
		db.stats.AttachmentsCompacted.Add(n)
	}
	t.purged.Add(n)
	return nil
}
