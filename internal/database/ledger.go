package database

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/changes"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/blob"
)

// The ledger is the memory of deletions that outlives their history: documents' own records in a compact form (DESIGN.md, The
// ledger).

// ledgerAncestors is how many ancestors of a tombstone are remembered besides the oldest one, and how many revisions of other
// branches.
const ledgerAncestors = 20

// bodiless reports whether a leaf is a tombstone of the ledger, which has no stored body.
func bodiless(leaf *tidegate.Rev) bool {
	const both = tidegate.RevDeleted | tidegate.RevBodyGone
	return leaf.Flags&both == both
}

// compact reports whether the record is one of the ledger.
func (rec *record) compact() bool {
	for i := range rec.tree.Len() {
		if rec.tree.IsLeaf(i) && !bodiless(rec.tree.At(i)) {
			return false
		}
	}
	return rec.tree.Len() > 0
}

// isCompact reads that off a stored record.
func isCompact(stored []byte) bool { return len(stored) > 1 && stored[1]&recCompact != 0 }

// remembered returns the record of a deleted document in the form of the ledger.
func (rec *record) remembered() (*record, error) {
	tree, err := rememberedTree(rec.tree)
	if err != nil {
		return nil, err
	}
	c := *rec
	c.tree = tree
	c.channels, _ = collapsedPeriods(rec.channels)
	return &c, nil
}

// rememberedTree keeps every leaf, ledgerAncestors ancestors of the current one and its root, and a few ancestors of the others.
func rememberedTree(old *tidegate.RevTree) (*tidegate.RevTree, error) {
	tree := &tidegate.RevTree{}
	first, left := true, ledgerAncestors
	for i, leaf := range old.Leaves() {
		history := old.History(i, 0)
		keep := history
		if n := ledgerAncestors + 1; first && len(history) > n+1 {
			keep = append(slices.Clone(history[:n]), history[len(history)-1])
		} else if !first {
			keep = history[:min(len(history), 1+max(left, 0))]
			left -= len(keep)
		}
		first = false
		rev := tidegate.Rev{ID: leaf.ID, Flags: leaf.Flags&^tidegate.RevAttachments | tidegate.RevBodyGone, Channels: leaf.Channels}
		if _, _, err := tree.AddHistory(keep, rev); err != nil {
			return nil, fmt.Errorf("compact revisions: %w", err)
		}
	}
	for i := range tree.Len() {
		r := tree.At(i)
		if k, ok := old.Find(r.ID); ok && !tree.IsLeaf(i) {
			r.Flags = old.At(k).Flags&^tidegate.RevAttachments | tidegate.RevBodyGone
		}
	}
	return tree, nil
}

// collapsedPeriods makes one period of each channel's, from the first to the last. changed: some had more.
func collapsedPeriods(channels []channelState) (out []channelState, changed bool) {
	out = slices.Clone(channels)
	for i := range out {
		c := &out[i]
		if n := len(c.periods); n > 1 {
			c.periods = []changes.Period{{Start: c.periods[0].Start, End: c.periods[n-1].End}}
			changed = true
		}
	}
	return out, changed
}

// routedAs are the outputs that make the record what it is.
func routedAs(rec *record, channels tidegate.ChannelSet) outputs {
	out := outputs{channels: channels, expiry: rec.expiry, hasExpiry: true}
	if len(rec.grants.Access) > 0 {
		out.access = make(map[string]tidegate.ChannelSet, len(rec.grants.Access))
		for who, names := range rec.grants.Access {
			out.access[who] = tidegate.NewChannelSet(namesOf(names)...)
		}
	}
	if len(rec.grants.Roles) > 0 {
		out.roles = make(map[string][]string, len(rec.grants.Roles))
		for who, names := range rec.grants.Roles {
			out.roles[who] = namesOf(names)
		}
	}
	return out
}

