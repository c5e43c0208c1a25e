package script

import (
	"errors"
	"fmt"
	"time"

	"github.com/dop251/goja"
)

// gojaEngine is the oracle: another JavaScript engine under the same prelude. It caps neither memory nor the time spent in
// built-in functions, so it is not used outside tests (DESIGN.md).
type gojaEngine struct{}

type gojaVM struct {
	rt    *goja.Runtime
	run   goja.Callable
	limit time.Duration
}

func (gojaEngine) check(p *program, _ Limits) error {
	_, err := goja.Compile("", p.factory(), false)
	return err
}

func (gojaEngine) load(p *program, lim Limits) (vm, error) {
	rt := goja.New()
	rt.SetMaxCallStackSize(int(lim.Stack / stackSlotBytes))
	if p.underscore {
		if _, err := rt.RunString(underscoreSource); err != nil {
			return nil, fmt.Errorf("load underscore: %w", err)
		}
	}
	prelude, err := rt.RunString(preludeSource)
	if err != nil {
		return nil, fmt.Errorf("load prelude: %w", err)
	}
	factory, err := rt.RunString(p.factory())
	if err != nil {
		return nil, &syntaxError{Message: err.Error()}
	}
	boot, _ := goja.AssertFunction(prelude)
	run, err := boot(goja.Undefined(), factory, rt.ToValue(string(p.kind)), rt.ToValue(p.keepEval), rt.ToValue(p.loose))
	if err != nil {
		return nil, fmt.Errorf("run prelude: %w", err)
	}
	v := &gojaVM{rt: rt, limit: lim.Time}
	v.run, _ = goja.AssertFunction(run)
	return v, nil
}

func (v *gojaVM) call(args []any) (string, error) {
	values := make([]goja.Value, len(args))
	for i, arg := range args {
		values[i] = v.rt.ToValue(arg)
		if arg == nil {
			values[i] = goja.Null()
		}
	}
	v.rt.ClearInterrupt()
	timer := time.AfterFunc(v.limit, v.interrupt)
	defer timer.Stop()
	r, err := v.run(goja.Undefined(), values...)
	if _, ok := errors.AsType[*goja.InterruptedError](err); ok {
		return "", errInterrupted
	}
	if err != nil {
		return "", err
	}
	return r.String(), nil
}

func (v *gojaVM) interrupt() { v.rt.Interrupt("stop") }
func (v *gojaVM) close()     {}
