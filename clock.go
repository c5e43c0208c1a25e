package tidegate

import (
	"math"
	"sync/atomic"
	"time"
)

// clockCounterBits are the low bits of a time that count versions made within one tick. The rest is nanoseconds
// since 1970 without these bits: one tick is 65.5 µs.
const clockCounterBits = 16

// Clock gives times to versions: a hybrid logical clock. Times only grow, whatever the time of day does, and two are
// never equal. Safe for concurrent use.
type Clock struct {
	now  func() time.Time
	last atomic.Uint64
}

// NewClock returns a clock that follows now.
func NewClock(now func() time.Time) *Clock { return &Clock{now: now} }

// Next returns a time above all that the clock gave before, and above after: the newest time that the document
// to be written knows of the writer's source. after moves this one result only, so that a document with a time far
// ahead does not carry all others with it. Beyond the greatest time there is none: it is returned again.
func (c *Clock) Next(after uint64) uint64 {
	now := uint64(max(c.now().UnixNano(), 1<<clockCounterBits)) &^ (1<<clockCounterBits - 1)
	for {
		last := c.last.Load()
		t := max(now, last+1)
		if !c.last.CompareAndSwap(last, t) {
			continue
		}
		if after == math.MaxUint64 {
			return after
		}
		return max(t, after+1)
	}
}
