package changes

import (
	"slices"

	"github.com/tidegate/tidegate"
)

// maxLookups is up to how many documents a feed looks up one by one instead of scanning its channels.
const maxLookups = 256

// docRows are the rows of a few documents, made from their states.
type docRows map[string][]row // by channel, ascending

// lookUp reads the states of the documents that the request is about.
func (p *page) lookUp(states States) (docRows, error) {
	rows := make(docRows)
	for id := range p.f.docs {
		s, err := states.DocState(p.r, p.f.req.Collection, id)
		if err != nil {
			return nil, err
		}
		if s != nil {
			rows.add(id, s)
		}
	}
	for _, list := range rows {
		slices.SortFunc(list, func(a, b row) int { return compareSeq(a.seq, b.seq) })
	}
	return rows, nil
}

// add appends the rows that WriteIndex writes for the state.
func (d docRows) add(id string, s *DocState) {
	e := s.entry(id)
	member := row{s.Seq, string(e.AppendBinary(nil))}
	for channel, m := range s.Channels {
		switch {
		case channel == tidegate.AllChannels:
		case m.Removed:
			e := s.removal(id, m)
			if m.Deleted && m.Rev == s.Rev {
				e.Others = s.Others // what it listed when it was written is among them
			}
			d[channel] = append(d[channel], row{m.Seq, string(e.AppendBinary(nil))})
		default:
			d[channel] = append(d[channel], member)
		}
	}
	s.route(&e)
	star := row{s.Seq, string(e.AppendBinary(nil))}
	d[tidegate.AllChannels] = append(d[tidegate.AllChannels], star)
}

// fill gives a source all its rows at once.
func (d docRows) fill(s *source) error {
	s.rows, s.at = s.rows[:0], 0
	for _, r := range d[s.channel] {
		if r.seq >= s.from && r.seq <= s.to {
			s.rows = append(s.rows, r)
		}
	}
	if s.reverse {
		slices.Reverse(s.rows)
	}
	s.move(false)
	return nil
}

func (d docRows) close() error { return nil }

func (d docRows) star(seq tidegate.Seq) (Entry, bool, error) {
	for _, r := range d[tidegate.AllChannels] {
		if r.seq == seq {
			e, err := ParseEntry(seq, r.value)
			return e, err == nil, err
		}
	}
	return Entry{}, false, nil
}
