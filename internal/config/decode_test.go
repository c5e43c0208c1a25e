package config

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tidegate/tidegate"
)

func TestLegacyFile(t *testing.T) {
	src, err := os.ReadFile("testdata/legacy.json")
	if err != nil {
		t.Fatal(err)
	}
	s, dbs, err := ParseStartup(src, env("STORE_PASSWORD", "st0re", "ADA_PASSWORD", "ada-pass", "REVS", "77", "REMOTE_HOST", "far"))
	if err != nil {
		t.Fatal(err)
	}
	set := s.Settings()
	if set.PublicAddr != ":4984" || set.AdminAddr != "127.0.0.1:4985" || set.MetricsAddr != DefaultMetricsAddr {
		t.Errorf("addresses: %+v", set)
	}
	if set.CompressResponses || set.MaxConnections != 100 || set.MaxFileDescriptors != 8000 || set.ReadTimeout != 30*time.Second {
		t.Errorf("limits: %+v", set)
	}
	if !slices.Equal(set.CORS.Origin, []string{"http://example.com"}) || *set.CORS.MaxAge != 1728000 {
		t.Errorf("CORS: %+v", set.CORS)
	}
	if s.API.HTTPS.TLSCertPath != "/etc/tls/cert.pem" || s.API.HTTPS.TLSKeyPath != "/etc/tls/key.pem" {
		t.Errorf("TLS: %+v", s.API.HTTPS)
	}
	if c := s.Logging.Console; c.LogLevel != "debug" || !slices.Equal(c.LogKeys, []string{"HTTP+", "Changes"}) {
		t.Errorf("logging: %+v", c)
	}
	db := dbs["db1"]
	if db.Password.Reveal() != "st0re" || db.Users["ada"].Password.Reveal() != "ada-pass" {
		t.Error("the environment was not put in")
	}
	if db.Guest == nil || *db.Guest.Disabled || db.Users["GUEST"] != nil {
		t.Errorf("guest: %+v", db.Guest)
	}
	if !strings.Contains(string(db.Sync), `/^\$[0-9]+$/`) || !strings.Contains(string(db.Sync), "${name}") {
		t.Errorf("the sync function was changed: %s", db.Sync)
	}
	if *db.Cache.RevCache.Size != 1234 || !*db.DeltaSync.Enabled || *db.SGReplicateEnabled != "true" {
		t.Error("older spellings were not mapped")
	}
	repl := db.Replications["repl1"]
	if repl == nil || repl.Direction != "pushAndPull" || !strings.Contains(string(repl.CustomConflictResolver), `"quotes"`) {
		t.Errorf("replication: %+v", repl)
	}
	db2 := dbs["db2"]
	if *db2.RevsLimit != 77 || *db2.AllowConflicts || db2.Replications["repl1"].RemotePassword.Reveal() != "pa$word" || db2.Replications["repl1"].RemoteUsername != "u" {
		t.Errorf("db2: %+v", db2)
	}
	for name, db := range dbs {
		if err := db.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}

func TestVersion3File(t *testing.T) {
	src, err := os.ReadFile("testdata/v3.json")
	if err != nil {
		t.Fatal(err)
	}
	s, dbs, err := ParseStartup(src, env())
	if err != nil || len(dbs) != 0 {
		t.Fatal(dbs, err)
	}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	set := s.Settings()
	if set.PublicAddr != "0.0.0.0:4984" || set.AdminAddr != "" || set.ReadHeaderTimeout != 7*time.Second || set.IdleTimeout != 90*time.Second ||
		!set.Pretty || !set.CompressResponses || set.BcryptCost != 12 || set.MaxHeartbeat != 30*time.Second || set.StatsLogFrequency != 2*time.Minute {
		t.Errorf("%+v", set)
	}
	out := string(s.Masked())
	for _, secret := range []string{"bootpass", "long-enough-pass"} {
		if strings.Contains(out, secret) {
			t.Errorf("the output shows a secret: %s", out)
		}
	}
	again, _, err := ParseStartup([]byte(out), env())
	if err != nil || string(again.Masked()) != out {
		t.Errorf("output does not read back: %v\n%s", err, out)
	}
}

func TestProblemsAreNamedAndCollected(t *testing.T) {
	src := `{
  "interfce": ":4984",
  "api": {"pretty": "yes", "read_header_timeout": 5},
  "databases": {
    "db1": {"revs_limits": 5, "allow_conflicts": 1, "cache": {"rev_cach": {}}, "cors": {"origin": "x", "max_age": 1.5}},
    "db2": {"import_docs": "sometimes", "users": {"bob": {"pasword": "hunter22"}}, "delta_sync": null, "delta-sync": {}}
  }
}`
	_, _, err := ParseStartup([]byte(src), env())
	want := []string{
		`line 2, column 3: interfce: unknown key "interfce"; the nearest valid key is "interface"`,
		`line 3, column 21: api.pretty: expected a boolean, found a string`,
		`line 3, column 51: api.read_header_timeout: expected a duration such as "10s" or "5m", found a number`,
		`line 5, column 13: databases.db1.revs_limits: unknown key "revs_limits"; the nearest valid key is "revs_limit"`,
		`line 5, column 50: databases.db1.allow_conflicts: expected a boolean, found a number`,
		`line 5, column 63: databases.db1.cache.rev_cach: unknown key "rev_cach"; the nearest valid key is "rev_cache"`,
		`line 5, column 99: databases.db1.cors.origin: expected an array, found a string`,
		`line 5, column 115: databases.db1.cors.max_age: expected a whole number within its range, found 1.5`,
		`line 6, column 28: databases.db2.import_docs: expected one of true, false, continuous`,
		`line 6, column 59: databases.db2.users.bob.pasword: unknown key "pasword"; the nearest valid key is "password"`,
		`line 6, column 104: databases.db2.delta-sync: the key is another spelling of "delta_sync", which is given too`,
	}
	if err == nil || err.Error() != strings.Join(want, "\n") {
		t.Fatalf("got:\n%v\nwant:\n%s", err, strings.Join(want, "\n"))
	}
	if strings.Contains(err.Error(), "hunter22") {
		t.Error("the error shows a password")
	}
	if tidegate.ErrorCode(err) != tidegate.Invalid || !strings.HasPrefix(tidegate.ErrorReason(err), "JSON Unknown Field: ") {
		t.Errorf("over REST: %v %q", tidegate.ErrorCode(err), tidegate.ErrorReason(err))
	}
}

func TestReasonOverREST(t *testing.T) {
	for src, want := range map[string]string{
		`{`:                     "Bad JSON: line 1, column 2: expected a key in double quotes, found end of the text",
		`[]`:                    "Bad JSON: line 1, column 1: expected an object, found an array",
		`{"revs_limit":"x"}`:    "line 1, column 15: revs_limit: expected a whole number, found a string",
		`{"foo":1}`:             `JSON Unknown Field: line 1, column 2: foo: unknown key "foo"; the nearest valid key is`,
		`{"users":{}}`:          "line 1, column 2: users: only a config file sets users here; over the API they are created one by one under /{db}/_user/",
		`{"roles":{"r":{}}}`:    "under /{db}/_role/",
		`{"replications":[{}]}`: "replications[0]: replication_id is missing",
		`{"replications":{"a":{"replication_id":"b"}}}`:                    `replications.a: replication_id "b" differs from the key`,
		`{"replications":[{"replication_id":"a"},{"replication_id":"a"}]}`: `replications[1]: replication_id "a" is given twice`,
		`{"replications":{"a":{"query_params":{"chanels":[]}}}}`:           `unknown key "chanels"; the nearest valid key is "channels"`,
		`{"sgreplicate_enabled":"maybe"}`:                                  "expected one of true, false",
		`{"revs_limit":1e400}`:                                             "expected a whole number within its range, found 1e400",
		`{"max_attachment_bytes":99999999999999999999}`:                    "expected a whole number within its range",
	} {
		_, err := ParseDatabase([]byte(src))
		if err == nil || !strings.Contains(tidegate.ErrorReason(err), want) {
			t.Errorf("%s:\ngot  %v\nwant %s", src, err, want)
		}
	}
}

func TestSettingInBothForms(t *testing.T) {
	_, _, err := ParseStartup([]byte(`{"interface":":1","api":{"public_interface":":2"}}`), env())
	if err == nil || !strings.Contains(err.Error(), "interface: the setting is given in its 2.8 form and in its 3.x form") {
		t.Fatal(err)
	}
}

// Every key with one edit is reported, and the key named as nearest is as near as any.
func TestNearestKeyProperty(t *testing.T) {
	keys := keyNames(structFields(reflect.TypeFor[Database]()))
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SampledFrom(keys).Draw(t, "key")
		wrong := mutate(t, key)
		if slices.Contains(keys, wrong) || deprecated[wrong] != nil || wrong == "delta-sync" {
			return
		}
		_, err := ParseDatabase([]byte(`{"` + wrong + `":1}`))
		if err == nil {
			t.Fatalf("%q was accepted", wrong)
		}
		for _, c := range keys {
			if strings.HasSuffix(err.Error(), `the nearest valid key is "`+c+`"`) {
				if editDistance(wrong, c) > 1 {
					t.Fatalf("%q: %v", wrong, err)
				}
				return
			}
		}
		t.Fatalf("no valid key is named: %v", err)
	})
}

