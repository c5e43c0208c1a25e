package replicate

import "sync"

// executor runs functions in goroutines of their own, at most limit at a time; the others wait in order. It holds no
// goroutine while there is nothing to do. What waits is bounded by what the connection may hold unhandled
// (blip.Options.MaxPending).
type executor struct {
	limit int

	mu      sync.Mutex
	running int
	queue   []func()
}

// do runs f soon. It does not wait.
func (e *executor) do(f func()) {
	e.mu.Lock()
	if e.running >= e.limit {
		e.queue = append(e.queue, f)
		e.mu.Unlock()
		return
	}
	e.running++
	e.mu.Unlock()
	go e.run(f)
}

func (e *executor) run(f func()) {
	for f != nil {
		f()
		f = e.next()
	}
}

// next takes what waits longest; nil, and one goroutine less, if nothing does.
func (e *executor) next() func() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.queue) == 0 {
		e.queue = nil
		e.running--
		return nil
	}
	f := e.queue[0]
	e.queue[0] = nil
	e.queue = e.queue[1:]
	return f
}

// An actor does its work in turns of a goroutine that exists only while there is work: wake makes sure that turn runs
// after it. Turns never overlap.
type actor struct {
	turn func()

	mu      sync.Mutex
	running bool
	again   bool
}

// wake makes sure that a turn begins after now.
func (a *actor) wake() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.running {
		a.again = true
		return
	}
	a.running = true
	go a.run()
}

func (a *actor) run() {
	for {
		a.turn()
		a.mu.Lock()
		if !a.again {
			a.running = false
			a.mu.Unlock()
			return
		}
		a.again = false
		a.mu.Unlock()
	}
}
