package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"github.com/tidegate/tidegate/internal/job"
	"github.com/tidegate/tidegate/internal/store"
)

// maxEnded is how many ad hoc replications of a database are remembered after their end.
const maxEnded = 64

// noteEnded remembers the last status of a replication that is about to be deleted, if it is ad hoc: its definition goes
// with its end, and whoever started it could not tell otherwise whether it copied everything or was taken away.
func (p *replication) noteEnded(state job.State) {
	s := p.status()
	if !s.Config.IsAdhoc() {
		return
	}
	s.State = state
	m := p.m
	if m.shared() {
		if err := m.storeEnded(s); err != nil {
			m.r.g.log.Warn("the end of an ad hoc replication could not be noted", "database", m.r.name, "replication", p.id, "error", err)
		}
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.former) >= maxEnded {
		m.former = append(m.former[:0], m.former[1:]...)
	}
	m.former = append(m.former, s)
}

// Ended returns the last status of an ad hoc replication that is gone: job.Stopped if it completed, job.Removed if somebody
// stopped or deleted it. Only the last ones are known: of this process, or, where several nodes serve, of them all.
func (m *Replications) Ended(id string) (ReplicationStatus, bool) {
	if m.shared() {
		return m.readEnded(id)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := len(m.former) - 1; i >= 0; i-- {
		if m.former[i].ID == id {
			return m.former[i], true
		}
	}
	return ReplicationStatus{}, false
}

// endedReplication is what is stored of an ad hoc replication that is gone.
type endedReplication struct {
	ID string `json:"id"`
	replicationProgress
}

func endedKey(space store.Space) store.Key {
	return store.NewKey(space, store.KindMeta).Name("gateway.replication.ended")
}

// endedRow reads the ad hoc replications that are gone, the latest last, and the row as it is stored.
func (m *Replications) endedRow(ctx context.Context) (list []endedReplication, raw []byte, err error) {
	err = m.r.g.opts.Store.View(ctx, func(r store.Reader) error {
		value, err := r.Get(endedKey(m.space()))
		raw = bytes.Clone(value)
		return err
	})
	if err == nil && raw != nil {
		err = json.Unmarshal(raw, &list)
	}
	return list, raw, err
}

// storeEnded adds one to the ad hoc replications that are gone.
func (m *Replications) storeEnded(s ReplicationStatus) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.r.g.ctx), leaveTime)
	defer cancel()
	for range rewriteTries {
		list, before, err := m.endedRow(ctx)
		if err != nil {
			return err
		}
		list = append(list, endedReplication{s.ID, replicationProgress{
			State: s.State.String(), Error: s.Error, ErrorAt: s.ErrorAt, LastSeqPull: s.LastSeqPull, LastSeqPush: s.LastSeqPush, Counters: s.Counters,
		}})
		value, err := json.Marshal(list[max(0, len(list)-maxEnded):])
		if err != nil {
			return err
		}
		done := false
		err = m.r.g.opts.Store.Update(ctx, func(tx store.Tx) error {
			now, err := tx.Get(endedKey(m.space()))
			if done = err == nil && bytes.Equal(now, before); !done {
				return err
			}
			return tx.Put(endedKey(m.space()), value)
		})
		if err != nil || done {
			return err
		}
	}
	return errChanging
}

// readEnded is Ended where several nodes serve.
func (m *Replications) readEnded(id string) (ReplicationStatus, bool) {
	ctx, cancel := context.WithTimeout(m.r.g.ctx, recent)
	defer cancel()
	list, _, err := m.endedRow(ctx)
	if err != nil {
		return ReplicationStatus{}, false
	}
	for i := len(list) - 1; i >= 0; i-- {
		if e := list[i]; e.ID == id {
			return ReplicationStatus{
				ReplicationInfo: ReplicationInfo{ID: id}, State: job.ParseState(e.State), Error: e.Error, ErrorAt: e.ErrorAt.In(time.UTC),
				LastSeqPull: e.LastSeqPull, LastSeqPush: e.LastSeqPush, Counters: e.Counters,
			}, true
		}
	}
	return ReplicationStatus{}, false
}
