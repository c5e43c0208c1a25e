package changes

import (
	"errors"
	"fmt"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

func TestLimitEndsTheFeed(t *testing.T) {
	w := newWorld(openStore(t))
	h := NewHub(w.st, w.space, HubOptions{ScanRows: 2})
	for i := range 10 {
		w.put(fmt.Sprint("d", i))
	}
	f := open(t, h, w, Request{Admin: true, Limit: 5})
	expect(t, drain(t, f, 2), "1=d0 2=d1 3=d2 4=d3 5=d4")
	if err := f.Wait(t.Context()); !errors.Is(err, ErrFeedEnded) || !f.Done() || f.Since().String() != "5" {
		t.Errorf("%v, done %v, since %s", err, f.Done(), f.Since())
	}
}

// A one-shot ends at what there was when it began to read, however much is written meanwhile.
func TestOneShotEnds(t *testing.T) {
	w := newWorld(openStore(t))
	h := NewHub(w.st, w.space, HubOptions{})
	for i := range 5 {
		w.put(fmt.Sprint("d", i))
	}
	f := open(t, h, w, Request{Admin: true, OneShot: true})
	var got []tidegate.Change
	for !f.Done() {
		batch, err := f.Next(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, batch...)
		w.put("d4")
		w.put(fmt.Sprint("new", len(got)))
		step(t, h)
	}
	expect(t, got, "1=d0 2=d1 3=d2 4=d3")
	if err := f.Wait(t.Context()); !errors.Is(err, ErrFeedEnded) {
		t.Error(err)
	}
	expect(t, drain(t, open(t, h, w, Request{Admin: true, OneShot: true, Since: f.Since()}), 1)[:2], "7=new1 9=new2")
}

// A reader finds every write that was acknowledged before it asked, whether or not the hub runs.
func TestFeedFindsWhatWasWrittenBefore(t *testing.T) {
	w := newWorld(openStore(t))
	h := NewHub(w.st, w.space, HubOptions{})
	w.user("bob", "a")
	for i := range 20 {
		seq := w.put("d", "a")
		f := open(t, h, w, Request{Viewer: "bob", Since: tidegate.Since{Seq: 1}})
		expect(t, drain(t, f, 0), fmt.Sprintf("%d=d", seq))
		if i == 10 {
			w.admin("bob", "a")
		}
		if i >= 10 {
			break
		}
	}
	expect(t, drain(t, open(t, h, w, Request{Viewer: "bob", Since: tidegate.Since{Seq: 12}}), 0), "13=_user/bob")
}

// A reader that may see next to nothing gets on in bounded snapshots.
func TestSparseReaderMakesProgressInBoundedSnapshots(t *testing.T) {
	w := newWorld(openStore(t))
	st := &countingStore{Store: w.st}
	h := NewHub(st, w.space, HubOptions{ScanRows: 10})
	for i := range 95 {
		w.put(fmt.Sprint("d", i), "a")
	}
	w.put("wanted", "a")
	for _, req := range []Request{
		{Admin: true, DocIDs: []string{"wanted"}},
		{Admin: true, DocIDs: []string{"wanted"}, Channels: []string{"a", "b"}},
	} {
		before := st.views.Load()
		expect(t, drain(t, open(t, h, w, req), 0), "96=wanted")
		if n := st.views.Load() - before; n < 10 || n > 15 {
			t.Errorf("%d snapshots", n)
		}
	}
	f, err := h.Feed(Request{Admin: true, DocIDs: []string{"wanted", "d7", "none"}}, nil, worldStates{worldHistory{w}})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	before := st.views.Load()
	expect(t, drain(t, f, 1), "8=d7 96=wanted")
	if n := st.views.Load() - before; n > 5 {
		t.Errorf("%d snapshots for documents that can be looked up", n)
	}
}

func TestRequestsThatMakeNoSense(t *testing.T) {
	w := newWorld(openStore(t))
	h := NewHub(w.st, w.space, HubOptions{})
	w.user("bob")
	if _, err := h.Feed(Request{Viewer: "bob"}, nil, nil); err == nil {
		t.Error("a feed for nobody")
	}
	if _, err := h.Feed(Request{Admin: true, Limit: -1}, nil, nil); tidegate.ErrorCode(err) != tidegate.Invalid {
		t.Errorf("limit -1: %v", err)
	}
	if _, err := h.Feed(Request{Viewer: "bob", Revocations: true}, w, nil); err == nil {
		t.Error("revocations without history")
	}
	w.put("d", "a")
	expect(t, drain(t, open(t, h, w, Request{Admin: true, Channels: []string{}}), 0), "")
	expect(t, drain(t, open(t, h, w, Request{Admin: true, DocIDs: []string{}}), 0), "")
}

func TestFiltersAndForms(t *testing.T) {
	w := newWorld(openStore(t))
	h := NewHub(w.st, w.space, HubOptions{})
	w.user("bob", "a", "b") // 1
	w.user("eve", "*")      // 2
	w.user("")              // 3: the guest
	w.put("d1", "a")
	w.put("d2", "b")
	w.put("d3", "c")
	w.put("d4")
	w.put("d5", "!")
	w.put("d6", "*")
	w.put("d2", "a")
	leaf := tidegate.RevID{Generation: 7, Digest: "x"}
	w.write(write{id: "d1", channels: []string{"a"}, others: []Leaf{{Rev: leaf}}}) // 11
	w.write(write{id: "d7", channels: []string{"a"}, deleted: true})
	for name, c := range map[string]struct {
		req  Request
		want string
	}{
		"all that is visible":   {Request{Viewer: "bob"}, "1=_user/bob 8=d5 10=d2-b 11=d1 12=d7!"},
		"filter":                {Request{Viewer: "bob", Channels: []string{"b", "c"}}, "1=_user/bob 10=d2-b"},
		"star filter":           {Request{Viewer: "bob", Channels: []string{"b", "*"}}, "1=_user/bob 8=d5 10=d2-b 11=d1 12=d7!"},
		"public filter":         {Request{Viewer: "bob", Channels: []string{"!"}}, "1=_user/bob 8=d5"},
		"active only":           {Request{Viewer: "bob", ActiveOnly: true}, "1=_user/bob 8=d5 10=d2-b 11=d1"},
		"active only, one":      {Request{Viewer: "bob", ActiveOnly: true, Channels: []string{"b"}}, "1=_user/bob"},
		"documents":             {Request{Viewer: "bob", DocIDs: []string{"d2", "d3"}}, "10=d2-b"},
		"everything":            {Request{Viewer: "eve"}, "2=_user/eve 6=d3 7=d4 8=d5 9=d6 10=d2 11=d1 12=d7!"},
		"star and filter":       {Request{Viewer: "eve", Channels: []string{"a", "c"}}, "2=_user/eve 6=d3 10=d2 11=d1 12=d7!"},
		"guest":                 {Request{}, "3=_user/GUEST 8=d5"},
		"descending":            {Request{Viewer: "bob", Descending: true}, "12=d7! 11=d1 10=d2-b 8=d5 1=_user/bob"},
		"descending from":       {Request{Viewer: "bob", Descending: true, Since: tidegate.Since{Seq: 9}}, "12=d7! 11=d1 10=d2-b"},
		"descending everything": {Request{Viewer: "eve", Descending: true, Limit: 3}, "12=d7! 11=d1 10=d2"},
	} {
		for _, max := range []int{0, 1} {
			got := drain(t, open(t, h, w, c.req), max)
			if g := brief(got); g != c.want {
				t.Errorf("%s, %d at once:\ngot  %s\nwant %s", name, max, g, c.want)
			}
		}
	}
	for _, all := range []bool{false, true} {
		for _, since := range []tidegate.Seq{0, 10} { // from the store and from the ring
			got := drain(t, open(t, h, w, Request{Viewer: "bob", AllLeaves: all, Since: tidegate.Since{Seq: since}}), 0)
			revs := got[len(got)-2].Revs
			if want := 1; all {
				want = 2
				if len(revs) != want || revs[1] != leaf {
					t.Errorf("all leaves since %d: %v", since, revs)
				}
			} else if len(revs) != want {
				t.Errorf("winner since %d: %v", since, revs)
			}
		}
	}
}

// A descending feed shows what a channel held before its grant only as far as it is there now.
func TestDescendingAndGrants(t *testing.T) {
	w := newWorld(openStore(t))
	h := NewHub(w.st, w.space, HubOptions{})
	w.user("bob") // 1
	w.put("d1", "a")
	w.put("d2", "a")
	w.del("d2") // 4
	w.put("d3") // 5
	w.admin("bob", "a")
	w.put("d4", "a") // 7
	w.del("d4")      // 8
	for _, since := range []tidegate.Seq{0, 5} {
		f := open(t, h, w, Request{Viewer: "bob", Descending: true, Since: tidegate.Since{Seq: since}})
		expect(t, drain(t, f, 1), "8=d4!-a 6=_user/bob 2=d1")
	}
	f := open(t, h, w, Request{Viewer: "bob", Descending: true, Since: tidegate.Since{Seq: 6}})
	expect(t, drain(t, f, 1), "8=d4!-a")
}

// failingHistory fails every second time.
type failingHistory struct {
	worldHistory
	calls *int
}

var errHistory = errors.New("no history now")

func (h failingHistory) ChannelPeriods(r store.Reader, c store.Collection, id string) (tidegate.ChannelSet, map[string][]Period, error) {
	if *h.calls++; *h.calls%2 == 0 {
		return nil, nil, errHistory
	}
	return h.worldHistory.ChannelPeriods(r, c, id)
}

// An error loses nothing: the next call goes on where the last answer ended.
func TestNextGoesOnAfterAnError(t *testing.T) {
	w := newWorld(openStore(t))
	h := NewHub(w.st, w.space, HubOptions{})
	w.user("bob", "a", "b") // 1
	w.put("d1", "a")
	w.put("d2", "a")
	w.put("d3", "b")
	w.admin("bob", "b")   // 5
	w.put("d1", "a", "c") // 6
	w.put("d2", "a", "c") // 7
	w.put("d4", "b")      // 8
	f, err := h.Feed(Request{Viewer: "bob", Revocations: true, Since: since(t, "3")}, w, failingHistory{worldHistory{w}, new(int)})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var got []tidegate.Change
	failures := 0
	for {
		batch, err := f.Next(t.Context(), 2)
		if err != nil {
			if failures++; !errors.Is(err, errHistory) || failures > 10 {
				t.Fatal(err)
			}
			continue
		}
		if len(batch) == 0 {
			break
		}
		got = append(got, batch...)
	}
	if expect(t, got, "4=d3 5:6=d1~ 5:7=d2~ 5=_user/bob 8=d4"); failures == 0 {
		t.Error("nothing failed")
	}
}
