package gateway

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/store"
)

func TestDatabasesOutliveTheProcess(t *testing.T) {
	e := newEnv(t)
	g := e.open(nil)
	r := create(t, g, "db", `{"revs_limit":7,"password":"pw"}`)
	if err := put(t, r, "doc", `{"a":1}`); err != nil {
		t.Fatal(err)
	}
	_, version := r.Config()
	uuid, epoch, start, cluster := r.ServerUUID(), r.SyncEpoch(), r.InstanceStart(), g.ClusterUUID()
	if len(uuid) != 32 || len(epoch) != 36 || start.IsZero() || len(cluster) != 32 {
		t.Fatalf("ids: %q %q %v %q", uuid, epoch, start, cluster)
	}
	// The database's name in version vectors is its server UUID.
	source := r.DB().Source()
	if id, err := base64.RawStdEncoding.DecodeString(source); err != nil || hex.EncodeToString(id) != uuid {
		t.Errorf("source %q of %s: %v", source, uuid, err)
	}
	e.close(g)

	g = e.open(nil)
	r = get(t, g, "db")
	wantState(t, r, Online)
	wantBody(t, r, "doc", `{"a":1}`)
	cfg, again := r.Config()
	if *cfg.RevsLimit != 7 || cfg.Password.Reveal() != "pw" || again != version {
		t.Errorf("config: %s, version %s, was %s", cfg.Encode(), again, version)
	}
	if r.ServerUUID() != uuid || r.SyncEpoch() != epoch || !r.InstanceStart().Equal(start) || g.ClusterUUID() != cluster || r.DB().Source() != source {
		t.Error("an id changed over a restart")
	}
}

func TestCreateRefuses(t *testing.T) {
	e := newEnv(t)
	g := e.open(nil)
	create(t, g, "db", `{}`)
	for _, tc := range []struct {
		name, cfg string
		code      tidegate.Code
		reason    string
	}{
		{"Db", `{}`, tidegate.Invalid, "Illegal database name: Db"},
		{"db", `{}`, tidegate.Exists, `Duplicate database name "db"`},
		{"other", `{"name":"db"}`, tidegate.Invalid, "the name in the config is not the name in the URL"},
		{"other", `{"revs_limit":0,"javascript_timeout_secs":0}`, tidegate.Invalid, "revs_limit: must be at least 1\njavascript_timeout_secs: must be at least 1"},
		{"other", `{"sync":"function(doc) { if }"}`, tidegate.Invalid, ""},
		{"other", `{"import_filter":"function(doc) { if }"}`, tidegate.Invalid, "import_filter: "},
		{"other", `{"sync":"http://127.0.0.1:1/sync.js"}`, tidegate.Invalid, "sync: fetch script: "},
		{"other", `{"password":"xxxxx"}`, tidegate.Invalid, "password: a masked secret"},
		{"other", `{"oidc":{}}`, tidegate.Invalid, "oidc: is not supported in this version"},
	} {
		_, err := g.Create(t.Context(), tc.name, parse(t, tc.cfg))
		wantCode(t, err, tc.code, tc.reason)
	}
	if names := g.Names(); !slices.Equal(names, []string{"db"}) {
		t.Fatalf("left behind: %v", names)
	}
	create(t, g, "other", `{}`) // the name is free still
	e.close(g)
	if names := e.open(nil).Names(); !slices.Equal(names, []string{"db", "other"}) {
		t.Fatalf("after a restart: %v", names)
	}
}

func TestDeleteKeepsDataForTheSameStorageID(t *testing.T) {
	e := newEnv(t)
	g := e.open(nil)
	r := create(t, g, "db", `{"bucket":"b1"}`)
	if err := put(t, r, "doc", `{"a":1}`); err != nil {
		t.Fatal(err)
	}
	uuid := r.ServerUUID()
	if err := g.Delete(t.Context(), "db", false); err != nil {
		t.Fatal(err)
	}
	_, err := g.Database("db")
	wantCode(t, err, tidegate.NotFound, `no such database "db"`)
	wantCode(t, g.Delete(t.Context(), "db", false), tidegate.NotFound, `no such database "db"`)
	if err := put(t, r, "doc2", `{}`); tidegate.ErrorCode(err) != tidegate.Unavailable {
		t.Fatalf("a deleted database takes writes: %v", err)
	}

	other := create(t, g, "db", `{"bucket":"b2"}`)
	if _, err := read(t, other, "doc"); tidegate.ErrorCode(err) != tidegate.NotFound {
		t.Fatalf("another bucket shows the document: %v", err)
	}
	if err := g.Delete(t.Context(), "db", false); err != nil {
		t.Fatal(err)
	}
	e.close(g)

	g = e.open(nil)
	if len(g.Names()) != 0 {
		t.Fatal("a deleted database is back after a restart")
	}
	r = create(t, g, "db", `{"bucket":"b1"}`)
	wantBody(t, r, "doc", `{"a":1}`)
	if r.ServerUUID() != uuid {
		t.Error("the same data have another id")
	}
}

