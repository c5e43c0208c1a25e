package pgstore_test

import (
	"bytes"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/pgstore"
)

// TestGroupsAreBounded: Updates that come at once, and are large together, are not one transaction.
func TestGroupsAreBounded(t *testing.T) {
	s := open(t, newSchema())
	defer s.Close()
	entered, hold := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var work sync.WaitGroup
	work.Go(func() {
		err := s.Update(t.Context(), func(tx store.Tx) error {
			once.Do(func() { close(entered); <-hold })
			return tx.Put(store.NewKey(1, store.KindDoc).Name("first"), nil)
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-entered
	const large, size = 8, 3 << 20
	for i := range large {
		work.Go(func() {
			err := s.Update(t.Context(), func(tx store.Tx) error {
				return tx.Put(store.NewKey(1, store.KindDoc).Seq(1).Name(string(rune('a'+i))), bytes.Repeat([]byte{byte(i)}, size))
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	for s.Stats().QueueDepth < large {
		runtime.Gosched()
	}
	close(hold)
	work.Wait()
	if st := s.Stats(); st.Commits != large+1 || st.Syncs < 3 {
		t.Errorf("%d writes of %d bytes are %d commits in %d transactions", large, size, st.Commits, st.Syncs)
	}
}

// TestFetchIsBounded: many large values are not held in memory at once, and are there all the same when they are asked for.
func TestFetchIsBounded(t *testing.T) {
	s := open(t, newSchema())
	defer s.Close()
	const rows, size = 16, 4 << 20
	var keys [][]byte
	for i := range rows {
		keys = append(keys, store.NewKey(1, store.KindDoc).Name(string(rune('a'+i))))
		err := s.Update(t.Context(), func(tx store.Tx) error { return tx.Put(keys[i], bytes.Repeat([]byte{byte(i + 1)}, size)) })
		if err != nil {
			t.Fatal(err)
		}
	}
	empty, absent := store.NewKey(1, store.KindDoc).Name("0"), store.NewKey(1, store.KindDoc).Name("z")
	if err := s.Update(t.Context(), func(tx store.Tx) error { return tx.Put(empty, nil) }); err != nil {
		t.Fatal(err)
	}
	keys = append(keys, empty, absent)
	err := s.View(t.Context(), func(r store.Reader) error {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		with, err := store.Fetch(r, keys)
		if err != nil {
			return err
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if held := int64(after.HeapAlloc) - int64(before.HeapAlloc); held > rows*size/2 {
			t.Errorf("%d bytes are held of %d", held, rows*size)
		}
		for i, key := range keys {
			v, err := with.Get(key)
			if err != nil {
				return err
			}
			switch {
			case i < rows && (len(v) != size || v[0] != byte(i+1)), i == rows && (v == nil || len(v) > 0), i > rows && v != nil:
				t.Errorf("row %d has %d bytes, nil: %v", i, len(v), v == nil)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestScansAreBounded: a scan of large values holds a few of them at once, and reads them all in both directions.
func TestScansAreBounded(t *testing.T) {
	s := open(t, newSchema())
	defer s.Close()
	const rows, size = 24, 3 << 20
	prefix := store.NewKey(1, store.KindDoc)
	for i := range rows {
		err := s.Update(t.Context(), func(tx store.Tx) error {
			return tx.Put(prefix.Name(string(rune('a'+i))), bytes.Repeat([]byte{byte(i)}, size))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, reverse := range []bool{false, true} {
		err := s.View(t.Context(), func(r store.Reader) error {
			var before, now runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			rng := store.Prefix(prefix)
			rng.Reverse = reverse
			it := r.Scan(rng)
			defer it.Close()
			n := 0
			for ; it.Next(); n++ {
				want := n
				if reverse {
					want = rows - 1 - n
				}
				if v := it.Value(); len(v) != size || v[0] != byte(want) {
					t.Fatalf("row %d has %d bytes", want, len(v))
				}
				runtime.GC()
				runtime.ReadMemStats(&now)
				if held := int64(now.HeapAlloc) - int64(before.HeapAlloc); held > rows*size/3 {
					t.Fatalf("at row %d %d bytes are held of %d", n, held, rows*size)
				}
			}
			if n != rows {
				t.Errorf("%d rows of %d", n, rows)
			}
			return it.Err()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestEpochsOutliveTheTables: epochs of leases in tables made anew, as after a restore, are later than what was given out before.
func TestEpochsOutliveTheTables(t *testing.T) {
	epoch := func(s *pgstore.Store) uint64 {
		l, err := s.Lease(t.Context(), "job", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Release()
		return l.Epoch()
	}
	old := open(t, newSchema())
	defer old.Close()
	var last uint64
	for range 5 {
		last = epoch(old)
	}
	restored := open(t, newSchema())
	defer restored.Close()
	if first := epoch(restored); first <= last || first >= 1<<53 {
		t.Errorf("epoch %d after %d", first, last)
	}
}
