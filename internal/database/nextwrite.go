package database

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/changes"
	"github.com/tidegate/tidegate/internal/script"
	"github.com/tidegate/tidegate/internal/store"
)

// While an online resync builds the next generation, every write goes into both (DESIGN.md, Resync).

// nextBase is what a write finds in the generation that a run builds.
type nextBase struct {
	physical store.Collection
	fn       script.SyncFunction
	stored   []byte // the document's record; nil: none
}

// readRouting reads where the document's rows are, and what the next generation has of it.
func (b *base) readRouting(r store.Reader, c *collection, id string) (err error) {
	if b.routing, err = c.routes.Read(r); err != nil {
		return fmt.Errorf("read routing: %w", err)
	}
	b.physical = b.routing.Live(c.id)
	next, ok := b.routing.Next(c.id)
	if !ok {
		return nil
	}
	b.next = &nextBase{physical: next}
	stored, err := r.Get(c.docKey(next, id))
	if stored != nil {
		b.next.stored = bytes.Clone(stored)
	}
	return err
}

// findFunctions finds the functions that go with the routing.
func (b *base) findFunctions(ctx context.Context, db *Database, c *collection) (err error) {
	if b.fn, err = db.function(ctx, c, b.routing.Function(c.id)); err != nil || b.next == nil {
		return err
	}
	b.next.fn, err = db.function(ctx, c, b.routing.Run)
	return err
}

// nextWrite is what a document becomes in the generation that a run builds.
type nextWrite struct {
	run    uint32
	coll   *collection
	id     string
	docKey store.Key
	where  store.Collection // physical

	stored []byte // the record it takes the place of; nil: none
	was    *record

	expiry time.Time
	// rec is the record, in which pendingLive stands for the document's sequence in the live generation; nil: it is that
	// of the live one.
	rec *record
	// sequenced: the document is routed otherwise than in the live generation, so it gets a sequence of the run.
	sequenced bool
}

// newNextWrite computes what becomes of a document that is rec in the live generation, where pending stands for a
// sequence that it is about to get.
func newNextWrite(c *collection, routing *store.Routing, next *nextBase, id string, rec *record, r *rerouted) (*nextWrite, error) {
	n := &nextWrite{
		run: routing.Run, coll: c, id: id, docKey: c.docKey(next.physical, id), where: next.physical,
		stored: next.stored, was: &record{tree: &tidegate.RevTree{}},
		expiry: r.expiry(rec), sequenced: r.differs(rec),
	}
	if n.stored != nil {
		var err error
		if n.was, err = parseRecord(n.stored); err != nil {
			return nil, fmt.Errorf("read document %q: %w", id, err)
		}
	}
	if n.sequenced || !n.expiry.Equal(rec.expiry) {
		n.rec, _, _ = r.apply(rec.resolved(pendingLive, pendingLive))
	}
	return n, nil
}

// finishNext computes what the write puts into the generation that a run builds. rec is the document's record in the
// live one.
func (e *edit) finishNext(ctx context.Context, p *prepared, rec *record) error {
	next := e.base.next
	if next == nil {
		return nil
	}
	r, err := e.rerouteNew(ctx, p, rec)
	if err != nil {
		return err
	}
	p.next, err = newNextWrite(e.h.coll, e.base.routing, next, e.w.ID, rec, r)
	return err
}

// rerouteNew runs the run's function over the leaves that the document has after the write.
func (e *edit) rerouteNew(ctx context.Context, p *prepared, rec *record) (*rerouted, error) {
	next := e.base.next
	if next.fn == e.base.fn && e.h.IsAdmin() && e.docOut == &e.out && len(e.body.attachments) == 0 &&
		!e.base.conflict && e.base.loser < 0 && onlyLeaf(e.tree, e.at) {
		return &rerouted{leaves: []reroutedLeaf{{at: e.at, channels: e.out.channels}}, out: e.out}, nil // the same again
	}
	c := e.h.coll
	d := &storedDoc{id: e.w.ID, rec: rec}
	prefix := c.bodyPrefix(d.id)
	for _, row := range p.rows {
		if bytes.HasPrefix(row.key, prefix) {
			rev, _, err := store.CutName(row.key[len(prefix):])
			if err != nil {
				return nil, err
			}
			d.bodies = append(d.bodies, storedBody{[]byte(rev), row.value})
		}
	}
	if rec.tree.Len() > 1 {
		// What is stored comes behind what is about to be, which is found first.
		err := e.h.db.st.View(ctx, func(r store.Reader) error {
			it := r.Scan(store.Prefix(prefix))
			defer it.Close()
			return d.readBodies(it, prefix)
		})
		if err != nil {
			return nil, err
		}
	}
	return c.reroute(ctx, next.fn, d, e.now)
}

// onlyLeaf reports whether the tree has no other leaf.
func onlyLeaf(tree *tidegate.RevTree, at int) bool {
	n := 0
	for i := range tree.Leaves() {
		if n++; n > 1 || i != at {
			return false
		}
	}
	return true
}

