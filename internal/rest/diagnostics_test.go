package rest

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// logBuffer is a log that several goroutines write.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestExpvarHasTheProductsKeys(t *testing.T) {
	r := newRig(t, rigOptions{database: openGuest})
	r.p("PUT", "/db/doc", `{"a":1}`).is(201) // sequence 2: the guest has 1
	r.p("GET", "/db/doc", "").is(200)
	r.p("GET", "/db/none", "").is(404)
	for _, path := range []string{"/_expvar", "/_expvars"} {
		var m struct {
			Cmdline     []string
			Memstats    map[string]any
			SyncGateway struct {
				Global map[string]map[string]float64
				PerDB  map[string]map[string]map[string]any `json:"per_db"`
			}
		}
		if err := json.Unmarshal([]byte(r.a("GET", path, "").is(200).body), &m); err != nil {
			t.Fatal(err)
		}
		db := m.SyncGateway.PerDB["db"]
		for group, keys := range map[string]map[string]float64{
			"database":             {"num_doc_writes": 1, "num_public_rest_requests": 3, "public_rest_bytes_read": 7, "last_sequence_assigned_value": 2, "dcp_received_count": 0},
			"security":             {"auth_failed_count": 0},
			"cache":                {"high_seq_cached": 2, "rev_cache_hits": 0},
			"cbl_replication_pull": {"rev_send_count": 0},
			"gsi_views":            {"roleAccess_error_count": 0},
		} {
			for key, want := range keys {
				if got, ok := db[group][key].(float64); !ok || got != want {
					t.Errorf("%s: %s.%s is %v, want %v", path, group, key, db[group][key], want)
				}
			}
		}
		coll, _ := db["per_collection"]["_default._default"].(map[string]any)
		if coll["num_doc_writes"] != 1.0 {
			t.Errorf("per_collection: %v", db["per_collection"])
		}
		if m.SyncGateway.Global["resource_utilization"]["num_goroutines"] < 1 || m.SyncGateway.Global["resource_utilization"]["pub_net_bytes_sent"] < 10 {
			t.Errorf("resource_utilization: %v", m.SyncGateway.Global["resource_utilization"])
		}
	}
	r.p("GET", "/_expvar", "").is(404)
}

func TestPrometheus(t *testing.T) {
	r := newRig(t, rigOptions{database: openGuest})
	r.p("PUT", "/db/doc", `{"a":1}`).is(201)
	metrics := r.server.Metrics()
	for _, got := range []reply{r.do(metrics, "GET", "/metrics", ""), r.do(metrics, "GET", "/_metrics", ""), r.a("GET", "/metrics", "")} {
		got.is(200)
		if !strings.HasPrefix(got.header.Get("Content-Type"), "text/plain") {
			t.Errorf("Content-Type %s", got.header.Get("Content-Type"))
		}
		for _, line := range []string{
			"sgw_up 1",
			`sgw_database_num_doc_writes{database="db"} 1`,
			`sgw_database_http_bytes_written{database="db"} `,
			`sgw_replication_pull_rev_send_count{database="db"} 0`,
			`sgw_delta_sync_delta_sync_miss{database="db"} 0`,
			`sgw_collection_num_doc_writes{collection="_default._default",database="db"} 1`,
			`tidegate_database_state{database="db",state="Online"} 1`,
			`tidegate_database_state{database="db",state="Offline"} 0`,
			"tidegate_feeds 0",
			"go_goroutines ",
		} {
			if !strings.Contains(got.body, "\n"+line) {
				t.Errorf("%q is missing", line)
			}
		}
	}
	r.do(metrics, "GET", "/_ping", "").want(200, "OK")
	r.do(metrics, "GET", "/db/doc", "").is(404)
	r.do(metrics, "GET", "/_stats", "").is(200)
}

