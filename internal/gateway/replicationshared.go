package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/job"
	"github.com/tidegate/tidegate/internal/store"
)

// What is asked of a replication where several nodes serve is written into its definition, whichever node is asked: the followers of all
// nodes are woken, and the one whose task it is does it. Only what needs no run, a reset or a deletion, is done by the node that is asked,
// once it has the replication's claim.

// recent is how long an answer may wait for the store before it says what is known here.
const recent = 2 * time.Second

// catchUp takes over what other nodes have written, so that an answer is not behind them.
func (m *Replications) catchUp() {
	if !m.shared() {
		return
	}
	m.mu.Lock()
	online := m.db != nil
	m.mu.Unlock()
	if !online {
		return
	}
	ctx, cancel := context.WithTimeout(m.r.g.ctx, recent)
	defer cancel()
	if err := m.refresh(ctx); err != nil {
		m.r.g.log.Debug("an answer about replications may be old", "database", m.r.name, "error", err)
	}
}

// actShared is act for a database that several nodes serve.
func (p *replication) actShared(ctx context.Context, ev job.Event) error {
	state := p.status().State
	if ev == job.Reset && p.definition().Wanted {
		ev = job.ResetActive
	}
	if _, err := job.Next(state, ev); err != nil {
		return err
	}
	switch ev {
	case job.Start:
		return p.rewrite(ctx, nil, func(d *replicationDefinition) (bool, error) {
			if d.Wanted && state != job.Error && state != job.Stopped {
				return false, nil
			}
			d.Wanted, d.Why = true, ""
			d.Asked++
			return true, nil
		})
	case job.Stop:
		if p.definition().Config.IsAdhoc() {
			return p.removeShared(ctx)
		}
		return p.unwant(ctx)
	}
	return p.reset()
}

// unwant stores that somebody does not want the replication to run.
func (p *replication) unwant(ctx context.Context) error {
	return p.rewrite(ctx, nil, func(d *replicationDefinition) (bool, error) {
		if !d.Wanted && d.Why != "" {
			return false, nil
		}
		d.Wanted, d.Why = false, whyUser
		d.Asked++
		return true, nil
	})
}

// rewriteTries is how often a definition is changed anew that somebody else changed meanwhile.
const rewriteTries = 20

var errChanging = tidegate.Errorf(tidegate.Conflict, "the replication is being changed by others all the time")

// rewrite changes the stored definition: f gets a copy and reports whether it is to be stored. What other nodes did meanwhile counts: f is
// asked again then. check, if not nil, looks in the transaction whether it may. NotFound: the replication was deleted.
func (p *replication) rewrite(ctx context.Context, check func(store.Reader) error, f func(*replicationDefinition) (bool, error)) error {
	for range rewriteTries {
		p.mu.Lock()
		def, before, gone := *p.def, p.rows.definition, p.deleted
		p.mu.Unlock()
		if gone {
			return tidegate.ErrMissing
		}
		if change, err := f(&def); err != nil || !change {
			return err
		}
		value, err := def.encode(p.m.r.g.opts.Secrets)
		if err != nil {
			return fmt.Errorf("encode replication %s: %w", p.id, err)
		}
		err = p.m.exchange(ctx, p.id, before, value, check)
		if err == nil {
			err = p.m.refresh(context.WithoutCancel(ctx))
			p.m.wakeFollower()
			return err
		}
		if !errors.Is(err, errRowChanged) {
			return err
		}
		if err := p.m.refresh(ctx); err != nil {
			return err
		}
	}
	return errChanging
}

// errRowChanged says that a row is not what it was.
var errRowChanged = errors.New("the row was changed meanwhile")

// exchange puts value in the place of a definition that is before (nil: there is none), and tells the other nodes.
func (m *Replications) exchange(ctx context.Context, id string, before, value []byte, check func(store.Reader) error) error {
	key := replicationKey(m.space(), id)
	err := m.r.g.opts.Store.Update(context.WithoutCancel(ctx), func(tx store.Tx) error {
		now, err := tx.Get(key)
		if err != nil {
			return err
		}
		if !bytes.Equal(now, before) {
			return errRowChanged
		}
		if check != nil {
			if err := check(tx); err != nil {
				return err
			}
		}
		if err := tx.Put(key, value); err != nil {
			return err
		}
		return m.r.g.nodes.Note(tx, replicationTopic(m.space()))
	})
	if err != nil && !errors.Is(err, errRowChanged) {
		err = fmt.Errorf("store replication %s: %w", id, err)
	}
	return err
}

// createShared stores a new definition. taken: there is one of that id by now.
func (m *Replications) createShared(ctx context.Context, id string, def *replicationDefinition) (taken bool, err error) {
	value, err := def.encode(m.r.g.opts.Secrets)
	if err != nil {
		return false, fmt.Errorf("encode replication %s: %w", id, err)
	}
	err = m.exchange(ctx, id, nil, value, nil)
	if errors.Is(err, errRowChanged) {
		return true, nil
	}
	if err == nil {
		err = m.refresh(context.WithoutCancel(ctx))
		m.wakeFollower()
	}
	return false, err
}

