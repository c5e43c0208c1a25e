package database

import (
	"bytes"
	"context"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/script"
	"github.com/tidegate/tidegate/internal/store"
)

// WithoutVectors makes a document what it was before there were version vectors: as an older version of tidegate
// wrote it.
func (h *Handle) WithoutVectors(ctx context.Context, id string) error {
	return h.db.st.Update(ctx, func(tx store.Tx) error {
		rec, err := readRecord(tx, h.coll, id)
		if err != nil {
			return err
		}
		rec.vector.Current.Time = 0
		physical, err := h.coll.physical(tx)
		if err != nil {
			return err
		}
		if err := tx.Put(h.coll.docKey(physical, id), rec.appendBinary(nil)); err != nil {
			return err
		}
		rows := map[string][]byte{}
		err = eachBody(tx, h.coll, id, func(rev string, y *body) error {
			y.version.Time = 0
			rows[rev] = bytes.Clone(y.appendBinary(nil))
			return nil
		})
		for rev, value := range rows {
			if err := tx.Put(h.coll.bodyPrefix(id).Name(rev), value); err != nil {
				return err
			}
		}
		return err
	})
}

// Tidy removes what resyncs left.
func (db *Database) Tidy(ctx context.Context) error { return db.tidy(ctx) }

// Compiling makes the database compile sync functions by fn.
func Compiling(db *Database, fn func(source, defaultChannel string, o script.Options) (script.SyncFunction, error)) {
	db.functions.compile = fn
}

// AtBatch calls fn after each batch that a resync stores, with the number of batches of that run so far.
func AtBatch(db *Database, fn func(batch int)) { db.resync.atBatch = fn }

// Margin sets how far above the last sequence an online resync begins.
func Margin(db *Database, n tidegate.Seq) { db.resync.margin = n }

// BatchDocs sets how many documents a resync stores in one transaction.
func BatchDocs(db *Database, n int) { db.resync.batchDocs = n }
