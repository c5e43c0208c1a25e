package devicesync

import (
	"encoding/json"

	"github.com/tidegate/tidegate/internal/jsondoc"
)

// defaultPermissions is the deprecated member of a config that says nothing of it.
const defaultPermissions = `{"rules":{},"defaultRoles":[]}`

// flexibleView is flexible_sync as it is answered: the members without omitempty are always there (device-sync.md §4.1).
type flexibleView struct {
	State                     State               `json:"state"`
	DatabaseName              string              `json:"database_name"`
	Permissions               json.RawMessage     `json:"permissions"`
	ClientMaxOfflineDays      *int                `json:"client_max_offline_days"`
	IsRecoveryModeDisabled    bool                `json:"is_recovery_mode_disabled"`
	QueryableFields           []string            `json:"queryable_fields_names"`
	IndexedQueryableFields    []string            `json:"indexed_queryable_fields_names,omitempty"`
	CollectionQueryableFields map[string][]string `json:"collection_queryable_fields_names,omitempty"`
	AsymmetricTables          []string            `json:"asymmetric_tables,omitempty"`
	DevelopmentMode           bool                `json:"development_mode_enabled,omitempty"`
	LastDisabled              int64               `json:"last_disabled,omitempty"`

	ChangeHistoryHours  *int   `json:"change_history_hours,omitempty"`
	AutoPauseDays       *int   `json:"auto_pause_days,omitempty"`
	TerminatedClients   string `json:"terminated_clients,omitempty"`
	ResetDeletedEdits   string `json:"reset_deleted_edits,omitempty"`
	LedgerRetentionDays *int   `json:"ledger_retention_days,omitempty"`
	QuarantineDays      *int   `json:"quarantine_days,omitempty"`
	PausePeers          bool   `json:"pause_peers,omitempty"`
}

type partitionView struct {
	State                  State            `json:"state"`
	DatabaseName           string           `json:"database_name"`
	Partition              *PartitionConfig `json:"partition"`
	IsRecoveryModeDisabled bool             `json:"is_recovery_mode_disabled"`
	ClientMaxOfflineDays   *int             `json:"client_max_offline_days"`
	LastDisabled           int64            `json:"last_disabled,omitempty"`
}

// FlexibleSync is the flexible_sync object of the service config. Of a terminated sync it is empty, also while the termination runs.
func (r *Row) FlexibleSync() json.RawMessage {
	def := DefaultConfig()
	v := flexibleView{
		Permissions: json.RawMessage(defaultPermissions), ClientMaxOfflineDays: def.ClientMaxOfflineDays,
		QueryableFields: []string{}, LastDisabled: r.Record.LastDisabled,
	}
	if r.Record.State == Terminated || r.Config.Mode == Partition {
		if r.Config.Mode == Partition {
			v.LastDisabled = 0
		}
		return mustMarshal(v)
	}
	c := r.Config
	v.State, v.DatabaseName = r.Record.State, c.DatabaseName
	v.ClientMaxOfflineDays, v.IsRecoveryModeDisabled = c.ClientMaxOfflineDays, c.IsRecoveryModeDisabled
	if len(c.Permissions) > 0 {
		v.Permissions = c.Permissions
	}
	if len(c.QueryableFields) > 0 {
		v.QueryableFields = c.QueryableFields
	}
	v.IndexedQueryableFields, v.CollectionQueryableFields = c.IndexedQueryableFields, c.CollectionQueryableFields
	v.AsymmetricTables, v.DevelopmentMode = c.AsymmetricTables, c.DevelopmentMode
	v.ChangeHistoryHours = unless(c.ChangeHistoryHours, def.ChangeHistoryHours)
	v.AutoPauseDays = unless(c.AutoPauseDays, def.AutoPauseDays)
	v.QuarantineDays = unless(c.QuarantineDays, def.QuarantineDays)
	v.LedgerRetentionDays, v.PausePeers = c.LedgerRetentionDays, c.PausePeers
	if c.TerminatedClients != def.TerminatedClients {
		v.TerminatedClients = c.TerminatedClients
	}
	if c.ResetDeletedEdits != def.ResetDeletedEdits {
		v.ResetDeletedEdits = c.ResetDeletedEdits
	}
	return mustMarshal(v)
}

// PartitionSync is the sync object of the service config; nil if the older mode is not configured.
func (r *Row) PartitionSync() json.RawMessage {
	if r.Record.State == Terminated || r.Config.Mode != Partition {
		return nil
	}
	c := r.Config
	return mustMarshal(partitionView{
		r.Record.State, c.DatabaseName, c.Partition, c.IsRecoveryModeDisabled, c.ClientMaxOfflineDays, r.Record.LastDisabled,
	})
}

// unless returns a value that is to be shown; nil if it is the default.
func unless(v, def int) *int {
	if v == def {
		return nil
	}
	return &v
}

// mustMarshal encodes what always can be: the raw members of a view were checked when they came in.
func mustMarshal(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return json.RawMessage("null")
	}
	return jsondoc.Compact(nil, b)
}
