package config

import (
	"strings"
	"time"
)

// Duration is a span written as Go writes it: "10s", "5m".
type Duration time.Duration

// JavaScript is a script setting: the source, an http(s) URL to fetch it from when the database loads, or, in
// files only, the path of a file that holds it (gateway-rest.md §10.3).
type JavaScript string

// IsURL reports whether the setting names a source to fetch.
func (j JavaScript) IsURL() bool {
	return strings.HasPrefix(string(j), "http://") || strings.HasPrefix(string(j), "https://")
}

// IsSource reports whether the setting looks like a function rather than a path or URL.
func (j JavaScript) IsSource() bool {
	return !j.IsURL() && strings.ContainsAny(string(j), "{}()=>\n;")
}

// Choice is a setting that takes a few words, of which true and false may be given as booleans too.
type Choice string

// Number is a setting that may have a fraction; it keeps the digits it was written with.
type Number string

// Index are settings of the product's query indexes; accepted and kept.
type Index struct {
	NumReplicas   *int `json:"num_replicas,omitzero"`
	NumPartitions *int `json:"num_partitions,omitzero"`
}

// DeltaSync are the settings of delta replication.
type DeltaSync struct {
	Enabled          *bool `json:"enabled,omitzero"`
	RevMaxAgeSeconds *int  `json:"rev_max_age_seconds,omitzero"`
}

// Cache are the settings of caches.
type Cache struct {
	RevCache     *RevCache     `json:"rev_cache,omitzero"`
	ChannelCache *ChannelCache `json:"channel_cache,omitzero"`
}

// RevCache are the settings of the revision cache.
type RevCache struct {
	Size             *int `json:"size,omitzero"`
	MaxMemoryCountMB *int `json:"max_memory_count_mb,omitzero"`
	ShardCount       *int `json:"shard_count,omitzero"`
}

// ChannelCache are the settings of the product's channel cache.
type ChannelCache struct {
	MaxNumber            *int  `json:"max_number,omitzero"`
	HighWatermarkPercent *int  `json:"compact_high_watermark_pct,omitzero"`
	LowWatermarkPercent  *int  `json:"compact_low_watermark_pct,omitzero"`
	MaxWaitPending       *int  `json:"max_wait_pending,omitzero"`
	MaxNumPending        *int  `json:"max_num_pending,omitzero"`
	MaxWaitSkipped       *int  `json:"max_wait_skipped,omitzero"`
	EnableStarChannel    *bool `json:"enable_star_channel,omitzero"`
	MaxLength            *int  `json:"max_length,omitzero"`
	MinLength            *int  `json:"min_length,omitzero"`
	ExpirySeconds        *int  `json:"expiry_seconds,omitzero"`
	QueryLimit           *int  `json:"query_limit,omitzero"`
}

// DatabaseLogging are a database's own log settings.
type DatabaseLogging struct {
	Console *DatabaseConsole `json:"console,omitzero"`
	Audit   *DatabaseAudit   `json:"audit,omitzero"`
}

// DatabaseConsole are a database's own console log settings.
type DatabaseConsole struct {
	LogLevel string   `json:"log_level,omitzero"`
	LogKeys  []string `json:"log_keys,omitzero"`
}

// DatabaseAudit are a database's audit settings.
type DatabaseAudit struct {
	Enabled       *bool       `json:"enabled,omitzero"`
	EnabledEvents []int       `json:"enabled_events,omitzero"`
	DisabledUsers []AuditName `json:"disabled_users,omitzero"`
	DisabledRoles []AuditName `json:"disabled_roles,omitzero"`
}

// AuditName names a user or role left out of the audit log.
type AuditName struct {
	Name   string `json:"name,omitzero"`
	Domain string `json:"domain,omitzero"`
}
