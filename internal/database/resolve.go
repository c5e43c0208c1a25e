package database

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

// pulled is a revision that came from a peer and was superseded in the same write.
type pulled struct {
	id   tidegate.RevID
	body body
}

// inConflict reports whether the current revision is no ancestor of the new one. A tombstone that closes another live
// branch leaves the current revision alone.
func (b *base) inConflict(w *Write) bool {
	tree := b.rec.tree
	winner, exists := tree.Winner()
	if !exists || b.parent == winner || b.loser == winner {
		return false
	}
	if w.Deleted && b.parent >= 0 && tree.IsLeaf(b.parent) && !tree.At(b.parent).Deleted() {
		return false
	}
	// The history may tell that one branch continues another. What is no history is refused when it is added.
	with := tree.Clone()
	at, _, err := with.AddHistory(w.History, tidegate.Rev{ID: w.History[0]})
	return err == nil && !with.IsAncestor(winner, at)
}

// resolve asks the resolver about the new revision, which is in the tree already, and makes what it decides the new
// revision (inter-gateway.md §10, "Resulting tree").
func (e *edit) resolve(ctx context.Context) error {
	c, err := e.conflict()
	if err != nil {
		return err
	}
	res, err := e.w.Resolver.Resolve(ctx, c)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return e.unresolved(c, err)
	}
	// All else goes on from the pulled revision: no other branch stays live.
	if err := e.closeOthers(); err != nil {
		return err
	}
	e.resolved = res.Outcome
	switch res.Outcome {
	case ResolvedRemote:
		if winner, _ := e.tree.Winner(); winner == e.at {
			return nil
		}
		// Both are deletions and this one's branch is the shorter one.
		return e.supersede(&c.Remote, func() (map[string]tidegate.Attachment, error) { return c.Remote.Attachments, nil })
	case ResolvedLocal:
		// Where everybody's default would be the same the version may stay: others come to it by themselves. If all made new
		// ones, which are later still, they could go on for ever. Any other decision must be told by a version that nobody has.
		e.sameVersion = c.localByDefault()
		return e.supersede(&c.Local, func() (map[string]tidegate.Attachment, error) { return e.rebase(c.Local.Attachments), nil })
	case ResolvedMerge:
		merged := ConflictSide{Deleted: res.Deleted, Body: res.Body}
		return e.supersede(&merged, func() (map[string]tidegate.Attachment, error) {
			attachments, err := e.mergeAttachments(ctx, c, res.Attachments)
			if err != nil {
				err = e.unresolved(c, err)
			}
			return attachments, err
		})
	}
	return e.unresolved(c, errNoOutcome)
}

// errNoOutcome is the fault of a Resolver that decided nothing.
var errNoOutcome = tidegate.Errorf(tidegate.Internal, "the resolver has no outcome")

// unresolved wraps what went wrong with the resolver.
func (e *edit) unresolved(c *Conflict, err error) error {
	return fmt.Errorf("%w: document %q, local revision %s, remote revision %s: %w", ErrResolver, c.ID, c.Local.Rev, c.Remote.Rev, err)
}

// conflict describes the current revision and the new one.
func (e *edit) conflict() (*Conflict, error) {
	old := e.base.rec
	winner, _ := old.tree.Winner()
	if bodiless(old.tree.At(winner)) {
		e.base.old = body{deleted: true, json: emptyBody}
	} else if e.base.ancestor != winner {
		return nil, fmt.Errorf("read current revision of %q: %w", e.w.ID, errBodyLost)
	}
	local := ConflictSide{
		Rev: old.tree.At(winner).ID, Deleted: e.base.old.deleted, Body: e.base.old.json, Attachments: e.base.old.attachments,
		Expiry: old.expiry,
	}
	remote := ConflictSide{Rev: e.rev, Vector: e.w.Vector, Deleted: e.body.deleted, Body: e.body.json, Attachments: e.body.attachments}
	if !remote.Vector.IsZero() {
		local.Vector = old.vector
	}
	return &Conflict{ID: e.w.ID, Local: local, Remote: remote}, nil
}

// closeOthers adds a tombstone to every live branch but the new revision's.
func (e *edit) closeOthers() error {
	var live []int
	for i, leaf := range e.tree.Leaves() {
		if i != e.at && !leaf.Deleted() {
			live = append(live, i)
		}
	}
	for _, i := range live {
		if err := e.addClosing(i, nil); err != nil {
			return err
		}
	}
	return nil
}

// supersede puts a revision on top of the pulled one, which stays as an old revision does.
func (e *edit) supersede(what *ConflictSide, attachments func() (map[string]tidegate.Attachment, error)) error {
	e.body.version = e.w.Vector.Current
	e.below = append(e.below, pulled{e.rev, e.body})
	parent, generation := e.at, uint64(0)
	if what.Deleted {
		var err error
		if parent, generation, err = e.lengthen(); err != nil {
			return err
		}
	}
	e.body = body{deleted: what.Deleted, json: what.Body}
	if len(e.body.json) == 0 {
		e.body.json = emptyBody
	}
	if int64(len(e.body.json)) > e.h.db.opts.MaxDocumentBytes {
		return fmt.Errorf("%w: %w", ErrResolver, jsondoc.ErrTooLarge)
	}
	e.rev = e.newRevID(e.tree.At(parent).ID)
	e.rev.Generation = max(e.rev.Generation, generation)
	var err error
	if e.body.attachments, err = attachments(); err != nil {
		return err
	}
	rev := tidegate.Rev{ID: e.rev}
	if e.body.deleted {
		rev.Flags |= tidegate.RevDeleted
	}
	if len(e.body.attachments) > 0 {
		rev.Flags |= tidegate.RevAttachments
	}
	e.at, err = e.tree.Add(parent, rev)
	return err
}

