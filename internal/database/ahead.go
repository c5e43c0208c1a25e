package database

import (
	"context"

	"github.com/tidegate/tidegate/internal/store"
)

// readAhead is what a write starts from, read in one round trip with that of others.
type readAhead struct {
	base *base
	err  error
}

// readAhead reads what jobs of different documents start from: where the store is far away two round trips do for all of them. Jobs for
// which that fails as a whole read for themselves, and say why.
func (h *Handle) readAhead(ctx context.Context, jobs []*job) {
	sound := make([]*job, 0, len(jobs))
	ids := make([]string, 0, len(jobs))
	for _, j := range jobs {
		if j.check() == nil { // others are refused by prepare
			sound, ids = append(sound, j), append(ids, j.w.ID)
		}
	}
	jobs = sound
	read := make([]*readAhead, len(jobs))
	err := h.viewDocs(ctx, ids, func(r store.Reader) error {
		var bodies [][]byte
		for i, j := range jobs {
			b, err := j.readRecord(r)
			read[i] = &readAhead{b, err}
			if err != nil {
				continue
			}
			if key := b.oldKey(h.coll, j.w.ID); key != nil {
				bodies = append(bodies, key)
			}
		}
		r, err := store.Fetch(r, bodies)
		if err != nil {
			return err
		}
		for i, j := range jobs {
			if a := read[i]; a.err == nil && !a.base.known {
				a.err = a.base.findOld(r, h.coll, j.w.ID)
			}
		}
		return nil
	})
	if err != nil {
		return
	}
	for i, j := range jobs {
		j.ahead = read[i]
	}
}
