package script

import (
	"bytes"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// The direct evaluator reads checked JSON in place. The functions below never run past the text; of malformed text they
// report failure or a wrong part, never a panic.

// skipSpace returns the index of the first byte from i on that is no blank.
func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skipValue returns the index after the JSON value that starts at b[i], or -1.
func skipValue(b []byte, i int) int {
	if i >= len(b) {
		return -1
	}
	switch b[i] {
	case '"':
		return stringEnd(b, i)
	case '{', '[':
		return skipNested(b, i)
	}
	for i < len(b) {
		switch b[i] {
		case ',', '}', ']', ' ', '\n', '\t', '\r':
			return i
		}
		i++
	}
	return i
}

// skipNested returns the index after the object or array that starts at b[i], or -1.
func skipNested(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			if i = stringEnd(b, i); i < 0 {
				return -1
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
		i++
	}
	return -1
}

// stringEnd returns the index after the JSON string that starts at b[i], or -1.
func stringEnd(b []byte, i int) int {
	for at := i + 1; ; {
		n := bytes.IndexByte(b[at:], '"')
		if n < 0 {
			return -1
		}
		// The quote ends the string unless an odd number of backslashes stands before it.
		end := at + n
		from := end
		for from > at && b[from-1] == '\\' {
			from--
		}
		if (end-from)%2 == 0 {
			return end + 1
		}
		at = end + 1
	}
}

// memberScanner goes through the members of a JSON object.
type memberScanner struct {
	text  []byte
	pos   int
	key   []byte // without quotes; escapes are not decoded
	value []byte
	bad   bool // the text is malformed
}

func scanObject(text []byte) memberScanner {
	i := skipSpace(text, 0)
	if i >= len(text) || text[i] != '{' {
		return memberScanner{text: text, pos: len(text), bad: true}
	}
	return memberScanner{text: text, pos: skipSpace(text, i+1)}
}

// next moves to the next member. It reports false at the end.
func (s *memberScanner) next() bool {
	b := s.text
	if s.bad || s.pos < len(b) && b[s.pos] == '}' {
		return false
	}
	if s.pos >= len(b) || b[s.pos] != '"' {
		s.bad = true
		return false
	}
	end := stringEnd(b, s.pos)
	if end < 0 {
		s.bad = true
		return false
	}
	s.key = b[s.pos+1 : end-1]
	i := skipSpace(b, end)
	if i >= len(b) || b[i] != ':' {
		s.bad = true
		return false
	}
	i = skipSpace(b, i+1)
	if end = skipValue(b, i); end <= i {
		s.bad = true
		return false
	}
	s.value = b[i:end]
	if i = skipSpace(b, end); i < len(b) && b[i] == ',' {
		i = skipSpace(b, i+1)
	}
	s.pos = i
	return true
}

// splitArray appends the elements of a JSON array, as JSON text.
func splitArray(text []byte, elems [][]byte) ([][]byte, bool) {
	i := skipSpace(text, 1)
	for i < len(text) && text[i] != ']' {
		end := skipValue(text, i)
		if end <= i {
			return elems, false
		}
		elems = append(elems, text[i:end])
		if i = skipSpace(text, end); i < len(text) && text[i] == ',' {
			i = skipSpace(text, i+1)
		}
	}
	return elems, i < len(text)
}

// decodeValue makes a value of JSON text; objects and arrays stay text. ok is false for text that only an engine may
// judge: malformed, not UTF-8, or with half a surrogate pair.
func decodeValue(b []byte, root rootID) (v value, ok bool) {
	switch b[0] {
	case '"':
		s, ok := decodeString(b)
		return text(s), ok
	case '{':
		return value{kind: kindObject, root: root, text: b}, true
	case '[':
		return value{kind: kindArray, root: root, text: b}, true
	case 't':
		return boolean(true), len(b) == 4
	case 'f':
		return boolean(false), len(b) == 5
	case 'n':
		return value{kind: kindNull}, len(b) == 4
	}
	if isUnsafeInteger(b) {
		return text(b), true
	}
	if len(b) <= 15 {
		if n, ok := smallInteger(b); ok {
			return number(n), true
		}
	}
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil && f == 0 {
		return value{}, false
	}
	return number(f), true
}

// smallInteger reads digits only.
func smallInteger(b []byte) (float64, bool) {
	n := 0
	for _, c := range b {
		if !isDigit(c) {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return float64(n), true
}

// decodeString decodes a JSON string with its quotes. Without escapes the result is a part of b.
func decodeString(b []byte) ([]byte, bool) {
	if len(b) < 2 || b[len(b)-1] != '"' {
		return nil, false
	}
	s := b[1 : len(b)-1]
	if bytes.IndexByte(s, '\\') >= 0 {
		out, ok := unescape(s)
		return out, ok && utf8.Valid(out)
	}
	return s, utf8.Valid(s)
}

// unescape decodes the escapes of a JSON string without its quotes.
func unescape(s []byte) ([]byte, bool) {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			out = append(out, s[i])
			continue
		}
		if i++; i >= len(s) {
			return nil, false
		}
		if s[i] == 'u' {
			r, n := unescapeRune(s[i-1:])
			if n == 0 {
				return nil, false
			}
			out = utf8.AppendRune(out, r)
			i += n - 2
			continue
		}
		k := bytes.IndexByte([]byte(`"\/bfnrt`), s[i])
		if k < 0 {
			return nil, false
		}
		out = append(out, "\"\\/\b\f\n\r\t"[k])
	}
	return out, true
}

// unescapeRune decodes \uXXXX or a surrogate pair of two, and tells its length, 0 if it is not valid.
func unescapeRune(s []byte) (rune, int) {
	r, ok := hexUnit(s)
	switch {
	case !ok:
		return 0, 0
	case !utf16.IsSurrogate(r):
		return r, 6
	}
	low, ok := hexUnit(s[6:])
	if !ok {
		return 0, 0
	}
	if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
		return 0, 0
	}
	return r, 12
}

func hexUnit(s []byte) (rune, bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(s[2:6]), 16, 16)
	return rune(n), err == nil
}

// decodeKey gives a member's name as text; keys rarely have escapes.
func decodeKey(key []byte) ([]byte, bool) {
	if bytes.IndexByte(key, '\\') < 0 {
		return key, true
	}
	return unescape(key)
}
