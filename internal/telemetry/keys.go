package telemetry

import "strings"

// kind tells counters, which only grow, from gauges.
type kind uint8

const (
	counter kind = iota
	gauge
)

// key is one figure of the product's statistics.
type key struct {
	name string // in _expvar, and in Prometheus unless prom is given
	prom string
	kind kind
	// promOnly says that _expvar does not have it.
	promOnly bool
}

// group is a set of figures: where _expvar has it, and the Prometheus subsystem.
type group struct {
	name, subsystem string
	keys            []key
}

// Names of groups (gateway-rest.md §22).
const (
	GroupResources   = "resource_utilization"
	GroupConfig      = "config"
	GroupAudit       = "audit"
	GroupCache       = "cache"
	GroupDatabase    = "database"
	GroupPull        = "cbl_replication_pull"
	GroupPush        = "cbl_replication_push"
	GroupDeltaSync   = "delta_sync"
	GroupSecurity    = "security"
	GroupImport      = "shared_bucket_import"
	GroupViews       = "gsi_views"
	groupCollections = "per_collection"
)

// Keys lists the names of a group of each database, as Figures uses them.
func Keys(groupName string) []string {
	var names []string
	for _, g := range databaseGroups() {
		if g.name == groupName {
			for _, k := range g.keys {
				names = append(names, k.name)
			}
		}
	}
	return names
}

// keys reads a list of names: a '~' in front marks a gauge, "a=b" gives Prometheus the name b.
func keys(lists ...string) []key {
	var all []key
	for _, list := range lists {
		for word := range strings.FieldsSeq(list) {
			k := key{name: word}
			if strings.HasPrefix(word, "~") {
				k.name, k.kind = word[1:], gauge
			}
			if name, prom, ok := strings.Cut(k.name, "="); ok {
				k.name, k.prom = name, prom
			} else {
				k.prom = k.name
			}
			all = append(all, k)
		}
	}
	return all
}

// globalGroups are the groups of the process.
func globalGroups() []group {
	return []group{
		{GroupResources, GroupResources, keys(
			`admin_net_bytes_recv admin_net_bytes_sent pub_net_bytes_recv pub_net_bytes_sent error_count warn_count assertion_fail_count
			~go_memstats_heapalloc ~go_memstats_heapidle ~go_memstats_heapinuse ~go_memstats_heapreleased go_memstats_pausetotalns
			~go_memstats_stackinuse ~go_memstats_stacksys ~go_memstats_sys ~goroutines_high_watermark ~num_goroutines
			~process_cpu_percent_utilization ~node_cpu_percent_utilization ~process_memory_resident ~system_memory_total
			idle_kv_ops idle_query_ops ~uptime`)},
		{GroupConfig, GroupConfig, keys(
			`database_config_bucket_mismatches database_config_rollback_collection_collisions xattr_format_mismatches`)},
		{GroupAudit, GroupAudit, keys(`num_audits_logged num_audits_filtered_by_user num_audits_filtered_by_role`)},
	}
}

// databaseGroups are the groups of each database.
func databaseGroups() []group {
	return []group{
		{GroupCache, GroupCache, keys(
			`abandoned_seqs ~chan_cache_active_revs chan_cache_bypass_count chan_cache_channels_added chan_cache_channels_evicted_inactive
			chan_cache_channels_evicted_nru chan_cache_compact_count chan_cache_compact_time chan_cache_hits ~chan_cache_max_entries
			chan_cache_misses ~chan_cache_num_channels chan_cache_pending_queries ~chan_cache_removal_revs ~chan_cache_tombstone_revs
			~high_seq_cached ~high_seq_stable non_mobile_ignored_count ~num_active_channels num_skipped_seqs ~current_skipped_seq_count
			~skipped_seq_len ~skipped_seq_cap ~skipped_sequence_skip_list_nodes ~pending_seq_len rev_cache_bypass rev_cache_hits
			rev_cache_misses ~revision_cache_num_items ~revision_cache_total_memory view_queries`)},
		{GroupPull, "replication_pull", keys(
			`attachment_pull_bytes attachment_pull_count ~max_pending ~num_replications_active ~num_pull_repl_active_continuous
			~num_pull_repl_active_one_shot ~num_pull_repl_caught_up num_pull_repl_total_caught_up num_pull_repl_since_zero
			num_pull_repl_total_continuous num_pull_repl_total_one_shot request_changes_count request_changes_time rev_processing_time
			rev_send_count norev_send_count replacement_rev_send_count rev_error_count rev_send_latency`)},
		{GroupPush, "replication_push", keys(
			`attachment_push_bytes attachment_push_count doc_push_count doc_push_error_count propose_change_count propose_change_time
			write_processing_time write_throttled_count write_throttled_time`)},
		{GroupDatabase, GroupDatabase, databaseKeys()},
		{GroupDeltaSync, GroupDeltaSync, keys(
			`deltas_requested deltas_sent delta_pull_replication_count delta_cache_hit delta_cache_miss=delta_sync_miss delta_push_doc_count`)},
		{GroupViews, GroupViews, viewKeys()},
		{GroupSecurity, GroupSecurity, keys(`auth_failed_count auth_success_count num_access_errors num_docs_rejected total_auth_time`)},
		{GroupImport, GroupImport, keys(
			`import_count import_cancel_cas import_error_count import_processing_time ~import_high_seq ~import_partitions
			import_feed_processed_count=import_processed_count`)},
	}
}

