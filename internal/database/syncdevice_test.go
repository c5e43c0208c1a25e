package database_test

import (
	"fmt"
	"slices"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/changes"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/devicesync"
)

// device is a client of the model with a local database: one that speaks the Couchbase Mobile protocol as Couchbase Lite does, or that of
// CouchDB as PouchDB does with checkpoints on both sides.
type device struct {
	m          *syncModel
	name, user string
	number     int
	blip       bool

	docs map[string]*localDoc
	log  []string // of a CouchDB client: documents in the order in which they changed here

	pull, push localCheckpoint
	offerAll   bool // a Couchbase Lite whose checkpoint the server does not have offers everything

	resets map[string]*clientReset // by checkpoint
	cut    bool                    // this session's connection breaks somewhere
}

// clientReset is what the device knows of the reset of one of its checkpoints.
type clientReset struct {
	running bool // it was told to reset and has stored no checkpoint since
	at      int  // events when its last reset began
	unseen  bool // the server was shown a position and not whose it is
}

// resetting reports whether a reset is under way that the server knows of.
func (d *device) resetting() bool {
	for _, r := range d.resets {
		if r.running && !r.unseen {
			return true
		}
	}
	return false
}

// localCheckpoint is what a replication has stored on this side.
type localCheckpoint struct {
	id    string
	rev   string // of the one on the server, as far as it is known
	since tidegate.Since
	text  string
	at    int // place in the log up to which it was pushed
}

// localDoc is a document on a device. Couchbase Lite has one revision of it with its history; PouchDB has a tree.
type localDoc struct {
	tree   *tidegate.RevTree
	bodies map[tidegate.RevID][]byte

	cur    tidegate.RevID
	hist   []tidegate.RevID
	gone   bool           // cur is a tombstone
	dirty  bool           // edited here since it last was the server's
	remote tidegate.RevID // the revision that the server is known to have
}

// reset makes the device's database a new one.
func (d *device) reset() {
	d.resets = map[string]*clientReset{d.name + "-pull": {at: -1}, d.name + "-push": {at: -1}}
	d.docs, d.log = map[string]*localDoc{}, nil
	d.pull, d.push = localCheckpoint{id: d.name + "-pull"}, localCheckpoint{id: d.name + "-push"}
}

func (d *device) handle() *database.Handle { return d.m.e.as(d.user) }

// edit changes something while the device is away: it creates, edits or deletes a document.
func (d *device) edit(id string) {
	m := d.m
	l := d.docs[id]
	if d.user == "half" && l == nil && m.rng.IntN(2) == 0 {
		return
	}
	if d.blip {
		d.editLite(id, l)
	} else {
		d.editPouch(id, l)
	}
}

func (d *device) editLite(id string, l *localDoc) {
	m := d.m
	if l == nil {
		l = &localDoc{}
		d.docs[id] = l
	}
	gone := !l.cur.IsZero() && !l.gone && m.rng.IntN(4) == 0
	rev := m.newRev(l.cur)
	l.hist = append([]tidegate.RevID{rev}, l.hist...)
	l.cur, l.gone, l.dirty = rev, gone, true
	l.bodies = map[tidegate.RevID][]byte{rev: m.body(d.user)}
	m.logf("%s: edits %s: %s deleted=%v", d.name, id, rev, gone)
}

func (d *device) editPouch(id string, l *localDoc) {
	m := d.m
	if l == nil {
		l = &localDoc{tree: &tidegate.RevTree{}, bodies: map[tidegate.RevID][]byte{}}
		d.docs[id] = l
	}
	parent, flags := -1, tidegate.RevFlags(0)
	var from tidegate.RevID
	if i, ok := l.tree.Winner(); ok {
		parent, from = i, l.tree.At(i).ID
		if !l.tree.At(i).Deleted() && m.rng.IntN(4) == 0 {
			flags = tidegate.RevDeleted
		}
	}
	rev := m.newRev(from)
	_, err := l.tree.Add(parent, tidegate.Rev{ID: rev, Flags: flags})
	m.must(err)
	l.bodies[rev] = m.body(d.user)
	d.log = append(d.log, id)
	m.logf("%s: edits %s: %s deleted=%v", d.name, id, rev, flags != 0)
}

// session is one connection: pull and push, in either order. cut: it breaks somewhere.
func (d *device) session(cut bool) {
	m := d.m
	if !m.open {
		return
	}
	d.cut = cut
	if d.blip {
		d.sessionLite()
	} else {
		d.sessionPouch()
	}
}

// breaks reports whether the connection breaks now.
func (d *device) breaks() bool { return d.cut && d.m.rng.IntN(6) == 0 }

// told checks a verdict (invariants 7 and 9) and notes it.
func (d *device) told(id string, v devicesync.Verdict, err error) {
	m := d.m
	if v.Kind == devicesync.ResetWipe || mustReset(err) {
		m.violated("7: %s is told to discard its database: %s", d.name, v.Reason)
		return
	}
	if err != nil && tidegate.ErrorCode(err) != tidegate.NotFound {
		m.must(err)
	}
	r := d.resets[id]
	if v.Kind != devicesync.ResetRecover || r.running {
		return
	}
	if repeated := m.live.Row().Record.Epoch.Repeats(); r.at >= m.events && !repeated {
		m.violated("9: %s must reset twice: %s", id, v.Reason)
	}
	r.running, r.at, r.unseen = true, m.events, false
	m.logf("%s: must reset: %s", id, v.Reason)
}

