package gateway

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/devicesync"
)

// sessions are the open replications of a database: BLIP connections, live feeds, and replications of its own with other gateways.
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
	epoch  uint64        // the number of the one that it was let in in
	needs  atomic.Uint64 // the position whose history it still needs; 0: none

	ctx context.Context
	end context.CancelCauseFunc
}

// Causes that end sessions besides a *devicesync.GateError. The client comes again by itself.
var (
	errEpochChanged = tidegate.Errorf(tidegate.Unavailable, "%s: every client must reset", devicesync.EpochChanged)
	errTrimmedAway  = tidegate.Errorf(tidegate.Unavailable, "%s: the history that this session needs is gone", devicesync.HistoryTrimmed)
)

// Context ends when the session must, with a cause that says why, which is a *devicesync.GateError if the gate was closed. It also ends
// with the context that Join got.
func (s *Session) Context() context.Context { return s.ctx }

// Needs notes the position that the session's feed has come to, since trimming waits for it; 0: it has caught up.
func (s *Session) Needs(pos tidegate.Seq) { s.needs.Store(uint64(pos)) }

// Admit says to a Handle that it is the session's: what it writes is refused once the session would not be let in any more.
func (s *Session) Admit(h *database.Handle) *database.Handle { return h.Admitted(s.access, s.epoch) }

// Leave takes the session out. It is called once.
func (s *Session) Leave() {
	s.s.Touch()
	s.end(context.Canceled)
	reg := &s.s.sessions
	reg.mu.Lock()
	defer reg.mu.Unlock()
	delete(reg.open, s)
	if reg.gone != nil {
		close(reg.gone)
		reg.gone = nil
	}
	if unsettled(s.s.live.Row()) {
		wake(s.s.r.g.sessionsUrgent)
	} else {
		wake(s.s.r.g.sessionsChanged)
	}
}

// Join lets a replication in, or returns the *devicesync.GateError that refuses it. It is let in under the same lock that is taken when
// the gate closes, so that none slips through.
func (s *DeviceSync) Join(ctx context.Context, what devicesync.Session, access devicesync.Access) (*Session, error) {
	reg := &s.sessions
	reg.mu.Lock()
	defer reg.mu.Unlock()
	row := s.live.Row()
	if err := s.gate(row, access); err != nil {
		return nil, err
	}
	what.Started, what.Admin, what.Peer = s.r.g.opts.Now().UTC(), access.AdminFeed, access.Peer
	one := &Session{s: s, what: what, access: access, epoch: row.Record.Epoch.No}
	one.ctx, one.end = context.WithCancelCause(ctx)
	if reg.open == nil {
		reg.open = map[*Session]struct{}{}
	}
	reg.open[one] = struct{}{}
	wake(s.r.g.sessionsChanged)
	if !access.AdminFeed {
		s.Touch()
	}
	return one, nil
}

// Allow lets a request of replication pass, or returns the *devicesync.GateError that refuses it.
func (s *DeviceSync) Allow(access devicesync.Access) error {
	if err := s.gate(s.live.Row(), access); err != nil {
		return err
	}
	if !access.AdminFeed {
		s.Touch()
	}
	return nil
}

func (s *DeviceSync) gate(row *devicesync.Row, access devicesync.Access) error {
	err := row.Gate(access)
	if err == nil {
		return nil // not err: a nil *GateError is no nil error
	}
	s.stats.refused(err.Code)
	now := s.r.g.opts.Now().Unix()
	if last := s.refusedAt.Load(); now-last >= refusedLogEvery && s.refusedAt.CompareAndSwap(last, now) {
		s.log().Info("device sync: clients are refused", "code", string(err.Code), "peer", access.Peer)
	}
	return err
}

// refusedLogEvery is how often, in seconds, a line in the log says that clients are refused: thousands try again all the time.
const refusedLogEvery = 60

// Touch notes activity of a device or peer: sync does not pause by itself while there is some (device-sync.md §8.4).
func (s *DeviceSync) Touch() { s.active.Store(s.r.g.opts.Now().UnixMilli()) }

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

// each calls fn with every open session.
func (s *DeviceSync) each(fn func(*Session)) {
	reg := &s.sessions
	reg.mu.Lock()
	defer reg.mu.Unlock()
	for one := range reg.open {
		fn(one)
	}
}

// devices counts the open sessions of devices and peers.
func (s *DeviceSync) devices() (n int) {
	s.each(func(one *Session) {
		if !one.access.AdminFeed {
			n++
		}
	})
	return n
}

// lowestNeed is the lowest position that an open session, on any node, still needs; 0 if none does.
func (s *DeviceSync) lowestNeed(ctx context.Context) (lowest tidegate.Seq, err error) {
	all, err := s.others(ctx)
	if err != nil {
		return 0, err
	}
	lowest = s.presence().Needs
	for _, p := range all {
		if p.Needs > 0 && (lowest == 0 || p.Needs < lowest) {
			lowest = p.Needs
		}
	}
	return lowest, nil
}

// endAll ends all sessions.
func (s *DeviceSync) endAll(cause error) { s.each(func(one *Session) { one.end(cause) }) }

// endBelow ends the sessions that still need what is not above floor.
func (s *DeviceSync) endBelow(floor tidegate.Seq) {
	s.each(func(one *Session) {
		if pos := tidegate.Seq(one.needs.Load()); pos > 0 && pos <= floor {
			one.end(errTrimmedAway)
		}
	})
}

// endRefused ends the sessions that the gate does not let be any more. It returns how many of those there are still, and a channel
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
