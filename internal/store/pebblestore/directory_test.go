package pebblestore_test

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
	"github.com/tidegate/tidegate/internal/store/storetest"
)

// diskOptions are for stores on a real disk.
func diskOptions() pebblestore.Options {
	return pebblestore.Options{MinFreeBytes: -1, MemTableBytes: 256 << 10, CacheBytes: 1 << 20, Logger: slog.New(slog.DiscardHandler)}
}

// filledDir is a data directory on the disk with tables, a log and some writes; work is what it must hold. It
// is written in memory and copied, which spares the tests hundreds of real syncs.
func filledDir(t *testing.T) (dir string, work *storetest.Work) {
	t.Helper()
	mem := vfs.NewMem()
	work = &storetest.Work{}
	for seed := range uint64(2) {
		s, err := pebblestore.Open("data", smallOptions(mem))
		mustDo(t, err)
		work.Run(t.Context(), s, 16, 15, seed)
		mustDo(t, s.Close())
	}
	dir = filepath.Join(t.TempDir(), "data")
	copyOut(t, mem, dir)
	return dir, work
}

func copyOut(t *testing.T, mem *vfs.MemFS, dir string) {
	t.Helper()
	mustDo(t, os.MkdirAll(dir, 0o700))
	if ok, err := vfs.Clone(mem, vfs.Default, "data", dir); !ok || err != nil {
		t.Fatalf("copy the directory: %v, %v", ok, err)
	}
}

func TestReopen(t *testing.T) {
	dir, work := filledDir(t)
	var node string
	for range 2 {
		s, err := pebblestore.Open(dir, diskOptions())
		if err != nil {
			t.Fatal(err)
		}
		if err := work.Check(t.Context(), s); err != nil {
			t.Error(err)
		}
		if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(s.NodeID()) || (node != "" && node != s.NodeID()) {
			t.Errorf("node id %q, before %q", s.NodeID(), node)
		}
		node = s.NodeID()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRefusedDirectories: what is not ours, not whole or not for us is refused in one sentence that names
// the directory, and left as it was.
func TestRefusedDirectories(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(t *testing.T, dir string)
		code  tidegate.Code
		says  string
	}{
		{"other people's files", func(t *testing.T, dir string) {
			mustDo(t, os.RemoveAll(dir), os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "thesis.tex"), []byte("x"), 0o600))
		}, tidegate.Invalid, "thesis.tex"},
		{"a Pebble database of somebody else", func(t *testing.T, dir string) {
			mustDo(t, os.Rename(dir, dir+"2"), os.Rename(filepath.Join(dir+"2", "pebble"), dir))
		}, tidegate.Invalid, "not one of tidegate"},
		{"tidegate.json is gone", func(t *testing.T, dir string) {
			mustDo(t, os.Remove(filepath.Join(dir, "tidegate.json")))
		}, tidegate.Invalid, "has no tidegate.json"},
		{"tidegate.json is empty", writes("tidegate.json", ""), tidegate.Corrupt, "makes no sense"},
		{"tidegate.json is torn", writes("tidegate.json", `{"format":1,"no`), tidegate.Corrupt, "makes no sense"},
		{"tidegate.json is noise", writes("tidegate.json", "\x00\x01\x02\xff"), tidegate.Corrupt, "makes no sense"},
		{"tidegate.json says nothing", writes("tidegate.json", `{}`), tidegate.Corrupt, "without a format"},
		{"node id is short", writes("tidegate.json", `{"format":1,"node":"abcd"}`), tidegate.Corrupt, "node id"},
		{"newer format", writes("tidegate.json", `{"format":2,"node":"x","more":true}`), tidegate.Invalid, "newer tidegate"},
		{"database is gone", func(t *testing.T, dir string) {
			mustDo(t, os.RemoveAll(filepath.Join(dir, "pebble")))
		}, tidegate.Corrupt, "damaged"},
		{"database is empty", func(t *testing.T, dir string) {
			mustDo(t, os.RemoveAll(filepath.Join(dir, "pebble")), os.Mkdir(filepath.Join(dir, "pebble"), 0o700))
		}, tidegate.Corrupt, "damaged"},
		{"manifest is noise", eachFile("MANIFEST-*", func(b []byte) []byte { return []byte(strings.Repeat("noise", 200)) }), tidegate.Corrupt, "damaged"},
		{"manifest is empty", eachFile("MANIFEST-*", func(b []byte) []byte { return nil }), tidegate.Corrupt, "damaged"},
		{"manifest is gone", func(t *testing.T, dir string) {
			for _, name := range glob(t, dir, "MANIFEST-*") {
				mustDo(t, os.Remove(name))
			}
		}, tidegate.Corrupt, "damaged"},
		{"tables are cut", eachFile("*.sst", func(b []byte) []byte { return b[:len(b)/2] }), tidegate.Corrupt, "damaged"},
		{"tables are gone", func(t *testing.T, dir string) {
			for _, name := range glob(t, dir, "*.sst") {
				mustDo(t, os.Remove(name))
			}
		}, tidegate.Corrupt, "damaged"},
		{"log is damaged in the middle", eachFile("*.log", func(b []byte) []byte {
			b[len(b)/4] ^= 1
			return b
		}), tidegate.Corrupt, "damaged"},
	}
	filled, _ := filledDir(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			mustDo(t, os.CopyFS(dir, os.DirFS(filled)))
			test.spoil(t, dir)
			before := listing(t, dir)
			for name, open := range map[string]func(string, pebblestore.Options) (*pebblestore.Store, error){
				"Open": pebblestore.Open, "OpenReadOnly": pebblestore.OpenReadOnly,
			} {
				s, err := open(dir, diskOptions())
				if err == nil {
					t.Errorf("%s opened it", name)
					mustDo(t, s.Close())
					continue
				}
				reason := tidegate.ErrorReason(err)
				if tidegate.ErrorCode(err) != test.code || !strings.Contains(err.Error(), test.says) || !strings.Contains(reason, dir) {
					t.Errorf("%s = %s error %q; want %s with %q", name, tidegate.ErrorCode(err), err, test.code, test.says)
				}
				if strings.Contains(reason, "\n") {
					t.Errorf("%s: the reason has more than one line: %q", name, reason)
				}
			}
			if after := listing(t, dir); after != before {
				t.Errorf("the directory was changed from\n%sto\n%s", before, after)
			}
		})
	}
}

