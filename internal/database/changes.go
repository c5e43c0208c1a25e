package database

import (
	"context"
	"fmt"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/changes"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/jsondoc"
	"github.com/tidegate/tidegate/internal/store"
)

// ChangesOptions say what a feed delivers. Collection, Viewer and Admin of the Request are filled in by the
// Handle.
type ChangesOptions struct {
	changes.Request
	// Plain: the reader is a tool of an administrator, not a client of device sync. Its positions are plain sequences, and any position is continued
	// from: the ledger keeps every deletion at its place (device-sync.md §12.1 is about clients).
	Plain bool
	// IncludeDocs fills in Change.Doc: the entry's revision, or the redacted form if the reader may not read it.
	IncludeDocs bool
	// Render, with IncludeDocs, makes the JSON of a document; nil: the body with _id, _rev, _deleted and
	// attachment stubs.
	Render func(ctx context.Context, doc *Document) ([]byte, error)
}

// Feed is one reader of a collection's changes. It is for one goroutine at a time.
type Feed struct {
	h      *Handle
	docs   bool                                                     // ChangesOptions.IncludeDocs
	render func(ctx context.Context, doc *Document) ([]byte, error) // and Render
	feed   *changes.Feed
	// ready are entries that were read but not returned yet, because the documents of those before them were
	// enough for one page.
	ready []tidegate.Change
	since tidegate.Since
	chunk int // how many documents are read at once
}

// Bounds of one answer with documents.
const (
	feedPageDocs   = 500
	feedFirstChunk = 64 // documents that are read at once, at first
	feedPageBytes  = 256 << 10
)

// Changes opens a feed for the Handle's principal. The feed follows the principal as it changes, and ends
// when it is deleted or disabled. Errors: those of changes.Hub.Feed.
//
// A position that is not honoured any more (device-sync.md §12.1) is not continued from: the feed starts at nothing.
func (h *Handle) Changes(_ context.Context, o ChangesOptions) (*Feed, error) {
	o.Collection, o.Admin, o.Viewer = h.coll.id, h.user == nil, ""
	if h.db.device != nil && !o.Plain {
		row := h.db.device.Row()
		record := &row.Record
		if h.user != nil && row.Config.WriteOnly(h.coll.scope, h.coll.name) {
			o.DocIDs = []string{} // clients write this collection and never read it
		}
		if o.Markers = record.Markers; record.Stale(devicesync.Position(o.Since)) {
			o.Since, o.Rewound = tidegate.Since{}, true
		}
	}
	if h.user != nil {
		o.Viewer = h.user.PrincipalName()
	}
	inner, err := h.db.hub.Feed(o.Request, viewers{h.db.access}, history{h.db})
	if err != nil {
		return nil, err
	}
	return &Feed{h: h, docs: o.IncludeDocs, render: o.Render, feed: inner, since: o.Since}, nil
}

// Next returns the next entries, at most max (0: as many as are read at once), without waiting for new
// ones. An empty answer means that the feed has caught up or ended.
func (f *Feed) Next(ctx context.Context, max int) ([]tidegate.Change, error) {
	if !f.docs {
		entries, err := f.feed.Next(ctx, max)
		f.since = f.feed.Since()
		return entries, err
	}
	if len(f.ready) == 0 {
		want := feedPageDocs
		if max > 0 {
			want = min(want, max)
		}
		var err error
		if f.ready, err = f.feed.Next(ctx, want); err != nil {
			return nil, err
		}
	}
	entries := f.ready
	if max > 0 && len(entries) > max {
		entries = entries[:max]
	}
	n, err := f.fill(ctx, entries)
	if err != nil {
		return nil, err
	}
	entries, f.ready = entries[:n:n], f.ready[n:]
	if len(f.ready) > 0 {
		f.since = entries[n-1].Seq
	} else {
		f.since = f.feed.Since()
	}
	return entries, nil
}

