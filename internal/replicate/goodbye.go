package replicate

import (
	"context"
	"errors"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/blip"
	"github.com/tidegate/tidegate/internal/devicesync"
)

// This file is how a connection is ended from this side (device-sync.md §8.1, §12.4). What the peer pushed and has been taken in is
// answered first, later messages are not taken any more; then a CLOSE frame tells the peer whether to come back. Its code is never 1000 or
// 1001: those make Couchbase Lite stop for good.

// goodbyePatience is how long what was taken in may still take to be answered.
const goodbyePatience = 5 * time.Second

// leave is why, and how, a connection is being ended.
type leave struct {
	code   int
	reason string
	err    error // what requests are answered that come now; nil: nothing
}

// leaveFor is the end of a connection for a cause: the gate of device sync says for itself whether the peer is to come back; after
// anything else (the database goes offline, the server stops, the login has ended) it is.
func leaveFor(cause error) *leave {
	if gate, ok := errors.AsType[*devicesync.GateError](cause); ok {
		l := &leave{}
		if l.code, l.reason = gate.Close(); l.code == devicesync.CloseStop {
			l.err = gate
		}
		return l
	}
	return &leave{code: devicesync.CloseRetry, reason: tidegate.ErrorReason(cause)}
}

// goodbye ends the connection for a cause.
func (c *connection) goodbye(cause error) { c.part(leaveFor(cause)) }

// part ends the connection. It waits for those who work for it, so none of them calls it.
func (c *connection) part(l *leave) {
	if !c.leaving.CompareAndSwap(nil, l) {
		return
	}
	c.mu.Lock()
	for _, coll := range c.all() {
		coll.unsubscribe()
	}
	c.mu.Unlock()
	answered := make(chan struct{})
	go func() {
		c.crew.wait()
		close(answered)
	}()
	timer := time.NewTimer(goodbyePatience)
	defer timer.Stop()
	select {
	case <-answered:
	case <-timer.C:
	case <-c.ctx().Done():
	}
	c.conn.Close(l.code, l.reason)
}

// late deals with a request that comes while the connection is being ended, and reports whether it is.
func (c *connection) late(r *blip.Request) bool {
	l := c.leaving.Load()
	if l == nil {
		return false
	}
	c.finish(r, l.err)
	return true
}

// whenEnded calls goodbye when ctx ends, in a goroutine that stop waits for if it has begun.
func (c *connection) whenEnded(ctx context.Context) (stop func()) {
	done := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(done)
		c.goodbye(context.Cause(ctx))
	})
	return func() {
		if !cancel() {
			<-done
		}
	}
}
