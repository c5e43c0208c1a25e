package console_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/appservices"
	"github.com/tidegate/tidegate/internal/cluster"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/console"
	"github.com/tidegate/tidegate/internal/gateway"
	"github.com/tidegate/tidegate/internal/replicate"
	"github.com/tidegate/tidegate/internal/rest"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/blob"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
	"github.com/tidegate/tidegate/internal/telemetry"
	"github.com/tidegate/tidegate/internal/testkit"
)

// site is a gateway in memory with its console, on a loopback port that can be given up and taken again.
type site struct {
	t       testing.TB
	gateway *gateway.Gateway
	admin   http.Handler // the admin API, unguarded
	apps    http.Handler // the App Services Admin API
	console *console.Console
	clock   *clock
	log     *slog.Logger
	logins  *testLogins
	address string
	server  *http.Server
}

// clock is the time of the console and the gateway; it can be put forward.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// newSite starts one. The administrator is "admin" with the password "correct horse"; "reader" may only read, and
// "worlds" may do everything in the database "world" and nothing else. With joins it is one of several nodes.
func newSite(t testing.TB, joins ...func(store.Store) *cluster.Cluster) *site {
	t.Helper()
	// Large tables in memory: with the race detector the engine is slow at reading those that it has written out.
	st, err := pebblestore.Open("data", pebblestore.Options{FS: vfs.NewMem(), MemTableBytes: 64 << 20, MinFreeBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := blob.OpenFiles(t.TempDir(), blob.Options{})
	if err != nil {
		t.Fatal(err)
	}
	startup, _, err := config.ParseStartup([]byte(`{"bcrypt_cost":10}`), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	ring := telemetry.NewLogRing(500)
	level := new(slog.LevelVar)
	log := slog.New(ring.Tee(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: level, ReplaceAttr: telemetry.Redact})))
	server := rest.ReplicateServer(startup.Settings().BLIP, nil, log)
	clk := new(clock)
	var nodes *cluster.Cluster
	for _, join := range joins {
		nodes = join(st)
	}
	g, err := gateway.Open(t.Context(), gateway.Options{
		Store: st, Blobs: blobs, NodeID: "node", Startup: startup, Logger: log, Now: clk.Now, Cluster: nodes,
		NewReplicator: func(o replicate.ActiveOptions) (gateway.Replicator, error) { return replicate.NewReplicator(server, o) },
	})
	if err != nil {
		t.Fatal(err)
	}
	api := rest.NewServer(rest.Deps{
		Gateway: g, Config: startup, Logger: log, Version: "test", Replicate: rest.Replicator(server, startup.Settings().BLIP),
		AdminDeps: rest.AdminDeps{LogLevel: level, LogRing: ring},
	})
	apps, err := appservices.New(t.Context(), appservices.Options{Gateway: g, Store: st, Keys: access.NewAPIKeys(st, g.Passwords()), Logger: log, Now: clk.Now})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, gateway: g, admin: api.Admin(), apps: apps, clock: clk, log: log, logins: newTestLogins(t)}
	s.newConsole()
	s.start(testkit.FreePort(t).Address())
	t.Cleanup(func() {
		s.console.Close()
		s.stop()
		if err := g.Close(context.Background()); err != nil {
			t.Error("close gateway:", err)
		}
		if err := st.Close(); err != nil {
			t.Error("close store:", err)
		}
	})
	return s
}

