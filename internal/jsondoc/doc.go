// Package jsondoc handles documents as raw JSON bytes: it checks them, splits off the underscore members,
// makes the canonical form that revision IDs are computed from, and puts members back. Numbers keep their
// digits. It is on the hot path of every write and read.
//
// Functions that take input from outside ([Split], [Check]) are strict: RFC 8259, and beyond it no duplicate
// keys at any level, no invalid UTF-8, no lone surrogates, bounds on depth and size (hardening.md). All others
// take JSON that was checked by one of these, with or without white space, and do not check it again; on
// anything else what they return is undefined, but they do not panic.
package jsondoc

import (
	"github.com/tidegate/tidegate"
)

// Limits bound what is accepted.
type Limits struct {
	Depth int // nesting of arrays and objects; 128 if 0, at most 10,000
	Bytes int // size of a document; 20 MiB if 0
}

// The limits that hold if none are given (hardening.md, Limits).
const (
	defaultDepth = 128
	defaultBytes = 20 << 20
)

// maxDepth bounds recursion, whatever the limits say.
const maxDepth = 10_000

func (l Limits) withDefaults() Limits {
	if l.Depth == 0 {
		l.Depth = defaultDepth
	}
	l.Depth = min(l.Depth, maxDepth)
	if l.Bytes == 0 {
		l.Bytes = defaultBytes
	}
	return l
}

// Errors that Split and Check answer, besides Invalid ones that begin with "Bad JSON: " and say what is wrong
// at which byte. They never quote the input.
var (
	ErrTooLarge  = tidegate.Errorf(tidegate.TooLarge, "Document too large!")
	ErrEmpty     = tidegate.Errorf(tidegate.Invalid, "Document body is empty")
	ErrNotObject = tidegate.Errorf(tidegate.Invalid, "Document body must be JSON")
)
