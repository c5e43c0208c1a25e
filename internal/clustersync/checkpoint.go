package clustersync

import "sync"

// lowWater is the position up to which everything of the stream is applied (spec §8.7). Batches of the stream are opened in their order and
// done in any; the mark is the position of the last batch before which all are done. An idle worker holds nothing back.
type lowWater struct {
	mu    sync.Mutex
	open  []*ticket // in the order of the stream; the first is not done
	mark  Position
	moved chan struct{} // closed and made anew when the mark moves
}

// ticket is a batch of the stream that is being applied.
type ticket struct {
	water *lowWater
	at    Position // the stream's once the batch is applied
	left  int      // events not applied, and one until the batch is sealed
}

func newLowWater(from Position) *lowWater {
	return &lowWater{mark: from, moved: make(chan struct{})}
}

// begin opens the next batch. The mark does not pass it before it is sealed and all that was added is done.
func (w *lowWater) begin() *ticket {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := &ticket{water: w, left: 1}
	w.open = append(w.open, t)
	return t
}

// add counts an event that is to be applied.
func (t *ticket) add() {
	t.water.mu.Lock()
	defer t.water.mu.Unlock()
	t.left++
}

// done counts n events as applied.
func (t *ticket) done(n int) {
	t.water.mu.Lock()
	defer t.water.mu.Unlock()
	t.left -= n
	t.water.advance()
}

// seal says that no more events are added, and where the stream is after the last one. A zero position leaves the mark where it is.
func (t *ticket) seal(at Position) {
	t.water.mu.Lock()
	defer t.water.mu.Unlock()
	t.at = at
	t.left--
	t.water.advance()
}

// advance moves the mark over the batches that are done. mu is held.
func (w *lowWater) advance() {
	n := 0
	for n < len(w.open) && w.open[n].left == 0 {
		if !w.open[n].at.Zero() {
			w.mark = w.open[n].at
		}
		w.open[n] = nil
		n++
	}
	if n > 0 {
		w.open = w.open[n:]
		close(w.moved)
		w.moved = make(chan struct{})
	}
}

// get returns the mark, whether batches are open beyond it, and a channel that is closed when that changes.
func (w *lowWater) get() (mark Position, busy bool, moved <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mark, len(w.open) > 0, w.moved
}
