package database

import (
	"bytes"
	"context"
	"fmt"

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
	err := h.viewDocs(ctx, []string{id}, func(r store.Reader) (err error) {
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
	if o.Rev.IsZero() {
		return h.current(r, id)
	}
	rec, err := readRecord(r, h.coll, id)
	if err != nil {
		return nil, err
	}
	if rec == nil {
		return nil, tidegate.ErrMissing
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
func (h *Handle) current(r store.Reader, id string) (*Document, error) {
	stored, err := h.coll.stored(r, id)
	if err != nil {
		return nil, err
	}
	if stored == nil {
		return nil, tidegate.ErrMissing
	}
	head, winner, err := parseCurrent(id, stored)
	if err != nil {
		return nil, err
	}
	if winner.Deleted() || !h.canSee(winner.Channels) {
		return nil, h.refusal(id, stored, &winner)
	}
	return h.currentDoc(r, id, stored, &head, &winner)
}

// parseCurrent reads what a record says first.
func parseCurrent(id string, stored []byte) (head recordHead, winner tidegate.Rev, err error) {
	if head, err = parseHead(stored); err == nil {
		winner, err = head.winner()
	}
	if err != nil {
		err = fmt.Errorf("read document %q: %w", id, err)
	}
	return head, winner, err
}

// refusal says why a reader who named no revision does not get the document: it is deleted, or not for him.
func (h *Handle) refusal(id string, stored []byte, winner *tidegate.Rev) error {
	if !winner.Deleted() {
		return tidegate.ErrForbidden
	}
	if h.canSee(winner.Channels) {
		return tidegate.ErrDeleted
	}
	rec, err := parseRecord(stored)
	if err != nil {
		return fmt.Errorf("read document %q: %w", id, err)
	}
	if h.toldOfDeletion(rec, winner.ID) {
		return tidegate.ErrDeleted
	}
	return tidegate.ErrForbidden
}

// currentDoc returns the current revision as the reader may see it. It decodes no more of the record than it
// needs: this is the path of nearly all reads.
func (h *Handle) currentDoc(r store.Reader, id string, stored []byte, head *recordHead, winner *tidegate.Rev) (*Document, error) {
	y, err := readLeaf(r, h.coll, id, winner)
	if err != nil {
		return nil, err
	}
	doc := &Document{ID: id, Rev: winner.ID, Deleted: winner.Deleted(), Seq: head.seq, stored: bytes.Clone(head.rest), flags: head.flags}
	if !h.canSee(winner.Channels) {
		doc.Removed, doc.Body = true, emptyBody
		return doc, nil
	}
	doc.Current = true
	doc.Body, doc.Attachments, doc.Channels = y.json, y.attachments, h.visible(winner.Channels)
	if head.flags&recExpiry != 0 {
		rec, err := parseRecord(stored)
		if err != nil {
			return nil, fmt.Errorf("read document %q: %w", id, err)
		}
		doc.Expiry = rec.expiry
	}
	return doc, nil
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
	y, err := h.coll.readRevision(r, id, rec.tree, i)
	if y == nil || err != nil {
		return nil, err
	}
	doc := &Document{ID: id, Rev: rev.ID, Deleted: rev.Deleted(), Seq: rec.seq, tree: rec.tree, at: i}
	if w, _ := rec.tree.Winner(); w == i {
		doc.Current, doc.vector = true, rec.vector
	} else {
		doc.vector.Current = y.version
	}
	channels := y.channels
	if rec.tree.IsLeaf(i) {
		channels = rev.Channels
	}
	if !h.canSee(channels) {
		doc.Removed, doc.Current, doc.Body = true, false, emptyBody
		return doc, nil
	}
	doc.Body, doc.Attachments, doc.Channels = y.json, y.attachments, h.visible(channels)
	if doc.Current {
		doc.Expiry = rec.expiry
	}
	return doc, nil
}

// countRead counts a document that was read.
func (h *Handle) countRead(doc *Document) {
	if h.blip {
		h.db.stats.Replication.DocReads.Add(1)
		h.db.stats.Replication.DocReadsBytes.Add(int64(len(doc.Body)))
	} else {
		h.db.stats.DocReadsREST.Add(1)
	}
	h.coll.stats.DocReads.Add(1)
	h.coll.stats.DocReadsBytes.Add(int64(len(doc.Body)))
}

// RevsInfo returns what is known of a revision and its ancestors, newest first (revs_info, gateway-rest.md
// §11.3). An ancestor that the reader may not read is "missing" to him.
func (h *Handle) RevsInfo(ctx context.Context, doc *Document) ([]RevInfo, error) {
	infos := []RevInfo{{Rev: doc.Rev, Status: revStatus(doc.Deleted)}}
	tree, at := doc.history()
	if tree == nil {
		return infos, nil
	}
	err := h.view(ctx, func(r store.Reader) error {
		for _, rev := range tree.Ancestors(at) {
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
