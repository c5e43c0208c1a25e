package script

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"
)

// appendDoc appends the doc argument: the body with _id, _rev, _deleted and _attachments.
func appendDoc(b []byte, in *SyncInput) []byte {
	b = append(b, `{"_id":`...)
	b = appendJSONString(b, in.DocID)
	b = append(b, `,"_rev":"`...)
	b = in.Rev.Append(b) // printable ASCII without quotes or backslashes
	b = append(b, '"')
	if in.Deleted {
		b = append(b, `,"_deleted":true`...)
	}
	if len(in.Attachments) > 0 {
		b = append(b, `,"_attachments":`...)
		b = append(b, in.Attachments...)
	}
	return appendMembers(b, in.Body)
}

// appendOldDoc appends the oldDoc argument: the ancestor's body with _id and _deleted.
func appendOldDoc(b []byte, in *SyncInput) []byte {
	b = append(b, `{"_id":`...)
	b = appendJSONString(b, in.DocID)
	if in.OldDeleted {
		b = append(b, `,"_deleted":true`...)
	}
	return appendMembers(b, in.OldBody)
}

// appendMembers appends the members of the JSON object body, and the closing brace, to the beginning of an object.
func appendMembers(b, body []byte) []byte {
	body = bytes.TrimSpace(body)
	if len(body) < 2 {
		return append(b, '}')
	}
	body = bytes.TrimLeft(body[1:], " \t\r\n")
	if len(body) > 0 && body[0] != '}' && b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	return append(b, body...)
}

const hexDigits = "0123456789abcdef"

// appendJSONString appends s as a JSON string. Bytes that are no UTF-8 become U+FFFD.
func appendJSONString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		case c < utf8.RuneSelf:
			b = append(b, c)
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			b = utf8.AppendRune(b, r)
			i += n
			continue
		}
		i++
	}
	return append(b, '"')
}

// maxSafeDigits is the length of 2^53-1 in digits: shorter integers are all exact as JavaScript numbers.
const maxSafeDigits = 16

// isUnsafeInteger reports whether a JSON number token is an integer outside ±(2^53-1). Such a number is given to
// the script as a string of its digits, since as a JavaScript number it would lose some (sync-function.md §2).
func isUnsafeInteger(token []byte) bool {
	digits := bytes.TrimPrefix(token, []byte("-"))
	if len(digits) < maxSafeDigits || bytes.ContainsAny(digits, ".eE") {
		return false
	}
	if len(digits) > maxSafeDigits {
		return true
	}
	n, err := strconv.ParseUint(string(digits), 10, 64)
	return err != nil || n > 1<<53-1
}

// quoteUnsafeIntegers returns the JSON text with every integer outside ±(2^53-1) in quotes. It returns text
// itself if there is none.
func quoteUnsafeIntegers(text []byte) []byte {
	if !hasLongDigits(text) {
		return text
	}
	var out []byte
	copied := 0
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '"':
			i = skipString(text, i)
		case c == '-' || c >= '0' && c <= '9':
			end := i + 1
			for end < len(text) && strings.IndexByte("0123456789+-.eE", text[end]) >= 0 {
				end++
			}
			if isUnsafeInteger(text[i:end]) {
				out = append(out, text[copied:i]...)
				out = append(out, '"')
				out = append(out, text[i:end]...)
				out = append(out, '"')
				copied = end
			}
			i = end
		default:
			i++
		}
	}
	if copied == 0 {
		return text
	}
	return append(out, text[copied:]...)
}

// hasLongDigits reports whether maxSafeDigits digits follow one another anywhere. It looks at every 16th byte
// first: a run that long must touch one.
func hasLongDigits(text []byte) bool {
	for i := maxSafeDigits - 1; i < len(text); i += maxSafeDigits {
		if !isDigit(text[i]) {
			continue
		}
		start, end := i, i+1
		for start > 0 && isDigit(text[start-1]) {
			start--
		}
		for end < len(text) && isDigit(text[end]) {
			end++
		}
		if end-start >= maxSafeDigits {
			return true
		}
	}
	return false
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// skipString returns the index after the JSON string that starts at text[i].
func skipString(text []byte, i int) int {
	for i++; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return i
}
