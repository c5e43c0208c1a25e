package script

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"modernc.org/quickjs"
)

// fakeEngine makes runtimes whose calls do what run says.
type fakeEngine struct {
	run            func(v *fakeVM) (string, error)
	loaded, closed atomic.Int32
}

type fakeVM struct {
	engine *fakeEngine
	stop   chan struct{} // closed by interrupt
	once   sync.Once
}

func (e *fakeEngine) check(*program, Limits) error { return nil }

func (e *fakeEngine) load(*program, Limits) (vm, error) {
	e.loaded.Add(1)
	return &fakeVM{engine: e, stop: make(chan struct{})}, nil
}

func (v *fakeVM) call([]any) (string, error) { return v.engine.run(v) }
func (v *fakeVM) interrupt()                 { v.once.Do(func() { close(v.stop) }) }
func (v *fakeVM) close()                     { v.engine.closed.Add(1) }

func fakePool(runtimes int, run func(v *fakeVM) (string, error)) (*pool, *fakeEngine) {
	e := &fakeEngine{run: run}
	return newPool(e, newProgram(kindSync, "f"), Limits{Time: time.Second, Runtimes: runtimes}), e
}

func TestPoolKeepsRuntimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, e := fakePool(2, func(*fakeVM) (string, error) { return "ok", nil })
		for range 100 {
			if text, err := p.call(t.Context(), nil); text != "ok" || err != nil {
				t.Fatalf("got %q, %v", text, err)
			}
		}
		if n := e.loaded.Load(); n != 1 {
			t.Errorf("100 calls in a row made %d runtimes, want 1", n)
		}
		time.Sleep(2 * idleRuntime)
		synctest.Wait()
		if n := e.closed.Load(); n != 1 {
			t.Errorf("after a pause %d runtimes were freed, want 1", n)
		}
		if _, err := p.call(t.Context(), nil); err != nil || e.loaded.Load() != 2 {
			t.Errorf("after the pause: %v, %d runtimes made", err, e.loaded.Load())
		}
		p.close()
		synctest.Wait()
		if e.closed.Load() != 2 {
			t.Errorf("close left runtimes")
		}
		if _, err := p.call(t.Context(), nil); !errors.Is(err, errClosed) {
			t.Errorf("call after close: %v", err)
		}
	})
}

func TestPoolReplacesRuntimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text string
		var err error
		p, e := fakePool(1, func(*fakeVM) (string, error) { return text, err })
		defer p.close()
		expect := func(what string, want int32) {
			t.Helper()
			p.call(t.Context(), nil)
			if n := e.loaded.Load(); n != want {
				t.Errorf("%s: %d runtimes made, want %d", what, n, want)
			}
		}
		expect("first", 1)
		text = markSpoilt
		expect("spoilt", 1)
		text = ""
		expect("after spoilt", 2)
		err = errors.New("out of memory")
		expect("failed", 2)
		err = nil
		expect("after failed", 3)
		for range callsPerRuntime {
			p.call(t.Context(), nil)
		}
		expect("worn out", 4)
	})
}

func TestPoolBoundsCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var now, most atomic.Int32
		p, e := fakePool(3, func(*fakeVM) (string, error) {
			most.Store(max(most.Load(), now.Add(1)))
			<-release
			now.Add(-1)
			return "", nil
		})
		defer p.close()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { p.call(t.Context(), nil) })
		}
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			if _, err := p.call(ctx, nil); !errors.Is(err, context.Canceled) {
				t.Errorf("a waiting caller whose context ended got %v", err)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(release)
		wg.Wait()
		if most.Load() != 3 || e.loaded.Load() != 3 {
			t.Errorf("%d calls at once on %d runtimes, want 3 on 3", most.Load(), e.loaded.Load())
		}
	})
}

func TestPoolInterrupts(t *testing.T) {
	obedient := func(v *fakeVM) (string, error) {
		<-v.stop
		return "", errInterrupted
	}
	t.Run("context", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p, _ := fakePool(1, obedient)
			defer p.close()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if _, err := p.call(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		})
	})
	t.Run("limit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p, _ := fakePool(1, obedient)
			defer p.close()
			start := time.Now()
			if _, err := p.call(t.Context(), nil); !errors.Is(err, errInterrupted) {
				t.Errorf("got %v", err)
			}
			if d := time.Since(start); d < time.Second || d > time.Second+stopGrace {
				t.Errorf("stopped after %v, the limit is 1 s", d)
			}
		})
	})
	t.Run("a result that comes too late", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p, e := fakePool(1, func(v *fakeVM) (string, error) {
				<-v.stop
				return "done", nil
			})
			defer p.close()
			if text, err := p.call(t.Context(), nil); text != "" || !errors.Is(err, errInterrupted) {
				t.Errorf("got %q, %v", text, err)
			}
			synctest.Wait()
			if e.closed.Load() != 1 {
				t.Error("the interrupted runtime was kept")
			}
		})
	})
}

// TestPoolGivesUp: calls that cannot be stopped must not hold up their callers, nor take all processors.
func TestPoolGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		p, e := fakePool(4, func(*fakeVM) (string, error) {
			<-release
			return "", nil
		})
		defer p.close()
		for i := range 5 {
			if _, err := p.call(t.Context(), nil); !errors.Is(err, errInterrupted) {
				t.Fatalf("call %d: %v", i, err)
			}
		}
		if n := e.loaded.Load(); n != 2 {
			t.Errorf("%d calls were left running, want 2", n)
		}
		close(release)
		synctest.Wait()
		if _, err := p.call(t.Context(), nil); err != nil || e.closed.Load() != 2 {
			t.Errorf("after they ended: %v, %d runtimes freed", err, e.closed.Load())
		}
	})
}

// TestCountdown: the engine's counter must be found in the version that we use, or interrupts take effect late.
func TestCountdown(t *testing.T) {
	js, err := quickjs.NewVM()
	if err != nil {
		t.Fatal(err)
	}
	defer js.Close()
	n := countdownOf(js)
	if n == nil {
		t.Fatal("not found")
	}
	var seen []int32
	for range 3 {
		if _, err := js.Eval("for (var i = 0; i < 100; i++) {}", quickjs.EvalGlobal); err != nil {
			t.Fatal(err)
		}
		seen = append(seen, *n)
	}
	if seen[0] > 10_000 || seen[2] <= 0 || seen[0]-seen[1] < 100 || seen[1]-seen[2] < 100 {
		t.Errorf("it does not count calls and rounds: %d", seen)
	}
}
