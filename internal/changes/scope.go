package changes

import (
	"cmp"
	"maps"
	"slices"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// scope is what one view of a principal means for one request: which channels are read since when.
type scope struct {
	viewer Viewer          // nil: administrator
	grants tidegate.Grants // the principal's channels that the request asks for; may be shared
	star   bool            // "*" is among grants
	since  tidegate.Seq    // … since when
	// lost are channels that the request asks for and the principal has no more. Never together with star,
	// which shows their documents.
	lost   tidegate.Grants
	pseudo tidegate.Seq // where the user's pseudo-entry stands; 0: none
	newest tidegate.Seq // the latest of all these sequences
}

// granted brings a grant's sequence into one form: 0 means always.
func granted(seq tidegate.Seq) tidegate.Seq {
	if seq <= 1 {
		return 0
	}
	return seq
}

// newScope computes the scope of viewer (nil: administrator) for a reader who has read up to after. filter
// nil: all channels. revocations: what was lost counts.
func newScope(coll store.Collection, viewer Viewer, filter tidegate.ChannelSet, after tidegate.Seq, revocations bool) scope {
	s := scope{viewer: viewer, grants: tidegate.Grants{tidegate.AllChannels: 1}}
	var lost tidegate.Grants
	if viewer != nil && revocations {
		lost = viewer.Revoked(coll, after)
	}
	if viewer != nil {
		s.grants = heldGrants(coll, viewer, after, len(lost) > 0)
	}
	if filter != nil {
		s.grants = filterGrants(s.grants, filter)
	}
	s.since, s.star = s.grants[tidegate.AllChannels]
	s.since = granted(s.since)
	if !s.star {
		s.lost = filterLost(lost, s.grants, filter)
	}
	for _, seq := range s.grants {
		if seq = granted(seq); !s.star || seq <= s.since {
			s.newest = max(s.newest, seq)
		}
	}
	for _, seq := range s.lost {
		s.newest = max(s.newest, seq)
	}
	return s
}

// heldGrants are the viewer's channels with the sequence since which he holds each without a break. That is
// less than the sequence of the grant if an older grant of the same channel was taken away meanwhile: who had read
// up to between the two has missed nothing and needs no backfill. While there is a slot to do, of a grant or a loss, it counts of every
// channel: what left a channel during that time has its own place, and is not told again by the slot.
func heldGrants(coll store.Collection, viewer Viewer, after tidegate.Seq, lost bool) tidegate.Grants {
	g := viewer.Channels(coll)
	pending := lost
	for _, seq := range g {
		pending = pending || granted(seq) > after
	}
	var own tidegate.Grants // made when g has to be changed
	set := func(channel string, seq tidegate.Seq) {
		if own == nil {
			own = maps.Clone(g)
		}
		own[channel] = seq
	}
	for channel, seq := range g {
		if !pending || granted(seq) == 0 {
			continue
		}
		ps := viewer.Periods(coll, channel)
		if n := len(ps); n > 0 && ps[n-1].End == 0 && ps[n-1].Start < seq {
			set(channel, max(ps[n-1].Start, 1))
		}
	}
	if _, ok := g[tidegate.PublicChannel]; !ok {
		set(tidegate.PublicChannel, 1)
	}
	if own != nil {
		return own
	}
	return g
}

// filterGrants are the channels of filter among those of g. "*" in g gives all of them.
func filterGrants(g tidegate.Grants, filter tidegate.ChannelSet) tidegate.Grants {
	out := make(tidegate.Grants, len(filter))
	star, all := g[tidegate.AllChannels]
	for _, channel := range filter {
		if seq, ok := g[channel]; ok {
			out[channel] = seq
		}
		if all {
			out.Add(channel, star)
		}
	}
	return out
}

// filterLost are the lost channels that filter asks for. Who lost "*" has lost each channel he does not
// have otherwise.
func filterLost(lost, has tidegate.Grants, filter tidegate.ChannelSet) tidegate.Grants {
	if filter == nil || len(lost) == 0 {
		return lost
	}
	out := make(tidegate.Grants, len(filter))
	for _, channel := range filter {
		if _, ok := has[channel]; ok {
			continue
		}
		if seq := max(lost[channel], lost[tidegate.AllChannels]); seq > 0 {
			out[channel] = seq
		}
	}
	return out
}

// reads reports whether rows of the channel are read: it is granted, and not made needless by "*".
func (s *scope) reads(channel string, seq tidegate.Seq) bool {
	return !s.star || channel == tidegate.AllChannels || granted(seq) < s.since
}

// slot is what a change of access at seq causes.
type slot struct {
	seq          tidegate.Seq
	gained, lost []string
}

// slots are those after the sequence, in order.
func (s *scope) slots(after tidegate.Seq) []slot {
	at := make(map[tidegate.Seq]*slot)
	get := func(seq tidegate.Seq) *slot {
		if at[seq] == nil {
			at[seq] = &slot{seq: seq}
		}
		return at[seq]
	}
	for channel, seq := range s.grants {
		if seq = granted(seq); seq > after && s.reads(channel, seq) {
			sl := get(seq)
			sl.gained = append(sl.gained, channel)
		}
	}
	for channel, seq := range s.lost {
		if seq > after {
			sl := get(seq)
			sl.lost = append(sl.lost, channel)
		}
	}
	out := make([]slot, 0, len(at))
	for _, sl := range at {
		slices.Sort(sl.gained)
		slices.Sort(sl.lost)
		out = append(out, *sl)
	}
	slices.SortFunc(out, func(a, b slot) int { return cmp.Compare(a.seq, b.seq) })
	return out
}

// match tells what a routed entry is to a reader who has done all slots up to it: whether the document is
// visible, and which visible channels it left by this write.
func (s *scope) match(e *Entry) (member bool, removed tidegate.ChannelSet) {
	if s.star {
		return e.Flags&Removed == 0, nil
	}
	for _, channel := range e.Channels {
		if _, ok := s.grants[channel]; ok {
			member = true
			break
		}
	}
	for _, channel := range e.RemovedFrom {
		if _, ok := s.grants[channel]; ok {
			removed = append(removed, channel)
		}
	}
	return member, removed
}
