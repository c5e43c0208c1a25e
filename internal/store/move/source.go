package move

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/archive"
	"github.com/tidegate/tidegate/internal/store/blob"
)

// Errors of a source.
var (
	ErrBusy  = tidegate.Errorf(tidegate.Conflict, "everything is being moved already")
	ErrOver  = error(&tidegate.Error{Code: tidegate.Gone, Status: 410, Reason: "this move is over; the gateway goes on as it was"})
	errEarly = tidegate.Errorf(tidegate.Conflict, "writes are not stopped")
)

// MaxStop bounds for how long a move may have writes refused.
const MaxStop = 10 * time.Minute

// Source is the end of a move at the gateway that serves. One move is under way at a time.
type Source struct {
	rec    *Recorder
	blobs  blob.Store
	header func() archive.Header
	log    *slog.Logger
	moved  chan struct{}

	mu  sync.Mutex
	now *session
	to  string
}

// session is a move under way.
type session struct {
	id      string
	ctx     context.Context
	cancel  context.CancelCauseFunc
	work    sync.Mutex // held by whoever reads changes: one after another
	stopped bool       // under Source.mu
	done    bool       // under Source.mu: the other store has it all
	timer   *time.Timer
}

// NewSource makes the end of a gateway over its store. header heads what is sent.
func NewSource(rec *Recorder, blobs blob.Store, header func() archive.Header, log *slog.Logger) *Source {
	return &Source{rec: rec, blobs: blobs, header: header, log: log, moved: make(chan struct{})}
}

// Moved is closed when everything was moved: the gateway must stop.
func (s *Source) Moved() <-chan struct{} { return s.moved }

// To is where everything was moved to, once Moved is closed.
func (s *Source) To() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.to
}

// Begin begins a move, which goes on until its last step, until ctx ends, or until End. over is closed then. Conflict: ErrBusy.
func (s *Source) Begin(ctx context.Context) (id string, over <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now != nil {
		return "", nil, ErrBusy
	}
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	m := &session{id: hex.EncodeToString(b[:])}
	m.ctx, m.cancel = context.WithCancelCause(ctx)
	s.now = m
	context.AfterFunc(m.ctx, func() { s.end(m) })
	s.log.Info("a move to another store begins", "move", m.id)
	return m.id, m.ctx.Done(), nil
}

// End gives a move up: writes are taken again, and nothing is recorded any more.
func (s *Source) End(id string) {
	if m, err := s.find(id); err == nil {
		m.cancel(ErrOver)
	}
}

func (s *Source) find(id string) (*session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == nil || s.now.id != id || s.now.ctx.Err() != nil {
		return nil, ErrOver
	}
	return s.now, nil
}

// end is run once when a session's context ends.
func (s *Source) end(m *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.timer != nil {
		m.timer.Stop()
	}
	if m.done {
		return // the store stays as it is for the time that is left
	}
	s.rec.end()
	s.now = nil
	s.log.Warn("a move to another store did not come to its end; the gateway goes on as it was", "move", m.id, "because", context.Cause(m.ctx))
}

// step runs f for a move; if f fails the move is over, since what it was about to send is forgotten.
func (s *Source) step(ctx context.Context, id string, f func(context.Context) error) error {
	m, err := s.find(id)
	if err != nil {
		return err
	}
	m.work.Lock()
	defer m.work.Unlock()
	within, cancel := context.WithCancel(m.ctx) // which has ended before end is called
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	if err := f(within); err != nil {
		m.cancel(fmt.Errorf("send to the other store: %w", err))
		return err
	}
	return nil
}

// Snapshot writes an archive of everything and begins to record what is changed.
func (s *Source) Snapshot(ctx context.Context, id string, w io.Writer) error {
	return s.step(ctx, id, func(ctx context.Context) error {
		return s.rec.snapshot(ctx, func(r store.Reader, _ archive.Changed) error {
			_, err := archive.WriteSnapshot(ctx, w, s.header(), r, s.blobs, nil)
			return err
		})
	})
}

// Changes writes what was changed since the last call, or since Snapshot.
func (s *Source) Changes(ctx context.Context, id string, w io.Writer) error {
	return s.step(ctx, id, func(ctx context.Context) error {
		return s.rec.snapshot(ctx, func(r store.Reader, changed archive.Changed) error {
			_, err := archive.WriteChanges(ctx, w, s.header(), r, s.blobs, changed)
			return err
		})
	})
}

// Stop refuses writes from now on, for at most the time given: if Finish was not called by then the move is over. Invalid: the time is none.
func (s *Source) Stop(id string, most time.Duration) error {
	if most <= 0 || most > MaxStop {
		return tidegate.Errorf(tidegate.Invalid, "writes can be stopped for up to %v", MaxStop)
	}
	m, err := s.find(id)
	if err != nil {
		return err
	}
	s.rec.stop(m.ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.ctx.Err() != nil { // end lets writes through again, if it has not done so
		return ErrOver
	}
	if !m.stopped {
		m.stopped = true
		m.timer = time.AfterFunc(most, func() { m.cancel(errors.New("writes were stopped for as long as was allowed")) })
		s.log.Info("writes are stopped for the end of a move", "move", m.id, "most", most)
	}
	return nil
}

// Digest is that of the store (archive.Digest), while writes are stopped.
func (s *Source) Digest(ctx context.Context, id string) (digest string, err error) {
	m, err := s.find(id)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	stopped := m.stopped
	s.mu.Unlock()
	if !stopped {
		return "", errEarly
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(m.ctx, cancel)()
	return archive.Digest(ctx, s.rec)
}

// Finish notes in the store that everything was moved: it takes no writes any more and is not served from again, and Moved is closed. Conflict:
// writes are not stopped. Gone: the move is over.
func (s *Source) Finish(ctx context.Context, id, to string) error {
	m, err := s.find(id)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case m.done:
		return nil
	case m.ctx.Err() != nil:
		return ErrOver
	case !m.stopped:
		return errEarly
	case to == "":
		return tidegate.Errorf(tidegate.Invalid, "say where everything was moved to")
	}
	// With the lock held nothing ends the move meanwhile.
	if err := archive.MarkMoved(context.WithoutCancel(ctx), s.rec.Store, archive.Moved{To: to, At: time.Now().UTC()}); err != nil {
		return err
	}
	m.done, s.to = true, to
	m.timer.Stop()
	s.log.Info("everything was moved to another store; this gateway stops", "move", m.id, "to", to)
	close(s.moved)
	return nil
}
