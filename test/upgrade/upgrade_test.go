package upgrade

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/tidegate/tidegate/internal/store/pgstore/pgtest"
	"github.com/tidegate/tidegate/internal/testkit"
)

var (
	makeName     = flag.String("make", "", "`name` of the fixture that TestRecipe makes")
	makeWith     = flag.String("with", "", "`binary` of the version that makes it")
	makePostgres = flag.Bool("postgres", false, "its store is in PostgreSQL")
)

// TestUpgrade: what earlier versions wrote is all there in this one, which goes on writing.
func TestUpgrade(t *testing.T) {
	files, err := filepath.Glob("testdata/*.tar.gz")
	if err != nil || len(files) < 3 {
		t.Fatalf("fixtures %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".tar.gz"), func(t *testing.T) {
			dir := t.TempDir()
			if err := unpack(file, dir); err != nil {
				t.Fatal(err)
			}
			upgrade(t, dir)
		})
	}
}

// TestRecipe makes a fixture: by default with this version, of either store, and opens it. -make and -with make one of an earlier version.
func TestRecipe(t *testing.T) {
	bin, err := testkit.Binary()
	if err != nil {
		t.Fatal(err)
	}
	if *makeName != "" {
		dir := t.TempDir()
		makeFixture(t, *makeWith, dir, *makePostgres)
		if err := pack(dir, filepath.Join("testdata", *makeName+".tar.gz")); err != nil {
			t.Fatal(err)
		}
		return
	}
	for name, postgres := range map[string]bool{"data directory": false, "postgres": true} {
		t.Run(name, func(t *testing.T) {
			dir, other := t.TempDir(), t.TempDir()
			makeFixture(t, bin, dir, postgres)
			file := filepath.Join(t.TempDir(), "fixture.tar.gz")
			if err := errors.Join(pack(dir, file), unpack(file, other)); err != nil {
				t.Fatal(err)
			}
			upgrade(t, other)
		})
	}
}

