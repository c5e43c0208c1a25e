package blip

import (
	"encoding/binary"
	"time"
)

// flowKey names a message that is being sent, for the peer's ACKs.
type flowKey struct {
	number uint64
	reply  bool
}

func (m *outgoing) flow() flowKey { return flowKey{m.number, m.kind != kindRequest} }

// acknowledged takes an ACK of the peer. Those that make no sense are ignored (blip.md §10).
func (c *Conn) acknowledged(f *frame) {
	value, n := binary.Uvarint(f.payload)
	if n <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.flows[flowKey{f.number, f.kind() == kindAckReply}]
	if m == nil || value > 1<<62 {
		return
	}
	m.acked = max(m.acked, int64(value))
	if m.suspended && m.wire-m.acked <= maxUnacked && !c.closed {
		m.suspended = false
		c.out.back(m)
		c.startWriter()
	}
}

// acknowledge sends an ACK for what has been received or read of a message.
func (c *Conn) acknowledge(m *incoming, value int64) {
	a := ack{number: m.number, kind: kindAckMsg, value: value}
	if m.kind != kindRequest {
		a.kind = kindAckReply
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acks = append(c.acks, a)
	c.startWriter()
}

// due reports whether so many bytes received call for an ACK.
func (m *incoming) due(value int64) bool { return value/ackEvery > m.acked/ackEvery }

// noteFrame counts a frame of an incomplete message and acknowledges. While too much is pending, only the oldest
// message is: the others stop when their senders' windows are full, the oldest comes to its end. rmu is locked.
func (c *Conn) noteFrame(m *incoming, wire int64) {
	m.wire += wire
	if !m.due(m.wire) {
		return
	}
	if c.pending.Load() > c.o.MaxPending && c.oldest() != m {
		c.withheld.Store(true)
		return
	}
	m.acked = m.wire
	c.acknowledge(m, m.wire)
}

// oldest is the incomplete message that began first. rmu is locked.
func (c *Conn) oldest() *incoming {
	var first *incoming
	consider := func(m *incoming) {
		if first == nil || m.order < first.order {
			first = m
		}
	}
	for _, r := range c.requests {
		consider(&r.in)
	}
	for _, r := range c.replies {
		if r.stream == nil { // those are acknowledged when they are read
			consider(&r.in)
		}
	}
	return first
}

// catchUp sends the ACKs that were withheld, as far as that is right now.
func (c *Conn) catchUp() {
	if !c.withheld.Load() {
		return
	}
	c.rmu.Lock()
	defer c.rmu.Unlock()
	only := c.oldest()
	if c.pending.Load() <= c.o.MaxPending {
		only = nil
		c.withheld.Store(false)
	}
	send := func(m *incoming) {
		if m.due(m.wire) && (only == nil || only == m) {
			m.acked = m.wire
			c.acknowledge(m, m.wire)
		}
	}
	for _, r := range c.requests {
		send(&r.in)
	}
	for _, r := range c.replies {
		if r.stream == nil {
			send(&r.in)
		}
	}
}

// maxReplying is how many short replies may wait to be sent before reading slows down: a peer that sends requests
// and reads no replies would otherwise fill the memory. Long ones do not count, since they need ACKs to go on.
const maxReplying = 32 << 10

// replyPause is how long a message waits then. Reading does not stop, or two peers that are both slow to read
// could wait for each other.
const replyPause = 50 * time.Millisecond

// full reports whether too much is pending for another message to be read. It does not count while somebody waits
// for what only reading brings, a reply or an ACK: what is pending may be released only then.
func (c *Conn) full() bool {
	return c.pending.Load() > c.o.MaxPending && c.finished.Load() > 0 && c.awaiting.Load() == 0 && c.long.Load() == 0
}

// waitToRead blocks until another message may be read. false: the connection has ended.
func (c *Conn) waitToRead() bool {
	if c.replying.Load() > maxReplying {
		c.pause(replyPause)
	}
	for c.full() {
		if !c.pause(0) {
			return false
		}
	}
	return true
}

// pause waits for a change, at most for d unless that is 0. false: the connection has ended.
func (c *Conn) pause(d time.Duration) bool {
	if c.resume == nil { // it is there before anybody can see that we wait
		c.resume = make(chan struct{}, 1)
	}
	c.paused.Store(true)
	defer c.paused.Store(false)
	var timeout <-chan time.Time
	if d > 0 {
		timeout = time.After(d)
	} else if !c.full() { // it changed before anybody could see that we wait
		return true
	}
	select {
	case <-c.resume:
	case <-timeout:
	case <-c.ctx.Done():
		return false
	}
	return true
}

// unpause makes a reader that waits look again.
func (c *Conn) unpause() {
	if !c.paused.Load() {
		return
	}
	select {
	case c.resume <- struct{}{}:
	default:
	}
}
