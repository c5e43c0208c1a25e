package tidegate

import (
	"cmp"
	"encoding/base64"
	"slices"
	"strings"
)

// MaxPreviousVersions is how many previous versions a vector keeps; beyond it those with the oldest times are
// dropped. What that costs: a peer that still has a document as such a dropped version made it cannot be told
// that this version is an ancestor. It is then told of a conflict where there is none, and its resolver decides;
// nothing is lost and nothing is accepted that should not be. The entry for rev-tree revisions stays, since its
// time is on no clock.
const MaxPreviousVersions = 50

// NewSource returns the source of a database with a stable number of its own.
func NewSource(id [16]byte) string { return base64.RawStdEncoding.EncodeToString(id[:]) }

// Compare orders versions by time, then by source: the order in which the later of two is the one that wins where
// one must.
func (v Version) Compare(w Version) int {
	return cmp.Or(cmp.Compare(v.Time, w.Time), strings.Compare(v.Source, w.Source))
}

// TimeOf returns the time of the newest version of the source that v knows; 0 if it knows none.
func (v VersionVector) TimeOf(source string) uint64 {
	var t uint64
	if v.Current.Source == source {
		t = v.Current.Time
	}
	for _, list := range [...][]Version{v.Merge, v.Previous} {
		for _, w := range list {
			if w.Source == source {
				t = max(t, w.Time)
			}
		}
	}
	return t
}

// Next returns the vector of a document that local was made of v: v's current and merge versions become
// previous ones. local must be newer than what v knows of its source (Clock.Next sees to it). The result may share
// memory with v.
func (v VersionVector) Next(local Version) VersionVector {
	if v.IsZero() {
		return VersionVector{Current: local}
	}
	if v.Current.Source == local.Source && len(v.Merge) == 0 { // the usual case: the same writer once more
		return VersionVector{Current: local, Previous: v.Previous}
	}
	next := VersionVector{Current: local}
	next.fold(v)
	return next
}

// Over returns v as the vector of a document that was at old before: what only old knows becomes previous. v must
// not be known to old. Neither is changed.
func (v VersionVector) Over(old VersionVector) VersionVector {
	if old.IsZero() && len(v.Previous) <= MaxPreviousVersions {
		return v
	}
	next := VersionVector{Current: v.Current, Merge: v.Merge}
	next.fold(v, old)
	return next
}

// MergeVectors returns the vector of local, a version that was made of two that conflict: their current versions are
// its merge versions. If one includes the other there is nothing to merge and local comes after that one.
func MergeVectors(local Version, a, b VersionVector) VersionVector {
	next := VersionVector{Current: local}
	if !a.IsZero() && !b.IsZero() && !a.Dominates(b) && !b.Dominates(a) {
		next.Merge = []Version{a.Current, b.Current}
	}
	next.fold(a, b)
	return next
}

// fold makes v's previous versions all that the others know and that is not in v's current and merge
// versions: the newest of each source, newest first.
func (v *VersionVector) fold(others ...VersionVector) {
	n := 0
	for _, o := range others {
		n += 1 + len(o.Merge) + len(o.Previous)
	}
	all := make([]Version, 0, n)
	for _, o := range others {
		if !o.IsZero() {
			all = append(all, o.Current)
		}
		all = append(append(all, o.Merge...), o.Previous...)
	}
	slices.SortFunc(all, func(a, b Version) int { // the newest of each source first
		return cmp.Or(strings.Compare(a.Source, b.Source), cmp.Compare(b.Time, a.Time))
	})
	all = slices.CompactFunc(all, func(a, b Version) bool { return a.Source == b.Source })
	elsewhere := make(map[string]bool, 1+len(v.Merge))
	elsewhere[v.Current.Source] = true
	for _, m := range v.Merge {
		elsewhere[m.Source] = true
	}
	all = slices.DeleteFunc(all, func(w Version) bool { return elsewhere[w.Source] })
	slices.SortFunc(all, func(a, b Version) int {
		if legacyA, legacyB := a.Source == LegacySource, b.Source == LegacySource; legacyA != legacyB {
			if legacyA {
				return -1 // so that it is not dropped
			}
			return 1
		}
		return b.Compare(a)
	})
	v.Previous = nil
	if len(all) > 0 {
		v.Previous = slices.Clip(all[:min(len(all), MaxPreviousVersions)])
	}
}
