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
	return json.Marshal(replicationRecord{replicationFormat, d.Config.Seal(keys), d.Wanted, d.Why, d.Created, d.Updated})
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
	return &replicationDefinition{cfg, r.Wanted, r.Why, r.Created, r.Updated}, nil
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
			one := storedReplication{id: id}
			if one.def, err = decodeReplication(value, keys); err != nil {
				return err
			}
			progress, err := r.Get(progressKey(space, id))
			if err == nil && progress != nil {
				err = json.Unmarshal(progress, &one.progress)
			}
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

// erase deletes what is stored about a replication and takes it out of the set.
func (p *replication) erase(ctx context.Context) error {
	p.m.writing.Lock()
	defer p.m.writing.Unlock()
	if err := p.m.deleteRows(ctx, p.id); err != nil {
		return err
	}
	p.mu.Lock()
	p.deleted = true
	p.mu.Unlock()
	p.m.forget(p)
	return nil
}

// deleteRows deletes what is stored about replications. m.writing is held.
func (m *Replications) deleteRows(ctx context.Context, ids ...string) error {
	if len(ids) == 0 {
		return nil
	}
	space := m.space()
	err := m.r.g.opts.Store.Update(context.WithoutCancel(ctx), func(tx store.Tx) error {
		for _, id := range ids {
			if err := errors.Join(tx.Delete(replicationKey(space, id)), tx.Delete(progressKey(space, id))); err != nil {
				return err
			}
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
