package tidegate

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"math"
	"slices"
	"strings"
)

// The stored form of a tree. It is the same for equal trees, in whatever order they were built.
//
//	format    1 byte
//	leaves    1 byte: 1 if more than one leaf is live
//	count     uvarint, revisions
//	winner    uvarint, index of the current revision (not if count is 0)
//	revisions in descending order, so that the current one is nearly always the first:
//	  head        1 byte: flags (4 bits), how the digest is written (2 bits), parent is the next, has channels
//	  generation  uvarint: of the first revision; of the others how much less than the one before
//	  digest      16 bytes, or uvarint length and bytes; hex digests are packed
//	  parent      uvarint: how many revisions further on it comes; 0 for none (not if it is the next)
//	  channels    uvarint count, then strings
const revTreeFormat = 1

// Bits of a revision's head, above its flags.
const (
	headPacked     = 0x10 // the digest is lower-case hex, two digits to the byte
	headMD5        = 0x20 // … of 16 bytes: no length is written
	headParentNext = 0x40
	headChannels   = 0x80

	md5Len = 16
)

// smallestRev is the least number of bytes that a revision takes.
const smallestRev = 4

// AppendBinary appends the stored form of the tree.
func (t *RevTree) AppendBinary(b []byte) []byte {
	b = append(b, revTreeFormat, 0)
	if t.LiveLeaves() > 1 {
		b[len(b)-1] = 1
	}
	n := len(t.nodes)
	b = binary.AppendUvarint(b, uint64(n))
	winner, ok := t.Winner()
	if !ok {
		return b
	}
	if t.unsorted {
		t, winner = t.sorted(winner)
	}
	b = binary.AppendUvarint(b, uint64(n-1-winner))
	last := uint64(0)
	for i := n - 1; i >= 0; i-- {
		b = t.nodes[i].appendBinary(b, i, last)
		last = t.nodes[i].ID.Generation
	}
	return b
}

// appendBinary appends one revision. index is its place in ascending order, last the generation of the
// one before, 0 at first.
func (r *revNode) appendBinary(b []byte, index int, last uint64) []byte {
	head := byte(r.Flags & revFlagsMask)
	at := len(b)
	b = append(b, 0) // for head
	if last == 0 {
		b = binary.AppendUvarint(b, r.ID.Generation)
	} else {
		b = binary.AppendUvarint(b, last-r.ID.Generation)
	}
	b, packed := appendDigest(b, r.ID.Digest)
	head |= packed
	switch {
	case r.Parent < 0:
		b = append(b, 0)
	case r.Parent == index-1:
		head |= headParentNext
	default:
		b = binary.AppendUvarint(b, uint64(index-r.Parent))
	}
	if r.children == 0 && len(r.Channels) > 0 {
		head |= headChannels
		b = binary.AppendUvarint(b, uint64(len(r.Channels)))
		for _, c := range r.Channels {
			b = appendBinaryString(b, c)
		}
	}
	b[at] = head
	return b
}

// appendDigest appends a digest in the shortest of its forms and returns the bits of the head that say
// which it is.
func appendDigest(b []byte, digest string) (out []byte, head byte) {
	start := len(b)
	head = headPacked | headMD5
	if len(digest) != 2*md5Len {
		head = headPacked
		b = binary.AppendUvarint(b, uint64(len(digest)/2))
	}
	bad := byte(len(digest) % 2)
	for i := 0; i+1 < len(digest); i += 2 {
		hi, lo := hexValues[digest[i]], hexValues[digest[i+1]]
		bad |= (hi | lo) & notHex
		b = append(b, hi<<4|lo)
	}
	if bad != 0 {
		return appendBinaryString(b[:start], digest), 0
	}
	return b, head
}

// hexValues maps lower-case hex digits to their values, everything else to notHex.
var hexValues = func() (values [256]byte) {
	for i := range values {
		values[i] = notHex
	}
	for i := range len(hexDigits) {
		values[hexDigits[i]] = byte(i)
	}
	return values
}()

