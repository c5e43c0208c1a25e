package blip

import (
	"bytes"
	"encoding/binary"
	"iter"
	"strconv"
	"strings"

	"github.com/tidegate/tidegate"
)

// MaxProperties is how long the encoded properties of a message may be, in bytes, in either direction.
const MaxProperties = 102400

// Properties are a message's header: names and values, as they are on the wire. The zero value is empty.
type Properties struct {
	b   []byte // name, NUL, value, NUL, …
	bad bool   // something with a NUL was added
}

// errBadProperties says that properties cannot be sent.
var errBadProperties = tidegate.Errorf(tidegate.Invalid, "the properties contain a NUL or are too long")

// Add appends a property. Neither string may contain a NUL; a message with such properties is refused when it
// is sent. A name must be added once only.
func (p *Properties) Add(name, value string) {
	if strings.IndexByte(name, 0) >= 0 || strings.IndexByte(value, 0) >= 0 {
		p.bad = true
		return
	}
	p.b = append(append(append(append(p.b, name...), 0), value...), 0)
}

// AddInt appends a property whose value is a decimal number.
func (p *Properties) AddInt(name string, value int64) {
	if strings.IndexByte(name, 0) >= 0 {
		p.bad = true
		return
	}
	p.b = append(append(p.b, name...), 0)
	p.b = append(strconv.AppendInt(p.b, value, 10), 0)
}

// AddBool appends a property whose value is "true" or "false".
func (p *Properties) AddBool(name string, value bool) { p.Add(name, strconv.FormatBool(value)) }

// Get returns the first value of a name; ok is false if there is none. A value may be empty.
func (p Properties) Get(name string) (value string, ok bool) {
	v, ok := p.lookup(name)
	return string(v), ok
}

// lookup is Get without a copy.
func (p Properties) lookup(name string) ([]byte, bool) {
	for rest := p.b; len(rest) > 0; {
		var k, v []byte
		if k, v, rest = nextProperty(rest); string(k) == name {
			return v, true
		}
	}
	return nil, false
}

// All iterates over names and values in the order of the wire.
func (p Properties) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for rest := p.b; len(rest) > 0; {
			var k, v []byte
			if k, v, rest = nextProperty(rest); !yield(string(k), string(v)) {
				return
			}
		}
	}
}

// Size is the length of the encoded properties in bytes.
func (p Properties) Size() int { return len(p.b) }

// nextProperty splits the first property off well-formed encoded properties.
func nextProperty(b []byte) (name, value, rest []byte) {
	name, b = cutString(b)
	value, rest = cutString(b)
	return name, value, rest
}

func cutString(b []byte) (s, rest []byte) {
	n := bytes.IndexByte(b, 0)
	if n < 0 {
		return b, nil
	}
	return b[:n], b[n+1:]
}

// check reports whether p can be sent.
func (p Properties) check() error {
	if p.bad || len(p.b) > MaxProperties {
		return errBadProperties
	}
	return nil
}

// appendTo appends the beginning of an encoded message: the length of the properties and the properties.
func (p Properties) appendTo(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(p.b)))
	return append(b, p.b...)
}

// wellFormed reports whether b is a sequence of NUL-terminated pairs without a repeated name (blip.md §6).
func wellFormed(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	if b[len(b)-1] != 0 || bytes.Count(b, []byte{0})%2 != 0 {
		return false
	}
	return !repeats(b)
}

// fewNames is how many properties are compared pair by pair; more are put into a set.
const fewNames = 16

// repeats reports whether a name occurs twice in well-terminated properties.
func repeats(b []byte) bool {
	var few [fewNames][]byte
	var many map[string]struct{}
	n := 0
	for rest := b; len(rest) > 0; n++ {
		var name []byte
		name, _, rest = nextProperty(rest)
		for _, seen := range few[:min(n, fewNames)] {
			if bytes.Equal(seen, name) {
				return true
			}
		}
		if n < fewNames {
			few[n] = name
			continue
		}
		if many == nil {
			many = make(map[string]struct{})
		}
		if _, ok := many[string(name)]; ok {
			return true
		}
		many[string(name)] = struct{}{}
	}
	return false
}

// splitLength reads the length of the properties from the beginning of an encoded message. need is false while
// more bytes are needed; a length that cannot be is an error.
func splitLength(b []byte) (props, skip int, known bool, err error) {
	n, used := binary.Uvarint(b)
	switch {
	case used == 0 && len(b) < binary.MaxVarintLen64:
		return 0, 0, false, nil
	case used <= 0 || n > MaxProperties:
		return 0, 0, false, &ProtocolError{closeTooBig, "properties too long"}
	}
	return int(n), used, true, nil
}
