package rest

import (
	"context"
	"encoding/base64"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strings"

	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/telemetry"
)

// The exercise of TestOpenAPIAnswers: every operation of the contract on each of its listeners, and every status
// that the contract describes.

// exerciseDatabase is the config of the database that most requests go to.
const exerciseDatabase = `{
	"sync": "function (doc) { if (doc.bad) { throw({forbidden: 'no'}); } channel(doc.channels); access(doc.who, doc.gives); role(doc.who, doc.roles); }",
	"allow_conflicts": true,
	"guest": {"disabled": false, "admin_channels": ["*"]},
	"max_attachment_bytes": 1000,
	"unsupported": {"allow_guest_star": true}
}`

func (e *exercise) run() {
	e.start()
	e.server()
	e.statistics()
	e.serverConfig()
	e.support()
	e.profiles()
	e.databases()
	e.configs()
	e.audit()
	e.functions()
	e.principals()
	e.sessions()
	for _, l := range []listener{admin, public} {
		e.documents(l)
		e.reading(l)
		e.attachments(l)
		e.localDocuments(l)
		e.bulk(l)
		e.allDocs(l)
		e.changes(l)
	}
	e.liveChanges()
	e.replications()
	e.gatewayReplications()
	e.tools()
	e.compaction()
	e.writeBlock()
	e.deviceSync()
	e.states()
	e.resync()
	e.dryRuns()
}

// start makes a server with everything that its endpoints need.
func (e *exercise) start() {
	const startup = `{"api": {"https": {}}, "auth": {"administrators": {"root": {"password": "a secret that is long", "roles": ["admin"]}}}}`
	e.r = newRig(e.t, rigOptions{database: exerciseDatabase, startup: startup})
	e.r.server = NewServer(Deps{
		Gateway: e.r.gateway, Config: e.r.gateway.Startup(), Version: "test", Limits: Limits{DocumentBytes: 2000, BulkDocs: 20},
		AdminDeps: AdminDeps{
			Backup:     func(_ context.Context, w io.Writer) (any, error) { return io.WriteString(w, "an archive") },
			StoreStats: func() store.Stats { return store.Stats{} }, LogLevel: new(slog.LevelVar), LogRing: telemetry.NewLogRing(10),
			DataDir: e.t.TempDir(), AppDatabase: appOfDB,
			APIKeys: e.r.server.deps.APIKeys, Move: e.moveSource(),
		},
		Replicate: readAll,
	})
	e.r.public, e.r.admin = e.r.server.Public(), e.r.server.Admin()
}

