package replicate

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/blip"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/devicesync"
)

// changesWindow is how many lists of changes may be unanswered at a time: the next is read and sent while the peer
// thinks about one (replication.md §11).
const changesWindow = 2

// subscription is the sender: it offers what a feed brings and sends what the peer asks for.
//
// It works in turns (see actor), each on a goroutine that ends when there is nothing to do, so an idle subscription is
// this struct and its place in the hub's lists.
type subscription struct {
	actor
	coll *collection
	o    subscriptionOptions

	exhausted atomic.Bool   // a one-shot feed has brought everything
	needs     atomic.Uint64 // the position whose history it still needs; 0: none

	mu      sync.Mutex
	answers []*answer // come from the peer, to be dealt with
	waiting int       // lists that are not answered
	deltas  int       // deltas that are not answered: they may have to be sent again, whole
	ended   bool

	begun tidegate.Seq // last sequence when it began, if activeOnly is set

	// The rest is the turn's:
	feed   *database.Feed
	live   bool // the first catching up is over: what activeOnly left out comes now
	told   bool // the peer knows that it has caught up
	closed bool
	idle   bool // it is counted as caught up
}

// sentRow is a row that was offered, kept until it is answered.
type sentRow struct {
	change tidegate.Change
	rev    string    // as it was offered
	due    *expected // where this side drives the replication
}

// answer is a peer's answer to a list of changes: the rows it wants.
type answer struct {
	rows       []sentRow
	known      [][]string // for each row, what the peer has of the document
	maxHistory int        // ancestors to be named at the most; 0: all
	whole      bool       // deltas were tried and could not be applied
}

// subscribe begins a subscription. The caller wakes it.
func (coll *collection) subscribe(h *database.Handle, o subscriptionOptions) (*subscription, error) {
	coll.mu.Lock()
	defer coll.mu.Unlock()
	if coll.sub != nil && !coll.sub.over() && !coll.sub.finishing() {
		return nil, errSubscribed
	}
	s := &subscription{coll: coll, o: o}
	s.turn, s.crew = s.run, &coll.c.crew
	var err error
	if o.activeOnly {
		if s.begun, err = coll.c.peer.DB.LastSequence(coll.c.ctx()); err != nil {
			return nil, err
		}
	}
	if s.feed, err = h.Changes(coll.c.ctx(), database.ChangesOptions{Request: o.request(o.since, o.activeOnly)}); err != nil {
		return nil, err
	}
	s.live = !o.activeOnly
	s.needs.Store(uint64(max(devicesync.Position(o.since), 1)))
	coll.sub = s
	s.countStart()
	return s, nil
}

// over reports whether a new subscription may take its place.
func (s *subscription) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// finishing reports whether all lists have been sent and answered, so that the subscription ends by itself once it has
// sent what was asked for. The peer may know that before this side has come to its end.
func (s *subscription) finishing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.exhausted.Load() && s.waiting == 0
}

// end ends the subscription soon. It is idempotent.
func (s *subscription) end() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.wake()
}

// gone reports whether nobody cares any more: the subscription or its connection has ended.
func (s *subscription) gone() bool { return s.over() || s.ctx().Err() != nil }

// ctx ends with the connection. A subscription that ends earlier, which is rare, comes to its end when it has sent what
// it is sending: a context of its own would be part of what every idle one costs.
func (s *subscription) ctx() context.Context { return s.coll.c.ctx() }

// run is a turn: it does all there is to do.
func (s *subscription) run() {
	err := s.coll.c.guard(profileChanges, func() error {
		for {
			if more, err := s.step(); err != nil || !more {
				return err
			}
		}
	})
	if err != nil {
		s.failed(err)
	}
}

// step does the next thing. more is false if there is nothing to do until the subscription is woken.
func (s *subscription) step() (more bool, err error) {
	if s.closed {
		return false, nil
	}
	if s.over() {
		s.close()
		return false, nil
	}
	a, waiting := s.next()
	switch {
	case a != nil:
		return true, s.send(a)
	case s.exhausted.Load() && waiting == 0 && !s.mayRetry():
		if s.coll.active != nil {
			s.coll.active.noteCaughtUp()
		}
		s.end()
		return true, nil
	case s.exhausted.Load() || waiting >= changesWindow || !s.coll.c.owedRows.room(s):
		return false, nil
	}
	return s.offer()
}

// next takes the next answer, unless the peer has too many revisions to answer already; waiting is how many lists are
// unanswered or not dealt with.
func (s *subscription) next() (a *answer, waiting int) {
	mayTake := s.coll.c.owedRevs.room(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.answers) == 0 || !mayTake {
		return nil, s.waiting + len(s.answers)
	}
	a = s.answers[0]
	s.answers[0] = nil
	s.answers = s.answers[1:]
	return a, s.waiting
}

