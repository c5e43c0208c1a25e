package pgstore

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tidegate/tidegate/internal/store"
)

// Views that say beforehand what they will probably Get are gathered: those that wait while a round trip is under way share the
// next one, and with it a transaction, whose snapshot is taken after each of them has asked. With many clients a read costs a fraction of
// a round trip. What was not asked for beforehand is read in the same transaction, one after another.

// Bounds of gathering.
const (
	gatherers   = 4  // round trips under way at once, at most
	maxGathered = 64 // Views that share one
)

// wanted is a View on its way.
type wanted struct {
	keys  [][]byte
	asked time.Time
	state atomic.Int32 // queued, running or canceled, as of a request
	ready chan shared  // cap 1
}

// shared is a reader of several Views, or why there is none.
type shared struct {
	r   *reader
	err error
}

// ViewReading implements store.Prefetcher.
func (s *Store) ViewReading(ctx context.Context, keys [][]byte, fn func(store.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w := &wanted{keys: keys, asked: time.Now(), ready: make(chan shared, 1)}
	if err := s.enqueueView(ctx, w); err != nil {
		return err
	}
	defer s.running.Done()
	var got shared
	select {
	case got = <-w.ready:
	case <-ctx.Done():
		if w.state.CompareAndSwap(queued, canceled) {
			return ctx.Err()
		}
		got = <-w.ready
	}
	if got.err != nil {
		return got.err
	}
	defer got.r.letGo()
	return fn(got.r)
}

// enqueueView counts a View in and queues it.
func (s *Store) enqueueView(ctx context.Context, w *wanted) error {
	s.enter.RLock()
	defer s.enter.RUnlock()
	if s.closed {
		return store.ErrClosed
	}
	s.running.Add(1)
	select {
	case s.wanted <- w:
		return nil
	case <-ctx.Done():
		s.running.Done()
		return ctx.Err()
	case <-s.closing: // the lock is not held while those before it are served: who is served may want it, too
		s.running.Done()
		return store.ErrClosed
	}
}

// gatherLoop serves queued Views until ctx ends, which is after the last of them.
func (s *Store) gatherLoop(ctx context.Context) {
	for {
		select {
		case first := <-s.wanted:
			s.serveViews(ctx, s.gatherViews(first))
		case <-ctx.Done():
			return
		}
	}
}

// gatherViews takes what else is queued.
func (s *Store) gatherViews(first *wanted) []*wanted {
	group := make([]*wanted, 0, 8)
	for w := first; w != nil; {
		if w.state.CompareAndSwap(queued, running) {
			group = append(group, w)
		}
		if len(group) == maxGathered {
			break
		}
		select {
		case w = <-s.wanted:
		default:
			w = nil
		}
	}
	return group
}

// serveViews gives a group its reader.
func (s *Store) serveViews(ctx context.Context, group []*wanted) {
	if len(group) == 0 {
		return
	}
	var keys [][]byte
	for _, w := range group {
		keys = append(keys, w.keys...)
	}
	// Time in the queue counts: while the database is away those at its end do not wait for the tries of all before them.
	give := group[0].asked.Add(s.opts.RetryFor)
	if least := time.Now().Add(s.opts.RetryFor / 10); give.Before(least) {
		give = least
	}
	r, err := s.begin(ctx, give, func() (*reader, error) { return s.tryReading(ctx, keys) })
	if err == nil {
		r.users.Store(int32(len(group)))
	}
	for _, w := range group {
		w.ready <- shared{r, err}
	}
}

// tryReading takes a connection, a snapshot, and reads keys in it: one round trip.
func (s *Store) tryReading(ctx context.Context, keys [][]byte) (*reader, error) {
	conn, err := s.views.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	var b pgx.Batch
	b.Queue(s.sql.begin)
	b.Queue(s.sql.get, keys)
	res := conn.SendBatch(ctx, &b)
	fetched, err := readBatch(res, keys)
	if cerr := res.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		discard(conn)
		return nil, err
	}
	return &reader{s: s, ctx: ctx, q: conn, conn: conn, fetched: fetched, turn: new(sync.Mutex), users: new(atomic.Int32)}, nil
}

// readBatch reads the answers of BEGIN and of the statement that gets keys. What is not there is noted as nil.
func readBatch(res pgx.BatchResults, keys [][]byte) (map[string][]byte, error) {
	if _, err := res.Exec(); err != nil {
		return nil, err
	}
	rows, err := res.Query()
	if err != nil {
		return nil, err
	}
	return collectAll(rows, keys)
}

// letGo ends the use of a shared reader by one View.
func (r *reader) letGo() {
	if r.users.Add(-1) == 0 {
		r.end()
	}
}
