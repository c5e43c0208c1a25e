package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/job"
	"github.com/tidegate/tidegate/internal/store"
)

// Where several nodes serve from one store, each tells which replications of a database it is willing to run, and the plan, a row in the
// database's space, says which one runs each (inter-gateway.md §12). Every node could make the plan from what is told and stored, with the
// same result; so that nodes that do not see the same others for a moment do not undo each other's work, the one with the
// lowest id does.

// offer is what a node tells about a database whose replications it follows.
type offer struct {
	Runs       bool     `json:"runs"`                 // it runs replications of the database
	Any        bool     `json:"any,omitempty"`        // also those of other nodes' config files
	Configured []string `json:"configured,omitempty"` // those in its own config file
}

// takes reports whether the node is willing to run a replication.
func (o *offer) takes(id string, def *replicationDefinition) bool {
	return o.Runs && (o.Any || !def.FromFile || slices.Contains(o.Configured, id))
}

// offer is what this node tells.
func (m *Replications) offer(d *definition) offer {
	own := m.r.g.own[m.r.name]
	runs, configuredOnly := d.Config.SGReplicateEnabled, d.Config.SGReplicateConfigured
	if own != nil && own.enabled != nil {
		runs = own.enabled
	}
	if own != nil && own.configuredOnly != nil {
		configuredOnly = own.configuredOnly
	}
	o := offer{Runs: m.r.g.opts.NewReplicator != nil && runs.True(true), Any: configuredOnly != nil && !*configuredOnly}
	if own != nil {
		o.Configured = slices.Sorted(maps.Keys(own.replications))
	}
	return o
}

// anyoneTakes reports whether a node is willing to run a replication.
func (m *Replications) anyoneTakes(id string, def *replicationDefinition) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.planned.offers {
		if o.takes(id, def) {
			return true
		}
	}
	return false
}

// replicationPlan is which node runs which replication.
type replicationPlan struct {
	Version uint64            `json:"version"`
	Nodes   map[string]string `json:"nodes"` // by replication
}

func planKey(space store.Space) store.Key {
	return store.NewKey(space, store.KindMeta).Name("gateway.replication.plan")
}

// replicationTopic is noted when something about a database's replications changes.
func replicationTopic(space store.Space) string { return fmt.Sprintf("replications.%d", space) }

// planned is what a plan is made from.
type planned struct {
	offers map[string]offer // by node
	raw    []byte           // the plan as it is stored; nil if there is none
	plan   replicationPlan
}

// readPlan reads the plan and what it is made from.
func (m *Replications) readPlan(r store.Reader, space store.Space) (planned, error) {
	told, err := m.r.g.nodes.ToldIn(r, replicationTopic(space))
	if err != nil {
		return planned{}, err
	}
	p := planned{offers: map[string]offer{}}
	for node, value := range told {
		var o offer
		if err := json.Unmarshal(value, &o); err != nil {
			return p, tidegate.Errorf(tidegate.Corrupt, "what node %s says of replications does not make sense: %w", node, err)
		}
		p.offers[node] = o
	}
	raw, err := r.Get(planKey(space))
	if err != nil || raw == nil {
		return p, err
	}
	p.raw = bytes.Clone(raw)
	if err := json.Unmarshal(raw, &p.plan); err != nil {
		return p, tidegate.Errorf(tidegate.Corrupt, "the plan of replications does not make sense: %w", err)
	}
	return p, nil
}

// makePlan distributes replications. Those that are meant to run are spread for themselves: they are the load. The others are spread
// beside them, so that each has a node when it is started.
func makePlan(offers map[string]offer, defs map[string]*replicationDefinition, current map[string]string) map[string]string {
	running, resting := map[string][]string{}, map[string][]string{}
	for id, def := range defs {
		able := []string{}
		for node, o := range offers {
			if o.takes(id, def) {
				able = append(able, node)
			}
		}
		if def.Wanted {
			running[id] = able
		} else {
			resting[id] = able
		}
	}
	plan := job.Distribute(running, current)
	maps.Copy(plan, job.Distribute(resting, current))
	return plan
}

// replan makes the plan, if that is this node's task, and stores it if it is another one. changed: it did.
func (m *Replications) replan(ctx context.Context) (changed bool, err error) {
	m.mu.Lock()
	space, p := m.data, m.planned
	defs := make(map[string]*replicationDefinition, len(m.all))
	for id, one := range m.all {
		defs[id] = one.definition()
	}
	m.mu.Unlock()
	self := m.r.g.NodeID()
	if len(p.offers) == 0 || slices.Min(slices.Collect(maps.Keys(p.offers))) != self {
		return false, nil
	}
	next := makePlan(p.offers, defs, p.plan.Nodes)
	if maps.Equal(next, p.plan.Nodes) {
		return false, nil
	}
	value, err := json.Marshal(replicationPlan{p.plan.Version + 1, next})
	if err != nil {
		return false, err
	}
	err = m.r.g.opts.Store.Update(ctx, func(tx store.Tx) error {
		changed = false
		now, err := tx.Get(planKey(space))
		if err != nil || !bytes.Equal(now, p.raw) {
			return err // somebody else made one meanwhile: it is looked at again
		}
		changed = true
		if err := tx.Put(planKey(space), value); err != nil {
			return err
		}
		return m.r.g.nodes.Note(tx, replicationTopic(space))
	})
	if err != nil {
		return false, fmt.Errorf("store the plan of replications: %w", err)
	}
	if changed {
		m.logMoves(p.plan.Nodes, next)
	}
	return true, nil
}

// logMoves logs what a new plan changes.
func (m *Replications) logMoves(from, to map[string]string) {
	for _, id := range slices.Sorted(maps.Keys(to)) {
		if from[id] != to[id] {
			m.r.g.log.Info("replication assigned", "database", m.r.name, "replication", id, "node", to[id], "before", from[id])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(from)) {
		if to[id] == "" {
			m.r.g.log.Info("replication assigned to no node", "database", m.r.name, "replication", id, "before", from[id])
		}
	}
}

// own is what the config file of this node says for this node alone, where several serve from one store: the rest of a database's
// config is the same on all of them.
type own struct {
	enabled        *config.Choice
	configuredOnly *bool
	replications   config.Replications
	fileHash       string // of the whole section
}

// splitFile takes out of the file's databases what is this node's own.
func splitFile(file map[string]*config.Database) (shared map[string]*config.Database, owned map[string]*own) {
	shared, owned = map[string]*config.Database{}, map[string]*own{}
	for name, cfg := range file {
		owned[name] = &own{cfg.SGReplicateEnabled, cfg.SGReplicateConfigured, cfg.Replications, fileHash(cfg)}
		c := cfg.Clone()
		c.SGReplicateEnabled, c.SGReplicateConfigured, c.Replications = nil, nil, nil
		shared[name] = c
	}
	return shared, owned
}

// configured are the definitions that a database's config has, and those of this node's file.
func (m *Replications) configured(d *definition, now time.Time) map[string]*replicationDefinition {
	defs := map[string]*replicationDefinition{}
	for id, cfg := range d.Config.Replications {
		defs[id] = newReplicationDefinition(cfg, now)
	}
	file := m.r.g.opts.FileDatabases[m.r.name]
	if own := m.r.g.own[m.r.name]; own != nil {
		for id, cfg := range own.replications {
			defs[id] = newReplicationDefinition(cfg, now)
			defs[id].FromFile = true
		}
	} else if file != nil {
		for id, def := range defs {
			def.FromFile = file.Replications[id] != nil
		}
	}
	return defs
}
