package changes

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/store"
)

// trim allocates a floor marker, and moves the floor to a place below it if move says so: as many sequences below as above says.
// Documents up to the floor keep no more of their history than the ledger does.
func (w *world) trim(move bool, above int) {
	marker := w.update(func(store.Tx, tidegate.Seq) error { return nil })
	w.mu.Lock()
	defer w.mu.Unlock()
	w.markers = append(slices.Clone(w.markers), marker)
	w.ever = append(w.ever, marker)
	w.logf("%d: marker", marker)
	if floor := marker - 1; move && int(floor) > above {
		w.floor = max(w.floor, floor-tidegate.Seq(above))
		w.markers = slices.DeleteFunc(w.markers, func(m tidegate.Seq) bool { return m <= w.floor })
		for _, d := range w.docs {
			if d.state.Seq > w.floor {
				continue
			}
			for c, ps := range d.periods {
				d.periods[c] = []Period{{Start: ps[0].Start, End: ps[len(ps)-1].End}}
			}
		}
		w.logf("floor is %d", w.floor)
	}
}

// placeOf is the sequence by which a reader must have a channel to be sent documents with an entry.
func (w *world) placeOf(e tidegate.Change) tidegate.Seq {
	if slices.Contains(w.ever, e.Seq.Trigger) {
		return max(e.Seq.Seq, e.Seq.Trigger)
	}
	return e.Seq.Seq
}

// rewind sends the client back to the start if its position is not honoured any more; it keeps what it holds.
func (c *client) rewind() (rewound bool) {
	if pos := devicesync.Position(c.since); pos > 0 && pos <= c.w.floor {
		c.w.logf("%s is rewound from %s", c.user, c.since)
		c.since = tidegate.Since{}
		return true
	}
	return false
}

// Trims at any moment: a client that starts again, or goes on in the slot of a marker, comes to hold exactly what its user may see.
func TestD26TrimsAtAnyMomentLoseNothing(t *testing.T) {
	checkHistories(t, historyKind{trims: true}, scanning)
}

// The same while grants come and go: what was lost before the client started again is taken away from it.
func TestD26TrimsWithRevocations(t *testing.T) {
	checkHistories(t, historyKind{losses: true, trims: true}, scanning)
}

func TestD26TrimsWithLookups(t *testing.T) {
	checkHistories(t, historyKind{losses: true, trims: true}, lookingUp)
}

// oneShot reads a whole feed in pages of max entries.
func oneShot(t *rapid.T, hub *Hub, w *world, req Request, max int) []tidegate.Change {
	req.OneShot = true
	f, err := hub.Feed(req, w, worldHistory{w})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []tidegate.Change
	for {
		page, err := f.Next(t.Context(), max)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			return all
		}
		all = append(all, page...)
	}
}

// Resuming at any entry gives exactly the rest: nothing twice, nothing left out, in the same order and under the same labels.
func TestD37ResumingInTheSlotOfAMarkerGivesTheRest(t *testing.T) {
	st := openStore(t)
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(st)
		hub := NewHub(st, w.space, HubOptions{ScanRows: rapid.SampledFrom([]int{1, 3, 100}).Draw(t, "scan")})
		h := &history{t: t, w: w, hub: hub}
		for _, name := range modelUsers {
			w.user(name, "a")
		}
		for range rapid.IntRange(3, 40).Draw(t, "writes") {
			if rapid.IntRange(0, 5).Draw(t, "trims") == 0 {
				w.trim(rapid.Bool().Draw(t, "floor"), rapid.IntRange(0, 5).Draw(t, "above"))
				continue
			}
			h.write()
		}
		req := Request{Viewer: "bob", Markers: w.markers}
		switch rapid.IntRange(0, 2).Draw(t, "asks") {
		case 0:
			req.Channels = []string{"a", "b"}
		case 1:
			req.Viewer, req.Admin = "", true
		}
		all := oneShot(t, hub, w, req, 3)
		if err := checkI6Order(all); err != nil {
			t.Fatal(err)
		}
		if err := checkLabels(w.markers, all); err != nil {
			t.Fatal(err)
		}
		for i, e := range all {
			req.Since = e.Seq
			rest := oneShot(t, hub, w, req, rapid.IntRange(1, 4).Draw(t, "max"))
			if got, want := brief(w.outsideBackfills(rest)), brief(w.outsideBackfills(all[i+1:])); got != want {
				t.Fatalf("after %s: %s, want %s; all: %s", e.Seq, got, want, brief(all))
			}
		}
	})
}

// outsideBackfills leaves out the backfills of grants that are newer than every marker: these are repeated when a feed is resumed
// (DESIGN.md, Losing and regaining).
func (w *world) outsideBackfills(all []tidegate.Change) []tidegate.Change {
	return slices.DeleteFunc(slices.Clone(all), func(e tidegate.Change) bool {
		return e.Seq.Trigger > 0 && !slices.Contains(w.markers, e.Seq.Trigger)
	})
}

// checkLabels checks that what comes before the newest marker is labelled with it, and nothing else is.
func checkLabels(markers []tidegate.Seq, all []tidegate.Change) error {
	if len(markers) == 0 {
		return nil
	}
	marker := markers[len(markers)-1]
	for _, e := range all {
		if below := e.Seq.Seq < marker; below != (e.Seq.Trigger == marker) && e.Seq.Trigger <= marker && !e.Revoked {
			return fmt.Errorf("entry %s, marker %d", e.Seq, marker)
		}
	}
	return nil
}

// A feed that starts at nothing and writes that come meanwhile: the marker stays the one that it began with, and the token is worth the marker
// however long the pull takes (D37: a first pull slower than a trim).
func TestD37FirstPullOutlivesTrims(t *testing.T) {
	st := openStore(t)
	w := newWorld(st)
	hub := NewHub(st, w.space, HubOptions{})
	w.user("bob", "a")
	for i := range 6 {
		w.put(fmt.Sprintf("d%d", i), "a")
	}
	w.trim(false, 0)
	first := w.markers[0]
	f, err := hub.Feed(Request{Viewer: "bob", Markers: w.markers}, w, worldHistory{w})
	if err != nil {
		t.Fatal(err)
	}
	page, err := f.Next(t.Context(), 3)
	f.Close()
	if err != nil || len(page) != 3 {
		t.Fatalf("%v %v", page, err)
	}
	w.del("d5")
	w.trim(true, 3)
	since := page[2].Seq
	if since.Trigger != first || devicesync.Position(since) <= w.floor || since.Seq > w.floor {
		t.Fatalf("position %s, floor %d: the test does not show what it says", since, w.floor)
	}
	f, err = hub.Feed(Request{Viewer: "bob", Markers: w.markers, Since: since, OneShot: true}, w, worldHistory{w})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rest, err := f.Next(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := brief(rest), "8:4=d2 8:5=d3 8:6=d4 9=d5!-a"; got != want {
		t.Errorf("%s", got)
	}
}
