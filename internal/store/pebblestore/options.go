package pebblestore

import (
	"log/slog"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Options of an engine. The zero value is what a server wants.
type Options struct {
	// FS is the file system. Default: the operating system's.
	FS vfs.FS

	// CacheBytes bounds the block cache. It fills as blocks are read; an idle store does not hold it.
	// Default 64 MiB.
	CacheBytes int64

	// MemTableBytes is the size at which recent writes go from memory (and the write-ahead log) to a table
	// on disk. Under load up to four of them are held, beside the cache. The first is small, and each twice
	// the one before it up to this, so that an idle store holds little.
	// Default 16 MiB.
	MemTableBytes uint64

	// QueueLength bounds the Updates that wait for the committer; further ones wait outside it under their
	// context. Default 1024.
	QueueLength int

	// MinFreeBytes is the room on the disk below which writes are refused with store.ErrDiskFull. Default
	// 256 MiB; negative for no guard.
	MinFreeBytes int64

	// FreeBytes tells the room that is left on the disk of dir, in bytes. Default: statfs by way of FS. It is
	// asked at most once a second.
	FreeBytes func(dir string) (uint64, error)

	// Logger takes what the engine has to say. Default: slog.Default().
	Logger *slog.Logger

	// poison makes the engine overwrite the slices that it handed out when their transaction ends, so that
	// a test notices who keeps them.
	poison bool
	// maxTx is MaxTransactionBytes; less in tests.
	maxTx int
}

// Limits of the engine.
const (
	defaultCacheBytes    = 64 << 20
	defaultMemTableBytes = 16 << 20
	defaultQueueLength   = 1024
	defaultMinFreeBytes  = 256 << 20
	maxMemTables         = 4

	// MaxTransactionBytes bounds the keys and values of one Update; more is TooLarge.
	MaxTransactionBytes = 256 << 20

	// A group takes no further transaction once it holds so many of them or so many bytes. The bytes keep
	// a group well below half of a small memtable, beyond which Pebble takes a slower way.
	maxGroupUpdates = 4096
	maxGroupBytes   = 1 << 20

	// A group smaller than this waits for its writers to be scheduled once before it is synced.
	smallGroup = 16
)

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.CacheBytes <= 0 {
		o.CacheBytes = defaultCacheBytes
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = defaultMemTableBytes
	}
	if o.QueueLength <= 0 {
		o.QueueLength = defaultQueueLength
	}
	if o.MinFreeBytes == 0 {
		o.MinFreeBytes = defaultMinFreeBytes
	}
	if o.FreeBytes == nil {
		fs := o.FS
		o.FreeBytes = func(dir string) (uint64, error) {
			usage, err := fs.GetDiskUsage(dir)
			return usage.AvailBytes, err
		}
	}
	if o.maxTx == 0 {
		o.maxTx = MaxTransactionBytes
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}