func asUser(user, password string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func (e *exercise) server() {
	for _, l := range []listener{public, admin, metrics} {
		e.call(l, "GET", "/_ping", "", 200)
		e.call(l, "HEAD", "/_ping", "", 200)
	}
	for _, l := range []listener{public, admin} {
		e.call(l, "GET", "/", "", 200)
		e.call(l, "HEAD", "/", "", 200)
	}
	for _, where := range []listener{public, admin} {
		e.call(where, "GET", "/_app/"+appID+"/", "", 200)
		e.call(where, "HEAD", "/_app/"+appID+"/", "", 200)
	}
	e.call(public, "GET", "/_app/other-00000/", "", 404)
	e.call(admin, "GET", "/_all_dbs", "", 200)
	e.call(admin, "GET", "/_all_dbs?verbose=true", "", 200)
	e.call(admin, "HEAD", "/_all_dbs", "", 200)
	e.call(admin, "GET", "/_status", "", 200)
}

func (e *exercise) statistics() {
	for _, l := range []listener{admin, metrics} {
		for _, path := range []string{"/metrics", "/_metrics"} {
			e.call(l, "GET", path, "", 200)
			e.call(l, "HEAD", path, "", 200)
		}
		for _, path := range []string{"/_expvar", "/_expvars", "/_stats"} {
			e.call(l, "GET", path, "", 200)
		}
	}
	e.call(admin, "GET", "/_cluster_info", "", 200)
	e.call(admin, "GET", "/_nodes", "", 200)
	e.call(admin, "GET", "/_backup", "", 200)
	e.moves()
	e.call(admin, "POST", "/_post_upgrade?preview=true", "", 200)
	e.adminKeys()
}

func (e *exercise) adminKeys() {
	const path = "/_admin_api_keys"
	e.call(admin, "POST", path, "", 201)
	e.call(admin, "POST", path, `{"name":"watch","role":"GROUP_READ_ONLY"}`, 201)
	e.call(admin, "POST", path, `{"role":"KING"}`, 400)
	e.call(admin, "POST", path, `{"name":1}`, 400)
	e.call(admin, "GET", path, "", 200)
	keys, err := e.r.server.deps.APIKeys.List(e.t.Context())
	if err != nil || len(keys) != 2 {
		e.t.Fatalf("keys: %v, %v", keys, err)
	}
	e.call(admin, "DELETE", path+"/"+keys[0].ID, "", 204)
	e.call(admin, "DELETE", path+"/"+keys[0].ID, "", 404)
}

func (e *exercise) serverConfig() {
	e.call(admin, "PUT", "/_config", `{"logging":{"console":{"log_level":"warn","log_keys":["HTTP"]}},"max_concurrent_replications":1}`, 200)
	e.call(admin, "PUT", "/_config", `{"api":{}}`, 400)
	e.call(admin, "GET", "/_config", "", 200)
	e.call(admin, "GET", "/_config?include_runtime=true&redact=true", "", 200)
	e.call(admin, "GET", "/_config?redact=false", "", 400)
	e.call(admin, "GET", "/_logging", "", 200)
	for _, method := range []string{"PUT", "POST"} {
		e.call(admin, method, "/_logging?logLevel=error", `{"HTTP":true,"unknown":true}`, 200)
		e.call(admin, method, "/_logging?level=1", "", 200)
		e.call(admin, method, "/_logging?logLevel=loud", "", 400)
	}
}

func (e *exercise) support() {
	const path = "/_sgcollect_info"
	e.call(admin, "POST", path, `{"upload":true}`, 400)
	// One that takes as long as the test wants.
	begun := make(chan struct{})
	if err := e.r.server.diag.support.start(func(ctx context.Context, _ string) { close(begun); <-ctx.Done() }); err != nil {
		e.t.Fatal(err)
	}
	<-begun
	e.call(admin, "GET", path, "", 200)
	e.call(admin, "POST", path, `{"redact_level":"none"}`, 500)
	e.call(admin, "DELETE", path, "", 200)
	for e.r.server.diag.support.running() {
		runtime.Gosched()
	}
	e.call(admin, "DELETE", path, "", 400)
	e.call(admin, "POST", path, `{"redact_level":"partial","upload":false}`, 200)
	for e.r.server.diag.support.running() {
		runtime.Gosched()
	}
	e.call(admin, "GET", path, "", 200)
}

func (e *exercise) profiles() {
	e.call(admin, "POST", "/_profile", `{"file":"/tmp/cpu.pprof"}`, 200)
	e.call(admin, "POST", "/_profile", `{"file":"cpu2.pprof"}`, 400)
	e.call(admin, "POST", "/_profile", ``, 200)
	e.call(admin, "POST", "/_profile/goroutine", `{"file":"g.pprof"}`, 200)
	e.call(admin, "POST", "/_profile/goroutine", `{"file":".."}`, 400)
	e.call(admin, "POST", "/_profile/nothing", `{"file":"g.pprof"}`, 404)
	e.call(admin, "POST", "/_heap", `{"file":"heap.pprof"}`, 200)
	e.call(admin, "POST", "/_heap", `{"file":""}`, 400)
	for l, path := range map[listener]string{admin: "/_debug/pprof/", metrics: "/debug/pprof/"} {
		for _, method := range []string{"GET", "POST"} {
			e.call(l, method, path, "", 200)
			e.call(l, method, path+"cmdline", "", 200)
			e.call(l, method, path+"goroutine", "", 200)
			e.call(l, method, path+"nothing", "", 404)
		}
	}
}

func (e *exercise) databases() {
	for _, l := range []listener{public, admin} {
		e.call(l, "GET", "/db/", "", 200)
		e.call(l, "HEAD", "/db", "", 200)
		e.call(l, "POST", "/db/_ensure_full_commit", `{}`, 201)
	}
	e.call(admin, "GET", "/none/", "", 404)
	e.call(public, "GET", "/none/", "", 401)
	e.call(admin, "PUT", "/other/", `{"bucket":"b","num_index_replicas":0}`, 201)
	e.call(admin, "PUT", "/other/", ``, 412)
	e.call(admin, "PUT", "/Bad/", `{}`, 400)
	e.call(public, "PUT", "/other/", `{}`, 412)
	e.call(public, "PUT", "/another/", `{}`, 403)
	e.call(admin, "GET", "/_all_dbs?verbose=true", "", 200)
	e.call(admin, "POST", "/other/_flush", "", 403)
	e.call(admin, "POST", "/other/_config", `{"unsupported":{"api_endpoints":{"enable_couchbase_bucket_flush":true}}}`, 201)
	e.call(admin, "POST", "/other/_flush", "", 200)
	e.call(admin, "DELETE", "/other/?purge=true", "", 200)
	e.call(admin, "GET", "/db/_index_init", "", 200)
	e.call(admin, "POST", "/db/_index_init", "", 200)
	for method, paths := range map[string][]string{
		"POST":   {"_flush", "_ensure_full_commit", "_index_init", "_offline", "_online", "_compact", "_config"},
		"GET":    {"_index_init", "_compact", "_config"},
		"PUT":    {"_config"},
		"DELETE": {""},
	} {
		for _, path := range paths {
			e.call(admin, method, "/none/"+path, "", 404)
		}
	}
}

func (e *exercise) configs() {
	e.call(admin, "GET", "/db/_config", "", 200)
	e.call(admin, "GET", "/db/_config?include_runtime=true&include_javascript=false", "", 200)
	e.call(admin, "PUT", "/full/", fullConfig, 201)
	version := e.call(admin, "GET", "/full/_config?include_runtime=true&redact=true&refresh_config=true", "", 200).header.Get("ETag")
	e.call(admin, "POST", "/full/_config", `{"revs_limit":null}`, 201, "If-Match: "+version)
	e.call(admin, "POST", "/full/_config", `{"revs_limit":25}`, 412, "If-Match: "+version)
	e.call(admin, "PUT", "/full/_config", `{}`, 412, "If-Match: "+version)
	e.call(admin, "POST", "/full/_config", `{"revs_limit":0}`, 400)
	e.call(admin, "PUT", "/full/_config", `{"revs_limmit":20}`, 400)
	e.call(admin, "PUT", "/full/_config", `{}`, 201)
	e.call(admin, "DELETE", "/full/", "", 200)
}

func (e *exercise) audit() {
	const path = "/db/_config/audit"
	etag := e.call(admin, "PUT", path, `{"enabled":false,"events":{},"disabled_users":[{"name":"bob","domain":"sgw"}]}`, 200).header.Get("ETag")
	e.call(admin, "POST", path, `{"disabled_roles":[]}`, 200, "If-Match: "+etag)
	e.call(admin, "GET", path, "", 200)
	e.call(admin, "GET", "/none/_config/audit", "", 404)
	for _, method := range []string{"PUT", "POST"} {
		e.call(admin, method, path, `{"enabled":true}`, 400)
		e.call(admin, method, path, `{}`, 412, "If-Match: "+etag)
		e.call(admin, method, "/none/_config/audit", `{}`, 404)
	}
}

// fullConfig has a value for most keys, so that the answers to _config show them.
const fullConfig = `{
	"name": "full", "bucket": "b", "server": "couchbase://h", "username": "u", "password": "p", "kv_tls_port": 11207,
	"scopes": {"s": {"collections": {"c": {"sync": "function(d){channel('x')}"}, "d": {}}}},
	"guest": {"disabled": true, "collection_access": {"s": {"c": {"admin_channels": ["x"]}}}},
	"revs_limit": 60, "allow_conflicts": true, "import_docs": "continuous", "import_partitions": 4, "import_backup_old_rev": true,
	"enable_shared_bucket_access": true, "old_rev_expiry_seconds": 60, "local_doc_expiry_secs": 1000, "javascript_timeout_secs": 2,
	"session_cookie_name": "S", "session_cookie_secure": true, "session_cookie_http_only": true, "allow_empty_password": true,
	"disable_password_auth": true, "send_www_authenticate_header": false, "serve_insecure_attachment_types": true,
	"delta_sync": {"enabled": true, "rev_max_age_seconds": 100}, "compact_interval_days": 0.5, "sgreplicate_enabled": "true",
	"replications": {"r": {"remote": "https://u:secret@h/db", "direction": "pull", "continuous": true, "filter": "sync_gateway/bychannel", "query_params": ["a"]}},
	"query_pagination_limit": 100, "user_xattr_key": "k", "client_partition_window_secs": 10, "changes_request_plus": true,
	"disable_public_all_docs": true, "offline": false, "suspendable": true, "read_only": true, "resync_concurrency": 2,
	"max_attachment_bytes": 5, "metadata_purge_interval_days": 1.5, "slow_query_warning_threshold": 5, "use_views": false,
	"index": {"num_replicas": 0}, "cache": {"rev_cache": {"size": 10}, "channel_cache": {"max_length": 10}},
	"cors": {"origin": ["*"], "login_origin": ["http://a"], "headers": ["X"], "max_age": 5},
	"logging": {"console": {"log_level": "info", "log_keys": ["*"]}},
	"event_handlers": {"max_processes": 5, "document_changed": [{"handler": "webhook", "url": "http://h/x", "filter": "function(d){return true}"}]},
	"unsupported": {"warning_thresholds": {"channels_per_doc": 5}, "same_site_cookie": "Lax", "guest_read_only": true}
}`

func (e *exercise) functions() {
	e.call(admin, "PUT", "/fn/", `{}`, 201)
	for _, name := range []string{"sync", "import_filter"} {
		path := "/fn/_config/" + name
		e.call(admin, "GET", path, "", 200)
		etag := e.call(admin, "PUT", path, `function (doc) { return true; }`, 200, "Content-Type: application/javascript").header.Get("ETag")
		e.call(admin, "GET", path, "", 200)
		e.call(admin, "PUT", path, `function (`, 400, "Content-Type: application/javascript")
		e.call(admin, "PUT", path, `function (doc) {}`, 412, "Content-Type: application/javascript", `If-Match: "x"`)
		e.call(admin, "DELETE", path, "", 412, `If-Match: "x"`)
		e.call(admin, "DELETE", path, "", 200, "If-Match: "+etag)
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			body := ""
			if method == "PUT" {
				body = "function () {}"
			}
			e.call(admin, method, "/fn.nothere/_config/"+name, body, 404, "Content-Type: application/javascript")
		}
	}
	e.call(admin, "DELETE", "/fn/", "", 200)
}

