package database

import (
	"context"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// Get returns a revision of a document, the current one if none is named. Errors and the redacted form are
// those of gateway-rest.md §11.3:
//
//   - NotFound "missing": no such document or revision, or the revision's body is no longer kept
//   - NotFound "deleted": the current revision is a tombstone, and no revision was named
//   - Forbidden "forbidden": the reader may not read the current revision, and no revision was named
//
// A named revision that the reader may not read comes as a Document with Removed set.
func (h *Handle) Get(ctx context.Context, id string, o GetOptions) (*Document, error) {
	var doc *Document
	err := h.db.st.View(ctx, func(r store.Reader) (err error) {
		doc, err = h.get(r, id, o)
		return err
	})
	if err != nil {
		return nil, err
	}
	h.countRead(doc)
	return doc, nil
}

func (h *Handle) get(r store.Reader, id string, o GetOptions) (*Document, error) {
	rec, err := readRecord(r, h.coll, id)
	if err != nil {
		return nil, err
	}
	if rec == nil {
		return nil, tidegate.ErrMissing
	}
	if o.Rev.IsZero() {
		return h.current(r, id, rec)
	}
	i, ok := rec.tree.Find(o.Rev)
	if !ok {
		return nil, tidegate.ErrMissing
	}
	if o.Latest {
		i = rec.latest(i)
	}
	doc, err := h.revision(r, id, rec, i)
	if err == nil && doc == nil {
		err = tidegate.ErrMissing
	}
	return doc, err
}

// current returns the current revision for a reader who named none.
func (h *Handle) current(r store.Reader, id string, rec *record) (*Document, error) {
	i, _ := rec.tree.Winner()
	rev := rec.tree.At(i)
	switch {
	case rev.Deleted() && (h.canSee(rev.Channels) || h.toldOfDeletion(rec, rev.ID)):
		return nil, tidegate.ErrDeleted
	case !h.canSee(rev.Channels):
		return nil, tidegate.ErrForbidden
	}
	doc, err := h.revision(r, id, rec, i)
	if err == nil && doc == nil {
		err = errBodyLost
	}
	return doc, err
}

// toldOfDeletion reports whether the reader's feed shows that the tombstone removed the document from a
// channel of his.
func (h *Handle) toldOfDeletion(rec *record, tombstone tidegate.RevID) bool {
	grants := h.grants()
	for i := range rec.channels {
		if c := &rec.channels[i]; c.deleted && c.rev == tombstone {
			if _, ok := grants[c.name]; ok || c.name == tidegate.PublicChannel {
				return true
			}
		}
	}
	return false
}

// latest returns the leaf that wins among those that descend from i; i itself if it is one.
func (rec *record) latest(i int) int {
	for leaf := range rec.tree.Leaves() {
		if rec.tree.IsAncestor(i, leaf) {
			return leaf
		}
	}
	return i
}

// revision returns the revision with index i as the reader may see it; nil if its body is gone. Whether the
// body is gone is asked before access, so that the answer tells nobody more than the next.
func (h *Handle) revision(r store.Reader, id string, rec *record, i int) (*Document, error) {
	rev := rec.tree.At(i)
	y, err := readBody(r, h.coll, id, rev.ID)
	if err != nil {
		return nil, err
	}
	if y == nil {
		if rec.tree.IsLeaf(i) {
			return nil, errBodyLost
		}
		return nil, nil
	}
	doc := &Document{ID: id, Rev: rev.ID, Deleted: rev.Deleted(), Seq: rec.seq, tree: rec.tree, at: i}
	channels := y.channels
	if rec.tree.IsLeaf(i) {
		channels = rev.Channels
	}
	if !h.canSee(channels) {
		doc.Removed, doc.Body = true, emptyBody
		return doc, nil
	}
	doc.Body, doc.Attachments, doc.Channels = y.json, y.attachments, h.visible(channels)
	if w, _ := rec.tree.Winner(); w == i {
		doc.Current, doc.Expiry = true, rec.expiry
	}
	return doc, nil
}

// countRead counts a document that was read.
func (h *Handle) countRead(doc *Document) {
	h.db.stats.DocReadsREST.Add(1)
	h.coll.stats.DocReads.Add(1)
	h.coll.stats.DocReadsBytes.Add(int64(len(doc.Body)))
}

// RevsInfo returns what is known of a revision and its ancestors, newest first (revs_info, gateway-rest.md
// §11.3). An ancestor that the reader may not read is "missing" to him.
func (h *Handle) RevsInfo(ctx context.Context, doc *Document) ([]RevInfo, error) {
	infos := []RevInfo{{Rev: doc.Rev, Status: revStatus(doc.Deleted)}}
	if doc.tree == nil {
		return infos, nil
	}
	err := h.db.st.View(ctx, func(r store.Reader) error {
		for _, rev := range doc.tree.Ancestors(doc.at) {
			y, err := readBody(r, h.coll, doc.ID, rev.ID)
			if err != nil {
				return err
			}
			info := RevInfo{Rev: rev.ID, Status: "missing"}
			if y != nil && h.canSee(y.channels) {
				info.Status = revStatus(rev.Deleted())
			}
			infos = append(infos, info)
		}
		return nil
	})
	return infos, err
}

func revStatus(deleted bool) string {
	if deleted {
		return "deleted"
	}
	return "available"
}
