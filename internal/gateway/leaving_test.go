package gateway

import (
	"context"
	"errors"
	"testing"
)

func TestLeavingEndsWithEither(t *testing.T) {
	type key struct{}
	why := errors.New("why")
	for _, tc := range []struct {
		name        string
		end         func(request, instance context.CancelCauseFunc)
		first, want error
	}{
		{"the database leaves", func(_, i context.CancelCauseFunc) { i(why) }, nil, why},
		{"the request ends", func(r, _ context.CancelCauseFunc) { r(why) }, nil, why},
	} {
		t.Run(tc.name, func(t *testing.T) {
			request, endRequest := context.WithCancelCause(context.WithValue(t.Context(), key{}, "v"))
			instance, endInstance := context.WithCancelCause(t.Context())
			defer endRequest(nil)
			defer endInstance(nil)
			l := &leaving{Context: request, instance: instance}
			child, cancel := context.WithCancel(l)
			defer cancel()
			if l.Err() != nil || l.Value(key{}) != "v" {
				t.Fatal("ended, or lost a value")
			}
			tc.end(endRequest, endInstance)
			await(t, l.Done(), "end")
			await(t, child.Done(), "end of a child")
			if !errors.Is(context.Cause(l), why) || !errors.Is(context.Cause(child), why) || !errors.Is(l.Err(), context.Canceled) {
				t.Errorf("%v, %v, %v", context.Cause(l), context.Cause(child), l.Err())
			}
			l.free()
		})
	}
}

// A request that never looks at it costs nothing, and what it looks at is let go.
func TestLeavingIsFreed(t *testing.T) {
	instance, end := context.WithCancelCause(t.Context())
	defer end(nil)
	untouched := &leaving{Context: t.Context(), instance: instance}
	untouched.free()
	untouched.free()
	touched := &leaving{Context: t.Context(), instance: instance}
	done := touched.Done()
	touched.free()
	await(t, done, "end")
	if allocs := testing.AllocsPerRun(100, func() { (&leaving{Context: instance, instance: instance}).free() }); allocs > 1 {
		t.Errorf("%v allocations for a request that does not look", allocs)
	}
}
