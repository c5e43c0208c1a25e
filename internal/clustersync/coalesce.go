package clustersync

import (
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// queued is an event on its way to being applied.
type queued struct {
	event  Event
	ticket *ticket
	target string // id of the collection's mapping
}

// change is what a batch of events makes of one document (spec §8.4).
type change struct {
	ref    Ref // of the last event
	key    Key
	format Kind      // how key is written down: a cluster may be seen as one of the other kind
	base   *Document // the last full document, or one without body for a deletion; nil: none
	deltas []bson.Raw
	fetch  bool // the document must be fetched: base and deltas are what is known if it cannot be
	maybe  bool // a deletion that is to be confirmed
	fresh  bool // the first event was an insert, so it is probably not there yet

	events  int
	bytes   int64
	tickets []*ticket
	first   int // place of the first and the last event in the batch
	last    int
	rounds  int // how often a unique index refused it
}

// done counts the change's events as applied.
func (c *change) done() {
	for i := 0; i < len(c.tickets); {
		n := 1
		for i+n < len(c.tickets) && c.tickets[i+n] == c.tickets[i] {
			n++
		}
		c.tickets[i].done(n)
		i += n
	}
	c.tickets = nil
}

// take notes one more event.
func (c *change) take(q queued, place int) {
	e := q.event
	if c.events == 0 {
		c.first, c.fresh = place, e.Op == OpInsert
	}
	c.events++
	c.bytes += int64(e.Bytes)
	c.tickets = append(c.tickets, q.ticket)
	c.ref, c.key, c.format, c.last = e.Ref, e.Doc.Key, e.Doc.Format, place
	switch e.Op {
	case OpInsert, OpReplace:
		doc := e.Doc
		c.base, c.deltas, c.fetch, c.maybe = &doc, nil, false, false
	case OpDelete:
		gone := e.Doc
		gone.Body = nil
		if e.Maybe {
			c.fetch, c.maybe = true, true
			return
		}
		c.base, c.deltas, c.fetch, c.maybe = &gone, nil, false, false
	case OpTouched:
		c.fetch, c.maybe = true, false
		if e.Delta != nil {
			c.deltas = append(c.deltas, e.Delta)
		}
	}
}

// absorb puts an earlier change of the same document, which could not be written yet, before this one.
func (c *change) absorb(before *change) {
	c.tickets = append(slices.Clone(before.tickets), c.tickets...)
	c.events += before.events
	c.bytes += before.bytes
	c.rounds = before.rounds
	if c.base == nil {
		c.base = before.base
		c.deltas = append(slices.Clone(before.deltas), c.deltas...)
	}
	c.fresh = before.fresh
}

// coalesce gives for each collection what its documents become: one change for each document, however many events it has.
func coalesce(batch []queued) map[string][]*change {
	type name struct{ target, id string }
	found := map[name]*change{}
	out := map[string][]*change{}
	for i, q := range batch {
		n := name{q.target, q.event.Doc.Key.ID}
		c := found[n]
		if c == nil {
			c = &change{}
			found[n] = c
			out[q.target] = append(out[q.target], c)
		}
		c.take(q, i)
	}
	return out
}
