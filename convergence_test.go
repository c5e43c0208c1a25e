package tidegate_test

import (
	"bytes"
	"cmp"
	"fmt"
	"iter"
	"maps"
	"math/bits"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	. "github.com/tidegate/tidegate"
)

// Checkers of the invariants I2 (convergence) and I3 (no lost update) of hardening.md for revision trees. A
// merger is how a history gets into a tree; the checkers take it as a parameter so that the tests at the end
// of this file can show that they catch a wrong one.
type merger func(*RevTree, []RevID) error

// merge is the one under test. Whether a revision is a tombstone is part of what it is, so it follows from its
// ID here.
func merge(tree *RevTree, history []RevID) error {
	r := Rev{ID: history[0]}
	if strings.HasPrefix(r.ID.Digest, "d") {
		r.Flags = RevDeleted
	}
	_, _, err := tree.AddHistory(history, r)
	return err
}

// checkConvergence merges the histories in each order and compares the trees with what the model says.
func checkConvergence(merge merger, histories [][]RevID, orders iter.Seq[[]int]) error {
	want := model(histories)
	var first []byte
	for order := range orders {
		var tree RevTree
		for _, k := range order {
			if err := merge(&tree, histories[k]); err != nil {
				return fmt.Errorf("order %v: %w", order, err)
			}
		}
		if got := parents(&tree); !maps.Equal(got, want) {
			return fmt.Errorf("order %v: parents are %v, want %v", order, got, want)
		}
		b := normal(&tree).AppendBinary(nil)
		if first == nil {
			first = b
		} else if !bytes.Equal(b, first) {
			return fmt.Errorf("order %v: encoded as %x, before as %x", order, b, first)
		}
	}
	return nil
}

// model computes from scratch what a set of histories says: each revision's parent. Ancestors of one revision
// stand in one line, so of two of them the older is the younger one's ancestor.
func model(histories [][]RevID) map[RevID]RevID {
	ancestors := map[RevID]map[RevID]bool{}
	for _, h := range histories {
		for i, id := range h {
			if ancestors[id] == nil {
				ancestors[id] = map[RevID]bool{}
			}
			for _, older := range h[i+1:] {
				ancestors[id][older] = true
			}
		}
	}
	for changed := true; changed; {
		changed = false
		for _, of := range ancestors {
			for a := range of {
				for b := range of {
					if a.Generation > b.Generation && !ancestors[a][b] {
						ancestors[a][b], changed = true, true
					}
				}
				for b := range ancestors[a] {
					if !of[b] {
						of[b], changed = true, true
					}
				}
			}
		}
	}
	parent := map[RevID]RevID{}
	for id, of := range ancestors {
		parent[id] = RevID{}
		if len(of) > 0 {
			parent[id] = slices.MaxFunc(slices.Collect(maps.Keys(of)), RevID.Compare)
		}
	}
	return parent
}

// parents writes a tree down in the model's form.
func parents(tree *RevTree) map[RevID]RevID {
	parent := map[RevID]RevID{}
	for i := range tree.Len() {
		id := tree.At(i).ID
		parent[id] = RevID{}
		if p := tree.At(i).Parent; p >= 0 {
			parent[id] = tree.At(p).ID
		}
	}
	return parent
}

// normal returns the tree without what depends on which bodies were seen: the flags of revisions that are
// no leaves.
func normal(tree *RevTree) *RevTree {
	tree = tree.Clone()
	for i := range tree.Len() {
		if !tree.IsLeaf(i) {
			tree.At(i).Flags = 0
		}
	}
	return tree
}

// checkNoLostLeaf merges histories and prunes after each, and checks that whoever wrote a revision finds it
// again: as a leaf or below one; that every leaf is a revision that somebody wrote; and that the winner is
// the best of the leaves.
func checkNoLostLeaf(merge merger, prune func(*RevTree, int), limit int, histories [][]RevID) error {
	var tree RevTree
	superseded := map[RevID]bool{} // named as an ancestor by somebody
	written := map[RevID]bool{}
	for _, h := range histories {
		if err := merge(&tree, h); err != nil {
			return err
		}
		prune(&tree, limit)
		written[h[0]] = true
		for _, id := range h[1:] {
			superseded[id] = true
		}
		if err := wellFormed(&tree); err != nil {
			return fmt.Errorf("after %s: %w", text(h), err)
		}
		leaves := map[RevID]bool{}
		for _, leaf := range tree.Leaves() {
			leaves[leaf.ID] = true
			if !written[leaf.ID] {
				return fmt.Errorf("after %s: leaf %v was written by nobody", text(h), leaf.ID)
			}
		}
		for id := range written {
			if !superseded[id] && !leaves[id] {
				return fmt.Errorf("after %s: %v is lost", text(h), id)
			}
		}
	}
	return nil
}

