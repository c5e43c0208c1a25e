package database_test

import (
	"net/http"
	"slices"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
)

// sessionLite is a connection of a Couchbase Lite.
func (d *device) sessionLite() {
	h := d.handle().ForBLIP()
	missing, v := d.checkpoint(h, database.ClientBLIP, &d.pull)
	d.offerAll = missing
	pulled := false
	pull := func() bool { pulled = d.pullLite(h, v.Kind.Reset()); return pulled }
	push := func() bool { return d.pushLite(h) }
	steps := []func() bool{pull, push}
	if d.m.rng.IntN(3) == 0 {
		slices.Reverse(steps)
	}
	for _, step := range append(steps, push) { // what a pull resolved is pushed
		if d.m.broken != "" || !step() {
			return
		}
	}
	d.store(h, database.ClientBLIP, &d.pull)
	if pulled && !d.cut { // the connection is closed in the normal way
		d.m.must(h.FinishReset(d.m.t.Context(), database.ClientRef{Kind: database.ClientBLIP, ID: d.pull.id}))
	}
}

// pullLite pulls until the device has caught up; false: the connection broke.
func (d *device) pullLite(h *database.Handle, rewound bool) bool {
	m := d.m
	verdict, err := m.e.db.JudgeSince(m.t.Context(), d.pull.since, false)
	m.must(err)
	if verdict.Kind.Reset() && m.fault != faultSameEpoch {
		m.violated("9: %s has read its checkpoint, and %s is not honoured: %s", d.name, d.pull.since, verdict.Reason)
	}
	feed := d.feed(h, d.pull.since, rewound, true)
	defer feed.Close()
	for {
		entries := d.page(feed)
		if len(entries) == 0 {
			return true
		}
		for i := range entries {
			d.takeLite(h, &entries[i])
			d.pull.since = entries[i].Seq
			if d.breaks() {
				d.pull.since = entries[i].Seq
				m.logf("%s: connection breaks at %s", d.name, d.pull.since)
				return false
			}
		}
		if m.rng.IntN(4) == 0 {
			d.store(h, database.ClientBLIP, &d.pull)
		}
	}
}

// takeLite takes an entry of the feed in.
func (d *device) takeLite(h *database.Handle, c *tidegate.Change) {
	if len(c.Revs) == 0 {
		return
	}
	m := d.m
	if (c.Left || c.Revoked) && !c.Deleted {
		if l := d.docs[c.ID]; l != nil && !l.dirty {
			delete(d.docs, c.ID)
			m.logf("%s: %s: %s is taken away", d.name, c.Seq, c.ID)
		}
		return
	}
	sent, err := h.Send(m.t.Context(), []database.Request{{ID: c.ID, Rev: c.Revs[0].String()}}, true, 1<<20)
	m.must(err)
	doc := sent[0].Doc
	if doc == nil && !c.Left { // something newer follows
		return
	}
	if doc == nil || doc.Removed && !doc.Deleted {
		if l := d.docs[c.ID]; l != nil && !l.dirty {
			delete(d.docs, c.ID)
		}
		return
	}
	m.logf("%s: %s: gets %s %s deleted=%v", d.name, c.Seq, c.ID, doc.Rev, doc.Deleted)
	d.merge(c.ID, doc.Rev, doc.History(0), doc.Body, doc.Deleted)
}

