package devicesync

import (
	"encoding/json"
	"slices"
)

// Mode is how documents are chosen for clients (device-sync.md §9.4).
type Mode string

// The modes. None is "": a config that was erased, or never given.
const (
	Flexible  Mode = "flexible"
	Partition Mode = "partition"
)

// Values of Config.TerminatedClients and Config.ResetDeletedEdits.
const (
	ClientsWait = "wait" // a refusal that is worth trying again
	ClientsStop = "stop" // a refusal for good

	DeleteWins = "delete_wins"
	EditWins   = "edit_wins"
)

// Defaults and bounds of §4.2.
const (
	DefaultOfflineDays    = 30
	DefaultHistoryHours   = 720
	DefaultAutoPauseDays  = 30
	DefaultQuarantineDays = 90
)

// Config is the sync configuration of a database: what `flexible_sync` (or `sync`) holds besides the state (§4). The zero Config is
// one that was erased.
type Config struct {
	Mode         Mode            `json:"mode,omitempty"`
	DatabaseName string          `json:"database_name"`
	Permissions  json.RawMessage `json:"permissions,omitempty"`

	// ClientMaxOfflineDays is how many days of history are kept for clients that are away; nil: all.
	ClientMaxOfflineDays   *int `json:"client_max_offline_days"`
	IsRecoveryModeDisabled bool `json:"is_recovery_mode_disabled,omitempty"`

	QueryableFields           []string            `json:"queryable_fields_names,omitempty"`
	IndexedQueryableFields    []string            `json:"indexed_queryable_fields_names,omitempty"`
	CollectionQueryableFields map[string][]string `json:"collection_queryable_fields_names,omitempty"`
	AsymmetricTables          []string            `json:"asymmetric_tables,omitempty"`
	DevelopmentMode           bool                `json:"development_mode_enabled,omitempty"`

	ChangeHistoryHours  int    `json:"change_history_hours"` // how long a pause may hold back trimming; 0: without limit
	AutoPauseDays       int    `json:"auto_pause_days"`      // 0: never
	TerminatedClients   string `json:"terminated_clients"`
	ResetDeletedEdits   string `json:"reset_deleted_edits"`
	LedgerRetentionDays *int   `json:"ledger_retention_days,omitempty"` // nil: for ever
	QuarantineDays      int    `json:"quarantine_days"`
	PausePeers          bool   `json:"pause_peers,omitempty"`

	Partition *PartitionConfig `json:"partition,omitempty"`

	// Automatic: nobody has configured sync; the database came with it (§1).
	Automatic bool `json:"automatic,omitempty"`
}

// PartitionConfig is `sync.partition`: each document is in the channel named by the value of Key.
type PartitionConfig struct {
	Key         string          `json:"key"`
	Type        string          `json:"type"`
	Required    bool            `json:"required"`
	Permissions json.RawMessage `json:"permissions,omitempty"`
}

// Service is what a service config holds besides the sync configuration; a termination keeps it.
type Service struct {
	ClusterName           string          `json:"clusterName,omitempty"`
	ReadPreference        string          `json:"readPreference,omitempty"` // "" is primary
	ReadPreferenceTagSets json.RawMessage `json:"readPreferenceTagSets,omitempty"`
	WireProtocolEnabled   bool            `json:"wireProtocolEnabled,omitempty"`
}

// DefaultConfig is a first configuration of which nothing was said: the values of the original (§4.2).
func DefaultConfig() Config {
	days := DefaultOfflineDays
	return Config{
		ClientMaxOfflineDays: &days,
		ChangeHistoryHours:   DefaultHistoryHours, AutoPauseDays: DefaultAutoPauseDays,
		TerminatedClients: ClientsWait, ResetDeletedEdits: DeleteWins, QuarantineDays: DefaultQuarantineDays,
	}
}

// WriteOnly reports whether clients may write a collection and never read it: asymmetric_tables names it, with its scope or without.
func (c Config) WriteOnly(scope, name string) bool {
	return slices.ContainsFunc(c.AsymmetricTables, func(t string) bool { return t == name || t == scope+"."+name })
}
