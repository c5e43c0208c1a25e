package rest

import (
	"bytes"
	"iter"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

// Bodies like that of _bulk_docs consist of one array whose elements are parsed one by one. This file cuts
// them apart so that no byte is looked at twice by the strict parser: the object without the array's
// elements is checked as a whole, then each element by whoever takes it. What is cut wrongly, because it is
// no JSON, fails one of these checks.

var errBadArray = tidegate.Errorf(tidegate.Invalid, "Bad JSON: expected , or ] in an array")

// cutArray checks an object from a request except for the elements of one member, an array. obj is the
// object with that array empty; array is the array itself, unchecked inside, or nil if the member is absent
// or something else. Errors: those of jsondoc.Check, or jsondoc.ErrNotObject.
func cutArray(raw []byte, member string, lim jsondoc.Limits) (obj, array []byte, err error) {
	obj = raw
	if start, end := findArray(raw, member); end > start {
		array = raw[start:end]
		obj = make([]byte, 0, len(raw)-len(array)+2)
		obj = append(append(append(obj, raw[:start]...), '[', ']'), raw[end:]...)
	}
	if err := jsondoc.Check(obj, lim); err != nil {
		return nil, nil, err
	}
	if obj = bytes.TrimSpace(obj); obj[0] != '{' {
		return nil, nil, jsondoc.ErrNotObject
	}
	return obj, array, nil
}

// findArray finds the array that a top-level member is; start == end if there is none. raw may be anything.
func findArray(raw []byte, member string) (start, end int) {
	i := skipSpaces(raw, 0)
	if i >= len(raw) || raw[i] != '{' {
		return 0, 0
	}
	for i = skipSpaces(raw, i+1); i < len(raw) && raw[i] == '"'; {
		keyEnd := skipText(raw, i)
		value := skipSpaces(raw, keyEnd)
		if value >= len(raw) || raw[value] != ':' {
			return 0, 0
		}
		value = skipSpaces(raw, value+1)
		after := skipAny(raw, value)
		if string(raw[i+1:max(i+1, keyEnd-1)]) == member && value < after && raw[value] == '[' && raw[after-1] == ']' {
			return value, after
		}
		i = skipSpaces(raw, after)
		if i >= len(raw) || raw[i] != ',' {
			return 0, 0
		}
		i = skipSpaces(raw, i+1)
	}
	return 0, 0
}

// elements yields the elements of an array that findArray found, unchecked, and an error where there should
// be a comma.
func elements(array []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		end := len(array) - 1 // the closing bracket
		i := skipSpaces(array, 1)
		if i == end {
			return
		}
		for {
			after := min(skipAny(array, i), end)
			if after <= i {
				yield(nil, errBadArray)
				return
			}
			if !yield(array[i:after:after], nil) {
				return
			}
			if i = skipSpaces(array, after); i == end {
				return
			}
			if array[i] != ',' {
				yield(nil, errBadArray)
				return
			}
			i = skipSpaces(array, i+1)
		}
	}
}

func skipSpaces(raw []byte, i int) int {
	for i < len(raw) && (raw[i] == ' ' || raw[i] == '\n' || raw[i] == '\r' || raw[i] == '\t') {
		i++
	}
	return i
}

// skipText returns the position behind the string that begins at i.
func skipText(raw []byte, i int) int {
	for i++; i < len(raw); i++ {
		n := bytes.IndexAny(raw[i:], `"\`)
		if n < 0 {
			return len(raw)
		}
		if i += n; raw[i] == '"' {
			return i + 1
		}
		i++ // over what the backslash escapes
	}
	return len(raw)
}

// skipAny returns the position behind the value that begins at i, which is i if there is none.
func skipAny(raw []byte, i int) int {
	depth := 0
	for i < len(raw) {
		switch raw[i] {
		case '"':
			i = min(skipText(raw, i), len(raw))
		case '{', '[':
			depth++
			i++
		case '}', ']':
			if depth == 0 {
				return i
			}
			depth--
			i++
		case ',':
			if depth == 0 {
				return i
			}
			i++
			continue
		case ' ', '\n', '\r', '\t', ':':
			if depth == 0 {
				return i
			}
			i++
			continue
		default:
			for i < len(raw) && !bytes.ContainsRune(structural, rune(raw[i])) {
				i++
			}
		}
		if depth == 0 {
			return i
		}
	}
	return len(raw)
}

var structural = []byte("\",:{}[] \n\r\t")
