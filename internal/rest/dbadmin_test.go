package rest

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/tidegate/tidegate/internal/gateway"
)

// adminConfig switches on what these tests need.
const adminConfig = `{"sync":"function(doc) { channel(doc.channels); }","password":"storage-secret",
	"unsupported":{"api_endpoints":{"enable_couchbase_bucket_flush":true}}}`

func TestDatabaseInfo(t *testing.T) {
	r := newRig(t, rigOptions{})
	info := r.a("GET", "/db/", "").is(200)
	var m map[string]any
	if err := json.Unmarshal([]byte(info.body), &m); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"db_name": "db", "compact_running": false, "purge_seq": 0.0, "disk_format_version": 0.0, "state": "Online", "update_seq": 0.0,
	} {
		if m[name] != want {
			t.Errorf("%s is %v, want %v", name, m[name], want)
		}
	}
	if start, _ := m["instance_start_time"].(float64); start < 1e15 {
		t.Errorf("instance_start_time %v is no time in µs", m["instance_start_time"])
	}
	r.a("PUT", "/db/doc", `{}`).is(201)
	again := r.a("GET", "/db", "").is(200)
	if !strings.Contains(again.body, `"update_seq":1,"committed_update_seq":1,`) {
		t.Errorf("after a write: %s", again.body)
	}
	r.a("POST", "/db/_ensure_full_commit", "").is(201)
	r.a("GET", "/db/_index_init", "").want(200, `{"status":"completed","start_time":"0001-01-01T00:00:00Z","last_error":""}`)
	r.a("GET", "/none/", "").fails(404, `no such database "none"`)
	r.p("GET", "/none/", "").fails(401, "Login required")
	r.p("GET", "/none/", "", "Authorization: Basic YTpi").fails(401, "Invalid login")
}

func TestCreateAndDeleteDatabase(t *testing.T) {
	r := newRig(t, rigOptions{})
	if tag := r.a("PUT", "/new/", `{"revs_limit":7}`).want(201, "").header.Get("ETag"); tag == "" {
		t.Error("no ETag")
	}
	r.a("PUT", "/new", `{}`).fails(412, `Duplicate database name "new"`)
	r.a("PUT", "/Nope/", `{}`).fails(400, "Illegal database name: Nope")
	r.a("PUT", "/other/", `{"name":"new"}`).fails(400, "the name in the config is not the name in the URL")
	r.a("PUT", "/other/", `{"revs_limt":7}`).fails(400, `JSON Unknown Field: line 1, column 2: revs_limt: unknown key "revs_limt"; the nearest valid key is "revs_limit"`)
	r.a("PUT", "/other/", `{"revs_limit":0,"javascript_timeout_secs":0}`).fails(400, "revs_limit: must be at least 1\njavascript_timeout_secs: must be at least 1")
	r.a("PUT", "/other/", `{"revs_limit":`).fails(400, "Bad JSON: line 1, column 15: expected a value, found end of the text")
	r.a("PUT", "/other/", `{"name":"other","name":"other"}`).fails(400, "line 1, column 17: name: the key is given twice; the first is at line 1, column 2")
	r.a("PUT", "/other/", `{"sync":"function(doc) {"}`).is(400)
	r.a("PUT", "/other/", `{"sync":"/etc/passwd"}`).fails(400, "sync: neither a JavaScript function nor an http(s) URL")
	r.a("PUT", "/other/", `{"users":{"bob":{"password":"letmein"}}}`).fails(400, "line 1, column 2: users: only a config file sets users here…")
	r.a("PUT", "/other/", `{"guest":{"disabled":false,"admin_channels":["*"]}}`).is(400)
	r.a("PUT", "/other/", `{}`, "Content-Type: text/plain").is(415)
	r.a("GET", "/_all_dbs", "").want(200, `["db","new"]`)
	r.a("GET", "/_all_dbs?verbose=true", "").want(200, `[
		{"db_name":"db","bucket":"db","state":"Online","init_in_progress":false,"require_resync":false},
		{"db_name":"new","bucket":"new","state":"Online","init_in_progress":false,"require_resync":false}]`)
	r.p("PUT", "/new/", `{}`).fails(412, "Database already exists")
	r.p("PUT", "/other/", `{}`).fails(403, "Creating a DB over the public API is unsupported")

	r.a("PUT", "/new/doc", `{"a":1}`).is(201)
	r.a("DELETE", "/new/", "").want(200, `{}`)
	r.a("DELETE", "/new/", "").fails(404, `no such database "new"`)
	r.a("PUT", "/new/", "").is(201) // an empty body is an empty config
	r.a("GET", "/new/doc", "").is(200)
	r.a("DELETE", "/new/?purge=true", "").want(200, `{}`)
	r.a("PUT", "/new/", `{}`).is(201)
	r.a("GET", "/new/doc", "").is(404)
}

