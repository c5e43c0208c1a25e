package pebblestore_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
	"github.com/tidegate/tidegate/internal/store/storetest"
)

// TestEachDiskOperationFails makes the first, the second, the third … change of the file system fail, once
// each. Whatever happens then, the store says so or goes on, and nothing acknowledged is lost.
func TestEachDiskOperationFails(t *testing.T) {
	t.Run("any", func(t *testing.T) {
		failEach(t, 4, 40, func(string) bool { return true })
	})
	// Most changes are to the log. This gets at what flushes and compactions do.
	t.Run("not the log", func(t *testing.T) {
		failEach(t, 8, 60, func(path string) bool { return !strings.HasSuffix(path, ".log") })
	})
}

func failEach(t *testing.T, writers, each int, match func(path string) bool) {
	opened, broken, survived := 0, 0, 0
	for n := int64(0); ; n += 1 + n/6 {
		mem := vfs.NewCrashableMem()
		fs, reached := failOnly(mem, n, match)
		work := &storetest.Work{}
		if s, err := pebblestore.Open("data", smallOptions(fs)); err == nil {
			opened++
			work.Run(t.Context(), s, writers, each, uint64(n))
			err = s.Update(t.Context(), func(tx store.Tx) error { return tx.Put([]byte("after"), nil) })
			switch {
			case err == nil:
				survived++
			case errors.Is(err, store.ErrReadOnly):
				broken++
				checkReadOnly(t, s, work)
			default:
				t.Errorf("operation %d: Update = %v", n, err)
			}
			if closed := s.Close(); closed != nil && !errors.Is(closed, store.ErrReadOnly) {
				t.Errorf("operation %d: Close = %v after Update = %v", n, closed, err)
			}
		}
		for _, kept := range []int{0, 60} {
			clone := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: kept, RNG: rand.New(rand.NewPCG(uint64(n), 1))})
			if err := checkReopened(clone, work); err != nil {
				t.Errorf("operation %d failed, %d %% kept: %v", n, kept, err)
			}
		}
		if !reached() {
			t.Logf("%d operations; of %d stores that opened %d became read-only and %d went on", n, opened, broken, survived)
			if broken == 0 || survived < 2 {
				t.Error("not all ways to fail were seen")
			}
			return
		}
	}
}

// checkReadOnly: a store that failed goes on reading, and refuses everything that writes.
func checkReadOnly(t *testing.T, s *pebblestore.Store, work *storetest.Work) {
	t.Helper()
	if err := work.Check(t.Context(), s); err != nil {
		t.Errorf("read-only: %v", err)
	}
	if err := s.Update(t.Context(), func(store.Tx) error { return nil }); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("read-only: Update = %v", err)
	}
	s.Stats()
}

// TestLogFailsUnderLoad breaks the log for good while many write: all of them must get an answer.
func TestLogFailsUnderLoad(t *testing.T) {
	for name, op := range map[string]errorfs.OpKind{
		"write": errorfs.OpFileWrite, "sync": errorfs.OpFileSyncData, "create": errorfs.OpCreate, "reuse": errorfs.OpReuseForWrite,
	} {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewCrashableMem()
			var on atomic.Bool
			fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(o errorfs.Op) error {
				if on.Load() && o.Kind == op && strings.HasSuffix(o.Path, ".log") {
					return errDisk
				}
				return nil
			}))
			s, err := pebblestore.Open("data", smallOptions(fs))
			mustDo(t, err)
			work := &storetest.Work{}
			running, stopped := context.WithCancel(t.Context())
			stop, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				defer stopped()
				work.Run(stop, s, 16, 3000, 1)
			}()
			work.Await(running, 50)
			on.Store(true)
			<-running.Done() // each writer was answered with an error, or has written all it had to
			if err := s.Update(t.Context(), func(store.Tx) error { return nil }); !errors.Is(err, store.ErrReadOnly) {
				t.Errorf("Update = %v", err)
			}
			checkReadOnly(t, s, work)
			if err := s.Close(); !errors.Is(err, store.ErrReadOnly) {
				t.Errorf("Close = %v", err)
			}
			if err := checkReopened(mem.CrashClone(vfs.CrashCloneCfg{}), work); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestNearlyFull: writes are refused while the disk has no room, without running them; reads go on.
func TestNearlyFull(t *testing.T) {
	var asked atomic.Int32
	o := smallOptions(vfs.NewMem())
	o.MinFreeBytes = 1 << 20
	o.FreeBytes = func(dir string) (uint64, error) {
		if asked.Add(1); dir != "data" {
			t.Errorf("asked for %q", dir)
		}
		return 1<<20 - 1, nil
	}
	s, err := pebblestore.Open("data", o)
	mustDo(t, err)
	for range 100 {
		err := s.Update(t.Context(), func(store.Tx) error {
			t.Error("the function ran")
			return nil
		})
		if !errors.Is(err, store.ErrDiskFull) {
			t.Errorf("Update = %v", err)
		}
	}
	mustDo(t, s.View(t.Context(), func(store.Reader) error { return nil }))
	if n := asked.Load(); n < 1 || n > 20 { // about once a second
		t.Errorf("the file system was asked %d times", n)
	}
	mustDo(t, s.Close())
}
