package script

import (
	"bytes"
	"math"
	"unicode/utf8"

	"github.com/dop251/goja/ast"
)

// method compiles base.name(list) for the methods that the direct evaluator knows.
func (c *compiler) method(left ast.Expression, name string, list []ast.Expression) expr {
	base := c.expr(left)
	if iterate := iterationMethod(name); iterate != nil {
		return c.iteration(base, list, iterate)
	}
	run := plainMethod(name)
	if run == nil || len(list) > 2 {
		c.fail()
		return nothing
	}
	args := c.exprs(list)
	return func(m *machine, f *frame) value {
		m.spend(1)
		v := base(m, f)
		if v.isNullish() {
			return m.fault("TypeError: cannot read property '" + name + "' of " + string(nullish(v)))
		}
		var buf [2]value
		values := buf[:0]
		for _, arg := range args {
			values = append(values, arg(m, f))
		}
		if m.halt != running {
			return value{}
		}
		m.spend(len(v.text) / directBytes)
		return run(m, v, values)
	}
}

// plainMethod is a method without callbacks; it bails for receivers and arguments that it is not made for.
func plainMethod(name string) func(m *machine, v value, args []value) value {
	switch name {
	case "hasOwnProperty":
		return (*machine).hasOwnProperty
	case "toString":
		return func(m *machine, v value, args []value) value {
			if !v.isPrimitive() || len(args) > 0 {
				return m.bail()
			}
			return text(m.toText(v))
		}
	case "indexOf":
		return (*machine).indexOf
	case "includes":
		return func(m *machine, v value, args []value) value {
			if len(args) != 1 || args[0].kind == kindNumber && args[0].num != args[0].num {
				return m.bail() // NaN is found, unlike by indexOf
			}
			return boolean(m.indexOf(v, args).num >= 0)
		}
	case "push":
		return (*machine).appendTo
	case "concat":
		return (*machine).concat
	case "join":
		return (*machine).join
	}
	return stringMethod(name)
}

// stringMethod is a method of strings alone.
func stringMethod(name string) func(m *machine, v value, args []value) value {
	onString := func(run func(m *machine, s []byte, args []value) value) func(m *machine, v value, args []value) value {
		return func(m *machine, v value, args []value) value {
			if v.kind == kindList || v.kind == kindArray {
				if name == "slice" {
					return m.sliceArray(v, args)
				}
			}
			if v.kind != kindString {
				return m.bail()
			}
			return run(m, v.text, args)
		}
	}
	switch name {
	case "startsWith":
		return onString(testWith(bytes.HasPrefix))
	case "endsWith":
		return onString(testWith(bytes.HasSuffix))
	case "split":
		return onString((*machine).split)
	case "toLowerCase":
		return onString(mapASCII(bytes.ToLower))
	case "toUpperCase":
		return onString(mapASCII(bytes.ToUpper))
	case "trim":
		return onString((*machine).trim)
	case "substring", "slice", "substr", "charAt":
		return onString(func(m *machine, s []byte, args []value) value { return m.part(name, s, args) })
	}
	return nil
}

func testWith(test func(s, part []byte) bool) func(m *machine, s []byte, args []value) value {
	return func(m *machine, s []byte, args []value) value {
		if len(args) != 1 || args[0].kind != kindString {
			return m.bail()
		}
		return boolean(test(s, args[0].text))
	}
}

func mapASCII(change func([]byte) []byte) func(m *machine, s []byte, args []value) value {
	return func(m *machine, s []byte, _ []value) value {
		if !isASCII(s) || !m.makeText(len(s)) {
			return m.bail()
		}
		return text(change(s))
	}
}

// trim removes blanks at both ends. Blanks outside ASCII are the engine's.
func (m *machine) trim(s []byte, _ []value) value {
	s = bytes.Trim(s, " \t\n\v\f\r")
	if len(s) > 0 && (s[0] >= utf8.RuneSelf || s[len(s)-1] >= utf8.RuneSelf) {
		return m.bail()
	}
	return text(s)
}