// updateShared changes the definition. The node that runs it begins anew.
func (p *replication) updateShared(ctx context.Context, patch *config.ReplicationPatch) error {
	state := p.status().State
	if (state.Active() || state == job.Resetting) && p.m.r.Settings().Replications.UpdateRequiresStop {
		return errUpdateRunning
	}
	return p.rewrite(ctx, nil, func(d *replicationDefinition) (bool, error) {
		cfg, err := p.m.apply(patch, d.Config, p.id)
		if err != nil {
			return false, err
		}
		d.Config, d.Updated = cfg, p.m.r.g.opts.Now().UTC().Truncate(time.Millisecond)
		d.Asked++
		return true, nil
	})
}

// handoverTime is how long, beyond a lease's time to live, a deletion waits for the node that runs a replication to stop.
const handoverTime = 5 * time.Second

var errStillRuns = tidegate.Errorf(tidegate.Unavailable, "the node that runs the replication has not stopped it; try again")

// removeShared stops the replication, wherever it runs, and deletes it with everything that belongs to it. p.op is held.
func (p *replication) removeShared(ctx context.Context) error {
	if err := p.unwant(ctx); err != nil {
		return ignoreMissing(err)
	}
	p.interrupt(errStoppedByUser)
	patience := p.m.r.g.nodes.DeadAfter() + handoverTime
	soon, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if !p.idle(soon) {
		return errStillRuns
	}
	lease, err := p.m.r.g.nodes.Lease(soon, p.leaseName())
	if err != nil {
		if soon.Err() != nil && ctx.Err() == nil {
			err = errStillRuns
		}
		return err
	}
	defer lease.Release()
	c, err := p.take(ctx, lease, p.m.r.g.opts.Now())
	if err != nil {
		return ignoreMissing(err)
	}
	if err := p.forgetCheckpoints(ctx); err != nil {
		return err
	}
	if err := p.m.refresh(ctx); err != nil { // what its last run did
		return err
	}
	p.noteEnded(job.Removed)
	return p.erase(ctx, c.check)
}

// ignoreMissing is for deletions: another node was quicker.
func ignoreMissing(err error) error {
	if errors.Is(err, tidegate.ErrMissing) {
		return nil
	}
	return err
}

// completedShared notes that a one-shot has completed, unless something else was asked of it meanwhile.
func (p *replication) completedShared(ctx context.Context, run *replicationRun) error {
	p.mu.Lock()
	c := p.claimed
	p.mu.Unlock()
	if c == nil {
		return errMoved
	}
	return p.rewrite(ctx, c.check, func(d *replicationDefinition) (bool, error) {
		if d.Asked != run.asked || !d.Wanted {
			return false, nil
		}
		d.Wanted, d.Why = false, whyCompleted
		return true, nil
	})
}

// shown is the state of a replication that does not run here, by what is stored about it. p.mu is held.
func (p *replication) shown(node string) job.State {
	nodes := p.m.r.g.nodes
	stored := job.ParseState(p.stored.State)
	there := p.stored.Node == "" || nodes.Alive(p.stored.Node)
	fresh := p.stored.Asked == p.def.Asked
	switch {
	case stored == job.Resetting && there:
		return job.Resetting
	case stored.Active() && there && (fresh || !p.def.Wanted):
		return stored
	case node == "":
		return job.Unassigned
	case fresh && stored == job.Error:
		return job.Error
	case p.def.Wanted:
		return job.Starting
	}
	return job.Stopped
}

// settleShared waits until what was asked for has come about, on whatever node, but not long.
func (p *replication) settleShared(ctx context.Context, ev job.Event) {
	p.m.await(ctx, func() bool {
		p.mu.Lock()
		ending := p.claimed != nil && p.run == nil // and not stored yet, so that other nodes would say something else
		p.mu.Unlock()
		return !ending && job.Settled(ev, p.status().State)
	})
}

// await waits until something holds of what is stored, but not longer than settlePatience.
func (m *Replications) await(ctx context.Context, holds func() bool) {
	timer := time.NewTimer(settlePatience)
	defer timer.Stop()
	for {
		m.mu.Lock()
		refreshed := m.refreshed
		m.mu.Unlock()
		if holds() {
			return
		}
		select {
		case <-refreshed:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// loadShared adds what is configured and not stored yet. first: no other node had the database before this one.
func (m *Replications) loadShared(ctx context.Context, d *definition, first bool) error {
	if err := m.refresh(ctx); err != nil {
		return err
	}
	if first {
		if err := m.beginCluster(ctx); err != nil {
			return err
		}
	}
	for id, def := range m.configured(d, m.r.g.opts.Now()) {
		if p, err := m.find(id); err == nil {
			if !p.definition().Config.Same(def.Config) {
				m.r.g.log.Info("the stored definition of a replication differs from the configured one, and counts", "database", m.r.name, "replication", id)
			}
			continue
		}
		if _, err := m.createShared(ctx, id, def); err != nil {
			return err
		}
	}
	return nil
}

// beginCluster does what is done when the first node comes: ad hoc replications that a crash has left are dropped, one-shots that had completed
// run again.
func (m *Replications) beginCluster(ctx context.Context) error {
	for _, p := range m.list() {
		def := p.definition()
		var err error
		switch {
		case def.Config.IsAdhoc():
			err = p.erase(ctx, nil)
		case !def.Wanted && def.Why == whyCompleted && def.Config.InitialState == "running":
			err = p.rewrite(ctx, nil, func(d *replicationDefinition) (bool, error) {
				d.Wanted, d.Why = true, ""
				d.Asked++
				return true, nil
			})
		}
		if err = ignoreMissing(err); err != nil {
			return err
		}
	}
	return nil
}
