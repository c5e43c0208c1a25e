package replicate

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/blip"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

// arrivals are the revisions that were offered or asked for and have not come, by document, and the documents that left
// while some of theirs were on the way: what is purged before its revision comes would stay for good.
type arrivals struct {
	mu      sync.Mutex
	byDoc   map[string][]*expected
	leaving map[string]*departure
}

// departure is a document that left the user's reach, and is to be purged once these of its revisions have come.
type departure struct {
	row   *expected
	after []*expected
}

// add notes that a revision is on its way. A document that was leaving is back then: the row of its departure is
// returned, which has come to nothing.
func (w *arrivals) add(id string, e *expected) (back *expected) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byDoc == nil {
		w.byDoc = map[string][]*expected{}
	}
	w.byDoc[id] = append(w.byDoc[id], e)
	if d := w.leaving[id]; d != nil {
		delete(w.leaving, id)
		back = d.row
	}
	return back
}

// leave notes that a document leaves, by a row. If it was leaving already that row is returned: this one does for both.
func (w *arrivals) leave(id string, row *expected) (earlier *expected) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d := w.leaving[id]; d != nil {
		earlier = d.row
	}
	if w.leaving == nil {
		w.leaving = map[string]*departure{}
	}
	w.leaving[id] = &departure{row, slices.Clone(w.byDoc[id])}
	return earlier
}

// left reports whether the document of a departure can be purged now: nothing of it is on its way, and it is not back.
func (w *arrivals) left(id string, row *expected) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.leaving[id]
	if d == nil || d.row != row || len(d.after) > 0 {
		return false
	}
	delete(w.leaving, id)
	return true
}

// take returns what a revision or a norev of the document is the answer to: the row of that sequence, else the oldest.
// nil: it was not asked for. left is the row of a departure that waited for this one and for nothing else: the document
// is to be purged.
func (w *arrivals) take(id, seq string) (e, left *expected) {
	w.mu.Lock()
	defer w.mu.Unlock()
	waiting := w.byDoc[id]
	at := 0
	for i, e := range waiting {
		if e.seq == seq {
			at = i
			break
		}
	}
	if len(waiting) == 0 {
		return nil, nil
	}
	e = waiting[at]
	if waiting = append(waiting[:at:at], waiting[at+1:]...); len(waiting) == 0 {
		delete(w.byDoc, id)
	} else {
		w.byDoc[id] = waiting
	}
	if d := w.leaving[id]; d != nil && slices.Contains(d.after, e) {
		d.after = slices.DeleteFunc(d.after, func(other *expected) bool { return other == e })
		if len(d.after) == 0 {
			delete(w.leaving, id)
			left = d.row
		}
	}
	return e, left
}

// awaits reports whether a revision of the document is on its way.
func (w *arrivals) awaits(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.byDoc[id]) > 0
}

// seqText is a sequence as it is kept in checkpoints: the text of a JSON string, or the JSON of anything else.
func seqText(raw string) string {
	if text, ok := jsondoc.Unquote([]byte(raw)); ok {
		return text
	}
	return raw
}

// beginPull asks the remote for its changes.
func (a *activeCollection) beginPull(ctx context.Context) error {
	o := &a.s.h.r.o
	m := a.coll.message(profileSubChanges)
	m.Properties.Add("client_sgr2", "true")
	since := a.cp.since
	if since == "" {
		since = "0"
	}
	m.Properties.Add("since", since)
	m.Properties.AddInt("batch", int64(o.BatchSize))
	m.Properties.Add("sendReplacementRevs", "true")
	if o.Continuous {
		m.Properties.Add("continuous", "true")
	}
	if o.PurgeOnRemoval {
		m.Properties.Add("revocations", "true")
	}
	if channels := a.channels(); channels != nil {
		m.Properties.Add("filter", filterByChannel)
		m.Properties.Add("channels", strings.Join(channels, ","))
	}
	reply, err := a.s.c.conn.Call(ctx, m)
	if err != nil {
		return err
	}
	defer reply.Release()
	if err := reply.Err(); err != nil {
		return remoteError("subscribe to changes", err)
	}
	return nil
}

// takeChanges takes in a list of changes from the remote. It runs on the goroutine that reads, so that what is expected
// is in the order of the feed.
func (a *activeCollection) takeChanges(r *blip.Request) error {
	rows, err := parseChanges(r.Body())
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		a.noteCaughtUp()
		r.Respond(&blip.Message{Body: []byte("[]")})
		r.Release()
		return nil
	}
	a.s.h.r.o.Stats.Pull.Checked.Add(int64(len(rows)))
	seqs := make([]string, len(rows))
	for i := range rows {
		rows[i].seq = append([]byte(nil), rows[i].seq...)
		seqs[i] = seqText(string(rows[i].seq))
	}
	due := a.tracker.expect(seqs...)
	a.expectDocs(rows, due)
	a.s.c.changes.do(func() {
		a.s.c.finish(r, a.s.c.guard(profileChanges, func() error { return a.answerChanges(r, rows, due) }))
	})
	return nil
}

// leaves reports whether a row says that its document left the user's reach.
func (row *changeRow) leaves() bool {
	return row.flags&(flagRevoked|flagRemoved) != 0 && row.flags&flagDeleted == 0 || row.flags&flagRevoked != 0
}

// expectDocs notes, in the order of the feed, which documents come and which leave.
func (a *activeCollection) expectDocs(rows []changeRow, due []*expected) {
	for i := range rows {
		var over *expected
		if rows[i].leaves() {
			over = a.arrived.leave(rows[i].id, due[i])
		} else {
			over = a.arrived.add(rows[i].id, due[i])
		}
		if over != nil {
			a.tracker.finish(over)
		}
	}
}

