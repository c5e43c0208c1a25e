package tidegate

import "strings"

// AnyRev names a revision in one of the two ways that peers do (replication.md §4.3): by its ID in the tree or by
// a version, perhaps with the vector that it belongs to. One of Tree and Vector is zero; both are in no name.
type AnyRev struct {
	Tree   RevID
	Vector VersionVector
	// Legacy are the rev-tree IDs that followed a vector's previous versions, newest first.
	Legacy []RevID
}

// IsTreeRev reports whether s is meant as a rev-tree ID: digits followed by "-".
func IsTreeRev(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < '0' || c > '9' {
			return c == '-' && i > 0
		}
	}
	return false
}

// ParseAnyRev reads a rev-tree ID, a version or a whole vector; "" is no name. Otherwise ErrInvalidRevID or
// ErrInvalidVersion.
func ParseAnyRev(s string) (AnyRev, error) {
	s = strings.Trim(s, " ")
	if s == "" {
		return AnyRev{}, nil
	}
	if IsTreeRev(s) {
		rev, err := ParseRevID(s)
		return AnyRev{Tree: rev}, err
	}
	// The current version ends at the first separator; what follows has the form of a history.
	head, rest := s, ""
	if i := strings.IndexAny(s, ",;"); i >= 0 {
		if head, rest = s[:i], s[i+1:]; s[i] == ',' && strings.Trim(rest, " ") == "" {
			return AnyRev{}, ErrInvalidVersion
		}
	}
	current, err := ParseVersion(strings.Trim(head, " "))
	if err != nil {
		return AnyRev{}, err
	}
	var a AnyRev
	a.Vector, a.Legacy, err = ParseVersionHistory(current, rest)
	return a, err
}

// IsZero reports whether a names no revision.
func (a AnyRev) IsZero() bool { return a.Tree.IsZero() && a.Vector.IsZero() }

// String returns the rev-tree ID or the current version, as in a rev property; "" for the zero AnyRev.
func (a AnyRev) String() string {
	if !a.Tree.IsZero() {
		return a.Tree.String()
	}
	return a.Vector.Current.String()
}

// ParseVersionHistory makes a vector of a current version and the history property that came with it:
// "mv,mv;pv,pv", or "pv,pv" without merge versions; rev-tree IDs may stand last and are returned apart, newest
// first. Spaces around versions and a trailing semicolon are skipped. Otherwise, or if a source has two
// places that it may not have: ErrInvalidVersion.
func ParseVersionHistory(current Version, history string) (v VersionVector, legacy []RevID, err error) {
	v.Current = current
	merges, previous, merged := strings.Cut(history, ";")
	if !merged {
		merges, previous = "", merges
	}
	if v.Merge, err = parseVersions(strings.Trim(merges, " ")); err != nil {
		return VersionVector{}, nil, err
	}
	previous, tree := cutLegacy(strings.Trim(previous, " "))
	if v.Previous, err = parseVersions(previous); err != nil {
		return VersionVector{}, nil, err
	}
	if legacy, err = parseRevIDs(tree); err != nil {
		return VersionVector{}, nil, ErrInvalidVersion
	}
	if !v.distinct() {
		return VersionVector{}, nil, ErrInvalidVersion
	}
	return v, legacy, nil
}

// cutLegacy splits a list before its first rev-tree ID.
func cutLegacy(s string) (versions, tree string) {
	start := 0
	for part := range strings.SplitSeq(s, ",") {
		if IsTreeRev(strings.Trim(part, " ")) {
			return strings.TrimSuffix(s[:start], ","), s[start:]
		}
		start += len(part) + 1
	}
	return s, ""
}

// AppendHistory appends the history property of a revision with this vector: all but the current version, then
// rev-tree IDs for a peer that knows the document by these. ParseVersionHistory reads it.
func (v VersionVector) AppendHistory(b []byte, legacy []RevID) []byte {
	for i, m := range v.Merge {
		if i > 0 {
			b = append(b, ',')
		}
		b = m.Append(b)
	}
	if len(v.Merge) > 0 {
		b = append(b, ';')
	}
	for i, p := range v.Previous {
		if i > 0 {
			b = append(b, ',')
		}
		b = p.Append(b)
	}
	for i, rev := range legacy {
		if i > 0 || len(v.Previous) > 0 {
			b = append(b, ',')
		}
		b = rev.Append(b)
	}
	return b
}

// ParseRevHistory reads the history property of a revision with a rev-tree ID: its ancestors, newest first,
// separated by commas and perhaps spaces. The result begins with rev itself. ErrInvalidRevID: something in it is
// no ID. Whether generations descend is left to RevTree.AddHistory.
func ParseRevHistory(rev RevID, history string) ([]RevID, error) {
	ancestors, err := parseRevIDs(history)
	if err != nil {
		return nil, err
	}
	return append([]RevID{rev}, ancestors...), nil
}

// parseRevIDs reads a list separated by commas, or nothing.
func parseRevIDs(s string) ([]RevID, error) {
	if s = strings.Trim(s, " "); s == "" {
		return nil, nil
	}
	revs := make([]RevID, 0, strings.Count(s, ",")+1)
	for part := range strings.SplitSeq(s, ",") {
		rev, err := ParseRevID(strings.Trim(part, " "))
		if err != nil {
			return nil, err
		}
		revs = append(revs, rev)
	}
	return revs, nil
}

// AppendRevHistory appends the IDs separated by commas, as in the properties history and revTree.
func AppendRevHistory(b []byte, revs []RevID) []byte {
	for i, rev := range revs {
		if i > 0 {
			b = append(b, ',')
		}
		b = rev.Append(b)
	}
	return b
}