func TestLoggingResource(t *testing.T) {
	var log logBuffer
	level := new(slog.LevelVar)
	r := newRig(t, rigOptions{log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level}))})
	r.server.diag.logging.level = level
	keys := func() map[string]bool {
		t.Helper()
		m := map[string]bool{}
		if err := json.Unmarshal([]byte(r.a("GET", "/_logging", "").is(200).body), &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	if m := keys(); len(m) != len(logKeys) || m["HTTP"] {
		t.Fatalf("%v", m)
	}
	r.a("PUT", "/_logging", `{"HTTP":true,"Nonsense":true}`).want(200, "")
	if m := keys(); !m["HTTP"] || m["Nonsense"] {
		t.Errorf("%v", m)
	}
	if !strings.Contains(log.String(), `unknown log key is ignored`) {
		t.Error("no warning about an unknown key")
	}
	r.a("GET", "/db/secret-doc-id", "").is(404)
	if s := log.String(); !strings.Contains(s, "msg=request") || !strings.Contains(s, "route=/{ks}/{docid} status=404") || strings.Contains(s, "secret-doc-id") {
		t.Errorf("requests are not logged, or with private data:\n%s", s)
	}
	r.a("POST", "/_logging", `{"Sync":true}`).is(200)
	if m := keys(); !m["HTTP"] || !m["Sync"] {
		t.Errorf("POST does not merge: %v", m)
	}
	r.a("PUT", "/_logging", `{"Sync":true}`).is(200)
	if m := keys(); m["HTTP"] {
		t.Errorf("PUT does not replace: %v", m)
	}
	r.a("POST", "/_logging?logLevel=debug", "").want(200, "")
	if level.Level() != slog.LevelDebug {
		t.Errorf("level %s", level.Level())
	}
	r.a("POST", "/_logging?level=3", "").is(200)
	if level.Level() != slog.LevelError {
		t.Errorf("level %s", level.Level())
	}
	for _, bad := range []string{"?logLevel=loud", "?level=9"} {
		r.a("PUT", "/_logging"+bad, "").is(400)
	}
	for _, bad := range []string{`{"HTTP":1}`, `[]`, `{`, `{"HTTP":true,"HTTP":false}`} {
		r.a("PUT", "/_logging", bad).is(400)
	}
}

func TestServerConfig(t *testing.T) {
	r := newRig(t, rigOptions{
		startup: `{"bootstrap":{"password":"boot-secret"},"auth":{"administrators":{"root":{"password":"root-secret","roles":["admin"]}}}}`, database: adminConfig,
	})
	for _, path := range []string{"/_config", "/_config?include_runtime=true"} {
		body := r.a("GET", path, "").is(200).body
		for _, secret := range []string{"boot-secret", "root-secret", "storage-secret"} {
			if strings.Contains(body, secret) {
				t.Errorf("%s shows %s", path, secret)
			}
		}
		if !strings.Contains(body, `"password":"xxxxx"`) {
			t.Errorf("%s: %s", path, body)
		}
	}
	if body := r.a("GET", "/_config?include_runtime=true", "").body; !strings.Contains(body, `"databases":{"db":{`) || !strings.Contains(body, `"idle_timeout":"1m30s"`) {
		t.Errorf("runtime: %s", body)
	}
	r.a("GET", "/_config?redact=false", "").fails(400, "redact=false is no longer supported")
	level := new(slog.LevelVar)
	r.server.diag.logging.level = level
	r.a("PUT", "/_config", `{"logging":{"console":{"log_level":"warn","log_keys":["HTTP"]},"info":{"enabled":false}},"max_concurrent_replications":3}`).want(200, "")
	if level.Level() != slog.LevelWarn || !r.server.diag.logging.all()["HTTP"] || r.server.feeds.max != 3 {
		t.Error("the change is not in force")
	}
	if body := r.a("GET", "/_config", "").body; !strings.Contains(body, `"max_concurrent_replications":3`) || !strings.Contains(body, `"log_level":"warn"`) {
		t.Errorf("the change is not shown: %s", body)
	}
	r.a("PUT", "/_config", `{"api":{"pretty":true}}`).fails(400, `JSON Unknown Field: line 1, column 2: api: unknown key "api"…`)
	r.a("PUT", "/_config", `{"logging":{"console":{"log_level":"loud"}}}`).is(400)
	r.a("PUT", "/_config", `{"logging":{"info":{"enabled":true}}}`).is(400)
}

func TestProfilesStayInTheDataDirectory(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.a("POST", "/_heap", `{"file":"x"}`).fails(400, "this process has no directory to write to")
	dir := t.TempDir()
	r.server.diag.profiles.dir = dir
	outside := filepath.Join(t.TempDir(), "evil")
	r.a("POST", "/_heap", `{"file":"../../`+outside+`"}`).want(200, "")
	if _, err := os.Stat(outside); err == nil {
		t.Fatal("a request chose where to write")
	}
	if info, err := os.Stat(filepath.Join(dir, "profiles", "evil")); err != nil || info.Size() == 0 || info.Mode().Perm() != 0o600 {
		t.Fatalf("profile: %v", err)
	}
	for _, bad := range []string{"..", ".", "", ".hidden", "a/", "a b", "a\\u0000b", `..\\..\\x y`, strings.Repeat("x", 101)} {
		r.a("POST", "/_heap", `{"file":"`+bad+`"}`).is(400)
	}
	r.a("POST", "/_heap", `{"path":"x"}`).is(400)
	r.a("POST", "/_profile/goroutine", `{"file":"g"}`).is(200)
	r.a("POST", "/_profile/nonsense", `{"file":"g"}`).fails(404, "no such profile")

	r.a("POST", "/_profile", `{}`).fails(400, "no CPU profile is running")
	r.a("POST", "/_profile", `{"file":"cpu"}`).want(200, "")
	r.a("POST", "/_profile", `{"file":"cpu2"}`).fails(400, "a CPU profile is running already")
	r.a("POST", "/_profile", `{}`).want(200, "")
	if info, err := os.Stat(filepath.Join(dir, "profiles", "cpu")); err != nil || info.Size() == 0 {
		t.Errorf("CPU profile: %v", err)
	}
}

func TestPprof(t *testing.T) {
	r := newRig(t, rigOptions{})
	metrics := r.server.Metrics()
	for _, path := range []string{"", "cmdline", "heap", "goroutine?debug=1", "symbol"} {
		r.do(metrics, "GET", "/debug/pprof/"+path, "").is(200)
		r.a("GET", "/_debug/pprof/"+path, "").is(200)
	}
	r.do(metrics, "GET", "/debug/pprof/nonsense", "").fails(404, "no such profile")
	r.p("GET", "/debug/pprof/", "").is(401) // there is no database of that name
	r.p("GET", "/_debug/pprof/heap", "").is(404)
}

func TestSupportArchive(t *testing.T) {
	var log logBuffer
	r := newRig(t, rigOptions{
		startup: `{"bootstrap":{"password":"boot-secret"}}`, database: adminConfig, log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	r.a("POST", "/db/_user/", `{"name":"ada","password":"ada-secret"}`).is(201)
	r.a("GET", "/_sgcollect_info", "").want(200, `{"status":"stopped"}`)
	r.a("DELETE", "/_sgcollect_info", "").fails(400, "sgcollect_info is not running")
	r.a("POST", "/_sgcollect_info", `{}`).fails(400, "this process has no directory to write to")
	dir := t.TempDir()
	r.server.diag.support.dir = dir
	for _, bad := range []string{`{"output_dir":"/tmp"}`, `{"upload":true}`, `{"upload_host":"x"}`, `{"redact_level":"all"}`, `{"nonsense":1}`, `{`} {
		r.a("POST", "/_sgcollect_info", bad).is(400)
	}
	for n := range keptArchives + 2 {
		r.a("POST", "/_sgcollect_info", `{"redact_level":"partial"}`).want(200, `{"status":"started"}`)
		<-r.server.diag.support.done
		archives, _ := filepath.Glob(filepath.Join(dir, "support", "*"))
		if len(archives) != min(n+1, keptArchives) {
			t.Fatalf("%d archives after %d: %v\n%s", len(archives), n+1, archives, log.String())
		}
	}
	archives, _ := filepath.Glob(filepath.Join(dir, "support", "*.zip"))
	z, err := zip.OpenReader(archives[0])
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	names := map[string]bool{}
	for _, f := range z.File {
		names[f.Name] = true
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"boot-secret", "storage-secret", "ada-secret"} {
			if f.Name != "heap.pprof" && bytes.Contains(b, []byte(secret)) {
				t.Errorf("%s holds %s", f.Name, secret)
			}
		}
	}
	for _, want := range []string{"version.txt", "config.json", "expvar.json", "databases.json", "database-0.json", "goroutines.txt"} {
		if !names[want] {
			t.Errorf("%s is missing in %v", want, names)
		}
	}
}

func TestClusterInfo(t *testing.T) {
	r := newRig(t, rigOptions{database: `{"bucket":"b","scopes":{"s":{"collections":{"c":{}}}}}`})
	_, version := r.running("db").Config()
	r.a("GET", "/_cluster_info", "").want(200, `{"legacy_config":false,"buckets":{"b":{"registry":{"version":"1.0","config_groups":{"default":{"databases":{
		"db":{"version":"`+version+`","state":"Online","scopes":{"s":["c"]}}}}}}}}}`)
	r.a("POST", "/_post_upgrade?preview=true", "").want(200, `{"post_upgrade_results":{"db":{"removed_design_docs":[],"removed_indexes":[]}},"preview":true}`)
}

func TestNodes(t *testing.T) {
	r := newRig(t, rigOptions{})
	var got struct {
		Cluster string
		Nodes   []struct {
			ID        string
			Self      bool
			Databases map[string]string
		}
	}
	if err := json.Unmarshal([]byte(r.a("GET", "/_nodes", "").is(200).body), &got); err != nil {
		t.Fatal(err)
	}
	if got.Cluster == "" || len(got.Nodes) != 1 || !got.Nodes[0].Self || got.Nodes[0].ID == "" || got.Nodes[0].Databases["db"] != "Online" {
		t.Errorf("nodes = %+v", got)
	}
}

func TestAuditConfig(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.a("GET", "/db/_config/audit", "").want(200, `{"enabled":false,"events":{},"disabled_users":[],"disabled_roles":[]}`)
	r.a("PUT", "/db/_config/audit", `{"enabled":false,"disabled_users":[{"name":"bob","domain":"sgw"}]}`).want(200, "")
	r.a("POST", "/db/_config/audit", `{"disabled_roles":[{"name":"r","domain":"cbs"}]}`).is(200)
	r.a("GET", "/db/_config/audit", "").want(200,
		`{"enabled":false,"events":{},"disabled_users":[{"name":"bob","domain":"sgw"}],"disabled_roles":[{"name":"r","domain":"cbs"}]}`)
	r.a("PUT", "/db/_config/audit", `{"enabled":true}`).fails(400, "logging.audit.enabled: audit logging is not supported in this version")
	r.a("PUT", "/db/_config/audit", `{"events":{"8192":true}}`).fails(400, `unknown audit event "8192"`)
	r.a("PUT", "/none/_config/audit", `{}`).is(404)
}
