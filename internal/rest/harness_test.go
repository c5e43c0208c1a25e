package rest

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/gateway"
	"github.com/tidegate/tidegate/internal/store/blob"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

// rig is a gateway with one database, "db", whose public and admin handlers are called directly or, where a
// connection matters, over the loopback.
type rig struct {
	t       testing.TB
	gateway *gateway.Gateway
	server  *Server
	public  http.Handler
	admin   http.Handler
}

// rigOptions are what tests vary.
type rigOptions struct {
	database string // config of "db"; "{}" if empty
	startup  string // config of the process
	limits   Limits
	log      *slog.Logger
	onDisk   bool // the store as it is in production
	// replicate is in place of the replication protocol; readAll if nil.
	replicate ReplicateFunc
	// newReplicator runs replications with other gateways; one that connects at once and copies nothing if nil.
	newReplicator gateway.NewReplicatorFunc
}

// newRig starts a gateway in memory. The guest is enabled and sees everything unless the config says more.
func newRig(t testing.TB, o rigOptions) *rig {
	t.Helper()
	open := pebblestore.OpenMem
	if o.onDisk {
		open = func() (*pebblestore.Store, error) { return pebblestore.Open(t.TempDir(), pebblestore.Options{}) }
	}
	st, err := open()
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := blob.OpenFiles(t.TempDir(), blob.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if o.startup == "" {
		o.startup = "{}"
	}
	startup, _, err := config.ParseStartup([]byte(o.startup), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	if o.log == nil {
		o.log = slog.New(slog.DiscardHandler)
	}
	if o.newReplicator == nil {
		o.newReplicator = newIdleReplicator
	}
	g, err := gateway.Open(t.Context(), gateway.Options{
		Store: st, Blobs: blobs, NodeID: "node", Startup: startup, Logger: o.log, NewReplicator: o.newReplicator,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- g.Run(ctx) }()
	t.Cleanup(func() {
		if err := g.Close(context.Background()); err != nil {
			t.Error("close gateway:", err)
		}
		cancel()
		<-ran
		if err := st.Close(); err != nil {
			t.Error("close store:", err)
		}
	})
	if o.replicate == nil {
		o.replicate = readAll
	}
	s := NewServer(Deps{
		Gateway: g, Config: startup, Logger: o.log, Version: "test", Limits: o.limits, Replicate: o.replicate,
		AdminDeps: AdminDeps{APIKeys: access.NewAPIKeys(st, g.Passwords()), AppDatabase: appOfDB},
	})
	r := &rig{t: t, gateway: g, server: s, public: s.Public(), admin: s.Admin()}
	if o.database == "" {
		o.database = `{}`
	}
	r.create("db", o.database)
	return r
}

// readAll stands in for the replication protocol: it reads until the connection is over or must end.
func readAll(ctx context.Context, conn net.Conn, _ Replication) error {
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	_, _ = io.Copy(io.Discard, conn)
	return nil
}

// create makes a database.
func (r *rig) create(name, cfg string) {
	r.t.Helper()
	db, err := config.ParseDatabase([]byte(cfg))
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.gateway.Create(r.t.Context(), name, db); err != nil {
		r.t.Fatal(err)
	}
}

// openGuest is the config of a database that everybody may read and write.
const openGuest = `{"guest":{"disabled":false,"admin_channels":["*"]},"unsupported":{"allow_guest_star":true}}`

// reply is an answer.
type reply struct {
	t      testing.TB
	status int
	header http.Header
	body   string
}

// do sends a request to a handler. Header lines are "Name: value".
func (r *rig) do(h http.Handler, method, target, body string, header ...string) reply {
	r.t.Helper()
	req := httptest.NewRequestWithContext(r.t.Context(), method, target, strings.NewReader(body))
	if body == "" {
		req.Body, req.ContentLength = http.NoBody, 0
	}
	req.Host = "localhost"
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return reply{r.t, w.Code, w.Header(), w.Body.String()}
}

// raw sends a request to the admin listener whose URL need not be one.
func (r *rig) raw(t testing.TB, method, target, body string, header ...string) reply {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), method, "/", strings.NewReader(body))
	req.RequestURI = target
	if _, query, ok := strings.Cut(target, "?"); ok {
		req.URL.RawQuery = query
	}
	req.Host = "localhost"
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	r.admin.ServeHTTP(w, req)
	return reply{t, w.Code, w.Header(), w.Body.String()}
}

// a sends to the admin listener.
func (r *rig) a(method, target, body string, header ...string) reply {
	r.t.Helper()
	return r.do(r.admin, method, target, body, header...)
}

// p sends to the public listener.
func (r *rig) p(method, target, body string, header ...string) reply {
	r.t.Helper()
	return r.do(r.public, method, target, body, header...)
}

// want checks status and body. A body that is JSON is compared as JSON; REV in want stands for any revision.
func (a reply) want(status int, body string) reply {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("status %d, want %d; body %s", a.status, status, a.body)
	}
	if !sameBody(a.body, body) {
		a.t.Fatalf("body\n %s\nwant\n %s", a.body, body)
	}
	return a
}

