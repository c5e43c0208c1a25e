package blip

import "hash/crc32"

// receive reads frames until something ends it.
func (c *Conn) receive() error {
	for c.waitToRead() {
		b, err := c.t.ReadMessage()
		if err != nil {
			return err
		}
		if err := c.receiveFrame(b); err != nil {
			return err
		}
	}
	return c.why()
}

// receiveFrame handles one frame.
func (c *Conn) receiveFrame(b []byte) error {
	c.o.Stats.In.WireBytes.Add(int64(len(b)))
	f, err := parseFrame(b)
	if err != nil {
		return err
	}
	if f.isAck() {
		c.acknowledged(&f)
		return nil
	}
	c.o.Stats.In.Frames.Add(1)
	switch f.kind() {
	case kindRequest:
		return c.receiveRequest(&f)
	case kindReply, kindError:
		return c.receiveReply(&f)
	}
	return c.ignore(&f)
}

// ignore decodes a frame that means nothing: checksum and window move on with it.
func (c *Conn) ignore(f *frame) error {
	var nobody incoming
	err := c.decode(f, &nobody, c.o.MaxMessage)
	c.release(&nobody)
	return err
}

// receiveRequest handles a frame of a request.
func (c *Conn) receiveRequest(f *frame) error {
	r, err := c.requestOf(f)
	if err != nil {
		return err
	}
	if err := c.extend(f, &r.in); err != nil {
		return err
	}
	if f.more() {
		c.rmu.Lock()
		defer c.rmu.Unlock()
		c.noteFrame(&r.in, f.wire())
		return nil
	}
	if r.in.order > 0 {
		c.rmu.Lock()
		delete(c.requests, f.number)
		c.rmu.Unlock()
	}
	c.complete(&r.in)
	c.catchUp()
	c.handle(r)
	return nil
}

// maxIncomplete is how many requests of the peer may be incomplete at a time.
const maxIncomplete = 1024

// requestOf finds or begins the request of a frame.
func (c *Conn) requestOf(f *frame) (*Request, error) {
	if f.number == c.lastRequest+1 && f.number != 0 {
		c.lastRequest++
		r := &Request{in: incoming{c: c, number: f.number, flags: f.flags}}
		if f.more() {
			c.rmu.Lock()
			defer c.rmu.Unlock()
			if len(c.requests) >= maxIncomplete {
				return nil, errTooMany
			}
			if c.requests == nil {
				c.requests = make(map[uint64]*Request)
			}
			c.order++
			r.in.order = c.order
			c.requests[f.number] = r
		}
		return r, nil
	}
	if r, ok := c.requests[f.number]; ok {
		return r, nil
	}
	return nil, errNumber
}

// handle gives a complete request to its handler.
func (c *Conn) handle(r *Request) {
	defer c.recovered(r)
	if !r.in.wellFormed() {
		r.Fail("BLIP", 400, "malformed request")
		r.Release()
		return
	}
	p, _ := r.in.properties().lookup("Profile")
	if string(p) != c.lastProfile {
		c.lastProfile = string(p)
	}
	r.profile = c.lastProfile
	if c.o.Handle == nil {
		r.NoHandler()
		r.Release()
		return
	}
	c.o.Handle(r)
}

// receiveReply handles a frame of a reply.
func (c *Conn) receiveReply(f *frame) error {
	r, call, err := c.replyOf(f)
	if err != nil {
		return err
	}
	if r == nil {
		// An answer to a request that was answered before, or wants no answer.
		c.o.Stats.ProtocolErrors.Add(1)
		return c.ignore(f)
	}
	if r.stream != nil {
		return c.extendStream(f, r)
	}
	if err := c.extend(f, &r.in); err != nil {
		return err
	}
	if f.more() && call.stream && r.in.kind == kindReply && r.in.end > 0 && len(r.in.buf.b) >= r.in.end {
		return c.beginStream(f, r, call)
	}
	if f.more() {
		c.rmu.Lock()
		defer c.rmu.Unlock()
		c.noteFrame(&r.in, f.wire())
		return nil
	}
	c.endReply(r)
	c.complete(&r.in)
	c.catchUp()
	switch {
	case !r.in.wellFormed():
		r.err = &Error{Domain: "BLIP", Code: 400, Text: "malformed reply"}
	case r.in.kind == kindError:
		r.err = peerError(&r.in)
	}
	c.deliver(call.onReply, r)
	return nil
}

// replyOf finds or begins the reply of a frame; nil if nobody waits for it.
func (c *Conn) replyOf(f *frame) (*Reply, call, error) {
	c.mu.Lock()
	call, ok := c.calls[f.number]
	sent := c.lastSent
	_, sending := c.flows[flowKey{number: f.number}]
	c.mu.Unlock()
	if r := c.replies[f.number]; r != nil {
		return r, call, nil
	}
	if f.number == 0 || f.number > sent || sending && !ok {
		return nil, call, errStray
	}
	if !ok {
		return nil, call, nil
	}
	r := &Reply{in: incoming{c: c, number: f.number, kind: f.kind(), flags: f.flags}}
	if f.more() {
		c.rmu.Lock()
		defer c.rmu.Unlock()
		if c.replies == nil {
			c.replies = make(map[uint64]*Reply)
		}
		c.order++
		r.in.order = c.order
		c.replies[f.number] = r
	}
	return r, call, nil
}

