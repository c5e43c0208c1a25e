package database

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/blob"
)

// Bounds of the sweeper.
const (
	sweepBatch = 128         // rows read, and at most committed, at once
	sweepMin   = time.Second // between two sweeps
	sweepPoll  = time.Minute // at the latest: another node may have written
	// sweepElsewhere is how long a node leaves what is due to the one that sweeps, before it looks whether that is still so.
	sweepElsewhere = 5 * time.Second
	// keepTurn is up to when something must be due for the turn to be kept until then: taking it is two writes, keeping it one every few
	// seconds.
	keepTurn = 10 * time.Second
)

// sweeper knows when the next expiry row is due.
type sweeper struct {
	sweeping sync.Mutex // one sweep at a time: two would do the same

	mu   sync.Mutex
	next time.Time     // earliest that was put down since the last look; zero: none
	wake chan struct{} // cap 1
}

func (s *sweeper) init() { s.wake = make(chan struct{}, 1) }

// due tells the sweeper that something is due at t; the zero time is nothing.
func (s *sweeper) due(t time.Time) {
	if t.IsZero() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.next.IsZero() && !t.Before(s.next) {
		return
	}
	s.next = t
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take returns what due was told last and forgets it.
func (s *sweeper) take() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.next
	s.next = time.Time{}
	return next
}

// runSweeper sweeps whenever something is due and no other node does, until ctx ends.
func (db *Database) runSweeper(ctx context.Context) error {
	t := turn{db: db}
	defer t.release()
	for {
		db.sweeper.take()
		start := db.opts.Now()
		mine, err := t.sweep(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			db.log.ErrorContext(ctx, "sweep of what has expired failed; trying again", "error", err)
		}
		if err := db.awaitDue(ctx, start, mine, &t); err != nil {
			return err
		}
	}
}

// awaitDue waits until something is due that was not at start, when the last sweep began; but not less than sweepMin and not more
// than sweepPoll. If it is not mine to sweep it waits for sweepElsewhere. The turn is given back if the wait is long.
func (db *Database) awaitDue(ctx context.Context, start time.Time, mine bool, t *turn) error {
	until, least := start.Add(sweepPoll), sweepMin
	if !mine {
		until, least = start.Add(sweepElsewhere), sweepElsewhere
	}
	next, err := db.nextDue(ctx, start)
	if err == nil && !next.IsZero() && next.Before(until) {
		until = next
	}
	if until.Sub(db.opts.Now()) > keepTurn {
		t.release()
	}
	for {
		timer := time.NewTimer(max(until.Sub(db.opts.Now()), least-db.opts.Now().Sub(start), 0))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
			return nil
		case <-db.sweeper.wake:
			timer.Stop()
			if next := db.sweeper.take(); !next.IsZero() && next.Before(until) {
				until = next
			}
		}
	}
}

// nextDue returns the time of the first expiry row after a time; zero if there is none.
func (db *Database) nextDue(ctx context.Context, after time.Time) (next time.Time, err error) {
	prefix := store.NewKey(db.space, store.KindExpiry)
	rng := store.Prefix(prefix)
	rng.Start = prefix.Clone().Uint64(uint64(after.UnixMilli()) + 1)
	err = db.st.View(ctx, func(r store.Reader) error {
		it := r.Scan(rng)
		defer it.Close()
		if !it.Next() {
			return it.Err()
		}
		row, err := parseDue(it.Key())
		next = row.at
		return err
	})
	return next, err
}

// Sweep removes everything that is due: documents become tombstones, bodies of old revisions and local
// documents go. What cannot be removed now is tried again by the next sweep. Run calls it whenever something is due.
func (db *Database) Sweep(ctx context.Context) error {
	db.sweeper.sweeping.Lock()
	defer db.sweeper.sweeping.Unlock()
	var after store.Key
	for {
		rows, err := db.dueRows(ctx, after)
		if err != nil {
			return fmt.Errorf("read expiries: %w", err)
		}
		if len(rows) == 0 {
			return nil
		}
		after = rows[len(rows)-1].key
		if err := db.sweepRows(ctx, rows); err != nil {
			return err
		}
	}
}

