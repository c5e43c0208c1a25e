package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/store"
)

// DeviceSync is the device sync of one database: its lifecycle, and what there is of clients and sessions (device-sync.md). It
// works also while the database is offline. It is safe for concurrent use.
type DeviceSync struct {
	r    *Running
	live *devicesync.Live

	sessions  sessions
	stats     DeviceSyncStats
	active    atomic.Int64 // Unix ms of the last activity of a device or peer in this process; 0: none
	refusedAt atomic.Int64 // Unix s when it was last logged that clients are refused
	counted   atomic.Pointer[clientCounts]

	mu      sync.Mutex // guards what follows
	settler *settler   // that finishes what the row says is under way; nil: none runs
	held    int        // while not 0 none is started: the data are being replaced

	following store.Space // whose row is followed; 0: none
	unfollow  context.CancelFunc
}

// DeviceSync is the database's device sync.
func (r *Running) DeviceSync() *DeviceSync { return r.deviceSync }

func newDeviceSync(r *Running, d *definition) *DeviceSync {
	return &DeviceSync{
		r: r, live: devicesync.NewLive(devicesync.Automatic(d.Name, d.SyncEpoch, d.EpochStart)),
	}
}

// Live is the current row, for whoever acts by it.
func (s *DeviceSync) Live() *devicesync.Live { return s.live }

func (s *DeviceSync) log() *slog.Logger { return s.r.g.log.With("database", s.r.name) }

// keeper works on the history of the database, which need not be open.
func (s *DeviceSync) keeper() *database.Keeper {
	if db := s.r.DB(); db != nil {
		return db.Keeper()
	}
	d := s.r.definition()
	collections := []store.Collection{0}
	for _, id := range d.Collections {
		collections = append(collections, id)
	}
	g := s.r.g
	return database.NewKeeper(g.opts.Store, g.opts.Blobs, database.KeeperOptions{
		Name: d.Name, Space: d.Space, Collections: collections, Now: g.opts.Now, Logger: s.log(),
	})
}

// Apply makes a change of the lifecycle or the configuration (device-sync.md §4.3): pause, resume, terminate, enable, or a change of
// the config alone. What it changed is durable, and the gate is closed on this node, when it returns; sessions end and history is
// destroyed afterwards. Errors are refusals with a code of the Admin API (devicesync.AppCode), and change nothing.
func (s *DeviceSync) Apply(ctx context.Context, c devicesync.Change) (devicesync.Outcome, error) {
	var out devicesync.Outcome
	row, err := s.edit(context.WithoutCancel(ctx), func(row devicesync.Row) (devicesync.Row, bool, error) {
		next, o, err := devicesync.Decide(row, c, s.r.g.opts.Now())
		if err == nil && o.To != devicesync.Terminated && o.From == devicesync.Terminated && next.Config.DatabaseName != s.r.name {
			err = tidegate.Errorf(tidegate.Invalid, "database_name: device sync of database %q cannot be configured for %q", s.r.name, next.Config.DatabaseName)
		}
		out = o
		return next, o.Changed, err
	}, nil)
	if err != nil {
		return devicesync.Outcome{}, err
	}
	out.Row = row
	if out.Changed {
		if out.From != out.To {
			s.log().Info("device sync: state changed", "from", string(out.From), "to", string(out.To), "by", c.By, "origin", c.Origin)
		} else {
			s.log().Info("device sync: configuration changed", "by", c.By, "origin", c.Origin)
		}
		s.follow()
	}
	return out, nil
}

// dropped lists the collections that a config takes away from device sync (device-sync.md §8.7). One that nobody has configured lets them
// go: an operator who does not use it never meets it.
func (s *DeviceSync) dropped(old, cfg *config.Database) []string {
	row := s.live.Row()
	if row.Record.State == devicesync.Terminated || row.Config.Automatic {
		return nil
	}
	var gone []string
	is := syncSources(cfg)
	for key := range syncSources(old) {
		if _, there := is[key]; !there {
			gone = append(gone, key)
		}
	}
	slices.Sort(gone)
	return gone
}

// codeCollectionDropped is the code of the fault that dropping a collection is.
const codeCollectionDropped = "CollectionDropped"

