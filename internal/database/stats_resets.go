package database

import (
	"cmp"
	"slices"
	"sync"

	"github.com/tidegate/tidegate/internal/devicesync"
)

// ResetCount says how often clients of a kind were told to reset, and how.
type ResetCount struct {
	Kind    ClientKind
	Verdict devicesync.Verdict
	Times   int64
}

// ResetStats counts what clients were told about resets. Counters only grow.
type ResetStats struct {
	mu     sync.Mutex
	counts []ResetCount // there are few
}

// told counts one.
func (s *ResetStats) told(kind ClientKind, v devicesync.Verdict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.counts {
		if c := &s.counts[i]; c.Kind == kind && c.Verdict == v {
			c.Times++
			return
		}
	}
	s.counts = append(s.counts, ResetCount{kind, v, 1})
}

// Counts lists them in a fixed order.
func (s *ResetStats) Counts() []ResetCount {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.Clone(s.counts)
	slices.SortFunc(list, func(a, b ResetCount) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Verdict.Kind, b.Verdict.Kind), cmp.Compare(a.Verdict.Reason, b.Verdict.Reason))
	})
	return list
}
