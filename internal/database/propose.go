package database

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// Proposal is a row of proposeChanges: a peer asks whether it may push a revision. Revisions are named as
// on the wire, by a rev-tree ID, a version or a whole vector.
type Proposal struct {
	ID     string
	Rev    string
	Parent string // the last revision that the peer knows this side to have; "" if none
}

// Verdict answers a Proposal.
type Verdict struct {
	// Status is 0 (send it), 304 (it is here), 409 (conflict), 400 (the row makes no sense) or 403 (no document may be
	// written).
	Status int
	// Rev, with 409, is the current revision: a rev-tree ID if the proposed one was or if the document has no
	// vector, else a version.
	Rev string
}

// Propose answers proposals, in their order (replication.md §5.7, device-sync.md §12.7). A row that makes no
// sense spoils no other.
//
// The current revision's name is told whether or not the principal may read it, as Sync Gateway does: without it a
// writer who may write but not read could never follow up. See DESIGN.md.
func (h *Handle) Propose(ctx context.Context, rows []Proposal) ([]Verdict, error) {
	verdicts := make([]Verdict, len(rows))
	reset, err := h.inReset(ctx)
	if err != nil {
		return nil, err
	}
	_, err = h.visit(ctx, len(rows), func(i int) string { return rows[i].ID }, func(r store.Reader, i int) (more bool, err error) {
		verdicts[i], err = h.propose(r, &rows[i], reset)
		return true, err
	})
	return verdicts, err
}

func (h *Handle) propose(r store.Reader, row *Proposal, reset bool) (Verdict, error) {
	if strings.HasPrefix(row.ID, "_design/") && h.user != nil {
		return Verdict{}, nil // the write will say what is wrong
	}
	rev, err := tidegate.ParseAnyRev(row.Rev)
	parent, parentErr := tidegate.ParseAnyRev(row.Parent)
	if err != nil || parentErr != nil || rev.IsZero() || tidegate.ValidDocID(row.ID) != nil {
		return Verdict{Status: http.StatusBadRequest}, nil
	}
	tree, vector, err := h.versions(r, row.ID)
	if err != nil {
		return Verdict{}, err
	}
	if reset && tree.Len() == 0 {
		if known, err := h.purged(r, row.ID, rev); err != nil || known {
			return Verdict{Status: http.StatusNotModified}, err
		}
	}
	var verdict tidegate.Verdict
	if rev.Tree.IsZero() {
		verdict = tree.ProposeVersion(vector, rev, parent)
	} else {
		verdict = tree.Propose(vector, rev.Tree, parent)
	}
	switch {
	case verdict == tidegate.VerdictConflict:
		return Verdict{Status: int(verdict), Rev: currentName(tree, vector, rev.Tree.IsZero())}, nil
	case verdict == tidegate.VerdictSend && h.db.opts.ReadOnly:
		return Verdict{Status: http.StatusForbidden}, nil
	}
	return Verdict{Status: int(verdict)}, nil
}

// purged reports whether the revision is remembered of a purged document.
func (h *Handle) purged(r store.Reader, id string, rev tidegate.AnyRev) (bool, error) {
	guard, err := h.coll.readGuard(r, id)
	return guard != nil && guard.tree.Knows(guard.vector, rev), err
}

// versions reads a document's tree and vector; both are empty if there is no document.
func (h *Handle) versions(r store.Reader, id string) (*tidegate.RevTree, tidegate.VersionVector, error) {
	stored, err := h.coll.stored(r, id)
	if err != nil {
		return nil, tidegate.VersionVector{}, err
	}
	if stored == nil {
		return &tidegate.RevTree{}, tidegate.VersionVector{}, nil
	}
	head, err := parseHead(stored)
	if err != nil {
		return nil, tidegate.VersionVector{}, fmt.Errorf("read document %q: %w", id, err)
	}
	tree, vector, err := parseHistory(head.flags, head.rest)
	if err != nil {
		err = fmt.Errorf("read document %q: %w", id, err)
	}
	return tree, vector, err
}

// currentName returns the current revision's version if it has one and that is wanted, else its rev-tree ID.
func currentName(tree *tidegate.RevTree, vector tidegate.VersionVector, version bool) string {
	if version && !vector.IsZero() {
		return vector.Current.String()
	}
	i, _ := tree.Winner()
	return tree.At(i).ID.String()
}

// Offer is a row of changes from a peer that offers a revision.
type Offer struct {
	ID  string
	Rev string // rev-tree ID or version
}

// Wish answers an Offer.
type Wish struct {
	Wanted bool
	// Known, if Wanted, are revisions that are here and may be ancestors of the offered one: for a version the current
	// version, if there is one, and the current rev-tree ID; else rev-tree IDs, newest first, those of the
	// current branch before others. Empty if the principal may not read the current revision.
	Known []string
	// Err: the row makes no sense (Invalid).
	Err error
}

// Offered tells which of the revisions that a peer offers are wanted: all that are not known. At most limit known
// revisions are named for each.
func (h *Handle) Offered(ctx context.Context, rows []Offer, limit int) ([]Wish, error) {
	wishes := make([]Wish, len(rows))
	_, err := h.visit(ctx, len(rows), func(i int) string { return rows[i].ID }, func(r store.Reader, i int) (more bool, err error) {
		wishes[i], err = h.offered(r, &rows[i], limit)
		return true, err
	})
	return wishes, err
}

func (h *Handle) offered(r store.Reader, row *Offer, limit int) (Wish, error) {
	rev, err := tidegate.ParseAnyRev(row.Rev)
	if err == nil && rev.IsZero() {
		err = tidegate.ErrInvalidRevID
	}
	if err == nil {
		err = tidegate.ValidDocID(row.ID)
	}
	if err != nil {
		return Wish{Err: err}, nil
	}
	tree, vector, err := h.versions(r, row.ID)
	if err != nil {
		return Wish{}, err
	}
	i, exists := tree.Winner()
	if !exists {
		return Wish{Wanted: true}, nil
	}
	if tree.Knows(vector, rev) {
		return Wish{}, nil
	}
	wish := Wish{Wanted: true}
	if !h.canSee(tree.At(i).Channels) {
		return wish, nil
	}
	if rev.Tree.IsZero() {
		if !vector.IsZero() {
			wish.Known = append(wish.Known, vector.Current.String())
		}
		wish.Known = append(wish.Known, tree.At(i).ID.String())
	} else {
		wish.Known = olderRevs(tree, rev.Tree.Generation, limit)
	}
	wish.Known = wish.Known[:min(len(wish.Known), limit)]
	return wish, nil
}

// olderRevs returns revisions of the tree below a generation: leaf after leaf in winner order, each with its
// ancestors.
func olderRevs(tree *tidegate.RevTree, generation uint64, limit int) []string {
	var revs []string
	seen := make([]bool, tree.Len())
	for leaf := range tree.Leaves() {
		for i := leaf; i >= 0 && !seen[i] && len(revs) < limit; i = tree.At(i).Parent {
			seen[i] = true
			if rev := tree.At(i).ID; rev.Generation < generation {
				revs = append(revs, rev.String())
			}
		}
	}
	return slices.Clip(revs)
}
