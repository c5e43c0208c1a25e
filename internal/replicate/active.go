package replicate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/blip"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/websocket"
)

// activeSession is one connection of a half: the engines of both ends, and an account of how far they have come.
type activeSession struct {
	h     *half
	c     *connection
	colls []*activeCollection
	// unseen takes what the engines count for the database where the peer drives the replication.
	unseen database.ReplicationStats
}

// activeCollection is one collection of a session.
type activeCollection struct {
	s       *activeSession
	coll    *collection
	pair    CollectionPair
	tracker tracker
	cp      checkpointer
	arrived arrivals

	caughtUp     chan struct{} // closed when the source has said that there is no more for now
	saidCaughtUp bool          // it is closed; of the goroutine that reads the connection (pull) or the turn (push)
}

// session connects and replicates until that ends: nil if a one-shot has caught up, else why.
func (h *half) session(ctx context.Context) error {
	h.countConnect()
	ws, v, err := h.r.connect(ctx)
	if err != nil {
		return err
	}
	s := &activeSession{h: h}
	s.c = newConnection(h.r.srv, Peer{
		DB: h.r.o.DB, User: h.r.o.RunAs, Admin: h.r.o.RunAs == "", Version: v, Gateway: true, Deltas: h.r.o.Deltas,
	})
	s.c.active = s
	return s.run(ctx, ws)
}

// run serves the connection and drives it.
func (s *activeSession) run(ctx context.Context, ws *websocket.Conn) error {
	s.c.open(ws)
	ended := make(chan error, 1)
	go func() {
		err := s.c.conn.Run()
		s.c.close(false)
		ended <- err
	}()
	err := s.drive(ctx)
	if err == nil || ctx.Err() != nil {
		s.c.conn.Close(websocket.CloseNormal, "")
	} else {
		s.c.conn.Drop(err)
	}
	lost := <-ended
	for _, a := range s.colls {
		a.tracker.end()
	}
	if errors.Is(err, errConnectionLost) && lost != nil {
		return fmt.Errorf("%w: %w", errConnectionLost, lost)
	}
	return err
}

// errConnectionLost says that a connection ended that nobody here ended.
var errConnectionLost = errors.New("the connection to the target was lost")

// drive begins and goes on until the session is over.
func (s *activeSession) drive(ctx context.Context) error {
	setup, cancel := context.WithTimeoutCause(s.c.ctx(), 2*connectTimeout, errors.New("the target does not answer"))
	defer cancel()
	stop := context.AfterFunc(ctx, cancel)
	defer stop()
	if err := s.begin(setup); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return s.because(err)
	}
	s.h.backoff.connected()
	s.h.set(Running, nil)
	s.h.log.Info("replication is running")
	completed := make(chan struct{})
	if !s.h.r.o.Continuous {
		go s.awaitEnd(completed)
	}
	ticker := time.NewTicker(checkpointEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			s.saveAll(closingPatience)
			return context.Cause(ctx)
		case <-s.c.ctx().Done():
			s.saveLocal()
			return s.because(errConnectionLost)
		case <-completed:
			return s.save(s.c.ctx())
		case <-ticker.C:
			if err := s.save(s.c.ctx()); err != nil && s.c.ctx().Err() == nil {
				return s.because(err)
			}
		}
	}
}

// because prefers the reason for which this side ended the connection over what follows from that.
func (s *activeSession) because(err error) error {
	cause := context.Cause(s.c.ctx())
	if f, ok := errors.AsType[fatalError](cause); ok {
		return f
	}
	if r, ok := errors.AsType[retryError](cause); ok {
		return r.error
	}
	return err
}

// retryError ends a connection so that the next one begins at the checkpoint: a revision failed in a way that may pass.
type retryError struct{ error }

func (e retryError) Unwrap() error { return e.error }

