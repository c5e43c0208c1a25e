package appservices

import (
	"encoding/json"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/tidegate/tidegate/internal/devicesync"
)

// importBody is what an import reads of an app's configuration.
type importBody struct {
	Name        *string `json:"name"`
	Environment *string `json:"environment"`
	Sync        struct {
		Config map[string]json.RawMessage `json:"config"`
	} `json:"sync"`
	DataSources *[]struct {
		Config struct {
			Name   string          `json:"name"`
			Type   string          `json:"type"`
			Config json.RawMessage `json:"config"`
		} `json:"config"`
		Rules []collectionJSON `json:"rules"`
	} `json:"data_sources"`
}

// importedMembers are the members of a configuration that are read, or that say nothing. Others are named as ignored.
var importedMembers = []string{
	"app_id", "config_version", "name", "location", "deployment_model", "environment", "sync", "data_sources", "provider_region",
}

// importSource returns the configuration in the request's body, a JSON object or a zip archive.
func (c *call) importSource() ([]byte, error) {
	kind, _, _ := mime.ParseMediaType(c.Header.Get("Content-Type"))
	if kind != "application/zip" && !strings.HasPrefix(string(c.raw), "PK\x03\x04") {
		return checkObject(c.raw)
	}
	files, err := unzipped(c.raw)
	if err != nil {
		return nil, err
	}
	return fromFiles(files)
}

// ignored says which parts of a configuration an import takes no notice of, as there is nothing of that kind here.
func ignored(raw []byte) []string {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return nil
	}
	var out []string
	for _, name := range sortedKeys(members) {
		text := strings.TrimSpace(string(members[name]))
		if !slices.Contains(importedMembers, name) && text != "null" {
			out = append(out, "ignored: "+name+" (tidegate has nothing of this kind)\n")
		}
	}
	return out
}

// handleImport answers …/import: it takes a configuration over, or, with diff=true, says what that would change.
func (c *call) handleImport() error {
	switch c.URL.Query().Get("strategy") {
	case "", "replace-by-name", "replace":
	default:
		return invalid("strategy: expected replace-by-name")
	}
	raw, err := c.importSource()
	if err != nil {
		return err
	}
	if c.URL.Query().Get("diff") != "true" {
		_, err = c.change(func(p *plan) error { return p.importApp(raw) })
		return c.afterNoContent(err)
	}
	p, err := c.plan()
	if err != nil {
		return err
	}
	p.destructive = true // it is only looked at
	before := p.snapshot()
	if err := p.importApp(raw); err != nil {
		return err
	}
	after := p.snapshot()
	return c.reply(http.StatusOK, append(diffSnapshots(&before, &after), ignored(raw)...))
}

// handlePush is the newer name of an import.
func (c *call) handlePush() error {
	raw, err := c.importSource()
	if err == nil {
		_, err = c.change(func(p *plan) error { return p.importApp(raw) })
	}
	return c.afterNoContent(err)
}

// handlePull answers the whole configuration, as JSON or as an archive.
func (c *call) handlePull() error {
	p, err := c.plan()
	if err != nil {
		return err
	}
	n := p.snapshot()
	if strings.Contains(c.Header.Get("Accept"), "application/zip") {
		return c.replyZip(&n)
	}
	return c.reply(http.StatusOK, n.export())
}

// handleExport answers the whole configuration as an archive. As a template, or for source control, it has no ids: it never has.
func (c *call) handleExport() error {
	p, err := c.plan()
	if err != nil {
		return err
	}
	n := p.snapshot()
	return c.replyZip(&n)
}

// importApp puts a configuration in the place of the plan's, matched by names (device-sync.md §6.4).
func (p *plan) importApp(raw []byte) error {
	var body importBody
	if err := json.Unmarshal(raw, &body); err != nil {
		return invalid("the configuration does not have the form of an app")
	}
	if body.Name != nil && *body.Name != p.app.Name {
		if err := validName("app", *body.Name); err != nil {
			return err
		}
		p.app.Name = *body.Name
	}
	if body.Environment != nil {
		if !slices.Contains(environments, *body.Environment) {
			return invalid("environment: expected one of %s", strings.Join(environments[1:], ", "))
		}
		p.app.Environment = *body.Environment
	}
	if body.DataSources != nil {
		if err := p.importSources(&body); err != nil {
			return err
		}
	}
	return p.importSync(body.Sync.Config)
}