func mustDo(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// writes spoils one file.
func writes(name, content string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		mustDo(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
}

// eachFile spoils all files of the database that match.
func eachFile(pattern string, change func([]byte) []byte) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		for _, name := range glob(t, dir, pattern) {
			b, err := os.ReadFile(name)
			mustDo(t, err, os.WriteFile(name, change(b), 0o600))
		}
	}
}

func glob(t *testing.T, dir, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "pebble", pattern))
	if err != nil || len(names) == 0 {
		t.Fatalf("no %s in %s, %v", pattern, dir, err)
	}
	return names
}

// listing is the names and sizes of all files but locks.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	mustDo(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == "LOCK" {
			return err
		}
		info, err := e.Info()
		if err == nil {
			b.WriteString(path + " " + info.ModTime().String() + "\n")
		}
		return err
	}))
	return b.String()
}

// TestAcceptedDirectories: what other parts of a server leave in the directory before the store opens, and
// what a first start that was cut short leaves, is no obstacle.
func TestAcceptedDirectories(t *testing.T) {
	for name, prepare := range map[string]func(dir string) error{
		"empty":         func(string) error { return nil },
		"lock":          func(dir string) error { return os.WriteFile(filepath.Join(dir, "LOCK"), nil, 0o600) },
		"blobs":         func(dir string) error { return os.MkdirAll(filepath.Join(dir, "blobs", "tmp"), 0o700) },
		"key file":      func(dir string) error { return os.WriteFile(filepath.Join(dir, "tidegate.key"), []byte("x"), 0o600) },
		"mount point":   func(dir string) error { return os.Mkdir(filepath.Join(dir, "lost+found"), 0o700) },
		"torn creation": func(dir string) error { return os.WriteFile(filepath.Join(dir, "tidegate.json.tmp"), nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "deep", "data")
			mustDo(t, os.MkdirAll(dir, 0o700), prepare(dir))
			s, err := pebblestore.Open(dir, diskOptions())
			if err != nil {
				t.Fatal(err)
			}
			mustDo(t, s.Close())
		})
	}
}

// TestLockedInside: a directory is opened once at a time, whether for writing or for reading.
func TestLockedInside(t *testing.T) {
	dir, _ := filledDir(t)
	first, err := pebblestore.Open(dir, diskOptions())
	if err != nil {
		t.Fatal(err)
	}
	for _, open := range []func(string, pebblestore.Options) (*pebblestore.Store, error){pebblestore.Open, pebblestore.OpenReadOnly} {
		if _, err := open(dir, diskOptions()); tidegate.ErrorCode(err) != tidegate.Unavailable || !strings.Contains(err.Error(), "in use") {
			t.Errorf("a second open = %v", err)
		}
	}
	mustDo(t, first.Close())
	again, err := pebblestore.Open(dir, diskOptions())
	if err != nil {
		t.Fatal(err)
	}
	mustDo(t, again.Close())
}

