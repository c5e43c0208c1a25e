package jsondoc

import (
	"bytes"
	"encoding/binary"
	"iter"
	"math/bits"
)

// This file walks over JSON that was checked. It does not look for faults, but ends early rather than
// panic when it meets one.

// Get returns the raw value of a top-level member of a checked object.
func Get(obj []byte, name string) (value []byte, ok bool) {
	for key, value := range rawMembers(obj) {
		if bytes.IndexByte(key, '\\') >= 0 {
			if unescape(key) == name {
				return value, true
			}
		} else if string(key) == name {
			return value, true
		}
	}
	return nil, false
}

// Members returns the top-level members of a checked object in order: names without escapes, raw values.
func Members(obj []byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for key, value := range rawMembers(obj) {
			if !yield(unescape(key), value) {
				return
			}
		}
	}
}

// Elements returns the raw elements of a checked array in order.
func Elements(arr []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		i := skipSpace(arr, 0)
		if i >= len(arr) || arr[i] != '[' {
			return
		}
		for i = skipSpace(arr, i+1); i < len(arr) && arr[i] != ']'; {
			end := skipValue(arr, i)
			if end == i || !yield(arr[i:end:end]) {
				return
			}
			i = skipComma(arr, end)
		}
	}
}

// rawMembers returns the inside of the keys and the raw values of an object.
func rawMembers(obj []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		i := skipSpace(obj, 0)
		if i >= len(obj) || obj[i] != '{' {
			return
		}
		for i = skipSpace(obj, i+1); i < len(obj) && obj[i] == '"'; {
			keyEnd, _ := skipString(obj, i)
			start := skipSpace(obj, skipSpace(obj, keyEnd)+1) // over the colon
			if start >= len(obj) || keyEnd < i+2 {
				return
			}
			end := skipValue(obj, start)
			if end == start || !yield(obj[i+1:keyEnd-1], obj[start:end:end]) {
				return
			}
			i = skipComma(obj, end)
		}
	}
}

// Compact appends checked JSON without the white space between its tokens.
func Compact(dst, raw []byte) []byte {
	mark := 0
	for i := 0; i < len(raw); {
		switch c := raw[i]; {
		case c == '"':
			i, _ = skipString(raw, i)
		case isSpace(c):
			dst = append(dst, raw[mark:i]...)
			i = skipSpace(raw, i)
			mark = i
		default:
			i++
		}
	}
	return append(dst, raw[mark:]...)
}

// Member is a member to put into a document. Value is raw JSON; Name needs no escapes.
type Member struct {
	Name  string
	Value []byte
}

// AppendDoc appends an object of the members, in order, followed by those of body, a checked object such as
// Doc.Body.
func AppendDoc(dst, body []byte, members ...Member) []byte {
	dst = append(dst, '{')
	for _, m := range members {
		if dst[len(dst)-1] != '{' {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, '"'), m.Name...), '"', ':')
		dst = append(dst, m.Value...)
	}
	inside := skipSpace(body, skipSpace(body, 0)+1)
	if inside >= len(body) || body[inside] == '}' {
		return append(dst, '}')
	}
	if len(members) > 0 {
		dst = append(dst, ',')
	}
	return append(dst, body[inside:]...)
}

func skipSpace(raw []byte, i int) int {
	for i < len(raw) && isSpace(raw[i]) {
		i++
	}
	return i
}

func skipComma(raw []byte, i int) int {
	i = skipSpace(raw, i)
	if i < len(raw) && raw[i] == ',' {
		i = skipSpace(raw, i+1)
	}
	return i
}

// skipString returns the position behind the string that begins at i, and whether it has escapes.
func skipString(raw []byte, i int) (end int, escaped bool) {
	for i++; i < len(raw); {
		i = skipToQuote(raw, i)
		if i < len(raw) && raw[i] == '"' {
			return i + 1, escaped
		}
		i += 2
		escaped = true
	}
	return len(raw), escaped
}

// skipToQuote returns the position of the first quote or backslash from i on; len(raw) if there is none.
func skipToQuote(raw []byte, i int) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for i+8 <= len(raw) {
		w := binary.LittleEndian.Uint64(raw[i:])
		quote, slash := w^(ones*'"'), w^(ones*'\\')
		if found := ((quote-ones)&^quote | (slash-ones)&^slash) & highs; found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
		i += 8
	}
	for i < len(raw) && raw[i] != '"' && raw[i] != '\\' {
		i++
	}
	return i
}

// skipValue returns the position behind the value that begins at i.
func skipValue(raw []byte, i int) int {
	depth := 0
	for i < len(raw) {
		switch raw[i] {
		case '"':
			i, _ = skipString(raw, i)
		case '{', '[':
			depth++
			i++
		case '}', ']':
			depth--
			i++
		case ',', ':', ' ', '\n', '\r', '\t':
			i++
			continue
		default:
			i = skipWord(raw, i)
		}
		if depth <= 0 {
			return i
		}
	}
	return i
}

// skipWord returns the position behind the number, true, false or null that begins at i.
func skipWord(raw []byte, i int) int {
	for i < len(raw) {
		switch raw[i] {
		case ',', ':', '}', ']', ' ', '\n', '\r', '\t':
			return i
		}
		i++
	}
	return i
}