func (e *exercise) principals() {
	for _, kind := range []string{"_user", "_role"} {
		password := map[string]string{"_user": `,"password":"letmein"`}[kind]
		all := "/db/" + kind + "/"
		e.call(admin, "GET", all, "", 200)
		e.call(admin, "POST", all, `{"name":"one","admin_channels":["a"]`+password+`}`, 201)
		e.call(admin, "POST", all, `{"name":"one"`+password+`}`, 409)
		e.call(admin, "POST", all, `{}`, 400)
		e.call(admin, "PUT", all+"two", `{"name":"two","collection_access":{}`+password+`}`, 201)
		e.call(admin, "PUT", all+"two", `{"admin_channels":["b","c"]}`, 200)
		e.call(admin, "PUT", all+"two", `{"name":"three"}`, 400)
		e.call(admin, "GET", all+"two", "", 200)
		e.call(admin, "HEAD", all+"two", "", 200)
		e.call(admin, "HEAD", all, "", 200)
		e.call(admin, "GET", all, "", 200)
		e.call(admin, "DELETE", all+"two", "", 200)
		e.call(admin, "GET", all+"two", "", 404)
		e.call(admin, "DELETE", all+"two", "", 404)
	}
	e.call(admin, "GET", "/db/_user/?name_only=false&limit=5", "", 200)
	e.call(admin, "GET", "/db/_role/?deleted=true", "", 200)
	e.call(admin, "DELETE", "/db/_role/one?purge=true", "", 200)
	e.call(admin, "GET", "/db/_user/GUEST", "", 200)
	e.call(admin, "DELETE", "/db/_user/GUEST", "", 405)
	e.call(admin, "PUT", "/db/_user/bob", `{"password":"letmein","admin_channels":["a"],"admin_roles":["r"],"email":"bob@example.com"}`, 201)
	e.call(admin, "GET", "/db/_user/bob", "", 200)
}

