package script

import (
	_ "embed"
	"errors"
	"regexp"
	"strings"
	"time"
)

// kind is what a program is for: it decides the arguments and the helpers.
type kind string

const (
	kindSync     kind = "sync"
	kindFilter   kind = "filter"
	kindResolver kind = "resolver"
)

// program is a function's source, ready to be loaded into any number of runtimes.
type program struct {
	kind       kind
	source     string // one function expression
	underscore bool   // the source mentions _
	// keepEval is set when the source mentions eval. It can declare global variables that nothing can take away
	// again, so such a function gets a new runtime for each call.
	keepEval bool
	// loose is set when calls may add global variables, as a missing var does. The global object then stays open
	// and is swept after each call.
	loose bool
	// asksUser is set when the source mentions one of the require… helpers.
	asksUser bool
}

// engine makes runtimes. There are two: QuickJS, and in the tests goja as the oracle.
type engine interface {
	// check compiles the program, without making a runtime for it. A source that does not compile gives a
	// *syntaxError.
	check(p *program, lim Limits) error
	// load makes a runtime that holds the program, which must have passed check. Loading runs nothing of it.
	load(p *program, lim Limits) (vm, error)
}

// vm is one runtime. It is used by one goroutine at a time, except that interrupt may be called during call.
type vm interface {
	// call performs one call of prelude.js' run and returns its records; without args, only what kind of value the
	// source makes. The error is errInterrupted if time ran out
	// or interrupt was called; any other error is the engine's own failure, such as memory exhaustion.
	call(args []any) (string, error)
	// interrupt stops the running call, if there is one. The runtime is of no use afterwards.
	interrupt()
	close()
}

// errInterrupted tells that a call was stopped from outside.
var errInterrupted = errors.New("interrupted")

// syntaxError is a source that does not compile. Line and Column count from 1; 0 if unknown.
type syntaxError struct {
	Line, Column int
	Message      string
}

func (e *syntaxError) Error() string { return e.Message }

var (
	//go:embed js/prelude.js
	preludeSource string
	//go:embed js/underscore.min.js
	underscoreSource string
)

var (
	mentionsUnderscore = regexp.MustCompile(`(^|[^\w$.'"])_([^\w$'"]|$)`)
	mentionsEval       = regexp.MustCompile(`(^|[^\w$])eval([^\w$]|$)`)
)

func newProgram(k kind, source string) *program {
	return &program{
		kind:       k,
		source:     source,
		underscore: mentionsUnderscore.MatchString(source),
		keepEval:   mentionsEval.MatchString(source),
		asksUser:   strings.Contains(source, "require"),
		loose:      mayAddGlobals(parseSource(source)),
	}
}

// factoryPrefix and factorySuffix make the source a function that makes the user's function: each call gets
// its own, so that what a call stores on the function is gone with it.
const (
	factoryPrefix = "(function(){return ("
	factorySuffix = "\n)})"
)

func (p *program) factory() string {
	return factoryPrefix + p.source + factorySuffix
}

// trimSource removes blanks and semicolons after the expression, which people leave there.
func trimSource(source string) string {
	return strings.TrimRight(strings.TrimSpace(source), "; \t\r\n")
}

// minMemory is what a runtime needs in order to be made, with room for small documents.
const minMemory = 2 << 20

// withDefaults fills in the defaults of hardening.md.
func (l Limits) withDefaults(procs int) Limits {
	if l.Time <= 0 {
		l.Time = 5 * time.Second
	}
	if l.Memory <= 0 {
		l.Memory = 32 << 20
	}
	l.Memory = max(l.Memory, minMemory)
	if l.Stack <= 0 {
		l.Stack = 256 << 10
	}
	if l.Runtimes <= 0 {
		l.Runtimes = procs + 2
	}
	return l
}
