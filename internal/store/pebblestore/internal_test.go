package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/storetest"
)

// TestConformance runs the suite of all engines, with memtables so small that much of it meets flushes,
// and with slices poisoned that outlive their transaction.
func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		s, err := Open("data", Options{
			FS: vfs.NewMem(), CacheBytes: 1 << 20, MemTableBytes: 64 << 10, MinFreeBytes: -1,
			Logger: slog.New(slog.DiscardHandler), poison: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestDiskGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var free uint64
		var fault error
		asked := 0
		g := newDiskGuard("dir", Options{
			MinFreeBytes: 100,
			FreeBytes:    func(string) (uint64, error) { asked++; return free, fault },
			Logger:       slog.New(slog.NewTextHandler(&log, nil)),
		})
		steps := []struct {
			wait  time.Duration
			free  uint64
			fault error
			full  bool
			asked int
			logs  int // lines so far
		}{
			{0, 100, nil, false, 1, 0},
			{time.Second - 1, 99, nil, false, 1, 0}, // the last answer still holds
			{1, 99, nil, true, 2, 1},
			{time.Second, 0, nil, true, 3, 1},
			{time.Second / 2, 1000, nil, true, 3, 1},
			{time.Second / 2, 1000, nil, false, 4, 2},
			{time.Second, 0, io.ErrUnexpectedEOF, false, 5, 3},
			{time.Second, 0, io.ErrUnexpectedEOF, false, 6, 3},
			{time.Second, 0, nil, true, 7, 4},
		}
		for i, step := range steps {
			time.Sleep(step.wait)
			free, fault = step.free, step.fault
			if full := g.nearlyFull(); full != step.full || asked != step.asked {
				t.Errorf("step %d: full %v, asked %d times; want %v, %d", i, full, asked, step.full, step.asked)
			}
			if n := strings.Count(log.String(), "\n"); n != step.logs {
				t.Errorf("step %d: %d lines are logged, want %d:\n%s", i, n, step.logs, &log)
			}
		}
		if off := newDiskGuard("dir", Options{MinFreeBytes: -1}); off.nearlyFull() {
			t.Error("a guard that is off guards")
		}
	})
}

// failingFS fails to write files of one kind.
type failingFS struct {
	vfs.FS
	suffix string
	fails  bool
}

func (f *failingFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if f.fails && strings.HasSuffix(name, f.suffix) {
		return nil, errors.New("planted")
	}
	return f.FS.Create(name, c)
}

// TestFenceForTables: Pebble repeats failed writes of tables at once and for ever. The fence slows it down,
// forgets when a table was written, and gives up in the end.
func TestFenceForTables(t *testing.T) {
	var pauses []time.Duration
	broken := make(chan error, 1)
	disk := &failingFS{FS: vfs.NewMem(), suffix: ".sst", fails: true}
	f := &fence{FS: disk, broken: func(err error) { broken <- err }, pause: func(d time.Duration) { pauses = append(pauses, d) }}
	create := func() error {
		file, err := f.Create("000001.sst", vfs.WriteCategoryUnspecified)
		if err == nil {
			err = errors.Join(file.Sync(), file.Close())
		}
		return err
	}
	if err := create(); err == nil || len(pauses) != 0 {
		t.Errorf("while the store is being opened: %v, %v", err, pauses)
	}
	f.armed.Store(true)
	for range maxTableErrors - 1 {
		if err := create(); err == nil {
			t.Error("the error was lost")
		}
	}
	if len(pauses) != maxTableErrors-1 || pauses[0] != firstPause || pauses[1] != 2*firstPause {
		t.Errorf("pauses: %v", pauses)
	}
	disk.fails = false
	if err := create(); err != nil {
		t.Error(err)
	}
	disk.fails = true
	for range maxTableErrors - 1 {
		_ = create()
	}
	select {
	case err := <-broken:
		t.Errorf("gave up too early: %v", err)
	default:
	}
	go func() {
		_ = create()
		t.Error("the fence returned to Pebble")
	}()
	if err := <-broken; err == nil || !strings.Contains(err.Error(), "create 000001.sst: planted") {
		t.Errorf("broken by %v", err)
	}
}

