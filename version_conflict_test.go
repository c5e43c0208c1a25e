package tidegate_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	. "github.com/tidegate/tidegate"
)

// legacyOf is the version that stands for a rev-tree ID, in the short form.
func legacyOf(id string) string { return fmt.Sprintf("%x@RTE", LegacyVersion(rev(id)).Time) }

// TestCheckNewVersion walks through replication.md §7 (V4) and device-sync.md §12.7. Verdicts: 0 accepted, k known,
// c conflict.
func TestCheckNewVersion(t *testing.T) {
	live, dead := []string{"2-b 1-a"}, []string{"!2-b 1-a"}
	for _, c := range []struct {
		name   string
		tree   []string
		local  string
		in     string
		legacy string
		flags  string // d: a tombstone, g: from a gateway, r: conflicts are resolved
		want   string
	}{
		{"no document", nil, "", "5@a", "", "", "0"},
		{"no document, tombstone", nil, "", "5@a", "", "d", "0"},

		{"same", live, "5@a", "5@a", "", "", "k"},
		{"older of the same source", live, "5@a", "4@a", "", "", "k"},
		{"previous", live, "5@a;3@b", "3@b", "", "", "k"},
		{"merged", live, "5@a,3@b,2@c", "2@c", "", "", "k"},
		{"newer of the same source", live, "5@a", "6@a", "", "", "0"},
		{"knows the current one", live, "5@a", "3@b;5@a", "", "", "0"},
		{"merged the current one", live, "5@a", "9@c,5@a,3@b", "", "", "0"},
		{"knows an older one", live, "5@a;4@c", "6@b;4@c", "", "", "c"},
		{"knows nothing", live, "5@a", "6@b", "", "", "c"},
		{"tombstone that knows", live, "5@a", "3@b;5@a", "", "d", "0"},
		{"tombstone that does not", live, "5@a;4@c", "6@b;4@c", "", "d", "c"},

		{"same merge, later", live, "5@a,1@x,2@y", "6@b,2@y,1@x", "", "", "0"},
		{"same merge, earlier", live, "5@a,1@x,2@y", "4@b,1@x,2@y", "", "", "k"},
		{"same merge, same time", live, "5@a,1@x,2@y", "5@b,1@x,2@y", "", "", "0"},
		{"other merge", live, "5@a,1@x,2@y", "6@b,1@x,3@y", "", "", "c"},
		{"part of the merge", live, "5@a,1@x,2@y", "6@b,1@x", "", "", "c"},

		{"document without vector: its encoding", live, "", legacyOf("2-b"), "", "", "k"},
		{"document without vector: its parent's encoding", live, "", legacyOf("1-a"), "", "", "k"},
		{"document without vector: a lower generation is no ancestor", live, "", legacyOf("1-c"), "", "", "c"},
		{"document without vector: edit of it", live, "", "5@a;" + legacyOf("2-b"), "", "", "0"},
		{"document without vector: edit, told by ID", live, "", "5@a", "2-b 1-a", "", "0"},
		{"document without vector: edit of its parent", live, "", "5@a;" + legacyOf("1-a"), "", "", "c"},
		{"document without vector: edit of its parent, told", live, "", "5@a", "1-a", "", "c"},
		{"document without vector: edit of a later one", live, "", "5@a;" + legacyOf("3-c"), "", "", "0"},
		{"document without vector: edit of another branch, told", live, "", "5@a;" + legacyOf("3-c"), "3-c 2-x 1-a", "", "c"},
		{"document without vector: edit of a later one, told", live, "", "5@a;" + legacyOf("3-c"), "3-c 2-b", "", "0"},
		{"document without vector: unrelated", live, "", "5@a", "", "", "c"},

		{"rev-tree version as the vector's own", live, "1abcd000000@RTE", "1abcd000000@RTE", "", "", "k"},
		{"edit of a rev-tree version that is current", live, "1abcd000000@RTE", "5@a;1abcd000000@RTE", "", "", "0"},
		{"edit of an older rev-tree version", live, "1abcd000000@RTE", "5@a;1abc0000000@RTE", "", "", "c"},
		{"current one by rev-tree ID", live, "5@a", "6@b", "2-b 1-a", "", "0"},
		{"current one by its encoding", live, "5@a", "6@b;" + legacyOf("2-b"), "", "", "0"},
		{"its parent by rev-tree ID", live, "5@a", "6@b", "1-a", "", "c"},
		{"rev-tree revision that is here", live, "5@a", legacyOf("1-a"), "", "", "k"},
		{"rev-tree revision of another branch", live, "5@a;" + legacyOf("4-c"), legacyOf("2-c"), "", "", "c"},

		{"deleted: knows the tombstone", dead, "5@a", "6@b;5@a", "", "", "0"},
		{"deleted: edit of an ancestor", dead, "5@s;3@a", "6@b;3@a", "", "", "c"},
		{"deleted: next edit of an earlier writer", dead, "5@s;3@a", "6@a", "", "", "c"},
		{"deleted: edit of an ancestor, told by ID", dead, "5@s", "6@b", "1-a", "", "c"},
		{"deleted: unrelated", dead, "5@s;3@a", "6@b;2@c", "", "", "0"},
		{"deleted: unrelated tombstone", dead, "5@s;3@a", "6@b", "", "d", "c"},
		{"deleted: tombstone of an ancestor", dead, "5@s;3@a", "6@b;3@a", "", "d", "c"},
		{"deleted: a gateway's later tombstone", dead, "5@s;3@a", "6@b;3@a", "", "dg", "0"},
		{"deleted: a gateway's earlier tombstone", dead, "5@s;3@a", "4@b;3@a", "", "dg", "k"},
		{"deleted: a gateway's edit", dead, "5@s;3@a", "6@b;3@a", "", "g", "c"},
		{"live: a gateway's tombstone", live, "5@s;3@a", "6@b;3@a", "", "dg", "c"},
		{"resolved: a gateway's later tombstone", dead, "5@s;3@a", "6@b;3@a", "", "dgr", "c"},
		{"resolved: a gateway's earlier tombstone", dead, "5@s;3@a", "4@b;3@a", "", "dgr", "c"},
		{"resolved: unrelated to what is deleted", dead, "5@s;3@a", "6@b;2@c", "", "gr", "c"},
		{"resolved: knows the tombstone", dead, "5@a", "6@b;5@a", "", "gr", "0"},
		{"resolved: known", dead, "5@a", "4@a", "", "gr", "k"},
		{"resolved: same merge, later", live, "5@a,1@x,2@y", "6@b,2@y,1@x", "", "gr", "0"},
		{"deleted without vector: edit of its parent", dead, "", "5@a;" + legacyOf("1-a"), "", "", "c"},
		{"deleted without vector: unrelated", dead, "", "5@a", "", "", "0"},
		{"deleted without vector: a gateway's tombstone", dead, "", "112233445566778@a", "", "dg", "0"},
	} {
		tree := build(t, c.tree...)
		w := &VersionWrite{Vector: vec(t, c.in), Deleted: strings.Contains(c.flags, "d"), Gateway: strings.Contains(c.flags, "g"), Resolved: strings.Contains(c.flags, "r")}
		if c.legacy != "" {
			w.Legacy = revs(c.legacy)
		}
		known, err := CheckNewVersion(tree, vec(t, c.local), w)
		got := "0"
		switch {
		case errors.Is(err, ErrRevisionConflict):
			got = "c"
		case err != nil:
			t.Fatalf("%s: error %v", c.name, err)
		case known:
			got = "k"
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if known && !tree.Knows(vec(t, c.local), AnyRev{Vector: w.Vector}) && len(w.Vector.Merge) == 0 && !w.Gateway {
			t.Errorf("%s: is known only when written", c.name)
		}
	}
}

// TestPropose holds the table of device-sync.md §12.7, for rev-tree IDs and for versions.
func TestPropose(t *testing.T) {
	live, dead := []string{"3-c 2-b 1-a", "!2-x 1-a"}, []string{"!3-c 2-b 1-a"}
	a := src("a")
	for _, c := range []struct {
		name        string
		tree        []string
		local       string
		rev, parent string
		want        Verdict
	}{
		{"no document", nil, "", "1-a", "", 0},
		{"no document, parent", nil, "", "2-b", "1-a", 0},
		{"current", live, "", "3-c", "2-b", 304},
		{"ancestor", live, "", "1-a", "", 304},
		{"losing leaf", live, "", "2-x", "1-a", 304},
		{"child of the current one", live, "", "4-d", "3-c", 0},
		{"child of the current one, by version", live, "5@a", "4-d", "5@" + a, 0},
		{"child of an older one", live, "", "3-d", "2-b", 409},
		{"child of an older one, by version", live, "5@a", "3-d", "4@" + a, 409},
		{"no parent", live, "", "1-b", "", 409},
		{"unknown parent", live, "", "4-d", "3-x", 409},
		{"deleted: the tombstone", dead, "", "3-c", "2-b", 304},
		{"deleted: ancestor", dead, "", "2-b", "", 304},
		{"deleted: child of the tombstone", dead, "", "4-d", "3-c", 0},
		{"deleted: child of an ancestor", dead, "", "3-d", "2-b", 409},
		{"deleted: child of an ancestor, by version", dead, "5@a", "3-d", "4@" + a, 409},
		{"deleted: no parent", dead, "", "1-b", "", 0},
		{"deleted: unknown parent", dead, "", "4-d", "3-x", 0},
		{"deleted: unknown parent, by version", dead, "5@a", "4-d", "4@" + src("b"), 0},

		{"version: no document", nil, "", "5@" + a, "", 0},
		{"version: no document, parent", nil, "", "5@" + a, "4@" + a, 0},
		{"version: no vector, current one by ID", live, "", "5@" + a, "3-c", 0},
		{"version: no vector, its encoding", live, "", LegacyVersion(rev("3-c")).String(), "3-c", 304},
		{"version: no vector, older one by ID", live, "", "5@" + a, "2-b", 409},
		{"version: no vector, no parent", live, "", "5@" + a, "", 409},
		{"version: current one by ID", live, "5@a", "6@" + src("b"), "3-c", 0},
		{"version: current", live, "5@a", "5@" + a, "4@" + a, 304},
		{"version: known", live, "5@a;3@b", "3@" + src("b"), "", 304},
		{"version: child of the current one", live, "5@a", "3@" + src("b"), "5@" + a, 0},
		{"version: newer of the same source", live, "5@a", "6@" + a, "", 0},
		{"version: whole vector that knows", live, "5@a", "6@" + src("b") + ";5@" + a, "", 0},
		{"version: whole vector that knows, with spaces", live, "5@a", "6@" + src("b") + ", 5@" + a, "", 0},
		{"version: whole vector that does not", live, "5@a", "6@" + src("b") + ";4@" + a, "4@" + a, 409},
		{"version: unrelated", live, "5@a", "6@" + src("b"), "", 409},
		{"version: deleted, its tombstone as parent", dead, "5@s", "6@" + src("b"), "5@" + src("s"), 0},
		{"version: deleted, no parent", dead, "5@s", "6@" + src("b"), "", 0},
		{"version: deleted, known parent", dead, "5@s;3@a", "6@" + src("b"), "3@" + a, 409},
		{"version: deleted, unknown parent", dead, "5@s;3@a", "6@" + src("b"), "4@" + a, 0},
		{"version: deleted, known parent by ID", dead, "5@s", "6@" + src("b"), "2-b", 409},
		{"version: deleted without vector, known parent by ID", dead, "", "6@" + src("b"), "2-b", 409},
		{"version: deleted without vector, no parent", dead, "", "6@" + src("b"), "", 0},
	} {
		tree := build(t, c.tree...)
		name, err := ParseAnyRev(c.rev)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		parent, err := ParseAnyRev(c.parent)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		var got Verdict
		if name.Tree.IsZero() {
			got = tree.ProposeVersion(vec(t, c.local), name, parent)
		} else {
			got = tree.Propose(vec(t, c.local), name.Tree, parent)
		}
		if got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// version is a version with the truth about it: everything that was known when it was made.
type version struct {
	vector VersionVector
	past   map[Version]bool // itself included
}

// drawHistory plays peers that edit a document, and merge what they have. Every version ever made is returned.
func drawHistory(t *rapid.T) []version {
	peers := make([]version, 3)
	var all []version
	for now := range rapid.IntRange(1, 12).Draw(t, "versions") {
		i := rapid.IntRange(0, len(peers)-1).Draw(t, "peer")
		p := &peers[i]
		local := Version{Time: uint64(now + 1), Source: src(string(rune('a' + i)))}
		other := peers[rapid.IntRange(0, len(peers)-1).Draw(t, "takes from")]
		next := version{past: map[Version]bool{local: true}}
		for _, known := range []version{*p, other} {
			for v := range known.past {
				next.past[v] = true
			}
		}
		next.vector = MergeVectors(local, p.vector, other.vector)
		if p.vector.IsZero() && other.vector.IsZero() {
			next.vector = VersionVector{Current: local}
		}
		*p = next
		all = append(all, next)
	}
	return all
}

// TestNoLostVersion is I3: whatever comes in whatever order, a version is replaced by one that was made knowing it, and what
// is called known is in the past of what is here.
func TestNoLostVersion(t *testing.T) {
	tree := build(t, "1-a")
	rapid.Check(t, func(t *rapid.T) {
		all := drawHistory(t)
		here := all[rapid.IntRange(0, len(all)-1).Draw(t, "first")]
		for range 2 * len(all) {
			in := all[rapid.IntRange(0, len(all)-1).Draw(t, "in")]
			known, err := CheckNewVersion(tree, here.vector, &VersionWrite{Vector: in.vector})
			sameMerge := len(in.vector.Merge) > 0 && slices.Equal(in.vector.Merge, here.vector.Merge)
			switch {
			case err != nil:
				if in.past[here.vector.Current] || here.past[in.vector.Current] {
					t.Fatalf("%s refused on %s", short(in.vector), short(here.vector))
				}
			case known:
				if !here.past[in.vector.Current] && !sameMerge {
					t.Fatalf("%s is called known to %s", short(in.vector), short(here.vector))
				}
			default:
				if !in.past[here.vector.Current] && !sameMerge {
					t.Fatalf("%s replaces %s", short(in.vector), short(here.vector))
				}
				here = version{vector: in.vector.Over(here.vector), past: in.past}
			}
		}
	})
}

// TestVersionConvergence is I2 where the rules define a result: all versions that one of them includes, in any order and any
// of them twice, end with that one; and of two merges of the same versions the same one stays.
func TestVersionConvergence(t *testing.T) {
	tree := build(t, "1-a")
	deliver := func(order []version) VersionVector {
		here := order[0].vector
		for _, in := range order[1:] {
			known, err := CheckNewVersion(tree, here, &VersionWrite{Vector: in.vector})
			if err == nil && !known {
				here = in.vector.Over(here)
			}
		}
		return here
	}
	rapid.Check(t, func(t *rapid.T) {
		all := drawHistory(t)
		top := all[len(all)-1]
		under := slices.DeleteFunc(all, func(v version) bool { return !top.past[v.vector.Current] })
		under = append(under, under[rapid.IntRange(0, len(under)-1).Draw(t, "twice")])
		order := rapid.Permutation(under).Draw(t, "order")
		if got := deliver(order); got.Current != top.vector.Current {
			t.Fatalf("%s is current, want %s", short(got), short(top.vector))
		}
	})
	x, y := vec(t, "1@x"), vec(t, "2@y")
	one, two := version{vector: MergeVectors(ver(t, "5@a"), x, y)}, version{vector: MergeVectors(ver(t, "6@b"), y, x)}
	first, second := deliver([]version{{vector: x}, one, two, one}), deliver([]version{{vector: x}, two, one, two})
	if first.Current != second.Current || first.Current != two.vector.Current {
		t.Errorf("%s and %s", short(first), short(second))
	}
}
