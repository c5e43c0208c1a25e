package changes

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidegate/tidegate"
)

// armed arms a feed that has read all there is, and returns how often it was told.
func armed(t testing.TB, f *Feed) *atomic.Int64 {
	t.Helper()
	told := new(atomic.Int64)
	if ready, err := f.Arm(func() { told.Add(1) }); ready || err != nil {
		t.Fatalf("%v, %v", ready, err)
	}
	return told
}

func TestArm(t *testing.T) {
	w := newWorld(openStore(t))
	w.user("bob", "a")
	h := NewHub(w.st, w.space, HubOptions{})
	f := open(t, h, w, Request{Viewer: "bob"})
	never := func() { t.Error("notify was called although there was something at once") }
	ready := func(when string) {
		t.Helper()
		if ready, err := f.Arm(never); !ready || err != nil {
			t.Errorf("%s: %v, %v", when, ready, err)
		}
	}
	ready("before anything was read")
	drain(t, f, 0)
	w.put("early", "a")
	step(t, h)
	ready("something came before the first Arm")
	ready("asked again")
	expect(t, drain(t, f, 0), "2=early")
	told := armed(t, f)
	w.put("other", "b")
	step(t, h)
	if told.Load() != 0 {
		t.Error("told of what does not concern it")
	}
	w.put("d", "a")
	step(t, h)
	w.put("d", "a")
	step(t, h)
	w.admin("bob", "a", "b")
	if n := told.Load(); n != 1 {
		t.Errorf("told %d times", n)
	}
	ready("told, and nothing read yet")
	step(t, h)
	drain(t, f, 0)
	told = armed(t, f)
	w.admin("bob", "b") // nobody steps the hub
	if n := told.Load(); n != 1 {
		t.Errorf("told %d times of a change of access", n)
	}
	ready("the principal changed")
	drain(t, f, 0)
	first, second := armed(t, f), armed(t, f)
	w.put("d", "b")
	step(t, h)
	if first.Load() != 0 || second.Load() != 1 {
		t.Errorf("the first of two was told %d times, the second %d times", first.Load(), second.Load())
	}
}

func TestDisarm(t *testing.T) {
	w := newWorld(openStore(t))
	w.user("bob", "a")
	h := NewHub(w.st, w.space, HubOptions{})
	f := settled(t, h, w, Request{Viewer: "bob"})
	if f.Disarm() {
		t.Error("what was not armed was disarmed")
	}
	told := armed(t, f)
	if !f.Disarm() || f.Disarm() {
		t.Error("what was armed was not disarmed once")
	}
	w.put("d", "a")
	step(t, h)
	w.admin("bob", "a", "b")
	if told.Load() != 0 {
		t.Error("told after Disarm")
	}
	if ready, err := f.Arm(func() {}); !ready || err != nil {
		t.Errorf("what came meanwhile is forgotten: %v, %v", ready, err)
	}
	step(t, h)
	drain(t, f, 0)
	told = armed(t, f)
	f.Close()
	w.put("d", "a")
	step(t, h)
	w.admin("bob", "a")
	if told.Load() != 0 || f.Disarm() {
		t.Error("told after Close")
	}
	if _, err := f.Arm(func() {}); !errors.Is(err, ErrFeedClosed) {
		t.Errorf("closed: %v", err)
	}
	once := open(t, h, w, Request{Viewer: "bob", OneShot: true})
	drain(t, once, 0)
	if _, err := once.Arm(func() {}); !errors.Is(err, ErrFeedEnded) {
		t.Errorf("ended: %v", err)
	}
}

// No call begins after Disarm, however the two race; and one that Disarm did not take back was made.
func TestNothingIsToldAfterDisarm(t *testing.T) {
	var a alarm
	stop, ringing := make(chan struct{}), sync.WaitGroup{}
	for range 2 {
		ringing.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					a.ring()
					a.quiet()
				}
			}
		})
	}
	for range 20_000 {
		told, over := 0, false // guarded by the alarm alone: the race detector looks on
		if a.arm(func() {
			if told++; over {
				t.Error("told after disarm")
			}
		}) {
			continue
		}
		tookBack := a.disarm()
		over = true
		if tookBack == (told == 1) {
			t.Fatalf("taken back: %v, told %d times", tookBack, told)
		}
	}
	close(stop)
	ringing.Wait()
}