func (e *exercise) sessions() {
	e.call(public, "GET", "/db/_session", "", 200)
	e.call(public, "HEAD", "/db/_session", "", 200)
	e.call(public, "GET", "/db/_session", "", 200, asUser("bob", "letmein"))
	login := e.call(public, "POST", "/db/_session", `{"name":"bob","password":"letmein"}`, 200)
	cookie := "Cookie: " + strings.Split(login.header.Get("Set-Cookie"), ";")[0]
	e.call(public, "POST", "/db/_session?one_time=true", "", 200, asUser("bob", "letmein"))
	e.call(public, "POST", "/db/_session", `{"name":"bob","password":"letmein"}`, 400, "Origin: http://elsewhere")
	e.call(public, "DELETE", "/db/_session", "", 200, cookie)
	e.call(public, "DELETE", "/db/_session", "", 404)
	e.call(admin, "POST", "/db/_session", `{"name":"nobody"}`, 404)
	e.call(public, "POST", "/db/_session", `{"name":"mallory","password":"wrong"}`, 401)
	session := func() string {
		return e.call(admin, "POST", "/db/_session", `{"name":"bob","ttl":60}`, 200).member("session_id")
	}
	id := session()
	e.call(admin, "GET", "/db/_session/"+id, "", 200)
	e.call(admin, "DELETE", "/db/_session/"+id, "", 200)
	e.call(admin, "GET", "/db/_session/"+id, "", 404)
	e.call(admin, "DELETE", "/db/_session/"+id, "", 404)
	id = session()
	e.call(admin, "DELETE", "/db/_user/bob/_session/"+id, "", 200)
	e.call(admin, "DELETE", "/db/_user/bob/_session/"+id, "", 404)
	e.call(admin, "DELETE", "/db/_user/bob/_session", "", 200)
}

