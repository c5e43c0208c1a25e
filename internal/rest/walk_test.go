package rest

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/config"
)

// policy says for every row of the route table who gets through to its handler. A route that is not here
// fails the test: whoever adds one has to say here who may use it (hardening.md: deny by default).
//
//	nobody  anyone at all, whatever the credentials
//	open    whoever is not logged in too; wrong credentials are refused
//	login   a user, or the guest if it is enabled
//	write   as login, but no guest where guest_read_only is set
//	db      an administrator of the database
//	read    an administrator who may read what concerns the server
//	all     an administrator who may do everything
var policy = map[listener]string{
	public: `
		nobody  GET /_ping, HEAD /_ping
		open    GET /, HEAD /, GET /_app/{app}, HEAD /_app/{app}
		open    PUT /{db}/
		open    GET /{db}/_session, HEAD /{db}/_session, POST /{db}/_session
		login   DELETE /{db}/_session
		login   GET /{db}/, HEAD /{db}/
		login   POST /{db}/_ensure_full_commit
		login   GET /{db}/_blipsync
		login   GET /{ks}/{docid}, HEAD /{ks}/{docid}
		write   POST /{ks}/, PUT /{ks}/{docid}, DELETE /{ks}/{docid}
		login   GET /{ks}/{docid}/{attachment...}, HEAD /{ks}/{docid}/{attachment...}
		write   PUT /{ks}/{docid}/{attachment...}, DELETE /{ks}/{docid}/{attachment...}
		login   GET /{ks}/_local/{docid}, HEAD /{ks}/_local/{docid}
		write   PUT /{ks}/_local/{docid}, DELETE /{ks}/_local/{docid}
		login   GET /{ks}/_design/{ddoc}, HEAD /{ks}/_design/{ddoc}
		write   PUT /{ks}/_design/{ddoc}, DELETE /{ks}/_design/{ddoc}
		write   POST /{ks}/_bulk_docs
		login   POST /{ks}/_bulk_get, POST /{ks}/_revs_diff
		login   GET /{ks}/_sync
		write   POST /{ks}/_sync/unsynced
		login   GET /{ks}/_all_docs, HEAD /{ks}/_all_docs, POST /{ks}/_all_docs
		login   GET /{ks}/_changes, HEAD /{ks}/_changes, POST /{ks}/_changes`,
	admin: `
		nobody  GET /_ping, HEAD /_ping
		open    GET /, HEAD /, GET /_app/{app}, HEAD /_app/{app}
		read    GET /_all_dbs, HEAD /_all_dbs, GET /_status
		all     PUT /{db}/, DELETE /{db}/
		db      GET /{db}/, HEAD /{db}/
		db      POST /{db}/_ensure_full_commit, POST /{db}/_flush
		db      GET /{db}/_index_init, POST /{db}/_index_init, GET /{db}/_compact, POST /{db}/_compact
		db      POST /{db}/_offline, POST /{db}/_online, GET /{db}/_resync, POST /{db}/_resync
		db      GET /{ks}/resync, HEAD /{ks}/resync, POST /{ks}/resync, PUT /{ks}/resync, DELETE /{ks}/resync
		db      GET /{db}/_write_block, PUT /{db}/_write_block
		db      GET /{db}/_device_sync, POST /{db}/_device_sync, GET /{db}/_device_sync/sessions, GET /{db}/_device_sync/clients
		db      POST /{db}/_device_sync/reset_client, POST /{db}/_device_sync/reset_all, POST /{db}/_device_sync/trim
		db      GET /{db}/_device_sync/quarantine, GET /{db}/_device_sync/quarantine/{id}, DELETE /{db}/_device_sync/quarantine/{id}
		db      POST /{db}/_device_sync/quarantine/{id}/restore
		db      GET /{ks}/_sync, POST /{ks}/_sync/unsynced, GET /{ks}/_channels
		db      GET /{db}/_blipsync
		db      GET /{db}/_config, PUT /{db}/_config, POST /{db}/_config
		db      GET /{ks}/_config/sync, PUT /{ks}/_config/sync, DELETE /{ks}/_config/sync
		db      GET /{ks}/_config/import_filter, PUT /{ks}/_config/import_filter, DELETE /{ks}/_config/import_filter
		db      POST /{db}/_session, GET /{db}/_session/{id}, DELETE /{db}/_session/{id}
		db      GET /{db}/_user/, HEAD /{db}/_user/, POST /{db}/_user/
		db      GET /{db}/_user/{name}, HEAD /{db}/_user/{name}, PUT /{db}/_user/{name}, DELETE /{db}/_user/{name}
		db      DELETE /{db}/_user/{name}/_session, DELETE /{db}/_user/{name}/_session/{id}
		db      GET /{db}/_role/, HEAD /{db}/_role/, POST /{db}/_role/
		db      GET /{db}/_role/{name}, HEAD /{db}/_role/{name}, PUT /{db}/_role/{name}, DELETE /{db}/_role/{name}
		db      POST /{ks}/, GET /{ks}/{docid}, HEAD /{ks}/{docid}, PUT /{ks}/{docid}, DELETE /{ks}/{docid}
		db      GET /{ks}/{docid}/{attachment...}, HEAD /{ks}/{docid}/{attachment...}
		db      PUT /{ks}/{docid}/{attachment...}, DELETE /{ks}/{docid}/{attachment...}
		db      GET /{ks}/_local/{docid}, HEAD /{ks}/_local/{docid}, PUT /{ks}/_local/{docid}, DELETE /{ks}/_local/{docid}
		db      GET /{ks}/_design/{ddoc}, HEAD /{ks}/_design/{ddoc}, PUT /{ks}/_design/{ddoc}, DELETE /{ks}/_design/{ddoc}
		db      POST /{ks}/_bulk_docs, POST /{ks}/_bulk_get, POST /{ks}/_revs_diff
		db      GET /{ks}/_all_docs, HEAD /{ks}/_all_docs, POST /{ks}/_all_docs
		db      GET /{ks}/_changes, HEAD /{ks}/_changes, POST /{ks}/_changes
		db      POST /{ks}/_purge, GET /{ks}/_raw/{docid}, GET /{ks}/_revtree/{docid}, GET /{ks}/_dumpchannel/{channel}
		db      GET /{ks}/_explain
		db      POST /{db}/_repair, POST /{db}/_vacuum
		db      GET /{db}/_replication/, HEAD /{db}/_replication/, POST /{db}/_replication/
		db      GET /{db}/_replication/{id}, HEAD /{db}/_replication/{id}, PUT /{db}/_replication/{id}, POST /{db}/_replication/{id}
		db      DELETE /{db}/_replication/{id}
		db      GET /{db}/_replicationStatus/, HEAD /{db}/_replicationStatus/
		db      GET /{db}/_replicationStatus/{id}, HEAD /{db}/_replicationStatus/{id}
		db      PUT /{db}/_replicationStatus/{id}, POST /{db}/_replicationStatus/{id}
		db      PUT /{db}/_replicationStatus/{id}/{action}, POST /{db}/_replicationStatus/{id}/{action}
		db      GET /{db}/_replicationstatus/, HEAD /{db}/_replicationstatus/
		db      GET /{db}/_replicationstatus/{id}, HEAD /{db}/_replicationstatus/{id}
		db      PUT /{db}/_replicationstatus/{id}, POST /{db}/_replicationstatus/{id}
		db      PUT /{db}/_replicationstatus/{id}/{action}, POST /{db}/_replicationstatus/{id}/{action}
		db      GET /{db}/_config/audit, PUT /{db}/_config/audit, POST /{db}/_config/audit
		read    GET /_expvar, GET /_expvars, GET /_stats, GET /metrics, HEAD /metrics, GET /_metrics, HEAD /_metrics
		read    GET /_config, GET /_logging, GET /_log, GET /_cluster_info, GET /_nodes, GET /_sgcollect_info
		all     PUT /_config, PUT /_logging, POST /_logging, POST /_post_upgrade, GET /_backup
		all     POST /_move, GET /_move/{id}/snapshot, GET /_move/{id}/changes, GET /_move/{id}/digest, POST /_move/{id}/stop, POST /_move/{id}/finish
		all     POST /_admin_api_keys, DELETE /_admin_api_keys/{id}
		read    GET /_admin_api_keys
		all     POST /_sgcollect_info, DELETE /_sgcollect_info
		all     POST /_profile, POST /_profile/{name}, POST /_heap
		all     GET /_debug/pprof, POST /_debug/pprof, GET /_debug/pprof/{name...}, POST /_debug/pprof/{name...}`,
	metrics: `
		nobody  GET /_ping, HEAD /_ping
		read    GET /_expvar, GET /_expvars, GET /_stats, GET /metrics, HEAD /metrics, GET /_metrics, HEAD /_metrics
		read    GET /debug/pprof, POST /debug/pprof, GET /debug/pprof/{name...}, POST /debug/pprof/{name...}`,
}

