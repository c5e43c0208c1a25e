package tidegate

import "slices"

// VersionWrite is a revision of a peer that keeps version vectors.
type VersionWrite struct {
	Vector VersionVector
	// Legacy are the rev-tree IDs that followed its history: ancestors from before vectors, newest first.
	Legacy  []RevID
	Deleted bool
	// Gateway: the peer is a gateway, whose tombstone is accepted over one that it does not know.
	Gateway bool
	// Resolved: conflicts will be resolved, so that those with a deletion, too, are told as such.
	Resolved bool
}

// CheckNewVersion decides whether a revision with a version vector may become a document's current revision
// (replication.md §7, device-sync.md §12.7). Such writes never make a branch, whatever allow_conflicts says.
//
//   - t is the document's tree, empty if there is no document.
//   - local is the document's vector; zero for a document that was last written without one. Its current
//     revision is compared by its rev-tree ID, and by LegacyVersion.
//
// known: nothing is to be written, since the document includes the revision, or its own is the one that
// stays of two that are equivalent. Otherwise nil, or ErrRevisionConflict.
//
// Where a document here and a revision there both may stand for the result (two merges of the same versions, two
// tombstones between gateways), the later current version is kept, so that all replicas end with the same one
// (hardening.md, I2).
func CheckNewVersion(t *RevTree, local VersionVector, w *VersionWrite) (known bool, err error) {
	i, exists := t.Winner()
	if !exists {
		return false, nil
	}
	winner := &t.nodes[i].Rev
	local = local.or(winner.ID)
	switch {
	case t.knowsVersion(local, w.Vector.Current):
		return true, nil
	case w.includes(local, winner.ID):
		return false, nil
	case equalMerges(local, w.Vector), w.Gateway && !w.Resolved && w.Deleted && winner.Deleted():
		return local.Current.Compare(w.Vector.Current) > 0, nil
	case !w.Resolved && winner.Deleted() && !w.Deleted && !t.sharesPast(local, w):
		return false, nil // a new document that happens to have the same ID
	}
	return false, ErrRevisionConflict
}

// or returns v, or for a document without a vector one that stands for its current revision.
func (v VersionVector) or(current RevID) VersionVector {
	if v.IsZero() {
		v.Current = LegacyVersion(current)
	}
	return v
}

// knowsVersion reports whether the document includes the version. Versions that stand for rev-tree revisions
// must be in the vector or the tree as they are: a lower generation alone does not make an ancestor.
func (t *RevTree) knowsVersion(local VersionVector, v Version) bool {
	if v.Source != LegacySource {
		return local.Knows(v)
	}
	if local.TimeOf(LegacySource) == v.Time {
		return true
	}
	for i := range t.nodes {
		if LegacyVersion(t.nodes[i].ID) == v {
			return true
		}
	}
	return false
}

// includes reports whether the revision was made knowing the document's current one.
func (w *VersionWrite) includes(local VersionVector, current RevID) bool {
	legacy := LegacyVersion(current)
	switch {
	case slices.Contains(w.Legacy, current), w.Vector.TimeOf(LegacySource) == legacy.Time:
		return true
	case local.Current != legacy:
		return w.Vector.Knows(local.Current)
	}
	// The document has a rev-tree ID only. If the writer told its ancestry in these, it would be among them;
	// otherwise the order of generations must do.
	return len(w.Legacy) == 0 && w.Vector.Knows(legacy)
}

// equalMerges reports whether both came of merging the same versions.
func equalMerges(a, b VersionVector) bool {
	if len(a.Merge) == 0 || len(a.Merge) != len(b.Merge) {
		return false
	}
	for _, v := range a.Merge {
		if !slices.Contains(b.Merge, v) {
			return false
		}
	}
	return true
}

// sharesPast reports whether the revision and the document have something in common that came before both.
func (t *RevTree) sharesPast(local VersionVector, w *VersionWrite) bool {
	if t.nearest(w.Legacy) >= 0 || local.TimeOf(w.Vector.Current.Source) > 0 {
		return true
	}
	for _, list := range [...][]Version{w.Vector.Merge, w.Vector.Previous} {
		for _, v := range list {
			if local.TimeOf(v.Source) > 0 {
				return true
			}
		}
	}
	return false
}

// Verdict answers a proposal to push a revision, as on the wire (replication.md §5.7).
type Verdict int

// The verdicts.
const (
	VerdictSend     Verdict = 0   // the revision is wanted
	VerdictKnown    Verdict = 304 // it is here already
	VerdictConflict Verdict = 409 // it would be refused
)

// Propose answers a proposal to push a rev-tree revision (device-sync.md §12.7). parent is the last revision that
// the peer knows this side to have; zero if none. local is the document's vector, for peers that name the
// parent by a version; zero if there is none.
func (t *RevTree) Propose(local VersionVector, rev RevID, parent AnyRev) Verdict {
	i, exists := t.Winner()
	if !exists {
		return VerdictSend
	}
	if _, known := t.Find(rev); known {
		return VerdictKnown
	}
	return t.proposeChild(local, &t.nodes[i].Rev, parent)
}

// proposeChild is Propose for a revision that is not here, by what is known of its parent.
func (t *RevTree) proposeChild(local VersionVector, winner *Rev, parent AnyRev) Verdict {
	current := parent.Tree == winner.ID || (!local.IsZero() && parent.Vector.Current == local.Current)
	switch {
	case !parent.IsZero() && current:
		return VerdictSend
	case !winner.Deleted():
		return VerdictConflict
	}
	_, known := t.Find(parent.Tree)
	if known || (!parent.Vector.IsZero() && t.knowsVersion(local.or(winner.ID), parent.Vector.Current)) {
		return VerdictConflict
	}
	return VerdictSend // what it goes on from shows with the revision
}

// ProposeVersion answers a proposal to push a revision with a version vector, of which rev may be the current
// version only (replication.md §5.7, device-sync.md §12.7). local and parent are as in Propose.
func (t *RevTree) ProposeVersion(local VersionVector, rev, parent AnyRev) Verdict {
	i, exists := t.Winner()
	if !exists {
		return VerdictSend
	}
	winner := &t.nodes[i].Rev
	if t.knowsVersion(local.or(winner.ID), rev.Vector.Current) {
		return VerdictKnown
	}
	w := VersionWrite{Vector: rev.Vector, Legacy: rev.Legacy}
	if !local.IsZero() && w.includes(local, winner.ID) {
		return VerdictSend // a newer version of the same source included
	}
	return t.proposeChild(local, winner, parent)
}

// Knows reports whether the document includes the revision: its tree has the ID, or its vector knows the version. An
// empty tree includes nothing.
func (t *RevTree) Knows(local VersionVector, rev AnyRev) bool {
	if rev.Vector.IsZero() {
		_, ok := t.Find(rev.Tree)
		return ok
	}
	i, exists := t.Winner()
	return exists && t.knowsVersion(local.or(t.nodes[i].ID), rev.Vector.Current)
}
