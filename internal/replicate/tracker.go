package replicate

import "sync"

// tracker knows how far a direction has come: sequences are expected in the order of the feed and done in any order, and
// safe is the last of those before which nothing is undone. So a checkpoint is never ahead of the data
// (hardening.md, I5). It is safe for concurrent use.
type tracker struct {
	mu     sync.Mutex
	queue  []*expected // not done, or behind one that is not
	safe   string      // "" if nothing was done yet
	undone int
	quiet  chan struct{} // closed when nothing is undone and somebody waits for it

	stats    *ReplicatorStats // nil: nothing is counted
	expected int              // what is counted there for this tracker
	waiting  int
}

// expected is one sequence.
type expected struct {
	seq  string
	done bool
}

// begin sets the safe sequence before anything is expected.
func (t *tracker) begin(safe string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.safe = safe
}

// expect adds sequences; the caller finishes each once.
func (t *tracker) expect(seqs ...string) []*expected {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*expected, len(seqs))
	for i, seq := range seqs {
		all[i] = &expected{seq: seq}
	}
	t.queue = append(t.queue, all...)
	t.undone += len(all)
	t.count(len(t.queue), len(t.queue)-t.undone)
	return all
}

// finish notes that a sequence is dealt with for good. It may be called twice.
func (t *tracker) finish(e *expected) {
	if e == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.done {
		return
	}
	e.done = true
	t.undone--
	n := 0
	for n < len(t.queue) && t.queue[n].done {
		t.safe = t.queue[n].seq
		t.queue[n] = nil
		n++
	}
	if t.queue = t.queue[n:]; len(t.queue) == 0 {
		t.queue = nil
	}
	t.count(len(t.queue), len(t.queue)-t.undone)
	if t.undone == 0 && t.quiet != nil {
		close(t.quiet)
		t.quiet = nil
	}
}

// count keeps the gauges: how many are expected, and how many of them are done; t.mu is held.
func (t *tracker) count(expected, waiting int) {
	if t.stats == nil {
		return
	}
	t.stats.Expected.Add(int64(expected - t.expected))
	t.stats.Processed.Add(int64(waiting - t.waiting))
	t.expected, t.waiting = expected, waiting
}

// end takes what the tracker still expects out of the gauges: nothing of it is counted any more.
func (t *tracker) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count(0, 0)
	t.stats = nil
}

// position is the safe sequence, and how many are not done.
func (t *tracker) position() (safe string, undone int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.safe, t.undone
}

// wait returns a channel that is closed when nothing is undone.
func (t *tracker) wait() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.quiet == nil {
		t.quiet = make(chan struct{})
	}
	quiet := t.quiet
	if t.undone == 0 {
		close(t.quiet)
		t.quiet = nil
	}
	return quiet
}
