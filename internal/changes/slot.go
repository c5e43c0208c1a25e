package changes

import (
	"slices"

	"github.com/tidegate/tidegate"
)

// walkSlot emits what is left of a slot and reports whether it came to its end.
func (p *page) walkSlot(sl slot) (done bool, err error) {
	m, err := p.openSlot(sl)
	if err != nil {
		return false, err
	}
	c := &p.f.cur
	for {
		seq, ok := m.peek()
		if !ok {
			return true, p.endSlot(sl)
		}
		if p.spent() {
			return false, nil
		}
		group := m.next()
		p.budget -= len(group)
		if err := p.emitSlot(sl.seq, seq, group); err != nil {
			return false, err
		}
		if err := m.take(); err != nil {
			return false, err
		}
		c.slot, c.after = sl.seq, seq
	}
}

// openSlot starts the merge of a slot's channels where the cursor stands.
func (p *page) openSlot(sl slot) (*merge, error) {
	from := p.f.cur.inSlot(sl.seq)
	m := &merge{rows: p.rows}
	p.held = false
	for _, channel := range sl.gained {
		p.held = p.held || p.f.seen > 0 && p.f.had(channel)
		s := &source{channel: channel, from: from, to: sl.seq - 1, chunk: p.firstChunk()}
		if err := m.add(s); err != nil {
			return nil, err
		}
	}
	if p.f.seen > 0 { // who holds nothing has nothing to give up
		for _, channel := range sl.lost {
			// All rows: one that moved beyond the bound would not come again.
			s := &source{channel: channel, from: from, to: maxSeq, lost: true, chunk: p.firstChunk()}
			if err := m.add(s); err != nil {
				return nil, err
			}
		}
	}
	p.earlier, p.anyEarlier = 0, false
	for channel, seq := range p.f.scope.grants {
		if seq = granted(seq); seq < sl.seq && p.f.scope.reads(channel, seq) {
			p.earlier, p.anyEarlier = max(p.earlier, seq), true
		}
	}
	return m, nil
}

// endSlot moves the cursor past a slot; the channels gained by it are plain from now on.
func (p *page) endSlot(sl slot) error {
	p.f.cur.slot, p.f.cur.after = sl.seq, maxSeq
	if p.plain == nil {
		return nil
	}
	if slices.Contains(sl.gained, tidegate.AllChannels) {
		p.plain = nil // it takes the place of all others
		return nil
	}
	for _, channel := range sl.gained {
		if err := p.addPlain(channel, p.f.bound, false); err != nil {
			return err
		}
	}
	return nil
}

// emitSlot emits the entry of a group of a slot, if it makes one.
func (p *page) emitSlot(trigger, seq tidegate.Seq, group []*source) error {
	at := tidegate.Since{Trigger: trigger, Seq: seq}
	for _, s := range group {
		if r := s.head(); !s.lost && r.flags()&(Deleted|Removed) == 0 {
			again, err := p.deliveredBefore(trigger, r)
			if err != nil || again {
				return err
			}
			return p.emit(at, r, nil, false)
		}
	}
	if p.f.req.ActiveOnly {
		return nil
	}
	if gone, err := p.emitGone(at, group); err != nil || gone {
		return err
	}
	return p.emitRevoked(at, group)
}

// deliveredBefore reports whether the document of a backfilled row came at an earlier position of this run,
// by another channel.
func (p *page) deliveredBefore(trigger tidegate.Seq, r row) (bool, error) {
	if !p.anyEarlier || max(p.earlier, r.seq) <= p.f.run || r.sole() {
		return false, nil
	}
	star, ok, err := p.rows.star(r.seq)
	if err != nil || !ok {
		return false, err
	}
	for _, channel := range star.Channels {
		seq, ok := p.f.scope.grants[channel]
		if seq = granted(seq); ok && seq < trigger && max(seq, r.seq) > p.f.run {
			return true, nil
		}
	}
	return false, nil
}

// emitGone emits the deletion, or the removal from a channel that the viewer has again, of a document that
// the reader may hold from the time before (DESIGN.md, Regained).
func (p *page) emitGone(at tidegate.Since, group []*source) (done bool, err error) {
	var gone *source
	var removed []string
	for _, s := range group {
		if s.lost {
			continue
		}
		gone = s
		if s.head().flags()&Removed != 0 {
			removed = append(removed, s.channel)
		}
	}
	if gone == nil || !p.held {
		return false, nil
	}
	e, err := gone.head().head()
	if err != nil || !p.f.wants(e.DocID) {
		return false, err
	}
	if visible, err := p.visible(&e); err != nil || visible {
		return false, err // it is there, and delivered where it is visible
	}
	if told, err := p.toldOtherwise(&e); err != nil || told {
		return false, err
	}
	held, err := p.mayHold(&e, channelsOf(group))
	if err != nil || !held {
		return false, err
	}
	return true, p.emit(at, gone.head(), tidegate.NewChannelSet(removed...), false)
}

// emitRevoked emits the revocation of a document that the reader may hold and may see no more
// (gateway-rest.md §14.5).
func (p *page) emitRevoked(at tidegate.Since, group []*source) error {
	var from *source
	var removed []string
	for _, s := range group {
		if !s.lost {
			continue
		}
		if s.head().flags()&Removed == 0 {
			from = s
			break
		}
		if p.f.missed(s.channel, s.head().seq, at.Trigger) {
			from = s
			removed = append(removed, s.channel)
		}
	}
	if from == nil {
		return nil
	}
	if from.head().flags()&Removed == 0 {
		removed = nil
	}
	return p.emitLoss(at, from.head(), group, removed)
}

// emitLoss emits a row of a group as the loss of its document, if the reader may hold that and may see it no more.
func (p *page) emitLoss(at tidegate.Since, r row, group []*source, removed []string) error {
	e, err := r.head()
	if err != nil || !p.f.wants(e.DocID) {
		return err
	}
	if visible, err := p.visible(&e); err != nil || visible {
		return err
	}
	held, err := p.mayHold(&e, channelsOf(group))
	if err != nil || !held {
		return err
	}
	return p.emit(at, r, tidegate.NewChannelSet(removed...), true)
}

func channelsOf(group []*source) []string {
	names := make([]string, len(group))
	for i, s := range group {
		names[i] = s.channel
	}
	return names
}
