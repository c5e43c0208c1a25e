package replicate

import "sync"

// executor runs functions in goroutines of their own, at most limit at a time; the others wait in order. It holds no
// goroutine while there is nothing to do. What waits is bounded by what the connection may hold unhandled
// (blip.Options.MaxPending).
type executor struct {
	limit int
	crew  *crew

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
	e.crew.send(func() { e.run(f) })
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
	crew *crew

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
	a.crew.send(a.run)
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

// crew counts the goroutines of a connection, so that its end can be waited for: what a connection used (its database
// first) may be closed once Serve has returned.
type crew struct {
	mu    sync.Mutex
	n     int
	empty chan struct{} // closed when nobody is left; nil: nobody waits
}

// send runs f in a goroutine.
func (w *crew) send(f func()) {
	w.mu.Lock()
	w.n++
	w.mu.Unlock()
	go func() {
		defer w.back()
		f()
	}()
}

func (w *crew) back() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.n--; w.n == 0 && w.empty != nil {
		close(w.empty)
		w.empty = nil
	}
}

// wait blocks until no goroutine is left. One that a late wake sends out after that finds that all has ended.
func (w *crew) wait() {
	w.mu.Lock()
	if w.n == 0 {
		w.mu.Unlock()
		return
	}
	if w.empty == nil {
		w.empty = make(chan struct{})
	}
	empty := w.empty
	w.mu.Unlock()
	<-empty
}
