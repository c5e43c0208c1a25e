package gateway

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/tidegate/tidegate/internal/devicesync"
)

// sessions are the open replications of a database: BLIP connections and live feeds.
type sessions struct {
	mu   sync.Mutex
	open map[*Session]struct{}
	gone chan struct{} // closed, and then nil, when a session ends; nil: nobody waits
}

// Session is an open replication that was let in.
type Session struct {
	s      *DeviceSync
	what   devicesync.Session
	access devicesync.Access

	ctx context.Context
	end context.CancelCauseFunc
}

// Context ends when the session must: its cause is then a *devicesync.GateError. It also ends with the context that Join got.
func (s *Session) Context() context.Context { return s.ctx }

// Leave takes the session out. It is called once.
func (s *Session) Leave() {
	s.end(context.Canceled)
	reg := &s.s.sessions
	reg.mu.Lock()
	defer reg.mu.Unlock()
	delete(reg.open, s)
	if reg.gone != nil {
		close(reg.gone)
		reg.gone = nil
	}
}

// Join lets a replication in, or returns the *devicesync.GateError that refuses it. It is let in under the same lock that closing
// the gate takes, so that none slips through.
func (s *DeviceSync) Join(ctx context.Context, what devicesync.Session, access devicesync.Access) (*Session, error) {
	reg := &s.sessions
	reg.mu.Lock()
	defer reg.mu.Unlock()
	if err := s.live.Row().Gate(access); err != nil {
		return nil, err
	}
	what.Started = s.r.g.opts.Now().UTC()
	one := &Session{s: s, what: what, access: access}
	one.ctx, one.end = context.WithCancelCause(ctx)
	if reg.open == nil {
		reg.open = map[*Session]struct{}{}
	}
	reg.open[one] = struct{}{}
	return one, nil
}

// Sessions lists the open sessions, the oldest first.
func (s *DeviceSync) Sessions() []devicesync.Session {
	reg := &s.sessions
	reg.mu.Lock()
	defer reg.mu.Unlock()
	all := make([]devicesync.Session, 0, len(reg.open))
	for one := range reg.open {
		all = append(all, one.what)
	}
	slices.SortFunc(all, func(a, b devicesync.Session) int {
		return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.Remote, b.Remote))
	})
	return all
}

// endRefused ends the sessions that the gate does not let be any more, and returns how many of those there are still, and a channel
// that is closed when one of all sessions ends.
func (s *DeviceSync) endRefused() (left int, gone <-chan struct{}) {
	reg := &s.sessions
	reg.mu.Lock()
	defer reg.mu.Unlock()
	row := s.live.Row()
	for one := range reg.open {
		if err := row.Gate(one.access); err != nil {
			left++
			one.end(err)
		}
	}
	if reg.gone == nil {
		reg.gone = make(chan struct{})
	}
	return left, reg.gone
}