// TestGoexit: a function that ends its goroutine, as t.FailNow does, ends no more than its transaction.
func TestGoexit(t *testing.T) {
	s, err := OpenMem()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		err := s.Update(t.Context(), func(tx store.Tx) error {
			if err := tx.Put([]byte("key"), []byte("lost")); err != nil {
				return err
			}
			runtime.Goexit()
			return nil
		})
		if err != errGone {
			t.Errorf("Update = %v", err)
		}
		err = s.Update(t.Context(), func(tx store.Tx) error {
			if v, err := tx.Get([]byte("key")); v != nil || err != nil {
				t.Errorf("Get = %q, %v", v, err)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestQueueIsBounded: when the queue is full, an Update waits outside it and still heeds its context.
func TestQueueIsBounded(t *testing.T) {
	s, err := Open("data", Options{FS: vfs.NewMem(), QueueLength: 2, MinFreeBytes: -1, CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	inside, leave := make(chan struct{}), make(chan struct{})
	answers := make(chan error, 10)
	go func() {
		answers <- s.Update(context.Background(), func(store.Tx) error {
			close(inside)
			<-leave
			return nil
		})
	}()
	<-inside
	ctx, cancel := context.WithCancel(t.Context())
	for range 5 {
		go func() { answers <- s.Update(ctx, func(store.Tx) error { return nil }) }()
	}
	for s.Stats().QueueDepth < 2 {
		runtime.Gosched()
	}
	cancel()
	for range 5 {
		if err := <-answers; !errors.Is(err, context.Canceled) {
			t.Errorf("Update = %v", err)
		}
	}
	if n := s.Stats().QueueDepth; n != 2 {
		t.Errorf("%d are queued", n)
	}
	close(leave)
	if err := <-answers; err != nil {
		t.Errorf("Update = %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestTransactionIsBounded(t *testing.T) {
	s, err := Open("data", Options{FS: vfs.NewMem(), MinFreeBytes: -1, CacheBytes: 1 << 20, maxTx: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, rows := range []int{10, 9} {
		err := s.Update(t.Context(), func(tx store.Tx) error {
			for i := range rows {
				if err := tx.Put([]byte{'k', byte(i)}, make([]byte, 100)); err != nil {
					return err
				}
			}
			return nil
		})
		if fits := rows < 10; fits != (err == nil) || (!fits && tidegate.ErrorCode(err) != tidegate.TooLarge) {
			t.Errorf("%d rows: %v", rows, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestTxAfterEnd: a transaction that is used after its function returned refuses.
func TestTxAfterEnd(t *testing.T) {
	s, err := OpenMem()
	if err != nil {
		t.Fatal(err)
	}
	var kept store.Tx
	if err := s.Update(t.Context(), func(tx store.Tx) error { kept = tx; return nil }); err != nil {
		t.Fatal(err)
	}
	_, getErr := kept.Get([]byte("k"))
	_, seqErr := kept.NextSequence(1)
	_, lastErr := kept.LastSequence(1)
	for name, err := range map[string]error{
		"Get": getErr, "Put": kept.Put([]byte("k"), nil), "Delete": kept.Delete([]byte("k")), "NextSequence": seqErr, "LastSequence": lastErr,
		"Scan": kept.Scan(store.Range{}).Err(), "DeleteRange": kept.(store.RangeDeleter).DeleteRange(store.Range{}),
	} {
		if err != errTxDone {
			t.Errorf("%s = %v", name, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestPoison: in a store for tests, what is kept from a transaction is overwritten.
func TestPoison(t *testing.T) {
	s, err := OpenMem()
	if err != nil {
		t.Fatal(err)
	}
	var kept, keptTx []byte
	err = s.Update(t.Context(), func(tx store.Tx) error { return tx.Put([]byte("k"), []byte("value")) })
	err = errors.Join(err, s.View(t.Context(), func(r store.Reader) (err error) {
		kept, err = r.Get([]byte("k"))
		return err
	}), s.Update(t.Context(), func(tx store.Tx) (err error) {
		keptTx, err = tx.Get([]byte("k"))
		return err
	}))
	if err != nil {
		t.Fatal(err)
	}
	if string(kept) == "value" || string(keptTx) == "value" {
		t.Errorf("kept %q and %q", kept, keptTx)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestBreaksInBetween lets the store fail while a group is under construction, which is then not applied:
// its writers must not hear that it was.
func TestBreaksInBetween(t *testing.T) {
	s, err := Open("data", Options{FS: vfs.NewMem(), CacheBytes: 1 << 20, MinFreeBytes: -1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Update(t.Context(), func(tx store.Tx) error {
		s.fail(errors.New("planted"))
		return tx.Put([]byte("key"), []byte("value"))
	})
	if err != store.ErrReadOnly {
		t.Errorf("Update = %v", err)
	}
	// Update may have looked at the store's state before the answer came. This is the answer.
	r := &request{done: make(chan error, 1)}
	s.answer(&group{o: newOverlay(), requests: []*request{r}})
	if err := <-r.done; err != store.ErrReadOnly {
		t.Errorf("the answer is %v", err)
	}
	if err := s.Close(); err != store.ErrReadOnly {
		t.Errorf("Close = %v", err)
	}
}
