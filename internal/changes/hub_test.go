package changes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// countingStore counts snapshots.
type countingStore struct {
	store.Store
	views atomic.Int64
}

func (s *countingStore) View(ctx context.Context, fn func(store.Reader) error) error {
	s.views.Add(1)
	return s.Store.View(ctx, fn)
}

// settled opens a feed, reads it to the end and registers it, as if it were in Wait.
func settled(t testing.TB, h *Hub, w *world, req Request) *Feed {
	t.Helper()
	f := open(t, h, w, req)
	drain(t, f, 0)
	if ready, err := h.await(f); ready || err != nil {
		t.Fatalf("%v, %v", ready, err)
	}
	return f
}

// woken reports whether a wake-up is pending.
func woken(f *Feed) bool {
	a := &f.waiter.alarm
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.rung || a.changed
}

func TestHubWakesOnlyWhomAWriteConcerns(t *testing.T) {
	w := newWorld(openStore(t))
	h := NewHub(w.st, w.space, HubOptions{})
	w.user("bob", "a")
	w.user("amy", "b")
	w.put("d", "c")
	feeds := map[string]*Feed{
		"bob": settled(t, h, w, Request{Viewer: "bob"}), "amy": settled(t, h, w, Request{Viewer: "amy"}),
		"admin": settled(t, h, w, Request{Admin: true}), "filter": settled(t, h, w, Request{Admin: true, Channels: []string{"c"}}),
		"other": settled(t, h, w, Request{Collection: 7, Admin: true}),
	}
	for _, c := range []struct {
		do   func()
		want []string
	}{
		{func() { w.put("x", "a") }, []string{"admin", "bob"}},
		{func() { w.put("x", "b") }, []string{"admin", "amy", "bob"}}, // bob: a removal
		{func() { w.put("x") }, []string{"admin", "amy"}},
		{func() { w.put("x", "!") }, []string{"admin", "amy", "bob"}},
		{func() { w.put("x", "c") }, []string{"admin", "amy", "bob", "filter"}},
		{func() { w.put("x", "nobody") }, []string{"admin", "filter"}},
		{func() { w.put("x", "a"); w.put("x", "nobody") }, []string{"admin", "bob"}}, // between two looks of the hub
	} {
		c.do()
		step(t, h)
		var got []string
		for name, f := range feeds {
			if woken(f) {
				got = append(got, name)
				drain(t, f, 0)
			}
		}
		if slices.Sort(got); !slices.Equal(got, c.want) {
			t.Errorf("woken %v, want %v", got, c.want)
		}
	}
}

func TestBurstWakesAReaderOnce(t *testing.T) {
	w := newWorld(openStore(t))
	h := NewHub(w.st, w.space, HubOptions{})
	f := settled(t, h, w, Request{Admin: true})
	for i := range 50 {
		w.put(fmt.Sprint("d", i))
		if i%10 == 9 {
			step(t, h)
		}
	}
	if err := f.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(drain(t, f, 0)); n != 50 || woken(f) {
		t.Errorf("%d entries, another wake-up: %v", n, woken(f))
	}
}

// A reader whose position is in the ring does not touch the store, however long it slept.
func TestCaughtUpReadersAreServedFromTheRing(t *testing.T) {
	w := newWorld(openStore(t))
	st := &countingStore{Store: w.st}
	h := NewHub(st, w.space, HubOptions{RingEntries: 4})
	w.user("bob", "a")
	f := settled(t, h, w, Request{Viewer: "bob"})
	for i := range 30 {
		w.put(fmt.Sprint("other", i), "b") // pushes bob's position out of the ring, were it not moved on
		step(t, h)
	}
	seq := w.put("d", "a")
	step(t, h)
	before := st.views.Load()
	if err := f.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect(t, drain(t, f, 0), fmt.Sprintf("%d=d", seq))
	if n := st.views.Load() - before; n != 0 {
		t.Errorf("%d snapshots were opened", n)
	}
	for i := range 30 { // one that does not come back in time reads from the store
		w.put(fmt.Sprint("d", i%10), "a")
		step(t, h)
	}
	if got := drain(t, f, 0); len(got) != 10 || st.views.Load() == before {
		t.Errorf("%s", brief(got))
	}
}

