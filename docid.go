package tidegate

import "unicode/utf8"

// MaxDocIDLen is the longest document ID, in bytes (gateway-rest.md §2).
const MaxDocIDLen = 250

// ValidDocID returns nil if id may name a document: UTF-8 of 1 to MaxDocIDLen bytes that does not begin
// with "_". Otherwise ErrInvalidDocID. Local documents (_local/…) are named by other rules.
func ValidDocID(id string) error {
	if id == "" || len(id) > MaxDocIDLen || id[0] == '_' || !utf8.ValidString(id) {
		return ErrInvalidDocID
	}
	return nil
}