// dueRows reads the next rows that are due.
func (db *Database) dueRows(ctx context.Context, after store.Key) (rows []dueRow, err error) {
	prefix := store.NewKey(db.space, store.KindExpiry)
	rng := store.Range{Start: prefix, End: prefix.Clone().Uint64(uint64(db.opts.Now().UnixMilli()) + 1)}
	if after != nil {
		rng.Start = append(after.Clone(), 0)
	}
	err = db.st.View(ctx, func(r store.Reader) error {
		it := r.Scan(rng)
		defer it.Close()
		for len(rows) < sweepBatch && it.Next() {
			row, err := parseDue(it.Key())
			if err != nil {
				return err
			}
			rows = append(rows, row)
		}
		return it.Err()
	})
	return rows, err
}

// sweepRows does what the rows say: bodies and local documents in one transaction, documents by writes. A row
// that fails because what is stored makes no sense is left, so that it does not hold up the others.
func (db *Database) sweepRows(ctx context.Context, rows []dueRow) error {
	var docs, rest []dueRow
	for _, row := range rows {
		if row.what == expireDoc {
			docs = append(docs, row)
		} else {
			rest = append(rest, row)
		}
	}
	if err := db.sweepTogether(ctx, rest); err != nil {
		return fmt.Errorf("remove what has expired: %w", err)
	}
	for _, row := range docs {
		if db.opts.ReadOnly || db.byID[row.coll] == nil {
			continue // a later configuration may let it go
		}
		err := db.expireDoc(ctx, row)
		if heldBack(err) {
			continue
		}
		if tidegate.ErrorCode(err) == tidegate.Corrupt {
			db.log.ErrorContext(ctx, "a document cannot expire", "error", err)
			continue
		}
		if err != nil {
			return fmt.Errorf("expire document: %w", err)
		}
	}
	return nil
}

