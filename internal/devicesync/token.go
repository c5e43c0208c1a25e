package devicesync

import "github.com/tidegate/tidegate"

// Position is the position of a token in the order of sequences (device-sync.md §12.1): S of S, T of T:S, and the lower one of L and
// what follows where there is an L.
func Position(s tidegate.Since) tidegate.Seq {
	pos := s.Seq
	if s.Trigger > 0 {
		pos = s.Trigger
	}
	if s.Low > 0 {
		pos = min(pos, s.Low)
	}
	return pos
}

// Stale reports whether history does not reach back to a position any more: it is of an older epoch, or was trimmed.
func (r *Record) Stale(pos tidegate.Seq) bool { return pos > 0 && pos <= r.HistoryFloor }

// Ahead reports whether a position is one that the database, whose last sequence is last, has not given out.
func Ahead(pos, last tidegate.Seq) bool { return pos > last }
