package tidegate_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	. "github.com/tidegate/tidegate"
)

// rev makes a RevID from "3-c".
func rev(s string) RevID {
	id, err := ParseRevID(s)
	if err != nil {
		panic(s)
	}
	return id
}

// revs makes a history from "3-c 2-b 1-a".
func revs(s string) []RevID {
	var ids []RevID
	for _, f := range strings.Fields(s) {
		ids = append(ids, rev(f))
	}
	return ids
}

// text is the opposite of revs.
func text(ids []RevID) string {
	var words []string
	for _, id := range ids {
		words = append(words, id.String())
	}
	return strings.Join(words, " ")
}

// build makes a tree of histories; "!" before one makes its revision a tombstone.
func build(t testing.TB, histories ...string) *RevTree {
	t.Helper()
	tree := new(RevTree)
	for _, h := range histories {
		addHistory(t, tree, h)
	}
	return tree
}

func addHistory(t testing.TB, tree *RevTree, h string) (added bool) {
	t.Helper()
	h, deleted := strings.CutPrefix(h, "!")
	ids := revs(h)
	r := Rev{ID: ids[0]}
	if deleted {
		r.Flags = RevDeleted
	}
	i, added, err := tree.AddHistory(ids, r)
	if err != nil {
		t.Fatalf("AddHistory(%s): %v", h, err)
	}
	if tree.At(i).ID != ids[0] {
		t.Fatalf("AddHistory(%s) = index of %v", h, tree.At(i).ID)
	}
	return added
}

// branches writes down the whole tree: the history of each leaf, in winner order.
func branches(tree *RevTree) string {
	var b strings.Builder
	for i, leaf := range tree.Leaves() {
		if b.Len() > 0 {
			b.WriteString(" | ")
		}
		if leaf.Deleted() {
			b.WriteString("!")
		}
		b.WriteString(text(tree.History(i, 0)))
	}
	return b.String()
}

func TestWinner(t *testing.T) {
	for _, c := range []struct {
		histories []string
		want      string
		live      int
	}{
		{nil, "", 0},
		{[]string{"1-a"}, "1-a", 1},
		{[]string{"2-b 1-a"}, "2-b 1-a", 1},
		{[]string{"2-b 1-a", "2-c 1-a"}, "2-c 1-a | 2-b 1-a", 2},
		{[]string{"10-a", "9-z"}, "10-a | 9-z", 2}, // generations are numbers
		{[]string{"1-a", "!5-b 4-x"}, "1-a | !5-b 4-x", 1},
		{[]string{"!2-b 1-a", "!2-c 1-a"}, "!2-c 1-a | !2-b 1-a", 0},
		{[]string{"1-B", "1-a"}, "1-a | 1-B", 2}, // bytes, not letters
		{[]string{"1-aa", "1-b", "1-a"}, "1-b | 1-aa | 1-a", 3},
	} {
		tree := build(t, c.histories...)
		if got := branches(tree); got != c.want {
			t.Errorf("%q: branches %q, want %q", c.histories, got, c.want)
		}
		if got := tree.LiveLeaves(); got != c.live {
			t.Errorf("%q: %d live leaves, want %d", c.histories, got, c.live)
		}
		winner, ok := tree.Winner()
		if ok != (len(c.histories) > 0) {
			t.Errorf("%q: winner ok = %v", c.histories, ok)
		} else if ok && !strings.HasPrefix(strings.TrimPrefix(c.want, "!"), tree.At(winner).ID.String()) {
			t.Errorf("%q: winner %v", c.histories, tree.At(winner).ID)
		}
	}
}

// TestWinnerIsNoClosedBranch: what closed a branch is current only where nothing else is left.
func TestWinnerIsNoClosedBranch(t *testing.T) {
	tree := build(t, "2-b 1-a", "9-x")
	closing := func(i int, id string) {
		t.Helper()
		if _, err := tree.Add(i, Rev{ID: rev(id), Flags: RevDeleted | RevClosed}); err != nil {
			t.Fatal(err)
		}
	}
	current := func(want string) {
		t.Helper()
		if i, _ := tree.Winner(); tree.At(i).ID != rev(want) {
			t.Errorf("%s is current, want %s", tree.At(i).ID, want)
		}
	}
	x, _ := tree.Find(rev("9-x"))
	closing(x, "10-t")
	current("2-b")
	b, _ := tree.Find(rev("2-b"))
	if _, err := tree.Add(b, Rev{ID: rev("3-c"), Flags: RevDeleted}); err != nil {
		t.Fatal(err)
	}
	current("3-c")
	only := build(t, "1-a")
	tree = only
	closing(0, "2-t")
	current("2-t")
}

