package database

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/changes"
	"github.com/tidegate/tidegate/internal/jsondoc"
	"github.com/tidegate/tidegate/internal/script"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/blob"
)

// base is what a write starts from: the document as it was read.
type base struct {
	record []byte  // as stored; nil if there is no document
	rec    *record // decoded; an empty one if there is no document
	parent int     // index of the parent in rec.tree; -1: none here
	known  bool    // the revision is there already
	loser  int     // index of the leaf whose branch the writer closes; -1: none
	// conflict: the current revision is no ancestor of the new one, and the write's Resolver decides.
	conflict bool
	// takesEdits: a device's edit of a deleted document brings it back (reset_deleted_edits).
	takesEdits bool

	// ancestor is the nearest ancestor (parent included) whose body is here; in its place loser if there is one, and in
	// a conflict the current revision; -1: none.
	ancestor int
	old      body // its body, with memory of its own

	routing  *store.Routing
	physical store.Collection // of the live generation
	fn       script.SyncFunction
	next     *nextBase // of the generation that a run builds; nil: there is none

	// resets is as of which changes of clients' resets the write was decided; nil: they do not matter.
	resets *uint64
}

// read reads what the write starts from and applies the rules of gateway-rest.md §11.2.
func (j *job) read(r store.Reader) (*base, error) {
	b, err := j.readRecord(r)
	if err != nil || b.known {
		return b, err
	}
	return b, b.findOld(r, j.h.coll, j.w.ID)
}

// readRecord is read without the body of what the new revision replaces.
func (j *job) readRecord(r store.Reader) (*base, error) {
	c, w := j.h.coll, j.w
	b := &base{parent: -1, ancestor: -1, loser: -1, rec: &record{tree: &tidegate.RevTree{}}}
	b.takesEdits = j.guarded() && j.h.db.editWins()
	if err := b.readRouting(r, c, w.ID); err != nil {
		return nil, err
	}
	stored, err := r.Get(c.docKey(b.physical, w.ID))
	if err != nil {
		return nil, fmt.Errorf("read document: %w", err)
	}
	if stored != nil {
		b.record = append([]byte(nil), stored...)
		if b.rec, err = parseRecord(b.record); err != nil {
			return nil, fmt.Errorf("read document %q: %w", w.ID, err)
		}
	}
	return b, b.findParent(w)
}

// findParent finds the revision that the new one replaces.
func (b *base) findParent(w *Write) error {
	tree := b.rec.tree
	if !w.Vector.IsZero() {
		return b.checkVersion(w)
	}
	if !w.NewEdits {
		if _, b.known = tree.Find(w.History[0]); b.known {
			return nil
		}
		b.findLoser(w)
		for _, rev := range w.History[1:] {
			if i, ok := tree.Find(rev); ok {
				b.parent = i
				break
			}
		}
		b.conflict = w.Resolver != nil && b.inConflict(w)
		return nil
	}
	if w.Parent.IsZero() {
		if i, ok := tree.Winner(); ok && tree.At(i).Deleted() {
			b.parent = i // a deleted document goes on from its tombstone
		}
		return nil
	}
	i, ok := tree.Find(w.Parent)
	if !ok {
		return tidegate.ErrRevisionConflict
	}
	b.parent = i
	return nil
}

// findLoser finds the leaf that is closed by the writer's tombstone.
func (b *base) findLoser(w *Write) {
	tree := b.rec.tree
	if len(w.DeletedBranch) < 2 {
		return
	}
	if _, known := tree.Find(w.DeletedBranch[0]); known {
		return
	}
	if i, ok := tree.Find(w.DeletedBranch[1]); ok && tree.IsLeaf(i) {
		b.loser = i
	}
}

