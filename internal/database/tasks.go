package database

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// CompactKind says what a compaction removes.
type CompactKind string

// The kinds, as they are called in requests (gateway-rest.md §10.4).
const (
	CompactTombstones  CompactKind = "tombstone"  // tombstones older than TombstoneAge
	CompactAttachments CompactKind = "attachment" // attachment content that no revision has
)

// CompactOptions of StartCompact, for attachments.
type CompactOptions struct {
	DryRun bool // count only
	Reset  bool // begin a new run; every run begins at the beginning, so this changes its ID only
}

// CompactStatus is the state of the latest compaction of a kind.
type CompactStatus struct {
	Status    string // "running", "completed", "stopping", "stopped" or "error"
	Start     time.Time
	LastError string
	Purged    int64 // documents, or bodies of attachments

	// For attachments:
	Marked int64  // references that hold
	ID     string // of the run
	Phase  string // "mark", "sweep" or "cleanup"
	DryRun bool

	Node string // where it runs or ran, if that is another node
}

// Errors of compactions, with the reasons of gateway-rest.md §10.4.
var (
	errCompacting    = tidegate.Errorf(tidegate.Unavailable, "Database compact already in progress")
	errNotCompacting = tidegate.Errorf(tidegate.Invalid, "Database compact is not running")
	errResyncs       = tidegate.Errorf(tidegate.Unavailable, "Process already running") // resync.md §5
)

// tasks are the compactions of a database, at most one of each kind at a time.
type tasks struct {
	db     *Database
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	latest map[CompactKind]*task
	closed bool
}

// task is one compaction.
type task struct {
	kind           CompactKind
	cancel         context.CancelFunc
	done           chan struct{}
	lease          store.Lease // nil: this process is alone
	id             string
	start          time.Time
	dryRun         bool
	marked, purged atomic.Int64

	mu     sync.Mutex
	status string
	phase  string
	err    string
}

func (t *task) setPhase(phase string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.phase = phase
}

func (ts *tasks) init(db *Database) {
	ts.db, ts.latest = db, map[CompactKind]*task{}
	ts.ctx, ts.cancel = context.WithCancel(context.Background())
}

// close stops what runs and waits for it.
func (ts *tasks) close() {
	ts.mu.Lock()
	ts.closed = true
	ts.mu.Unlock()
	ts.cancel()
	ts.wg.Wait()
}

// StartCompact begins a compaction in the background and returns its status. Unavailable: one of the kind is running, here or on
// another node, a resync is, or the database is closed.
func (db *Database) StartCompact(kind CompactKind, o CompactOptions) (CompactStatus, error) {
	ts := &db.tasks
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t := ts.latest[kind]; ts.closed || (t != nil && t.running()) {
		return CompactStatus{}, errCompacting
	}
	if db.resync.current() != nil {
		return CompactStatus{}, errResyncs
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	t := &task{kind: kind, done: make(chan struct{}), status: "running", id: hex.EncodeToString(id[:]), start: db.opts.Now(), dryRun: o.DryRun}
	if err := db.claimCompact(t); err != nil {
		return CompactStatus{}, err
	}
	var ctx context.Context
	ctx, t.cancel = context.WithCancel(ts.ctx)
	work, gauge := db.compactTombstones, &db.stats.CompactTombstoneStart
	if kind == CompactAttachments {
		work, gauge = db.compactAttachments, &db.stats.CompactAttachStart
	}
	gauge.Store(t.start.Unix())
	ts.latest[kind] = t
	ts.wg.Go(func() {
		defer close(t.done)
		defer t.cancel()
		if t.lease == nil {
			t.finish(ctx, work(ctx, t))
			return
		}
		db.compactForAll(ctx, t, work)
	})
	return t.snapshot(), nil
}

// finish notes how the task ended.
func (t *task) finish(ctx context.Context, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.lease != nil && errors.Is(context.Cause(t.lease.Context()), store.ErrLeaseLost):
		t.status, t.err = "error", "the node could not reach the store for too long"
	case ctx.Err() != nil:
		t.status = "stopped"
	case err != nil:
		t.status, t.err = "error", tidegate.ErrorReason(err)
	default:
		t.status = "completed"
	}
}

func (t *task) running() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status == "running" || t.status == "stopping"
}

func (t *task) snapshot() CompactStatus {
	t.mu.Lock()
	defer t.mu.Unlock()
	return CompactStatus{
		Status: t.status, Start: t.start, LastError: t.err, Purged: t.purged.Load(),
		Marked: t.marked.Load(), ID: t.id, Phase: t.phase, DryRun: t.dryRun,
	}
}

// StopCompact asks a running compaction to stop, on whatever node it runs. Invalid: none is running.
func (db *Database) StopCompact(kind CompactKind) (CompactStatus, error) {
	ts := &db.tasks
	ts.mu.Lock()
	t := ts.latest[kind]
	ts.mu.Unlock()
	if t == nil || !t.running() {
		return db.stopElsewhere(kind)
	}
	t.stop()
	return t.snapshot(), nil
}

func (t *task) stop() {
	t.mu.Lock()
	if t.status == "running" {
		t.status = "stopping"
	}
	t.mu.Unlock()
	t.cancel()
}

// AwaitCompact waits until the latest compaction of the kind has ended and returns its status, or ctx's error.
func (db *Database) AwaitCompact(ctx context.Context, kind CompactKind) (CompactStatus, error) {
	ts := &db.tasks
	ts.mu.Lock()
	t := ts.latest[kind]
	ts.mu.Unlock()
	if t != nil {
		select {
		case <-t.done:
		case <-ctx.Done():
			return CompactStatus{}, ctx.Err()
		}
	}
	return db.CompactStatus(kind), nil
}

// CompactStatus returns the status of the latest compaction of the kind, on any node; "completed" with nothing done if there was
// none.
func (db *Database) CompactStatus(kind CompactKind) CompactStatus {
	ts := &db.tasks
	ts.mu.Lock()
	t := ts.latest[kind]
	ts.mu.Unlock()
	status := CompactStatus{Status: "completed"}
	if t != nil {
		status = t.snapshot()
	}
	if db.opts.Nodes == nil || t != nil && t.running() {
		return status
	}
	return db.compactElsewhere(kind, status)
}
