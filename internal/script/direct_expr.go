package script

import (
	"strings"

	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/token"
	"github.com/dop251/goja/unistring"
)

// nothing is the expression of constructs that are not compiled.
func nothing(*machine, *frame) value { return value{} }

func (c *compiler) exprs(list []ast.Expression) []expr {
	out := make([]expr, len(list))
	for i, e := range list {
		out[i] = c.expr(e)
	}
	return out
}

// expr compiles an expression.
func (c *compiler) expr(e ast.Expression) expr {
	if c.nodes++; c.nodes > maxDirectNodes {
		c.fail()
	}
	if c.failed {
		return nothing
	}
	switch e := e.(type) {
	case *ast.StringLiteral:
		return c.literal(text(c.stringOf(e.Value)))
	case *ast.NumberLiteral:
		return c.numberLiteral(e)
	case *ast.BooleanLiteral:
		return c.literal(boolean(e.Value))
	case *ast.NullLiteral:
		return c.literal(value{kind: kindNull})
	case *ast.Identifier:
		return c.identifier(e)
	case *ast.DotExpression:
		return c.dot(e)
	case *ast.BracketExpression:
		return c.bracket(e)
	case *ast.CallExpression:
		return c.call(e)
	case *ast.BinaryExpression:
		return c.binary(e)
	case *ast.UnaryExpression:
		return c.unary(e)
	case *ast.AssignExpression:
		return c.assign(e)
	}
	return c.composite(e)
}

// composite compiles expressions made of several others.
func (c *compiler) composite(e ast.Expression) expr {
	switch e := e.(type) {
	case *ast.ConditionalExpression:
		test, then, otherwise := c.expr(e.Test), c.expr(e.Consequent), c.expr(e.Alternate)
		return func(m *machine, f *frame) value {
			if test(m, f).truthy() {
				return then(m, f)
			}
			return otherwise(m, f)
		}
	case *ast.SequenceExpression:
		list := c.exprs(e.Sequence)
		return func(m *machine, f *frame) (v value) {
			for _, e := range list {
				v = e(m, f)
			}
			return v
		}
	case *ast.ArrayLiteral:
		return c.arrayLiteral(e)
	case *ast.ObjectLiteral:
		return c.objectLiteral(e)
	case *ast.TemplateLiteral:
		return c.template(e)
	}
	c.fail()
	return nothing
}

func (c *compiler) literal(v value) expr {
	return func(*machine, *frame) value { return v }
}

// stringOf gives a string of the source in UTF-8. Strings with half a surrogate pair are not compiled.
func (c *compiler) stringOf(u unistring.String) []byte {
	s := u.String()
	if strings.ContainsRune(s, '\uFFFD') {
		c.fail()
	}
	return []byte(s)
}

func (c *compiler) numberLiteral(e *ast.NumberLiteral) expr {
	switch n := e.Value.(type) {
	case int64:
		return c.literal(number(float64(n)))
	case float64:
		return c.literal(number(n))
	}
	c.fail()
	return nothing
}

func (c *compiler) identifier(e *ast.Identifier) expr {
	name := e.Name.String()
	v := c.lookup(name)
	switch {
	case v == nil && name == "undefined":
		return c.literal(value{})
	case v == nil, v.code != nil: // an engine's global, or a function used as a value
		c.fail()
		return nothing
	}
	slot, hops := v.slot, c.fn.depth-v.owner.depth
	switch {
	case v.lexical:
		return func(m *machine, f *frame) value {
			v := f.at(hops).slots[slot]
			if v.kind == kindUnset {
				return m.bail()
			}
			return v
		}
	case hops == 0:
		return func(_ *machine, f *frame) value { return f.slots[slot] }
	}
	return func(_ *machine, f *frame) value { return f.at(hops).slots[slot] }
}

// dot compiles base.name. Members of doc, oldDoc and meta are found through the key table.
func (c *compiler) dot(e *ast.DotExpression) expr {
	base, name := c.expr(e.Left), e.Identifier.Name.String()
	key, known := c.program.keys.id(name)
	return func(m *machine, f *frame) value {
		m.spend(1)
		v := base(m, f)
		if v.kind == kindRoot && known && m.halt == running {
			return m.rootMember(v.root, key)
		}
		return m.member(v, name)
	}
}

func (c *compiler) bracket(e *ast.BracketExpression) expr {
	base, key := c.expr(e.Left), c.expr(e.Member)
	return func(m *machine, f *frame) value {
		m.spend(1)
		v := base(m, f)
		return m.index(v, key(m, f))
	}
}

