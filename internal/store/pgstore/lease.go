package pgstore

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// leases are those that this process holds.
type leases struct {
	mu     sync.Mutex
	held   map[*lease]struct{}
	closed bool
}

// lease is a row with a holder, an epoch and an expiry by the database's clock. The holder counts by its own clock from before it
// asked, less a margin, so its context ends before anybody else can have the lease, as long as clocks run equally fast. Who learns of it so late that not half of
// its time is left, since the process stood still, say, does not take it.
type lease struct {
	s      *Store
	name   string
	epoch  int64
	ttl    time.Duration
	ctx    context.Context
	cancel context.CancelCauseFunc
	once   sync.Once
	ended  chan struct{} // closed when nobody renews it any more
}

var _ store.Lease = (*lease)(nil)

// leasePoll is how often a waiter looks whether a lease has expired, at most.
const leasePoll = 500 * time.Millisecond

var errLease = tidegate.Errorf(tidegate.Invalid, "a lease has a name and a time to live")

// TryLease implements store.Store. While the database cannot be asked nobody gets a lease.
func (s *Store) TryLease(ctx context.Context, name string, ttl time.Duration) (store.Lease, error) {
	if ttl <= 0 || name == "" {
		return nil, errLease
	}
	l, err := s.tryLease(ctx, name, ttl)
	return l.orNil(), err
}

// Lease implements store.Store.
func (s *Store) Lease(ctx context.Context, name string, ttl time.Duration) (store.Lease, error) {
	if ttl <= 0 || name == "" {
		return nil, errLease
	}
	for {
		free := s.waiters.lease(name)
		l, err := s.tryLease(ctx, name, ttl)
		if l != nil || err != nil {
			return l.orNil(), err
		}
		timer := time.NewTimer(max(min(ttl/4, leasePoll), time.Millisecond))
		select {
		case <-free:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-s.closing:
			timer.Stop()
			return nil, store.ErrClosed
		}
		timer.Stop()
	}
}

func (l *lease) orNil() store.Lease {
	if l == nil {
		return nil
	}
	return l
}

// tryLease takes the lease if it is free; nil if it is not, or if the database cannot be asked now.
func (s *Store) tryLease(ctx context.Context, name string, ttl time.Duration) (*lease, error) {
	select {
	case <-s.closing:
		return nil, store.ErrClosed
	default:
	}
	asked := time.Now()
	var epoch int64
	err := s.others.QueryRow(context.WithoutCancel(ctx), s.sql.lease, name, s.node, ttl.Microseconds()).Scan(&epoch)
	switch {
	case errors.Is(err, pgx.ErrNoRows), retryable(err):
		return nil, ctx.Err()
	case err != nil:
		return nil, translate("take lease", err)
	}
	l := &lease{s: s, name: name, epoch: epoch, ttl: ttl, ended: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	if time.Since(asked) > ttl/2 {
		l.giveBack()
		return nil, ctx.Err()
	}
	if !s.leases.add(l) {
		l.giveBack()
		return nil, store.ErrClosed
	}
	go l.renew(asked)
	return l, nil
}

func (ls *leases) add(l *lease) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.closed {
		return false
	}
	ls.held[l] = struct{}{}
	return true
}

// close takes every lease from its holder and gives the rows back, all at once: while the database is away each takes giveBackTimeout.
func (ls *leases) close() {
	ls.mu.Lock()
	ls.closed = true
	var held []*lease
	for l := range ls.held {
		held = append(held, l)
	}
	ls.mu.Unlock()
	var all sync.WaitGroup
	for _, l := range held {
		all.Go(func() { l.finish(store.ErrLeaseLost) })
	}
	all.Wait()
}

// renew keeps the lease until its context ends. It is lost when it could not be renewed in time, or somebody else has it.
func (l *lease) renew(asked time.Time) {
	defer close(l.ended)
	margin := l.ttl / 10
	for {
		until := asked.Add(l.ttl - margin)
		timer := time.NewTimer(min(l.ttl/3, time.Until(until)))
		select {
		case <-l.ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		ctx, cancel := context.WithDeadline(l.ctx, until)
		next, err := l.extend(ctx)
		cancel()
		switch {
		case l.ctx.Err() != nil:
			return
		case err == nil:
			asked = next
		case errors.Is(err, store.ErrLeaseLost) || time.Until(until) <= l.ttl/3:
			l.cancel(store.ErrLeaseLost)
			return
		}
	}
}

// extend asks for another ttl and returns since when that counts.
func (l *lease) extend(ctx context.Context) (asked time.Time, err error) {
	asked = time.Now()
	tag, err := l.s.others.Exec(ctx, l.s.sql.renew, l.name, l.s.node, l.epoch, l.ttl.Microseconds())
	if err == nil && tag.RowsAffected() == 0 {
		err = store.ErrLeaseLost
	}
	return asked, err
}

// Context implements store.Lease.
func (l *lease) Context() context.Context { return l.ctx }

// Epoch implements store.Lease.
func (l *lease) Epoch() uint64 { return uint64(l.epoch) }

// Release implements store.Lease.
func (l *lease) Release() { l.finish(store.ErrReleased) }

func (l *lease) finish(cause error) {
	l.once.Do(func() {
		l.cancel(cause)
		<-l.ended
		l.s.leases.mu.Lock()
		delete(l.s.leases.held, l)
		l.s.leases.mu.Unlock()
		l.giveBack()
	})
}

// giveBackTimeout bounds what the release of a lease may take; a row that stays behind expires.
const giveBackTimeout = 2 * time.Second

func (l *lease) giveBack() {
	ctx, cancel := context.WithTimeout(context.Background(), giveBackTimeout)
	defer cancel()
	var b pgx.Batch
	b.Queue(l.s.sql.release, l.name, l.s.node, l.epoch)
	b.Queue(l.s.sql.notify, "tidegate_"+l.s.opts.Schema, "l "+l.name)
	if err := l.s.others.SendBatch(ctx, &b).Close(); err != nil {
		l.s.log.Debug("a lease was not given back and will expire", "lease", l.name, "error", err)
	}
	l.s.waiters.released(l.name)
}
