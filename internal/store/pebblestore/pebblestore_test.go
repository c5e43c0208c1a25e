package pebblestore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

// TestLargeTransaction: Pebble treats batches beyond half a memtable in a way of its own, in which it keeps
// their memory. They mix with small ones, and are there after reopening.
func TestLargeTransaction(t *testing.T) {
	fs := vfs.NewMem()
	for range 2 {
		s, err := pebblestore.Open("data", smallOptions(fs))
		mustDo(t, err)
		for i := range byte(6) {
			mustDo(t, s.Update(t.Context(), func(tx store.Tx) error {
				for j := range byte(50) {
					if err := tx.Put([]byte{'k', i, j}, bytes.Repeat([]byte{i}, 20_000*int(i%3))); err != nil {
						return err
					}
				}
				return nil
			}))
		}
		checkLarge := func(r store.Reader) error {
			for i := range byte(6) {
				for j := range byte(50) {
					v, err := r.Get([]byte{'k', i, j})
					if err != nil || !bytes.Equal(v, bytes.Repeat([]byte{i}, 20_000*int(i%3))) {
						return fmt.Errorf("value %d.%d has %d bytes, %w", i, j, len(v), err)
					}
				}
			}
			return nil
		}
		mustDo(t, s.View(t.Context(), checkLarge))
		mustDo(t, s.Update(t.Context(), func(tx store.Tx) error { return checkLarge(tx) }))
		mustDo(t, s.Close())
	}
}

// TestEpochsSurvive: the epoch of a lease grows across restarts, and node ids of two stores differ.
func TestEpochsSurvive(t *testing.T) {
	fs := vfs.NewMem()
	var last uint64
	for range 3 {
		s, err := pebblestore.Open("data", smallOptions(fs))
		mustDo(t, err)
		l, err := s.Lease(t.Context(), "job", time.Second)
		mustDo(t, err)
		if l.Epoch() <= last {
			t.Errorf("epoch %d after %d", l.Epoch(), last)
		}
		last = l.Epoch()
		mustDo(t, s.Close())
	}
}

// TestDropAfterStart: a transaction that deletes a space, looks at its sequence and fails is the first
// to touch the space after a start. What it saw must not be believed afterwards.
func TestDropAfterStart(t *testing.T) {
	fs := vfs.NewMem()
	next := func(s *pebblestore.Store) (n tidegate.Seq) {
		mustDo(t, s.Update(t.Context(), func(tx store.Tx) (err error) {
			n, err = tx.NextSequence(1)
			return err
		}))
		return n
	}
	s, err := pebblestore.Open("data", smallOptions(fs))
	mustDo(t, err)
	next(s)
	mustDo(t, s.Close())
	s, err = pebblestore.Open("data", smallOptions(fs))
	mustDo(t, err)
	refused := errors.New("refused")
	err = s.Update(t.Context(), func(tx store.Tx) error {
		if err := tx.(store.RangeDeleter).DeleteRange(store.Prefix(store.SpaceKey(1))); err != nil {
			return err
		}
		if n, err := tx.LastSequence(1); n != 0 || err != nil {
			t.Errorf("last sequence of a deleted space = %d, %v", n, err)
		}
		return refused
	})
	if err != refused {
		t.Errorf("Update = %v", err)
	}
	if n := next(s); n != 2 {
		t.Errorf("next sequence = %d, want 2", n)
	}
	mustDo(t, s.Close())

	// The same when it succeeds and somebody waits who knew the old sequence.
	s, err = pebblestore.Open("data", smallOptions(fs))
	mustDo(t, err)
	if n, err := s.Wait(t.Context(), 1, 0); n != 2 || err != nil {
		t.Errorf("Wait = %d, %v", n, err)
	}
	mustDo(t, s.Update(t.Context(), func(tx store.Tx) error {
		return tx.(store.RangeDeleter).DeleteRange(store.Prefix(store.SpaceKey(1)))
	}))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if n, err := s.Wait(ended, 1, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait on a deleted space = %d, %v", n, err)
	}
	mustDo(t, s.Close())
}

// TestStats: the figures that telemetry shows move with what happens.
func TestStats(t *testing.T) {
	s, err := pebblestore.OpenMem()
	mustDo(t, err)
	before := s.Stats()
	for range 3 {
		mustDo(t, s.Update(t.Context(), func(tx store.Tx) error { return tx.Put([]byte("key"), []byte("value")) }))
	}
	_ = s.Update(t.Context(), func(store.Tx) error { return errors.New("refused") })
	after := s.Stats()
	if after.Commits-before.Commits != 3 || after.Syncs-before.Syncs != 3 || after.BytesWritten-before.BytesWritten != 24 {
		t.Errorf("from %+v to %+v", before, after)
	}
	if after.DiskBytes == 0 {
		t.Error("no bytes on disk")
	}
	mustDo(t, s.Close())
}
