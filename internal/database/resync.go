package database

import (
	"context"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// ResyncMode says how a resync works (resync.md §3.9).
type ResyncMode string

// The modes.
const (
	ResyncOffline ResyncMode = "offline" // in place, on a database that serves nobody
	ResyncOnline  ResyncMode = "online"  // into a new generation, under load
	ResyncDryRun  ResyncMode = "dry_run" // nothing is written
)

// ResyncState is the state of a resync, as it is called on the wire (resync.md §3.3).
type ResyncState string

// The states.
const (
	ResyncRunning   ResyncState = "running"
	ResyncStopping  ResyncState = "stopping"
	ResyncStopped   ResyncState = "stopped"
	ResyncCompleted ResyncState = "completed"
	ResyncError     ResyncState = "error"
)

// ResyncOptions of Resync.
type ResyncOptions struct {
	// Online keeps readers and writers going: what is recomputed becomes visible at the end, at once.
	Online bool
	// Regenerate gives each document a new sequence (resync.md §3.6); not with Online.
	Regenerate bool
	// Reset begins a new run even if there is one to go on with.
	Reset bool
	// Collections to work on; nil: all.
	Collections []store.Collection
	// Functions are sources of sync functions that take the place of the configured ones. After an online resync they
	// are those of later writes too.
	Functions map[store.Collection]string
	// Concurrency is how many documents are computed at once; 0: as many as there are processors.
	Concurrency int
	// Node is the node that runs it, and Fence the epoch of the lease that it runs under: once another run has begun or gone on with other ones,
	// this one stores nothing any more.
	Node  string
	Fence uint64
	// OnChange, if not nil, runs in the transactions in which the resync begins, goes on after an interruption and ends, with its status from
	// then on. An error in one that begins it is returned by Resync, and nothing has changed.
	OnChange func(tx store.Tx, s ResyncStatus) error
	// OnSwitch, with Online, runs in the transaction that makes the new routing visible.
	OnSwitch func(tx store.Tx) error
	// Progress, if not nil, is called at the start, once each second and at the end. It must not block.
	Progress func(ResyncStatus)
}

// ResyncStatus tells how far a resync is, or how the last one ended.
type ResyncStatus struct {
	State     ResyncState
	Mode      ResyncMode
	ID        string // "": there never was one
	Node      string // that runs it, or did last
	StartTime time.Time
	EndTime   time.Time // zero while it runs
	LastError string    // for people; "" if none

	DocsProcessed int64
	DocsChanged   int64 // whose channels or grants changed; with Regenerate all
	DocsTotal     int64 // as counted at the start
	DocsErrored   int64 // that could not be processed
	DocsRejected  int64 // for which the function failed, or which it refused: they are in no channel

	Collections []store.Collection // worked on
	Regenerate  bool

	DocsPerSecond float64       // 0 unless it runs here
	TimeLeft      time.Duration // estimated; 0: not known
}

// ErrResyncStopped is the cause to cancel the context of Resync with in order to stop it (action=stop).
var ErrResyncStopped = tidegate.Errorf(tidegate.Canceled, "the resync was stopped")

// errResyncBusy is answered to a resync while another one runs in this process (resync.md §3.2).
var errResyncBusy = tidegate.Errorf(tidegate.Unavailable, "Database _resync already in progress")

// Resync runs a resync to its end and returns its last status. An offline one wants a database that serves nobody;
// Run need not run. If there is one to be resumed (resync.md §3.5) it goes on.
//
// When ctx ends with the cause ErrResyncStopped it is stopped: what it did stays, offline, and leaves no trace, online.
// When ctx ends otherwise it can be resumed, as after a crash. Both return an error, ErrResyncStopped or ctx's.
//
// Invalid: an option makes no sense, or a function does not compile; nothing was changed then. Unavailable: one is
// running.
func (db *Database) Resync(ctx context.Context, o ResyncOptions) (ResyncStatus, error) {
	run, err := db.newRun(o)
	if err != nil {
		return ResyncStatus{}, err
	}
	if err := db.resync.begin(run); err != nil {
		return ResyncStatus{}, err
	}
	defer db.resync.end()
	stop := run.report(ctx)
	defer stop()
	err = run.do(ctx)
	return run.view(), err
}

// ResyncStatus returns the status of the resync that is running in this process, or else what is stored of the last
// one, whose State may say running if it was interrupted, or runs elsewhere.
func (db *Database) ResyncStatus(ctx context.Context) (ResyncStatus, error) {
	if run := db.resync.current(); run != nil {
		if status := run.view(); status.ID != "" {
			return status, nil
		}
	}
	return ReadResyncStatus(ctx, db.st, db.space)
}
