package tidegate

import (
	"encoding/binary"
	"strconv"
	"strings"
)

// Version says which source changed a document, and when (replication.md §4.3). The zero Version is none.
type Version struct {
	Time   uint64 // hybrid logical clock, nanosecond-like
	Source string // 16 bytes in unpadded base64
}

// sourceLen is the length of a source's text, in bytes.
const sourceLen = 22

// LegacySource is the source of versions that stand for rev-tree revisions.
const LegacySource = "Revision+Tree+Encoding"

// ErrInvalidVersion says that something is no version or version vector.
var ErrInvalidVersion = Errorf(Invalid, "Invalid version")

// ParseVersion reads "time@source": time in lower-case hex without leading zeros, not 0; source 22
// characters of base64. Otherwise ErrInvalidVersion.
func ParseVersion(s string) (Version, error) {
	hex, source, ok := strings.Cut(s, "@")
	if !ok || hex == "" || len(hex) > 16 || hex[0] == '0' || !validSource(source) {
		return Version{}, ErrInvalidVersion
	}
	v := Version{Source: source}
	for i := range len(hex) {
		if !isHexDigit(hex[i]) {
			return Version{}, ErrInvalidVersion
		}
		v.Time = v.Time<<4 | uint64(hexValues[hex[i]])
	}
	return v, nil
}

func isHexDigit(c byte) bool { return hexValues[c] != notHex }

func validSource(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '+' || c == '/') {
			return false
		}
	}
	return len(s) == sourceLen
}

// String returns "time@source", or "" for the zero Version.
func (v Version) String() string { return string(v.Append(nil)) }

// Append appends String to b.
func (v Version) Append(b []byte) []byte {
	if v.IsZero() {
		return b
	}
	b = strconv.AppendUint(b, v.Time, 16)
	return append(append(b, '@'), v.Source...)
}

// IsZero reports whether v is no version.
func (v Version) IsZero() bool { return v.Time == 0 }

// LegacyVersion maps a rev-tree revision into the order of versions, as peers do: the generation in the
// upper 24 bits, the first 40 bits of the digest below (replication.md §4.3). Digits that are not hex count
// as 0; higher generations than 24 bits hold count as the highest.
func LegacyVersion(r RevID) Version {
	if r.IsZero() {
		return Version{}
	}
	const digits = 10
	var low uint64
	for i := range digits {
		low <<= 4
		if i < len(r.Digest) && isHexDigit(r.Digest[i]) {
			low |= uint64(hexValues[r.Digest[i]])
		}
	}
	return Version{Time: min(r.Generation, 1<<24-1)<<(4*digits) | low, Source: LegacySource}
}

// VersionVector is the history of a document in version-vector form: the current version, those that were
// merged into it, and the last of every other source that led to it. The zero vector is none.
type VersionVector struct {
	Current         Version
	Merge, Previous []Version
}

// ParseVersionVector reads "cv,mv,mv;pv,pv", where the merge versions or the previous ones may be missing:
// "cv", "cv;pv" or "cv,pv" without merges, "cv,mv;" without previous ones. Spaces around versions are skipped.
// Otherwise, or if a source has two places (only a merge version may have the current one's source, with an
// older time): ErrInvalidVersion.
func ParseVersionVector(s string) (VersionVector, error) {
	head, previous, merged := strings.Cut(s, ";")
	current, merges, more := strings.Cut(head, ",")
	if more && merges == "" {
		return VersionVector{}, ErrInvalidVersion
	}
	if !merged { // without a semicolon all that follows the current version are previous ones, as in history
		merges, previous = "", merges
	}
	var v VersionVector
	var err error
	if v.Current, err = ParseVersion(strings.Trim(current, " ")); err != nil {
		return VersionVector{}, err
	}
	if v.Merge, err = parseVersions(merges); err != nil {
		return VersionVector{}, err
	}
	if v.Previous, err = parseVersions(previous); err != nil {
		return VersionVector{}, err
	}
	if !v.distinct() {
		return VersionVector{}, ErrInvalidVersion
	}
	return v, nil
}