func (e *exercise) documents(l listener) {
	doc := "/db/doc-" + l.String()
	rev := e.call(l, "PUT", doc+"?roundtrip=true", `{"n":1,"channels":["a"],"_exp":86400}`, 201).rev()
	e.call(l, "PUT", doc, `{}`, 409)
	e.call(l, "PUT", doc+"?rev="+rev, `{"_bad":1}`, 400)
	e.call(l, "PUT", doc+"?rev="+rev, `{"bad":1}`, 403)
	e.call(l, "PUT", doc+"?rev="+rev, `{"long":"`+strings.Repeat("x", 3000)+`"}`, 413)
	rev = e.call(l, "PUT", doc, `{"n":2}`, 201, "If-Match: "+rev).rev()
	e.call(l, "PUT", doc+"?new_edits=false", `{"n":3,"_revisions":{"start":5,"ids":["b","a"]}}`, 201)
	e.call(l, "DELETE", doc, "", 409)
	e.call(l, "DELETE", doc+"?rev="+rev, "", 200)
	e.call(l, "DELETE", doc, "", 200, "If-Match: 5-b")
	e.call(l, "POST", "/db/", `{"n":1}`, 200)
	e.call(l, "POST", "/db/?new_edits=false", `{"_id":"posted-`+l.String()+`","_revisions":{"start":1,"ids":["a"]}}`, 200)
	e.call(l, "POST", "/db/", `{"_rev":"1-a"}`, 404)
	body := "--b\r\nContent-Type: application/json\r\n\r\n" + `{"_attachments":{"a":{"follows":true,"length":2,"content_type":"text/plain"}}}` +
		"\r\n--b\r\n\r\nxy\r\n--b--"
	e.call(l, "PUT", "/db/related-"+l.String(), body, 201, `Content-Type: multipart/related; boundary="b"`)
}

func (e *exercise) reading(l listener) {
	id := "/db/read-" + l.String()
	big := base64Of(strings.Repeat("x", 600))
	e.call(l, "PUT", id+"?new_edits=false", `{"v":1,"channels":["a"],"_exp":"2099-01-01T00:00:00Z","_revisions":{"start":1,"ids":["a"]},"_attachments":{"f":{"data":"`+big+`"}}}`, 201)
	e.call(l, "PUT", id+"?new_edits=false", `{"v":2,"channels":["b"],"_exp":"2099-01-01T00:00:00Z","_revisions":{"start":2,"ids":["b","a"]},"_attachments":{"f":{"data":"`+big+`"}}}`, 201)
	e.call(l, "PUT", id+"?new_edits=false", `{"v":3,"_revisions":{"start":2,"ids":["a2","a"]}}`, 201)
	const onlyJSON = "Accept: application/json"
	for _, query := range []string{
		"", "?rev=1-a", "?rev=2-a2&latest=true", "?revs=true&revs_limit=1&conflicts=true&deleted_conflicts=true&revs_info=true&show_exp=true",
		"?attachments=true", "?attachments=true&atts_since=%5B%221-a%22%5D", "?open_revs=all", "?open_revs=%5B%222-b%22,%229-z%22%5D&revs=true&latest=true",
		"?revs=true&revs_from=%5B%221-a%22%5D",
	} {
		e.call(l, "GET", id+query, "", 200)
		e.call(l, "GET", id+query, "", 200, onlyJSON)
	}
	e.call(l, "HEAD", id, "", 200)
	e.call(l, "GET", "/db/nothing", "", 404)
	e.call(l, "GET", "/db/doc-"+l.String(), "", 404) // deleted
	e.call(l, "GET", id+"?rev=x", "", 400)
	if l == public {
		other := "/db/other"
		e.call(admin, "PUT", other, `{"channels":["z"]}`, 201)
		e.call(public, "GET", other, "", 403, asUser("bob", "letmein"))
	}
}

