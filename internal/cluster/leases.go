package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// TryLease takes the lease of the name if it is free now; nil if another has it. It is lost when it could not be renewed for
// DeadAfter.
func (c *Cluster) TryLease(ctx context.Context, name string) (store.Lease, error) {
	return c.st.TryLease(ctx, name, c.deadAfter)
}

// Lease takes the lease of the name, and waits for it.
func (c *Cluster) Lease(ctx context.Context, name string) (store.Lease, error) {
	return c.st.Lease(ctx, name, c.deadAfter)
}

// leadRetry is the pause before the lease is tried again after an error.
const leadRetry = time.Second

// Lead runs f while this node has the lease of the name, until ctx ends or f returns nil; f's context ends when the lease is lost, and its
// epoch is greater than that of all who led before. After an error, or a lost lease, it tries again. It returns ctx's error, or nil
// when f is done.
func (c *Cluster) Lead(ctx context.Context, name string, f func(ctx context.Context, epoch uint64) error) error {
	for ctx.Err() == nil {
		lease, err := c.Lease(ctx, name)
		if err == nil {
			if err = c.under(ctx, lease, f); err == nil {
				return nil
			}
		}
		if ctx.Err() != nil {
			break
		}
		if !errors.Is(err, store.ErrLeaseLost) {
			c.log.Warn("what one node does for all has ended and is tried again", "lease", name, "error", err)
		}
		pause(ctx, leadRetry)
	}
	return ctx.Err()
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// under runs f under a lease and releases it. The error of an f that ended since the lease was lost is store.ErrLeaseLost.
func (c *Cluster) under(ctx context.Context, lease store.Lease, f func(ctx context.Context, epoch uint64) error) error {
	defer lease.Release()
	held, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(lease.Context(), func() { cancel(context.Cause(lease.Context())) })()
	err := f(held, lease.Epoch())
	if err != nil && ctx.Err() == nil && lease.Context().Err() != nil {
		return store.ErrLeaseLost
	}
	return err
}

// doorLease is held for a moment by who joins, and for all of its time by who has the store alone.
const doorLease = "cluster.door"

// doorPatience is how long a node waits at the door: others join one after another.
const doorPatience = 5 * time.Second

// enter takes the door's lease.
func enter(ctx context.Context, st store.Store, ttl time.Duration) (store.Lease, error) {
	soon, cancel := context.WithTimeout(ctx, ttl+doorPatience)
	defer cancel()
	lease, err := st.Lease(soon, doorLease, ttl)
	if err != nil && soon.Err() != nil && ctx.Err() == nil {
		err = tidegate.Errorf(tidegate.Unavailable, "the store is held by a process that must have it alone (fsck, move or restore)")
	}
	return lease, err
}

// exclusivePoll is how often Exclusive looks who is there.
const exclusivePoll = 500 * time.Millisecond

// Exclusive waits until no node serves from the store, and keeps others out until the lease is released. It waits as long as a dead
// node's heartbeat counts; one that only stood still writes nothing more when it goes on, and ends. Unavailable: a node is alive.
func Exclusive(ctx context.Context, st store.Store) (store.Lease, error) {
	door, err := enter(ctx, st, DefaultDeadAfter)
	if err != nil {
		return nil, err
	}
	if err := awaitNobody(ctx, st); err != nil {
		door.Release()
		return nil, err
	}
	if f, ok := st.(store.Fencer); ok {
		if err := f.Fence(ctx); err != nil {
			door.Release()
			return nil, err
		}
	}
	return door, nil
}

// awaitNobody returns when all rows have stood still for as long as their nodes said.
func awaitNobody(ctx context.Context, st store.Store) error {
	began := time.Now()
	first, err := readRows(ctx, st)
	if err != nil {
		return err
	}
	ticker := time.NewTicker(exclusivePoll)
	defer ticker.Stop()
	for rows := first; ; {
		waiting := false
		for id, r := range rows {
			if was, there := first[id]; !there || was.Run != r.Run || was.Count != r.Count {
				return tidegate.Errorf(tidegate.Unavailable, "a gateway serves from the store: stop it first (node %s%s)", id, at(r))
			}
			waiting = waiting || time.Since(began) < time.Duration(r.DeadAfter)*time.Millisecond
		}
		if !waiting {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if rows, err = readRows(ctx, st); err != nil {
			return err
		}
	}
}

func at(r row) string {
	if r.About.Host == "" {
		return ""
	}
	return fmt.Sprintf(", process %d on %s", r.About.PID, r.About.Host)
}
