package database

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// Where several nodes have the database open, a compaction runs on one of them, under a lease, and a row of the store says what it is doing. Any
// node tells its status from there, and asks it to stop by writing so into the row.

// compactReport is how often a compaction notes how far it is, and looks whether it is to stop.
const compactReport = 2 * time.Second

// compactPatience bounds what a status, a start or a stop waits for the store.
const compactPatience = 10 * time.Second

// compactRow is what the store says of the latest compaction of a kind.
type compactRow struct {
	Node   string    `json:"node"`
	Epoch  uint64    `json:"epoch"` // of the lease: one that lost it writes no more
	ID     string    `json:"id"`
	Status string    `json:"status"`
	Start  time.Time `json:"start"`
	Error  string    `json:"error,omitempty"`
	Purged int64     `json:"purged,omitempty"`
	Marked int64     `json:"marked,omitempty"`
	Phase  string    `json:"phase,omitempty"`
	DryRun bool      `json:"dry_run,omitempty"`
	Stop   bool      `json:"stop,omitempty"` // it is asked to stop
}

func (r *compactRow) running() bool { return r.Status == "running" || r.Status == "stopping" }

func (db *Database) compactKey(kind CompactKind) store.Key {
	return store.NewKey(db.space, store.KindMeta).Name("compact").Name(string(kind))
}

// readCompact returns the row; nil if no node ever ran one.
func (db *Database) readCompact(r store.Reader, kind CompactKind) (*compactRow, error) {
	b, err := r.Get(db.compactKey(kind))
	if err != nil || b == nil {
		return nil, err
	}
	row := new(compactRow)
	if err := json.Unmarshal(b, row); err != nil {
		return nil, tidegate.Errorf(tidegate.Corrupt, "the stored state of a compaction does not make sense")
	}
	return row, nil
}

func (db *Database) writeCompact(tx store.Tx, kind CompactKind, row *compactRow) error {
	b, err := json.Marshal(row)
	if err != nil {
		return fmt.Errorf("encode state of a compaction: %w", err)
	}
	return tx.Put(db.compactKey(kind), b)
}

// claimCompact takes the lease for a compaction that is about to begin, and tells all nodes of it. Unavailable: another node has it.
func (db *Database) claimCompact(t *task) error {
	if db.opts.Nodes == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), compactPatience)
	defer cancel()
	lease, err := db.opts.Nodes.TryLease(ctx, fmt.Sprintf("compact.%d.%s", db.space, t.kind))
	if err != nil {
		return fmt.Errorf("ask whether a compaction is running: %w", err)
	}
	if lease == nil {
		return db.errCompactingOn(ctx, t.kind)
	}
	t.lease = lease
	if _, err := db.noteCompact(ctx, t); err != nil {
		lease.Release()
		return err
	}
	return nil
}

// errCompactingOn is errCompacting with the node where it is.
func (db *Database) errCompactingOn(ctx context.Context, kind CompactKind) error {
	var row *compactRow
	err := db.st.View(ctx, func(r store.Reader) (err error) {
		row, err = db.readCompact(r, kind)
		return err
	})
	if err != nil || row == nil {
		return errCompacting
	}
	return tidegate.Errorf(tidegate.Unavailable, "%s on node %s", errCompacting.Reason, row.Node)
}

// compactForAll does the work of a task under its lease.
func (db *Database) compactForAll(ctx context.Context, t *task, work func(context.Context, *task) error) {
	defer t.lease.Release()
	held, done := under(ctx, t.lease)
	defer done()
	ended := make(chan struct{})
	reported := make(chan struct{})
	go func() {
		defer close(reported)
		db.reportCompact(held, t, ended)
	}()
	err := work(held, t)
	close(ended)
	<-reported
	t.finish(ctx, err)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), compactPatience)
	defer cancel()
	if _, err := db.noteCompact(last, t); err != nil {
		db.log.WarnContext(last, "the end of a compaction is not noted", "kind", string(t.kind), "error", err)
	}
}

