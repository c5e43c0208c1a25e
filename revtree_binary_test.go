package tidegate_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	. "github.com/tidegate/tidegate"
)

// drawTree draws a tree with all kinds of digests, flags, gaps and roots.
func drawTree(t *rapid.T) *RevTree {
	digest := rapid.OneOf(
		rapid.StringMatching(`[0-9a-f]{32}`), rapid.StringMatching(`[0-9a-f]{40}`), rapid.StringMatching(`[0-9a-f]{1,6}`),
		rapid.StringMatching(`[0-9A-Z_./-]{1,12}`), rapid.StringMatching(`[a-z]{200}`))
	channels := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "ü", "!", "long channel name"}), 0, 3)
	tree := new(RevTree)
	for range rapid.IntRange(0, 30).Draw(t, "size") {
		parent := rapid.IntRange(-1, tree.Len()-1).Draw(t, "parent")
		r := Rev{Flags: RevFlags(rapid.IntRange(0, 15).Draw(t, "flags")), Channels: NewChannelSet(channels.Draw(t, "channels")...)}
		if len(r.Channels) == 0 {
			r.Channels = nil
		}
		var above uint64
		if parent >= 0 {
			above = tree.At(parent).ID.Generation
			tree.At(parent).Channels = nil
		}
		r.ID = RevID{Generation: above + rapid.SampledFrom([]uint64{1, 1, 1, 2, 300}).Draw(t, "step"), Digest: digest.Draw(t, "digest")}
		if _, err := tree.Add(parent, r); err != nil && !errors.Is(err, ErrRevExists) {
			t.Fatal(err)
		}
	}
	return tree
}

// describe writes down everything in a tree, in an order that does not depend on its indexes.
func describe(tree *RevTree) []string {
	var lines []string
	for i := range tree.Len() {
		r := tree.At(i)
		parent := "-"
		if r.Parent >= 0 {
			parent = tree.At(r.Parent).ID.String()
		}
		lines = append(lines, fmt.Sprintf("%v < %s flags %b channels %q leaf %v", r.ID, parent, r.Flags, r.Channels, tree.IsLeaf(i)))
	}
	slices.Sort(lines)
	return lines
}

func TestRevTreeBinary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tree := drawTree(t)
		b := tree.AppendBinary([]byte("before"))
		if !bytes.HasPrefix(b, []byte("before")) {
			t.Fatal("AppendBinary does not append")
		}
		b = b[len("before"):]
		got, rest, err := ParseRevTree(append(bytes.Clone(b), "after"...))
		if err != nil {
			t.Fatal(err)
		}
		if string(rest) != "after" {
			t.Fatalf("rest %q", rest)
		}
		if want := describe(tree); !slices.Equal(describe(got), want) {
			t.Fatalf("came back as\n%q\nwant\n%q", describe(got), want)
		}
		if err := wellFormed(got); err != nil {
			t.Fatal(err)
		}
		if again := got.AppendBinary(nil); !bytes.Equal(again, b) {
			t.Fatalf("encoded again as %x, want %x", again, b)
		}
		checkParseWinner(t, got, b)
	})
}

// checkParseWinner compares ParseWinner with the tree.
func checkParseWinner(t interface{ Fatalf(string, ...any) }, tree *RevTree, b []byte) {
	winner, conflict, err := ParseWinner(b)
	if err != nil || conflict != (tree.LiveLeaves() > 1) {
		t.Fatalf("ParseWinner: conflict %v with %d live leaves, %v", conflict, tree.LiveLeaves(), err)
	}
	want := Rev{}
	if i, ok := tree.Winner(); ok {
		want = *tree.At(i)
	}
	want.Parent = -1
	if !reflect.DeepEqual(winner, want) {
		t.Fatalf("ParseWinner = %+v, want %+v", winner, want)
	}
}

