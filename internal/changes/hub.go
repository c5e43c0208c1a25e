package changes

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// HubOptions configure a Hub; zero values mean the defaults.
type HubOptions struct {
	RingEntries int // recent entries kept in memory; 8,192, which is also the most
	RingBytes   int // their size in memory, bytes; 4 MiB
	ScanRows    int // index rows that a feed looks at under one snapshot; 4,096
	// Invalidate, if set, is told of the events in the store: the names of principals ("user:bob", "role:r") that changed, or "*"
	// for all, and of what else other packages name there, before any reader can see the sequence at which it was. It must be
	// idempotent and must not call the Hub.
	Invalidate func(names []string)
	// Wakeups, if set, counts the feeds that were asleep, in Wait or armed, and were woken.
	Wakeups *atomic.Int64
}

const (
	defaultRingBytes = 4 << 20
	defaultScanRows  = 4096
)

// Hub follows one database, keeps its recent changes in memory and wakes the feeds that they concern. It is
// safe for concurrent use.
type Hub struct {
	st     store.Store
	space  store.Space
	routes *store.RoutingCache
	opts   HubOptions

	// stepping is held by who reads new rows from the store: Run, or a feed in a hurry. Only its holder writes
	// what mu guards, waiters apart.
	stepping chan struct{}

	mu      sync.RWMutex
	colls   []store.Collection
	started bool
	last    tidegate.Seq // all up to here is in the ring or before it
	events  tidegate.Seq // the last change of access up to last
	ring    ring
	waiters waitLists
	failure error // why nobody follows the store any more
}

// ErrHubStopped is returned by Wait when the hub does not follow the store any more.
var ErrHubStopped = tidegate.Errorf(tidegate.Unavailable, "the changes feed has stopped")

// NewHub returns the hub of a space. Feeds work at once; they are woken while Run is running.
func NewHub(st store.Store, space store.Space, opts HubOptions) *Hub {
	if opts.RingEntries <= 0 || opts.RingEntries > LeftWindow {
		opts.RingEntries = LeftWindow
	}
	if opts.RingBytes <= 0 {
		opts.RingBytes = defaultRingBytes
	}
	if opts.ScanRows <= 0 {
		opts.ScanRows = defaultScanRows
	}
	if opts.Wakeups == nil {
		opts.Wakeups = new(atomic.Int64)
	}
	h := &Hub{
		st: st, space: space, routes: store.NewRoutingCache(space), opts: opts,
		stepping: make(chan struct{}, 1),
		waiters:  make(waitLists),
		ring:     ring{maxEntries: opts.RingEntries, maxBytes: opts.RingBytes},
	}
	h.ring.reset(0)
	return h
}

// Run follows the store until ctx ends or the store fails for good, and returns that error. Feeds that wait then get
// ErrHubStopped. While the store cannot be reached they wait. It may be called again.
func (h *Hub) Run(ctx context.Context) error {
	h.mu.Lock()
	h.failure = nil
	h.mu.Unlock()
	err := h.run(ctx)
	h.mu.Lock()
	h.failure = ErrHubStopped
	woken := h.waiters.all()
	h.mu.Unlock()
	h.wake(woken)
	return err
}

func (h *Hub) run(ctx context.Context) error {
	for {
		err := h.step(ctx)
		if err == nil {
			_, err = h.st.Wait(ctx, h.space, h.position())
		}
		switch {
		case err == nil:
		case ctx.Err() != nil, !passing(err):
			return err
		case !pause(ctx, retryFollow):
			return ctx.Err()
		}
	}
}

// passing reports whether an error of the store says that it is away for now.
func passing(err error) bool {
	return tidegate.ErrorCode(err) == tidegate.Unavailable && !errors.Is(err, store.ErrClosed) || errors.Is(err, context.DeadlineExceeded)
}

// retryFollow is the pause after the store could not be reached.
const retryFollow = 200 * time.Millisecond

// pause waits, and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// position is the last sequence that readers can get.
func (h *Hub) position() tidegate.Seq {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.last
}

// Collections tells which collections exist. Those that a feed is opened on are known without it.
func (h *Hub) Collections(colls []store.Collection) {
	colls = slices.Clone(colls)
	slices.Sort(colls)
	h.setCollections(func([]store.Collection) []store.Collection { return slices.Compact(colls) })
}

// follow makes sure that the collection is read.
func (h *Hub) follow(coll store.Collection) {
	h.mu.RLock()
	known := slices.Contains(h.colls, coll)
	h.mu.RUnlock()
	if known {
		return
	}
	h.setCollections(func(colls []store.Collection) []store.Collection {
		if slices.Contains(colls, coll) {
			return colls
		}
		return append(slices.Clone(colls), coll)
	})
}