func TestRingIsBounded(t *testing.T) {
	w := newWorld(openStore(t))
	h := NewHub(w.st, w.space, HubOptions{RingEntries: 50, RingBytes: 10_000})
	h.Collections([]store.Collection{0})
	step(t, h)
	for i := range 300 {
		w.put(fmt.Sprint("d", i%97), fmt.Sprint("c", i%7))
		if i%3 == 0 {
			step(t, h)
		}
		bytes, docs := 0, 0
		for _, item := range h.ring.items {
			if item.recent != nil {
				bytes += item.size()
			}
		}
		for _, seqs := range h.ring.docs {
			docs += len(seqs)
		}
		if bytes != h.ring.bytes || bytes > 10_000 || len(h.ring.items) > 50 || docs > len(h.ring.items) {
			t.Fatalf("%d items, %d bytes counted, %d there, %d of documents", len(h.ring.items), h.ring.bytes, bytes, docs)
		}
	}
	if len(h.ring.items) < 10 {
		t.Errorf("only %d items are left", len(h.ring.items))
	}
}

// The ring says of every stretch that it covers what the index says (I6 at its edge).
func TestI6RingIsWhatTheIndexSays(t *testing.T) {
	st := openStore(t)
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(st)
		h := NewHub(w.st, w.space, HubOptions{RingEntries: rapid.SampledFrom([]int{2, 5, 50}).Draw(t, "ring")})
		h.Collections([]store.Collection{0})
		if err := h.step(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 30).Draw(t, "writes") {
			w.write(write{
				id: rapid.SampledFrom(modelDocs).Draw(t, "doc"), deleted: rapid.IntRange(0, 4).Draw(t, "deleted") == 0,
				channels: rapid.SliceOfN(rapid.SampledFrom(modelChannels), 0, 2).Draw(t, "channels"),
				others:   rapid.SliceOfN(genLeaf, 0, 2).Draw(t, "others"),
			})
			if rapid.Bool().Draw(t, "step") {
				if err := h.step(t.Context()); err != nil {
					t.Fatal(err)
				}
				compareRing(t, w, h)
			}
		}
	})
}

func compareRing(t *rapid.T, w *world, h *Hub) {
	for since := h.ring.base; since <= h.last; since++ {
	channels:
		for n, channels := range [][]string{nil, {"a"}, {"a", "b"}, {"c"}, nil, {"a"}, {"a", "b"}, {"c"}} {
			req := Request{Admin: true, Since: tidegate.Since{Seq: since}, Channels: channels, AllLeaves: n < 4}
			var got [2]string
			for i := range got {
				f, err := h.Feed(req, nil, nil)
				if err != nil {
					t.Fatal(err)
				}
				if err := f.prepare(t.Context()); err != nil {
					t.Fatal(err)
				}
				var out []tidegate.Change
				done := false
				if i == 0 {
					var served bool
					if out, done, served = f.fromRing(1000); !served && req.AllLeaves && departed(h) {
						f.Close()
						continue channels // which leaves there were is known to the index only
					}
					if !served {
						t.Fatalf("%d is in the ring after %d, but is not served", since, h.ring.base)
					}
				} else if out, done, err = f.fromStore(t.Context(), 1000); err != nil {
					t.Fatal(err)
				}
				f.Close()
				if got[i] = fmt.Sprint(out); !done {
					t.Fatal("not done")
				}
			}
			if got[0] != got[1] {
				t.Fatalf("since %d, channels %v: ring\n%s\nindex\n%s", since, channels, got[0], got[1])
			}
		}
	}
}

// departed reports whether the ring has a deletion that it knows by what came after it only.
func departed(h *Hub) bool {
	return slices.ContainsFunc(h.ring.items, func(i ringItem) bool { return i.recent != nil && i.departed && i.Flags&Deleted != 0 })
}