func TestAddHistory(t *testing.T) {
	for _, c := range []struct {
		name      string
		histories []string
		want      string
	}{
		{"missing ancestors are inserted", []string{"3-c 2-b 1-a"}, "3-c 2-b 1-a"},
		{"edits extend a branch", []string{"1-a", "2-b 1-a", "3-c 2-b 1-a"}, "3-c 2-b 1-a"},
		{"joins at the nearest ancestor", []string{"3-c 2-b 1-a", "4-x 3-y 2-b 1-a"}, "4-x 3-y 2-b 1-a | 3-c 2-b 1-a"},
		{"known: nothing new", []string{"3-c 2-b 1-a", "2-b 1-a"}, "3-c 2-b 1-a"},
		{"a revision of its own", []string{"3-c 2-b", "2-x 1-y"}, "3-c 2-b | 2-x 1-y"},
		{"the peer has pruned more", []string{"3-c 2-b 1-a", "5-e 4-d 3-c"}, "5-e 4-d 3-c 2-b 1-a"},
		{"we have pruned more", []string{"3-c", "5-e 4-d 3-c 2-b 1-a"}, "5-e 4-d 3-c 2-b 1-a"},
		{"a gap", []string{"5-e 3-c 1-a"}, "5-e 3-c 1-a"},
		{"a gap that is filled", []string{"5-e 2-b", "6-f 5-e 4-d 3-c 2-b 1-a"}, "6-f 5-e 4-d 3-c 2-b 1-a"},
		{"a gap that a branch fills", []string{"3-c 2-b 1-a", "5-e 2-b", "6-f 5-e 3-c"}, "6-f 5-e 3-c 2-b 1-a"},
		{"two that prove to be one", []string{"3-c 2-b", "5-e 4-d", "6-f 5-e 4-d 3-c"}, "6-f 5-e 4-d 3-c 2-b"},
		{"known, and joins", []string{"3-c 2-b", "5-e 4-d", "5-e 4-d 3-c"}, "5-e 4-d 3-c 2-b"},
		{"a new ancestor between", []string{"4-d 1-a", "2-b", "5-e 4-d 3-c 2-b"}, "5-e 4-d 3-c 2-b 1-a"},
		{"made-up ancestors stay apart", []string{"4-d 3-c 2-b", "6-f 5-e 4-m 3-m 2-b", "5-e 4-d 3-c 2-b"},
			"6-f 5-e 4-m 3-m 2-b | 4-d 3-c 2-b"},
	} {
		if got := branches(build(t, c.histories...)); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func TestAddHistoryTellsWhetherItIsNew(t *testing.T) {
	tree := build(t, "3-c 2-b 1-a")
	if addHistory(t, tree, "2-b 1-a") {
		t.Error("an ancestor was added again")
	}
	if !addHistory(t, tree, "2-x 1-a") {
		t.Error("a new branch was not added")
	}
	i, _ := tree.Find(rev("1-a"))
	if tree.At(i).Flags != RevBodyGone {
		t.Errorf("an ancestor that came without a body has flags %b", tree.At(i).Flags)
	}
}

func TestAddHistoryRefuses(t *testing.T) {
	for _, c := range []struct {
		name, history, id string
	}{
		{"empty", "", "1-a"},
		{"other revision", "2-b 1-a", "3-c"},
		{"ascending", "2-b 3-c", "2-b"},
		{"same generation twice", "2-b 2-a", "2-b"},
		{"same revision twice", "2-b 2-b", "2-b"},
	} {
		tree := build(t, "1-z")
		_, _, err := tree.AddHistory(revs(c.history), Rev{ID: rev(c.id)})
		if !errors.Is(err, ErrBadRevisions) || ErrorReason(err) != "Bad _revisions" {
			t.Errorf("%s: error %v", c.name, err)
		}
		if got := branches(tree); got != "1-z" {
			t.Errorf("%s: tree changed to %s", c.name, got)
		}
	}
	var tree RevTree
	bad := RevID{Generation: 1, Digest: "a,b"}
	if _, _, err := tree.AddHistory([]RevID{bad}, Rev{ID: bad}); !errors.Is(err, ErrBadRevisions) {
		t.Errorf("bad digest: error %v", err)
	}
}

func TestAdd(t *testing.T) {
	var tree RevTree
	a, err := tree.Add(-1, Rev{ID: rev("1-a"), Parent: 77})
	if err != nil {
		t.Fatal(err)
	}
	if tree.At(a).Parent != -1 {
		t.Errorf("parent of a root is %d", tree.At(a).Parent)
	}
	b, err := tree.Add(a, Rev{ID: rev("2-b"), Flags: RevAttachments, Channels: NewChannelSet("x")})
	if err != nil {
		t.Fatal(err)
	}
	if tree.IsLeaf(a) || !tree.IsLeaf(b) || !tree.IsAncestor(a, b) || tree.IsAncestor(b, a) || !tree.IsAncestor(b, b) {
		t.Error("parent and child are mixed up")
	}
	for _, c := range []struct {
		parent int
		id     RevID
		want   error
	}{
		{a, rev("2-b"), ErrRevExists},
		{b, rev("2-c"), ErrInvalidRevID},
		{b, rev("1-c"), ErrInvalidRevID},
		{2, rev("3-c"), ErrInvalidRevID},
		{-2, rev("3-c"), ErrInvalidRevID},
		{b, RevID{}, ErrInvalidRevID},
		{b, RevID{Generation: 3}, ErrInvalidRevID},
		{b, RevID{Generation: 3, Digest: strings.Repeat("a", 254)}, ErrInvalidRevID},
	} {
		if _, err := tree.Add(c.parent, Rev{ID: c.id}); !errors.Is(err, c.want) {
			t.Errorf("Add(%d, %v): error %v, want %v", c.parent, c.id, err, c.want)
		}
	}
	if tree.Len() != 2 {
		t.Errorf("a refused revision was added: %d", tree.Len())
	}
}

func TestHistory(t *testing.T) {
	tree := build(t, "4-d 3-c 2-b 1-a", "3-x 2-b")
	i, _ := tree.Find(rev("4-d"))
	for _, c := range []struct {
		max  int
		want string
	}{{0, "4-d 3-c 2-b 1-a"}, {1, "4-d"}, {3, "4-d 3-c 2-b"}, {9, "4-d 3-c 2-b 1-a"}} {
		if got := text(tree.History(i, c.max)); got != c.want {
			t.Errorf("History(%d) = %s, want %s", c.max, got, c.want)
		}
	}
	var got []RevID
	for _, r := range tree.Ancestors(i) {
		got = append(got, r.ID)
	}
	if text(got) != "3-c 2-b 1-a" {
		t.Errorf("Ancestors = %s", text(got))
	}
}

func TestCloneIsApart(t *testing.T) {
	tree := build(t, "2-b 1-a")
	clone := tree.Clone()
	addHistory(t, clone, "3-c 2-b")
	clone.At(0).Flags = RevDeleted
	if got := branches(tree); got != "2-b 1-a" || tree.At(0).Flags == RevDeleted {
		t.Errorf("a change of the clone shows in the original: %s", got)
	}
}

func TestPrune(t *testing.T) {
	for _, c := range []struct {
		name      string
		histories []string
		limit     int
		want      string
		removed   string
	}{
		{"empty", nil, 3, "", ""},
		{"short", []string{"3-c 2-b 1-a"}, 3, "3-c 2-b 1-a", ""},
		{"long", []string{"4-d 3-c 2-b 1-a"}, 2, "4-d 3-c", "1-a 2-b"},
		{"never leaves", []string{"3-c 2-b 1-a", "1-z"}, 1, "3-c | 1-z", "1-a 2-b"},
		{"zero is one", []string{"2-b 1-a"}, 0, "2-b", "1-a"},
		{"a short branch keeps the fork", []string{"5-e 4-d 3-c 2-b 1-a", "2-x 1-a"}, 2,
			"5-e 4-d | 2-x 1-a", "2-b 3-c"},
		{"tombstones count as branches", []string{"5-e 4-d 3-c 2-b 1-a", "!4-x 3-c"}, 2,
			"5-e 4-d 3-c | !4-x 3-c", "1-a 2-b"},
		{"gaps count as nothing", []string{"9-d 6-c 3-b 1-a"}, 3, "9-d 6-c 3-b", "1-a"},
	} {
		tree := build(t, c.histories...)
		removed := tree.Prune(c.limit)
		if got := branches(tree); got != c.want {
			t.Errorf("%s: left %s, want %s", c.name, got, c.want)
		}
		if text(removed) != c.removed {
			t.Errorf("%s: removed %s, want %s", c.name, text(removed), c.removed)
		}
		if again := tree.Prune(c.limit); again != nil {
			t.Errorf("%s: a second Prune removed %s", c.name, text(again))
		}
	}
}

// TestPrunedHistoryJoinsAgain: a branch that starts at a pruned revision joins where it did before.
func TestPrunedHistoryJoinsAgain(t *testing.T) {
	tree := build(t, "4-d 3-c 2-b 1-a")
	tree.Prune(2)
	addHistory(t, tree, "4-x 3-y 2-b 1-a")
	want := branches(build(t, "4-d 3-c", "4-x 3-y 2-b 1-a"))
	if got := branches(tree); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	addHistory(t, tree, "5-e 4-d 3-c 2-b 1-a")
	if got, want := branches(tree), "5-e 4-d 3-c 2-b 1-a | 4-x 3-y 2-b 1-a"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestPruneLong writes a document more often than its history is kept.
func TestPruneLong(t *testing.T) {
	var tree RevTree
	for g := range 1000 {
		parent := -1
		if i, ok := tree.Winner(); ok {
			parent = i
		}
		if _, err := tree.Add(parent, Rev{ID: RevID{Generation: uint64(g + 1), Digest: fmt.Sprintf("%032x", g)}}); err != nil {
			t.Fatal(err)
		}
		if removed := tree.Prune(50); len(removed) != min(1, max(0, g-49)) {
			t.Fatalf("generation %d: removed %s", g+1, text(removed))
		}
	}
	if i, _ := tree.Winner(); tree.Len() != 50 || len(tree.History(i, 0)) != 50 {
		t.Errorf("%d revisions left, want 50 in a line", tree.Len())
	}
}

func TestRevsDiff(t *testing.T) {
	for _, c := range []struct {
		name      string
		histories []string
		ask       string
		missing   string
		possible  string
	}{
		{"no document", nil, "2-b 1-a", "2-b 1-a", ""},
		{"all known", []string{"3-c 2-b 1-a"}, "1-a 3-c 2-b", "", ""},
		{"newer than the leaf", []string{"2-b 1-a"}, "4-x 1-a", "4-x", "2-b"},
		{"same generation: the parent", []string{"2-b 1-a"}, "2-x", "2-x", "1-a"},
		{"same generation: no parent", []string{"2-b"}, "2-x", "2-x", ""},
		{"older", []string{"5-b 4-a"}, "2-x", "2-x", ""},
		{"all leaves, newest first", []string{"2-b 1-a", "3-c 2-x 1-a", "!2-y 1-a"}, "4-z", "4-z", "3-c 2-y 2-b"},
		{"a leaf and a parent, once", []string{"3-c 2-b", "3-d 2-b", "2-x"}, "3-z 9-z", "3-z 9-z", "3-d 3-c 2-x 2-b"},
		{"out of reach", []string{"2-b 1-a"}, "102-x", "102-x", "2-b"},
		{"further out of reach", []string{"2-b 1-a"}, "103-x", "103-x", ""},
		{"one within reach", []string{"2-b 1-a"}, "500-y 50-x 1-q", "500-y 50-x 1-q", "2-b"},
	} {
		missing, possible := build(t, c.histories...).RevsDiff(revs(c.ask))
		if text(missing) != c.missing || text(possible) != c.possible {
			t.Errorf("%s: missing %q possible %q, want %q and %q", c.name, text(missing), text(possible), c.missing, c.possible)
		}
	}
}

func TestLeavesStopsEarly(t *testing.T) {
	tree := build(t, "1-a", "1-b", "1-c", "1-d", "1-e", "1-f")
	var got []RevID
	for _, leaf := range tree.Leaves() {
		got = append(got, leaf.ID)
		if len(got) == 2 {
			break
		}
	}
	if !slices.Equal(got, revs("1-f 1-e")) {
		t.Errorf("first two leaves: %s", text(got))
	}
}
