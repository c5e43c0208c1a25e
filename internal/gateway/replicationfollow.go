package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/job"
	"github.com/tidegate/tidegate/internal/store"
)

// shared reports whether other nodes may serve from the store too. Where none can, nothing in the store changes but by this process, and
// there are no plan, no claims and nobody to follow.
func (m *Replications) shared() bool { return !m.r.g.nodes.Alone() }

// joinCluster tells the others that this node has the database, and what it is willing to run; first: no other node has it.
func (m *Replications) joinCluster(ctx context.Context, d *definition) (first bool, err error) {
	if first, err = m.clusterStart(ctx); err != nil {
		return false, err
	}
	value, err := json.Marshal(m.offer(d))
	if err != nil {
		return false, err
	}
	return first, m.r.g.nodes.Tell(ctx, replicationTopic(m.space()), value)
}

func startKey(space store.Space) store.Key {
	return store.NewKey(space, store.KindMeta).Name("gateway.replication.start")
}

// clusterStart reports whether this node is the first to have the database: no other one tells that it has, and none is just about to. Of
// several that start at once it is one at most.
func (m *Replications) clusterStart(ctx context.Context) (first bool, err error) {
	g, space := m.r.g, m.space()
	var before []byte
	others := 0
	err = g.opts.Store.View(ctx, func(r store.Reader) error {
		told, err := g.nodes.ToldIn(r, replicationTopic(space))
		if err != nil {
			return err
		}
		delete(told, g.NodeID())
		others = len(told)
		value, err := r.Get(startKey(space))
		before = bytes.Clone(value)
		return err
	})
	starter := string(before)
	if err != nil || others > 0 || starter != "" && starter != g.NodeID() && g.nodes.Alive(starter) {
		return false, err
	}
	err = g.opts.Store.Update(ctx, func(tx store.Tx) error {
		now, err := tx.Get(startKey(space))
		if first = err == nil && bytes.Equal(now, before); !first {
			return err
		}
		return tx.Put(startKey(space), []byte(g.NodeID()))
	})
	return first && err == nil, err
}

// leaveCluster takes back what joinCluster told, if it did.
func (m *Replications) leaveCluster(ctx context.Context) {
	m.mu.Lock()
	told := m.told
	m.told = false
	m.mu.Unlock()
	if !told {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTime)
	defer cancel()
	g, space := m.r.g, m.space()
	err := g.opts.Store.Update(ctx, func(tx store.Tx) error {
		starter, err := tx.Get(startKey(space))
		if err == nil && string(starter) == g.NodeID() {
			err = tx.Delete(startKey(space))
		}
		if err != nil {
			return err
		}
		return g.nodes.TellIn(tx, replicationTopic(space), nil)
	})
	if err != nil {
		g.log.Warn("the other nodes were not told that this one runs no replications of the database any more", "database", m.r.name, "error", err)
	}
}

// onlineShared is online where several nodes serve.
func (m *Replications) onlineShared(ctx context.Context, d *definition, first bool) {
	m.begin = func(ctx context.Context) error { return m.takePart(ctx, d, first) }
	if err := m.begin(ctx); err != nil {
		m.r.g.log.Error("this node runs no replications of the database yet; it is tried again", "database", m.r.name, "error", err)
	} else {
		m.begin = nil
	}
	m.save(saveSharedEvery)
	m.mu.Lock()
	if len(m.all) > startTogether {
		m.startWindow = min(time.Duration(len(m.all))*startEach, startMost)
	}
	ctx, end := context.WithCancel(m.r.g.ctx)
	endSaver := m.ended
	m.ended = func() { end(); endSaver() }
	m.mu.Unlock()
	follower := m.follow(ctx)
	m.mu.Lock()
	m.follower = follower
	m.mu.Unlock()
}

