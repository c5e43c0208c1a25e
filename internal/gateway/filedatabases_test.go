package gateway

import (
	"slices"
	"strings"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/cluster"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/job"
)

// The later edit wins, wherever it was made.
func TestFileAndStoredConfigs(t *testing.T) {
	e := newEnv(t)
	const v1, v2 = `{"db":{"revs_limit":5}}`, `{"db":{"revs_limit":6}}`
	revs := func(g *Gateway) int {
		t.Helper()
		cfg, _ := get(t, g, "db").Config()
		return *cfg.RevsLimit
	}
	g := e.open(fileDBs(t, v1))
	if err := put(t, get(t, g, "db"), "doc", `{"a":1}`); err != nil || revs(g) != 5 {
		t.Fatal(err, revs(g))
	}
	if _, err := update(t, g, "db", "", `{"revs_limit":7}`); err != nil {
		t.Fatal(err)
	}
	e.close(g)

	g = e.open(fileDBs(t, v1)) // the file is the same: the change over the API stays
	if revs(g) != 7 {
		t.Fatalf("revs_limit %d", revs(g))
	}
	e.close(g)

	g = e.open(fileDBs(t, v2)) // the file was edited
	if revs(g) != 6 {
		t.Fatalf("revs_limit %d", revs(g))
	}
	wantBody(t, get(t, g, "db"), "doc", `{"a":1}`)
	if err := g.Delete(t.Context(), "db", false); err != nil {
		t.Fatal(err)
	}
	e.close(g)

	g = e.open(fileDBs(t, v2)) // deleted over the API since
	if len(g.Names()) != 0 || !e.logs.has("stays deleted") {
		t.Fatal(g.Names())
	}
	e.close(g)

	g = e.open(fileDBs(t, v1)) // edited after that
	wantBody(t, get(t, g, "db"), "doc", `{"a":1}`)
	create(t, g, "api", `{}`)
	e.close(g)

	g = e.open(nil) // no longer in a file; the one made over the API stays
	if !slices.Equal(g.Names(), []string{"api"}) {
		t.Fatal(g.Names())
	}
	e.close(g)

	g = e.open(fileDBs(t, v1)) // in the file again, as it was
	wantBody(t, get(t, g, "db"), "doc", `{"a":1}`)
	if revs(g) != 5 {
		t.Fatalf("revs_limit %d", revs(g))
	}
}

func TestFileWithAnotherBucket(t *testing.T) {
	e := newEnv(t)
	g := e.open(fileDBs(t, `{"db":{"bucket":"one"}}`))
	if err := put(t, get(t, g, "db"), "doc", `{"a":1}`); err != nil {
		t.Fatal(err)
	}
	e.close(g)
	g = e.open(fileDBs(t, `{"db":{"bucket":"two"}}`))
	if _, err := read(t, get(t, g, "db"), "doc"); tidegate.ErrorCode(err) != tidegate.NotFound {
		t.Fatal(err)
	}
	e.close(g)
	wantBody(t, get(t, e.open(fileDBs(t, `{"db":{"bucket":"one"}}`)), "db"), "doc", `{"a":1}`)
}

func TestDisablePersistentConfig(t *testing.T) {
	e := newEnv(t)
	create(t, e.open(nil), "stored", `{}`)
	startup := &config.Startup{DisablePersistentConfig: true}
	files := fileDBs(t, `{"db":{"revs_limit":5}}`)
	g := e.open(files, startup)
	if g.Persistent() || !slices.Equal(g.Names(), []string{"db"}) {
		t.Fatal(g.Names())
	}
	if err := put(t, get(t, g, "db"), "doc", `{"a":1}`); err != nil {
		t.Fatal(err)
	}
	if _, err := update(t, g, "db", "", `{"revs_limit":9}`); err != nil {
		t.Fatal(err)
	}
	create(t, g, "made", `{}`)
	e.close(g)

	g = e.open(files, startup)
	r := get(t, g, "db")
	if cfg, _ := r.Config(); *cfg.RevsLimit != 5 || !slices.Equal(g.Names(), []string{"db"}) {
		t.Fatalf("%d %v", *cfg.RevsLimit, g.Names())
	}
	wantBody(t, r, "doc", `{"a":1}`)
	e.close(g)
	if names := e.open(nil).Names(); !slices.Contains(names, "stored") {
		t.Fatalf("the stored database is lost: %v", names)
	}
}

func TestBadFileDatabasesAreAllReported(t *testing.T) {
	e := newEnv(t)
	files := fileDBs(t, `{"b":{"revs_limit":0,"users":{"x":{"password":"a"}}},"a":{"guest":{"admin_channels":["*"]}},"C":{}}`)
	_, err := Open(t.Context(), Options{Store: e.st, Blobs: e.blobs, FileDatabases: files})
	if err == nil {
		t.Fatal("opened")
	}
	for _, want := range []string{
		"databases.a.guest.admin_channels: ", "databases.b.revs_limit: must be at least 1", "databases.b.users.x.password: must have at least 3",
		"Illegal database name: C",
	} {
		if !containsLine(err.Error(), want) {
			t.Errorf("%q is missing in\n%v", want, err)
		}
	}
}

// A file that one node had for itself is the same file when the node joins others: what was changed over the API since stays, and what is
// the node's own is taken out of what all share.
func TestFileOfANodeThatJoins(t *testing.T) {
	e := newEnv(t)
	const section = `{"db":{"revs_limit":30,"sgreplicate_enabled":"false","replications":{"r":{"remote":"http://h/d","direction":"pull"}}}}`
	g := e.open(fileDBs(t, section))
	if _, err := update(t, g, "db", "", `{"revs_limit":40}`); err != nil {
		t.Fatal(err)
	}
	e.close(g)
	join := func(section string) *Gateway {
		t.Helper()
		nodes, err := cluster.Join(t.Context(), e.st, cluster.Options{NodeID: "node"})
		if err != nil {
			t.Fatal(err)
		}
		g, err := Open(t.Context(), Options{Store: e.st, Blobs: e.blobs, NodeID: "node", FileDatabases: fileDBs(t, section), Cluster: nodes,
			NewReplicator: (&fakes{made: map[string][]*fake{}}).make})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.close(g) })
		return g
	}
	g = join(section)
	if cfg, _ := get(t, g, "db").Config(); *cfg.RevsLimit != 40 {
		t.Errorf("%s", cfg.Masked())
	}
	e.close(g)
	// The file is edited: what is for all changes for all, what is the node's own does not.
	g = join(strings.Replace(section, `"revs_limit":30`, `"revs_limit":50`, 1))
	r := get(t, g, "db")
	if cfg, _ := r.Config(); *cfg.RevsLimit != 50 || cfg.SGReplicateEnabled != nil || cfg.Replications != nil {
		t.Errorf("%s", cfg.Masked())
	}
	if o := r.Replications().offer(r.definition()); o.Runs || o.Any || !slices.Equal(o.Configured, []string{"r"}) {
		t.Errorf("%+v", o)
	}
	if s, err := r.Replications().Status("r"); err != nil || s.State != job.Unassigned {
		t.Errorf("%+v, %v", s, err)
	}
}
