package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

var errRefused = errors.New("refused")

// testFailedLeavesNothing lets a transaction do all it can and fail, alone and among others.
func testFailedLeavesNothing(t *testing.T, s store.Store) {
	put(t, s, "a", "1", "b", "2", "c", "3")
	update(t, s, func(tx store.Tx) error {
		_, err := tx.NextSequence(testSpace)
		return err
	})
	err := s.Update(t.Context(), func(tx store.Tx) error {
		if err := ruin(tx); err != nil {
			return err
		}
		return errRefused
	})
	if err != errRefused {
		t.Errorf("Update = %v, want the function's own error", err)
	}
	checkUntouched(t, s)
}

func testPanicLeavesNothing(t *testing.T, s store.Store) {
	put(t, s, "a", "1", "b", "2", "c", "3")
	update(t, s, func(tx store.Tx) error {
		_, err := tx.NextSequence(testSpace)
		return err
	})
	err := s.Update(t.Context(), func(tx store.Tx) error {
		if err := ruin(tx); err != nil {
			return err
		}
		panic("planted")
	})
	if tidegate.ErrorCode(err) != tidegate.Internal || err == nil {
		t.Errorf("Update with a panic = %v, want an Internal error", err)
	}
	checkUntouched(t, s)
}

// ruin changes whatever a transaction can change.
func ruin(tx store.Tx) error {
	for range 3 {
		if _, err := tx.NextSequence(testSpace); err != nil {
			return err
		}
	}
	if _, err := tx.NextSequence(testSpace + 1); err != nil {
		return err
	}
	if err := putAll(tx, "a", "ruined", "new", "x"); err != nil {
		return err
	}
	if err := tx.Delete(key("b")); err != nil {
		return err
	}
	if d, ok := tx.(store.RangeDeleter); ok {
		if err := d.DeleteRange(store.Prefix(store.SpaceKey(testSpace))); err != nil {
			return err
		}
		if n, err := tx.NextSequence(testSpace); err != nil || n != 1 {
			return fmt.Errorf("NextSequence after the space was deleted = %d, %v", n, err)
		}
	}
	return nil
}

func checkUntouched(t *testing.T, s store.Store) {
	t.Helper()
	want := []string{"a=1", "b=2", "c=3"}
	if got := contents(t, s); !slices.Equal(got, want) {
		t.Errorf("contents = %q, want %q", got, want)
	}
	for space, want := range map[store.Space]tidegate.Seq{testSpace: 1, testSpace + 1: 0} {
		if got := lastSequence(t, s, space); got != want {
			t.Errorf("last sequence of space %d = %d, want %d", space, got, want)
		}
		update(t, s, func(tx store.Tx) error {
			if n, err := tx.NextSequence(space); n != want+1 || err != nil {
				return fmt.Errorf("NextSequence = %d, %v; want %d", n, err, want+1)
			}
			return nil
		})
	}
}

func testSequences(t *testing.T, s store.Store) {
	if n := lastSequence(t, s, testSpace); n != 0 {
		t.Errorf("last sequence of an unused space = %d", n)
	}
	for i := range tidegate.Seq(3) {
		update(t, s, func(tx store.Tx) error {
			before, err := tx.LastSequence(testSpace)
			if err != nil {
				return err
			}
			a, err := tx.NextSequence(testSpace)
			if err != nil {
				return err
			}
			b, err := tx.NextSequence(testSpace)
			if err != nil {
				return err
			}
			last, err := tx.LastSequence(testSpace)
			if before != 2*i || a != 2*i+1 || b != 2*i+2 || last != b {
				return fmt.Errorf("sequences %d, %d, %d, %d in round %d", before, a, b, last, i)
			}
			return err
		})
		if n := lastSequence(t, s, testSpace); n != 2*i+2 {
			t.Errorf("last sequence = %d, want %d", n, 2*i+2)
		}
		if n := lastSequence(t, s, testSpace+1); n != 0 {
			t.Errorf("last sequence of the next space = %d", n)
		}
	}
}

// plainTx hides the optional interfaces of a transaction.
type plainTx struct{ store.Tx }

