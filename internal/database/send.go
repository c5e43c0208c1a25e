package database

import (
	"context"
	"fmt"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// Versions returns the versions of the revisions of feed entries, for rows of changes to peers that keep version
// vectors. It is zero where the revision has none (it is known by its rev-tree ID then), or is not kept any
// more because the document went on, so that another entry follows. It tells no more of a document than the entry.
func (h *Handle) Versions(ctx context.Context, entries []tidegate.Change) ([]tidegate.Version, error) {
	versions := make([]tidegate.Version, len(entries))
	_, err := h.visit(ctx, len(entries), func(i int) string { return entries[i].ID }, func(r store.Reader, i int) (more bool, err error) {
		if len(entries[i].Revs) > 0 {
			versions[i], err = h.version(r, entries[i].ID, entries[i].Revs[0])
		}
		return true, err
	})
	return versions, err
}

func (h *Handle) version(r store.Reader, id string, rev tidegate.RevID) (tidegate.Version, error) {
	tree, vector, err := h.versions(r, id)
	if err != nil {
		return tidegate.Version{}, err
	}
	if i, ok := tree.Winner(); !ok || tree.At(i).ID == rev {
		return vector.Current, nil
	}
	y, err := readBody(r, h.coll, id, rev)
	if err != nil || y == nil {
		return tidegate.Version{}, err
	}
	return y.version, nil
}

// Request is a revision that a peer wants.
type Request struct {
	ID  string
	Rev string // rev-tree ID or version, as it was offered
}

// Sendable answers a Request.
type Sendable struct {
	// Doc is the revision as the principal may see it: redacted (Removed) where he may know of it only. nil: it will not
	// be sent (norev), since it is not here any more, or never was.
	Doc *Document
	// Replaced: the revision is not here any more, and Doc is the current one.
	Replaced bool
}

// Send reads revisions that a peer asked for, as many as have bodies of maxBytes together; at least one. The answer is
// as long as what was done. With replace, a revision that is gone is replaced by the current one if the principal
// may read that.
//
// By a version only the current revision can be had, since the history of an older one is not kept.
//
// The principal is the Handle's; see Fresh.
func (h *Handle) Send(ctx context.Context, rows []Request, replace bool, maxBytes int) ([]Sendable, error) {
	found := make([]Sendable, len(rows))
	size := 0
	n, err := h.visit(ctx, len(rows), func(i int) string { return rows[i].ID }, func(r store.Reader, i int) (more bool, err error) {
		if found[i], err = h.sendable(r, &rows[i], replace); found[i].Doc != nil {
			size += len(found[i].Doc.Body)
		}
		return size < maxBytes, err
	})
	if err != nil {
		return nil, err
	}
	for _, s := range found[:n] {
		if s.Doc != nil {
			h.countRead(s.Doc)
		}
	}
	return found[:n], nil
}

func (h *Handle) sendable(r store.Reader, row *Request, replace bool) (Sendable, error) {
	rev, err := tidegate.ParseAnyRev(row.Rev)
	if err != nil || rev.IsZero() {
		return Sendable{}, nil
	}
	stored, err := h.coll.stored(r, row.ID)
	if err != nil || stored == nil {
		return Sendable{}, err
	}
	head, winner, err := parseCurrent(row.ID, stored)
	if err != nil {
		return Sendable{}, err
	}
	current := func() (*Document, error) { return h.currentDoc(r, row.ID, stored, &head, &winner) }
	if winner.ID == rev.Tree {
		doc, err := current()
		return Sendable{Doc: doc}, err
	}
	tree, vector, err := parseHistory(head.flags, head.rest)
	if err != nil {
		return Sendable{}, fmt.Errorf("read document %q: %w", row.ID, err)
	}
	if rev.Tree.IsZero() && !vector.IsZero() && rev.Vector.Current == vector.Current {
		doc, err := current()
		return Sendable{Doc: doc}, err
	}
	if !h.canSee(winner.Channels) {
		// The document has left the reader's sight. He may have been told of that already, and would keep what came
		// after it.
		return Sendable{}, nil
	}
	if _, ok := tree.Find(rev.Tree); ok {
		doc, err := h.get(r, row.ID, GetOptions{Rev: rev.Tree})
		if err == nil || tidegate.ErrorCode(err) != tidegate.NotFound {
			return Sendable{Doc: doc}, err
		}
	}
	if !replace {
		return Sendable{}, nil
	}
	doc, err := current()
	return Sendable{Doc: doc, Replaced: true}, err
}

// maxBaseSearch is how many ancestors are looked at for a version. Bodies of old revisions stay for minutes only,
// so older ones would hardly have any.
const maxBaseSearch = 20

// Base returns a revision that a delta is made of or applied to, by its rev-tree ID or version: the current one, or an
// ancestor whose body is still kept. It is no tombstone. NotFound "missing": there is none, or the principal may
// not read it; a delta against it could tell what is in it. It is not counted as read.
func (h *Handle) Base(ctx context.Context, id, rev string) (*Document, error) {
	name, err := tidegate.ParseAnyRev(rev)
	if err != nil || name.IsZero() {
		return nil, tidegate.ErrMissing
	}
	var doc *Document
	err = h.view(ctx, func(r store.Reader) error {
		rec, err := readRecord(r, h.coll, id)
		if err != nil {
			return err
		}
		if rec == nil {
			return tidegate.ErrMissing
		}
		i, err := h.findBase(r, id, rec, name)
		if err != nil || i < 0 {
			return err
		}
		doc, err = h.revision(r, id, rec, i)
		return err
	})
	if err != nil {
		return nil, err
	}
	if doc == nil || doc.Removed || doc.Deleted {
		return nil, tidegate.ErrMissing
	}
	return doc, nil
}

// findBase returns the index of the revision; -1 if it is not kept.
func (h *Handle) findBase(r store.Reader, id string, rec *record, name tidegate.AnyRev) (int, error) {
	if !name.Tree.IsZero() {
		if i, ok := rec.tree.Find(name.Tree); ok {
			return i, nil
		}
		return -1, nil
	}
	winner, _ := rec.tree.Winner()
	if name.Vector.Current == rec.vector.Current {
		return winner, nil
	}
	left := maxBaseSearch
	for i, rev := range rec.tree.Ancestors(winner) {
		if left--; left < 0 {
			break
		}
		y, err := readBody(r, h.coll, id, rev.ID)
		if err != nil {
			return -1, err
		}
		if y != nil && y.version == name.Vector.Current {
			return i, nil
		}
	}
	return -1, nil
}
