package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/store"
)

// Several nodes may serve a database. Its device sync has one row, which any of them changes; each follows it, closes its own gate and ends
// its own sessions, and tells the others what sessions it has. What has to be done once is done by whoever holds the lease of the database.

// deviceSyncTopic is noted with each change of the row of a database.
func deviceSyncTopic(space store.Space) string { return fmt.Sprintf("devicesync.%d", space) }

// deviceSyncLease is held by the node that settles or trims a database.
func deviceSyncLease(space store.Space) string { return fmt.Sprintf("devicesync.%d", space) }

// presenceTopic is what nodes tell of their sessions under: a map of presences by space.
const presenceTopic = "devicesync"

// presence is what a node tells of the device sync of one database. A node that tells nothing of a database does not serve it.
type presence struct {
	Version  uint64 `json:"v"`           // of the row that it acts by
	Sessions int    `json:"s,omitempty"` // of devices and peers
	// Refused are sessions that are open still though that row refuses them.
	Refused int          `json:"r,omitempty"`
	Active  int64        `json:"a,omitempty"` // the last activity of a device or peer: Unix s, to the minute
	Needs   tidegate.Seq `json:"n,omitempty"` // the lowest position whose history a session still needs
}

// presence is that of this node.
func (s *DeviceSync) presence() presence {
	reg := &s.sessions
	reg.mu.Lock()
	defer reg.mu.Unlock()
	row := s.live.Row()
	p := presence{Version: row.Record.Version, Active: s.active.Load() / 60_000 * 60}
	for one := range reg.open {
		if row.Gate(one.access) != nil {
			p.Refused++
		}
		if !one.access.AdminFeed {
			p.Sessions++
		}
		if pos := tidegate.Seq(one.needs.Load()); pos > 0 && (p.Needs == 0 || pos < p.Needs) {
			p.Needs = pos
		}
	}
	return p
}

// Presence is told at most once in presencePause, and looked at every presenceTick in any case.
const (
	presencePause = time.Second
	presenceTick  = 5 * time.Second
)

// tellPresence tells the other nodes of this one's sessions until the gateway closes.
func (g *Gateway) tellPresence() {
	if g.nodes.Alone() {
		return
	}
	ticker := time.NewTicker(presenceTick)
	defer ticker.Stop()
	last := ""
	for {
		next, err := g.presences()
		if err == nil && next != last {
			last = ""
			if err = g.nodes.Tell(g.ctx, presenceTopic, []byte(next)); err == nil {
				last = next
			} // else it may have been stored
		}
		if err != nil && g.ctx.Err() == nil {
			g.log.Warn("device sync: other nodes could not be told of the sessions of this one", "error", err)
		}
		pause := time.NewTimer(presencePause)
		select {
		case <-pause.C:
		case <-g.sessionsUrgent:
		case <-g.ctx.Done():
		}
		pause.Stop()
		select {
		case <-g.sessionsChanged:
		case <-g.sessionsUrgent:
		case <-ticker.C:
		case <-g.ctx.Done():
			return
		}
	}
}

// presences encodes what this node has to tell.
func (g *Gateway) presences() (string, error) {
	all := map[store.Space]presence{}
	for _, r := range g.Databases() {
		if space := r.definition().Space; space != 0 {
			all[space] = r.deviceSync.presence()
		}
	}
	b, err := json.Marshal(all)
	return string(b), err
}

// wake puts a token into a channel that holds one.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// others reads what the other nodes that are alive and serve the database tell of it, by node. One that has told nothing yet has just started: what
// its sessions could still store is judged where it is committed.
func (s *DeviceSync) others(ctx context.Context) (map[string]presence, error) {
	nodes := s.r.g.nodes
	if nodes.Alone() {
		return nil, nil
	}
	told, err := nodes.Told(ctx, presenceTopic)
	if err != nil {
		return nil, fmt.Errorf("read the sessions of other nodes: %w", err)
	}
	space := s.r.definition().Space
	others := map[string]presence{}
	for id, value := range told {
		if id == nodes.Self() {
			continue
		}
		var all map[store.Space]presence
		if err := json.Unmarshal(value, &all); err != nil {
			return nil, tidegate.Errorf(tidegate.Corrupt, "what node %s tells of its sessions does not make sense: %w", id, err)
		}
		if p, serves := all[space]; serves {
			others[id] = p
		}
	}
	return others, nil
}

// refusedElsewhere counts the other nodes that do not act by a version of the row yet, or have open sessions that it refuses.
func (s *DeviceSync) refusedElsewhere(ctx context.Context, version uint64) (left int, err error) {
	others, err := s.others(ctx)
	for _, p := range others {
		if p.Version < version || p.Refused > 0 {
			left++
		}
	}
	return left, err
}

