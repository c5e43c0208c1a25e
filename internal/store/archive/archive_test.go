package archive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/archive"
	"github.com/tidegate/tidegate/internal/store/blob"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

func openMem(t testing.TB) *pebblestore.Store {
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
	return st
}

// world is a store with three spaces, one of them without rows, rows of all sizes, and blobs large and small.
func world(t testing.TB) (*pebblestore.Store, *blob.InStore) {
	t.Helper()
	st := openMem(t)
	blobs := blob.NewInStore(st, nil)
	for space, n := range map[store.Space]int{0: 10, 3: 3000, 0xfffffff0: 1} {
		for from := 0; from < n; from += 500 {
			err := st.Update(t.Context(), func(tx store.Tx) error {
				for i := from; i < min(from+500, n); i++ {
					if _, err := tx.NextSequence(space); err != nil {
						return err
					}
					if err := tx.Put(store.NewKey(space, store.KindDoc).Collection(0).Name(fmt.Sprint(i)), bytes.Repeat([]byte{byte(i)}, i%900)); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	err := st.Update(t.Context(), func(tx store.Tx) error {
		return store.AdvanceSequence(tx, 7, 1<<40)
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, content := range []string{"", "small", strings.Repeat("0123456789", 100_000)} {
		info, release, err := blobs.Put(t.Context(), 3, strings.NewReader(content), 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		release()
		refer(t, st, info.Key, fmt.Sprint("doc", i))
		refer(t, st, info.Key, fmt.Sprint("another doc", i))
	}
	return st, blobs
}

func refer(t testing.TB, st store.Store, key blob.Key, doc string) {
	t.Helper()
	err := st.Update(t.Context(), func(tx store.Tx) error {
		return tx.Put(append(store.NewKey(3, store.KindBlobRef), key[:]...).Collection(0).Name(doc), []byte{})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, st store.Store, blobs blob.Store) ([]byte, archive.Summary) {
	t.Helper()
	var buf bytes.Buffer
	sum, err := archive.Write(t.Context(), &buf, archive.Header{Version: "test"}, st, blobs, nil)
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes(), sum
}

// TestRoundTrip: what is restored has the same rows, sequences and attachments, to the last byte, and its archive is the same.
func TestRoundTrip(t *testing.T) {
	st, blobs := world(t)
	lease, err := st.Lease(t.Context(), "job", 1<<40) // an engine's own row: stays behind
	if err != nil {
		t.Fatal(err)
	}
	lease.Release()
	ar, sum := write(t, st, blobs)
	if sum.Spaces != 4 || sum.Rows != 3011+6 || sum.Blobs != 3 || sum.Missing != 0 {
		t.Errorf("summary %+v", sum)
	}
	h, checked, err := archive.Check(t.Context(), bytes.NewReader(ar), nil)
	if err != nil || checked != sum || h.Version != "test" {
		t.Errorf("Check = %+v, %+v, %v", h, checked, err)
	}
	other := openMem(t)
	otherBlobs := blob.NewInStore(other, nil)
	if _, restored, err := archive.Restore(t.Context(), bytes.NewReader(ar), other, otherBlobs, nil); err != nil || restored != sum {
		t.Fatalf("Restore = %+v, %v; want %+v", restored, err, sum)
	}
	if err := archive.Unfinished(t.Context(), other); err != nil {
		t.Error(err)
	}
	if _, again := write(t, other, otherBlobs); again != sum {
		t.Errorf("an archive of what was restored: %+v, want %+v", again, sum)
	}
	for key, err := range blobs.All(t.Context(), 3) {
		if err == nil {
			err = otherBlobs.Verify(t.Context(), 3, key)
		}
		if err != nil {
			t.Error(err)
		}
	}
	if _, _, err := archive.Restore(t.Context(), bytes.NewReader(ar), other, otherBlobs, nil); !errors.Is(err, archive.ErrNotEmpty) {
		t.Errorf("Restore into a store that is not empty = %v", err)
	}
}

// TestDamagedArchives: an archive that was cut off or changed anywhere is refused, by Check and by Restore, and what was restored by then
// is marked as unfinished.
func TestDamagedArchives(t *testing.T) {
	st, blobs := world(t)
	ar, sum := write(t, st, blobs)
	fail := func(name string, broken []byte) {
		t.Helper()
		_, found, err := archive.Check(t.Context(), bytes.NewReader(broken), nil)
		if err == nil && len(broken) == len(ar) && found == sum {
			return // compressed differently, the same all the same: every frame has its checksum
		}
		if code := tidegate.ErrorCode(err); err == nil || code != tidegate.Corrupt && code != tidegate.Invalid {
			t.Errorf("%s: Check = %v", name, err)
		}
	}
	for _, n := range []int{0, 1, 10, 30, len(ar) / 3, len(ar) / 2, len(ar) - 5, len(ar) - 1} {
		fail(fmt.Sprintf("cut to %d of %d bytes", n, len(ar)), ar[:n])
	}
	for at := 0; at < len(ar); at += 1 + len(ar)/97 {
		broken := bytes.Clone(ar)
		broken[at] ^= 0x10
		fail(fmt.Sprintf("byte %d of %d changed", at, len(ar)), broken)
	}
	fail("no archive", []byte("tidegate archive\n but not compressed"))
	fail("more at the end", append(bytes.Clone(ar), ar...))
	other := openMem(t)
	if _, _, err := archive.Restore(t.Context(), bytes.NewReader(ar[:len(ar)-9]), other, blob.NewInStore(other, nil), nil); err == nil {
		t.Error("half an archive was restored")
	}
	if err := archive.Unfinished(t.Context(), other); !errors.Is(err, archive.ErrUnfinished) {
		t.Errorf("Unfinished = %v", err)
	}
}

// TestWriteWhileInUse: an archive is one snapshot, whatever is written meanwhile, and says what was purged under it.
func TestWriteWhileInUse(t *testing.T) {
	st, blobs := world(t)
	before, err := archive.Digest(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	var first blob.Key
	for key, err := range blobs.All(t.Context(), 3) {
		if err != nil {
			t.Fatal(err)
		}
		first = key
		break
	}
	disturbed := false
	disturb := func(archive.Summary) {
		if disturbed {
			return
		}
		disturbed = true
		err := st.Update(t.Context(), func(tx store.Tx) error {
			if _, err := tx.NextSequence(3); err != nil {
				return err
			}
			return tx.Put(store.NewKey(3, store.KindDoc).Collection(0).Name("zz"), []byte("new"))
		})
		if err := errors.Join(err, blobs.Remove(t.Context(), 3, first)); err != nil {
			t.Error(err)
		}
	}
	sum, err := archive.Write(t.Context(), io.Discard, archive.Header{}, st, blobs, disturb)
	if err != nil || sum.Digest != before || sum.Missing != 1 || sum.Blobs != 2 || !disturbed {
		t.Errorf("Write = %+v, %v; the digest was %s", sum, err, before)
	}
}

// TestWriteEnds: a writer that fails and a context that ends stop it.
func TestWriteEnds(t *testing.T) {
	st, blobs := world(t)
	fault := errors.New("the pipe is gone")
	if _, err := archive.Write(t.Context(), failing{fault}, archive.Header{}, st, blobs, nil); !errors.Is(err, fault) {
		t.Errorf("Write = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := archive.Write(ctx, io.Discard, archive.Header{}, st, blobs, func(archive.Summary) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Write under a canceled context = %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// FuzzCheck: no input makes the reader panic or take more memory than it was sent.
func FuzzCheck(f *testing.F) {
	st, err := pebblestore.OpenMem()
	if err != nil {
		f.Fatal(err)
	}
	var buf bytes.Buffer
	if _, err := archive.Write(f.Context(), &buf, archive.Header{}, st, blob.NewInStore(st, nil), nil); err != nil {
		f.Fatal(err)
	}
	if err := st.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(buf.Bytes())
	f.Add([]byte("tidegate archive\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, _ = archive.Check(t.Context(), bytes.NewReader(b), nil)
	})
}
