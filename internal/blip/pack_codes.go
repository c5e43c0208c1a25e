package blip

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
)

// endOfBlock is the symbol that ends a block.
const endOfBlock = 256

// code is a Huffman code: the bits as they are written, and how many; 0: the symbol has none.
type code struct{ bits, n uint16 }

// codebook is the codes of a block.
type codebook struct {
	lit    [maxLitLen]code
	dist   [maxDists]code
	header bitString // of a block with these codes
}

// uncoded is what a frame costs, in bits, that has a symbol without a code.
const uncoded = 1 << 30

// cost is how many bits a block takes: with its header, without extra bits.
func (k *codebook) cost(t *tally) int {
	sum := k.header.n
	for i, n := range t.lit {
		if n > 0 && k.lit[i].n == 0 {
			return uncoded
		}
		sum += int(n) * int(k.lit[i].n)
	}
	for i, n := range t.dist {
		if n > 0 && k.dist[i].n == 0 {
			return uncoded
		}
		sum += int(n) * int(k.dist[i].n)
	}
	return sum
}

// fixedBook are the codes that need no description (RFC 1951 §3.2.6).
var fixedBook = makeFixedBook()

func makeFixedBook() *codebook {
	k := new(codebook)
	var lengths [maxLitLen + 2]uint8 // two of the codes are never used
	for i := range lengths {
		switch {
		case i < 144, i >= 280:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		default:
			lengths[i] = 7
		}
	}
	var codes [maxLitLen + 2]code
	assign(codes[:], lengths[:])
	copy(k.lit[:], codes[:])
	var dists [32]code
	for i := range dists {
		lengths[i] = 5
	}
	assign(dists[:], lengths[:32])
	copy(k.dist[:], dists[:])
	k.header.put(0b010, 3)
	return k
}

// make makes codes for symbols as frequent as those counted. At least two of each kind get one, as some
// decoders want.
func (k *codebook) make(t *tally) {
	var lengths [maxLitLen + maxDists]uint8
	lit, dist := lengths[:maxLitLen], lengths[maxLitLen:]
	t.lit[endOfBlock] = max(t.lit[endOfBlock], 1)
	t.lit[0] = max(t.lit[0], 1)
	t.dist[0], t.dist[1] = max(t.dist[0], 1), max(t.dist[1], 1)
	codeLengths(lit, t.lit[:], maxBits)
	codeLengths(dist, t.dist[:], maxBits)
	assign(k.lit[:], lit)
	assign(k.dist[:], dist)
	for len(lit) > 257 && lit[len(lit)-1] == 0 {
		lit = lit[:len(lit)-1]
	}
	for len(dist) > 1 && dist[len(dist)-1] == 0 {
		dist = dist[:len(dist)-1]
	}
	k.header.clear()
	k.header.put(0b100, 3)
	k.header.put(uint32(len(lit)-257), 5)
	k.header.put(uint32(len(dist)-1), 5)
	k.header.describe(append(append(make([]uint8, 0, len(lengths)), lit...), dist...))
}

// lengthOrder is the order in which the lengths of the codes of code lengths are written.
var lengthOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// describe writes code lengths down, runs of them shortened (RFC 1951 §3.2.7).
func (s *bitString) describe(lengths []uint8) {
	type run struct{ symbol, n, extra uint8 }
	var runs []run
	var count [19]uint32
	for i := 0; i < len(lengths); {
		same := 1
		for i+same < len(lengths) && lengths[i+same] == lengths[i] {
			same++
		}
		r := run{symbol: lengths[i]}
		used := 1
		switch first := i == 0 || lengths[i-1] != lengths[i]; {
		case lengths[i] == 0 && same >= 11:
			used = min(same, 138)
			r = run{18, 7, uint8(used - 11)}
		case lengths[i] == 0 && same >= 3:
			used = same
			r = run{17, 3, uint8(used - 3)}
		case lengths[i] != 0 && !first && same >= 3:
			used = min(same, 6)
			r = run{16, 2, uint8(used - 3)}
		}
		runs = append(runs, r)
		count[r.symbol]++
		i += used
	}
	var sizes [19]uint8
	count[0], count[1] = max(count[0], 1), max(count[1], 1)
	codeLengths(sizes[:], count[:], 7)
	var codes [19]code
	assign(codes[:], sizes[:])
	n := len(lengthOrder)
	for sizes[lengthOrder[n-1]] == 0 {
		n--
	}
	s.put(uint32(n-4), 4)
	for _, symbol := range lengthOrder[:n] {
		s.put(uint32(sizes[symbol]), 3)
	}
	for _, r := range runs {
		c := codes[r.symbol]
		s.put(uint32(c.bits), uint32(c.n))
		s.put(uint32(r.extra), uint32(r.n))
	}
}

