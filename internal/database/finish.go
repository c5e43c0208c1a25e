package database

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/changes"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/blob"
)

// finish encodes everything that the write will put.
func (e *edit) finish(ctx context.Context) (*prepared, error) {
	c, w, old := e.h.coll, e.w, e.base.rec
	e.setVector()
	rec := &record{seq: pending, saved: e.now, tree: e.tree, vector: e.vector, expiry: e.expiry}
	current := *e.tree.At(e.winner)
	p := &prepared{
		w: w, coll: c, routing: e.base.routing, physical: e.base.physical, stored: e.base.record,
		docKey: c.docKey(e.base.physical, w.ID), refs: e.refs, resets: e.base.resets,
		result: Written{
			ID: w.ID, Rev: e.rev, Version: e.vector.Current, Closed: e.closes,
			Created: old.tree.LiveLeaves() == 0 && !e.body.deleted, Resolved: e.resolved,
		},
	}
	p.shared, _ = e.h.db.blobs.(blob.Shared)
	if e.docOut != nil {
		p.removed = rec.setChannels(old, e.docOut.channels, current.ID, current.Deleted())
		p.granted = rec.setGrants(old, e.docOut)
	} else {
		rec.channels, rec.grants = old.channels, old.grants
		if e.closes {
			p.removed = rec.tellAgain(current.ID)
		}
	}
	if err := e.putBodies(ctx, p); err != nil {
		return nil, err
	}
	if err := e.quarantineClosed(ctx, p); err != nil {
		return nil, err
	}
	e.prune(p)
	if err := e.finishNext(ctx, p, rec); err != nil {
		return nil, err
	}
	e.putExpiry(p)
	if old.seq > 0 {
		p.old = old.docState()
	}
	p.new = rec.docState()
	p.oldGrants, p.newGrants = grantsOf(old), grantsOf(rec)
	p.conflict = e.tree.LiveLeaves() > 1
	p.record = rec.appendBinary(make([]byte, 0, 128+len(e.base.record)))
	return p, nil
}

// grantsOf returns the record's grants; nil if it has none.
func grantsOf(rec *record) *access.DocGrants {
	if len(rec.grants.Access) == 0 && len(rec.grants.Roles) == 0 {
		return nil
	}
	return &rec.grants
}

// putBodies puts the bodies of the new revision and of the one that closes it, and sets an end to bodies of
// revisions that are leaves no more.
func (e *edit) putBodies(ctx context.Context, p *prepared) error {
	c, id := e.h.coll, e.w.ID
	p.put(c.bodyKey(id, e.rev), e.body.appendBinary(make([]byte, 0, 64+len(e.body.json))))
	for _, rev := range e.closing {
		at, _ := e.tree.Find(rev)
		tomb := body{deleted: true, channels: e.tree.At(at).Channels, json: emptyBody}
		p.put(c.bodyKey(id, rev), tomb.appendBinary(nil))
	}
	due := e.now.Add(max(e.h.db.opts.OldRevExpiry, 0))
	for i := range e.below {
		rev := &e.below[i]
		p.put(c.bodyKey(id, rev.id), rev.body.appendBinary(make([]byte, 0, 64+len(rev.body.json))))
		p.expire(c.expiryKey(due, expireBody, id, rev.id), due)
	}
	for i, leaf := range e.base.rec.tree.Leaves() {
		at, ok := e.tree.Find(leaf.ID)
		if !ok || e.tree.IsLeaf(at) {
			continue
		}
		if err := e.retire(ctx, p, i); err != nil {
			return err
		}
	}
	return nil
}

// retire gives a body whose revision is a leaf no more its time to go, and makes its header say which channels
// the revision was in, and which version it was.
func (e *edit) retire(ctx context.Context, p *prepared, i int) error {
	c, id := e.h.coll, e.w.ID
	leaf := e.base.rec.tree.At(i)
	if bodiless(leaf) {
		return nil
	}
	y := &e.base.old
	if i != e.base.ancestor {
		err := e.h.db.st.View(ctx, func(r store.Reader) (err error) {
			y, err = readBody(r, c, id, leaf.ID)
			return err
		})
		if err != nil {
			return err
		}
		if y == nil {
			return fmt.Errorf("read revision %s of %q: %w", leaf.ID, id, errBodyLost)
		}
	}
	version := y.version
	if winner, _ := e.base.rec.tree.Winner(); winner == i {
		version = e.base.rec.vector.Current // what it was as the current revision
	}
	if !equalChannels(y.channels, leaf.Channels) || version != y.version {
		y.channels, y.version = leaf.Channels, version
		p.put(c.bodyKey(id, leaf.ID), y.appendBinary(nil))
	}
	due := e.now.Add(max(e.h.db.opts.OldRevExpiry, 0))
	p.expire(c.expiryKey(due, expireBody, id, leaf.ID), due)
	return nil
}

