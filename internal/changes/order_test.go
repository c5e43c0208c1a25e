package changes

import (
	"testing"

	"github.com/tidegate/tidegate"
)

// The examples of gateway-rest.md §14.3 and §14.4: a channel granted later is replayed just before the grant.
func TestI9BackfillComesJustBeforeItsGrant(t *testing.T) {
	w := newWorld(openStore(t))
	h := NewHub(w.st, w.space, HubOptions{})
	w.user("bob", "a") // 1
	w.put("d1", "b")   // 2
	w.put("d2", "a")   // 3
	w.put("d3", "b")   // 4
	w.put("d4", "b")   // 5
	w.del("d4")        // 6: not backfilled
	w.put("d5", "a", "b")
	w.put("d3", "a") // 8: a removal from b, not backfilled
	w.write(write{id: "g", channels: []string{"b"}, access: map[string][]string{"bob": {"b"}}})
	w.put("d6", "b") // 10
	w.put("d1", "b") // 11: not backfilled any more, comes plain
	const all = "1=_user/bob 3=d2 7=d5 8=d3 9=g 10=d6 11=d1"
	expect(t, drain(t, open(t, h, w, Request{Viewer: "bob"}), 0), all)

	w.put("d7", "b") // 12
	w.put("d8")      // 13
	w.admin("bob", "a", "c")
	w.write(write{id: "g2", access: map[string][]string{"bob": {"d"}}})
	w.put("d9", "d") // 16
	for _, c := range []struct{ since, want string }{
		{"0", "3=d2 7=d5 8=d3 9=g 10=d6 11=d1 12=d7 14=_user/bob 16=d9"},
		{"8", "9:7=d5 9=g 10=d6 11=d1 12=d7 14=_user/bob 16=d9"},
		{"14", "16=d9"},
		{"16", ""},
		{"99", ""}, // a position above the last sequence yields nothing
		{"9:2", "9:7=d5 9=g 10=d6 11=d1 12=d7 14=_user/bob 16=d9"},
		{"9:99", "9=g 10=d6 11=d1 12=d7 14=_user/bob 16=d9"},
	} {
		expect(t, drain(t, open(t, h, w, Request{Viewer: "bob", Since: since(t, c.since)}), 2), c.want)
	}
}

// A backfill that is interrupted goes on where it was; channels with an older grant go on from before the
// trigger, those with a newer one have their own turn later.
func TestI9InterruptedBackfillGoesOn(t *testing.T) {
	w := newWorld(openStore(t))
	h := NewHub(w.st, w.space, HubOptions{})
	w.user("bob")       // 1
	w.put("d1", "x")    // 2
	w.put("d2", "y")    // 3
	w.put("d3", "x")    // 4
	w.put("d4", "z")    // 5
	w.admin("bob", "x") // 6
	w.put("d5", "x")    // 7
	w.admin("bob", "x", "y")
	w.put("d6", "y") // 9
	w.admin("bob", "x", "y", "z")
	const all = "6:2=d1 6:4=d3 7=d5 8:3=d2 9=d6 10:5=d4 10=_user/bob"
	entries := drain(t, open(t, h, w, Request{Viewer: "bob"}), 0)
	expect(t, entries, all)
	for i := range entries {
		f := open(t, h, w, Request{Viewer: "bob", Since: entries[i].Seq})
		expect(t, drain(t, f, 1), brief(entries[i+1:]))
		for j := i; j < len(entries); j++ {
			if got := entries[i].Seq.Compare(entries[j].Seq); (got < 0) != (i < j) {
				t.Errorf("order of %s and %s: %d", entries[i].Seq, entries[j].Seq, got)
			}
		}
	}
	for _, c := range []struct{ since, want string }{
		{"6:3", "6:4=d3 7=d5 8:3=d2 9=d6 10:5=d4 10=_user/bob"},
		{"5::6", "6:2=d1 6:4=d3 7=d5 8:3=d2 9=d6 10:5=d4 10=_user/bob"}, // L wins over S
		{"7::9", "8:3=d2 9=d6 10:5=d4 10=_user/bob"},
		{"3:8:3", "6:2=d1 6:4=d3 7=d5 8:3=d2 9=d6 10:5=d4 10=_user/bob"}, // all from L, and the slot from L
		{"9:8:3", "9=d6 10:5=d4 10=_user/bob"},                           // L is beyond: it does not count
	} {
		expect(t, drain(t, open(t, h, w, Request{Viewer: "bob", Since: since(t, c.since)}), 0), c.want)
	}
}