// sweepTogether sweeps rows in one transaction; one by one if that does not work.
func (db *Database) sweepTogether(ctx context.Context, rows []dueRow) error {
	if len(rows) == 0 {
		return nil
	}
	err := db.st.Update(ctx, func(tx store.Tx) error {
		for _, row := range rows {
			if err := db.sweepRow(tx, row); err != nil {
				return err
			}
		}
		return nil
	})
	switch {
	case err == nil:
		db.stats.Swept.Add(int64(len(rows)))
		return nil
	case tidegate.ErrorCode(err) != tidegate.Corrupt:
		return err
	case len(rows) == 1:
		db.log.ErrorContext(ctx, "what has expired cannot be removed", "error", err)
		return nil
	}
	for i := range rows {
		if err := db.sweepTogether(ctx, rows[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// anyCollection returns the collection, also one that is not configured now: it has keys, but no sync function.
func (db *Database) anyCollection(id store.Collection) *collection {
	if c := db.byID[id]; c != nil {
		return c
	}
	return &collection{space: db.space, id: id, routes: db.routes}
}

// sweepRow removes a body or a local document, and the row.
func (db *Database) sweepRow(tx store.Tx, row dueRow) error {
	c := db.anyCollection(row.coll)
	if err := tx.Delete(row.key); err != nil {
		return err
	}
	if row.what == expireBody {
		return db.sweepBody(tx, c, row)
	}
	stored, err := tx.Get(c.localKey(row.id))
	if err != nil || stored == nil {
		return err
	}
	l, err := parseLocal(stored)
	if err != nil {
		return err
	}
	if l.expiry.UnixMilli() != row.at.UnixMilli() {
		return nil // it was used since
	}
	return c.dropLocal(tx, row.id, l)
}

// sweepBody removes the body of a revision that is no leaf.
func (db *Database) sweepBody(tx store.Tx, c *collection, row dueRow) error {
	stored, err := c.stored(tx, row.id)
	if err != nil {
		return err
	}
	if stored != nil {
		head, err := parseHead(stored)
		if err != nil {
			return err
		}
		tree, _, err := tidegate.ParseRevTree(head.rest)
		if err != nil {
			return err
		}
		if i, ok := tree.Find(row.rev); ok && tree.IsLeaf(i) {
			return nil // purged and written again since
		}
	}
	key := c.bodyKey(row.id, row.rev)
	old, err := tx.Get(key)
	if err != nil || old == nil {
		return err
	}
	var gone body
	if hasAttachments(old) {
		if gone, err = parseBody(append([]byte(nil), old...)); err != nil {
			return err
		}
	}
	if err := tx.Delete(key); err != nil {
		return err
	}
	if len(gone.attachments) == 0 {
		return nil
	}
	_, err = db.dropRefs(tx, c, row.id, contentKeys(gone.attachments))
	return err
}

func contentKeys(attachments map[string]tidegate.Attachment) map[blob.Key]bool {
	keys := make(map[blob.Key]bool, len(attachments))
	for _, a := range attachments {
		keys[a.Key] = true
	}
	return keys
}

// dropRefs removes the document's references to those of the keys that no stored body of it has, and content
// that nothing refers to any more from the store. It returns the keys that lost their last reference and
// whose content, if it is anywhere, is in the blob store.
func (db *Database) dropRefs(tx store.Tx, c *collection, id string, keys map[blob.Key]bool) (files []blob.Key, err error) {
	err = eachBody(tx, c, id, func(_ string, y *body) error {
		for _, a := range y.attachments {
			delete(keys, a.Key)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for key := range keys {
		if err := tx.Delete(c.refKey(key, id)); err != nil {
			return nil, err
		}
		if used, err := db.referred(tx, key); err != nil || used {
			if err != nil {
				return nil, err
			}
			continue
		}
		data, err := tx.Get(db.blobKey(key))
		if err != nil {
			return nil, err
		}
		if data == nil {
			files = append(files, key)
			continue
		}
		if err := tx.Delete(db.blobKey(key)); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// referred reports whether any document refers to the content.
func (db *Database) referred(r store.Reader, key blob.Key) (bool, error) {
	it := r.Scan(store.Prefix(db.refPrefix(key)))
	defer it.Close()
	return it.Next(), it.Err()
}

// expiryCheck makes a write conditional on the document's being due at a time. The zero value is no
// condition.
type expiryCheck struct{ at time.Time }

func (e expiryCheck) holds(b *base) bool {
	return e.at.IsZero() || b.rec.expiry.Equal(e.at)
}

// expireDoc makes a document whose time has come a tombstone: all its branches, the current one last. A sync
// function that refuses does not keep it alive.
func (db *Database) expireDoc(ctx context.Context, row dueRow) error {
	h := db.Admin(row.coll)
	var leaves []tidegate.RevID // live ones, in winner order
	err := db.st.View(ctx, func(r store.Reader) error {
		rec, err := readRecord(r, h.coll, row.id)
		if err != nil || rec == nil || !rec.expiry.Equal(row.at) {
			return err
		}
		for _, leaf := range rec.tree.Leaves() {
			if !leaf.Deleted() || len(leaves) == 0 {
				leaves = append(leaves, leaf.ID)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(leaves) == 0 { // the document is gone or has another time
		return db.dropStaleExpiry(ctx, h, row)
	}
	for i := len(leaves) - 1; i >= 0; i-- {
		w := &Write{ID: row.id, Deleted: true, NewEdits: true, Parent: leaves[i]}
		res, err := h.put(ctx, &job{h: h, w: w, expires: expiryCheck{row.at}, force: true})
		switch {
		case tidegate.ErrorCode(err) == tidegate.Conflict, err == nil && res.Rev.IsZero():
			return nil // it is being written; the next sweep looks again
		case err != nil:
			return err
		}
	}
	db.stats.DocsExpired.Add(1)
	return nil
}

// dropStaleExpiry removes a row that no document has, nor will have when an online resync becomes visible.
func (db *Database) dropStaleExpiry(ctx context.Context, h *Handle, row dueRow) error {
	return db.st.Update(ctx, func(tx store.Tx) error {
		expires, err := h.coll.expires(tx, row.id, row.at)
		if err != nil || expires {
			return err
		}
		return tx.Delete(row.key)
	})
}
