package pgstore

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// querier is a connection with a transaction under way.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// reader reads in one transaction.
type reader struct {
	s    *Store
	ctx  context.Context
	q    querier
	conn *pgxpool.Conn // of a View

	// Of Views that were gathered:
	fetched map[string][]byte // what they asked for beforehand; a nil value: the key is not there
	turn    *sync.Mutex       // held by who uses the connection; nil: it is one goroutine's
	users   *atomic.Int32
}

// take waits for the connection where several share it.
func (r *reader) take() (done func()) {
	if r.turn == nil {
		return func() {}
	}
	r.turn.Lock()
	return r.turn.Unlock
}

// beginView takes a connection and a snapshot. It is taken now, not by the first read, so that what a View sees does not depend on
// when it looks. A connection that has died meanwhile is replaced.
func (s *Store) beginView(ctx context.Context) (*reader, error) {
	return s.begin(ctx, time.Now().Add(s.opts.RetryFor), func() (*reader, error) { return s.tryView(ctx) })
}

// begin tries to begin a View until that succeeds; no try begins after give.
func (s *Store) begin(ctx context.Context, give time.Time, try func() (*reader, error)) (*reader, error) {
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		r, err := try()
		if err == nil || ctx.Err() != nil || !retryable(err) || time.Now().After(give) {
			return r, translate("read", err)
		}
		if err := pause(ctx, wait); err != nil {
			return nil, err
		}
	}
}

func (s *Store) tryView(ctx context.Context) (*reader, error) {
	conn, err := s.views.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	// What runs in a View is not cut off by its context: a canceled query costs the connection.
	run := context.WithoutCancel(ctx)
	// The first query takes the snapshot; with BEGIN it is one round trip.
	if err = conn.Conn().PgConn().Exec(run, s.sql.begin+`; SELECT 1`).Close(); err != nil {
		discard(conn)
		return nil, err
	}
	return &reader{s: s, ctx: run, q: conn, conn: conn}, nil
}

// end gives the connection back, after its transaction was ended: the pool closes one that is in a transaction. The caller does not wait for that
// round trip.
func (r *reader) end() {
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.conn.Conn().PgConn().Exec(ctx, `ROLLBACK`).Close(); err != nil {
			discard(r.conn)
			return
		}
		r.conn.Release()
	}()
}

// discard closes a connection of which nothing is known any more.
func discard(conn *pgxpool.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Conn().Close(ctx)
	conn.Release()
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Get implements store.Reader.
func (r *reader) Get(key []byte) ([]byte, error) {
	if v, known := r.fetched[string(key)]; known {
		return v, nil
	}
	found, err := r.getAll([][]byte{key})
	if err != nil {
		return nil, err
	}
	return found[string(key)], nil
}

// getAll reads several keys at once.
func (r *reader) getAll(keys [][]byte) (map[string][]byte, error) {
	defer r.take()()
	rows, err := r.q.Query(r.ctx, r.s.sql.get, keys)
	if err != nil {
		return nil, translate("read", err)
	}
	return collect(rows, len(keys))
}

// Fetch implements store.Fetcher.
func (r *reader) Fetch(keys [][]byte) (store.Reader, error) {
	missing := make([][]byte, 0, len(keys))
	for _, k := range keys {
		if _, known := r.fetched[string(k)]; !known {
			missing = append(missing, k)
		}
	}
	if len(missing) == 0 {
		return r, nil
	}
	found, err := r.fetch(missing)
	if err != nil {
		return nil, err
	}
	maps.Copy(found, r.fetched)
	with := *r
	with.fetched = found
	return &with, nil
}

// fetch reads keys up to maxFetchBytes. A nil value: the key is not there; those of which nothing is known are left out.
func (r *reader) fetch(keys [][]byte) (map[string][]byte, error) {
	defer r.take()()
	found := make(map[string][]byte, len(keys))
	for _, k := range keys {
		found[string(k)] = nil
	}
	rows, err := r.q.Query(r.ctx, r.s.sql.fetch, keys, maxFetchBytes)
	if err != nil {
		return nil, translate("read", err)
	}
	defer rows.Close()
	for rows.Next() {
		var k, v []byte
		var whole bool
		if err := rows.Scan(&k, &whole, &v); err != nil {
			return nil, translate("read", err)
		}
		switch {
		case !whole:
			delete(found, string(k))
		case v == nil:
			found[string(k)] = []byte{}
		default:
			found[string(k)] = v
		}
	}
	return found, translate("read", rows.Err())
}

// collectAll is collect, with a nil for each key that is not there.
func collectAll(rows pgx.Rows, keys [][]byte) (map[string][]byte, error) {
	found, err := collect(rows, len(keys))
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if _, there := found[string(k)]; !there {
			found[string(k)] = nil
		}
	}
	return found, nil
}

func collect(rows pgx.Rows, n int) (map[string][]byte, error) {
	found := make(map[string][]byte, n)
	for rows.Next() {
		var k, v []byte
		if err := rows.Scan(&k, &v); err != nil {
			rows.Close()
			return nil, translate("read", err)
		}
		if v == nil {
			v = []byte{}
		}
		found[string(k)] = v
	}
	return found, translate("read", rows.Err())
}

