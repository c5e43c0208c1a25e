package script

import (
	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/token"
)

// expr evaluates an expression, exec a statement. Both are closures made once from the syntax tree.
type (
	expr func(m *machine, f *frame) value
	exec func(m *machine, f *frame) control
)

// control tells what follows a statement.
type control uint8

const (
	goOn control = iota
	leaveLoop
	nextRound
	leaveFunction
)

// function is a compiled function: the main one, one declared in it, or a callback.
type function struct {
	outer  *function
	depth  int // how many functions are around it
	params int
	slots  int // parameters and variables
	body   exec
}

// compiler turns a syntax tree into closures. It gives up, by setting failed, at the first construct that the direct
// evaluator does not do; the program then belongs to an engine alone.
type compiler struct {
	program *directProgram
	failed  bool
	fn      *function
	block   *blockScope
	loops   int // loops and switches around, in this function
	nodes   int
}

// maxDirectNodes bounds the size of a program, since loops count statements and not what these hold.
const maxDirectNodes = 4000

// blockScope is the names declared in a function or a block.
type blockScope struct {
	outer *blockScope
	vars  map[string]*variable
}

// variable is a declared name.
type variable struct {
	owner   *function
	slot    int
	lexical bool // let or const: reading it before its declaration is an error
	fixed   bool // const
	code    *function
}

// fail gives the program up.
func (c *compiler) fail() {
	c.failed = true
}

func (c *compiler) lookup(name string) *variable {
	for b := c.block; b != nil; b = b.outer {
		if v := b.vars[name]; v != nil {
			return v
		}
	}
	return nil
}

func (c *compiler) openBlock() {
	c.block = &blockScope{outer: c.block, vars: make(map[string]*variable)}
}

func (c *compiler) closeBlock() { c.block = c.block.outer }

// declare adds a name to the innermost scope. A name that is there already must be a plain variable both times.
func (c *compiler) declare(name string, lexical, fixed bool) *variable {
	if old := c.block.vars[name]; old != nil {
		if lexical || old.lexical || old.code != nil {
			c.fail()
		}
		return old
	}
	v := &variable{owner: c.fn, slot: c.fn.slots, lexical: lexical, fixed: fixed}
	c.fn.slots++
	c.block.vars[name] = v
	return v
}

// functionParts is what the kinds of function syntax have in common.
type functionParts struct {
	params *ast.ParameterList
	vars   []*ast.VariableDeclaration
	body   []ast.Statement
	result ast.Expression // of an arrow function without braces
}

func partsOfFunction(fn *ast.FunctionLiteral) (functionParts, bool) {
	ok := !fn.Async && !fn.Generator
	return functionParts{params: fn.ParameterList, vars: fn.DeclarationList, body: fn.Body.List}, ok
}

func partsOfArrow(fn *ast.ArrowFunctionLiteral) (functionParts, bool) {
	p := functionParts{params: fn.ParameterList, vars: fn.DeclarationList}
	switch body := fn.Body.(type) {
	case *ast.BlockStatement:
		p.body = body.List
	case *ast.ExpressionBody:
		p.result = body.Expression
	}
	return p, !fn.Async
}

// function compiles a function that stands inside the current one, or the main function.
func (c *compiler) function(p functionParts) *function {
	fn := &function{outer: c.fn}
	if c.fn != nil {
		fn.depth = c.fn.depth + 1
	}
	outer, loops := c.fn, c.loops
	c.fn, c.loops = fn, 0
	c.openBlock()
	defer func() {
		c.closeBlock()
		c.fn, c.loops = outer, loops
	}()
	if p.params.Rest != nil {
		c.fail()
		return fn
	}
	for _, b := range p.params.List {
		id, ok := b.Target.(*ast.Identifier)
		if !ok || b.Initializer != nil || c.block.vars[id.Name.String()] != nil {
			c.fail()
			return fn
		}
		c.declare(id.Name.String(), false, false)
	}
	fn.params = len(p.params.List)
	for _, d := range p.vars {
		for _, b := range d.List {
			if id, ok := b.Target.(*ast.Identifier); ok {
				c.declare(id.Name.String(), false, false)
			} else {
				c.fail()
			}
		}
	}
	if p.result != nil {
		result := c.expr(p.result)
		fn.body = func(m *machine, f *frame) control {
			m.returns = result(m, f)
			return leaveFunction
		}
		return fn
	}
	c.functionDeclarations(p.body)
	fn.body = c.statements(p.body)
	return fn
}

