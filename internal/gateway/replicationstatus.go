package gateway

import (
	"iter"
	"maps"
	"sync/atomic"
	"time"

	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/job"
	"github.com/tidegate/tidegate/internal/replicate"
)

// ReplicationInfo is a definition as it stands.
type ReplicationInfo struct {
	ID     string
	Config *config.Replication // must not be changed
	Wanted bool                // it is meant to run
	Node   string              // that runs it; "" if none can
	Local  bool                // Node is this one

	Created, Updated time.Time
}

// ReplicationStatus is what a replication is doing (inter-gateway.md §5).
type ReplicationStatus struct {
	ReplicationInfo
	State                    job.State
	Error                    string    // the last one, until it is running again
	ErrorAt                  time.Time // when that was
	LastSeqPull, LastSeqPush string
	// Counters are cumulative over restarts, by the names of inter-gateway.md §5.
	Counters map[string]int64
}

// replicationCounter is a counter with its names in a status (§5; "" for none) and in the statistics (§13; "" for none).
type replicationCounter struct {
	status, stat string
	v            *atomic.Int64
}

// counters lists the counters of a replication.
func counters(s *replicate.ReplicatorStats) []replicationCounter {
	push, pull := &s.Push, &s.Pull
	return []replicationCounter{
		{"docs_read", "sgr_num_docs_pulled", &pull.Read},
		{"docs_checked_pull", "sgr_docs_checked_recv", &pull.Checked},
		{"docs_purged", "sgr_num_docs_purged", &pull.Purged},
		{"rejected_by_local", "sgr_num_docs_failed_to_pull", &pull.Failures},
		{"deltas_recv", "sgr_deltas_recv", &pull.DeltasReceived},
		{"deltas_requested", "sgr_deltas_requested", &pull.DeltasRequested},
		{"docs_written", "sgr_num_docs_pushed", &push.Written},
		{"docs_checked_push", "sgr_docs_checked_sent", &push.Checked},
		{"doc_write_failures", "sgr_num_docs_failed_to_push", &push.Failures},
		{"doc_write_conflict", "sgr_push_conflict_count", &push.Conflicts},
		{"rejected_by_remote", "sgr_push_rejected_count", &push.Rejected},
		{"deltas_sent", "sgr_deltas_sent", &push.DeltasSent},
		{"", "sgr_num_attachments_pushed", &push.Attachments},
		{"", "sgr_num_attachment_bytes_pushed", &push.AttachmentBytes},
		{"", "sgr_num_attachments_pulled", &pull.Attachments},
		{"", "sgr_num_attachment_bytes_pulled", &pull.AttachmentBytes},
		{"", "sgr_conflict_resolved_local_count", &pull.ResolvedLocal},
		{"", "sgr_conflict_resolved_remote_count", &pull.ResolvedRemote},
		{"", "sgr_conflict_resolved_merge_count", &pull.ResolvedMerge},
		{"", "sgr_num_connect_attempts_push", &push.Connects},
		{"", "sgr_num_connect_attempts_pull", &pull.Connects},
		{"", "sgr_num_reconnects_aborted_push", &push.Aborted},
		{"", "sgr_num_reconnects_aborted_pull", &pull.Aborted},
		// What is done is taken out of the list at once, so its length is the same after a clean-up.
		{"", "expected_seq_len", &s.Expected},
		{"", "expected_seq_len_post_cleanup", &s.Expected},
		{"", "processed_seq_len", &s.Processed},
		{"", "processed_seq_len_post_cleanup", &s.Processed},
		{"", "sgr_num_handlers_panicked", &s.Panics},
	}
}

// Figures yields, for each replication, its statistics since the process began or it was reset, by the names of
// inter-gateway.md §13.
func (m *Replications) Figures() iter.Seq2[string, map[string]int64] {
	return func(yield func(string, map[string]int64) bool) {
		for _, p := range m.list() {
			figures := map[string]int64{}
			for _, c := range counters(p.counted()) {
				figures[c.stat] = c.v.Load()
			}
			if !yield(p.id, figures) {
				return
			}
		}
	}
}

func (p *replication) counted() *replicate.ReplicatorStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

// totals are the counters of a status: those of earlier processes and those of this one. p.mu is held.
func (p *replication) totals() map[string]int64 {
	t := maps.Clone(p.before)
	if t == nil {
		t = map[string]int64{}
	}
	for _, c := range counters(p.stats) {
		if c.status != "" {
			t[c.status] += c.v.Load()
		}
	}
	return t
}

// progress is what is stored of a status. p.mu is held.
func (p *replication) progress() replicationProgress {
	p.lookAtSequences()
	return replicationProgress{
		State: p.state.String(), Error: p.err, ErrorAt: p.errAt, LastSeqPull: p.lastPull, LastSeqPush: p.lastPush, Counters: p.totals(),
	}
}

// progressToSave returns the status if it is not the one that was stored last.
func (p *replication) progressToSave() (replicationProgress, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.progress()
	if p.deleted || p.saved.same(now) {
		return now, false
	}
	p.saved = now
	return now, true
}

func (a *replicationProgress) same(b replicationProgress) bool {
	return a.State == b.State && a.Error == b.Error && a.ErrorAt.Equal(b.ErrorAt) && a.LastSeqPull == b.LastSeqPull &&
		a.LastSeqPush == b.LastSeqPush && maps.Equal(a.Counters, b.Counters)
}

// lookAtSequences notes how far the run has come. p.mu is held.
func (p *replication) lookAtSequences() {
	if p.run == nil || p.run.replicator == nil {
		return
	}
	st := p.run.replicator.Status()
	if st.Pull.Active && st.Pull.LastSeq != "" {
		p.lastPull = st.Pull.LastSeq
	}
	if st.Push.Active && st.Push.LastSeq != "" {
		p.lastPush = st.Push.LastSeq
	}
}

// info describes the definition. p.mu is held.
func (p *replication) info() ReplicationInfo {
	node := p.m.nodeOf(p.id)
	return ReplicationInfo{
		ID: p.id, Config: p.def.Config, Wanted: p.def.Wanted, Node: node, Local: node != "" && node == p.m.r.g.NodeID(),
		Created: p.def.Created, Updated: p.def.Updated,
	}
}

// status describes what the replication is doing.
func (p *replication) status() ReplicationStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.m.shared() && p.claimed == nil {
		info, s := p.info(), p.stored
		state := p.shown(info.Node)
		if p.run != nil && p.run.resets {
			state = p.state
		}
		return ReplicationStatus{
			ReplicationInfo: info, State: state, Error: s.Error, ErrorAt: s.ErrorAt,
			LastSeqPull: s.LastSeqPull, LastSeqPush: s.LastSeqPush, Counters: s.Counters,
		}
	}
	p.lookAtSequences()
	return ReplicationStatus{
		ReplicationInfo: p.info(), State: p.state, Error: p.err, ErrorAt: p.errAt,
		LastSeqPull: p.lastPull, LastSeqPush: p.lastPush, Counters: p.totals(),
	}
}