// importSources takes the services and their schemas over. One that is not named any more goes, unless sync is configured on it.
func (p *plan) importSources(body *importBody) error {
	old := p.app.Services
	p.app.Services = nil
	var schemas []*schema
	for _, ds := range *body.DataSources {
		svc, err := p.importService(old, ds.Config.Name, ds.Config.Type, ds.Config.Config)
		if err != nil {
			return err
		}
		for _, coll := range ds.Rules {
			if len(coll.Schema) == 0 || string(coll.Schema) == "null" {
				continue
			}
			s := &schema{Metadata: schemaMetadata{svc.Name, coll.Database, coll.Collection}, Schema: coll.Schema, Relationships: coll.Relationships}
			if err := s.check(p.app); err != nil {
				return err
			}
			schemas = append(schemas, p.keepID(s))
		}
	}
	for _, svc := range old {
		if svc.Synced && p.app.service(svc.ID) == nil {
			p.app.Services = append(p.app.Services, svc)
		}
	}
	p.app.Schemas = schemas
	return nil
}

// keepID gives a schema the id of the collection's present one, and that one's text if it says the same.
func (p *plan) keepID(s *schema) *schema {
	for _, old := range p.app.Schemas {
		if old.Metadata != s.Metadata {
			continue
		}
		if string(pretty(old.Schema)) == string(pretty(s.Schema)) && string(pretty(old.Relationships)) == string(pretty(s.Relationships)) {
			return old
		}
		s.ID = old.ID
		return s
	}
	s.ID = p.c.s.ids.next()
	return s
}

// importService takes one service over.
func (p *plan) importService(old []*service, name, kind string, config json.RawMessage) (*service, error) {
	if err := validName("service", name); err != nil {
		return nil, err
	}
	if kind != serviceType && kind != serviceMongo {
		return nil, invalid("service %q: type: expected %s or %s", name, serviceType, serviceMongo)
	}
	if p.app.find(func(s *service) bool { return s.Name == name }) != nil {
		return nil, fail(http.StatusConflict, codeServiceExists, "the service %q is there twice", name)
	}
	i := slices.IndexFunc(old, func(s *service) bool { return s.Name == name })
	svc := &service{ID: p.c.s.ids.next(), Name: name, Type: kind, Modified: p.c.s.now().Unix()}
	if i >= 0 {
		svc = old[i]
	}
	p.app.Services = append(p.app.Services, svc)
	if len(config) == 0 {
		return svc, nil
	}
	patch, err := devicesync.ParsePatch(config)
	if err != nil {
		return nil, err
	}
	if svc.Synced {
		return svc, p.decide(devicesync.Patch{Service: patch.Service})
	}
	svc.Settings, err = mergeService(svc.Settings, patch.Service)
	return svc, err
}

// replaced are the members of sync/config.json that go back to their defaults when the file does not have them any more.
var replaced = []string{
	"is_recovery_mode_disabled", "queryable_fields_names", "indexed_queryable_fields_names", "collection_queryable_fields_names",
	"asymmetric_tables", "change_history_hours", "auto_pause_days", "terminated_clients", "reset_deleted_edits", "ledger_retention_days",
	"quarantine_days", "pause_peers",
}

// importSync takes sync/config.json over. Without a state in it sync is to be terminated, which has to be asked for by name.
func (p *plan) importSync(cfg map[string]json.RawMessage) error {
	var state, mode, serviceName string
	for name, to := range map[string]*string{"state": &state, "type": &mode, "service_name": &serviceName} {
		if raw, ok := cfg[name]; ok && string(raw) != "null" {
			if err := json.Unmarshal(raw, to); err != nil {
				return invalid("sync/config.json: %s: expected a string", name)
			}
		}
	}
	if state == "" {
		return p.importOff(cfg)
	}
	parts := map[string]string{"": "flexible_sync", "flexible": "flexible_sync", "partition": "sync"}
	part, ok := parts[mode]
	if !ok {
		return invalid("sync/config.json: type: expected flexible or partition")
	}
	svc := p.app.synced()
	if serviceName != "" {
		svc = p.app.find(func(s *service) bool { return s.Name == serviceName })
	}
	if svc == nil {
		return fail(http.StatusNotFound, codeServiceNotFound, "sync/config.json: service not found: %q", printable(serviceName))
	}
	members := map[string]json.RawMessage{}
	if part == "flexible_sync" {
		for _, name := range replaced {
			members[name] = json.RawMessage("null")
		}
	}
	for name, value := range cfg {
		members[name] = value
	}
	body, err := json.Marshal(map[string]any{part: members})
	if err != nil {
		return err
	}
	return p.patchService(svc.ID, body)
}

// importOff takes over a sync/config.json that configures no sync.
func (p *plan) importOff(cfg map[string]json.RawMessage) error {
	if p.row.Record.State != devicesync.Terminated {
		if !p.destructive {
			return devicesync.Destructive("the configuration has no device sync, so that importing it terminates sync")
		}
		if err := p.terminate(); err != nil {
			return err
		}
	}
	if raw, ok := cfg["development_mode_enabled"]; ok {
		var on bool
		if err := json.Unmarshal(raw, &on); err != nil {
			return invalid("sync/config.json: development_mode_enabled: expected true or false")
		}
		return p.develop(on)
	}
	return nil
}