// wellFormed checks what holds for every tree.
func wellFormed(tree *RevTree) error {
	hasChild := make([]bool, tree.Len())
	for i := range tree.Len() {
		r := tree.At(i)
		if r.Parent < 0 {
			continue
		}
		hasChild[r.Parent] = true
		if tree.At(r.Parent).ID.Generation >= r.ID.Generation {
			return fmt.Errorf("%v is a child of %v", r.ID, tree.At(r.Parent).ID)
		}
	}
	var leaves []int
	for i := range tree.Len() {
		if tree.IsLeaf(i) == hasChild[i] {
			return fmt.Errorf("IsLeaf(%v) = %v", tree.At(i).ID, tree.IsLeaf(i))
		}
		if k, ok := tree.Find(tree.At(i).ID); !ok || k != i {
			return fmt.Errorf("%v is not found", tree.At(i).ID)
		}
		if tree.IsLeaf(i) {
			leaves = append(leaves, i)
		}
	}
	slices.SortFunc(leaves, func(a, b int) int { // the rule of gateway-rest.md §11.1, once more
		x, y := tree.At(a), tree.At(b)
		if x.Deleted() != y.Deleted() {
			if y.Deleted() {
				return -1
			}
			return 1
		}
		if closed := x.Flags & RevClosed; closed != y.Flags&RevClosed { // what closed a branch comes last
			return int(closed) - int(y.Flags&RevClosed)
		}
		return cmp.Or(-cmp.Compare(x.ID.Generation, y.ID.Generation), -cmp.Compare(x.ID.Digest, y.ID.Digest))
	})
	var got []int
	for i := range tree.Leaves() {
		got = append(got, i)
	}
	if !slices.Equal(got, leaves) {
		return fmt.Errorf("leaves in order %v, want %v", got, leaves)
	}
	if w, ok := tree.Winner(); ok != (len(leaves) > 0) || (ok && w != leaves[0]) {
		return fmt.Errorf("winner %d of leaves %v", w, leaves)
	}
	return nil
}

func prune(tree *RevTree, limit int) { tree.Prune(limit) }

// permutations yields all orders of n things. The slice is reused.
func permutations(n int) iter.Seq[[]int] {
	return func(yield func([]int) bool) {
		order := make([]int, n)
		for i := range order {
			order[i] = i
		}
		var permute func(k int) bool
		permute = func(k int) bool {
			if k == n {
				return yield(order)
			}
			for i := k; i < n; i++ {
				order[k], order[i] = order[i], order[k]
				if !permute(k + 1) {
					return false
				}
				order[k], order[i] = order[i], order[k]
			}
			return true
		}
		permute(0)
	}
}

// subsets yields all ways to take at most limit of the histories.
func subsets(histories [][]RevID, limit int) iter.Seq[[][]RevID] {
	return func(yield func([][]RevID) bool) {
		for set := range 1 << len(histories) {
			if n := bits.OnesCount(uint(set)); n == 0 || n > limit {
				continue
			}
			var chosen [][]RevID
			for i := range histories {
				if set>>i&1 == 1 {
					chosen = append(chosen, histories[i])
				}
			}
			if !yield(chosen) {
				return
			}
		}
	}
}

// thinned returns all truthful ways to tell a history: with some ancestors left out.
func thinned(history []RevID) [][]RevID {
	var out [][]RevID
	for set := range 1 << (len(history) - 1) {
		h := []RevID{history[0]}
		for i, id := range history[1:] {
			if set>>i&1 == 1 {
				h = append(h, id)
			}
		}
		out = append(out, h)
	}
	return out
}