// functionDeclarations compiles the functions declared directly in a function's body, which its whole body sees.
func (c *compiler) functionDeclarations(body []ast.Statement) {
	var declared []*variable
	for _, s := range body {
		if d, ok := s.(*ast.FunctionDeclaration); ok {
			name := d.Function.Name.Name.String()
			if c.block.vars[name] != nil {
				c.fail() // declared twice, or also a variable
				return
			}
			v := c.declare(name, false, false)
			v.code = &function{outer: c.fn, depth: c.fn.depth + 1}
			declared = append(declared, v)
		}
	}
	c.lexicals(body) // the functions may name them
	for _, s := range body {
		if d, ok := s.(*ast.FunctionDeclaration); ok {
			parts, ok := partsOfFunction(d.Function)
			if !ok || len(declared) == 0 {
				c.fail()
				return
			}
			*declared[0].code = *c.function(parts)
			declared = declared[1:]
		}
	}
}

// lexicals declares the let and const names of a list of statements. It returns their slots.
func (c *compiler) lexicals(list []ast.Statement) {
	for _, s := range list {
		d, ok := s.(*ast.LexicalDeclaration)
		if !ok {
			continue
		}
		for _, b := range d.List {
			if id, ok := b.Target.(*ast.Identifier); ok && c.block.vars[id.Name.String()] == nil {
				c.declare(id.Name.String(), true, d.Token == token.CONST)
			} else {
				c.fail()
			}
		}
	}
}

// statements compiles a list whose names are declared, preceded by making its let and const names unset.
func (c *compiler) statements(list []ast.Statement) exec {
	unset := c.unsetNames()
	var steps []exec
	for _, s := range list {
		if step := c.statement(s); step != nil {
			steps = append(steps, step)
		}
	}
	return func(m *machine, f *frame) control {
		for _, slot := range unset {
			f.slots[slot] = value{kind: kindUnset}
		}
		for _, step := range steps {
			if ctl := step(m, f); ctl != goOn {
				return ctl
			}
			if m.spend(1); m.halt != running {
				return leaveFunction
			}
		}
		return goOn
	}
}

// unsetNames gives the slots of the innermost block's let and const names.
func (c *compiler) unsetNames() []int {
	var slots []int
	for _, v := range c.block.vars {
		if v.lexical {
			slots = append(slots, v.slot)
		}
	}
	return slots
}

// blockOf compiles a list of statements with a scope of its own.
func (c *compiler) blockOf(list []ast.Statement) exec {
	c.openBlock()
	defer c.closeBlock()
	c.lexicals(list)
	return c.statements(list)
}

// statement compiles one statement; nil does nothing.
func (c *compiler) statement(s ast.Statement) exec {
	if c.nodes++; c.nodes > maxDirectNodes {
		c.fail()
	}
	if c.failed {
		return nil
	}
	switch s := s.(type) {
	case *ast.BlockStatement:
		return c.blockOf(s.List)
	case *ast.EmptyStatement:
		return nil
	case *ast.FunctionDeclaration:
		if v := c.block.vars[s.Function.Name.Name.String()]; v == nil || v.code == nil {
			c.fail() // in a block
		}
		return nil
	case *ast.ExpressionStatement:
		e := c.expr(s.Expression)
		return func(m *machine, f *frame) control {
			e(m, f)
			return goOn
		}
	case *ast.VariableStatement:
		return c.bindings(s.List, false)
	case *ast.LexicalDeclaration:
		return c.bindings(s.List, true)
	case *ast.IfStatement:
		return c.ifStatement(s)
	case *ast.ReturnStatement:
		return c.returnStatement(s)
	case *ast.ThrowStatement:
		return c.throwStatement(s)
	case *ast.BranchStatement:
		return c.branchStatement(s)
	}
	return c.loopStatement(s)
}

