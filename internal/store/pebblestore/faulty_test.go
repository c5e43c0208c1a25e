package pebblestore_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// fault is a mistake of an engine.
type fault struct {
	drop         store.Kind // keys of this kind are not stored
	skip, repeat bool       // sequences
	undone       bool       // mistakes are made with transactions that failed: they are kept in part
}

// faultyStore makes a mistake in one of ten Updates.
type faultyStore struct {
	store.Store
	fault
}

func (s *faultyStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	err := s.Store.Update(ctx, func(tx store.Tx) error {
		if !s.undone && rand.IntN(10) == 0 {
			tx = &faultyTx{tx, s.fault}
		}
		return fn(tx)
	})
	if s.undone && err != nil {
		return errors.Join(s.Store.Update(ctx, func(tx store.Tx) error {
			_ = fn(&faultyTx{tx, s.fault})
			return nil
		}), err)
	}
	return err
}

type faultyTx struct {
	store.Tx
	fault
}

func (tx *faultyTx) Put(key, value []byte) error {
	if tx.drop != 0 && key[store.Header-1] == byte(tx.drop) {
		return nil
	}
	return tx.Tx.Put(key, value)
}

func (tx *faultyTx) NextSequence(space store.Space) (tidegate.Seq, error) {
	if tx.repeat {
		return tx.LastSequence(space)
	}
	if tx.skip {
		if _, err := tx.Tx.NextSequence(space); err != nil {
			return 0, err
		}
	}
	return tx.Tx.NextSequence(space)
}

// lyingFS says that logs are synced and does nothing.
type lyingFS struct{ vfs.FS }

func (fs *lyingFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.Create(name, category)
	if err == nil && strings.HasSuffix(name, ".log") {
		f = lyingFile{f}
	}
	return f, err
}

type lyingFile struct{ vfs.File }

func (lyingFile) Sync() error                { return nil }
func (lyingFile) SyncData() error            { return nil }
func (lyingFile) SyncTo(int64) (bool, error) { return true, nil }

var errDisk = errors.New("planted disk error")

// failFrom makes every change of the file system fail from the n-th on (the first is 0), as if the machine
// had stopped there.
func failFrom(fs vfs.FS, n int64) vfs.FS {
	var count atomic.Int64
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && count.Add(1) > n {
			return errDisk
		}
		return nil
	}))
}

// failOnly makes the n-th change (the first is 0) to a matching path fail; reached tells whether there was
// one.
func failOnly(fs vfs.FS, n int64, match func(path string) bool) (_ vfs.FS, reached func() bool) {
	var count atomic.Int64
	wrapped := errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && match(op.Path) && count.Add(1) == n+1 {
			return errDisk
		}
		return nil
	}))
	return wrapped, func() bool { return count.Load() > n }
}
