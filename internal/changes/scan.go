package changes

import (
	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// page is one stretch of the walk, within one snapshot.
type page struct {
	f      *Feed
	r      store.Reader
	rows   rowReader
	slots  []slot // not yet done
	plain  *merge // nil until needed
	max    int    // entries
	budget int    // rows
	out    []tidegate.Change
	revs   []tidegate.RevID // what Revs of out point into

	// Of the slot that is walked:
	held       bool         // the reader may hold documents of a channel gained
	anyEarlier bool         // there are channels granted earlier
	earlier    tidegate.Seq // the latest grant of these
}

// open prepares a page.
func (p *page) open() error {
	f := p.f
	routing, err := f.h.routes.Read(p.r)
	if err != nil {
		return err
	}
	p.rows = &indexRows{r: p.r, space: f.h.space, coll: routing.Live(f.req.Collection)}
	if states, ok := f.hist.(States); ok && f.docs != nil && len(f.docs) <= maxLookups {
		rows, err := p.lookUp(states)
		if err != nil {
			return err
		}
		p.rows = rows
	}
	if !f.req.Descending {
		p.slots = f.scope.slots(f.cur.plain)
	}
	return nil
}

// walk goes on from the feed's cursor until the page is full, the budget is spent or the bound is reached.
// It reports whether the bound was reached.
func (p *page) walk() (caughtUp bool, err error) {
	c := &p.f.cur
	if c.floor > 0 {
		if done, err := p.walkFloor(); err != nil || !done {
			return false, err
		}
	}
	for {
		for len(p.slots) > 0 && c.didSlot(p.slots[0].seq) {
			p.slots = p.slots[1:]
		}
		hi := p.f.bound
		pending := len(p.slots) > 0 && p.slots[0].seq <= hi
		if pending {
			hi = p.slots[0].seq - 1
		}
		if c.plain < hi {
			done, err := p.walkPlain(hi)
			if err != nil || !done {
				return false, err
			}
		}
		if !pending {
			return true, nil
		}
		done, err := p.walkSlot(p.slots[0])
		if err != nil || !done {
			return false, err
		}
	}
}

// spent reports whether the page has to end here.
func (p *page) spent() bool { return len(p.out) >= p.max || p.budget <= 0 }

// walkPlain emits plain entries up to hi and reports whether it got there.
func (p *page) walkPlain(hi tidegate.Seq) (done bool, err error) {
	if err := p.openPlain(); err != nil {
		return false, err
	}
	c := &p.f.cur
	for {
		seq, ok := p.plain.peek()
		if !ok || seq > hi {
			c.moveTo(hi)
			return true, nil
		}
		if p.spent() {
			return false, nil
		}
		group := p.plain.next()
		p.budget -= len(group)
		if err := p.emitPlain(seq, group); err != nil {
			return false, err
		}
		if err := p.plain.take(); err != nil {
			return false, err
		}
		c.moveTo(seq)
	}
}

// openPlain starts the merge of the channels whose slot is done.
func (p *page) openPlain() error {
	if p.plain != nil {
		return nil
	}
	s, c := &p.f.scope, p.f.cur
	p.plain = &merge{rows: p.rows}
	star := s.star && c.didSlot(s.since)
	for channel, seq := range s.grants {
		if c.didSlot(granted(seq)) && s.reads(channel, granted(seq)) && (!star || channel == tidegate.AllChannels) {
			if err := p.addPlain(channel, p.f.bound, false); err != nil {
				return err
			}
		}
	}
	for channel, seq := range s.lost {
		if seq > c.plain+1 && !star {
			if err := p.addPlain(channel, min(p.f.bound, seq-1), true); err != nil {
				return err
			}
		}
	}
	if at := s.pseudo; at > c.plain && at <= p.f.bound && p.f.docs == nil {
		return p.plain.add(&source{from: 1, rows: []row{{seq: at}}})
	}
	return nil
}

func (p *page) addPlain(channel string, to tidegate.Seq, lost bool) error {
	return p.plain.add(&source{channel: channel, from: p.f.cur.plain + 1, to: to, lost: lost, chunk: p.firstChunk()})
}

// firstChunk is how many rows to begin a source with.
func (p *page) firstChunk() int {
	n := max(1, len(p.f.scope.grants))
	if p.f.scope.star {
		n = 1
	}
	return min(max(p.max/n, firstChunk), maxChunk)
}

// emitPlain emits the entry of a group, if the request wants it.
func (p *page) emitPlain(seq tidegate.Seq, group []*source) error {
	var best *source
	var removed []string
	for _, s := range group {
		row := s.head()
		switch {
		case row.value == "":
			p.emitPseudo(tidegate.Since{Seq: seq})
		case row.flags()&Removed == 0 && !s.lost:
			best = s
		case row.flags()&Removed != 0 && !s.lost:
			removed = append(removed, s.channel)
		}
	}
	if best != nil {
		return p.emit(tidegate.Since{Seq: seq}, best.head(), tidegate.NewChannelSet(removed...), false)
	}
	if len(removed) > 0 {
		return p.emit(tidegate.Since{Seq: seq}, removalIn(group), tidegate.NewChannelSet(removed...), false)
	}
	return p.emitLeft(seq, group)
}

// removalIn returns a removal among the rows of a group, or a zero row.
func removalIn(group []*source) row {
	for _, s := range group {
		if r := s.head(); r.flags()&Removed != 0 {
			return r
		}
	}
	return row{}
}

// emitLeft emits the removal of a document from channels that the viewer had then and has no more
// (DESIGN.md, Left, then lost).
func (p *page) emitLeft(seq tidegate.Seq, group []*source) error {
	left := removalIn(group)
	if left.value == "" || p.f.req.ActiveOnly {
		return nil
	}
	e, err := left.head()
	if err != nil || !p.f.wants(e.DocID) {
		return err
	}
	var removed []string
	for _, s := range group {
		if s.lost && s.head().flags()&Removed != 0 {
			removed = append(removed, s.channel)
		}
	}
	if member, err := p.memberAt(&e); err != nil || member {
		return err
	}
	held, err := p.mayHold(&e, removed)
	if err != nil || !held {
		return err
	}
	return p.emit(tidegate.Since{Seq: seq}, left, tidegate.NewChannelSet(removed...), false)
}

// emit appends the entry of a row, unless the request leaves it out.
func (p *page) emit(at tidegate.Since, r row, removed tidegate.ChannelSet, revoked bool) error {
	flags := r.flags()
	if p.f.req.ActiveOnly && flags&(Deleted|Removed) != 0 {
		return nil
	}
	parse := row.head
	if p.f.req.AllLeaves {
		parse = row.withLeaves
	}
	e, err := parse(r)
	if err != nil || !p.f.wants(e.DocID) {
		return err
	}
	if len(removed) == 0 {
		removed = nil
	}
	if p.out == nil {
		p.reserve()
	}
	start := len(p.revs)
	p.revs = append(p.revs, e.Rev)
	for _, leaf := range e.Others {
		p.revs = append(p.revs, leaf.Rev)
	}
	p.out = append(p.out, tidegate.Change{
		Seq: at, ID: e.DocID, Revs: p.revs[start:len(p.revs):len(p.revs)],
		Deleted: flags&Deleted != 0, Removed: removed, Revoked: revoked, Left: flags&Removed != 0,
	})
	return nil
}

// reserve makes room for the entries of the page: as many as there are rows at hand.
func (p *page) reserve() {
	n := p.max
	if x, ok := p.rows.(*indexRows); ok {
		n = min(n, x.read)
	}
	p.out, p.revs = make([]tidegate.Change, 0, n), make([]tidegate.RevID, 0, n)
}

// emitPseudo appends the user's pseudo-entry (gateway-rest.md §14.2).
func (p *page) emitPseudo(at tidegate.Since) {
	p.out = append(p.out, pseudoEntry(p.f.scope.viewer.PrincipalName(), at))
}

func pseudoEntry(name string, at tidegate.Since) tidegate.Change {
	if name == "" {
		name = tidegate.GuestName
	}
	return tidegate.Change{Seq: at, ID: "_user/" + name}
}