// checkVersion decides whether a revision with a version vector may be written. If so it continues from the
// current one.
func (b *base) checkVersion(w *Write) (err error) {
	b.known, err = tidegate.CheckNewVersion(b.rec.tree, b.rec.vector, &tidegate.VersionWrite{
		Vector: w.Vector, Legacy: w.Legacy, Deleted: w.Deleted, Gateway: w.Gateway, Resolved: w.Resolver != nil,
	})
	if w.Resolver != nil && errors.Is(err, tidegate.ErrRevisionConflict) {
		b.conflict, err = true, nil
	}
	if i, ok := b.rec.tree.Winner(); ok {
		b.parent = i
		if b.takesEdits && !w.Deleted && b.rec.tree.At(i).Deleted() && errors.Is(err, tidegate.ErrRevisionConflict) {
			err = nil
		}
	}
	return err
}

// findOld reads the body of what the new revision replaces: the nearest ancestor that has one, that of the branch
// that is closed for it, or the current revision that it is in conflict with.
func (b *base) findOld(r store.Reader, c *collection, id string) error {
	for i := b.replaces(); i >= 0; i = b.rec.tree.At(i).Parent {
		if b.rec.tree.At(i).Flags&tidegate.RevBodyGone != 0 {
			continue
		}
		stored, err := r.Get(c.bodyKey(id, b.rec.tree.At(i).ID))
		if err != nil {
			return fmt.Errorf("read revision: %w", err)
		}
		if stored == nil {
			continue
		}
		if b.old, err = parseBody(append([]byte(nil), stored...)); err != nil {
			return fmt.Errorf("read revision %s of %q: %w", b.rec.tree.At(i).ID, id, err)
		}
		b.ancestor = i
		return nil
	}
	return nil
}

// replaces is the revision whose body is asked for first; -1: none.
func (b *base) replaces() int {
	from := b.parent
	if b.conflict {
		from, _ = b.rec.tree.Winner()
	} else if b.loser >= 0 {
		from = b.loser
	}
	return from
}

// oldKey is where its body probably is; nil if none is asked for.
func (b *base) oldKey(c *collection, id string) store.Key {
	from := b.replaces()
	if from < 0 || b.known || b.rec.tree.At(from).Flags&tidegate.RevBodyGone != 0 {
		return nil
	}
	return c.bodyKey(id, b.rec.tree.At(from).ID)
}

// prepared is a write that lacks nothing but its sequence.
type prepared struct {
	w       *Write
	coll    *collection
	result  Written
	nothing bool // the revision was known: there is nothing to store

	routing  *store.Routing
	physical store.Collection
	stored   []byte // the record it was computed from; nil: none
	docKey   store.Key
	record   []byte
	next     *nextWrite // what goes into the generation that a run builds; nil: nothing

	quarantine *quarantined // a body that is not made current; nil: none
	resets     *uint64      // base.resets

	rows []row // put as they are
	gone []store.Key
	refs []blobRef
	// shared is where content is that refs refer to, if other nodes may remove it; contentGone: one did.
	shared      blob.Shared
	contentGone bool

	old, new             *changes.DocState
	oldGrants, newGrants *access.DocGrants
	removed              []string    // channels that new leaves at the sequence
	granted              []grantSlot // grants that begin at the sequence

	changed  []string  // principals whose grants changed, after the commit
	due      time.Time // earliest thing that was put down to expire; zero: none
	conflict bool      // several leaves are live
}

type row struct{ key, value []byte }

// grantSlot is a place in newGrants that gets the sequence.
type grantSlot struct {
	grants tidegate.Grants
	name   string
}

// prepare computes the write from the document as it is now.
func (j *job) prepare(ctx context.Context) (*prepared, error) {
	if err := j.check(); err != nil {
		return nil, err
	}
	if err := j.h.MayWrite(ctx); err != nil {
		return nil, err
	}
	b, err := j.start(ctx)
	if err != nil {
		return nil, err
	}
	if err := b.findFunctions(ctx, j.h.db, j.h.coll); err != nil {
		return nil, err
	}
	return j.build(ctx, b)
}

// start returns what the write starts from: what was read for it with others, or what is stored now.
func (j *job) start(ctx context.Context) (b *base, err error) {
	if j.ahead != nil {
		b, err = j.ahead.base, j.ahead.err
		j.ahead = nil
		return b, err
	}
	err = j.h.viewDocs(ctx, []string{j.w.ID}, func(r store.Reader) (err error) {
		b, err = j.read(r)
		return err
	})
	return b, err
}

