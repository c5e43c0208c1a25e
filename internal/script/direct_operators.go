package script

import (
	"math"

	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/token"
)

// unary compiles operators with one operand.
func (c *compiler) unary(e *ast.UnaryExpression) expr {
	switch e.Operator {
	case token.INCREMENT:
		return c.step(e, 1)
	case token.DECREMENT:
		return c.step(e, -1)
	}
	operand := c.expr(e.Operand)
	switch e.Operator {
	case token.NOT:
		return func(m *machine, f *frame) value { return boolean(!operand(m, f).truthy()) }
	case token.TYPEOF:
		return func(m *machine, f *frame) value { return constant(operand(m, f).typeOf()) }
	case token.VOID:
		return func(m *machine, f *frame) value {
			operand(m, f)
			return value{}
		}
	case token.PLUS, token.MINUS:
		negate := e.Operator == token.MINUS
		return func(m *machine, f *frame) value {
			v := operand(m, f)
			if v.kind != kindNumber {
				return m.bail()
			}
			if negate {
				v.num = -v.num
			}
			return v
		}
	}
	c.fail()
	return nothing
}

// step compiles ++ and -- of variables that hold numbers.
func (c *compiler) step(e *ast.UnaryExpression, by float64) expr {
	read, write := c.variable(e.Operand)
	if c.failed {
		return nothing
	}
	postfix := e.Postfix
	return func(m *machine, f *frame) value {
		old := read(m, f)
		if old.kind != kindNumber {
			return m.bail()
		}
		changed := number(old.num + by)
		write(m, f, changed)
		if postfix {
			return old
		}
		return changed
	}
}

// binary compiles operators with two operands.
func (c *compiler) binary(e *ast.BinaryExpression) expr {
	left, right := c.expr(e.Left), c.expr(e.Right)
	switch e.Operator {
	case token.LOGICAL_AND:
		return func(m *machine, f *frame) value {
			if v := left(m, f); !v.truthy() {
				return v
			}
			return right(m, f)
		}
	case token.LOGICAL_OR:
		return func(m *machine, f *frame) value {
			if v := left(m, f); v.truthy() {
				return v
			}
			return right(m, f)
		}
	case token.COALESCE:
		return func(m *machine, f *frame) value {
			if v := left(m, f); !v.isNullish() {
				return v
			}
			return right(m, f)
		}
	}
	op := c.operator(e.Operator)
	return func(m *machine, f *frame) value {
		m.spend(1)
		a := left(m, f)
		return op(m, a, right(m, f))
	}
}

// operator gives the function of an operator that evaluates both operands.
func (c *compiler) operator(t token.Token) func(m *machine, a, b value) value {
	switch t {
	case token.STRICT_EQUAL:
		return func(_ *machine, a, b value) value { return boolean(strictEqual(a, b)) }
	case token.STRICT_NOT_EQUAL:
		return func(_ *machine, a, b value) value { return boolean(!strictEqual(a, b)) }
	case token.EQUAL, token.NOT_EQUAL:
		want := t == token.EQUAL
		return func(m *machine, a, b value) value {
			equal, ok := looseEqual(a, b)
			if !ok {
				return m.bail()
			}
			return boolean(equal == want)
		}
	case token.LESS:
		return ordering(func(order int) bool { return order < 0 })
	case token.GREATER:
		return ordering(func(order int) bool { return order > 0 })
	case token.LESS_OR_EQUAL:
		return ordering(func(order int) bool { return order <= 0 })
	case token.GREATER_OR_EQUAL:
		return ordering(func(order int) bool { return order >= 0 })
	case token.PLUS:
		return (*machine).add
	case token.MINUS:
		return arithmetic(func(a, b float64) float64 { return a - b })
	case token.MULTIPLY:
		return arithmetic(func(a, b float64) float64 { return a * b })
	case token.SLASH:
		return arithmetic(func(a, b float64) float64 { return a / b })
	case token.REMAINDER:
		return arithmetic(math.Mod)
	case token.IN:
		return (*machine).contains
	}
	c.fail()
	return nil
}

func ordering(holds func(order int) bool) func(m *machine, a, b value) value {
	return func(m *machine, a, b value) value {
		m.spend((len(a.text) + len(b.text)) / directBytes)
		order, unordered, ok := compare(a, b)
		if !ok {
			return m.bail()
		}
		return boolean(!unordered && holds(order))
	}
}

func arithmetic(op func(a, b float64) float64) func(m *machine, a, b value) value {
	return func(m *machine, a, b value) value {
		if a.kind != kindNumber || b.kind != kindNumber {
			return m.bail()
		}
		return number(op(a.num, b.num))
	}
}

// add is the + operator on numbers, and on strings with other primitive values.
func (m *machine) add(a, b value) value {
	if m.halt != running {
		return value{}
	}
	switch {
	case a.kind == kindNumber && b.kind == kindNumber:
		return number(a.num + b.num)
	case a.kind == kindString && b.isPrimitive(), b.kind == kindString && a.isPrimitive():
		s, t := m.toText(a), m.toText(b)
		if !m.makeText(len(s) + len(t)) {
			return value{}
		}
		return text(append(append(make([]byte, 0, len(s)+len(t)), s...), t...))
	}
	return m.bail()
}

// contains is the in operator: does object b have a member named a?
func (m *machine) contains(a, b value) value {
	name, ok := a.appendText(nil)
	if !ok || b.kind != kindRoot && b.kind != kindObject && b.kind != kindTable {
		return m.bail()
	}
	if _, has := m.own(b, name); has {
		return boolean(true)
	}
	m.absent(string(name))
	return boolean(false)
}
