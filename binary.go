package tidegate

import "encoding/binary"

// errCorrupt is what every binary form of this package answers to bytes it did not write.
var errCorrupt = Errorf(Corrupt, "a stored record does not make sense")

// binaryReader takes a binary form apart. After the first fault it stays failed and answers zeros, so that
// callers check once, at the end.
type binaryReader struct {
	rest   []byte
	failed bool
}

func (r *binaryReader) byte() byte {
	if len(r.rest) == 0 {
		r.fail()
		return 0
	}
	c := r.rest[0]
	r.rest = r.rest[1:]
	return c
}

// uvarint reads a number in its shortest form; there is only one encoding of each value.
func (r *binaryReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || (n > 1 && r.rest[n-1] == 0) {
		r.fail()
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// count reads how many items follow, each of which takes at least min bytes: so no more is allocated than
// the input is long.
func (r *binaryReader) count(min int) int {
	n := r.uvarint()
	if n > uint64(len(r.rest)/min) {
		r.fail()
		return 0
	}
	return int(n)
}

// bytes reads n bytes, without copying.
func (r *binaryReader) bytes(n int) []byte {
	if n < 0 || n > len(r.rest) {
		r.fail()
		return nil
	}
	p := r.rest[:n]
	r.rest = r.rest[n:]
	return p
}

// string reads a length and as many bytes.
func (r *binaryReader) string() string { return string(r.bytes(r.count(1))) }

func (r *binaryReader) fail() { r.rest, r.failed = nil, true }

func appendBinaryString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}
