package changes

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidegate/tidegate"
)

var (
	genName = rapid.StringMatching(`[a-z!*\x00é]{1,6}`)
	genRev  = rapid.Custom(func(t *rapid.T) tidegate.RevID {
		return tidegate.RevID{
			Generation: rapid.Uint64Range(1, 1<<53).Draw(t, "generation"),
			Digest:     rapid.StringMatching(`[0-9a-f]{1,40}`).Draw(t, "digest"),
		}
	})
	genLeaf = rapid.Custom(func(t *rapid.T) Leaf { return Leaf{genRev.Draw(t, "rev"), rapid.Bool().Draw(t, "deleted")} })
	genSet  = rapid.Custom(func(t *rapid.T) tidegate.ChannelSet {
		set := rapid.SliceOfNDistinct(genName, 0, 4, rapid.ID).Draw(t, "set")
		if slices.Sort(set); len(set) == 0 {
			return nil
		}
		return set
	})
	genEntry = rapid.Custom(func(t *rapid.T) Entry {
		e := Entry{
			Seq: tidegate.Seq(rapid.Uint64Range(1<<20, 1<<53).Draw(t, "seq")), DocID: genName.Draw(t, "id"),
			Sole: rapid.Bool().Draw(t, "sole"), Rev: genRev.Draw(t, "rev"), Flags: Flags(rapid.IntRange(0, 15).Draw(t, "flags")),
		}
		if leaves := rapid.SliceOfN(genLeaf, 0, 3).Draw(t, "others"); len(leaves) > 0 {
			e.Others = leaves
		}
		if e.Routed = rapid.Bool().Draw(t, "routed"); !e.Routed {
			return e
		}
		e.Channels, e.RemovedFrom = genSet.Draw(t, "channels"), genSet.Draw(t, "removed")
		at := e.Seq
		for range rapid.IntRange(0, 3).Draw(t, "departures") {
			at -= tidegate.Seq(rapid.IntRange(1, LeftWindow/4).Draw(t, "ago"))
			set := genSet.Filter(func(s tidegate.ChannelSet) bool { return len(s) > 0 }).Draw(t, "left")
			e.Left = append(e.Left, Departure{at, genRev.Draw(t, "rev"), rapid.Bool().Draw(t, "deleted"), set})
		}
		return e
	})
)

func TestEntryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := genEntry.Draw(t, "entry")
		value := string(e.AppendBinary(nil))
		back, err := ParseEntry(e.Seq, value)
		if err != nil || !reflect.DeepEqual(back, e) {
			t.Fatalf("%+v comes back as %+v, %v", e, back, err)
		}
		for n := range len(value) {
			if _, err := ParseEntry(e.Seq, value[:n]); tidegate.ErrorCode(err) != tidegate.Corrupt {
				t.Fatalf("the first %d bytes of %q: %v", n, value, err)
			}
		}
		if _, err := ParseEntry(e.Seq, value+"\x00"); tidegate.ErrorCode(err) != tidegate.Corrupt {
			t.Fatalf("a byte too many: %v", err)
		}
	})
}

func TestParseEntryRefusesNonsense(t *testing.T) {
	rev := "\x01\x01a"
	for name, value := range map[string]string{
		"nothing":                 "",
		"another format":          "\x02\x00\x01d" + rev,
		"unknown flag":            "\x01\x10\x01d" + rev,
		"no id":                   "\x01\x00\x00" + rev,
		"no generation":           "\x01\x00\x01d\x00\x01a",
		"no digest":               "\x01\x00\x01d\x01\x00",
		"a count beyond the end":  "\x01\x40\x01d" + rev + "\xff\xff\xff\xff\x0f",
		"an empty list of others": "\x01\x40\x01d" + rev + "\x00",
		"a long form of a number": "\x01\x00\x81\x00d" + rev,
		"a number too large":      "\x01\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02d" + rev,
		"channels out of order":   "\x01\x80\x01d" + rev + "\x02\x01b\x01a\x00\x00",
		"a channel twice":         "\x01\x80\x01d" + rev + "\x02\x01a\x01a\x00\x00",
		"a departure of today":    "\x01\x80\x01d" + rev + "\x00\x00\x01\x00\x02\x01a\x01\x01a",
		"before the beginning":    "\x01\x80\x01d" + rev + "\x00\x00\x01\x64\x02\x01a\x01\x01a",
	} {
		if e, err := ParseEntry(100, value); tidegate.ErrorCode(err) != tidegate.Corrupt {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
}

func FuzzParseEntry(f *testing.F) {
	for _, e := range []Entry{
		{Seq: 9, DocID: "d", Rev: tidegate.RevID{Generation: 1, Digest: "a"}},
		{
			Seq: 9, DocID: "d", Rev: tidegate.RevID{Generation: 300, Digest: strings.Repeat("ab", 16)}, Flags: Conflicted,
			Others: []Leaf{{tidegate.RevID{Generation: 2, Digest: "b"}, true}}, Routed: true,
			Channels: tidegate.ChannelSet{"a", "b"}, RemovedFrom: tidegate.ChannelSet{"c"},
			Left: []Departure{{Seq: 3, Rev: tidegate.RevID{Generation: 1, Digest: "c"}, Channels: tidegate.ChannelSet{"x"}}},
		},
	} {
		f.Add(e.AppendBinary(nil))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		e, err := ParseEntry(9, string(value))
		if err != nil {
			if tidegate.ErrorCode(err) != tidegate.Corrupt {
				t.Errorf("%v", err)
			}
			return
		}
		if again := e.AppendBinary(nil); string(again) != string(value) {
			t.Errorf("%q is written as %q", value, again)
		}
	})
}

func ExampleEntry() {
	e := Entry{Seq: 7, DocID: "doc", Rev: tidegate.RevID{Generation: 1, Digest: "abc"}, Flags: Deleted}
	back, err := ParseEntry(7, string(e.AppendBinary(nil)))
	fmt.Println(back.DocID, back.Rev, back.Flags&Deleted != 0, err)
	// Output: doc 1-abc true <nil>
}
