package archtest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// levels is the house (design.md): a package may import packages of lower levels, and every package may import
// the root package. Nothing goes up or sideways, so that each package can be read, tested and replaced with
// only what is below it in mind.
var levels = map[string]int{
	"":                   0, // the vocabulary
	"internal/jsondoc":   0,
	"internal/blip":      0,
	"internal/websocket": 0,
	"internal/delta":     0,
	"internal/linediff":  0,

	"internal/store":      1,
	"internal/script":     1,
	"internal/config":     1,
	"internal/telemetry":  1,
	"internal/devicesync": 1,

	"internal/changes":           2,
	"internal/access":            2,
	"internal/job":               2,
	"internal/cluster":           2,
	"internal/store/blob":        2,
	"internal/store/archive":     3,
	"internal/store/move":        4,
	"internal/store/pebblestore": 2,
	"internal/store/pgstore":     2,

	"internal/database":    3,
	"internal/clustersync": 3,

	"internal/replicate":           4, // one of its ends is a database
	"internal/clustersync/mapping": 4,

	"internal/gateway":                    5,
	"internal/clustersync/mongocluster":   5,
	"internal/clustersync/gatewaycluster": 5,

	"internal/rest":        6,
	"internal/console":     6,
	"internal/appservices": 6,
	"internal/bench":       6,

	"cmd/tidegate": 7,
}

// onlyTests are packages that help tests. They may import anything, and only tests import them.
var onlyTests = []string{"internal/testkit", "internal/store/storetest", "internal/store/pgstore/pgtest", "internal/clustersync/clustertest",
	"internal/clustersync/mongocluster/", "internal/archtest", "test/"}

// knows lists packages that know less of ours than their level allows.
var knows = map[string]struct {
	only []string
	why  string
}{
	"internal/telemetry": {[]string{""}, "telemetry is wired by the command, which knows what is measured"},
	// The framing is part of the API: a client of its own would be measured with it.
	"internal/bench":   {[]string{"internal/blip", "internal/websocket"}, "the load tool drives any server with this API, so it knows only the API"},
	"internal/console": {[]string{"", "internal/linediff"}, "the console speaks only to the REST API"},
	"internal/clustersync/gatewaycluster": {[]string{"", "internal/clustersync", "internal/clustersync/mapping", "internal/jsondoc"},
		"a tidegate cluster is reached over its REST API, like any other"},
}

// reserved says who may import what; of several prefixes the longest counts.
var reserved = []struct {
	imports string // a path or the beginning of one
	by      []string
	tests   bool // tests anywhere may import it as well
	why     string
}{
	{module + "/internal/store/pebblestore", []string{"cmd/tidegate", "internal/testkit", "test/interop/aged"}, true, "only the command chooses the store"},
	{module + "/internal/store/pgstore", []string{"cmd/tidegate", "internal/testkit"}, true, "only the command chooses the store"},
	{"github.com/cockroachdb/pebble", []string{"internal/store/pebblestore"}, false, "an engine stays behind the store contract"},
	{"github.com/cockroachdb/pebble/v2/vfs", []string{"internal/store/pebblestore", "internal/store/blob", "internal/testkit"}, true,
		"the file system seam is for what writes files, and for tests that crash it"},
	{"github.com/jackc/pgx", []string{"internal/store/pgstore"}, false, "an engine stays behind the store contract"},
	{"github.com/dop251/goja", []string{"internal/script"}, false, "the JavaScript engine is behind the script package"},
	{"modernc.org/quickjs", []string{"internal/script"}, false, "the JavaScript engine is behind the script package"},
	{"modernc.org/libquickjs", []string{"internal/script"}, false, "the JavaScript engine is behind the script package"},
	{"go.mongodb.org/mongo-driver", []string{"internal/clustersync/mongocluster", "internal/clustersync/mongocluster/", "test/"}, false, "a cluster's driver is behind the cluster contract"},
	{"go.mongodb.org/mongo-driver/v2/bson", []string{"internal/clustersync", "internal/clustersync/", "cmd/tidegate", "test/"}, true,
		"BSON is the language of cluster sync and of nothing else"},
	{"testing", []string{"internal/testkit", "internal/store/storetest", "internal/clustersync/clustertest", "internal/clustersync/mongocluster/"}, true, "what is shipped must not depend on the testing package"},
	{"pgregory.net/rapid", []string{"internal/testkit", "internal/store/storetest"}, true, "what is shipped must not depend on test tools"},
	{"log", nil, false, "logs go through log/slog"},
	{"log/slog", []string{"cmd/", "internal/"}, true, "the vocabulary does no I/O"},
	{"unsafe", []string{"internal/script"}, false, "there is no need for it"}, // script reaches one counter of its engine
}

// breaches returns what is wrong with a file's imports.
func breaches(s source) []string {
	var out []string
	helper := hasAny(s.pkg, onlyTests)
	level, known := levels[s.pkg]
	if !known && !helper {
		return []string{fmt.Sprintf("%s: package %q has no level in the table of internal/archtest", s.path, s.pkg)}
	}
	for i, imported := range s.imports {
		say := func(format string, args ...any) {
			out = append(out, fmt.Sprintf("%s imports %q: ", s.path, imported)+fmt.Sprintf(format, args...))
		}
		full := imported
		if s.ours[i] {
			full = strings.TrimSuffix(module+"/"+imported, "/")
		}
		if by, tests, why, ok := reservedFor(full); ok && (!tests || !s.test) && !hasAny(s.pkg, by) {
			say("%s", why)
		}
		switch {
		case s.test || helper:
		case s.ours[i] && hasAny(imported, onlyTests):
			say("only tests may")
		case s.ours[i] && imported != "" && levels[imported] >= level:
			say("imports go down only: level %d to %d", level, levels[imported])
		case s.ours[i] && imported == "" && s.pkg == "":
			say("a package cannot import itself")
		case s.pkg == "" && (s.ours[i] || strings.Contains(firstElement(imported), ".")):
			say("the vocabulary imports the standard library only")
		case s.pkg == "" && slices.Contains([]string{"os", "net", "net/http", "io/fs", "os/exec", "syscall"}, imported):
			say("the vocabulary does no I/O")
		}
		if k, ok := knows[s.pkg]; ok && !s.test && s.ours[i] && !slices.Contains(k.only, imported) {
			say("%s", k.why)
		}
	}
	return out
}

