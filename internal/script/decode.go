package script

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// record is one entry of what a run puts out: a tag and a text (js/prelude.js).
type record struct {
	tag  byte
	text string
}

// The tags of records.
const (
	tagChannel = 'C' // a channel
	tagAccess  = 'A' // an access() call begins: its users (L) and channels (R) follow
	tagRole    = 'O' // a role() call begins: its users (L) and roles (R) follow
	tagLeft    = 'L'
	tagRight   = 'R'
	tagExpiry  = 'X' // n and a number, s and a string, o and the type of anything else
	tagReject  = 'J' // reject(): status, blank, message
	tagThrown  = 'T' // throw({forbidden|unauthorized}): status, blank, message
	tagFault   = 'F' // an exception: its description
	tagWarning = 'W'
	tagInfo    = 'I' // console.log
	tagError   = 'E' // console.error
	tagResult  = 'B' // what an import filter or a conflict resolver returned
)

// Marks ahead of the records. spoilt: the call left something in the runtime. needsUser: a require… helper was called
// that had no user to look at; the records are void.
const (
	markSpoilt    = "Q0:"
	markNeedsUser = "N0:"
)

// splitRecords reads the records of one run. Texts are counted in UTF-16 units, as JavaScript does.
func splitRecords(s string, recs []record) ([]record, error) {
	for len(s) > 0 {
		colon := strings.IndexByte(s, ':')
		if colon < 2 {
			return nil, fmt.Errorf("read records: no length at %q", cut(s, 20))
		}
		units, err := strconv.Atoi(s[1:colon])
		if err != nil || units < 0 {
			return nil, fmt.Errorf("read records: bad length at %q", cut(s, 20))
		}
		n, ok := utf16Prefix(s[colon+1:], units)
		if !ok {
			return nil, fmt.Errorf("read records: short text at %q", cut(s, 20))
		}
		end := colon + 1 + n
		recs = append(recs, record{s[0], s[colon+1 : end]})
		s = s[end:]
	}
	return recs, nil
}

// utf16Prefix returns how many bytes of s hold that many UTF-16 units.
func utf16Prefix(s string, units int) (int, bool) {
	i := 0
	for units > 0 && i < len(s) {
		if s[i] < utf8.RuneSelf {
			i++
			units--
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		i += n
		units--
		if r > 0xFFFF {
			units--
		}
	}
	return i, units == 0
}
