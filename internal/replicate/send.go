package replicate

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/blip"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/delta"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

// sendPage is about how many bytes of documents are read at a time. It bounds, together with blip.Options.SendQueue, what a
// peer that does not read costs.
const sendPage = 64 << 10

// send sends what the peer wants of a list of changes.
func (s *subscription) send(a *answer) error {
	asked := time.Now()
	for len(a.rows) > 0 {
		docs, err := s.load(a)
		if err != nil {
			return err
		}
		for i := range docs {
			if s.over() {
				return nil
			}
			if err := s.sendRow(a, i, &docs[i], asked); err != nil {
				return err
			}
		}
		a.rows, a.known = a.rows[len(docs):], a.known[len(docs):]
	}
	return nil
}

// load reads the documents of the first rows, as many as make a page.
func (s *subscription) load(a *answer) ([]database.Sendable, error) {
	done, err := s.coll.c.srv.reading(s.ctx())
	if err != nil {
		return nil, err
	}
	defer done()
	start := time.Now()
	h, err := s.coll.principal(s.ctx())
	if err != nil {
		return nil, err
	}
	wanted := make([]database.Request, len(a.rows))
	for i, row := range a.rows {
		wanted[i] = database.Request{ID: row.change.ID, Rev: row.rev}
	}
	docs, err := h.Send(s.ctx(), wanted, s.o.replacement, sendPage)
	s.coll.c.stats().Pull.RevProcessing.Add(int64(time.Since(start)))
	return docs, err
}

// sendRow sends the document of a row: the revision that was asked for, a newer one in its place if the peer takes
// that, or word that there is none.
func (s *subscription) sendRow(a *answer, i int, sent *database.Sendable, asked time.Time) error {
	row, pull := &a.rows[i], &s.coll.c.stats().Pull
	// A deletion that took the document out of the reader's sight is told as a removal once the document lives again, unseen:
	// no other row will tell the peer that it is gone.
	if c := &row.change; isRemoval(c) || c.Left && c.Deleted && sent.Doc == nil {
		sent = &database.Sendable{Doc: removal(row, sent.Doc)}
	}
	if sent.Doc == nil || sent.Replaced && !s.inFilter(sent.Doc) {
		return s.sendNoRev(row, tidegate.ErrMissing)
	}
	m, reply, err := s.revMessage(a, i, sent)
	switch {
	case errors.Is(err, errHistoryTooLong): // one document must not end everybody's replication
		return s.sendNoRev(row, err)
	case err != nil:
		return err
	}
	if sent.Replaced {
		pull.Replacements.Add(1)
	}
	if reply != nil {
		s.coll.c.owedRevs.add(1)
	}
	if err := s.coll.c.conn.Send(s.ctx(), m, reply); err != nil {
		if reply != nil {
			reply(new(blip.Reply)) // none will come, and the subscription may end without its connection
		}
		return err
	}
	pull.RevsSent.Add(1)
	pull.RevLatency.Add(int64(time.Since(asked)))
	return nil
}

// inFilter reports whether a document is in one of the channels that the peer asked for.
func (s *subscription) inFilter(doc *database.Document) bool {
	if s.o.channels == nil {
		return true
	}
	for _, name := range s.o.channels {
		if name == tidegate.AllChannels || doc.Channels.Has(name) {
			return true
		}
	}
	return false
}

// isRemoval reports whether a row says that the document is out of the reader's sight, deletions apart.
func isRemoval(c *tidegate.Change) bool { return (c.Left || c.Revoked) && !c.Deleted }

// removal is what a peer gets that asks for the revision of a removal, as those of version 2 do: that it may not be
// seen (replication.md §6), whatever has become of the document since.
func removal(row *sentRow, doc *database.Document) *database.Document {
	if doc != nil && doc.Removed {
		return doc
	}
	return &database.Document{ID: row.change.ID, Rev: row.change.Revs[0], Removed: true, Body: []byte("{}")}
}

