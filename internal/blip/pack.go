package blip

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// The library's compressors are made for files: each flush builds Huffman codes for what it flushes, which for a
// frame of a kilobyte takes most of the time, and their tables are larger than a processor's nearer caches. This one is
// made for frames: it looks for matches in a table of 16 KiB, and uses the codes that suited the frames before as
// long as they do. Frames of a kilobyte take 10 µs instead of 26 at the library's level 6, and are a sixth longer.

const (
	packBuffer  = 40 << 10
	packKeep    = packBuffer - maxFrame // of the frames before, when there is no room for the next
	packHash    = 13                    // bits of a place in the table
	packMin     = 4                     // the shortest match that is looked for
	packMax     = 258                   // the longest there is
	packNearest = 1 << 15               // the longest distance there is
	packRenew   = 24                    // frames after which codes are made anew
	packFew     = 192                   // bytes; shorter frames are not worth codes of their own
)

// packer compresses frames into the blocks of one deflate stream.
type packer struct {
	buf   [packBuffer]byte // the end of the stream: what matches are found in
	end   int
	table [1 << packHash]uint16 // by hash of four bytes, where in buf they were last, plus 1

	tokens []uint32 // of the frame: a literal, or packMatch | length-3 << 16 | distance-1
	count  tally    // of the frame
	extra  int      // bits of the frame that are no code
	all    tally    // of frames before, older ones less and less
	book   codebook // made from all; its header is empty if there is none
	age    int      // frames since it was made
}

const packMatch = 1 << 31

// tally counts symbols.
type tally struct {
	lit  [maxLitLen]uint32
	dist [maxDists]uint32
}

// reset begins a new stream.
func (z *packer) reset() {
	z.end, z.age = 0, 0
	clear(z.table[:])
	z.all = tally{}
	z.book.header.clear()
}

// pack appends a frame's payload, which is given in two parts and has at most maxFrame bytes, compressed. It ends with
// the three bits of an empty stored block whose rest is not sent (blip.md §7).
func (z *packer) pack(b, part1, part2 []byte) []byte {
	if z.end+len(part1)+len(part2) > packBuffer {
		z.slide()
	}
	from := z.end
	z.end += copy(z.buf[z.end:], part1)
	z.end += copy(z.buf[z.end:], part2)
	z.find(from)
	book, size := z.choose(z.end - from)
	if raw := z.end - from; size/8 > raw+5 {
		return appendStored(b, z.buf[from:z.end])
	}
	w := bitWriter{b: slices.Grow(b, size/8+8)}
	w.copy(&book.header)
	z.write(&w, book)
	w.put(0, 3)
	return w.flush()
}

// appendStored appends a frame as it is, in a stored block.
func appendStored(b, raw []byte) []byte {
	b = append(b, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(raw)))
	b = binary.LittleEndian.AppendUint16(b, ^uint16(len(raw)))
	return append(append(b, raw...), 0)
}

// slide makes room for another frame.
func (z *packer) slide() {
	shift := z.end - packKeep
	copy(z.buf[:], z.buf[shift:z.end])
	z.end = packKeep
	for i, at := range z.table {
		z.table[i] = uint16(max(int(at)-shift, 0))
	}
}

// find makes tokens of what is in the buffer from there on.
func (z *packer) find(from int) {
	z.tokens, z.count, z.extra = z.tokens[:0], tally{}, 0
	src := z.buf[:z.end]
	last := len(src) - packMin // where four bytes begin
	done := from
	for i := from; i <= last; {
		v := binary.LittleEndian.Uint32(src[i:])
		place := &z.table[v*0x9e3779b1>>(32-packHash)]
		at := int(*place) - 1
		*place = uint16(i + 1)
		if at < 0 || i-at > packNearest || binary.LittleEndian.Uint32(src[at:]) != v {
			i += 1 + (i-done)>>6 // what does not compress is passed faster and faster
			continue
		}
		n := packMin + common(src[at+packMin:], src[i+packMin:])
		z.literals(src[done:i])
		z.match(n, i-at)
		for j := i + 1; j < min(i+n, last+1); j += 2 {
			v := binary.LittleEndian.Uint32(src[j:])
			z.table[v*0x9e3779b1>>(32-packHash)] = uint16(j + 1)
		}
		i += n
		done = i
	}
	z.literals(src[done:])
	z.count.lit[endOfBlock]++
}

