package changes

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidegate/tidegate"
)

// history is a random history of a world with clients that come and go.
type history struct {
	t       *rapid.T
	w       *world
	hub     *Hub
	losses  bool // grants are taken away
	trims   bool // history is trimmed, and terminated
	wrap    func(feeder) feeder
	hist    func(*world) History
	clients []*client
	feeds   []feeder            // of the clients; nil: not connected
	last    [][]tidegate.Change // the last entry of each feed
	revoke  []bool              // the client asks for revocations
	backups []*client
}

var (
	modelDocs     = []string{"d1", "d2", "d3", "d4"}
	modelChannels = []string{"a", "b", "c"}
	modelUsers    = []string{"bob", "amy"}
)

// step does one thing to the world.
func (h *history) write() {
	t := h.t
	id := rapid.SampledFrom(modelDocs).Draw(t, "doc")
	channels := rapid.SliceOfNDistinct(rapid.SampledFrom(append(modelChannels, "!", "*")), 0, 2, rapid.ID).Draw(t, "channels")
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0, 1: // a tombstone, by default in no channel
		wr := write{id: id, deleted: true, access: h.keep(id)}
		if rapid.IntRange(0, 2).Draw(t, "tombstone") == 0 {
			wr.channels = channels
		}
		if h.losses {
			wr.access = nil
		}
		h.w.write(wr)
	case 2, 3:
		wr := write{id: id, channels: channels, access: h.access(id)}
		h.w.write(wr)
	case 4:
		other := rapid.SampledFrom(modelDocs).Draw(t, "other")
		h.w.writeAll(write{id: id, channels: channels, access: h.keep(id)}, write{id: other, channels: channels, access: h.keep(other)})
	case 5:
		h.admin()
	default:
		h.w.write(write{id: id, channels: channels, access: h.keep(id)})
	}
}

// keep is the access that a document grants already.
func (h *history) keep(id string) map[string][]string {
	out := map[string][]string{}
	for name, u := range h.w.users {
		if given := u.sources[id]; len(given) > 0 {
			out[name] = slices.Sorted(maps.Keys(given))
		}
	}
	return out
}

// access is what a document grants from now on; without losses, what it did and more.
func (h *history) access(id string) map[string][]string {
	out := map[string][]string{}
	if !h.losses {
		out = h.keep(id)
	}
	user := rapid.SampledFrom(modelUsers).Draw(h.t, "user")
	more := rapid.SliceOfNDistinct(rapid.SampledFrom(modelChannels), 0, 2, rapid.ID).Draw(h.t, "access")
	out[user] = append(out[user], more...)
	return out
}

func (h *history) admin() {
	user := rapid.SampledFrom(modelUsers).Draw(h.t, "user")
	channels := rapid.SliceOfNDistinct(rapid.SampledFrom(append(modelChannels, "*")), 0, 3, rapid.ID).Draw(h.t, "admin")
	if !h.losses {
		channels = append(channels, slices.Sorted(maps.Keys(h.w.users[user].sources["admin"]))...)
	}
	h.w.admin(user, channels...)
}

// client lets one client do something: connect, read a bit, cut the line, crash back to its backup.
func (h *history) client() error {
	i := rapid.IntRange(0, len(h.clients)-1).Draw(h.t, "client")
	switch rapid.IntRange(0, 9).Draw(h.t, "does") {
	case 0:
		h.disconnect(i)
	case 1:
		h.disconnect(i)
		h.clients[i] = h.backups[i].clone()
		h.w.logf("client %d is back at %s", i, h.clients[i].since)
	case 2:
		h.backups[i] = h.clients[i].clone()
	case 3, 4:
		if h.trims && rapid.IntRange(0, 2).Draw(h.t, "trims") == 0 {
			h.w.trim(rapid.Bool().Draw(h.t, "floor"), rapid.IntRange(0, 5).Draw(h.t, "above"))
			return nil
		}
		return h.hub.step(h.t.Context())
	default:
		return h.read(i, rapid.IntRange(1, 4).Draw(h.t, "max"), rapid.IntRange(0, 5).Draw(h.t, "cut"))
	}
	return nil
}

func (h *history) disconnect(i int) {
	if h.feeds[i] != nil {
		h.feeds[i].Close()
		h.feeds[i], h.last[i] = nil, nil
	}
}