// lengthen extends the pulled revision's branch by empty revisions until a tombstone on it is longer than every other
// branch, all of which are tombstones by now; those that were closed do not count. It returns where the tombstone goes and the least generation that it must
// have. A branch that would take too many empty revisions gets none: peers would not see where it began. The tombstone
// then follows at once, with a generation far above that of its parent.
func (e *edit) lengthen() (parent int, generation uint64, err error) {
	parent = e.at
	for i, leaf := range e.tree.Leaves() {
		if i != e.at && leaf.Flags&tidegate.RevClosed == 0 {
			generation = max(generation, leaf.ID.Generation+1)
		}
	}
	at := e.tree.At(parent).ID
	if generation > at.Generation+1+min(maxEmptyRevs, uint64(e.h.db.opts.RevsLimit/2)) {
		return parent, generation, nil
	}
	for at.Generation+1 < generation {
		at = tidegate.NewRevID(at, emptyBody)
		if parent, err = e.tree.Add(parent, tidegate.Rev{ID: at, Flags: tidegate.RevBodyGone}); err != nil {
			return 0, 0, err
		}
	}
	return parent, generation, nil
}

// maxEmptyRevs is how many empty revisions a branch is extended by; peers ask for 20 revisions of history at least.
const maxEmptyRevs = 15

// rebase makes the attachments of the local revision those of the new one. What came after the common ancestor is new
// on this branch.
func (e *edit) rebase(local map[string]tidegate.Attachment) map[string]tidegate.Attachment {
	if len(local) == 0 {
		return nil
	}
	rebased := maps.Clone(local)
	for name, a := range local {
		rebased[name] = e.rebased(a)
	}
	return rebased
}

func (e *edit) rebased(a tidegate.Attachment) tidegate.Attachment {
	if a.RevPos > e.commonGeneration() {
		a.RevPos = e.rev.Generation
	}
	e.keep(a.Key)
	return a
}

// commonGeneration is the generation of the nearest common ancestor of the current revision and the pulled one; 0 if
// there is none.
func (e *edit) commonGeneration() uint64 {
	at, _ := e.tree.Find(e.below[0].id)
	winner, _ := e.base.rec.tree.Winner()
	local, ok := e.tree.Find(e.base.rec.tree.At(winner).ID)
	for ok && local >= 0 {
		if e.tree.IsAncestor(local, at) {
			return e.tree.At(local).ID.Generation
		}
		local = e.tree.At(local).Parent
	}
	return 0
}

// mergeAttachments settles the attachments of a merged revision.
func (e *edit) mergeAttachments(ctx context.Context, c *Conflict, inputs map[string]AttachmentInput) (map[string]tidegate.Attachment, error) {
	if len(inputs) == 0 {
		return nil, nil
	}
	merged := make(map[string]tidegate.Attachment, len(inputs))
	for _, name := range slices.Sorted(maps.Keys(inputs)) {
		in := inputs[name]
		a, err := e.mergeAttachment(ctx, c, name, &in)
		if err != nil {
			return nil, err
		}
		merged[name] = a
	}
	return merged, nil
}

func (e *edit) mergeAttachment(ctx context.Context, c *Conflict, name string, in *AttachmentInput) (tidegate.Attachment, error) {
	switch {
	case name == "":
		return tidegate.Attachment{}, tidegate.Errorf(tidegate.Invalid, "Missing name of attachment")
	case !in.Stub:
		// The resolver may answer something else when it is asked again, so this is not kept for the next try.
		content, err := e.receive(ctx, name, in)
		if err != nil {
			return tidegate.Attachment{}, err
		}
		return e.attach(in, content, e.rev.Generation), nil
	}
	if a, ok := stubOf(c.Remote.Attachments, name, in); ok {
		return a, nil // its content is kept for the pulled revision
	}
	if a, ok := stubOf(c.Local.Attachments, name, in); ok {
		return e.rebased(a), nil
	}
	return tidegate.Attachment{}, tidegate.Errorf(tidegate.Invalid, "Unknown digest in stub attachment %q", name)
}

// stubOf finds the attachment that a stub of a merged document stands for: that of its name, if the digest says nothing
// else, or any that has its digest.
func stubOf(attachments map[string]tidegate.Attachment, name string, in *AttachmentInput) (tidegate.Attachment, bool) {
	if a, ok := attachments[name]; ok && (in.Digest == "" || a.Digest == in.Digest) {
		return a, true
	}
	for _, other := range slices.Sorted(maps.Keys(attachments)) {
		if a := attachments[other]; in.Digest != "" && a.Digest == in.Digest {
			return a, true
		}
	}
	return tidegate.Attachment{}, false
}
