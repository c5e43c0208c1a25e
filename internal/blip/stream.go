package blip

import (
	"io"
	"sync"
)

// stream is the body of a reply that is read while it arrives.
type stream struct {
	c *Conn
	m *incoming // of the reply

	mu      sync.Mutex
	cond    sync.Cond
	chunks  []chunk
	read    int64 // bytes of the wire that have been read
	acked   int64
	err     error // what comes after the chunks; nil: more does
	dropped bool
}

// chunk is a frame's part of the body.
type chunk struct {
	in   incoming // holds the bytes
	rest []byte
	wire int64
}

// beginStream gives a reply whose properties are here, and its body is not, to its reader.
func (c *Conn) beginStream(f *frame, r *Reply, call call) error {
	if !r.in.wellFormed() {
		c.endReply(r) // what follows is nobody's
		r.err = &Error{Domain: "BLIP", Code: 400, Text: "malformed reply"}
		c.deliver(call.onReply, r)
		return nil
	}
	r.in.complete = true
	c.finished.Add(r.in.held)
	c.rmu.Lock()
	s := &stream{c: c, m: &r.in, acked: r.in.acked}
	s.cond.L = &s.mu
	s.chunks = append(s.chunks, chunk{wire: r.in.wire + f.wire(), rest: r.in.body()})
	r.stream = s
	c.rmu.Unlock()
	c.mu.Lock()
	delete(c.calls, f.number) // its onReply is called now, and not at the end again
	c.mu.Unlock()
	c.awaiting.Add(1) // until the last frame
	c.deliver(call.onReply, r)
	return nil
}

// extendStream adds a frame.
func (c *Conn) extendStream(f *frame, r *Reply) error {
	k := chunk{wire: f.wire()}
	if err := c.decode(f, &k.in, c.o.MaxMessage); err != nil {
		c.release(&k.in)
		return err
	}
	k.rest = k.in.buf.b
	if !f.more() {
		c.endReply(r)
		c.awaiting.Add(-1)
		c.o.Stats.In.Messages.Add(1)
	}
	r.stream.add(k, !f.more())
	return nil
}

// add appends what has arrived.
func (s *stream) add(k chunk, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last {
		s.err = io.EOF
	}
	if s.dropped {
		s.finishChunk(&k)
		return
	}
	s.chunks = append(s.chunks, k)
	s.cond.Broadcast()
}

// Read reads what has arrived, or waits for it.
func (s *stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for len(s.chunks) > 0 && len(s.chunks[0].rest) == 0 {
			s.finishChunk(&s.chunks[0])
			s.chunks = s.chunks[1:]
		}
		switch {
		case s.dropped:
			return 0, io.ErrClosedPipe
		case len(s.chunks) > 0:
			n := copy(p, s.chunks[0].rest)
			s.chunks[0].rest = s.chunks[0].rest[n:]
			return n, nil
		case s.err != nil:
			return 0, s.err
		case len(p) == 0:
			return 0, nil
		}
		s.cond.Wait()
	}
}

// finishChunk gives a chunk's memory back and acknowledges it. mu is locked.
func (s *stream) finishChunk(k *chunk) {
	s.read += k.wire
	s.c.release(&k.in)
	if s.err == nil && s.read/ackEvery > s.acked/ackEvery {
		s.acked = s.read
		s.c.acknowledge(s.m, s.read)
	}
}

// end says that nothing more comes.
func (s *stream) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	s.cond.Broadcast()
}

// abandon drops what is here and what still comes.
func (s *stream) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropped = true
	for i := range s.chunks {
		s.finishChunk(&s.chunks[i])
	}
	s.chunks = nil
	s.cond.Broadcast()
}
