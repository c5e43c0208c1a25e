package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/store"
)

// What is stored about a replication is in its database's space, and goes with it: the definition with what it is meant
// to do, and beside it the status, which is written more often.
//
// replicationDefinition is not changed once made.
type replicationDefinition struct {
	Config           *config.Replication
	Wanted           bool   // it is meant to run
	Why              string // if not: whyUser, whyCompleted, or "" if it never was
	Created, Updated time.Time

	Asked    uint64 // counts what was asked of it: starts, stops and changes
	FromFile bool   // it was added from a config file: only nodes whose file has it run it
}

// Values of replicationDefinition.Why.
const (
	whyUser      = "user"
	whyCompleted = "completed"
)

// replicationRecord is the stored form of a definition.
type replicationRecord struct {
	Format     int             `json:"format"`
	Definition json.RawMessage `json:"definition"` // secrets are sealed
	Wanted     bool            `json:"wanted"`
	Why        string          `json:"why,omitempty"`
	Created    time.Time       `json:"created"`
	Updated    time.Time       `json:"updated"`
	Asked      uint64          `json:"asked,omitempty"`
	FromFile   bool            `json:"from_file,omitempty"`
}

// replicationFormat is the version of replicationRecord that this code writes. It reads no other.
const replicationFormat = 1

// replicationProgress is the stored status.
type replicationProgress struct {
	State       string           `json:"state"`
	Error       string           `json:"error,omitempty"`
	ErrorAt     time.Time        `json:"error_at,omitzero"`
	LastSeqPull string           `json:"last_seq_pull,omitempty"`
	LastSeqPush string           `json:"last_seq_push,omitempty"`
	Counters    map[string]int64 `json:"counters,omitempty"` // by their names of inter-gateway.md §5

	// Where several nodes serve: who says so, under which claim, and as of which definition (Asked).
	Node  string `json:"node,omitempty"`
	Epoch uint64 `json:"epoch,omitempty"`
	Asked uint64 `json:"asked,omitempty"`
}

func replicationPrefix(space store.Space) store.Key {
	return store.NewKey(space, store.KindMeta).Name("gateway.replication")
}

func replicationKey(space store.Space, id string) store.Key { return replicationPrefix(space).Name(id) }

func progressPrefix(space store.Space) store.Key {
	return store.NewKey(space, store.KindMeta).Name("gateway.replication.status")
}

func progressKey(space store.Space, id string) store.Key { return progressPrefix(space).Name(id) }

// encode returns the stored form.
func (d *replicationDefinition) encode(keys *config.Keyring) ([]byte, error) {
	return json.Marshal(replicationRecord{replicationFormat, d.Config.Seal(keys), d.Wanted, d.Why, d.Created, d.Updated, d.Asked, d.FromFile})
}

func decodeReplication(value []byte, keys *config.Keyring) (*replicationDefinition, error) {
	var r replicationRecord
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, tidegate.Errorf(tidegate.Corrupt, "the stored definition of a replication does not make sense: %w", err)
	}
	if r.Format != replicationFormat {
		return nil, tidegate.Errorf(tidegate.Corrupt, "a stored definition of a replication has format %d; this version reads %d", r.Format, replicationFormat)
	}
	cfg, err := config.DecodeReplication(r.Definition, keys)
	if err != nil {
		return nil, tidegate.Errorf(tidegate.Corrupt, "the stored definition of a replication does not make sense: %w", err)
	}
	return &replicationDefinition{cfg, r.Wanted, r.Why, r.Created, r.Updated, r.Asked, r.FromFile}, nil
}

// storedReplication is what is stored about one.
type storedReplication struct {
	id       string
	def      *replicationDefinition
	progress replicationProgress
}