// read reads one batch and applies entries; cut > 0: the line breaks after so many.
func (h *history) read(i, max, cut int) error {
	c := h.clients[i]
	if h.feeds[i] == nil {
		rewound := c.rewind()
		f, err := h.hub.Feed(Request{
			Since: c.since, Viewer: c.user, Revocations: h.revoke[i], Channels: c.filter, DocIDs: c.ids,
			Markers: h.w.markers, Rewound: rewound,
		}, h.w, h.hist(h.w))
		if err != nil {
			return err
		}
		h.feeds[i] = h.wrap(f)
	}
	batch, err := h.feeds[i].Next(h.t.Context(), max)
	if err != nil {
		return err
	}
	if err := checkI6Order(append(h.last[i], batch...)); err != nil {
		return err
	}
	if len(batch) > 0 {
		h.last[i] = batch[len(batch)-1:]
	}
	for n, e := range batch {
		if cut > 0 && n == cut {
			h.disconnect(i)
			break
		}
		if err := checkI7(h.w, c.user, e); err != nil {
			return err
		}
		h.w.logf("client %d (%s, revocations %v) gets %s", i, c.user, h.revoke[i], brief(batch[n:n+1]))
		c.apply(e)
	}
	return nil
}

// finish lets every client catch up and checks what it holds.
func (h *history) finish() error {
	if err := h.hub.step(h.t.Context()); err != nil {
		return err
	}
	for i, c := range h.clients {
		for last := -1; last != len(c.seen); {
			last = len(c.seen)
			if err := h.read(i, 3, 0); err != nil {
				return err
			}
		}
		if err := cmp.Or(checkI6(c), checkI9(c)); err != nil {
			return err
		}
		if h.revoke[i] || !h.losses {
			if err := checkI8(c); err != nil {
				return err
			}
		}
		h.disconnect(i)
	}
	return nil
}

// historyKind says what happens in a history besides writes and reads.
type historyKind struct{ losses, trims bool }

// runHistory runs a history and returns the first broken invariant.
func runHistory(t *rapid.T, w *world, kind historyKind, wrap func(feeder) feeder, hist func(*world) History) error {
	opts := HubOptions{
		RingEntries: rapid.SampledFrom([]int{1, 3, 100}).Draw(t, "ring"),
		ScanRows:    rapid.SampledFrom([]int{1, 3, 100}).Draw(t, "scan"),
	}
	h := &history{t: t, w: w, hub: NewHub(w.st, w.space, opts), losses: kind.losses, trims: kind.trims, wrap: wrap, hist: hist}
	for _, name := range modelUsers {
		w.user(name, rapid.SampledFrom(modelChannels).Draw(t, "first"))
		for _, revoke := range []bool{true, false} {
			c := newClient(w, name)
			switch rapid.IntRange(0, 4).Draw(t, "asks") {
			case 0:
				c.filter = tidegate.NewChannelSet("a", "b")
			case 1:
				c.ids = []string{"d1", "d2", "none"}
			}
			h.clients, h.backups = append(h.clients, c), append(h.backups, c.clone())
			h.feeds, h.last, h.revoke = append(h.feeds, nil), append(h.last, nil), append(h.revoke, revoke)
		}
	}
	quiet := rapid.Bool().Draw(t, "quiet views")
	w.onView = func() {
		if !quiet && rapid.IntRange(0, 3).Draw(t, "meanwhile") == 0 {
			h.write()
		}
	}
	for range rapid.IntRange(5, 60).Draw(t, "steps") {
		if rapid.Bool().Draw(t, "writes") {
			h.write()
		} else if err := h.client(); err != nil {
			return err
		}
	}
	quiet = true
	return h.finish()
}

func sound(f feeder) feeder      { return f }
func scanning(w *world) History  { return worldHistory{w} }
func lookingUp(w *world) History { return worldStates{worldHistory{w}} }

// checkHistories runs random histories and fails with the story of one that breaks an invariant.
func checkHistories(t *testing.T, kind historyKind, hist func(*world) History) {
	st := openStore(t)
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(st)
		if err := runHistory(t, w, kind, sound, hist); err != nil {
			t.Fatalf("%v\n%s", err, strings.Join(w.story, "\n"))
		}
	})
}

// Grants only grow: every client, whatever it asks for, must hold exactly what its user may see.
func TestI6AndI9ClientsHoldWhatTheirUserSees(t *testing.T) {
	checkHistories(t, historyKind{}, scanning)
}

// Grants come and go: a client with revocations must hold exactly what its user may see.
func TestI8RevocationReachesTheDevice(t *testing.T) {
	checkHistories(t, historyKind{losses: true}, scanning)
}

// The same when documents can be looked up.
func TestI8RevocationWithLookups(t *testing.T) {
	checkHistories(t, historyKind{losses: true}, lookingUp)
}
