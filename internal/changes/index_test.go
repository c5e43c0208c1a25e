package changes

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// checkIndex compares the rows in the store with those that the documents' states give.
func checkIndex(t interface {
	Helper()
	Fatalf(string, ...any)
}, w *world) {
	t.Helper()
	want := map[string][]byte{}
	for id, d := range w.docs {
		s := d.state
		e := s.entry(id)
		for c, m := range s.Channels {
			switch {
			case c == "*":
			case m.Removed:
				want[string(rowKey(w.space, w.coll, c, m.Seq))] = s.removal(id, m).AppendBinary(nil)
			default:
				want[string(rowKey(w.space, w.coll, c, s.Seq))] = e.AppendBinary(nil)
			}
		}
		s.route(&e)
		want[string(rowKey(w.space, w.coll, "*", s.Seq))] = e.AppendBinary(nil)
	}
	got := map[string][]byte{}
	err := w.st.View(context.Background(), func(r store.Reader) error {
		it := r.Scan(store.Prefix(store.NewKey(w.space, store.KindChannel)))
		defer it.Close()
		for it.Next() {
			got[string(it.Key())] = bytes.Clone(it.Value())
		}
		return it.Err()
	})
	if err != nil {
		t.Fatalf("%v", err)
	}
	for key, value := range got { // which leaves a removal lists is as of its own write
		if e, err := ParseEntry(maxSeq, string(value)); err == nil && e.Flags&Removed != 0 {
			w, err := ParseEntry(maxSeq, string(want[key]))
			if err != nil {
				continue // it is not to be there
			}
			w.Others = e.Others
			want[key] = w.AppendBinary(nil)
		}
	}
	if !maps.EqualFunc(got, want, bytes.Equal) {
		t.Fatalf("index has\n%q\nwant\n%q", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

// The index is what a computation from scratch gives (hardening.md I13), whatever was written before.
func TestI13IndexIsWhatTheDocumentsGive(t *testing.T) {
	st := openStore(t)
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(st)
		for range rapid.IntRange(1, 40).Draw(t, "writes") {
			id := rapid.SampledFrom(modelDocs).Draw(t, "doc")
			if rapid.IntRange(0, 7).Draw(t, "purges") == 0 && w.docs[id] != nil {
				w.purge(id)
				continue
			}
			w.write(write{
				id: id, deleted: rapid.Bool().Draw(t, "deleted"),
				channels: rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "a\x00", "!", "*"}), 0, 3).Draw(t, "channels"),
				others:   rapid.SliceOfN(genLeaf, 0, 2).Draw(t, "others"),
			})
			checkIndex(t, w)
		}
	})
}

// purge removes a document without a trace.
func (w *world) purge(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.st.Update(context.Background(), func(tx store.Tx) error {
		return WriteIndex(tx, w.space, w.coll, id, w.docs[id].state, nil)
	})
	if err != nil {
		panic(err)
	}
	delete(w.docs, id)
}

// Resync routes a document anew without writing a revision: its sequence may stay.
func TestWriteIndexAtTheSameSequence(t *testing.T) {
	w := newWorld(openStore(t))
	w.put("d", "a", "b")
	old := w.docs["d"].state
	next := *old
	next.Channels = map[string]Membership{"b": {}, "c": {}}
	w.docs["d"].state = &next
	err := w.st.Update(t.Context(), func(tx store.Tx) error { return WriteIndex(tx, w.space, w.coll, "d", old, &next) })
	if err != nil {
		t.Fatal(err)
	}
	checkIndex(t, w)
}

func TestDeparturesAreListedWithinTheWindow(t *testing.T) {
	rev := tidegate.RevID{Generation: 1, Digest: "a"}
	s := &DocState{Seq: 2 * LeftWindow, Rev: rev, Channels: map[string]Membership{
		"in": {}, "now": {Removed: true, Seq: 2 * LeftWindow}, "last": {Removed: true, Seq: LeftWindow, Rev: rev},
		"with": {Removed: true, Seq: LeftWindow, Rev: rev}, "old": {Removed: true, Seq: LeftWindow - 1, Rev: rev},
		"before": {Removed: true, Seq: 2*LeftWindow - 1, Rev: rev, Deleted: true},
	}}
	e := s.entry("d")
	s.route(&e)
	if !slices.Equal(e.Channels, []string{"in"}) || !slices.Equal(e.RemovedFrom, []string{"now"}) || len(e.Left) != 2 ||
		e.Left[0].Seq != 2*LeftWindow-1 || !e.Left[0].Deleted || !slices.Equal(e.Left[1].Channels, []string{"last", "with"}) {
		t.Errorf("%+v", e)
	}
}