func TestHubThatIsFarBehindStartsAgain(t *testing.T) {
	w := newWorld(openStore(t))
	h := NewHub(w.st, w.space, HubOptions{})
	f := settled(t, h, w, Request{Admin: true, Channels: []string{"a"}})
	w.put("d", "a")
	writes := make([]write, LeftWindow)
	for i := range writes {
		writes[i].id = "x"
	}
	w.writeAll(writes...)
	step(t, h)
	if !woken(f) || len(h.ring.items) != 0 {
		t.Errorf("woken: %v, %d items", woken(f), len(h.ring.items))
	}
	expect(t, drain(t, f, 0), "1=d")
}

func TestHubTellsOfPrincipalsBeforeReadersSeeTheSequence(t *testing.T) {
	w := newWorld(openStore(t))
	var h *Hub
	var told []string
	h = NewHub(w.st, w.space, HubOptions{Invalidate: func(principals []string) {
		told = append(told, fmt.Sprint(h.position(), principals))
	}})
	w.user("bob", "a")
	step(t, h) // begins here: nobody can hold anything older
	w.admin("bob", "b")
	w.put("d")
	w.update(func(tx store.Tx, seq tidegate.Seq) error {
		return errors.Join(WriteEvent(tx, w.space, seq, "role:r"), WriteEvent(tx, w.space, seq, "user:bob"))
	})
	step(t, h)
	step(t, h)
	if want := []string{"1 [role:r user:bob]"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

func TestPurgedDocumentLeavesTheRing(t *testing.T) {
	w := newWorld(openStore(t))
	h := NewHub(w.st, w.space, HubOptions{})
	open(t, h, w, Request{Admin: true})
	step(t, h)
	w.put("a")
	w.put("b")
	step(t, h)
	w.purge("a")
	w.update(func(tx store.Tx, seq tidegate.Seq) error { return WriteEvent(tx, w.space, seq, Purged(0, "a")) })
	expect(t, drain(t, open(t, h, w, Request{Admin: true}), 0), "2=b")
	w.put("c")
	step(t, h)
	w.purge("c")
	w.update(func(tx store.Tx, seq tidegate.Seq) error { return WriteEvent(tx, w.space, seq, Purged(0, "c")) })
	w.put("c") // again, before the hub has heard of the purge
	step(t, h)
	if len(h.ring.items) == 0 {
		t.Fatal("the ring is empty")
	}
	expect(t, drain(t, open(t, h, w, Request{Admin: true}), 0), "2=b 6=c")
}

// flaky is a store that cannot be reached for a while.
type flaky struct {
	store.Store
	down atomic.Bool
	asks chan struct{} // gets a token when it was asked in vain
}

func (s *flaky) View(ctx context.Context, fn func(store.Reader) error) error {
	if s.down.Load() {
		select {
		case s.asks <- struct{}{}:
		default:
		}
		return tidegate.Errorf(tidegate.Unavailable, "no connection")
	}
	return s.Store.View(ctx, fn)
}

// A store that cannot be reached for a while ends no feed: it goes on where it was.
func TestHubOutlivesAStoreThatIsAway(t *testing.T) {
	st := &flaky{Store: openStore(t), asks: make(chan struct{}, 1)}
	w := newWorld(st.Store)
	h := NewHub(st, w.space, HubOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	f := open(t, h, w, Request{Admin: true})
	expect(t, drain(t, f, 0), "")
	st.down.Store(true)
	w.put("a")
	<-st.asks
	st.down.Store(false)
	if err := f.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect(t, drain(t, f, 0), "1=a")
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
}

func TestCollectionsAreApart(t *testing.T) {
	w := newWorld(openStore(t))
	h := NewHub(w.st, w.space, HubOptions{})
	h.Collections([]store.Collection{0, 1})
	step(t, h)
	w.put("a", "x")
	w.coll = 1
	w.put("b", "x")
	step(t, h)
	expect(t, drain(t, open(t, h, w, Request{Admin: true, Collection: 0}), 0), "1=a")
	expect(t, drain(t, open(t, h, w, Request{Admin: true, Collection: 1}), 0), "2=b")
	w.coll = 2 // nobody announced it
	w.put("c", "x")
	step(t, h)
	expect(t, drain(t, open(t, h, w, Request{Admin: true, Collection: 2}), 0), "3=c")
}

// A feed waits while nothing concerns it, and ends its wait for each of the reasons there are.
func TestWait(t *testing.T) {
	w := newWorld(openStore(t))
	w.user("bob", "a")
	h := NewHub(w.st, w.space, HubOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	var hub sync.WaitGroup
	hub.Go(func() {
		if err := h.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	f := open(t, h, w, Request{Viewer: "bob"})
	if err := f.Wait(ctx); err != nil { // nothing was read yet
		t.Error(err)
	}
	expect(t, drain(t, f, 0), "1=_user/bob")
	gaveUp, giveUp := context.WithCancel(ctx)
	giveUp()
	if err := f.Wait(gaveUp); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	var entries []tidegate.Change
	for entries == nil { // a write
		w.put("d", "a")
		if err := f.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		entries = drain(t, f, 0)
	}
	w.admin("bob", "a", "b") // a change of access; the wake-up and the hub's step race
	for done := false; !done; {
		if err := f.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		for _, e := range drain(t, f, 0) {
			done = done || e.ID == "_user/bob"
		}
	}
	cancel()
	hub.Wait()
	if err := f.Wait(t.Context()); !errors.Is(err, ErrHubStopped) {
		t.Errorf("stopped: %v", err)
	}
	f.Close()
	if err := f.Wait(t.Context()); !errors.Is(err, ErrFeedClosed) {
		t.Errorf("closed: %v", err)
	}
	if _, err := f.Next(t.Context(), 1); !errors.Is(err, ErrFeedClosed) {
		t.Errorf("closed: %v", err)
	}
}

// The principal's signal may come before the hub has seen the sequence at which it changed. The feed must not go
// to sleep over it, for no document will wake it.
func TestI9GrantIsSeenBeforeTheHubMovesOn(t *testing.T) {
	w := newWorld(openStore(t))
	w.user("bob")
	h := NewHub(w.st, w.space, HubOptions{})
	w.put("old", "a")
	f := settled(t, h, w, Request{Viewer: "bob"})
	w.admin("bob", "a")
	if err := f.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect(t, drain(t, f, 0), "3:2=old 3=_user/bob")
}

func TestFeedEndsWithItsPrincipal(t *testing.T) {
	w := newWorld(openStore(t))
	w.user("bob", "a")
	h := NewHub(w.st, w.space, HubOptions{})
	f := settled(t, h, w, Request{Viewer: "bob"})
	w.remove("bob")
	if err := f.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Next(t.Context(), 0); !errors.Is(err, tidegate.ErrMissing) {
		t.Errorf("%v", err)
	}
	if err := f.Wait(t.Context()); err == nil {
		t.Error("the feed goes on")
	}
}

func TestWaitersLeaveNothingBehind(t *testing.T) {
	w := newWorld(openStore(t))
	h := NewHub(w.st, w.space, HubOptions{})
	for i := range 40 {
		w.user(fmt.Sprint("u", i), "a", fmt.Sprint("c", i%5))
	}
	var feeds []*Feed
	for i := range 40 {
		feeds = append(feeds, settled(t, h, w, Request{Viewer: fmt.Sprint("u", i)}))
	}
	if n := len(h.waiters[channelKey{0, "a"}].items); n != 40 {
		t.Errorf("%d wait for a", n)
	}
	for i := range feeds {
		feeds[i*7%40].Close()
		for _, list := range h.waiters {
			for at, item := range list.items {
				if p := item.w.places[item.place]; p.list != list || p.at != at {
					t.Fatal("a waiter does not know its place")
				}
			}
		}
	}
	if len(h.waiters) != 0 {
		t.Errorf("left: %v", h.waiters)
	}
}