// Wait returns when there may be something new for this reader, or its principal changed. Errors: those of
// changes.Feed.Wait.
func (f *Feed) Wait(ctx context.Context) error {
	if len(f.ready) > 0 {
		return nil
	}
	return f.feed.Wait(ctx)
}

// Arm asks for one call of notify when there may be something new for this reader, its principal changed, or the
// database stops. ready: there may be something already, and notify will not be called. What notify may do, and the
// errors, are those of changes.Feed.Arm.
func (f *Feed) Arm(notify func()) (ready bool, err error) {
	if len(f.ready) > 0 {
		f.feed.Disarm()
		return true, nil
	}
	return f.feed.Arm(notify)
}

// Disarm takes back Arm: when it has returned no call of notify is under way, and none begins. It reports whether
// it took back a call. It may be called while another goroutine uses the feed.
func (f *Feed) Disarm() (armed bool) { return f.feed.Disarm() }

// Since is the position after the last entry returned.
func (f *Feed) Since() tidegate.Since { return f.since }

// Done reports whether the feed has ended: its limit is reached or, descending, all has been returned.
func (f *Feed) Done() bool { return len(f.ready) == 0 && f.feed.Done() }

// Close ends the feed: when it has returned no call of notify is under way, and none begins. It is idempotent.
func (f *Feed) Close() { f.feed.Close() }

// fill gives entries their documents, until they are enough for one page; at least one. It returns how many
// entries are done.
func (f *Feed) fill(ctx context.Context, entries []tidegate.Change) (int, error) {
	if len(entries) == 0 {
		return 0, nil
	}
	h, err := f.h.Fresh(ctx) // the Handle may be older than the entries
	if err != nil {
		return 0, err
	}
	docs, err := f.load(ctx, h, entries)
	if err != nil {
		return 0, err
	}
	for i, doc := range docs {
		if doc == nil {
			continue
		}
		h.countRead(doc)
		if entries[i].Doc, err = f.rendered(ctx, doc); err != nil {
			return 0, err
		}
	}
	return len(docs), nil
}

// load reads the documents of the first entries. It reads them in order of their IDs, which costs the store
// much less than any other order. A page with too many bytes is cut to what was read without a gap, and makes
// the next ones shorter.
func (f *Feed) load(ctx context.Context, h *Handle, entries []tidegate.Change) ([]*Document, error) {
	if f.chunk == 0 {
		f.chunk = feedFirstChunk
	}
	entries = entries[:min(len(entries), f.chunk)]
	docs := make([]*Document, len(entries))
	size := 0
	n, err := h.visit(ctx, len(entries), func(i int) string { return entries[i].ID }, func(r store.Reader, i int) (more bool, err error) {
		if docs[i], err = h.entryDoc(r, &entries[i]); docs[i] != nil {
			size += len(docs[i].Body)
		}
		return size < feedPageBytes, err
	})
	if err != nil {
		return nil, err
	}
	if n == len(entries) {
		f.chunk = min(2*f.chunk, feedPageDocs)
	} else {
		f.chunk = max(n/2, 1)
	}
	return docs[:n], nil
}

func (f *Feed) rendered(ctx context.Context, doc *Document) ([]byte, error) {
	if f.render != nil && !doc.Removed {
		return f.render(ctx, doc)
	}
	return doc.AppendJSON(make([]byte, 0, len(doc.Body)+len(doc.ID)+80)), nil
}

// entryDoc returns the document of a feed's entry: the entry's revision, or the current one if that one's
// body is gone already. nil for entries that are no documents.
func (h *Handle) entryDoc(r store.Reader, c *tidegate.Change) (*Document, error) {
	if len(c.Revs) == 0 {
		return nil, nil
	}
	stored, err := h.coll.stored(r, c.ID)
	if err != nil || stored == nil {
		return nil, err // nil: purged meanwhile
	}
	head, winner, err := parseCurrent(c.ID, stored)
	if err != nil {
		return nil, err
	}
	if winner.ID == c.Revs[0] {
		return h.currentDoc(r, c.ID, stored, &head, &winner)
	}
	rec, err := parseRecord(stored)
	if err != nil {
		return nil, fmt.Errorf("read document %q: %w", c.ID, err)
	}
	if i, ok := rec.tree.Find(c.Revs[0]); ok {
		doc, err := h.revision(r, c.ID, rec, i)
		if doc != nil || err != nil {
			return doc, err
		}
	}
	return h.currentDoc(r, c.ID, stored, &head, &winner)
}

