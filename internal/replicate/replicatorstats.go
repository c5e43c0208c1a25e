package replicate

import "sync/atomic"

// ReplicatorStats counts what a replication that this side drives does (inter-gateway.md §5 and §13). Counters only grow; a
// reset sets them to 0. Safe for concurrent use.
type ReplicatorStats struct {
	Push PushCounters
	Pull PullCounters

	Expected  atomic.Int64 // a gauge, expected_seq_len: sequences that no checkpoint can pass yet
	Processed atomic.Int64 // a gauge, processed_seq_len: those of them that are done, behind one that is not
	Panics    atomic.Int64 // sgr_num_handlers_panicked
}

// PushCounters are those of the direction from here to the remote.
type PushCounters struct {
	Written         atomic.Int64 // docs_written, sgr_num_docs_pushed: revisions that the remote accepted
	Failures        atomic.Int64 // doc_write_failures, sgr_num_docs_failed_to_push: revisions that it did not
	Conflicts       atomic.Int64 // doc_write_conflict, sgr_push_conflict_count: … with 409
	Rejected        atomic.Int64 // rejected_by_remote, sgr_push_rejected_count: … with 403, or 500 of its sync function
	Checked         atomic.Int64 // docs_checked_push, sgr_docs_checked_sent: changes offered to the remote
	DeltasSent      atomic.Int64 // deltas_sent, sgr_deltas_sent
	Attachments     atomic.Int64 // sgr_num_attachments_pushed
	AttachmentBytes atomic.Int64 // sgr_num_attachment_bytes_pushed
	Connects        atomic.Int64 // sgr_num_connect_attempts_push
	Aborted         atomic.Int64 // sgr_num_reconnects_aborted_push
	Bytes           atomic.Int64 // bodies sent, in bytes
}

// PullCounters are those of the direction from the remote to here.
type PullCounters struct {
	Read            atomic.Int64 // docs_read, sgr_num_docs_pulled: revisions received and stored
	Failures        atomic.Int64 // rejected_by_local, sgr_num_docs_failed_to_pull: received and not stored
	Purged          atomic.Int64 // docs_purged, sgr_num_docs_purged
	Checked         atomic.Int64 // docs_checked_pull, sgr_docs_checked_recv: changes that the remote offered
	DeltasReceived  atomic.Int64 // deltas_recv, sgr_deltas_recv
	DeltasRequested atomic.Int64 // deltas_requested, sgr_deltas_requested
	Attachments     atomic.Int64 // sgr_num_attachments_pulled
	AttachmentBytes atomic.Int64 // sgr_num_attachment_bytes_pulled
	ResolvedLocal   atomic.Int64 // sgr_conflict_resolved_local_count
	ResolvedRemote  atomic.Int64 // sgr_conflict_resolved_remote_count
	ResolvedMerge   atomic.Int64 // sgr_conflict_resolved_merge_count
	Connects        atomic.Int64 // sgr_num_connect_attempts_pull
	Aborted         atomic.Int64 // sgr_num_reconnects_aborted_pull
	Bytes           atomic.Int64 // bodies received, in bytes
}
