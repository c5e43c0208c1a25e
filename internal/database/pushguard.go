package database

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/store"
)

// The push guard (device-sync.md §12.7) decides about revisions that clients push from before a deletion that they do not know. It needs to
// know nothing of the client but, in some cases, whether the user has one that is being reset.

// guarded reports whether the write is one that the guard looks at: a revision that was made on a device.
func (j *job) guarded() bool {
	w := j.w
	return j.h.db.device != nil && !w.NewEdits && !w.Gateway && !w.KeepBranches && w.Resolver == nil
}

// editWins reports whether edits of deleted documents bring them back (reset_deleted_edits).
func (db *Database) editWins() bool {
	return db.device != nil && db.device.Row().Config.ResetDeletedEdits == devicesync.EditWins
}

// inReset reports whether a client of the user is being reset.
func (h *Handle) inReset(ctx context.Context) (bool, error) {
	if h.db.device == nil {
		return false, nil
	}
	resetting, _, err := h.db.clients.resetting(ctx, h.userName())
	return resetting, err
}

// inReset reports whether a client of the user is being reset. What is decided by the answer is decided anew if that has changed when the
// write is committed.
func (j *job) inReset(ctx context.Context, b *base) (bool, error) {
	db := j.h.db
	if db.device == nil {
		return false, nil
	}
	resetting, as, err := db.clients.resetting(ctx, j.h.userName())
	b.resets = &as
	return resetting, err
}

// guardVerdict is what the guard says of a revision.
type guardVerdict byte

const (
	guardSilent guardVerdict = iota // it is decided as any other
	guardTakes                      // stored as it is
	guardCloses                     // stored, and its branch closed
	guardRefuses
)

// guardDeleted decides about an edit of a deleted document, whose deletion is not in the edit's history.
func (j *job) guardDeleted(ctx context.Context, b *base) (guardVerdict, error) {
	w := j.w
	winner, exists := b.rec.tree.Winner()
	if !j.guarded() || !exists || w.Deleted || !b.rec.tree.At(winner).Deleted() {
		return guardSilent, nil
	}
	if b.parent < 0 {
		if w.History[len(w.History)-1].Generation > 1 {
			j.h.db.log.InfoContext(ctx, "a revision of a deleted document is taken whose history does not say whether it knew the deletion",
				"user", j.h.userName(), "generation", w.History[0].Generation)
		}
		return guardSilent, nil
	}
	if b.rec.tree.IsAncestor(winner, b.parent) {
		return guardSilent, nil
	}
	reset := bodiless(b.rec.tree.At(winner)) // the deletion is only in the ledger
	if !reset {
		var err error
		if reset, err = j.inReset(ctx, b); err != nil {
			return guardSilent, err
		}
	}
	switch {
	case j.h.db.editWins() && (reset || !w.BulkPush):
		return guardTakes, nil
	case !reset:
		return guardSilent, nil
	case w.BulkPush:
		return guardCloses, nil
	}
	return guardRefuses, nil
}

// findPurged finds what is remembered of a purged document that a client in a reset pushes. known: its revision is remembered. ancestor: one that
// comes before it is.
func (j *job) findPurged(ctx context.Context, b *base) (known, ancestor bool, err error) {
	if !j.guarded() || b.rec.tree.Len() > 0 {
		return false, false, nil
	}
	if reset, err := j.inReset(ctx, b); err != nil || !reset {
		return false, false, err
	}
	var guard *record
	err = j.h.db.st.View(ctx, func(r store.Reader) error {
		guard, err = j.h.coll.readGuard(r, j.w.ID)
		return err
	})
	if err != nil || guard == nil {
		return false, false, err
	}
	if !j.w.Vector.IsZero() {
		known, err := tidegate.CheckNewVersion(guard.tree, guard.vector, &tidegate.VersionWrite{Vector: j.w.Vector, Legacy: j.w.Legacy})
		return known, !known && err != nil, nil
	}
	for i, rev := range j.w.History {
		if _, ok := guard.tree.Find(rev); ok {
			return i == 0, i > 0, nil
		}
	}
	return false, false, nil
}

