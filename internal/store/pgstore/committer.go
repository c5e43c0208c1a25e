package pgstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// request is an Update on its way.
type request struct {
	ctx   context.Context
	keys  [][]byte // that fn will probably read
	fn    func(store.Tx) error
	state atomic.Int32
	err   error
	done  chan error
}

// The states of a request.
const (
	queued int32 = iota
	running
	canceled
)

// Update implements store.Store.
func (s *Store) Update(ctx context.Context, fn func(store.Tx) error) error {
	return s.UpdateReading(ctx, nil, fn)
}

// UpdateReading implements store.Prefetcher.
func (s *Store) UpdateReading(ctx context.Context, keys [][]byte, fn func(store.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r := &request{ctx: ctx, keys: keys, fn: fn, done: make(chan error, 1)}
	if err := s.enqueue(ctx, r); err != nil {
		return err
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		if r.state.CompareAndSwap(queued, canceled) {
			return ctx.Err() // it is left to the queue, which drops it
		}
	}
	return <-r.done
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
	case <-ctx.Done():
		return ctx.Err()
	case <-s.closing:
		return store.ErrClosed
	}
}

// commitLoop carries requests out, group by group, until the queue is closed and empty.
func (s *Store) commitLoop(ctx context.Context) {
	c := committer{s: s, ctx: ctx}
	defer c.hangUp()
	for first := range s.queue {
		c.run(s.gather(first))
	}
}

// gather takes what else is queued.
func (s *Store) gather(first *request) []*request {
	group := make([]*request, 0, 16)
	for r, open := first, true; open && r != nil; {
		if r.state.CompareAndSwap(queued, running) {
			group = append(group, r)
		}
		if len(group) == maxGroupUpdates {
			break
		}
		select {
		case r, open = <-s.queue:
		default:
			r = nil
		}
	}
	return group
}

// committer holds the connection that writes.
type committer struct {
	s      *Store
	ctx    context.Context
	conn   *pgxpool.Conn
	groups int64 // committed by this process, or sent to be
}

// run carries a group out, in several transactions if it is large.
func (c *committer) run(group []*request) {
	for len(group) > 0 {
		group = group[c.runSome(group):]
	}
}

// runSome carries the first of a group out, at least one, and returns how many. A lost connection or a serialization failure makes it start over, for RetryFor; if it was lost while the
// commit was under way, the writer's row says whether that came about.
func (c *committer) runSome(group []*request) (n int) {
	give := time.Now().Add(c.s.opts.RetryFor)
	c.groups++
	sent := false // a COMMIT may have come about
	first := true
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		var err error
		if sent {
			var committed bool
			if committed, err = c.committed(); committed {
				c.answer(group[:n], nil)
				return n
			}
		}
		if err == nil {
			var committing bool
			n, committing, err = c.attempt(group)
			sent = sent || committing && err != nil
			if err == nil {
				c.answer(group[:n], nil)
				return n
			}
		}
		c.hangUp()
		again := first || time.Now().Before(give) // once at least: this process may have stood still for all of that time
		first = false
		if !retryable(err) || !again || pause(c.ctx, wait) != nil {
			if n == 0 { // not even begun
				n = len(group)
			}
			c.answer(group[:n], translate("commit", err))
			return n
		}
	}
}

// answer tells everybody; err, if not nil, is that of the group as a whole.
func (c *committer) answer(group []*request, err error) {
	for _, r := range group {
		if err != nil {
			r.err = err
		}
		r.done <- r.err
	}
}

// committed asks whether this process' last group has come about.
func (c *committer) committed() (bool, error) {
	if err := c.dial(); err != nil {
		return false, err
	}
	// Wait for the lock: a transaction whose connection was lost may still be under way on the server.
	done := false
	err := pgx.BeginFunc(c.ctx, c.conn, func(t pgx.Tx) error {
		if _, err := t.Exec(c.ctx, c.s.sql.lock); err != nil {
			return err
		}
		var groups int64
		err := t.QueryRow(c.ctx, c.s.sql.written, c.s.node).Scan(&groups)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		done = err == nil && groups >= c.groups
		return err
	})
	return done, err
}

func (c *committer) dial() (err error) {
	if c.conn != nil {
		return nil
	}
	if c.conn, err = c.s.others.Acquire(c.ctx); err == nil {
		_, err = c.conn.Exec(c.ctx, idleLimit)
	}
	return err
}

func (c *committer) hangUp() {
	if c.conn != nil {
		discard(c.conn)
		c.conn = nil
	}
}

// attempt runs the functions of the first n, up to what one transaction should hold, and commits. committing: the COMMIT was sent.
func (c *committer) attempt(group []*request) (n int, committing bool, err error) {
	if err := c.dial(); err != nil {
		return 0, false, err
	}
	t := &tx{reader: reader{s: c.s, ctx: c.ctx, q: c.conn}, o: newOverlay(), max: c.s.opts.MaxTxBytes}
	if err := c.begin(t, group); err != nil {
		return 0, false, err
	}
	for n < len(group) && t.o.bytes < maxGroupBytes {
		r := group[n]
		r.err = call(t, r.fn)
		n++
		if c.conn.Conn().IsClosed() {
			return n, false, errConnection
		}
	}
	if len(t.o.ops) == 0 && len(t.o.seqUndo) == 0 {
		_, err = c.conn.Exec(c.ctx, `ROLLBACK`)
		return n, false, err
	}
	if err := c.commit(t.o); err != nil {
		return n, true, err
	}
	c.s.counters.commits.Add(uint64(n))
	c.s.counters.syncs.Add(1)
	c.s.counters.bytes.Add(uint64(t.o.bytes))
	for space := range t.o.moved() { // others were only read
		c.s.waiters.wake(space, t.o.seqs[space])
	}
	return n, true, nil
}

