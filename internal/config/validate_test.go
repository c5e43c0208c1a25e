package config

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

// fileDatabase reads the section of one database as a file has it.
func fileDatabase(t *testing.T, section string) *Database {
	t.Helper()
	_, dbs, err := ParseStartup([]byte(`{"databases":{"db":`+section+`}}`), env())
	if err != nil {
		t.Fatal(err)
	}
	return dbs["db"]
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct{ src, want string }{
		{`{}`, ""},
		{`{"revs_limit":0}`, "revs_limit: must be at least 1"},
		{`{"revs_limit":19,"allow_conflicts":true}`, "revs_limit: must be at least 20"},
		{`{"revs_limit":20,"allow_conflicts":true}`, ""},
		{`{"javascript_timeout_secs":0}`, "javascript_timeout_secs: must be at least 1"},
		{`{"compact_interval_days":0}`, ""},
		{`{"compact_interval_days":0.04}`, ""},
		{`{"compact_interval_days":0.03}`, "compact_interval_days: must be 0 (never) or from 0.04 to 60"},
		{`{"compact_interval_days":61}`, "compact_interval_days"},
		{`{"compact_interval_days":-1}`, "compact_interval_days"},
		{`{"metadata_purge_interval_days":0}`, "metadata_purge_interval_days"},
		{`{"max_attachment_bytes":0}`, "max_attachment_bytes: must be at least 1"},
		{`{"max_attachment_bytes":1073741825}`, "max_attachment_bytes: must be at most 1073741824"},
		{`{"user_xattr_key":"sixteen-chars-xx"}`, "user_xattr_key"},
		{`{"user_xattr_key":"_syncish"}`, "user_xattr_key"},
		{`{"session_cookie_name":"a b"}`, "session_cookie_name"},
		{`{"session_cookie_name":"a;Path=/"}`, "session_cookie_name"},
		{`{"cors":{"origin":["http://a","*","https://b:8080","app://localhost","null"]}}`, ""},
		{`{"cors":{"origin":["http://a/"]}}`, "cors.origin[0]"},
		{`{"cors":{"login_origin":["a.com"]}}`, "cors.login_origin[0]"},
		{`{"cors":{"headers":["X-A\r\nSet-Cookie"]}}`, "cors.headers[0]"},
		{`{"cors":{"max_age":-1}}`, "cors.max_age"},
		{`{"unsupported":{"same_site_cookie":"strict"}}`, `the nearest is "Strict"`},
		{`{"scopes":{}}`, "scopes: at least one scope"},
		{`{"scopes":{"a":{}}}`, "scopes.a.collections: at least one collection"},
		{`{"scopes":{"a":{"collections":{"c":{}}},"b":{"collections":{"c":{}}}}}`, "at most one named scope"},
		{`{"scopes":{"a":{"collections":{"_c":{}}}}}`, "scopes.a.collections._c"},
		{`{"scopes":{"a":{"collections":{"_default":{}}}}}`, "only the scope _default has the collection _default"},
		{`{"scopes":{"%a":{"collections":{"c":{}}}}}`, "scopes.%a"},
		{`{"scopes":{"_default":{"collections":{"_default":{},"c":{}}}},"sync":"function(){}"}`, ""},
		{`{"scopes":{"a":{"collections":{"c":{}}}},"sync":"function(){}"}`, "sync: this is for the default collection"},
		{`{"sync":"/etc/passwd"}`, "sync: neither a JavaScript function nor an http(s) URL"},
		{`{"sync":"https://example.com/sync.js"}`, ""},
		{`{"sync":"https://"}`, "sync: the URL does not parse"},
		{`{"import_filter":"filter.js"}`, "import_filter: neither"},
		{`{"oidc":{"providers":{}}}`, "oidc: is not supported in this version"},
		{`{"local_jwt":{}}`, "local_jwt: is not supported in this version"},
		{`{"unsupported":{"oidc_test_provider":{"enabled":true}}}`, "not supported"},
		{`{"logging":{"audit":{"enabled":true}}}`, "audit logging is not supported"},
		{`{"num_index_replicas":1,"index":{"num_replicas":1}}`, "num_index_replicas"},
		{`{"cache":{"channel_cache":{"compact_low_watermark_pct":90}}}`, "compact_low_watermark_pct"},
		{`{"guest":{"disabled":false,"admin_channels":["*"]}}`, "guest.admin_channels"},
		{`{"guest":{"collection_access":{"s":{"c":{"admin_channels":["*"]}}}}}`, "guest.admin_channels"},
		{`{"guest":{"admin_channels":["*"]},"unsupported":{"allow_guest_star":true}}`, ""},
		{`{"guest":{"admin_channels":["a,b"]}}`, "guest.admin_channels[0]: Illegal channel name"},
		{`{"users":{"bob":{}}}`, "users.bob.password: a user needs a password"},
		{`{"users":{"bob":{}},"allow_empty_password":true}`, ""},
		{`{"users":{"bob":{"password":"ab"}}}`, "users.bob.password: must have at least 3"},
		{`{"users":{"a/b":{"password":"abc"}}}`, "users.a/b"},
		{`{"users":{"bob":{"password":"abc","name":"eve"}}}`, "users.bob.name"},
		{`{"users":{"bob":{"password":"abc","admin_roles":["a:b"]}}}`, "users.bob.admin_roles[0]"},
		{`{"roles":{"r":{"password":"abc"}}}`, "roles.r: a role has only"},
		{`{"event_handlers":{"document_changed":[{"handler":"webhook","url":"ftp://x"}]}}`, "event_handlers.document_changed[0].url"},
		{`{"event_handlers":{"db_state_changed":[{"handler":"exec","url":"http://x"}]}}`, "event_handlers.db_state_changed[0].handler"},
	} {
		err := fileDatabase(t, tc.src).Check()
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", tc.src, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s:\ngot  %v\nwant %s", tc.src, err, tc.want)
		}
	}
}

