package replicate

import "testing"

// A document that leaves while a revision of it is on its way is purged when that has come, and not before: or it would
// stay. One that comes back in between stays.
func TestArrivalsAndDepartures(t *testing.T) {
	row := func(seq string) *expected { return &expected{seq: seq} }
	one, two, gone, again, back := row("1"), row("2"), row("3"), row("4"), row("5")

	var w arrivals
	if w.leave("a", gone) != nil || !w.left("a", gone) || w.left("a", gone) {
		t.Error("nothing is on its way: purged at once, and once")
	}

	w = arrivals{}
	w.add("a", one)
	w.add("a", two)
	w.leave("a", gone)
	if w.left("a", gone) {
		t.Error("purged before its revisions have come")
	}
	if e, left := w.take("a", "1"); e != one || left != nil {
		t.Error("purged before the last of them has come")
	}
	if e, left := w.take("a", "2"); e != two || left != gone {
		t.Error("not purged when they have come")
	}
	if e, left := w.take("a", "2"); e != nil || left != nil {
		t.Error("one came twice")
	}

	w = arrivals{}
	w.add("a", one)
	w.leave("a", gone)
	if w.leave("a", again) != gone {
		t.Error("it left twice: the later row does for both")
	}
	if w.add("a", back) != again {
		t.Error("it is back")
	}
	if _, left := w.take("a", "1"); left != nil {
		t.Error("purged though it is back")
	}
	if w.left("a", gone) || w.left("a", again) {
		t.Error("purged though it is back, by the row")
	}
	if e, left := w.take("a", "unknown"); e != back || left != nil || w.awaits("a") {
		t.Error("the oldest is taken where the sequence says nothing")
	}
	if w.add("b", one) != nil || w.leave("a", gone) != nil || !w.left("a", gone) || !w.awaits("b") {
		t.Error("documents have nothing to do with each other")
	}
}
