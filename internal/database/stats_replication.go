package database

import (
	"iter"
	"sync/atomic"
)

// ReplicationStats counts what replications over /{db}/_blipsync do, under the names of gateway-rest.md §22.3. The
// endpoint counts connections and bytes; everything else is counted by who speaks the protocol. Counters only grow;
// what is marked a gauge goes up and down. Times are in nanoseconds. Safe for concurrent use.
type ReplicationStats struct {
	// group database
	Active         atomic.Int64 // num_replications_active (a gauge): open connections
	Total          atomic.Int64 // num_replications_total: connections ever opened
	RejectedLimit  atomic.Int64 // num_replications_rejected_limit: connections and feeds refused because there were too many
	BytesReceived  atomic.Int64 // replication_bytes_received: from the connections, WebSocket frames included
	BytesSent      atomic.Int64 // replication_bytes_sent: likewise
	DocReads       atomic.Int64 // num_doc_reads_blip: revisions read to be sent
	DocReadsBytes  atomic.Int64 // doc_reads_bytes_blip: of their bodies, whole
	DocWritesBytes atomic.Int64 // doc_writes_bytes_blip: of bodies that were stored, whole

	Pull  PullStats
	Push  PushStats
	Delta DeltaStats

	// tidegate's own
	StoreQueue     atomic.Int64 // a gauge: revisions received and waiting to be stored
	ProtocolErrors atomic.Int64 // connections that were cut because the client broke the protocol
	SlowReaders    atomic.Int64 // connections that were cut because the client did not read
	LoginsEnded    atomic.Int64 // connections that were cut because their login ended
}

// PullStats are the counters of group cbl_replication_pull: from here to clients.
type PullStats struct {
	AttachmentBytes  atomic.Int64 // attachment_pull_bytes: sent
	Attachments      atomic.Int64 // attachment_pull_count: sent
	MaxPending       atomic.Int64 // max_pending (a gauge): most changes ever waiting on one connection; raise it by NotePending
	Active           atomic.Int64 // num_replications_active (a gauge): pulls that are open
	ActiveContinuous atomic.Int64 // num_pull_repl_active_continuous (a gauge)
	ActiveOneShot    atomic.Int64 // num_pull_repl_active_one_shot (a gauge)
	CaughtUp         atomic.Int64 // num_pull_repl_caught_up (a gauge): continuous pulls that have nothing to send
	TotalCaughtUp    atomic.Int64 // num_pull_repl_total_caught_up: pulls that have come to the end for the first time
	SinceZero        atomic.Int64 // num_pull_repl_since_zero: pulls that began at the beginning
	TotalContinuous  atomic.Int64 // num_pull_repl_total_continuous
	TotalOneShot     atomic.Int64 // num_pull_repl_total_one_shot
	RequestChanges   atomic.Int64 // request_changes_count: changes messages sent
	RequestTime      atomic.Int64 // request_changes_time: from sending one to its answer
	RevProcessing    atomic.Int64 // rev_processing_time: reading and encoding revisions
	RevsSent         atomic.Int64 // rev_send_count
	NoRevsSent       atomic.Int64 // norev_send_count
	Replacements     atomic.Int64 // replacement_rev_send_count: newer revisions sent in place of the ones asked for
	RevErrors        atomic.Int64 // rev_error_count: revisions that clients refused
	RevLatency       atomic.Int64 // rev_send_latency: from a client asking for a revision to its being sent
}

// NotePending raises MaxPending to n.
func (p *PullStats) NotePending(n int64) { storeMax(&p.MaxPending, n) }

// PushStats are the counters of group cbl_replication_push: from clients to here.
type PushStats struct {
	AttachmentBytes atomic.Int64 // attachment_push_bytes: received
	Attachments     atomic.Int64 // attachment_push_count: received
	Docs            atomic.Int64 // doc_push_count: revisions stored
	DocErrors       atomic.Int64 // doc_push_error_count: revisions refused
	Proposals       atomic.Int64 // propose_change_count: entries of proposeChanges (and changes) looked at
	ProposalTime    atomic.Int64 // propose_change_time
	WriteTime       atomic.Int64 // write_processing_time: from receiving a revision to its being stored or refused
	Throttled       atomic.Int64 // write_throttled_count: revisions that had to wait for others to be stored
	ThrottledTime   atomic.Int64 // write_throttled_time
}

