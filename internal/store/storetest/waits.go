package storetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

func testWait(t *testing.T, s store.Store) {
	for range 3 {
		update(t, s, func(tx store.Tx) error { return writeRow(tx, testSpace, "x") })
	}
	for after := range tidegate.Seq(3) {
		if n, err := s.Wait(t.Context(), testSpace, after); n != 3 || err != nil {
			t.Errorf("Wait(%d) = %d, %v; want 3", after, n, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for space, after := range map[store.Space]tidegate.Seq{testSpace: 3, testSpace + 1: 0} {
		if _, err := s.Wait(ctx, space, after); !errors.Is(err, context.Canceled) {
			t.Errorf("Wait for nothing new, canceled: %v", err)
		}
	}
}

// testWaitIsWoken follows a space with many waiters, each of which must see in a View what it was woken
// for. Writes to another space must not end a wait.
func testWaitIsWoken(t *testing.T, s store.Store) {
	const writes = 50
	inParallel(t, 9, func(i int) error {
		if i == 0 {
			for n := range writes {
				for _, space := range []store.Space{testSpace + 1, testSpace} {
					err := s.Update(t.Context(), func(tx store.Tx) error { return writeRow(tx, space, fmt.Sprint(n)) })
					if err != nil {
						return err
					}
				}
			}
			return nil
		}
		for after := tidegate.Seq(0); after < writes; {
			n, err := s.Wait(t.Context(), testSpace, after)
			if err != nil {
				return err
			}
			if n <= after {
				return fmt.Errorf("woken at %d for %d", after, n)
			}
			err = s.View(t.Context(), func(r store.Reader) error {
				if last, err := checkDense(r, testSpace); err != nil || last < n {
					return fmt.Errorf("woken for %d but a View sees %d, %w", n, last, err)
				}
				return nil
			})
			if err != nil {
				return err
			}
			after = n
		}
		return nil
	})
}

// testWaitEnds: a canceled context and a closed store end a wait under way.
func testWaitEnds(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	canceled, closed := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := s.Wait(ctx, testSpace, 0)
		canceled <- err
	}()
	go func() {
		_, err := s.Wait(context.Background(), testSpace, 0)
		closed <- err
	}()
	cancel()
	if err := <-canceled; !errors.Is(err, context.Canceled) {
		t.Errorf("canceled Wait = %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := <-closed; !errors.Is(err, store.ErrClosed) {
		t.Errorf("Wait on a closed store = %v", err)
	}
}

func testCanceledBeforeBegin(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ran := false
	if err := s.Update(ctx, func(store.Tx) error { ran = true; return nil }); !errors.Is(err, context.Canceled) || ran {
		t.Errorf("Update under a canceled context = %v, ran: %v", err, ran)
	}
	if err := s.View(ctx, func(store.Reader) error { ran = true; return nil }); !errors.Is(err, context.Canceled) || ran {
		t.Errorf("View under a canceled context = %v, ran: %v", err, ran)
	}

	// While one transaction holds the commit section another waits for it and gives up.
	inside, leave := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		first <- s.Update(context.Background(), func(tx store.Tx) error {
			close(inside)
			<-leave
			return putAll(tx, "first", "1")
		})
	}()
	<-inside
	ctx, cancel = context.WithCancel(t.Context())
	second := make(chan error, 1)
	go func() {
		second <- s.Update(ctx, func(tx store.Tx) error { return putAll(tx, "second", "2") })
	}()
	cancel()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("Update that gave up = %v", err)
	}
	close(leave)
	if err := <-first; err != nil {
		t.Errorf("the first Update = %v", err)
	}
	if got := contents(t, s); len(got) != 1 || got[0] != "first=1" {
		t.Errorf("contents = %q", got)
	}
}

// testCanceledAfterBegin: what has begun is carried to its end, and the answer tells so.
func testCanceledAfterBegin(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	if err := s.Update(ctx, func(tx store.Tx) error {
		cancel()
		return putAll(tx, "a", "1")
	}); err != nil {
		t.Errorf("Update canceled in its course = %v", err)
	}
	if got := contents(t, s); len(got) != 1 {
		t.Errorf("contents = %q", got)
	}
}

func testLease(t *testing.T, s store.Store) {
	first, err := s.Lease(t.Context(), "job", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	other, err := s.Lease(t.Context(), "other job", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Release()
	if first.Context().Err() != nil {
		t.Error("the context of a held lease has ended")
	}
	if l, err := s.TryLease(t.Context(), "job", time.Minute); l != nil || err != nil {
		t.Errorf("TryLease of a lease that is held = %v, %v", l, err)
	}
	taken := make(chan store.Lease)
	go func() {
		l, err := s.Lease(context.Background(), "job", time.Minute)
		if err != nil {
			t.Error(err)
		}
		taken <- l
	}()
	select {
	case <-taken:
		t.Error("two have the lease")
	default:
	}
	first.Release()
	if cause := context.Cause(first.Context()); !errors.Is(cause, store.ErrReleased) {
		t.Errorf("cause of a released lease = %v", cause)
	}
	second := <-taken
	first.Release() // must not take it from the second
	if second.Context().Err() != nil {
		t.Error("a second Release by the first holder took the lease from the second")
	}
	if second.Epoch() <= first.Epoch() {
		t.Errorf("epoch %d after %d", second.Epoch(), first.Epoch())
	}
	second.Release()
	third, err := s.TryLease(t.Context(), "job", time.Minute)
	if err != nil || third == nil || third.Epoch() <= second.Epoch() {
		t.Fatalf("TryLease of a lease that is free = %v, %v", third, err)
	}
	third.Release()
	if _, err := s.Lease(t.Context(), "job", 0); tidegate.ErrorCode(err) != tidegate.Invalid {
		t.Errorf("a lease without a time to live: %v", err)
	}
	if _, err := s.TryLease(t.Context(), "job", 0); tidegate.ErrorCode(err) != tidegate.Invalid {
		t.Errorf("a lease without a time to live: %v", err)
	}
}

// testLeaseIsExclusive lets many take the same lease in turn.
func testLeaseIsExclusive(t *testing.T, s store.Store) {
	var holders atomic.Int32
	var epoch atomic.Uint64
	inParallel(t, 8, func(int) error {
		for range 10 {
			l, err := s.Lease(t.Context(), "job", time.Minute)
			if err != nil {
				return err
			}
			if n := holders.Add(1); n != 1 {
				return fmt.Errorf("%d hold the lease", n)
			}
			if before := epoch.Swap(l.Epoch()); before >= l.Epoch() {
				return fmt.Errorf("epoch %d after %d", l.Epoch(), before)
			}
			runtime.Gosched()
			holders.Add(-1)
			l.Release()
		}
		return nil
	})
}

func testLeaseWaiterGivesUp(t *testing.T, s store.Store) {
	held, err := s.Lease(t.Context(), "job", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error, 1)
	go func() {
		_, err := s.Lease(ctx, "job", time.Minute)
		gaveUp <- err
	}()
	cancel()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Errorf("Lease that gave up = %v", err)
	}
	held.Release()
	again, err := s.Lease(t.Context(), "job", time.Minute)
	if err != nil {
		t.Fatalf("the lease is not free after release: %v", err)
	}
	again.Release()
}

func testLeaseLostOnClose(t *testing.T, s store.Store) {
	held, err := s.Lease(t.Context(), "job", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	<-held.Context().Done()
	if cause := context.Cause(held.Context()); !errors.Is(cause, store.ErrLeaseLost) {
		t.Errorf("cause = %v", cause)
	}
	held.Release()
	if _, err := s.Lease(t.Context(), "job", time.Minute); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Lease of a closed store = %v", err)
	}
}

func testClosed(t *testing.T, s store.Store) {
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	ran := false
	if err := s.View(t.Context(), func(store.Reader) error { ran = true; return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("View = %v", err)
	}
	if err := s.Update(t.Context(), func(store.Tx) error { ran = true; return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Update = %v", err)
	}
	if _, err := s.Wait(t.Context(), testSpace, 0); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Wait = %v", err)
	}
	if ran {
		t.Error("a function ran on a closed store")
	}
	if r, ok := s.(store.StatsReader); ok {
		r.Stats() // must not panic
	}
}

// testCloseWaits: Close lets a running View read to its end, and a running Update commit.
func testCloseWaits(t *testing.T, s store.Store) {
	put(t, s, "a", "1")
	inside, leave := make(chan struct{}, 2), make(chan struct{})
	viewed, updated, closed := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	go func() {
		viewed <- s.View(context.Background(), func(r store.Reader) error {
			inside <- struct{}{}
			<-leave
			_, err := dump(r, all())
			return err
		})
	}()
	go func() {
		updated <- s.Update(context.Background(), func(tx store.Tx) error {
			inside <- struct{}{}
			<-leave
			return putAll(tx, "b", "2")
		})
	}()
	<-inside
	<-inside
	go func() { closed <- s.Close() }()
	for !closeHasBegun(s) {
		select {
		case err := <-closed:
			t.Fatalf("Close = %v while a View and an Update run", err)
		default:
		}
	}
	close(leave)
	if err := <-viewed; err != nil {
		t.Errorf("the View = %v", err)
	}
	if err := <-updated; err != nil {
		t.Errorf("the Update = %v", err)
	}
	if err := <-closed; err != nil {
		t.Errorf("Close = %v", err)
	}
}

// closeHasBegun asks with a Wait that does not wait.
func closeHasBegun(s store.Store) bool {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := s.Wait(ctx, testSpace, 0)
	return errors.Is(err, store.ErrClosed)
}
