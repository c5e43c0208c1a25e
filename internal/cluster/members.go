package cluster

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// Keys of the cluster in space 0.
func nodePrefix() store.Key            { return store.NewKey(0, store.KindMeta).Name("cluster.node") }
func nodeKey(id string) store.Key      { return nodePrefix().Name(id) }
func notePrefix() store.Key            { return store.NewKey(0, store.KindMeta).Name("cluster.note") }
func noteKey(topic string) store.Key   { return notePrefix().Name(topic) }
func toldPrefix() store.Key            { return store.NewKey(0, store.KindMeta).Name("cluster.told") }
func toldTopic(topic string) store.Key { return toldPrefix().Name(topic) }

// row is a node as it is stored.
type row struct {
	Run     string    `json:"run"`
	Count   uint64    `json:"count"` // of heartbeats
	Started time.Time `json:"started"`
	About   About     `json:"about"`
	// DeadAfter, in ms, is what the node itself was started with: others give it that long.
	DeadAfter int64 `json:"dead_after_ms"`
}

// peer is another node as this one has seen it.
type peer struct {
	row   row
	since time.Time // when its count was last seen to grow, by this process's monotonic clock
}

// forgetAfter is how many times DeadAfter a row without heartbeats stays before somebody removes it.
const forgetAfter = 6

func newRun() string { return rand.Text() }

// sign writes this node's heartbeat. The first takes the row over from whoever had it; a later one finds out whether somebody did.
func (c *Cluster) sign(ctx context.Context, first bool) error {
	return c.st.Update(ctx, func(tx store.Tx) error {
		if c.hasLeft() {
			return nil
		}
		r := row{Run: c.run, Started: c.self.Started, About: c.self.About, DeadAfter: c.deadAfter.Milliseconds()}
		value, err := tx.Get(nodeKey(c.self.ID))
		if err != nil {
			return err
		}
		if value != nil && !first {
			var old row
			if err := json.Unmarshal(value, &old); err != nil {
				return tidegate.Errorf(tidegate.Corrupt, "the row of node %s does not make sense: %w", c.self.ID, err)
			}
			if old.Run != c.run {
				return ErrReplaced
			}
			r.Count = old.Count + 1
		}
		if value == nil || first { // new to the others
			if err := note(tx, topicNodes); err != nil {
				return err
			}
		}
		if value == nil && !first { // the others took it for long dead
			if err := c.tellAgain(tx); err != nil {
				return err
			}
		}
		value, err = json.Marshal(r)
		if err != nil {
			return err
		}
		return tx.Put(nodeKey(c.self.ID), value)
	})
}

// tellAgain puts back what this node tells: it went with its row.
func (c *Cluster) tellAgain(tx store.Tx) error {
	c.mu.Lock()
	says := maps.Clone(c.says)
	c.mu.Unlock()
	for _, topic := range slices.Sorted(maps.Keys(says)) {
		if err := c.TellIn(tx, topic, says[topic]); err != nil {
			return err
		}
	}
	return nil
}

// topicNodes is noted when a node comes or goes.
const topicNodes = "nodes"

// Leave tells the others that this node is gone, and takes back what it told them.
func (c *Cluster) Leave(ctx context.Context) error {
	c.mu.Lock()
	left := c.left
	c.left = true
	c.mu.Unlock()
	if left || c.alone {
		return nil
	}
	return c.st.Update(ctx, func(tx store.Tx) error {
		value, err := tx.Get(nodeKey(c.self.ID))
		if err != nil || value == nil {
			return err
		}
		var r row
		if json.Unmarshal(value, &r) == nil && r.Run != c.run {
			return nil // it is another process's
		}
		return c.removeNode(tx, c.self.ID)
	})
}

func (c *Cluster) hasLeft() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.left
}

// removeNode deletes a node's row and what it told.
func (c *Cluster) removeNode(tx store.Tx, id string) error {
	if err := tx.Delete(nodeKey(id)); err != nil {
		return err
	}
	topics, err := toldBy(tx, id)
	if err != nil {
		return err
	}
	for _, topic := range topics {
		if err := tx.Delete(toldTopic(topic).Name(id)); err != nil {
			return err
		}
		if err := note(tx, topic); err != nil {
			return err
		}
	}
	return note(tx, topicNodes)
}