// setCollections changes the set of collections. The ring has nothing of those that are new, so it starts
// again.
func (h *Hub) setCollections(change func([]store.Collection) []store.Collection) {
	h.stepping <- struct{}{}
	defer func() { <-h.stepping }()
	h.mu.Lock()
	defer h.mu.Unlock()
	old := h.colls
	h.colls = change(old)
	if slices.ContainsFunc(h.colls, func(c store.Collection) bool { return !slices.Contains(old, c) }) {
		h.ring.reset(h.last)
	}
}

// Refresh empties what is kept in memory, and wakes every feed. Call it after rows were changed at sequences that
// readers may have passed, as an offline resync does.
func (h *Hub) Refresh() {
	h.stepping <- struct{}{}
	defer func() { <-h.stepping }()
	h.mu.Lock()
	h.ring.reset(h.last)
	h.events = max(h.events, h.last)
	woken := h.waiters.all()
	h.mu.Unlock()
	h.wake(woken)
}

// purgedPrefix begins the name of the event that a document was purged.
const purgedPrefix = "doc:"

// Purged is the name of the event that a document of a collection was purged: the hubs of all nodes drop it from what they keep in memory when
// they come to its sequence. A purge leaves it in its transaction.
func Purged(coll store.Collection, docID string) string {
	return string(binary.BigEndian.AppendUint32([]byte(purgedPrefix), uint32(coll))) + docID
}

// cutPurged takes the name of such an event apart.
func cutPurged(name string) (key docKey, ok bool) {
	rest, ok := strings.CutPrefix(name, purgedPrefix)
	if !ok || len(rest) < 4 {
		return key, false
	}
	return docKey{store.Collection(binary.BigEndian.Uint32([]byte(rest[:4]))), rest[4:]}, true
}

// changesAccess reports whether the event of a name is one after which a principal may see something else.
func changesAccess(name string) bool {
	return name == everybody || strings.HasPrefix(name, "user:") || strings.HasPrefix(name, "role:")
}

// everybody is the name of the event that what all principals may see may have changed.
const everybody = "*"

// CatchUp brings the hub to the store's last sequence now: what was committed before is in effect for all feeds.
func (h *Hub) CatchUp(ctx context.Context) error { return h.step(ctx) }

// batch is what one step read.
type batch struct {
	from, to tidegate.Seq
	reset    bool // too far behind: entries are not read
	entries  []*recent
	events   tidegate.Seq // the last change of access; 0: none
	names    map[string]struct{}
	purged   []docKey
}

// step reads what is new in the store, publishes it and wakes those whom it concerns.
func (h *Hub) step(ctx context.Context) error {
	select {
	case h.stepping <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-h.stepping }()
	var b batch
	if err := h.st.View(ctx, func(r store.Reader) error { return h.read(r, &b) }); err != nil {
		return err
	}
	if b.to == b.from && !b.reset {
		return nil
	}
	if len(b.names) > 0 && h.opts.Invalidate != nil {
		h.opts.Invalidate(slices.Sorted(maps.Keys(b.names)))
	}
	h.wake(h.publish(&b))
	return nil
}

// read fills b from a snapshot. The caller holds stepping.
func (h *Hub) read(r store.Reader, b *batch) error {
	last, err := r.LastSequence(h.space)
	if err != nil {
		return err
	}
	b.from, b.to = h.last, last
	if !h.started {
		b.reset, b.events = true, last
		return nil
	}
	if last == b.from {
		return nil
	}
	if b.reset = last < b.from || last-b.from > LeftWindow; b.reset {
		// Events from so long ago may be swept already.
		b.names, b.events = map[string]struct{}{everybody: {}}, last
		return nil
	}
	if err := h.readEvents(r, b); err != nil {
		return err
	}
	routing, err := h.routes.Read(r)
	if err != nil {
		return err
	}
	for _, coll := range h.colls {
		if err := h.readEntries(r, b, coll, routing.Live(coll)); err != nil {
			return err
		}
	}
	return nil
}

