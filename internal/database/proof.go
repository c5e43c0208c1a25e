package database

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// AttachmentNeeds says what a peer must be asked before its revision can be written. Names are in order.
type AttachmentNeeds struct {
	// Prove are attachments whose content is stored with the document already. The peer has to prove that it
	// has it too (proveAttachment); then their entries are good as stubs.
	Prove []string
	// Get are attachments whose content is not here. The caller gets it and fills in Data, Open or Blob of their
	// entries, and takes Stub away.
	Get []string
}

// AttachmentNeeds looks which of w's attachments that came as stubs are here (replication.md §9). Nothing is asked
// for those that the current revision, or the nearest known ancestor, has under the same name with the
// same digest, if the principal may read it. w is not changed. ErrInvalidDocID: w has no valid ID.
func (h *Handle) AttachmentNeeds(ctx context.Context, w *Write) (needs AttachmentNeeds, err error) {
	if err := tidegate.ValidDocID(w.ID); err != nil {
		return needs, err
	}
	if !hasStubs(w) {
		return needs, nil
	}
	var had []map[string]tidegate.Attachment
	stored := map[string]bool{} // digests
	err = h.view(ctx, func(r store.Reader) error {
		rec, err := readRecord(r, h.coll, w.ID)
		if err != nil || rec == nil {
			return err
		}
		if had, err = h.readableAttachments(r, rec, w); err != nil {
			return err
		}
		return eachBody(r, h.coll, w.ID, func(_ string, y *body) error {
			for _, a := range y.attachments {
				stored[a.Digest] = true
			}
			return nil
		})
	})
	if err != nil {
		return needs, err
	}
	for _, name := range slices.Sorted(maps.Keys(w.Attachments)) {
		in := w.Attachments[name]
		switch {
		case !in.Stub:
		case in.Digest != "" && hasAttachment(had, name, in.Digest):
		case stored[in.Digest]:
			needs.Prove = append(needs.Prove, name)
		default:
			needs.Get = append(needs.Get, name)
		}
	}
	return needs, nil
}

func hasStubs(w *Write) bool {
	for _, in := range w.Attachments {
		if in.Stub {
			return true
		}
	}
	return false
}

func hasAttachment(had []map[string]tidegate.Attachment, name, digest string) bool {
	for _, attachments := range had {
		if a, ok := attachments[name]; ok && a.Digest == digest {
			return true
		}
	}
	return false
}

// readableAttachments returns the attachments of the current revision and of the new one's nearest known
// ancestor, if the principal may read them.
func (h *Handle) readableAttachments(r store.Reader, rec *record, w *Write) ([]map[string]tidegate.Attachment, error) {
	winner, _ := rec.tree.Winner()
	from := []int{winner}
	for _, rev := range w.History {
		if i, ok := rec.tree.Find(rev); ok {
			if i != winner {
				from = append(from, i)
			}
			break
		}
	}
	var had []map[string]tidegate.Attachment
	for _, i := range from {
		doc, err := h.revision(r, w.ID, rec, i)
		if err != nil {
			return nil, err
		}
		if doc != nil && len(doc.Attachments) > 0 {
			had = append(had, doc.Attachments)
		}
	}
	return had, nil
}

// OpenForProof opens content that any stored revision of the document has as an attachment, by digest, to check a
// peer's proof that it has the same. It asks for no access, so it must not be sent to anybody. The caller closes
// it. NotFound: there is none.
func (h *Handle) OpenForProof(ctx context.Context, id, digest string) (io.ReadSeekCloser, error) {
	var found tidegate.Attachment
	err := h.view(ctx, func(r store.Reader) error {
		return eachBody(r, h.coll, id, func(_ string, y *body) error {
			for _, a := range y.attachments {
				if a.Digest == digest {
					found = a
				}
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return h.openFound(ctx, &found)
}

// OpenDigest opens the content of one of the attachments (those of a Document that the principal was sent), by
// digest, as stored. The caller closes it. NotFound: none has the digest.
func (h *Handle) OpenDigest(ctx context.Context, attachments map[string]tidegate.Attachment, digest string) (io.ReadSeekCloser, tidegate.Attachment, error) {
	var found tidegate.Attachment
	for _, a := range attachments {
		if a.Digest == digest {
			found = a
		}
	}
	r, err := h.openFound(ctx, &found)
	return r, found, err
}

// openFound opens an attachment's content; NotFound for the zero Attachment.
func (h *Handle) openFound(ctx context.Context, a *tidegate.Attachment) (io.ReadSeekCloser, error) {
	if a.Digest == "" {
		return nil, tidegate.Errorf(tidegate.NotFound, "missing attachment")
	}
	r, err := h.db.openContent(ctx, a.Key)
	if err != nil {
		return nil, fmt.Errorf("open attachment: %w", err)
	}
	return r, nil
}