func TestDeleteWithPurgeDestroys(t *testing.T) {
	e := newEnv(t)
	g := e.open(nil)
	r := create(t, g, "db", `{}`)
	if err := put(t, r, "doc", `{"a":1}`); err != nil {
		t.Fatal(err)
	}
	space := r.definition().Space
	if e.keys(space) == 0 {
		t.Fatal("no rows to destroy")
	}
	gone := e.logs.expect("old data deleted")
	if err := g.Delete(t.Context(), "db", true); err != nil {
		t.Fatal(err)
	}
	await(t, gone, "purge")
	if n := e.keys(space); n != 0 {
		t.Fatalf("%d rows are left", n)
	}
	r = create(t, g, "db", `{}`)
	if _, err := read(t, r, "doc"); tidegate.ErrorCode(err) != tidegate.NotFound {
		t.Fatalf("the document is back: %v", err)
	}
	if r.definition().Space == space {
		t.Error("the storage id is used again")
	}
}

// A purge that a crash interrupted goes on at the next start.
func TestPurgeResumes(t *testing.T) {
	e := newEnv(t)
	const space = store.Space(77)
	err := e.st.Update(t.Context(), func(tx store.Tx) error {
		for i := range 10 {
			if err := tx.Put(store.NewKey(space, store.KindDoc).Collection(0).Name(strings.Repeat("x", i+1)), []byte("v")); err != nil {
				return err
			}
		}
		return tx.Put(purgeKey(space), []byte("db"))
	})
	if err != nil {
		t.Fatal(err)
	}
	gone := e.logs.expect("old data deleted")
	g := e.open(nil)
	await(t, gone, "purge")
	if n := e.keys(space); n != 0 {
		t.Fatalf("%d rows are left", n)
	}
	e.close(g)
	found, err := readStored(t.Context(), e.st, nil)
	if err != nil || len(found.purges) != 0 {
		t.Fatalf("the purge is noted still: %v %v", found.purges, err)
	}
}

// noRanges hides the engine's range delete.
type noRanges struct{ store.Store }

func (s noRanges) Update(ctx context.Context, fn func(store.Tx) error) error {
	return s.Store.Update(ctx, func(tx store.Tx) error { return fn(struct{ store.Tx }{tx}) })
}