// A document in several channels comes once in a run; a later run that backfills replays the whole channel.
func TestBackfillSendsEachDocumentOnceInARun(t *testing.T) {
	w := newWorld(openStore(t))
	h := NewHub(w.st, w.space, HubOptions{})
	w.user("bob", "a")
	w.put("both", "a", "b") // 2
	w.put("only", "b")      // 3
	w.admin("bob", "a", "b")
	f := open(t, h, w, Request{Viewer: "bob"})
	expect(t, drain(t, f, 1), "2=both 4:3=only 4=_user/bob")
	expect(t, drain(t, open(t, h, w, Request{Viewer: "bob", Since: since(t, "2")}), 1), "4:2=both 4:3=only 4=_user/bob")
}

// replication.md §15.7 in the words of this feed.
func TestI8LosingAndRegainingAChannel(t *testing.T) {
	w := newWorld(openStore(t))
	h := NewHub(w.st, w.space, HubOptions{})
	w.user("bob", "A", "B") // 1
	w.put("onlyA", "A")     // 2
	w.put("both", "A", "B") // 3
	w.put("onlyB", "B")     // 4
	f := open(t, h, w, Request{Viewer: "bob", Revocations: true})
	expect(t, drain(t, f, 0), "1=_user/bob 2=onlyA 3=both 4=onlyB")
	w.admin("bob", "B") // 5
	step(t, h)
	expect(t, drain(t, f, 0), "5:2=onlyA~ 5=_user/bob")
	w.put("new", "A") // 6: never seen
	w.admin("bob", "A", "B")
	step(t, h)
	expect(t, drain(t, f, 0), "7:2=onlyA 7:3=both 7:6=new 7=_user/bob")
	w.put("onlyB", "C") // 8
	w.put("both", "B")  // 9
	w.admin("bob", "B") // 10
	step(t, h)
	expect(t, drain(t, f, 0), "8=onlyB-B 9=both 10:2=onlyA~ 10:6=new~ 10=_user/bob")

	reconnect := func(since tidegate.Since, revocations bool) []tidegate.Change {
		return drain(t, open(t, h, w, Request{Viewer: "bob", Revocations: revocations, Since: since}), 1)
	}
	expect(t, reconnect(since(t, "7"), true), "8=onlyB-B 9=both 10:2=onlyA~ 10:6=new~ 10=_user/bob")
	expect(t, reconnect(since(t, "10:2"), true), "10:6=new~ 10=_user/bob")
	expect(t, reconnect(since(t, "7"), false), "8=onlyB-B 9=both 10=_user/bob")
	expect(t, reconnect(tidegate.Since{}, true), "8=onlyB-B 9=both 10=_user/bob") // a new reader holds nothing
}

// A document that leaves by the very update that takes the grant away (hardening.md I8).
func TestI8DocumentTakesItsOwnGrantAway(t *testing.T) {
	w := newWorld(openStore(t))
	h := NewHub(w.st, w.space, HubOptions{})
	w.user("bob") // 1
	w.write(write{id: "d", channels: []string{"c"}, access: map[string][]string{"bob": {"c"}}})
	w.put("other", "c") // 3
	f := open(t, h, w, Request{Viewer: "bob", Revocations: true})
	expect(t, drain(t, f, 0), "1=_user/bob 2=d 3=other")
	w.put("d") // 4
	step(t, h)
	expect(t, drain(t, f, 0), "4:3=other~ 4:4=d~-c")
	w.write(write{id: "d", deleted: true, channels: []string{"c"}, access: map[string][]string{"bob": {"c"}}})
	step(t, h)
	expect(t, drain(t, f, 0), "5:3=other 5=d!")
}

