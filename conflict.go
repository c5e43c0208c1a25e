package tidegate

import "slices"

// CheckNewRev decides whether a revision may be added to a document (gateway-rest.md §11.2). It answers
// nil, ErrDocumentExists or ErrRevisionConflict.
//
//   - t is the document's tree, empty if there is no document.
//   - newEdits is true for an interactive write. parent is then the index of the revision that the writer
//     named, or -1 if none was named; history is not used. A writer who names a revision that the tree does not
//     have gets ErrRevisionConflict from the caller, who could not find an index. With parent -1 on a
//     deleted document the caller continues from the tombstone that is current.
//   - newEdits is false for a revision made elsewhere; history is its history, newest first, itself
//     included. parent is the index of its nearest ancestor here; if -1 it is looked for in history.
//     A revision that is known already passes: adding it changes nothing.
//   - deleted says that the revision is a tombstone.
func CheckNewRev(t *RevTree, allowConflicts, newEdits bool, parent int, history []RevID, deleted bool) error {
	winner, exists := t.Winner()
	switch {
	case !exists && parent < 0:
		return nil // rule 1: there is no document
	case parent >= t.Len():
		return ErrRevisionConflict
	case newEdits:
		return t.checkEdit(allowConflicts, parent, winner, deleted)
	case allowConflicts:
		return nil
	}
	if len(history) > 0 {
		if _, known := t.Find(history[0]); known {
			return nil
		}
		if parent < 0 {
			parent = t.nearest(history[1:])
		}
	}
	if parent < 0 {
		// Rule 3: a branch that is not connected may bring a deleted document back.
		if t.nodes[winner].Deleted() && !deleted {
			return nil
		}
		return ErrRevisionConflict
	}
	if parent == winner || t.closesBranch(parent, deleted) {
		return nil // rules 1 and 2
	}
	return ErrRevisionConflict
}

// checkEdit is CheckNewRev for an interactive write to a document that exists.
func (t *RevTree) checkEdit(allowConflicts bool, parent, winner int, deleted bool) error {
	if parent < 0 {
		if !t.nodes[winner].Deleted() {
			return ErrDocumentExists
		}
		return nil
	}
	if parent == winner || t.closesBranch(parent, deleted) || (allowConflicts && t.IsLeaf(parent)) {
		return nil
	}
	return ErrRevisionConflict
}

// closesBranch is rule 2: a tombstone on a leaf that is live.
func (t *RevTree) closesBranch(parent int, deleted bool) bool {
	return deleted && t.IsLeaf(parent) && !t.nodes[parent].Deleted()
}

// nearest returns the index of the first of the IDs that the tree has, or -1.
func (t *RevTree) nearest(history []RevID) int {
	for _, id := range history {
		if i, ok := t.Find(id); ok {
			return i
		}
	}
	return -1
}

// possibleAncestorReach is how many generations below a missing revision a leaf may be to be offered as its
// possible ancestor (gateway-rest.md §13.4).
const possibleAncestorReach = 100

// RevsDiff answers one document of _revs_diff (gateway-rest.md §13.4): which of the revisions the tree does
// not have, in the order asked, and which of its own might be ancestors of these, newest first. Both are
// nil when nothing is missing.
func (t *RevTree) RevsDiff(ids []RevID) (missing, possibleAncestors []RevID) {
	for _, id := range ids {
		if _, ok := t.Find(id); !ok {
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 || len(t.nodes) == 0 {
		return missing, nil
	}
	generations := make([]uint64, len(missing))
	for i, id := range missing {
		generations[i] = id.Generation
	}
	slices.Sort(generations)
	for i := range t.nodes {
		leaf := &t.nodes[i]
		if leaf.children > 0 {
			continue
		}
		at, same := slices.BinarySearch(generations, leaf.ID.Generation)
		if same && leaf.Parent >= 0 {
			possibleAncestors = append(possibleAncestors, t.nodes[leaf.Parent].ID)
		}
		above, _ := slices.BinarySearch(generations[at:], leaf.ID.Generation+1)
		if at += above; at < len(generations) && generations[at]-leaf.ID.Generation <= possibleAncestorReach {
			possibleAncestors = append(possibleAncestors, leaf.ID)
		}
	}
	slices.SortFunc(possibleAncestors, func(a, b RevID) int { return b.Compare(a) })
	return missing, slices.Compact(possibleAncestors)
}