// codeLengths computes the lengths of Huffman codes of at most limit bits. At least two counts are above 0.
func codeLengths(lengths []uint8, counts []uint32, limit int) {
	var symbols [maxLitLen]uint16
	used := symbols[:0]
	for i, n := range counts {
		lengths[i] = 0
		if n > 0 {
			used = append(used, uint16(i))
		}
	}
	slices.SortFunc(used, func(a, b uint16) int { return cmp.Or(cmp.Compare(counts[a], counts[b]), cmp.Compare(a, b)) })
	perLength := depths(used, counts)
	bound(&perLength, limit)
	at := 0
	for n := limit; n > 0; n-- { // the rarest get the longest
		for range perLength[n] {
			lengths[used[at]] = uint8(n)
			at++
		}
	}
}

// depths is how many leaves of the Huffman tree are how deep; used is sorted by count.
func depths(used []uint16, counts []uint32) (perLength [maxLitLen]int) {
	leaves := len(used)
	var weight [2 * maxLitLen]uint64
	var parent [2 * maxLitLen]int
	for i, symbol := range used {
		weight[i] = uint64(counts[symbol])
	}
	leaf, inner := 0, leaves // the lightest of each kind that has no parent
	for next := leaves; next < 2*leaves-1; next++ {
		for range 2 {
			least := inner
			if leaf < leaves && (inner == next || weight[leaf] <= weight[inner]) {
				least = leaf
				leaf++
			} else {
				inner++
			}
			weight[next] += weight[least]
			parent[least] = next
		}
	}
	var depth [2 * maxLitLen]int
	for i := 2*leaves - 3; i >= 0; i-- {
		depth[i] = depth[parent[i]] + 1
		if i < leaves {
			perLength[depth[i]]++
		}
	}
	return perLength
}

// bound makes codes that are longer than limit as long as that, and others longer to make room for them.
func bound(perLength *[maxLitLen]int, limit int) {
	taken := 0 // of the 1<<limit codes of limit bits
	for n := 1; n < len(perLength); n++ {
		if n > limit {
			perLength[limit] += perLength[n]
			taken += perLength[n]
			perLength[n] = 0
		} else if n < limit {
			taken += perLength[n] << (limit - n)
		} else {
			taken += perLength[n]
		}
	}
	for ; taken > 1<<limit; taken-- {
		n := limit - 1
		for perLength[n] == 0 {
			n--
		}
		perLength[limit]--
		perLength[n]--
		perLength[n+1] += 2
	}
}

// assign gives symbols the canonical codes of these lengths (RFC 1951 §3.2.2).
func assign(codes []code, lengths []uint8) {
	var next [maxBits + 2]uint16
	for _, n := range lengths {
		if n > 0 {
			next[n+1]++
		}
	}
	for n := 1; n < len(next); n++ {
		next[n] = (next[n-1] + next[n]) << 1
	}
	for i, n := range lengths {
		if n == 0 {
			codes[i] = code{}
			continue
		}
		codes[i] = code{bits.Reverse16(next[n]) >> (16 - n), uint16(n)}
		next[n]++
	}
}

// bitWriter appends bits, the first ones lowest.
type bitWriter struct {
	b    []byte
	hold uint64
	have uint32 // below 32 between calls
}

// put appends n bits, at most 32.
func (w *bitWriter) put(v, n uint32) {
	w.hold |= uint64(v) << w.have
	if w.have += n; w.have >= 32 {
		w.b = binary.LittleEndian.AppendUint32(w.b, uint32(w.hold))
		w.hold >>= 32
		w.have -= 32
	}
}

func (w *bitWriter) code(c code) { w.put(uint32(c.bits), uint32(c.n)) }

// copy appends s.
func (w *bitWriter) copy(s *bitString) {
	for i, word := range s.words {
		w.put(word, uint32(min(s.n-32*i, 32)))
	}
}

// flush fills up the last byte and returns everything.
func (w *bitWriter) flush() []byte {
	for n := uint32(0); n < w.have; n += 8 {
		w.b = append(w.b, byte(w.hold>>n))
	}
	return w.b
}

// bitString is a string of bits, the first ones lowest.
type bitString struct {
	words []uint32
	n     int
}

func (s *bitString) clear() { s.words, s.n = s.words[:0], 0 }

// put appends n bits, at most 16.
func (s *bitString) put(v, n uint32) {
	for range n {
		if s.n%32 == 0 {
			s.words = append(s.words, 0)
		}
		s.words[s.n/32] |= (v & 1) << (s.n % 32)
		v >>= 1
		s.n++
	}
}
