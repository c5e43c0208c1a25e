package delta

import (
	"bytes"
	"strconv"
)

// maxValues is how many keys and values a document may have to be compared. Beyond it the trees would take
// more memory than the delta saves.
const maxValues = 1 << 20

// Diff returns the delta that makes the old document the new one; both are raw JSON objects. The new one comes
// out equal in all values and in the digits of its numbers; the order of keys, white space and escapes are not
// part of a delta. ok is false if the delta would not be shorter than the new document, or if there is none:
// either is no JSON object or breaks the rules of this package, is over the limits that hold by default, or has
// more than a million values. The delta of documents that are equal is {}.
func Diff(old, new []byte) (delta []byte, ok bool) {
	delta, ok = diff(old, new)
	if !ok || len(delta) >= len(new) {
		return nil, false
	}
	return delta, true
}

// diff is Diff without the question whether it is worth it.
func diff(old, new []byte) (delta []byte, ok bool) {
	lim := Limits{}.withDefaults()
	if len(old) > lim.Bytes || len(new) > lim.Bytes {
		return nil, false
	}
	o := scanner{depth: lim.Depth, maxNodes: maxValues}
	n := scanner{depth: lim.Depth, maxNodes: maxValues}
	if !o.parse(old) || !n.parse(new) || o.nodes[0].kind != kindObject || n.nodes[0].kind != kindObject {
		return nil, false
	}
	d := differ{old: &o.tree, new: &n.tree}
	if !d.object(0, 0) {
		d.out = append(d.out, "{}"...)
	}
	return d.out, true
}

// differ writes a delta. The methods that compare two values report whether these differ; if not they have
// written nothing.
type differ struct {
	old, new *tree
	out      []byte
}

// value compares the values o of the old tree and n of the new one, and writes the delta between them.
func (d *differ) value(o, n uint32) bool {
	oldRaw, newRaw := d.old.value(o), d.new.value(n)
	if bytes.Equal(oldRaw, newRaw) {
		return false
	}
	k := d.new.nodes[n].kind
	if k != d.old.nodes[o].kind {
		d.literal(n)
		return true
	}
	start := len(d.out)
	switch k {
	case kindObject:
		if !d.object(o, n) {
			return false
		}
	case kindArray:
		if !d.array(o, n) {
			return false
		}
	case kindString:
		return d.string(o, n)
	default:
		d.literal(n)
		return true
	}
	if len(d.out)-start > len(newRaw)+len("[]") {
		d.out = d.out[:start]
		d.literal(n)
	}
	return true
}

// literal writes a value to be taken as it is.
func (d *differ) literal(n uint32) {
	if k := d.new.nodes[n].kind; k == kindObject || k == kindArray {
		d.out = append(append(append(d.out, '['), d.new.value(n)...), ']')
		return
	}
	d.out = append(d.out, d.new.value(n)...)
}

func (d *differ) object(o, n uint32) bool {
	start := len(d.out)
	find := finder{t: d.old, object: o, next: o + 1}
	found := 0
	for key := n + 1; key < d.new.nodes[n].next; key = d.new.nodes[key+1].next {
		mark := len(d.out)
		d.key(d.new.value(key), start)
		old, ok := find.value(d.new.key(key))
		if !ok {
			d.literal(key + 1)
			continue
		}
		found++
		if !d.value(old, key+1) {
			d.out = d.out[:mark]
		}
	}
	if found < d.old.members(o) {
		d.deletions(o, n, start)
	}
	return d.close(start)
}

// deletions writes the deletion of the members of o that n does not have.
func (d *differ) deletions(o, n uint32, start int) {
	find := finder{t: d.new, object: n, next: n + 1}
	for key := o + 1; key < d.old.nodes[o].next; key = d.old.nodes[key+1].next {
		if _, ok := find.value(d.old.key(key)); !ok {
			d.key(d.old.value(key), start)
			d.out = append(d.out, "[]"...)
		}
	}
}

// key begins a member of the object that started at start. raw is the key with its quotes.
func (d *differ) key(raw []byte, start int) {
	d.separate(start)
	d.out = append(append(d.out, raw...), ':')
}