// smallWorlds are documents with all the ways their revisions can be told about.
func smallWorlds() map[string][][]RevID {
	full := func(worlds ...string) (out [][]RevID) {
		for _, h := range worlds {
			out = append(out, revs(h))
		}
		return out
	}
	gapped := func(worlds ...string) (out [][]RevID) {
		for _, h := range worlds {
			out = append(out, thinned(revs(h))...)
		}
		return out
	}
	return map[string][][]RevID{
		"edits": full("1-a", "2-a 1-a", "3-a 2-a 1-a", "2-b 1-a", "3-b 2-b 1-a", "3-c 2-a 1-a", "4-a 3-c 2-a 1-a", "1-z"),
		"deletes": full("1-a", "2-a 1-a", "3-d 2-a 1-a", "2-d 1-a", "3-e 2-d 1-a", "3-db 2-a 1-a", "4-d 3-d 2-a 1-a",
			"5-a 4-d 3-d 2-a 1-a"),
		"gaps":       gapped("1-a", "2-b 1-a", "3-c 2-b 1-a", "3-x 2-b 1-a"),
		"gaps, deep": gapped("4-d 3-c 2-b 1-a", "3-c 2-b 1-a"),
	}
}

// TestI2Enumerated: small documents, every choice of up to five histories, every order.
func TestI2Enumerated(t *testing.T) {
	for name, histories := range smallWorlds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limit := 5
			if len(histories) > 10 {
				limit = 4
			}
			for set := range subsets(histories, limit) {
				if err := checkConvergence(merge, set, permutations(len(set))); err != nil {
					t.Fatalf("histories %v: %v", set, err)
				}
			}
		})
	}
}

// TestI3Enumerated: the same, pruned hard after each step.
func TestI3Enumerated(t *testing.T) {
	for name, histories := range smallWorlds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limit := 4
			if len(histories) > 10 {
				limit = 3
			}
			for set := range subsets(histories, limit) {
				for order := range permutations(len(set)) {
					var ordered [][]RevID
					for _, k := range order {
						ordered = append(ordered, set[k])
					}
					for limit := 1; limit <= 3; limit++ {
						if err := checkNoLostLeaf(merge, prune, limit, ordered); err != nil {
							t.Fatalf("limit %d, %v: %v", limit, ordered, err)
						}
					}
				}
			}
		})
	}
}

// drawWorld draws a document's revisions, each with its whole history.
func drawWorld(t *rapid.T) [][]RevID {
	n := rapid.IntRange(1, 25).Draw(t, "revisions")
	var world [][]RevID
	for i := range n {
		parent := rapid.IntRange(-1, i-1).Draw(t, "parent")
		kind := rapid.SampledFrom([]string{"a", "b", "d"}).Draw(t, "kind")
		var history []RevID
		if parent >= 0 {
			history = world[parent]
		}
		id := RevID{Generation: uint64(len(history) + 1), Digest: fmt.Sprintf("%s%d", kind, i)}
		world = append(world, append([]RevID{id}, history...))
	}
	return world
}

// drawHistories draws what is told about a world: histories cut short or with gaps, or whole.
func drawHistories(t *rapid.T, world [][]RevID) [][]RevID {
	tell := rapid.SliceOfN(rapid.SampledFrom(world), 1, 12).Draw(t, "told")
	var histories [][]RevID
	for _, whole := range tell {
		h := []RevID{whole[0]}
		cut := rapid.IntRange(1, len(whole)).Draw(t, "cut")
		gaps := rapid.Bool().Draw(t, "gaps")
		for _, id := range whole[1:cut] {
			if !gaps || rapid.Bool().Draw(t, "told") {
				h = append(h, id)
			}
		}
		histories = append(histories, h)
	}
	return histories
}

func TestI2Property(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		histories := drawHistories(t, drawWorld(t))
		orders := make([][]int, 4)
		for i := range orders {
			orders[i] = drawOrder(t, len(histories))
		}
		if err := checkConvergence(merge, histories, slices.Values(orders)); err != nil {
			t.Fatal(err)
		}
	})
}

// causal puts the revisions of an order that come before their parents behind them.
func causal(world [][]RevID, order []int) []int {
	done := map[RevID]bool{}
	var out []int
	for len(out) < len(order) {
		for _, k := range order {
			if h := world[k]; !done[h[0]] && (len(h) == 1 || done[h[1]]) {
				done[h[0]] = true
				out = append(out, k)
			}
		}
	}
	return out
}

func drawOrder(t *rapid.T, n int) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	return rapid.Permutation(order).Draw(t, "order")
}

