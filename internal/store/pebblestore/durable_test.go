package pebblestore_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

// gatedFS can hold the syncs of logs, and the creation of tables.
type gatedFS struct {
	vfs.FS
	closed   atomic.Bool
	noTables atomic.Bool
	reached  chan struct{} // one for each call that is held
	open     chan struct{}
}

func (fs *gatedFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasSuffix(name, ".sst") && fs.noTables.Load() {
		fs.reached <- struct{}{}
		<-fs.open
	}
	f, err := fs.FS.Create(name, category)
	if err == nil && strings.HasSuffix(name, ".log") {
		f = gatedFile{f, fs}
	}
	return f, err
}

type gatedFile struct {
	vfs.File
	fs *gatedFS
}

func (f gatedFile) SyncData() error { return f.sync(f.File.SyncData) }
func (f gatedFile) Sync() error     { return f.sync(f.File.Sync) }

func (f gatedFile) sync(sync func() error) error {
	if f.fs.closed.Load() {
		f.fs.reached <- struct{}{}
		<-f.fs.open
	}
	return sync()
}

// TestVisibleWhenDurable holds the sync of a group and looks: no View, no Wait and no writer may know of it,
// while the next transaction, which can only be durable after it, builds on it.
func TestVisibleWhenDurable(t *testing.T) {
	fs := &gatedFS{FS: vfs.NewMem(), reached: make(chan struct{}, 10), open: make(chan struct{})}
	s, err := pebblestore.Open("data", smallOptions(fs))
	mustDo(t, err)
	key := []byte("key")
	write := func(value string, fail error) chan error {
		done := make(chan error, 1)
		go func() {
			done <- s.Update(context.Background(), func(tx store.Tx) error {
				v, err := tx.Get(key)
				if err != nil {
					return err
				}
				if _, err := tx.NextSequence(1); err != nil {
					return err
				}
				return errors.Join(fail, tx.Put(key, append(v[:len(v):len(v)], value...)))
			})
		}()
		return done
	}
	read := func() (out string) {
		mustDo(t, s.View(t.Context(), func(r store.Reader) error {
			v, err := r.Get(key)
			n, err2 := r.LastSequence(1)
			out = string(v)
			if int(n) != len(out) {
				t.Errorf("sequence %d with %q", n, out)
			}
			return errors.Join(err, err2)
		}))
		return out
	}
	mustDo(t, <-write("a", nil))
	fs.closed.Store(true)
	first := write("b", nil)
	<-fs.reached
	second := write("c", nil)
	refusal := errors.New("refused")
	refused := write("x", refusal)
	waited := make(chan error, 1)
	go func() {
		_, err := s.Wait(context.Background(), 1, 1)
		waited <- err
	}()
	// Many chances to do wrong.
	for range 1000 {
		if got := read(); got != "a" {
			t.Fatalf("a View sees %q before it is durable", got)
		}
		select {
		case err := <-first:
			t.Fatalf("acknowledged before the sync: %v", err)
		case err := <-second:
			t.Fatalf("acknowledged before the sync: %v", err)
		case err := <-refused:
			t.Fatalf("answered before what it saw is durable: %v", err)
		case err := <-waited:
			t.Fatalf("woken before the sync: %v", err)
		default:
		}
	}
	fs.closed.Store(false)
	close(fs.open)
	mustDo(t, <-first, <-second, <-waited)
	if err := <-refused; !errors.Is(err, refusal) {
		t.Errorf("the refused Update = %v", err)
	}
	if got := read(); got != "abc" {
		t.Errorf("a View sees %q", got)
	}
	mustDo(t, s.Close())
}

// TestLargeBatchIsLeftAlone: a large batch goes to Pebble with its memory, which must not be used again
// while Pebble reads from it. The flush that would free it is held, and many groups come after.
func TestLargeBatchIsLeftAlone(t *testing.T) {
	fs := &gatedFS{FS: vfs.NewMem(), reached: make(chan struct{}, 10), open: make(chan struct{})}
	s, err := pebblestore.Open("data", smallOptions(fs))
	mustDo(t, err)
	fs.noTables.Store(true)
	put := func(name string, size int) {
		mustDo(t, s.Update(t.Context(), func(tx store.Tx) error {
			return tx.Put([]byte(name), bytes.Repeat([]byte(name[:1]), size))
		}))
	}
	put("large", 200<<10) // more than half a memtable
	<-fs.reached
	for range 10 {
		put("small", 10<<10)
	}
	mustDo(t, s.View(t.Context(), func(r store.Reader) error {
		v, err := r.Get([]byte("large"))
		if !bytes.Equal(v, bytes.Repeat([]byte("l"), 200<<10)) {
			t.Error("the large value was overwritten")
		}
		return err
	}))
	close(fs.open)
	mustDo(t, s.Close())
}