func (m *machine) split(s []byte, args []value) value {
	if len(args) != 1 || args[0].kind != kindString || len(args[0].text) == 0 {
		return m.bail()
	}
	parts := bytes.Split(s, args[0].text)
	m.spend(len(parts))
	elems := make([]value, len(parts))
	for i, p := range parts {
		elems[i] = text(p)
	}
	return value{kind: kindList, heap: &heapObject{elems: elems}}
}

// part is substring, slice, substr and charAt of ASCII strings.
func (m *machine) part(name string, s []byte, args []value) value {
	n := float64(len(s))
	from, ok1 := integer(args, 0, 0)
	to, ok2 := integer(args, 1, n)
	if !isASCII(s) || !ok1 || !ok2 {
		return m.bail()
	}
	switch name {
	case "charAt":
		if !(from >= 0 && from < n) {
			return text(nil)
		}
		to = from + 1
	case "substring":
		from, to = min(max(from, 0), n), min(max(to, 0), n)
		from, to = min(from, to), max(from, to)
	case "slice":
		from, to = fromEnd(from, n), fromEnd(to, n)
	case "substr":
		from = fromEnd(from, n)
		if len(args) < 2 || args[1].kind == kindUndefined {
			to = n
		} else {
			to = min(from+max(to, 0), n)
		}
	}
	if from >= to {
		return text(nil)
	}
	return text(s[int(from):int(to)])
}

// integer reads an index argument; undefined gives the default. ok is false for what is no number.
func integer(args []value, i int, otherwise float64) (n float64, ok bool) {
	v := arg(args, i)
	switch v.kind {
	case kindUndefined:
		return otherwise, true
	case kindNumber:
		if v.num != v.num {
			return 0, true
		}
		return math.Trunc(v.num), true
	}
	return 0, false
}

// fromEnd resolves an index that counts from the end if it is negative.
func fromEnd(i, n float64) float64 {
	if i < 0 {
		return max(i+n, 0)
	}
	return min(i, n)
}

func (m *machine) hasOwnProperty(v value, args []value) value {
	key := arg(args, 0)
	if v.kind != kindRoot && v.kind != kindObject && v.kind != kindTable || !key.isPrimitive() {
		return m.bail()
	}
	if _, shadowed := m.own(v, []byte("hasOwnProperty")); shadowed {
		return m.bail()
	}
	_, has := m.own(v, m.toText(key))
	return boolean(has)
}

// indexOf is the method of arrays and of strings.
func (m *machine) indexOf(v value, args []value) value {
	if len(args) != 1 {
		return m.bail()
	}
	wanted := args[0]
	switch v.kind {
	case kindArray, kindList:
		for i, e := range m.elements(v) {
			if m.spend(1); m.halt != running {
				return value{}
			}
			if strictEqual(e, wanted) {
				return number(float64(i))
			}
		}
		return number(-1)
	case kindString:
		if wanted.kind != kindString {
			return m.bail()
		}
		i := bytes.Index(v.text, wanted.text)
		if i < 0 {
			return number(-1)
		}
		return number(float64(utf16Len(v.text[:i])))
	}
	return m.bail()
}

// appendTo is push, on arrays that the script made.
func (m *machine) appendTo(v value, args []value) value {
	if v.kind != kindList {
		return m.bail()
	}
	m.spend(1)
	v.heap.elems = append(v.heap.elems, args...)
	return number(float64(len(v.heap.elems)))
}

// concat is the method of arrays.
func (m *machine) concat(v value, args []value) value {
	if v.kind != kindArray && v.kind != kindList {
		return m.bail()
	}
	elems := append([]value(nil), m.elements(v)...)
	for _, a := range args {
		switch {
		case a.kind == kindArray || a.kind == kindList:
			elems = append(elems, m.elements(a)...)
		default:
			elems = append(elems, a)
		}
	}
	m.spend(len(elems))
	return value{kind: kindList, heap: &heapObject{elems: elems}}
}

