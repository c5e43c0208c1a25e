package blip

import (
	"context"
	"sync"
	"time"
)

// Budget bounds the memory that the received messages of many connections take together. When it is exhausted others wait
// for a while; then whoever holds most is dropped, so that a few greedy peers do not stop all others.
type Budget struct {
	mu      sync.Mutex
	limit   int64
	used    int64
	freed   chan struct{} // closed when something is given back; nil: nobody waits
	holders map[holder]int64
}

// holder is who takes of a budget.
type holder interface {
	// hog is told that the holder has more than all others while somebody waits. It must not block.
	hog()
}

// NewBudget makes a budget of so many bytes.
func NewBudget(bytes int64) *Budget { return &Budget{limit: bytes} }

// Used is how many bytes are in use.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// hogPatience is the part of the time that a connection waits for memory before the greediest one is dropped.
const hogPatience = 4

// take takes n bytes, waiting for at most d. A message that is larger than the whole budget may have it alone.
func (b *Budget) take(ctx context.Context, who holder, n int64, d time.Duration) bool {
	if ok, _ := b.try(who, n); ok {
		return true
	}
	timer, patience := time.NewTimer(d), time.NewTimer(d/hogPatience)
	defer timer.Stop()
	defer patience.Stop()
	for {
		ok, freed := b.try(who, n)
		if ok {
			return true
		}
		select {
		case <-freed:
		case <-patience.C:
			greediest := b.greediest()
			if greediest == who {
				return false
			}
			if greediest != nil {
				greediest.hog()
			}
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// greediest is who holds most.
func (b *Budget) greediest() (who holder) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var most int64
	for h, n := range b.holders {
		if n > most {
			who, most = h, n
		}
	}
	return who
}

// try takes n bytes if they are there; if not it returns a channel that is closed when there are more.
func (b *Budget) try(who holder, n int64) (ok bool, freed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+n <= b.limit || b.used == 0 {
		b.used += n
		if b.holders == nil {
			b.holders = map[holder]int64{}
		}
		b.holders[who] += n
		return true, nil
	}
	if b.freed == nil {
		b.freed = make(chan struct{})
	}
	return false, b.freed
}

func (b *Budget) give(who holder, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	if b.holders[who] -= n; b.holders[who] <= 0 {
		delete(b.holders, who)
	}
	if b.freed != nil {
		close(b.freed)
		b.freed = nil
	}
}
