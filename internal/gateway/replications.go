package gateway

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/job"
	"github.com/tidegate/tidegate/internal/store"
)

// Replications are the replications of one database with databases of other gateways: their definitions, and those that
// run here. They are there while the database is online. It is safe for concurrent use.
type Replications struct {
	r *Running

	writing sync.Mutex // held while the store is written, so that what is deleted is not written again

	mu      sync.Mutex // may be taken while a replication.mu is held, not the other way round
	all     map[string]*replication
	db      *database.Database    // nil while the database is not online
	data    store.Space           // of the database, while it was online last
	joined  bool                  // this node may run replications of the database
	begun   bool                  // they were loaded before, by this process
	ended   context.CancelFunc    // ends the saver
	saver   chan struct{}         // closed when the saver has ended
	dirty   map[*replication]bool // their state has changed since their status was stored
	changed chan struct{}         // asks the saver to store those at once

	former []ReplicationStatus // of ad hoc replications that are gone, the latest last

	// Where several nodes serve from one store:
	told        bool                        // the others know that this node has the database
	follower    <-chan struct{}             // closed when the follower has ended
	wake        chan struct{}               // makes the follower look again
	planned     planned                     // as it was read last
	unread      map[string]string           // what was logged of those that cannot be read; guarded by writing
	refreshed   chan struct{}               // closed and replaced when something was read
	begin       func(context.Context) error // what is to be done first, and could not be so far; nil: nothing. Of the follower
	startWindow time.Duration               // over which the first runs are spread; of the follower
}

// Replications are the database's replications with other gateways.
func (r *Running) Replications() *Replications { return r.replications }

func newReplications(r *Running) *Replications {
	return &Replications{
		r: r, all: map[string]*replication{}, dirty: map[*replication]bool{}, changed: make(chan struct{}, 1),
		wake: make(chan struct{}, 1), refreshed: make(chan struct{}),
	}
}

// saveEvery is how often the status of running replications is stored; saveSharedEvery where others answer with what is stored.
const (
	saveEvery       = 5 * time.Second
	saveSharedEvery = time.Second
)

// online loads the replications when their database has come online and starts those that are meant to run. What is
// wrong with them does not keep the database from being online.
func (m *Replications) online(ctx context.Context, d *definition, db *database.Database) {
	log := m.r.g.log.With("database", m.r.name)
	m.mu.Lock()
	first := !m.begun
	m.begun, m.db, m.data, m.joined = true, db, d.Space, false
	m.mu.Unlock()
	if m.shared() {
		m.onlineShared(ctx, d, first)
		return
	}
	m.mu.Lock()
	m.joined = m.r.g.opts.NewReplicator != nil && d.Config.Settings().Replications.Enabled
	m.mu.Unlock()
	if err := m.load(ctx, d, first); err != nil {
		log.Error("replications could not be loaded", "error", err)
	}
	m.save(saveEvery)
	m.startWanted()
}

// save starts the saver, which stores the status of replications regularly and when asked to.
func (m *Replications) save(every time.Duration) {
	ctx, end := context.WithCancel(m.r.g.ctx)
	done := make(chan struct{})
	m.mu.Lock()
	m.ended, m.saver = end, done
	m.mu.Unlock()
	m.r.g.background.Go(func() {
		defer close(done)
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			var which []*replication
			select {
			case <-ticker.C:
				which = m.list()
			case <-m.changed:
				which = m.takeDirty()
			case <-ctx.Done():
				which = m.list()
			}
			if err := m.saveProgress(ctx, which); err != nil {
				m.r.g.log.Error("the status of replications could not be stored", "database", m.r.name, "error", err)
			}
			if ctx.Err() != nil {
				return
			}
		}
	})
}

// takeDirty returns those whose state has changed.
func (m *Replications) takeDirty() []*replication {
	m.mu.Lock()
	defer m.mu.Unlock()
	which := slices.Collect(maps.Keys(m.dirty))
	clear(m.dirty)
	return which
}

