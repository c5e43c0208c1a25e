package blob_test

import (
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/blob"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

// inStore returns blobs in a store in memory, the store, and what moves the clock.
func inStore(t testing.TB) (*blob.InStore, store.Store, func(time.Duration)) {
	t.Helper()
	st, err := pebblestore.OpenMem()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	var mu sync.Mutex
	now := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	return blob.NewInStore(st, clock), st, func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(d) }
}

// rows counts the rows of all blobs of the space by their sub-kind.
func rows(t testing.TB, st store.Store) map[byte]int {
	t.Helper()
	counts := map[byte]int{}
	err := st.View(t.Context(), func(r store.Reader) error {
		it := r.Scan(store.Prefix(store.NewKey(space, store.KindBlobChunk)))
		defer it.Close()
		for it.Next() {
			counts[it.Key()[store.Header]]++
		}
		return it.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return counts
}

func TestInStorePutAndOpen(t *testing.T) {
	f, st, _ := inStore(t)
	sizes := []int{0, 1, 1000, 256<<10 - 1, 256 << 10, 256<<10 + 1, 1 << 20}
	for _, size := range sizes {
		content := strings.Repeat("abcdefg", size/7+1)[:size]
		for range 2 { // the second time it is there
			want := blob.Info{Key: sha256.Sum256([]byte(content)), SHA1: sha1.Sum([]byte(content)), MD5: md5.Sum([]byte(content)), Length: int64(size)}
			if info := put(t, f, content); info != want {
				t.Errorf("size %d: %+v, want %+v", size, info, want)
			}
		}
		key := blob.Key(sha256.Sum256([]byte(content)))
		if got, err := get(t, f, space, key); err != nil || got != content {
			t.Errorf("size %d: %d other bytes, %v", size, len(got), err)
		}
		if err := f.Verify(t.Context(), space, key); err != nil {
			t.Errorf("size %d: Verify: %v", size, err)
		}
		if _, err := get(t, f, space+1, key); !errors.Is(err, tidegate.ErrMissing) {
			t.Errorf("another space has it: %v", err)
		}
	}
	if got := rows(t, st); got['m'] != len(sizes) || got['c'] != 1+1+1+1+2+4 || got['p'] != 0 || got['u'] != 0 {
		t.Errorf("rows: %v", got)
	}
}

// TestInStoreReaders: uploads that stumble leave nothing and give the reader's own error.
func TestInStoreReaders(t *testing.T) {
	f, st, _ := inStore(t)
	content := strings.Repeat("x", 600<<10)
	fault := errors.New("the client is gone")
	for name, c := range map[string]struct {
		r     io.Reader
		limit int64
		want  error
	}{
		"cut":             {io.MultiReader(strings.NewReader(content), iotest.ErrReader(fault)), 1 << 20, fault},
		"unexpected EOF":  {io.MultiReader(strings.NewReader(content), iotest.ErrReader(io.ErrUnexpectedEOF)), 1 << 20, io.ErrUnexpectedEOF},
		"never anything":  {idleReader{}, 1 << 20, io.ErrNoProgress},
		"too large":       {strings.NewReader(content), 300 << 10, blob.ErrTooLarge},
		"a byte too much": {strings.NewReader(content), 600<<10 - 1, blob.ErrTooLarge},
	} {
		if _, release, err := f.Put(t.Context(), space, c.r, c.limit); err != c.want || release != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if got := rows(t, st); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
	for name, r := range map[string]io.Reader{
		"half":          iotest.HalfReader(strings.NewReader(content)),
		"data with EOF": iotest.DataErrReader(strings.NewReader(content)),
	} {
		info, release, err := f.Put(t.Context(), space, r, 600<<10)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		release()
		if got, err := get(t, f, space, info.Key); got != content || err != nil {
			t.Errorf("%s: %d other bytes, %v", name, len(got), err)
		}
	}
}

// TestInStorePins: a blob is not removed between its Put and the release, also by another process; the pin of one that died expires.
func TestInStorePins(t *testing.T) {
	f, st, pass := inStore(t)
	info, release, err := f.Put(t.Context(), space, strings.NewReader("x"), 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Put(t.Context(), space, strings.NewReader("x"), 1); err != nil { // never released
		t.Fatal(err)
	}
	release()
	release()
	if err := f.Remove(t.Context(), space, info.Key); !errors.Is(err, blob.ErrPinned) {
		t.Errorf("Remove = %v", err)
	}
	pass(time.Hour)
	for range 2 {
		if err := f.Remove(t.Context(), space, info.Key); err != nil {
			t.Errorf("Remove = %v", err)
		}
	}
	if _, err := get(t, f, space, info.Key); !errors.Is(err, tidegate.ErrMissing) {
		t.Errorf("a removed blob: %v", err)
	}
	if got := rows(t, st); got['p'] != 0 || got['m'] != 0 {
		t.Errorf("rows: %v", got)
	}
}

// TestInStoreSweep: who reads a blob that is removed reads it to its end; later its chunks go, as do those of uploads that were
// given up without a word.
// The look for references and the removal are one transaction: what another node refers to at the same time stays.
func TestInStoreRemoveUnless(t *testing.T) {
	s, st, _ := inStore(t)
	info, release, err := s.Put(t.Context(), space, strings.NewReader("content"), 100)
	if err != nil {
		t.Fatal(err)
	}
	ref := store.NewKey(space, store.KindBlobRef).Name("d")
	referred := func(r store.Reader) (bool, error) {
		b, err := r.Get(ref)
		return b != nil, err
	}
	present := func() (ok bool) {
		t.Helper()
		if err := st.View(t.Context(), func(r store.Reader) (err error) {
			ok, err = s.Present(r, space, info.Key)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if removed, err := s.RemoveUnless(t.Context(), space, info.Key, referred); removed || !errors.Is(err, blob.ErrPinned) || !present() {
		t.Fatalf("pinned: %v, %v", removed, err)
	}
	for range 20 { // whoever comes first: there is no reference to nothing
		var wg sync.WaitGroup
		wg.Go(func() {
			err := st.Update(t.Context(), func(tx store.Tx) error {
				if ok, err := s.Present(tx, space, info.Key); !ok || err != nil {
					return err
				}
				return tx.Put(ref, []byte{})
			})
			if err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			release()
			if _, err := s.RemoveUnless(t.Context(), space, info.Key, referred); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		var there bool
		if err := st.View(t.Context(), func(r store.Reader) (err error) {
			there, err = referred(r)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if there != present() {
			t.Fatalf("referred to: %v; present: %v", there, present())
		}
		if err := st.Update(t.Context(), func(tx store.Tx) error { return tx.Delete(ref) }); err != nil {
			t.Fatal(err)
		}
		if _, release, err = s.Put(t.Context(), space, strings.NewReader("content"), 100); err != nil {
			t.Fatal(err)
		}
	}
	release()
	if removed, err := s.RemoveUnless(t.Context(), space, info.Key, referred); !removed || err != nil || present() {
		t.Errorf("nothing refers to it: %v, %v", removed, err)
	}
}

func TestInStoreSweep(t *testing.T) {
	f, st, pass := inStore(t)
	content := strings.Repeat("0123456789", 80_000)
	info := put(t, f, content)
	r, _, err := f.Open(t.Context(), space, info.Key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Seek(-500_003, io.SeekEnd); err != nil {
		t.Fatal(err)
	}
	if err := f.Remove(t.Context(), space, info.Key); err != nil {
		t.Fatal(err)
	}
	if again := put(t, f, content); again != info {
		t.Errorf("put again: %+v", again)
	}
	keys(t, f, space)
	if b, err := io.ReadAll(r); string(b) != content[len(content)-500_003:] || err != nil {
		t.Errorf("read %d bytes, %v after removal", len(b), err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	dead := io.MultiReader(strings.NewReader(content), readerFunc(func([]byte) (int, error) { cancel(); return 0, ctx.Err() }))
	if _, _, err := f.Put(ctx, space, dead, 1<<20); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled Put = %v", err)
	}
	pass(25 * time.Hour)
	if got := keys(t, f, space); !slices.Equal(got, []blob.Key{info.Key}) {
		t.Errorf("keys %v", got)
	}
	if got := rows(t, st); got['c'] != 4 || got['u'] != 0 || got['m'] != 1 {
		t.Errorf("rows: %v", got)
	}
	if got, err := get(t, f, space, info.Key); got != content || err != nil {
		t.Errorf("the blob that was put again: %d bytes, %v", len(got), err)
	}
	if err := f.RemoveSpace(t.Context(), space); err != nil {
		t.Fatal(err)
	}
	if got := rows(t, st); len(got) != 0 {
		t.Errorf("rows after RemoveSpace: %v", got)
	}
}

// TestInStoreConcurrent puts few contents from many goroutines while a sweeper removes all it may. What is pinned must be there.
func TestInStoreConcurrent(t *testing.T) {
	f, _, _ := inStore(t)
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
			for i := range 40 {
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
}

// TestInStoreDamage: Verify tells a chunk that rotted or is missing.
func TestInStoreDamage(t *testing.T) {
	f, st, _ := inStore(t)
	info := put(t, f, strings.Repeat("content", 100_000))
	change := func(value []byte) {
		t.Helper()
		err := st.Update(t.Context(), func(tx store.Tx) error {
			it := tx.Scan(store.Prefix(append(store.NewKey(space, store.KindBlobChunk), 'c')))
			defer it.Close()
			if !it.Next() {
				return errors.New("no chunk")
			}
			key := store.Key(it.Key()).Clone()
			if value == nil {
				return tx.Delete(key)
			}
			return tx.Put(key, value)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for what, value := range map[string][]byte{"changed": []byte(strings.Repeat("X", 256<<10)), "cut": []byte("X")} {
		change(value)
		if err := f.Verify(t.Context(), space, info.Key); !errors.Is(err, blob.ErrDamaged) {
			t.Errorf("%s: Verify = %v", what, err)
		}
	}
	change(nil)
	if err := f.Verify(t.Context(), space, info.Key); !errors.Is(err, blob.ErrDamaged) {
		t.Errorf("missing: Verify = %v", err)
	}
	if err := f.Verify(t.Context(), space, blob.Key{}); !errors.Is(err, tidegate.ErrMissing) {
		t.Errorf("Verify of a missing blob = %v", err)
	}
}

// doubtful answers one of the Updates with Unavailable, although it is carried out.
type doubtful struct {
	store.Store
	after int // Updates that are answered as they are before that
}

func (d *doubtful) Update(ctx context.Context, fn func(store.Tx) error) error {
	err := d.Store.Update(ctx, fn)
	if d.after--; err == nil && d.after == -1 {
		err = tidegate.Errorf(tidegate.Unavailable, "nobody knows")
	}
	return err
}

// TestInStoreDoubt: a blob whose Put failed, since nobody could tell whether it was carried out, is there when it is put again.
func TestInStoreDoubt(t *testing.T) {
	_, st, _ := inStore(t)
	for after := range 2 {
		content := strings.Repeat(fmt.Sprint("content ", after), 100)
		doubt := blob.NewInStore(&doubtful{st, after}, nil)
		if _, _, err := doubt.Put(t.Context(), space, strings.NewReader(content), 1<<20); tidegate.ErrorCode(err) != tidegate.Unavailable {
			t.Fatal(err)
		}
		blobs := blob.NewInStore(st, nil)
		info, release, err := blobs.Put(t.Context(), space, strings.NewReader(content), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		release()
		r, _, err := blobs.Open(t.Context(), space, info.Key)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil || string(got) != content {
			t.Errorf("in doubt after %d: %d bytes, %v", after, len(got), err)
		}
	}
	if n := rows(t, st); n['c'] != 2 || n['m'] != 2 || n['u'] > 0 {
		t.Errorf("rows %v", n)
	}
}
