package console

import (
	"net/http"
	"strconv"
	"strings"
)

// Defaults of the API that forms tell.
const (
	defaultHistoryHours  = 720
	defaultAutoPauseDays = 30
	defaultOfflineDays   = 30
	defaultQuarantine    = 90
	recommendedHistory   = 48 // hours
)

// flexibleSync is the configuration of sync as the API answers it; numbers that are the default are left out.
type flexibleSync struct {
	State            string   `json:"state"`
	Database         string   `json:"database_name"`
	OfflineDays      *int     `json:"client_max_offline_days"`
	RecoveryDisabled bool     `json:"is_recovery_mode_disabled"`
	Queryable        []string `json:"queryable_fields_names"`
	Indexed          []string `json:"indexed_queryable_fields_names"`
	Development      bool     `json:"development_mode_enabled"`
	HistoryHours     *int     `json:"change_history_hours"`
	AutoPauseDays    *int     `json:"auto_pause_days"`
	QuarantineDays   *int     `json:"quarantine_days"`
	LedgerDays       *int     `json:"ledger_retention_days"`
	Terminated       string   `json:"terminated_clients"`
	DeletedEdits     string   `json:"reset_deleted_edits"`
	PausePeers       bool     `json:"pause_peers"`
}

// syncForm is a configuration of sync as somebody fills it in.
type syncForm struct {
	Service, Mode, Database     string
	Development                 bool
	PartitionKey, PartitionType string
	PartitionRequired           bool
	Queryable, Indexed          string
	OfflineDays                 string
	NeverTrim                   bool
	Recovery                    bool
	HistoryHours, AutoPause     string
	Quarantine, Ledger          string
	Terminated, DeletedEdits    string
	PausePeers                  bool
}

// newSyncForm is an empty one: the guide asks for everything again.
func newSyncForm(service string) *syncForm {
	return &syncForm{
		Service: service, Mode: "flexible", PartitionType: "string", Recovery: true, OfflineDays: strconv.Itoa(defaultOfflineDays),
		HistoryHours: strconv.Itoa(defaultHistoryHours), AutoPause: strconv.Itoa(defaultAutoPauseDays), Quarantine: strconv.Itoa(defaultQuarantine),
		Terminated: "wait", DeletedEdits: "delete_wins",
	}
}

// syncFormOf is the configuration that there is.
func syncFormOf(cfg *flexibleSync) *syncForm {
	f := newSyncForm("")
	f.Database, f.Development, f.Recovery = cfg.Database, cfg.Development, !cfg.RecoveryDisabled
	f.Queryable, f.Indexed = strings.Join(cfg.Queryable, "\n"), strings.Join(cfg.Indexed, "")
	f.NeverTrim = cfg.OfflineDays == nil
	if cfg.OfflineDays != nil {
		f.OfflineDays = strconv.Itoa(*cfg.OfflineDays)
	}
	for _, n := range []struct {
		to   *string
		from *int
	}{{&f.HistoryHours, cfg.HistoryHours}, {&f.AutoPause, cfg.AutoPauseDays}, {&f.Quarantine, cfg.QuarantineDays}, {&f.Ledger, cfg.LedgerDays}} {
		if n.from != nil {
			*n.to = strconv.Itoa(*n.from)
		}
	}
	if cfg.Terminated != "" {
		f.Terminated = cfg.Terminated
	}
	if cfg.DeletedEdits != "" {
		f.DeletedEdits = cfg.DeletedEdits
	}
	f.PausePeers = cfg.PausePeers
	return f
}

// postedSyncForm is what somebody sent.
func postedSyncForm(r *http.Request) *syncForm {
	text := func(name string) string { return strings.TrimSpace(r.PostFormValue(name)) }
	on := func(name string) bool { return r.PostFormValue(name) != "" }
	return &syncForm{
		Service: text("service"), Mode: text("mode"), Database: text("database"), Development: on("development"),
		PartitionKey: text("partition_key"), PartitionType: text("partition_type"), PartitionRequired: on("partition_required"),
		Queryable: r.PostFormValue("queryable"), Indexed: text("indexed"), OfflineDays: text("offline_days"), NeverTrim: on("never_trim"), Recovery: on("recovery"),
		HistoryHours: text("history_hours"), AutoPause: text("auto_pause"), Quarantine: text("quarantine"), Ledger: text("ledger"),
		Terminated: text("terminated"), DeletedEdits: text("deleted_edits"), PausePeers: on("pause_peers"),
	}
}

// formError is what is wrong with a form, as a sentence.
type formError string

func (e formError) Error() string { return string(e) }

// whole reads a number that may be left out, which is nil.
func whole(name, text string) (any, error) {
	if text == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return nil, formError(name + ": “" + text + "” is no whole number.")
	}
	return n, nil
}

// advanced are the members of the advanced configuration. What was left empty becomes the default.
func (f *syncForm) advanced() (map[string]any, error) {
	m := map[string]any{
		"is_recovery_mode_disabled": !f.Recovery, "terminated_clients": f.Terminated, "reset_deleted_edits": f.DeletedEdits, "pause_peers": f.PausePeers,
	}
	for _, n := range []struct{ member, label, text string }{
		{"client_max_offline_days", "Client Max Offline Time", f.OfflineDays}, {"change_history_hours", "Change history", f.HistoryHours},
		{"auto_pause_days", "Automatic pause", f.AutoPause}, {"quarantine_days", "Quarantine", f.Quarantine}, {"ledger_retention_days", "Ledger", f.Ledger},
	} {
		v, err := whole(n.label, n.text)
		if err != nil {
			return nil, err
		}
		m[n.member] = v
	}
	switch {
	case f.NeverTrim:
		m["client_max_offline_days"] = nil
	case f.OfflineDays == "":
		m["client_max_offline_days"] = defaultOfflineDays
	}
	return m, nil
}

// patch is the configuration as the body of a PATCH that enables sync.
func (f *syncForm) patch() (map[string]any, error) {
	if f.Database == "" {
		return nil, formError("Database: sync cannot be enabled without one.")
	}
	m, err := f.advanced()
	if err != nil {
		return nil, err
	}
	m["state"], m["database_name"], m["development_mode_enabled"] = "enabled", f.Database, f.Development
	if f.Mode == "partition" {
		if f.PartitionKey == "" {
			return nil, formError("Partition key: this mode needs one.")
		}
		m["partition"] = map[string]any{
			"key": f.PartitionKey, "type": f.PartitionType, "required": f.PartitionRequired, "permissions": map[string]any{"read": true, "write": true},
		}
		return map[string]any{"sync": m}, nil
	}
	m["queryable_fields_names"] = words(f.Queryable)
	if f.Indexed != "" {
		m["indexed_queryable_fields_names"] = []string{f.Indexed}
	}
	return map[string]any{"flexible_sync": m}, nil
}