// endReply forgets a reply that is complete.
func (c *Conn) endReply(r *Reply) {
	c.mu.Lock()
	delete(c.calls, r.in.number)
	c.mu.Unlock()
	if r.in.order > 0 {
		c.rmu.Lock()
		delete(c.replies, r.in.number)
		c.rmu.Unlock()
	}
}

// complete counts a message that is here.
func (c *Conn) complete(m *incoming) {
	m.complete = true
	c.finished.Add(m.held)
	c.o.Stats.In.Messages.Add(1)
}

// extend decodes a frame onto its message.
func (c *Conn) extend(f *frame, m *incoming) error {
	if err := c.decode(f, m, c.o.MaxMessage); err != nil {
		if m.order == 0 { // others are given back at the end
			c.release(m)
		}
		return err
	}
	if m.end > 0 {
		return nil
	}
	props, skip, known, err := splitLength(m.buf.b)
	if err != nil {
		return err
	}
	if known {
		m.skip, m.end = skip, skip+props
	}
	return nil
}

// decode appends a frame's payload, inflated, to a message, and checks it against the checksum. limit is the
// largest message.
func (c *Conn) decode(f *frame, m *incoming, limit int64) error {
	had := 0
	if m.buf != nil {
		had = len(m.buf.b)
	}
	if f.flags&flagCompressed == 0 || len(f.payload) == 0 {
		b, err := c.extendBuffer(m, len(f.payload), limit)
		if err != nil {
			return err
		}
		m.buf.b = append(b, f.payload...)
	} else if err := c.inflate(f, m, limit); err != nil {
		return err
	}
	raw := m.buf.b[had:]
	c.o.Stats.In.RawBytes.Add(int64(len(raw)))
	if c.inCRC = crc32.Update(c.inCRC, crc32.IEEETable, raw); c.inCRC != f.sum {
		return errChecksum
	}
	return nil
}

// inflate appends a frame's inflated payload to a message.
func (c *Conn) inflate(f *frame, m *incoming, limit int64) error {
	// Text shrinks to a third or so; room for more is made when it is needed.
	b, err := c.extendBuffer(m, min(3*len(f.payload), int(limit)-m.size()), limit)
	if err != nil {
		return err
	}
	z := c.o.Pool.inflater()
	defer c.o.Pool.inflaters.Put(z)
	b, err = z.inflate(b, f.payload, &c.win, func(out []byte, more int) ([]byte, error) {
		m.buf.b = out
		return c.extendBuffer(m, more, limit)
	})
	m.buf.b = b
	if err == errCorrupt {
		return errDeflate
	}
	return err
}

// size is how long the message is so far.
func (m *incoming) size() int {
	if m.buf == nil {
		return 0
	}
	return len(m.buf.b)
}

// extendBuffer makes room for n more bytes of a message and counts the memory.
func (c *Conn) extendBuffer(m *incoming, n int, limit int64) ([]byte, error) {
	have := m.size()
	need := int64(have) + int64(n)
	switch {
	case need > limit:
		return nil, errTooBig
	case m.buf != nil && need <= int64(cap(m.buf.b)):
		return m.buf.b, nil
	case have > 0:
		need = max(need, min(2*int64(cap(m.buf.b)), limit))
	}
	grown := c.o.Pool.buffer(int(need))
	if err := c.hold(m, int64(cap(grown.b))-m.held); err != nil {
		c.o.Pool.put(grown)
		return nil, err
	}
	if m.buf != nil {
		grown.b = append(grown.b, m.buf.b...)
		c.o.Pool.put(m.buf)
	}
	m.buf = grown
	return grown.b, nil
}

// hold counts memory that a message takes.
func (c *Conn) hold(m *incoming, n int64) error {
	if c.pending.Add(n) > c.o.MaxPending+c.o.MaxMessage {
		c.pending.Add(-n)
		return errPending
	}
	if c.o.Budget != nil && !c.o.Budget.take(c.ctx, c, n, c.o.BudgetWait) {
		c.pending.Add(-n)
		return errMemory
	}
	m.held += n
	return nil
}

// letGo gives memory back.
func (c *Conn) letGo(m *incoming, n int64) {
	m.held -= n
	c.pending.Add(-n)
	if c.o.Budget != nil {
		c.o.Budget.give(c, n)
	}
}

// hog implements holder: the peer may come back later.
func (c *Conn) hog() { c.Drop(errMemory) }

// release gives back everything that a message holds.
func (c *Conn) release(m *incoming) {
	if m.complete {
		c.finished.Add(-m.held)
		m.complete = false
	}
	buf := m.buf
	m.buf = nil
	if buf == nil {
		return
	}
	c.o.Pool.put(buf)
	c.letGo(m, m.held)
	c.catchUp()
	c.unpause()
}

// wellFormed reports whether the message has properties that make sense.
func (m *incoming) wellFormed() bool {
	return m.end > 0 && m.end <= len(m.buf.b) && wellFormed(m.buf.b[m.skip:m.end])
}
