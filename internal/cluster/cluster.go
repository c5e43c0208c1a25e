// Package cluster is what the processes that serve from one store know of each other: who is there, what each says of itself,
// that something has changed, and who does what only one may do.
//
// Everything goes over the store. Membership is a row for each node with a count that grows; a node whose count stands still is
// dead to the others. Nobody's clock is compared with anybody else's. A node that is held up and comes back was dead for a while, and is
// not told: what only one may do is therefore guarded by leases of the store, which end by themselves, and what their holders write
// is fenced by epochs. Notes wake who follows something, by sequences of space 0; they carry no data.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// Options are what a node joins with.
type Options struct {
	NodeID string // stable over restarts, and no other node's
	About  About
	Beat   time.Duration // between heartbeats; DefaultBeat if 0
	// DeadAfter is for how long a node's heartbeat may be missed before the others hold it for dead, and the time to live of leases;
	// DefaultDeadAfter if 0.
	DeadAfter time.Duration
	Logger    *slog.Logger // discards if nil
}

// Defaults of Options.
const (
	DefaultBeat      = 2 * time.Second
	DefaultDeadAfter = 10 * time.Second
)

// About is what a node says of itself when it joins.
type About struct {
	Version string `json:"version,omitempty"`
	Host    string `json:"host,omitempty"`
	PID     int    `json:"pid,omitempty"`
	Public  string `json:"public,omitempty"` // address of the listener
	Admin   string `json:"admin,omitempty"`
}

// Node is a process of the cluster.
type Node struct {
	ID      string
	Started time.Time // by its own clock
	About   About
}

// Cluster is this node's view. It is safe for concurrent use.
type Cluster struct {
	st        store.Store
	log       *slog.Logger
	self      Node
	run       string // this process, among those that ever had its id
	beat      time.Duration
	deadAfter time.Duration
	alone     bool

	mu      sync.Mutex
	peers   map[string]*peer
	looked  time.Time         // when the rows were last read
	nodes   []Node            // alive, self included, sorted
	says    map[string][]byte // what this node tells, by topic
	changed chan struct{}
	subs    map[string]map[*subscription]struct{}
	seen    tidegate.Seq // notes up to here were passed on
	left    bool
}

// ErrReplaced says that another process has this node's id, and joined later.
var ErrReplaced = tidegate.Errorf(tidegate.Unavailable, "another process has joined with the id of this node")

// Alone returns the cluster of a store that one process has for itself: one node, no heartbeats; everything else works the same.
func Alone(st store.Store, nodeID string) *Cluster {
	c := newCluster(st, Options{NodeID: nodeID})
	c.alone = true
	c.nodes = []Node{c.self}
	return c
}

func newCluster(st store.Store, opts Options) *Cluster {
	c := &Cluster{
		st: st, log: opts.Logger, run: newRun(), beat: opts.Beat, deadAfter: opts.DeadAfter,
		self:  Node{ID: opts.NodeID, Started: time.Now().UTC().Truncate(time.Millisecond), About: opts.About},
		peers: map[string]*peer{}, says: map[string][]byte{}, changed: make(chan struct{}), subs: map[string]map[*subscription]struct{}{},
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.beat <= 0 {
		c.beat = DefaultBeat
	}
	if c.deadAfter <= 0 {
		c.deadAfter = DefaultDeadAfter
	}
	return c
}

// Join enters the cluster of the store. A node with the same id that died is replaced. Unavailable: the store is held by somebody who
// must have it alone (Exclusive). The caller runs Run, and Leave at the end.
func Join(ctx context.Context, st store.Store, opts Options) (*Cluster, error) {
	if opts.NodeID == "" {
		return nil, tidegate.Errorf(tidegate.Invalid, "a node has an id")
	}
	c := newCluster(st, opts)
	if c.beat*2 > c.deadAfter {
		return nil, tidegate.Errorf(tidegate.Invalid, "a node is dead after %s, which is less than two heartbeats of %s", c.deadAfter, c.beat)
	}
	door, err := enter(ctx, st, c.deadAfter)
	if err != nil {
		return nil, fmt.Errorf("join the cluster: %w", err)
	}
	defer door.Release()
	if err := c.sign(ctx, true); err != nil {
		return nil, fmt.Errorf("join the cluster: %w", err)
	}
	if err := c.look(ctx, time.Now()); err != nil {
		return nil, errors.Join(fmt.Errorf("join the cluster: %w", err), c.Leave(context.WithoutCancel(ctx)))
	}
	return c, nil
}

// Self is the id of this node.
func (c *Cluster) Self() string { return c.self.ID }

// Alone reports whether no other process can be there: the store is this one's.
func (c *Cluster) Alone() bool { return c.alone }

// DeadAfter is after how long without a heartbeat a node counts as dead.
func (c *Cluster) DeadAfter() time.Duration { return c.deadAfter }

// Nodes are those that are alive, this one included, sorted by id.
func (c *Cluster) Nodes() []Node {
	nodes, _ := c.Watch()
	return nodes
}

// Watch is Nodes, with a channel that is closed when they are others. The slice must not be changed.
func (c *Cluster) Watch() (nodes []Node, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes, c.changed
}

// Alive reports whether the node of the id is.
func (c *Cluster) Alive(id string) bool {
	for _, n := range c.Nodes() {
		if n.ID == id {
			return true
		}
	}
	return false
}

// Run keeps this node alive for the others, notices who comes and goes, and passes notes on, until ctx ends, or this node must (Ended).
// While the store cannot be reached it goes on trying.
func (c *Cluster) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { c.passNotes(ctx) })
	if c.alone {
		<-ctx.Done()
		return ctx.Err()
	}
	ticker := time.NewTicker(c.beat)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		if err := c.tick(ctx); Ended(err) {
			why := "this node ends: two nodes must not have the same data directory"
			if errors.Is(err, store.ErrFenced) {
				why = "this node ends: a process that must have the store alone had it while this one stood still"
			}
			c.log.Error(why, "node", c.self.ID, "error", err)
			cancel()
			return err
		}
	}
}

// Ended reports whether an error of Run says that this node must end: another has its id (ErrReplaced), or it can write no more (store.ErrFenced).
func Ended(err error) bool { return errors.Is(err, ErrReplaced) || errors.Is(err, store.ErrFenced) }

// tick is one heartbeat.
func (c *Cluster) tick(ctx context.Context) error {
	err := c.sign(ctx, false)
	if err == nil {
		err = c.look(ctx, time.Now())
	}
	if err != nil && ctx.Err() == nil && !Ended(err) {
		c.log.Warn("the heartbeat of this node was not written", "error", err)
	}
	return err
}
