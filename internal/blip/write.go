package blip

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"time"
)

// batch is what one write to the transport is made of.
type batch struct {
	b        []byte   // frames
	ends     []int    // where each frame ends in b
	messages [][]byte // for the transport
	acks     []ack
	picked   []pick
	scratch  []byte // of a BodyReader
}

// pick is a frame to be made.
type pick struct {
	m     *outgoing
	limit int
	last  bool  // it was the message's last frame
	sent  int64 // as flow control counts
	taken int   // bytes of the message
}

const (
	batchSize  = 64 << 10 // bytes of frames in a write
	batchPicks = 128      // messages taken from the queue at a time
)

func (p *Pool) batch() *batch {
	if w, ok := p.batches.Get().(*batch); ok {
		return w
	}
	return &batch{b: make([]byte, 0, batchSize)}
}

// write sends what is queued and ends when there is nothing. There is one at a time.
func (c *Conn) write() {
	defer c.writers.Done()
	w := c.o.Pool.batch()
	defer c.o.Pool.batches.Put(w)
	for c.next(w) {
		if err := c.encode(w); err != nil {
			c.Drop(err)
			continue
		}
		if len(w.b) < batchSize-maxFrame && len(w.picked)+len(w.acks) > 0 {
			continue // there may be more
		}
		if err := c.flush(w); err != nil && !c.isClosed() {
			c.Drop(err)
		}
	}
	w.reset()
}

// isClosed reports whether the end has begun, in which writes may fail.
func (c *Conn) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// next settles what became of the frames made last and takes the next ones. false: the writer has ended.
func (c *Conn) next(w *batch) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle(w)
	if c.closed || c.ctx.Err() != nil {
		c.stopWriter()
		return false
	}
	w.acks = append(w.acks[:0], c.acks...)
	c.acks = c.acks[:0]
	for room := batchSize - len(w.b); room > 0 && len(w.picked) < batchPicks; {
		m, limit := c.out.pop()
		if m == nil {
			break
		}
		c.begin(m)
		w.picked = append(w.picked, pick{m: m, limit: limit})
		if !m.single {
			break // whether it goes back into the queue is known when its frame is made
		}
		room -= m.charge + frameHead
	}
	if len(w.picked)+len(w.acks)+len(w.b) > 0 {
		return true
	}
	c.stopWriter()
	return false
}

// begin numbers a request that begins and prepares for what the peer will say. mu is locked.
func (c *Conn) begin(m *outgoing) {
	if m.wire > 0 {
		return
	}
	if m.kind == kindRequest {
		c.lastSent++
		m.number = c.lastSent
		if m.single {
			c.expectReply(m)
		}
	}
	if !m.single {
		if c.flows == nil {
			c.flows = make(map[flowKey]*outgoing)
		}
		c.flows[m.flow()] = m
	}
}

// expectReply notes that a request's last frame is being sent. mu is locked.
func (c *Conn) expectReply(m *outgoing) {
	if m.onReply == nil {
		return
	}
	if c.calls == nil {
		c.calls = make(map[uint64]call)
	}
	c.calls[m.number] = call{m.onReply, m.streamReply}
	m.onReply = nil
}

// stopWriter ends the writer. mu is locked.
func (c *Conn) stopWriter() {
	c.writing = false
	if c.messages == 0 {
		c.wakeDrained()
	}
	c.idleDeflater()
}

// settle accounts for the frames made last. mu is locked.
func (c *Conn) settle(w *batch) {
	for i := range w.picked {
		p := &w.picked[i]
		m := p.m
		m.wire += p.sent
		c.queued -= min(p.taken, m.charge)
		m.charge -= min(p.taken, m.charge)
		switch {
		case !p.last && m.wire-m.acked > maxUnacked:
			m.suspended = true
		case !p.last:
			c.out.back(m)
		default:
			c.forget(m)
		}
		*p = pick{}
	}
	w.picked = w.picked[:0]
	if c.queued < c.o.SendQueue {
		c.wakeSenders()
	}
	if c.replying.Load() <= maxReplying {
		c.unpause()
	}
}

// forget removes a message that has been sent. mu is locked.
func (c *Conn) forget(m *outgoing) {
	c.queued -= m.charge
	c.messages--
	c.o.Stats.Queued.Add(-1)
	c.o.Stats.Out.Messages.Add(1)
	switch {
	case !m.single:
		c.out.begun--
		c.long.Add(-1)
		delete(c.flows, m.flow())
	case m.kind != kindRequest:
		c.replying.Add(-1)
	}
	if cap(m.head) > maxPooledHead {
		m.head = nil
	}
	*m = outgoing{head: m.head[:0]}
	c.o.Pool.outgoing.Put(m)
}

// maxPooledHead is the largest buffer for properties that is kept, in bytes.
const maxPooledHead = 1 << 10

