package gateway

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/store"
)

// DeviceSync is the device sync of one database: its lifecycle, and what there is of clients and sessions (device-sync.md). It
// works also while the database is offline. It is safe for concurrent use.
type DeviceSync struct {
	r    *Running
	live *devicesync.Live

	changing sync.Mutex // held while the row is changed and what follows from it is begun

	sessions sessions
}

// DeviceSync is the database's device sync.
func (r *Running) DeviceSync() *DeviceSync { return r.deviceSync }

func newDeviceSync(r *Running, d *definition) *DeviceSync {
	return &DeviceSync{r: r, live: devicesync.NewLive(devicesync.Automatic(d.Name, d.SyncEpoch, d.EpochStart))}
}

// Live is the current row, for whoever acts by it.
func (s *DeviceSync) Live() *devicesync.Live { return s.live }

// deviceSyncKey is where the row is: it goes wherever the database's space goes.
func deviceSyncKey(space store.Space) store.Key {
	return store.NewKey(space, store.KindMeta).Name(devicesync.RowName)
}

// readRow reads the row of a database as it is stored, and its bytes; that of an automatic app, and no bytes, if there is none.
func readRow(ctx context.Context, st store.Store, d *definition) (*devicesync.Row, []byte, error) {
	var value []byte
	err := st.View(ctx, func(r store.Reader) error {
		v, err := r.Get(deviceSyncKey(d.Space))
		value = bytes.Clone(v)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read device sync of %s: %w", d.Name, err)
	}
	if value == nil {
		return devicesync.Automatic(d.Name, d.SyncEpoch, d.EpochStart), nil, nil
	}
	row, err := devicesync.DecodeRow(value)
	if err != nil {
		return nil, nil, fmt.Errorf("read device sync of %s: %w", d.Name, err)
	}
	return row, value, nil
}

// errRowMoved says that the row is not stored any more as it was read.
var errRowMoved = tidegate.Errorf(tidegate.Conflict, "device sync is being changed by somebody else, try again later")

// rowTries is how often a change of the row is decided anew because somebody else was faster.
const rowTries = 5

// edit changes the row by compare-and-set: decide makes the new one from the one that is stored, or returns an error, which is
// returned as it is and changes nothing. also, if not nil, runs in the transaction and may change the row once more. The row is
// durable, and the live one, when edit returns. A decide that returns the row as it got it writes nothing.
func (s *DeviceSync) edit(ctx context.Context, decide func(devicesync.Row) (devicesync.Row, bool, error), also func(store.Tx, *devicesync.Row) error) (*devicesync.Row, error) {
	d := s.r.definition()
	for range rowTries {
		old, stored, err := readRow(ctx, s.r.g.opts.Store, d)
		if err != nil {
			return nil, err
		}
		row, changed, err := decide(*old)
		if err != nil {
			return nil, err
		}
		if !changed {
			s.live.Set(old)
			return old, nil
		}
		row.Record.Version = old.Record.Version + 1
		if err = writeRow(ctx, s.r.g.opts.Store, d.Space, stored, &row, also); err == nil {
			s.live.Set(&row)
			return &row, nil
		}
		if err != errRowMoved {
			return nil, fmt.Errorf("store device sync of %s: %w", d.Name, err)
		}
	}
	return nil, errRowMoved
}

// writeRow stores a row if the stored one is still old; errRowMoved if it is not.
func writeRow(ctx context.Context, st store.Store, space store.Space, old []byte, row *devicesync.Row, also func(store.Tx, *devicesync.Row) error) error {
	value, err := row.Encode()
	if err != nil {
		return err
	}
	fresh := *row
	return st.Update(ctx, func(tx store.Tx) error {
		now, err := tx.Get(deviceSyncKey(space))
		if err != nil {
			return err
		}
		if !bytes.Equal(now, old) {
			return errRowMoved
		}
		if also != nil { // rare: an epoch or a marker, whose number only the commit section knows
			*row = fresh
			if err := also(tx, row); err != nil {
				return err
			}
			if value, err = row.Encode(); err != nil {
				return err
			}
		}
		return tx.Put(deviceSyncKey(space), value)
	})
}

// load reads the row, once for each space that the database gets.
func (s *DeviceSync) load(ctx context.Context) error {
	row, _, err := readRow(ctx, s.r.g.opts.Store, s.r.definition())
	if err != nil {
		return err
	}
	s.live.Set(row)
	return nil
}
