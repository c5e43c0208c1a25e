package blob

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strconv"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// Files is a Store on a directory:
//
//	<space>/<first two digits>/<key>    a blob; the names are decimal and hexadecimal, never a client's
//	tmp/                                uploads under way and spaces being removed; emptied by OpenFiles
//
// A blob comes into being by the rename of a file that is whole and synced, so what has a blob's name is a
// blob.
type Files struct {
	fs      vfs.FS
	dir     string
	minFree uint64
	free    func(dir string) (uint64, error)

	// moving is held for reading while a blob is moved into its place, and for writing while a space is
	// moved away.
	moving sync.RWMutex

	mu   sync.Mutex
	pins map[place]int
	dirs map[string]*dirState // directories known to exist

	buffers sync.Pool // of *[copyBufferSize]byte
}

var (
	_ Store    = (*Files)(nil)
	_ Verifier = (*Files)(nil)
)

type place struct {
	space store.Space
	key   Key
}

// dirState is a directory of blobs; made is closed once it is durably there, or could not be made.
type dirState struct {
	made chan struct{}
	err  error
}

// Options of Files. The zero value is what a server wants.
type Options struct {
	// FS is the file system. Default: the operating system's.
	FS vfs.FS

	// MinFreeBytes is the room on the disk below which a Put is refused with store.ErrDiskFull. Default 256
	// MiB; negative for no guard.
	MinFreeBytes int64

	// FreeBytes tells the room that is left on the disk of dir, in bytes. Default: asks FS.
	FreeBytes func(dir string) (uint64, error)
}

const (
	tmpDir         = "tmp"
	copyBufferSize = 64 << 10
	defaultMinFree = 256 << 20
)

// OpenFiles opens, or makes, a directory of blobs and removes what unfinished uploads left there. The
// caller sees to it that no other process uses the directory (the data directory's lock does).
func OpenFiles(dir string, o Options) (*Files, error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.MinFreeBytes == 0 {
		o.MinFreeBytes = defaultMinFree
	}
	dir = o.FS.PathJoin(dir) // makes it clean, which makeDir relies on
	f := &Files{
		fs: o.FS, dir: dir, minFree: uint64(max(o.MinFreeBytes, 0)), free: o.FreeBytes,
		pins: make(map[place]int), dirs: make(map[string]*dirState),
	}
	f.buffers.New = func() any { return new([copyBufferSize]byte) }
	if f.free == nil {
		f.free = func(dir string) (uint64, error) {
			usage, err := f.fs.GetDiskUsage(dir)
			return usage.AvailBytes, err
		}
	}
	tmp := f.fs.PathJoin(dir, tmpDir)
	if err := f.fs.RemoveAll(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("clean %s: %w", tmp, err)
	}
	if err := f.makeDir(tmp); err != nil {
		return nil, fmt.Errorf("make %s: %w", tmp, err)
	}
	return f, nil
}

// opened is a blob being read.
type opened struct {
	*io.SectionReader
	io.Closer
}

// Open implements Store.
func (f *Files) Open(_ context.Context, space store.Space, key Key) (io.ReadSeekCloser, int64, error) {
	file, err := f.fs.Open(f.name(space, key), vfs.SequentialReadsOption)
	if errors.Is(err, os.ErrNotExist) {
		return nil, 0, tidegate.ErrMissing
	}
	if err != nil {
		return nil, 0, storageError("open blob", err)
	}
	st, err := file.Stat()
	if err != nil {
		_ = file.Close()
		return nil, 0, storageError("open blob", err)
	}
	return opened{io.NewSectionReader(file, 0, st.Size()), file}, st.Size(), nil
}

// Remove implements Store. It looks for pins and removes under one lock, so that a Put either finds the blob
// gone or keeps it.
func (f *Files) Remove(_ context.Context, space store.Space, key Key) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pins[place{space, key}] > 0 {
		return ErrPinned
	}
	if err := f.fs.Remove(f.name(space, key)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return storageError("remove blob", err)
	}
	return nil
}