// outcomes say what each kind of caller gets from a route of each class: "ok" is the handler.
var publicOutcomes = []struct {
	caller string
	db     string // "shut": no guest; "guest": one; "readonly": one that may not write
	header string
	want   map[string]string // class → status and reason
}{
	{"nobody", "shut", "", row("ok", "401 Login required", "401 Login required")},
	{"nobody, as empty name and password", "shut", basic("", ""), row("ok", "401 Login required", "401 Login required")},
	{"the guest", "guest", "", row("ok", "ok", "ok")},
	{"the guest, as empty name and password", "guest", basic("", ""), row("ok", "ok", "ok")},
	{"the guest who may only read", "readonly", "", row("ok", "ok", "403 Anonymous access is read-only")},
	{"a user", "shut", basic("bob", "letmein"), row("ok", "ok", "ok")},
	{"a user beside a guest who may only read", "readonly", basic("bob", "letmein"), row("ok", "ok", "ok")},
	{"a user without channels", "shut", basic("poor", "letmein"), row("ok", "ok", "ok")},
	{"a disabled user", "guest", basic("off", "letmein"), row("401 Invalid login", "401 Invalid login", "401 Invalid login")},
	{"a user with a wrong password", "guest", basic("bob", "wrong"), row("401 Invalid login", "401 Invalid login", "401 Invalid login")},
	{"an unknown user", "guest", basic("nobody", "letmein"), row("401 Invalid login", "401 Invalid login", "401 Invalid login")},
	{"the guest by name", "guest", basic("GUEST", ""), row("401 Invalid login", "401 Invalid login", "401 Invalid login")},
	{"an administrator's account", "guest", basic("root", "administrator"), row("401 Invalid login", "401 Invalid login", "401 Invalid login")},
	{"half a login", "guest", "Authorization: Basic !", row("401 Invalid login", "401 Invalid login", "401 Invalid login")},
	{"a session that is none", "guest", "Cookie: SyncGatewaySession=" + strings.Repeat("a", 40), row("ok", "401 Session Invalid", "401 Session Invalid")},
	{"a session", "shut", "session of bob", row("ok", "ok", "ok")},
	{"a session of a disabled user", "shut", "session of off", row("ok", "401 Session no longer valid for user", "401 Session no longer valid for user")},
	{"a session that comes with a wrong password", "shut", "session of bob+" + basic("bob", "wrong"), row("401 Invalid login", "401 Invalid login", "401 Invalid login")},
}

