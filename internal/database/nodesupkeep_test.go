package database_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/changes"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/pgstore"
)

// gated is a store whose Views wait at a gate while it is shut, and fail while it is away.
type gated struct {
	store.Store
	gate atomic.Pointer[chan struct{}] // nil: open
	away atomic.Bool
}

func (s *gated) View(ctx context.Context, fn func(store.Reader) error) error {
	if s.away.Load() {
		return tidegate.Errorf(tidegate.Unavailable, "the store is away")
	}
	if gate := s.gate.Load(); gate != nil {
		select {
		case <-*gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return s.Store.View(ctx, fn)
}

// named are the nodes as a test says they are.
type named struct {
	self string
	st   store.Store
	dead *atomic.Bool // the other one
}

func (n named) Self() string         { return n.self }
func (n named) Alone() bool          { return false }
func (n named) Alive(id string) bool { return id == n.self || !n.dead.Load() }
func (n named) TryLease(ctx context.Context, name string) (store.Lease, error) {
	return n.st.TryLease(ctx, name, 3*time.Second)
}

// third opens the database on a node whose store the test steers.
func (p *pair) third(t *testing.T, nodes func(store.Store) database.Nodes) (*env, *gated) {
	t.Helper()
	st, err := pgstore.Open(t.Context(), p.srv.URL(), pgstore.Options{Schema: p.schema, Connections: 6})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	g := &gated{Store: st}
	return p.open(t, g, nodes(g)), g
}

// While one node sweeps the others leave what is due to it; when it is gone one of them does it.
func nodesSweepTurns(t *testing.T, p *pair) {
	other, err := p.a.st.TryLease(t.Context(), fmt.Sprintf("upkeep.%d", space), 30*time.Second)
	if err != nil || other == nil {
		t.Fatalf("the upkeep's lease: %v, %v", other, err)
	}
	var dead atomic.Bool
	asked := make(chan struct{}, 1)
	c, _ := p.third(t, func(st store.Store) database.Nodes { return asking{named{"C", st, &dead}, asked} })
	exp := p.clock.now().Add(time.Minute).Unix()
	c.put(fmt.Sprintf(`{"_id":"d","_exp":%d}`, exp))
	p.clock.add(2 * time.Minute)
	c.put(fmt.Sprintf(`{"_id":"e","_exp":%d}`, p.clock.now().Add(time.Second).Unix())) // which makes it look
	wait := time.NewTimer(20 * time.Second)
	defer wait.Stop()
	select {
	case <-asked:
	case <-wait.C:
		t.Fatal("nobody asked for the lease")
	}
	if d := c.raw("d"); d.Seq != 1 {
		t.Fatalf("the document expired under another node's lease, at %d", d.Seq)
	}
	f := p.b.feed(p.b.admin, database.ChangesOptions{Request: changes.Request{Since: tidegate.Since{Seq: 2}}})
	other.Release()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		entries, err := f.Next(ctx, 0)
		if err == nil && len(entries) == 0 {
			err = f.Wait(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) > 0 {
			if got := lines(entries); got[0] != "3 d 2- deleted" {
				t.Errorf("the feed has %q", got)
			}
			return
		}
	}
}

// asking notes when the upkeep's lease is asked for in vain.
type asking struct {
	named
	asked chan<- struct{}
}

func (n asking) TryLease(ctx context.Context, name string) (store.Lease, error) {
	lease, err := n.named.TryLease(ctx, name)
	if lease == nil && strings.HasPrefix(name, "upkeep.") {
		select {
		case n.asked <- struct{}{}:
		default:
		}
	}
	return lease, err
}

func nodesCompact(t *testing.T, p *pair) {
	var dead atomic.Bool
	p.a.put(`{"_id":"d"}`)
	c, gate := p.third(t, func(st store.Store) database.Nodes { return named{"C", st, &dead} })
	shut := make(chan struct{})
	gate.gate.Store(&shut)
	if _, err := c.db.StartCompact(database.CompactTombstones, database.CompactOptions{}); err != nil {
		t.Fatal(err)
	}
	// A node that is not in the cluster is no node that can run it: the status says so.
	if s := p.b.db.CompactStatus(database.CompactTombstones); s.Status != "stopped" || s.Node != "C" {
		t.Errorf("status of a compaction on a node that B does not know: %+v", s)
	}
	d, _ := p.third(t, func(st store.Store) database.Nodes { return named{"D", st, &dead} })
	if s := d.db.CompactStatus(database.CompactTombstones); s.Status != "running" || s.Node != "C" {
		t.Errorf("status on another node: %+v", s)
	}
	_, err := d.db.StartCompact(database.CompactTombstones, database.CompactOptions{})
	if tidegate.ErrorCode(err) != tidegate.Unavailable || !strings.Contains(tidegate.ErrorReason(err), "on node C") {
		t.Errorf("a second one at once: %v", err)
	}
	if s, err := d.db.StopCompact(database.CompactTombstones); err != nil || s.Status != "stopping" {
		t.Errorf("stop: %+v, %v", s, err)
	}
	until(t, "it is asked to stop", func() bool { return d.db.CompactStatus(database.CompactTombstones).Status == "stopped" })
	close(shut)
	gate.gate.Store(nil)
	if s, err := c.db.AwaitCompact(t.Context(), database.CompactTombstones); err != nil || s.Status != "stopped" || s.Node != "" {
		t.Errorf("status where it ran: %+v, %v", s, err)
	}
	if _, err := d.db.StopCompact(database.CompactTombstones); tidegate.ErrorCode(err) != tidegate.Invalid {
		t.Errorf("stop of none: %v", err)
	}
	if s := d.compact(database.CompactTombstones, database.CompactOptions{}); s.Status != "completed" {
		t.Errorf("the next one: %+v", s)
	}
	if s := c.db.CompactStatus(database.CompactTombstones); s.Status != "completed" || s.Node != "D" {
		t.Errorf("its status elsewhere: %+v", s)
	}
}

// A node whose lease is lost while it compacts says so, and others may begin at once.
func nodesCompactorDies(t *testing.T, p *pair) {
	var dead atomic.Bool
	c, gate := p.third(t, func(st store.Store) database.Nodes { return named{"C", st, &dead} })
	d, _ := p.third(t, func(st store.Store) database.Nodes { return named{"D", st, &dead} })
	shut := make(chan struct{})
	defer close(shut)
	gate.gate.Store(&shut)
	if _, err := c.db.StartCompact(database.CompactAttachments, database.CompactOptions{}); err != nil {
		t.Fatal(err)
	}
	dead.Store(true)
	if s := d.db.CompactStatus(database.CompactAttachments); s.Status != "stopped" || !strings.Contains(s.LastError, "node C") {
		t.Errorf("status when its node is dead: %+v", s)
	}
}

// While a node cannot reach the store it lets nobody in for longer than it may believe what it remembers, and its feeds go on when it is back.
func nodesStoreAway(t *testing.T, p *pair) {
	var dead atomic.Bool
	p.a.user("bob", "x")
	c, st := p.third(t, func(st store.Store) database.Nodes { return named{"C", st, &dead} })
	if err := c.login("bob", "secret"); err != nil {
		t.Fatal(err)
	}
	f := c.feed(c.as("bob"), database.ChangesOptions{Request: changes.Request{}})
	drain(t, f, 0)
	st.away.Store(true)
	p.a.put(`{"_id":"d","channels":["x"]}`)
	p.clock.add(3 * time.Second)
	if err := c.login("bob", "secret"); tidegate.ErrorCode(err) != tidegate.Unavailable {
		t.Errorf("a login without a store: %v", err)
	}
	st.away.Store(false)
	ctx, cancel := context.WithTimeout(t.Context(), felt)
	defer cancel()
	for {
		if err := f.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		entries, err := f.Next(ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(lines(entries)); strings.Contains(got, " d 1-") {
			break
		}
	}
	if err := c.login("bob", "secret"); err != nil {
		t.Errorf("a login afterwards: %v", err)
	}
}
