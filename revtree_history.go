package tidegate

import "slices"

// AddHistory adds a revision made elsewhere together with those of its ancestors that are not known.
// history is newest first and begins with r.ID; it may have gaps and may end anywhere. Ancestors that are
// added have RevBodyGone.
//
// Trees that learn the same histories become equal in whatever order they learn them (hardening.md, I2), as
// long as the histories do not contradict each other. For that, a history is merged all the way down: it
// also tells the ancestors of revisions that are known already, which fills gaps, lengthens branches below
// what was their root, and can show that one branch continues another. Where histories contradict (clients
// make up IDs for generations that they have pruned, replication.md §4.2), what was learnt first stays and
// nothing is lost.
//
// i is the index of the revision; added is false if it was known before. Then a caller need not store the
// tree: it loses no revision, only what the history told about old ones.
//
// ErrBadRevisions: history does not begin with r.ID, has something that is no revision ID, or generations
// that do not descend.
func (t *RevTree) AddHistory(history []RevID, r Rev) (i int, added bool, err error) {
	if len(history) == 0 || history[0] != r.ID {
		return 0, false, ErrBadRevisions
	}
	for k, id := range history {
		if !id.valid() || (k > 0 && id.Generation >= history[k-1].Generation) {
			return 0, false, ErrBadRevisions
		}
	}
	i, known := t.Find(r.ID)
	if !known {
		t.makeRoom(history)
		i = t.insert(-1, r)
	}
	t.mergeAncestors(i, history[1:])
	return i, !known, nil
}

// makeRoom grows the tree at once for what a history will add to it.
func (t *RevTree) makeRoom(history []RevID) {
	n := 0
	for n < len(history) {
		if _, ok := t.Find(history[n]); ok {
			break
		}
		n++
	}
	t.nodes = slices.Grow(t.nodes, n)
}

// mergeAncestors makes the chain of i's ancestors the union of what it is and the given IDs, which are
// newest first and older than i. It stops at a contradiction: two IDs of the same generation.
func (t *RevTree) mergeAncestors(i int, ancestors []RevID) {
	for len(ancestors) > 0 {
		next, p := ancestors[0], t.nodes[i].Parent
		if p >= 0 && t.nodes[p].ID.Generation >= next.Generation {
			i = p
			if t.nodes[p].ID == next {
				ancestors = ancestors[1:]
			} else if t.nodes[p].ID.Generation == next.Generation {
				return
			}
			continue
		}
		// next comes between i and its parent, or below the root.
		k, known := t.Find(next)
		switch {
		case !known:
			k = t.insert(p, Rev{ID: next, Flags: RevBodyGone})
			t.setParent(i, k)
		case p < 0:
			t.setParent(i, k)
		case t.agree(p, k):
			older := t.History(p, 0)
			t.setParent(i, k)
			t.mergeAncestors(k, older) // what were i's ancestors are now also k's
		default:
			return
		}
		i, ancestors = k, ancestors[1:]
	}
}

// agree reports whether two chains can be one: a and b and their ancestors have no two different IDs of the
// same generation. Without that a revision moved from one to the other would leave its old parent behind as
// a leaf that nobody wrote.
func (t *RevTree) agree(a, b int) bool {
	for a >= 0 && b >= 0 && a != b {
		x, y := t.nodes[a].ID.Generation, t.nodes[b].ID.Generation
		switch {
		case x == y:
			return false
		case x > y:
			a = t.nodes[a].Parent
		default:
			b = t.nodes[b].Parent
		}
	}
	return true
}

// Prune removes old revisions and returns them, oldest first: those from which even the nearest leaf is
// limit generations away or more, counted in revisions that are kept. So each branch keeps its newest
// limit revisions, and leaves always stay. Children of removed revisions become roots. A limit below 1
// counts as 1.
//
// What is pruned is forgotten: if a peer sends such a revision again it looks like a branch of its own. That
// is why limits are much higher than what clients usually are behind (gateway-rest.md §11.1).
func (t *RevTree) Prune(limit int) (removed []RevID) {
	limit = max(limit, 1)
	if len(t.nodes) <= limit {
		return nil
	}
	depth := t.leafDistance()
	if slices.Max(depth) < limit {
		return nil
	}
	index := make([]int, len(t.nodes)) // old index to new
	kept := 0
	for i := range t.nodes {
		if depth[i] >= limit {
			index[i] = -1
			removed = append(removed, t.nodes[i].ID)
			continue
		}
		index[i] = kept
		t.nodes[kept] = t.nodes[i]
		kept++
	}
	clear(t.nodes[kept:])
	t.nodes = t.nodes[:kept]
	for i := range t.nodes {
		t.nodes[i].children = 0
	}
	for i := range t.nodes {
		if p := t.nodes[i].Parent; p >= 0 {
			t.nodes[i].Parent = index[p]
			if index[p] >= 0 {
				t.nodes[index[p]].children++
			}
		}
	}
	slices.SortFunc(removed, RevID.Compare)
	return removed
}

// leafDistance returns for each revision how far its nearest leaf is: 0 for leaves.
func (t *RevTree) leafDistance() []int {
	distance := make([]int, len(t.nodes))
	for i := range distance {
		distance[i] = len(t.nodes)
	}
	for i := range t.nodes {
		if t.nodes[i].children > 0 {
			continue
		}
		// Walking up from each leaf stops where a shorter way is known: every revision is visited at
		// most once for each leaf that is nearer than those before.
		for d, p := 0, i; p >= 0 && distance[p] > d; d, p = d+1, t.nodes[p].Parent {
			distance[p] = d
		}
	}
	return distance
}
