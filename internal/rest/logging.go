package rest

import (
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/jsondoc"
	"github.com/tidegate/tidegate/internal/telemetry"
)

// logKeys are the product's log keys (gateway-rest.md §9.5). HTTP and HTTP+ log requests; what the others would
// select is logged by level here, so they are only remembered.
var logKeys = [...]string{
	"*", "Admin", "Access", "Auth", "Bucket", "Cache", "Changes", "SGCluster", "Config", "CRUD", "DCP", "Diagnostic", "Events", "gocb",
	"HTTP", "HTTP+", "Import", "Javascript", "Migrate", "Query", "Replicate", "Sync", "SyncMsg", "WS", "WSFrame", "TEST", "Walrus",
}

// logging is what can be changed of the log while the process runs.
type logging struct {
	level *slog.LevelVar // nil: cannot be changed
	http  atomic.Uint32  // 0: requests are not logged; 1: HTTP; 2: HTTP+

	mu   sync.Mutex
	keys map[string]bool
}

func newLogging(level *slog.LevelVar, given []string) *logging {
	l := &logging{level: level, keys: map[string]bool{}}
	for _, k := range logKeys {
		l.keys[k] = false
	}
	for _, k := range given {
		if _, known := l.keys[k]; known {
			l.keys[k] = true
		}
	}
	l.apply()
	return l
}

// set changes keys; replace switches all others off first. Unknown ones are returned.
func (l *logging) set(keys map[string]bool, replace bool) (unknown []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if replace {
		for k := range l.keys {
			l.keys[k] = false
		}
	}
	for k, on := range keys {
		if _, known := l.keys[k]; known {
			l.keys[k] = on
		} else {
			unknown = append(unknown, k)
		}
	}
	l.apply()
	slices.Sort(unknown)
	return unknown
}

// apply derives what requests are logged; l.mu is held, or nobody else has l.
func (l *logging) apply() {
	switch {
	case l.keys["HTTP+"], l.keys["*"]:
		l.http.Store(2)
	case l.keys["HTTP"]:
		l.http.Store(1)
	default:
		l.http.Store(0)
	}
}

// all returns a copy of the keys.
func (l *logging) all() map[string]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.keys)
}

// setLevel sets the lowest level that is logged, by name.
func (l *logging) setLevel(name string) error {
	level, err := telemetry.ParseLevel(name)
	if err != nil {
		return tidegate.Errorf(tidegate.Invalid, "%w", err)
	}
	if l.level == nil {
		return tidegate.Errorf(tidegate.Invalid, "the log level of this process cannot be changed")
	}
	l.level.Set(level)
	return nil
}

// request logs a request that was answered, if the keys ask for it. It names the pattern, not the URL, which can
// hold private data.
func (l *logging) request(log *slog.Logger, r *request, w *response) {
	mode := l.http.Load()
	if mode == 0 {
		return
	}
	pattern := ""
	if r.resource != nil {
		pattern = r.resource.pattern
	}
	attrs := []slog.Attr{
		slog.String("listener", r.listener.String()), slog.String("method", r.Method), slog.String("route", pattern), slog.Int("status", w.status),
	}
	if mode > 1 {
		attrs = append(attrs, slog.Int64("bytes", w.written), slog.String("user", r.userName()), slog.Bool("admin", r.admin))
	}
	log.LogAttrs(r.Context(), slog.LevelInfo, "request", attrs...)
}

// handleGetLogging answers GET /_logging.
func (s *Server) handleGetLogging(w http.ResponseWriter, _ *request) error {
	return s.reply(w, http.StatusOK, s.diag.logging.all())
}

// oldLevels are the values of the deprecated parameter level.
var oldLevels = map[string]string{"1": "info", "2": "warn", "3": "error"}