func namesOf(grants tidegate.Grants) []string {
	names := make([]string, 0, len(grants))
	for name := range grants {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// LedgerStats counts the deletions that are remembered without their history.
type LedgerStats struct {
	Rows int64
	// Oldest is the time of the oldest deletion among them, or an earlier one since that was written over; zero: there are none.
	Oldest time.Time
}

// ledgerFormat is the first byte of the counter's row: format, rows, oldest.
const ledgerFormat = 1

func ledgerKey(space store.Space) store.Key {
	return store.NewKey(space, store.KindMeta).Name("ledger")
}

func readLedger(r store.Reader, space store.Space) (LedgerStats, error) {
	stored, err := r.Get(ledgerKey(space))
	if err != nil {
		return LedgerStats{}, fmt.Errorf("read the ledger's counter: %w", err)
	}
	if stored == nil {
		return LedgerStats{}, nil
	}
	p := reader{rest: stored}
	format := p.byte()
	l := LedgerStats{Rows: int64(p.uvarint()), Oldest: p.time()}
	if format != ledgerFormat || p.failed || l.Rows < 0 {
		return LedgerStats{}, tidegate.Errorf(tidegate.Corrupt, "the stored counter of the ledger does not make sense")
	}
	return l, nil
}

func writeLedger(tx store.Tx, space store.Space, l LedgerStats) error {
	if l.Rows <= 0 {
		return tx.Delete(ledgerKey(space))
	}
	return tx.Put(ledgerKey(space), appendTime(binary.AppendUvarint([]byte{ledgerFormat}, uint64(l.Rows)), l.Oldest))
}

// countLedger counts rows into the ledger, or out of it. oldest is the time of the oldest that came.
func countLedger(tx store.Tx, space store.Space, n int64, oldest time.Time) error {
	l, err := readLedger(tx, space)
	if err != nil || n == 0 {
		return err
	}
	l.Rows += n
	if n > 0 && (l.Oldest.IsZero() || oldest.Before(l.Oldest)) {
		l.Oldest = oldest
	}
	return writeLedger(tx, space, l)
}

// remember makes the records of deleted documents compact: those for which only, if not nil, says so. It returns how many were
// not so yet, and content in the blob store that lost its last reference.
func (db *Database) remember(tx store.Tx, c *collection, ids []string, only func(*recordHead) bool) (n int64, files []blob.Key, err error) {
	var oldest time.Time
	for _, id := range ids {
		stored, err := c.stored(tx, id)
		if err != nil {
			return 0, nil, err
		}
		if stored == nil {
			continue
		}
		head, err := parseHead(stored)
		if err != nil {
			return 0, nil, fmt.Errorf("read document %q: %w", id, err)
		}
		if head.flags&recDeleted == 0 || head.flags&recCompact != 0 || only != nil && !only(&head) {
			continue
		}
		keys, err := db.rememberOne(tx, c, id, stored)
		if err != nil {
			return 0, nil, fmt.Errorf("remember the deletion of %q: %w", id, err)
		}
		if n++; oldest.IsZero() || head.saved.Before(oldest) {
			oldest = head.saved
		}
		files = append(files, keys...)
	}
	return n, files, countLedger(tx, db.space, n, oldest)
}

// rememberOne makes one record compact, also in the generation that a run builds, and removes the document's bodies. The rows of
// the feed's index stay as they are.
func (db *Database) rememberOne(tx store.Tx, c *collection, id string, stored []byte) (files []blob.Key, err error) {
	routing, err := c.routes.Read(tx)
	if err != nil {
		return nil, err
	}
	if err := putRemembered(tx, c.docKey(routing.Live(c.id), id), stored); err != nil {
		return nil, err
	}
	if next, ok := routing.Next(c.id); ok {
		key := c.docKey(next, id)
		also, err := tx.Get(key)
		if err == nil && also != nil {
			err = putRemembered(tx, key, also)
		}
		if err != nil {
			return nil, err
		}
	}
	return db.dropBodies(tx, c, id, func(string, *body) (bool, error) { return true, nil })
}

func putRemembered(tx store.Tx, key store.Key, stored []byte) error {
	rec, err := parseRecord(stored)
	if err != nil {
		return err
	}
	if rec, err = rec.remembered(); err != nil {
		return err
	}
	return tx.Put(key, rec.appendBinary(nil))
}

// dropBodies removes those bodies of a document for which drop says so, and what they refer to. It returns content in the blob
// store that lost its last reference.
func (db *Database) dropBodies(tx store.Tx, c *collection, id string, drop func(rev string, y *body) (bool, error)) (files []blob.Key, err error) {
	keys := map[blob.Key]bool{}
	var bodies []store.Key
	err = eachBody(tx, c, id, func(rev string, y *body) error {
		yes, err := drop(rev, y)
		if err != nil || !yes {
			return err
		}
		for _, a := range y.attachments {
			keys[a.Key] = true
		}
		bodies = append(bodies, c.bodyPrefix(id).Name(rev))
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, key := range bodies {
		if err := tx.Delete(key); err != nil {
			return nil, err
		}
	}
	if len(keys) == 0 {
		return nil, nil
	}
	return db.dropRefs(tx, c, id, keys)
}

// sweepFiles removes content from the blob store that lost its last reference.
func (db *Database) sweepFiles(ctx context.Context, files []blob.Key) error {
	for _, key := range files {
		if _, err := db.removeBlob(ctx, key); err != nil {
			return err
		}
	}
	return nil
}
