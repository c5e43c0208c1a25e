package config

// Database is the config of one database as it was given (gateway-rest.md §23.2): a nil pointer or an empty
// value is a setting that was left out. Settings has the values in force. A Database is not changed once it
// is in use; Clone gives a copy to change.
type Database struct {
	Name string `json:"name,omitzero"`

	// Storage of the product; kept and returned.
	Bucket                string `json:"bucket,omitzero"`
	Server                string `json:"server,omitzero"`
	Username              string `json:"username,omitzero"`
	Password              Secret `json:"password,omitzero"`
	CertPath              string `json:"certpath,omitzero"`
	KeyPath               string `json:"keypath,omitzero"`
	CACertPath            string `json:"cacertpath,omitzero"`
	KVTLSPort             *int   `json:"kv_tls_port,omitzero"`
	MaxConcurrentQueryOps *int   `json:"max_concurrent_query_ops,omitzero"`

	// Scopes are the collections by scope; nil means the default collection alone.
	Scopes       map[string]Scope `json:"scopes,omitzero"`
	Sync         JavaScript       `json:"sync,omitzero"`
	ImportFilter JavaScript       `json:"import_filter,omitzero"`

	// Users and Roles are only in files: they create missing principals at start.
	Users map[string]*Principal `json:"users,omitzero"`
	Roles map[string]*Principal `json:"roles,omitzero"`
	Guest *Principal            `json:"guest,omitzero"`

	RevsLimit            *int    `json:"revs_limit,omitzero"`
	AllowConflicts       *bool   `json:"allow_conflicts,omitzero"`
	ImportDocs           *Choice `json:"import_docs,omitzero" choice:"true,false,continuous"`
	ImportPartitions     *int    `json:"import_partitions,omitzero"`
	ImportBackupOldRev   *bool   `json:"import_backup_old_rev,omitzero"`
	SharedBucketAccess   *bool   `json:"enable_shared_bucket_access,omitzero"`
	OldRevExpirySeconds  *int    `json:"old_rev_expiry_seconds,omitzero"`
	LocalDocExpirySecs   *int    `json:"local_doc_expiry_secs,omitzero"`
	ViewQueryTimeoutSecs *int    `json:"view_query_timeout_secs,omitzero"`
	JavaScriptTimeout    *int    `json:"javascript_timeout_secs,omitzero"`

	SessionCookieName     string `json:"session_cookie_name,omitzero"`
	SessionCookieSecure   *bool  `json:"session_cookie_secure,omitzero"`
	SessionCookieHTTPOnly *bool  `json:"session_cookie_http_only,omitzero"`
	AllowEmptyPassword    *bool  `json:"allow_empty_password,omitzero"`
	DisablePasswordAuth   *bool  `json:"disable_password_auth,omitzero"`
	SendWWWAuthenticate   *bool  `json:"send_www_authenticate_header,omitzero"`
	ServeInsecureTypes    *bool  `json:"serve_insecure_attachment_types,omitzero"`

	DeltaSync           *DeltaSync `json:"delta_sync,omitzero" alias:"delta-sync"`
	CompactIntervalDays *Number    `json:"compact_interval_days,omitzero"`

	SGReplicateEnabled       *Choice      `json:"sgreplicate_enabled,omitzero" choice:"true,false"`
	SGReplicateHeartbeatSecs *int         `json:"sgreplicate_websocket_heartbeat_secs,omitzero"`
	SGReplicateConfigured    *bool        `json:"sgreplicate_configured_nodes_only,omitzero"`
	Replications             Replications `json:"replications,omitzero"`

	QueryPaginationLimit      *int   `json:"query_pagination_limit,omitzero"`
	UserXattrKey              string `json:"user_xattr_key,omitzero"`
	ClientPartitionWindowSecs *int   `json:"client_partition_window_secs,omitzero"`
	ChangesRequestPlus        *bool  `json:"changes_request_plus,omitzero"`
	DisablePublicAllDocs      *bool  `json:"disable_public_all_docs,omitzero"`
	Offline                   *bool  `json:"offline,omitzero"`
	Suspendable               *bool  `json:"suspendable,omitzero"`
	ReadOnly                  *bool  `json:"read_only,omitzero"`
	ResyncConcurrency         *int   `json:"resync_concurrency,omitzero"`

	MaxAttachmentBytes        *int64  `json:"max_attachment_bytes,omitzero"`
	MetadataPurgeIntervalDays *Number `json:"metadata_purge_interval_days,omitzero"`

	SlowQueryWarningThreshold *int   `json:"slow_query_warning_threshold,omitzero"`
	BucketOpTimeoutMS         *int   `json:"bucket_op_timeout_ms,omitzero"`
	NumIndexReplicas          *int   `json:"num_index_replicas,omitzero"`
	Index                     *Index `json:"index,omitzero"`
	UseViews                  *bool  `json:"use_views,omitzero"`
	FeedType                  string `json:"feed_type,omitzero"`

	Cache         *Cache                      `json:"cache,omitzero"`
	CORS          *CORS                       `json:"cors,omitzero"`
	Logging       *DatabaseLogging            `json:"logging,omitzero"`
	OIDC          *OIDC                       `json:"oidc,omitzero"`
	LocalJWT      map[string]LocalJWTProvider `json:"local_jwt,omitzero"`
	EventHandlers *EventHandlers              `json:"event_handlers,omitzero"`
	Unsupported   *Unsupported                `json:"unsupported,omitzero"`

	// Fields of output only; accepted in input and ignored, so that what was read can be written back.
	CreatedAt  string `json:"created_at,omitzero"`
	UpdatedAt  string `json:"updated_at,omitzero"`
	Version    string `json:"version,omitzero"`
	SGVersion  string `json:"sg_version,omitzero"`
	MetadataID string `json:"metadata_id,omitzero"`
}

