package console_test

import (
	"context"
	"testing"
	"time"

	"github.com/tidegate/tidegate/internal/cluster"
	"github.com/tidegate/tidegate/internal/store"
)

// TestBrowserNodes shows the nodes of a store that several serve from, as they come and go.
func TestBrowserNodes(t *testing.T) {
	t.Parallel()
	var st store.Store
	join := func(id, host, public string, pid int) *cluster.Cluster {
		c, err := cluster.Join(t.Context(), st, cluster.Options{
			NodeID: id, Beat: 100 * time.Millisecond, About: cluster.About{Version: "1.0-test", Host: host, PID: pid, Public: public},
		})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	s := newSite(t, func(shared store.Store) *cluster.Cluster {
		st = shared
		return join("node", "port-of-rotterdam", "10.0.0.1:4984", 812)
	})
	b := newBrowser(t, s)
	b.login()
	b.waitText("[data-testid=nodes]", "port-of-rotterdam")
	s.do("PUT", "/world/", "{}")
	b.waitText("[data-testid=nodes]", "1 of 1 online")

	other := join("0123456789abcdef0123456789abcdef", "port-of-antwerp", "10.0.0.2:4984", 77)
	ctx, end := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- other.Run(ctx) }()
	b.waitText("[data-testid=nodes]", "port-of-antwerp")
	b.shoot("nodes")
	end()
	<-done
	if err := other.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.until(`!document.querySelector("[data-testid=nodes]").textContent.includes("antwerp")`)
}