// checkpoint reads a checkpoint and works out where to go on, as clients do: at the lower of both sides', at the beginning if there is none.
func (d *device) checkpoint(h *database.Handle, kind database.ClientKind, cp *localCheckpoint) (missing bool, v devicesync.Verdict) {
	m := d.m
	doc, v, err := h.Checkpoint(m.t.Context(), database.ClientRef{Kind: kind, ID: cp.id})
	d.told(cp.id, v, err)
	if doc == nil {
		missing = cp.text != ""
		*cp = localCheckpoint{id: cp.id}
		return missing, v
	}
	cp.rev = doc.Rev
	if want := cp.body(kind); string(doc.Body) != want { // the other side has another one: to be sure, from the beginning
		m.logf("%s: checkpoint is %s, not %s", d.name, doc.Body, want)
		missing = true
		*cp = localCheckpoint{id: cp.id, rev: doc.Rev}
	}
	return missing, v
}

// body is the checkpoint as it is stored on the server.
func (cp *localCheckpoint) body(kind database.ClientKind) string {
	if kind == database.ClientBLIP {
		return fmt.Sprintf(`{"local":%d,"remote":%q}`, cp.at, cp.since.String())
	}
	return fmt.Sprintf(`{"session_id":"s","last_seq":%q,"at":%d}`, cp.since.String(), cp.at)
}

// store stores a checkpoint on both sides.
func (d *device) store(h *database.Handle, kind database.ClientKind, cp *localCheckpoint) {
	m := d.m
	rev, err := h.StoreCheckpoint(m.t.Context(), database.ClientRef{Kind: kind, ID: cp.id}, cp.rev, []byte(cp.body(kind)))
	m.must(err)
	cp.rev, cp.text = rev, cp.body(kind)
	if m.fault == faultResetTwice {
		clients, err := m.e.db.Keeper().Clients(m.t.Context(), database.ClientFilter{})
		m.must(err)
		for _, c := range clients {
			if c.Checkpoint == cp.id && d.resets[cp.id].running {
				m.must(m.e.db.Keeper().ForceReset(m.t.Context(), c.FileIdent))
			}
		}
	}
	d.resets[cp.id].running = false
}

// feed opens the feed that the device goes on with. rewound: it was told to start again.
func (d *device) feed(h *database.Handle, since tidegate.Since, rewound, revocations bool) *database.Feed {
	m := d.m
	row := m.live.Row()
	if pos := devicesync.Position(since); pos > 0 && (pos <= row.Record.HistoryFloor || pos < row.Record.Epoch.Base) {
		m.violated("3: %s goes on from %s; floor %d, base %d", d.name, since, row.Record.HistoryFloor, row.Record.Epoch.Base)
	}
	feed, err := h.Changes(m.t.Context(), database.ChangesOptions{Request: changes.Request{
		Since: since, Revocations: revocations, Rewound: rewound, AllLeaves: !d.blip, OneShot: true,
	}})
	m.must(err)
	return feed
}

// page reads some entries.
func (d *device) page(feed *database.Feed) []tidegate.Change {
	m := d.m
	entries, err := feed.Next(m.t.Context(), 1+m.rng.IntN(4))
	m.must(err)
	if m.fault == faultMarkerSkips && len(entries) > 1 && entries[0].Seq.Trigger > 0 {
		entries = entries[1:]
	}
	if m.fault == faultNoRemovals {
		entries = slices.DeleteFunc(entries, func(c tidegate.Change) bool { return c.Left && c.Seq.Trigger > 0 && len(entries) > 1 })
	}
	return entries
}

// acknowledged notes a revision that the server said it has stored. known: the device had it from the server, or the server had it from the
// device, already (invariant 2).
func (d *device) acknowledged(id string, rev tidegate.RevID, stale bool, before tidegate.RevID, hist []tidegate.RevID, res *database.Written) {
	m := d.m
	if !m.made[rev] && !slices.Contains(hist, rev) {
		m.violated("2: %s of %s was made by nobody", rev, id)
	}
	if stale && !res.Existed && !res.Closed {
		m.violated("2: %s pushed an unedited copy of %s, %s, and a revision came of it", d.name, id, rev)
	}
	if !res.Closed {
		if m.acked[id] == nil {
			m.acked[id] = map[tidegate.RevID]bool{}
		}
		m.acked[id][rev] = true
	}
	m.note(id)
	if _, dead := m.dead[id]; before.IsZero() || dead || slices.Contains(hist, before) {
		return
	}
	// It was deleted and lives again, by a writer who did not know the deletion.
	switch row := m.live.Row(); {
	case row.Config.ResetDeletedEdits == devicesync.EditWins:
	case !d.knewAny(id, before, hist): // a new document that happens to have the same id
	case !d.blip && !d.resetting(): // CouchDB's rule for concurrent edits
	default:
		m.violated("2: %s brought %s back, deleted by %s, with %v", d.name, id, before, hist)
	}
}

// knewAny reports whether the history has something in common with what the deleted document was.
func (d *device) knewAny(id string, tombstone tidegate.RevID, hist []tidegate.RevID) bool {
	raw, err := d.m.e.admin.Raw(d.m.t.Context(), id)
	d.m.must(err)
	at, ok := raw.Tree.Find(tombstone)
	if !ok {
		return false
	}
	for _, rev := range raw.Tree.History(at, 0) {
		if slices.Contains(hist, rev) {
			return true
		}
	}
	return false
}