func TestDatabaseConfig(t *testing.T) {
	r := newRig(t, rigOptions{database: adminConfig})
	got := r.a("GET", "/db/_config", "").is(200)
	if strings.Contains(got.body, "storage-secret") || !strings.Contains(got.body, `"password":"xxxxx"`) {
		t.Errorf("secrets: %s", got.body)
	}
	v1 := got.header.Get("ETag")
	if !regexp.MustCompile(`^"[0-9]+-[0-9a-f]+"$`).MatchString(v1) {
		t.Errorf("ETag %s", v1)
	}
	if body := r.a("GET", "/db/_config?include_javascript=false", "").is(200).body; strings.Contains(body, "function") {
		t.Errorf("JavaScript: %s", body)
	}
	if body := r.a("GET", "/db/_config?include_runtime=true", "").is(200).body; !strings.Contains(body, `"revs_limit":50`) {
		t.Errorf("defaults: %s", body)
	}
	r.a("GET", "/db/_config?redact=false", "").fails(400, "redact=false is no longer supported")

	v2 := r.a("POST", "/db/_config", `{"revs_limit":30}`, "If-Match: "+v1).want(201, "").header.Get("ETag")
	if v2 == v1 || v2 == "" {
		t.Errorf("ETag %s after %s", v2, v1)
	}
	for _, method := range []string{"PUT", "POST"} {
		r.a(method, "/db/_config", `{}`, "If-Match: "+v1).fails(412, "Provided If-Match header does not match current config version")
		r.a(method, "/db/_config", `{"name":"else"}`).is(400)
		r.a(method, "/db/_config", `{"sink":1}`).fails(400, "JSON Unknown Field: line 1, column 2: sink: unknown key…")
		r.a(method, "/db/_config", `[]`).fails(400, "Bad JSON: line 1, column 1: expected an object, found an array")
	}
	// What was read can be written back: masked secrets, output-only members and all.
	all := r.a("GET", "/db/_config", "").is(200)
	r.a("PUT", "/db/_config", all.body, "If-Match: "+all.header.Get("ETag")).is(201)
	cfg, _ := r.running("db").Config()
	if cfg.Password.Reveal() != "storage-secret" || *cfg.RevsLimit != 30 {
		t.Errorf("written back: %s", cfg.Masked())
	}
	r.a("PUT", "/db/_config", `{"sync":`+"`function(doc) {\n  channel(\"x\");\n}`"+`}`).is(201)
	cfg, _ = r.running("db").Config()
	if cfg.RevsLimit != nil || string(cfg.Sync) != "function(doc) {\n  channel(\"x\");\n}" || !cfg.Password.IsZero() {
		t.Errorf("replaced: %s", cfg.Masked())
	}
	r.p("GET", "/db/_config", "").is(404)
}

func TestFunctionResources(t *testing.T) {
	const src = `function(doc) { channel("a"); }`
	r := newRig(t, rigOptions{database: `{"scopes":{"s":{"collections":{"c":{"sync":"function(doc) { channel('c'); }"}}},"_default":{"collections":{"_default":{}}}}}`})
	for _, ks := range []string{"db", "db.s.c"} {
		for _, name := range []string{"sync", "import_filter"} {
			path := "/" + ks + "/_config/" + name
			v := r.a("PUT", path, src, "Content-Type: application/javascript").want(200, "").header.Get("ETag")
			got := r.a("GET", path, "").is(200).has("Content-Type", "application/javascript").has("ETag", v)
			if got.body != src {
				t.Errorf("%s: %q", path, got.body)
			}
			r.a("PUT", path, `function(doc) {`).is(400)
			r.a("PUT", path, src, "If-Match: \"0-x\"").is(412)
			r.a("DELETE", path, "", "If-Match: "+v).want(200, "")
			if got := r.a("GET", path, "").is(200); got.body != "" {
				t.Errorf("%s after DELETE: %q", path, got.body)
			}
		}
	}
	r.a("GET", "/db.s.none/_config/sync", "").fails(404, "keyspace db.s.none not found")
	r.a("GET", "/none/_config/sync", "").fails(404, `no such database "none"`)
}