func (m *machine) sliceArray(v value, args []value) value {
	elems := m.elements(v)
	n := float64(len(elems))
	from, ok1 := integer(args, 0, 0)
	to, ok2 := integer(args, 1, n)
	if !ok1 || !ok2 {
		return m.bail()
	}
	from, to = fromEnd(from, n), fromEnd(to, n)
	var part []value
	if from < to {
		part = append(part, elems[int(from):int(to)]...)
	}
	m.spend(len(part))
	return value{kind: kindList, heap: &heapObject{elems: part}}
}

// join is the method of arrays whose elements are primitive.
func (m *machine) join(v value, args []value) value {
	between := []byte(",")
	switch a := arg(args, 0); {
	case v.kind != kindArray && v.kind != kindList || len(args) > 1:
		return m.bail()
	case a.kind == kindString:
		between = a.text
	case a.kind != kindUndefined:
		return m.bail()
	}
	var out []byte
	for i, e := range m.elements(v) {
		if i > 0 {
			out = append(out, between...)
		}
		if !e.isNullish() {
			out = append(out, m.toText(e)...)
		}
		if m.spend(1); m.halt != running || len(out) > directText {
			return m.bail()
		}
	}
	m.makeText(len(out))
	return text(out)
}

// callback calls the function that an iteration method was given, with an element and its index.
type callback func(e value, i int) value

// iterationMethod is an array method that calls a function for each element. It sees the elements as they are when
// their turn comes, and no more of them than there were at the start.
func iterationMethod(name string) func(m *machine, v value, call callback) value {
	switch name {
	case "forEach":
		return func(m *machine, v value, call callback) value {
			m.each(v, func(e value, i int) bool { call(e, i); return true })
			return value{}
		}
	case "map":
		return func(m *machine, v value, call callback) value {
			out := &heapObject{}
			m.each(v, func(e value, i int) bool { out.elems = append(out.elems, call(e, i)); return true })
			return value{kind: kindList, heap: out}
		}
	case "filter":
		return func(m *machine, v value, call callback) value {
			out := &heapObject{}
			m.each(v, func(e value, i int) bool {
				if call(e, i).truthy() {
					out.elems = append(out.elems, e)
				}
				return true
			})
			return value{kind: kindList, heap: out}
		}
	case "some", "every":
		stop := name == "some"
		return func(m *machine, v value, call callback) value {
			result := !stop
			m.each(v, func(e value, i int) bool {
				if call(e, i).truthy() == stop {
					result = stop
				}
				return result != stop
			})
			return boolean(result)
		}
	}
	return nil
}

// each calls f for the elements of an array until it returns false.
func (m *machine) each(v value, f func(e value, i int) bool) {
	n := len(m.elements(v))
	for i := range n {
		elems := m.elements(v)
		if m.spend(1); m.halt != running || i >= len(elems) || !f(elems[i], i) {
			return
		}
	}
}

// iteration compiles an iteration method whose argument is a function written in its place or declared by name.
func (c *compiler) iteration(base expr, list []ast.Expression, iterate func(*machine, value, callback) value) expr {
	if len(list) != 1 {
		c.fail()
		return nothing
	}
	var code *function
	hops := 0
	switch e := list[0].(type) {
	case *ast.FunctionLiteral:
		if parts, ok := partsOfFunction(e); ok && e.Name == nil {
			code = c.function(parts)
		}
	case *ast.ArrowFunctionLiteral:
		if parts, ok := partsOfArrow(e); ok {
			code = c.function(parts)
		}
	case *ast.Identifier:
		if v := c.lookup(e.Name.String()); v != nil && v.code != nil {
			code, hops = v.code, c.fn.depth-v.owner.depth
		}
	}
	if code == nil {
		c.fail()
		return nothing
	}
	return func(m *machine, f *frame) value {
		m.spend(1)
		v := base(m, f)
		switch {
		case v.isNullish():
			return m.fault("TypeError: cannot read a method of " + string(nullish(v)))
		case v.kind != kindArray && v.kind != kindList:
			return m.bail()
		case m.halt != running:
			return value{}
		}
		outer := f.at(hops)
		return iterate(m, v, func(e value, i int) value {
			args := [3]value{e, number(float64(i)), v}
			return m.invoke(code, outer, args[:])
		})
	}
}
