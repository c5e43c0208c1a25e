package delta

import (
	"bytes"
	"slices"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// kind is what a value is.
type kind uint8

const (
	kindScalar kind = iota // a number, true, false or null
	kindString
	kindObject
	kindArray
)

// node is a value or a key of a tree. The nodes of what is in an object or array follow it: keys and values in
// turn, or elements.
type node struct {
	start, end uint32 // raw[start:end]
	next       uint32 // the node behind this one and all that is in it
	kind       kind
	escaped    bool // a string with escapes
}

// tree is parsed JSON.
type tree struct {
	raw   []byte
	nodes []node
	texts map[uint32][]byte // of keys that have escapes, without them; by where they start
}

// value returns the raw bytes of a value.
func (t *tree) value(i uint32) []byte { return t.raw[t.nodes[i].start:t.nodes[i].end] }

// key returns the text of a key without escapes.
func (t *tree) key(i uint32) []byte {
	if n := &t.nodes[i]; !n.escaped {
		return t.raw[n.start+1 : n.end-1]
	}
	return t.texts[t.nodes[i].start]
}

// members returns how many members an object has.
func (t *tree) members(object uint32) int {
	n := 0
	for at := object + 1; at < t.nodes[object].next; at = t.nodes[at+1].next {
		n++
	}
	return n
}

// text returns the text of a string without escapes.
func (t *tree) text(i uint32) []byte {
	text, _ := unquote(t.value(i), t.nodes[i].escaped)
	return text
}

// unquote returns the text of a JSON string; false if its escapes are wrong, or its bytes not UTF-8 when it has
// any.
func unquote(raw []byte, escaped bool) ([]byte, bool) {
	if !escaped {
		return raw[1 : len(raw)-1], true
	}
	text, err := jsontext.AppendUnquote(make([]byte, 0, len(raw)), raw)
	return text, err == nil
}

// scanner reads strict JSON in one pass: RFC 8259, and beyond it no duplicate keys at any level, no invalid
// UTF-8, no lone surrogates. Its methods take the position of the next byte and return that of the byte behind
// what they read, or failed.
type scanner struct {
	tree
	depth    int      // how deep it may be
	maxNodes int      // fail beyond so many nodes
	keys     [][]byte // of all open objects, innermost last
	why      string   // what was wrong
}

const failed = -1

// firstNodes is for how many nodes there is room at first, at most: a document may be one long string.
const firstNodes = 1 << 16

func (s *scanner) fail(why string) int {
	s.why = why
	return failed
}

// parse makes the tree of a whole JSON value.
func (s *scanner) parse(raw []byte) bool {
	s.begin(raw)
	return s.end(s.read(s.space(0), 0, true))
}

func (s *scanner) begin(raw []byte) {
	s.raw = raw
	s.nodes = make([]node, 0, min(len(raw)/8+4, firstNodes))
}

// end reports whether nothing follows the value that ended at i.
func (s *scanner) end(i int) bool {
	if i != failed && s.space(i) != len(s.raw) {
		i = s.fail("unexpected text after the value")
	}
	return i != failed
}

func (s *scanner) space(i int) int { return skipSpace(s.raw, i) }

func skipSpace(raw []byte, i int) int {
	for i < len(raw) && (raw[i] == ' ' || raw[i] == '\n' || raw[i] == '\r' || raw[i] == '\t') {
		i++
	}
	return i
}

// open adds a node for what begins at i and returns its index, which close takes.
func (s *scanner) open(i int, k kind) int {
	s.nodes = append(s.nodes, node{start: uint32(i), kind: k})
	return len(s.nodes) - 1
}

func (s *scanner) close(at, end int) int {
	if end == failed {
		return failed
	}
	if len(s.nodes) > s.maxNodes {
		return s.fail("too many values")
	}
	s.nodes[at].end, s.nodes[at].next = uint32(end), uint32(len(s.nodes))
	return end
}

// read reads a value. depth is how many arrays and objects are open around it. keep says whether nodes are made.
func (s *scanner) read(i, depth int, keep bool) int {
	if i >= len(s.raw) {
		return s.fail("unexpected end")
	}
	at := 0
	if keep {
		at = s.open(i, kindOf(s.raw[i]))
	}
	var end int
	switch s.raw[i] {
	case '"':
		var escaped bool
		end, _, escaped = s.string(i)
		if keep {
			s.nodes[at].escaped = escaped
		}
	case '{':
		end = s.object(i, depth+1, func(i int) int { return s.read(i, depth+1, keep) }, keep)
	case '[':
		end = s.array(i, depth+1, func(i int) int { return s.read(i, depth+1, keep) })
	default:
		end = s.scalar(i)
	}
	if keep {
		return s.close(at, end)
	}
	return end
}

func kindOf(c byte) kind {
	switch c {
	case '"':
		return kindString
	case '{':
		return kindObject
	case '[':
		return kindArray
	}
	return kindScalar
}

// array reads an array; element reads one element.
func (s *scanner) array(i, depth int, element func(i int) int) int {
	if depth > s.depth {
		return s.fail("nested too deep")
	}
	i = s.space(i + 1)
	if i < len(s.raw) && s.raw[i] == ']' {
		return i + 1
	}
	for {
		if i = element(i); i == failed {
			return failed
		}
		i = s.space(i)
		switch {
		case i < len(s.raw) && s.raw[i] == ']':
			return i + 1
		case i >= len(s.raw) || s.raw[i] != ',':
			return s.fail("expected , or ]")
		}
		i = s.space(i + 1)
	}
}

// object reads an object; member reads the value of one member. keep says whether keys get nodes.
func (s *scanner) object(i, depth int, member func(i int) int, keep bool) int {
	if depth > s.depth {
		return s.fail("nested too deep")
	}
	i = s.space(i + 1)
	if i < len(s.raw) && s.raw[i] == '}' {
		return i + 1
	}
	first := len(s.keys)
	for {
		if i = s.keyAndColon(i, keep); i == failed {
			return failed
		}
		if i = member(i); i == failed {
			return failed
		}
		i = s.space(i)
		switch {
		case i < len(s.raw) && s.raw[i] == '}':
			if !distinct(s.keys[first:]) {
				return s.fail("duplicate key")
			}
			s.keys = s.keys[:first]
			return i + 1
		case i >= len(s.raw) || s.raw[i] != ',':
			return s.fail("expected , or }")
		}
		i = s.space(i + 1)
	}
}

// keyAndColon reads a key and its colon and returns where the value begins.
func (s *scanner) keyAndColon(i int, keep bool) int {
	if i >= len(s.raw) || s.raw[i] != '"' {
		return s.fail("expected a key")
	}
	end, text, escaped := s.string(i)
	if end == failed {
		return failed
	}
	s.keys = append(s.keys, text)
	if keep {
		at := s.open(i, kindString)
		s.nodes[at].escaped = escaped
		s.close(at, end)
		if escaped {
			if s.texts == nil {
				s.texts = map[uint32][]byte{}
			}
			s.texts[uint32(i)] = text
		}
	}
	end = s.space(end)
	if end >= len(s.raw) || s.raw[end] != ':' {
		return s.fail("expected :")
	}
	return s.space(end + 1)
}

// distinct reports whether no two keys are equal. It changes their order.
func distinct(keys [][]byte) bool {
	const few = 12
	if len(keys) <= few {
		for i := range keys {
			for k := range i {
				if bytes.Equal(keys[i], keys[k]) {
					return false
				}
			}
		}
		return true
	}
	slices.SortFunc(keys, bytes.Compare)
	for i := 1; i < len(keys); i++ {
		if bytes.Equal(keys[i-1], keys[i]) {
			return false
		}
	}
	return true
}

// string reads the string that begins at i with its quote, and returns its text without escapes.
func (s *scanner) string(i int) (end int, text []byte, escaped bool) {
	start, plain := i, true
	for i++; ; i++ {
		if i >= len(s.raw) {
			return s.fail("unexpected end"), nil, false
		}
		c := s.raw[i]
		if c == '"' {
			break
		}
		switch {
		case c == '\\':
			escaped = true
			i++
		case c < ' ':
			return s.fail("control character in a string"), nil, false
		case c >= utf8.RuneSelf:
			plain = false
		}
	}
	raw := s.raw[start : i+1]
	if !plain && !utf8.Valid(raw) {
		return s.fail("not UTF-8"), nil, false
	}
	text, ok := unquote(raw, escaped)
	if !ok {
		return s.fail("bad escape"), nil, false
	}
	return i + 1, text, escaped
}

// scalar reads a number, true, false or null.
func (s *scanner) scalar(i int) int {
	end := skipWord(s.raw, i)
	switch word := s.raw[i:end]; {
	case string(word) == "true", string(word) == "false", string(word) == "null", isNumber(word):
		return end
	}
	return s.fail("no value begins like this")
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

// isNumber reports whether b is a number by the grammar of RFC 8259.
func isNumber(b []byte) bool {
	b = bytes.TrimPrefix(b, []byte("-"))
	whole := digits(b)
	if whole == 0 || whole > 1 && b[0] == '0' {
		return false
	}
	if b = b[whole:]; len(b) > 0 && b[0] == '.' {
		fraction := digits(b[1:])
		if fraction == 0 {
			return false
		}
		b = b[1+fraction:]
	}
	if len(b) > 0 && b[0]|' ' == 'e' {
		if b = b[1:]; len(b) > 0 && (b[0] == '+' || b[0] == '-') {
			b = b[1:]
		}
		return len(b) > 0 && digits(b) == len(b)
	}
	return len(b) == 0
}

// digits returns how many digits b begins with.
func digits(b []byte) int {
	n := 0
	for n < len(b) && '0' <= b[n] && b[n] <= '9' {
		n++
	}
	return n
}
