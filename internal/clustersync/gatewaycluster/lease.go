package gatewaycluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// errRaced says that somebody else wrote the document first.
var errRaced = errors.New("somebody else wrote it first")

// Acquire takes or renews a lease. Times are of this machine's clock: machines that share a sync must agree within a part of ttl.
func (m *metadata) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (int64, error) {
	if err := m.make(ctx); err != nil {
		return 0, err
	}
	for range recordTries {
		fence, err := m.acquire(ctx, name, owner, ttl)
		if err == nil {
			m.mu.Lock()
			m.leaseOf[fence] = name
			m.mu.Unlock()
		}
		if !errors.Is(err, errRaced) {
			return fence, err
		}
	}
	return 0, fmt.Errorf("acquire lease %q: others do so all the time: %w", name, clustersync.ErrUnreachable)
}

func (m *metadata) acquire(ctx context.Context, name, owner string, ttl time.Duration) (int64, error) {
	lease, err := m.read(ctx, leasePrefix+name)
	if err != nil {
		return 0, fmt.Errorf("acquire lease %q: %w", name, err)
	}
	now := time.Now()
	mine := lease.Rev != "" && lease.Owner == owner
	if !mine && lease.Owner != "" && now.UnixMilli() < lease.Expires {
		return 0, fmt.Errorf("lease %q: %w", name, clustersync.ErrLeaseHeld)
	}
	if !mine {
		if lease.Fence, err = m.nextFence(ctx); err != nil {
			return 0, err
		}
	}
	lease.Owner, lease.Expires = owner, now.Add(ttl).UnixMilli()
	return lease.Fence, m.swap(ctx, lease)
}

// nextFence counts up the fences of all leases. One that is counted and not used does no harm.
func (m *metadata) nextFence(ctx context.Context) (int64, error) {
	for range recordTries {
		count, err := m.read(ctx, fenceDoc)
		if err != nil {
			return 0, fmt.Errorf("count fences: %w", err)
		}
		count.Fence++
		if err := m.swap(ctx, count); !errors.Is(err, errRaced) {
			return count.Fence, err
		}
	}
	return 0, fmt.Errorf("count fences: %w", errRaced)
}

// swap writes a document in place of that revision of it that was read.
func (m *metadata) swap(ctx context.Context, s stored) error {
	body, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode %q: %w", s.ID, err)
	}
	path := keyspace(m.ns()) + url.PathEscape(s.ID)
	_, err = m.c.client.do(ctx, call{method: http.MethodPut, path: path, body: body}, nil)
	if isStatus(err, http.StatusConflict) {
		return errRaced
	}
	if err != nil {
		return fmt.Errorf("write %q: %w", s.ID, err)
	}
	return nil
}

// gave reports whether a fence is one that this process was given: then its lease says whether it is still good.
func (m *metadata) gave(fence int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.leaseOf[fence]
	return ok
}

// held is ErrFenced if the lease of a fence went to somebody else.
func (m *metadata) held(ctx context.Context, fence int64) error {
	m.mu.Lock()
	name, ok := m.leaseOf[fence]
	m.mu.Unlock()
	if !ok {
		return nil
	}
	lease, err := m.read(ctx, leasePrefix+name)
	if err != nil {
		return fmt.Errorf("look at lease %q: %w", name, err)
	}
	if lease.Fence != fence {
		return fmt.Errorf("write under fence %d: %w", fence, clustersync.ErrFenced)
	}
	return nil
}

// Release gives a lease back.
func (m *metadata) Release(ctx context.Context, name, owner string) error {
	for range recordTries {
		lease, err := m.read(ctx, leasePrefix+name)
		if err != nil {
			return fmt.Errorf("release lease %q: %w", name, err)
		}
		if lease.Rev == "" || owner == "" || lease.Owner != owner {
			return nil
		}
		lease.Owner, lease.Expires = "", 0
		if err := m.swap(ctx, lease); !errors.Is(err, errRaced) {
			return err
		}
	}
	return fmt.Errorf("release lease %q: %w", name, errRaced)
}
