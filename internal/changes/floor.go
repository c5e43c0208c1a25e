package changes

import (
	"slices"

	"github.com/tidegate/tidegate"
)

// The slot of a floor marker R: all rows below R of all channels that the viewer had before R, in order of their sequences, deletions
// and removals included (DESIGN.md, Floor markers).

// walkFloor emits what is left of the marker's slot and reports whether it came to its end.
func (p *page) walkFloor() (done bool, err error) {
	c := &p.f.cur
	m, err := p.openFloor()
	if err != nil {
		return false, err
	}
	marker := c.floor
	for {
		seq, ok := m.peek()
		if !ok {
			break
		}
		if p.spent() {
			return false, nil
		}
		group := m.next()
		p.budget -= len(group)
		if err := p.emitFloor(marker, seq, group); err != nil {
			return false, err
		}
		if err := m.take(); err != nil {
			return false, err
		}
		c.plain = seq
	}
	if p.f.bound < marker-1 { // the marker is not behind the reader yet
		c.plain = max(c.plain, p.f.bound)
		return false, errBeforeMarker
	}
	c.plain, c.floor = marker-1, 0
	p.slots = p.f.scope.slots(c.plain)
	return true, nil
}

// errBeforeMarker says that a feed was given a marker that is not in the store.
var errBeforeMarker = tidegate.Errorf(tidegate.Internal, "a floor marker lies beyond the last sequence")

// openFloor starts the merge where the cursor stands.
func (p *page) openFloor() (*merge, error) {
	s, c := &p.f.scope, p.f.cur
	m := &merge{rows: p.rows}
	to := min(c.floor-1, p.f.bound)
	star := s.star && s.since < c.floor
	for channel, seq := range s.grants {
		if granted(seq) >= c.floor || star && channel != tidegate.AllChannels {
			continue
		}
		if err := m.add(&source{channel: channel, from: c.plain + 1, to: to, chunk: p.firstChunk()}); err != nil {
			return nil, err
		}
	}
	if p.f.seen > 0 {
		for channel, seq := range s.lost {
			end := to
			if seq < c.floor {
				end = maxSeq // a document that moved beyond the marker would not come again
			}
			if err := m.add(&source{channel: channel, from: c.plain + 1, to: end, lost: true, chunk: p.firstChunk()}); err != nil {
				return nil, err
			}
		}
	}
	if at := s.pseudo; at > c.plain && at <= to && p.f.docs == nil {
		return m, m.add(&source{from: 1, rows: []row{{seq: at}}})
	}
	return m, nil
}

// emitFloor emits the entry of a group, if the request wants it.
func (p *page) emitFloor(marker, seq tidegate.Seq, group []*source) error {
	at := tidegate.Since{Trigger: marker, Seq: seq}
	var best *source
	var removed []string
	for _, s := range group {
		r := s.head()
		switch {
		case r.value == "":
			p.emitPseudo(at)
		case s.lost:
		case r.flags()&Removed == 0:
			best = s
		default:
			removed = append(removed, s.channel)
		}
	}
	if best != nil {
		return p.emit(at, best.head(), tidegate.NewChannelSet(removed...), false)
	}
	if len(removed) > 0 {
		return p.emit(at, removalIn(group), tidegate.NewChannelSet(removed...), false)
	}
	return p.emitLostBefore(at, group)
}

// emitLostBefore emits the loss of a document that the reader may hold from the time before it started at nothing.
func (p *page) emitLostBefore(at tidegate.Since, group []*source) error {
	i := slices.IndexFunc(group, func(s *source) bool {
		// What is still in a channel that was lost after the marker is told in the slot of that loss.
		return s.lost && s.head().flags()&Removed == 0 && p.f.scope.lost[s.channel] < at.Trigger
	})
	var removed []string
	if i < 0 {
		if i = slices.IndexFunc(group, func(s *source) bool { return s.lost && s.head().flags()&Removed != 0 }); i < 0 {
			return nil
		}
		removed = channelsOf(group)
	}
	if p.f.req.ActiveOnly {
		return nil
	}
	return p.emitLoss(at, group[i].head(), group, removed)
}