// prune shortens the tree. What is pruned lost its body already or has a time set for that, except for
// closed revisions, whose bodies were kept.
func (e *edit) prune(p *prepared) {
	limit := e.h.db.opts.RevsLimit
	if e.tree.Len() <= limit {
		return
	}
	closed := map[tidegate.RevID]bool{}
	for i := range e.tree.Len() {
		if r := e.tree.At(i); r.Flags&tidegate.RevClosed != 0 {
			closed[r.ID] = true
		}
	}
	for _, rev := range e.tree.Prune(limit) {
		if closed[rev] {
			p.expire(e.h.coll.expiryKey(e.now, expireBody, e.w.ID, rev), e.now)
		}
	}
}

// putExpiry moves the document's expiry rows: of its record, and of that of the generation that a run builds.
func (e *edit) putExpiry(p *prepared) {
	c, id := e.h.coll, e.w.ID
	had, has := [2]time.Time{e.base.rec.expiry}, [2]time.Time{e.expiry}
	if p.next != nil {
		had[1], has[1] = p.next.was.expiry, p.next.expiry
	}
	for i, t := range had {
		if !t.IsZero() && !has[0].Equal(t) && !has[1].Equal(t) && (i == 0 || !had[0].Equal(t)) {
			p.gone = append(p.gone, c.expiryKey(t, expireDoc, id, tidegate.RevID{}))
		}
	}
	for i, t := range has {
		if !t.IsZero() && !had[0].Equal(t) && !had[1].Equal(t) && (i == 0 || !has[0].Equal(t)) {
			p.expire(c.expiryKey(t, expireDoc, id, tidegate.RevID{}), t)
		}
	}
}

func (p *prepared) put(key store.Key, value []byte) { p.rows = append(p.rows, row{key, value}) }

// expire puts an expiry row.
func (p *prepared) expire(key store.Key, due time.Time) {
	p.put(key, nothing)
	if p.due.IsZero() || due.Before(p.due) {
		p.due = due
	}
}

func equalChannels(a, b tidegate.ChannelSet) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// index writes what of the write others keep: the feed's index and the grants.
func (p *prepared) index(tx store.Tx, seq tidegate.Seq) error {
	if err := changes.WriteIndex(tx, p.coll.space, p.physical, p.w.ID, p.old, p.new); err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	p.changed = nil
	if p.oldGrants == nil && p.newGrants == nil {
		return nil
	}
	var err error
	p.changed, err = access.WriteGrants(tx, p.coll.space, p.physical, p.w.ID, p.oldGrants, p.newGrants, seq)
	if err != nil {
		return fmt.Errorf("write grants: %w", err)
	}
	return nil
}

// commit puts the write's rows. It runs in the commit section, perhaps more than once. moved: the document, or where
// its rows are, is not what the write was computed from, and nothing was put. routing is that of tx.
func (p *prepared) commit(tx store.Tx, routing *store.Routing) (moved bool, err error) {
	if !store.SameRouting(routing, p.routing) {
		return true, nil
	}
	stored, err := tx.Get(p.docKey)
	if err != nil {
		return false, err
	}
	// The sequence alone would not do: an offline resync on another node changes a record and leaves it.
	if !bytes.Equal(stored, p.stored) {
		return true, nil
	}
	if moved, err := p.next.moved(tx); moved || err != nil {
		return moved, err
	}
	if ok, err := p.refsHold(tx); !ok || err != nil {
		return true, err
	}
	if moved, err := resetsMoved(tx, p.coll.space, p.resets); moved || err != nil {
		return moved, err
	}
	if ok, err := p.contentHolds(tx); !ok || err != nil {
		return true, err
	}
	seq, err := tx.NextSequence(p.coll.space)
	if err != nil {
		return false, err
	}
	p.setSequence(seq)
	if err := tx.Put(p.docKey, p.record); err != nil {
		return false, err
	}
	for _, r := range p.rows {
		if err := tx.Put(r.key, r.value); err != nil {
			return false, err
		}
	}
	for _, key := range p.gone {
		if err := tx.Delete(key); err != nil {
			return false, err
		}
	}
	if err := p.putRefs(tx); err != nil {
		return false, err
	}
	if p.quarantine != nil {
		if err := p.quarantine.put(tx, p.coll.space); err != nil {
			return false, err
		}
	}
	if isCompact(p.stored) {
		if err := countLedger(tx, p.coll.space, -1, time.Time{}); err != nil {
			return false, err
		}
	}
	if err := p.index(tx, seq); err != nil {
		return false, err
	}
	return false, p.putNext(tx, seq)
}

// setSequence writes the sequence wherever it belongs.
func (p *prepared) setSequence(seq tidegate.Seq) {
	p.result.Seq = seq
	setRecordSeq(p.record, seq)
	p.new.Seq = seq
	for _, name := range p.removed {
		m := p.new.Channels[name]
		m.Seq = seq
		p.new.Channels[name] = m
	}
	for _, g := range p.granted {
		g.grants[g.name] = seq
	}
}