// row says what a caller gets from open, login and write routes.
func row(open, login, write string) map[string]string {
	return map[string]string{"nobody": "ok", "open": open, "login": login, "write": write}
}

func basic(name, password string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
}

// classes reads the policy of a listener: "METHOD pattern" → class.
func classes(t *testing.T, l listener) map[string]string {
	t.Helper()
	of := map[string]string{}
	for line := range strings.Lines(policy[l]) {
		class, rest, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		for part := range strings.SplitSeq(rest, ",") {
			key := strings.TrimSpace(part)
			if of[key] != "" {
				t.Fatalf("%s: %s is there twice", l, key)
			}
			of[key] = class
		}
	}
	return of
}

// reached is the body of a handler that stands in for all others: the walk is about who gets there.
const reached = "reached"

// gates returns the handler of a listener with the real table and every handler replaced.
func gates(s *Server, l listener) (http.Handler, []string) {
	rows := s.routesOf(l)
	var keys []string
	for i := range rows {
		rows[i].handler = func(w http.ResponseWriter, _ *request) error {
			return replyText(w, http.StatusOK, "text/plain", reached)
		}
		for method := range strings.FieldsSeq(rows[i].methods) {
			keys = append(keys, method+" "+rows[i].pattern)
		}
	}
	return s.handler(l, newRouter(rows)), keys
}

