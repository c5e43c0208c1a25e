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
	any := func(string) bool { return true }
	isLog := func(path string) bool { return strings.HasSuffix(path, ".log") }
	t.Run("opening", func(t *testing.T) {
		failEach{stride: 2, each: 1, match: any}.run(t)
	})
	t.Run("log", func(t *testing.T) {
		failEach{opened: true, stride: 15, each: 30, match: isLog}.run(t)
	})
	t.Run("tables and manifest", func(t *testing.T) {
		failEach{opened: true, stride: 5, each: 100, match: func(path string) bool { return !isLog(path) }}.run(t)
	})
}

// failEach fails one change of a matching path at a time: number 0, stride, 2·stride …
type failEach struct {
	opened bool // changes before the store was opened do not count
	stride int64
	each   int // writes of each writer
	match  func(path string) bool
}

func (f failEach) run(t *testing.T) {
	opened, broken, survived := 0, 0, 0
	for n := int64(0); ; n += f.stride {
		mem := vfs.NewCrashableMem()
		var armed atomic.Bool
		armed.Store(!f.opened)
		fs, reached := failOnly(mem, n, func(path string) bool { return armed.Load() && f.match(path) })
		work := &storetest.Work{}
		if s, err := pebblestore.Open("data", smallOptions(fs)); err == nil {
			opened++
			armed.Store(true)
			work.Run(t.Context(), s, 8, f.each, uint64(n))
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
			if f.opened && (broken == 0 || survived == 0) {
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