// readReplications reads what is stored about the replications of a database.
func readReplications(ctx context.Context, st store.Store, space store.Space, keys *config.Keyring) ([]storedReplication, error) {
	var all []storedReplication
	err := st.View(ctx, func(r store.Reader) error {
		all = nil
		return scan(r, replicationPrefix(space), func(rest, value []byte) error {
			id, _, err := store.CutName(rest)
			if err != nil {
				return err
			}
			progress, err := r.Get(progressKey(space, id))
			if err != nil {
				return err
			}
			one, err := rows{value, progress}.decode(id, keys)
			all = append(all, one)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read replications: %w", err)
	}
	return all, nil
}

// change changes a definition: f gets a copy and reports whether it is to be stored. NotFound: the replication was deleted
// meanwhile.
func (p *replication) change(ctx context.Context, f func(*replicationDefinition) bool) error {
	p.m.writing.Lock()
	defer p.m.writing.Unlock()
	p.mu.Lock()
	def, deleted := *p.def, p.deleted
	p.mu.Unlock()
	if deleted {
		return tidegate.ErrMissing
	}
	if !f(&def) {
		return nil
	}
	if err := p.m.putDefinitions(ctx, map[string]*replicationDefinition{p.id: &def}); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.def = &def
	return nil
}

// putDefinitions stores definitions, all or none. m.writing is held.
func (m *Replications) putDefinitions(ctx context.Context, defs map[string]*replicationDefinition) error {
	rows := map[string][]byte{}
	for id, d := range defs {
		value, err := d.encode(m.r.g.opts.Secrets)
		if err != nil {
			return fmt.Errorf("encode replication %s: %w", id, err)
		}
		rows[string(replicationKey(m.space(), id))] = value
	}
	return m.putRows(ctx, rows)
}

// putRows stores rows by key. m.writing is held.
func (m *Replications) putRows(ctx context.Context, rows map[string][]byte) error {
	if len(rows) == 0 {
		return nil
	}
	err := m.r.g.opts.Store.Update(context.WithoutCancel(ctx), func(tx store.Tx) error {
		for key, value := range rows {
			if err := tx.Put([]byte(key), value); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store replications: %w", err)
	}
	return nil
}

// erase deletes what is stored about a replication and takes it out of the set. check, if not nil, looks in the transaction whether it may.
func (p *replication) erase(ctx context.Context, check func(store.Reader) error) error {
	p.m.writing.Lock()
	defer p.m.writing.Unlock()
	if err := p.m.deleteRows(ctx, check, p.id); err != nil {
		return err
	}
	p.mu.Lock()
	p.deleted = true
	p.mu.Unlock()
	p.m.forget(p)
	return nil
}

// deleteRows deletes what is stored about replications. m.writing is held.
func (m *Replications) deleteRows(ctx context.Context, check func(store.Reader) error, ids ...string) error {
	if len(ids) == 0 {
		return nil
	}
	space := m.space()
	err := m.r.g.opts.Store.Update(context.WithoutCancel(ctx), func(tx store.Tx) error {
		if check != nil {
			if err := check(tx); err != nil {
				return err
			}
		}
		for _, id := range ids {
			err := errors.Join(tx.Delete(replicationKey(space, id)), tx.Delete(progressKey(space, id)), tx.Delete(claimKey(space, id)), tx.Delete(runsKey(space, id)))
			if err != nil {
				return err
			}
		}
		if m.shared() {
			return m.r.g.nodes.Note(tx, replicationTopic(space))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("delete replications: %w", err)
	}
	return nil
}

// saveProgress stores the status of those replications whose has changed since it was stored last.
func (m *Replications) saveProgress(ctx context.Context, which []*replication) error {
	m.writing.Lock()
	defer m.writing.Unlock()
	if m.shared() {
		return m.saveClaimed(ctx, which)
	}
	rows := map[string][]byte{}
	for _, p := range which {
		progress, changed := p.progressToSave()
		if !changed {
			continue
		}
		value, err := json.Marshal(progress)
		if err != nil {
			return fmt.Errorf("encode status of replication %s: %w", p.id, err)
		}
		rows[string(progressKey(m.space(), p.id))] = value
	}
	return m.putRows(ctx, rows)
}

// claimedProgress is a status that is to be stored under a claim.
type claimedProgress struct {
	p     *replication
	claim *runClaim
	value []byte
}

// saveClaimed stores the status of those that run here, as far as their claims are not over, and tells the other nodes of changes
// of state. m.writing is held.
func (m *Replications) saveClaimed(ctx context.Context, which []*replication) error {
	var all []claimedProgress
	moved := false
	for _, p := range which {
		value, claim, changed, err := p.claimedProgress()
		if err != nil {
			return fmt.Errorf("encode status of replication %s: %w", p.id, err)
		}
		if value != nil {
			all, moved = append(all, claimedProgress{p, claim, value}), moved || changed
		}
	}
	if len(all) == 0 {
		return nil
	}
	space := m.space()
	err := m.r.g.opts.Store.Update(context.WithoutCancel(ctx), func(tx store.Tx) error {
		for _, one := range all {
			if err := one.claim.check(tx); errors.Is(err, errMoved) {
				continue
			} else if err != nil {
				return err
			}
			if err := tx.Put(progressKey(space, one.p.id), one.value); err != nil {
				return err
			}
		}
		if moved {
			return m.r.g.nodes.Note(tx, replicationTopic(space))
		}
		return nil
	})
	if err != nil {
		for _, one := range all { // it is to be stored again
			one.p.mu.Lock()
			one.p.saved = replicationProgress{}
			one.p.mu.Unlock()
		}
		return fmt.Errorf("store the status of replications: %w", err)
	}
	return nil
}

// claimedProgress is the status if it is not the one that was stored last, encoded; nil if it is, or nothing runs here. moved: it has another
// state or error.
func (p *replication) claimedProgress() (value []byte, claim *runClaim, moved bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.progress()
	if p.deleted || p.claimed == nil || p.saved.same(now) {
		return nil, nil, false, nil
	}
	moved = p.saved.State != now.State || p.saved.Error != now.Error
	p.saved = now
	now.Node, now.Epoch, now.Asked = p.m.r.g.NodeID(), p.claimed.lease.Epoch(), p.tried-1
	value, err = json.Marshal(now)
	return value, p.claimed, moved, err
}
