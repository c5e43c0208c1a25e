package gateway

import (
	"context"
	"sync"
)

// leaving is the context that a request is admitted with: it ends when the request ends, or when the database leaves
// Online or cuts off what still runs. The two are joined only when somebody looks.
type leaving struct {
	context.Context                 // of the request
	instance        context.Context // of the database

	once   sync.Once
	joined context.Context
	cancel context.CancelCauseFunc
	unhook func() bool
}

// join makes the context that ends with either.
func (l *leaving) join() context.Context {
	l.once.Do(func() {
		l.joined, l.cancel = context.WithCancelCause(l.Context)
		l.unhook = context.AfterFunc(l.instance, func() { l.cancel(context.Cause(l.instance)) })
		if l.instance.Err() != nil { // now, not when AfterFunc gets to it: what begins after the end must not happen
			l.cancel(context.Cause(l.instance))
		}
	})
	return l.joined
}

// Done implements context.Context.
func (l *leaving) Done() <-chan struct{} { return l.join().Done() }

// Err implements context.Context.
func (l *leaving) Err() error { return l.join().Err() }

// Value implements context.Context; context.Cause finds its way through it.
func (l *leaving) Value(key any) any { return l.join().Value(key) }

// free lets go of what join made.
func (l *leaving) free() {
	l.once.Do(func() { l.joined, l.cancel, l.unhook = l.Context, func(error) {}, func() bool { return true } })
	l.unhook()
	l.cancel(context.Canceled)
}
