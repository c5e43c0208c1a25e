package gateway

import "github.com/tidegate/tidegate/internal/job"

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
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.former) >= maxEnded {
		m.former = append(m.former[:0], m.former[1:]...)
	}
	m.former = append(m.former, s)
}

// Ended returns the last status of an ad hoc replication that is gone: job.Stopped if it completed, job.Removed if somebody
// stopped or deleted it. Only the last ones of this process are known.
func (m *Replications) Ended(id string) (ReplicationStatus, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := len(m.former) - 1; i >= 0; i-- {
		if m.former[i].ID == id {
			return m.former[i], true
		}
	}
	return ReplicationStatus{}, false
}