func (e *exercise) attachments(l listener) {
	id := "/db/att-" + l.String()
	rev := e.call(l, "PUT", id+"/a/b.txt", "hello", 201, "Content-Type: text/plain").rev()
	e.call(l, "PUT", id+"/c", "hello", 409, "Content-Type: text/plain")
	e.call(l, "PUT", id+"/c?rev="+rev, strings.Repeat("x", 2000), 413, "Content-Type: text/plain")
	rev = e.call(l, "PUT", id+"/c", "hello", 201, "If-Match: "+rev, "Content-Type: text/plain").rev()
	e.call(l, "GET", id+"/c", "", 200)
	e.call(l, "GET", id+"/c?rev="+rev+"&content_encoding=false", "", 200)
	e.call(l, "GET", id+"/c?meta=true", "", 200)
	e.call(l, "HEAD", id+"/c", "", 200)
	e.call(l, "GET", id+"/c", "", 206, "Range: bytes=1-2")
	e.call(l, "GET", id+"/c", "", 416, "Range: bytes=100-")
	e.call(l, "GET", id+"/none", "", 404)
	e.call(l, "DELETE", id+"/none?rev="+rev, "", 404)
	e.call(l, "DELETE", id+"/c", "", 409)
	e.call(l, "DELETE", id+"/c?rev="+rev, "", 200)
}

func (e *exercise) localDocuments(l listener) {
	id := "/db/_local/check-" + l.String()
	e.call(l, "PUT", id, `{"_rev":"0-1"}`, 404)
	rev := e.call(l, "PUT", id, `{"n":1}`, 201).rev()
	e.call(l, "PUT", id, `{"n":1}`, 409)
	rev = e.call(l, "PUT", id+"?rev="+rev, `{"n":1}`, 201).rev()
	e.call(l, "GET", id, "", 200)
	e.call(l, "HEAD", id, "", 200)
	e.call(l, "DELETE", id+"?rev=0-7", "", 409)
	e.call(l, "DELETE", id, "", 200, "If-Match: "+rev)
	e.call(l, "DELETE", id+"?rev="+rev, "", 404)
	e.call(l, "GET", id, "", 404)

	const ddoc = "/db/_design/d"
	if l == admin {
		rev := e.call(l, "PUT", ddoc, `{"views":{}}`, 201).rev()
		e.call(l, "PUT", ddoc, `{"views":{}}`, 409)
		e.call(l, "DELETE", ddoc+"?rev=0-9", "", 409)
		e.call(l, "DELETE", ddoc+"?rev="+rev, "", 200)
		e.call(l, "DELETE", ddoc+"?rev="+rev, "", 404)
		e.call(l, "PUT", ddoc, `{"views":{}}`, 201)
	} else {
		e.call(l, "PUT", ddoc, `{"views":{}}`, 403, asUser("bob", "letmein"))
		e.call(l, "DELETE", ddoc+"?rev=0-1", "", 403, asUser("bob", "letmein"))
	}
	e.call(l, "GET", ddoc, "", 200)
	e.call(l, "HEAD", ddoc, "", 200)
	e.call(l, "GET", "/db/_design/none", "", 404)
}

func (e *exercise) bulk(l listener) {
	e.call(l, "POST", "/db/_bulk_docs", `{"docs":[{"_id":"b1","_attachments":{"x":{"data":"eHg="}}},{"bad":1},{"_id":"_local/b","n":1},{"_id":"b1"},{"_x":1}],"all_or_nothing":false}`, 201)
	e.call(l, "POST", "/db/_bulk_docs", `{"new_edits":false,"docs":[{"_id":"b2","_rev":"1-a"},{"_id":"b3","_rev":"x"}]}`, 201)
	e.call(l, "POST", "/db/_bulk_docs", `{}`, 400)
	e.call(l, "POST", "/db/_bulk_docs", `{"docs":[`+strings.Repeat(`{},`, 20)+`{}]}`, 413)
	const get = `{"docs":[{"id":"b1"},{"id":"b1","rev":"1-nothing"},{"id":"none"},{"id":"b2","rev":"1-a","revs_limit":1,"atts_since":[],"revs_from":[]}]}`
	e.call(l, "POST", "/db/_bulk_get?revs=true&attachments=true&latest=false", get, 200)
	e.call(l, "POST", "/db/_bulk_get?attachments=true", get, 200, "Accept: application/json")
	e.call(l, "POST", "/db/_bulk_get", `{}`, 400)
	e.call(l, "POST", "/db/_revs_diff", `{"b2":["1-a","2-b"],"new":["1-x"],"b1":[]}`, 200)
}

