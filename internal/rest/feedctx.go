package rest

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A feedContext is what a live feed waits on: it ends for good when the feed is to end, and for a moment each
// time the feed has been silent for its span. It takes the place of a chain of contexts and a timer for every
// wait, which would be most of an idle feed's memory.
type feedContext struct {
	context.Context // of the database: ends when that leaves Online

	span   time.Duration // 0: silence does not matter
	active atomic.Int64  // when something was last sent, unix ns
	timer  *time.Timer
	unhook func() bool

	mu   sync.Mutex
	done chan struct{}
	err  error // why done is closed
	over bool  // it ended for good
}

// newFeedContext begins to watch for silence.
func newFeedContext(leaving context.Context, span time.Duration) *feedContext {
	c := &feedContext{Context: leaving, span: span, done: make(chan struct{})}
	c.sent()
	c.unhook = context.AfterFunc(leaving, func() { c.end(context.Cause(leaving)) })
	if span > 0 {
		c.timer = time.AfterFunc(span, c.check)
	}
	return c
}

// sent notes that something was sent.
func (c *feedContext) sent() {
	if c.span > 0 {
		c.active.Store(time.Now().UnixNano())
	}
}

// check ends the context for a moment if it has been silent for the whole span; else it looks again later.
func (c *feedContext) check() {
	if left := c.span - time.Since(time.Unix(0, c.active.Load())); left > 0 {
		c.timer.Reset(left)
		return
	}
	c.close(errFeedTimer, false)
}

// resume makes a context that ended for a moment whole again. false: it has ended for good.
func (c *feedContext) resume() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return false
	}
	if c.err != nil {
		c.err, c.done = nil, make(chan struct{})
		c.sent()
		c.timer.Reset(c.span)
	}
	return true
}

// end ends the context for good.
func (c *feedContext) end(cause error) { c.close(cause, true) }

func (c *feedContext) close(err error, over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return
	}
	if c.err == nil {
		close(c.done)
	}
	c.err, c.over = err, over
}

// stop frees what the context holds.
func (c *feedContext) stop() {
	c.end(context.Canceled)
	c.unhook()
	if c.timer != nil {
		c.timer.Stop()
	}
}

// Done implements context.Context.
func (c *feedContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done
}

// Err implements context.Context.
func (c *feedContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// cause is why the context ended for good; nil if it has not.
func (c *feedContext) cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		return nil
	}
	return c.err
}