// DeltaStats are the counters of group delta_sync.
type DeltaStats struct {
	Requested atomic.Int64 // deltas_requested: revisions for which the client takes a delta and has a base
	Sent      atomic.Int64 // deltas_sent
	Pulls     atomic.Int64 // delta_pull_replication_count: pulls of clients that take deltas
	CacheHit  atomic.Int64 // delta_cache_hit: deltas that were ready
	CacheMiss atomic.Int64 // delta_cache_miss: deltas that had to be computed
	Pushed    atomic.Int64 // delta_push_doc_count: revisions received as deltas
}

// counter is a figure and its name on the wire.
type counter struct {
	name string
	v    *atomic.Int64
}

// figures yields what counters hold now.
func figures(list ...counter) iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		for _, c := range list {
			if !yield(c.name, c.v.Load()) {
				return
			}
		}
	}
}

// Database yields the counters of group database by their wire names.
func (s *ReplicationStats) Database() iter.Seq2[string, int64] {
	return figures(
		counter{"num_replications_active", &s.Active},
		counter{"num_replications_total", &s.Total},
		counter{"num_replications_rejected_limit", &s.RejectedLimit},
		counter{"replication_bytes_received", &s.BytesReceived},
		counter{"replication_bytes_sent", &s.BytesSent},
		counter{"num_doc_reads_blip", &s.DocReads},
		counter{"doc_reads_bytes_blip", &s.DocReadsBytes},
		counter{"doc_writes_bytes_blip", &s.DocWritesBytes},
	)
}

// All yields the counters of group cbl_replication_pull by their wire names.
func (p *PullStats) All() iter.Seq2[string, int64] {
	return figures(
		counter{"attachment_pull_bytes", &p.AttachmentBytes},
		counter{"attachment_pull_count", &p.Attachments},
		counter{"max_pending", &p.MaxPending},
		counter{"num_replications_active", &p.Active},
		counter{"num_pull_repl_active_continuous", &p.ActiveContinuous},
		counter{"num_pull_repl_active_one_shot", &p.ActiveOneShot},
		counter{"num_pull_repl_caught_up", &p.CaughtUp},
		counter{"num_pull_repl_total_caught_up", &p.TotalCaughtUp},
		counter{"num_pull_repl_since_zero", &p.SinceZero},
		counter{"num_pull_repl_total_continuous", &p.TotalContinuous},
		counter{"num_pull_repl_total_one_shot", &p.TotalOneShot},
		counter{"request_changes_count", &p.RequestChanges},
		counter{"request_changes_time", &p.RequestTime},
		counter{"rev_processing_time", &p.RevProcessing},
		counter{"rev_send_count", &p.RevsSent},
		counter{"norev_send_count", &p.NoRevsSent},
		counter{"replacement_rev_send_count", &p.Replacements},
		counter{"rev_error_count", &p.RevErrors},
		counter{"rev_send_latency", &p.RevLatency},
	)
}

// All yields the counters of group cbl_replication_push by their wire names.
func (p *PushStats) All() iter.Seq2[string, int64] {
	return figures(
		counter{"attachment_push_bytes", &p.AttachmentBytes},
		counter{"attachment_push_count", &p.Attachments},
		counter{"doc_push_count", &p.Docs},
		counter{"doc_push_error_count", &p.DocErrors},
		counter{"propose_change_count", &p.Proposals},
		counter{"propose_change_time", &p.ProposalTime},
		counter{"write_processing_time", &p.WriteTime},
		counter{"write_throttled_count", &p.Throttled},
		counter{"write_throttled_time", &p.ThrottledTime},
	)
}

// All yields the counters of group delta_sync by their wire names.
func (d *DeltaStats) All() iter.Seq2[string, int64] {
	return figures(
		counter{"deltas_requested", &d.Requested},
		counter{"deltas_sent", &d.Sent},
		counter{"delta_pull_replication_count", &d.Pulls},
		counter{"delta_cache_hit", &d.CacheHit},
		counter{"delta_cache_miss", &d.CacheMiss},
		counter{"delta_push_doc_count", &d.Pushed},
	)
}