// TestI2Pruned: trees that are pruned after each step differ in what old history they keep, but not in
// leaves and winner, and pruning once more changes nothing. Revisions come after their parents here: one that
// comes for the first time when it was pruned already cannot be told from a new branch.
func TestI2Pruned(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		world := drawWorld(t)
		limit := rapid.IntRange(1, 6).Draw(t, "limit")
		var want []RevID
		for range 3 {
			var tree RevTree
			for _, k := range causal(world, drawOrder(t, len(world))) {
				if err := merge(&tree, world[k]); err != nil {
					t.Fatal(err)
				}
				tree.Prune(limit)
			}
			if removed := tree.Prune(limit); removed != nil {
				t.Fatalf("Prune is not idempotent: %v", removed)
			}
			var got []RevID
			for i, leaf := range tree.Leaves() {
				got = append(got, leaf.ID)
				if n := len(tree.History(i, 0)); n < min(limit, int(leaf.ID.Generation)) {
					t.Fatalf("%v keeps %d revisions", leaf.ID, n)
				}
			}
			if want == nil {
				want = got
			}
			if !slices.Equal(got, want) {
				t.Fatalf("leaves %v, in another order %v", got, want)
			}
		}
	})
}

// TestI3Property: no revision is lost, even when histories contradict each other.
func TestI3Property(t *testing.T) {
	digest := rapid.SampledFrom([]string{"a", "b", "c", "d"})
	history := rapid.Custom(func(t *rapid.T) []RevID {
		var h []RevID
		for g := rapid.IntRange(1, 7).Draw(t, "generation"); g > 0; g -= rapid.IntRange(1, 3).Draw(t, "step") {
			h = append(h, RevID{Generation: uint64(g), Digest: digest.Draw(t, "digest")})
		}
		return h
	})
	rapid.Check(t, func(t *rapid.T) {
		histories := rapid.SliceOfN(history, 1, 15).Draw(t, "histories")
		limit := rapid.IntRange(1, 8).Draw(t, "limit")
		if err := checkNoLostLeaf(merge, prune, limit, histories); err != nil {
			t.Fatal(err)
		}
	})
}

// mergeUpToKnown is a merger with a fault: it stops at the first ancestor that is known, so what a later history
// tells about the ancestors of that one depends on the order.
func mergeUpToKnown(tree *RevTree, history []RevID) error {
	parent, at := -1, len(history)
	for k, id := range history {
		if i, ok := tree.Find(id); ok {
			parent, at = i, k
			break
		}
	}
	for at--; at >= 0; at-- {
		r := Rev{ID: history[at]}
		if strings.HasPrefix(r.ID.Digest, "d") && at == 0 {
			r.Flags = RevDeleted
		}
		i, err := tree.Add(parent, r)
		if err != nil {
			return err
		}
		parent = i
	}
	return nil
}

// TestCheckersCatch plants faults and expects the checkers above to notice.
func TestCheckersCatch(t *testing.T) {
	t.Run("I2", func(t *testing.T) {
		histories := [][]RevID{revs("3-c 2-b"), revs("5-e 4-d"), revs("6-f 5-e 4-d 3-c")}
		if err := checkConvergence(merge, histories, permutations(3)); err != nil {
			t.Fatalf("without a fault: %v", err)
		}
		if err := checkConvergence(mergeUpToKnown, histories, permutations(3)); err == nil {
			t.Error("a merger that depends on the order was not noticed")
		}
	})
	t.Run("I3", func(t *testing.T) {
		histories := [][]RevID{revs("1-a"), revs("2-b 1-a"), revs("2-c 1-a")}
		if err := checkNoLostLeaf(merge, prune, 5, histories); err != nil {
			t.Fatalf("without a fault: %v", err)
		}
		dropLosers := func(tree *RevTree, _ int) {
			var kept RevTree
			w, _ := tree.Winner()
			if err := merge(&kept, tree.History(w, 0)); err != nil {
				t.Fatal(err)
			}
			*tree = kept
		}
		if err := checkNoLostLeaf(merge, dropLosers, 5, histories); err == nil {
			t.Error("a lost branch was not noticed")
		}
		ghost := func(tree *RevTree, history []RevID) error {
			return merge(tree, append([]RevID{{Generation: 99, Digest: "f"}}, history...))
		}
		if err := checkNoLostLeaf(ghost, prune, 5, histories); err == nil {
			t.Error("a leaf that nobody wrote was not noticed")
		}
	})
}
