package pgstore_test

import (
	"errors"
	"testing"

	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/pgstore"
)

func put(t *testing.T, s *pgstore.Store, name string) error {
	t.Helper()
	return s.Update(t.Context(), func(tx store.Tx) error { return tx.Put(store.NewKey(1, store.KindDoc).Name(name), nil) })
}

// TestFence: who had the store open before another process fenced it writes nothing more, and does not fence that one; who opens it later writes.
func TestFence(t *testing.T) {
	schema := newSchema()
	before, alone := open(t, schema), open(t, schema)
	defer before.Close()
	defer alone.Close()
	if err := put(t, before, "before"); err != nil {
		t.Fatal(err)
	}
	if err := alone.Fence(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := put(t, before, "fenced"); !errors.Is(err, store.ErrFenced) {
		t.Errorf("a write of who had it open before = %v", err)
	}
	if err := before.Fence(t.Context()); !errors.Is(err, store.ErrFenced) {
		t.Errorf("Fence by who is fenced = %v", err)
	}
	after := open(t, schema)
	defer after.Close()
	for name, s := range map[string]*pgstore.Store{"alone": alone, "after": after} {
		if err := put(t, s, name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	err := before.View(t.Context(), func(r store.Reader) error {
		for name, want := range map[string]bool{"before": true, "fenced": false, "alone": true, "after": true} {
			if v, err := r.Get(store.NewKey(1, store.KindDoc).Name(name)); err != nil || (v != nil) != want {
				t.Errorf("%s is there: %v, %v", name, v != nil, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestFencedByNewTables: a schema that was dropped and made anew, as before a restore, is not that of who had it open.
func TestFencedByNewTables(t *testing.T) {
	schema := newSchema()
	before := open(t, schema)
	defer before.Close()
	exec(t, "DROP SCHEMA "+schema+" CASCADE")
	anew := open(t, schema)
	defer anew.Close()
	if err := put(t, before, "fenced"); !errors.Is(err, store.ErrFenced) {
		t.Errorf("a write into tables made anew = %v", err)
	}
	if err := put(t, anew, "anew"); err != nil {
		t.Error(err)
	}
}

// TestVersion1: tables of version 1, which know no generations, are brought up to date.
func TestVersion1(t *testing.T) {
	schema := newSchema()
	if err := open(t, schema).Close(); err != nil {
		t.Fatal(err)
	}
	exec(t, "ALTER TABLE "+schema+".writer DROP COLUMN generation; DELETE FROM "+schema+".versions; INSERT INTO "+schema+".versions (version) VALUES (1)")
	first, second := open(t, schema), open(t, schema)
	defer first.Close()
	defer second.Close()
	for _, s := range []*pgstore.Store{first, second} {
		if err := put(t, s, "x"); err != nil {
			t.Error(err)
		}
	}
}
