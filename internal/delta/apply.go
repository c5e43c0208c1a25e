package delta

import (
	"bytes"
	"slices"

	"github.com/tidegate/tidegate"
)

// Apply returns what the delta makes of the old document. old is a JSON object that was checked when it was
// stored and is not checked again; delta is what a peer sent, and is. Members that the old document has keep
// their order and what is not changed keeps its bytes; new members follow in the order of the delta.
//
// Errors: ErrDelta with a reason if the delta is malformed, breaks a limit on depth, or does not fit the old
// document; ErrTooLarge; ErrBase.
func Apply(old, delta []byte, lim Limits) ([]byte, error) {
	lim = lim.withDefaults()
	if len(old) > lim.Bytes || len(delta) > lim.Bytes {
		return nil, ErrTooLarge
	}
	t, err := parseDelta(delta, lim)
	if err != nil {
		return nil, err
	}
	start := skipSpace(old, 0)
	if start == len(old) || old[start] != '{' {
		return nil, ErrBase
	}
	a := applier{old: old, t: t, out: make([]byte, 0, len(old)+len(delta))}
	end, err := a.object(start, 0)
	if err != nil {
		return nil, err
	}
	if skipSpace(old, end) != len(old) {
		return nil, ErrBase
	}
	if len(a.out) > lim.Bytes {
		return nil, ErrTooLarge
	}
	return a.out, nil
}

// applier writes the result in one pass over the old document. The methods that take a position in it return
// that of the byte behind what they read.
type applier struct {
	old []byte
	t   *tree // the delta
	out []byte
}

// form is what a delta value does.
type form uint8

const (
	formLiteral form = iota // the result is known without the old value
	formDelete
	formPatch // a text patch
	formInto  // an object: changes inside the old value
)

// form returns what a delta value does, and its operand: the literal value, or the string of a text patch.
func (a *applier) form(delta uint32) (f form, operand uint32, err error) {
	switch a.t.nodes[delta].kind {
	case kindObject:
		return formInto, delta, nil
	case kindArray:
	default:
		return formLiteral, delta, nil
	}
	elements, n := a.t.elements(delta)
	switch n {
	case 0:
		return formDelete, 0, nil
	case 1:
		return formLiteral, elements[0], nil
	case 2: // the old value and the new one
		return formLiteral, elements[1], nil
	case 3:
		second, third := string(a.t.value(elements[1])), string(a.t.value(elements[2]))
		switch {
		case second == "0" && third == "0":
			return formDelete, 0, nil
		case second == "0" && third == "2" && a.t.nodes[elements[0]].kind == kindString:
			return formPatch, elements[0], nil
		}
	}
	return 0, 0, invalid("no such form of an array")
}

// value applies a delta value, which is no deletion, to the old value at i.
func (a *applier) value(i int, f form, operand uint32) (end int, err error) {
	switch f {
	case formLiteral:
		a.out = append(a.out, a.t.value(operand)...)
		return skipValue(a.old, i)
	case formPatch:
		return a.patch(i, operand)
	case formInto:
		switch a.old[i] {
		case '{':
			return a.object(i, operand)
		case '[':
			return a.array(i, operand)
		}
		if a.t.members(operand) == 0 {
			return a.copyValue(i)
		}
		return 0, invalid("changes inside a value that is no object or array")
	}
	return 0, invalid("a deletion outside an object")
}

// copyValue copies the old value at i.
func (a *applier) copyValue(i int) (end int, err error) {
	if end, err = skipValue(a.old, i); err == nil {
		a.out = append(a.out, a.old[i:end]...)
	}
	return end, err
}

// object applies an object of changes to the old object at i.
func (a *applier) object(i int, delta uint32) (end int, err error) {
	changes := a.t.changes(delta)
	start := len(a.out)
	a.out = append(a.out, '{')
	i = skipSpace(a.old, i+1)
	for i < len(a.old) && a.old[i] != '}' {
		if i, err = a.member(i, start, changes); err != nil {
			return 0, err
		}
		if i, err = skipComma(a.old, i, '}'); err != nil {
			return 0, err
		}
	}
	if i == len(a.old) {
		return 0, ErrBase
	}
	for key := delta + 1; key < a.t.nodes[delta].next; key = a.t.nodes[key+1].next {
		if !changes.used(key) {
			if err := a.insert(key, start); err != nil {
				return 0, err
			}
		}
	}
	a.out = append(a.out, '}')
	return i + 1, nil
}

