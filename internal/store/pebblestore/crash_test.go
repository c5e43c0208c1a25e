package pebblestore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
	"github.com/tidegate/tidegate/internal/store/storetest"
)

// smallOptions make memtables small, so that flushes, compactions and new logs happen all the time.
func smallOptions(fs vfs.FS) pebblestore.Options {
	return pebblestore.Options{
		FS: fs, CacheBytes: 1 << 20, MemTableBytes: 256 << 10, MinFreeBytes: -1,
		Logger: slog.New(slog.DiscardHandler),
	}
}

// crash is what is on the disk after a power cut now, and what had been promised until then.
func crash(fs *vfs.MemFS, w *storetest.Work, rnd *rand.Rand) (*vfs.MemFS, *storetest.Work) {
	promised := w.Promised() // first: what is promised while the clone is made need not be in it
	kept := []int{0, 0, 10, 50, 90, 100}[rnd.IntN(6)]
	return fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: kept, RNG: rand.New(rand.NewPCG(rnd.Uint64(), 1))}), promised
}

// TestCrash (I1) cuts the power at random moments while writers are at work. Each round goes on from one of
// the states that a cut of the round before left.
func TestCrash(t *testing.T) {
	const rounds, cuts = 3, 5
	rnd := rand.New(rand.NewPCG(1, uint64(os.Getpid())))
	fs := vfs.NewCrashableMem()
	work := &storetest.Work{}
	for round := range rounds {
		s, err := pebblestore.Open("data", smallOptions(fs))
		if err != nil {
			t.Fatal(err)
		}
		for cut := range cuts {
			clone, promised := runAndCrash(t, s, fs, work, rnd)
			if err := checkReopened(clone, promised); err != nil {
				t.Errorf("round %d, cut %d: %v", round, cut, err)
			}
			if cut == cuts-1 {
				fs, work = clone, promised
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d promised writes survived", work.Len())
}

// runAndCrash lets writers work, cuts the power while they do, and stops them.
func runAndCrash(t *testing.T, s store.Store, fs *vfs.MemFS, work *storetest.Work, rnd *rand.Rand) (*vfs.MemFS, *storetest.Work) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	running, stopped := context.WithCancel(t.Context())
	seed := rnd.Uint64()
	go func() {
		defer stopped()
		work.Run(ctx, s, 16, 100, seed)
	}()
	if !work.Await(running, work.Len()+1+rnd.IntN(100)) {
		t.Error("the writers stopped")
	}
	clone, promised := crash(fs, work, rnd)
	stop()
	<-running.Done()
	return clone, promised
}

// checkReopened opens a state of the disk, checks it, and lets a few writers go on with it.
func checkReopened(fs *vfs.MemFS, promised *storetest.Work) error {
	clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
	s, err := pebblestore.Open("data", smallOptions(clone))
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if err := promised.Check(context.Background(), s); err != nil {
		return errors.Join(err, s.Close())
	}
	more := &storetest.Work{}
	more.Run(context.Background(), s, 2, 5, 1<<40)
	if more.Len() == 0 {
		err = errors.New("the reopened store takes no writes")
	}
	return errors.Join(err, more.Check(context.Background(), s), s.Close())
}

// TestCrashDuringCreation cuts the power at every step of a first start.
func TestCrashDuringCreation(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, uint64(os.Getpid())))
	for step := 0; ; step++ {
		mem := vfs.NewCrashableMem()
		fs := failFrom(mem, int64(step))
		s, err := pebblestore.Open("data", smallOptions(fs))
		if err == nil {
			err = s.Close()
		}
		for _, kept := range []int{0, 50, 100} {
			clone := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: kept, RNG: rand.New(rand.NewPCG(rnd.Uint64(), 1))})
			if err := checkReopened(clone, &storetest.Work{}); err != nil {
				t.Errorf("power cut at step %d, %d %% kept: %v", step, kept, err)
			}
		}
		if err == nil {
			t.Logf("%d steps", step)
			return
		}
	}
}

// TestCheckerSeesLoss plants faults that Work.Check must find: a disk that does not sync what it says it
// syncs, and an engine that drops a write, acknowledges early, or gives out a sequence twice.
func TestCheckerSeesLoss(t *testing.T) {
	t.Run("disk lies about syncs", func(t *testing.T) {
		mem := vfs.NewCrashableMem()
		s, err := pebblestore.Open("data", smallOptions(&lyingFS{FS: mem}))
		if err != nil {
			t.Fatal(err)
		}
		work := &storetest.Work{}
		work.Run(t.Context(), s, 4, 10, 1)
		clone := mem.CrashClone(vfs.CrashCloneCfg{})
		expectLoss(t, clone, work, "promised write")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
	for name, fault := range map[string]struct {
		fault
		want string
	}{
		"drops a cell":        {fault{drop: store.KindDoc}, "cells, want"},
		"drops a row":         {fault{drop: store.KindChannel}, "row"},
		"skips a sequence":    {fault{skip: true}, "row of sequence"},
		"repeats a sequence":  {fault{repeat: true}, "row"},
		"keeps what it undid": {fault{drop: store.KindChannel, repeat: true, undone: true}, "have no row"},
	} {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewCrashableMem()
			s, err := pebblestore.Open("data", smallOptions(mem))
			if err != nil {
				t.Fatal(err)
			}
			work := &storetest.Work{}
			work.Run(t.Context(), &faultyStore{Store: s, fault: fault.fault}, 4, 30, 1)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			expectLoss(t, mem, work, fault.want)
		})
	}
}

func expectLoss(t *testing.T, fs *vfs.MemFS, work *storetest.Work, want string) {
	t.Helper()
	if work.Len() == 0 {
		t.Fatal("nothing was written")
	}
	s, err := pebblestore.Open("data", smallOptions(fs))
	if err != nil {
		t.Logf("the store does not even open: %v", err)
		return
	}
	err = work.Check(t.Context(), s)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("the checker says %v, want an error with %q", err, want)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