func (c *compiler) arrayLiteral(e *ast.ArrayLiteral) expr {
	for _, v := range e.Value {
		if v == nil {
			c.fail() // a hole
			return nothing
		}
	}
	list := c.exprs(e.Value)
	return func(m *machine, f *frame) value {
		m.spend(1 + len(list)/4)
		elems := make([]value, len(list))
		for i, e := range list {
			elems[i] = e(m, f)
		}
		return value{kind: kindList, heap: &heapObject{elems: elems}}
	}
}

func (c *compiler) objectLiteral(e *ast.ObjectLiteral) expr {
	names := make([]string, 0, len(e.Value))
	values := make([]expr, 0, len(e.Value))
	for _, p := range e.Value {
		var name []byte
		switch p := p.(type) {
		case *ast.PropertyKeyed:
			key, ok := p.Key.(*ast.StringLiteral)
			if !ok || p.Kind != ast.PropertyKindValue || p.Computed {
				c.fail()
				return nothing
			}
			name = c.stringOf(key.Value)
			values = append(values, c.expr(p.Value))
		case *ast.PropertyShort:
			if p.Initializer != nil {
				c.fail()
				return nothing
			}
			name = []byte(p.Name.Name.String())
			values = append(values, c.identifier(&p.Name))
		default:
			c.fail()
			return nothing
		}
		if isArrayIndex(name) || string(name) == "__proto__" {
			c.fail()
		}
		names = append(names, string(name))
	}
	return func(m *machine, f *frame) value {
		m.spend(1 + len(names)/4)
		table := &heapObject{keys: make([]string, 0, len(names)), elems: make([]value, 0, len(names))}
		for i, name := range names {
			m.setMember(table, name, values[i](m, f))
		}
		return value{kind: kindTable, heap: table}
	}
}

func (c *compiler) template(e *ast.TemplateLiteral) expr {
	if e.Tag != nil {
		c.fail()
		return nothing
	}
	parts := make([][]byte, len(e.Elements))
	for i, p := range e.Elements {
		parts[i] = c.stringOf(p.Parsed)
	}
	values := c.exprs(e.Expressions)
	return func(m *machine, f *frame) value {
		out := append([]byte(nil), parts[0]...)
		for i, e := range values {
			out = append(out, m.toText(e(m, f))...)
			out = append(out, parts[i+1]...)
			if !m.makeText(len(out)) {
				return value{}
			}
		}
		m.makeText(len(out))
		return text(out)
	}
}

// variable compiles reading and writing a variable that is assigned to.
func (c *compiler) variable(e ast.Expression) (read expr, write func(*machine, *frame, value)) {
	id, ok := e.(*ast.Identifier)
	if !ok {
		c.fail()
		return nil, nil
	}
	v := c.lookup(id.Name.String())
	if v == nil || v.fixed || v.code != nil {
		c.fail()
		return nil, nil
	}
	slot, hops, lexical := v.slot, c.fn.depth-v.owner.depth, v.lexical
	return c.identifier(id), func(m *machine, f *frame, w value) {
		at := f.at(hops)
		if lexical && at.slots[slot].kind == kindUnset {
			m.bail()
			return
		}
		at.slots[slot] = w
	}
}

func (c *compiler) assign(e *ast.AssignExpression) expr {
	switch left := e.Left.(type) {
	case *ast.Identifier:
		read, write := c.variable(left)
		right := c.expr(e.Right)
		if c.failed {
			return nothing
		}
		if e.Operator == token.ASSIGN {
			return func(m *machine, f *frame) value {
				v := right(m, f)
				write(m, f, v)
				return v
			}
		}
		op := c.operator(e.Operator)
		return func(m *machine, f *frame) value {
			old := read(m, f)
			v := op(m, old, right(m, f))
			write(m, f, v)
			return v
		}
	case *ast.DotExpression:
		name := text([]byte(left.Identifier.Name.String()))
		return c.assignMember(e, left.Left, c.literal(name))
	case *ast.BracketExpression:
		return c.assignMember(e, left.Left, c.expr(left.Member))
	}
	c.fail()
	return nothing
}

// assignMember compiles base[key] = right; it works for what the script made itself.
func (c *compiler) assignMember(e *ast.AssignExpression, left ast.Expression, key expr) expr {
	base, right := c.expr(left), c.expr(e.Right)
	if e.Operator != token.ASSIGN {
		c.fail()
		return nothing
	}
	return func(m *machine, f *frame) value {
		m.spend(1)
		b := base(m, f)
		k := key(m, f)
		v := right(m, f)
		m.set(b, k, v)
		return v
	}
}
