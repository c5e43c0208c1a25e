package database

import (
	"bytes"
	"context"

	"github.com/tidegate/tidegate/internal/store"
)

// rowBatch is how many rows one transaction of eachRow looks at.
const rowBatch = 200

// eachRow calls fn for every row under a prefix, in transactions of a few rows each. fn may change and delete rows; what it is given is
// as the transaction has it.
func (db *Database) eachRow(ctx context.Context, prefix store.Key, fn func(tx store.Tx, key, value []byte) error) error {
	rng := store.Prefix(prefix)
	for more := true; more; {
		var keys []store.Key
		err := db.st.View(ctx, func(r store.Reader) error {
			it := r.Scan(rng)
			defer it.Close()
			for len(keys) < rowBatch && it.Next() {
				keys = append(keys, bytes.Clone(it.Key()))
			}
			return it.Err()
		})
		if err != nil || len(keys) == 0 {
			return err
		}
		if more = len(keys) == rowBatch; more {
			rng.Start = append(keys[len(keys)-1].Clone(), 0)
		}
		err = db.st.Update(ctx, func(tx store.Tx) error {
			for _, key := range keys {
				value, err := tx.Get(key)
				if err != nil {
					return err
				}
				if value == nil {
					continue
				}
				if err := fn(tx, key, bytes.Clone(value)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