// parseVersions reads a list separated by commas, or nothing.
func parseVersions(s string) ([]Version, error) {
	if s == "" {
		return nil, nil
	}
	versions := make([]Version, 0, strings.Count(s, ",")+1)
	for part := range strings.SplitSeq(s, ",") {
		v, err := ParseVersion(strings.Trim(part, " "))
		if err != nil {
			return nil, err
		}
		versions = append(versions, v)
	}
	return versions, nil
}

// distinct reports whether each source has one place.
func (v *VersionVector) distinct() bool {
	seen := make(map[string]bool, len(v.Merge)+len(v.Previous))
	for _, m := range v.Merge {
		if seen[m.Source] || (m.Source == v.Current.Source && m.Time >= v.Current.Time) {
			return false
		}
		seen[m.Source] = true
	}
	for _, p := range v.Previous {
		if seen[p.Source] || p.Source == v.Current.Source {
			return false
		}
		seen[p.Source] = true
	}
	return true
}

// IsZero reports whether v is no vector.
func (v VersionVector) IsZero() bool { return v.Current.IsZero() }

// String returns the vector without spaces: "cv", "cv;pv,pv", "cv,mv,mv;" or "cv,mv,mv;pv".
func (v VersionVector) String() string {
	b := v.Current.Append(nil)
	for _, m := range v.Merge {
		b = m.Append(append(b, ','))
	}
	if len(v.Merge) > 0 || len(v.Previous) > 0 {
		b = append(b, ';')
	}
	for i, p := range v.Previous {
		if i > 0 {
			b = append(b, ',')
		}
		b = p.Append(b)
	}
	return string(b)
}

// Knows reports whether a document with this vector has seen the version: the entry of its source is as
// new or newer.
func (v VersionVector) Knows(w Version) bool {
	if v.Current.Source == w.Source && v.Current.Time >= w.Time {
		return true
	}
	for _, m := range v.Merge {
		if m.Source == w.Source && m.Time >= w.Time {
			return true
		}
	}
	for _, p := range v.Previous {
		if p.Source == w.Source && p.Time >= w.Time {
			return true
		}
	}
	return false
}

// Dominates reports whether v includes all that w does: it knows w's current version.
func (v VersionVector) Dominates(w VersionVector) bool { return v.Knows(w.Current) }

// versionVectorFormat is the first byte of the stored form.
const versionVectorFormat = 1

// AppendBinary appends the stored form.
func (v VersionVector) AppendBinary(b []byte) []byte {
	b = append(b, versionVectorFormat)
	b = appendVersion(b, v.Current)
	for _, list := range [...][]Version{v.Merge, v.Previous} {
		b = binary.AppendUvarint(b, uint64(len(list)))
		for _, w := range list {
			b = appendVersion(b, w)
		}
	}
	return b
}

func appendVersion(b []byte, v Version) []byte {
	return appendBinaryString(binary.AppendUvarint(b, v.Time), v.Source)
}

// ParseVersionVectorBinary reads what AppendBinary wrote and returns what follows it. Corrupt: the bytes
// are no vector.
func ParseVersionVectorBinary(b []byte) (VersionVector, []byte, error) {
	r := binaryReader{rest: b}
	if r.byte() != versionVectorFormat {
		r.fail()
	}
	v := VersionVector{Current: readVersion(&r)}
	v.Merge = readVersions(&r)
	v.Previous = readVersions(&r)
	if r.failed {
		return VersionVector{}, nil, errCorrupt
	}
	return v, r.rest, nil
}

func readVersion(r *binaryReader) Version {
	v := Version{Time: r.uvarint()}
	v.Source = r.string()
	return v
}

func readVersions(r *binaryReader) []Version {
	n := r.count(2)
	if n == 0 {
		return nil
	}
	versions := make([]Version, n)
	for i := range versions {
		versions[i] = readVersion(r)
	}
	return versions
}
