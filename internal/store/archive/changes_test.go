package archive_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/archive"
	"github.com/tidegate/tidegate/internal/store/blob"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

// TestChangesAreNoArchive: what has changed is not restored, an archive is not applied, and a stream that was cut off or damaged anywhere is
// refused.
func TestChangesAreNoArchive(t *testing.T) {
	st, blobs := world(t)
	var changes, whole bytes.Buffer
	err := st.View(t.Context(), func(r store.Reader) error {
		changed := archive.Changed{Keys: map[string]struct{}{string(store.NewKey(3, store.KindDoc).Collection(0).Name("gone")): {}}, Ranges: []store.Range{store.Prefix(store.SpaceKey(3))}}
		n, err := archive.WriteChanges(t.Context(), &changes, archive.Header{}, r, blobs, changed)
		if err == nil && (n.Rows < 2 || n.Blobs == 0) {
			t.Errorf("%+v", n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := archive.Write(t.Context(), &whole, archive.Header{}, st, blobs, nil); err != nil {
		t.Fatal(err)
	}
	apply := func(b []byte) error {
		target, err := pebblestore.OpenMem()
		if err != nil {
			t.Fatal(err)
		}
		defer target.Close()
		_, err = archive.ApplyChanges(t.Context(), bytes.NewReader(b), target, blob.NewInStore(target, nil))
		return err
	}
	if err := apply(changes.Bytes()); err != nil {
		t.Error(err)
	}
	if err := apply(whole.Bytes()); !errors.Is(err, archive.ErrNotArchive) {
		t.Errorf("an archive is applied: %v", err)
	}
	if _, _, err := archive.Check(t.Context(), bytes.NewReader(changes.Bytes()), nil); !errors.Is(err, archive.ErrNotArchive) {
		t.Errorf("changes are an archive: %v", err)
	}
	for _, n := range []int{0, 10, changes.Len() / 2, changes.Len() - 5} {
		if err := apply(changes.Bytes()[:n]); err == nil {
			t.Errorf("changes of which %d of %d bytes are there were applied", n, changes.Len())
		}
		damaged := bytes.Clone(changes.Bytes())
		damaged[n] ^= 0x55
		if err := apply(damaged); err == nil || tidegate.ErrorCode(err) == tidegate.Internal {
			t.Errorf("damage at %d: %v", n, err)
		}
	}
}
