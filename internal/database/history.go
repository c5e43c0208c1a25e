package database

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/blob"
)

// Keeper works on the history of a database (device-sync.md §8.2, §8.6): what clients were, how documents came to be what they are,
// and what is remembered of deletions. It needs the stores only, so it works while the database is offline as well as beside its
// readers and writers. Every method may be broken off anywhere and begun again.
type Keeper struct{ db *Database }

// KeeperOptions say which database a Keeper works on.
type KeeperOptions struct {
	Name  string // for logs
	Space store.Space
	// Collections are the numbers of its collections.
	Collections []store.Collection
	Now         func() time.Time // time.Now if nil
	Logger      *slog.Logger     // discards if nil
}

// NewKeeper returns the Keeper of a database that need not be open.
func NewKeeper(st store.Store, blobs blob.Store, o KeeperOptions) *Keeper {
	opts := Options{Name: o.Name, Space: o.Space, Now: o.Now, Logger: o.Logger}.withDefaults()
	db := &Database{
		opts: opts, space: o.Space, st: st, blobs: blobs, stats: opts.Stats, log: opts.Logger,
		routes: store.NewRoutingCache(o.Space), byID: map[store.Collection]*collection{}, blobGC: new(sync.RWMutex),
	}
	db.clients.init(db)
	for _, id := range o.Collections {
		if db.byID[id] == nil {
			c := &collection{space: o.Space, id: id, routes: db.routes}
			db.collections, db.byID[id] = append(db.collections, c), c
		}
	}
	return &Keeper{db}
}

// Keeper returns the Keeper of the database.
func (db *Database) Keeper() *Keeper { return &Keeper{db} }

// Progress is told how much of a step is done, after every few items. An error ends the step.
type Progress func(done int64) error

// tell is p, which may be nil.
func (p Progress) tell(done int64) error {
	if p == nil {
		return nil
	}
	return p(done)
}

// historyBatch is how many documents one transaction changes.
const historyBatch = 32

