package jsondoc

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/tidegate/tidegate"
)

// AppendString appends s as a JSON string, escaping only what must be. Bytes that are not UTF-8 become
// U+FFFD.
func AppendString(dst []byte, s string) []byte { return tidegate.AppendJSONString(dst, s) }

// Unquote returns the text of a checked JSON string; ok is false if raw is another kind of value.
func Unquote(raw []byte) (text string, ok bool) {
	if len(raw) < 2 || raw[0] != '"' || raw[len(raw)-1] != '"' {
		return "", false
	}
	return unescape(raw[1 : len(raw)-1]), true
}

// string reads the string that begins at i with its quote, and reports whether it has escapes.
func (s *scanner) string(i int) (end int, escaped bool) {
	i = skipPlain(s.raw, i+1)
	if i < len(s.raw) && s.raw[i] == '"' {
		return i + 1, false
	}
	return s.oddString(i)
}

// oddString reads on in a string at its first byte that is not plain.
func (s *scanner) oddString(i int) (end int, escaped bool) {
	for {
		if i >= len(s.raw) {
			return s.fail(i, faultEnd), false
		}
		switch c := s.raw[i]; {
		case c == '"':
			return i + 1, escaped
		case c == '\\':
			escaped = true
			n := escapeLen(s.raw[i:])
			if n == 0 {
				return s.fail(i, faultEscape), false
			}
			i += n
		case c < ' ':
			return s.fail(i, faultControl), false
		default:
			r, size := utf8.DecodeRune(s.raw[i:])
			if r == utf8.RuneError && size == 1 {
				return s.fail(i, faultUTF8), false
			}
			i += size
		}
		i = skipPlain(s.raw, i)
	}
}

// skipPlain returns the position of the first byte from i on that is a quote, a backslash, a control
// character or not ASCII; len(raw) if there is none.
func skipPlain(raw []byte, i int) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for i+8 <= len(raw) {
		w := binary.LittleEndian.Uint64(raw[i:])
		quote, slash := w^(ones*'"'), w^(ones*'\\')
		// The high bit of each byte: not ASCII, below a space, a quote, a backslash. A borrow can mark a
		// byte wrongly, but only behind one that is marked rightly, and the first is what counts.
		if odd := (w | (w - ones*' ') | (quote - ones) | (slash - ones)) & highs; odd != 0 {
			return i + bits.TrailingZeros64(odd)/8
		}
		i += 8
	}
	for i < len(raw) && raw[i] >= ' ' && raw[i] < utf8.RuneSelf && raw[i] != '"' && raw[i] != '\\' {
		i++
	}
	return i
}

// escapeLen returns the length of the escape at the beginning of b, both halves of a surrogate pair
// included; 0 if it is none, or half of a pair.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		r := hex4(b[2:])
		switch {
		case r < 0:
			return 0
		case !utf16.IsSurrogate(r):
			return 6
		case len(b) >= 12 && b[6] == '\\' && b[7] == 'u' && utf16.DecodeRune(r, hex4(b[8:])) != utf8.RuneError:
			return 12
		}
	}
	return 0
}

// hex4 reads four hex digits; -1 if there are none.
func hex4(b []byte) rune {
	if len(b) < 4 {
		return -1
	}
	var r rune
	for _, c := range b[:4] {
		switch {
		case isDigit(c):
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

// unescape returns the text of the inside of a checked string.
func unescape(inside []byte) string {
	if bytes.IndexByte(inside, '\\') < 0 {
		return string(inside)
	}
	return string(appendUnescaped(make([]byte, 0, len(inside)), inside))
}

// appendUnescaped appends the text of the inside of a checked string.
func appendUnescaped(dst, inside []byte) []byte {
	for i := 0; i < len(inside); {
		if inside[i] != '\\' {
			dst = append(dst, inside[i])
			i++
			continue
		}
		n := max(escapeLen(inside[i:]), 1)
		dst = utf8.AppendRune(dst, escaped(inside[i:i+n]))
		i += n
	}
	return dst
}

// escaped returns the character that a whole escape stands for.
func escaped(escape []byte) rune {
	switch len(escape) {
	case 6:
		return hex4(escape[2:])
	case 12:
		return utf16.DecodeRune(hex4(escape[2:]), hex4(escape[8:]))
	}
	switch c := escape[len(escape)-1]; c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	default:
		return rune(c)
	}
}