// mutate makes one edit in a key.
func mutate(t *rapid.T, key string) string {
	letter := rapid.StringMatching("[a-z_]").Draw(t, "letter")
	i := rapid.IntRange(0, len(key)-1).Draw(t, "at")
	switch rapid.SampledFrom([]string{"insert", "delete", "replace", "swap"}).Draw(t, "edit") {
	case "insert":
		return key[:i] + letter + key[i:]
	case "delete":
		return key[:i] + key[i+1:]
	case "replace":
		return key[:i] + letter + key[i+1:]
	default:
		if i == 0 {
			return key
		}
		return key[:i-1] + key[i:i+1] + key[i-1:i] + key[i+1:]
	}
}

func TestEditDistance(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "", 3}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"kitten", "sitting", 3}, {"ab", "ba", 1}} {
		if got := editDistance(tc.a, tc.b); got != tc.want {
			t.Errorf("%s, %s: %d, want %d", tc.a, tc.b, got, tc.want)
		}
	}
	if got := Nearest("Sync", []string{"scopes", "sync"}); got != "sync" {
		t.Errorf("wrong case: %s", got)
	}
}

// A hostile body costs no more than its length: problems are bounded, and so is the search for duplicates.
func TestProblemsAreBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString("{")
	for i := range 200_000 {
		fmt.Fprintf(&b, `"k%d":0,`, i)
	}
	b.WriteString(`"last":0}`)
	_, err := ParseDatabase([]byte(b.String()))
	if got := len(Problems(err)); got != maxProblems {
		t.Fatalf("%d problems", got)
	}
	if _, err := ParseDatabase(make([]byte, maxConfigBytes+1)); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Fatal(err)
	}
}
