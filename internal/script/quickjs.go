package script

import (
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"sync/atomic"
	"time"
	"unsafe"

	"modernc.org/libquickjs"
	"modernc.org/quickjs"
)

// quickEngine runs scripts on QuickJS, which caps memory, stack and time itself (DESIGN.md).
type quickEngine struct{}

// stackSlotBytes is what one of QuickJS' stack slots, about one JavaScript call, stands for: its own default of
// 5,000 slots is the depth that the C engine reaches with 1 MiB of stack.
const stackSlotBytes = 1 << 20 / 5000

// bootTime is how long loading a function may take, which runs none of it. It takes milliseconds.
const bootTime = 30 * time.Second

type quickVM struct {
	vm    *quickjs.VM
	run   quickjs.Value
	limit time.Duration
	// countdown is the engine's own, see interrupt; nil if it was not found.
	countdown *int32
	ready     bool // run is set
	dead      bool // the engine itself failed: only close is allowed
}

func newQuickJS(lim Limits) (*quickjs.VM, error) {
	js, err := quickjs.NewVM()
	if err != nil {
		return nil, fmt.Errorf("create runtime: %w", err)
	}
	js.SetMaxStackSize(uintptr(max(lim.Stack/stackSlotBytes, 64)))
	js.SetMemoryLimit(uintptr(lim.Memory))
	js.SetCanBlock(false)
	if err := js.SetEvalTimeout(bootTime); err != nil {
		return nil, errors.Join(fmt.Errorf("set time limit: %w", err), js.Close())
	}
	return js, nil
}

func (quickEngine) check(p *program, lim Limits) (err error) {
	defer catchFault(&err)
	js, err := newQuickJS(lim)
	if err != nil {
		return err
	}
	_, err = js.Compile(p.factory(), quickjs.EvalGlobal)
	return errors.Join(quickSyntaxError(err), js.Close())
}

func (quickEngine) load(p *program, lim Limits) (_ vm, err error) {
	defer catchFault(&err)
	js, err := newQuickJS(lim)
	if err != nil {
		return nil, err
	}
	v := &quickVM{vm: js, limit: lim.Time, countdown: countdownOf(js)}
	if err = v.boot(p); err == nil {
		err = js.SetEvalTimeout(lim.Time)
	}
	if err != nil {
		v.close()
		return nil, err
	}
	return v, nil
}

// catchFault makes an error of a fault of the engine, which must not end the process. The memory of its runtime is lost.
func catchFault(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("engine fault: %v", p)
	}
}

// boot loads the prelude and the program.
func (v *quickVM) boot(p *program) error {
	if p.underscore {
		if _, err := v.vm.Eval(underscoreSource+"\n;0", quickjs.EvalGlobal); err != nil {
			return fmt.Errorf("load underscore: %w", err)
		}
	}
	prelude, err := v.vm.EvalValue(preludeSource, quickjs.EvalGlobal)
	if err != nil {
		return fmt.Errorf("load prelude: %w", err)
	}
	defer prelude.Free()
	factory, err := v.vm.EvalValue(p.factory(), quickjs.EvalGlobal)
	if err != nil {
		return quickSyntaxError(err)
	}
	defer factory.Free()
	run, err := prelude.CallValue(quickjs.UndefinedValue, factory, string(p.kind), p.keepEval, p.loose)
	if err != nil {
		return fmt.Errorf("run prelude: %w", err)
	}
	v.run, v.ready = run, true
	return nil
}

// quickSyntaxError makes a *syntaxError of what the engine says about a source wrapped by program.factory.
func quickSyntaxError(err error) error {
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*quickjs.Error](err)
	if !ok || e.Name != "SyntaxError" {
		return fmt.Errorf("compile: %w", err)
	}
	s := &syntaxError{Line: e.LineNumber, Column: e.ColumnNumber, Message: e.Message}
	if s.Line == 1 {
		s.Column = max(s.Column-len(factoryPrefix), 1)
	}
	return s
}

func (v *quickVM) call(args []any) (text string, err error) {
	v.dead = true // until it is known not to be
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer catchFault(&err)
	start := time.Now()
	r, err := v.run.Call(quickjs.UndefinedValue, args...)
	v.dead = false
	if err != nil {
		if e, ok := errors.AsType[*quickjs.Error](err); ok && e.Message == "interrupted" || time.Since(start) >= v.limit {
			return "", errInterrupted
		}
		return "", fmt.Errorf("call script: %w", err)
	}
	s, ok := r.(string)
	if !ok {
		return "", fmt.Errorf("call script: it returned a %T", r)
	}
	return s, nil
}

// interrupt asks the engine to stop. The engine looks at the request once in 10,000 calls and rounds of loops, and not at
// all inside built-in functions; if each of those takes milliseconds that is too late. So its count is made to run out,
// and its memory is taken away, which ends built-in functions at their next allocation. Both are stores of one word
// outside Go's memory.
func (v *quickVM) interrupt() {
	v.vm.Interrupt()
	v.vm.SetMemoryLimit(0)
	if v.countdown != nil {
		atomic.StoreInt32(v.countdown, 1)
	}
}

// countdownOf finds the engine's counter of calls and rounds until it looks at an interrupt request. The wrapper does not
// show it; nil if the wrapper has changed.
func countdownOf(js *quickjs.VM) *int32 {
	state := reflect.ValueOf(js).Elem().FieldByName("state")
	if state.Kind() != reflect.Struct {
		return nil
	}
	field := state.FieldByName("cContext")
	if field.Kind() != reflect.Uintptr || field.Uint() == 0 {
		return nil
	}
	address := uintptr(field.Uint()) // of memory that is not Go's and does not move
	context := *(**libquickjs.TJSContext)(unsafe.Pointer(&address))
	return &context.Finterrupt_counter
}

func (v *quickVM) close() {
	var err error // of a fault while freeing; nothing can be done about it
	defer catchFault(&err)
	if v.ready && !v.dead {
		v.run.Free()
	}
	_ = v.vm.Close() // it reports nothing but nil
}