// A document that came into the lost channel after the reader's position was never on the device.
func TestI7RevocationOnlyOfWhatMayHaveBeenSeen(t *testing.T) {
	w := newWorld(openStore(t))
	h := NewHub(w.st, w.space, HubOptions{})
	w.user("bob", "c") // 1
	w.put("seen", "c") // 2
	w.put("gone", "c") // 3
	w.put("back", "c") // 4
	at := since(t, "4")
	w.put("new", "c")       // 5: after the position, while bob had the channel
	w.put("gone", "hidden") // 6
	w.admin("bob")          // 7
	w.put("later", "c")     // 8: after the loss
	w.put("seen", "c", "d") // 9: was there before, changed since
	w.put("back", "!", "c") // 10: visible by another channel
	f := open(t, h, w, Request{Viewer: "bob", Revocations: true, Since: at})
	expect(t, drain(t, f, 1), "6=gone-c 7:9=seen~ 7=_user/bob 10=back")
}

// Deletions and removals are not backfilled, except to who may hold the document from an earlier time.
func TestI8RegainedChannelTellsOfDeletions(t *testing.T) {
	w := newWorld(openStore(t))
	h := NewHub(w.st, w.space, HubOptions{})
	w.user("bob", "c")    // 1
	w.put("deleted", "c") // 2
	w.put("moved", "c")   // 3
	w.put("stays", "c")   // 4
	w.admin("bob")        // 5
	w.del("deleted")      // 6
	w.put("moved", "x")   // 7
	w.put("unseen", "c")  // 8
	w.del("unseen")       // 9
	w.admin("bob", "c")   // 10
	expect(t, drain(t, open(t, h, w, Request{Viewer: "bob", Since: since(t, "4")}), 1),
		"10:4=stays 10:6=deleted!-c 10:7=moved-c 10=_user/bob")
	expect(t, drain(t, open(t, h, w, Request{Viewer: "bob"}), 1), "10:4=stays 10=_user/bob")
}

// An older grant of the same channel is taken away: the reader never lost the channel, so it needs no backfill
// and must not lose what a backfill leaves out.
func TestI8GrantThatMovesUpIsNoGap(t *testing.T) {
	w := newWorld(openStore(t))
	h := NewHub(w.st, w.space, HubOptions{})
	w.user("bob") // 1
	w.write(write{id: "g1", access: map[string][]string{"bob": {"x"}}})
	w.put("d1", "x") // 3
	w.put("d2", "x") // 4
	w.del("d2")      // 5
	w.write(write{id: "g2", access: map[string][]string{"bob": {"x"}}})
	w.put("g1") // 7: the grant is that of 6 now
	for at, want := range map[string]string{"4": "5=d2!-x", "0": "1=_user/bob 3=d1 5=d2!-x", "2:3": "3=d1 5=d2!-x"} {
		expect(t, drain(t, open(t, h, w, Request{Viewer: "bob", Since: since(t, at)}), 1), want)
	}
	w.put("g2") // 8: lost
	w.write(write{id: "g2", access: map[string][]string{"bob": {"x"}}})
	expect(t, drain(t, open(t, h, w, Request{Viewer: "bob", Since: since(t, "7")}), 1), "9:3=d1 9:5=d2!-x")
}

// What left a channel that the reader held all the time has its own place: a later grant of another channel, which it left before, tells nothing of
// it, also if the older of two grants of the first channel is taken away in between.
func TestI8RemovalThatWasToldIsNotToldAgainOfAnEarlierChannel(t *testing.T) {
	w := newWorld(openStore(t))
	h := NewHub(w.st, w.space, HubOptions{})
	w.user("bob", "a", "b") // 1
	w.put("d", "a")         // 2
	w.admin("bob", "b")     // 3
	w.put("d", "b")         // 4
	f := open(t, h, w, Request{Viewer: "bob", Revocations: true, Since: since(t, "4")})
	w.put("d")                                                               // 5
	w.write(write{id: "g1", access: map[string][]string{"bob": {"b"}}})      // 6
	w.write(write{id: "g2", access: map[string][]string{"bob": {"a", "z"}}}) // 7
	step(t, h)
	first, err := f.Next(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, first, "5=d-b")
	w.admin("bob") // 8: b is held since 1, by the grant of 6 alone now
	step(t, h)
	expect(t, drain(t, f, 1), "8=_user/bob")
}

