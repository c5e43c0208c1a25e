package pebblestore

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// request is an Update under way.
type request struct {
	ctx   context.Context
	fn    func(store.Tx) error
	state atomic.Int32
	err   error      // of fn; the committer's until the answer
	done  chan error // the answer; buffered, so that answering never waits
}

// States of a request. Queued moves to running or to canceled, whichever comes first.
const (
	queued int32 = iota
	running
	canceled
)

// group is the requests that share a batch and a sync.
type group struct {
	o        *overlay
	batch    *pebble.Batch
	requests []*request
	moved    []spaceSeq // the sequences it moved
	forgot   bool
	written  bool // batch was applied and its sync is under way
	snapshot *snapshot
}

// committer runs the functions of Updates one after another and turns them into groups. It is a struct and
// not a stack so that it can be taken up again when a function ends its goroutine (see run).
type committer struct {
	s     *Store
	tx    tx
	seqs  *sequences
	guard *diskGuard
	g     *group // under construction
	now   *request
}

func newCommitter(s *Store, guard *diskGuard) *committer {
	c := &committer{s: s, seqs: newSequences(), guard: guard}
	c.tx = tx{reader: reader{from: s.db, sick: s.sick}, seqs: c.seqs, max: s.maxTx}
	return c
}

// run lasts until the queue is closed and empty. A function that calls runtime.Goexit (as t.FailNow does)
// takes the goroutine with it; the work then goes on in a new one.
func (c *committer) run() {
	finished := false
	defer func() {
		if finished {
			close(c.s.toSync)
			return
		}
		go c.run()
	}()
	for {
		if c.g == nil {
			c.g = <-c.s.free
		}
		if !c.fill() {
			finished = true
			return
		}
		c.seal()
	}
}

// fill collects requests until the group is full or, the queue being empty, the syncer is free to take it.
// It returns false if the queue is closed and there is nothing to commit.
func (c *committer) fill() bool {
	if len(c.g.requests) == 0 && !c.take(<-c.s.queue) {
		return false
	}
	for c.drain() {
		select {
		case r := <-c.s.queue:
			if !c.take(r) {
				<-c.s.permits
				return true
			}
		case <-c.s.permits:
			// The writers of the group that was just answered are about to ask again. Letting them run
			// first puts them into this sync and not into the one after it.
			if len(c.g.requests) < smallGroup {
				runtime.Gosched()
				c.drain()
			}
			return true
		}
	}
	<-c.s.permits
	return true
}

// take runs a request; it reports false for the nil that a closed queue gives.
func (c *committer) take(r *request) bool {
	if r != nil {
		c.exec(r)
	}
	return r != nil
}

// drain takes what is queued now and reports whether the group could take more.
func (c *committer) drain() bool {
	for len(c.g.requests) < maxGroupUpdates && len(c.g.o.data) < maxGroupBytes {
		select {
		case r := <-c.s.queue:
			if !c.take(r) {
				return false
			}
		default:
			return true
		}
	}
	return false
}

// exec runs one request's function.
func (c *committer) exec(r *request) {
	if !r.state.CompareAndSwap(queued, running) {
		return // its writer has left
	}
	c.g.requests = append(c.g.requests, r)
	switch {
	case r.ctx.Err() != nil:
		r.err = r.ctx.Err()
		return
	case c.s.failure() != nil:
		r.err = store.ErrReadOnly
		return
	case c.guard.nearlyFull():
		r.err = store.ErrDiskFull
		return
	}
	c.now = r
	c.tx.o = c.g.o
	c.tx.begin()
	defer c.settle()
	r.err = errGone
	r.err = r.fn(&c.tx)
}

// errGone is what a function leaves behind that returned neither normally nor by a panic.
var errGone = tidegate.Errorf(tidegate.Internal, "the transaction's function ended its goroutine")

// settle ends the running transaction, however its function ended.
func (c *committer) settle() {
	r := c.now
	if p := recover(); p != nil {
		r.err = tidegate.Errorf(tidegate.Internal, "the transaction's function panicked: %v", p)
		c.s.log.Error("panic in a transaction", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	}
	c.now = nil
	c.tx.end(r.err == nil, c.s.poison)
}

// seal applies the group's batch and hands the group to the syncer. Failed and empty functions are
// answered with the group too: what they saw is then visible to the View with which they start over.
func (c *committer) seal() {
	g := c.g
	c.g = nil
	g.moved, g.forgot = c.seqs.seal(g.o, g.moved[:0])
	if !g.o.empty() && c.s.failure() == nil {
		c.apply(g)
	}
	c.s.toSync <- g
}

func (c *committer) apply(g *group) {
	defer func() {
		if p := recover(); p != nil {
			c.s.fail(fmt.Errorf("apply batch: %v", p))
		}
	}()
	repr := g.o.repr()
	if err := g.batch.SetRepr(repr); err != nil {
		c.s.fail(fmt.Errorf("build batch: %w", err))
		return
	}
	if err := c.s.db.ApplyNoSyncWait(g.batch, pebble.Sync); err != nil {
		c.s.fail(fmt.Errorf("apply batch: %w", err))
		return
	}
	g.snapshot = newSnapshot(c.s.db, c.s.openSnapshots.Done)
	c.s.openSnapshots.Add(1)
	g.written = true
}

// sync is the second half of the pipeline: it waits for each group's fsync, publishes what became durable
// and answers the writers.
func (s *Store) sync() {
	for g := range s.toSync {
		if g.written {
			if err := g.batch.SyncWait(); err != nil {
				s.fail(fmt.Errorf("sync log: %w", err))
			} else {
				s.counters.syncs.Add(1)
			}
		}
		s.answer(g)
		s.permits <- struct{}{}
		s.recycle(g)
	}
}

// answer publishes the group and tells its writers how they fared.
func (s *Store) answer(g *group) {
	broken := s.failure() != nil
	if !broken && g.written {
		s.publish(g.snapshot)
		g.snapshot = nil
		s.counters.bytes.Add(g.o.bytes)
		s.hub.publish(g.moved, g.forgot)
	}
	commits := uint64(0)
	for i, r := range g.requests {
		err := r.err
		if broken && err == nil {
			err = store.ErrReadOnly
		}
		if err == nil {
			commits++
		}
		g.requests[i] = nil
		r.done <- err
	}
	s.counters.commits.Add(commits)
}

// recycle makes the group ready for the committer again.
func (s *Store) recycle(g *group) {
	if g.snapshot != nil { // never published: the store is broken, and the snapshot is left as it is
		g.snapshot = nil
	}
	keep := true
	if g.written {
		// A large batch now belongs to Pebble, which shows in that it left the batch object empty.
		keep = g.batch.Len() == len(g.o.data)
		g.batch.Reset()
	}
	g.o.reset(keep)
	g.requests, g.written = g.requests[:0], false
	s.free <- g
}