// All implements Store. Files whose names are not those of blobs are passed over.
func (f *Files) All(ctx context.Context, space store.Space) iter.Seq2[Key, error] {
	return func(yield func(Key, error) bool) {
		top := f.spaceDir(space)
		shards, err := f.list(top)
		if err != nil {
			yield(Key{}, err)
			return
		}
		for _, shard := range shards {
			names, err := f.list(f.fs.PathJoin(top, shard))
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(Key{}, err)
				return
			}
			for _, name := range names {
				key, err := ParseKey(name)
				if err != nil || name[:2] != shard {
					continue
				}
				if !yield(key, nil) {
					return
				}
			}
		}
	}
}

// list returns the names in a directory; none if it is missing or no directory.
func (f *Files) list(dir string) ([]string, error) {
	st, err := f.fs.Stat(dir)
	if errors.Is(err, os.ErrNotExist) || (err == nil && !st.IsDir()) {
		return nil, nil
	}
	names, err := f.fs.List(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, storageError("list blobs", err)
	}
	return names, nil
}

// RemoveSpace implements Store. The space vanishes at once; its files then go one by one.
func (f *Files) RemoveSpace(_ context.Context, space store.Space) error {
	grave := f.tmpName("space")
	if err := f.moveAway(f.spaceDir(space), grave); err != nil {
		return storageError("remove blobs", err)
	}
	if err := f.fs.RemoveAll(grave); err != nil && !errors.Is(err, os.ErrNotExist) {
		return storageError("remove blobs", err)
	}
	return nil
}

func (f *Files) moveAway(dir, grave string) error {
	f.moving.Lock()
	defer f.moving.Unlock()
	f.mu.Lock()
	clear(f.dirs)
	f.mu.Unlock()
	err := f.fs.Rename(dir, grave)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.syncDir(f.dir)
}

// Verify implements Verifier.
func (f *Files) Verify(ctx context.Context, space store.Space, key Key) error {
	file, _, err := f.Open(ctx, space, key)
	if err != nil {
		return err
	}
	defer file.Close()
	h := sha256.New()
	buf := f.buffers.Get().(*[copyBufferSize]byte)
	defer f.buffers.Put(buf)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := file.Read(buf[:])
		h.Write(buf[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			return storageError("read blob", err)
		}
	}
	if Key(h.Sum(nil)) != key {
		return ErrDamaged
	}
	return nil
}

func (f *Files) spaceDir(space store.Space) string {
	return f.fs.PathJoin(f.dir, strconv.FormatUint(uint64(space), 10))
}

func (f *Files) name(space store.Space, key Key) string {
	hex := key.String()
	return f.fs.PathJoin(f.spaceDir(space), hex[:2], hex)
}

func (f *Files) tmpName(what string) string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return f.fs.PathJoin(f.dir, tmpDir, what+"-"+hex.EncodeToString(b[:]))
}

// ensureDir makes a directory of blobs durably, once: of those who need it at the same time one makes it
// and the others wait.
func (f *Files) ensureDir(dir string) error {
	f.mu.Lock()
	d := f.dirs[dir]
	first := d == nil
	if first {
		d = &dirState{made: make(chan struct{})}
		f.dirs[dir] = d
	}
	f.mu.Unlock()
	if !first {
		<-d.made
		return d.err
	}
	d.err = f.makeDir(dir)
	if d.err != nil {
		f.mu.Lock()
		delete(f.dirs, dir)
		f.mu.Unlock()
	}
	close(d.made)
	return d.err
}

// makeDir makes a directory and those above it and syncs their parents, up to the one that holds f.dir.
func (f *Files) makeDir(dir string) error {
	if err := f.fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for {
		parent := f.fs.PathDir(dir)
		if err := f.syncDir(parent); err != nil {
			return err
		}
		if dir == f.dir || parent == dir {
			return nil
		}
		dir = parent
	}
}

func (f *Files) syncDir(dir string) error {
	d, err := f.fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// storageError says that the disk is full where it is, and leaves other errors to the log.
func storageError(what string, err error) error {
	if vfs.IsNoSpaceError(err) {
		return &tidegate.Error{Code: tidegate.Unavailable, Reason: store.ErrDiskFull.Reason, Err: fmt.Errorf("%s: %w", what, err)}
	}
	return fmt.Errorf("%s: %w", what, err)
}
