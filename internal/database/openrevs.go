package database

import (
	"context"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// maxOpenRevs bounds how many revisions one call answers.
const maxOpenRevs = 1000

// maxOpenRevsBytes bounds the bodies that one call holds at once.
const maxOpenRevsBytes = 64 << 20

// OpenRevs returns revisions of a document: all leaves, deleted ones included, if revs is nil, else those
// named, in order; with latest a named one that is no leaf is replaced by the leaves that descend from it. A
// revision that the reader may not read comes redacted; one that is not there as Missing (gateway-rest.md
// §11.3, open_revs).
//
// NotFound "missing": revs is nil and there is no document. TooLarge: more than can be answered at once.
func (h *Handle) OpenRevs(ctx context.Context, id string, revs []tidegate.RevID, latest bool) ([]RevResult, error) {
	if len(revs) > maxOpenRevs {
		return nil, errTooManyRevs
	}
	var results []RevResult
	err := h.view(ctx, func(r store.Reader) error {
		rec, err := readRecord(r, h.coll, id)
		if err != nil {
			return err
		}
		switch {
		case rec == nil && revs == nil:
			return tidegate.ErrMissing
		case rec == nil:
			results = allMissing(revs)
			return nil
		}
		results, err = h.openRevs(r, id, rec, revs, latest)
		return err
	})
	for _, res := range results {
		if res.Doc != nil {
			h.countRead(res.Doc)
		}
	}
	return results, err
}

var errTooManyRevs = tidegate.Errorf(tidegate.TooLarge, "too many revisions at once")

func allMissing(revs []tidegate.RevID) []RevResult {
	results := make([]RevResult, len(revs))
	for i, rev := range revs {
		results[i].Missing = rev
	}
	return results
}

func (h *Handle) openRevs(r store.Reader, id string, rec *record, revs []tidegate.RevID, latest bool) ([]RevResult, error) {
	var results []RevResult
	bytes := 0
	seen := map[int]bool{}
	add := func(i int) error {
		if seen[i] {
			return nil
		}
		seen[i] = true
		doc, err := h.revision(r, id, rec, i)
		if err != nil {
			return err
		}
		if doc == nil {
			results = append(results, RevResult{Missing: rec.tree.At(i).ID})
			return nil
		}
		if bytes += len(doc.Body); bytes > maxOpenRevsBytes || len(results) >= maxOpenRevs {
			return errTooManyRevs
		}
		results = append(results, RevResult{Doc: doc})
		return nil
	}
	if revs == nil {
		for i := range rec.tree.Leaves() {
			if err := add(i); err != nil {
				return nil, err
			}
		}
		return results, nil
	}
	for _, rev := range revs {
		i, ok := rec.tree.Find(rev)
		switch {
		case !ok:
			results = append(results, RevResult{Missing: rev})
			continue
		case !latest:
			clear(seen) // what is named twice is answered twice
		}
		for _, k := range rec.targets(i, latest) {
			if err := add(k); err != nil {
				return nil, err
			}
		}
	}
	return results, nil
}

// targets returns what stands for revision i: itself, or the leaves that descend from it.
func (rec *record) targets(i int, latest bool) []int {
	if !latest || rec.tree.IsLeaf(i) {
		return []int{i}
	}
	var leaves []int
	for leaf := range rec.tree.Leaves() {
		if rec.tree.IsAncestor(i, leaf) {
			leaves = append(leaves, leaf)
		}
	}
	return leaves
}
