package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Bounds of a config text.
const (
	maxConfigBytes = 4 << 20
	maxConfigDepth = 64
)

// nodeKind is the kind of a JSON value; it prints as an error message names it.
type nodeKind string

const (
	kindObject  nodeKind = "an object"
	kindArray   nodeKind = "an array"
	kindString  nodeKind = "a string"
	kindNumber  nodeKind = "a number"
	kindBoolean nodeKind = "a boolean"
	kindNull    nodeKind = "null"
)

// pos is a place in a text; lines and columns count from 1, columns in bytes. The zero pos is no place.
type pos struct{ line, column int }

// node is a JSON value with its place.
type node struct {
	kind    nodeKind
	at      pos
	text    string // of a string: its value; of a number: its literal; of a boolean: "true" or "false"
	quoted  bool   // the string stood in back quotes
	members []member
	elems   []*node
}

// member is a member of an object.
type member struct {
	name  string
	at    pos
	value *node
}

// get returns the member of the name, or nil. It looks at them all: while an object is read its parser keeps an
// index instead.
func (n *node) get(name string) *member {
	for i := range n.members {
		if n.members[i].name == name {
			return &n.members[i]
		}
	}
	return nil
}

// parser reads JSON, with strings in back quotes and, if expand is set, unquoted environment variables
// besides. Everything else is as strict as RFC 8259: comments, trailing commas, duplicate keys, bad UTF-8 and
// lone surrogates are errors.
type parser struct {
	src       []byte
	off       int
	line      int // of off, from 1
	lineStart int // offset of that line
	depth     int
	expand    expander // nil: no variables
	duplicate problems
}

// parse reads src. The problems are syntax errors, where reading ends, or duplicate keys.
func parse(src []byte, expand expander) (*node, error) {
	p := &parser{src: src, line: 1, expand: expand}
	if len(src) > maxConfigBytes {
		return nil, (&problems{{Message: fmt.Sprintf("the config is larger than %d bytes", maxConfigBytes)}}).err()
	}
	p.src = bytes.TrimPrefix(src, []byte("\ufeff")) // a byte-order mark as editors leave it
	n, err := p.document()
	if syntax, ok := errors.AsType[*syntaxError](err); ok {
		p.duplicate.add(syntax.at, "", "%s", syntax.message)
	}
	return n, p.duplicate.err()
}

// syntaxError is where and why the text is no JSON.
type syntaxError struct {
	at      pos
	message string
}

func (e *syntaxError) Error() string { return e.message }

func (p *parser) pos() pos { return pos{p.line, p.off - p.lineStart + 1} }

func (p *parser) fail(format string, args ...any) error {
	return &syntaxError{p.pos(), fmt.Sprintf(format, args...)}
}

// peek returns the next byte, 0 at the end.
func (p *parser) peek() byte {
	if p.off < len(p.src) {
		return p.src[p.off]
	}
	return 0
}

func (p *parser) newline() { p.line, p.lineStart = p.line+1, p.off }

// space skips white space and refuses comments.
func (p *parser) space() error {
	for ; p.off < len(p.src); p.off++ {
		switch p.src[p.off] {
		case ' ', '\t', '\r':
		case '\n':
			p.off++
			p.newline()
			p.off--
		case '/', '#':
			return p.fail("comments are not allowed in JSON")
		default:
			return nil
		}
	}
	return nil
}

func (p *parser) document() (*node, error) {
	n, err := p.value()
	if err != nil {
		return nil, err
	}
	if err := p.space(); err != nil {
		return nil, err
	}
	if p.off < len(p.src) {
		return nil, p.fail("unexpected %s after the end of the value", p.found())
	}
	return n, nil
}

// found names the next character for a message.
func (p *parser) found() string {
	if p.off >= len(p.src) {
		return "end of the text"
	}
	r, _ := utf8.DecodeRune(p.src[p.off:])
	return fmt.Sprintf("%q", r)
}

func (p *parser) value() (*node, error) {
	if err := p.space(); err != nil {
		return nil, err
	}
	n := &node{at: p.pos()}
	var err error
	switch c := p.peek(); {
	case c == '{':
		err = p.object(n)
	case c == '[':
		err = p.array(n)
	case c == '"':
		n.kind = kindString
		n.text, n.quoted, err = p.strValue()
	case c == '`':
		n.kind, n.quoted = kindString, true
		n.text, err = p.backquoted()
	case c == '-' || c >= '0' && c <= '9':
		n.kind = kindNumber
		n.text, err = p.number()
	case c == '$' && p.expand != nil:
		err = p.variable(n)
	default:
		err = p.word(n)
	}
	return n, err
}

// nested counts the depth of f.
func (p *parser) nested(f func() error) error {
	if p.depth++; p.depth > maxConfigDepth {
		return p.fail("nested deeper than %d levels", maxConfigDepth)
	}
	defer func() { p.depth-- }()
	p.off++ // the opening bracket
	return f()
}

func (p *parser) object(n *node) error {
	n.kind = kindObject
	index := map[string]pos{}
	return p.nested(func() error {
		for first := true; ; first = false {
			done, err := p.separator('}', first)
			if done || err != nil {
				return err
			}
			if err := p.member(n, index); err != nil {
				return err
			}
		}
	})
}

