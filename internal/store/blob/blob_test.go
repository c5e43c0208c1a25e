package blob_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/blob"
)

const space store.Space = 3

func openMem(t testing.TB, fs vfs.FS) *blob.Files {
	t.Helper()
	f, err := blob.OpenFiles("blobs", blob.Options{FS: fs, MinFreeBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func put(t testing.TB, f blob.Store, content string) blob.Info {
	t.Helper()
	info, release, err := f.Put(t.Context(), space, strings.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	release()
	return info
}

func get(t testing.TB, f blob.Store, space store.Space, key blob.Key) (string, error) {
	t.Helper()
	r, size, err := f.Open(t.Context(), space, key)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(r)
	if int64(len(b)) != size {
		t.Errorf("%d bytes, but %d were announced", len(b), size)
	}
	return string(b), errors.Join(err, r.Close())
}

func keys(t testing.TB, f blob.Store, space store.Space) (out []blob.Key) {
	t.Helper()
	for k, err := range f.All(t.Context(), space) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, k)
	}
	return out
}

// leftovers are the names in the folder of unfinished uploads.
func leftovers(t testing.TB, fs vfs.FS) []string {
	t.Helper()
	names, err := fs.List("blobs/tmp")
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestPutAndOpen(t *testing.T) {
	fs := vfs.NewMem()
	f := openMem(t, fs)
	for _, size := range []int{0, 1, 1000, 64<<10 - 1, 64 << 10, 64<<10 + 1, 3 << 20} {
		content := strings.Repeat("abcdefg", size/7+1)[:size]
		info := put(t, f, content)
		want := blob.Info{Key: sha256.Sum256([]byte(content)), SHA1: sha1.Sum([]byte(content)), MD5: md5.Sum([]byte(content)), Length: int64(size)}
		if info != want {
			t.Errorf("size %d: %+v, want %+v", size, info, want)
		}
		if got, err := get(t, f, space, info.Key); err != nil || got != content {
			t.Errorf("size %d: %d other bytes, %v", size, len(got), err)
		}
		if err := f.Verify(t.Context(), space, info.Key); err != nil {
			t.Errorf("size %d: Verify: %v", size, err)
		}
		if _, err := get(t, f, space+1, info.Key); !errors.Is(err, tidegate.ErrMissing) {
			t.Errorf("another space has it: %v", err)
		}
	}
	if n := len(keys(t, f, space)); n != 7 {
		t.Errorf("%d blobs", n)
	}
	if left := leftovers(t, fs); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
	// The digest of a well-known string, as clients write it.
	if d := put(t, f, "abc").Digest(); d != "sha1-qZk+NkcGgWq6PiVxeFDCbJzQ2J0=" {
		t.Errorf("digest %s", d)
	}
}

func TestSeek(t *testing.T) {
	f := openMem(t, vfs.NewMem())
	info := put(t, f, "0123456789")
	r, _, err := f.Open(t.Context(), space, info.Key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Seek(-3, io.SeekEnd); err != nil {
		t.Fatal(err)
	}
	if err := f.Remove(t.Context(), space, info.Key); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); string(b) != "789" || err != nil {
		t.Errorf("read %q, %v after removal", b, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// TestLimit: what is too large is refused as soon as that is known, and leaves nothing.
func TestLimit(t *testing.T) {
	fs := vfs.NewMem()
	f := openMem(t, fs)
	for _, c := range []struct {
		size, limit int64
		ok          bool
	}{{10, 10, true}, {11, 10, false}, {0, 0, true}, {1, 0, false}, {1, -5, false}, {0, -5, true}, {1 << 20, 100, false}, {200 << 10, 1 << 62, true}, {5, 1<<63 - 1, true}} {
		r := &countingReader{r: io.LimitReader(zeros{}, c.size)}
		info, release, err := f.Put(t.Context(), space, r, c.limit)
		switch {
		case c.ok && err != nil:
			t.Errorf("%d of %d bytes: %v", c.size, c.limit, err)
		case c.ok:
			release()
			if info.Length != c.size {
				t.Errorf("length %d, want %d", info.Length, c.size)
			}
		case !errors.Is(err, blob.ErrTooLarge) || release != nil || tidegate.ErrorReason(err) != "Attachment too large":
			t.Errorf("%d of %d bytes: %v", c.size, c.limit, err)
		case r.n > max(c.limit, 0)+1:
			t.Errorf("%d of %d bytes: read %d", c.size, c.limit, r.n)
		}
	}
	if left := leftovers(t, fs); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type countingReader struct {
	r io.Reader
	n int64
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.n += int64(n)
	return n, err
}

// TestReaders: uploads that stumble, and uploads that are merely odd.
func TestReaders(t *testing.T) {
	fs := vfs.NewMem()
	f := openMem(t, fs)
	content := strings.Repeat("x", 100<<10)
	fault := errors.New("the client is gone")
	for name, c := range map[string]struct {
		r    io.Reader
		want error
	}{
		"cut":            {io.MultiReader(strings.NewReader(content), iotest.ErrReader(fault)), fault},
		"at once":        {iotest.ErrReader(fault), fault},
		"unexpected EOF": {io.MultiReader(strings.NewReader(content), iotest.ErrReader(io.ErrUnexpectedEOF)), io.ErrUnexpectedEOF},
		"timeout":        {iotest.TimeoutReader(strings.NewReader(content)), iotest.ErrTimeout},
		"never anything": {idleReader{}, io.ErrNoProgress},
		"byte by byte":   {iotest.OneByteReader(strings.NewReader(content)), nil},
		"data with EOF":  {iotest.DataErrReader(strings.NewReader(content)), nil},
		"half":           {iotest.HalfReader(strings.NewReader(content)), nil},
	} {
		info, release, err := f.Put(t.Context(), space, c.r, 1<<20)
		if err != c.want { // the reader's own error, as it is
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err != nil {
			continue
		}
		release()
		if got, err := get(t, f, space, info.Key); got != content || err != nil {
			t.Errorf("%s: %d other bytes, %v", name, len(got), err)
		}
	}
	if left := leftovers(t, fs); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
	if n := len(keys(t, f, space)); n != 1 {
		t.Errorf("%d blobs, want the one that was whole", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	endless := readerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil })
	if _, _, err := f.Put(ctx, space, endless, 1<<60); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled Put = %v", err)
	}
}

type idleReader struct{}

func (idleReader) Read([]byte) (int, error) { return 0, nil }

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestPins: a blob is not removed between its Put and the release, however often it was put.
func TestPins(t *testing.T) {
	f := openMem(t, vfs.NewMem())
	var key blob.Key
	var releases []func()
	for range 2 {
		info, release, err := f.Put(t.Context(), space, strings.NewReader("x"), 1)
		if err != nil {
			t.Fatal(err)
		}
		key, releases = info.Key, append(releases, release, release)
	}
	for i, release := range releases {
		if err := f.Remove(t.Context(), space, key); !errors.Is(err, blob.ErrPinned) {
			t.Errorf("after %d releases: Remove = %v", i, err)
		}
		if err := f.Remove(t.Context(), space+1, key); err != nil {
			t.Errorf("Remove of a missing blob = %v", err)
		}
		if i == len(releases)-2 {
			break
		}
		release()
	}
	releases[2]()
	for range 2 {
		if err := f.Remove(t.Context(), space, key); err != nil {
			t.Errorf("Remove = %v", err)
		}
	}
	if _, err := get(t, f, space, key); !errors.Is(err, tidegate.ErrMissing) {
		t.Errorf("a removed blob: %v", err)
	}
}

// TestConcurrent puts few contents from many goroutines while a sweeper removes all it may. What is pinned
// must be there.
func TestConcurrent(t *testing.T) {
	fs := vfs.NewMem()
	f := openMem(t, fs)
	ctx, stop := context.WithCancel(t.Context())
	var sweeper, writers sync.WaitGroup
	sweeper.Go(func() {
		for ctx.Err() == nil {
			for key, err := range f.All(context.Background(), space) {
				if err == nil {
					err = f.Remove(context.Background(), space, key)
				}
				if err != nil && !errors.Is(err, blob.ErrPinned) {
					t.Errorf("sweep: %v", err)
					return
				}
			}
		}
	})
	for w := range 8 {
		writers.Go(func() {
			for i := range 60 {
				content := strings.Repeat(fmt.Sprint((w+i)%5), 1000)
				info, release, err := f.Put(t.Context(), space, strings.NewReader(content), 1000)
				if err != nil {
					t.Errorf("Put: %v", err)
					return
				}
				if got, err := get(t, f, space, info.Key); err != nil || got != content {
					t.Errorf("a pinned blob: %d bytes, %v", len(got), err)
				}
				release()
			}
		})
	}
	writers.Wait()
	stop()
	sweeper.Wait()
	if left := leftovers(t, fs); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestRemoveSpace(t *testing.T) {
	for name, fs := range map[string]vfs.FS{"memory": vfs.NewMem(), "disk": vfs.Default} {
		t.Run(name, func(t *testing.T) {
			f, err := blob.OpenFiles(filepath.Join(t.TempDir(), "blobs"), blob.Options{FS: fs, MinFreeBytes: -1})
			if err != nil {
				t.Fatal(err)
			}
			var infos []blob.Info
			for i := range 20 {
				infos = append(infos, put(t, f, fmt.Sprint("blob ", i)))
			}
			_, release, err := f.Put(t.Context(), space+1, strings.NewReader("other"), 10)
			if err != nil {
				t.Fatal(err)
			}
			release()
			for range 2 { // the second time there is nothing
				if err := f.RemoveSpace(t.Context(), space); err != nil {
					t.Fatal(err)
				}
				if got := keys(t, f, space); len(got) != 0 {
					t.Errorf("%d blobs are left", len(got))
				}
			}
			if got := keys(t, f, space+1); len(got) != 1 {
				t.Errorf("%d blobs in the other space", len(got))
			}
			if again := put(t, f, "blob 1"); again != infos[1] {
				t.Errorf("put again: %+v", again)
			}
		})
	}
}

func TestAll(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "blobs")
	f, err := blob.OpenFiles(dir, blob.Options{MinFreeBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	var want []blob.Key
	for i := range 30 {
		want = append(want, put(t, f, fmt.Sprint(i)).Key)
	}
	// Things that are no blobs are passed over.
	odd := filepath.Join(dir, "3", "zz")
	for _, err := range []error{
		os.MkdirAll(odd, 0o700),
		os.WriteFile(filepath.Join(odd, "notes"), nil, 0o600),
		os.WriteFile(filepath.Join(odd, want[0].String()), nil, 0o600),
		os.WriteFile(filepath.Join(dir, "3", "file"), nil, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	got := keys(t, f, space)
	compare := func(a, b blob.Key) int { return bytes.Compare(a[:], b[:]) }
	slices.SortFunc(got, compare)
	slices.SortFunc(want, compare)
	if !slices.Equal(got, want) {
		t.Errorf("%d keys, want %d", len(got), len(want))
	}
	for range f.All(t.Context(), space) {
		break // must not go on
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range f.All(ctx, space) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("All = %v", err)
		}
	}
}

// TestDamage: Verify tells a blob that rotted; and a Put of the same content repairs one that was cut.
func TestDamage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "blobs")
	f, err := blob.OpenFiles(dir, blob.Options{MinFreeBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	content := strings.Repeat("content", 1000)
	info := put(t, f, content)
	name := filepath.Join(dir, "3", info.Key.String()[:2], info.Key.String())
	for what, damaged := range map[string]string{"cut": content[:100], "changed": "X" + content[1:], "longer": content + "x"} {
		if err := os.WriteFile(name, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := f.Verify(t.Context(), space, info.Key); !errors.Is(err, blob.ErrDamaged) {
			t.Errorf("%s: Verify = %v", what, err)
		}
		if len(damaged) == len(content) {
			continue // a Put does not read what is there
		}
		put(t, f, content)
		if err := f.Verify(t.Context(), space, info.Key); err != nil {
			t.Errorf("%s and put again: Verify = %v", what, err)
		}
	}
	if err := f.Verify(t.Context(), space, blob.Key{}); !errors.Is(err, tidegate.ErrMissing) {
		t.Errorf("Verify of a missing blob = %v", err)
	}
}

// TestCrash (I1) cuts the power while many put, some of them the same content. What was acknowledged is
// there, and whatever has a blob's name is that blob, wholly.
func TestCrash(t *testing.T) {
	for round := range 30 {
		mem := vfs.NewCrashableMem()
		checkAfterCrash(t, mem, mem, round, true)
	}
}

// TestCheckerSeesLoss plants a disk that does not sync, which the check of TestCrash must notice.
func TestCheckerSeesLoss(t *testing.T) {
	mem := vfs.NewCrashableMem()
	if checkAfterCrash(t, mem, noSyncFS{mem}, 0, false) == 0 {
		t.Error("no loss was noticed")
	}
}

// checkAfterCrash returns how many of the acknowledged blobs are not there, and reports them if told so.
func checkAfterCrash(t *testing.T, mem *vfs.MemFS, fs vfs.FS, round int, report bool) (lost int) {
	f := openMem(t, fs)
	var mu sync.Mutex
	acknowledged := make(map[blob.Key]string)
	var count atomic.Int32
	cut := make(chan struct{})
	var writers sync.WaitGroup
	for w := range 6 {
		writers.Go(func() {
			for i := range 10 {
				content := strings.Repeat(fmt.Sprintf("%d.%d ", round, (w/2)*10+i), 1+300*(i%4))
				info, release, err := f.Put(context.Background(), space, strings.NewReader(content), 1<<20)
				if err != nil {
					t.Errorf("Put: %v", err)
					return
				}
				mu.Lock()
				acknowledged[info.Key] = content
				mu.Unlock()
				release()
				if count.Add(1) == int32(1+round*2) {
					close(cut)
				}
			}
		})
	}
	<-cut
	mu.Lock()
	promised := make(map[blob.Key]string, len(acknowledged))
	for k, v := range acknowledged {
		promised[k] = v
	}
	mu.Unlock()
	clone := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: round % 3 * 40, RNG: rand.New(rand.NewPCG(uint64(round), 1))})
	writers.Wait()

	after, err := blob.OpenFiles("blobs", blob.Options{FS: clone, MinFreeBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	for key, content := range promised {
		if got, err := get(t, after, space, key); err != nil || got != content {
			lost++
			if report {
				t.Errorf("round %d: an acknowledged blob: %d bytes, %v", round, len(got), err)
			}
		}
	}
	for _, key := range keys(t, after, space) {
		if err := after.Verify(t.Context(), space, key); err != nil && report {
			t.Errorf("round %d: Verify: %v", round, err)
		}
	}
	if left := leftovers(t, clone); len(left) != 0 {
		t.Errorf("left behind by the crash: %q", left)
	}
	return lost
}

// noSyncFS does not sync directories.
type noSyncFS struct{ vfs.FS }

func (fs noSyncFS) OpenDir(name string) (vfs.File, error) {
	f, err := fs.FS.OpenDir(name)
	return noSyncFile{f}, err
}

type noSyncFile struct{ vfs.File }

func (noSyncFile) Sync() error { return nil }

// TestEachDiskOperationFails: a Put during which the disk fails says so, or the blob is there; and the next
// one works.
func TestEachDiskOperationFails(t *testing.T) {
	fault := errors.New("planted disk error")
	for n := int32(0); ; n++ {
		mem := vfs.NewCrashableMem()
		var count atomic.Int32
		armed := false
		f := openMem(t, errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if armed && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && count.Add(1) == n+1 {
				return fault
			}
			return nil
		})))
		armed = true
		first, release, err := f.Put(t.Context(), space, strings.NewReader("first"), 10)
		armed = false
		failed := err != nil
		if failed && !errors.Is(err, fault) {
			t.Errorf("operation %d: %v", n, err)
		}
		if !failed {
			release()
		}
		second := put(t, f, "second")
		if !failed {
			put(t, f, "first")
		}
		after := openMem(t, mem.CrashClone(vfs.CrashCloneCfg{}))
		if got, err := get(t, after, space, second.Key); got != "second" || err != nil {
			t.Errorf("operation %d: the second blob: %q, %v", n, got, err)
		}
		if got, err := get(t, after, space, first.Key); !failed && (got != "first" || err != nil) {
			t.Errorf("operation %d: the first blob: %q, %v", n, got, err)
		}
		if count.Load() <= n {
			t.Logf("%d operations", n)
			return
		}
	}
}

func TestNearlyFull(t *testing.T) {
	var free atomic.Uint64
	fs := vfs.NewMem()
	f, err := blob.OpenFiles("blobs", blob.Options{FS: fs, MinFreeBytes: 1000, FreeBytes: func(string) (uint64, error) { return free.Load(), nil }})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Put(t.Context(), space, strings.NewReader("x"), 10); !errors.Is(err, store.ErrDiskFull) {
		t.Errorf("Put on a full disk = %v", err)
	}
	free.Store(1 << 40)
	put(t, f, "x")
	// The disk fills up while a large upload is under way.
	upload := &countingReader{r: zeros{}}
	full := readerFunc(func(p []byte) (int, error) {
		if upload.n > 1<<20 {
			free.Store(999)
		}
		return upload.Read(p)
	})
	if _, _, err := f.Put(t.Context(), space, full, 1<<40); !errors.Is(err, store.ErrDiskFull) || upload.n > 40<<20 {
		t.Errorf("Put on a disk that fills up = %v after %d bytes", err, upload.n)
	}
	if left := leftovers(t, fs); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

// FuzzParseKey: only what String writes is a key, so no name leads out of the directory.
func FuzzParseKey(f *testing.F) {
	for _, s := range []string{"", "..", "../../etc/passwd", strings.Repeat("0", 64), strings.Repeat("F", 64), "ab/" + strings.Repeat("0", 61), strings.Repeat("a", 63) + "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		key, err := blob.ParseKey(s)
		if err != nil {
			if tidegate.ErrorCode(err) != tidegate.Invalid {
				t.Errorf("ParseKey(%q) = %v", s, err)
			}
			return
		}
		if key.String() != s || strings.ContainsAny(s, "./\\\x00") || len(s) != 64 {
			t.Errorf("ParseKey(%q) = %s", s, key)
		}
	})
}

// FuzzNames: whatever space and content, the files stay in the directory, and the name that a key becomes is
// the one that All reads back.
func FuzzNames(f *testing.F) {
	f.Add(uint32(0), []byte(""))
	f.Add(uint32(1<<32-1), []byte("../../x"))
	f.Fuzz(func(t *testing.T, space uint32, content []byte) {
		fs := vfs.NewMem()
		files := openMem(t, fs)
		info, release, err := files.Put(t.Context(), store.Space(space), bytes.NewReader(content), int64(len(content)))
		if err != nil {
			t.Fatal(err)
		}
		release()
		if names, err := fs.List(""); err != nil || !slices.Equal(names, []string{"blobs"}) {
			t.Errorf("files outside: %q, %v", names, err)
		}
		if got := keys(t, files, store.Space(space)); !slices.Equal(got, []blob.Key{info.Key}) {
			t.Errorf("keys %v, want %v", got, info.Key)
		}
	})
}
