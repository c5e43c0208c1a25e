package jsondoc

import (
	"github.com/tidegate/tidegate"
)

// Check returns nil if raw is one JSON value by the strict rules of this package and within the limits.
// Otherwise ErrTooLarge, ErrEmpty or an Invalid error that begins with "Bad JSON: ".
func Check(raw []byte, lim Limits) error {
	s := newScanner(raw, lim)
	if err := s.begin(); err != nil {
		return err
	}
	i := s.value(s.space(0), 0)
	return s.end(i)
}

// scanner reads strict JSON in one pass. Its methods take the position of the next byte and return that of
// the byte behind what they read, or failed.
type scanner struct {
	raw  []byte
	lim  Limits
	keys keyStack

	// While compacting, raw[mark:i] is what was read since the last white space and is not in out yet.
	compacting bool
	mark       int
	out        []byte

	failedAt int
	fault    fault
}

// failed is the position that scanner methods return once s.fault is set.
const failed = -1

func newScanner(raw []byte, lim Limits) scanner {
	return scanner{raw: raw, lim: lim.withDefaults(), keys: keyStack{raw: raw}}
}

// begin checks what can be checked before reading.
func (s *scanner) begin() error {
	if len(s.raw) > s.lim.Bytes || len(s.raw) > maxInput {
		return ErrTooLarge
	}
	if s.space(0) == len(s.raw) {
		return ErrEmpty
	}
	return nil
}

// end checks that nothing follows the value that ended at i, and makes the error if reading failed.
func (s *scanner) end(i int) error {
	if i != failed {
		if i = s.space(i); i < len(s.raw) {
			i = s.fail(i, faultTrailing)
		}
	}
	if i == failed {
		return tidegate.Errorf(tidegate.Invalid, "Bad JSON: %s at byte %d", faultTexts[s.fault], s.failedAt)
	}
	return nil
}

func (s *scanner) fail(i int, why fault) int {
	s.failedAt, s.fault = i, why
	return failed
}

// unexpected fails at a byte that cannot be there.
func (s *scanner) unexpected(i int, wanted fault) int {
	if i >= len(s.raw) {
		return s.fail(i, faultEnd)
	}
	return s.fail(i, wanted)
}

// space skips white space.
func (s *scanner) space(i int) int {
	if i < len(s.raw) && s.raw[i] > ' ' {
		return i
	}
	return s.skipSpace(i)
}

