package changes

import (
	"slices"

	"github.com/tidegate/tidegate"
)

// What the reader may hold (DESIGN.md, Losing and regaining).

// had reports whether the backfill of a channel may meet documents that the reader holds: the viewer had the
// channel before, or it is "*".
func (f *Feed) had(channel string) bool {
	if f.scope.viewer == nil {
		return false
	}
	return channel == tidegate.AllChannels ||
		slices.ContainsFunc(f.periods(channel), func(p Period) bool { return p.End != 0 })
}

// missed reports whether a removal at seq, from a channel that was lost at loss, may be news to the reader. It
// is not if the viewer had the channel then: it was or is sent as a plain entry. But what happened in a gap
// between two periods waits for the backfill of the second, which may never have been read to its end.
func (f *Feed) missed(channel string, seq, loss tidegate.Seq) bool {
	if seq >= loss {
		return true
	}
	first, last := maxSeq, tidegate.Seq(0)
	for _, p := range f.periods(channel) {
		first, last = min(first, p.Start), max(last, p.Start)
	}
	return seq >= first && seq < last
}

// periods tells when the viewer had the channel, or had it as one of all that the request asks for.
func (f *Feed) periods(channel string) []Period {
	if channel == tidegate.PublicChannel {
		return []Period{{}}
	}
	viewer, coll := f.scope.viewer, f.req.Collection
	periods := viewer.Periods(coll, channel)
	if f.filter != nil {
		periods = append(slices.Clip(periods), viewer.Periods(coll, tidegate.AllChannels)...)
	}
	if lost, ok := f.scope.lost[channel]; ok && len(periods) == 0 {
		return []Period{{End: lost}} // its beginning is forgotten
	}
	return periods
}

// mayHold reports whether the reader may have got the document of a row of the channels by way of any
// channel.
func (p *page) mayHold(e *Entry, channels []string) (bool, error) {
	f := p.f
	if f.seen == 0 {
		return false, nil
	}
	if e.Flags&Removed == 0 && e.Seq <= f.seen {
		for _, channel := range channels {
			if overlap([]Period{{Start: e.Seq}}, f.periods(channel), f.seen) {
				return true, nil
			}
		}
	}
	if f.hist == nil {
		return true, nil
	}
	_, past, err := f.hist.ChannelPeriods(p.r, f.req.Collection, e.DocID)
	if err != nil {
		return false, err
	}
	life := Period{} // from when on the document was there is not known, except if this is its first revision
	if e.Rev.Generation == 1 {
		life.Start = e.Seq
	}
	if overlap([]Period{life}, f.periods(tidegate.AllChannels), f.seen) {
		return true, nil
	}
	for channel, member := range past {
		if overlap(member, f.periods(channel), f.seen) {
			return true, nil
		}
	}
	return false, nil
}

// visible reports whether the document of a row is delivered as it is now, by any of the channels that are
// read. A deletion is so only where the channel was granted before it, since backfills leave deletions out.
func (p *page) visible(e *Entry) (bool, error) {
	now, err := p.now(e)
	if err != nil {
		return false, err
	}
	delivers := func(channel string) bool {
		seq, ok := p.f.scope.grants[channel]
		return ok && granted(seq) <= p.f.bound && (!now.deleted || granted(seq) <= now.seq)
	}
	return delivers(tidegate.AllChannels) || slices.ContainsFunc(now.channels, delivers), nil
}

// present is the current revision of a document.
type present struct {
	seq      tidegate.Seq
	deleted  bool
	channels tidegate.ChannelSet
}

// now returns the current revision of the document of a row. Without States it may take a deletion for an
// update.
func (p *page) now(e *Entry) (present, error) {
	star, ok, err := p.rows.star(e.Seq)
	if err != nil || ok {
		return present{star.Seq, star.Flags&Deleted != 0, star.Channels}, err
	}
	if states, ok := p.f.hist.(States); ok {
		s, err := states.DocState(p.r, p.f.req.Collection, e.DocID)
		if err != nil || s == nil {
			return present{}, err
		}
		var at Entry
		s.route(&at)
		return present{s.Seq, s.Deleted, at.Channels}, nil
	}
	if p.f.hist == nil {
		return present{}, nil
	}
	channels, _, err := p.f.hist.ChannelPeriods(p.r, p.f.req.Collection, e.DocID)
	return present{channels: channels}, err
}

// memberAt reports whether the document was, at the row's sequence, in a channel that the viewer had by then
// and has now.
func (p *page) memberAt(e *Entry) (bool, error) {
	_, past, err := p.f.hist.ChannelPeriods(p.r, p.f.req.Collection, e.DocID)
	if err != nil {
		return false, err
	}
	for channel, periods := range past {
		if seq, ok := p.f.scope.grants[channel]; ok && granted(seq) <= e.Seq && overlap(periods, []Period{{Start: e.Seq}}, e.Seq) {
			return true, nil
		}
	}
	return false, nil
}

// toldOtherwise reports whether the document left another visible channel later than e, by a row that has its
// own place in the walk and says what became of the document since.
func (p *page) toldOtherwise(e *Entry) (bool, error) {
	if p.f.hist == nil {
		return false, nil
	}
	_, past, err := p.f.hist.ChannelPeriods(p.r, p.f.req.Collection, e.DocID)
	if err != nil {
		return false, err
	}
	for channel, periods := range past {
		seq, ok := p.f.scope.grants[channel]
		if !ok || len(periods) == 0 {
			continue
		}
		if end := periods[len(periods)-1].End; end > e.Seq && (granted(seq) <= end || p.f.had(channel)) {
			return true, nil
		}
	}
	return false, nil
}

// overlap reports whether a period of a and one of b have a moment in common not later than by.
func overlap(a, b []Period, by tidegate.Seq) bool {
	for _, x := range a {
		for _, y := range b {
			start := max(x.Start, y.Start)
			if start <= by && (x.End == 0 || start < x.End) && (y.End == 0 || start < y.End) {
				return true
			}
		}
	}
	return false
}