// path is a URL for a pattern.
func path(pattern, db string) string {
	return strings.NewReplacer("{db}", db, "{ks}", db, "{docid}", "doc", "{attachment...}", "att/a", "{ddoc}", "d",
		"{id}", "i", "{name}", "n", "{name...}", "heap", "{channel}", "c").Replace(pattern)
}

// outcome is "ok" if the handler was reached, else status and reason.
func (a reply) outcome() string {
	if a.status == http.StatusOK && a.body == reached {
		return "ok"
	}
	e, err := decodeJSON(a.body)
	if m, ok := e.(map[string]any); ok && err == nil {
		return fmt.Sprint(a.status, " ", m["reason"])
	}
	return fmt.Sprint(a.status, " ", a.body)
}

// cheapPasswords is a config of the process with which tests that log in often take no time.
const cheapPasswords = `{"auth":{"bcrypt_cost":4}}`

// walkRig has the databases shut, guest and readonly with the same users.
func walkRig(t *testing.T) *rig {
	r := newRig(t, rigOptions{startup: cheapPasswords})
	r.create("shut", `{}`)
	r.create("guest", `{"guest":{"disabled":false}}`)
	r.create("readonly", `{"guest":{"disabled":false},"unsupported":{"guest_read_only":true}}`)
	for _, db := range []string{"shut", "guest", "readonly"} {
		r.a("PUT", "/"+db+"/_user/bob", `{"password":"letmein","admin_channels":["a"]}`).is(201)
		r.a("PUT", "/"+db+"/_user/poor", `{"password":"letmein"}`).is(201)
		r.a("PUT", "/"+db+"/_user/off", `{"password":"letmein"}`).is(201)
	}
	return r
}

// session logs a user in over the admin API and returns the cookie's header line.
func (r *rig) session(db, name string) string {
	r.t.Helper()
	return "Cookie: SyncGatewaySession=" + r.a("POST", "/"+db+"/_session", `{"name":"`+name+`"}`).is(200).member("session_id")
}

func TestWalkPublicRoutes(t *testing.T) {
	r := walkRig(t)
	sessions := map[string]string{"session of bob": r.session("shut", "bob"), "session of off": r.session("shut", "off")}
	for _, db := range []string{"shut", "guest", "readonly"} {
		r.a("PUT", "/"+db+"/_user/off", `{"disabled":true}`).is(200)
	}
	h, keys := gates(r.server, public)
	class := classes(t, public)
	checkTable(t, public, class, keys)
	for _, c := range publicOutcomes {
		var headers []string
		for h := range strings.SplitSeq(c.header, "+") {
			if sessions[h] != "" {
				h = sessions[h]
			}
			if h != "" {
				headers = append(headers, h)
			}
		}
		for i, key := range keys {
			method, pattern, _ := strings.Cut(key, " ")
			want := c.want[class[key]]
			if !strings.HasPrefix(pattern, "/{") {
				want = "ok" // what concerns no database has no users
			}
			req := append(slices.Clone(headers), fmt.Sprintf("X-Forwarded-For: 10.0.0.%d", i))
			a := r.doFrom(h, fmt.Sprintf("192.0.2.%d:1", i), method, path(pattern, c.db), "", req...)
			if got := a.outcome(); got != want {
				t.Errorf("%s: %s: %s, want %s", c.caller, key, got, want)
			}
			if challenge := a.header.Get("WWW-Authenticate"); (a.status == 401) != (challenge == `Basic realm="Couchbase Sync Gateway"`) {
				t.Errorf("%s: %s: status %d with challenge %q", c.caller, key, a.status, challenge)
			}
		}
	}
	for _, key := range keys { // a database that does not exist looks like one where the login fails
		method, pattern, _ := strings.Cut(key, " ")
		if !strings.HasPrefix(pattern, "/{") || key == "PUT /{db}/" {
			continue
		}
		if got := r.do(h, method, path(pattern, "none"), "").outcome(); got != "401 Login required" {
			t.Errorf("unknown database: %s: %s", key, got)
		}
		for _, header := range []string{basic("bob", "letmein"), "Cookie: a=b", "Authorization: Bearer x"} {
			if got := r.do(h, method, path(pattern, "none"), "", header).outcome(); got != "401 Invalid login" {
				t.Errorf("unknown database, %s: %s: %s", header, key, got)
			}
		}
	}
}