// failed ends the connection: a feed that breaks off would look like one that is idle.
func (s *subscription) failed(err error) {
	s.end()
	if s.ctx().Err() != nil {
		return // it has ended already
	}
	switch tidegate.ErrorCode(err) {
	case tidegate.NotFound, tidegate.Unauthorized, tidegate.Forbidden, tidegate.Canceled:
	default:
		s.coll.c.log.LogAttrs(s.ctx(), slog.LevelError, "changes feed failed", slog.Any("error", err))
	}
	s.coll.c.conn.Drop(err)
}

// close gives back what the subscription holds.
func (s *subscription) close() {
	s.closed = true
	s.coll.c.owedRows.forget(s)
	s.coll.c.owedRevs.forget(s)
	s.feed.Close()
	s.needs.Store(0)
	s.coll.c.noteNeeds()
	s.countEnd()
}

// offer sends the next rows of the feed, or tells the peer that it has caught up and waits.
func (s *subscription) offer() (more bool, err error) {
	s.countIdle(false)
	entries, body, rows, err := s.read()
	if err != nil {
		return false, err
	}
	if len(entries) == 0 {
		return s.caughtUp()
	}
	if len(rows) == 0 {
		return true, nil
	}
	m := s.coll.message(profileChanges)
	// A removal must not overtake a revision that was sent before it, or the peer would keep what it has purged.
	m.Body, m.Urgent, m.Compress = body, !slices.ContainsFunc(rows, func(r sentRow) bool { return isRemoval(&r.change) }), true
	if s.o.gateway {
		m.Properties.Add("ignoreNoConflicts", "true")
	}
	if s.coll.active != nil {
		s.coll.active.offered(rows)
	}
	s.mu.Lock()
	s.waiting++
	pending := s.pending()
	s.mu.Unlock()
	s.coll.c.owedRows.add(len(rows))
	s.countOffer(pending + len(rows))
	sent := time.Now()
	err = s.coll.c.conn.Send(s.ctx(), m, func(r *blip.Reply) {
		s.coll.c.stats().Pull.RequestTime.Add(int64(time.Since(sent)))
		s.answered(rows, r)
	})
	if err != nil {
		s.coll.c.owedRows.paid(len(rows))
		return false, err
	}
	return true, nil
}

// pending is how many rows the peer has asked for that are not sent yet; s.mu is held.
func (s *subscription) pending() int {
	n := 0
	for _, a := range s.answers {
		n += len(a.rows)
	}
	return n
}

// read reads the next entries and makes rows of them.
func (s *subscription) read() (entries []tidegate.Change, body []byte, rows []sentRow, err error) {
	done, err := s.coll.c.srv.reading(s.ctx())
	if err != nil {
		return nil, nil, nil, err
	}
	defer done()
	if entries, err = s.feed.Next(s.ctx(), s.o.batch); err != nil || len(entries) == 0 {
		return nil, nil, nil, err
	}
	s.noteNeeds(s.told)
	rows, err = s.rows(entries)
	if err != nil {
		return nil, nil, nil, err
	}
	body = append(make([]byte, 0, 80*len(rows)), '[')
	for i := range rows {
		if i > 0 {
			body = append(body, ',')
		}
		c := &rows[i].change
		body = appendChangeRow(body, s.coll.c.peer.Version, c.Seq, c.ID, rows[i].rev, rowFlags(c))
	}
	return entries, append(body, ']'), rows, nil
}

// rowFlags are the bits of a row in versions 3 and 4.
func rowFlags(c *tidegate.Change) int {
	flags := 0
	if c.Deleted {
		flags |= flagDeleted
	}
	switch {
	case c.Revoked:
		flags |= flagRevoked
	case c.Left:
		flags |= flagRemoved
	}
	return flags
}

// rows makes rows of those entries that this peer is told of.
func (s *subscription) rows(entries []tidegate.Change) ([]sentRow, error) {
	v := s.coll.c.peer.Version
	rows := make([]sentRow, 0, len(entries))
	for i := range entries {
		c := &entries[i]
		switch {
		case len(c.Revs) == 0: // about a user, not a document
			continue
		case (v >= V3 || s.coll.active != nil) && c.Left && !c.Deleted && !c.Revoked && !s.o.revocations:
			continue // replication.md §6: told only to whom asked for it
		}
		rev := c.Revs[0].String()
		if !s.o.gateway && !readable(rev) || strings.ContainsRune(c.ID, 0) {
			s.coll.c.log.LogAttrs(s.ctx(), slog.LevelWarn, "a document or a revision has an ID that the protocol cannot carry; it is not sent")
			continue
		}
		rows = append(rows, sentRow{change: *c, rev: rev})
	}
	if v < V4 || len(rows) == 0 {
		return rows, nil
	}
	return rows, s.versions(rows)
}

