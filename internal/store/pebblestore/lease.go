package pebblestore

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// leases are exclusive rights inside this process, which is all there is, since the directory is locked
// against others. Epochs are stored, so they grow across restarts too.
type leases struct {
	mu     sync.Mutex
	names  map[string]*leaseName
	closed bool
}

// leaseName is a name somebody holds or waits for.
type leaseName struct {
	free  chan struct{} // holds one token while nobody has the lease
	users int           // holder and waiters; the name is forgotten with the last one
	held  *lease
}

type lease struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	epoch  uint64
	once   sync.Once
	giveUp func()
}

var _ store.Lease = (*lease)(nil)

// Lease implements store.Store. The holder and its waiters are one process, so a lease cannot be lost but
// by Close, and ttl is only checked.
func (s *Store) Lease(ctx context.Context, name string, ttl time.Duration) (store.Lease, error) {
	if ttl <= 0 || name == "" {
		return nil, errLease
	}
	n, err := s.leases.join(name)
	if err != nil {
		return nil, err
	}
	select {
	case <-n.free:
	case <-ctx.Done():
		s.leases.leave(name, n)
		return nil, ctx.Err()
	case <-s.closing:
		s.leases.leave(name, n)
		return nil, store.ErrClosed
	}
	return s.take(ctx, name, n)
}

var errLease = tidegate.Errorf(tidegate.Invalid, "a lease has a name and a time to live")

// TryLease implements store.Store.
func (s *Store) TryLease(ctx context.Context, name string, ttl time.Duration) (store.Lease, error) {
	if ttl <= 0 || name == "" {
		return nil, errLease
	}
	n, err := s.leases.join(name)
	if err != nil {
		return nil, err
	}
	select {
	case <-n.free:
		return s.take(ctx, name, n)
	default:
		s.leases.leave(name, n)
		return nil, nil
	}
}

// take makes the lease of somebody who has the name's token.
func (s *Store) take(ctx context.Context, name string, n *leaseName) (store.Lease, error) {
	giveUp := func() {
		n.free <- struct{}{}
		s.leases.leave(name, n)
	}
	epoch, err := s.nextEpoch(ctx, name)
	if err != nil {
		giveUp()
		return nil, err
	}
	l := &lease{epoch: epoch, giveUp: giveUp}
	l.ctx, l.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	s.leases.mu.Lock()
	defer s.leases.mu.Unlock()
	if s.leases.closed {
		l.cancel(store.ErrLeaseLost)
	}
	n.held = l
	return l, nil
}

// nextEpoch counts the name's epoch up.
func (s *Store) nextEpoch(ctx context.Context, name string) (epoch uint64, err error) {
	key := store.NewKey(0, store.KindMeta).Name("lease:" + name)
	err = s.Update(ctx, func(tx store.Tx) error {
		v, err := tx.Get(key)
		if err != nil {
			return err
		}
		epoch = 1
		if v != nil {
			if len(v) != 8 {
				return tidegate.Errorf(tidegate.Corrupt, "the stored epoch of a lease does not make sense")
			}
			epoch = binary.BigEndian.Uint64(v) + 1
		}
		return tx.Put(key, binary.BigEndian.AppendUint64(nil, epoch))
	})
	return epoch, err
}

func (l *leases) join(name string) (*leaseName, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, store.ErrClosed
	}
	n := l.names[name]
	if n == nil {
		n = &leaseName{free: make(chan struct{}, 1)}
		n.free <- struct{}{}
		l.names[name] = n
	}
	n.users++
	return n, nil
}

func (l *leases) leave(name string, n *leaseName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n.users--; n.users == 0 {
		delete(l.names, name)
	}
}

// close takes every lease from its holder.
func (l *leases) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, n := range l.names {
		if n.held != nil {
			n.held.cancel(store.ErrLeaseLost)
		}
	}
}

// Context implements store.Lease.
func (l *lease) Context() context.Context { return l.ctx }

// Epoch implements store.Lease.
func (l *lease) Epoch() uint64 { return l.epoch }

// Release implements store.Lease.
func (l *lease) Release() {
	l.once.Do(func() {
		l.cancel(store.ErrReleased)
		l.giveUp()
	})
}
