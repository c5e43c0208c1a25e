package appservices

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/tidegate/tidegate/internal/devicesync"
)

// This file answers the endpoints about sync under an app (device-sync.md §5). They show what is live, also to whoever has a draft.

// handleSyncState answers sync/state: "" only once a termination has finished.
func (c *call) handleSyncState() error {
	row := c.s.liveRow(c.app)
	state := row.Record.LiveState()
	switch c.URL.Query().Get("sync_type") {
	case "", string(devicesync.Flexible):
		if row.Config.Mode == devicesync.Partition {
			state = devicesync.Terminated
		}
	case string(devicesync.Partition):
		if row.Config.Mode != devicesync.Partition {
			state = devicesync.Terminated
		}
	default:
		return invalid("sync_type: expected flexible or partition")
	}
	return c.reply(http.StatusOK, map[string]devicesync.State{"state": state})
}

// handleSyncData answers sync/data: the partition key, if there is one.
func (c *call) handleSyncData() error {
	id := c.URL.Query().Get("service_id")
	if id == "" {
		return missing("service_id")
	}
	svc := c.app.service(id)
	if svc == nil {
		return fail(http.StatusNotFound, codeServiceNotFound, "service not found: %q", printable(id))
	}
	row := c.s.liveRow(c.app)
	if !svc.Synced || row.Record.State == devicesync.Terminated || row.Config.Mode != devicesync.Partition {
		return c.reply(http.StatusOK, struct{}{})
	}
	type field struct {
		Key  string `json:"key"`
		Type string `json:"type"`
	}
	return c.reply(http.StatusOK, struct {
		ServiceID string  `json:"service_id"`
		Fields    []field `json:"partition_fields"`
	}{id, []field{{row.Config.Partition.Key, row.Config.Partition.Type}}})
}

// collectionProgress is how far the first copy of a collection is. There is nothing to copy for an ordinary database, so nothing is
// counted.
type collectionProgress struct {
	StartedAt string `json:"started_at"`
	UpdatedAt string `json:"updated_at"`
	Complete  bool   `json:"complete"`
	Error     string `json:"error"`
}

// handleSyncProgress answers sync/progress.
func (c *call) handleSyncProgress() error {
	row := c.s.liveRow(c.app)
	r := c.s.running(c.app)
	if r == nil || row.Record.State != devicesync.Enabled {
		return fail(http.StatusNotFound, codeBadRequest, "there are no mongodb/atlas services with provided sync state")
	}
	started := row.Record.EnabledAt.UTC().Format("2006-01-02T15:04:05.000Z")
	var fault string
	if row.Record.Error != nil {
		fault = row.Record.Error.Message
	}
	done := row.Record.Phase != devicesync.Building
	progress := map[string]collectionProgress{}
	cfg, _ := r.Config()
	names := []string{}
	if cfg.HasDefaultCollection() {
		names = append(names, "_default")
	}
	for _, scope := range cfg.Scopes {
		names = append(names, slices.Collect(maps.Keys(scope.Collections))...)
	}
	for _, name := range names {
		progress[r.Name()+"."+name] = collectionProgress{started, started, done, fault}
	}
	return c.reply(http.StatusOK, map[string]any{"progress": progress, "accepting_clients": done && row.Record.Phase == devicesync.Steady})
}

// languages are those that the original makes model classes for.
var languages = []string{"C_SHARP", "CPP", "DART", "JAVA", "JAVA_SCRIPT", "KOTLIN", "OBJECTIVE_C", "SWIFT", "TYPE_SCRIPT"}

// clientSchema is an entry of sync/client_schemas.
type clientSchema struct {
	ServiceID  string      `json:"service_id"`
	RuleID     string      `json:"rule_id"`
	Model      string      `json:"model_name"`
	Collection string      `json:"collection_display_name"`
	Imports    []string    `json:"import_statements"`
	Schema     string      `json:"schema"`
	Warnings   []codedText `json:"warnings"`
	Error      codedText   `json:"error"`
}

type codedText struct {
	Error string `json:"error"`
	Code  string `json:"error_code"`
}

// handleClientSchemas answers sync/client_schemas/{language}. tidegate makes no source text of schemas: each entry says so.
func (c *call) handleClientSchemas() error {
	if !slices.Contains(languages, c.vars["language"]) {
		return invalid("Unsupported client language: '%s'", printable(c.vars["language"]))
	}
	a, err := c.seen()
	if err != nil {
		return err
	}
	entries := []clientSchema{}
	for _, s := range a.Schemas {
		e := clientSchema{
			RuleID: s.ID, Model: s.Metadata.Collection, Collection: s.Metadata.Database + "." + s.Metadata.Collection,
			Imports: []string{}, Warnings: []codedText{},
			Error: codedText{"model classes are not made here; the schema itself is at schemas/" + s.ID, "NotOffered"},
		}
		if svc := a.find(func(svc *service) bool { return svc.Name == s.Metadata.DataSource }); svc != nil {
			e.ServiceID = svc.ID
		}
		entries = append(entries, e)
	}
	return c.reply(http.StatusOK, entries)
}

func (c *call) handleSchemaVersions() error {
	return c.reply(http.StatusOK, map[string]any{"versions": []map[string]int{{"version_major": 0}}})
}

func (c *call) handleGetMigration() error {
	return c.reply(http.StatusOK, map[string]any{
		"statusMessage": "", "isMigrated": false, "isCancelable": false, "isRevertible": false, "errorMessage": "",
	})
}

func (c *call) handlePutMigration() error {
	return invalid("there is no migration between modes: terminate sync, then enable it in the other mode")
}

// handleEventSubscriptions answers that there are none: only a linked database has one, and there are no linked databases.
func (c *call) handleEventSubscriptions() error {
	if t := c.URL.Query().Get("type"); t != "" && !strings.EqualFold(t, "SYNCTRANSLATOR") {
		return invalid("type: expected SYNCTRANSLATOR")
	}
	return c.reply(http.StatusOK, []struct{}{})
}

// handleDescription answers the overview of an app.
func (c *call) handleDescription() error {
	live := c.s.current(c.app)
	type source struct {
		Name string `json:"name"`
		Type string `json:"type"`
	}
	sources := []source{}
	for _, svc := range c.app.Services {
		sources = append(sources, source{svc.Name, svc.Type})
	}
	sync := struct {
		State           devicesync.State `json:"state"`
		DataSource      string           `json:"data_source"`
		Database        string           `json:"database"`
		DevelopmentMode bool             `json:"development_mode_enabled"`
	}{State: live.State, DevelopmentMode: live.developing()}
	if svc := c.app.synced(); svc != nil && live.State != devicesync.Terminated {
		sync.DataSource, sync.Database = svc.Name, c.app.Database
	}
	return c.reply(http.StatusOK, map[string]any{
		"client_app_id": c.app.ClientAppID, "name": c.app.Name, "environment": c.app.Environment, "location": c.app.Location,
		"deployment_model": c.app.DeploymentModel, "data_sources": sources, "sync": sync,
	})
}