// TestRevTreeFormat holds the stored format still (hardening.md, I15): what was written must be read for ever.
func TestRevTreeFormat(t *testing.T) {
	var tree RevTree
	a, _ := tree.Add(-1, Rev{ID: rev("1-67a06e8ba083e88a8b4a9ad87b73ca37")})
	b, _ := tree.Add(a, Rev{ID: rev("2-2095a1af7cfe09ae0f7a162f03ff1ba8"), Channels: NewChannelSet("y", "x")})
	_, _ = tree.Add(b, Rev{ID: rev("5-Odd"), Flags: RevDeleted | RevClosed})
	_, _ = tree.Add(a, Rev{ID: rev("2-abcd"), Flags: RevAttachments | RevBodyGone, Channels: NewChannelSet("x")})
	const want = "01" + "00" + "04" + "01" + // format, no conflict, 4 revisions, the second is current
		"09" + "05" + "034f6464" + "02" + // 5-Odd: deleted and closed, parent two further
		"96" + "03" + "02abcd" + "02" + "010178" + // 2-abcd: attachments, no body, packed, channels {x}; parent two further
		"70" + "00" + "2095a1af7cfe09ae0f7a162f03ff1ba8" + // parent next
		"30" + "01" + "67a06e8ba083e88a8b4a9ad87b73ca37" + "00"
	if got := hex.EncodeToString(tree.AppendBinary(nil)); got != want {
		t.Errorf("the format changed:\n got %s\nwant %s", got, want)
	}
	if got := hex.EncodeToString(new(RevTree).AppendBinary(nil)); got != "010000" {
		t.Errorf("an empty tree is written as %s", got)
	}
}

func TestParseRevTreeRefuses(t *testing.T) {
	md5 := "67a06e8ba083e88a8b4a9ad87b73ca37"
	for name, in := range map[string]string{
		"nothing":                     "",
		"other format":                "020000",
		"no count":                    "0100",
		"conflict of nothing":         "010100",
		"bad conflict byte":           "010200",
		"conflict of one":             "01010100" + "3001" + md5 + "00",
		"count beyond the input":      "0100ff0100" + "3001" + md5 + "00",
		"count not in its least form": "0100810000" + "3001" + md5 + "00",
		"winner beyond the count":     "01000101" + "3001" + md5 + "00",
		"generation 0":                "01000100" + "3000" + md5 + "00",
		"generation too high":         "01000100" + "30818080808080801000" + md5 + "00",
		"no digest":                   "01000100" + "00" + "01" + "00" + "00",
		"hex not packed":              "01000100" + "00" + "01" + "026162" + "00",
		"packed MD5 with a length":    "01000100" + "10" + "01" + "10" + md5 + "00",
		"MD5 not packed":              "01000100" + "20" + "01" + md5 + "00",
		"digest with a comma":         "01000100" + "00" + "01" + "03412c41" + "00",
		"digest cut off":              "01000100" + "3001" + md5[:8],
		"parent beyond the end":       "01000100" + "3001" + md5 + "02",
		"parent next at the end":      "01000100" + "7001" + md5,
		"next parent written out":     "01000200" + "3002" + md5 + "01" + "3001" + md5 + "00",
		"parent far beyond the end":   "01000100" + "3001" + md5 + "ffffffffffffffffff01",
		"parent of same generation":   "01000200" + "10020" + "1ab01" + "00" + "1000" + "01aa" + "00",
		"no order":                    "01010200" + "1001" + "01aa" + "00" + "1000" + "01ab" + "00",
		"twice the same":              "01010200" + "1001" + "01aa" + "00" + "1000" + "01aa" + "00",
		"ascending generations":       "01010200" + "1001" + "01aa" + "00" + "10ffffffffffffffffff01" + "01aa" + "00",
		"wrong winner":                "01000201" + "1002" + "01aa" + "00" + "1101" + "01aa" + "00",
		"wrong conflict":              "01000200" + "1002" + "01aa" + "00" + "1001" + "01aa" + "00",
		"channels on no leaf":         "01000200" + "5002" + "01aa" + "9001" + "01ab" + "00" + "010161",
		"no channels where some":      "01000100" + "9001" + "01aa" + "00" + "00",
	} {
		b, err := hex.DecodeString(in)
		if err != nil && len(in)%2 == 0 {
			t.Fatalf("%s: %v", name, err)
		}
		if tree, _, err := ParseRevTree(b); ErrorCode(err) != Corrupt || err == nil {
			t.Errorf("%s: %v, %v", name, tree, err)
		}
	}
}

