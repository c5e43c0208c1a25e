package script

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"
)

const (
	// callsPerRuntime is how many calls a runtime serves before it is replaced, so that whatever leaks inside the
	// engine (promise jobs that nobody runs, say) stays small.
	callsPerRuntime = 10_000
	// idleRuntime is how long an unused runtime is kept.
	idleRuntime = time.Minute
	// ownStop is how much longer than its limit a call may take before it is interrupted from outside.
	ownStop = 50 * time.Millisecond
	// stopGrace is how long a call may take to stop after it was interrupted, before its goroutine is given up.
	stopGrace = 2 * time.Second
	// interruptEvery is how often an interrupt is repeated: one that arrives just before the engine starts the
	// call is lost.
	interruptEvery = 5 * time.Millisecond
)

// errClosed is what a call on a closed function gets.
var errClosed = errors.New("the function is closed")

// pool keeps the runtimes of one program.
type pool struct {
	engine  engine
	program *program
	limits  Limits
	slots   chan struct{} // one token for each running call

	mu     sync.Mutex
	idle   []*worker // the last used is last
	closed bool
	reaper *time.Timer // closes idle runtimes; nil if none are idle
	// stuck counts calls that did not stop when told to. When there are as many as half of the slots the function is
	// refused until some end, so that they cannot take all processors.
	stuck int
}

// worker is a runtime with the goroutine that runs it. The goroutine is its own so that a call can be given up
// even if the engine does not stop, and so that its stack, which engines need deep, is grown once.
type worker struct {
	vm       vm
	jobs     chan []any
	results  chan jobResult // of one, so that a worker whose caller has gone can end
	calls    int
	lastUsed time.Time
}

type jobResult struct {
	text string
	err  error
}

func newPool(e engine, p *program, lim Limits) *pool {
	lim = lim.withDefaults(runtime.GOMAXPROCS(0))
	return &pool{engine: e, program: p, limits: lim, slots: make(chan struct{}, lim.Runtimes)}
}

// call runs the program once. It waits under ctx for a free runtime.
func (p *pool) call(ctx context.Context, args []any) (string, error) {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	w, err := p.take()
	if err != nil {
		<-p.slots
		return "", err
	}
	w.jobs <- args
	res, ended := w.wait(ctx, p.limits.Time)
	text, spoilt := strings.CutPrefix(res.text, markSpoilt)
	if ended {
		p.give(w, spoilt || res.err != nil)
	} else {
		p.abandon(w)
	}
	<-p.slots
	return text, res.err
}

// wait waits for the running call. It stops the call when ctx ends, or when it takes longer than limit although the
// engine should have seen to that itself. It reports false if the call does not stop either.
func (w *worker) wait(ctx context.Context, limit time.Duration) (res jobResult, ended bool) {
	timer := time.NewTimer(limit + ownStop)
	defer timer.Stop()
	why := errInterrupted
	select {
	case res = <-w.results:
		return res, true
	case <-timer.C:
	case <-ctx.Done():
		why = ctx.Err()
	}
	timer.Reset(stopGrace)
	again := time.NewTicker(interruptEvery)
	defer again.Stop()
	for {
		w.vm.interrupt()
		select {
		case <-w.results: // too late, even if it is a good one
			return jobResult{err: why}, true
		case <-timer.C:
			return jobResult{err: why}, false
		case <-again.C:
		}
	}
}

// take returns an idle runtime or makes one.
func (p *pool) take() (*worker, error) {
	p.mu.Lock()
	switch {
	case p.closed:
		p.mu.Unlock()
		return nil, errClosed
	case p.stuck >= max(cap(p.slots)/2, 1):
		p.mu.Unlock()
		return nil, errInterrupted
	}
	if n := len(p.idle); n > 0 {
		w := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return w, nil
	}
	p.mu.Unlock()
	v, err := p.engine.load(p.program, p.limits)
	if err != nil {
		return nil, fmt.Errorf("load function: %w", err)
	}
	return startWorker(v), nil
}

func startWorker(v vm) *worker {
	w := &worker{vm: v, jobs: make(chan []any), results: make(chan jobResult, 1)}
	go w.serve()
	return w
}

// serve runs calls until jobs is closed, and frees the runtime.
func (w *worker) serve() {
	for args := range w.jobs {
		text, err := w.vm.call(args)
		w.results <- jobResult{text, err}
	}
	w.vm.close()
}

// give puts a runtime back, or closes it if it is spoilt or has served enough.
func (p *pool) give(w *worker, spoilt bool) {
	w.calls++
	if spoilt || w.calls >= callsPerRuntime || p.program.keepEval {
		close(w.jobs)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		close(w.jobs)
		return
	}
	w.lastUsed = time.Now()
	p.idle = append(p.idle, w)
	if p.reaper == nil {
		p.reaper = time.AfterFunc(idleRuntime, p.reap)
	}
}

// reap closes the runtimes that were idle for long.
func (p *pool) reap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(p.idle) && time.Since(p.idle[n].lastUsed) >= idleRuntime {
		close(p.idle[n].jobs)
		n++
	}
	p.idle = append(p.idle[:0:0], p.idle[n:]...)
	if len(p.idle) == 0 {
		p.reaper = nil
		return
	}
	p.reaper.Reset(idleRuntime - time.Since(p.idle[0].lastUsed))
}

// abandon leaves a call that does not stop to itself.
func (p *pool) abandon(w *worker) {
	p.mu.Lock()
	p.stuck++
	p.mu.Unlock()
	close(w.jobs)
	go func() {
		<-w.results
		p.mu.Lock()
		p.stuck--
		p.mu.Unlock()
	}()
}

// close frees all runtimes once running calls have ended; it does not wait for calls that were given up.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, w := range p.idle {
		close(w.jobs)
	}
	p.idle = nil
	if p.reaper != nil {
		p.reaper.Stop()
		p.reaper = nil
	}
}

// check loads the program and lets it make its function, so that a source that does not work is known at once.
func (p *pool) check() error {
	text, err := p.call(context.Background(), nil)
	if err != nil {
		return err
	}
	recs, err := splitRecords(text, nil)
	if err != nil || len(recs) == 0 {
		return errors.Join(err, errors.New("check function: no answer"))
	}
	switch r := recs[len(recs)-1]; {
	case r.tag == tagFault:
		return &syntaxError{Message: "not a function expression: " + r.text}
	case r.text != "function":
		return &syntaxError{Message: "not a function expression but of type " + r.text}
	}
	return nil
}
