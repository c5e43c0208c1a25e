package blip

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// The library's inflaters read a stream; between two frames one would have to be kept for each connection, or be
// given 32 KiB of dictionary for each frame however small. This one decodes whole frames: the only state between two
// frames is the window, and what else it needs is borrowed for the time of a frame.

// errCorrupt says that deflate data make no sense.
var errCorrupt = errors.New("corrupt deflate data")

const (
	maxBits    = 15 // of a code
	fastBits   = 10 // of a code that is found with one look
	maxLitLen  = 286
	maxDists   = 30
	windowSize = 32 << 10
)

// inflater is the scratch memory of decoding.
type inflater struct {
	src  []byte
	pos  int
	hold uint64 // bits taken from src and not used yet, the next one lowest
	have uint   // how many

	out  []byte
	base int // where this frame's output begins in out
	win  *window
	room func(out []byte, more int) ([]byte, error)

	lit, dist           huffman
	fixedLit, fixedDist huffman
	fixed               bool // the fixed codes are made
	lengths             [maxLitLen + maxDists]byte
}

// inflate decodes a frame's payload, which is not empty, and appends to out. win is what frames before have
// decoded to, and is moved on. room returns a larger copy of out with room for at least more bytes, or an error.
func (z *inflater) inflate(out, src []byte, win *window, room func(out []byte, more int) ([]byte, error)) ([]byte, error) {
	z.src, z.pos, z.hold, z.have = src, 0, 0, 0
	z.out, z.base, z.win, z.room = out, len(out), win, room
	err := z.blocks()
	out = z.out
	z.src, z.out, z.win, z.room = nil, nil, nil, nil
	if err != nil {
		return out, err
	}
	win.add(out[z.base:])
	return out, nil
}

// blocks decodes blocks up to the stored one whose length the sender stripped.
func (z *inflater) blocks() error {
	for {
		head, err := z.bits(3)
		switch {
		case err != nil:
			return err
		case head&1 != 0:
			return errCorrupt // the stream never ends (blip.md §7)
		}
		switch head >> 1 {
		case 0:
			if end, err := z.stored(); err != nil || end {
				return err
			}
		case 1:
			z.makeFixed()
			err = z.codes(&z.fixedLit, &z.fixedDist)
		case 2:
			if err = z.dynamic(); err == nil {
				err = z.codes(&z.lit, &z.dist)
			}
		default:
			err = errCorrupt
		}
		if err != nil {
			return err
		}
	}
}

// fill takes as many bits from src as fit.
func (z *inflater) fill() {
	if z.pos+8 <= len(z.src) {
		z.hold |= binary.LittleEndian.Uint64(z.src[z.pos:]) << z.have
		n := (63 - z.have) >> 3
		z.pos += int(n)
		z.have += n << 3
		z.hold &= 1<<z.have - 1
		return
	}
	for z.have <= 56 && z.pos < len(z.src) {
		z.hold |= uint64(z.src[z.pos]) << z.have
		z.pos++
		z.have += 8
	}
}

// bits takes n <= 16 bits.
func (z *inflater) bits(n uint) (uint, error) {
	if z.have < n {
		if z.fill(); z.have < n {
			return 0, errCorrupt
		}
	}
	v := uint(z.hold & (1<<n - 1))
	z.hold >>= n
	z.have -= n
	return v, nil
}

// stored copies a stored block. end: the input ends where its length should be.
func (z *inflater) stored() (end bool, err error) {
	z.pos -= int(z.have >> 3) // whole bytes go back
	z.hold, z.have = 0, 0
	rest := z.src[z.pos:]
	if len(rest) == 0 {
		return true, nil
	}
	if len(rest) < 4 {
		return false, errCorrupt
	}
	n := int(binary.LittleEndian.Uint16(rest))
	if uint16(n) != ^binary.LittleEndian.Uint16(rest[2:]) || len(rest)-4 < n {
		return false, errCorrupt
	}
	if err := z.reserve(n); err != nil {
		return false, err
	}
	z.out = append(z.out, rest[4:4+n]...)
	z.pos += 4 + n
	return false, nil
}

// reserve makes room for n more bytes of output.
func (z *inflater) reserve(n int) (err error) {
	if cap(z.out)-len(z.out) < n {
		z.out, err = z.room(z.out, n)
	}
	return err
}