func FuzzParseRevTree(f *testing.F) {
	for _, h := range []string{"", "1-a", "3-c 2-b 1-a", "5-e 3-c", "40-2095a1af7cfe09ae0f7a162f03ff1ba8"} {
		var tree RevTree
		if ids := revs(h); len(ids) > 0 {
			_, _, _ = tree.AddHistory(ids, Rev{ID: ids[0], Channels: NewChannelSet("a", "b")})
		}
		_, _ = tree.Add(-1, Rev{ID: rev("2-x"), Flags: RevDeleted})
		f.Add(tree.AppendBinary(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		tree, rest, err := ParseRevTree(b)
		if err != nil {
			_, _, _ = ParseWinner(b)
			return
		}
		if err := wellFormed(tree); err != nil {
			t.Fatal(err)
		}
		written, again := b[:len(b)-len(rest)], tree.AppendBinary(nil)
		w, ok := tree.Winner()
		if current, _, err := ParseWinner(b); ok && err == nil && current.ID != tree.At(w).ID {
			// Another rule's current revision (TestFormerWinner): written again it is by ours, and stays so.
			if tree, _, err = ParseRevTree(again); err != nil || !bytes.Equal(tree.AppendBinary(nil), again) {
				t.Fatalf("%x, written again as %x, is not read: %v", written, again, err)
			}
			return
		}
		if !bytes.Equal(again, written) {
			t.Fatalf("%x encoded again as %x", written, again)
		}
		checkParseWinner(t, tree, b)
	})
}

// benchTree is a document with a history of n revisions.
func benchTree(n int) *RevTree {
	tree, parent := new(RevTree), -1
	for g := range n {
		parent, _ = tree.Add(parent, Rev{ID: RevID{Generation: uint64(g + 1), Digest: fmt.Sprintf("%032x", uint64(g+1)*0x9e3779b97f4a7c15)}})
	}
	tree.At(parent).Channels = NewChannelSet("alpha", "beta")
	return tree
}

func BenchmarkRevTree(b *testing.B) {
	for _, n := range []int{1, 5, 50} {
		tree := benchTree(n)
		enc := tree.AppendBinary(nil)
		b.Run(fmt.Sprintf("parse/%d", n), func(b *testing.B) {
			b.SetBytes(int64(len(enc)))
			b.ReportAllocs()
			for b.Loop() {
				_, _, _ = ParseRevTree(enc)
			}
		})
		b.Run(fmt.Sprintf("append/%d", n), func(b *testing.B) {
			buf := make([]byte, 0, len(enc))
			b.ReportAllocs()
			for b.Loop() {
				buf = tree.AppendBinary(buf[:0])
			}
		})
		b.Run(fmt.Sprintf("winner/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _, _ = ParseWinner(enc)
			}
		})
		b.Run(fmt.Sprintf("write/%d", n), func(b *testing.B) { // what a write does with the tree
			id := RevID{Generation: uint64(n + 1), Digest: strings.Repeat("ab", 16)}
			buf := make([]byte, 0, 2*len(enc)+64)
			b.ReportAllocs()
			for b.Loop() {
				t, _, _ := ParseRevTree(enc)
				w, _ := t.Winner()
				_, _ = t.Add(w, Rev{ID: id})
				t.Prune(50)
				buf = t.AppendBinary(buf[:0])
			}
		})
	}
}

// TestFormerWinner: a tree that the first landed version stored, by its rule of which tombstone is current, is read (I15).
func TestFormerWinner(t *testing.T) {
	var tree RevTree
	for _, h := range []struct {
		history []RevID
		flags   RevFlags
	}{
		{revs("1-aa"), 0},
		{revs("3-cc 2-bb 1-aa"), RevDeleted | RevClosed},
		{revs("2-dd 1-aa"), RevDeleted},
	} {
		if _, _, err := tree.AddHistory(h.history, Rev{ID: h.history[0], Flags: h.flags}); err != nil {
			t.Fatal(err)
		}
	}
	now := tree.AppendBinary(nil)
	if w, _ := tree.Winner(); tree.At(w).ID != rev("2-dd") || now[3] != 1 {
		t.Fatalf("the current revision is %v, at %d in the stored form", tree.At(w).ID, now[3])
	}
	former := bytes.Clone(now)
	former[3] = 0 // 3-cc, the first of the revisions
	got, rest, err := ParseRevTree(former)
	if err != nil || len(rest) != 0 {
		t.Fatal(err)
	}
	if again := got.AppendBinary(nil); !bytes.Equal(again, now) {
		t.Errorf("written again as %x, want %x", again, now)
	}
	former[3] = 2 // 2-bb, which is no leaf
	if _, _, err := ParseRevTree(former); ErrorCode(err) != Corrupt {
		t.Errorf("a winner that is none: %v", err)
	}
}
