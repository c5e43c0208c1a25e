package changes

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tidegate/tidegate"
)

// drain reads a feed until it has caught up, in batches of max.
func drain(t testing.TB, f *Feed, max int) (out []tidegate.Change) {
	t.Helper()
	for {
		batch, err := f.Next(t.Context(), max)
		if err != nil {
			t.Fatal(err)
		}
		if len(batch) == 0 {
			return out
		}
		out = append(out, batch...)
	}
}

// open opens a feed that is closed with the test.
func open(t testing.TB, h *Hub, w *world, req Request) *Feed {
	t.Helper()
	f, err := h.Feed(req, w, worldHistory{w})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// brief writes entries as "seq id[flags]", for comparison: d deleted, r revoked, -a removed from a.
func brief(changes []tidegate.Change) string {
	var b strings.Builder
	for i, c := range changes {
		if i > 0 {
			b.WriteString(" ")
		}
		fmt.Fprintf(&b, "%s=%s", c.Seq, c.ID)
		if c.Deleted {
			b.WriteString("!")
		}
		if c.Revoked {
			b.WriteString("~")
		}
		for _, ch := range c.Removed {
			b.WriteString("-" + ch)
		}
	}
	return b.String()
}

func expect(t testing.TB, got []tidegate.Change, want string) {
	t.Helper()
	if g := brief(got); g != want {
		t.Errorf("got  %s\nwant %s", g, want)
	}
}

func since(t testing.TB, s string) tidegate.Since {
	t.Helper()
	p, err := tidegate.ParseSince(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAdminSeesEverythingOnceAtItsLatestSequence(t *testing.T) {
	w := newWorld(openStore(t))
	h := NewHub(w.st, w.space, HubOptions{})
	w.put("a", "x")
	w.put("b")
	w.put("a", "y")
	w.put("c", "x")
	w.del("c")
	expect(t, drain(t, open(t, h, w, Request{Admin: true}), 0), "2=b 3=a 5=c!")
	expect(t, drain(t, open(t, h, w, Request{Admin: true, ActiveOnly: true}), 1), "2=b 3=a")
	expect(t, drain(t, open(t, h, w, Request{Admin: true, Channels: []string{"x"}}), 0), "3=a-x 5=c!-x")
	expect(t, drain(t, open(t, h, w, Request{Admin: true, Descending: true}), 2), "5=c! 3=a 2=b")
}