func TestValidateReplications(t *testing.T) {
	for _, tc := range []struct{ src, want string }{
		{`{"remote":"http://h/d","direction":"push"}`, ""},
		{`{"remote":"ws://h/d","direction":"push_and_pull"}`, ""},
		{`{"direction":"push"}`, "Replication remote must be specified"},
		{`{"remote":"h/d","direction":"push"}`, "Replication remote URL is invalid"},
		{`{"remote":"http://h/d"}`, "Replication direction must be specified"},
		{`{"remote":"http://h/d","direction":"both"}`, `Invalid replication direction "both", valid values are push/pull/pushAndPull`},
		{`{"remote":"http://h/d","direction":"push","adhoc":true}`, "adhoc=true is invalid for replication in Sync Gateway configuration"},
		{`{"remote":"http://h/d","direction":"push","conflict_resolution_type":"mine"}`, "Conflict resolution type is invalid, valid values are localWins/remoteWins/default/custom"},
		{`{"remote":"http://h/d","direction":"push","conflict_resolution_type":"custom"}`, "no resolver function is defined"},
		{`{"remote":"http://u:p@h/d","direction":"push","username":"u"}`, "Auth credentials can be specified using"},
		{`{"remote":"http://h/d","direction":"push","username":"u","remote_username":"u"}`, "older spelling"},
		{`{"remote":"http://h/d","direction":"push","filter":"sync_gateway/bychannel"}`, "but is missing query_params"},
		{`{"remote":"http://h/d","direction":"push","filter":"x"}`, "Unknown replication filter; try sync_gateway/bychannel"},
		{`{"remote":"http://h/d","direction":"push","collections_local":["a.b"]}`, "need collections_enabled"},
		{`{"remote":"http://h/d","direction":"push","collections_enabled":true,"collections_local":["a.b","a.b"]}`, "names a collection twice"},
		{`{"remote":"http://h/d","direction":"push","collections_enabled":true,"collections_local":["a.b"],"collections_remote":[]}`, "as long as collections_local"},
		{`{"remote":"http://h/d","direction":"push","batch_size":0}`, "batch_size"},
	} {
		err := fileDatabase(t, `{"replications":{"r":`+tc.src+`}}`).Check()
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", tc.src, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s:\ngot  %v\nwant %s", tc.src, err, tc.want)
		}
	}
	long := strings.Repeat("x", 161)
	err := fileDatabase(t, `{"replications":{"`+long+`":{"remote":"http://h/d","direction":"push"}}}`).Check()
	if err == nil || !strings.Contains(err.Error(), "Replication ID must be less than 160 characters") {
		t.Error(err)
	}
}