// moved reports whether the next generation has something else of the document than the write was computed from.
func (n *nextWrite) moved(r store.Reader) (bool, error) {
	if n == nil {
		return false, nil
	}
	stored, err := r.Get(n.docKey)
	return err == nil && !bytes.Equal(stored, n.stored), err
}

// liveDoc is a document as the live generation has it.
type liveDoc struct {
	seq    tidegate.Seq
	record []byte
	state  *changes.DocState
	grants *access.DocGrants // nil: none
}

// putNext puts the write's rows into the generation that a run builds.
func (p *prepared) putNext(tx store.Tx, seq tidegate.Seq) error {
	if p.next == nil {
		return nil
	}
	return p.next.put(tx, p.routing, liveDoc{seq, p.record, p.new, p.newGrants})
}

// put puts the document's rows into the generation that a run builds.
func (n *nextWrite) put(tx store.Tx, routing *store.Routing, live liveDoc) error {
	record, state, grants := live.record, live.state, live.grants
	if n.rec != nil {
		seq := live.seq
		if n.sequenced {
			var err error
			if seq, err = nextRunSequence(tx, n.coll.space, routing); err != nil {
				return err
			}
		}
		rec := n.rec.resolved(seq, live.seq)
		rec.seq = seq
		record, state, grants = rec.appendBinary(make([]byte, 0, len(record)+64)), rec.docState(), grantsOf(rec)
	}
	if err := tx.Put(n.docKey, record); err != nil {
		return err
	}
	var old *changes.DocState
	if n.stored != nil {
		old = n.was.docState()
	}
	if err := changes.WriteIndex(tx, n.coll.space, n.where, n.id, old, state); err != nil {
		return fmt.Errorf("write next index: %w", err)
	}
	oldGrants := grantsOf(n.was)
	if oldGrants == nil && grants == nil && live.grants == nil {
		return nil
	}
	err := access.WriteNextGrants(tx, n.coll.space, n.run, n.where, n.id, oldGrants, grants, live.grants, state.Seq)
	if err != nil {
		return fmt.Errorf("write next grants: %w", err)
	}
	return nil
}

// purgeNext removes a document from the generation that a run builds. gone says which expiry row goes.
func (c *collection) purgeNext(tx store.Tx, routing *store.Routing, id string) error {
	next, ok := routing.Next(c.id)
	if !ok {
		return nil
	}
	key := c.docKey(next, id)
	stored, err := tx.Get(key)
	if err != nil || stored == nil {
		return err
	}
	rec, err := parseRecord(stored)
	if err != nil {
		return err
	}
	if err := changes.WriteIndex(tx, c.space, next, id, rec.docState(), nil); err != nil {
		return err
	}
	if grants := grantsOf(rec); grants != nil {
		// Principals that it concerns have a mark already: of the run if they gained it, else of the purge.
		if err := access.WriteNextGrants(tx, c.space, routing.Run, next, id, grants, nil, nil, 0); err != nil {
			return err
		}
	}
	if !rec.expiry.IsZero() {
		if err := tx.Delete(c.expiryKey(rec.expiry, expireDoc, id, tidegate.RevID{})); err != nil {
			return err
		}
	}
	return tx.Delete(key)
}

// expires reports whether a record of a document, in any generation that counts or may come to count, says that it expires
// at a time.
func (c *collection) expires(r store.Reader, id string, at time.Time) (bool, error) {
	routing, err := c.routes.Read(r)
	if err != nil {
		return false, err
	}
	generations := []store.Collection{routing.Live(c.id)}
	if next, ok := routing.Next(c.id); ok {
		generations = append(generations, next)
	}
	for _, physical := range generations {
		stored, err := r.Get(c.docKey(physical, id))
		if err != nil {
			return false, err
		}
		if stored == nil {
			continue
		}
		rec, err := parseRecord(stored)
		if err != nil {
			return false, fmt.Errorf("read document %q: %w", id, err)
		}
		if rec.expiry.Equal(at) {
			return true, nil
		}
	}
	return false, nil
}

// runSequenceKey holds the last sequence that the run under way gave out.
func runSequenceKey(space store.Space) store.Key {
	return store.NewKey(space, store.KindMeta).Name("resync.sequence")
}

// lastRunSequence returns the last sequence that the run under way gave out; its base if it gave out none.
func lastRunSequence(r store.Reader, space store.Space, routing *store.Routing) (tidegate.Seq, error) {
	b, err := r.Get(runSequenceKey(space))
	if err != nil || b == nil {
		return routing.Base, err
	}
	seq, _, err := store.CutSeq(b)
	return max(seq, routing.Base), err
}

// nextRunSequence gives out a sequence of the run under way.
func nextRunSequence(tx store.Tx, space store.Space, routing *store.Routing) (tidegate.Seq, error) {
	last, err := lastRunSequence(tx, space, routing)
	if err != nil {
		return 0, err
	}
	return last + 1, tx.Put(runSequenceKey(space), binary.BigEndian.AppendUint64(nil, uint64(last+1)))
}
