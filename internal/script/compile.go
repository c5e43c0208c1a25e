package script

import (
	"errors"
	"fmt"

	"github.com/tidegate/tidegate"
)

// compiled is what all kinds of functions have in common.
type compiled struct {
	source string         // as configured
	direct *directProgram // nil if the function needs an engine
	pool   *pool
	log    scriptLog
}

// compile compiles code, which stands for the configured source.
func compile(k kind, source, code string, opts Options) (*compiled, error) {
	p := newProgram(k, code)
	f := &compiled{
		source: source,
		pool:   newPool(quickEngine{}, p, opts.Limits),
		log:    newScriptLog(opts.Logger),
	}
	if k != kindResolver { // conflicts are rare
		f.direct = compileDirect(p)
	}
	if err := f.check(); err != nil {
		f.pool.close()
		return nil, err
	}
	return f, nil
}

// check tells whether the source works: it compiles, and it makes a function. What the parser knows to be a function
// needs no runtime for that, which takes milliseconds to make and a megabyte to keep.
func (f *compiled) check() error {
	if err := f.pool.engine.check(f.pool.program, f.pool.limits); err != nil {
		return err
	}
	if _, ok := parseFunction(f.pool.program.source); ok {
		return nil
	}
	return f.pool.check()
}

func (f *compiled) Source() string { return f.source }

func (f *compiled) Close() { f.pool.close() }

// compileError makes the error for the client of what an engine said.
func compileError(what string, err error) error {
	s, ok := errors.AsType[*syntaxError](err)
	switch {
	case !ok:
		return fmt.Errorf("compile %s: %w", what, err)
	case s.Line > 0:
		return tidegate.Errorf(tidegate.Invalid, "Syntax error in %s: line %d, column %d: %s", what, s.Line, s.Column, s.Message)
	default:
		return tidegate.Errorf(tidegate.Invalid, "Syntax error in %s: %s", what, s.Message)
	}
}
