package gateway

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/jsondoc"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/blob"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

// env is a store that gateways are opened on, one after the other.
type env struct {
	t     *testing.T
	st    store.Store
	blobs blob.Store
	logs  *logs
}

func newEnv(t *testing.T) *env {
	t.Helper()
	t.Parallel()
	st, err := pebblestore.OpenMem()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	blobs, err := blob.OpenFiles(t.TempDir(), blob.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &env{t, st, blobs, &logs{waits: map[string]chan struct{}{}}}
}

// open opens a gateway; it is closed at the end of the test at the latest.
func (e *env) open(files map[string]*config.Database, startup ...*config.Startup) *Gateway {
	e.t.Helper()
	s := &config.Startup{}
	if len(startup) > 0 {
		s = startup[0]
	}
	cheapest := 4
	s.Auth.BcryptCost = &cheapest
	g, err := Open(e.t.Context(), Options{
		Store: e.st, Blobs: e.blobs, NodeID: "node", Startup: s, FileDatabases: files, Logger: slog.New(e.logs),
	})
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { e.close(g) })
	return g
}

func (e *env) close(g *Gateway) {
	e.t.Helper()
	if err := g.Close(context.Background()); err != nil {
		e.t.Error(err)
	}
}

// logs is a log handler that lets a test wait for a message.
type logs struct {
	mu    sync.Mutex
	lines []string
	waits map[string]chan struct{}
}

func (l *logs) Enabled(context.Context, slog.Level) bool { return true }
func (l *logs) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logs) WithGroup(string) slog.Handler            { return l }

func (l *logs) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := r.Message
	r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	l.lines = append(l.lines, line)
	if c := l.waits[r.Message]; c != nil {
		close(c)
		delete(l.waits, r.Message)
	}
	return nil
}

// expect returns a channel that is closed when the message is logged next.
func (l *logs) expect(message string) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := make(chan struct{})
	l.waits[message] = c
	return c
}

func (l *logs) has(part string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(strings.Join(l.lines, "\n"), part)
}

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

func await(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("no %s", what)
	}
}

func parse(t *testing.T, src string) *config.Database {
	t.Helper()
	cfg, err := config.ParseDatabase([]byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// fileDBs reads the databases of a config file.
func fileDBs(t *testing.T, src string) map[string]*config.Database {
	t.Helper()
	_, dbs, err := config.ParseStartup([]byte(`{"databases":`+src+`}`), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return dbs
}

func create(t *testing.T, g *Gateway, name, cfg string) *Running {
	t.Helper()
	if _, err := g.Create(t.Context(), name, parse(t, cfg)); err != nil {
		t.Fatal(err)
	}
	return get(t, g, name)
}

func get(t *testing.T, g *Gateway, name string) *Running {
	t.Helper()
	r, err := g.Database(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// update changes a config by a merge patch.
func update(t *testing.T, g *Gateway, name, ifMatch, patch string) (string, error) {
	t.Helper()
	return g.Update(t.Context(), name, ifMatch, func(old *config.Database) (Change, error) {
		cfg, err := old.Merge([]byte(patch))
		return Change{Config: cfg, OfflineGiven: strings.Contains(patch, `"offline"`)}, err
	})
}

// put writes a document.
func put(t *testing.T, r *Running, id, body string) error {
	t.Helper()
	db, _, release, err := r.Acquire(t.Context())
	if err != nil {
		return err
	}
	defer release()
	return putIn(t, db, id, body)
}

func putIn(t *testing.T, db *database.Database, id, body string) error {
	t.Helper()
	doc, err := jsondoc.Split([]byte(body), jsondoc.Limits{}, false)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Admin(0).Put(t.Context(), &database.Write{ID: id, Body: doc.Body, NewEdits: true})
	return err
}

// read reads a document's body.
func read(t *testing.T, r *Running, id string) (string, error) {
	t.Helper()
	db, _, release, err := r.Acquire(t.Context())
	if err != nil {
		return "", err
	}
	defer release()
	doc, err := db.Admin(0).Get(t.Context(), id, database.GetOptions{})
	if err != nil {
		return "", err
	}
	return string(doc.Body), nil
}

func wantBody(t *testing.T, r *Running, id, want string) {
	t.Helper()
	if got, err := read(t, r, id); err != nil || got != want {
		t.Fatalf("%s/%s: %s, %v; want %s", r.Name(), id, got, err, want)
	}
}

func wantCode(t *testing.T, err error, code tidegate.Code, reason string) {
	t.Helper()
	if err == nil || tidegate.ErrorCode(err) != code || !strings.Contains(tidegate.ErrorReason(err), reason) {
		t.Fatalf("got %v (%s); want %s %q", err, tidegate.ErrorCode(err), code, reason)
	}
}

func wantState(t *testing.T, r *Running, want State) {
	t.Helper()
	if got := r.State(); got != want {
		t.Fatalf("%s is %s, want %s", r.Name(), got, want)
	}
}

// keys counts the rows of a space, but for the engine's own, which may note that the sequence is 0 again.
func (e *env) keys(space store.Space) int {
	e.t.Helper()
	n := 0
	err := e.st.View(e.t.Context(), func(r store.Reader) error {
		n = 0
		return scan(r, store.SpaceKey(space), func(rest, _ []byte) error {
			if store.Kind(rest[0]) != store.KindSequence {
				n++
			}
			return nil
		})
	})
	if err != nil {
		e.t.Fatal(err)
	}
	return n
}