// buildPurged is build for a document that was purged, if a client in a reset pushes it. done is false if it is not such.
func (j *job) buildPurged(ctx context.Context, b *base) (p *prepared, done bool, err error) {
	known, ancestor, err := j.findPurged(ctx, b)
	w := j.w
	if err != nil || !known && (!ancestor || w.Deleted || j.h.db.editWins()) {
		return nil, false, err
	}
	res := Written{ID: w.ID, Existed: known, Closed: !known}
	if len(w.History) > 0 {
		res.Rev = w.History[0]
	}
	if known {
		return &prepared{w: w, nothing: true, result: res}, true, nil
	}
	if !w.BulkPush {
		return nil, true, tidegate.ErrRevisionConflict
	}
	q, err := j.quarantine(QuarantineDeleted, nil)
	if err != nil {
		return nil, true, err
	}
	err = j.h.db.st.Update(ctx, func(tx store.Tx) error { return q.put(tx, j.h.db.space) })
	return &prepared{w: w, nothing: true, result: res}, true, err
}

// quarantine makes the row of the write's body. attachments are those of the revision; nil if it was not stored.
func (j *job) quarantine(cause QuarantineCause, attachments map[string]tidegate.Attachment) (*quarantined, error) {
	w, now := j.w, j.h.db.opts.Now()
	q := Quarantined{
		Collection: j.h.coll.id, DocID: w.ID, Body: json.RawMessage(w.Body), User: j.h.userName(), Cause: cause,
		ReceivedAt: now, Deleted: w.Deleted, Epoch: j.h.db.epochNo(),
	}
	if len(q.Body) == 0 {
		q.Body = emptyBody
	}
	if len(w.History) > 0 {
		q.Rev = w.History[0].String()
		for _, rev := range w.History[1:] {
			q.History = append(q.History, rev.String())
		}
	} else {
		q.Rev = w.Vector.Current.String()
	}
	for name, in := range w.Attachments {
		a := QuarantinedAttachment{Name: name, ContentType: in.ContentType, Digest: in.Digest, Length: max(in.Length, 0)}
		if stored, ok := attachments[name]; ok {
			a.ContentType, a.Digest, a.Length = stored.ContentType, stored.Digest, stored.Length
		}
		if in.Data != nil && in.Encoding == "" && int64(len(in.Data)) <= j.h.db.opts.InlineAttachmentBytes {
			a.Data = in.Data
		}
		q.Attachments = append(q.Attachments, a)
	}
	value, err := q.encode()
	if err != nil {
		return nil, err
	}
	return &quarantined{now, value}, nil
}

// tellAgain moves the removals that the current tombstone made to the write at hand, so that readers learn of a branch that it closes on the
// deleted document. It returns the channels.
func (rec *record) tellAgain(tombstone tidegate.RevID) (names []string) {
	rec.channels = slices.Clone(rec.channels)
	for i := range rec.channels {
		if c := &rec.channels[i]; !c.member && c.deleted && c.rev == tombstone {
			c.periods = slices.Clone(c.periods)
			c.periods[len(c.periods)-1].End = pending
			names = append(names, c.name)
		}
	}
	return names
}

// quarantineClosed takes the body of a branch that is closed as it is stored into quarantine.
func (e *edit) quarantineClosed(ctx context.Context, p *prepared) (err error) {
	if !e.closes || !e.guarded() {
		return nil
	}
	cause := QuarantineClosed
	if winner, ok := e.base.rec.tree.Winner(); ok && e.base.rec.tree.At(winner).Deleted() {
		cause = QuarantineDeleted
	}
	if p.quarantine, err = e.quarantine(cause, e.body.attachments); err != nil {
		return err
	}
	e.h.db.log.WarnContext(ctx, "device sync: CompensatingWrite: a pushed revision was not made current; its body is in quarantine",
		"realm_code", 231, "cause", string(cause), "user", e.h.userName(), "collection", e.h.coll.name)
	return nil
}