// index begins a member for an element of an array: "12": or, with the suffix -, "12-":.
func (d *differ) index(i int, suffix string, start int) {
	d.separate(start)
	d.out = strconv.AppendInt(append(d.out, '"'), int64(i), 10)
	d.out = append(append(d.out, suffix...), '"', ':')
}

func (d *differ) separate(start int) {
	if len(d.out) == start {
		d.out = append(d.out, '{')
	} else {
		d.out = append(d.out, ',')
	}
}

// close ends the object that started at start, if it has members.
func (d *differ) close(start int) bool {
	if len(d.out) == start {
		return false
	}
	d.out = append(d.out, '}')
	return true
}

// array writes changes of single elements up to a point and replaces the rest from there on; where that point
// is best is found on the way.
func (d *differ) array(o, n uint32) bool {
	old, new := o+1, n+1
	oldEnd, newEnd := d.old.nodes[o].next, d.new.nodes[n].next
	if old == oldEnd || new == newEnd {
		if old == oldEnd && new == newEnd {
			return false
		}
		d.literal(n)
		return true
	}
	start := len(d.out)
	whole := len(d.new.value(n)) + len("[]")
	best := cut{size: whole, element: n}
	i := 0
	for ; old < oldEnd && new < newEnd; i++ {
		mark := len(d.out)
		d.index(i, "", start)
		if d.value(old, new) {
			best.consider(mark-start+d.restSize(n, new, i), mark, i, new)
		} else {
			d.out = d.out[:mark]
		}
		if len(d.out)-start > whole { // no way to be shorter than what was found
			return d.rest(n, start, best)
		}
		old, new = d.old.nodes[old].next, d.new.nodes[new].next
	}
	if old < oldEnd || new < newEnd {
		best.consider(len(d.out)-start+d.restSize(n, new, i), len(d.out), i, new)
		return d.rest(n, start, best)
	}
	if len(d.out) > start && best.size < len(d.out)-start+len("}") {
		return d.rest(n, start, best)
	}
	return d.close(start)
}

// cut is a way to write the delta of an array: what was written up to mark, and from element index on the rest.
// element is the array itself for all of it, taken literally.
type cut struct {
	size    int
	mark    int
	index   int
	element uint32
}

func (c *cut) consider(size, mark, index int, element uint32) {
	if size < c.size {
		*c = cut{size, mark, index, element}
	}
}

// restSize returns how long the replacement of the array n from an element on would be.
func (d *differ) restSize(n, element uint32, index int) int {
	const around = len(`,"-":[]}`)
	size := around + len(strconv.Itoa(index))
	if element < d.new.nodes[n].next {
		size += int(d.new.nodes[n].end-d.new.nodes[element].start) - len("]")
	}
	return size
}

// rest writes the delta of the array n by the cut.
func (d *differ) rest(n uint32, start int, c cut) bool {
	if c.element == n {
		d.out = d.out[:start]
		d.literal(n)
		return true
	}
	d.out = d.out[:c.mark]
	d.index(c.index, "-", start)
	d.out = append(d.out, '[')
	if c.element < d.new.nodes[n].next {
		d.out = append(d.out, d.new.raw[d.new.nodes[c.element].start:d.new.nodes[n].end-1]...)
	}
	d.out = append(d.out, ']', '}')
	return true
}

// finder finds the values of an object's members. It is quick where they are asked for in their order.
type finder struct {
	t      *tree
	object uint32
	next   uint32            // the key behind the one found last
	byKey  map[string]uint32 // all keys; nil until it is needed
}

// value returns the value of the member with that key.
func (f *finder) value(key []byte) (value uint32, ok bool) {
	end := f.t.nodes[f.object].next
	if f.next < end && bytes.Equal(f.t.key(f.next), key) {
		value = f.next + 1
		f.next = f.t.nodes[value].next
		return value, true
	}
	if f.byKey == nil {
		f.byKey = map[string]uint32{}
		for at := f.object + 1; at < end; at = f.t.nodes[at+1].next {
			f.byKey[string(f.t.key(at))] = at
		}
	}
	at, ok := f.byKey[string(key)]
	if !ok {
		return 0, false
	}
	f.next = f.t.nodes[at+1].next
	return at + 1, true
}