// common is how many bytes a and b have in common, as many as a match may have. b is not the longer one.
func common(a, b []byte) int {
	n, most := 0, min(len(b), packMax-packMin)
	for n+8 <= most {
		if x := binary.LittleEndian.Uint64(a[n:]) ^ binary.LittleEndian.Uint64(b[n:]); x != 0 {
			return n + bits.TrailingZeros64(x)>>3
		}
		n += 8
	}
	for n < most && a[n] == b[n] {
		n++
	}
	return n
}

func (z *packer) literals(b []byte) {
	tokens := z.tokens
	for _, c := range b {
		tokens = append(tokens, uint32(c))
		z.count.lit[c]++
	}
	z.tokens = tokens
}

func (z *packer) match(length, distance int) {
	z.tokens = append(z.tokens, packMatch|uint32(length-3)<<16|uint32(distance-1))
	l, n, _ := lengthSymbol(uint32(length - 3))
	d, m, _ := distSymbol(uint32(distance - 1))
	z.count.lit[l]++
	z.count.dist[d]++
	z.extra += int(n + m)
}

// lengthSymbol is the symbol of a length, which is given less 3, with its extra bits.
func lengthSymbol(l uint32) (symbol, n, extra uint32) {
	switch {
	case l < 4:
		return 257 + l, 0, 0
	case l == packMax-3:
		return 285, 0, 0
	}
	k := uint32(bits.Len32(l)) - 3
	return 257 + 4*(k+1) + l>>k&3, k, l & (1<<k - 1)
}

// distSymbol is the symbol of a distance, which is given less 1, with its extra bits.
func distSymbol(d uint32) (symbol, n, extra uint32) {
	if d < 2 {
		return d, 0, 0
	}
	k := uint32(bits.Len32(d)) - 2
	return 2*(k+1) + d>>k&1, k, d & (1<<k - 1)
}

// choose returns the codes for the frame, of raw bytes, and how many bits it takes with them.
func (z *packer) choose(raw int) (*codebook, int) {
	if raw < packFew && z.book.header.n == 0 {
		return fixedBook, fixedBook.cost(&z.count) + z.extra
	}
	own := z.book.cost(&z.count) + z.extra
	if z.age++; z.book.header.n == 0 || z.age > packRenew || own >= uncoded {
		z.all.add(&z.count)
		z.book.make(&z.all)
		z.all.halve()
		z.age, own = 0, z.book.cost(&z.count)+z.extra
	} else {
		z.all.add(&z.count)
	}
	if raw < packFew {
		if fixed := fixedBook.cost(&z.count) + z.extra; fixed < own {
			return fixedBook, fixed
		}
	}
	return &z.book, own
}

func (t *tally) add(o *tally) {
	for i, n := range o.lit {
		t.lit[i] += n
	}
	for i, n := range o.dist {
		t.dist[i] += n
	}
}

// halve makes what was counted weigh less than what comes. What occurred stays known.
func (t *tally) halve() {
	for i, n := range t.lit {
		t.lit[i] = (n + 1) / 2
	}
	for i, n := range t.dist {
		t.dist[i] = (n + 1) / 2
	}
}

// write writes the tokens and the end of the block.
func (z *packer) write(w *bitWriter, book *codebook) {
	hold, have, b := w.hold, w.have, w.b // in registers
	for _, t := range z.tokens {
		c := book.lit[t&0xff]
		if t >= packMatch {
			l, n, extra := lengthSymbol(t >> 16 & 0xff)
			c = book.lit[l]
			hold |= uint64(c.bits)<<have | uint64(extra)<<(have+uint32(c.n))
			if have += uint32(c.n) + n; have >= 32 {
				b = binary.LittleEndian.AppendUint32(b, uint32(hold))
				hold, have = hold>>32, have-32
			}
			var d uint32
			d, n, extra = distSymbol(t & 0x7fff)
			c = book.dist[d]
			hold |= uint64(extra) << (have + uint32(c.n))
			hold |= uint64(c.bits) << have
			have += n
		} else {
			hold |= uint64(c.bits) << have
		}
		if have += uint32(c.n); have >= 32 {
			b = binary.LittleEndian.AppendUint32(b, uint32(hold))
			hold, have = hold>>32, have-32
		}
	}
	w.hold, w.have, w.b = hold, have, b
	w.code(book.lit[endOfBlock])
}
