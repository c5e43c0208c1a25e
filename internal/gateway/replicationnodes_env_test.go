package gateway

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidegate/tidegate/internal/cluster"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/job"
	"github.com/tidegate/tidegate/internal/store/blob"
	"github.com/tidegate/tidegate/internal/store/pgstore"
	"github.com/tidegate/tidegate/internal/store/pgstore/pgtest"
)

// Short beats: a dead node is noticed after testDeadAfter.
const (
	testBeat      = 250 * time.Millisecond
	testDeadAfter = 1500 * time.Millisecond
	// testFailover is the stated time of a failover: when a node counts as dead, and five seconds.
	testFailover = testDeadAfter + 5*time.Second
)

// link is a connection to PostgreSQL that can be cut, for all of a node's connections at once.
type link struct {
	listener net.Listener
	target   string
	mu       sync.Mutex
	cut      bool
	open     map[net.Conn]bool
	wg       sync.WaitGroup
}

// newLink makes a link and returns the URL of the database behind it.
func newLink(t *testing.T, server string) (*link, string) {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	l := &link{target: u.Host, open: map[net.Conn]bool{}}
	if l.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	l.wg.Go(func() {
		for {
			conn, err := l.listener.Accept()
			if err != nil {
				return
			}
			l.wg.Go(func() { l.pass(conn) })
		}
	})
	u.Host = l.listener.Addr().String()
	return l, u.String()
}

// hold notes a connection, unless the link is cut.
func (l *link) hold(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.cut {
		l.open[conn] = true
	}
	return !l.cut
}

func (l *link) pass(conn net.Conn) {
	defer conn.Close()
	to, err := net.Dial("tcp", l.target)
	if err != nil {
		return
	}
	defer to.Close()
	if !l.hold(conn) || !l.hold(to) {
		return
	}
	var wg sync.WaitGroup
	copying := func(a, b net.Conn) {
		_, _ = io.Copy(a, b) // it ends when either side is closed
		a.Close()
		b.Close()
	}
	wg.Go(func() { copying(to, conn) })
	copying(conn, to)
	wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, conn)
	delete(l.open, to)
}

// set cuts the link, or mends it.
func (l *link) set(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
	if cut {
		for conn := range l.open {
			conn.Close()
		}
	}
}

// testNode is a gateway of a nodesEnv.
type testNode struct {
	id    string
	link  *link
	st    *pgstore.Store
	g     *Gateway
	fakes *fakes
	logs  *logs
	up    bool
}

func (n *testNode) running(t *testing.T) *Running { t.Helper(); return get(t, n.g, "db") }

// nodesEnv is a database that several gateways serve from one PostgreSQL. Replicators are fakes; that no replication runs on two
// nodes at once is checked all the time.
type nodesEnv struct {
	t      *testing.T
	server *pgtest.Server
	schema string
	nodes  []*testNode

	mu   sync.Mutex
	runs map[string][]string // by replication: the nodes that run it now
}

func newNodesEnv(t *testing.T, server *pgtest.Server) *nodesEnv {
	t.Parallel()
	return &nodesEnv{t: t, server: server, schema: "t" + strings.ToLower(strings.ReplaceAll(t.Name(), "/", "_")), runs: map[string][]string{}}
}