// subscribe follows the row of the database's data, of which there are none yet if space is 0, until unsubscribe.
func (s *DeviceSync) subscribe(space store.Space) {
	g := s.r.g
	if g.nodes.Alone() || space == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.following == space {
		return
	}
	if s.unfollow != nil {
		s.unfollow()
	}
	ctx, cancel := context.WithCancel(g.ctx)
	s.following, s.unfollow = space, cancel
	if !g.spawn(func() { s.followRow(ctx, space) }) || !g.spawn(func() { s.r.standby(ctx, space) }) {
		cancel()
	}
}

// unsubscribe ends what subscribe began: the database is gone.
func (s *DeviceSync) unsubscribe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unfollow != nil {
		s.unfollow()
		s.following, s.unfollow = 0, nil
	}
}

// rowRetry is the pause after the row could not be read.
const rowRetry = 500 * time.Millisecond

// followRow takes over the row when another node has changed it.
func (s *DeviceSync) followRow(ctx context.Context, space store.Space) {
	woken, stop := s.r.g.nodes.Subscribe(deviceSyncTopic(space))
	defer stop()
	for {
		select {
		case <-woken:
		case <-ctx.Done():
			return
		}
		for s.refreshOf(ctx, space) != nil {
			if !pause(ctx, rowRetry) {
				return
			}
		}
	}
}

// refresh takes over the row as it is stored, if it is newer than the one that is known, and acts on it.
func (s *DeviceSync) refresh(ctx context.Context) error {
	return s.refreshOf(ctx, s.r.definition().Space)
}

// Refresh makes sure that the row that is known is the stored one: another node may have changed it a moment ago.
func (s *DeviceSync) Refresh(ctx context.Context) error {
	if s.r.g.nodes.Alone() {
		return nil
	}
	return s.refresh(ctx)
}

func (s *DeviceSync) refreshOf(ctx context.Context, space store.Space) error {
	d := s.r.definition()
	if d.Space != space {
		return nil // it has other data by now
	}
	row, stored, err := readRow(ctx, s.r.g.opts.Store, d)
	if err != nil || stored == nil {
		return err
	}
	before := s.live.Row()
	if row.Record.Version <= before.Record.Version {
		return nil
	}
	if row.Record.Place() != before.Record.Place() {
		s.log().Info("device sync: state changed on another node", "from", before.Record.Word(), "to", row.Record.Word(), "phase", string(row.Record.Phase))
	}
	s.take(row)
	return nil
}

// endOlder ends the sessions that were let in in another epoch.
func (s *DeviceSync) endOlder(epoch uint64) {
	s.each(func(one *Session) {
		if one.epoch != epoch {
			one.end(errEpochChanged)
		}
	})
}

// lead runs f while this node has the database's lease. It waits for it, since another node may be at it.
func (s *DeviceSync) lead(ctx context.Context, f func(ctx context.Context) error) (err error) {
	space := s.r.definition().Space
	led := s.r.g.nodes.Lead(ctx, deviceSyncLease(space), func(ctx context.Context, _ uint64) error {
		if err = s.refreshOf(ctx, space); err == nil {
			err = f(ctx)
		}
		if err != nil && ctx.Err() != nil {
			return err // the lease is lost, or all ends
		}
		return nil
	})
	if led != nil {
		return led
	}
	return err
}

// tryLead runs f if no other node has the database's lease now.
func (s *DeviceSync) tryLead(ctx context.Context, f func(ctx context.Context) error) error {
	lease, err := s.r.g.nodes.TryLease(ctx, deviceSyncLease(s.r.definition().Space))
	if err != nil || lease == nil {
		return err
	}
	defer lease.Release()
	held, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(lease.Context(), func() { cancel(context.Cause(lease.Context())) })()
	return f(held)
}

// fence returns what a transaction of the settler or of a trim asks: whether the row still says that what it is part of is under way. Under
// way it is the holder of the lease that does it; one who was held up past its lease finds in the row how far the next one has come.
func (s *DeviceSync) fence(same func(*devicesync.Row) bool) func(store.Reader) error {
	d := s.r.definition()
	return func(r store.Reader) error {
		value, err := r.Get(deviceSyncKey(d.Space))
		if err != nil {
			return err
		}
		row, err := decodeRow(value, d)
		if err != nil {
			return err
		}
		if !same(row) {
			return errStepDone
		}
		return nil
	}
}
