package database

import (
	"time"

	"github.com/tidegate/tidegate"
)

// Document is one revision as a reader may see it. It is for one goroutine at a time.
type Document struct {
	ID      string
	Rev     tidegate.RevID
	Deleted bool
	// Removed: the reader may know that the revision exists, but not what is in it (gateway-rest.md §11.3). Body is
	// {}, and everything below but Revs' history is empty. If Deleted is set too, _deleted is shown instead of _removed.
	Removed bool

	Body        []byte // JSON object without underscore members
	Attachments map[string]tidegate.Attachment
	Seq         tidegate.Seq // of the document
	Channels    tidegate.ChannelSet
	Expiry      time.Time // of the document, if this is its current revision; zero: none
	Current     bool      // this is the current revision

	// The revision's place in the document's history: the tree, an index and the vector, or their stored form, which
	// history decodes when it is first needed.
	tree   *tidegate.RevTree
	at     int
	vector tidegate.VersionVector
	stored []byte
	flags  byte // of the record, with stored
}

// history returns the document's tree and the revision's index in it; nil if there is none.
func (d *Document) history() (*tidegate.RevTree, int) {
	if d.tree == nil && d.stored != nil {
		if tree, vector, err := parseHistory(d.flags, d.stored); err == nil {
			d.vector = vector
			if i, ok := tree.Find(d.Rev); ok {
				d.tree, d.at = tree, i
			}
		}
		d.stored = nil
	}
	return d.tree, d.at
}

// Version returns the version vector of the revision. Of a revision that is not the document's current one no
// more than its own version is kept. ok is false if the revision has none: it was last written before
// vectors, or never was the current one; peers know it by its rev-tree ID.
func (d *Document) Version() (v tidegate.VersionVector, ok bool) {
	_, _ = d.history()
	return d.vector, !d.vector.IsZero()
}

// RevInfo is one line of _revs_info.
type RevInfo struct {
	Rev    tidegate.RevID
	Status string // "available", "missing" or "deleted"
}

// History returns the revision and its ancestors, newest first, at most max of them; all if max is 0.
func (d *Document) History(max int) []tidegate.RevID {
	tree, at := d.history()
	if tree == nil {
		return []tidegate.RevID{d.Rev}
	}
	return tree.History(at, max)
}

// Revisions returns the history in the form of _revisions. limit bounds its length if it is not 0. If from
// is not empty the history ends with the first of its members that is an ancestor (revs_from,
// gateway-rest.md §11.3).
func (d *Document) Revisions(limit int, from []tidegate.RevID) tidegate.Revisions {
	history := d.History(limit)
	for i, rev := range history {
		if containsRev(from, rev) {
			history = history[:i+1]
			break
		}
	}
	return tidegate.NewRevisions(history)
}

// AttachmentsSince returns the generation of the newest of the revisions that this one descends from (or
// is), 0 if it descends from none: attachments with a revpos up to it need not be sent (atts_since).
func (d *Document) AttachmentsSince(revs []tidegate.RevID) uint64 {
	for _, rev := range d.History(0) {
		if containsRev(revs, rev) {
			return rev.Generation
		}
	}
	return 0
}

// Conflicts returns the other leaves that are live, in winner order.
func (d *Document) Conflicts() []tidegate.RevID {
	return d.otherLeaves(false)
}

// DeletedConflicts returns the other leaves that are tombstones, in winner order.
func (d *Document) DeletedConflicts() []tidegate.RevID {
	return d.otherLeaves(true)
}

func (d *Document) otherLeaves(deleted bool) []tidegate.RevID {
	tree, at := d.history()
	if tree == nil {
		return nil
	}
	var revs []tidegate.RevID
	for i, leaf := range tree.Leaves() {
		if i != at && leaf.Deleted() == deleted {
			revs = append(revs, leaf.ID)
		}
	}
	return revs
}

func containsRev(revs []tidegate.RevID, rev tidegate.RevID) bool {
	for _, r := range revs {
		if r == rev {
			return true
		}
	}
	return false
}

// RevResult is one entry of open_revs: a document, or the revision that is missing.
type RevResult struct {
	Doc     *Document      // nil if missing
	Missing tidegate.RevID // what was asked for, if Doc is nil
}

// GetOptions say which revision is wanted.
type GetOptions struct {
	Rev tidegate.RevID // zero: the current one
	// Latest: if Rev is no leaf, the leaf that wins among those that descend from it.
	Latest bool
}