// encode makes the frames that were picked.
func (c *Conn) encode(w *batch) error {
	for _, a := range w.acks {
		w.b = appendAck(w.b, a)
		w.ends = append(w.ends, len(w.b))
	}
	var raw, frames int64
	for i := range w.picked {
		if err := c.encodeFrame(w, &w.picked[i]); err != nil {
			// The message stays what it was: undelivered.
			return err
		}
		raw += int64(w.picked[i].taken)
		frames++
	}
	c.o.Stats.Out.Frames.Add(frames)
	c.o.Stats.Out.RawBytes.Add(raw)
	return nil
}

// encodeFrame makes the next frame of a message.
func (c *Conn) encodeFrame(w *batch, p *pick) error {
	m := p.m
	head, body, last, err := m.cut(w, room(p.limit, m.compress))
	if err != nil {
		return err
	}
	p.last, p.taken = last, len(head)+len(body)
	if last && !m.single && m.kind == kindRequest {
		c.mu.Lock()
		c.expectReply(m)
		c.mu.Unlock()
	}
	z := c.deflaterFor(m, p.taken)
	flags := byte(m.kind)
	for _, f := range [...]struct {
		on  bool
		bit byte
	}{{m.urgent, flagUrgent}, {m.noReply, flagNoReply}, {!last, flagMore}, {z != nil, flagCompressed}} {
		if f.on {
			flags |= f.bit
		}
	}
	w.b = appendHead(w.b, m.number, flags)
	start := len(w.b)
	c.outCRC = crc32.Update(crc32.Update(c.outCRC, crc32.IEEETable, head), crc32.IEEETable, body)
	if z != nil {
		w.b = z.deflate(w.b, head, body)
	} else {
		w.b = append(append(w.b, head...), body...)
	}
	w.b = binary.BigEndian.AppendUint32(w.b, c.outCRC)
	w.ends = append(w.ends, len(w.b))
	p.sent = int64(len(w.b) - start)
	if last && m.onDone != nil {
		m.onDone()
		m.onDone = nil
	}
	return nil
}

// cut takes up to n bytes off what is left of a message.
func (m *outgoing) cut(w *batch, n int) (head, body []byte, last bool, err error) {
	if m.pos < len(m.head) {
		head = m.head[m.pos:min(m.pos+n, len(m.head))]
		m.pos += len(head)
		n -= len(head)
	}
	if m.src == nil {
		at := m.pos - len(m.head)
		if at >= 0 {
			body = m.body[at:min(at+n, len(m.body))]
			m.pos += len(body)
		}
		return head, body, m.rest() == 0, nil
	}
	if n == 0 {
		return head, nil, false, nil
	}
	if len(w.scratch) < n {
		w.scratch = make([]byte, maxFrame)
	}
	got, err := io.ReadFull(m.src, w.scratch[:n])
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return head, w.scratch[:got], true, nil
	case err != nil:
		return nil, nil, false, err
	}
	return head, w.scratch[:got], false, nil
}

// flush gives the frames to the transport.
func (c *Conn) flush(w *batch) error {
	if len(w.ends) == 0 {
		return nil
	}
	start := 0
	for _, end := range w.ends {
		w.messages = append(w.messages, w.b[start:end])
		start = end
	}
	err := c.t.WriteMessages(w.messages)
	c.o.Stats.Out.WireBytes.Add(int64(start))
	w.reset()
	return err
}

// reset forgets the frames.
func (w *batch) reset() {
	clear(w.messages)
	w.b, w.ends, w.messages, w.acks = w.b[:0], w.ends[:0], w.messages[:0], w.acks[:0]
}

// deflaterLinger is how long a connection keeps its compressor when there is nothing to send.
const deflaterLinger = 50 * time.Millisecond

// deflaterFor returns the compressor for a frame with n bytes of a message; nil: it is sent as it is.
//
// A compressor is large, so it is borrowed while the connection is busy. One that is borrowed later begins
// afresh in the middle of the stream, which is sound: every frame ends at a byte boundary outside of any block,
// and matches reach back only into what this compressor has seen. The peer's window remembers more than we use.
func (c *Conn) deflaterFor(m *outgoing, n int) *deflater {
	if !m.compress || n < minCompress {
		return nil
	}
	if c.z == nil { // nobody but the writer looks at it while there is one
		c.z = c.o.Pool.deflater(c.o.Compression)
	}
	return c.z
}

// idleDeflater arranges for the compressor to be given back if nothing is sent soon. mu is locked.
func (c *Conn) idleDeflater() {
	switch {
	case c.z == nil:
	case c.zTimer == nil:
		c.zTimer = time.AfterFunc(deflaterLinger, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			if !c.writing {
				c.returnDeflater()
			}
		})
	default:
		c.zTimer.Reset(deflaterLinger)
	}
}

// returnDeflater gives the compressor back. mu is locked and no writer is running.
func (c *Conn) returnDeflater() {
	if c.z != nil {
		c.o.Pool.putDeflater(c.z)
		c.z = nil
	}
	if c.zTimer != nil {
		c.zTimer.Stop()
		c.zTimer = nil
	}
}
