package tidegate

import (
	"cmp"
	"crypto/md5"
	"encoding/hex"
	"strconv"
	"strings"
)

// RevID names a revision: a generation (1 for the first) and a digest. The zero RevID is "no revision".
// Digests made here are 32 lower-case hex digits; those of peers are opaque.
type RevID struct {
	Generation uint64
	Digest     string
}

// MaxRevIDLen is the longest revision ID accepted, in bytes of its text form. The digest rule puts the
// parent's length into one byte.
const MaxRevIDLen = 255

// maxGeneration is the highest generation accepted: beyond it JSON readers would not see it exactly.
const maxGeneration = 1 << 53

// ParseRevID reads "GEN-DIGEST": GEN is a decimal of at least 1 without leading zeros, DIGEST one or more
// printable ASCII characters other than comma, quote and backslash. Otherwise ErrInvalidRevID.
func ParseRevID(s string) (RevID, error) {
	gen, digest, ok := strings.Cut(s, "-")
	if !ok || len(s) > MaxRevIDLen || gen == "" || gen[0] == '0' {
		return RevID{}, ErrInvalidRevID
	}
	n, err := parseDecimal(gen)
	if err != nil || n > maxGeneration || !validDigest(digest) {
		return RevID{}, ErrInvalidRevID
	}
	return RevID{Generation: n, Digest: digest}, nil
}

// validDigest reports whether s may be the digest of a revision ID.
func validDigest(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '"' || c == '\\' || c == ',' {
			return false
		}
	}
	return s != ""
}

// valid reports whether ParseRevID would take r's text form.
func (r RevID) valid() bool {
	return r.Generation > 0 && r.Generation <= maxGeneration && r.textLen() <= MaxRevIDLen && validDigest(r.Digest)
}

// textLen is the length of String.
func (r RevID) textLen() int {
	n := len(r.Digest) + 2
	for g := r.Generation; g >= 10; g /= 10 {
		n++
	}
	return n
}

// String returns "GEN-DIGEST", or "" for the zero RevID.
func (r RevID) String() string {
	if r.IsZero() {
		return ""
	}
	return string(r.Append(make([]byte, 0, 40)))
}

// Append appends String to b.
func (r RevID) Append(b []byte) []byte {
	if r.IsZero() {
		return b
	}
	b = strconv.AppendUint(b, r.Generation, 10)
	b = append(b, '-')
	return append(b, r.Digest...)
}

// IsZero reports whether r names no revision.
func (r RevID) IsZero() bool { return r.Generation == 0 }

// Compare orders revisions by generation, then by digest as bytes: the order in which a winner is chosen
// among leaves of the same kind.
func (r RevID) Compare(o RevID) int {
	if r.Generation != o.Generation {
		return cmp.Compare(r.Generation, o.Generation)
	}
	return strings.Compare(r.Digest, o.Digest)
}

// NewRevID computes the ID of a revision made here, so that the same edit made on two gateways gets the
// same ID (gateway-rest.md §11.1): MD5 over the parent's length as one byte, the parent's ID and the
// canonical body.
//
// canonical is the canonical JSON of the document without its underscore members, with "_deleted":true if
// the revision is a tombstone (package jsondoc makes it). parent may be zero.
func NewRevID(parent RevID, canonical []byte) RevID {
	h := md5.New()
	var buf [MaxRevIDLen + 1]byte
	p := parent.Append(buf[1:1])
	buf[0] = byte(len(p))
	h.Write(buf[:1+len(p)])
	h.Write(canonical)
	var sum [md5.Size]byte
	return RevID{Generation: parent.Generation + 1, Digest: hex.EncodeToString(h.Sum(sum[:0]))}
}