// checkTable compares the route table with the policy.
func checkTable(t *testing.T, l listener, class map[string]string, keys []string) {
	t.Helper()
	for _, key := range keys {
		if class[key] == "" {
			t.Errorf("%s listener: the policy does not say who may %s", l, key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(class)) {
		if !slices.Contains(keys, key) {
			t.Errorf("%s listener: there is no route %s", l, key)
		}
	}
}

// adminOutcomes say which classes of routes an administrator account gets through to, of database shut.
var adminOutcomes = []struct{ caller, header, allowed, refusal string }{
	{"nobody", "", "nobody", "401 Login required"},
	{"a user of the database", basic("bob", "letmein"), "nobody", "401 Invalid login"},
	{"a wrong password", basic("root", "wrong"), "nobody", "401 Invalid login"},
	{"an unknown account", basic("toor", "administrator"), "nobody", "401 Invalid login"},
	{"an empty account", basic("", ""), "nobody", "401 Invalid login"},
	{"another database's", basic("other", "administrator"), "nobody open", "403 the administrator's role does not allow this"},
	{"the database's", basic("app", "administrator"), "nobody open db", "403 the administrator's role does not allow this"},
	{"all databases'", basic("apps", "administrator"), "nobody open db", "403 the administrator's role does not allow this"},
	{"a reader", basic("reader", "administrator"), "nobody open read", "403 the administrator's role does not allow this"},
	{"a cluster administrator", basic("cluster", "administrator"), "nobody open db read all", ""},
	{"an administrator", basic("root", "administrator"), "nobody open db read all", ""},
}

const administrators = `"auth":{"bcrypt_cost":4,"administrators":{
	"root":{"password":"administrator","roles":["admin"]},
	"cluster":{"password":"administrator","roles":["cluster_admin"]},
	"reader":{"password":"administrator","roles":["ro_admin"]},
	"app":{"password":"administrator","roles":["mobile_sync_gateway"],"databases":["shut"]},
	"apps":{"password":"administrator","roles":["bucket_full_access"]},
	"other":{"password":"administrator","roles":["bucket_admin"],"databases":["guest"]}}}`

// withAdmins returns a server of the same gateway with another start-up config.
func (r *rig) withAdmins(startup string) *Server {
	r.t.Helper()
	cfg := mustStartup(r.t, startup)
	accounts, err := AdminAccounts(cfg, access.NewPasswords(access.PasswordsConfig{Cost: cfg.Settings().BcryptCost}))
	if err != nil {
		r.t.Fatal(err)
	}
	return NewServer(Deps{Gateway: r.gateway, Config: cfg, Version: "test", Admins: accounts, Replicate: readAll})
}

func mustStartup(t testing.TB, src string) *config.Startup {
	t.Helper()
	cfg, _, err := config.ParseStartup([]byte(src), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestWalkAdminRoutes(t *testing.T) {
	r := walkRig(t)
	open, keys := gates(r.server, admin)
	class := classes(t, admin)
	checkTable(t, admin, class, keys)
	for _, key := range keys { // on the loopback everybody is an administrator by default
		method, pattern, _ := strings.Cut(key, " ")
		for _, header := range []string{"X: y", basic("bob", "wrong")} {
			if got := r.do(open, method, path(pattern, "shut"), "", header).outcome(); got != "ok" {
				t.Errorf("%s: %s, want ok", key, got)
			}
		}
		if a := r.do(open, method, path(pattern, "shut"), "", "Origin: http://evil.example"); a.outcome() != "403 requests from other origins are not allowed here" {
			t.Errorf("%s from another origin: %s", key, a.outcome())
		}
	}
	for startup, callers := range map[string]int{ // where authentication is on by the address the first callers will do
		`{"api":{"admin_interface_authentication":true},` + administrators + `}`: len(adminOutcomes),
		`{"api":{"admin_interface":"0.0.0.0:4985"},` + administrators + `}`:      2,
	} {
		h, _ := gates(r.withAdmins(startup), admin)
		for _, c := range adminOutcomes[:callers] {
			for i, key := range keys {
				method, pattern, _ := strings.Cut(key, " ")
				want := c.refusal
				if slices.Contains(strings.Fields(c.allowed), class[key]) {
					want = "ok"
				}
				a := r.doFrom(h, fmt.Sprintf("192.0.2.%d:1", i), method, path(pattern, "shut"), "", c.header)
				if got := a.outcome(); got != want {
					t.Errorf("%s: %s: %s, want %s", c.caller, key, got, want)
				}
				if (a.status == 401) != (a.header.Get("WWW-Authenticate") != "") {
					t.Errorf("%s: %s: status %d, challenge %q", c.caller, key, a.status, a.header.Get("WWW-Authenticate"))
				}
			}
		}
	}
}

func TestWalkMetricsRoutes(t *testing.T) {
	r := walkRig(t)
	h, keys := gates(r.server, metrics)
	class := classes(t, metrics)
	checkTable(t, metrics, class, keys)
	locked, _ := gates(r.withAdmins(`{"api":{"metrics_interface":":4986"},`+administrators+`}`), metrics)
	for i, key := range keys {
		method, pattern, _ := strings.Cut(key, " ")
		if got := r.do(h, method, path(pattern, ""), "").outcome(); got != "ok" {
			t.Errorf("%s: %s", key, got)
		}
		for _, c := range adminOutcomes {
			want := c.refusal
			if slices.Contains(strings.Fields(c.allowed), class[key]) {
				want = "ok"
			}
			if got := r.doFrom(locked, fmt.Sprintf("192.0.2.%d:1", i), method, path(pattern, ""), "", c.header).outcome(); got != want {
				t.Errorf("%s: %s: %s, want %s", c.caller, key, got, want)
			}
		}
	}
}

// On the admin listener with authentication only a cluster-wide reader learns that a database does not exist.
func TestUnknownDatabaseOnTheAdminListener(t *testing.T) {
	r := walkRig(t)
	h := r.withAdmins(`{"api":{"admin_interface_authentication":true},` + administrators + `}`).Admin()
	r.a("GET", "/none/", "").fails(404, `no such database "none"`)
	for _, tt := range []struct {
		who    string
		status int
	}{{"root", 404}, {"reader", 404}, {"apps", 404}, {"app", 403}, {"other", 403}} {
		for _, path := range []string{"/none/", "/none/doc", "/none/_user/x"} {
			r.do(h, "GET", path, "", basic(tt.who, "administrator")).is(tt.status)
		}
	}
	r.do(h, "PUT", "/none/", `{}`, basic("reader", "administrator")).is(403)
	r.do(h, "DELETE", "/none/", ``, basic("reader", "administrator")).is(403)
}

// doFrom is do with the address that the request comes from.
func (r *rig) doFrom(h http.Handler, from, method, target, body string, header ...string) reply {
	r.t.Helper()
	return r.do(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		req.RemoteAddr = from
		h.ServeHTTP(w, req)
	}), method, target, body, header...)
}