func (p *parser) member(n *node, index map[string]pos) error {
	m := member{at: p.pos()}
	if p.peek() != '"' {
		return p.fail("expected a key in double quotes, found %s", p.found())
	}
	var err error
	if m.name, err = p.str(); err != nil {
		return err
	}
	if first, twice := index[m.name]; twice {
		p.duplicate.add(m.at, shorten(m.name), "the key is given twice; the first is at line %d, column %d", first.line, first.column)
	} else {
		index[m.name] = m.at
	}
	if err := p.space(); err != nil {
		return err
	}
	if p.peek() != ':' {
		return p.fail("expected ':' after the key %q, found %s", m.name, p.found())
	}
	p.off++
	if m.value, err = p.value(); err != nil {
		return err
	}
	n.members = append(n.members, m)
	return nil
}

func (p *parser) array(n *node) error {
	n.kind = kindArray
	return p.nested(func() error {
		for first := true; ; first = false {
			done, err := p.separator(']', first)
			if done || err != nil {
				return err
			}
			elem, err := p.value()
			if err != nil {
				return err
			}
			n.elems = append(n.elems, elem)
		}
	})
}

// separator moves to the next member or element; done says that the closing bracket was there instead.
func (p *parser) separator(closing byte, first bool) (done bool, err error) {
	if err := p.space(); err != nil {
		return false, err
	}
	if p.peek() == closing {
		p.off++
		return true, nil
	}
	if first {
		return false, nil
	}
	if p.peek() != ',' {
		return false, p.fail("expected ',' or '%c', found %s", closing, p.found())
	}
	p.off++
	if err := p.space(); err != nil {
		return false, err
	}
	if p.peek() == closing {
		return false, p.fail("trailing comma before '%c'", closing)
	}
	return false, nil
}

// word reads true, false or null.
func (p *parser) word(n *node) error {
	for word, kind := range map[string]nodeKind{"true": kindBoolean, "false": kindBoolean, "null": kindNull} {
		if bytes.HasPrefix(p.src[p.off:], []byte(word)) {
			n.kind, n.text = kind, word
			p.off += len(word)
			return nil
		}
	}
	return p.fail("expected a value, found %s", p.found())
}

// number reads a number literal as RFC 8259 has it.
func (p *parser) number() (string, error) {
	start := p.off
	digits := func() bool {
		from := p.off
		for p.peek() >= '0' && p.peek() <= '9' {
			p.off++
		}
		return p.off > from
	}
	if p.peek() == '-' {
		p.off++
	}
	leadingZero := p.peek() == '0'
	intStart := p.off
	ok := digits() && (!leadingZero || p.off == intStart+1)
	if ok && p.peek() == '.' {
		p.off++
		ok = digits()
	}
	if ok && (p.peek() == 'e' || p.peek() == 'E') {
		p.off++
		if p.peek() == '+' || p.peek() == '-' {
			p.off++
		}
		ok = digits()
	}
	if !ok {
		p.off = start
		return "", p.fail("malformed number")
	}
	return string(p.src[start:p.off]), nil
}

// backquoted reads a run between back quotes as it stands.
func (p *parser) backquoted() (string, error) {
	start := p.pos()
	p.off++
	end := bytes.IndexByte(p.src[p.off:], '`')
	if end < 0 {
		return "", &syntaxError{start, "the back quote that begins here is never closed"}
	}
	text := p.src[p.off : p.off+end]
	if !utf8.Valid(text) {
		return "", &syntaxError{start, "the text in back quotes is not valid UTF-8"}
	}
	for range end {
		p.off++
		if p.src[p.off-1] == '\n' {
			p.newline()
		}
	}
	p.off++
	return string(text), nil
}

// strValue reads a string value. One that begins and ends with a back quote inside its double quotes loses
// those two; if what is between is no JSON string it is taken as it stands, as between back quotes alone
// (gateway-rest.md §3).
func (p *parser) strValue() (text string, quoted bool, err error) {
	if !bytes.HasPrefix(p.src[p.off:], []byte("\"`")) {
		text, err = p.str()
		return text, false, err
	}
	start := *p
	text, err = p.str()
	if err == nil && len(text) > 1 && text[len(text)-1] == '`' {
		return text[1 : len(text)-1], true, nil
	}
	plain, asJSON, jsonErr := text, *p, err
	*p = start
	p.off++
	text, err = p.backquoted()
	if err == nil && p.peek() == '"' {
		p.off++
		return text, true, nil
	}
	*p = asJSON // not that form either: what the JSON reading made of it stands
	return plain, false, jsonErr
}

// variable reads an unquoted $NAME or ${NAME} where a value is wanted: its text must be a number, a boolean
// or null.
func (p *parser) variable(n *node) error {
	length := variableLen(string(p.src[p.off:]))
	if length == 0 {
		return p.fail("expected the name of an environment variable after '$'")
	}
	text, err := p.expand(string(p.src[p.off : p.off+length]))
	if err != nil {
		return p.fail("%s", err)
	}
	inner := &parser{src: []byte(strings.TrimSpace(text)), line: 1}
	v, err := inner.document()
	if err != nil || v.kind == kindObject || v.kind == kindArray || v.kind == kindString {
		return p.fail("the environment variable is not a number or boolean; write it in quotes to have a string")
	}
	n.kind, n.text = v.kind, v.text
	p.off += length
	return nil
}