// Scope holds the collections of a named scope.
type Scope struct {
	Collections map[string]Collection `json:"collections,omitzero"`
}

// Collection is the config of one collection.
type Collection struct {
	Sync         JavaScript `json:"sync,omitzero"`
	ImportFilter JavaScript `json:"import_filter,omitzero"`
}

// Principal is a user, a role or the guest in a config file (gateway-rest.md §16.1).
type Principal struct {
	Name             string                                 `json:"name,omitzero"`
	Password         Secret                                 `json:"password,omitzero"`
	Email            string                                 `json:"email,omitzero"`
	Disabled         *bool                                  `json:"disabled,omitzero"`
	AdminChannels    []string                               `json:"admin_channels,omitzero"`
	AdminRoles       []string                               `json:"admin_roles,omitzero"`
	CollectionAccess map[string]map[string]CollectionAccess `json:"collection_access,omitzero"`
}

// CollectionAccess are a principal's own channels in a named collection.
type CollectionAccess struct {
	AdminChannels []string `json:"admin_channels,omitzero"`
}

// CORS is the cross-origin policy (gateway-rest.md §7).
type CORS struct {
	Origin      []string `json:"origin,omitzero"`
	LoginOrigin []string `json:"login_origin,omitzero"`
	Headers     []string `json:"headers,omitzero"`
	MaxAge      *int     `json:"max_age,omitzero"` // seconds
}

// Unsupported are switches outside the stable set.
type Unsupported struct {
	UserViews                     *ViewsSwitch       `json:"user_views,omitzero"`
	OIDCTestProvider              *OIDCTestProvider  `json:"oidc_test_provider,omitzero"`
	APIEndpoints                  *APIEndpoints      `json:"api_endpoints,omitzero"`
	WarningThresholds             *WarningThresholds `json:"warning_thresholds,omitzero"`
	OIDCTLSSkipVerify             *bool              `json:"oidc_tls_skip_verify,omitzero"`
	SGRTLSSkipVerify              *bool              `json:"sgr_tls_skip_verify,omitzero"`
	RemoteConfigTLSSkipVerify     *bool              `json:"remote_config_tls_skip_verify,omitzero"`
	GuestReadOnly                 *bool              `json:"guest_read_only,omitzero"`
	AllowGuestStar                *bool              `json:"allow_guest_star,omitzero"`
	ForceAPIForbiddenErrors       *bool              `json:"force_api_forbidden_errors,omitzero"`
	SameSiteCookie                string             `json:"same_site_cookie,omitzero"`
	ReplicationSeedShapes         *bool              `json:"replication_seed_shapes,omitzero"`
	ReplicationUpdateRequiresStop *bool              `json:"replication_update_requires_stop,omitzero"`
}

// APIEndpoints switch endpoints that are off by default.
type APIEndpoints struct {
	EnableBucketFlush *bool `json:"enable_couchbase_bucket_flush,omitzero"`
}

// WarningThresholds say from when on a count is worth a warning.
type WarningThresholds struct {
	XattrSizeBytes  *int `json:"xattr_size_bytes,omitzero"`
	ChannelsPerDoc  *int `json:"channels_per_doc,omitzero"`
	GrantsPerDoc    *int `json:"access_and_role_grants_per_doc,omitzero"`
	ChannelsPerUser *int `json:"channels_per_user,omitzero"`
	ChannelNameSize *int `json:"channel_name_size,omitzero"`
}

// ViewsSwitch turns the product's user views on; tidegate has none.
type ViewsSwitch struct {
	Enabled *bool `json:"enabled,omitzero"`
}