// start starts a node with a config file.
func (e *nodesEnv) start(id, file string) *testNode {
	t := e.t
	t.Helper()
	n := &testNode{id: id, fakes: &fakes{made: map[string][]*fake{}}, logs: &logs{waits: map[string]chan struct{}{}}, up: true}
	var target string
	n.link, target = newLink(t, e.server.URL())
	var err error
	if n.st, err = pgstore.Open(t.Context(), target, pgstore.Options{Schema: e.schema, Connections: 4, RetryFor: 300 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	nodes, err := cluster.Join(t.Context(), n.st, cluster.Options{NodeID: id, Beat: testBeat, DeadAfter: testDeadAfter, Logger: slog.New(n.logs)})
	if err != nil {
		t.Fatal(err)
	}
	n.fakes.prepare = func(f *fake) { e.watch(n, f) }
	s, cheapest := &config.Startup{}, 4
	s.Auth.BcryptCost = &cheapest
	var files map[string]*config.Database
	if file != "" {
		files = fileDBs(t, `{"db":`+file+`}`)
	}
	n.g, err = Open(t.Context(), Options{
		Store: n.st, Blobs: blob.NewInStore(n.st, nil), NodeID: id, Startup: s, FileDatabases: files, Logger: slog.New(n.logs),
		NewReplicator: n.fakes.make, Cluster: nodes,
	})
	if err != nil {
		t.Fatal(err)
	}
	e.nodes = append(e.nodes, n)
	t.Cleanup(func() { e.close(n) })
	return n
}

// close ends a node in good order.
func (e *nodesEnv) close(n *testNode) {
	n.link.set(false)
	if err := n.g.Close(context.Background()); err != nil && n.up {
		e.t.Errorf("%s: %v", n.id, err)
	}
	_ = n.st.Close()
	_ = n.link.listener.Close()
	n.link.set(true)
	n.link.wg.Wait()
	if e.t.Failed() {
		n.logs.mu.Lock()
		defer n.logs.mu.Unlock()
		e.t.Logf("log of %s:\n%s", n.id, strings.Join(n.logs.lines, "\n"))
	}
}

// fail cuts a node off from the database: to the others it is dead.
func (e *nodesEnv) fail(n *testNode) {
	e.t.Logf("%s fails", n.id)
	n.up = false
	n.link.set(true)
}

// watch notes when a replicator runs.
func (e *nodesEnv) watch(n *testNode, f *fake) {
	began := f.onRun
	f.onRun = func() {
		began()
		e.mu.Lock()
		defer e.mu.Unlock()
		if others := e.runs[f.o.ID]; len(others) > 0 {
			e.t.Errorf("%s runs on %s while it runs on %v", f.o.ID, n.id, others)
		}
		e.runs[f.o.ID] = append(e.runs[f.o.ID], n.id)
	}
	f.ended = func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if i := slices.Index(e.runs[f.o.ID], n.id); i >= 0 {
			e.runs[f.o.ID] = slices.Delete(e.runs[f.o.ID], i, i+1)
		}
	}
}

// runner is the node that runs a replication; "" if none does.
func (e *nodesEnv) runner(id string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Join(e.runs[id], "+")
}

// until waits for something.
func (e *nodesEnv) until(what string, within time.Duration, holds func() bool) {
	e.t.Helper()
	deadline := time.After(within)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			e.t.Fatalf("not within %s: %s; runs: %v", within, what, e.runs)
		}
	}
}

// assignment is what a node says of all replications, when all nodes say the same and what they say is so: each runs where it is said to,
// and those of no node do not run.
func (e *nodesEnv) assignment() (said string, ok bool) {
	var all []string
	for _, n := range e.nodes {
		if !n.up {
			continue
		}
		var mine []string
		for _, s := range n.running(e.t).Replications().Statuses() {
			mine = append(mine, fmt.Sprintf("%s on %s (%s)", s.ID, orNone(s.Node), s.State))
			runs := e.runner(s.ID)
			wanted := s.Wanted && s.State == job.Running && runs == s.Node
			idle := runs == "" && (s.State == job.Unassigned || !s.Wanted && s.State != job.Stopping)
			if !wanted && !idle || s.Local != (s.Node == n.id) {
				return "", false
			}
		}
		all = append(all, strings.Join(mine, ", "))
	}
	all = slices.Compact(all)
	return all[0], len(all) == 1
}

func orNone(node string) string {
	if node == "" {
		return "no node"
	}
	return node
}

// settled waits until a replication runs on one of these nodes ("": on none) and everybody says so, prints where everything is and
// returns the node.
func (e *nodesEnv) settled(when, id string, on ...string) (node string) {
	e.t.Helper()
	began := time.Now()
	var said string
	e.until(fmt.Sprintf("%s: %s on one of %v", when, id, on), patience, func() bool {
		now, ok := e.assignment()
		said, node = now, e.runner(id)
		return ok && slices.Contains(on, node)
	})
	e.t.Logf("%s: %s [%d ms]", when, said, time.Since(began).Milliseconds())
	return node
}

func (e *nodesEnv) node(id string) *testNode {
	for _, n := range e.nodes {
		if n.id == id {
			return n
		}
	}
	e.t.Fatalf("no node %q", id)
	return nil
}
