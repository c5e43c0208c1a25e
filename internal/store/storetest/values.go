package storetest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

func testValues(t *testing.T, s store.Store) {
	long := strings.Repeat("x", 300<<10) // beyond every buffer's size
	put(t, s, "a", "1", "empty", "", "long", long, "zero\x00name", "z")
	check := func(where string, r store.Reader) {
		for name, want := range map[string]string{"a": "1", "empty": "", "long": long, "zero\x00name": "z"} {
			got, err := r.Get(key(name))
			if err != nil || got == nil || string(got) != want {
				t.Errorf("%s: Get(%q) = %d bytes, nil: %v, %v; want %d bytes", where, name, len(got), got == nil, err, len(want))
			}
		}
		if got, err := r.Get(key("missing")); got != nil || err != nil {
			t.Errorf("%s: Get of a missing key = %q, %v", where, got, err)
		}
	}
	view(t, s, func(r store.Reader) error { check("View", r); return nil })
	update(t, s, func(tx store.Tx) error { check("Update", tx); return nil })
	put(t, s, "a", "2")
	update(t, s, func(tx store.Tx) error { return tx.Delete(key("long")) })
	update(t, s, func(tx store.Tx) error { return tx.Delete(key("was never there")) })
	want := []string{"a=2", "empty=", "zero\x00name=z"}
	if got := contents(t, s); !slices.Equal(got, want) {
		t.Errorf("contents = %q, want %q", got, want)
	}
}

// testValuesAreCopied changes what it gave to the engine, and reads many values before it looks at one.
func testValuesAreCopied(t *testing.T, s store.Store) {
	const n = 200
	update(t, s, func(tx store.Tx) error {
		for i := range n {
			k, v := key(fmt.Sprint(i)), bytes.Repeat([]byte{byte(i)}, 1+i*7)
			if err := tx.Put(k, v); err != nil {
				return err
			}
			clear(k)
			clear(v)
		}
		return nil
	})
	check := func(r store.Reader) error {
		var got [n][]byte
		for i := range n {
			var err error
			if got[i], err = r.Get(key(fmt.Sprint(i))); err != nil {
				return err
			}
		}
		for i, v := range got {
			if want := bytes.Repeat([]byte{byte(i)}, 1+i*7); !bytes.Equal(v, want) {
				return fmt.Errorf("value %d changed while the transaction ran", i)
			}
		}
		return nil
	}
	view(t, s, check)
	update(t, s, func(tx store.Tx) error { return check(tx) })
}

func testReadYourWrites(t *testing.T, s store.Store) {
	put(t, s, "a", "old", "b", "old", "c", "old")
	update(t, s, func(tx store.Tx) error {
		if err := putAll(tx, "a", "1", "a", "2", "d", "new"); err != nil {
			return err
		}
		if err := tx.Delete(key("b")); err != nil {
			return err
		}
		if err := tx.Put(key("e"), nil); err != nil {
			return err
		}
		for name, want := range map[string]string{"a": "2", "c": "old", "d": "new", "e": ""} {
			if got, err := tx.Get(key(name)); err != nil || got == nil || string(got) != want {
				return fmt.Errorf("key %q has %q, %v; want %q", name, got, err, want)
			}
		}
		if got, err := tx.Get(key("b")); err != nil || got != nil {
			return fmt.Errorf("a deleted key has %q, %v", got, err)
		}
		if err := putAll(tx, "b", "again"); err != nil {
			return err
		}
		got, err := dump(tx, all())
		if want := []string{"a=2", "b=again", "c=old", "d=new", "e="}; err == nil && !slices.Equal(got, want) {
			return fmt.Errorf("a scan gives %q, want %q", got, want)
		}
		return err
	})
	want := []string{"a=2", "b=again", "c=old", "d=new", "e="}
	if got := contents(t, s); !slices.Equal(got, want) {
		t.Errorf("contents = %q, want %q", got, want)
	}
}

// testRefusedKeys: what would make the engine's own records wrong is refused.
func testRefusedKeys(t *testing.T, s store.Store) {
	for name, k := range map[string][]byte{
		"empty":    {},
		"sequence": store.NewKey(testSpace, store.KindSequence),
	} {
		for verb, write := range map[string]func(tx store.Tx) error{
			"Put":    func(tx store.Tx) error { return tx.Put(k, []byte("x")) },
			"Delete": func(tx store.Tx) error { return tx.Delete(k) },
		} {
			if err := s.Update(t.Context(), write); tidegate.ErrorCode(err) != tidegate.Invalid {
				t.Errorf("%s of the %s key: %v, want an Invalid error", verb, name, err)
			}
		}
	}
}
