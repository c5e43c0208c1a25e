package jsondoc

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"unicode/utf8"

	"github.com/tidegate/tidegate"
)

// AppendCanonical appends the canonical form of a checked object, from which [tidegate.NewRevID] computes
// revision IDs (gateway-rest.md §11.1): at every level members sorted by the bytes of their names, no white space,
// only the escapes that must be, numbers with the digits they have. If deleted, "_deleted":true is among the
// members.
func AppendCanonical(dst, body []byte, deleted bool) []byte {
	start := skipSpace(body, 0)
	if start >= len(body) || body[start] != '{' {
		return dst
	}
	c := canonicalizer{raw: body, dst: slices.Grow(dst, roomFor(body)), base: len(dst), mark: start}
	c.flush(c.object(start, deleted))
	return c.dst
}

// roomFor returns how much room to make for the canonical form: sorting a small document takes its size
// once more.
func roomFor(body []byte) int {
	const small = 64 << 10
	if len(body) <= small {
		return 2 * (len(body) + len(deletedMember) + 1)
	}
	return len(body) + len(deletedMember) + 1
}

const deletedMember = `"_deleted":true`

// canonicalizer writes a value in its canonical form in one pass. What needs no change is copied in long runs:
// raw[mark:i] is what was read up to i and is not in dst yet. Members are written in the order in which
// they come and moved afterwards if that was not the right one.
type canonicalizer struct {
	raw, dst []byte
	base     int // length of dst at the beginning
	mark     int
	names    []byte // of open objects: names that have escapes, without them
	depth    int
}

// written is a member that is, or will be, dst[start:end], without a comma; both count from base.
type written struct {
	prefix     uint64 // the first bytes of the name, so that most comparisons need no more
	start, end uint32
	name       span
}

// span is raw[start:end]; or names[start-inNames:end] if start has that bit.
type span struct{ start, end uint32 }

const inNames = 1 << 31

func (c *canonicalizer) text(name span) []byte {
	if name.start&inNames != 0 {
		return c.names[name.start&^inNames : name.end]
	}
	return c.raw[name.start:name.end]
}

// prefixOf returns the first eight bytes of a name as a number that sorts as they do.
func prefixOf(name []byte) uint64 {
	if len(name) >= 8 {
		return binary.BigEndian.Uint64(name)
	}
	var prefix uint64
	for _, b := range name {
		prefix = prefix<<8 | uint64(b)
	}
	return prefix << (8 * (8 - len(name)))
}

// compare orders members by their names.
func (c *canonicalizer) compare(a, b *written) int {
	if a.prefix != b.prefix {
		return cmp.Compare(a.prefix, b.prefix)
	}
	return bytes.Compare(c.text(a.name), c.text(b.name))
}

// flush copies what was read up to i.
func (c *canonicalizer) flush(i int) {
	i = min(i, len(c.raw))
	c.dst = append(c.dst, c.raw[c.mark:i]...)
	c.mark = i
}

// at is where in dst the byte raw[i] goes, counted from base.
func (c *canonicalizer) at(i int) uint32 { return uint32(len(c.dst) - c.base + i - c.mark) }

// space leaves out the white space at i and returns the position behind it.
func (c *canonicalizer) space(i int) int {
	if i >= len(c.raw) || !isSpace(c.raw[i]) {
		return i
	}
	c.flush(i)
	c.mark = skipSpace(c.raw, i)
	return c.mark
}

// value reads the value at i and returns the position behind it.
func (c *canonicalizer) value(i int) int {
	if i >= len(c.raw) {
		return i
	}
	switch c.raw[i] {
	case '{', '[':
		return c.nested(i)
	case '"':
		end, escaped := skipString(c.raw, i)
		if escaped {
			c.unusual(i, end)
		}
		return end
	default:
		return skipWord(c.raw, i)
	}
}

// nested reads an array or object inside another.
func (c *canonicalizer) nested(i int) int {
	if c.depth == maxDepth { // not so in checked JSON
		return len(c.raw)
	}
	c.depth++
	if c.raw[i] == '{' {
		i = c.object(i, false)
	} else {
		i = c.array(i)
	}
	c.depth--
	return i
}

