package pebblestore

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidegate/tidegate"
)

// Open opens the data directory dir and locks it, creating it if it is missing or empty.
//
// A directory that is not ours, is of a newer format or is damaged is refused with an error that names it,
// and left as it was: Invalid for the first two, Corrupt for the last; Unavailable if another process has
// it open.
func Open(dir string, opts Options) (*Store, error) {
	return open(dir, opts.withDefaults(), false)
}

// OpenReadOnly opens an existing data directory without changing it, for tools that inspect it. It takes
// the lock, so it fails with Unavailable while a server has the directory open. Updates fail with
// store.ErrReadOnly.
func OpenReadOnly(dir string, opts Options) (*Store, error) {
	return open(dir, opts.withDefaults(), true)
}

// OpenMem opens an empty store in memory, for tests. Slices that it hands out are overwritten when their
// transaction ends, so that whoever keeps one without copying is noticed.
func OpenMem() (*Store, error) {
	return Open("data", Options{FS: vfs.NewMem(), CacheBytes: 1 << 20, MemTableBytes: 1 << 20, MinFreeBytes: -1, poison: true})
}

func open(path string, o Options, readOnly bool) (_ *Store, err error) {
	dir, err := openDirectory(o.FS, path, readOnly)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = dir.unlock()
		}
	}()
	if dir.marker.Creating {
		if err := dir.clear(); err != nil {
			return nil, err
		}
	}
	s := newStore(dir, o, readOnly)
	log := &pebbleLog{log: o.Logger, broken: s.fail}
	walls := &fence{FS: o.FS, broken: s.fail, pause: time.Sleep}
	s.db, err = openPebble(dir, pebbleOptions(o, walls, log, dir.marker.Creating, readOnly))
	if err != nil {
		return nil, err
	}
	if dir.marker.Creating {
		if err := dir.created(); err != nil {
			_ = s.db.Close()
			return nil, err
		}
	}
	s.dir.marker = dir.marker
	walls.armed.Store(true)
	log.running.Store(true)
	s.start(newDiskGuard(path, o))
	return s, nil
}

// openPebble opens the database inside the directory and makes its failures errors that say where.
func openPebble(dir directory, po *pebble.Options) (db *pebble.DB, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
			if f, ok := p.(fatalError); ok {
				err = f.error
			}
		}
		switch {
		case err == nil:
		case isRefusal(err):
			db, err = nil, dir.refuse(tidegate.Unavailable, "cannot be opened", err)
		default:
			db, err = nil, dir.refuse(tidegate.Corrupt, "is damaged", err)
		}
	}()
	return pebble.Open(dir.database(), po)
}

// isRefusal reports whether the operating system refused something other than a file that should be there.
// All else that can go wrong while a database is opened comes from what is in its files.
func isRefusal(err error) bool {
	var refused syscall.Errno
	return errors.As(err, &refused) && !errors.Is(err, os.ErrNotExist)
}

// groupCount is one group under construction, and those that are applied and wait for their sync.
const (
	maxSyncing = 1
	groupCount = maxSyncing + 2
)

func newStore(dir directory, o Options, readOnly bool) *Store {
	s := &Store{
		dir: dir, log: o.Logger, poison: o.poison, readOnly: readOnly, maxTx: o.maxTx,
		queue:   make(chan *request, o.QueueLength),
		toSync:  make(chan *group, groupCount),
		free:    make(chan *group, groupCount),
		permits: make(chan struct{}, groupCount),
		hub:     newHub(),
		leases:  leases{names: make(map[string]*leaseName)},
		closing: make(chan struct{}),
		broken:  make(chan struct{}),
	}
	s.pooled.New = func() any { return &request{done: make(chan error, 1)} }
	s.readers.New = func() any { return &reader{sick: s.sick} }
	return s
}

func (s *Store) start(guard *diskGuard) {
	s.openSnapshots.Add(1)
	s.publish(newSnapshot(s.db, s.openSnapshots.Done))
	if s.readOnly {
		return
	}
	for range groupCount {
		s.free <- &group{o: newOverlay(), batch: s.db.NewBatch()}
	}
	for range maxSyncing {
		s.permits <- struct{}{}
	}
	c := newCommitter(s, guard)
	go c.run()
	s.workers.Go(s.sync)
}

// pebbleOptions tunes Pebble for documents of about a kilobyte that are mostly read one by one.
func pebbleOptions(o Options, fs vfs.FS, log *pebbleLog, creating, readOnly bool) *pebble.Options {
	po := &pebble.Options{
		FS:               fs,
		Logger:           log,
		EventListener:    log.listener(),
		CacheSize:        o.CacheBytes + maxMemTables*int64(o.MemTableBytes), // it takes memtables out of its cache
		MemTableSize:     o.MemTableBytes,
		ReadOnly:         readOnly,
		ErrorIfNotExists: !creating,
		ErrorIfExists:    creating,
		// Set by hand, for the format of a directory must not change with the version of a library.
		FormatMajorVersion: pebble.FormatValueSeparation,

		// Writes wait for the disk to catch up at so many memtables, or twenty sublevels of level 0.
		MemTableStopWritesThreshold: maxMemTables,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       20,
		LBaseMaxBytes:               64 << 20,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
		MaxOpenFiles:                1000,
		WALBytesPerSync:             0, // each group syncs it anyway
		BytesPerSync:                512 << 10,
		FlushDelayDeleteRange:       10 * time.Second,
	}
	po.Experimental.FileCacheShards = 2
	for i := range po.Levels {
		l := &po.Levels[i]
		l.FilterPolicy = bloom.FilterPolicy(10)
		l.BlockSize = 8 << 10
		l.IndexBlockSize = 32 << 10
		l.Compression = func() *sstable.CompressionProfile { return sstable.FastestCompression }
	}
	po.TargetFileSizes[0] = 4 << 20
	return po
}
