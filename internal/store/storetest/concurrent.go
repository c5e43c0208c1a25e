package storetest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// testSnapshotStays holds a View open while others write.
func testSnapshotStays(t *testing.T, s store.Store) {
	put(t, s, "a", "1")
	view(t, s, func(r store.Reader) error {
		it := r.Scan(all())
		defer it.Close()
		update(t, s, func(tx store.Tx) error {
			if _, err := tx.NextSequence(testSpace); err != nil {
				return err
			}
			return putAll(tx, "a", "2", "b", "2")
		})
		want := []string{"a=1"}
		if got, err := dump(r, all()); err != nil || !slices.Equal(got, want) {
			t.Errorf("the old View sees %q, %v", got, err)
		}
		if n, err := r.LastSequence(testSpace); n != 0 || err != nil {
			t.Errorf("the old View sees sequence %d, %v", n, err)
		}
		if v, err := r.Get(key("b")); v != nil || err != nil {
			t.Errorf("the old View sees b=%q, %v", v, err)
		}
		if !it.Next() || string(it.Value()) != "1" || it.Next() {
			t.Error("the old iterator sees what is new")
		}
		if got := contents(t, s); len(got) != 2 {
			t.Errorf("a new View inside the old one sees %q", got)
		}
		return nil
	})
}

// testUpdateIsVisible reads after each of many writes, from many goroutines.
func testUpdateIsVisible(t *testing.T, s store.Store) {
	inParallel(t, 8, func(w int) error {
		k := key(fmt.Sprint("writer ", w))
		for i := range 50 {
			want := fmt.Sprint(i)
			err := s.Update(t.Context(), func(tx store.Tx) error { return tx.Put(k, []byte(want)) })
			if err != nil {
				return err
			}
			err = s.View(t.Context(), func(r store.Reader) error {
				if v, err := r.Get(k); err != nil || string(v) != want {
					return fmt.Errorf("own write %s is seen as %q, %w", want, v, err)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// testLoserSeesWinner: an Update that refuses because of what it read returns when a View sees that too.
// Otherwise optimistic writers would start over with what they already know to be old.
func testLoserSeesWinner(t *testing.T, s store.Store) {
	k := key("counter")
	inParallel(t, 8, func(int) error {
		for done := 0; done < 20; {
			var seen uint64
			err := s.View(t.Context(), func(r store.Reader) (err error) {
				seen, err = counter(r, k)
				return err
			})
			if err != nil {
				return err
			}
			var found uint64
			err = s.Update(t.Context(), func(tx store.Tx) (err error) {
				if found, err = counter(tx, k); err != nil {
					return err
				}
				if found != seen {
					return errRefused
				}
				return tx.Put(k, binary.BigEndian.AppendUint64(nil, seen+1))
			})
			switch {
			case err == nil:
				done++
				continue
			case !errors.Is(err, errRefused):
				return err
			}
			err = s.View(t.Context(), func(r store.Reader) error {
				if n, err := counter(r, k); err != nil || n < found {
					return fmt.Errorf("lost against %d but a View then sees %d, %w", found, n, err)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	view(t, s, func(r store.Reader) error {
		if n, err := counter(r, k); n != 160 || err != nil {
			t.Errorf("the counter is at %d, %v; want 160", n, err)
		}
		return nil
	})
}

func counter(r store.Reader, k []byte) (uint64, error) {
	v, err := r.Get(k)
	if err != nil || v == nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(v), nil
}

// testWritersAreSerial counts in each transaction by hand what NextSequence counts: if any two ran
// at once, or committed in another order than their sequences, the two counts part. A third of them fails.
func testWritersAreSerial(t *testing.T, s store.Store) {
	const writers, each = 16, 60
	k := key("counter")
	inParallel(t, writers, func(w int) error {
		for i := range each {
			err := s.Update(t.Context(), func(tx store.Tx) error {
				n, err := counter(tx, k)
				if err != nil {
					return err
				}
				seq, err := tx.NextSequence(testSpace)
				if err != nil {
					return err
				}
				if uint64(seq) != n+1 {
					return fmt.Errorf("sequence %d after %d commits", seq, n)
				}
				if err := tx.Put(k, binary.BigEndian.AppendUint64(nil, n+1)); err != nil {
					return err
				}
				if (w+i)%3 == 0 {
					return errRefused
				}
				return nil
			})
			if failed := (w+i)%3 == 0; failed != errors.Is(err, errRefused) || (!failed && err != nil) {
				return fmt.Errorf("writer %d, round %d: %w", w, i, err)
			}
		}
		return nil
	})
	if n := lastSequence(t, s, testSpace); n != writers*each*2/3 {
		t.Errorf("last sequence = %d, want %d", n, writers*each*2/3)
	}
}

// testReadersSeeNoGap: whoever sees sequence n sees everything up to n, and time does not run backward.
func testReadersSeeNoGap(t *testing.T, s store.Store) {
	const writers, each = 8, 40
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			var before tidegate.Seq
			for ctx.Err() == nil {
				err := s.View(context.Background(), func(r store.Reader) error {
					last, err := checkDense(r, testSpace)
					if err == nil && last < before {
						err = fmt.Errorf("sequence %d seen after %d", last, before)
					}
					before = last
					return err
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	inParallel(t, writers, func(w int) error {
		for i := range each {
			if err := s.Update(t.Context(), func(tx store.Tx) error { return writeRow(tx, testSpace, fmt.Sprint(w, i)) }); err != nil {
				return err
			}
		}
		return nil
	})
	stop()
	readers.Wait()
	if n := lastSequence(t, s, testSpace); n != writers*each {
		t.Errorf("last sequence = %d, want %d", n, writers*each)
	}
}

// writeRow writes a row under the next sequence.
func writeRow(tx store.Tx, space store.Space, value string) error {
	seq, err := tx.NextSequence(space)
	if err != nil {
		return err
	}
	return tx.Put(rowKey(space, seq), []byte(value))
}

func rowKey(space store.Space, seq tidegate.Seq) []byte {
	return store.NewKey(space, store.KindChannel).Collection(0).Name("*").Seq(seq)
}

// checkDense walks the rows of the space and fails unless they are those of 1, 2, 3 … LastSequence.
func checkDense(r store.Reader, space store.Space) (tidegate.Seq, error) {
	return walkDense(r, space, func([]byte) {})
}

// walkDense is checkDense that shows the value of each row.
func walkDense(r store.Reader, space store.Space, show func(row []byte)) (tidegate.Seq, error) {
	last, err := r.LastSequence(space)
	if err != nil {
		return 0, err
	}
	prefix := store.NewKey(space, store.KindChannel).Collection(0).Name("*")
	it := r.Scan(store.Prefix(prefix))
	defer it.Close()
	var n tidegate.Seq
	for it.Next() {
		seq, _, err := store.CutSeq(it.Key()[len(prefix):])
		if err != nil {
			return 0, err
		}
		if n++; seq != n {
			return 0, fmt.Errorf("row of sequence %d where that of %d is due (the last is %d)", seq, n, last)
		}
		show(it.Value())
	}
	if it.Err() == nil && n != last {
		return 0, fmt.Errorf("%d rows but the last sequence is %d", n, last)
	}
	return last, it.Err()
}

// inParallel runs fn in n goroutines and reports their errors.
func inParallel(t testing.TB, n int, fn func(i int) error) {
	t.Helper()
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = fn(i) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}