// check refuses what no document could take.
func (j *job) check() error {
	w, o := j.w, &j.h.db.opts
	switch {
	case o.ReadOnly:
		return errReadOnly
	case int64(len(w.Body)) > o.MaxDocumentBytes:
		return jsondoc.ErrTooLarge
	case !w.NewEdits && len(w.History) == 0 && w.Vector.IsZero():
		return tidegate.ErrBadRevisions
	case w.Vector.TimeOf(o.Source) > uint64(o.Now().Add(maxClockSkew).UnixNano()):
		return errFuture
	}
	if w.Exp != nil {
		var err error
		if j.exp, _, err = script.ParseExpiry(w.Exp, o.Now()); err != nil {
			return err
		}
	}
	return tidegate.ValidDocID(w.ID)
}

// build computes the write from b: rules, attachments, revision, sync function, outputs, stored forms.
func (j *job) build(ctx context.Context, b *base) (*prepared, error) {
	w := j.w
	if b.known {
		return &prepared{w: w, nothing: true, result: b.existed(w)}, nil
	}
	if !j.expires.holds(b) {
		return &prepared{w: w, nothing: true}, nil
	}
	if p, done, err := j.buildPurged(ctx, b); done || err != nil {
		return p, err
	}
	closes, err := j.mayAdd(ctx, b)
	if err != nil {
		return nil, err
	}
	e := &edit{job: j, base: b, closes: closes, now: j.h.db.opts.Now()}
	if err := e.addRevision(ctx); err != nil {
		return nil, err
	}
	if b.conflict {
		if err := e.resolve(ctx); err != nil {
			return nil, err
		}
	}
	if err := e.runSync(ctx); err != nil {
		return nil, err
	}
	return e.finish(ctx)
}

// existed answers a write of a revision that is known.
func (b *base) existed(w *Write) Written {
	res := Written{ID: w.ID, Version: b.rec.vector.Current, Seq: b.rec.seq, Existed: true}
	if w.Vector.IsZero() {
		res.Rev = w.History[0]
	} else {
		res.Rev = b.rec.tree.At(b.parent).ID
	}
	return res
}

// mayAdd applies the conflict rules. closes: the revision may be stored only if its branch is closed.
func (j *job) mayAdd(ctx context.Context, b *base) (closes bool, err error) {
	w := j.w
	if !w.Vector.IsZero() || (w.Resolver != nil && !w.NewEdits) {
		return false, nil // checkVersion said yes, or conflicts are resolved
	}
	parent := b.parent
	if w.NewEdits && w.Parent.IsZero() {
		parent = -1
	}
	if winner, ok := b.rec.tree.Winner(); ok && b.loser == winner {
		return false, nil // it takes the place of the current revision
	}
	switch verdict, err := j.guardDeleted(ctx, b); {
	case err != nil || verdict == guardTakes:
		return false, err
	case verdict == guardCloses:
		return true, nil
	case verdict == guardRefuses:
		return false, tidegate.ErrRevisionConflict
	}
	allow := (j.h.db.opts.AllowConflicts || w.KeepBranches && !w.NewEdits) && !w.NoConflicts
	err = tidegate.CheckNewRev(b.rec.tree, allow, w.NewEdits, parent, w.History, w.Deleted)
	if err != nil && w.Gateway && w.Deleted && b.rec.flags()&recDeleted != 0 {
		return false, nil
	}
	if err == nil || !w.BulkPush || w.NewEdits || tidegate.ErrorCode(err) != tidegate.Conflict {
		return false, err
	}
	// A bulk push is stored in any case (gateway-rest.md §11.2). A tombstone makes no conflict, and on a deleted
	// document the live branch wins (device-sync.md §12.7); only a second live branch is closed.
	winner, _ := b.rec.tree.Winner()
	return !w.Deleted && !b.rec.tree.At(winner).Deleted(), nil
}