// CountDocuments returns how many documents there are, deleted ones included: the total of Remember and Collapse.
func (k *Keeper) CountDocuments(ctx context.Context) (n int64, err error) {
	for _, c := range k.db.collections {
		err := k.eachDoc(ctx, c, func(*recordHead) bool { n++; return false }, nil, nil)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// eachDoc walks the documents of a collection and gives those that pick takes to do, a few IDs at a time. passed, if not nil, is told
// how many were looked at, after each page.
func (k *Keeper) eachDoc(ctx context.Context, c *collection, pick func(*recordHead) bool, do func(ids []string) error, passed func(n int64) error) error {
	after, more, seen := "", true, int64(0)
	count := func(h *recordHead) bool { seen++; return pick(h) }
	for more {
		var ids []string
		var err error
		if ids, after, more, err = c.pickDocs(ctx, k.db.st, after, count); err != nil {
			return err
		}
		for len(ids) > 0 {
			n := min(historyBatch, len(ids))
			if err := do(ids[:n]); err != nil {
				return err
			}
			ids = ids[n:]
		}
		if passed != nil {
			if err := passed(seen); err != nil {
				return err
			}
		}
	}
	return nil
}

// Remember makes ledger records of the deleted documents whose sequences are above after and not above through; if that is 0 of all
// above after. It returns how many were not so before.
func (k *Keeper) Remember(ctx context.Context, after, through tidegate.Seq, p Progress) (n int64, err error) {
	old := func(h *recordHead) bool {
		return h.flags&(recDeleted|recCompact) == recDeleted && h.seq > after && (through == 0 || h.seq <= through)
	}
	passed := int64(0)
	for _, c := range k.db.collections {
		before := passed
		err := k.eachDoc(ctx, c, old, func(ids []string) error {
			return k.db.rememberAll(ctx, c, ids, old, func(m int64) { n += m })
		}, func(seen int64) error { passed = before + seen; return p.tell(passed) })
		if err != nil {
			return n, fmt.Errorf("remember deletions: %w", err)
		}
	}
	return n, nil
}

// Collapse removes bodies of revisions that are not current, and the history of channels: of each channel that a document was in it
// keeps the name, and that it was there from the first time to the last. Documents up to after were done before; those above through,
// if that is not 0, are left.
// It returns how many documents changed.
func (k *Keeper) Collapse(ctx context.Context, after, through tidegate.Seq, p Progress) (n int64, err error) {
	old := func(h *recordHead) bool {
		return h.flags&recCompact == 0 && h.seq > after && (through == 0 || h.seq <= through)
	}
	passed := int64(0)
	for _, c := range k.db.collections {
		before := passed
		err := k.eachDoc(ctx, c, old, func(ids []string) error {
			m, err := k.collapse(ctx, c, ids, through)
			n += m
			return err
		}, func(seen int64) error { passed = before + seen; return p.tell(passed) })
		if err != nil {
			return n, fmt.Errorf("collapse history: %w", err)
		}
	}
	return n, nil
}

// collapse does a few documents of a collection. It looks first, since most have nothing to lose.
func (k *Keeper) collapse(ctx context.Context, c *collection, ids []string, through tidegate.Seq) (n int64, err error) {
	var due []string
	err = k.db.st.View(ctx, func(r store.Reader) error {
		for _, id := range ids {
			d, err := k.collapsed(r, c, id, through)
			if err != nil {
				return err
			}
			if d.changed() {
				due = append(due, id)
			}
		}
		return nil
	})
	if err != nil || len(due) == 0 {
		return 0, err
	}
	var files []blob.Key
	err = k.db.st.Update(ctx, func(tx store.Tx) error {
		n, files = 0, files[:0]
		for _, id := range due {
			d, err := k.collapsed(tx, c, id, through)
			if err != nil {
				return err
			}
			if !d.changed() {
				continue
			}
			n++
			keys, err := k.putCollapsed(tx, c, id, d)
			if err != nil {
				return fmt.Errorf("document %q: %w", id, err)
			}
			files = append(files, keys...)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return n, k.db.sweepFiles(ctx, files)
}

// collapsedDoc is what a document loses.
type collapsedDoc struct {
	rows map[string][]byte // records that change, by their keys
	tree *tidegate.RevTree
	old  map[string]bool // bodies that go, by revision
}

func (d *collapsedDoc) changed() bool { return d != nil && (len(d.rows) > 0 || len(d.old) > 0) }

// collapsed computes that; nil if there is no such document.
func (k *Keeper) collapsed(r store.Reader, c *collection, id string, through tidegate.Seq) (*collapsedDoc, error) {
	routing, err := c.routes.Read(r)
	if err != nil {
		return nil, err
	}
	d := &collapsedDoc{rows: map[string][]byte{}, old: map[string]bool{}}
	generations := []store.Collection{routing.Live(c.id)}
	if next, ok := routing.Next(c.id); ok {
		generations = append(generations, next)
	}
	for i, physical := range generations {
		key := c.docKey(physical, id)
		stored, err := r.Get(key)
		if err != nil {
			return nil, err
		}
		if i == 0 && (stored == nil || through > 0 && recordSeq(stored) > through) {
			return nil, nil
		}
		if stored == nil {
			continue
		}
		rec, err := parseRecord(stored)
		if err != nil {
			return nil, fmt.Errorf("read document %q: %w", id, err)
		}
		if i == 0 {
			d.tree = rec.tree
		}
		var changed bool
		if rec.channels, changed = collapsedPeriods(rec.channels); changed {
			d.rows[string(key)] = rec.appendBinary(nil)
		}
	}
	return d, eachBody(r, c, id, func(text string, y *body) error {
		rev, err := tidegate.ParseRevID(text)
		if err != nil {
			return errBody
		}
		// What was stored on a branch that was closed stays: it is nowhere else if it came before there was a quarantine.
		if i, ok := d.tree.Find(rev); !ok || !d.tree.IsLeaf(i) && !y.closed {
			d.old[text] = true
		}
		return nil
	})
}

// putCollapsed stores it.
func (k *Keeper) putCollapsed(tx store.Tx, c *collection, id string, d *collapsedDoc) (files []blob.Key, err error) {
	for key, value := range d.rows {
		if err := tx.Put([]byte(key), value); err != nil {
			return nil, err
		}
	}
	if len(d.old) == 0 {
		return nil, nil
	}
	return k.db.dropBodies(tx, c, id, func(rev string, _ *body) (bool, error) {
		return d.old[rev], nil
	})
}

// LastSequence returns the last visible sequence.
func (k *Keeper) LastSequence(ctx context.Context) (tidegate.Seq, error) {
	return k.db.LastSequence(ctx)
}

// Ledger counts the deletions that are remembered.
func (k *Keeper) Ledger(ctx context.Context) (l LedgerStats, err error) {
	err = k.db.st.View(ctx, func(r store.Reader) error {
		l, err = readLedger(r, k.db.space)
		return err
	})
	return l, err
}

// LedgerBefore returns how many deletions from before a time are remembered, and the highest sequence among them: where ledger_floor
// has to be before Forget may remove them.
func (k *Keeper) LedgerBefore(ctx context.Context, t time.Time) (n int64, highest tidegate.Seq, err error) {
	for _, c := range k.db.collections {
		err := k.eachDoc(ctx, c, func(h *recordHead) bool {
			if h.flags&recCompact != 0 && h.saved.Before(t) {
				n++
				highest = max(highest, h.seq)
			}
			return false
		}, nil, nil)
		if err != nil {
			return 0, 0, err
		}
	}
	return n, highest, nil
}

// Forget removes what is remembered of deletions, and of purged documents, from before a time (ledger_retention_days).
func (k *Keeper) Forget(ctx context.Context, t time.Time, p Progress) (n int64, err error) {
	due := func(h *recordHead) bool { return h.flags&recCompact != 0 && h.saved.Before(t) }
	for _, c := range k.db.collections {
		h := &Handle{db: k.db, coll: c, bypass: true}
		err := k.eachDoc(ctx, c, due, func(ids []string) error {
			purged, err := h.purge(ctx, ids, false, due)
			n += int64(len(purged))
			return err
		}, func(int64) error { return p.tell(n) })
		if err != nil {
			return n, fmt.Errorf("forget deletions: %w", err)
		}
		if err := k.forgetGuards(ctx, c, t); err != nil {
			return n, fmt.Errorf("forget purged documents: %w", err)
		}
	}
	return n, nil
}

func (k *Keeper) forgetGuards(ctx context.Context, c *collection, t time.Time) error {
	prefix := store.NewKey(k.db.space, store.KindGuard).Collection(c.id)
	return k.db.eachRow(ctx, prefix, func(tx store.Tx, key, value []byte) error {
		head, err := parseHead(value)
		if err != nil || !head.saved.Before(t) {
			return err
		}
		return tx.Delete(key)
	})
}