// collectionsChanged follows a change of the database's config: while collections that device sync serves are dropped clients are refused,
// until they are back or sync is terminated (§2.3, §8.7). The right to change the definition is held.
func (s *DeviceSync) collectionsChanged(ctx context.Context, cfg *config.Database, dropped []string) error {
	missing := slices.Clone(dropped)
	rec := s.live.Row().Record
	failed := rec.Phase == devicesync.Faulty && rec.Error != nil && rec.Error.Code == codeCollectionDropped
	if failed {
		is := syncSources(cfg)
		for _, key := range rec.Error.Collections {
			if _, back := is[key]; !back {
				missing = append(missing, key)
			}
		}
	}
	slices.Sort(missing)
	missing = slices.Compact(missing)
	switch {
	case failed && len(missing) == 0:
		return s.mend(ctx)
	case len(missing) == 0 || failed && slices.Equal(missing, rec.Error.Collections):
		return nil
	default:
		return s.Fail(ctx, codeCollectionDropped, "collections that were synced have been dropped: "+strings.Join(missing, ", "), missing...)
	}
}

// Fail puts device sync into phase error: what it depends on is lost, and clients are refused until it is terminated or that is back
// (§2.3). collections are those that are lost, if it is that.
func (s *DeviceSync) Fail(ctx context.Context, code, message string, collections ...string) error {
	_, err := s.edit(ctx, func(row devicesync.Row) (devicesync.Row, bool, error) {
		fault := &devicesync.Fault{Code: code, Message: message, At: s.r.g.opts.Now().UTC(), Collections: collections}
		return row, true, row.Record.Happen(devicesync.Fail, fault)
	}, nil)
	if err != nil {
		return err
	}
	s.log().Error("device sync has failed; clients are refused until it is terminated", "code", code, "error", message)
	s.follow()
	return nil
}

// mend ends phase error.
func (s *DeviceSync) mend(ctx context.Context) error {
	_, err := s.edit(ctx, func(row devicesync.Row) (devicesync.Row, bool, error) {
		err := row.Record.Happen(devicesync.Retry, nil)
		return row, err == nil, err
	}, nil)
	if err == nil {
		s.log().Info("device sync works again: what was lost is back")
	}
	return err
}

// ResetAll begins a new epoch without a termination: every client resets, config and state stay (§5.1). Conflict: sync is terminated, so
// that every client resets anyway.
func (s *DeviceSync) ResetAll(ctx context.Context, reason, by string) error {
	space := s.r.definition().Space
	row, err := s.edit(context.WithoutCancel(ctx), func(row devicesync.Row) (devicesync.Row, bool, error) {
		if row.Record.State == devicesync.Terminated {
			return row, false, tidegate.Errorf(tidegate.Conflict, "device sync is terminated: every client resets when it is enabled again")
		}
		return row, true, nil
	}, func(tx store.Tx, row *devicesync.Row) error {
		return beginEpoch(tx, space, &row.Record, devicesync.EpochForced, s.r.g.opts.Now())
	})
	if err != nil {
		return err
	}
	s.log().Warn("device sync: every client must reset", "epoch", row.Record.Epoch.No, "reason", reason, "by", by)
	s.endAll(errEpochChanged)
	return nil
}

// beginEpoch begins an epoch in the transaction that stores the record: both or none.
func beginEpoch(tx store.Tx, space store.Space, rec *devicesync.Record, why devicesync.EpochReason, now time.Time) error {
	last, err := tx.LastSequence(space)
	if err != nil {
		return err
	}
	base := devicesync.NextBase(last)
	rec.BeginEpoch(base, newUUID(), why, now)
	return store.AdvanceSequence(tx, space, base)
}

// take makes a row that is durable the live one, and acts on it.
func (s *DeviceSync) take(row *devicesync.Row) {
	if row.Record.Version <= s.live.Row().Record.Version {
		return
	}
	s.live.Set(row)
	s.recount()
	s.endOlder(row.Record.Epoch.No)
	s.endBelow(row.Record.HistoryFloor)
	s.follow()
}

// follow acts on a row that has just come into force: the gate ends sessions, and what takes longer begins.
func (s *DeviceSync) follow() {
	s.endRefused()
	s.settle()
	wake(s.r.g.sessionsUrgent)
}