// readable reports whether Couchbase Lite takes a revision's ID: an odd number of digits, or others than hex, ends
// its replication for good (replication.md §16, 14).
func readable(rev string) bool {
	id, err := tidegate.ParseRevID(rev)
	if err != nil || len(id.Digest) == 0 || len(id.Digest)%2 != 0 {
		return false
	}
	for i := range len(id.Digest) {
		c := id.Digest[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// caughtUp is what follows when the feed has nothing.
func (s *subscription) caughtUp() (more bool, err error) {
	if s.feed.Done() {
		s.exhausted.Store(true) // before the peer knows, who may subscribe again at once
	}
	if !s.told {
		s.told = true
		m := s.coll.message(profileChanges)
		m.Body, m.NoReply = []byte("null"), true
		if s.o.gateway {
			m.Properties.Add("ignoreNoConflicts", "true")
		}
		if err := s.coll.c.conn.Send(s.ctx(), m, nil); err != nil {
			return false, err
		}
		s.noteNeeds(true)
		s.coll.notePulled()
		s.countCaughtUp()
	}
	if s.exhausted.Load() {
		return true, nil
	}
	if !s.live {
		return true, s.goLive()
	}
	more, err = s.feed.Arm(s.wake)
	s.countIdle(err == nil && !more)
	return more, err
}

// goLive goes on with a feed that leaves nothing out: activeOnly is about the first catching up only
// (replication.md §5.4). It begins again where the subscription began: what has gone since then may have been sent
// before it went. The peer knows what it has of the rows that it is offered twice.
func (s *subscription) goLive() error {
	h, err := s.coll.principal(s.ctx())
	if err != nil {
		return err
	}
	since := s.feed.Since()
	if max(since.Trigger, since.Seq) > s.begun {
		since = tidegate.Since{Seq: s.begun}
	}
	feed, err := h.Changes(s.ctx(), database.ChangesOptions{Request: s.o.request(since, false)})
	if err != nil {
		return err
	}
	s.feed.Close()
	s.feed, s.live = feed, true
	return nil
}

// answered takes the peer's answer to a list of changes. It runs on the goroutine that reads the connection.
func (s *subscription) answered(rows []sentRow, r *blip.Reply) {
	defer r.Release()
	s.coll.c.owedRows.paid(len(rows))
	a, err := s.parseAnswer(rows, r)
	if err != nil && s.coll.active != nil && !s.gone() {
		s.coll.active.refused(err)
	} else if err != nil && !s.gone() {
		s.coll.c.log.LogAttrs(s.ctx(), slog.LevelInfo, "a peer refused a list of changes", slog.Any("error", err))
	}
	s.mu.Lock()
	s.waiting--
	if a != nil {
		s.answers = append(s.answers, a)
	}
	s.mu.Unlock()
	s.wake()
}

// parseAnswer reads the answer; nil if nothing is wanted. A peer that refuses the list gets nothing of it
// (replication.md §5.6).
func (s *subscription) parseAnswer(rows []sentRow, r *blip.Reply) (*answer, error) {
	if err := r.Err(); err != nil {
		return nil, err
	}
	if truthOf(r.Property("deltas")) && !s.coll.c.deltas.Swap(true) && s.coll.c.peer.Deltas {
		s.coll.c.stats().Delta.Pulls.Add(1)
	}
	all, err := parseWanted(r.Body(), len(rows))
	if err != nil {
		return nil, err
	}
	a := &answer{}
	if text, ok := r.Property("maxHistory"); ok {
		a.maxHistory = positive(text)
	}
	for i, w := range all {
		switch {
		case w.send:
			a.rows = append(a.rows, rows[i])
			a.known = append(a.known, w.known)
		case s.coll.active != nil:
			s.coll.active.tracker.finish(rows[i].due)
		}
	}
	if len(a.rows) == 0 {
		return nil, nil
	}
	return a, nil
}

// mayRetry reports whether deltas are on their way.
func (s *subscription) mayRetry() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deltas > 0
}

// deltaSent counts a delta that is on its way; deltaAnswered counts it out.
func (s *subscription) deltaSent() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deltas++
}

func (s *subscription) deltaAnswered() {
	s.mu.Lock()
	s.deltas--
	s.mu.Unlock()
	s.wake()
}

// retry has rows sent again, whole.
func (s *subscription) retry(rows []sentRow, known [][]string, maxHistory int) {
	s.mu.Lock()
	s.answers = append(s.answers, &answer{rows: rows, known: known, maxHistory: maxHistory, whole: true})
	s.mu.Unlock()
	s.wake()
}
