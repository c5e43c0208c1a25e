package store_test

import (
	"bytes"
	"cmp"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// name draws names with the bytes that escaping turns on.
func name() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringOfN(rapid.RuneFrom([]rune{0, 1, 'a', 0xff, '/'}), 0, 6, -1),
		rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 2, 0xfe, 0xff, 'a'}), 0, 6), func(b []byte) string { return string(b) }),
	)
}

// TestKeyReadsBack builds a key of all parts and takes it apart.
func TestKeyReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := store.Collection(rapid.Uint32().Draw(t, "collection"))
		a, b := name().Draw(t, "a"), name().Draw(t, "b")
		seq := tidegate.Seq(rapid.Uint64().Draw(t, "seq"))
		k := store.NewKey(9, store.KindChannel).Collection(c).Name(a).Name(b).Seq(seq)
		if !bytes.HasPrefix(k, store.SpaceKey(9)) || store.Kind(k[store.Header-1]) != store.KindChannel {
			t.Fatalf("header of %x", k)
		}
		gotC, rest, err := store.CutCollection(k[store.Header:])
		if err != nil || gotC != c {
			t.Fatalf("collection %d, %v; want %d", gotC, err, c)
		}
		for _, want := range []string{a, b} {
			var got string
			if got, rest, err = store.CutName(rest); err != nil || got != want {
				t.Fatalf("name %q, %v; want %q", got, err, want)
			}
		}
		gotSeq, rest, err := store.CutSeq(rest)
		if err != nil || gotSeq != seq || len(rest) != 0 {
			t.Fatalf("sequence %d, %v, rest %x; want %d", gotSeq, err, rest, seq)
		}
	})
}

// TestKeyOrder: keys sort by their names as bytes, then by what follows, and the prefix of a name holds the
// keys of this name and no others.
func TestKeyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type parts struct {
			name string
			seq  uint64
		}
		draw := func(label string) parts {
			return parts{name().Draw(t, label), rapid.Uint64Range(0, 3).Draw(t, label+" seq")}
		}
		a, b := draw("a"), draw("b")
		build := func(p parts) store.Key { return store.NewKey(1, store.KindDoc).Name(p.name).Uint64(p.seq) }
		want := cmp.Or(strings.Compare(a.name, b.name), cmp.Compare(a.seq, b.seq))
		if got := bytes.Compare(build(a), build(b)); got != want {
			t.Fatalf("%v and %v compare as %d, their keys as %d", a, b, want, got)
		}
		r := store.Prefix(store.NewKey(1, store.KindDoc).Name(a.name))
		k := build(b)
		if inside := bytes.Compare(k, r.Start) >= 0 && bytes.Compare(k, r.End) < 0; inside != (a.name == b.name) {
			t.Fatalf("the key of %q is within the prefix of %q: %v", b.name, a.name, inside)
		}
	})
}

func TestPrefixEnd(t *testing.T) {
	for _, c := range []struct{ prefix, end []byte }{
		{[]byte("a"), []byte("b")},
		{[]byte{1, 0xff}, []byte{2}},
		{[]byte{1, 0xff, 0xff}, []byte{2}},
		{[]byte{0xff}, nil},
		{[]byte{}, nil},
		{store.SpaceKey(1), store.SpaceKey(2)},
		{store.SpaceKey(0xff), store.SpaceKey(0x100)[:3]},
		{store.SpaceKey(math.MaxUint32), nil},
	} {
		before := bytes.Clone(c.prefix)
		if end := store.PrefixEnd(c.prefix); !bytes.Equal(end, c.end) || (end == nil) != (c.end == nil) {
			t.Errorf("PrefixEnd(%x) = %x, want %x", c.prefix, end, c.end)
		}
		if !bytes.Equal(before, c.prefix) {
			t.Errorf("PrefixEnd changed its argument from %x to %x", before, c.prefix)
		}
	}
}

// FuzzCut: what is read from a damaged key is an error or what would have been written so.
func FuzzCut(f *testing.F) {
	for _, s := range []string{"", "a", "a\x00", "a\x00\x01", "\x00\xff\x00\x01x", "a\x00\x02", "\x00\x01", "abc\x00\xffdef\x00\xff\x00\x01\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		if s, rest, err := store.CutName(b); err == nil {
			if again := append(store.Key(nil).Name(s), rest...); !bytes.Equal(again, b) {
				t.Errorf("CutName(%x) = %q, %x, which is written %x", b, s, rest, again)
			}
		} else if tidegate.ErrorCode(err) != tidegate.Corrupt {
			t.Errorf("CutName(%x) = %v", b, err)
		}
		if seq, rest, err := store.CutSeq(b); (err == nil) != (len(b) >= 8) || err == nil && !bytes.Equal(append(store.Key(nil).Seq(seq), rest...), b) {
			t.Errorf("CutSeq(%x) = %d, %x, %v", b, seq, rest, err)
		}
		if c, rest, err := store.CutCollection(b); (err == nil) != (len(b) >= 4) || err == nil && !bytes.Equal(append(store.Key(nil).Collection(c), rest...), b) {
			t.Errorf("CutCollection(%x) = %d, %x, %v", b, c, rest, err)
		}
		if !bytes.Equal(b, before) {
			t.Errorf("the key was changed from %x to %x", before, b)
		}
	})
}
