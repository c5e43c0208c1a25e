package tidegate

import (
	"cmp"
	"iter"
	"slices"
	"sort"
)

// RevFlags say what is special about a revision.
type RevFlags uint8

// The flags. Values are part of the stored format.
const (
	RevDeleted     RevFlags = 1 << iota // a tombstone
	RevAttachments                      // the revision has attachments
	RevBodyGone                         // the body is not, or no longer, kept
	RevClosed                           // a losing branch that the server closed (device-sync.md §12.7)

	revFlagsMask = RevDeleted | RevAttachments | RevBodyGone | RevClosed
)

// Rev is one revision in a tree.
type Rev struct {
	ID       RevID
	Parent   int // index of the parent; -1 for a root, also when the parent was pruned
	Flags    RevFlags
	Channels ChannelSet // of that revision; stored for leaves only
}

// Deleted reports whether the revision is a tombstone.
func (r *Rev) Deleted() bool { return r.Flags&RevDeleted != 0 }

// ErrRevExists is what Add answers to a revision that the tree has already.
var ErrRevExists = Errorf(Conflict, "the revision exists already")

// RevTree is the history of a document: its revisions, each with its parent. It may have several roots,
// since old revisions are pruned and branches can begin elsewhere. The zero value is an empty tree.
//
// Revisions are addressed by index. Add and AddHistory keep indexes but may move what At points to; Prune
// changes both. A tree is not safe for concurrent use while it is being changed.
type RevTree struct {
	nodes    []revNode
	unsorted bool // nodes are not in ascending order of their IDs
}

type revNode struct {
	Rev
	children int
}

// Len returns the number of revisions.
func (t *RevTree) Len() int { return len(t.nodes) }

// At returns the revision with index i. Its Flags and Channels may be changed in place.
func (t *RevTree) At(i int) *Rev { return &t.nodes[i].Rev }

// Find returns the index of the revision.
func (t *RevTree) Find(id RevID) (int, bool) {
	if t.unsorted {
		for i := range t.nodes {
			if t.nodes[i].ID == id {
				return i, true
			}
		}
		return 0, false
	}
	n := len(t.nodes)
	if n == 0 || t.nodes[n-1].ID.Generation < id.Generation { // nearly always so for a new revision
		return 0, false
	}
	i := sort.Search(n, func(i int) bool { return t.nodes[i].ID.Compare(id) >= 0 })
	if i == n || t.nodes[i].ID != id {
		return 0, false
	}
	return i, true
}

// IsLeaf reports whether the revision has no children.
func (t *RevTree) IsLeaf(i int) bool { return t.nodes[i].children == 0 }

// Winner returns the current revision: among leaves a live one before a tombstone, then the higher
// generation, then the higher digest (gateway-rest.md §11.1). ok is false if the tree is empty.
//
// A tombstone that closed a losing branch comes after all other leaves, however long that branch was. Else it
// would be current after the winner was deleted, and peers, who may know it as what closed that branch, would not
// learn of the deletion.
func (t *RevTree) Winner() (i int, ok bool) {
	best := -1
	for i := range t.nodes {
		if t.nodes[i].children == 0 && (best < 0 || t.compareLeaves(i, best) < 0) {
			best = i
		}
	}
	return max(best, 0), best >= 0
}

// compareLeaves is negative if a wins over b.
func (t *RevTree) compareLeaves(a, b int) int {
	x, y := &t.nodes[a].Rev, &t.nodes[b].Rev
	return cmp.Or(
		cmp.Compare(x.Flags&RevDeleted, y.Flags&RevDeleted), cmp.Compare(x.Flags&RevClosed, y.Flags&RevClosed), y.ID.Compare(x.ID),
	)
}

// Leaves returns the leaves in winner order: the current revision first.
func (t *RevTree) Leaves() iter.Seq2[int, *Rev] {
	return func(yield func(int, *Rev) bool) {
		var few [4]int
		leaves := few[:0]
		for i := range t.nodes {
			if t.nodes[i].children == 0 {
				leaves = append(leaves, i)
			}
		}
		slices.SortFunc(leaves, t.compareLeaves)
		for _, i := range leaves {
			if !yield(i, &t.nodes[i].Rev) {
				return
			}
		}
	}
}

// LiveLeaves returns the number of leaves that are no tombstones. The document is in conflict if there is
// more than one, and deleted if there is none.
func (t *RevTree) LiveLeaves() int {
	n := 0
	for i := range t.nodes {
		if t.nodes[i].children == 0 && !t.nodes[i].Deleted() {
			n++
		}
	}
	return n
}

// Ancestors returns parent, grandparent and so on as far as they are kept.
func (t *RevTree) Ancestors(i int) iter.Seq2[int, *Rev] {
	return func(yield func(int, *Rev) bool) {
		for p := t.nodes[i].Parent; p >= 0; p = t.nodes[p].Parent {
			if !yield(p, &t.nodes[p].Rev) {
				return
			}
		}
	}
}

// History returns the revision and its ancestors, newest first, at most max of them; all if max is 0.
func (t *RevTree) History(i int, max int) []RevID {
	n := 0
	for p := i; p >= 0 && (max == 0 || n < max); p = t.nodes[p].Parent {
		n++
	}
	history := make([]RevID, n)
	for k := range history {
		history[k] = t.nodes[i].ID
		i = t.nodes[i].Parent
	}
	return history
}

// IsAncestor reports whether a is i or an ancestor of i.
func (t *RevTree) IsAncestor(a, i int) bool {
	for ; i >= 0; i = t.nodes[i].Parent {
		if i == a {
			return true
		}
	}
	return false
}

// Add adds the revision as a child of parent, or as a root if parent is -1; r.Parent is ignored. It returns
// the new index. ErrRevExists: the tree has it already. ErrInvalidRevID: the ID is none, or its generation
// is not above the parent's.
func (t *RevTree) Add(parent int, r Rev) (int, error) {
	if !r.ID.valid() || parent < -1 || parent >= len(t.nodes) {
		return 0, ErrInvalidRevID
	}
	if parent >= 0 && t.nodes[parent].ID.Generation >= r.ID.Generation {
		return 0, ErrInvalidRevID
	}
	if _, ok := t.Find(r.ID); ok {
		return 0, ErrRevExists
	}
	return t.insert(parent, r), nil
}

// insert adds a revision that was checked.
func (t *RevTree) insert(parent int, r Rev) int {
	i := len(t.nodes)
	if i > 0 && t.nodes[i-1].ID.Compare(r.ID) > 0 {
		t.unsorted = true
	}
	r.Parent = -1
	t.nodes = append(t.nodes, revNode{Rev: r})
	t.setParent(i, parent)
	return i
}

// setParent moves a branch below another parent.
func (t *RevTree) setParent(i, parent int) {
	if old := t.nodes[i].Parent; old >= 0 {
		t.nodes[old].children--
	}
	t.nodes[i].Parent = parent
	if parent >= 0 {
		t.nodes[parent].children++
	}
}

// Clone returns a copy that can be changed on its own. Channel sets are shared, since they never change.
func (t *RevTree) Clone() *RevTree {
	// Room for one more: a tree is mostly cloned to add a revision.
	nodes := make([]revNode, len(t.nodes), len(t.nodes)+1)
	copy(nodes, t.nodes)
	return &RevTree{nodes: nodes, unsorted: t.unsorted}
}
