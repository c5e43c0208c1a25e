package clustersync

import (
	"fmt"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"
)

func position(n int) Position { return Position{Time: bson.Timestamp{T: uint32(n)}} }

// TestLowWater: the mark never passes an event that is not applied, and comes to the end when all are (I5).
func TestLowWater(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newLowWater(position(0))
		type event struct {
			ticket *ticket
			at     int
		}
		var open []event
		n := rapid.IntRange(1, 30).Draw(t, "batches")
		check := func(begun int) {
			mark, busy, _ := w.get()
			first := begun
			for _, e := range open {
				first = min(first, e.at-1)
			}
			if got := int(mark.Time.T); got != first {
				t.Fatalf("the mark is %d, the first batch not applied is %d", got, first+1)
			}
			if busy != (first < begun) {
				t.Fatalf("busy %v with the mark at %d of %d", busy, first, begun)
			}
		}
		finish := func() {
			i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
			open[i].ticket.done(1)
			open = append(open[:i], open[i+1:]...)
		}
		for at := 1; at <= n; at++ {
			tk := w.begin()
			for range rapid.IntRange(0, 4).Draw(t, "events") {
				tk.add()
				open = append(open, event{tk, at})
			}
			if len(open) > 0 && rapid.Bool().Draw(t, "before the seal") {
				finish()
			}
			if mark, _, _ := w.get(); int(mark.Time.T) >= at {
				t.Fatal("the mark has passed a batch that is not sealed")
			}
			tk.seal(position(at))
			check(at)
			for len(open) > 0 && rapid.Bool().Draw(t, "one more") {
				finish()
				check(at)
			}
		}
		for len(open) > 0 {
			finish()
			check(n)
		}
	})
}

// TestCoalesce: what a batch makes of a document is what its events, one after another, would (spec §8.4, I10).
func TestCoalesce(t *testing.T) {
	doc := func(op Op, id, body string, maybe bool) queued {
		e := Event{Op: op, Doc: Document{Key: Key{ID: id}}, Maybe: maybe, Bytes: 1}
		if body != "" {
			e.Doc.Body = []byte(body)
		}
		if op == OpTouched {
			e.Delta = bson.Raw(body)
			e.Doc.Body = nil
		}
		return queued{event: e, ticket: newLowWater(Position{}).begin(), target: "c"}
	}
	for _, c := range []struct {
		name   string
		batch  []queued
		base   string // "-": deleted; "": none
		deltas int
		fetch  bool
		maybe  bool
		fresh  bool
	}{
		{"insert", []queued{doc(OpInsert, "1", "a", false)}, "a", 0, false, false, true},
		{"insert, replace", []queued{doc(OpInsert, "1", "a", false), doc(OpReplace, "1", "b", false)}, "b", 0, false, false, true},
		{"insert, delete", []queued{doc(OpInsert, "1", "a", false), doc(OpDelete, "1", "", false)}, "-", 0, false, false, true},
		{"delete, insert", []queued{doc(OpDelete, "1", "", false), doc(OpInsert, "1", "a", false)}, "a", 0, false, false, false},
		{"insert, update", []queued{doc(OpInsert, "1", "a", false), doc(OpTouched, "1", "d", false)}, "a", 1, true, false, true},
		{"update, update", []queued{doc(OpTouched, "1", "d", false), doc(OpTouched, "1", "e", false)}, "", 2, true, false, false},
		{"update, replace", []queued{doc(OpTouched, "1", "d", false), doc(OpReplace, "1", "b", false)}, "b", 0, false, false, false},
		{"maybe deleted", []queued{doc(OpReplace, "1", "a", false), doc(OpDelete, "1", "", true)}, "a", 0, true, true, false},
		{"maybe deleted, touched", []queued{doc(OpDelete, "1", "", true), doc(OpTouched, "1", "", false)}, "", 0, true, false, false},
		{"update, delete", []queued{doc(OpTouched, "1", "d", false), doc(OpDelete, "1", "", false)}, "-", 0, false, false, false},
	} {
		all := coalesce(c.batch)["c"]
		if len(all) != 1 {
			t.Errorf("%s: %d changes", c.name, len(all))
			continue
		}
		got, base := all[0], ""
		if got.base != nil {
			if base = string(got.base.Body); got.base.Body == nil {
				base = "-"
			}
		}
		deltas := 0
		for _, d := range got.deltas {
			if len(d) > 0 {
				deltas++
			}
		}
		if base != c.base || deltas != c.deltas || got.fetch != c.fetch || got.maybe != c.maybe || got.fresh != c.fresh || got.events != len(c.batch) {
			t.Errorf("%s: base %q, %d deltas, fetch %v, maybe %v, fresh %v, %d events", c.name, base, deltas, got.fetch, got.maybe, got.fresh, got.events)
		}
	}
}

func TestTransformIndex(t *testing.T) {
	for from, want := range map[string]string{
		`{"v":2,"key":{"a":1},"name":"a_1","unique":true,"hidden":true}`:               `{"v":2,"key":{"a":1},"name":"a_1"}`,
		`{"v":2,"key":{"a":1},"name":"a_1","prepareUnique":true,"sparse":true}`:        `{"v":2,"key":{"a":1},"name":"a_1","sparse":true}`,
		`{"v":1,"key":{"a":1},"name":"a_1","expireAfterSeconds":5,"ns":"x.y"}`:         `{"v":1,"key":{"a":1},"name":"a_1","expireAfterSeconds":2147483647}`,
		`{"key":{"a":0,"b":"","c":true,"d":null,"e":-1e-10,"f":"2d"},"name":"n"}`:      `{"key":{"a":1,"b":1,"c":1,"d":1,"e":-1,"f":"2d"},"name":"n"}`,
		`{"key":{"a":1},"name":"n","background":true,"dropDups":true,"whatever":true}`: `{"key":{"a":1},"name":"n"}`,
	} {
		got, err := transformIndex(extJSON(t, from))
		if err != nil || got.String() != extJSON(t, want).String() {
			t.Errorf("%s becomes %s (%v), want %s", from, got, err, want)
		}
	}
}

// TestInterleave: the first partitions of all collections come first, those of large ones before the others.
func TestInterleave(t *testing.T) {
	var parts []*partition
	for _, c := range []struct {
		name string
		n    int
	}{{"small", 1}, {"large", 4}, {"middle", 2}} {
		for i := range c.n {
			parts = append(parts, &partition{ID: partitionID{c.name, i}, Total: 10})
		}
	}
	interleave(parts)
	got := ""
	for _, p := range parts {
		got += fmt.Sprintf("%s %d, ", p.ID.Collection, p.ID.Number)
	}
	if want := "large 0, middle 0, small 0, large 1, middle 1, large 2, large 3, "; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestLagMeter(t *testing.T) {
	var l lagMeter
	if lag, _ := l.get(); lag != nil {
		t.Errorf("a lag of %d before anything is known", *lag)
	}
	l.beat(position(100))
	l.applied(position(90))
	if lag, catchUp := l.get(); lag == nil || *lag != 10 || catchUp != nil {
		t.Errorf("lag %v, catch up %v", lag, catchUp)
	}
	l.applied(position(120))
	if lag, _ := l.get(); lag == nil || *lag != 0 {
		t.Errorf("lag %v", lag)
	}
}
