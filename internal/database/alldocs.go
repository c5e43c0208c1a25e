package database

import (
	"context"
	"fmt"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// AllDocsOptions say which documents are listed and what of them (gateway-rest.md §13.3).
type AllDocsOptions struct {
	IncludeDocs bool
	// Channels and Access add what the document is in and grants; Access is for administrators.
	Channels, Access bool
	// Deleted lists tombstones, too, and gives them by key; for administrators.
	Deleted bool

	// Keys, if not nil, are the documents to list, in order; the range is not used then.
	Keys []string
	// StartKey and EndKey bound the IDs; HasEndKey says that there is an end. ExclusiveEnd leaves EndKey itself
	// out. With Descending the walk goes from StartKey down to EndKey.
	StartKey, EndKey       string
	HasStartKey, HasEndKey bool
	ExclusiveEnd           bool
	Descending             bool
	Skip, Limit            int // Limit 0: all
}

// AllDocsRow is one row.
type AllDocsRow struct {
	ID       string
	Rev      tidegate.RevID
	Seq      tidegate.Seq
	Deleted  bool
	Channels tidegate.ChannelSet
	Access   map[string]tidegate.Grants // "bob" or "role:r" → channel → sequence
	Doc      *Document
	// Err, for a key that was asked for: NotFound "missing" or "deleted", or Forbidden. Only ID is set then.
	Err error
}

// Bounds of what is held for one page of a listing.
const (
	allDocsPageRows  = 1000
	allDocsPageBytes = 4 << 20
)

// AllDocs calls fn with the rows, in order. Tombstones and documents that the reader may not see are left out,
// unless they were asked for by key. fn runs outside of the store, so it may wait for a network peer; a long listing
// is therefore no snapshot. An error of fn ends the walk and is returned.
func (h *Handle) AllDocs(ctx context.Context, o AllDocsOptions, fn func(*AllDocsRow) error) error {
	w := allDocsWalk{h: h, o: o, left: o.Limit, skip: o.Skip}
	if o.Limit <= 0 {
		w.left = -1
	}
	for !w.done {
		w.rows, w.bytes = w.rows[:0], 0
		err := h.view(ctx, w.page)
		if err != nil {
			return err
		}
		for i := range w.rows {
			if err := fn(&w.rows[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// allDocsWalk is a listing under way.
type allDocsWalk struct {
	h     *Handle
	o     AllDocsOptions
	left  int // rows still wanted; negative: no limit
	skip  int
	rows  []AllDocsRow
	bytes int
	done  bool

	keys  int    // with Keys: how many are done
	after string // else: the last ID that was looked at
	begun bool
}

// full reports whether the page is.
func (w *allDocsWalk) full() bool {
	return len(w.rows) >= allDocsPageRows || w.bytes >= allDocsPageBytes
}

func (w *allDocsWalk) page(r store.Reader) error {
	if w.o.Keys != nil {
		return w.keyPage(r)
	}
	physical, err := w.h.coll.physical(r)
	if err != nil {
		return err
	}
	prefix := w.h.coll.docPrefix(physical)
	rng, ok := w.span(prefix)
	if !ok {
		w.done = true
		return nil
	}
	it := r.Scan(rng)
	defer it.Close()
	scanned := 0
	for it.Next() {
		if w.left == 0 {
			w.done = true
			return nil
		}
		id, _, err := store.CutName(it.Key()[len(prefix):])
		if err != nil {
			return err
		}
		w.after, w.begun = id, true
		row, ok, err := w.row(r, id, it.Value(), false)
		if err != nil {
			return err
		}
		if ok {
			w.add(row)
		}
		// What nobody sees is not held, but a snapshot should not be either.
		if scanned++; w.full() || scanned >= 20*allDocsPageRows {
			return nil
		}
	}
	w.done = true
	return it.Err()
}

// span is what is still to be walked.
func (w *allDocsWalk) span(prefix store.Key) (rng store.Range, ok bool) {
	rng = store.Prefix(prefix)
	rng.Reverse = w.o.Descending
	low, high := w.o.StartKey, w.o.EndKey
	hasLow, hasHigh := w.o.HasStartKey, w.o.HasEndKey
	if w.o.Descending {
		low, high, hasLow, hasHigh = high, low, hasHigh, hasLow
	}
	if hasLow {
		rng.Start = prefix.Clone().Name(low)
		if w.o.Descending && w.o.ExclusiveEnd {
			rng.Start = store.PrefixEnd(rng.Start)
		}
	}
	if hasHigh {
		rng.End = prefix.Clone().Name(high)
		if w.o.Descending || !w.o.ExclusiveEnd {
			rng.End = store.PrefixEnd(rng.End)
		}
	}
	if w.begun {
		key := prefix.Clone().Name(w.after)
		if w.o.Descending {
			rng.End = key
		} else {
			rng.Start = store.PrefixEnd(key)
		}
	}
	return rng, string(rng.Start) < string(rng.End)
}

// keyPage answers the keys that were asked for.
func (w *allDocsWalk) keyPage(r store.Reader) error {
	r, err := w.h.coll.routes.Pin(r)
	if err != nil {
		return err
	}
	for w.keys < len(w.o.Keys) && w.left != 0 {
		if w.full() {
			return nil
		}
		id := w.o.Keys[w.keys]
		w.keys++
		stored, err := w.h.coll.stored(r, id)
		if err != nil {
			return err
		}
		if stored == nil {
			w.add(AllDocsRow{ID: id, Err: tidegate.ErrMissing})
			continue
		}
		row, _, err := w.row(r, id, stored, true)
		if err != nil {
			return err
		}
		w.add(row)
	}
	w.done = true
	return nil
}

// add takes a row into the page.
func (w *allDocsWalk) add(row AllDocsRow) {
	if w.skip > 0 {
		w.skip--
		return
	}
	w.left = max(w.left-1, -1)
	w.rows = append(w.rows, row)
	w.bytes += 100 + len(row.ID)
	if row.Doc != nil {
		w.bytes += len(row.Doc.Body)
	}
}

// row makes the row of a document. ok is false if it is left out; byKey it never is.
func (w *allDocsWalk) row(r store.Reader, id string, stored []byte, byKey bool) (row AllDocsRow, ok bool, err error) {
	head, winner, err := parseCurrent(id, stored)
	if err != nil {
		return row, false, err
	}
	deleted := winner.Deleted()
	hidden := deleted && !(w.o.Deleted && w.h.IsAdmin())
	switch {
	case byKey && (hidden || !w.h.canSee(winner.Channels)):
		row = AllDocsRow{ID: id, Err: w.h.refusal(id, stored, &winner)}
		if tidegate.ErrorCode(row.Err) == tidegate.Corrupt {
			return row, false, row.Err
		}
		return row, true, nil
	case hidden, !w.h.canSee(winner.Channels):
		return row, false, nil
	}
	row = AllDocsRow{ID: id, Rev: winner.ID, Seq: head.seq, Deleted: deleted}
	if w.o.Channels {
		row.Channels = w.h.visible(winner.Channels)
	}
	if w.o.Access && w.h.IsAdmin() && head.flags&recGrants != 0 {
		rec, err := parseRecord(stored)
		if err != nil {
			return row, false, fmt.Errorf("read document %q: %w", id, err)
		}
		row.Access = rec.grants.Access
	}
	if w.o.IncludeDocs {
		if row.Doc, err = w.h.currentDoc(r, id, stored, &head, &winner); err != nil {
			return row, false, err
		}
		w.h.countRead(row.Doc)
	}
	return row, true, nil
}