func TestValidateCollectsEverything(t *testing.T) {
	errs := fileDatabase(t, `{"revs_limit":0,"javascript_timeout_secs":0,"cors":{"max_age":-1},"guest":{"admin_channels":["*"]}}`).Validate()
	if len(errs) != 4 {
		t.Fatalf("%d problems: %v", len(errs), errs)
	}
	if lines := strings.Split(Join(errs).Error(), "\n"); len(lines) != 4 {
		t.Fatalf("%q", lines)
	}
}

func TestValidateStartup(t *testing.T) {
	for _, tc := range []struct{ src, want string }{
		{`{}`, ""},
		{`{"api":{"public_interface":"4984"}}`, "api.public_interface: expected [host]:port"},
		{`{"api":{"public_interface":":70000"}}`, "api.public_interface"},
		{`{"api":{"admin_interface":""}}`, ""},
		{`{"api":{"https":{"tls_cert_path":"x"}}}`, "tls_cert_path and tls_key_path must be given together"},
		{`{"SSLKey":"x"}`, "must be given together"},
		{`{"api":{"https":{"tls_minimum_version":"tlsv1.4"}}}`, `the nearest is "tlsv1`},
		{`{"api":{"idle_timeout":"-1s"}}`, "api.idle_timeout: must not be negative"},
		{`{"auth":{"bcrypt_cost":9}}`, "auth.bcrypt_cost: must be at least 10"},
		{`{"auth":{"administrators":{"a":{"roles":["admin"]}}}}`, "give either password or password_hash"},
		{`{"auth":{"administrators":{"a":{"password":"short","roles":["admin"]}}}}`, "8 to 72 bytes"},
		{`{"auth":{"administrators":{"a":{"password":"long-enough","roles":["root"]}}}}`, "expected one of admin"},
		{`{"auth":{"administrators":{"a":{"password":"long-enough"}}}}`, "at least one role"},
		{`{"replicator":{"blip_compression":10}}`, "replicator.blip_compression"},
		{`{"replicator":{"max_concurrent_revs":4}}`, "replicator.max_concurrent_revs"},
		{`{"replicator":{"max_concurrent_changes_batches":6}}`, "replicator.max_concurrent_changes_batches"},
		{`{"replicator":{"max_replications_per_user":0}}`, "replicator.max_replications_per_user: must be at least 1"},
		{`{"replicator":{"max_message_bytes":1000}}`, "replicator.max_message_bytes: must be at least 22020096"},
		{`{"replicator":{"max_message_bytes":100000000}}`, "replicator.max_receive_bytes: must be at least max_message_bytes, which is 100000000"},
		{`{"replicator":{"max_receive_bytes":600000000}}`, "replicator.max_receive_bytes_total: must be at least max_receive_bytes, which is 600000000"},
		{`{"replicator":{"max_send_queue_bytes":1}}`, "replicator.max_send_queue_bytes"},
		{`{"replicator":{"slow_reader_timeout":"-1s"}}`, "replicator.slow_reader_timeout: must not be negative"},
		{`{"replicator":{"websocket_ping_interval":"10ms"}}`, "replicator.websocket_ping_interval: must be 0 (no pings) or at least 1s"},
		{`{"replicator":{"websocket_ping_interval":"-1s"}}`, "replicator.websocket_ping_interval"},
		{`{"replicator":{"websocket_ping_interval":"0s","max_message_bytes":50000000}}`, ""},
		{`{"logging":{"console":{"log_level":"loud"}}}`, "logging.console.log_level"},
		{`{"logging":{"info":{"enabled":true}}}`, "logging.info.enabled: needs logging.log_file_path"},
		{`{"unsupported":{"diagnostic_interface":":4987"}}`, "not supported"},
		{`{"api":{"enable_advanced_auth_dp":true}}`, "not supported"},
	} {
		s, _, err := ParseStartup([]byte(tc.src), env())
		if err != nil {
			t.Fatalf("%s: %v", tc.src, err)
		}
		switch err := s.Check(); {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", tc.src, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s:\ngot  %v\nwant %s", tc.src, err, tc.want)
		}
	}
}

func TestDatabaseNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"db": true, "a-b_c$(d)+/1": true, "": false, "Db": false, "1db": false, "_db": false, "d b": false, "d.b": false,
		"dé": false, strings.Repeat("a", 200): true, strings.Repeat("a", 201): false,
	} {
		if err := ValidDatabaseName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestSettingsDefaults(t *testing.T) {
	s := (&Database{}).Settings()
	if s.RevsLimit != 50 || s.OldRevExpiry != 5*time.Minute || s.LocalDocExpiry != 90*24*time.Hour || s.TombstoneAge != 72*time.Hour ||
		s.CompactInterval != 24*time.Hour || s.HistoryWindow != 30*24*time.Hour || s.JavaScriptTimeout != 5*time.Second ||
		s.SessionCookieName != "SyncGatewaySession" || !s.SendWWWAuthenticate || s.MaxAttachmentBytes != 20<<20 || s.WarnChannelsPerDoc != 50 {
		t.Errorf("%+v", s)
	}
	if s := fileDatabase(t, `{"allow_conflicts":true}`).Settings(); s.RevsLimit != 100 {
		t.Errorf("revs_limit with conflicts: %d", s.RevsLimit)
	}
	if s := fileDatabase(t, `{"delta_sync":{"enabled":true}}`).Settings(); s.OldRevExpiry != 24*time.Hour {
		t.Errorf("old bodies with delta sync: %v", s.OldRevExpiry)
	}
	if s := fileDatabase(t, `{"compact_interval_days":0.5,"old_rev_expiry_seconds":0}`).Settings(); s.CompactInterval != 12*time.Hour || s.OldRevExpiry != 0 {
		t.Errorf("%+v", s)
	}
}

// Filling in the defaults changes nothing that is in force, and what comes out is a valid config.
func TestFillDefaults(t *testing.T) {
	for _, src := range []string{`{}`, `{"allow_conflicts":true,"revs_limit":33,"delta_sync":{"enabled":true},"cache":{"rev_cache":{"size":7}},"guest":{"disabled":false}}`} {
		d := fileDatabase(t, src)
		filled := d.Clone()
		filled.FillDefaults()
		if err := filled.Check(); err != nil {
			t.Error(err)
		}
		if before, after := d.Settings(), filled.Settings(); !reflect.DeepEqual(before, after) {
			t.Errorf("settings change:\n%+v\n%+v", before, after)
		}
		if !reflect.DeepEqual(d, fileDatabase(t, src)) {
			t.Error("the original changed")
		}
	}
	s := &Startup{}
	before := s.Settings()
	s.FillDefaults()
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	after := s.Settings()
	before.AdminAuth, before.MetricsAuth, after.AdminAuth, after.MetricsAuth = nil, nil, nil, nil
	if !reflect.DeepEqual(before, after) || *s.API.AdminAuth {
		t.Errorf("settings change:\n%+v\n%+v", before, after)
	}
	if *fileDatabase(t, `{"cache":{"rev_cache":{"size":7}}}`).Cache.RevCache.Size != 7 {
		t.Error("a given value was replaced")
	}
}

func TestIsLoopback(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:4985": true, "127.9.9.9:1": true, "[::1]:4985": true, "localhost:4985": true, "[::ffff:127.0.0.1]:1": true,
		":4985": false, "0.0.0.0:4985": false, "[::]:4985": false, "192.168.0.1:4985": false, "example.com:4985": false,
		"localhost.example.com:1": false, "127.0.0.1": false, "": false,
	} {
		if got := IsLoopback(address); got != want {
			t.Errorf("%q: %v", address, got)
		}
	}
}

