// Package pebblestore is the embedded engine: one Pebble instance for each data directory, with group
// commit, and readers that see only what is durable. internal/store/DESIGN.md tells how and why.
package pebblestore

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// Store is the embedded engine. Make one with Open, OpenReadOnly or OpenMem.
type Store struct {
	db       *pebble.DB
	dir      directory
	log      *slog.Logger
	poison   bool
	readOnly bool
	maxTx    int

	// The commit pipeline: queue → committer → toSync → syncer; see committer.go.
	queue   chan *request
	toSync  chan *group
	free    chan *group   // groups not in use
	permits chan struct{} // one for each group that may be syncing
	pooled  sync.Pool     // of *request
	readers sync.Pool     // of *reader

	published     atomic.Pointer[snapshot]
	openSnapshots sync.WaitGroup
	hub           *hub
	leases        leases

	// closing is closed when Close begins. enter is held for reading while a request is being queued.
	closing   chan struct{}
	enter     sync.RWMutex
	closed    bool
	closeOnce sync.Once
	closeErr  error
	workers   sync.WaitGroup

	broken   chan struct{} // closed when the store turns read-only
	brokenBy atomic.Pointer[error]

	counters struct{ commits, syncs, bytes atomic.Uint64 }
}

var (
	_ store.Store       = (*Store)(nil)
	_ store.StatsReader = (*Store)(nil)
)

// View implements store.Store.
func (s *Store) View(ctx context.Context, fn func(store.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	snap := s.acquire()
	if snap == nil {
		return store.ErrClosed
	}
	r := s.readers.Get().(*reader)
	r.from = snap
	defer func() {
		r.end(s.poison)
		s.readers.Put(r)
		snap.release()
	}()
	return fn(r)
}

// acquire takes the published snapshot; nil if the store is closed.
func (s *Store) acquire() *snapshot {
	for {
		snap := s.published.Load()
		if snap == nil || snap.acquire() {
			return snap
		}
	}
}

// publish makes snap what readers see from now on.
func (s *Store) publish(snap *snapshot) {
	if old := s.published.Swap(snap); old != nil {
		old.release()
	}
}

// Update implements store.Store. fn runs on the committer's goroutine; it must not call Update itself.
func (s *Store) Update(ctx context.Context, fn func(store.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.readOnly || s.failure() != nil {
		return store.ErrReadOnly
	}
	r := s.pooled.Get().(*request)
	r.ctx, r.fn = ctx, fn
	if err := s.enqueue(ctx, r); err != nil {
		s.putBack(r)
		return err
	}
	select {
	case err := <-r.done:
		s.putBack(r)
		return err
	case <-ctx.Done():
		if r.state.CompareAndSwap(queued, canceled) {
			return ctx.Err() // the request is left to the queue, which drops it
		}
	case <-s.broken:
	}
	return s.carried(r)
}

// carried waits for a request that can no longer be canceled.
func (s *Store) carried(r *request) error {
	select {
	case err := <-r.done:
		s.putBack(r)
		return err
	case <-s.broken:
	}
	select {
	case err := <-r.done: // it was answered before
		return err
	default:
		return store.ErrReadOnly
	}
}

func (s *Store) enqueue(ctx context.Context, r *request) error {
	s.enter.RLock()
	defer s.enter.RUnlock()
	if s.closed {
		return store.ErrClosed
	}
	select {
	case s.queue <- r:
		return nil
	default:
	}
	select {
	case s.queue <- r:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.closing:
		return store.ErrClosed
	case <-s.broken:
		return store.ErrReadOnly
	}
}

func (s *Store) putBack(r *request) {
	r.ctx, r.fn, r.err = nil, nil, nil
	r.state.Store(queued)
	s.pooled.Put(r)
}

// Wait implements store.Store.
func (s *Store) Wait(ctx context.Context, space store.Space, after tidegate.Seq) (tidegate.Seq, error) {
	return s.hub.wait(ctx, space, after, func(space store.Space) (last tidegate.Seq, err error) {
		err = s.View(context.WithoutCancel(ctx), func(r store.Reader) error {
			last, err = r.LastSequence(space)
			return err
		})
		return last, err
	})
}

// NodeID returns the id of this data directory: 32 hexadecimal digits, made when it was created.
func (s *Store) NodeID() string { return s.dir.marker.Node }

// Stats implements store.StatsReader.
func (s *Store) Stats() store.Stats {
	st := store.Stats{
		Commits:      s.counters.commits.Load(),
		Syncs:        s.counters.syncs.Load(),
		BytesWritten: s.counters.bytes.Load(),
		QueueDepth:   len(s.queue),
	}
	if m := s.metrics(); m != nil {
		st.DiskBytes = m.DiskSpaceUsage()
		st.CacheHits = uint64(m.BlockCache.Hits)
		st.CacheMisses = uint64(m.BlockCache.Misses)
	}
	return st
}

// metrics asks Pebble, which takes locks that are never given back if the store breaks meanwhile. The
// snapshot keeps the database open until it has answered. nil if the store is closed or broken.
func (s *Store) metrics() *pebble.Metrics {
	if s.failure() != nil {
		return nil
	}
	snap := s.acquire()
	if snap == nil {
		return nil
	}
	answer := make(chan *pebble.Metrics, 1)
	go func() {
		defer snap.release()
		answer <- s.db.Metrics()
	}()
	select {
	case m := <-answer:
		return m
	case <-s.broken:
		return nil
	}
}

// failure returns why the store is read-only; nil if it is not.
func (s *Store) failure() error {
	if p := s.brokenBy.Load(); p != nil {
		return *p
	}
	return nil
}

// fail turns the store read-only: what is in memory may not be what is on disk.
func (s *Store) fail(err error) {
	if !s.brokenBy.CompareAndSwap(nil, &err) {
		return
	}
	close(s.broken)
	s.log.Error("the store failed and is read-only until the process is restarted", "dir", s.dir.path, "error", err)
}

// sick is told about errors of reads. A damaged store takes no more writes.
func (s *Store) sick(err error) {
	if tidegate.ErrorCode(err) == tidegate.Corrupt {
		s.fail(err)
	}
}

// Close implements store.Store. Queued Updates are carried out first; leases are lost; it waits for running
// Views. After a failure it keeps the directory locked until the process ends, since Pebble may still hold
// files open for writing.
func (s *Store) Close() error {
	s.closeOnce.Do(func() { s.closeErr = s.close() })
	return s.closeErr
}

func (s *Store) close() error {
	close(s.closing)
	s.leases.close()
	s.hub.close(store.ErrClosed)
	s.enter.Lock()
	s.closed = true
	close(s.queue)
	s.enter.Unlock()
	closed := make(chan error, 1)
	go func() {
		s.workers.Wait()
		if s.failure() != nil {
			return
		}
		s.publish(nil)
		s.openSnapshots.Wait()
		closed <- s.db.Close()
	}()
	select {
	case err := <-closed:
		return firstError(err, s.dir.unlock())
	case <-s.broken:
		s.published.Store(nil)
		return store.ErrReadOnly
	}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
