package gateway

import (
	"context"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/job"
	"github.com/tidegate/tidegate/internal/script"
)

// errUpdateRunning is for databases with unsupported.replication_update_requires_stop.
var errUpdateRunning = tidegate.Errorf(tidegate.Invalid, "Replication must be stopped before updating config")

// Put makes or changes the definition with this id (inter-gateway.md §3): only what the patch has changes. One that runs
// is stopped, changed and started again. With patch.Cancel it is stopped instead, and nothing else is done. It returns once
// the definition is durable. Invalid: the definition is not right, or a mask in it stands for nothing. NotFound: there is
// nothing to cancel.
func (m *Replications) Put(ctx context.Context, id string, patch *config.ReplicationPatch) (created bool, err error) {
	if patch.Cancel {
		_, err := m.Act(ctx, id, job.Stop)
		return false, err
	}
	for range rewriteTries {
		m.catchUp()
		p, err := m.find(id)
		if err != nil {
			created, taken, err := m.create(ctx, id, patch)
			if taken {
				continue // somebody else was quicker
			}
			return created, err
		}
		unlock, err := p.lock(ctx)
		if tidegate.ErrorCode(err) == tidegate.NotFound && err != nil {
			continue // deleted meanwhile
		}
		if err != nil {
			return false, err
		}
		err = p.update(ctx, patch)
		unlock()
		if err != nil && p.gone() {
			continue
		}
		return false, err
	}
	return false, errChanging
}

// NewID returns an id for a definition that was given none.
func (m *Replications) NewID() string { return newUUID() }

// create makes a new definition. taken: there is one of that id by now.
func (m *Replications) create(ctx context.Context, id string, patch *config.ReplicationPatch) (created, taken bool, err error) {
	cfg, err := m.apply(patch, nil, id)
	if err != nil {
		return false, false, err
	}
	if _, err := m.database(); err != nil {
		return false, false, err
	}
	def := newReplicationDefinition(cfg, m.r.g.opts.Now())
	if m.shared() {
		taken, err := m.createShared(ctx, id, def)
		if err == nil && !taken {
			m.await(ctx, func() bool { return m.nodeOf(id) != "" || !m.anyoneTakes(id, def) })
			m.r.g.log.Info("replication defined", "database", m.r.name, "replication", id, "node", m.nodeOf(id))
		}
		return err == nil && !taken, taken, err
	}
	p := m.newReplication(storedReplication{id: id, def: def})
	p.op <- struct{}{}
	defer func() { <-p.op }()
	m.mu.Lock()
	_, taken = m.all[id]
	if !taken {
		m.all[id] = p
	}
	m.mu.Unlock()
	if taken {
		return false, true, nil
	}
	m.writing.Lock()
	err = m.putDefinitions(ctx, map[string]*replicationDefinition{id: def})
	m.writing.Unlock()
	if err != nil {
		p.mu.Lock()
		p.deleted = true
		p.mu.Unlock()
		m.forget(p)
		return false, false, err
	}
	m.r.g.log.Info("replication defined", "database", m.r.name, "replication", id, "node", m.nodeOf(id))
	p.resume()
	return true, false, nil
}

// update changes the definition. p.op is held.
func (p *replication) update(ctx context.Context, patch *config.ReplicationPatch) error {
	if p.m.shared() {
		return p.updateShared(ctx, patch)
	}
	old := p.definition()
	cfg, err := p.m.apply(patch, old.Config, p.id)
	if err != nil {
		return err
	}
	p.mu.Lock()
	busy := p.state.Active() || p.state == job.Resetting
	p.mu.Unlock()
	if busy && p.m.r.Settings().Replications.UpdateRequiresStop {
		return errUpdateRunning
	}
	p.interrupt(errUpdating)
	if !p.idle(ctx) {
		return ctx.Err()
	}
	err = p.change(ctx, func(d *replicationDefinition) bool {
		d.Config, d.Updated = cfg, p.m.r.g.opts.Now().UTC().Truncate(time.Millisecond)
		return true
	})
	if err == nil {
		p.m.r.g.log.Info("replication changed", "database", p.m.r.name, "replication", p.id)
	}
	if !p.gone() {
		p.resume()
	}
	return err
}

// resume starts the replication if it is meant to run here. p.op is held.
func (p *replication) resume() {
	node := p.m.nodeOf(p.id)
	switch {
	case node == "" || node != p.m.r.g.NodeID():
		p.happened(job.Unassign)
	case p.definition().Wanted:
		p.begin(0)
	}
}

// apply makes and checks the definition that a patch makes of old.
func (m *Replications) apply(patch *config.ReplicationPatch, old *config.Replication, id string) (*config.Replication, error) {
	cfg, err := patch.Apply(old, id)
	if err != nil {
		return nil, err
	}
	if err := cfg.Validate(m.r.definition().Config.HasCollection); err != nil {
		return nil, err
	}
	if source := cfg.CustomConflictResolver; cfg.ConflictResolutionType == "custom" && !source.IsURL() {
		return cfg, checkResolver(string(source))
	}
	return cfg, nil
}

// checkResolver compiles a conflict resolver to see whether it can be. Invalid: it cannot.
func checkResolver(source string) error {
	f, err := script.CompileResolver(source, script.Options{})
	if err != nil {
		return err
	}
	f.Close()
	return nil
}