func (e *exercise) allDocs(l listener) {
	e.call(l, "GET", "/db/_all_docs", "", 200)
	e.call(l, "GET", "/db/_all_docs?include_docs=true&channels=true&access=true&update_seq=true&revs=true&conflicts=true&attachments=true", "", 200)
	e.call(l, "GET", "/db/_all_docs?startkey=%22a%22&endkey=%22z%22&inclusive_end=false&skip=1&limit=3&descending=false", "", 200)
	e.call(l, "GET", "/db/_all_docs?keys=%5B%22b1%22,%22none%22%5D", "", 200)
	e.call(l, "GET", "/db/_all_docs?keys=x", "", 400)
	e.call(l, "HEAD", "/db/_all_docs", "", 200)
	e.call(l, "POST", "/db/_all_docs?include_docs=true", `{"keys":["b1","doc-admin","none"]}`, 200)
	e.call(l, "POST", "/db/_all_docs", `{"keys":1}`, 400)
	if l == public {
		e.call(admin, "PUT", "/shut/", `{"disable_public_all_docs":true,"guest":{"disabled":false}}`, 201)
		e.call(public, "GET", "/shut/_all_docs", "", 403)
		e.call(public, "POST", "/shut/_all_docs", "{}", 403)
		e.call(admin, "DELETE", "/shut/", "", 200)
	}
}

func (e *exercise) changes(l listener) {
	for _, query := range []string{
		"", "?since=now", "?style=all_docs&include_docs=true&conflicts=true&attachments=true", "?limit=2&since=1&active_only=true&seq_interval=5",
		"?filter=sync_gateway/bychannel&channels=a,b", "?filter=_doc_ids&doc_ids=%5B%22doc-admin%22%5D", "?descending=true&request_plus=true",
		"?feed=longpoll&timeout=1&since=now&heartbeat=0", "?feed=continuous&timeout=1&accept_encoding=gzip",
	} {
		e.call(l, "GET", "/db/_changes"+query, "", 200)
	}
	e.call(l, "GET", "/db/_changes?since=now&feed=longpoll&timeout=1&revocations=true", "", 200, asUser("bob", "letmein"))
	e.call(l, "GET", "/db/_changes?feed=x", "", 400)
	e.call(l, "GET", "/db/_changes?feed=websocket", "", 426)
	e.call(l, "HEAD", "/db/_changes", "", 200)
	e.call(l, "POST", "/db/_changes", `{"since":"1","limit":1,"doc_ids":["doc-admin"],"filter":"_doc_ids","heartbeat":30000}`, 200)
	e.call(l, "POST", "/db/_changes?feed=longpoll&timeout=1", `{"since":1}`, 200)
	e.call(l, "POST", "/db/_changes", `{"filter":"x"}`, 400)
	// An entry with every member: a revoked document of a user who lost a channel.
	if l == public {
		e.call(admin, "PUT", "/db/lost", `{"channels":["a"]}`, 201)
		since := e.call(public, "GET", "/db/_changes", "", 200, asUser("bob", "letmein")).member("last_seq")
		e.call(admin, "PUT", "/db/_user/bob", `{"admin_channels":[]}`, 200)
		if a := e.call(public, "GET", "/db/_changes?revocations=true&since="+since, "", 200, asUser("bob", "letmein")); !strings.Contains(a.body, `"revoked":true`) {
			e.t.Errorf("nothing was revoked: %s", a.body)
		}
	}
}

// liveChanges opens feeds that last: a WebSocket, and beside it one too many for max_concurrent_replications.
func (e *exercise) liveChanges() {
	for _, l := range []listener{public, admin} {
		conn := e.webSocket(l, "/db/_changes?feed=websocket", wsHeaders)
		e.call(l, "GET", "/db/_changes", "", 503)
		e.call(l, "POST", "/db/_changes", "{}", 503)
		if _, err := conn.Write([]byte("\x88\x80\x00\x00\x00\x00")); err != nil {
			e.t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); err != nil {
			e.t.Fatal(err)
		}
		conn.Close()
		e.noFeeds()
	}
}

// noFeeds waits until all feeds and replications are counted out. How long that takes after the end of the connection
// is the kernel's affair.
func (e *exercise) noFeeds() {
	for e.r.server.feeds.count() > 0 {
		runtime.Gosched()
	}
}

// webSocket opens a WebSocket over a real connection.
func (e *exercise) webSocket(l listener, target string, header []string) io.ReadWriteCloser {
	e.t.Helper()
	req, err := http.NewRequestWithContext(e.t.Context(), "GET", e.r.serveLoopback(e.handler(l)).URL+target, nil)
	if err != nil {
		e.t.Fatal(err)
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		e.t.Fatal(err)
	}
	e.check(l, "GET", target, "", reply{t: e.t, status: res.StatusCode, header: res.Header}, header...)
	conn, ok := res.Body.(io.ReadWriteCloser)
	if !ok {
		e.t.Fatalf("%s: status %d is no WebSocket", target, res.StatusCode)
	}
	return conn
}