// A removal in a gap between two periods waits for the second backfill. If that is cut short and the channel is
// lost again, the revocation makes up for it.
func TestI8BackfillCutShortByTheNextLoss(t *testing.T) {
	w := newWorld(openStore(t))
	h := NewHub(w.st, w.space, HubOptions{})
	w.user("bob", "a")  // 1
	w.put("x", "a")     // 2
	w.put("d", "a")     // 3
	w.admin("bob")      // 4
	w.del("d")          // 5
	w.admin("bob", "a") // 6
	f := open(t, h, w, Request{Viewer: "bob", Revocations: true, Since: since(t, "3")})
	first, err := f.Next(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, first, "6:2=x")
	w.admin("bob") // 7
	expect(t, drain(t, open(t, h, w, Request{Viewer: "bob", Revocations: true, Since: f.Since()}), 1),
		"7:2=x~ 7:5=d!~-a 7=_user/bob")
}

// A tombstone that stays in a channel which is granted later is not delivered by that channel's backfill.
func TestI8DeletionBetweenALossAndAGrant(t *testing.T) {
	w := newWorld(openStore(t))
	h := NewHub(w.st, w.space, HubOptions{})
	w.user("bob", "a", "b") // 1
	w.put("d", "a")         // 2
	w.put("e", "a")         // 3
	w.admin("bob", "b")     // 4: a is lost
	w.write(write{id: "d", deleted: true, channels: []string{"c"}})
	w.write(write{id: "e", deleted: true, channels: []string{"b"}})
	w.admin("bob", "b", "c") // 7
	expect(t, drain(t, open(t, h, w, Request{Viewer: "bob", Revocations: true, Since: since(t, "3")}), 1),
		"4:5=d!~-a 6=e! 7=_user/bob")
}

// With a filter, a document that leaves the channels asked for is gone, though it can be seen elsewhere.
func TestI8RevocationUnderAFilter(t *testing.T) {
	w := newWorld(openStore(t))
	h := NewHub(w.st, w.space, HubOptions{})
	w.user("bob", "*")   // 1
	w.put("d", "a")      // 2
	w.put("e", "a", "b") // 3
	f := open(t, h, w, Request{Viewer: "bob", Revocations: true, Channels: []string{"a"}})
	expect(t, drain(t, f, 0), "1=_user/bob 2=d 3=e")
	w.admin("bob", "b") // 4: "*" is lost, and so is "a"
	step(t, h)
	expect(t, drain(t, f, 0), "4:2=d~ 4:3=e~ 4=_user/bob")
	w.admin("bob", "a") // 5
	step(t, h)
	expect(t, drain(t, f, 0), "5:2=d 5:3=e 5=_user/bob")
}

// Who had "*" loses what he does not see otherwise; who gets "*" is told of deletions that he may not know of.
func TestI8LosingAndGettingTheStar(t *testing.T) {
	w := newWorld(openStore(t))
	h := NewHub(w.st, w.space, HubOptions{})
	w.user("bob", "a")  // 1
	w.put("d", "a")     // 2
	w.put("e", "b")     // 3
	w.put("f")          // 4
	w.put("g", "a")     // 5
	w.del("g")          // 6
	w.admin("bob", "*") // 7: "a" is lost, but not its documents
	star := Request{Viewer: "bob", Revocations: true, Since: since(t, "5")}
	f := open(t, h, w, star)
	expect(t, drain(t, f, 1), "7:2=d 7:3=e 7:4=f 7:6=g! 7=_user/bob")
	w.admin("bob", "a") // 8
	w.put("new")        // 9
	step(t, h)
	expect(t, drain(t, f, 1), "8:2=d 8:3=e~ 8:4=f~ 8:6=g!-a 8=_user/bob")
}

func step(t testing.TB, h *Hub) {
	t.Helper()
	if err := h.step(t.Context()); err != nil {
		t.Fatal(err)
	}
}
