package delta

import (
	"bytes"
	"strconv"
	"unicode/utf8"
)

// applyPatch returns what a text patch makes of the old text: N= copies, N- skips, N+bytes| inserts.
func applyPatch(old, patch []byte) ([]byte, error) {
	out := make([]byte, 0, len(old)+len(patch))
	for len(patch) > 0 {
		n := digits(patch)
		count, err := strconv.ParseUint(string(patch[:n]), 10, 31)
		if err != nil || n == len(patch) {
			return nil, invalid("malformed text patch")
		}
		size, op := int(count), patch[n]
		patch = patch[n+1:]
		switch {
		case op == '+':
			if size >= len(patch) || patch[size] != '|' {
				return nil, invalid("malformed text patch")
			}
			out = append(out, patch[:size]...)
			patch = patch[size+1:]
			continue
		case op != '=' && op != '-':
			return nil, invalid("malformed text patch")
		case size > len(old):
			return nil, invalid("a text patch of a longer text")
		case op == '=':
			out = append(out, old[:size]...)
		}
		old = old[size:]
	}
	if len(old) > 0 {
		return nil, invalid("a text patch of a shorter text")
	}
	if !utf8.Valid(out) {
		return nil, invalid("a text patch that cuts a character")
	}
	return out, nil
}

// skipString returns the position behind the string that begins at i, or failed, and whether it has escapes.
func skipString(raw []byte, i int) (end int, escaped bool) {
	if i >= len(raw) || raw[i] != '"' {
		return failed, false
	}
	i++
	quote := i - 1 // the next one from i on, unless it is before i
	for {
		if quote < i {
			n := bytes.IndexByte(raw[i:], '"')
			if n < 0 {
				return failed, false
			}
			quote = i + n
		}
		slash := bytes.IndexByte(raw[i:quote], '\\')
		if slash < 0 {
			return quote + 1, escaped
		}
		escaped = true
		if i += slash + 2; i > len(raw) {
			return failed, false
		}
	}
}

// skipValue returns the position behind the value that begins at i; ErrBase if there is none.
func skipValue(raw []byte, i int) (end int, err error) {
	for depth := 0; i < len(raw); {
		switch raw[i] {
		case '"':
			if i, _ = skipString(raw, i); i == failed {
				return 0, ErrBase
			}
		case '{', '[':
			depth++
			i++
		case '}', ']':
			if depth--; depth < 0 {
				return 0, ErrBase
			}
			i++
		case ',', ':', ' ', '\n', '\r', '\t':
			if depth == 0 {
				return 0, ErrBase
			}
			i++
			continue
		default:
			i = skipWord(raw, i)
		}
		if depth == 0 {
			return i, nil
		}
	}
	return 0, ErrBase
}

// skipComma reads what is between a value and the next one, or the closing bracket.
func skipComma(raw []byte, i int, closing byte) (next int, err error) {
	i = skipSpace(raw, i)
	switch {
	case i < len(raw) && raw[i] == ',':
		return skipSpace(raw, i+1), nil
	case i < len(raw) && raw[i] == closing:
		return i, nil
	}
	return 0, ErrBase
}
