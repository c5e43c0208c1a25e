package clustersync

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// The lease of spec §15.3 keeps two processes from working on one sync: each write into the records carries its fence, so that a process
// that has lost it without knowing fails with its next write.
const (
	leaseName  = "coordinator"
	leaseTTL   = 20 * time.Second
	leaseRenew = 5 * time.Second
	// leaseWait is how long a start waits for the lease of a process that was killed.
	leaseWait  = 2 * leaseTTL
	leaseRetry = time.Second
)

// lease is held on one cluster.
type lease struct {
	on    Metadata
	owner string
	fence atomic.Int64
}

// take gets the lease, or fails at once if it is somebody else's.
func (l *lease) take(ctx context.Context) error {
	fence, err := l.on.Acquire(ctx, leaseName, l.owner, leaseTTL)
	if err != nil {
		if errors.Is(err, ErrLeaseHeld) {
			return Errorf(MetadataConflict, "another process works on this sync: %w", err)
		}
		return fmt.Errorf("take lease: %w", err)
	}
	l.fence.Store(fence)
	return nil
}

// wait gets the lease once whoever holds it has let it expire.
func (l *lease) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaseWait)
	defer cancel()
	for {
		err := l.take(ctx)
		if err == nil || NameOf(err) != MetadataConflict {
			return err
		}
		if pauseFor(ctx, leaseRetry) != nil {
			return err
		}
	}
}

// keep renews the lease until ctx ends. It returns an error only when the lease is lost to somebody else: a cluster that cannot be
// reached now may be reached later, and until then nobody can take the lease.
func (l *lease) keep(ctx context.Context) error {
	for pauseFor(ctx, leaseRenew) == nil {
		fence, err := l.on.Acquire(ctx, leaseName, l.owner, leaseTTL)
		switch {
		case errors.Is(err, ErrLeaseHeld):
			return Errorf(MetadataConflict, "the lease was lost to another process: %w", err)
		case err == nil && fence != l.fence.Load():
			// It had expired and somebody had it in between, and may have written.
			return Errorf(MetadataConflict, "the lease was lost for a while: %w", ErrFenced)
		}
	}
	return nil
}

// release gives the lease back, so that the next process need not wait.
func (l *lease) release(ctx context.Context) { _ = l.on.Release(ctx, leaseName, l.owner) }