// reportCompact notes how far a task is, and stops it if it is asked to, until it has ended.
func (db *Database) reportCompact(ctx context.Context, t *task, ended <-chan struct{}) {
	ticker := time.NewTicker(compactReport)
	defer ticker.Stop()
	for {
		select {
		case <-ended:
			return
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		stop, err := db.noteCompact(ctx, t)
		if err != nil && ctx.Err() == nil {
			db.log.WarnContext(ctx, "the progress of a compaction is not noted", "kind", string(t.kind), "error", err)
		}
		if stop {
			t.stop()
		}
	}
}

// noteCompact writes what a task is doing, unless a later one has taken its place, and reports whether it is asked to stop.
func (db *Database) noteCompact(ctx context.Context, t *task) (stop bool, err error) {
	err = db.st.Update(ctx, func(tx store.Tx) error {
		stop = false
		old, err := db.readCompact(tx, t.kind)
		if err != nil {
			return err
		}
		if old != nil && old.Epoch > t.lease.Epoch() {
			return nil
		}
		stop = old != nil && old.ID == t.id && old.Stop
		s := t.snapshot()
		return db.writeCompact(tx, t.kind, &compactRow{
			Node: db.opts.Nodes.Self(), Epoch: t.lease.Epoch(), ID: t.id, Status: s.Status, Start: s.Start, Error: s.LastError,
			Purged: s.Purged, Marked: s.Marked, Phase: s.Phase, DryRun: s.DryRun, Stop: stop,
		})
	})
	return stop, err
}

// compactElsewhere is the status of the latest compaction of all nodes; here is that of this one, which does not run.
func (db *Database) compactElsewhere(kind CompactKind, here CompactStatus) CompactStatus {
	ctx, cancel := context.WithTimeout(context.Background(), compactPatience)
	defer cancel()
	var row *compactRow
	err := db.st.View(ctx, func(r store.Reader) (err error) {
		row, err = db.readCompact(r, kind)
		return err
	})
	if err != nil {
		db.log.WarnContext(ctx, "the state of compactions on other nodes is not known", "error", err)
	}
	if row == nil || row.ID == here.ID {
		return here
	}
	return db.shown(row)
}

// shown is a row as a status. What runs on a node that is gone does not run.
func (db *Database) shown(row *compactRow) CompactStatus {
	s := CompactStatus{
		Status: row.Status, Start: row.Start, LastError: row.Error, Purged: row.Purged,
		Marked: row.Marked, ID: row.ID, Phase: row.Phase, DryRun: row.DryRun, Node: row.Node,
	}
	self := db.opts.Nodes.Self()
	if row.running() {
		if row.Node == self || !db.opts.Nodes.Alive(row.Node) {
			s.Status, s.LastError = "stopped", "the node "+row.Node+" ended while it ran"
		} else if row.Stop {
			s.Status = "stopping"
		}
	}
	if s.Node == self {
		s.Node = ""
	}
	return s
}

// stopElsewhere asks a compaction that another node runs to stop.
func (db *Database) stopElsewhere(kind CompactKind) (CompactStatus, error) {
	if db.opts.Nodes == nil {
		return CompactStatus{}, errNotCompacting
	}
	ctx, cancel := context.WithTimeout(context.Background(), compactPatience)
	defer cancel()
	var status CompactStatus
	err := db.st.Update(ctx, func(tx store.Tx) error {
		row, err := db.readCompact(tx, kind)
		if err != nil {
			return err
		}
		if row == nil {
			return errNotCompacting
		}
		if status = db.shown(row); status.Status != "running" && status.Status != "stopping" {
			return errNotCompacting
		}
		row.Stop, status.Status = true, "stopping"
		return db.writeCompact(tx, kind, row)
	})
	if err != nil {
		return CompactStatus{}, err
	}
	return status, nil
}

// compactedLately reports whether a node began to compact tombstones so lately that this one need not now.
func (db *Database) compactedLately(ctx context.Context) bool {
	if db.opts.Nodes == nil {
		return false
	}
	var row *compactRow
	err := db.st.View(ctx, func(r store.Reader) (err error) {
		row, err = db.readCompact(r, CompactTombstones)
		return err
	})
	interval := db.opts.CompactInterval
	return err == nil && row != nil && db.opts.Now().Sub(row.Start) < interval-interval/8
}