func TestHubThatStopsTellsAll(t *testing.T) {
	w := newWorld(openStore(t))
	w.user("bob", "a")
	h := NewHub(w.st, w.space, HubOptions{})
	feeds := []*Feed{
		settled(t, h, w, Request{Viewer: "bob"}), settled(t, h, w, Request{Admin: true}),
		settled(t, h, w, Request{Viewer: "bob", Channels: []string{"not bob's"}}), // reads no channel at all
	}
	var told []*atomic.Int64
	for _, f := range feeds {
		told = append(told, armed(t, f))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for i, f := range feeds {
		if n := told[i].Load(); n != 1 {
			t.Errorf("feed %d: told %d times", i, n)
		}
		if _, err := f.Arm(func() {}); !errors.Is(err, ErrHubStopped) {
			t.Errorf("feed %d: %v", i, err)
		}
	}
}

// One write to a channel that ten of 5,000 readers have wakes ten.
func TestOneWriteWakesTenOfThousands(t *testing.T) {
	const all, few = 5000, 10
	w := newWorld(openStore(t))
	w.user("rest", "common")
	w.user("few", "common", "rare")
	var wakeups atomic.Int64
	h := NewHub(w.st, w.space, HubOptions{Wakeups: &wakeups})
	var told []*atomic.Int64
	for i := range all {
		name := "rest"
		if i%(all/few) == 0 {
			name = "few"
		}
		told = append(told, armed(t, settled(t, h, w, Request{Viewer: name})))
	}
	w.put("d", "rare")
	step(t, h)
	if n := wakeups.Load(); n != few {
		t.Errorf("%d were woken", n)
	}
	for i := range told {
		if want := i%(all/few) == 0; (told[i].Load() == 1) != want {
			t.Errorf("reader %d: told %d times", i, told[i].Load())
		}
	}
	w.put("d", "common") // those who were woken have not read yet, and are not woken again
	step(t, h)
	if n := wakeups.Load(); n != all {
		t.Errorf("%d were woken by the second", n)
	}
}

// Whatever happens in whatever order: an armed feed that was not told has nothing to read.
func TestArmedFeedMissesNothing(t *testing.T) {
	st := openStore(t)
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(st)
		w.user("bob", "a")
		h := NewHub(w.st, w.space, HubOptions{RingEntries: rapid.SampledFrom([]int{1, 50}).Draw(t, "ring")})
		f, err := h.Feed(Request{Viewer: "bob", Revocations: true}, w, worldHistory{w})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		told, waits := 0, false
		read := func() (n int) {
			for {
				batch, err := f.Next(t.Context(), 2)
				if err != nil {
					t.Fatal(err)
				}
				if n += len(batch); len(batch) == 0 {
					return n
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				w.put(rapid.SampledFrom(modelDocs).Draw(t, "doc"), rapid.SliceOfN(rapid.SampledFrom(modelChannels), 0, 2).Draw(t, "channels")...)
			},
			"access": func(t *rapid.T) {
				w.admin("bob", rapid.SliceOfNDistinct(rapid.SampledFrom(modelChannels), 0, 2, rapid.ID).Draw(t, "channels")...)
			},
			"step": func(t *rapid.T) {
				if err := h.step(t.Context()); err != nil {
					t.Fatal(err)
				}
			},
			"read":   func(*rapid.T) { read() },
			"one":    func(t *rapid.T) { _, _ = f.Next(t.Context(), 1) },
			"disarm": func(*rapid.T) { waits = waits && !f.Disarm() },
			"arm": func(t *rapid.T) {
				told = 0
				ready, err := f.Arm(func() { told++ })
				if err != nil {
					t.Fatal(err)
				}
				waits = !ready
			},
			"look": func(t *rapid.T) {
				if !waits {
					return
				}
				if err := h.step(t.Context()); err != nil {
					t.Fatal(err)
				}
				if told > 1 {
					t.Fatalf("told %d times", told)
				}
				if n := read(); told == 0 && n > 0 {
					t.Fatalf("%d entries that nobody told of", n)
				}
			},
		})
	})
}

// sleepArmed waits as Wait does, by way of Arm.
func sleepArmed(ctx context.Context, f *Feed) error {
	told := make(chan struct{})
	ready, err := f.Arm(func() { close(told) }) // panics if it is called twice
	if err != nil || ready {
		return err
	}
	select {
	case <-told:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("not told: %w", ctx.Err())
	}
}

// BenchmarkArmedFanOut is one write until 5,000 armed feeds are told.
func BenchmarkArmedFanOut(b *testing.B) {
	const n = 5000
	w := manyDocs(b, 500)
	w.user("bob", "all")
	h := NewHub(w.st, w.space, HubOptions{})
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { _ = h.Run(ctx) })
	feeds := make([]*Feed, n)
	for i := range feeds {
		var err error
		if feeds[i], err = h.Feed(Request{Viewer: "bob", Since: tidegate.Since{Seq: 501}}, w, worldHistory{w}); err != nil {
			b.Fatal(err)
		}
		defer feeds[i].Close()
	}
	var told atomic.Int64
	all := make(chan struct{}, 1)
	notify := func() {
		if told.Add(1) == n {
			all <- struct{}{}
		}
	}
	for b.Loop() {
		b.StopTimer()
		told.Store(0)
		for _, f := range feeds {
			for ready := true; ready; {
				if _, err := f.Next(ctx, 0); err != nil {
					b.Fatal(err)
				}
				var err error
				if ready, err = f.Arm(notify); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.StartTimer()
		w.put("document-000000", "all")
		<-all
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/feed")
}