// awaitEnd closes completed when all collections have caught up and everything has been dealt with.
func (s *activeSession) awaitEnd(completed chan<- struct{}) {
	for _, a := range s.colls {
		for _, step := range []func() <-chan struct{}{func() <-chan struct{} { return a.caughtUp }, a.tracker.wait} {
			select {
			case <-step():
			case <-s.c.ctx().Done():
				return
			}
		}
	}
	close(completed)
}

// begin agrees on collections and checkpoints and starts the engine of each.
func (s *activeSession) begin(ctx context.Context) error {
	pairs, err := s.h.r.collections()
	if err != nil {
		return fatal(err)
	}
	if o := &s.h.r.o; o.RunAs != "" {
		if _, err := o.DB.Access().User(ctx, o.RunAs); err != nil {
			return fatal(fmt.Errorf("run_as user %q: %w", o.RunAs, err))
		}
	}
	s.c.mu.Lock()
	for i, p := range pairs {
		index := collectionNotAware
		if s.h.r.o.Collections != nil {
			index = i
		}
		a := &activeCollection{s: s, coll: s.c.newCollection(index, p.id), pair: p.CollectionPair, caughtUp: make(chan struct{})}
		a.coll.active = a
		a.tracker.stats = s.h.r.o.Stats
		a.cp = newCheckpointer(a)
		s.colls = append(s.colls, a)
		if index == collectionNotAware {
			s.c.plain = a.coll
		} else {
			s.c.collections, s.c.aware = append(s.c.collections, a.coll), true
		}
	}
	s.c.mu.Unlock()
	if err := s.loadCheckpoints(ctx); err != nil {
		return err
	}
	for _, a := range s.colls {
		start := a.beginPull
		if s.h.push {
			start = a.beginPush
		}
		if err := start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// numberedPair is a pair of collections with the local one's number.
type numberedPair struct {
	CollectionPair
	id store.Collection
}

// collections are the pairs with the local ones' numbers.
func (r *Replicator) collections() ([]numberedPair, error) {
	pairs := r.o.Collections
	if pairs == nil {
		pairs = []CollectionPair{{"", ""}}
	}
	numbered := make([]numberedPair, len(pairs))
	for i, p := range pairs {
		scope, name := "", ""
		if p.Local != "" {
			var err error
			if scope, name, err = splitCollection(p.Local); err != nil {
				return nil, err
			}
		}
		id, err := r.o.DB.Collection(scope, name)
		if err != nil {
			return nil, err
		}
		numbered[i] = numberedPair{p, id}
	}
	return numbered, nil
}

// channels are those that the replication of the collection is limited to; nil: it is not.
func (a *activeCollection) channels() []string {
	o := &a.s.h.r.o
	if own := o.CollectionsChannels[a.pair.Local]; own != nil {
		return own
	}
	return o.Channels
}

// noteCaughtUp notes once that the source has no more for now.
func (a *activeCollection) noteCaughtUp() {
	if !a.saidCaughtUp {
		a.saidCaughtUp = true
		close(a.caughtUp)
	}
}

// remoteError is what a remote's error means for the replication as a whole.
func remoteError(what string, err error) error {
	e, ok := errors.AsType[*blip.Error](err)
	if !ok {
		return fmt.Errorf("%s: %w", what, err)
	}
	err = fmt.Errorf("%s: the target answered %d: %s", what, e.Code, e.Text)
	if e.Domain == "BLIP" && e.Code == 404 {
		return fatal(err)
	}
	return err
}

// passes reports whether a failure to store a revision may pass, so that trying again later is right.
func passes(err error) bool {
	if _, ok := errors.AsType[peerBusyError](err); ok {
		return true
	}
	if e, ok := errors.AsType[*tidegate.Error](err); ok && e.Status != 0 {
		return false // a sync function, or this package, chose the answer
	}
	if errors.Is(err, database.ErrResolver) {
		return false
	}
	switch tidegate.ErrorCode(err) {
	case tidegate.Unavailable, tidegate.Canceled, tidegate.Internal, tidegate.TooMany:
		return true
	}
	return false
}