// merge brings a revision of the server into the local database; conflicts are resolved as Couchbase Lite does by default: a deletion
// wins, then the higher generation.
func (d *device) merge(id string, rev tidegate.RevID, hist []tidegate.RevID, body []byte, gone bool) {
	m := d.m
	l := d.docs[id]
	theirs := &localDoc{cur: rev, hist: hist, gone: gone, remote: rev, bodies: map[tidegate.RevID][]byte{rev: body}}
	switch {
	case l == nil && gone:
	case l == nil, l.cur == rev, slices.Contains(hist, l.cur):
		d.docs[id] = theirs
	case slices.Contains(l.hist, rev):
		l.remote = rev // what is here came after it
	case !l.dirty, gone, !l.gone && rev.Generation >= l.cur.Generation:
		d.docs[id] = theirs
	default: // what is here stays, as a new revision on top of theirs
		mine := l.bodies[l.cur]
		next := m.newRev(rev)
		l.hist = append([]tidegate.RevID{next}, hist...)
		l.cur, l.remote, l.dirty = next, rev, true
		l.bodies = map[tidegate.RevID][]byte{next: mine}
		m.logf("%s: resolves %s: %s on %s", d.name, id, next, rev)
	}
	if l := d.docs[id]; l != nil && l.gone && !l.dirty {
		delete(d.docs, id) // Couchbase Lite keeps the tombstone; it says nothing that the server does not know
	}
}

// pushLite offers what is new here, or everything; false: the connection broke.
func (d *device) pushLite(h *database.Handle) bool {
	m := d.m
	for _, id := range modelIDs {
		l := d.docs[id]
		if l == nil || !l.dirty && !d.offerAll {
			continue
		}
		parent := ""
		if !d.offerAll && !l.remote.IsZero() {
			parent = l.remote.String()
		}
		verdict := d.propose(h, id, l, parent)
		if verdict.Status == http.StatusConflict {
			if rev, err := tidegate.ParseRevID(verdict.Rev); err == nil && slices.Contains(l.hist, rev) {
				verdict = d.propose(h, id, l, verdict.Rev)
			}
		}
		switch verdict.Status {
		case http.StatusNotModified:
			l.remote, l.dirty = l.cur, false
		case 0:
			d.sendLite(h, id, l)
		}
		if d.breaks() {
			m.logf("%s: connection breaks while it pushes", d.name)
			return false
		}
	}
	d.offerAll = false
	return true
}

func (d *device) propose(h *database.Handle, id string, l *localDoc, parent string) database.Verdict {
	verdicts, err := h.Propose(d.m.t.Context(), []database.Proposal{{ID: id, Rev: l.cur.String(), Parent: parent}})
	d.m.must(err)
	d.m.logf("%s: offers %s %s on %q: %d %s", d.name, id, l.cur, parent, verdicts[0].Status, verdicts[0].Rev)
	return verdicts[0]
}

func (d *device) sendLite(h *database.Handle, id string, l *localDoc) {
	m := d.m
	before := m.dead[id]
	res := h.PutAll(m.t.Context(), []*database.Write{{ID: id, Body: l.bodies[l.cur], Deleted: l.gone, History: l.hist}})[0]
	if tidegate.ErrorCode(res.Err) == tidegate.Conflict {
		m.logf("%s: %s %s is refused", d.name, id, l.cur)
		return
	}
	m.must(res.Err)
	d.acknowledged(id, l.cur, !l.dirty, before, l.hist, &res.Written)
	l.remote, l.dirty = l.cur, false
}

// compare compares what the device holds with what its user may see (invariant 8).
func (d *device) compare() {
	m := d.m
	h := d.handle()
	for _, id := range modelIDs {
		var want, have tidegate.RevID
		if doc, err := h.Get(m.t.Context(), id, database.GetOptions{}); err == nil {
			want = doc.Rev
		}
		if l := d.docs[id]; l != nil {
			have = l.shown()
			if l.dirty && d.user == "half" && want.IsZero() {
				continue // the document has left the user's sight: nobody tells him what his edit is in conflict with
			}
			if l.dirty {
				m.violated("8: %s could not push %s, %s", d.name, id, l.cur)
			}
		}
		if want != have {
			m.violated("8: %s has %s of %s, the server %s", d.name, have, id, want)
		}
	}
}

// shown is the revision that the device's app sees; zero for none.
func (l *localDoc) shown() tidegate.RevID {
	if l.tree == nil {
		if l.gone {
			return tidegate.RevID{}
		}
		return l.cur
	}
	if i, ok := l.tree.Winner(); ok && !l.tree.At(i).Deleted() {
		return l.tree.At(i).ID
	}
	return tidegate.RevID{}
}
