package database

import (
	"encoding/binary"
	"time"

	"github.com/tidegate/tidegate"
)

// reader takes a stored record apart. After the first fault it stays failed and answers zeros, so callers
// check once, at the end.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) fail() { r.rest, r.failed = nil, true }

func (r *reader) byte() byte {
	if len(r.rest) == 0 {
		r.fail()
		return 0
	}
	c := r.rest[0]
	r.rest = r.rest[1:]
	return c
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// count reads a number of items of at least min bytes each: more cannot follow than there are bytes.
func (r *reader) count(min int) int {
	n := r.uvarint()
	if n > uint64(len(r.rest)/min) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) bytes() []byte {
	n := r.count(1)
	p := r.rest[:n]
	r.rest = r.rest[n:]
	return p
}

func (r *reader) string() string { return string(r.bytes()) }

func (r *reader) revID() tidegate.RevID {
	return tidegate.RevID{Generation: r.uvarint(), Digest: r.string()}
}

// seq reads a sequence that is written as 0 if it is the record's own.
func (r *reader) seq(own tidegate.Seq) tidegate.Seq {
	if v := r.uvarint(); v != 0 {
		return tidegate.Seq(v)
	}
	return own
}

// time reads a time in milliseconds since 1970; 0 is the zero time.
func (r *reader) time() time.Time {
	ms := r.uvarint()
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms)).UTC()
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendRevID(b []byte, rev tidegate.RevID) []byte {
	return appendString(binary.AppendUvarint(b, rev.Generation), rev.Digest)
}

func appendSeq(b []byte, seq, own tidegate.Seq) []byte {
	if seq == own || seq == pending {
		seq = 0
	}
	return binary.AppendUvarint(b, uint64(seq))
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, 0)
	}
	return binary.AppendUvarint(b, uint64(max(t.UnixMilli(), 1)))
}