// TestLockedOutside has another process hold the directory: this test binary, run again.
func TestLockedOutside(t *testing.T) {
	const variable = "TIDEGATE_TEST_HOLD_DIRECTORY"
	if dir := os.Getenv(variable); dir != "" {
		s, err := pebblestore.Open(dir, diskOptions())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = os.Stdout.WriteString("held\n")
		_, _ = io.Copy(io.Discard, os.Stdin) // until the parent closes it
		mustDo(t, s.Close())
		return
	}
	dir, _ := filledDir(t)
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLockedOutside$")
	child.Env = append(os.Environ(), variable+"="+dir)
	stdin, err := child.StdinPipe()
	mustDo(t, err)
	stdout, err := child.StdoutPipe()
	mustDo(t, err, child.Start())
	held := make([]byte, len("held\n"))
	if _, err := io.ReadFull(stdout, held); err != nil || string(held) != "held\n" {
		t.Fatalf("the other process says %q, %v", held, err)
	}
	if _, err := pebblestore.Open(dir, diskOptions()); tidegate.ErrorCode(err) != tidegate.Unavailable || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("Open = %v", err)
	}
	mustDo(t, stdin.Close())
	_, _ = io.Copy(io.Discard, stdout)
	mustDo(t, child.Wait())
	s, err := pebblestore.Open(dir, diskOptions())
	mustDo(t, err)
	mustDo(t, s.Close())
}

// TestOpenReadOnly reads a directory as a crash left it and changes nothing.
func TestOpenReadOnly(t *testing.T) {
	mem := vfs.NewCrashableMem()
	s, err := pebblestore.Open("data", smallOptions(mem))
	mustDo(t, err)
	work := &storetest.Work{}
	work.Run(t.Context(), s, 4, 50, 1)
	fs, promised := mem.CrashClone(vfs.CrashCloneCfg{}), work.Promised()
	mustDo(t, s.Close())

	before := fs.String()
	for range 2 {
		s, err := pebblestore.OpenReadOnly("data", smallOptions(fs))
		mustDo(t, err)
		mustDo(t, promised.Check(t.Context(), s))
		if err := s.Update(t.Context(), func(store.Tx) error { return nil }); tidegate.ErrorCode(err) != tidegate.Unavailable {
			t.Errorf("Update = %v", err)
		}
		mustDo(t, s.Close())
	}
	if after := fs.String(); strings.ReplaceAll(after, "LOCK", "") != strings.ReplaceAll(before, "LOCK", "") {
		t.Errorf("OpenReadOnly changed the directory from\n%s\nto\n%s", before, after)
	}
	for _, dir := range []string{"missing", "empty"} {
		mustDo(t, fs.MkdirAll("empty", 0o700))
		if _, err := pebblestore.OpenReadOnly(dir, smallOptions(fs)); tidegate.ErrorCode(err) != tidegate.NotFound {
			t.Errorf("OpenReadOnly(%s) = %v", dir, err)
		}
	}
}

// TestDamagedTable changes bytes inside of a table, which opening does not read: whoever reads them hears of
// it, the store takes no more writes, and what is not damaged can still be read.
func TestDamagedTable(t *testing.T) {
	mem := vfs.NewMem()
	s, err := pebblestore.Open("data", smallOptions(mem))
	mustDo(t, err)
	for i := range byte(200) { // random, so that nothing is compressed away; enough for many blocks
		mustDo(t, s.Update(t.Context(), func(tx store.Tx) error {
			value := make([]byte, 2<<10)
			_, _ = rand.Read(value)
			return tx.Put([]byte{'k', i}, value)
		}))
	}
	mustDo(t, s.Close())
	dir := filepath.Join(t.TempDir(), "data")
	copyOut(t, mem, dir)
	eachFile("*.sst", func(b []byte) []byte {
		b[len(b)/4] ^= 0xff
		return b
	})(t, dir)
	s, err = pebblestore.Open(dir, diskOptions())
	mustDo(t, err)
	good, bad := 0, 0
	mustDo(t, s.View(t.Context(), func(r store.Reader) error {
		for i := range byte(200) {
			switch v, err := r.Get([]byte{'k', i}); {
			case err == nil && len(v) == 2<<10:
				good++
			case tidegate.ErrorCode(err) == tidegate.Corrupt:
				bad++
			default:
				t.Errorf("value %d: %d bytes, %v", i, len(v), err)
			}
		}
		return nil
	}))
	if good == 0 || bad == 0 {
		t.Errorf("%d values were read and %d were not", good, bad)
	}
	if err := s.Update(t.Context(), func(store.Tx) error { return nil }); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("Update = %v", err)
	}
	if err := s.Close(); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("Close = %v", err)
	}
}

// TestMarker: other programs may read tidegate.json.
func TestMarker(t *testing.T) {
	dir, _ := filledDir(t)
	b, err := os.ReadFile(filepath.Join(dir, "tidegate.json"))
	mustDo(t, err)
	var m map[string]any
	mustDo(t, json.Unmarshal(b, &m))
	if m["format"] != 1.0 || len(m) != 2 {
		t.Errorf("tidegate.json = %s", b)
	}
}
