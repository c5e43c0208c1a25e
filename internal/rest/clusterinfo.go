package rest

import (
	"bytes"
	"encoding/json"
	"net/http"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/gateway"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

// registryEntry is a database in the registry of /_cluster_info.
type registryEntry struct {
	Version string              `json:"version"`
	State   string              `json:"state"`
	Scopes  map[string][]string `json:"scopes,omitempty"`
}

// registry lists the databases by bucket and name.
func (s *Server) registry() map[string]map[string]registryEntry {
	buckets := map[string]map[string]registryEntry{}
	for _, db := range s.gateway.Databases() {
		cfg, version := db.Config()
		entry := registryEntry{Version: version, State: db.State().String()}
		for scope, colls := range cfg.Scopes {
			if entry.Scopes == nil {
				entry.Scopes = map[string][]string{}
			}
			for coll := range colls.Collections {
				entry.Scopes[scope] = append(entry.Scopes[scope], coll)
			}
		}
		if buckets[db.StorageID()] == nil {
			buckets[db.StorageID()] = map[string]registryEntry{}
		}
		buckets[db.StorageID()][db.Name()] = entry
	}
	return buckets
}

// handleClusterInfo answers GET /_cluster_info (gateway-rest.md §9.7).
func (s *Server) handleClusterInfo(w http.ResponseWriter, _ *request) error {
	type group struct {
		Databases map[string]registryEntry `json:"databases"`
	}
	type registry struct {
		Version string           `json:"version"`
		Groups  map[string]group `json:"config_groups"`
	}
	type bucket struct {
		Registry registry `json:"registry"`
	}
	groupID := s.diag.startup.Bootstrap.GroupID
	if groupID == "" {
		groupID = "default"
	}
	buckets := map[string]bucket{}
	for name, dbs := range s.registry() {
		buckets[name] = bucket{registry{"1.0", map[string]group{groupID: {dbs}}}}
	}
	return s.reply(w, http.StatusOK, struct {
		Legacy  bool              `json:"legacy_config"`
		Buckets map[string]bucket `json:"buckets"`
	}{!s.gateway.Persistent(), buckets})
}

// handlePostUpgrade answers POST /_post_upgrade: there is nothing left over from older versions.
func (s *Server) handlePostUpgrade(w http.ResponseWriter, r *request) error {
	type removed struct {
		DesignDocs []string `json:"removed_design_docs"`
		Indexes    []string `json:"removed_indexes"`
	}
	results := map[string]removed{}
	for _, name := range s.gateway.Names() {
		results[name] = removed{[]string{}, []string{}}
	}
	return s.reply(w, http.StatusOK, struct {
		Results map[string]removed `json:"post_upgrade_results"`
		Preview bool               `json:"preview,omitempty"`
	}{results, r.q.boolean("preview", false)})
}

// auditConfig is the body of /{db}/_config/audit (gateway-rest.md §10.8). This version has no audit events.
type auditConfig struct {
	Enabled       *bool              `json:"enabled"`
	Events        map[string]bool    `json:"events"`
	DisabledUsers []config.AuditName `json:"disabled_users"`
	DisabledRoles []config.AuditName `json:"disabled_roles"`
}

// handleGetAudit answers GET /{db}/_config/audit.
func (s *Server) handleGetAudit(w http.ResponseWriter, r *request) error {
	cfg, version := r.running.Config()
	off := false
	out := auditConfig{Enabled: &off, Events: map[string]bool{}, DisabledUsers: []config.AuditName{}, DisabledRoles: []config.AuditName{}}
	if cfg.Logging != nil && cfg.Logging.Audit != nil {
		a := cfg.Logging.Audit
		out.DisabledUsers = append(out.DisabledUsers, a.DisabledUsers...)
		out.DisabledRoles = append(out.DisabledRoles, a.DisabledRoles...)
	}
	setETag(w, version)
	return s.reply(w, http.StatusOK, out)
}

// handleSetAudit answers PUT (replace) and POST (merge) of /{db}/_config/audit.
func (s *Server) handleSetAudit(w http.ResponseWriter, r *request) error {
	var given auditConfig
	if err := s.readStrict(r, &given); err != nil {
		return err
	}
	for id := range given.Events {
		return tidegate.Errorf(tidegate.Invalid, "unknown audit event %q", id)
	}
	version, err := s.changeConfig(r, func(cfg *config.Database) (gateway.Change, error) {
		if cfg.Logging == nil {
			cfg.Logging = &config.DatabaseLogging{}
		}
		if cfg.Logging.Audit == nil || r.Method == http.MethodPut {
			cfg.Logging.Audit = &config.DatabaseAudit{}
		}
		a := cfg.Logging.Audit
		if given.Enabled != nil {
			a.Enabled = given.Enabled
		}
		if given.DisabledUsers != nil {
			a.DisabledUsers = given.DisabledUsers
		}
		if given.DisabledRoles != nil {
			a.DisabledRoles = given.DisabledRoles
		}
		return gateway.Change{Config: cfg}, nil
	})
	if err != nil {
		return err
	}
	setETag(w, version)
	return replyEmpty(w, http.StatusOK)
}

// readStrict reads a JSON object into v and refuses members that v does not have. An empty body counts as {}.
func (s *Server) readStrict(r *request, v any) error {
	body, err := s.readConfig(r)
	if err != nil {
		return err
	}
	defer body.Free()
	if err := jsondoc.Check(body.bytes, jsondoc.Limits{Depth: s.limits.JSONDepth}); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(body.bytes))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return tidegate.Errorf(tidegate.Invalid, "Bad JSON: %s", err)
	}
	return nil
}
