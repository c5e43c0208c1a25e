package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidegate/tidegate/internal/cluster"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/store/blob"
	"github.com/tidegate/tidegate/internal/store/pgstore"
	"github.com/tidegate/tidegate/internal/store/pgstore/pgtest"
)

// postgres is the server of the tests with several nodes, started by the first that needs it.
var postgres struct {
	once   sync.Once
	server *pgtest.Server
	err    error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if postgres.server != nil {
		if err := postgres.server.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "stop PostgreSQL:", err)
		}
	}
	os.Exit(code)
}

// fleet is a store in PostgreSQL that several nodes serve from, each over a link of its own.
type fleet struct {
	t      *testing.T
	schema string
	url    string
}

var fleets atomic.Int32

func newFleet(t *testing.T) *fleet {
	t.Helper()
	t.Parallel()
	postgres.once.Do(func() { postgres.server, postgres.err = pgtest.Start() })
	if postgres.err != nil {
		t.Fatal(postgres.err)
	}
	return &fleet{t, fmt.Sprintf("fleet%d", fleets.Add(1)), postgres.server.URL()}
}

// fleetDead is after how long a node of a fleet that is not heard of is dead.
const fleetDead = 2 * time.Second

// node is a gateway of a fleet.
type node struct {
	*Gateway
	st   *pgstore.Store
	link *link
	logs *logs
}

func (f *fleet) node(id string) *node {
	f.t.Helper()
	l, url := newLink(f.t, f.url)
	f.t.Cleanup(func() {
		l.set(true)
		_ = l.listener.Close()
		l.wg.Wait()
	})
	n := &node{link: l, logs: &logs{waits: map[string]chan struct{}{}}}
	var err error
	n.st, err = pgstore.Open(f.t.Context(), url, pgstore.Options{Schema: f.schema, Connections: 8, RetryFor: time.Second})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = n.st.Close() })
	log := slog.New(n.logs)
	nodes, err := cluster.Join(f.t.Context(), n.st, cluster.Options{NodeID: id, Beat: fleetDead / 10, DeadAfter: fleetDead, Logger: log})
	if err != nil {
		f.t.Fatal(err)
	}
	cheapest := 4
	startup := &config.Startup{}
	startup.Auth.BcryptCost = &cheapest
	n.Gateway, err = Open(f.t.Context(), Options{Store: n.st, Blobs: blob.NewInStore(n.st, nil), NodeID: id, Startup: startup, Logger: log, Cluster: nodes})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		l.set(false)
		if err := n.Close(context.Background()); err != nil {
			f.t.Log(err)
		}
	})
	return n
}

// on waits until a node has a database.
func (n *node) on(t *testing.T, name string) *Running {
	t.Helper()
	var r *Running
	eventually(t, "database on "+n.NodeID(), func() bool {
		var err error
		r, err = n.Database(name)
		return err == nil && r.State() == Online
	})
	return r
}

// eventually waits until something holds that nobody announces.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	late := time.After(patience)
	for !holds() {
		select {
		case <-ticker.C:
		case <-late:
			t.Fatalf("no %s", what)
		}
	}
}
