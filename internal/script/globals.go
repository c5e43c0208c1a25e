package script

import (
	"reflect"

	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/parser"
	"github.com/dop251/goja/token"
)

const (
	// maxParsedSource and maxParsedNesting bound what our own parser is given: it recurses on the goroutine's
	// stack, which must not overflow. Engines have their own stack limits.
	maxParsedSource  = 32 << 10
	maxParsedNesting = 128
)

// parseSource parses a source that is one expression. It returns nil if the source is anything else, too large, or in
// a newer language than the parser's: then only an engine can judge it.
func parseSource(source string) ast.Expression {
	if len(source) > maxParsedSource || nesting(source) > maxParsedNesting {
		return nil
	}
	program, err := parser.ParseFile(nil, "", "("+source+"\n)", 0, parser.WithDisableSourceMaps)
	if err != nil || len(program.Body) != 1 {
		return nil
	}
	statement, ok := program.Body[0].(*ast.ExpressionStatement)
	if !ok {
		return nil
	}
	return statement.Expression
}

// nesting returns the greatest depth of brackets, those in strings and comments included.
func nesting(source string) int {
	depth, deepest := 0, 0
	for i := range len(source) {
		switch source[i] {
		case '(', '[', '{':
			depth++
			deepest = max(deepest, depth)
		case ')', ']', '}':
			depth--
		}
	}
	return deepest
}

// mayAddGlobals reports whether calling fn may add properties to the global object: it assigns a variable that it
// does not declare, or does something whose effect cannot be seen in the source. It errs on the side of true.
// It is not a guard (the prelude does not depend on it for safety): an answer of false lets a runtime close its
// global object, which saves looking at it after each call.
func mayAddGlobals(fn ast.Expression) bool {
	if fn == nil {
		return true
	}
	w := scopeWalker{}
	w.walk(reflect.ValueOf(fn))
	return w.globals
}

// scope is the names declared in a function or block.
type scope struct {
	outer *scope
	names map[string]bool
}

func (s *scope) has(name string) bool {
	for ; s != nil; s = s.outer {
		if s.names[name] {
			return true
		}
	}
	return false
}

// scopeWalker visits a syntax tree and looks for writes to names that no scope declares.
type scopeWalker struct {
	scope   *scope
	globals bool
}

var nodeType = reflect.TypeFor[ast.Node]()

// walk visits v and everything below it.
func (w *scopeWalker) walk(v reflect.Value) {
	switch v.Kind() {
	case reflect.Interface:
		if !v.IsNil() {
			w.walk(v.Elem())
		}
	case reflect.Pointer:
		if v.IsNil() {
			return
		}
		if v.Type().Implements(nodeType) {
			if leave := w.enter(v.Interface().(ast.Node)); leave {
				defer func() { w.scope = w.scope.outer }()
			}
		}
		w.walk(v.Elem())
	case reflect.Slice:
		for i := range v.Len() {
			w.walk(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Name != "DeclarationList" { // its nodes are in the body too
				w.walk(v.Field(i))
			}
		}
	}
}

// enter looks at one node. It reports whether it opened a scope.
func (w *scopeWalker) enter(n ast.Node) (opened bool) {
	switch n := n.(type) {
	case *ast.FunctionLiteral:
		w.open()
		if n.Name != nil {
			w.declare(n.Name)
		}
		w.declare(&ast.Identifier{Name: "arguments"})
		w.function(n.ParameterList, n.DeclarationList)
		return true
	case *ast.ArrowFunctionLiteral:
		w.open()
		w.function(n.ParameterList, n.DeclarationList)
		return true
	case *ast.BlockStatement:
		w.open()
		w.block(n.List)
		return true
	case *ast.SwitchStatement:
		w.open()
		for _, c := range n.Body {
			w.block(c.Consequent)
		}
		return true
	case *ast.CatchStatement:
		w.open()
		w.target(n.Parameter)
		return true
	case *ast.ForStatement:
		w.open()
		if d, ok := n.Initializer.(*ast.ForLoopInitializerLexicalDecl); ok {
			w.bindings(d.LexicalDeclaration.List)
		}
		return true
	case *ast.ForInStatement:
		w.into(n.Into)
		return true
	case *ast.ForOfStatement:
		w.into(n.Into)
		return true
	case *ast.AssignExpression:
		w.written(n.Left)
	case *ast.UnaryExpression:
		if n.Operator == token.INCREMENT || n.Operator == token.DECREMENT || n.Operator == token.DELETE {
			w.written(n.Operand)
		}
	case *ast.WithStatement, *ast.ThisExpression, *ast.ClassStaticBlock:
		w.globals = true
	case *ast.Identifier:
		switch n.Name {
		case "eval", "Function", "globalThis", "Reflect":
			w.globals = true
		}
	}
	return false
}

func (w *scopeWalker) open() { w.scope = &scope{outer: w.scope, names: make(map[string]bool)} }

func (w *scopeWalker) declare(id *ast.Identifier) { w.scope.names[id.Name.String()] = true }

// function declares what a function has: its parameters and its hoisted variables.
func (w *scopeWalker) function(params *ast.ParameterList, vars []*ast.VariableDeclaration) {
	if params != nil {
		w.bindings(params.List)
		if params.Rest != nil {
			w.target(params.Rest)
		}
	}
	for _, v := range vars {
		w.bindings(v.List)
	}
}

// block declares the lexical names of a list of statements.
func (w *scopeWalker) block(list []ast.Statement) {
	for _, s := range list {
		switch s := s.(type) {
		case *ast.LexicalDeclaration:
			w.bindings(s.List)
		case *ast.FunctionDeclaration:
			w.declare(s.Function.Name)
		case *ast.ClassDeclaration:
			w.declare(s.Class.Name)
		}
	}
}

func (w *scopeWalker) bindings(list []*ast.Binding) {
	for _, b := range list {
		w.target(b.Target)
	}
}

// target declares a simple name; patterns are not followed.
func (w *scopeWalker) target(t any) {
	switch t := t.(type) {
	case nil:
	case *ast.Identifier:
		w.declare(t)
	default:
		w.globals = true
	}
}

func (w *scopeWalker) into(into ast.ForInto) {
	w.open()
	switch into := into.(type) {
	case *ast.ForIntoVar: // hoisted
	case *ast.ForDeclaration:
		w.target(into.Target)
	case *ast.ForIntoExpression:
		w.written(into.Expression)
	}
}

// written notes that an expression is assigned to.
func (w *scopeWalker) written(e ast.Expression) {
	switch e := e.(type) {
	case *ast.DotExpression, *ast.BracketExpression:
	case *ast.Identifier:
		if !w.scope.has(e.Name.String()) {
			w.globals = true
		}
	default:
		w.globals = true
	}
}