func testAdvanceSequence(t *testing.T, s store.Store) {
	advance := func(to tidegate.Seq, plain bool, fail error) {
		t.Helper()
		err := s.Update(t.Context(), func(tx store.Tx) error {
			if plain {
				tx = plainTx{tx}
			}
			if err := store.AdvanceSequence(tx, testSpace, to); err != nil {
				return err
			}
			if last, err := tx.LastSequence(testSpace); err != nil || last < to {
				return fmt.Errorf("in the transaction: last sequence %d, %w", last, err)
			}
			return fail
		})
		if !errors.Is(err, fail) {
			t.Fatalf("Update: %v", err)
		}
	}
	want := func(want tidegate.Seq) {
		t.Helper()
		if n := lastSequence(t, s, testSpace); n != want {
			t.Errorf("last sequence = %d, want %d", n, want)
		}
	}
	advance(1<<33, false, nil)
	want(1 << 33)
	advance(1<<34, false, errRefused)
	want(1 << 33)
	advance(5, false, nil) // not back
	want(1 << 33)
	advance(1<<33+3, true, nil)
	want(1<<33 + 3)
	update(t, s, func(tx store.Tx) error {
		next, err := tx.NextSequence(testSpace)
		if next != 1<<33+4 {
			t.Errorf("next sequence = %d", next)
		}
		return err
	})
	if n := lastSequence(t, s, testSpace+1); n != 0 {
		t.Errorf("last sequence of the next space = %d", n)
	}
	if last, err := s.Wait(t.Context(), testSpace, 1<<33); err != nil || last != 1<<33+4 {
		t.Errorf("Wait: %d, %v", last, err)
	}
}

func testDeleteRange(t *testing.T, s store.Store) {
	put(t, s, "a", "1", "b", "2", "c", "3", "d", "4")
	has := true
	update(t, s, func(tx store.Tx) error {
		var d store.RangeDeleter
		if d, has = tx.(store.RangeDeleter); !has {
			return nil
		}
		if err := putAll(tx, "bb", "in the same transaction", "d", "5"); err != nil {
			return err
		}
		if err := d.DeleteRange(store.Range{Start: key("b"), End: key("d"), Reverse: true}); err != nil {
			return err
		}
		for _, name := range []string{"b", "bb", "c"} {
			if v, err := tx.Get(key(name)); v != nil || err != nil {
				return fmt.Errorf("key %s has %q, %v", name, v, err)
			}
		}
		if err := putAll(tx, "c", "after"); err != nil {
			return err
		}
		for _, r := range []store.Range{{Start: key("a")}, {End: key("a")}, {}} {
			if err := d.DeleteRange(r); tidegate.ErrorCode(err) != tidegate.Invalid {
				return fmt.Errorf("DeleteRange of an open range: %w", err)
			}
		}
		if err := d.DeleteRange(store.Range{Start: key("z"), End: key("a")}); err != nil {
			return err
		}
		got, err := dump(tx, all())
		if want := []string{"a=1", "c=after", "d=5"}; err == nil && !slices.Equal(got, want) {
			return fmt.Errorf("a scan gives %q, want %q", got, want)
		}
		return err
	})
	if got, want := contents(t, s), []string{"a=1", "c=after", "d=5"}; has && !slices.Equal(got, want) {
		t.Errorf("contents = %q, want %q", got, want)
	}
}

// testDeleteRangeTakesSequence drops a space whole, as dropping a database does.
func testDeleteRangeTakesSequence(t *testing.T, s store.Store) {
	next := func(tx store.Tx) error {
		_, err := tx.NextSequence(testSpace)
		return err
	}
	update(t, s, next)
	update(t, s, next)
	if n, err := s.Wait(t.Context(), testSpace, 0); n != 2 || err != nil {
		t.Errorf("Wait = %d, %v", n, err)
	}
	has := true
	update(t, s, func(tx store.Tx) error {
		var d store.RangeDeleter
		if d, has = tx.(store.RangeDeleter); !has {
			return nil
		}
		return d.DeleteRange(store.Prefix(store.SpaceKey(testSpace)))
	})
	if !has {
		return
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if n, err := s.Wait(ended, testSpace, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait on a deleted space = %d, %v", n, err)
	}
	if n := lastSequence(t, s, testSpace); n != 0 {
		t.Errorf("last sequence of a deleted space = %d", n)
	}
	update(t, s, next)
	if n := lastSequence(t, s, testSpace); n != 1 {
		t.Errorf("first sequence after deletion = %d", n)
	}
	if n, err := s.Wait(t.Context(), testSpace, 0); n != 1 || err != nil {
		t.Errorf("Wait = %d, %v", n, err)
	}
}