// AppendJSON appends the document with _id, _rev, _deleted, _removed and attachment stubs.
func (d *Document) AppendJSON(b []byte) []byte {
	return d.AppendJSONWith(b)
}

// AppendJSONWith appends the document as AppendJSON does, with more underscore members.
func (d *Document) AppendJSONWith(b []byte, more ...jsondoc.Member) []byte {
	members := make([]jsondoc.Member, 0, 4+len(more))
	members = append(members,
		jsondoc.Member{Name: "_id", Value: jsondoc.AppendString(make([]byte, 0, len(d.ID)+2), d.ID)},
		jsondoc.Member{Name: "_rev", Value: jsondoc.AppendString(make([]byte, 0, 40), d.Rev.String())})
	switch {
	case d.Deleted:
		members = append(members, jsondoc.Member{Name: "_deleted", Value: jsonTrue})
	case d.Removed:
		members = append(members, jsondoc.Member{Name: "_removed", Value: jsonTrue})
	}
	if len(d.Attachments) > 0 {
		members = append(members, jsondoc.Member{Name: "_attachments", Value: tidegate.AppendStubsJSON(nil, d.Attachments)})
	}
	return jsondoc.AppendDoc(b, d.Body, append(members, more...)...)
}

var jsonTrue = []byte("true")

// viewers shows the registry's users to feeds.
type viewers struct{ registry *access.Registry }

var _ changes.Viewers = viewers{}

func (v viewers) View(ctx context.Context, name string) (changes.Viewer, error) {
	user, err := v.registry.User(ctx, name)
	if err != nil {
		return nil, err
	}
	return viewer{user}, nil
}

func (v viewers) Watch(name string, changed func()) (stop func()) {
	return v.registry.Watch(name, changed)
}

// viewer shows a user to feeds.
type viewer struct{ *access.User }

var _ changes.Viewer = viewer{}

// Periods tells when the user had the channel, oldest first, the present period included.
func (v viewer) Periods(coll store.Collection, channel string) []changes.Period {
	spans := v.ChannelHistory(coll, channel)
	periods := make([]changes.Period, 0, len(spans)+1)
	open := false
	for _, s := range spans {
		periods = append(periods, changes.Period{Start: s.Start, End: s.End})
		open = open || s.End == 0
	}
	if since, ok := v.Channels(coll)[channel]; ok && !open {
		periods = append(periods, changes.Period{Start: since})
	}
	return periods
}

// history shows documents' memberships to feeds.
type history struct{ db *Database }

var (
	_ changes.History = history{}
	_ changes.States  = history{}
)

// ChannelPeriods returns the channels of the current revision, and when the document was in which.
func (h history) ChannelPeriods(r store.Reader, coll store.Collection, id string) (tidegate.ChannelSet, map[string][]changes.Period, error) {
	c := h.db.byID[coll]
	if c == nil {
		return nil, nil, tidegate.ErrMissing
	}
	rec, err := readRecord(r, c, id)
	if err != nil || rec == nil {
		return nil, nil, err
	}
	past := make(map[string][]changes.Period, len(rec.channels))
	for _, state := range rec.channels {
		past[state.name] = state.periods
	}
	return rec.memberSet(), past, nil
}

// DocState returns what was last given to WriteIndex for the document.
func (h history) DocState(r store.Reader, coll store.Collection, id string) (*changes.DocState, error) {
	c := h.db.byID[coll]
	if c == nil {
		return nil, tidegate.ErrMissing
	}
	rec, err := readRecord(r, c, id)
	if err != nil || rec == nil {
		return nil, err
	}
	return rec.docState(), nil
}
