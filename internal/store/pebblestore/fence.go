package pebblestore

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// fence stands between Pebble and the file system for the one case that Pebble does not survive: a failed
// write to its log, its manifest or its directory. Pebble answers those by panicking with locks held or by
// asking to end the process. The fence reports the error first, which turns the store read-only and
// answers all writers, and then never returns to the goroutine of Pebble that asked. No lock that readers
// need is held there, so reads go on until the process is restarted.
//
// Failed writes of tables are different: Pebble tries them again, at once and for ever. The fence lets it,
// with growing pauses, and gives up as above after maxTableErrors in a row.
type fence struct {
	vfs.FS
	armed       atomic.Bool // Open returns errors in the usual way; the fence stands only after it
	broken      func(error)
	pause       func(time.Duration)
	tableErrors atomic.Int32 // in a row
}

const (
	maxTableErrors = 8
	firstPause     = 10 * time.Millisecond // doubles each time: 2.5 s in all
)

// kind of file, by what a failed write to it means.
type fileKind uint8

const (
	otherFile fileKind = iota
	vitalFile
	tableFile
)

func (f *fence) kind(name string) fileKind {
	base := f.PathBase(name)
	switch {
	case strings.HasSuffix(base, ".log"), strings.HasPrefix(base, "MANIFEST-"), strings.HasPrefix(base, "marker."):
		return vitalFile
	case strings.HasSuffix(base, ".sst"), strings.HasSuffix(base, ".blob"):
		return tableFile
	default:
		return otherFile
	}
}

// check passes an error on, or does not return.
func (f *fence) check(kind fileKind, what, name string, err error) error {
	if !f.armed.Load() {
		return err
	}
	if err == nil {
		if kind == tableFile && what == "sync" {
			f.tableErrors.Store(0)
		}
		return nil
	}
	switch kind {
	case vitalFile:
		f.hold(what, name, err)
	case tableFile:
		n := f.tableErrors.Add(1)
		if n >= maxTableErrors {
			f.hold(what, name, err)
		}
		f.pause(firstPause << (n - 1))
	}
	return err
}

// hold reports the error and keeps the goroutine for ever.
func (f *fence) hold(what, name string, err error) {
	f.broken(fmt.Errorf("%s %s: %w", what, f.PathBase(name), err))
	select {}
}

func (f *fence) file(name string, kind fileKind, file vfs.File) vfs.File {
	if kind == otherFile {
		return file
	}
	return &fencedFile{File: file, f: f, name: name, kind: kind}
}

// Create implements vfs.FS.
func (f *fence) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	kind := f.kind(name)
	file, err := f.FS.Create(name, category)
	if err := f.check(kind, "create", name, err); err != nil {
		return nil, err
	}
	return f.file(name, kind, file), nil
}

// ReuseForWrite implements vfs.FS.
func (f *fence) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	kind := f.kind(newname)
	file, err := f.FS.ReuseForWrite(oldname, newname, category)
	if err := f.check(kind, "reuse", newname, err); err != nil {
		return nil, err
	}
	return f.file(newname, kind, file), nil
}

// OpenDir implements vfs.FS. Directories are opened to be synced.
func (f *fence) OpenDir(name string) (vfs.File, error) {
	file, err := f.FS.OpenDir(name)
	if err := f.check(vitalFile, "open directory", name, err); err != nil {
		return nil, err
	}
	return f.file(name, vitalFile, file), nil
}

// Rename implements vfs.FS.
func (f *fence) Rename(oldname, newname string) error {
	return f.check(f.kind(newname), "rename", newname, f.FS.Rename(oldname, newname))
}

// Unwrap implements vfs.FS.
func (f *fence) Unwrap() vfs.FS { return f.FS }

type fencedFile struct {
	vfs.File
	f    *fence
	name string
	kind fileKind
}

func (f *fencedFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.f.check(f.kind, "write", f.name, err)
}

func (f *fencedFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	return n, f.f.check(f.kind, "write", f.name, err)
}

func (f *fencedFile) Sync() error { return f.f.check(f.kind, "sync", f.name, f.File.Sync()) }

func (f *fencedFile) SyncData() error { return f.f.check(f.kind, "sync", f.name, f.File.SyncData()) }

func (f *fencedFile) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	return full, f.f.check(f.kind, "sync range of", f.name, err)
}

func (f *fencedFile) Close() error { return f.f.check(f.kind, "close", f.name, f.File.Close()) }
