package database

import (
	"slices"
	"time"

	"github.com/tidegate/tidegate"
)

// maxClockSkew is how far ahead of our clock a peer may say that a version of our own source is. Only other nodes of
// this database, or itself before its clock was set back, can have made one that is ahead at all.
const maxClockSkew = 24 * time.Hour

// errFuture is answered to a vector with versions of this database that it cannot have made yet.
var errFuture = tidegate.Errorf(tidegate.Invalid, "Invalid version: it is from the future")

// setVector computes the document's vector. As long as the current revision stays, the vector does; a revision
// that a peer made brings its own; every other change of the current revision is a version of this database.
func (e *edit) setVector() {
	old := e.base.rec
	was := old.vector
	if i, exists := old.tree.Winner(); exists {
		if e.winner != e.at && e.tree.At(e.winner).ID == old.tree.At(i).ID {
			e.vector = was
			return
		}
		if was.IsZero() { // the past of a document without a vector is its rev-tree ID
			was.Current = tidegate.LegacyVersion(old.tree.At(i).ID)
		}
	}
	own, peer := e.winner == e.at, !e.w.Vector.IsZero()
	switch {
	case own && peer && e.resolved == ResolvedMerge:
		e.vector = tidegate.MergeVectors(e.newVersion(e.w.Vector.Over(was)), was, e.w.Vector)
	case own && peer && e.sameVersion && !old.vector.IsZero():
		e.vector = was.Over(e.w.Vector)
	case own && peer && e.resolved != ResolvedLocal:
		e.vector = e.w.Vector.Over(was)
	default:
		if peer {
			was = e.w.Vector.Over(was) // the revision is known now, though another one is current
		}
		e.vector = was.Next(e.newVersion(was))
	}
	if own {
		e.body.version = e.vector.Current
	}
}

// newVersion makes a version of this database that is newer than what was knows of it.
func (e *edit) newVersion(was tidegate.VersionVector) tidegate.Version {
	source := e.h.db.opts.Source
	return tidegate.Version{Time: e.h.db.clock.Next(was.TimeOf(source)), Source: source}
}

// history returns where the new revision stands in the tree, newest first, itself included; nil if it is made
// here, as a child of its parent. A peer's vector decides what is current, so the ancestry that came with it is used
// only where it brings a new revision below the one that is current, or, from a gateway, on a branch of its own (aside):
// gateways that had revisions of their own would otherwise give one version different IDs.
func (e *edit) history(current tidegate.RevID) (history []tidegate.RevID, aside bool) {
	w := e.w
	switch {
	case w.NewEdits:
		return nil, false
	case w.Vector.IsZero() || len(w.History) == 0:
		return w.History, false
	}
	tree := e.base.rec.tree
	if _, known := tree.Find(w.History[0]); known {
		return nil, false
	}
	if current.IsZero() {
		return w.History, false
	}
	follows := slices.Contains(w.History[1:], current)
	if !follows && !w.Gateway {
		return nil, false
	}
	// Nor may it contradict the tree, which would leave the current revision on a branch of its own. What is no
	// history at all is refused when it is added.
	tree = tree.Clone()
	at, _, err := tree.AddHistory(w.History, tidegate.Rev{ID: w.History[0]})
	if follows && err == nil && !tree.IsAncestor(e.base.parent, at) {
		return nil, false
	}
	return w.History, !follows
}
