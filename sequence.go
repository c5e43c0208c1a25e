package tidegate

import (
	"cmp"
	"strconv"
	"strings"
)

// Seq is a sequence: the position of a write in its database. Sequences are dense and in commit order; 0
// is "before everything". They stay below 2^53 so that JSON readers see them exactly.
type Seq uint64

// Since is a position in a changes feed as clients hold it, in one of the forms S, T:S, L:T:S and L::S
// (gateway-rest.md §14.3).
//
//   - Seq is the sequence of the last entry seen.
//   - Trigger, if not 0, says that the entry was part of a backfill (or revocation) caused by a grant (or
//     its loss) at that sequence.
//   - Low, if not 0, is the lowest contiguous sequence when the entry was sent. tidegate never sends it,
//     since its sequences have no gaps, but takes it from clients that come from elsewhere.
type Since struct {
	Low, Trigger, Seq Seq
}

// ParseSince reads a position. Input may be bare or in JSON quotes; "" is the zero position. Any other
// form is ErrInvalidSequence.
func ParseSince(s string) (Since, error) {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		s = s[1 : len(s)-1]
	}
	if s == "" {
		return Since{}, nil
	}
	parts := strings.Split(s, ":")
	if len(parts) > 3 {
		return Since{}, ErrInvalidSequence
	}
	var n [3]Seq
	for i, p := range parts {
		if p == "" && len(parts) == 3 && i == 1 {
			continue
		}
		v, err := parseDecimal(p)
		if err != nil {
			return Since{}, ErrInvalidSequence
		}
		n[i] = Seq(v)
	}
	var since Since
	switch len(parts) {
	case 1:
		since = Since{Seq: n[0]}
	case 2:
		since = Since{Trigger: n[0], Seq: n[1]}
	default:
		since = Since{Low: n[0], Trigger: n[1], Seq: n[2]}
	}
	return since, nil
}

// parseDecimal accepts digits only: no sign, no underscore, no space.
func parseDecimal(s string) (uint64, error) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseUint(s, 10, 64)
}

// String returns the form sent to clients. Low is left out when it is not below Seq.
func (s Since) String() string { return string(s.Append(nil)) }

// Append appends String to b.
func (s Since) Append(b []byte) []byte {
	if s.Low > 0 && s.Low < s.Seq {
		b = strconv.AppendUint(b, uint64(s.Low), 10)
		b = append(b, ':')
		if s.Trigger > 0 {
			b = strconv.AppendUint(b, uint64(s.Trigger), 10)
		}
		b = append(b, ':')
	} else if s.Trigger > 0 {
		b = strconv.AppendUint(b, uint64(s.Trigger), 10)
		b = append(b, ':')
	}
	return strconv.AppendUint(b, uint64(s.Seq), 10)
}

// AppendJSON appends the JSON form: a number when the position is plain, else a string.
func (s Since) AppendJSON(b []byte) []byte {
	if s.Trigger == 0 && (s.Low == 0 || s.Low >= s.Seq) {
		return strconv.AppendUint(b, uint64(s.Seq), 10)
	}
	b = append(b, '"')
	b = s.Append(b)
	return append(b, '"')
}

// Safe is the sequence from which it is safe to resume: Low if there is one below Seq, else Seq.
func (s Since) Safe() Seq {
	if s.Low > 0 && s.Low < s.Seq {
		return s.Low
	}
	return s.Seq
}

// Compare orders positions as entries are sent: T:S sorts just before plain T (gateway-rest.md §14.3). It is
// a total order: by T, or Safe if there is no T; then those that have a T; then by Safe; then by S.
func (s Since) Compare(o Since) int {
	switch {
	case s.Trigger == o.Trigger:
		return cmp.Or(cmp.Compare(s.Safe(), o.Safe()), cmp.Compare(s.Seq, o.Seq))
	case s.Trigger == 0:
		if s.Safe() < o.Trigger {
			return -1
		}
		return 1
	case o.Trigger == 0:
		if s.Trigger <= o.Safe() {
			return -1
		}
		return 1
	default:
		return cmp.Compare(s.Trigger, o.Trigger)
	}
}
