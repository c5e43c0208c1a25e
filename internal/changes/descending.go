package changes

import "github.com/tidegate/tidegate"

// A descending feed is one merge backwards over all channels, from the bound down to the request's position,
// with plain sequences throughout. A channel granted later than that position is read to its beginning, but
// what happened before the grant shows only documents that are there now.

// walkDown emits entries until the page is full or the end is reached.
func (p *page) walkDown() (done bool, err error) {
	f := p.f
	if f.below == 0 {
		f.below = f.bound + 1
	}
	m, err := p.openDown()
	if err != nil {
		return false, err
	}
	for {
		seq, ok := m.peek()
		if !ok {
			return true, nil
		}
		if p.spent() {
			return false, nil
		}
		group := m.next()
		p.budget -= len(group)
		if err := p.emitDown(seq, group); err != nil {
			return false, err
		}
		if err := m.take(); err != nil {
			return false, err
		}
		f.below = seq
	}
}

func (p *page) openDown() (*merge, error) {
	f, s := p.f, &p.f.scope
	m := &merge{rows: p.rows, reverse: true}
	for channel, seq := range s.grants {
		if seq = granted(seq); seq > f.bound || !s.reads(channel, seq) {
			continue
		}
		from := f.cur.plain + 1
		if !f.cur.didSlot(seq) {
			from = 1
		}
		src := &source{channel: channel, from: from, to: f.below - 1, reverse: true, chunk: p.firstChunk()}
		if err := m.add(src); err != nil {
			return nil, err
		}
	}
	if at := s.pseudo; at > f.cur.plain && at < f.below && f.docs == nil {
		return m, m.add(&source{from: 1, rows: []row{{seq: at}}})
	}
	return m, nil
}

// emitDown is emitPlain without what rows from before a channel's grant say of documents that are gone.
func (p *page) emitDown(seq tidegate.Seq, group []*source) error {
	shown := group[:0:0]
	for _, s := range group {
		r := s.head()
		if r.value == "" || r.flags()&(Deleted|Removed) == 0 || seq >= granted(p.f.scope.grants[s.channel]) {
			shown = append(shown, s)
		}
	}
	if len(shown) == 0 {
		return nil
	}
	return p.emitPlain(seq, shown)
}
