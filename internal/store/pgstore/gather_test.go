package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/tidegate/tidegate/internal/store"
)

// TestGatheredViews: Views that share a round trip see what each asked for, what it did not ask for, and everything that was committed before
// it began; one that gives up, panics or fails takes nobody with it.
func TestGatheredViews(t *testing.T) {
	s := open(t, newSchema())
	const space = store.Space(7)
	key := func(client, n int) store.Key {
		return store.NewKey(space, store.KindDoc).Name(fmt.Sprintf("%d-%d", client, n))
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	failure := errors.New("it fails")
	var work sync.WaitGroup
	for client := range 16 {
		work.Go(func() {
			for n := range 20 {
				err := s.Update(t.Context(), func(tx store.Tx) error { return tx.Put(key(client, n), fmt.Append(nil, n)) })
				if err != nil {
					t.Error(err)
					return
				}
				asked := [][]byte{key(client, n), key(client, n+1), key((client+1)%16, 0)}
				err = s.ViewReading(t.Context(), asked, func(r store.Reader) error { return look(r, key, client, n) })
				if err != nil {
					t.Error(err)
					return
				}
				if err := s.ViewReading(t.Context(), asked, func(store.Reader) error { return failure }); !errors.Is(err, failure) {
					t.Errorf("a View that fails: %v", err)
				}
				if err := s.ViewReading(canceled, asked, func(store.Reader) error { return nil }); !errors.Is(err, context.Canceled) {
					t.Errorf("a View that is canceled: %v", err)
				}
				if n == 10 {
					panics(t, s, asked)
				}
			}
		})
	}
	work.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.ViewReading(t.Context(), nil, func(store.Reader) error { return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("a View of a closed store: %v", err)
	}
}

// look reads what a client has written, by all means there are.
func look(r store.Reader, key func(client, n int) store.Key, client, n int) error {
	if v, err := r.Get(key(client, n)); err != nil || string(v) != fmt.Sprint(n) {
		return fmt.Errorf("asked for: %q, %w", v, err)
	}
	if v, err := r.Get(key(client, n+1)); v != nil || err != nil {
		return fmt.Errorf("asked for and not there: %q, %w", v, err)
	}
	if n > 0 {
		if v, err := r.Get(key(client, n-1)); err != nil || string(v) != fmt.Sprint(n-1) {
			return fmt.Errorf("not asked for: %q, %w", v, err)
		}
	}
	it := r.Scan(store.Prefix(store.NewKey(7, store.KindDoc)))
	defer it.Close()
	mine := 0
	for it.Next() {
		name, _, err := store.CutName(it.Key()[store.Header:])
		if err != nil {
			return err
		}
		var c, m int
		if _, err := fmt.Sscanf(name, "%d-%d", &c, &m); err != nil {
			return err
		}
		if c == client {
			mine++
		}
	}
	if err := it.Err(); err != nil || mine != n+1 {
		return fmt.Errorf("%d rows of %d, %w", mine, n+1, err)
	}
	_, err := r.LastSequence(7)
	return err
}

func panics(t *testing.T, s interface {
	ViewReading(context.Context, [][]byte, func(store.Reader) error) error
}, asked [][]byte) {
	defer func() {
		if recover() == nil {
			t.Error("the panic is lost")
		}
	}()
	_ = s.ViewReading(t.Context(), asked, func(store.Reader) error { panic("a mistake") })
}