func TestLoadFiles(t *testing.T) {
	read := func(path string) ([]byte, error) {
		switch path {
		case "sync.js":
			return []byte("function(doc) { channel('x'); }"), nil
		case "big.js":
			return make([]byte, maxScriptBytes+1), nil
		}
		return nil, os.ErrNotExist
	}
	d := fileDatabase(t, `{"sync":"sync.js","import_filter":"function(){return true}","replications":{"r":{"custom_conflict_resolver":"https://h/x.js"}}}`)
	if err := d.LoadFiles(read); err != nil {
		t.Fatal(err)
	}
	if d.Sync != "function(doc) { channel('x'); }" || d.ImportFilter != "function(){return true}" || !d.Replications["r"].CustomConflictResolver.IsURL() {
		t.Errorf("%s", d.Encode())
	}
	d = fileDatabase(t, `{"sync":"gone.js","import_filter":"big.js"}`)
	err := d.LoadFiles(read)
	if err == nil || !strings.Contains(err.Error(), "databases.db.sync: neither a JavaScript function nor an http(s) URL nor a file that can be read") ||
		!strings.Contains(err.Error(), "databases.db.import_filter: the file is larger than") {
		t.Error(err)
	}
}

func TestLoadURLs(t *testing.T) {
	d := fileDatabase(t, `{"sync":"https://h/sync.js","import_filter":"function(){}"}`)
	if err := d.LoadURLs(func(url string) ([]byte, error) { return []byte("function(){ /* " + url + " */ }"), nil }); err != nil {
		t.Fatal(err)
	}
	if d.Sync != "function(){ /* https://h/sync.js */ }" {
		t.Error(d.Sync)
	}
	d = fileDatabase(t, `{"sync":"https://h/sync.js"}`)
	if err := d.LoadURLs(func(string) ([]byte, error) { return nil, errors.New("no route") }); err == nil || !strings.Contains(err.Error(), "sync: fetch script: no route") {
		t.Error(err)
	}
}

func TestWarningsNameWhatHasNoEffect(t *testing.T) {
	d := fileDatabase(t, `{"replications":{"r":{"remote":"http://h/d","direction":"push"}},"event_handlers":{},
		"import_filter":"function(){}","user_xattr_key":"k","suspendable":true,"unsupported":{"user_views":{"enabled":true}},"logging":{"console":{}}}`)
	if w := d.Warnings(); len(w) != 6 {
		t.Errorf("%d: %q", len(w), w)
	}
	if w := fileDatabase(t, `{"delta_sync":{"enabled":true},"revs_limit":5}`).Warnings(); len(w) != 0 {
		t.Errorf("%q", w)
	}
}

// FuzzParseStartup looks for texts that make the parser fail otherwise than by an error, or that it reads
// into something that does not stay the same when stored.
func FuzzParseStartup(f *testing.F) {
	for _, name := range []string{"testdata/legacy.json", "testdata/v3.json"} {
		src, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	f.Add([]byte(`{"databases":{"db":{"replications":[{"replication_id":"x","query_params":{"channels":["a"]}}],"rev_cache_size":1,"cache":[]}}}`))
	f.Fuzz(func(t *testing.T, src []byte) {
		s, dbs, err := ParseStartup(src, env("A", "alpha"))
		if err != nil {
			for _, p := range Problems(err) {
				if p.Message == "" {
					t.Fatal("a problem without a message")
				}
			}
			return
		}
		_ = s.Validate()
		for _, d := range dbs {
			_ = d.Validate()
			again, err := Decode(d.Encode(), nil)
			if err != nil {
				t.Fatalf("a stored config does not read back: %v\n%s", err, d.Encode())
			}
			if string(again.Encode()) != string(d.Encode()) {
				t.Fatalf("a stored config changes:\n%s\n%s", d.Encode(), again.Encode())
			}
		}
	})
}
