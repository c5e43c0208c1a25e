package cluster

import (
	"bytes"
	"context"
	"encoding/binary"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// Note marks, within a transaction, that what the topic stands for has changed: once it is committed who subscribes to the topic is
// woken, on every node. There is one row for each topic: topics are few and known, never made of what a client says.
func (c *Cluster) Note(tx store.Tx, topic string) error { return note(tx, topic) }

func note(tx store.Tx, topic string) error {
	seq, err := tx.NextSequence(0)
	if err != nil {
		return err
	}
	return tx.Put(noteKey(topic), binary.BigEndian.AppendUint64(nil, uint64(seq)))
}

// Forget removes, within a transaction, the note of a topic that is used no more, and what was told under it.
func (c *Cluster) Forget(tx store.Tx, topic string) error {
	var keys [][]byte
	it := tx.Scan(store.Prefix(toldTopic(topic)))
	for it.Next() {
		keys = append(keys, append([]byte(nil), it.Key()...))
	}
	err := it.Err()
	if cerr := it.Close(); err == nil {
		err = cerr
	}
	for _, key := range keys {
		if err == nil {
			err = tx.Delete(key)
		}
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	delete(c.says, topic)
	c.mu.Unlock()
	return tx.Delete(noteKey(topic))
}

// subscription is one who is woken.
type subscription struct{ woken chan struct{} }

func (s *subscription) wake() {
	select {
	case s.woken <- struct{}{}:
	default: // a token is there already
	}
}

// Subscribe returns a channel that gets a token at once, and then after notes of the topic; several may share a token. Whoever reads it
// looks at the store. stop ends the subscription.
func (c *Cluster) Subscribe(topic string) (woken <-chan struct{}, stop func()) {
	s := &subscription{make(chan struct{}, 1)}
	s.wake()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.subs[topic] == nil {
		c.subs[topic] = map[*subscription]struct{}{}
	}
	c.subs[topic][s] = struct{}{}
	return s.woken, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.subs[topic], s)
		if len(c.subs[topic]) == 0 {
			delete(c.subs, topic)
		}
	}
}

// notesRetry is the pause after notes could not be read.
const notesRetry = 200 * time.Millisecond

// passNotes wakes subscribers until ctx ends.
func (c *Cluster) passNotes(ctx context.Context) {
	for ctx.Err() == nil {
		c.mu.Lock()
		seen := c.seen
		c.mu.Unlock()
		_, err := c.st.Wait(ctx, 0, seen)
		if err == nil {
			err = c.readNotes(ctx, seen)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		if tidegate.ErrorCode(err) != tidegate.Unavailable {
			c.log.Error("notes of other nodes cannot be read", "error", err)
		}
		pause(ctx, notesRetry)
	}
}

// readNotes wakes the subscribers of topics that were noted since.
func (c *Cluster) readNotes(ctx context.Context, since tidegate.Seq) error {
	var topics []string
	var last tidegate.Seq
	err := c.st.View(ctx, func(r store.Reader) (err error) {
		topics = nil
		if last, err = r.LastSequence(0); err != nil {
			return err
		}
		it := r.Scan(store.Prefix(notePrefix()))
		defer it.Close()
		for it.Next() {
			topic, _, err := store.CutName(it.Key()[len(notePrefix()):])
			if err != nil {
				return err
			}
			if v := it.Value(); len(v) == 8 && tidegate.Seq(binary.BigEndian.Uint64(v)) > since {
				topics = append(topics, topic)
			}
		}
		return it.Err()
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.seen = max(c.seen, last)
	nodes := false
	for _, topic := range topics {
		nodes = nodes || topic == topicNodes
		for s := range c.subs[topic] {
			s.wake()
		}
	}
	c.mu.Unlock()
	if nodes {
		return c.look(ctx, time.Now())
	}
	return nil
}

// Tell publishes what this node says under a topic, and notes the topic; nil takes it back. It is gone when this node leaves, and not
// read any more when it is dead.
func (c *Cluster) Tell(ctx context.Context, topic string, value []byte) error {
	return c.st.Update(ctx, func(tx store.Tx) error { return c.TellIn(tx, topic, value) })
}

// TellIn is Tell within a transaction.
func (c *Cluster) TellIn(tx store.Tx, topic string, value []byte) error {
	key := toldTopic(topic).Name(c.self.ID)
	c.mu.Lock()
	if value == nil {
		delete(c.says, topic)
	} else {
		c.says[topic] = bytes.Clone(value)
	}
	c.mu.Unlock()
	if value == nil {
		if err := tx.Delete(key); err != nil {
			return err
		}
		return note(tx, topic)
	}
	stored := make([]byte, 0, len(c.run)+len(value))
	if err := tx.Put(key, append(append(stored, c.run...), value...)); err != nil {
		return err
	}
	return note(tx, topic)
}

// Told reads what the nodes that are alive say under a topic, by node. What a node said before it was started again does not count.
func (c *Cluster) Told(ctx context.Context, topic string) (map[string][]byte, error) {
	var told map[string][]byte
	err := c.st.View(ctx, func(r store.Reader) (err error) {
		told, err = c.ToldIn(r, topic)
		return err
	})
	return told, err
}

// ToldIn is Told as of a snapshot.
func (c *Cluster) ToldIn(r store.Reader, topic string) (map[string][]byte, error) {
	runs := c.runs()
	told := map[string][]byte{}
	it := r.Scan(store.Prefix(toldTopic(topic)))
	defer it.Close()
	for it.Next() {
		node, _, err := store.CutName(it.Key()[len(toldTopic(topic)):])
		if err != nil {
			return nil, err
		}
		run := runs[node]
		if v := it.Value(); run != "" && len(v) >= len(run) && string(v[:len(run)]) == run {
			told[node] = append([]byte{}, v[len(run):]...)
		}
	}
	return told, it.Err()
}

// runs are the processes that are alive, by node.
func (c *Cluster) runs() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	runs := map[string]string{}
	for _, n := range c.nodes {
		if n.ID == c.self.ID {
			runs[n.ID] = c.run
		} else if p := c.peers[n.ID]; p != nil {
			runs[n.ID] = p.row.Run
		}
	}
	return runs
}