// load reads the row of a database's data. follow, once the definition is adopted, goes on with what it says is under way.
func (s *DeviceSync) load(ctx context.Context, d *definition) error {
	row, _, err := readRow(ctx, s.r.g.opts.Store, d)
	if err == nil {
		s.live.Reset(row)
	}
	return err
}

// begin makes the automatic app that a database has before its row is read that of its definition.
func (s *DeviceSync) begin(d *definition) {
	s.live.Reset(devicesync.Automatic(d.Name, d.SyncEpoch, d.EpochStart))
}

// carryOver gives the data that take the place of a database's the row of those, in a new epoch, so that state and configuration stay and
// every client resets. One that nobody has touched begins anew.
func (s *DeviceSync) carryOver(ctx context.Context, old, d *definition) (*devicesync.Row, error) {
	row, stored, err := readRow(ctx, s.r.g.opts.Store, old)
	if err != nil || stored == nil {
		return devicesync.Automatic(d.Name, d.SyncEpoch, d.EpochStart), err
	}
	fresh := *row
	err = s.r.g.opts.Store.Update(ctx, func(tx store.Tx) error {
		last, err := tx.LastSequence(old.Space)
		if err != nil {
			return err
		}
		fresh = *row
		fresh.Record.Version++
		base := devicesync.NextBase(last)
		fresh.Record.BeginEpoch(base, d.SyncEpoch, devicesync.EpochForced, d.EpochStart)
		value, err := fresh.Encode()
		if err != nil {
			return err
		}
		if err := store.AdvanceSequence(tx, d.Space, base); err != nil {
			return err
		}
		return database.PutDeviceSync(tx, d.Space, &fresh, value)
	})
	if err != nil {
		return nil, fmt.Errorf("carry over device sync of %s: %w", d.Name, err)
	}
	return &fresh, nil
}

// deviceSyncKey is where the row is: it goes wherever the database's space goes.
func deviceSyncKey(space store.Space) store.Key { return database.DeviceSyncKey(space) }

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
	row, err := decodeRow(value, d)
	return row, value, err
}

func decodeRow(value []byte, d *definition) (*devicesync.Row, error) {
	if value == nil {
		return devicesync.Automatic(d.Name, d.SyncEpoch, d.EpochStart), nil
	}
	row, err := devicesync.DecodeRow(value)
	if err != nil {
		return nil, fmt.Errorf("read device sync of %s: %w", d.Name, err)
	}
	return row, nil
}

// errRowMoved says that the row is not stored any more as it was read.
var errRowMoved = tidegate.Errorf(tidegate.Conflict, "device sync is being changed by somebody else, try again later")

// rowTries is how often a change of the row is decided anew because somebody else was faster.
const rowTries = 10

// edit changes the row by compare-and-set: decide makes the new one from the one that is stored, or returns an error, which is
// returned as it is and changes nothing. also, if not nil, runs in the transaction and may change the row once more. The row is
// durable, and the live one, when edit returns. If decide says that nothing is changed nothing is written.
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
			s.take(old)
			return old, nil
		}
		row.Record.Version = old.Record.Version + 1
		noted := func(tx store.Tx, row *devicesync.Row) error {
			if also != nil {
				if err := also(tx, row); err != nil {
					return err
				}
			}
			return s.r.g.nodes.Note(tx, deviceSyncTopic(d.Space))
		}
		if err = writeRow(ctx, s.r.g.opts.Store, d.Space, stored, &row, noted); err == nil {
			s.take(&row)
			return &row, nil
		}
		if !errors.Is(err, errRowMoved) {
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
	before := *row
	return st.Update(ctx, func(tx store.Tx) error {
		now, err := tx.Get(deviceSyncKey(space))
		if err != nil {
			return err
		}
		if !bytes.Equal(now, old) {
			return errRowMoved
		}
		if also != nil { // an epoch or a marker, perhaps, whose number only the commit section knows
			*row = before
			if err := also(tx, row); err != nil {
				return err
			}
			if value, err = row.Encode(); err != nil {
				return err
			}
		}
		return database.PutDeviceSync(tx, space, row, value)
	})
}
