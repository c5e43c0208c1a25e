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

// aheadBytes is up to how many bytes of bodies are read ahead for one batch: small writes may replace large documents.
const aheadBytes = 16 << 20

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
		size := 0 // of the bodies, all of which are kept until their jobs' turns
		for i, j := range jobs {
			switch a := read[i]; {
			case a.err != nil || a.base.known:
			case size > aheadBytes:
				read[i] = nil // it reads for itself when it is its turn
			default:
				a.err = a.base.findOld(r, h.coll, j.w.ID)
				size += len(a.base.old.json)
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
