package rest

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/gateway"
)

var (
	errNoUnredacted = tidegate.Errorf(tidegate.Invalid, "redact=false is no longer supported")
	errRenaming     = tidegate.Errorf(tidegate.Invalid, "a database cannot be renamed")
)

// handleGetConfig answers GET /{db}/_config (gateway-rest.md §10.3).
func (s *Server) handleGetConfig(w http.ResponseWriter, r *request) error {
	if !r.q.boolean("redact", true) && r.q.has("redact") {
		return errNoUnredacted
	}
	cfg, version := r.running.Config()
	cfg = cfg.Clone()
	if !r.q.boolean("include_javascript", true) {
		cfg = cfg.WithoutJavaScript()
	}
	if r.q.boolean("include_runtime", false) {
		cfg.FillDefaults()
	}
	cfg.Name = r.running.Name()
	cfg.CreatedAt = r.running.Created().Format(time.RFC3339)
	cfg.UpdatedAt = r.running.Updated().Format(time.RFC3339)
	cfg.Version = version
	setETag(w, version)
	return s.writeJSON(w, http.StatusOK, cfg.Masked())
}

// handleChangeConfig answers PUT (replace) and POST (merge) of /{db}/_config.
func (s *Server) handleChangeConfig(w http.ResponseWriter, r *request) error {
	body, err := s.readConfig(r)
	if err != nil {
		return err
	}
	defer body.Free()
	given, err := config.ParseDatabase(body.bytes)
	if err != nil {
		return err
	}
	version, err := s.changeConfig(r, func(old *config.Database) (gateway.Change, error) {
		cfg := given
		if r.Method == http.MethodPost {
			if cfg, err = old.Merge(body.bytes); err != nil {
				return gateway.Change{}, err
			}
		}
		if cfg.Name != "" && cfg.Name != r.running.Name() {
			return gateway.Change{}, errRenaming
		}
		cfg.Name = r.running.Name()
		return gateway.Change{
			Config: cfg, OfflineGiven: given.Offline != nil, AllowDestructive: r.q.boolean("allow_destructive_changes", false),
		}, nil
	})
	if err != nil {
		return err
	}
	setETag(w, version)
	return replyEmpty(w, http.StatusCreated)
}

func (s *Server) changeConfig(r *request, change func(*config.Database) (gateway.Change, error)) (version string, err error) {
	return s.gateway.Update(r.Context(), r.running.Name(), unquoteETag(r.Header.Get("If-Match")), change)
}

// scriptHandler binds a handler of a function resource to the function's setting: "sync" or "import_filter".
func (s *Server) scriptHandler(name string, h func(w http.ResponseWriter, r *request, name string) error) handlerFunc {
	return func(w http.ResponseWriter, r *request) error { return h(w, r, name) }
}

// scriptOf returns where the config keeps the function of the request's keyspace. The collection must be
// configured.
func scriptOf(cfg *config.Database, r *request, name string) (get config.JavaScript, set func(config.JavaScript), err error) {
	ks := r.keyspace
	if ks.isDefault(cfg) {
		if !cfg.HasDefaultCollection() {
			return "", nil, ks.notFound()
		}
		field := &cfg.Sync
		if name == "import_filter" {
			field = &cfg.ImportFilter
		}
		if *field != "" || cfg.Scopes == nil {
			return *field, func(j config.JavaScript) { *field = j }, nil
		}
		ks.scope, ks.collection = config.DefaultName, config.DefaultName // it is kept there, or can be
	}
	scope := ks.scope
	if scope == "" && len(cfg.Scopes) == 1 {
		for only := range maps.Keys(cfg.Scopes) {
			scope = only
		}
	}
	coll, ok := cfg.Scopes[scope].Collections[ks.collection]
	if !ok {
		return "", nil, ks.notFound()
	}
	field := &coll.Sync
	if name == "import_filter" {
		field = &coll.ImportFilter
	}
	return *field, func(j config.JavaScript) {
		*field = j
		cfg.Scopes[scope].Collections[ks.collection] = coll
	}, nil
}

// getScript answers with the source as configured; an empty body is the default.
func (s *Server) getScript(w http.ResponseWriter, r *request, name string) error {
	cfg, version := r.running.Config()
	src, _, err := scriptOf(cfg.Clone(), r, name)
	if err != nil {
		return err
	}
	setETag(w, version)
	return replyText(w, http.StatusOK, "application/javascript", string(src))
}

// putScript takes raw source.
func (s *Server) putScript(w http.ResponseWriter, r *request, name string) error {
	if ct := r.Header.Get("Content-Type"); ct != "" && !strings.HasPrefix(ct, "application/javascript") && !isFormDefault(ct) {
		return tidegate.Errorf(tidegate.BadType, "Invalid content type %s - expected application/javascript", ct)
	}
	body, err := s.readBody(r, maxConfigBytes)
	if err != nil {
		return err
	}
	defer body.Free()
	src := bytes.TrimSpace(body.bytes)
	if len(src) == 0 {
		return tidegate.Errorf(tidegate.Invalid, "the body is empty; DELETE brings the default function back")
	}
	if json.Valid(src) && src[0] == '"' {
		return tidegate.Errorf(tidegate.Invalid, "the body must be the source itself, not a JSON string")
	}
	return s.setScript(w, r, name, config.JavaScript(src))
}

// isFormDefault reports whether a type is what curl -d sends when none is given.
func isFormDefault(ct string) bool { return strings.HasPrefix(ct, "application/x-www-form-urlencoded") }

// deleteScript brings the default function back.
func (s *Server) deleteScript(w http.ResponseWriter, r *request, name string) error {
	return s.setScript(w, r, name, "")
}

func (s *Server) setScript(w http.ResponseWriter, r *request, name string, src config.JavaScript) error {
	version, err := s.changeConfig(r, func(cfg *config.Database) (gateway.Change, error) {
		_, set, err := scriptOf(cfg, r, name)
		if err != nil {
			return gateway.Change{}, err
		}
		set(src)
		return gateway.Change{Config: cfg}, nil
	})
	if err != nil {
		return err
	}
	setETag(w, version)
	return replyEmpty(w, http.StatusOK)
}
