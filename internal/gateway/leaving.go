package gateway

import (
	"context"
	"sync"
	"sync/atomic"
)

// leaving is the context that a request is admitted with: it ends when the request ends, or when the database leaves
// Online or cuts off what still runs. The two are joined only when somebody looks.
type leaving struct {
	context.Context                 // of the request
	instance        context.Context // of the database

	once   sync.Once
	shared atomic.Pointer[context.Context] // the two joined, once somebody waits for them
	cancel context.CancelCauseFunc
	unhook func() bool
}

// join makes the context that ends with either.
func (l *leaving) join() context.Context {
	l.once.Do(func() {
		joined, cancel := context.WithCancelCause(l.Context)
		l.cancel = cancel
		l.unhook = context.AfterFunc(l.instance, func() { cancel(context.Cause(l.instance)) })
		if l.instance.Err() != nil { // now, not when AfterFunc gets to it: what begins after the end must not happen
			cancel(context.Cause(l.instance))
		}
		l.shared.Store(&joined)
	})
	return *l.shared.Load()
}

// Done implements context.Context.
func (l *leaving) Done() <-chan struct{} { return l.join().Done() }

// Err implements context.Context. It costs nothing, since that is what most requests ask.
func (l *leaving) Err() error {
	if joined := l.shared.Load(); joined != nil {
		return (*joined).Err()
	}
	if err := l.Context.Err(); err != nil {
		return err
	}
	if l.instance.Err() != nil {
		return l.join().Err()
	}
	return nil
}

// Value implements context.Context; context.Cause finds its way through it, once the two are joined.
func (l *leaving) Value(key any) any {
	if joined := l.shared.Load(); joined != nil {
		return (*joined).Value(key)
	}
	return l.Context.Value(key)
}

// free lets go of what join made.
func (l *leaving) free() {
	l.once.Do(func() { l.shared.Store(&l.Context) })
	if l.cancel != nil {
		l.unhook()
		l.cancel(context.Canceled)
	}
}
