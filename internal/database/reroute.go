package database

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/script"
)

// storedDoc is a document as the store has it: its record and the bodies that are kept of its revisions. It shares
// memory with nothing that changes.
type storedDoc struct {
	id     string
	record []byte
	bodies []storedBody // in order of their keys

	rec *record // nil until decode
}

// storedBody is a stored body and the name of its revision.
type storedBody struct {
	rev []byte // as text
	raw []byte
}

// decode takes the record apart. Corrupt: it does not make sense.
func (d *storedDoc) decode() (err error) {
	if d.rec == nil {
		d.rec, err = parseRecord(d.record)
	}
	if err != nil {
		return fmt.Errorf("read document %q: %w", d.id, err)
	}
	return nil
}

// body returns the body of a revision; nil if it is not kept.
func (d *storedDoc) body(rev tidegate.RevID) (*body, error) {
	var text [tidegate.MaxRevIDLen + 1]byte
	name := rev.Append(text[:0])
	for i := range d.bodies {
		if string(d.bodies[i].rev) != string(name) {
			continue
		}
		y, err := parseBody(d.bodies[i].raw)
		if err != nil {
			return nil, fmt.Errorf("read revision %s of %q: %w", rev, d.id, err)
		}
		return &y, nil
	}
	return nil, nil
}

// rerouted is what a sync function makes of a stored document.
type rerouted struct {
	leaves []reroutedLeaf // in winner order: the first is the current revision
	out    outputs        // the document's: those of the current revision
}

// reroutedLeaf is what a sync function makes of one leaf. A function that fails, or refuses the revision, gives it no
// channels (sync-function.md §8).
type reroutedLeaf struct {
	at       int // in the record's tree
	channels tidegate.ChannelSet
	err      error // script.Classify tells what of it is a refusal
}

// reroute runs a sync function over every leaf of a stored document, in admin context (resync.md §3.4). It changes
// nothing. A function that fails for a leaf is no error but noted with the leaf. Corrupt: the document, or a body that
// must be there, does not make sense; else ctx's error.
func (c *collection) reroute(ctx context.Context, fn script.SyncFunction, d *storedDoc, now time.Time) (*rerouted, error) {
	if err := d.decode(); err != nil {
		return nil, err
	}
	r := &rerouted{leaves: make([]reroutedLeaf, 0, 1)}
	for at, leaf := range d.rec.tree.Leaves() {
		l := reroutedLeaf{at: at}
		first := len(r.leaves) == 0
		if first && leaf.Deleted() && leaf.Flags&tidegate.RevClosed != 0 {
			// The server's own tombstone is in no channel once it is current (edit.rerun).
			r.leaves = append(r.leaves, l)
			continue
		}
		if bodiless(leaf) { // nothing is left that a function could route: it stays where it was
			l.channels = leaf.Channels
			if first {
				r.out = routedAs(d.rec, leaf.Channels)
			}
			r.leaves = append(r.leaves, l)
			continue
		}
		in, err := d.syncInput(at, now)
		if err != nil {
			return nil, err
		}
		out, err := c.runAgain(ctx, fn, in)
		switch {
		case err == nil:
			l.channels = out.channels
			if first {
				r.out = out
			}
		case script.Classify(err) == script.FailureCanceled || ctx.Err() != nil:
			return nil, err
		default:
			l.err = err
		}
		r.leaves = append(r.leaves, l)
	}
	return r, nil
}

// syncInput is what the function is given for a leaf. The old document is the nearest ancestor that is still there,
// which is often none.
func (d *storedDoc) syncInput(at int, now time.Time) (*script.SyncInput, error) {
	tree := d.rec.tree
	rev := tree.At(at)
	own, err := d.body(rev.ID)
	if err != nil {
		return nil, err
	}
	if own == nil {
		return nil, fmt.Errorf("read revision %s of %q: %w", rev.ID, d.id, errBodyLost)
	}
	in := &script.SyncInput{
		DocID: d.id, Rev: rev.ID, Deleted: rev.Deleted(), Body: own.json, User: script.User{Admin: true}, Now: now,
	}
	if len(own.attachments) > 0 {
		in.Attachments = tidegate.AppendStubsJSON(nil, own.attachments)
	}
	if len(d.bodies) < 2 {
		return in, nil
	}
	for _, ancestor := range tree.Ancestors(at) {
		old, err := d.body(ancestor.ID)
		if err != nil {
			return nil, err
		}
		if old != nil {
			in.OldBody, in.OldDeleted = old.json, old.deleted
			break
		}
	}
	return in, nil
}

