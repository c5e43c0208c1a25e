package database

import (
	"encoding/binary"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/changes"
)

// recordFormat is the first byte of a document record.
const recordFormat = 1

// Flags of a record: what a reader wants to know before anything else, and which sections there are.
const (
	recDeleted  byte = 1 << iota // the current revision is a tombstone
	recConflict                  // more than one leaf is live
	recVector                    // there is a version vector
	recExpiry                    // the document expires
	recGrants                    // the document grants something
	recCompact                   // a deletion that is remembered without any body (DESIGN.md, The ledger)
	recAll      = recDeleted | recConflict | recVector | recExpiry | recGrants | recCompact
)

// pending stands for the sequence that a document is about to get. In a stored record it is written as 0,
// which means the record's own.
const pending = tidegate.Seq(math.MaxUint64)

// pendingLive stands, in a record of the generation that a run builds, for the sequence that the document is about to
// get in the live one.
const pendingLive = pending - 1

// maxPastPeriods is how many earlier memberships are kept for each channel; the two oldest are merged when
// there are more (sync-function.md §5).
const maxPastPeriods = 5

// record is what is stored about a document. See DESIGN.md.
type record struct {
	seq      tidegate.Seq
	saved    time.Time // millisecond precision
	tree     *tidegate.RevTree
	vector   tidegate.VersionVector
	channels []channelState // every channel the document is or was in, in order of their names
	expiry   time.Time      // zero: never; millisecond precision
	grants   access.DocGrants
}

// channelState is what a document has been to a channel.
type channelState struct {
	name   string
	member bool
	// If not a member: the revision that removed it, and whether that was a tombstone.
	rev     tidegate.RevID
	deleted bool
	// periods are the memberships, oldest first, never empty. The last is the latest; its End is 0 while the
	// document is a member, else the sequence of the removal.
	periods []changes.Period
}

// latest returns the latest membership.
func (c *channelState) latest() changes.Period { return c.periods[len(c.periods)-1] }

// membership returns the state in the form of the feed's index.
func (c *channelState) membership() changes.Membership {
	if c.member {
		return changes.Membership{}
	}
	return changes.Membership{Removed: true, Seq: c.latest().End, Rev: c.rev, Deleted: c.deleted}
}

// recordHead is what can be read of a record at little cost.
type recordHead struct {
	flags byte
	seq   tidegate.Seq
	saved time.Time
	rest  []byte // the tree and what follows
}

// winner returns the current revision with its channels.
func (h *recordHead) winner() (tidegate.Rev, error) {
	rev, _, err := tidegate.ParseWinner(h.rest)
	if err == nil && rev.ID.IsZero() {
		err = errRecord
	}
	return rev, err
}

// seqOffset is where the sequence stands in a record.
const seqOffset = 2

// errRecord is answered to bytes that are no record.
var errRecord = tidegate.Errorf(tidegate.Corrupt, "a stored document does not make sense")

// errNewer is answered to a record of a later version.
var errNewer = tidegate.Errorf(tidegate.Corrupt, "a stored document was written by a newer version of tidegate")

// recordSeq returns the sequence of a stored record without decoding it; 0 for none.
func recordSeq(b []byte) tidegate.Seq {
	if len(b) < seqOffset+8 {
		return 0
	}
	return tidegate.Seq(binary.BigEndian.Uint64(b[seqOffset:]))
}

// setRecordSeq writes the sequence into an encoded record.
func setRecordSeq(b []byte, seq tidegate.Seq) {
	binary.BigEndian.PutUint64(b[seqOffset:], uint64(seq))
}

// parseHead reads the beginning of a record. The result points into b.
func parseHead(b []byte) (recordHead, error) {
	if len(b) < seqOffset+8+1 {
		return recordHead{}, errRecord
	}
	if b[0] > recordFormat || b[1]&^recAll != 0 {
		return recordHead{}, errNewer
	}
	if b[0] != recordFormat {
		return recordHead{}, errRecord
	}
	h := recordHead{flags: b[1], seq: recordSeq(b)}
	r := reader{rest: b[seqOffset+8:]}
	h.saved = r.time()
	h.rest = r.rest
	if r.failed || h.seq == 0 {
		return recordHead{}, errRecord
	}
	return h, nil
}

