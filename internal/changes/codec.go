package changes

import (
	"encoding/binary"

	"github.com/tidegate/tidegate"
)

// The value of an index row. Its sequence and channel stand in the key.
//
//	format   1 byte
//	flags    1 byte: Flags, Sole, and which parts follow
//	id       string (uvarint length, bytes)
//	rev      uvarint generation, string digest
//	others   uvarint count, then revs; the lowest bit of the generation's number says deleted
//	routing  channels and removed-from as sets (uvarint count, strings in order);
//	         departures: uvarint count, then uvarint how many sequences ago, rev with the deleted bit, set
//
// Numbers have one encoding each, so equal entries have equal values. Digests stay text: rows are read far
// more often than written, and a reader can point into the value.
const entryFormat = 1

// Bits of the flags byte that are not Flags.
const (
	soleChannel = 0x20
	partOthers  = 0x40
	partRouting = 0x80
	flagsMask   = Flags(Deleted | Removed | Conflicted | PrincipalEvent)
)

// Least sizes in bytes, to bound what a count may claim.
const (
	minRevSize       = 3 // generation, length, one byte of digest
	minChannelSize   = 2
	minDepartureSize = 1 + minRevSize + 1 + minChannelSize
)

var errCorruptEntry = tidegate.Errorf(tidegate.Corrupt, "a stored entry of the changes index does not make sense")

// AppendBinary appends the stored value of the entry. Routing is written if Routed says so.
func (e *Entry) AppendBinary(b []byte) []byte {
	flags := byte(e.Flags & flagsMask)
	if e.Sole {
		flags |= soleChannel
	}
	if len(e.Others) > 0 {
		flags |= partOthers
	}
	if e.Routed {
		flags |= partRouting
	}
	b = append(b, entryFormat, flags)
	b = appendString(b, e.DocID)
	b = binary.AppendUvarint(b, e.Rev.Generation)
	b = appendString(b, e.Rev.Digest)
	if len(e.Others) > 0 {
		b = binary.AppendUvarint(b, uint64(len(e.Others)))
		for _, leaf := range e.Others {
			b = appendMarkedRev(b, leaf.Rev, leaf.Deleted)
		}
	}
	if !e.Routed {
		return b
	}
	b = appendSet(b, e.Channels)
	b = appendSet(b, e.RemovedFrom)
	b = binary.AppendUvarint(b, uint64(len(e.Left)))
	for _, d := range e.Left {
		b = binary.AppendUvarint(b, uint64(e.Seq-d.Seq))
		b = appendMarkedRev(b, d.Rev, d.Deleted)
		b = appendSet(b, d.Channels)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendMarkedRev(b []byte, rev tidegate.RevID, deleted bool) []byte {
	n := rev.Generation << 1
	if deleted {
		n |= 1
	}
	return appendString(binary.AppendUvarint(b, n), rev.Digest)
}

func appendSet(b []byte, set tidegate.ChannelSet) []byte {
	b = binary.AppendUvarint(b, uint64(len(set)))
	for _, name := range set {
		b = appendString(b, name)
	}
	return b
}

// ParseEntry reads the stored value of the row at seq. The entry's strings point into value. Bytes that
// AppendBinary would not have written are Corrupt.
func ParseEntry(seq tidegate.Seq, value string) (Entry, error) {
	r := entryReader{rest: value}
	e := r.head(seq)
	parts := r.parts
	if parts&partOthers != 0 {
		e.Others = r.leaves()
	}
	if parts&partRouting != 0 {
		e.Routed = true
		e.Channels, e.RemovedFrom = r.set(), r.set()
		e.Left = r.departures(seq)
	}
	if r.failed || r.rest != "" {
		return Entry{}, errCorruptEntry
	}
	return e, nil
}

// entryReader takes a value apart. After the first fault it stays failed and answers zeros.
type entryReader struct {
	rest   string
	parts  byte
	failed bool
}

// head reads what every entry has.
func (r *entryReader) head(seq tidegate.Seq) (e Entry) {
	if len(r.rest) < 2 || r.rest[0] != entryFormat {
		r.fail()
		return e
	}
	r.parts = r.rest[1]
	if r.parts&^(byte(flagsMask)|soleChannel|partOthers|partRouting) != 0 {
		r.fail()
		return e
	}
	e.Seq, e.Flags, e.Sole = seq, Flags(r.parts)&flagsMask, r.parts&soleChannel != 0
	r.rest = r.rest[2:]
	e.DocID = r.name()
	e.Rev = r.rev(r.uvarint())
	return e
}

func (r *entryReader) fail() { r.rest, r.failed = "", true }

// uvarint reads a number in its shortest form.
func (r *entryReader) uvarint() uint64 {
	var v uint64
	for i := range min(len(r.rest), binary.MaxVarintLen64) {
		c := r.rest[i]
		if c < 0x80 {
			if (i > 0 && c == 0) || (i == binary.MaxVarintLen64-1 && c > 1) {
				break
			}
			r.rest = r.rest[i+1:]
			return v | uint64(c)<<(7*i)
		}
		v |= uint64(c&0x7f) << (7 * i)
	}
	r.fail()
	return 0
}

// count reads how many items follow, each of at least size bytes.
func (r *entryReader) count(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.rest)/size) {
		r.fail()
		return 0
	}
	return int(n)
}

// name reads a string that is not empty.
func (r *entryReader) name() string {
	n := r.count(1)
	if n == 0 {
		r.fail()
		return ""
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

func (r *entryReader) rev(generation uint64) tidegate.RevID {
	if generation == 0 {
		r.fail()
	}
	return tidegate.RevID{Generation: generation, Digest: r.name()}
}

func (r *entryReader) markedRev() (rev tidegate.RevID, deleted bool) {
	n := r.uvarint()
	return r.rev(n >> 1), n&1 != 0
}

func (r *entryReader) leaves() []Leaf {
	n := r.count(minRevSize)
	if n == 0 {
		r.fail()
		return nil
	}
	leaves := make([]Leaf, n)
	for i := range leaves {
		leaves[i].Rev, leaves[i].Deleted = r.markedRev()
	}
	return leaves
}

// set reads names in ascending order.
func (r *entryReader) set() tidegate.ChannelSet {
	n := r.count(minChannelSize)
	if n == 0 {
		return nil
	}
	set := make(tidegate.ChannelSet, n)
	for i := range set {
		set[i] = r.name()
		if i > 0 && set[i] <= set[i-1] {
			r.fail()
		}
	}
	return set
}

func (r *entryReader) departures(seq tidegate.Seq) []Departure {
	n := r.count(minDepartureSize)
	if n == 0 {
		return nil
	}
	left := make([]Departure, n)
	last := uint64(0)
	for i := range left {
		ago := r.uvarint()
		if ago <= last || ago >= uint64(seq) {
			r.fail()
			return nil
		}
		last = ago
		d := &left[i]
		d.Seq = seq - tidegate.Seq(ago)
		d.Rev, d.Deleted = r.markedRev()
		if d.Channels = r.set(); len(d.Channels) == 0 {
			r.fail()
		}
	}
	return left
}
