package database

import (
	"iter"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/tidegate/tidegate/internal/store"
)

// Stats counts what a database does, under the names of gateway-rest.md §22.3. Counters only grow, unless
// noted; times are in nanoseconds. Safe for concurrent use.
type Stats struct {
	// group database
	ConflictWrites        atomic.Int64 // conflict_write_count
	DocWritesBytes        atomic.Int64 // doc_writes_bytes
	DocReadsREST          atomic.Int64 // num_doc_reads_rest: every document read through another Handle
	DocWrites             atomic.Int64 // num_doc_writes
	DocWritesRejected     atomic.Int64 // num_doc_writes_rejected: conflicts
	SequenceAssigned      atomic.Int64 // sequence_assigned_count
	LastSequenceAssigned  atomic.Int64 // last_sequence_assigned_value (a gauge)
	SyncFunctions         atomic.Int64 // sync_function_count
	SyncFunctionTime      atomic.Int64 // sync_function_time
	SyncExceptions        atomic.Int64 // sync_function_exception_count
	TombstonesCompacted   atomic.Int64 // num_tombstones_compacted
	AttachmentsCompacted  atomic.Int64 // num_attachments_compacted
	CompactTombstoneStart atomic.Int64 // compaction_tombstone_start_time (unix seconds, a gauge)
	CompactAttachStart    atomic.Int64 // compaction_attachment_start_time (unix seconds, a gauge)
	WarnChannelsPerDoc    atomic.Int64 // warn_channels_per_doc_count
	WarnGrantsPerDoc      atomic.Int64 // warn_grants_per_doc_count
	WarnChannelNameSize   atomic.Int64 // warn_channel_name_size_count

	Replication ReplicationStats
	Resets      ResetStats // of clients (device-sync.md §12.5)

	ResyncProcessed atomic.Int64 // resync_num_processed
	ResyncChanged   atomic.Int64 // resync_num_changed

	// group security
	AccessErrors atomic.Int64 // num_access_errors
	DocsRejected atomic.Int64 // num_docs_rejected

	// tidegate's own
	Moved       atomic.Int64 // writes that were computed again because their document moved
	DocsExpired atomic.Int64
	FeedWakeups atomic.Int64 // feeds that were asleep and were woken
	Swept       atomic.Int64 // bodies of old revisions and local documents

	mu          sync.Mutex
	collections map[store.Collection]*CollectionStats
}

// CollectionStats are the counters of one collection (group per_collection).
type CollectionStats struct {
	Name string // scope.collection

	SyncFunctions    atomic.Int64 // sync_function_count
	SyncFunctionTime atomic.Int64 // sync_function_time
	SyncRejects      atomic.Int64 // sync_function_reject_count
	SyncAccess       atomic.Int64 // sync_function_reject_access_count
	SyncExceptions   atomic.Int64 // sync_function_exception_count
	DocReads         atomic.Int64 // num_doc_reads
	DocReadsBytes    atomic.Int64 // doc_reads_bytes
	DocWrites        atomic.Int64 // num_doc_writes
	DocWritesBytes   atomic.Int64 // doc_writes_bytes
	ResyncProcessed  atomic.Int64 // resync_num_processed
	ResyncChanged    atomic.Int64 // resync_num_changed
}

// NewStats makes a set of zero counters.
func NewStats() *Stats { return &Stats{collections: map[store.Collection]*CollectionStats{}} }

// collection returns the counters of a collection, which live as long as s.
func (s *Stats) collection(id store.Collection, name string) *CollectionStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.collections[id]
	if c == nil {
		c = &CollectionStats{Name: name}
		s.collections[id] = c
	}
	return c
}

// Database yields the counters of group database by their wire names.
func (s *Stats) Database() iter.Seq2[string, int64] {
	return figures(
		counter{"conflict_write_count", &s.ConflictWrites},
		counter{"doc_writes_bytes", &s.DocWritesBytes},
		counter{"num_doc_reads_rest", &s.DocReadsREST},
		counter{"num_doc_writes", &s.DocWrites},
		counter{"num_doc_writes_rejected", &s.DocWritesRejected},
		counter{"sequence_assigned_count", &s.SequenceAssigned},
		counter{"last_sequence_assigned_value", &s.LastSequenceAssigned},
		counter{"sync_function_count", &s.SyncFunctions},
		counter{"sync_function_time", &s.SyncFunctionTime},
		counter{"sync_function_exception_count", &s.SyncExceptions},
		counter{"num_tombstones_compacted", &s.TombstonesCompacted},
		counter{"num_attachments_compacted", &s.AttachmentsCompacted},
		counter{"compaction_tombstone_start_time", &s.CompactTombstoneStart},
		counter{"compaction_attachment_start_time", &s.CompactAttachStart},
		counter{"warn_channels_per_doc_count", &s.WarnChannelsPerDoc},
		counter{"warn_grants_per_doc_count", &s.WarnGrantsPerDoc},
		counter{"warn_channel_name_size_count", &s.WarnChannelNameSize},
		counter{"resync_num_processed", &s.ResyncProcessed},
		counter{"resync_num_changed", &s.ResyncChanged},
	)
}

// Security yields the counters of group security that documents raise, by their wire names.
func (s *Stats) Security() iter.Seq2[string, int64] {
	return figures(counter{"num_access_errors", &s.AccessErrors}, counter{"num_docs_rejected", &s.DocsRejected})
}

// Collections yields the counters of each collection, once the database is open.
func (s *Stats) Collections() iter.Seq2[store.Collection, *CollectionStats] {
	return func(yield func(store.Collection, *CollectionStats) bool) {
		s.mu.Lock()
		colls := maps.Clone(s.collections)
		s.mu.Unlock()
		for id, c := range colls {
			if !yield(id, c) {
				return
			}
		}
	}
}

// All yields the counters by their wire names.
func (c *CollectionStats) All() iter.Seq2[string, int64] {
	return figures(
		counter{"sync_function_count", &c.SyncFunctions},
		counter{"sync_function_time", &c.SyncFunctionTime},
		counter{"sync_function_reject_count", &c.SyncRejects},
		counter{"sync_function_reject_access_count", &c.SyncAccess},
		counter{"sync_function_exception_count", &c.SyncExceptions},
		counter{"num_doc_reads", &c.DocReads},
		counter{"doc_reads_bytes", &c.DocReadsBytes},
		counter{"num_doc_writes", &c.DocWrites},
		counter{"doc_writes_bytes", &c.DocWritesBytes},
		counter{"resync_num_processed", &c.ResyncProcessed},
		counter{"resync_num_changed", &c.ResyncChanged},
	)
}

// storeMax raises a gauge to v.
func storeMax(gauge *atomic.Int64, v int64) {
	for {
		old := gauge.Load()
		if v <= old || gauge.CompareAndSwap(old, v) {
			return
		}
	}
}