// revMessage makes the rev message of a row (replication.md §5.8) and what to do with its answer; nil if none is
// asked for.
func (s *subscription) revMessage(a *answer, i int, sent *database.Sendable) (*blip.Message, func(*blip.Reply), error) {
	row, doc, c := &a.rows[i], sent.Doc, s.coll.c
	m := s.coll.message(profileRev)
	rev, history := s.coll.history(doc, a.known[i], a.maxHistory)
	m.Properties.Add("id", doc.ID)
	m.Properties.Add("rev", rev)
	if history != "" {
		m.Properties.Add("history", history)
	}
	if doc.Deleted {
		m.Properties.Add("deleted", "1")
	}
	m.Properties.Add("sequence", string(row.change.Seq.AppendJSON(nil)))
	if sent.Replaced {
		m.Properties.Add("replacedRev", row.rev)
	}
	if c.peer.Gateway && c.peer.Version >= V4 {
		if tree := treeOf(doc); tree != "" {
			m.Properties.Add("revTree", tree)
		}
	}
	if s.coll.active != nil {
		m.Properties.Add("noconflicts", "true")
	}
	m.Compress = true
	m.Body = revBody(doc)
	d, err := s.delta(a, i, doc, rev, m.Body)
	if err != nil {
		return nil, nil, err
	}
	if d != nil {
		m.Properties.Add("deltaSrc", a.known[i][0])
		m.Body = d
		c.stats().Delta.Sent.Add(1)
		if s.coll.active != nil {
			s.coll.active.s.h.r.o.Stats.Push.DeltasSent.Add(1)
		}
	}
	if m.Properties.Size() > blip.MaxProperties {
		return nil, nil, errHistoryTooLong
	}
	if len(doc.Attachments) == 0 && d == nil && !c.peer.Gateway {
		m.NoReply = true
		return m, nil, nil
	}
	return m, s.onRevReply(a, i, doc, d != nil), nil
}

// onRevReply is what follows when the peer answers a revision.
func (s *subscription) onRevReply(a *answer, i int, doc *database.Document, isDelta bool) func(*blip.Reply) {
	c := s.coll.c
	withdraw := func() {}
	if len(doc.Attachments) > 0 {
		withdraw = c.offers.add(c.peer.Version, s.coll, doc)
	}
	row, known, maxHistory := a.rows[i], a.known[i], a.maxHistory
	if isDelta {
		s.deltaSent()
	}
	return func(r *blip.Reply) {
		defer r.Release()
		if isDelta {
			defer s.deltaAnswered()
		}
		withdraw()
		c.owedRevs.paid(1)
		err := r.Err()
		if s.coll.active != nil && !(err != nil && isDelta && refusesDelta(err)) {
			s.coll.active.pushed(&row, err)
		}
		if err == nil || s.gone() {
			return
		}
		c.stats().Pull.RevErrors.Add(1)
		if isDelta && refusesDelta(err) {
			s.retry([]sentRow{row}, [][]string{known}, maxHistory)
		}
	}
}

// revBody is a document as a rev message carries it: with its attachments' metadata, without what is in properties.
func revBody(doc *database.Document) []byte {
	switch {
	case doc.Removed && !doc.Deleted:
		return []byte(`{"_removed":true}`)
	case len(doc.Attachments) == 0:
		return doc.Body
	}
	stubs := tidegate.AppendStubsJSON(nil, doc.Attachments)
	return jsondoc.AppendDoc(make([]byte, 0, len(doc.Body)+len(stubs)+20), doc.Body, jsondoc.Member{Name: "_attachments", Value: stubs})
}

// history is a document's revision and what of its history the peer is told: in versions 2 and 3, and of documents
// without a vector, its ancestors, newest first, up to the first that the peer has.
func (coll *collection) history(doc *database.Document, known []string, most int) (rev, history string) {
	if coll.c.peer.Version >= V4 {
		if v, ok := doc.Version(); ok {
			return v.Current.String(), string(v.AppendHistory(nil, legacyOf(doc, known)))
		}
	}
	limit := 0
	if most > 0 {
		limit = most + 1
	}
	return treeHistory(doc.History(limit), known)
}

// legacyOf are the ancestors that a peer is told which knows the document by a rev-tree ID only, from before it had a vector:
// down to the one that it has.
func legacyOf(doc *database.Document, known []string) []tidegate.RevID {
	if len(known) == 0 || !tidegate.IsTreeRev(known[0]) {
		return nil
	}
	ancestors := doc.History(0)[1:]
	for i, rev := range ancestors {
		if contains(known, rev.String()) {
			return ancestors[:i+1]
		}
	}
	return nil
}

