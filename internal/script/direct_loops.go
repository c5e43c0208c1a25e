package script

import (
	"github.com/dop251/goja/ast"
)

// loopStatement compiles loops and switch.
func (c *compiler) loopStatement(s ast.Statement) exec {
	c.loops++
	defer func() { c.loops-- }()
	switch s := s.(type) {
	case *ast.ForStatement:
		return c.forStatement(s)
	case *ast.WhileStatement:
		return loop(nil, c.expr(s.Test), nil, c.statement(s.Body), false)
	case *ast.DoWhileStatement:
		return loop(nil, c.expr(s.Test), nil, c.statement(s.Body), true)
	case *ast.ForInStatement:
		return c.forEach(s.Into, s.Source, s.Body, (*machine).propertyNames)
	case *ast.ForOfStatement:
		return c.forEach(s.Into, s.Source, s.Body, nil)
	case *ast.SwitchStatement:
		return c.switchStatement(s)
	}
	c.fail()
	return nil
}

func (c *compiler) forStatement(s *ast.ForStatement) exec {
	c.openBlock()
	defer c.closeBlock()
	var start exec
	switch init := s.Initializer.(type) {
	case nil:
	case *ast.ForLoopInitializerExpression:
		e := c.expr(init.Expression)
		start = func(m *machine, f *frame) control {
			e(m, f)
			return goOn
		}
	case *ast.ForLoopInitializerVarDeclList:
		start = c.bindings(init.List, false)
	case *ast.ForLoopInitializerLexicalDecl:
		d := &init.LexicalDeclaration
		c.lexicals([]ast.Statement{d})
		start = c.statements([]ast.Statement{d})
	default:
		c.fail()
	}
	var test, update expr
	if s.Test != nil {
		test = c.expr(s.Test)
	}
	if s.Update != nil {
		update = c.expr(s.Update)
	}
	return loop(start, test, update, c.statement(s.Body), false)
}

// loop is for, while and do. Any part may be nil.
func loop(start exec, test, update expr, body exec, bodyFirst bool) exec {
	return func(m *machine, f *frame) control {
		if start != nil {
			start(m, f)
		}
		for first := bodyFirst; m.halt == running; first = false {
			if !first && test != nil && !test(m, f).truthy() {
				return goOn
			}
			if ctl := runBody(m, f, body); ctl == leaveFunction {
				return ctl
			} else if ctl == leaveLoop {
				return goOn
			}
			if update != nil {
				update(m, f)
			}
		}
		return leaveFunction
	}
}

// runBody runs one round of a loop.
func runBody(m *machine, f *frame, body exec) control {
	if m.spend(1); m.halt != running {
		return leaveFunction
	}
	if body == nil {
		return goOn
	}
	return body(m, f)
}

// forEach compiles for-in, with the names of the source's members, and for-of over arrays, with its elements.
func (c *compiler) forEach(into ast.ForInto, source ast.Expression, body ast.Statement, names func(*machine, value) []value) exec {
	list := c.expr(source) // the loop's variable is not visible here, except as unset
	c.openBlock()
	defer c.closeBlock()
	var id *ast.Identifier
	switch into := into.(type) {
	case *ast.ForIntoVar:
		if into.Binding.Initializer == nil {
			id, _ = into.Binding.Target.(*ast.Identifier)
		}
	case *ast.ForDeclaration:
		if id, _ = into.Target.(*ast.Identifier); id != nil {
			if c.lookup(id.Name.String()) != nil {
				c.fail() // the source may mean the other one, which is not visible to it
			}
			c.declare(id.Name.String(), false, into.IsConst)
		}
	}
	if id == nil {
		c.fail()
		return nil
	}
	v := c.lookup(id.Name.String())
	if v == nil || v.owner != c.fn || v.code != nil {
		c.fail()
		return nil
	}
	slot, step := v.slot, c.statement(body)
	return func(m *machine, f *frame) control {
		next := eachOf(m, list(m, f), names)
		for item, ok := next(); ok; item, ok = next() {
			f.slots[slot] = item
			if ctl := runBody(m, f, step); ctl == leaveFunction {
				return ctl
			} else if ctl == leaveLoop {
				return goOn
			}
		}
		return goOn
	}
}

// eachOf gives what a loop goes through: the names of v's members, taken at the start; or, if names is nil, the
// elements of the array v as they are when their turn comes.
func eachOf(m *machine, v value, names func(*machine, value) []value) func() (value, bool) {
	i := -1
	none := func() (value, bool) { return value{}, false }
	switch {
	case m.halt != running:
		return none
	case names != nil && v.isNullish():
		return none // for-in over nothing has no rounds
	case names != nil:
		if v.kind == kindList {
			m.bail() // elements may go while the loop runs
			return none
		}
		list := names(m, v)
		return func() (value, bool) {
			if i++; i >= len(list) || m.halt != running {
				return value{}, false
			}
			return list[i], true
		}
	case v.kind == kindArray || v.kind == kindList:
		return func() (value, bool) {
			list := m.elements(v)
			if i++; i >= len(list) || m.halt != running {
				return value{}, false
			}
			return list[i], true
		}
	case v.isNullish():
		m.fault("TypeError: not iterable")
		return none
	default:
		m.bail()
		return none
	}
}

// switchStatement compiles switch: the cases are compared in order by ===, then the default's place counts.
func (c *compiler) switchStatement(s *ast.SwitchStatement) exec {
	on := c.expr(s.Discriminant)
	c.openBlock()
	defer c.closeBlock()
	for _, branch := range s.Body {
		c.lexicals(branch.Consequent)
	}
	unset := c.unsetNames()
	tests := make([]expr, len(s.Body))
	bodies := make([][]exec, len(s.Body))
	for i, branch := range s.Body {
		if branch.Test != nil {
			tests[i] = c.expr(branch.Test)
		}
		for _, step := range branch.Consequent {
			if e := c.statement(step); e != nil {
				bodies[i] = append(bodies[i], e)
			}
		}
	}
	fallback := s.Default
	if fallback < 0 {
		fallback = len(bodies)
	}
	return func(m *machine, f *frame) control {
		v := on(m, f)
		for _, slot := range unset {
			f.slots[slot] = value{kind: kindUnset}
		}
		at := fallback
		for i, test := range tests {
			if test != nil && strictEqual(v, test(m, f)) {
				at = i
				break
			}
		}
		for _, steps := range bodies[min(at, len(bodies)):] {
			for _, step := range steps {
				if m.spend(1); m.halt != running {
					return leaveFunction
				}
				switch ctl := step(m, f); ctl {
				case leaveLoop:
					return goOn
				case nextRound, leaveFunction:
					return ctl
				}
			}
		}
		return goOn
	}
}