func (c *canonicalizer) array(i int) int {
	i = c.space(i + 1)
	for i < len(c.raw) && c.raw[i] != ']' {
		end := c.value(i)
		if end == i {
			break
		}
		i = c.comma(end)
	}
	return i + 1
}

// comma reads what is between a value and the next one or the end.
func (c *canonicalizer) comma(i int) int {
	i = c.space(i)
	if i < len(c.raw) && c.raw[i] == ',' {
		i = c.space(i + 1)
	}
	return i
}

func (c *canonicalizer) object(i int, deleted bool) int {
	var few [16]written
	members, sorted := few[:0], true
	names := len(c.names)
	i = c.space(i + 1)
	for i < len(c.raw) && c.raw[i] == '"' {
		m := written{start: c.at(i)}
		i = c.key(i, &m)
		i = c.value(i)
		m.end = c.at(i)
		if n := len(members); n > 0 && sorted {
			sorted = c.compare(&members[n-1], &m) < 0
		}
		members = append(members, m)
		i = c.comma(i)
	}
	if deleted {
		c.flush(i)
		members, sorted = append(members, c.deleted(len(members) > 0)), len(members) == 0
	}
	if !sorted {
		c.flush(i)
		c.sort(members)
	}
	c.names = c.names[:names]
	return i + 1
}

// deleted writes the member that marks a tombstone.
func (c *canonicalizer) deleted(comma bool) written {
	if comma {
		c.dst = append(c.dst, ',')
	}
	m := written{start: uint32(len(c.dst) - c.base)}
	c.dst = append(c.dst, deletedMember...)
	m.end = uint32(len(c.dst) - c.base)
	m.name.start = uint32(len(c.names)) | inNames
	c.names = append(c.names, "_deleted"...)
	m.name.end = uint32(len(c.names))
	m.prefix = prefixOf(c.text(m.name))
	return m
}

// key reads a member's name and colon, and returns where its value begins.
func (c *canonicalizer) key(i int, m *written) int {
	end, escaped := skipString(c.raw, i)
	m.name = span{uint32(i + 1), uint32(max(i+1, end-1))}
	if escaped {
		inside := c.text(m.name)
		m.name.start = uint32(len(c.names)) | inNames
		c.names = appendUnescaped(c.names, inside)
		m.name.end = uint32(len(c.names))
		c.unusual(i, end)
	}
	m.prefix = prefixOf(c.text(m.name))
	return c.space(c.space(end) + 1)
}

// sort brings the members of one object, which are at the end of dst, into order.
func (c *canonicalizer) sort(members []written) {
	if len(members) <= 16 {
		for i := 1; i < len(members); i++ {
			for k := i; k > 0 && c.compare(&members[k], &members[k-1]) < 0; k-- {
				members[k], members[k-1] = members[k-1], members[k]
			}
		}
	} else {
		slices.SortFunc(members, func(a, b written) int { return c.compare(&a, &b) })
	}
	// Write them behind themselves in their new order, and then move that to where they were.
	start, end := len(c.dst), len(c.dst)
	for k, m := range members {
		if k > 0 {
			c.dst = append(c.dst, ',')
		}
		start = min(start, c.base+int(m.start))
		c.dst = append(c.dst, c.dst[c.base+int(m.start):c.base+int(m.end)]...)
	}
	c.dst = c.dst[:start+copy(c.dst[start:], c.dst[end:])]
}

// unusual writes the string raw[i:end], which has escapes.
func (c *canonicalizer) unusual(i, end int) {
	c.flush(i + 1)
	for i++; i < end; {
		if c.raw[i] != '\\' {
			i++
			continue
		}
		c.flush(i)
		n := max(escapeLen(c.raw[i:end]), 1)
		c.dst = appendChar(c.dst, escaped(c.raw[i:i+n]))
		i += n
		c.mark = i
	}
}

// appendChar appends a character of a string with as few escapes as can be.
func appendChar(dst []byte, r rune) []byte {
	if r >= ' ' && r != '"' && r != '\\' {
		return utf8.AppendRune(dst, r)
	}
	var quoted [8]byte // "\u0000"
	q := tidegate.AppendJSONString(quoted[:0], string(r))
	return append(dst, q[1:len(q)-1]...)
}