// member copies, changes or leaves out the member at i of the object whose result begins at start.
func (a *applier) member(i, start int, changes *changes) (end int, err error) {
	keyEnd, escaped := skipString(a.old, i)
	if keyEnd == failed {
		return 0, ErrBase
	}
	text, ok := unquote(a.old[i:keyEnd], escaped)
	if !ok {
		return 0, ErrBase
	}
	value := skipSpace(a.old, keyEnd)
	if value == len(a.old) || a.old[value] != ':' {
		return 0, ErrBase
	}
	if value = skipSpace(a.old, value+1); value == len(a.old) {
		return 0, ErrBase
	}
	delta, changed := changes.take(text)
	if !changed {
		a.key(a.old[i:keyEnd], start)
		return a.copyValue(value)
	}
	f, operand, err := a.form(delta)
	if err != nil {
		return 0, err
	}
	if f == formDelete {
		return skipValue(a.old, value)
	}
	a.key(a.old[i:keyEnd], start)
	return a.value(value, f, operand)
}

// insert writes a member that the old object does not have.
func (a *applier) insert(key uint32, start int) error {
	f, operand, err := a.form(key + 1)
	if err != nil {
		return err
	}
	if f != formLiteral {
		return invalid("a change of something that is not there")
	}
	a.key(a.t.value(key), start)
	a.out = append(a.out, a.t.value(operand)...)
	return nil
}

// key begins a member of the object whose result begins at start. raw is the key with its quotes.
func (a *applier) key(raw []byte, start int) {
	a.separate(start)
	a.out = append(append(a.out, raw...), ':')
}

// separate writes a comma unless this is the first of the array or object that begins at start.
func (a *applier) separate(start int) {
	if len(a.out) > start+1 {
		a.out = append(a.out, ',')
	}
}

// patch applies a text patch to the old string at i.
func (a *applier) patch(i int, patch uint32) (end int, err error) {
	if a.old[i] != '"' {
		return 0, invalid("a text patch of a value that is no string")
	}
	end, escaped := skipString(a.old, i)
	if end == failed {
		return 0, ErrBase
	}
	old, ok := unquote(a.old[i:end], escaped)
	if !ok {
		return 0, ErrBase
	}
	text, err := applyPatch(old, a.t.text(patch))
	if err != nil {
		return 0, err
	}
	a.out = tidegate.AppendJSONString(a.out, string(text))
	return end, nil
}

// changes are the members of a delta object, to be found by their keys.
type changes struct {
	t      *tree
	sorted []change
}

// change is one member: the node of its key, and whether it has been applied.
type change struct {
	key  uint32
	used bool
}

func (t *tree) changes(object uint32) *changes {
	c := &changes{t: t, sorted: make([]change, 0, t.members(object))}
	for at := object + 1; at < t.nodes[object].next; at = t.nodes[at+1].next {
		c.sorted = append(c.sorted, change{key: at})
	}
	slices.SortFunc(c.sorted, func(a, b change) int { return bytes.Compare(t.key(a.key), t.key(b.key)) })
	return c
}

// find returns where the change of a key is.
func (c *changes) find(key []byte) (at int, ok bool) {
	return slices.BinarySearchFunc(c.sorted, key, func(one change, key []byte) int { return bytes.Compare(c.t.key(one.key), key) })
}

// take returns the delta value for a key and notes that it was applied.
func (c *changes) take(key []byte) (delta uint32, ok bool) {
	at, ok := c.find(key)
	if !ok {
		return 0, false
	}
	c.sorted[at].used = true
	return c.sorted[at].key + 1, true
}

// used reports whether the member of that key node was applied.
func (c *changes) used(key uint32) bool {
	at, _ := c.find(c.t.key(key))
	return c.sorted[at].used
}
