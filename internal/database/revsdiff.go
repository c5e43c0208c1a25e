package database

import (
	"context"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// DiffRequest is one document of _revs_diff.
type DiffRequest struct {
	ID   string
	Revs []tidegate.RevID
}

// DiffResult is what a document lacks; Missing is empty if nothing.
type DiffResult struct {
	ID                string
	Missing           []tidegate.RevID
	PossibleAncestors []tidegate.RevID
}

// RevsDiff tells which of the revisions are not here, document by document in the order of the request
// (gateway-rest.md §13.4). Access is not asked for: whoever knows a revision's ID learns only whether it
// need be sent.
func (h *Handle) RevsDiff(ctx context.Context, docs []DiffRequest) ([]DiffResult, error) {
	results := make([]DiffResult, len(docs))
	reset, err := h.inReset(ctx)
	if err != nil {
		return nil, err
	}
	err = h.db.st.View(ctx, func(r store.Reader) error {
		r, err := h.coll.routes.Pin(r)
		if err != nil {
			return err
		}
		for i, doc := range docs {
			results[i].ID = doc.ID
			tree := &tidegate.RevTree{}
			stored, err := h.coll.stored(r, doc.ID)
			if err != nil {
				return err
			}
			if stored != nil {
				head, err := parseHead(stored)
				if err != nil {
					return err
				}
				if tree, _, err = tidegate.ParseRevTree(head.rest); err != nil {
					return err
				}
			}
			if reset && stored == nil { // what was purged and a client still has is not asked for
				guard, err := h.coll.readGuard(r, doc.ID)
				if err != nil {
					return err
				}
				if guard != nil {
					results[i].Missing, _ = guard.tree.RevsDiff(doc.Revs)
					continue
				}
			}
			results[i].Missing, results[i].PossibleAncestors = tree.RevsDiff(doc.Revs)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return results, nil
}