//go:noinline // so that space can be inlined
func (s *scanner) skipSpace(i int) int {
	start := i
	for i < len(s.raw) && isSpace(s.raw[i]) {
		i++
	}
	if i > start && s.compacting {
		s.out = append(s.out, s.raw[s.mark:start]...)
		s.mark = i
	}
	return i
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

// value reads a value that begins at i. depth is how many arrays and objects are open around it.
func (s *scanner) value(i, depth int) int {
	if i >= len(s.raw) {
		return s.fail(i, faultEnd)
	}
	switch c := s.raw[i]; c {
	case '"':
		end, _ := s.string(i)
		return end
	case '{':
		return s.object(i, depth+1)
	case '[':
		return s.array(i, depth+1)
	case 't':
		return s.literal(i, "true")
	case 'f':
		return s.literal(i, "false")
	case 'n':
		return s.literal(i, "null")
	default:
		if c == '-' || isDigit(c) {
			return s.number(i)
		}
		return s.fail(i, faultValue)
	}
}

func (s *scanner) literal(i int, word string) int {
	if len(s.raw)-i < len(word) || string(s.raw[i:i+len(word)]) != word {
		return s.fail(i, faultValue)
	}
	return i + len(word)
}

func (s *scanner) array(i, depth int) int {
	if depth > s.lim.Depth {
		return s.fail(i, faultDeep)
	}
	i = s.space(i + 1)
	if i < len(s.raw) && s.raw[i] == ']' {
		return i + 1
	}
	for {
		if i = s.value(i, depth); i == failed {
			return failed
		}
		i = s.space(i)
		if i >= len(s.raw) || (s.raw[i] != ',' && s.raw[i] != ']') {
			return s.unexpected(i, faultArray)
		}
		if s.raw[i] == ']' {
			return i + 1
		}
		i = s.space(i + 1)
	}
}

func (s *scanner) object(i, depth int) int {
	if depth > s.lim.Depth {
		return s.fail(i, faultDeep)
	}
	i = s.space(i + 1)
	if i < len(s.raw) && s.raw[i] == '}' {
		return i + 1
	}
	frame := s.keys.open()
	for {
		if i = s.key(i, &frame); i == failed {
			return failed
		}
		if i = s.value(i, depth); i == failed {
			return failed
		}
		i = s.space(i)
		if i >= len(s.raw) || (s.raw[i] != ',' && s.raw[i] != '}') {
			return s.unexpected(i, faultObject)
		}
		if s.raw[i] == '}' {
			s.keys.close(frame)
			return i + 1
		}
		i = s.space(i + 1)
	}
}

// key reads a member's key and colon and returns where the value begins.
func (s *scanner) key(i int, frame *keyFrame) int {
	end, _ := s.keyText(i, frame)
	if end == failed {
		return failed
	}
	return s.colon(end)
}

// keyText reads a key and returns it without escapes. It fails if the object has it already.
func (s *scanner) keyText(i int, frame *keyFrame) (end int, text []byte) {
	if i >= len(s.raw) || s.raw[i] != '"' {
		return s.unexpected(i, faultKey), nil
	}
	end, escaped := s.string(i)
	if end == failed {
		return failed, nil
	}
	text, ok := s.keys.add(frame, i+1, end-1, escaped)
	if !ok {
		return s.fail(i, faultDuplicate), nil
	}
	return end, text
}

// colon reads what is between a key and its value.
func (s *scanner) colon(i int) int {
	i = s.space(i)
	if i >= len(s.raw) || s.raw[i] != ':' {
		return s.unexpected(i, faultColon)
	}
	return s.space(i + 1)
}

// number reads a number by RFC 8259's grammar; its digits may be any number.
func (s *scanner) number(i int) int {
	if s.raw[i] == '-' {
		i++
	}
	first := i
	i = s.digits(i)
	if i == first || (s.raw[first] == '0' && i > first+1) {
		return s.unexpected(i, faultNumber)
	}
	if i < len(s.raw) && s.raw[i] == '.' {
		first = i + 1
		if i = s.digits(first); i == first {
			return s.unexpected(i, faultNumber)
		}
	}
	if i < len(s.raw) && (s.raw[i] == 'e' || s.raw[i] == 'E') {
		i++
		if i < len(s.raw) && (s.raw[i] == '+' || s.raw[i] == '-') {
			i++
		}
		first = i
		if i = s.digits(first); i == first {
			return s.unexpected(i, faultNumber)
		}
	}
	return i
}

func (s *scanner) digits(i int) int {
	for i < len(s.raw) && isDigit(s.raw[i]) {
		i++
	}
	return i
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// fault is a way in which text is not what this package takes.
type fault uint8

const (
	faultTrailing fault = iota
	faultEnd
	faultValue
	faultDeep
	faultArray
	faultObject
	faultKey
	faultDuplicate
	faultColon
	faultNumber
	faultEscape
	faultControl
	faultUTF8
)

var faultTexts = [...]string{
	faultTrailing:  "unexpected text after the value",
	faultEnd:       "unexpected end",
	faultValue:     "no value begins like this",
	faultDeep:      "nested too deep",
	faultArray:     "expected , or ]",
	faultObject:    "expected , or }",
	faultKey:       "expected a key",
	faultDuplicate: "duplicate key",
	faultColon:     "expected :",
	faultNumber:    "bad number",
	faultEscape:    "bad escape",
	faultControl:   "control character in a string",
	faultUTF8:      "not UTF-8",
}