const notHex = 0x80

// sorted returns the tree with its revisions in ascending order, and where i is in it.
func (t *RevTree) sorted(i int) (*RevTree, int) {
	order := make([]int, len(t.nodes))
	for k := range order {
		order[k] = k
	}
	slices.SortFunc(order, func(a, b int) int { return t.nodes[a].ID.Compare(t.nodes[b].ID) })
	index := make([]int, len(t.nodes))
	for k, old := range order {
		index[old] = k
	}
	s := &RevTree{nodes: make([]revNode, len(t.nodes))}
	for k, old := range order {
		s.nodes[k] = t.nodes[old]
		if p := s.nodes[k].Parent; p >= 0 {
			s.nodes[k].Parent = index[p]
		}
	}
	return s, index[i]
}

// ParseRevTree reads what AppendBinary wrote and returns what follows it. Corrupt: the bytes are no tree.
// The tree shares no memory with b.
func ParseRevTree(b []byte) (*RevTree, []byte, error) {
	r := binaryReader{rest: b}
	conflict, n, winner := readTreeHeader(&r)
	// Room for one more: a tree is mostly read to add a revision.
	t := &RevTree{nodes: make([]revNode, n, n+1)}
	var digests strings.Builder // one allocation for all digests, in the usual case
	digests.Grow(n * 2 * md5Len)
	generation := uint64(0)
	for i := n - 1; i >= 0; i-- {
		rec := readRev(&r, generation)
		if r.failed {
			return nil, nil, errCorrupt
		}
		generation = rec.generation
		node := &t.nodes[i]
		node.ID = RevID{Generation: generation, Digest: rec.writeDigest(&digests)}
		node.Flags = rec.flags
		node.Parent = -1
		if rec.distance > 0 {
			node.Parent = i - rec.distance
		}
		if rec.channels {
			node.Channels = readChannels(&r)
		}
		if rec.distance > i || (i < n-1 && node.ID.Compare(t.nodes[i+1].ID) >= 0) {
			r.fail()
		}
	}
	if r.failed || !t.link() || (t.LiveLeaves() > 1) != conflict {
		return nil, nil, errCorrupt
	}
	if w, ok := t.Winner(); ok && w != n-1-winner && t.formerWinner() != n-1-winner {
		return nil, nil, errCorrupt
	}
	return t, r.rest, nil
}

// link counts children and reports whether every parent is older than its child and only leaves have
// channels.
func (t *RevTree) link() bool {
	for i := range t.nodes {
		p := t.nodes[i].Parent
		if p < 0 {
			continue
		}
		if t.nodes[p].ID.Generation >= t.nodes[i].ID.Generation || t.nodes[p].Channels != nil {
			return false
		}
		t.nodes[p].children++
	}
	return true
}

// formerWinner is the current revision by the rule of the first landed version, which did not rank tombstones that closed a
// branch below others. Trees that it stored are read, and written with the right one at the next change of the document.
func (t *RevTree) formerWinner() int {
	best := -1
	for i := range t.nodes {
		if t.nodes[i].children > 0 {
			continue
		}
		if best < 0 || cmp.Or(cmp.Compare(t.nodes[i].Flags&RevDeleted, t.nodes[best].Flags&RevDeleted), t.nodes[best].ID.Compare(t.nodes[i].ID)) < 0 {
			best = i
		}
	}
	return best
}

