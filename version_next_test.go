package tidegate_test

import (
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	. "github.com/tidegate/tidegate"
)

func TestVectorArithmetic(t *testing.T) {
	for _, c := range []struct{ name, got, want string }{
		{"first", short(vec(t, "").Next(ver(t, "5@a"))), "5@a"},
		{"same source", short(vec(t, "4@a;3@b").Next(ver(t, "5@a"))), "5@a;3@b"},
		{"other source", short(vec(t, "4@a;3@b").Next(ver(t, "5@c"))), "5@c;4@a,3@b"},
		{"source of a previous version", short(vec(t, "4@a;3@b").Next(ver(t, "5@b"))), "5@b;4@a"},
		{"merges are used up", short(vec(t, "4@a,2@b,3@c;1@d").Next(ver(t, "5@a"))), "5@a;3@c,2@b,1@d"},
		{"a merge version of the same source", short(vec(t, "4@a,3@a,2@b").Next(ver(t, "5@c"))), "5@c;4@a,2@b"},
		{"rev-tree past stays first", short(vec(t, "4@a;1@RTE,3@b").Next(ver(t, "5@c"))), "5@c;1@RTE,4@a,3@b"},

		{"over nothing", short(vec(t, "5@a;3@b").Over(vec(t, ""))), "5@a;3@b"},
		{"over an ancestor", short(vec(t, "5@a;3@b").Over(vec(t, "3@b;2@c"))), "5@a;3@b,2@c"},
		{"over a newer previous version", short(vec(t, "5@a;3@b").Over(vec(t, "4@a;4@b"))), "5@a;4@b"},
		{"merges stay", short(vec(t, "5@a,3@b,2@c").Over(vec(t, "3@b;1@d"))), "5@a,3@b,2@c;1@d"},

		{"merge", short(MergeVectors(ver(t, "9@s"), vec(t, "5@a;1@c"), vec(t, "6@b;2@c"))), "9@s,5@a,6@b;2@c"},
		{"merge by a party", short(MergeVectors(ver(t, "9@a"), vec(t, "5@a;1@c"), vec(t, "6@b"))), "9@a,5@a,6@b;1@c"},
		{"merge of merges", short(MergeVectors(ver(t, "9@s"), vec(t, "5@a,3@c,2@d"), vec(t, "6@b"))), "9@s,5@a,6@b;3@c,2@d"},
		{"nothing to merge", short(MergeVectors(ver(t, "9@s"), vec(t, "5@a;3@b"), vec(t, "3@b"))), "9@s;5@a,3@b"},
		{"nothing to merge, turned", short(MergeVectors(ver(t, "9@s"), vec(t, "3@b"), vec(t, "5@a;3@b"))), "9@s;5@a,3@b"},
		{"merge with nothing", short(MergeVectors(ver(t, "9@s"), vec(t, ""), vec(t, "5@a"))), "9@s;5@a"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %s, want %s", c.name, c.got, c.want)
		}
	}
}

// Nothing that was known is forgotten by a step, vectors stay well formed, and arguments are not changed.
func TestVectorStepsKeepWhatIsKnown(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v, w := drawVector(t), drawVector(t)
		before := v.String() + w.String()
		name := rapid.SampledFrom([]string{"a", "x"}).Draw(t, "writer")
		local := Version{Time: math.MaxUint64, Source: src(name)}
		next, merged := v.Next(local), MergeVectors(local, v, w)
		for what, got := range map[string]VersionVector{"next": next, "merged": merged} {
			if _, err := ParseAnyRev(got.String()); err != nil || got.Current != local || !got.Dominates(v) {
				t.Fatalf("%s of %s is %s: %v", what, short(v), short(got), err)
			}
			for _, p := range slices.Concat(v.Merge, v.Previous) {
				if !got.Knows(p) {
					t.Fatalf("%s of %s is %s: forgot %v", what, short(v), short(got), p)
				}
			}
		}
		if !merged.Dominates(w) {
			t.Fatalf("%s does not include %s", short(merged), short(w))
		}
		if v.String()+w.String() != before {
			t.Fatal("an argument was changed")
		}
	})
}

func TestPreviousVersionsAreBounded(t *testing.T) {
	v := vec(t, "1abcd000000@RTE")
	for i := range 2 * MaxPreviousVersions {
		v = v.Next(Version{Time: uint64(1<<60 + i), Source: NewSource([16]byte{byte(i)})})
	}
	if len(v.Previous) != MaxPreviousVersions || v.TimeOf(LegacySource) == 0 {
		t.Fatalf("%d previous versions, first %v", len(v.Previous), v.Previous[0])
	}
	if last := v.Previous[len(v.Previous)-1]; last.Time != 1<<60+MaxPreviousVersions {
		t.Errorf("the oldest that is left is %x", last.Time)
	}
	long := VersionVector{Current: ver(t, "5@a"), Previous: append(slices.Clone(v.Previous), ver(t, "1@b"))}
	if got := long.Over(VersionVector{}); len(got.Previous) != MaxPreviousVersions {
		t.Errorf("%d previous versions of a peer's vector are kept", len(got.Previous))
	}
}

func TestNewSource(t *testing.T) {
	s := NewSource([16]byte{0xff, 1})
	if _, err := ParseVersion("1@" + s); err != nil || len(s) != 22 || strings.Contains(s, "=") {
		t.Errorf("%q: %v", s, err)
	}
}

func TestClock(t *testing.T) {
	now := time.Unix(1_700_000_000, 123_456_789)
	c := NewClock(func() time.Time { return now })
	first := c.Next(0)
	if first&0xffff != 0 || first > uint64(now.UnixNano()) || uint64(now.UnixNano())-first >= 1<<16 {
		t.Fatalf("%x at %x", first, now.UnixNano())
	}
	if got := c.Next(0); got != first+1 {
		t.Errorf("within a tick %x follows %x", got, first)
	}
	now = now.Add(-time.Hour)
	if got := c.Next(0); got != first+2 {
		t.Errorf("after the time was set back %x follows %x", got, first+1)
	}
	ahead := first + 1<<40
	if got := c.Next(ahead); got != ahead+1 {
		t.Errorf("%x follows a document's %x", got, ahead)
	}
	if got := c.Next(0); got != first+4 {
		t.Errorf("another document gets %x", got)
	}
	now = now.Add(2 * time.Hour)
	if got := c.Next(0); got <= first+4 || got > uint64(now.UnixNano()) {
		t.Errorf("%x an hour later", got)
	}
	if got := c.Next(math.MaxUint64); got != math.MaxUint64 {
		t.Errorf("%x follows the greatest time", got)
	}
	now = time.Unix(-5, 0)
	if got := NewClock(func() time.Time { return now }).Next(0); got == 0 {
		t.Error("no time before 1970")
	}
}

// Writers at once get times of their own.
func TestClockConcurrent(t *testing.T) {
	c := NewClock(time.Now)
	const n = 1000
	times := make([][]uint64, 4)
	var wg sync.WaitGroup
	for w := range times {
		wg.Go(func() {
			for range n {
				times[w] = append(times[w], c.Next(0))
			}
		})
	}
	wg.Wait()
	seen := map[uint64]bool{}
	for _, list := range times {
		if !slices.IsSorted(list) {
			t.Error("time goes back")
		}
		for _, v := range list {
			seen[v] = true
		}
	}
	if len(seen) != 4*n {
		t.Errorf("%d times of %d", len(seen), 4*n)
	}
}