// bindings compiles var, let and const declarations. Without an initializer a var keeps its value and a let becomes
// undefined.
func (c *compiler) bindings(list []*ast.Binding, lexical bool) exec {
	var steps []exec
	for _, b := range list {
		id, ok := b.Target.(*ast.Identifier)
		if !ok {
			c.fail()
			return nil
		}
		v := c.lookup(id.Name.String())
		if v == nil || v.owner != c.fn {
			c.fail()
			return nil
		}
		slot := v.slot
		switch {
		case b.Initializer != nil:
			e := c.expr(b.Initializer)
			steps = append(steps, func(m *machine, f *frame) control {
				f.slots[slot] = e(m, f)
				return goOn
			})
		case lexical:
			steps = append(steps, func(m *machine, f *frame) control {
				f.slots[slot] = value{}
				return goOn
			})
		}
	}
	if len(steps) == 1 {
		return steps[0]
	}
	return func(m *machine, f *frame) control {
		for _, step := range steps {
			step(m, f)
		}
		return goOn
	}
}

func (c *compiler) ifStatement(s *ast.IfStatement) exec {
	test, then := c.expr(s.Test), c.statement(s.Consequent)
	var otherwise exec
	if s.Alternate != nil {
		otherwise = c.statement(s.Alternate)
	}
	return func(m *machine, f *frame) control {
		branch := otherwise
		if test(m, f).truthy() {
			branch = then
		}
		if branch == nil || m.halt != running {
			return goOn
		}
		return branch(m, f)
	}
}

func (c *compiler) returnStatement(s *ast.ReturnStatement) exec {
	if s.Argument == nil {
		return func(m *machine, f *frame) control {
			m.returns = value{}
			return leaveFunction
		}
	}
	e := c.expr(s.Argument)
	return func(m *machine, f *frame) control {
		m.returns = e(m, f)
		return leaveFunction
	}
}

// throwStatement compiles throw. Without try, which is not compiled, it ends the run.
func (c *compiler) throwStatement(s *ast.ThrowStatement) exec {
	if n, ok := s.Argument.(*ast.NewExpression); ok {
		return c.throwError(n)
	}
	e := c.expr(s.Argument)
	return func(m *machine, f *frame) control {
		m.throw(e(m, f))
		return leaveFunction
	}
}

// throwError compiles throw new Error(…), which is an exception whatever its arguments.
func (c *compiler) throwError(n *ast.NewExpression) exec {
	id, ok := n.Callee.(*ast.Identifier)
	if !ok || id.Name != "Error" || c.lookup("Error") != nil {
		c.fail()
		return nil
	}
	args := c.exprs(n.ArgumentList)
	return func(m *machine, f *frame) control {
		detail := []byte("Error")
		for i, arg := range args {
			if v := arg(m, f); i == 0 {
				if !v.isPrimitive() {
					m.bail()
				}
				detail = append(append(detail, ": "...), m.toText(v)...)
			}
		}
		m.fault(string(detail))
		return leaveFunction
	}
}

func (c *compiler) branchStatement(s *ast.BranchStatement) exec {
	if s.Label != nil || c.loops == 0 {
		c.fail()
		return nil
	}
	ctl := leaveLoop
	if s.Token == token.CONTINUE {
		ctl = nextRound
	}
	return func(*machine, *frame) control { return ctl }
}
