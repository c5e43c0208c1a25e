package database_test

import (
	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
)

// sessionPouch is a PouchDB's two replications, in either order.
func (d *device) sessionPouch() {
	h := d.handle()
	steps := []func(*database.Handle) bool{d.pullPouch, d.pushPouch}
	if d.m.rng.IntN(2) == 0 {
		steps[0], steps[1] = steps[1], steps[0]
	}
	for _, step := range steps {
		if d.m.broken != "" || !step(h) {
			return
		}
	}
}

func (d *device) pullPouch(h *database.Handle) bool {
	m := d.m
	_, v := d.checkpoint(h, database.ClientCouch, &d.pull)
	rewound := v.Kind.Reset()
	verdict, err := m.e.db.JudgeSince(m.t.Context(), d.pull.since, false)
	m.must(err)
	if verdict.Kind.Reset() { // the request is answered by a feed that starts at nothing
		if r := d.resets[d.pull.id]; !r.running {
			d.told(d.pull.id, verdict, nil)
			r.unseen = true
		}
		d.pull.since, rewound = tidegate.Since{}, true
	}
	feed := d.feed(h, d.pull.since, rewound, false)
	defer feed.Close()
	for {
		entries := d.page(feed)
		if len(entries) == 0 {
			break
		}
		for i := range entries {
			d.takePouch(h, &entries[i])
			d.pull.since = entries[i].Seq
			if d.breaks() {
				m.logf("%s: connection breaks at %s", d.name, entries[i].Seq)
				return false
			}
		}
		if m.rng.IntN(3) == 0 {
			d.store(h, database.ClientCouch, &d.pull)
		}
	}
	d.store(h, database.ClientCouch, &d.pull)
	return true
}

// takePouch takes the leaves of an entry in.
func (d *device) takePouch(h *database.Handle, c *tidegate.Change) {
	m := d.m
	for _, rev := range c.Revs {
		doc, err := h.Get(m.t.Context(), c.ID, database.GetOptions{Rev: rev})
		if tidegate.ErrorCode(err) == tidegate.NotFound && err != nil {
			continue
		}
		m.must(err)
		if doc.Removed && !doc.Deleted {
			continue
		}
		l := d.docs[c.ID]
		if l == nil {
			l = &localDoc{tree: &tidegate.RevTree{}, bodies: map[tidegate.RevID][]byte{}}
			d.docs[c.ID] = l
		}
		flags := tidegate.RevFlags(0)
		if doc.Deleted {
			flags = tidegate.RevDeleted
		}
		_, added, err := l.tree.AddHistory(doc.History(0), tidegate.Rev{ID: rev, Flags: flags})
		m.must(err)
		if added {
			l.bodies[rev] = doc.Body
			d.log = append(d.log, c.ID)
			m.logf("%s: %s: gets %s %s deleted=%v", d.name, c.Seq, c.ID, rev, doc.Deleted)
		}
	}
}

func (d *device) pushPouch(h *database.Handle) bool {
	m := d.m
	if missing, _ := d.checkpoint(h, database.ClientCouch, &d.push); missing {
		m.logf("%s: pushes from the beginning", d.name)
	}
	for d.push.at < len(d.log) {
		end := min(d.push.at+1+m.rng.IntN(3), len(d.log))
		for _, id := range d.log[d.push.at:end] {
			d.pushDoc(h, id)
			if m.broken != "" {
				return false
			}
			if d.breaks() {
				m.logf("%s: connection breaks while it pushes", d.name)
				return false
			}
		}
		d.push.at = end
		if m.rng.IntN(2) == 0 {
			d.store(h, database.ClientCouch, &d.push)
		}
	}
	d.store(h, database.ClientCouch, &d.push)
	return true
}

// pushDoc pushes those leaves of a document that the server lacks.
func (d *device) pushDoc(h *database.Handle, id string) {
	m := d.m
	l := d.docs[id]
	req := database.DiffRequest{ID: id}
	for _, leaf := range l.tree.Leaves() {
		req.Revs = append(req.Revs, leaf.ID)
	}
	diff, err := h.RevsDiff(m.t.Context(), []database.DiffRequest{req})
	m.must(err)
	for _, rev := range diff[0].Missing {
		i, _ := l.tree.Find(rev)
		hist := l.tree.History(i, 0)
		before := m.dead[id]
		stale := !m.made[rev] || m.acked[id][rev]
		res := h.PutAll(m.t.Context(), []*database.Write{{
			ID: id, Body: l.bodies[rev], Deleted: l.tree.At(i).Deleted(), History: hist, BulkPush: true,
		}})[0]
		if res.Err != nil {
			m.violated("2: %s: a row of a bulk push failed: %v", d.name, res.Err)
			return
		}
		m.logf("%s: pushes %s %s deleted=%v: closed=%v existed=%v", d.name, id, rev, l.tree.At(i).Deleted(), res.Closed, res.Existed)
		d.acknowledged(id, rev, stale, before, hist, &res.Written)
	}
}
