package config

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// str reads a string in double quotes.
func (p *parser) str() (string, error) {
	start := p.pos()
	p.off++
	var out []byte
	for p.off < len(p.src) {
		c := p.src[p.off]
		switch {
		case c == '"':
			p.off++
			return string(out), nil
		case c == '\n':
			return "", &syntaxError{start, "the string that begins here is not closed on its line; a value of several lines goes between back quotes"}
		case c < ' ':
			return "", p.fail("a control character in a string must be written as an escape")
		case c == '\\':
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, r)
		case c < utf8.RuneSelf:
			out = append(out, c)
			p.off++
		default:
			r, size := utf8.DecodeRune(p.src[p.off:])
			if r == utf8.RuneError && size == 1 {
				return "", p.fail("the string is not valid UTF-8")
			}
			out = append(out, p.src[p.off:p.off+size]...)
			p.off += size
		}
	}
	return "", &syntaxError{start, "the string that begins here is never closed"}
}

// simpleEscapes are the escapes of one letter.
func simpleEscape(c byte) (rune, bool) {
	switch c {
	case '"', '\\', '/':
		return rune(c), true
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	}
	return 0, false
}

// escape reads an escape sequence.
func (p *parser) escape() (rune, error) {
	if p.off+1 >= len(p.src) {
		return 0, p.fail("the text ends within an escape")
	}
	c := p.src[p.off+1]
	if r, ok := simpleEscape(c); ok {
		p.off += 2
		return r, nil
	}
	if c != 'u' {
		return 0, p.fail("unknown escape \\%c", c)
	}
	r, ok := p.hex4(p.off + 2)
	if !ok {
		return 0, p.fail("malformed \\u escape")
	}
	if !utf16.IsSurrogate(r) {
		p.off += 6
		return r, nil
	}
	if p.off+7 < len(p.src) && p.src[p.off+6] == '\\' && p.src[p.off+7] == 'u' {
		if low, ok := p.hex4(p.off + 8); ok {
			if full := utf16.DecodeRune(r, low); full != utf8.RuneError {
				p.off += 12
				return full, nil
			}
		}
	}
	return 0, p.fail("half of a surrogate pair in a \\u escape")
}

// hex4 reads four hex digits.
func (p *parser) hex4(at int) (rune, bool) {
	if at+4 > len(p.src) {
		return 0, false
	}
	for _, c := range p.src[at : at+4] {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F') {
			return 0, false
		}
	}
	v, err := strconv.ParseUint(string(p.src[at:at+4]), 16, 16)
	return rune(v), err == nil
}