// runAgain runs the function for a stored revision and counts the run.
func (c *collection) runAgain(ctx context.Context, fn script.SyncFunction, in *script.SyncInput) (outputs, error) {
	start := time.Now()
	out, err := fn.Sync(ctx, in)
	took := int64(time.Since(start))
	c.stats.SyncFunctions.Add(1)
	c.stats.SyncFunctionTime.Add(took)
	c.total.SyncFunctions.Add(1)
	c.total.SyncFunctionTime.Add(took)
	if script.Classify(err) == script.FailureException {
		c.stats.SyncExceptions.Add(1)
		c.total.SyncExceptions.Add(1)
	}
	if err != nil {
		return outputs{}, err
	}
	return outputs{
		channels: out.Channels, access: out.Access, roles: out.Roles, expiry: out.Expiry, hasExpiry: out.HasExpiry,
	}, nil
}

// differs reports whether the document is routed otherwise than its record says: a leaf is in other channels, or it
// grants something else. When it expires does not count (resync.md §3.4).
func (r *rerouted) differs(rec *record) bool {
	for i := range r.leaves {
		if !equalChannels(r.leaves[i].channels, rec.tree.At(r.leaves[i].at).Channels) {
			return true
		}
	}
	return !sameAccess(rec.grants.Access, r.out.access) || !sameRoles(rec.grants.Roles, r.out.roles)
}

// expiry returns when the document expires from now on. A function that does not say leaves it as it was: what _exp
// asked for is not kept beside it.
func (r *rerouted) expiry(rec *record) time.Time {
	if r.out.hasExpiry {
		return r.out.expiry
	}
	return rec.expiry
}

// failure returns the errors of all leaves together; nil if there is none.
func (r *rerouted) failure() error {
	var errs []error
	for i := range r.leaves {
		if r.leaves[i].err != nil {
			errs = append(errs, r.leaves[i].err)
		}
	}
	return errors.Join(errs...)
}

// apply returns the record with the new routing. What begins or ends by it has the sequence pending. left are the
// channels that the document leaves, begun the grants that are new. rec is not changed.
func (r *rerouted) apply(rec *record) (next *record, left []string, begun []grantSlot) {
	next = &record{
		seq: rec.seq, saved: rec.saved, tree: rec.tree.Clone(), vector: rec.vector, expiry: r.expiry(rec),
	}
	for i := range r.leaves {
		next.tree.At(r.leaves[i].at).Channels = r.leaves[i].channels
	}
	current := next.tree.At(r.leaves[0].at)
	left = next.setChannels(rec, r.leaves[0].channels, current.ID, current.Deleted())
	begun = next.setGrants(rec, &r.out)
	return next, left, begun
}

// sameAccess compares stored grants with what a function grants, whatever their sequences.
func sameAccess(had map[string]tidegate.Grants, now map[string]tidegate.ChannelSet) bool {
	if len(had) != len(now) {
		return false
	}
	for principal, names := range now {
		if !sameNames(had[principal], names) {
			return false
		}
	}
	return true
}

func sameRoles(had map[string]tidegate.Grants, now map[string][]string) bool {
	if len(had) != len(now) {
		return false
	}
	for user, names := range now {
		if !sameNames(had[user], names) {
			return false
		}
	}
	return true
}

// sameNames compares grants with a list without duplicates.
func sameNames(had tidegate.Grants, names []string) bool {
	return len(had) == len(names) && !slices.ContainsFunc(names, func(name string) bool {
		_, ok := had[name]
		return !ok
	})
}
