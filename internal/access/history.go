package access

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/tidegate/tidegate"
)

// The bounds of history (sync-function.md §6).
const (
	maxSpans = 10 // periods kept of one name
	// historyBudget is how many periods a record keeps of all its names together, as far as each name
	// keeping one allows.
	historyBudget = 20_000
	// maxLost is how many names are remembered; beyond it those lost first are forgotten.
	maxLost = 100_000
)

// Span is the sequences from Start (included) to End (excluded) during which something was held. End 0: it
// is held now.
type Span struct {
	Start tidegate.Seq `json:"start"`
	End   tidegate.Seq `json:"end,omitempty"`
}

// history are the names that a principal no longer has, or had with a break.
type history map[string]loss

// loss is the history of one name: when it was held, oldest first, and when that was last added to.
type loss struct {
	updated time.Time
	spans   []Span
}

// end returns the end of the latest period.
func (l loss) end() tidegate.Seq {
	if len(l.spans) == 0 {
		return 0
	}
	return l.spans[len(l.spans)-1].End
}

// add returns the history with the periods that end at seq because a name of old is not in kept. h is not
// changed.
func (h history) add(old, kept holding, seq tidegate.Seq, now time.Time) history {
	var next history
	for name := range old.grants {
		start := old.heldSince(name)
		if _, ok := kept.grants[name]; ok || start >= seq {
			continue // still there, or gained and lost again before anybody looked
		}
		if next == nil {
			next = make(history, len(h)+1)
			maps.Copy(next, h)
		}
		next[name] = loss{updated: now, spans: append(slices.Clip(next[name].spans), Span{start, seq})}
	}
	if next == nil {
		return h
	}
	return next
}

// trim returns the history within its bounds: names not added to since before are dropped, and of names
// with too many periods the two oldest are merged. h is not changed.
func (h history) trim(before time.Time) history {
	kept := make(history, len(h))
	for name, l := range h {
		if !l.updated.Before(before) {
			kept[name] = l
		}
	}
	if len(kept) == 0 {
		return nil
	}
	kept.forgetFirst(len(kept) - maxLost)
	most := min(maxSpans, max(1, historyBudget/len(kept)))
	for name, l := range kept {
		if len(l.spans) > most {
			l.spans = mergeOldest(l.spans, most)
			kept[name] = l
		}
	}
	return kept
}

// forgetFirst drops the n names that were lost first.
func (h history) forgetFirst(n int) {
	if n <= 0 {
		return
	}
	names := slices.SortedFunc(maps.Keys(h), func(a, b string) int {
		return cmp.Or(cmp.Compare(h[a].end(), h[b].end()), cmp.Compare(a, b))
	})
	for _, name := range names[:n] {
		delete(h, name)
	}
}

// mergeOldest returns at most n periods: the oldest become one that covers them and what was between.
func mergeOldest(spans []Span, n int) []Span {
	over := len(spans) - n
	merged := Span{Start: spans[0].Start, End: spans[over].End}
	return append([]Span{merged}, spans[over+1:]...)
}

// intersect returns the periods that are in both a and b. Periods of one list do not overlap and are in
// order, an open one last.
func intersect(a, b []Span) []Span {
	var both []Span
	for i, j := 0, 0; i < len(a) && j < len(b); {
		start, end := max(a[i].Start, b[j].Start), earlierEnd(a[i].End, b[j].End)
		if end == 0 || start < end {
			both = append(both, Span{start, end})
		}
		if end == a[i].End {
			i++
		} else {
			j++
		}
	}
	return both
}

// earlierEnd returns the smaller of two ends, where 0 is the greatest.
func earlierEnd(a, b tidegate.Seq) tidegate.Seq {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// unite returns the periods of a list in any order as one list in order without overlaps.
func unite(spans []Span) []Span {
	slices.SortFunc(spans, func(a, b Span) int { return cmp.Compare(a.Start, b.Start) })
	var united []Span
	for _, s := range spans {
		last := len(united) - 1
		if last < 0 || united[last].End != 0 && united[last].End < s.Start {
			united = append(united, s)
			continue
		}
		if end := united[last].End; end != 0 && (s.End == 0 || s.End > end) {
			united[last].End = s.End
		}
	}
	return united
}