// codeOrder is the order in which the lengths of the code length code are sent, RFC 1951 §3.2.7.
func codeOrder() [19]byte {
	return [19]byte{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
}

// dynamic reads the codes of a dynamic block.
func (z *inflater) dynamic() error {
	v, err := z.bits(14)
	if err != nil {
		return err
	}
	nlit, ndist, ncode := int(v&31)+257, int(v>>5&31)+1, int(v>>10)+4
	if nlit > maxLitLen || ndist > maxDists {
		return errCorrupt
	}
	var lengths [19]byte
	order := codeOrder()
	for _, at := range order[:ncode] {
		n, err := z.bits(3)
		if err != nil {
			return err
		}
		lengths[at] = byte(n)
	}
	// The code of the code lengths is needed only until they are read.
	if !z.lit.make(lengths[:]) {
		return errCorrupt
	}
	if err := z.codeLengths(nlit + ndist); err != nil {
		return err
	}
	if !z.lit.make(z.lengths[:nlit]) || !z.dist.make(z.lengths[nlit:nlit+ndist]) {
		return errCorrupt
	}
	return nil
}

// codeLengths reads n code lengths.
func (z *inflater) codeLengths(n int) error {
	for i := 0; i < n; {
		sym, err := z.symbol(&z.lit)
		if err != nil {
			return err
		}
		if sym < 16 {
			z.lengths[i] = byte(sym)
			i++
			continue
		}
		var repeat, extra uint = 3, 2
		value := byte(0)
		switch sym {
		case 16:
			if i == 0 {
				return errCorrupt
			}
			value = z.lengths[i-1]
		case 17:
			extra = 3
		default:
			repeat, extra = 11, 7
		}
		more, err := z.bits(extra)
		if err != nil {
			return err
		}
		if repeat += more; i+int(repeat) > n {
			return errCorrupt
		}
		for range repeat {
			z.lengths[i] = value
			i++
		}
	}
	return nil
}

// makeFixed makes the fixed codes, RFC 1951 §3.2.6.
func (z *inflater) makeFixed() {
	if z.fixed {
		return
	}
	var lengths [288]byte
	for i := range lengths {
		switch {
		case i < 144:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		case i < 280:
			lengths[i] = 7
		default:
			lengths[i] = 8
		}
	}
	z.fixedLit.make(lengths[:])
	clear(lengths[:])
	for i := range 32 {
		lengths[i] = 5
	}
	z.fixedDist.make(lengths[:32])
	z.fixed = true
}

// codes decodes the literals and matches of a block.
func (z *inflater) codes(lit, dist *huffman) error {
	for {
		sym, err := z.symbol(lit)
		switch {
		case err != nil:
			return err
		case sym < 256:
			if len(z.out) == cap(z.out) {
				if err := z.reserve(1); err != nil {
					return err
				}
			}
			z.out = append(z.out, byte(sym))
			continue
		case sym == 256:
			return nil
		}
		if err := z.match(sym, dist); err != nil {
			return err
		}
	}
}

// match decodes the rest of a match whose length begins with sym, and copies it.
func (z *inflater) match(sym int, dist *huffman) error {
	var length int
	switch sym -= 257; {
	case sym < 8:
		length = sym + 3
	case sym < 28:
		n := uint(sym>>2 - 1)
		more, err := z.bits(n)
		if err != nil {
			return err
		}
		length = (sym&3+4)<<n + 3 + int(more)
	case sym == 28:
		length = 258
	default:
		return errCorrupt
	}
	sym, err := z.symbol(dist)
	if err != nil {
		return err
	}
	distance := sym + 1
	switch {
	case sym >= maxDists:
		return errCorrupt
	case sym >= 4:
		n := uint(sym>>1 - 1)
		more, err := z.bits(n)
		if err != nil {
			return err
		}
		distance = (sym&1+2)<<n + 1 + int(more)
	}
	return z.copyMatch(length, distance)
}

// copyMatch appends length bytes from distance bytes back.
func (z *inflater) copyMatch(length, distance int) error {
	if err := z.reserve(length); err != nil {
		return err
	}
	out := z.out
	if back := distance - (len(out) - z.base); back > 0 {
		if back > z.win.n {
			return errCorrupt
		}
		n := min(back, length)
		out = z.win.appendFrom(out, back, n)
		length -= n
	}
	for length > 0 { // a match may reach into itself
		from := len(out) - distance
		n := min(length, distance)
		out = append(out, out[from:from+n]...)
		length -= n
	}
	z.out = out
	return nil
}

// symbol decodes one symbol.
func (z *inflater) symbol(h *huffman) (int, error) {
	if z.have < maxBits {
		z.fill()
	}
	e := h.fast[z.hold&(1<<fastBits-1)]
	if n := uint(e & 15); n != 0 && n <= z.have {
		z.hold >>= n
		z.have -= n
		return int(e >> 4), nil
	}
	return z.slowSymbol(h)
}

// slowSymbol decodes a symbol with a long code, bit by bit.
func (z *inflater) slowSymbol(h *huffman) (int, error) {
	code, first, index := 0, 0, 0
	for n := uint(1); n <= maxBits && n <= z.have; n++ {
		code |= int(z.hold >> (n - 1) & 1)
		count := int(h.count[n])
		if code-first < count {
			z.hold >>= n
			z.have -= n
			return int(h.symbols[index+code-first]), nil
		}
		index += count
		first = (first + count) << 1
		code <<= 1
	}
	return 0, errCorrupt
}

// huffman is a code: a table for short codes, and what is needed to find the others.
type huffman struct {
	fast    [1 << fastBits]uint16 // symbol<<4 | length; 0: not a short code
	count   [maxBits + 1]uint16   // codes of each length
	symbols [288]uint16           // in the order of their codes
}

// make makes the code with these lengths. It reports whether there is one: each bit string has a meaning, or it
// is a code with one symbol or none.
func (h *huffman) make(lengths []byte) bool {
	clear(h.fast[:])
	clear(h.count[:])
	for _, n := range lengths {
		h.count[n]++
	}
	used := len(lengths) - int(h.count[0])
	h.count[0] = 0
	left := 1
	var offset, next [maxBits + 2]uint16
	code := uint16(0)
	for n := 1; n <= maxBits; n++ {
		left = left<<1 - int(h.count[n])
		if left < 0 {
			return false
		}
		offset[n+1] = offset[n] + h.count[n]
		next[n] = code
		code = (code + h.count[n]) << 1
	}
	if left > 0 && !(used == 0 || used == 1 && h.count[1] == 1) {
		return false
	}
	for sym, n := range lengths {
		if n == 0 {
			continue
		}
		h.symbols[offset[n]] = uint16(sym)
		offset[n]++
		if n <= fastBits {
			reversed := int(bits.Reverse16(next[n]) >> (16 - n))
			for i := reversed; i < len(h.fast); i += 1 << n {
				h.fast[i] = uint16(sym)<<4 | uint16(n)
			}
		}
		next[n]++
	}
	return true
}

// window is the end of what has been decoded, as far as a match can reach back: a ring that is no larger than
// it has to be.
type window struct {
	b   []byte // its length is a power of two
	pos int    // where the next byte goes
	n   int    // bytes that are there, at most windowSize
}

// minWindow is the size of a small window in bytes.
const minWindow = 512

// add appends decoded bytes.
func (w *window) add(b []byte) {
	if len(b) > windowSize {
		b = b[len(b)-windowSize:]
	}
	w.grow(min(w.n+len(b), windowSize))
	for part := b; len(part) > 0; {
		n := copy(w.b[w.pos:], part)
		part = part[n:]
		w.pos = (w.pos + n) & (len(w.b) - 1)
	}
	w.n = min(w.n+len(b), windowSize)
}

// grow makes room for n bytes.
func (w *window) grow(n int) {
	if n <= len(w.b) {
		return
	}
	size := max(minWindow, 1<<bits.Len(uint(n-1)))
	b := w.appendFrom(make([]byte, 0, size), w.n, w.n)
	w.b, w.pos = b[:size], w.n&(size-1)
}

// appendFrom appends n bytes that begin back bytes before the end, n <= back <= w.n.
func (w *window) appendFrom(out []byte, back, n int) []byte {
	for n > 0 {
		from := (w.pos - back) & (len(w.b) - 1)
		part := w.b[from:min(from+n, len(w.b))]
		out = append(out, part...)
		n -= len(part)
		back -= len(part)
	}
	return out
}
