package blob

import (
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"io"
	"math"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidegate/tidegate/internal/store"
)

const (
	// The room on the disk is looked at before the first and after each so many bytes of an upload.
	freeCheckBytes = 16 << 20
	// A reader that gives neither bytes nor an error so many times in a row is given up.
	maxIdleReads = 100
)

// Put implements Store.
func (f *Files) Put(ctx context.Context, space store.Space, r io.Reader, limit int64) (Info, func(), error) {
	if err := f.room(); err != nil {
		return Info{}, nil, err
	}
	tmp := f.tmpName("put")
	file, err := f.fs.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return Info{}, nil, storageError("create blob", err)
	}
	info, err := f.receive(ctx, file, r, limit)
	if err != nil {
		_ = file.Close()
		_ = f.fs.Remove(tmp)
		return Info{}, nil, err
	}
	release := f.pin(place{space, info.Key})
	if err := f.settle(file, tmp, space, info); err != nil {
		_ = f.fs.Remove(tmp)
		release()
		return Info{}, nil, storageError("keep blob", err)
	}
	return info, release, nil
}

// receive copies r into file and hashes it on the way.
func (f *Files) receive(ctx context.Context, file vfs.File, r io.Reader, limit int64) (Info, error) {
	limit = min(max(limit, 0), math.MaxInt64-1)
	h256, h1, h5 := sha256.New(), sha1.New(), md5.New()
	pooled := f.buffers.Get().(*[copyBufferSize]byte)
	defer f.buffers.Put(pooled)
	var info Info
	nextCheck, idle := int64(freeCheckBytes), 0
	for {
		if err := ctx.Err(); err != nil {
			return Info{}, err
		}
		buf := pooled[:min(copyBufferSize, limit-info.Length+1)]
		n, err := r.Read(buf)
		if idle++; n > 0 {
			idle = 0
		}
		if info.Length += int64(n); info.Length > limit {
			return Info{}, ErrTooLarge
		}
		h256.Write(buf[:n])
		h1.Write(buf[:n])
		h5.Write(buf[:n])
		if _, err := file.Write(buf[:n]); err != nil {
			return Info{}, storageError("write blob", err)
		}
		if err == io.EOF {
			break
		}
		if err == nil && idle >= maxIdleReads {
			err = io.ErrNoProgress
		}
		if err != nil {
			return Info{}, err
		}
		if info.Length >= nextCheck {
			if err := f.room(); err != nil {
				return Info{}, err
			}
			nextCheck = info.Length + freeCheckBytes
		}
	}
	h256.Sum(info.Key[:0])
	h1.Sum(info.SHA1[:0])
	h5.Sum(info.MD5[:0])
	return info, nil
}

// settle makes the received file the blob, durably, and closes it. If the blob is there already the file
// goes; its directory is synced all the same, for whoever put it may not have come that far.
func (f *Files) settle(file vfs.File, tmp string, space store.Space, info Info) error {
	f.moving.RLock()
	defer f.moving.RUnlock()
	name := f.name(space, info.Key)
	shard := f.fs.PathDir(name)
	if st, err := f.fs.Stat(name); err == nil && st.Size() == info.Length {
		return errors.Join(file.Close(), f.fs.Remove(tmp), f.ensureDir(shard), f.syncDir(shard))
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := f.ensureDir(shard); err != nil {
		return err
	}
	if err := f.fs.Rename(tmp, name); err != nil {
		return err
	}
	return f.syncDir(shard)
}

// pin keeps a blob from being removed until the returned function is called.
func (f *Files) pin(p place) (release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pins[p]++
	return sync.OnceFunc(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.pins[p]--; f.pins[p] == 0 {
			delete(f.pins, p)
		}
	})
}

// room refuses when the disk is nearly full. A disk that cannot be asked counts as having room.
func (f *Files) room() error {
	if f.minFree == 0 {
		return nil
	}
	if free, err := f.free(f.dir); err == nil && free < f.minFree {
		return store.ErrDiskFull
	}
	return nil
}