// come takes account of a row whose revision has come, or will not, and purges its document if that has left meanwhile.
// It returns false if that failed, and the connection ends.
func (a *activeCollection) come(id, seq string) bool {
	e, left := a.arrived.take(id, seq)
	if left != nil {
		if err := a.purge(a.s.c.ctx(), id); err != nil {
			a.s.retry(err)
			return false
		}
		a.tracker.finish(left)
	}
	a.tracker.finish(e)
	return true
}

// answerChanges tells the remote which of its changes are wanted, and purges what left its user's reach.
func (a *activeCollection) answerChanges(r *blip.Request, rows []changeRow, due []*expected) error {
	ctx := a.s.c.ctx()
	h, err := a.coll.principal(ctx)
	if err != nil {
		return err
	}
	offers := make([]database.Offer, len(rows))
	for i, row := range rows {
		offers[i] = database.Offer{ID: row.id, Rev: row.rev}
	}
	known := knownAncestors
	if a.s.c.peer.Version >= V4 {
		known = 2 // the version and the rev-tree ID
	}
	wishes, err := h.Offered(ctx, offers, known)
	if err != nil {
		a.s.retry(err)
		return err
	}
	for i := range rows {
		switch {
		case rows[i].leaves():
			wishes[i].Wanted = false
			if !a.arrived.left(rows[i].id, due[i]) {
				continue // a revision of it is on its way, or it is back
			}
			if err := a.purge(ctx, rows[i].id); err != nil {
				a.s.retry(err)
				return err
			}
			a.tracker.finish(due[i])
			continue
		case wishes[i].Err != nil:
			a.failed(rows[i].id, string(rows[i].seq), wishes[i].Err)
			wishes[i].Wanted = false
		}
		if !wishes[i].Wanted {
			a.come(rows[i].id, due[i].seq)
		} else if a.s.c.peer.Deltas && len(wishes[i].Known) > 0 {
			a.s.h.r.o.Stats.Pull.DeltasRequested.Add(1)
		}
	}
	m := &blip.Message{Body: appendAnswers(nil, wishes), Compress: true}
	m.Properties.AddInt("maxHistory", proposedHistory)
	if a.s.c.peer.Deltas {
		m.Properties.Add("deltas", "true")
	}
	a.s.c.respond(r, m)
	return nil
}

// purge removes a document that the remote's user cannot see any more, if that is asked for.
func (a *activeCollection) purge(ctx context.Context, id string) error {
	if !a.s.h.r.o.PurgeOnRemoval {
		return nil
	}
	purged, err := a.s.h.r.o.DB.Admin(a.coll.id).Purge(ctx, []string{id})
	a.s.h.r.o.Stats.Pull.Purged.Add(int64(len(purged)))
	return err
}

// stored takes account of a revision that was pulled and either stored or not.
func (a *activeCollection) stored(in *incomingRev, written *database.Written, err error) {
	stats := &a.s.h.r.o.Stats.Pull
	switch {
	case err == nil:
		stats.Read.Add(1)
		if in.isDelta {
			stats.DeltasReceived.Add(1)
		}
		a.countResolved(written)
	case errors.Is(err, errRemoved): // version 2 says so with a body
		if err := a.purge(a.s.c.ctx(), in.id); err != nil {
			a.s.retry(err)
			return
		}
	case in.isDelta && isDeltaError(err):
		return // the whole revision follows
	case passes(err):
		a.s.retry(err)
		return
	default:
		a.failed(in.id, in.seq, err)
	}
	a.come(in.id, in.seq)
}

// failed counts and logs a revision that cannot be had or stored. The replication goes on.
func (a *activeCollection) failed(id, seq string, err error) {
	a.s.h.r.o.Stats.Pull.Failures.Add(1)
	a.s.h.log.LogAttrs(a.s.c.ctx(), slog.LevelWarn, "a document was not replicated",
		slog.String("doc", id), slog.String("seq", seqText(seq)), slog.Any("error", err))
}

// countResolved counts how a conflict came out.
func (a *activeCollection) countResolved(written *database.Written) {
	stats := &a.s.h.r.o.Stats.Pull
	switch written.Resolved {
	case database.ResolvedLocal:
		stats.ResolvedLocal.Add(1)
	case database.ResolvedRemote:
		stats.ResolvedRemote.Add(1)
	case database.ResolvedMerge:
		stats.ResolvedMerge.Add(1)
	}
}

// norev takes account of a revision that will not come.
func (a *activeCollection) norev(r *blip.Request) {
	id, _ := r.Property("id")
	seq, ok := r.Property("sequence")
	if !ok {
		seq, _ = r.Property("seq")
	}
	if !a.arrived.awaits(id) {
		return
	}
	// 404 is no failure: the document has moved on, and its newer revision comes at a later sequence, or it was purged.
	if status, _ := r.Property("error"); status != "404" {
		reason, _ := r.Property("reason")
		a.failed(id, seq, tidegate.Errorf(tidegate.NotFound, "the target does not send it: %s %s", status, reason))
	}
	a.come(id, seqText(seq))
}

// retry ends the connection, so that the next one begins at the checkpoint.
func (s *activeSession) retry(err error) { s.c.conn.Drop(retryError{err}) }

// isDeltaError reports whether a revision failed because of its delta.
func isDeltaError(err error) bool {
	e, ok := errors.AsType[*tidegate.Error](err)
	return ok && e.Status == 422
}