// parseHistory reads the tree and the vector (zero if there is none), which follow a record's head.
func parseHistory(flags byte, b []byte) (*tidegate.RevTree, tidegate.VersionVector, error) {
	tree, rest, err := tidegate.ParseRevTree(b)
	if err != nil || flags&recVector == 0 {
		return tree, tidegate.VersionVector{}, err
	}
	vector, _, err := tidegate.ParseVersionVectorBinary(rest)
	return tree, vector, err
}

// parseRecord decodes a stored record. The result shares no memory with b.
func parseRecord(b []byte) (*record, error) {
	h, err := parseHead(b)
	if err != nil {
		return nil, err
	}
	rec := &record{seq: h.seq, saved: h.saved}
	var rest []byte
	if rec.tree, rest, err = tidegate.ParseRevTree(h.rest); err != nil {
		return nil, err
	}
	if h.flags&recVector != 0 {
		if rec.vector, rest, err = tidegate.ParseVersionVectorBinary(rest); err != nil {
			return nil, err
		}
	}
	r := reader{rest: rest}
	rec.channels = r.channels(h.seq)
	if h.flags&recExpiry != 0 {
		rec.expiry = r.time()
	}
	if h.flags&recGrants != 0 {
		rec.grants.Access = r.grants(h.seq)
		rec.grants.Roles = r.grants(h.seq)
	}
	if r.failed || len(r.rest) > 0 || rec.tree.Len() == 0 || rec.flags() != h.flags {
		return nil, errRecord
	}
	return rec, nil
}

// flags computes the record's flags.
func (rec *record) flags() byte {
	var f byte
	live := rec.tree.LiveLeaves()
	if live == 0 {
		f |= recDeleted
		if rec.compact() {
			f |= recCompact
		}
	}
	if live > 1 {
		f |= recConflict
	}
	if !rec.vector.IsZero() {
		f |= recVector
	}
	if !rec.expiry.IsZero() {
		f |= recExpiry
	}
	if len(rec.grants.Access) > 0 || len(rec.grants.Roles) > 0 {
		f |= recGrants
	}
	return f
}

// appendBinary appends the stored form. Sequences that are pending, or equal to the record's own, are
// written as 0, so the form stays right when setRecordSeq gives it its sequence.
func (rec *record) appendBinary(b []byte) []byte {
	flags := rec.flags()
	b = append(b, recordFormat, flags)
	b = binary.BigEndian.AppendUint64(b, uint64(rec.seq))
	b = appendTime(b, rec.saved)
	b = rec.tree.AppendBinary(b)
	if flags&recVector != 0 {
		b = rec.vector.AppendBinary(b)
	}
	b = appendChannels(b, rec.channels, rec.seq)
	if flags&recExpiry != 0 {
		b = appendTime(b, rec.expiry)
	}
	if flags&recGrants != 0 {
		b = appendGrants(b, rec.grants.Access, rec.seq)
		b = appendGrants(b, rec.grants.Roles, rec.seq)
	}
	return b
}

// Bits of a stored channel state.
const (
	chanMember  byte = 1 << iota // the document is a member now
	chanDeleted                  // the removing revision is a tombstone
)

func appendChannels(b []byte, channels []channelState, own tidegate.Seq) []byte {
	b = binary.AppendUvarint(b, uint64(len(channels)))
	for i := range channels {
		c := &channels[i]
		b = appendString(b, c.name)
		var flags byte
		if c.member {
			flags |= chanMember
		}
		if c.deleted {
			flags |= chanDeleted
		}
		b = append(b, flags)
		if !c.member {
			b = appendRevID(b, c.rev)
		}
		b = binary.AppendUvarint(b, uint64(len(c.periods)))
		for i, p := range c.periods {
			b = appendSeq(b, p.Start, own)
			if i < len(c.periods)-1 || !c.member {
				b = appendSeq(b, p.End, own)
			}
		}
	}
	return b
}

func (r *reader) channels(own tidegate.Seq) []channelState {
	channels := make([]channelState, r.count(4))
	periods := make([]changes.Period, len(channels)) // one for each, in one piece: the usual case
	for i := range channels {
		c := &channels[i]
		c.name = r.string()
		flags := r.byte()
		c.member, c.deleted = flags&chanMember != 0, flags&chanDeleted != 0
		if !c.member {
			c.rev = r.revID()
		}
		if n := r.count(1); n == 1 {
			c.periods = periods[i : i+1 : i+1]
		} else {
			c.periods = make([]changes.Period, n)
		}
		for k := range c.periods {
			p := &c.periods[k]
			p.Start = r.seq(own)
			if k < len(c.periods)-1 || !c.member {
				p.End = r.seq(own)
			}
		}
		if len(c.periods) == 0 || (i > 0 && c.name <= channels[i-1].name) || flags > chanMember|chanDeleted {
			r.fail()
			return nil
		}
	}
	return channels
}