// takePart tells the others of this node and adds what is configured.
func (m *Replications) takePart(ctx context.Context, d *definition, first bool) error {
	m.mu.Lock()
	m.told = true
	m.mu.Unlock()
	alone, err := m.joinCluster(ctx, d)
	if err != nil {
		return err
	}
	return m.loadShared(ctx, d, first && alone)
}

// follow starts the follower, which keeps to what is stored: definitions, what is asked of them, and which node is to run which.
func (m *Replications) follow(ctx context.Context) (ended <-chan struct{}) {
	done := make(chan struct{})
	m.r.g.background.Go(func() {
		defer close(done)
		woken, stop := m.r.g.nodes.Subscribe(replicationTopic(m.space()))
		defer stop()
		for {
			_, others := m.r.g.nodes.Watch()
			var again <-chan time.Time
			if err := m.step(ctx); err != nil && ctx.Err() == nil {
				m.r.g.log.Warn("replications are not followed, and that is tried again", "database", m.r.name, "error", err)
				again = time.After(claimRetry)
			}
			select {
			case <-woken:
			case <-others:
			case <-m.wake:
			case <-again:
			case <-ctx.Done():
				return
			}
		}
	})
	return done
}

// wakeFollower makes the follower look again.
func (m *Replications) wakeFollower() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// step looks at what is stored, makes the plan if that is this node's task, and does what this node has to do.
func (m *Replications) step(ctx context.Context) error {
	if m.begin != nil {
		if err := m.begin(ctx); err != nil {
			return err
		}
		m.begin = nil
	}
	if err := m.refresh(ctx); err != nil {
		return err
	}
	changed, err := m.replan(ctx)
	if err == nil && changed {
		err = m.refresh(ctx)
	}
	if err != nil {
		return err
	}
	m.mend(ctx)
	for _, p := range m.list() {
		p.obey()
	}
	m.startWindow = 0
	return nil
}

// rows are a replication's rows as they are stored.
type rows struct{ definition, progress []byte }

// refresh reads what is stored and takes it over.
func (m *Replications) refresh(ctx context.Context) error {
	m.writing.Lock()
	defer m.writing.Unlock()
	space := m.space()
	var found map[string]rows
	var plan planned
	err := m.r.g.opts.Store.View(ctx, func(r store.Reader) (err error) {
		found = map[string]rows{}
		read := func(prefix store.Key, put func(*rows, []byte)) error {
			return scan(r, prefix, func(rest, value []byte) error {
				id, _, err := store.CutName(rest)
				one := found[id]
				put(&one, bytes.Clone(value))
				found[id] = one
				return err
			})
		}
		if err := read(replicationPrefix(space), func(r *rows, v []byte) { r.definition = v }); err != nil {
			return err
		}
		if err := read(progressPrefix(space), func(r *rows, v []byte) { r.progress = v }); err != nil {
			return err
		}
		plan, err = m.readPlan(r, space)
		return err
	})
	if err != nil {
		return fmt.Errorf("read replications: %w", err)
	}
	m.takeOver(found)
	m.mu.Lock()
	m.planned = plan
	close(m.refreshed)
	m.refreshed = make(chan struct{})
	m.mu.Unlock()
	return nil
}

// takeOver makes the set of replications what was found. One that does not make sense, perhaps because a newer version wrote it, stays as it is here, and
// the others do not wait for it. m.writing is held.
func (m *Replications) takeOver(found map[string]rows) {
	for _, p := range m.list() {
		if found[p.id].definition == nil {
			p.vanished()
		}
	}
	unread := map[string]string{}
	for id, r := range found {
		if r.definition == nil {
			continue // a status that a deletion left behind
		}
		p, err := m.find(id)
		if err == nil && p.has(r) {
			continue
		}
		s, err := r.decode(id, m.r.g.opts.Secrets)
		if err != nil {
			unread[id] = err.Error()
			if m.unread[id] != unread[id] {
				m.r.g.log.Error("a replication cannot be read and stays as it is on this node", "database", m.r.name, "replication", id, "error", err)
			}
			continue
		}
		if p == nil {
			p = m.newReplication(s)
			m.mu.Lock()
			m.all[id] = p
			m.mu.Unlock()
		}
		p.mu.Lock()
		p.def, p.stored, p.rows = s.def, s.progress, r
		p.mu.Unlock()
	}
	m.unread = unread
}