// handleSetLogging answers PUT (replace) and POST (merge) of /_logging.
func (s *Server) handleSetLogging(w http.ResponseWriter, r *request) error {
	level := r.q.text("logLevel")
	if old := r.q.text("level"); level == "" && old != "" {
		var ok bool
		if level, ok = oldLevels[old]; !ok {
			return tidegate.Errorf(tidegate.Invalid, "Invalid log level: use logLevel=none|error|warn|info|debug|trace")
		}
	}
	keys, err := s.readLogKeys(r)
	if err != nil {
		return err
	}
	if level != "" {
		if err := s.diag.logging.setLevel(level); err != nil {
			return err
		}
	}
	if keys != nil {
		for _, k := range s.diag.logging.set(keys, r.Method == http.MethodPut) {
			s.log.Warn("unknown log key is ignored", "key", k)
		}
	}
	return replyEmpty(w, http.StatusOK)
}

// readLogKeys reads a map of keys; nil if the body is empty.
func (s *Server) readLogKeys(r *request) (map[string]bool, error) {
	body, err := s.readBody(r, maxConfigBytes)
	if err != nil {
		return nil, err
	}
	defer body.Free()
	if len(body.bytes) == 0 {
		return nil, nil
	}
	if err := checkJSONType(r.Header); err != nil {
		return nil, err
	}
	if err := jsondoc.Check(body.bytes, jsondoc.Limits{Depth: s.limits.JSONDepth}); err != nil {
		return nil, err
	}
	keys := map[string]bool{}
	if err := json.Unmarshal(body.bytes, &keys); err != nil {
		return nil, tidegate.Errorf(tidegate.Invalid, "Bad JSON: expected an object of log keys with true or false")
	}
	return keys, nil
}

// handleServerConfig answers GET /_config (gateway-rest.md §9.4).
func (s *Server) handleServerConfig(w http.ResponseWriter, r *request) error {
	if r.q.has("redact") && !r.q.boolean("redact", true) {
		return errNoUnredacted
	}
	startup := s.startup()
	if !r.q.boolean("include_runtime", false) {
		return s.writeJSON(w, http.StatusOK, startup.Masked())
	}
	startup.FillDefaults()
	databases := map[string]json.RawMessage{}
	for _, db := range s.gateway.Databases() {
		cfg, _ := db.Config()
		cfg = cfg.Clone()
		cfg.FillDefaults()
		databases[db.Name()] = cfg.Masked()
	}
	members := map[string]json.RawMessage{}
	if err := json.Unmarshal(startup.Masked(), &members); err != nil {
		return err
	}
	var err error
	if members["databases"], err = json.Marshal(databases); err != nil {
		return err
	}
	return s.reply(w, http.StatusOK, members)
}

// startup is the start-up config with what was changed since.
func (s *Server) startup() *config.Startup {
	startup := s.diag.startup.Clone()
	s.diag.mu.Lock()
	defer s.diag.mu.Unlock()
	if s.diag.maxReplications != nil {
		startup.Replicator.MaxConcurrentReplications = s.diag.maxReplications
	}
	if s.diag.level != "" {
		if startup.Logging.Console == nil {
			startup.Logging.Console = &config.Console{}
		}
		startup.Logging.Console.LogLevel = s.diag.level
	}
	return startup
}

// handleSetServerConfig answers PUT /_config: the few settings that change while the process runs.
func (s *Server) handleSetServerConfig(w http.ResponseWriter, r *request) error {
	body, err := s.readConfig(r)
	if err != nil {
		return err
	}
	defer body.Free()
	change, err := config.ParseRuntime(body.bytes)
	if err != nil {
		return err
	}
	if l := change.Logging; l != nil && l.Console != nil {
		if l.Console.LogLevel != "" {
			if err := s.diag.logging.setLevel(l.Console.LogLevel); err != nil {
				return err
			}
			s.diag.mu.Lock()
			s.diag.level = l.Console.LogLevel
			s.diag.mu.Unlock()
		}
		if l.Console.LogKeys != nil {
			keys := map[string]bool{}
			for _, k := range l.Console.LogKeys {
				keys[k] = true
			}
			s.diag.logging.set(keys, true)
		}
	}
	if n := change.MaxConcurrentReplications; n != nil {
		s.feeds.setMax(*n)
		s.diag.mu.Lock()
		s.diag.maxReplications = n
		s.diag.mu.Unlock()
	}
	return replyEmpty(w, http.StatusOK)
}
