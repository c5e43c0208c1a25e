package script

import (
	"sync"
	"sync/atomic"

	"github.com/dop251/goja/ast"
)

// directProgram is a function that the direct evaluator can run: over the raw JSON, without a JavaScript engine and
// without making objects of the document. It does a subset of the language, the one that most sync functions are written
// in, and gives up in the middle of a run when it meets values whose treatment it leaves to an engine; the run is then
// started again there. What it does, it does as an engine does: the tests hold it against two of them.
type directProgram struct {
	kind kind
	main *function
	keys keyTable
	pool sync.Pool // of *machine
	// score falls when runs are given to the engine, and rises when they are not. Below zero, most runs go to the
	// engine at once.
	score atomic.Int32
	turns atomic.Uint32
}

const (
	maxDirectScore = 64
	directBailCost = 4
	directTryEvery = 32 // with a negative score, one call in so many is tried
)

// compileDirect compiles a program, or returns nil if it uses more than the subset.
func compileDirect(p *program) *directProgram {
	parts, ok := parseFunction(p.source)
	if !ok {
		return nil
	}
	d := &directProgram{kind: p.kind}
	c := &compiler{program: d}
	d.main = c.function(parts)
	if c.failed || d.main.slots > directSlots/2 {
		return nil
	}
	d.pool.New = func() any { return new(machine) }
	return d
}

// worthTrying reports whether the next call should be tried directly.
func (d *directProgram) worthTrying() bool {
	return d != nil && (d.score.Load() >= 0 || d.turns.Add(1)%directTryEvery == 0)
}

// run performs one call. It returns nil if the engine must do it. The outcome is valid until release.
func (d *directProgram) run(in *SyncInput) *machine {
	m := d.pool.Get().(*machine)
	m.start(d, in)
	f := m.push(d.main.slots, nil)
	args := [...]rootID{rootDoc, rootOld, rootMeta}
	for i := range min(d.main.params, len(args)) {
		f.slots[i] = value{kind: kindRoot, root: args[i]}
	}
	if d.main.params > 1 && in.OldBody == nil {
		f.slots[1] = value{kind: kindNull}
	}
	d.main.body(m, f)
	if m.halt == haltBail {
		d.score.Store(max(d.score.Load()-directBailCost, -maxDirectScore))
		d.release(m)
		return nil
	}
	if s := d.score.Load(); s < maxDirectScore {
		d.score.Store(s + 1)
	}
	return m
}

// noMeta is meta of a database without a user xattr.
const noMeta = `{"xattrs":{}}`

// start makes the machine ready for a run.
func (m *machine) start(d *directProgram, in *SyncInput) {
	m.program, m.in = d, in
	m.out = outcome{now: in.Now, channels: m.out.channels[:0]}
	m.roots[rootDoc].text = orElse(in.Body, "{}")
	m.roots[rootOld].text = orElse(in.OldBody, "{}")
	m.roots[rootMeta].text = orElse(in.Meta, noMeta)
	m.work = directWork + 4*(len(in.Body)+len(in.OldBody)+len(in.Meta)+len(in.Attachments))/directBytes
}

func orElse(text []byte, otherwise string) []byte {
	if len(text) == 0 {
		return []byte(otherwise)
	}
	return text
}

// release gives the machine back; nothing of the caller's stays in it.
func (d *directProgram) release(m *machine) {
	clear(m.stack[:m.high])
	for i := range m.roots {
		r := &m.roots[i]
		if r.scanned {
			clear(r.slots[:len(d.keys.names)])
		}
		r.text, r.scanned = nil, false
	}
	clear(m.arrays)
	clear(m.parts)
	m.arrays, m.parts = m.arrays[:0], m.parts[:0]
	m.program, m.in = nil, nil
	m.halt, m.made, m.returns, m.top, m.high, m.depth = running, 0, value{}, 0, 0, 0
	d.pool.Put(m)
}

// parseFunction is parseSource for the direct evaluator.
func parseFunction(source string) (functionParts, bool) {
	switch fn := parseSource(source).(type) {
	case *ast.FunctionLiteral:
		return partsOfFunction(fn)
	case *ast.ArrowFunctionLiteral:
		return partsOfArrow(fn)
	}
	return functionParts{}, false
}