// toldBy lists the topics under which a node has told something.
func toldBy(r store.Reader, id string) ([]string, error) {
	var topics []string
	it := r.Scan(store.Prefix(toldPrefix()))
	defer it.Close()
	for it.Next() {
		topic, rest, err := store.CutName(it.Key()[len(toldPrefix()):])
		if err != nil {
			return nil, err
		}
		if node, _, err := store.CutName(rest); err == nil && node == id {
			topics = append(topics, topic)
		}
	}
	return topics, it.Err()
}

// readRows reads the rows of all nodes.
func readRows(ctx context.Context, st store.Store) (map[string]row, error) {
	var rows map[string]row
	err := st.View(ctx, func(r store.Reader) error {
		rows = map[string]row{}
		it := r.Scan(store.Prefix(nodePrefix()))
		defer it.Close()
		for it.Next() {
			id, _, err := store.CutName(it.Key()[len(nodePrefix()):])
			if err != nil {
				return err
			}
			var one row
			if err := json.Unmarshal(it.Value(), &one); err != nil {
				return tidegate.Errorf(tidegate.Corrupt, "the row of node %s does not make sense: %w", id, err)
			}
			rows[id] = one
		}
		return it.Err()
	})
	return rows, err
}

// look reads who is there. now is the time by this process's clock before it was read.
func (c *Cluster) look(ctx context.Context, now time.Time) error {
	if c.alone {
		return nil
	}
	rows, err := readRows(ctx, c.st)
	if err != nil {
		return err
	}
	if gone := c.merge(rows, now); len(gone) > 0 {
		return c.forget(ctx, gone)
	}
	return nil
}

// merge takes over what was read, and returns the rows of nodes that are long dead.
func (c *Cluster) merge(rows map[string]row, now time.Time) (gone map[string]row) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := range c.peers {
		if _, there := rows[id]; !there {
			delete(c.peers, id)
		}
	}
	// Silence counts while this node listens: one that was held up or could not reach the store hears of the others in the next heartbeats.
	if deaf := now.Sub(c.looked) - 2*c.beat; deaf > 0 && !c.looked.IsZero() {
		for _, p := range c.peers {
			p.since = p.since.Add(deaf)
		}
	}
	c.looked = now
	nodes := []Node{c.self}
	gone = map[string]row{}
	for id, r := range rows {
		if id == c.self.ID {
			continue
		}
		p := c.peers[id]
		if p == nil || p.row.Run != r.Run || p.row.Count != r.Count {
			p = &peer{r, now}
			c.peers[id] = p
		}
		patience := max(time.Duration(r.DeadAfter)*time.Millisecond, c.beat)
		switch silent := now.Sub(p.since); {
		case silent < patience:
			nodes = append(nodes, Node{id, r.Started, r.About})
		case silent > forgetAfter*patience:
			gone[id] = r
		}
	}
	slices.SortFunc(nodes, func(a, b Node) int { return strings.Compare(a.ID, b.ID) })
	c.noticed(nodes)
	return gone
}

// noticed puts a new list of nodes in place. c.mu is held.
func (c *Cluster) noticed(nodes []Node) {
	if slices.Equal(nodes, c.nodes) {
		return
	}
	for _, n := range nodes {
		if c.nodes != nil && !slices.ContainsFunc(c.nodes, func(o Node) bool { return o.ID == n.ID }) {
			c.log.Info("a node is there", "node", n.ID, "host", n.About.Host, "public", n.About.Public)
		}
	}
	for _, o := range c.nodes {
		if !slices.ContainsFunc(nodes, func(n Node) bool { return o.ID == n.ID }) {
			c.log.Warn("a node is gone", "node", o.ID, "host", o.About.Host, "public", o.About.Public)
		}
	}
	c.nodes = nodes
	close(c.changed)
	c.changed = make(chan struct{})
}

// forget removes rows of dead nodes, unless they were written meanwhile.
func (c *Cluster) forget(ctx context.Context, gone map[string]row) error {
	return c.st.Update(ctx, func(tx store.Tx) error {
		for id, old := range gone {
			value, err := tx.Get(nodeKey(id))
			if err != nil || value == nil {
				return err
			}
			var r row
			if json.Unmarshal(value, &r) != nil || r.Run != old.Run || r.Count != old.Count {
				continue
			}
			if err := c.removeNode(tx, id); err != nil {
				return err
			}
		}
		return nil
	})
}
