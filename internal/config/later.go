package config

// Settings of parts that later versions bring. They are checked, stored and returned; Database.Warnings names
// those that would have to act and do not yet, and Validate refuses those that would change who gets in.

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
