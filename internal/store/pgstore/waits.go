package pgstore

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// waiters are those who wait for a space's sequence, or for a lease to be released. A wake-up is a hint: who is woken looks at the
// database.
type waiters struct {
	mu     sync.Mutex
	spaces map[store.Space]*signal
	leases map[string]chan struct{}
}

// signal is one wake-up of a space.
type signal struct {
	given chan struct{} // closed with it
	// last is the sequence that was committed, and can be seen; 0 if it is not known. It may be read once given is closed.
	last tidegate.Seq
}

// space returns the next wake-up of the space.
func (w *waiters) space(space store.Space) *signal {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.spaces == nil {
		w.spaces = map[store.Space]*signal{}
	}
	next := w.spaces[space]
	if next == nil {
		next = &signal{given: make(chan struct{})}
		w.spaces[space] = next
	}
	return next
}

func (w *waiters) wake(space store.Space, last tidegate.Seq) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if next := w.spaces[space]; next != nil {
		next.last = last
		close(next.given)
		delete(w.spaces, space)
	}
}

// lease returns a channel that is closed when the lease is released.
func (w *waiters) lease(name string) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.leases == nil {
		w.leases = map[string]chan struct{}{}
	}
	ch := w.leases[name]
	if ch == nil {
		ch = make(chan struct{})
		w.leases[name] = ch
	}
	return ch
}

func (w *waiters) released(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ch := w.leases[name]; ch != nil {
		close(ch)
		delete(w.leases, name)
	}
}

// all wakes everybody, since notifications may have been missed.
func (w *waiters) all() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for space, next := range w.spaces {
		close(next.given)
		delete(w.spaces, space)
	}
	for name, ch := range w.leases {
		close(ch)
		delete(w.leases, name)
	}
}

// Wait implements store.Store.
func (s *Store) Wait(ctx context.Context, space store.Space, after tidegate.Seq) (tidegate.Seq, error) {
	for {
		next := s.waiters.space(space) // before looking, so that nothing falls between
		select {
		case <-s.closing:
			return 0, store.ErrClosed
		default:
		}
		last, err := s.lastSequence(ctx, space)
		if err == nil && last > after {
			return last, nil
		}
		if err != nil && ctx.Err() == nil && tidegate.ErrorCode(err) != tidegate.Unavailable {
			return 0, err
		}
		// While the database cannot be reached, the listener wakes everybody at every poll.
		select {
		case <-next.given:
			if next.last > after { // no need to look
				return next.last, nil
			}
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-s.closing:
			return 0, store.ErrClosed
		}
	}
}

// pollListening is how often waiters look again although notifications work.
const pollListening = 5 * time.Second

// listen turns notifications into wake-ups. Where there are none (CockroachDB, a pooler in transaction mode), or the connection is
// lost, it wakes everybody every Poll.
func (s *Store) listen(ctx context.Context) {
	warned := false
	for ctx.Err() == nil {
		err := s.listenOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		if !warned {
			s.log.Warn("the database does not send notifications now; waiters poll", "interval", s.opts.Poll, "error", err)
			warned = true
		}
		s.waiters.all()
		_ = pause(ctx, s.opts.Poll)
	}
}

func (s *Store) listenOnce(ctx context.Context) error {
	conn, err := s.others.Acquire(ctx)
	if err != nil {
		return err
	}
	defer discard(conn) // it listens: nobody else may have it
	if _, err := conn.Exec(ctx, "LISTEN "+channel(s.opts.Schema)); err != nil {
		return err
	}
	s.waiters.all() // what was notified before is missed
	if w := watchedOf(conn.Conn()); w != nil {
		w.patient.Store(true)
	}
	for {
		wait, cancel := context.WithTimeout(ctx, pollListening)
		n, err := conn.Conn().WaitForNotification(wait)
		timedOut := wait.Err() != nil && ctx.Err() == nil
		cancel()
		switch {
		case err == nil:
			s.notified(n.Payload)
		case timedOut && !conn.Conn().IsClosed():
			s.waiters.all()
			ask, cancel := context.WithTimeout(ctx, askTimeout) // a connection that is half-open is silent for ever
			err := conn.Ping(ask)
			cancel()
			if err != nil {
				return err
			}
		default:
			return err
		}
	}
}

// notified reads a payload.
func (s *Store) notified(payload string) {
	var space store.Space
	var last tidegate.Seq
	if n, _ := fmt.Sscanf(payload, "s %d %d", &space, &last); n == 2 {
		s.waiters.wake(space, last)
		return
	}
	if name, ok := strings.CutPrefix(payload, "l "); ok {
		s.waiters.released(name)
	}
}