// edit is one write being computed.
type edit struct {
	*job
	base   *base
	closes bool
	now    time.Time

	rev     tidegate.RevID
	vector  tidegate.VersionVector // of the document after the write
	body    body
	tree    *tidegate.RevTree
	at      int              // the new revision in tree
	closing []tidegate.RevID // tombstones that close other branches, or the new revision's own
	below   []pulled         // of a conflict: the revisions that the new one was made of
	refs    []blobRef
	out     outputs // of the new revision
	winner  int     // the current revision after the write
	expiry  time.Time
	docOut  *outputs // what the document's outputs become; nil: they stay

	resolved Outcome
	// sameVersion: what was current stays so, and goes on as the version that it was.
	sameVersion bool
}

// addRevision settles attachments and revision ID and adds the revision to a copy of the tree.
func (e *edit) addRevision(ctx context.Context) error {
	w := e.w
	e.body = body{deleted: w.Deleted, closed: e.closes, json: w.Body}
	if len(e.body.json) == 0 {
		e.body.json = emptyBody
	}
	var parentID tidegate.RevID
	if e.base.parent >= 0 {
		parentID = e.base.rec.tree.At(e.base.parent).ID
	}
	history, aside := e.history(parentID)
	if history != nil {
		e.rev = history[0]
	} else {
		e.rev = e.newRevID(parentID)
	}
	if err := e.resolveAttachments(ctx); err != nil {
		return err
	}
	rev := tidegate.Rev{ID: e.rev}
	if w.Deleted {
		rev.Flags |= tidegate.RevDeleted
	}
	if len(e.body.attachments) > 0 {
		rev.Flags |= tidegate.RevAttachments
	}
	if e.closes {
		rev.Flags |= tidegate.RevClosed
	}
	e.tree = e.base.rec.tree.Clone()
	var err error
	if history != nil {
		e.at, _, err = e.tree.AddHistory(history, rev)
	} else {
		e.at, err = e.tree.Add(e.base.parent, rev)
	}
	if err == nil && aside { // also a deletion is closed, which might be on the longer branch
		err = e.addClosing(e.base.parent, nil)
	}
	if err != nil || e.base.loser < 0 {
		return err
	}
	closing := tidegate.Rev{ID: w.DeletedBranch[0], Flags: tidegate.RevDeleted | tidegate.RevClosed}
	e.closing = append(e.closing, closing.ID)
	_, _, err = e.tree.AddHistory(w.DeletedBranch, closing)
	return err
}

// newRevID computes the ID of the new revision.
func (e *edit) newRevID(parent tidegate.RevID) tidegate.RevID {
	pool := &e.h.db.buffers
	buf, _ := pool.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	defer pool.Put(buf)
	canonical := jsondoc.AppendCanonical((*buf)[:0], e.body.json, e.body.deleted)
	if cap(canonical) <= maxPooledBuffer {
		*buf = canonical
	}
	return tidegate.NewRevID(parent, canonical)
}

// maxPooledBuffer bounds the buffers that are kept for canonical bodies.
const maxPooledBuffer = 64 << 10

// closeBranch adds the tombstone that closes the branch of the new revision. Its ID follows from the
// revision, so that it is the same wherever this happens.
func (e *edit) closeBranch() error {
	return e.addClosing(e.at, e.out.channels) // who may see the revision may see that it was closed
}

// addClosing adds the tombstone that closes the branch of a leaf.
func (e *edit) addClosing(leaf int, channels tidegate.ChannelSet) error {
	id, err := addClosing(e.tree, leaf, channels)
	e.closing = append(e.closing, id)
	return err
}

func addClosing(tree *tidegate.RevTree, leaf int, channels tidegate.ChannelSet) (tidegate.RevID, error) {
	id := tidegate.NewRevID(tree.At(leaf).ID, jsondoc.AppendCanonical(nil, emptyBody, true))
	_, err := tree.Add(leaf, tidegate.Rev{ID: id, Flags: tidegate.RevDeleted | tidegate.RevClosed, Channels: channels})
	return id, err
}