// newConsole puts a console without sessions in place, as after a restart.
func (s *site) newConsole() {
	s.t.Helper()
	c, err := console.New(console.Options{
		Gateway: s.admin, AppServices: s.apps, Logins: s.logins, Logger: s.log, Version: "1.0-test", LocalOnly: true, Now: s.clock.Now, LiveEvery: 150 * time.Millisecond,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if s.console != nil {
		s.console.Close()
	}
	s.console = c
}

func (s *site) start(address string) {
	s.t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.address = ln.Addr().String()
	s.server = &http.Server{Handler: s.console}
	go func() { _ = s.server.Serve(ln) }() // it ends with stop
}

// stop breaks all connections and refuses new ones.
func (s *site) stop() { _ = s.server.Close() }

// do calls the admin API; it fails the test if the answer is no success.
func (s *site) do(method, target, body string) string {
	s.t.Helper()
	r := httptest.NewRequestWithContext(s.t.Context(), method, target, strings.NewReader(body))
	r.Host = "localhost"
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	s.admin.ServeHTTP(w, r)
	if w.Code/100 != 2 {
		s.t.Fatalf("%s %s: %d %s", method, target, w.Code, w.Body)
	}
	return w.Body.String()
}

// status calls the admin API and returns the status.
func (s *site) status(method, target string) int {
	s.t.Helper()
	r := httptest.NewRequestWithContext(s.t.Context(), method, target, nil)
	r.Host = "localhost"
	w := httptest.NewRecorder()
	s.admin.ServeHTTP(w, r)
	return w.Code
}

// bulk puts n documents id-000001 … into a keyspace.
func (s *site) bulk(keyspace, prefix string, n int) {
	s.t.Helper()
	var b bytes.Buffer
	for from := 0; from < n; from += 1000 {
		b.Reset()
		b.WriteString(`{"docs":[`)
		for i := from; i < min(from+1000, n); i++ {
			if i > from {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, `{"_id":"%s%06d","number":%d,"channels":["all"]}`, prefix, i, i)
		}
		b.WriteString(`]}`)
		s.do("POST", "/"+keyspace+"/_bulk_docs", b.String())
	}
}

// testLogins are the accounts of a site.
type testLogins struct {
	admins *access.AdminAccounts
	mu     sync.Mutex
	gone   map[string]bool
	nobody bool
}

// The hashes of "correct horse", "only looking" and "one database", as cheap as bcrypt allows: with the race detector a usual
// one takes a second.
var (
	adminHash  = access.NewSecret("$2a$04$PTx/SyilHN/xEFw90w8qb.pNT1uJpPR4zHntvYC33H7Rl8GDJlRP6")
	readerHash = access.NewSecret("$2a$04$svu4HeEDUX592d.7SXkWFumZodLonnh1Xm6PFfucP9dH6M1DwEGYK")
	worldsHash = access.NewSecret("$2a$04$oX6n.rWKcjk1vvDt46LdUOFKygbuCLtpCQv8cuCnfK.CXJS2pNk4m")
)

func newTestLogins(t testing.TB) *testLogins {
	t.Helper()
	admins, err := access.NewAdminAccounts([]access.AdminAccount{
		{Name: "admin", PasswordHash: adminHash, Roles: []string{"admin"}},
		{Name: "reader", PasswordHash: readerHash, Roles: []string{"admin"}},
		{Name: "worlds", PasswordHash: worldsHash, Roles: []string{"bucket_admin"}, Databases: []string{"world"}},
	}, access.NewPasswords(access.PasswordsConfig{Cost: 4}))
	if err != nil {
		t.Fatal(err)
	}
	return &testLogins{admins: admins, gone: make(map[string]bool)}
}

func (l *testLogins) Any(context.Context) (bool, error) { return !l.nobody, nil }

func (l *testLogins) Login(ctx context.Context, name, secret, remote string) (console.Identity, error) {
	admin, err := l.admins.Authenticate(ctx, name, secret, remote)
	if err != nil {
		return nil, console.LoginError("The name or the secret is wrong.")
	}
	return &testIdentity{l, rest.Insider{Name: name, Admin: admin, ReadOnly: name == "reader"}}, nil
}

// remove deletes an account.
func (l *testLogins) remove(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone[name] = true
}

type testIdentity struct {
	logins *testLogins
	who    rest.Insider
}

func (i *testIdentity) Name() string   { return i.who.Name }
func (i *testIdentity) ReadOnly() bool { return i.who.ReadOnly }
func (i *testIdentity) Sign(r *http.Request) *http.Request {
	r = rest.AsInsider(r, i.who)
	who, err := appservices.IdentityOfAdmin(i.who.Admin)
	if err != nil {
		return r
	}
	if i.who.ReadOnly {
		who.Role = access.RoleReadOnly
	}
	return appservices.AsUser(r, who)
}
func (i *testIdentity) Valid(context.Context) bool {
	i.logins.mu.Lock()
	defer i.logins.mu.Unlock()
	return !i.logins.gone[i.who.Name]
}