// LastSequence implements store.Reader.
func (r *reader) LastSequence(space store.Space) (tidegate.Seq, error) {
	defer r.take()()
	var last int64
	err := r.q.QueryRow(r.ctx, r.s.sql.last, int64(space)).Scan(&last)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	return tidegate.Seq(last), translate("read sequence", err)
}

// SequenceSpaces returns the spaces that have a sequence, for who copies a whole store: sequences are not among the rows here.
func (r *reader) SequenceSpaces() ([]store.Space, error) {
	defer r.take()()
	rows, err := r.q.Query(r.ctx, r.s.sql.spaces)
	if err != nil {
		return nil, translate("list spaces", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	spaces := make([]store.Space, len(found))
	for i, space := range found {
		spaces[i] = store.Space(space)
	}
	return spaces, translate("list spaces", err)
}

// Scan implements store.Reader.
func (r *reader) Scan(rng store.Range) store.Iterator { return r.scan(rng) }

func (r *reader) scan(rng store.Range) *iterator {
	it := &iterator{r: r, start: bytes.Clone(rng.Start), end: bytes.Clone(rng.End), reverse: rng.Reverse, page: firstPage, at: -1}
	if it.start == nil {
		it.start = []byte{}
	}
	it.done = rng.End != nil && bytes.Compare(it.start, rng.End) >= 0
	return it
}

var errReverseSeek = tidegate.Errorf(tidegate.Invalid, "SeekGE on a reverse range")

// iterator reads a range in pages, so that nothing stays open between them.
type iterator struct {
	r          *reader
	start, end []byte // what is still to be read
	reverse    bool
	page       int

	keys, vals [][]byte
	at         int // in the page; -1: before its first row
	last       bool
	done       bool
	err        error
}

var _ store.Iterator = (*iterator)(nil)

// Next implements store.Iterator.
func (it *iterator) Next() bool {
	if it.done {
		return false
	}
	it.at++
	if it.at < len(it.keys) {
		return true
	}
	if it.last || !it.fill() {
		it.done = true
		return false
	}
	return true
}

// SeekGE implements store.Iterator.
func (it *iterator) SeekGE(key []byte) bool {
	switch {
	case it.reverse:
		it.err, it.done = errReverseSeek, true
		return false
	case it.done:
		return false
	case it.at >= 0 && it.at < len(it.keys) && bytes.Compare(it.keys[it.at], key) >= 0:
		return true
	}
	for i := max(it.at, 0); i < len(it.keys); i++ {
		if bytes.Compare(it.keys[i], key) >= 0 {
			it.at = i
			return true
		}
	}
	if bytes.Compare(key, it.start) > 0 {
		it.start = bytes.Clone(key)
	}
	if it.last || it.end != nil && bytes.Compare(it.start, it.end) >= 0 || !it.fill() {
		it.done = true
		return false
	}
	return true
}

// fill reads the next page and stands on its first row.
func (it *iterator) fill() bool {
	sql := it.r.s.sql.scanUp
	if it.reverse {
		sql = it.r.s.sql.scanDown
	}
	it.keys, it.vals, it.at = it.keys[:0], it.vals[:0], 0
	defer it.r.take()()
	rows, err := it.r.q.Query(it.r.ctx, sql, it.start, it.end, it.page)
	if err != nil {
		it.err = translate("scan", err)
		return false
	}
	size, full := 0, false
	for !full && rows.Next() {
		var k, v []byte
		if err := rows.Scan(&k, &v); err != nil {
			it.err = translate("scan", err)
			rows.Close()
			return false
		}
		if v == nil {
			v = []byte{}
		}
		size += len(k) + len(v)
		it.keys, it.vals = append(it.keys, k), append(it.vals, v)
		full = size >= pageBytes
	}
	rows.Close() // what is beyond is let go one by one
	if it.err = translate("scan", rows.Err()); it.err != nil {
		return false
	}
	it.last = !full && len(it.keys) < it.page
	if n := len(it.keys); n > 0 {
		if it.reverse {
			it.end = it.keys[n-1]
		} else {
			it.start = append(bytes.Clone(it.keys[n-1]), 0)
		}
		it.page = min(2*it.page, maxPage, max(1, pageBytes*n/max(size, 1)))
	}
	return len(it.keys) > 0
}

func (it *iterator) valid() bool { return !it.done && it.at >= 0 && it.at < len(it.keys) }

// Key implements store.Iterator.
func (it *iterator) Key() []byte {
	if !it.valid() {
		return nil
	}
	return it.keys[it.at]
}

// Value implements store.Iterator.
func (it *iterator) Value() []byte {
	if !it.valid() {
		return nil
	}
	return it.vals[it.at]
}

// Err implements store.Iterator.
func (it *iterator) Err() error { return it.err }

// Close implements store.Iterator.
func (it *iterator) Close() error {
	it.done = true
	return nil
}
