package config

// Settings of parts that later versions bring. They are checked, stored and returned; Database.Warnings names
// those that would have to act and do not yet, and Validate refuses those that would change who gets in.

// Replications are replication definitions by id. Input may also be an array of definitions with their id in
// replication_id.
type Replications map[string]*Replication

// Replication is one replication definition (inter-gateway.md §2).
type Replication struct {
	ID                     string       `json:"replication_id,omitzero"`
	Remote                 RemoteURL    `json:"remote,omitzero"`
	RemoteUsername         string       `json:"remote_username,omitzero"`
	RemotePassword         Secret       `json:"remote_password,omitzero"`
	Username               string       `json:"username,omitzero" alias:"user"`
	Password               Secret       `json:"password,omitzero"`
	Direction              string       `json:"direction,omitzero"`
	Continuous             *bool        `json:"continuous,omitzero"`
	Adhoc                  *bool        `json:"adhoc,omitzero"`
	InitialState           string       `json:"initial_state,omitzero" alias:"state"`
	ConflictResolutionType string       `json:"conflict_resolution_type,omitzero"`
	CustomConflictResolver JavaScript   `json:"custom_conflict_resolver,omitzero"`
	PurgeOnRemoval         *bool        `json:"purge_on_removal,omitzero" alias:"purge-on-removal"`
	EnableDeltaSync        *bool        `json:"enable_delta_sync,omitzero"`
	MaxBackoffTime         *int         `json:"max_backoff_time,omitzero"` // minutes
	Filter                 string       `json:"filter,omitzero"`
	QueryParams            *QueryParams `json:"query_params,omitzero"`
	BatchSize              *int         `json:"batch_size,omitzero"`
	RunAs                  string       `json:"run_as,omitzero"`
	CollectionsEnabled     *bool        `json:"collections_enabled,omitzero"`
	CollectionsLocal       []string     `json:"collections_local,omitzero"`
	CollectionsRemote      []string     `json:"collections_remote,omitzero"`
	Cancel                 *bool        `json:"cancel,omitzero"`
	ClusterUUID            string       `json:"cluster_uuid,omitzero"`
	AssignedNode           string       `json:"assigned_node,omitzero"`
	TargetState            string       `json:"target_state,omitzero"`
	CreatedAt              string       `json:"created_at,omitzero"`
	UpdatedAt              string       `json:"updated_at,omitzero"`
}

// RemoteURL is the URL of a remote database. A password in it is a secret: it is masked wherever the URL is
// shown; only Reveal gives all of it. The zero RemoteURL is "none".
type RemoteURL struct{ url Secret }

// QueryParams are the channels of a filter: a plain list, a list under "channels", or lists by collection.
type QueryParams struct {
	Channels            []string
	CollectionsChannels map[string][]string
	// Plain says that Channels were given as a plain array.
	Plain bool
}

// OIDC are the OpenID Connect settings (gateway-rest.md §20).
type OIDC struct {
	DefaultProvider string                  `json:"default_provider,omitzero"`
	Providers       map[string]OIDCProvider `json:"providers,omitzero"`
}

// OIDCProvider is one OpenID Connect provider.
type OIDCProvider struct {
	Issuer                      string   `json:"issuer,omitzero"`
	ClientID                    *string  `json:"client_id,omitzero"`
	ValidationKey               Secret   `json:"validation_key,omitzero"`
	CallbackURL                 string   `json:"callback_url,omitzero"`
	DisableSession              *bool    `json:"disable_session,omitzero"`
	Scope                       []string `json:"scope,omitzero"`
	IncludeAccess               *bool    `json:"include_access,omitzero"`
	UserPrefix                  string   `json:"user_prefix,omitzero"`
	DiscoveryURL                string   `json:"discovery_url,omitzero"`
	DisableConfigValidation     *bool    `json:"disable_cfg_validation,omitzero"`
	DisableCallbackState        *bool    `json:"disable_callback_state,omitzero"`
	UsernameClaim               string   `json:"username_claim,omitzero"`
	RolesClaim                  string   `json:"roles_claim,omitzero"`
	ChannelsClaim               string   `json:"channels_claim,omitzero"`
	Register                    *bool    `json:"register,omitzero"`
	AllowUnsignedProviderTokens *bool    `json:"allow_unsigned_provider_tokens,omitzero"`
}

// LocalJWTProvider is a provider whose keys are in the config.
type LocalJWTProvider struct {
	Issuer          string   `json:"issuer,omitzero"`
	ClientID        *string  `json:"client_id,omitzero"`
	Algorithms      []string `json:"algorithms,omitzero"`
	Keys            []Raw    `json:"keys,omitzero"`
	JWKSURI         string   `json:"jwks_uri,omitzero"`
	DisableSession  *bool    `json:"disable_session,omitzero"`
	UserPrefix      string   `json:"user_prefix,omitzero"`
	UsernameClaim   string   `json:"username_claim,omitzero"`
	RolesClaim      string   `json:"roles_claim,omitzero"`
	ChannelsClaim   string   `json:"channels_claim,omitzero"`
	Register        *bool    `json:"register,omitzero"`
	SkipExpiryCheck *bool    `json:"skip_expiry_check,omitzero"`
}

// OIDCTestProvider is the product's built-in provider for tests.
type OIDCTestProvider struct {
	Enabled *bool `json:"enabled,omitzero"`
}

// EventHandlers are the webhooks of a database (gateway-rest.md §23.3).
type EventHandlers struct {
	MaxProcesses    *int      `json:"max_processes,omitzero"`
	WaitForProcess  string    `json:"wait_for_process,omitzero"` // ms
	DocumentChanged []Webhook `json:"document_changed,omitzero"`
	DBStateChanged  []Webhook `json:"db_state_changed,omitzero"`
}

// Webhook is one URL that is told of events.
type Webhook struct {
	Handler string         `json:"handler,omitzero"`
	URL     RemoteURL      `json:"url,omitzero"`
	Filter  JavaScript     `json:"filter,omitzero"`
	Timeout *int           `json:"timeout,omitzero"` // s
	Options *WebhookOption `json:"options,omitzero"`
}

// WebhookOption refines what a webhook is told.
type WebhookOption struct {
	WinningRevOnly *bool `json:"winning_rev_only,omitzero"`
}

// Raw is a JSON object kept as it was given.
type Raw []byte

// normalize maps older spellings to the ones that are stored (inter-gateway.md §2).
func (r *Replication) normalize() {
	if r.Direction == "push_and_pull" {
		r.Direction = "pushAndPull"
	}
}