// treeHistory writes ancestors down, newest first, and stops after the first that the peer knows.
func treeHistory(revs []tidegate.RevID, known []string) (rev, history string) {
	var b strings.Builder
	for i, ancestor := range revs[1:] {
		text := ancestor.String()
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(text)
		if contains(known, text) || b.Len() > maxTreeHistory {
			break
		}
	}
	return revs[0].String(), b.String()
}

// maxTreeHistory bounds the ancestors that are told of a revision, in bytes, whatever revs_limit says: properties of
// more than blip.MaxProperties end the connection, and the same document would end the next one.
const maxTreeHistory = blip.MaxProperties / 2

// treeOf is a document's revision tree as gateways tell it beside its vector: its own revision and the ancestors. Empty
// if it has no vector: then the revision itself is of the tree.
func treeOf(doc *database.Document) string {
	if _, ok := doc.Version(); !ok {
		return ""
	}
	own, history := treeHistory(doc.History(0), nil)
	if history == "" {
		return own
	}
	return own + "," + history
}

func contains(list []string, text string) bool {
	for _, s := range list {
		if s == text {
			return true
		}
	}
	return false
}

// sendNoRev tells the peer that a revision will not come (replication.md §5.9).
func (s *subscription) sendNoRev(row *sentRow, why error) error {
	status, reason := wireError(why)
	m := s.coll.message(profileNoRev)
	m.NoReply = true
	m.Properties.Add("id", row.change.ID)
	m.Properties.Add("rev", row.rev)
	if s.coll.c.peer.Version == V2 {
		m.Properties.Add("seq", row.change.Seq.String())
	} else {
		m.Properties.Add("sequence", string(row.change.Seq.AppendJSON(nil)))
	}
	m.Properties.AddInt("error", int64(status))
	m.Properties.Add("reason", reason)
	s.coll.c.stats().Pull.NoRevsSent.Add(1)
	if s.coll.active != nil {
		s.coll.active.tracker.finish(row.due) // a newer revision of the document comes later, or it is gone
	}
	return s.coll.c.conn.Send(s.ctx(), m, nil)
}

// smallestDeltaBody is the shortest body that is worth a delta, in bytes.
const smallestDeltaBody = 200

// delta makes a delta of the document from the revision that the peer has; nil: the document is sent whole.
func (s *subscription) delta(a *answer, i int, doc *database.Document, rev string, body []byte) ([]byte, error) {
	c, known := s.coll.c, a.known[i]
	if !c.peer.Deltas || !c.deltas.Load() || a.whole || len(known) == 0 || doc.Deleted || doc.Removed || len(body) < smallestDeltaBody {
		return nil, nil
	}
	stats := &c.stats().Delta
	stats.Requested.Add(1)
	h, err := s.coll.principal(s.ctx())
	if err != nil {
		return nil, err
	}
	// The base is read even if the delta is at hand: what the principal may not read must not show in a delta either.
	base, err := bodyOf(s.ctx(), h, doc.ID, known[0])
	if err != nil || base == nil {
		return nil, err
	}
	key := deltaKey{c.peer.DB.Source(), s.coll.id, doc.ID, known[0], rev}
	d, worth, found := c.srv.made.get(key)
	if found {
		stats.CacheHit.Add(1)
	} else {
		stats.CacheMiss.Add(1)
		d, worth = delta.Diff(base, body)
		c.srv.made.put(key, d, worth)
	}
	if !worth {
		return nil, nil
	}
	return d, nil
}

// bodyOf returns the body of a revision that deltas can be made from or applied to; nil if there is none for this
// principal.
func bodyOf(ctx context.Context, h *database.Handle, id, rev string) ([]byte, error) {
	doc, err := h.Base(ctx, id, rev)
	if errors.Is(err, tidegate.ErrMissing) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return revBody(doc), nil
}

// versions names the rows by versions, where their revisions have one (replication.md §4.3).
func (s *subscription) versions(rows []sentRow) error {
	h, err := s.coll.principal(s.ctx())
	if err != nil {
		return err
	}
	entries := make([]tidegate.Change, len(rows))
	for i := range rows {
		entries[i] = rows[i].change
	}
	versions, err := h.Versions(s.ctx(), entries)
	if err != nil {
		return err
	}
	for i, v := range versions {
		if !v.IsZero() {
			rows[i].rev = v.String()
		}
	}
	return nil
}
