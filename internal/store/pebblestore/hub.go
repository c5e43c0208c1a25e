package pebblestore

import (
	"context"
	"sync"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// hub knows the last visible sequence of the spaces that somebody waits for and wakes who waits.
type hub struct {
	mu     sync.Mutex
	spaces map[store.Space]*waited
	err    error // why there is nothing left to wait for
}

type waited struct {
	last  tidegate.Seq
	moved chan struct{} // closed when last moves; nil while nobody waits
}

func newHub() *hub { return &hub{spaces: make(map[store.Space]*waited)} }

// wait is store.Store.Wait. load reads the published sequence of a space; it runs under the hub's lock, so
// that a publication is either in what it reads or comes after it.
func (h *hub) wait(ctx context.Context, space store.Space, after tidegate.Seq,
	load func(store.Space) (tidegate.Seq, error)) (tidegate.Seq, error) {
	for {
		last, moved, err := h.look(space, after, load)
		if err != nil {
			return 0, err
		}
		if last > after {
			return last, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (h *hub) look(space store.Space, after tidegate.Seq,
	load func(store.Space) (tidegate.Seq, error)) (tidegate.Seq, <-chan struct{}, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return 0, nil, h.err
	}
	w := h.spaces[space]
	if w == nil {
		last, err := load(space)
		if err != nil {
			return 0, nil, err
		}
		w = &waited{last: last}
		h.spaces[space] = w
	}
	if w.last > after {
		return w.last, nil, nil
	}
	if w.moved == nil {
		w.moved = make(chan struct{})
	}
	return w.last, w.moved, nil
}

// publish notes what a group moved, after its snapshot was published. With forgot, all that is known is
// read again by the next to ask.
func (h *hub) publish(moved []spaceSeq, forgot bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if forgot {
		for _, w := range h.spaces {
			w.wake()
		}
		clear(h.spaces)
		return
	}
	for _, m := range moved {
		if w := h.spaces[m.space]; w != nil {
			w.last = m.seq
			w.wake()
		}
	}
}

// close wakes everybody with err.
func (h *hub) close(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
	for _, w := range h.spaces {
		w.wake()
	}
	clear(h.spaces)
}

func (w *waited) wake() {
	if w.moved != nil {
		close(w.moved)
		w.moved = nil
	}
}