func (e *exercise) replications() {
	const target = "/db/_blipsync"
	for _, l := range []listener{public, admin} {
		conn := e.webSocket(l, target+"?client=sgr2", offering(blip4))
		e.call(l, "GET", target, "", 503, offering(blip4)...)
		conn.Close()
		e.noFeeds()
		e.call(l, "GET", target, "", 426)
		e.call(l, "GET", target, "", 500, offering("chat")...)
		e.call(l, "GET", target, "", 403, offering(blip4, "Origin: http://elsewhere")...)
		e.call(l, "GET", "/db.s.c/_blipsync", "", 400, offering(blip4)...)
	}
	token := e.call(public, "POST", "/db/_session?one_time=true", `{"name":"bob","password":"letmein"}`, 200).member("one_time_session_id")
	conn := e.webSocket(public, target, offering(blip4+","+oneTimePrefix+token))
	conn.Close()
	e.call(public, "GET", target, "", 401, offering(blip4+","+oneTimePrefix+token)...)
	e.noFeeds()
}

func (e *exercise) tools() {
	e.call(admin, "PUT", "/db/tool", `{"channels":["t"],"who":"bob","gives":"t","roles":"role:r","_attachments":{"x":{"data":"eHg="}}}`, 201)
	e.call(admin, "GET", "/db/_raw/tool", "", 200)
	e.call(admin, "GET", "/db/_raw/tool?redact=true&salt=s", "", 200)
	e.call(admin, "GET", "/db/_raw/read-admin?include_doc=false", "", 200)
	e.call(admin, "GET", "/db/_raw/doc-admin", "", 200)
	e.call(admin, "GET", "/db/_raw/none", "", 404)
	e.explain()
	e.console()
	e.call(admin, "GET", "/db/_revtree/read-admin", "", 200)
	e.call(admin, "GET", "/db/_revtree/none", "", 404)
	e.call(admin, "GET", "/db/_dumpchannel/t?since=0", "", 200)
	e.call(admin, "GET", "/db/_dumpchannel/none", "", 404)
	e.call(admin, "POST", "/db/_purge", `{"tool":["*"],"none":["*"]}`, 200)
	e.call(admin, "POST", "/db/_purge", `[]`, 400)
	e.call(admin, "POST", "/db/_repair", "", 500)
	e.call(admin, "POST", "/db/_vacuum", "", 200)
}

func (e *exercise) compaction() {
	e.call(admin, "GET", "/db/_compact", "", 200)
	for _, kind := range []string{"tombstone", "attachment"} {
		e.call(admin, "POST", "/db/_compact?type="+kind+"&action=stop", "{}", 400)
		e.call(admin, "POST", "/db/_compact?type="+kind+"&action=start&dry_run=true&reset=true", "", 200)
		e.call(admin, "GET", "/db/_compact?type="+kind, "", 200)
	}
}

func (e *exercise) writeBlock() {
	e.call(admin, "GET", "/db/_write_block", "", 200)
	e.call(admin, "PUT", "/db/_write_block", `{"blocked":true,"bypass_role":"movers"}`, 200)
	e.call(admin, "PUT", "/db/blocked", `{}`, 403)
	e.call(admin, "POST", "/db/_bulk_docs", `{"docs":[{"_id":"blocked"}]}`, 403)
	e.call(admin, "GET", "/db/_all_docs?deleted=true", "", 200)
	e.call(admin, "PUT", "/db/_write_block", `{"blocked":1}`, 400)
	e.call(admin, "PUT", "/db/_write_block", `{"blocked":false,"bypass_role":null}`, 200)
	e.call(admin, "POST", "/db/_bulk_docs", `{"docs":[{"_id":"kept","_rev":"1-a"}],"new_edits":false,"keep_branches":true}`, 201)
	e.call(admin, "GET", "/none/_write_block", "", 404)
	e.call(admin, "PUT", "/none/_write_block", `{"blocked":true}`, 404)
}

func (e *exercise) states() {
	e.call(admin, "POST", "/db/_offline", "", 200)
	e.call(admin, "GET", "/db/", "", 200)
	e.call(admin, "GET", "/_status", "", 200)
	e.call(admin, "POST", "/db/_compact", "", 503)
	e.call(admin, "POST", "/db/_online?wait=true", `{"delay":0}`, 200)
	e.call(admin, "GET", "/db/_compact", "", 200)
}