func databaseKeys() []key {
	return keys(
		`replication_bytes_received replication_bytes_sent ~compaction_attachment_start_time ~compaction_tombstone_start_time
		conflict_write_count crc32c_match_count dcp_caching_count dcp_caching_time dcp_received_count dcp_received_time doc_reads_bytes_blip
		doc_writes_bytes doc_writes_bytes_blip doc_writes_xattr_bytes ~high_seq_feed num_attachments_compacted num_doc_reads_blip
		num_doc_reads_rest num_doc_writes num_doc_writes_rejected num_public_rest_requests ~num_replications_active num_replications_total
		num_replications_rejected_limit num_tombstones_compacted public_rest_bytes_read public_rest_bytes_written=http_bytes_written
		sequence_assigned_count ~last_sequence_assigned_value sequence_get_count sequence_incr_count sequence_released_count
		sequence_reserved_count ~last_sequence_reserved_value corrupt_sequence_count warn_channel_name_size_count
		warn_channels_per_doc_count warn_grants_per_doc_count warn_xattr_size_count sync_function_count sync_function_time
		sync_function_exception_count total_sync_time resync_num_processed resync_num_changed total_init_fatal_errors
		total_online_fatal_errors num_public_all_docs_requests num_docs_pre_filter_public_all_docs num_docs_post_filter_public_all_docs`)
}

// viewKeys are the figures of each kind of query.
func viewKeys() []key {
	var all []key
	for query := range strings.FieldsSeq(`access roleAccess channels channelsStar sequences principals roles sessions tombstones resync allDocs users`) {
		all = append(all, keys(query+"_count "+query+"_error_count "+query+"_time")...)
	}
	return all
}

// collectionGroup is the group of each collection.
func collectionGroup() group {
	return group{groupCollections, "collection", keys(
		`sync_function_count sync_function_time sync_function_reject_count sync_function_reject_access_count sync_function_exception_count
		import_count num_doc_reads doc_reads_bytes num_doc_writes doc_writes_bytes resync_num_processed resync_num_changed`)}
}

// replicationGroup is the group of each replication with another gateway (inter-gateway.md §13).
func replicationGroup() group {
	g := group{"replications", "replication", keys(
		`sgr_num_docs_pushed sgr_num_docs_failed_to_push sgr_push_conflict_count sgr_push_rejected_count sgr_docs_checked_sent
		sgr_deltas_sent sgr_num_attachments_pushed sgr_num_attachment_bytes_pushed sgr_num_docs_pulled sgr_num_docs_failed_to_pull
		sgr_num_docs_purged sgr_docs_checked_recv sgr_deltas_recv sgr_deltas_requested sgr_num_attachments_pulled
		sgr_num_attachment_bytes_pulled sgr_conflict_resolved_local_count sgr_conflict_resolved_remote_count
		sgr_conflict_resolved_merge_count sgr_num_connect_attempts_push sgr_num_connect_attempts_pull sgr_num_reconnects_aborted_push
		sgr_num_reconnects_aborted_pull ~expected_seq_len=expected_sequence_len
		~expected_seq_len_post_cleanup=expected_sequence_len_post_cleanup ~processed_seq_len=processed_sequence_len
		~processed_seq_len_post_cleanup=processed_sequence_len_post_cleanup`)}
	return group{g.name, g.subsystem, append(g.keys, key{name: "sgr_num_handlers_panicked", prom: "sgr_num_handlers_panicked", promOnly: true})}
}
