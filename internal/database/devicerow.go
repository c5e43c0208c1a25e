package database

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/store"
)

// Device sync may be changed on another node at any time (device-sync.md §2.3). What this process knows of its row (devicesync.Live) is right
// sooner or later; where a client would suffer from a verdict that is out of date, the row is read with what is judged by it.

// deviceRows remembers the stored row of device sync, taken apart.
type deviceRows struct{ last atomic.Pointer[readDeviceRow] }

type readDeviceRow struct {
	raw     string
	version string // of the row, as stored beside it; "": not known
	row     *devicesync.Row
}

// DeviceSyncKey is where the row of a database's device sync is stored.
func DeviceSyncKey(space store.Space) store.Key {
	return store.NewKey(space, store.KindMeta).Name(devicesync.RowName)
}

// deviceVersionKey holds the version of the row, which is short where the row is long.
func deviceVersionKey(space store.Space) store.Key {
	return store.NewKey(space, store.KindMeta).Name("device_sync_version")
}

// PutDeviceSync stores the row of device sync, encoded.
func PutDeviceSync(tx store.Tx, space store.Space, row *devicesync.Row, value []byte) error {
	if err := tx.Put(deviceVersionKey(space), binary.AppendUvarint(nil, row.Record.Version)); err != nil {
		return err
	}
	return tx.Put(DeviceSyncKey(space), value)
}

// deviceKeys are what deviceRow will probably read.
func (db *Database) deviceKeys() [][]byte {
	if last := db.deviceRows.last.Load(); last != nil && last.version != "" {
		return [][]byte{deviceVersionKey(db.space)}
	}
	return [][]byte{deviceVersionKey(db.space), DeviceSyncKey(db.space)}
}

// deviceRow is the row of device sync as of a snapshot or transaction. The database has device sync.
func (db *Database) deviceRow(r store.Reader) (*devicesync.Row, error) {
	stored, err := r.Get(deviceVersionKey(db.space))
	if err != nil {
		return nil, err
	}
	version, last := string(stored), db.deviceRows.last.Load()
	if last != nil && version != "" && last.version == version {
		return last.row, nil
	}
	stored, err = r.Get(DeviceSyncKey(db.space))
	if err != nil || stored == nil {
		return db.device.Row(), err // nobody has changed it
	}
	if last != nil && version == "" && last.raw == string(stored) {
		return last.row, nil
	}
	row, err := devicesync.DecodeRow(stored)
	if err != nil {
		return nil, err
	}
	db.deviceRows.last.Store(&readDeviceRow{string(stored), version, row})
	return row, nil
}

// admission is what a session of device sync was let in as.
type admission struct {
	access devicesync.Access
	epoch  uint64
}

// Admitted returns the Handle of who was let in by device sync in an epoch, given by its number. What it writes is refused as soon as the
// row of device sync that is in force at the commit says so: another node may have begun another epoch, or ended sync, and this one
// not have heard of it yet.
func (h *Handle) Admitted(access devicesync.Access, epoch uint64) *Handle {
	if h.db.device == nil {
		return h
	}
	admitted := *h
	admitted.admitted = &admission{access, epoch}
	return &admitted
}

// ErrNotAdmitted is answered to a push that device sync does not take any more. It is one that passes: a client that is told that its
// revision is forbidden would give it up.
var ErrNotAdmitted = tidegate.Errorf(tidegate.Unavailable, "device sync has been changed; connect again")

// stillAdmitted is ErrNotAdmitted if the Handle was let in by device sync and would not be now.
func (h *Handle) stillAdmitted(r store.Reader) error {
	if h.admitted == nil {
		return nil
	}
	row, err := h.db.deviceRow(r)
	if err == nil && !row.Takes(h.admitted.access, h.admitted.epoch) {
		err = ErrNotAdmitted
	}
	return err
}