// ParseWinner reads only the current revision out of a tree's stored form, and whether the document is in
// conflict. Its Parent is -1. An empty tree gives a zero ID. Corrupt: the bytes are no tree, as far as
// they were read.
func ParseWinner(b []byte) (winner Rev, inConflict bool, err error) {
	r := binaryReader{rest: b}
	inConflict, n, at := readTreeHeader(&r)
	winner.Parent = -1
	var rec revRecord
	for i := 0; i <= at && n > 0 && !r.failed; i++ {
		rec = readRev(&r, rec.generation)
		switch {
		case !rec.channels:
		case i == at:
			winner.Channels = readChannels(&r)
		default:
			skipChannels(&r)
		}
	}
	if r.failed {
		return Rev{}, false, errCorrupt
	}
	if n > 0 {
		var digest strings.Builder
		winner.ID = RevID{Generation: rec.generation, Digest: rec.writeDigest(&digest)}
		winner.Flags = rec.flags
	}
	return winner, inConflict, nil
}

// readTreeHeader reads what comes before the revisions.
func readTreeHeader(r *binaryReader) (conflict bool, count, winner int) {
	if r.byte() != revTreeFormat {
		r.fail()
	}
	leaves := r.byte()
	if leaves > 1 {
		r.fail()
	}
	count = r.count(smallestRev)
	if count == 0 {
		if leaves > 0 {
			r.fail()
		}
		return false, 0, 0
	}
	w := r.uvarint()
	if w >= uint64(count) {
		r.fail()
		return false, 0, 0
	}
	return leaves == 1, count, int(w)
}

// revRecord is one stored revision; digest points into the input.
type revRecord struct {
	flags      RevFlags
	generation uint64
	digest     []byte
	packed     bool
	distance   int // to the parent; 0 for none
	channels   bool
}

// readRev reads a revision up to its channels. last is the generation of the one before, 0 at first.
func readRev(r *binaryReader, last uint64) revRecord {
	head := r.byte()
	rec := revRecord{flags: RevFlags(head) & revFlagsMask, packed: head&headPacked != 0, channels: head&headChannels != 0}
	rec.generation = r.uvarint()
	if last > 0 {
		rec.generation = last - rec.generation // nonsense wraps round to something too big
	}
	if head&headMD5 != 0 {
		rec.digest = r.bytes(md5Len)
	} else {
		rec.digest = r.bytes(r.count(1))
	}
	if !rec.valid(head&headMD5 != 0) {
		r.fail()
	}
	if head&headParentNext != 0 {
		rec.distance = 1
		return rec
	}
	d := r.uvarint()
	if d == 1 || d > math.MaxInt32 { // 1 has a bit of its own
		r.fail()
	}
	rec.distance = int(d)
	return rec
}

// valid reports whether the ID is one and is written in the one way in which it is written.
func (rec *revRecord) valid(md5 bool) bool {
	id := RevID{Generation: rec.generation}
	if id.Generation == 0 || id.Generation > maxGeneration || len(rec.digest) == 0 {
		return false
	}
	if rec.packed {
		return (len(rec.digest) == md5Len) == md5 && id.textLen()+2*len(rec.digest) <= MaxRevIDLen
	}
	return !md5 && id.textLen()+len(rec.digest) <= MaxRevIDLen && validDigest(string(rec.digest)) && !packable(rec.digest)
}

// writeDigest writes the digest's text to b and returns it.
func (rec *revRecord) writeDigest(b *strings.Builder) string {
	start := b.Len()
	if rec.packed {
		var text [MaxRevIDLen + 1]byte
		b.Write(text[:hex.Encode(text[:], rec.digest)])
	} else {
		b.Write(rec.digest)
	}
	return b.String()[start:]
}

// packable reports whether the digest is an even number of lower-case hex digits.
func packable(digest []byte) bool {
	bad := byte(len(digest) % 2)
	for _, c := range digest {
		bad |= hexValues[c] & notHex
	}
	return bad == 0
}

func readChannels(r *binaryReader) ChannelSet {
	n := r.count(1)
	if n == 0 {
		r.fail()
		return nil
	}
	channels := make(ChannelSet, n)
	for i := range channels {
		channels[i] = r.string()
	}
	return channels
}

func skipChannels(r *binaryReader) {
	for range r.count(1) {
		r.bytes(r.count(1))
	}
}
