// Package delta makes and applies the deltas of the replication protocol (replication.md §8): JSON that says how
// one revision of a document becomes another. It works on raw JSON, so numbers keep their digits.
//
// [Diff] takes time in proportion to its input, with a fixed bound on the search for what two strings have in
// common: a delta may be longer than the shortest one. [Apply] reads the old document and the delta once each.
// The format has no means to repeat anything, so a result is never longer than both together.
package delta

import (
	"github.com/tidegate/tidegate"
)

// Limits bound what is read and made.
type Limits struct {
	Depth int // nesting of arrays and objects; 128 if 0, at most 10,000
	Bytes int // size of a document or a delta; 20 MiB if 0, at most 1 GiB
}

// The limits that hold if none are given (hardening.md, Limits), and those that always do.
const (
	defaultDepth = 128
	defaultBytes = 20 << 20
	maxDepth     = 10_000
	maxBytes     = 1 << 30 // positions are 32 bits
)

func (l Limits) withDefaults() Limits {
	if l.Depth <= 0 {
		l.Depth = defaultDepth
	}
	if l.Bytes <= 0 {
		l.Bytes = defaultBytes
	}
	l.Depth, l.Bytes = min(l.Depth, maxDepth), min(l.Bytes, maxBytes)
	return l
}

// Errors of Apply.
var (
	// ErrDelta is in the chain of every error about a delta that is malformed or does not fit the old document;
	// the reason says more.
	ErrDelta = tidegate.Errorf(tidegate.Invalid, "invalid delta")
	// ErrTooLarge is a delta, an old document or a result over the limit.
	ErrTooLarge = tidegate.Errorf(tidegate.TooLarge, "Document too large!")
	// ErrBase is an old document that is not a JSON object.
	ErrBase = tidegate.Errorf(tidegate.Invalid, "the base of the delta is not a JSON object")
)

// invalid makes an error that says what is wrong with a delta. It never quotes it.
func invalid(why string) error {
	return &tidegate.Error{Code: tidegate.Invalid, Reason: "invalid delta: " + why, Err: ErrDelta}
}