// decode makes sense of the rows of a replication.
func (r rows) decode(id string, keys *config.Keyring) (s storedReplication, err error) {
	s.id = id
	if s.def, err = decodeReplication(r.definition, keys); err != nil {
		return s, err
	}
	if r.progress != nil {
		if err := json.Unmarshal(r.progress, &s.progress); err != nil {
			return s, tidegate.Errorf(tidegate.Corrupt, "the stored status of a replication does not make sense: %w", err)
		}
	}
	return s, nil
}

// has reports whether the rows are those that were taken over last.
func (p *replication) has(r rows) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Equal(p.rows.definition, r.definition) && bytes.Equal(p.rows.progress, r.progress)
}

// vanished is a replication that another node has deleted.
func (p *replication) vanished() {
	p.interrupt(errStoppedByUser)
	p.mu.Lock()
	p.deleted = true
	p.mu.Unlock()
	p.m.forget(p)
}

// due reports whether this node is to run the replication.
func (p *replication) due() bool {
	node := p.m.nodeOf(p.id)
	p.m.mu.Lock()
	online := p.m.db != nil
	p.m.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	return online && node == p.m.r.g.NodeID() && p.def.Wanted && !p.deleted
}

// obey begins a run that this node is to begin, and ends one that it is not to go on with.
func (p *replication) obey() {
	due := p.due()
	p.mu.Lock()
	run, def := p.run, p.def
	asked := run != nil && p.claimed != nil && run.asked != def.Asked
	failed := p.state == job.Error && p.tried == def.Asked+1
	if !due && run == nil {
		p.tried = 0 // whoever gets it again tries again
	}
	resets := run != nil && run.resets
	p.mu.Unlock()
	switch {
	case resets:
	case run != nil && !def.Wanted:
		p.interruptRun(errStoppedByUser)
	case run != nil && !due:
		p.interruptRun(errMoved)
	case asked:
		p.interruptRun(errUpdating)
	case run == nil && due && !failed:
		p.tryBegin()
	}
}

// tryBegin begins a run unless somebody is about to do something with the replication: they wake the follower when they are done.
func (p *replication) tryBegin() {
	select {
	case p.op <- struct{}{}:
	default:
		return
	}
	defer func() { <-p.op }()
	if p.gone() {
		return
	}
	p.happened(job.Assign)
	delay := time.Duration(0)
	if p.m.startWindow > 0 {
		delay = rand.N(p.m.startWindow)
	}
	p.begin(delay)
}

// mend writes that nothing runs where a run of this node could not say so: the store was out of reach at its end, or the process ended.
func (m *Replications) mend(ctx context.Context) {
	g, space := m.r.g, m.space()
	for _, p := range m.list() {
		p.mu.Lock()
		s := p.stored
		state := job.ParseState(s.State)
		stale := p.run == nil && p.claimed == nil && s.Node == g.NodeID() && (state.Active() || state == job.Resetting)
		before := p.rows.progress
		p.mu.Unlock()
		if !stale {
			continue
		}
		s.State = job.Stopped.String()
		value, err := json.Marshal(s)
		if err == nil {
			err = g.opts.Store.Update(ctx, func(tx store.Tx) error {
				now, err := tx.Get(progressKey(space, p.id))
				if err != nil || !bytes.Equal(now, before) {
					return err
				}
				return tx.Put(progressKey(space, p.id), value)
			})
		}
		if err != nil {
			g.log.Warn("the status of a replication could not be mended", "database", m.r.name, "replication", p.id, "error", err)
		}
	}
}