// is checks the status alone.
func (a reply) is(status int) reply {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("status %d, want %d; body %s", a.status, status, a.body)
	}
	return a
}

// fails checks that the answer is an error of this status and reason, in form.
func (a reply) fails(status int, reason string) {
	a.t.Helper()
	a.is(status)
	var e struct{ Error, Reason string }
	dec := json.NewDecoder(strings.NewReader(a.body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		a.t.Fatalf("error body %q: %v", a.body, err)
	}
	if e.Reason != reason && (!strings.HasSuffix(reason, "…") || !strings.HasPrefix(e.Reason, strings.TrimSuffix(reason, "…"))) {
		a.t.Fatalf("reason %q, want %q", e.Reason, reason)
	}
	if e.Error != errorName(status) {
		a.t.Fatalf("error %q for status %d", e.Error, status)
	}
	if ct := a.header.Get("Content-Type"); ct != jsonType {
		a.t.Fatalf("error with Content-Type %q", ct)
	}
}

// has checks a header.
func (a reply) has(name, value string) reply {
	a.t.Helper()
	if got := a.header.Get(name); got != value {
		a.t.Fatalf("%s is %q, want %q", name, got, value)
	}
	return a
}

// member returns a top-level member of a JSON body as text.
func (a reply) member(name string) string {
	a.t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(a.body), &m); err != nil {
		a.t.Fatalf("body %q: %v", a.body, err)
	}
	s, ok := m[name].(string)
	if !ok {
		a.t.Fatalf("no text %q in %s", name, a.body)
	}
	return s
}

// rev is the revision a write answered.
func (a reply) rev() string { a.t.Helper(); return a.member("rev") }

// sameBody compares bodies as JSON, numbers by their digits. The string "REV" in want matches any revision,
// null anything.
func sameBody(got, want string) bool {
	if got == want {
		return true
	}
	g, err1 := decodeJSON(got)
	w, err2 := decodeJSON(want)
	return err1 == nil && err2 == nil && sameJSON(g, w)
}

func decodeJSON(s string) (any, error) {
	dec := json.NewDecoder(strings.NewReader(s))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, io.ErrUnexpectedEOF
	}
	return v, nil
}

func sameJSON(got, want any) bool {
	switch w := want.(type) {
	case nil:
		return true
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok || len(g) != len(w) {
			return false
		}
		for k, v := range w {
			if gv, ok := g[k]; !ok || !sameJSON(gv, v) {
				return false
			}
		}
		return true
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return false
		}
		for i := range w {
			if !sameJSON(g[i], w[i]) {
				return false
			}
		}
		return true
	case string:
		g, ok := got.(string)
		return ok && (g == w || (w == "REV" && strings.Contains(g, "-")))
	}
	return got == want
}

// put writes a document as admin and returns its revision.
func (r *rig) put(id, body string) string {
	r.t.Helper()
	return r.a("PUT", "/db/"+id, body).is(201).rev()
}

// serveLoopback serves a handler on the loopback and returns its base URL.
func (r *rig) serveLoopback(h http.Handler) *httptest.Server {
	srv := httptest.NewServer(h)
	r.t.Cleanup(srv.Close)
	return srv
}

// lines reads a response line by line.
func lines(body io.Reader) *bufio.Reader { return bufio.NewReader(body) }