// makeFixture has a version write below dir.
func makeFixture(t *testing.T, bin, dir string, postgres bool) {
	t.Helper()
	store, server := "", (*pgtest.Server)(nil)
	if postgres {
		server = startPostgres(t)
		store = server.URL()
	}
	g := start(t, bin, filepath.Join(dir, "data"), store)
	session := write(g)
	f := look(g)
	f.Session = session
	if code := g.stop(); code != 0 {
		t.Fatalf("SIGTERM: exit code %d", code)
	}
	text, err := json.MarshalIndent(f, "", " ")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "found.json"), text, 0o600)
	}
	if err == nil && postgres {
		var dump []byte
		if dump, err = server.Dump("tidegate"); err == nil {
			err = os.WriteFile(filepath.Join(dir, "dump.sql"), dump, 0o600)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

func startPostgres(t *testing.T) *pgtest.Server {
	t.Helper()
	server, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// upgrade opens an unpacked fixture with this version and looks at everything.
func upgrade(t *testing.T, dir string) {
	t.Helper()
	bin, err := testkit.Binary()
	if err != nil {
		t.Fatal(err)
	}
	var want found
	text, err := os.ReadFile(filepath.Join(dir, "found.json"))
	if err == nil {
		err = json.Unmarshal(text, &want)
	}
	if err != nil {
		t.Fatal(err)
	}
	data, store, check := filepath.Join(dir, "data"), "", []string{"--data", filepath.Join(dir, "data")}
	if dump, err := os.ReadFile(filepath.Join(dir, "dump.sql")); err == nil {
		server := startPostgres(t)
		if err := server.Load(dump); err != nil {
			t.Fatal(err)
		}
		store, check = server.URL(), []string{"--store", server.URL()}
	} else if !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	g := start(t, bin, data, store)
	got := look(g)
	for _, fault := range compare(&want, got) {
		t.Error(fault)
	}
	if len(want.Keyspaces[notes]) < 40 {
		t.Errorf("the fixture has %d documents", len(want.Keyspaces[notes]))
	}
	logIn(t, g, want.Session)
	writeMore(t, g, &want)
	if code := g.stop(); code != 0 {
		t.Errorf("SIGTERM: exit code %d", code)
	}
	fsck(t, bin, check...)
	g = start(t, bin, data, store) // what this version wrote, too, is read by it
	if after := look(g); len(after.Keyspaces[notes]) != len(want.Keyspaces[notes])+5 {
		t.Errorf("%d documents after a restart", len(after.Keyspaces[notes]))
	}
}

// compare lists what of want is not in got. This version may say more of a thing, not less or anything else.
func compare(want, got *found) (faults []string) {
	for keyspace, docs := range want.Keyspaces {
		for id, w := range docs {
			if g := got.Keyspaces[keyspace][id]; !reflect.DeepEqual(g, w) {
				faults = append(faults, fmt.Sprintf("%s %s: %.600v, want %.600v", keyspace, id, g, w))
			}
			if g, w := got.Sequences[keyspace][id], want.Sequences[keyspace][id]; g != w {
				faults = append(faults, fmt.Sprintf("%s %s: sequence %d, want %d", keyspace, id, g, w))
			}
		}
		if len(got.Keyspaces[keyspace]) != len(docs) {
			faults = append(faults, fmt.Sprintf("%s: %d documents, want %d", keyspace, len(got.Keyspaces[keyspace]), len(docs)))
		}
	}
	for path, thing := range want.Things {
		for name, w := range thing {
			if g := got.Things[path][name]; !reflect.DeepEqual(g, w) {
				faults = append(faults, fmt.Sprintf("%s: %s is %v, want %v", path, name, g, w))
			}
		}
	}
	return faults
}

// logIn: passwords and sessions are good, and users see what they may.
func logIn(t *testing.T, g *gateway, session string) {
	t.Helper()
	for _, c := range []struct {
		who    string
		edit   func(*http.Request)
		status int
		docs   string // one that is seen
		hidden string // one that is not
	}{
		{"alice by password", func(r *http.Request) { r.SetBasicAuth("alice", password) }, 200, "doc-1", "doc-3"},
		{"alice by session", func(r *http.Request) { r.Header.Set("Cookie", "SyncGatewaySession="+session) }, 200, "doc-2", "doc-3"}, // staff: she was hired
		{"carol by password", func(r *http.Request) { r.SetBasicAuth("carol", password) }, 200, "doc-2", "doc-1"},
		{"bob is disabled", func(r *http.Request) { r.SetBasicAuth("bob", password) }, 401, "", ""},
		{"a wrong password", func(r *http.Request) { r.SetBasicAuth("alice", "wrong") }, 401, "", ""},
		{"a made-up session", func(r *http.Request) { r.Header.Set("Cookie", "SyncGatewaySession=0123456789abcdef") }, 401, "", ""},
	} {
		var raw []byte
		status, err := call(http.MethodGet, g.public+"/notes/_changes", nil, &raw, c.edit)
		if err != nil || status != c.status {
			t.Errorf("%s: status %d, %v", c.who, status, err)
			continue
		}
		feed := string(raw)
		if c.docs != "" && !strings.Contains(feed, `"`+c.docs+`"`) || c.hidden != "" && strings.Contains(feed, `"`+c.hidden+`"`) {
			t.Errorf("%s: the feed is %.500s", c.who, feed)
		}
	}
}

// writeMore updates, deletes and makes documents; the feed has exactly these after what was there.
func writeMore(t *testing.T, g *gateway, old *found) {
	t.Helper()
	expect := map[string]bool{}
	for i := 1; i <= 5; i++ {
		id := fmt.Sprintf("doc-%d", i)
		rev := old.Keyspaces[notes][id][0].Rev
		g.must(http.MethodPut, "/notes/"+id, map[string]any{"_rev": rev, "again": true, "channels": []string{"c1"}}, nil)
		g.must(http.MethodPut, fmt.Sprintf("/notes/new-%d", i), map[string]any{"channels": []string{"c1"}}, nil)
		expect[id], expect[fmt.Sprintf("new-%d", i)] = true, true
	}
	g.must(http.MethodDelete, "/notes/doc-8?rev="+old.Keyspaces[notes]["doc-8"][0].Rev, nil, nil)
	expect["doc-8"] = true
	var feed struct {
		Results []struct {
			Seq uint64
			ID  string
		}
	}
	last := old.Last[notes]
	g.must(http.MethodGet, fmt.Sprintf("/notes/_changes?since=%d", last), nil, &feed)
	for _, e := range feed.Results {
		if e.Seq <= last || !expect[e.ID] {
			t.Errorf("the feed has %s at %d after %d", e.ID, e.Seq, last)
		}
		last = e.Seq
		delete(expect, e.ID)
	}
	if len(expect) > 0 {
		t.Errorf("the feed has not %v", expect)
	}
}

// TestCompare: a fixture that lost something is found out.
func TestCompare(t *testing.T) {
	world := func() *found {
		return &found{
			Keyspaces: map[string]map[string][]leaf{"k": {"a": {{Rev: "2-b", History: []string{"b", "a"}, Body: map[string]any{"n": 1.0}, Attachments: map[string]string{"f": "x"}}}}},
			Sequences: map[string]map[string]uint64{"k": {"a": 7}}, Things: map[string]map[string]any{"/u": {"name": "u"}},
		}
	}
	if faults := compare(world(), world()); len(faults) > 0 {
		t.Error(faults)
	}
	for name, plant := range map[string]func(*found){
		"a document":    func(f *found) { delete(f.Keyspaces["k"], "a") },
		"a revision":    func(f *found) { f.Keyspaces["k"]["a"][0].History = []string{"b"} },
		"a branch more": func(f *found) { f.Keyspaces["k"]["a"] = append(f.Keyspaces["k"]["a"], leaf{Rev: "1-z"}) },
		"a body":        func(f *found) { f.Keyspaces["k"]["a"][0].Body = map[string]any{} },
		"an attachment": func(f *found) { f.Keyspaces["k"]["a"][0].Attachments["f"] = "y" },
		"a sequence":    func(f *found) { f.Sequences["k"]["a"] = 8 },
		"a thing":       func(f *found) { delete(f.Things, "/u") },
		"one more":      func(f *found) { f.Keyspaces["k"]["b"] = nil },
	} {
		got := world()
		plant(got)
		if len(compare(world(), got)) == 0 {
			t.Errorf("%s: not found out", name)
		}
	}
}

// pack writes all files below dir into a file.
func pack(dir, file string) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return err
	}
	w := tar.NewWriter(z)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		return err
	}
	return errors.Join(w.Close(), z.Close())
}

// unpack is its reverse. Files are the owner's alone, as a key must be.
func unpack(file, dir string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		if h.Typeflag == tar.TypeDir {
			if err := os.MkdirAll(path, 0o700); err != nil {
				return err
			}
			continue
		}
		body, err := io.ReadAll(r)
		if err == nil {
			err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, body, 0o600))
		}
		if err != nil {
			return err
		}
	}
}