func appendGrants(b []byte, grants map[string]tidegate.Grants, own tidegate.Seq) []byte {
	b = binary.AppendUvarint(b, uint64(len(grants)))
	for _, principal := range slices.Sorted(maps.Keys(grants)) {
		b = appendString(b, principal)
		b = binary.AppendUvarint(b, uint64(len(grants[principal])))
		for _, name := range slices.Sorted(maps.Keys(grants[principal])) {
			b = appendString(b, name)
			b = appendSeq(b, grants[principal][name], own)
		}
	}
	return b
}

func (r *reader) grants(own tidegate.Seq) map[string]tidegate.Grants {
	n := r.count(2)
	if n == 0 {
		return nil
	}
	grants := make(map[string]tidegate.Grants, n)
	for range n {
		principal := r.string()
		m := r.count(2)
		g := make(tidegate.Grants, m)
		for range m {
			name := r.string()
			g[name] = r.seq(own)
		}
		grants[principal] = g
	}
	if r.failed || len(grants) != n {
		r.fail()
		return nil
	}
	return grants
}

// resolved returns a copy with sequences in place of pending and pendingLive.
func (rec *record) resolved(own, live tidegate.Seq) *record {
	r := func(seq tidegate.Seq) tidegate.Seq {
		switch seq {
		case pending:
			return own
		case pendingLive:
			return live
		}
		return seq
	}
	c := *rec
	c.channels = slices.Clone(rec.channels)
	for i := range c.channels {
		periods := slices.Clone(c.channels[i].periods)
		for k := range periods {
			periods[k] = changes.Period{Start: r(periods[k].Start), End: r(periods[k].End)}
		}
		c.channels[i].periods = periods
	}
	grants := func(g map[string]tidegate.Grants) map[string]tidegate.Grants {
		if g == nil {
			return nil
		}
		out := make(map[string]tidegate.Grants, len(g))
		for principal, names := range g {
			out[principal] = make(tidegate.Grants, len(names))
			for name, seq := range names {
				out[principal][name] = r(seq)
			}
		}
		return out
	}
	c.grants = access.DocGrants{Access: grants(rec.grants.Access), Roles: grants(rec.grants.Roles)}
	return &c
}

// memberSet returns the channels the document is in.
func (rec *record) memberSet() tidegate.ChannelSet {
	names := make([]string, 0, len(rec.channels))
	for i := range rec.channels {
		if rec.channels[i].member {
			names = append(names, rec.channels[i].name)
		}
	}
	return tidegate.ChannelSet(names)
}

// docState returns the record in the form of the feed's index.
func (rec *record) docState() *changes.DocState {
	s := &changes.DocState{Seq: rec.seq, Channels: make(map[string]changes.Membership, len(rec.channels))}
	for i := range rec.channels {
		s.Channels[rec.channels[i].name] = rec.channels[i].membership()
	}
	if rec.tree.Len() == 1 { // most documents: no order to be found
		s.Rev, s.Deleted = rec.tree.At(0).ID, rec.tree.At(0).Deleted()
		return s
	}
	first := true
	for _, leaf := range rec.tree.Leaves() {
		if first {
			s.Rev, s.Deleted, first = leaf.ID, leaf.Deleted(), false
			continue
		}
		s.Others = append(s.Others, changes.Leaf{Rev: leaf.ID, Deleted: leaf.Deleted()})
	}
	return s
}

// addPeriod begins a new membership at seq; the oldest two are merged when there are too many.
func addPeriod(periods []changes.Period, seq tidegate.Seq) []changes.Period {
	if len(periods) > maxPastPeriods {
		merged := changes.Period{Start: periods[0].Start, End: periods[1].End}
		periods = append([]changes.Period{merged}, periods[2:]...)
	} else {
		periods = slices.Clone(periods)
	}
	return append(periods, changes.Period{Start: seq})
}
