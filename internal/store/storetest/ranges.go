package storetest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/tidegate/tidegate/internal/store"
)

// rangeCases are ranges over the keys a, b, bb, c, d and what they hold.
func rangeCases() []rangeCase {
	whole := all()
	return []rangeCase{
		{"all", whole, []string{"a", "b", "bb", "c", "d"}},
		{"from a key", store.Range{Start: key("bb"), End: whole.End}, []string{"bb", "c", "d"}},
		{"to a key, without it", store.Range{Start: whole.Start, End: key("c")}, []string{"a", "b", "bb"}},
		{"between keys", store.Range{Start: key("ba"), End: key("ca")}, []string{"bb", "c"}},
		{"one key", store.Range{Start: key("b"), End: key("b\x00")}, []string{"b"}},
		{"no key inside", store.Range{Start: key("ca"), End: key("cb")}, nil},
		{"empty", store.Range{Start: key("b"), End: key("b")}, nil},
		{"upside down", store.Range{Start: key("d"), End: key("a")}, nil},
		{"beyond", store.Range{Start: key("x"), End: key("z")}, nil},
	}
}

type rangeCase struct {
	name string
	rng  store.Range
	want []string
}

// checkRanges walks all cases in both directions. The values say which version of a key is right.
func checkRanges(t *testing.T, r store.Reader, values map[string]string) {
	for _, c := range rangeCases() {
		for _, reverse := range []bool{false, true} {
			want := make([]string, 0, len(c.want))
			for _, name := range c.want {
				want = append(want, name+"="+values[name])
			}
			rng := c.rng
			if rng.Reverse = reverse; reverse {
				slices.Reverse(want)
			}
			got, err := dump(r, rng)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%s (reverse: %v) = %q, %v; want %q", c.name, reverse, got, err, want)
			}
		}
	}
}

var rangeValues = map[string]string{"a": "1", "b": "2", "bb": "3", "c": "4", "d": "5"}

func testRanges(t *testing.T, s store.Store) {
	put(t, s, "d", "5", "bb", "3", "a", "1", "c", "4", "b", "2")
	view(t, s, func(r store.Reader) error {
		checkRanges(t, r, rangeValues)
		// Open ends take in the keys of other kinds and spaces, of which there are none.
		for _, rng := range []store.Range{{}, {Start: key("a")}, {End: key("z")}, {Reverse: true}} {
			if got, err := dump(r, rng); err != nil || len(got) != 5 {
				t.Errorf("open range %v = %q, %v", rng, got, err)
			}
		}
		return nil
	})
}

// testRangesInTx has some keys below and some in the transaction, changed, hidden and put back.
func testRangesInTx(t *testing.T, s store.Store) {
	put(t, s, "a", "1", "b", "old", "c", "old", "cc", "gone", "d", "old")
	update(t, s, func(tx store.Tx) error {
		if err := putAll(tx, "bb", "3", "b", "2", "d", "5", "aa", "gone"); err != nil {
			return err
		}
		for _, name := range []string{"cc", "aa", "c", "never"} {
			if err := tx.Delete(key(name)); err != nil {
				return err
			}
		}
		if err := putAll(tx, "c", "4"); err != nil {
			return err
		}
		checkRanges(t, tx, rangeValues)
		return nil
	})
	view(t, s, func(r store.Reader) error { checkRanges(t, r, rangeValues); return nil })
}

// seekSteps walk a range over a, c, e, g (to g without it): what to do and where that leads; "" is the end.
var seekSteps = []struct {
	name  string
	steps []seekStep
}{
	{"to a key", []seekStep{{"c", "c"}, {"next", "e"}, {"next", ""}}},
	{"between keys", []seekStep{{"d", "e"}, {"next", ""}, {"next", ""}}},
	{"before the range", []seekStep{{"A", "a"}, {"next", "c"}}},
	{"never back", []seekStep{{"next", "a"}, {"next", "c"}, {"a", "c"}, {"c", "c"}, {"next", "e"}}},
	{"never back after a seek", []seekStep{{"e", "e"}, {"a", "e"}, {"next", ""}}},
	{"to the end of the range", []seekStep{{"g", ""}, {"next", ""}}},
	{"beyond the range", []seekStep{{"next", "a"}, {"x", ""}, {"a", ""}}},
	{"after the end", []seekStep{{"e", "e"}, {"next", ""}, {"e", ""}}},
}

type seekStep struct{ do, at string }

func checkSeeks(t *testing.T, r store.Reader) {
	for _, c := range seekSteps {
		it := r.Scan(store.Range{Start: key("a"), End: key("g")})
		for i, step := range c.steps {
			ok := false
			if step.do == "next" {
				ok = it.Next()
			} else {
				ok = it.SeekGE(key(step.do))
			}
			at := ""
			if ok {
				at, _ = nameOf(it.Key())
				if string(it.Value()) != at {
					t.Errorf("%s, step %d: the value is %q", c.name, i, it.Value())
				}
			}
			if at != step.at || ok != (step.at != "") || it.Err() != nil {
				t.Errorf("%s, step %d (%s): at %q, %v, %v; want %q", c.name, i, step.do, at, ok, it.Err(), step.at)
			}
		}
		if err := it.Close(); err != nil {
			t.Errorf("%s: Close: %v", c.name, err)
		}
	}
}

func testSeekGE(t *testing.T, s store.Store) {
	put(t, s, "a", "a", "c", "c", "e", "e", "g", "g")
	view(t, s, func(r store.Reader) error { checkSeeks(t, r); return nil })
	update(t, s, func(tx store.Tx) error { checkSeeks(t, tx); return nil })
	// The same keys, half of them from the transaction, with one hidden.
	update(t, s, func(tx store.Tx) error {
		if err := tx.Delete(key("a")); err != nil {
			return err
		}
		return putAll(tx, "b", "b", "e", "old")
	})
	update(t, s, func(tx store.Tx) error {
		if err := tx.Delete(key("b")); err != nil {
			return err
		}
		if err := putAll(tx, "a", "a", "e", "e"); err != nil {
			return err
		}
		checkSeeks(t, tx)
		return nil
	})
}

func testIteratorEnds(t *testing.T, s store.Store) {
	put(t, s, "a", "a", "b", "b")
	view(t, s, func(r store.Reader) error {
		rng := all()
		rng.Reverse = true
		it := r.Scan(rng)
		if it.SeekGE(key("a")) || it.Err() == nil {
			t.Error("SeekGE on a reverse range did not fail")
		}
		if err := it.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		it = r.Scan(all())
		for it.Next() {
		}
		for range 3 {
			if it.Next() || it.Err() != nil {
				t.Errorf("after the end: %v", it.Err())
			}
		}
		for range 2 {
			if err := it.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
		if it.Next() {
			t.Error("a closed iterator goes on")
		}
		// One that is not closed must not break anything either.
		if leaked := r.Scan(all()); !leaked.Next() {
			return fmt.Errorf("no key: %w", leaked.Err())
		}
		return nil
	})
}
