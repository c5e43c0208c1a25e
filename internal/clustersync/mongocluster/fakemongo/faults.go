package fakemongo

import (
	"context"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Fault decides what happens to a call: the n-th of that command, counted from 1. It is called with the server locked.
type Fault func(command string, n int) Action

// Action is what happens to a call.
type Action struct {
	dropBefore, dropAfter, kill bool
	code                        int
	labels                      []string
	wait                        time.Duration
	until                       <-chan struct{}
	reply                       bson.D
}

// The actions.
var (
	Pass        = Action{}
	DropBefore  = Action{dropBefore: true} // the connection breaks and nothing was done
	DropAfter   = Action{dropAfter: true}  // it was done, and the answer is lost
	KillCursors = Action{kill: true}       // the server forgets its cursors, and then does what it is told
)

// Answer refuses the call with an error.
func Answer(code int, labels ...string) Action { return Action{code: code, labels: labels} }

// NotPrimary is how a server answers that steps down.
func NotPrimary() Action { return Answer(10107, "RetryableWriteError") }

// Slow does the call after a while.
func Slow(d time.Duration) Action { return Action{wait: d} }

// After is an action that happens when a channel is closed.
func After(until <-chan struct{}, a Action) Action {
	a.until = until
	return a
}

// Reply has the call succeed with these fields, and do nothing.
func Reply(fields bson.D) Action { return Action{reply: fields} }

// Break has a fault look at every call; nil ends it.
func (s *Server) Break(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// Once makes a fault that hits the next call of a command only.
func (s *Server) Once(command string, a Action) {
	hit := false
	s.Break(func(name string, _ int) Action {
		if hit || name != command {
			return Pass
		}
		hit = true
		return a
	})
}

// Forget drops the history up to now.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.tick()
	s.state.events, s.state.oplog = nil, nil
	s.state.floor = s.state.clock
	s.state.note()
}

// Elect has the server be made the primary once more. To be called by a [Fault], which holds the lock.
func (s *Server) Elect(election bson.ObjectID) { s.opts.Election = election }

// pause returns when the time of an action has come, or the context ends.
func (a Action) pause(ctx context.Context) error {
	if a.until != nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.until:
		}
	}
	if a.wait == 0 {
		return nil
	}
	return pause(ctx, a.wait)
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