// noteChange has the saver store the status of a replication soon.
func (m *Replications) noteChange(p *replication) {
	m.mu.Lock()
	m.dirty[p] = true
	m.mu.Unlock()
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// offline stops the replications because their database stops, and returns when they have stopped, or ctx ends.
func (m *Replications) offline(ctx context.Context, cause error) {
	m.mu.Lock()
	end, saver, follower := m.ended, m.saver, m.follower
	m.db, m.joined, m.ended, m.saver, m.follower = nil, false, nil, nil, nil
	m.mu.Unlock()
	if end == nil {
		return // it did not come online
	}
	for _, p := range m.list() {
		p.interrupt(cause)
	}
	for _, p := range m.list() {
		if !p.idle(ctx) {
			m.r.g.log.Warn("a replication was still running; the database is closed under it", "database", m.r.name, "replication", p.id)
		}
	}
	end()
	<-saver
	if follower != nil {
		<-follower
	}
	if cause != errReloading {
		m.leaveCluster(ctx)
	}
}

// load reads what is stored and adds what is configured. What was loaded before goes on as it is, its counters above all.
func (m *Replications) load(ctx context.Context, d *definition, clusterStart bool) error {
	stored, err := readReplications(ctx, m.r.g.opts.Store, m.space(), m.r.g.opts.Secrets)
	if err != nil {
		return err
	}
	defs := map[string]*replicationDefinition{}
	var leftOver []string
	all := map[string]*replication{}
	m.mu.Lock()
	known := m.all
	m.mu.Unlock()
	for _, s := range stored {
		cfg := s.def.Config
		switch {
		case clusterStart && cfg.IsAdhoc():
			leftOver = append(leftOver, s.id)
			continue
		case clusterStart && !s.def.Wanted && s.def.Why == whyCompleted && cfg.InitialState == "running":
			again := *s.def
			again.Wanted, again.Why = true, ""
			s.def, defs[s.id] = &again, &again
		}
		if p := known[s.id]; p != nil {
			p.adopt(s.def)
			all[s.id] = p
		} else {
			all[s.id] = m.newReplication(s)
		}
	}
	for id, def := range m.configured(d, m.r.g.opts.Now()) {
		if p := all[id]; p != nil {
			if !p.definition().Config.Same(def.Config) {
				m.r.g.log.Info("the stored definition of a replication differs from the configured one, and counts", "database", m.r.name, "replication", id)
			}
			continue
		}
		defs[id] = def
		all[id] = m.newReplication(storedReplication{id: id, def: def})
	}
	m.mu.Lock()
	m.all = all
	m.mu.Unlock()
	m.writing.Lock()
	defer m.writing.Unlock()
	return errors.Join(m.deleteRows(ctx, nil, leftOver...), m.putDefinitions(ctx, defs))
}

// newReplicationDefinition makes the definition that is stored of a new one.
func newReplicationDefinition(cfg *config.Replication, now time.Time) *replicationDefinition {
	cfg = cfg.Clone()
	cfg.FillDefaults()
	now = now.UTC().Truncate(time.Millisecond)
	return &replicationDefinition{Config: cfg, Wanted: cfg.InitialState == "running", Created: now, Updated: now}
}

// Starts at load are spread over startEach for each replication, startMost at most, so that a thousand do not connect
// at once.
const (
	startTogether = 16 // so few need not be spread
	startEach     = 5 * time.Millisecond
	startMost     = 8 * time.Second
)

// startWanted starts what is meant to run here.
func (m *Replications) startWanted() {
	all := m.list()
	window := min(time.Duration(len(all))*startEach, startMost)
	for _, p := range all {
		delay := time.Duration(0)
		if len(all) > startTogether {
			delay = rand.N(window)
		}
		p.assign(delay)
	}
}

// nodeOf is the id of the node that runs a replication; "" if none can.
func (m *Replications) nodeOf(id string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.shared():
		return m.planned.plan.Nodes[id]
	case m.joined:
		return m.r.g.NodeID()
	}
	return ""
}

// space is where the database's data are.
func (m *Replications) space() store.Space {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.data
}

// list returns all replications by id.
func (m *Replications) list() []*replication {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(maps.Values(m.all), func(a, b *replication) int { return cmp.Compare(a.id, b.id) })
}

// find returns a replication; NotFound `missing`.
func (m *Replications) find(id string) (*replication, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.all[id]; p != nil {
		return p, nil
	}
	return nil, tidegate.ErrMissing
}

// forget takes a replication out of the set.
func (m *Replications) forget(p *replication) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.all[p.id] == p {
		delete(m.all, p.id)
	}
}

// database is the open database; Unavailable: it is not online.
func (m *Replications) database() (*database.Database, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.db == nil {
		return nil, errGoingOffline
	}
	return m.db, nil
}

// List returns all definitions by id.
func (m *Replications) List() []ReplicationInfo {
	var all []ReplicationInfo
	for _, s := range m.Statuses() {
		all = append(all, s.ReplicationInfo)
	}
	return all
}

// Get returns a definition; NotFound.
func (m *Replications) Get(id string) (ReplicationInfo, error) {
	s, err := m.Status(id)
	return s.ReplicationInfo, err
}

// Statuses returns the status of all replications by id.
func (m *Replications) Statuses() []ReplicationStatus {
	m.catchUp()
	list := m.list()
	all := make([]ReplicationStatus, len(list))
	for i, p := range list {
		all[i] = p.status()
	}
	return all
}

// Status returns what a replication is doing; NotFound.
func (m *Replications) Status(id string) (ReplicationStatus, error) {
	m.catchUp()
	p, err := m.find(id)
	if err != nil {
		return ReplicationStatus{}, err
	}
	return p.status(), nil
}

// move applies an event by the table of package job. p.mu is held.
func (p *replication) move(ev job.Event) error {
	next, err := job.Next(p.state, ev)
	if err != nil {
		return err
	}
	if next == p.state {
		return nil
	}
	p.m.r.g.log.Debug("replication state", "database", p.m.r.name, "replication", p.id, "from", p.state.String(), "to", next.String())
	p.state = next
	close(p.moved)
	p.moved = make(chan struct{})
	p.m.noteChange(p)
	return nil
}
