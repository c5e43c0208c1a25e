package changes

import (
	"context"
	"errors"
	"maps"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// Request says what a feed delivers. The zero value is all of the default collection, from the beginning,
// for the guest.
type Request struct {
	Collection  store.Collection
	Since       tidegate.Since
	Limit       int      // entries in all; 0: no limit
	Channels    []string // only these; nil, or "*" among them: all that are visible
	DocIDs      []string // only these documents; nil: all
	ActiveOnly  bool     // leave out deletions and full removals
	AllLeaves   bool     // list all leaves, not only the current revision
	Revocations bool     // tell of documents that are lost by losing a channel; not for the guest, nor with ActiveOnly
	OneShot     bool     // end at what there is at the first Next
	Descending  bool     // newest first by sequence, down to Since; implies OneShot
	Viewer      string   // name of the principal; "" is the guest
	Admin       bool     // see everything, whatever Viewer says

	// Markers are the floor markers that count, ascending (device-sync.md §12.1): a feed that starts at nothing labels what comes
	// before the newest one "R:S", and a position "R:S" of any of them is one in such a feed. Descending feeds have none.
	Markers []tidegate.Seq
	// Rewound: the reader starts at nothing once more and may hold documents from before, so with Revocations it is told of all that it
	// can have had and has lost.
	Rewound bool
}

// Feed is one reader of a collection's changes. It is for one goroutine at a time.
type Feed struct {
	h       *Hub
	req     Request
	viewers Viewers
	hist    History
	filter  tidegate.ChannelSet // nil: all channels
	docs    map[string]struct{} // nil: all documents

	unwatch func()
	waiter  waiter
	woken   chan struct{} // capacity 1; made by the first Wait

	scope  scope
	stale  bool         // the scope has to be made anew
	viewAt tidegate.Seq // the bound that the scope was made for

	cur   cursor
	below tidegate.Seq // descending: all from here on is done; 0 at first
	bound tidegate.Seq // how far Next reads
	seen  tidegate.Seq // up to where the reader may hold documents (DESIGN.md)
	run   tidegate.Seq // where the present run began: the plain position when last caught up
	idle  bool         // caught up with bound

	last    tidegate.Since
	sent    int
	started bool
	ended   bool
	closed  bool
}

// ErrFeedEnded is returned by Wait when nothing more can come: the limit is reached, or the feed is a
// one-shot and has delivered everything.
var ErrFeedEnded = tidegate.Errorf(tidegate.Gone, "the feed has ended")

// ErrFeedClosed is returned by a feed that was closed.
var ErrFeedClosed = tidegate.Errorf(tidegate.Unavailable, "the feed is closed")

// maxLooks is how often a feed takes a new bound because its principal is ahead of it.
const maxLooks = 3

// DefaultBatch is how many entries Next returns at most when it is not told.
const DefaultBatch = 1000

// Feed opens a feed. The caller closes it. viewers may be nil for an administrator; hist may be nil if
// revocations are not asked for. Invalid: the request asks for what cannot be combined.
func (h *Hub) Feed(req Request, viewers Viewers, hist History) (*Feed, error) {
	switch {
	case !req.Admin && viewers == nil:
		return nil, tidegate.Errorf(tidegate.Internal, "a feed needs to know its viewer")
	case req.Limit < 0:
		return nil, tidegate.Errorf(tidegate.Invalid, "the limit of a feed must not be negative")
	}
	if req.Admin || req.Viewer == "" || req.ActiveOnly || req.Descending {
		req.Revocations = false
	}
	if req.Revocations && hist == nil {
		return nil, tidegate.Errorf(tidegate.Internal, "a feed with revocations needs the history of documents")
	}
	f := &Feed{
		h: h, req: req, viewers: viewers, hist: hist, stale: true,
		cur: newCursor(req.Since), last: req.Since,
	}
	if !req.Descending {
		f.cur.findFloor(req.Since, req.Markers)
	}
	f.seen, f.run = f.cur.passed(), f.cur.plain
	if req.Rewound && f.seen == 0 {
		f.seen = maxSeq - 1 // whatever it was told of at any time
	}
	if req.Channels != nil {
		f.filter = tidegate.NewChannelSet(append([]string{}, req.Channels...)...)
		if f.filter.Has(tidegate.AllChannels) {
			f.filter = nil
		}
	}
	if req.DocIDs != nil {
		f.docs = make(map[string]struct{}, len(req.DocIDs))
		for _, id := range req.DocIDs {
			f.docs[id] = struct{}{}
		}
	}
	h.follow(req.Collection)
	if !req.Admin {
		f.unwatch = viewers.Watch(req.Viewer, f.principalChanged)
	}
	return f, nil
}

// Next returns the next entries, at most max (0: DefaultBatch), without waiting for new ones. Less than max
// may come although there are more; an empty answer means that the feed has caught up or ended. Nothing of
// the store is held after return. An error of the Viewers (the principal is gone) ends the feed.
func (f *Feed) Next(ctx context.Context, max int) ([]tidegate.Change, error) {
	if max <= 0 {
		max = DefaultBatch
	}
	if f.req.Limit > 0 {
		max = min(max, f.req.Limit-f.sent)
	}
	if err := f.prepare(ctx); err != nil || f.ended {
		return nil, err
	}
	out, caughtUp, err := f.read(ctx, max)
	if err != nil {
		return nil, err
	}
	if caughtUp {
		f.settle()
	}
	if len(out) > 0 {
		f.last = out[len(out)-1].Seq
		f.sent += len(out)
	}
	if f.req.Limit > 0 && f.sent >= f.req.Limit {
		f.ended = true
	}
	return out, nil
}

// read returns at least one entry, or has caught up.
func (f *Feed) read(ctx context.Context, max int) (out []tidegate.Change, caughtUp bool, err error) {
	for !caughtUp && len(out) == 0 {
		served := false
		if out, caughtUp, served = f.fromRing(max); served {
			continue
		}
		if out, caughtUp, err = f.fromStore(ctx, max); err != nil {
			return nil, false, err
		}
	}
	return out, caughtUp, nil
}

// prepare takes bound and view in the order that DESIGN.md asks for.
func (f *Feed) prepare(ctx context.Context) error {
	if f.closed {
		return ErrFeedClosed
	}
	if f.ended {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if !f.started {
		if err := f.h.CatchUp(ctx); err != nil {
			return err
		}
	}
	if f.waiter.alarm.takeChanged() {
		f.stale = true
	}
	return f.view(ctx)
}

// view takes the next bound, and the principal's view if there is a newer one. If that knows of changes
// beyond the bound then the hub is told to catch up: nothing would wake the feed for them.
func (f *Feed) view(ctx context.Context) error {
	for range maxLooks {
		events := f.arm()
		f.started = true
		if f.stale || !f.req.Admin && events > f.viewAt {
			if err := f.look(ctx); err != nil {
				return err
			}
		}
		if f.scope.newest <= f.bound || f.req.OneShot || f.req.Descending {
			return nil
		}
		if err := f.h.CatchUp(ctx); err != nil {
			return err
		}
	}
	f.stale = true // access changes all the time: go on, and do not sleep
	return nil
}

// look makes the scope from the newest view of the principal.
func (f *Feed) look(ctx context.Context) error {
	var viewer Viewer
	if !f.req.Admin {
		var err error
		if viewer, err = f.viewers.View(ctx, f.req.Viewer); err != nil {
			f.Close()
			return err
		}
	}
	after := f.cur.plain
	if f.cur.floor > 0 {
		after = 0 // in the slot of a marker everything is read that the viewer ever had
	}
	s := newScope(f.req.Collection, viewer, f.filter, after, f.req.Revocations)
	if viewer != nil && f.docs == nil {
		s.pseudo = viewer.Sequence()
		s.newest = max(s.newest, s.pseudo)
	}
	if !maps.Equal(s.grants, f.scope.grants) {
		if f.scope.grants != nil {
			f.seen = max(f.seen, f.cur.passed())
		}
		f.h.unregister(&f.waiter)
	}
	f.scope, f.stale, f.viewAt = s, false, f.bound
	return nil
}

// settle notes that the feed has caught up with its bound.
func (f *Feed) settle() {
	f.cur.moveTo(f.bound)
	f.seen, f.run, f.idle = max(f.seen, f.cur.passed()), f.cur.plain, true
	f.ended = f.req.OneShot || f.req.Descending
}

// fromStore reads one page. After an error the feed stands where it stood, so that the caller may try again.
func (f *Feed) fromStore(ctx context.Context, max int) (out []tidegate.Change, caughtUp bool, err error) {
	cur, below := f.cur, f.below
	err = f.h.st.View(ctx, func(r store.Reader) error {
		f.cur, f.below = cur, below
		p := page{f: f, r: r, max: max, budget: f.h.opts.ScanRows}
		if err := p.open(); err != nil {
			return err
		}
		if f.req.Descending {
			caughtUp, err = p.walkDown()
		} else {
			caughtUp, err = p.walk()
		}
		out = p.out
		return errors.Join(err, p.rows.close())
	})
	if err != nil {
		f.cur, f.below = cur, below
		return nil, false, err
	}
	return out, caughtUp, nil
}

// wants reports whether the request is about the document.
func (f *Feed) wants(docID string) bool {
	if f.docs == nil {
		return true
	}
	_, ok := f.docs[docID]
	return ok
}

// Since is the position after the last entry returned: that of the request if there was none.
func (f *Feed) Since() tidegate.Since { return f.last }

// Done reports whether the feed has ended: its limit is reached, or it is a one-shot and all has been
// returned.
func (f *Feed) Done() bool { return f.ended }