// reservedFor finds the rule for an import.
func reservedFor(full string) (by []string, tests bool, why string, ok bool) {
	longest := -1
	for _, r := range reserved {
		if (full == r.imports || strings.HasPrefix(full, r.imports+"/")) && len(r.imports) > longest {
			longest, by, tests, why, ok = len(r.imports), r.by, r.tests, r.why, true
		}
	}
	return by, tests, why, ok
}

// hasAny reports whether pkg is one of the list, or below one that ends with a slash.
func hasAny(pkg string, list []string) bool {
	return slices.ContainsFunc(list, func(p string) bool {
		return pkg == p || (strings.HasSuffix(p, "/") && strings.HasPrefix(pkg, p))
	})
}

func firstElement(p string) string {
	first, _, _ := strings.Cut(p, "/")
	return first
}

func TestImports(t *testing.T) {
	for _, s := range sources(t) {
		for _, breach := range breaches(s) {
			t.Error(breach)
		}
	}
}

// TestImportsCatches plants a breach of each rule.
func TestImportsCatches(t *testing.T) {
	ours := func(p string) string { return strings.TrimSuffix(module+"/"+p, "/") }
	for _, c := range []struct {
		file, imports string
		want          string // part of the message; "" if there is none
	}{
		{"internal/rest/a.go", ours("internal/gateway"), ""},
		{"internal/rest/a.go", ours(""), ""},
		{"internal/rest/a.go", "github.com/other/thing", ""},
		{"internal/store/store.go", ours("internal/database"), "level 1 to 3"},
		{"internal/changes/a.go", ours("internal/access"), "level 2 to 2"},
		{"internal/changes/a_test.go", ours("internal/access"), ""},
		{"internal/jsondoc/a.go", ours("internal/delta"), "level 0 to 0"},
		{"internal/jsondoc/a.go", ours(""), ""},
		{"revid.go", ours("internal/jsondoc"), "level 0 to 0"},
		{"revid.go", "github.com/other/thing", "standard library only"},
		{"revid.go", "golang.org/x/text", "standard library only"},
		{"revid.go", "crypto/md5", ""},
		{"revid.go", "os", "no I/O"},
		{"revid.go", "log/slog", "no I/O"},
		{"revid_test.go", ours("internal/jsondoc"), ""},
		{"internal/database/a.go", ours("internal/store/pebblestore"), "only the command"},
		{"internal/database/a_test.go", ours("internal/store/pebblestore"), ""},
		{"internal/testkit/a.go", ours("internal/store/pebblestore"), ""},
		{"cmd/tidegate/a.go", ours("internal/store/pebblestore"), ""},
		{"cmd/tidegate/a.go", "github.com/cockroachdb/pebble/v2", "behind the store contract"},
		{"internal/database/a_test.go", "github.com/cockroachdb/pebble/v2", "behind the store contract"},
		{"internal/database/a_test.go", "github.com/cockroachdb/pebble/v2/vfs", ""},
		{"internal/database/a.go", "github.com/cockroachdb/pebble/v2/vfs", "file system seam"},
		{"internal/store/pebblestore/a.go", "github.com/cockroachdb/pebble/v2/sstable", ""},
		{"internal/database/a.go", "github.com/dop251/goja", "behind the script package"},
		{"internal/script/a.go", "github.com/dop251/goja/parser", ""},
		{"internal/rest/a.go", "modernc.org/quickjs", "behind the script package"},
		{"internal/clustersync/a.go", "go.mongodb.org/mongo-driver/v2/bson", ""},
		{"internal/clustersync/a.go", "go.mongodb.org/mongo-driver/v2/mongo", "behind the cluster contract"},
		{"internal/database/a.go", "go.mongodb.org/mongo-driver/v2/bson", "language of cluster sync"},
		{"internal/rest/a.go", "testing", "testing package"},
		{"internal/rest/a.go", "testing/synctest", "testing package"},
		{"internal/store/storetest/a.go", "testing", ""},
		{"internal/rest/a.go", ours("internal/testkit"), "only tests may"},
		{"internal/rest/a.go", ours("internal/store/storetest"), "only tests may"},
		{"internal/rest/a_test.go", ours("internal/testkit"), ""},
		{"internal/telemetry/a.go", ours("internal/jsondoc"), "wired by the command"},
		{"internal/telemetry/a.go", ours(""), ""},
		{"internal/bench/a.go", ours(""), "knows only the API"},
		{"internal/bench/a.go", ours("internal/replicate"), "knows only the API"},
		{"internal/bench/a.go", ours("internal/blip"), ""},
		{"internal/rest/a.go", "log", "log/slog"},
		{"internal/rest/a.go", "unsafe", "no need"},
		{"internal/new/a.go", "fmt", "no level"},
		{"test/chaos/a.go", "fmt", ""},
	} {
		s, err := parse(c.file, []byte(fmt.Sprintf("package x\nimport _ %q\n", c.imports)))
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(breaches(s), "\n")
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s imports %s: got %q, want %q", c.file, c.imports, got, c.want)
		}
	}
}