// idleLimit makes the server end the transaction of a node that stands still with the writers' lock: a stopped process, or a link that
// is cut without a word. It then starts over.
const idleLimit = `SET idle_in_transaction_session_timeout = '7s'`

var errConnection = errors.New("the connection was lost")

// begin starts the transaction, takes the writers' lock and then, in statements that begin after the lock was got and so see all
// that was committed under it, reads what the group will want, and the sequences of its spaces: one round trip for all of it.
func (c *committer) begin(t *tx, group []*request) error {
	var keys [][]byte
	for _, r := range group {
		keys = append(keys, r.keys...)
	}
	spaces := spacesOf(keys)
	var b pgx.Batch
	b.Queue(`BEGIN ISOLATION LEVEL READ COMMITTED`)
	b.Queue(c.s.sql.lock)
	b.Queue(c.s.sql.get, keys)
	b.Queue(c.s.sql.lasts, spaces)
	res := c.conn.SendBatch(c.ctx, &b)
	defer res.Close()
	if _, err := res.Exec(); err != nil {
		return err
	}
	var generation int64
	if err := res.QueryRow().Scan(&generation); err != nil {
		return err
	}
	if generation != c.s.generation {
		return store.ErrFenced
	}
	rows, err := res.Query()
	if err != nil {
		return err
	}
	if t.fetched, err = collectAll(rows, keys); err != nil {
		return err
	}
	if rows, err = res.Query(); err != nil {
		return err
	}
	for _, space := range spaces {
		t.o.seqs[store.Space(space)] = 0
	}
	if err := collectSequences(rows, t.o.seqs); err != nil {
		return err
	}
	return res.Close()
}

// spacesOf lists the spaces of keys.
func spacesOf(keys [][]byte) []int64 {
	spaces := []int64{}
	for _, k := range keys {
		if len(k) < store.Header {
			continue
		}
		space := int64(binary.BigEndian.Uint32(k))
		if !slices.Contains(spaces, space) {
			spaces = append(spaces, space)
		}
	}
	return spaces
}

// commit sends all changes and the COMMIT in one round trip.
func (c *committer) commit(o *overlay) error {
	s := c.s
	var b pgx.Batch
	for _, at := range o.ranges {
		p := &o.ops[at]
		b.Queue(s.sql.removeRange, p.key, p.end)
		if first, after := spaces(p.key, p.end); first < after {
			b.Queue(s.sql.dropSpaces, first, after)
		}
	}
	var putKeys, putValues, gone [][]byte
	for _, e := range o.between(nil, nil) { // in order of keys: fewer pages are split
		if e.value == nil {
			gone = append(gone, e.key)
		} else {
			putKeys, putValues = append(putKeys, e.key), append(putValues, e.value)
		}
	}
	if len(gone) > 0 {
		b.Queue(s.sql.remove, gone)
	}
	if len(putKeys) > 0 {
		b.Queue(s.sql.upsert, putKeys, putValues)
	}
	var spaces, lasts []int64
	for space := range o.moved() {
		last := o.seqs[space]
		if last > 0 {
			spaces, lasts = append(spaces, int64(space)), append(lasts, int64(last))
		}
		b.Queue(s.sql.notify, "tidegate_"+s.opts.Schema, fmt.Sprintf("s %d %d", space, last))
	}
	if len(spaces) > 0 {
		b.Queue(s.sql.setLast, spaces, lasts)
	}
	b.Queue(s.sql.wrote, s.node, c.groups)
	b.Queue(`COMMIT`)
	res := c.conn.SendBatch(c.ctx, &b)
	for i := range b.Len() {
		tag, err := res.Exec()
		if err == nil && i == b.Len()-1 && tag.String() != "COMMIT" {
			err = fmt.Errorf("the database answered COMMIT with %s", tag)
		}
		if err != nil {
			_ = res.Close()
			return err
		}
	}
	return res.Close()
}

// call runs a function in a goroutine of its own: one that panics, or ends its goroutine, ends no more than itself.
func call(t *tx, fn func(store.Tx) error) (err error) {
	t.begin()
	done := make(chan error, 1)
	go func() {
		err := error(errGoexit)
		defer func() {
			if p := recover(); p != nil {
				err = tidegate.Errorf(tidegate.Internal, "a transaction panicked: %v\n%s", p, debug.Stack())
			}
			done <- err
		}()
		err = fn(t)
	}()
	err = <-done
	t.end(err == nil)
	return err
}

var errGoexit = tidegate.Errorf(tidegate.Internal, "a transaction ended its goroutine")
