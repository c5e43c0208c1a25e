package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/store"
)

// MarkRestored begins a new epoch in every database of a store that a backup was put into, before the first client may connect: all
// positions that clients hold are then stale, so that everyone resets and offers what it has (device-sync.md §12.9). The cluster gets
// another id, as clients that keep their positions by themselves look at it. asNew also gives the databases new ids, so that they can
// be served beside those that the backup is of. It returns how many databases there are. No gateway may run on the store. Called again
// it begins other epochs, which does no harm.
func MarkRestored(ctx context.Context, st store.Store, asNew bool) (n int, err error) {
	found, err := readStored(ctx, st, nil)
	if err != nil {
		return 0, fmt.Errorf("read definitions: %w", err)
	}
	for _, d := range found.definitions {
		if err := markRestored(ctx, st, d, asNew); err != nil {
			return n, fmt.Errorf("begin a new epoch in %s: %w", d.Name, err)
		}
		n++
	}
	err = st.Update(ctx, func(tx store.Tx) error { return tx.Delete(clusterKey()) }) // the next start makes one
	return n, err
}

// markRestored is MarkRestored for one database.
func markRestored(ctx context.Context, st store.Store, d *definition, asNew bool) error {
	old, stored, err := readRow(ctx, st, d)
	if err != nil {
		return err
	}
	row := *old
	row.Record.Version++
	err = writeRow(ctx, st, d.Space, stored, &row, func(tx store.Tx, row *devicesync.Row) error {
		return beginEpoch(tx, d.Space, &row.Record, devicesync.EpochRestored, time.Now())
	})
	if err != nil || !asNew {
		return err
	}
	key := definitionKey(d.Name, d.StorageID)
	return st.Update(ctx, func(tx store.Tx) error {
		value, err := tx.Get(key)
		if err != nil {
			return err
		}
		if value, err = withNewID(value); err != nil {
			return err
		}
		return tx.Put(key, value)
	})
}

// withNewID gives the stored form of a definition another server UUID and leaves all else as it is, secrets above all.
func withNewID(value []byte) ([]byte, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(value, &members); err != nil {
		return nil, tidegate.Errorf(tidegate.Corrupt, "the stored definition of a database does not make sense: %w", err)
	}
	id, err := json.Marshal(newHex())
	if err != nil {
		return nil, err
	}
	members["server_uuid"] = id
	return json.Marshal(members)
}