func TestPurgeWithoutRangeDelete(t *testing.T) {
	e := newEnv(t)
	const space = store.Space(77)
	err := e.st.Update(t.Context(), func(tx store.Tx) error {
		for i := range 2*purgeBatch + 1 {
			if err := tx.Put(store.NewKey(space, store.KindDoc).Uint64(uint64(i)), []byte("v")); err != nil {
				return err
			}
		}
		return tx.Put(purgeKey(space), nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	e.st = noRanges{e.st}
	gone := e.logs.expect("old data deleted")
	e.open(nil)
	await(t, gone, "purge")
	if n := e.keys(space); n != 0 {
		t.Fatalf("%d rows are left", n)
	}
}

func TestUpdate(t *testing.T) {
	e := newEnv(t)
	g := e.open(nil)
	r := create(t, g, "db", `{"sync":"function(doc) { if (doc.bad) { throw({forbidden: 'old'}); } }"}`)
	_, v1 := r.Config()
	if err := put(t, r, "doc", `{"a":1}`); err != nil {
		t.Fatal(err)
	}
	_, err := update(t, g, "db", "0-stale", `{"revs_limit":9}`)
	wantCode(t, err, tidegate.Exists, "Provided If-Match header does not match current config version")

	v2, err := update(t, g, "db", v1, `{"sync":"function(doc) { if (doc.bad) { throw({forbidden: 'new'}); } }"}`)
	if err != nil || v2 == v1 {
		t.Fatalf("version %s after %s, %v", v2, v1, err)
	}
	wantState(t, r, Online)
	wantBody(t, r, "doc", `{"a":1}`)
	wantCode(t, put(t, r, "x", `{"bad":true}`), tidegate.Forbidden, "new")

	for _, bad := range []string{
		`{"sync":"function(doc) { if }"}`, `{"revs_limit":0}`, `{"nonsense":1}`, `{"name":"db2"}`, `{"bucket":"elsewhere"}`,
		`{"scopes":{"a":{"collections":{"c":{}}},"b":{"collections":{"c":{}}}}}`,
	} {
		if _, err := update(t, g, "db", "", bad); tidegate.ErrorCode(err) != tidegate.Invalid {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if _, v := r.Config(); v != v2 {
		t.Error("a refused change changed the config")
	}
	wantState(t, r, Online)
	wantCode(t, put(t, r, "x", `{"bad":true}`), tidegate.Forbidden, "new")
	e.close(g)
	if _, v := get(t, e.open(nil), "db").Config(); v != v2 {
		t.Errorf("after a restart the version is %s, want %s", v, v2)
	}
}

func TestCollectionsKeepTheirNumbers(t *testing.T) {
	e := newEnv(t)
	g := e.open(nil)
	r := create(t, g, "db", `{"scopes":{"s":{"collections":{"a":{},"b":{}}}}}`)
	collection := func(name string) store.Collection {
		t.Helper()
		id, err := r.DB().Collection("s", name)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	a, b := collection("a"), collection("b")
	if a == 0 || b == 0 || a == b {
		t.Fatalf("numbers %d and %d", a, b)
	}
	if _, err := update(t, g, "db", "", `{"scopes":{"s":{"collections":{"a":null,"c":{}}}}}`); err != nil {
		t.Fatal(err)
	}
	if c := collection("c"); c == a || c == b || collection("b") != b {
		t.Fatalf("c got %d, b is %d", c, collection("b"))
	}
	if _, err := r.DB().Collection("s", "a"); tidegate.ErrorCode(err) != tidegate.NotFound {
		t.Fatal(err)
	}
	if _, err := update(t, g, "db", "", `{"scopes":{"s":{"collections":{"a":{}}}}}`); err != nil {
		t.Fatal(err)
	}
	if collection("a") != a {
		t.Fatalf("a came back as %d, was %d", collection("a"), a)
	}
}

func TestFlush(t *testing.T) {
	e := newEnv(t)
	g := e.open(nil)
	r := create(t, g, "db", `{"revs_limit":7}`)
	if err := put(t, r, "doc", `{"a":1}`); err != nil {
		t.Fatal(err)
	}
	old := r.definition()
	gone := e.logs.expect("old data deleted")
	if err := g.Flush(t.Context(), "db"); err != nil {
		t.Fatal(err)
	}
	await(t, gone, "purge")
	wantState(t, r, Online)
	if _, err := read(t, r, "doc"); tidegate.ErrorCode(err) != tidegate.NotFound {
		t.Fatalf("the document is there still: %v", err)
	}
	if n := e.keys(old.Space); n != 0 {
		t.Errorf("%d rows of the old space are left", n)
	}
	if r.SyncEpoch() == old.SyncEpoch || r.ServerUUID() == old.ServerUUID {
		t.Error("clients cannot tell that the data are others")
	}
	if cfg, v := r.Config(); *cfg.RevsLimit != 7 || v != old.version() {
		t.Error("the config changed")
	}
	if err := put(t, r, "doc", `{"b":1}`); err != nil {
		t.Fatal(err)
	}
	e.close(g)
	wantBody(t, get(t, e.open(nil), "db"), "doc", `{"b":1}`)
}

func TestCheckFindsAllDatabases(t *testing.T) {
	e := newEnv(t)
	g := e.open(nil)
	for _, name := range []string{"a", "b"} {
		if err := put(t, create(t, g, name, `{}`), "doc", `{"a":1}`); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Delete(t.Context(), "b", false); err != nil {
		t.Fatal(err)
	}
	space := get(t, g, "a").definition().Space
	e.close(g)
	check := func(names ...string) []Checked {
		t.Helper()
		all, err := Check(t.Context(), e.st, e.blobs, database.CheckOptions{}, names...)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	all := check()
	if len(all) != 2 || all[0].Name != "a" || all[0].Detached || all[1].Name != "b" || !all[1].Detached {
		t.Fatalf("%+v", all)
	}
	for _, c := range all {
		if !c.Report.OK() || c.Report.Documents != 1 {
			t.Errorf("%s: %s %v", c.Name, c.Report, c.Report.Problems)
		}
	}
	if all := check("b"); len(all) != 1 || all[0].Name != "b" {
		t.Fatalf("%+v", all)
	}
	_, err := Check(t.Context(), e.st, e.blobs, database.CheckOptions{}, "c")
	wantCode(t, err, tidegate.NotFound, `no such database "c"`)

	// A planted fault: a document record without its index entry.
	err = e.st.Update(t.Context(), func(tx store.Tx) error {
		return scan(tx, store.NewKey(space, store.KindChannel), func(rest, _ []byte) error {
			return tx.Delete(append(store.NewKey(space, store.KindChannel), rest...))
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if all := check("a"); all[0].Report.OK() {
		t.Fatal("the missing index entry was not found")
	}
}

func TestForeignDefinitionIsRefusedLoudly(t *testing.T) {
	for name, value := range map[string]string{
		"not JSON":     "garbage",
		"newer format": `{"format":3,"name":"db","config":{}}`,
		"bad config":   `{"format":1,"name":"db","config":{"nonsense":1}}`,
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			err := e.st.Update(t.Context(), func(tx store.Tx) error { return tx.Put(definitionKey("db", "db"), []byte(value)) })
			if err != nil {
				t.Fatal(err)
			}
			_, err = Open(t.Context(), Options{Store: e.st, Blobs: e.blobs})
			if tidegate.ErrorCode(err) != tidegate.Corrupt {
				t.Error(err)
			}
		})
	}
}

func TestVersionsDiffer(t *testing.T) {
	now := time.Now()
	d := newDefinition("db", 1, now).withConfig(parse(t, `{"revs_limit":5}`), now)
	seen := map[string]bool{d.version(): true}
	for _, cfg := range []string{`{"revs_limit":6}`, `{"revs_limit":5}`} {
		d = d.withConfig(parse(t, cfg), now)
		if seen[d.version()] {
			t.Fatalf("version %s again", d.version())
		}
		seen[d.version()] = true
	}
}
