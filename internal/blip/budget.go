package blip

import (
	"context"
	"sync"
	"time"
)

// Budget bounds the memory that the received messages of many connections take together.
type Budget struct {
	mu    sync.Mutex
	limit int64
	used  int64
	freed chan struct{} // closed when something is given back; nil: nobody waits
}

// NewBudget makes a budget of so many bytes.
func NewBudget(bytes int64) *Budget { return &Budget{limit: bytes} }

// Used is how many bytes are in use.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// take takes n bytes, waiting for at most d. A message that is larger than the whole budget may have it alone.
func (b *Budget) take(ctx context.Context, n int64, d time.Duration) bool {
	if ok, _ := b.try(n); ok {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		ok, freed := b.try(n)
		if ok {
			return true
		}
		select {
		case <-freed:
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// try takes n bytes if they are there; if not it returns a channel that is closed when there are more.
func (b *Budget) try(n int64) (ok bool, freed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+n <= b.limit || b.used == 0 {
		b.used += n
		return true, nil
	}
	if b.freed == nil {
		b.freed = make(chan struct{})
	}
	return false, b.freed
}

func (b *Budget) give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	if b.freed != nil {
		close(b.freed)
		b.freed = nil
	}
}
