package pebblestore

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidegate/tidegate"
)

// A data directory:
//
//	LOCK            held by the process that has it open
//	tidegate.json   what it is: format version and node id
//	pebble/         the database
//	blobs/          attachments (package blob)
//
// tidegate.json is written first, with a note that the database is still to be made, and again without it
// when that is done. So a database that a crash left half made is known as such and made anew, and one that
// is missing later is missed.
const (
	markerFile  = "tidegate.json"
	databaseDir = "pebble"
	lockFile    = "LOCK"
	formatNow   = 1
)

// marker is the content of tidegate.json.
type marker struct {
	Format   int    `json:"format"`
	Node     string `json:"node"`
	Creating bool   `json:"creating,omitempty"`
}

// directory is a data directory that is locked.
type directory struct {
	fs     vfs.FS
	path   string
	marker marker
	lock   io.Closer
}

func (d directory) database() string { return d.fs.PathJoin(d.path, databaseDir) }

func (d directory) unlock() error { return d.lock.Close() }

// refuse says in one sentence why the directory is not opened.
func (d directory) refuse(code tidegate.Code, why string, err error) error {
	return &tidegate.Error{Code: code, Reason: fmt.Sprintf("the data directory %s %s", d.path, why), Err: err}
}

// openDirectory locks the directory and finds out what it is. Nothing is written but the lock before it is
// known to be ours or empty.
func openDirectory(fs vfs.FS, path string, readOnly bool) (d directory, err error) {
	d = directory{fs: fs, path: path}
	names, err := fs.List(path)
	switch {
	case err == nil:
	case !errors.Is(err, os.ErrNotExist):
		return d, d.refuse(tidegate.Unavailable, "cannot be read", err)
	case readOnly:
		return d, d.refuse(tidegate.NotFound, "does not exist", nil)
	default:
		if err := makeDir(fs, path); err != nil {
			return d, d.refuse(tidegate.Unavailable, "cannot be created", err)
		}
	}
	ours := slices.Contains(names, markerFile)
	if i := slices.IndexFunc(names, isForeign); !ours && i >= 0 {
		return d, d.refuse(tidegate.Invalid, fmt.Sprintf("has no %s but other files (%s), so it is not one of tidegate", markerFile, names[i]), nil)
	}
	if !ours && readOnly {
		return d, d.refuse(tidegate.NotFound, "is empty", nil)
	}
	if d.lock, err = fs.Lock(fs.PathJoin(path, lockFile)); err != nil {
		return d, d.refuse(tidegate.Unavailable, "is in use by another process", err)
	}
	defer func() {
		if err != nil {
			_ = d.lock.Close()
		}
	}()
	if !ours {
		return d, d.writeMarker(marker{Format: formatNow, Node: newNodeID(), Creating: true})
	}
	if err := d.readMarker(); err != nil {
		return d, err
	}
	if d.marker.Creating && readOnly {
		return d, d.refuse(tidegate.NotFound, "is empty", nil)
	}
	return d, nil
}

// isForeign reports whether a name in a directory without tidegate.json is neither what a first start that
// was cut short leaves behind, nor what other parts of a server put there before the store opens.
func isForeign(name string) bool {
	switch name {
	case lockFile, "blobs", "lost+found":
		return false
	}
	return !strings.HasPrefix(name, "tidegate")
}

func (d *directory) readMarker() error {
	b, err := readFile(d.fs, d.fs.PathJoin(d.path, markerFile))
	if err != nil {
		return d.refuse(tidegate.Unavailable, "cannot be read", err)
	}
	var m marker
	if err := json.Unmarshal(b, &m); err != nil {
		return d.refuse(tidegate.Corrupt, "has a "+markerFile+" that makes no sense", err)
	}
	if m.Format > formatNow {
		return d.refuse(tidegate.Invalid, fmt.Sprintf("was written by a newer tidegate: it has format %d and this version reads up to %d", m.Format, formatNow), nil)
	}
	if id, err := hex.DecodeString(m.Node); m.Format < 1 || err != nil || len(id) != 16 {
		return d.refuse(tidegate.Corrupt, "has a "+markerFile+" without a format or node id", nil)
	}
	d.marker = m
	return nil
}

func (d *directory) writeMarker(m marker) error {
	b, err := json.Marshal(m)
	if err == nil {
		err = writeFile(d.fs, d.path, markerFile, append(b, '\n'))
	}
	if err != nil {
		return d.refuse(tidegate.Unavailable, "cannot be written", err)
	}
	d.marker = m
	return nil
}

// clear removes what an interrupted creation left of the database.
func (d *directory) clear() error {
	if err := d.fs.RemoveAll(d.database()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return d.refuse(tidegate.Unavailable, "cannot be written", err)
	}
	return nil
}

// created notes that the database is made.
func (d *directory) created() error {
	m := d.marker
	m.Creating = false
	return d.writeMarker(m)
}

func newNodeID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	return hex.EncodeToString(id[:])
}

// maxMarkerBytes bounds what is read of tidegate.json.
const maxMarkerBytes = 64 << 10

func readFile(fs vfs.FS, name string) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxMarkerBytes))
	return b, firstError(err, f.Close())
}

// writeFile replaces dir/name so that after a crash it is the old or the new one, wholly.
func writeFile(fs vfs.FS, dir, name string, b []byte) error {
	tmp := fs.PathJoin(dir, name+".tmp")
	f, err := fs.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err := firstError(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(tmp, fs.PathJoin(dir, name)); err != nil {
		return err
	}
	return syncDir(fs, dir)
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return firstError(d.Sync(), d.Close())
}

// makeDir makes a directory and those above it, and syncs each into its parent.
func makeDir(fs vfs.FS, path string) error {
	var missing []string
	for p := path; ; p = fs.PathDir(p) {
		if _, err := fs.Stat(p); err == nil || p == fs.PathDir(p) {
			break
		}
		missing = append(missing, p)
	}
	if err := fs.MkdirAll(path, 0o700); err != nil {
		return err
	}
	for _, p := range missing {
		if err := syncDir(fs, fs.PathDir(p)); err != nil {
			return err
		}
	}
	return nil
}