func TestOfflineAndOnline(t *testing.T) {
	r := newRig(t, rigOptions{database: openGuest})
	r.a("PUT", "/db/doc", `{}`).is(201)
	r.a("POST", "/db/_offline", "").want(200, "")
	r.a("POST", "/db/_offline", "").want(200, "")
	for _, path := range []string{"/db/doc", "/db/_all_docs", "/db/_user/", "/db/_compact"} {
		r.a("GET", path, "").fails(503, "DB is currently under maintenance")
	}
	r.p("GET", "/db/doc", "").fails(503, "DB is currently under maintenance") // before credentials
	r.a("GET", "/db/", "").is(200)
	if s := r.a("GET", "/db/", "").member("state"); s != "Offline" {
		t.Errorf("state %s", s)
	}
	r.a("GET", "/db/_config", "").is(200)
	r.a("GET", "/db/_index_init", "").is(200)
	r.a("POST", "/db/_config", `{"revs_limit":30}`).is(201)
	r.a("GET", "/db/doc", "").is(503) // it was taken offline by hand
	r.a("POST", "/db/_online?wait=true", `not JSON`).want(200, "")
	r.a("GET", "/db/doc", "").is(200)
	r.a("POST", "/db/_online", `{"delay":3600}`).is(200)
	r.p("POST", "/db/_offline", "").is(404)
	r.a("POST", "/none/_offline", "").is(404)
}

func TestFlushNeedsToBeSwitchedOn(t *testing.T) {
	r := newRig(t, rigOptions{database: adminConfig})
	r.a("PUT", "/db/doc", `{}`).is(201)
	r.a("POST", "/db/_flush", "").want(200, "")
	r.a("GET", "/db/doc", "").is(404)
	r.a("PUT", "/off/", `{}`).is(201)
	r.a("POST", "/off/_flush", "").is(403)
}

func TestCompact(t *testing.T) {
	r := newRig(t, rigOptions{})
	for _, kind := range []string{"tombstone", "attachment"} {
		r.a("GET", "/db/_compact?type="+kind, "").is(200)
		r.a("POST", "/db/_compact?action=stop&type="+kind, "").fails(400, "Database compact is not running")
		r.a("POST", "/db/_compact?type="+kind, "{}").is(200)
	}
	r.a("POST", "/db/_compact?type=x", "").fails(400, "Unknown parameter for 'type'. Must be 'tombstone' or 'attachment'")
	r.a("POST", "/db/_compact?action=x", "").fails(400, "Unknown parameter for 'action'. Must be start or stop")
	r.p("POST", "/db/_compact", "").is(404)
}

func TestStatusShowsEveryDatabase(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.create("off", `{"offline":true}`)
	got := r.a("GET", "/_status", "").is(200)
	var m struct {
		Databases map[string]struct {
			Seq     int
			State   string
			Cluster struct {
				Nodes map[string]struct{ UUID, Host string }
			}
		}
		Version string
		Vendor  struct{ Name, Version string }
	}
	if err := json.Unmarshal([]byte(got.body), &m); err != nil {
		t.Fatal(err)
	}
	if m.Databases["db"].State != "Online" || m.Databases["off"].State != "Offline" || m.Databases["db"].Cluster.Nodes["node"].UUID != "node" {
		t.Errorf("%s", got.body)
	}
	if !strings.HasPrefix(m.Version, "Couchbase Sync Gateway/3.") || m.Vendor.Name != "tidegate" {
		t.Errorf("version: %s", got.body)
	}
}

// running returns a database of the rig.
func (r *rig) running(name string) *gateway.Running {
	r.t.Helper()
	db, err := r.gateway.Database(name)
	if err != nil {
		r.t.Fatal(err)
	}
	return db
}