// readEvents reads what changed besides documents.
func (h *Hub) readEvents(r store.Reader, b *batch) error {
	it := r.Scan(store.Range{
		Start: store.NewKey(h.space, store.KindEvent).Seq(b.from + 1),
		End:   store.NewKey(h.space, store.KindEvent).Seq(b.to + 1),
	})
	defer it.Close()
	for it.Next() {
		seq, rest, err := store.CutSeq(it.Key()[store.Header:])
		if err != nil {
			return err
		}
		name, _, err := store.CutName(rest)
		if err != nil {
			return err
		}
		if key, ok := cutPurged(name); ok {
			b.purged = append(b.purged, key)
			continue
		}
		if b.names == nil {
			b.names = make(map[string]struct{})
		}
		b.names[name] = struct{}{}
		if changesAccess(name) {
			b.events = seq
		}
	}
	return it.Err()
}

// readEntries reads the new rows of channel "*" of a collection, whose rows have the physical number.
func (h *Hub) readEntries(r store.Reader, b *batch, coll, physical store.Collection) error {
	it := r.Scan(rowRange(h.space, physical, tidegate.AllChannels, b.from+1, b.to))
	defer it.Close()
	for it.Next() {
		seq, err := keySeq(it.Key())
		if err != nil {
			return err
		}
		e, err := ParseEntry(seq, string(it.Value()))
		if err != nil {
			return err
		}
		b.entries = append(b.entries, newRecent(coll, e))
	}
	return it.Err()
}

// publish makes a batch visible to readers and returns whom to wake.
func (h *Hub) publish(b *batch) (woken []*waiter) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.started, h.last = true, b.to
	h.events = max(h.events, b.events)
	if b.reset {
		h.ring.reset(b.to)
		return h.waiters.all()
	}
	for _, key := range b.purged { // first: it may have been written again since
		h.ring.forget(key)
	}
	h.ring.add(b.entries, b.from)
	h.ring.trim(b.to)
	for _, e := range b.entries {
		key := channelKey{e.coll, tidegate.AllChannels}
		woken = h.waiters.wake(key, b.from, woken)
		for _, key.channel = range e.Channels {
			woken = h.waiters.wake(key, b.from, woken)
		}
		for _, key.channel = range e.RemovedFrom {
			woken = h.waiters.wake(key, b.from, woken)
		}
		for _, d := range e.Left {
			if d.Seq <= b.from {
				break
			}
			for _, key.channel = range d.Channels {
				woken = h.waiters.wake(key, b.from, woken)
			}
		}
	}
	return woken
}

// wake tells waiters. The hub's lock is not held.
func (h *Hub) wake(woken []*waiter) {
	for _, w := range woken {
		h.count(w.alarm.ring())
	}
}

// count counts a feed that was woken.
func (h *Hub) count(woken bool) {
	if woken {
		h.opts.Wakeups.Add(1)
	}
}

// arm takes the feed's next bound and makes sure that it is woken for whatever comes after it. It returns
// the sequence of the last change of access up to the bound.
func (f *Feed) arm() (events tidegate.Seq) {
	h, w := f.h, &f.waiter
	w.alarm.quiet() // before the bound is taken: what rings from now on may be beyond it
	h.mu.RLock()
	defer h.mu.RUnlock()
	bound := h.last
	if f.idle && !f.stale && w.registered && h.events <= f.viewAt {
		quiet := w.quiet
		if w.armed {
			quiet = bound
		}
		f.cur.moveTo(quiet)
		f.seen, f.run = max(f.seen, f.cur.plain), f.cur.plain
	}
	w.armed, f.idle = true, false
	if !f.started || !f.req.OneShot && !f.req.Descending {
		f.bound = bound
	}
	return h.events
}

// await registers the feed's waiter, unless something may have come since its bound (ready).
func (h *Hub) await(f *Feed) (ready bool, err error) {
	if f.waiter.registered {
		return false, h.stopped()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failure != nil {
		return false, h.failure
	}
	if h.last != f.bound {
		return true, nil
	}
	f.waiter.registered, f.waiter.armed, f.waiter.quiet = true, true, f.bound
	switch {
	case f.scope.star:
		h.waiters.add(&f.waiter, f.req.Collection, slices.Values([]string{tidegate.AllChannels}), 1)
	case len(f.scope.grants) == 0: // only the end of the hub concerns it
		h.waiters.add(&f.waiter, f.req.Collection, slices.Values([]string{noChannel}), 1)
	default:
		h.waiters.add(&f.waiter, f.req.Collection, maps.Keys(f.scope.grants), len(f.scope.grants))
	}
	return false, nil
}

// unregister takes the waiter out of all lists.
func (h *Hub) unregister(w *waiter) {
	if w.registered {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.waiters.remove(w)
		w.registered = false
	}
}

// stopped returns why the hub does not follow the store; nil if it does.
func (h *Hub) stopped() error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.failure
}
