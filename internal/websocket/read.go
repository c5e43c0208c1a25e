package websocket

import (
	"encoding/binary"
	"time"
	"unicode/utf8"
)

// ReadMessage returns the next binary message; a text message ends the connection. See Next.
func (c *Conn) ReadMessage() ([]byte, error) {
	op, msg, err := c.Next()
	if err == nil && op != Binary {
		return nil, c.fail(&ProtocolError{CloseUnsupported, "text message"})
	}
	return msg, err
}

// Next blocks for the next message, answering pings meanwhile. The message is valid until the next call and may
// be changed. An error is final: *CloseError if the peer closed, *ProtocolError if it broke the rules, which it has been
// told. The caller must call Abort then, which is when the peer sees the end of the connection.
func (c *Conn) Next() (Opcode, []byte, error) {
	c.reading.Store(true)
	op, msg, err := c.next()
	c.reading.Store(false)
	if err != nil {
		return op, nil, c.fail(err)
	}
	return op, msg, nil
}

// SetReadLimit changes the size of the largest message, in bytes. The reading goroutine may call it between messages.
func (c *Conn) SetReadLimit(limit int64) { c.o.ReadLimit = limit }

// Discard reads messages over, of any kind, until the connection ends, and returns why.
func (c *Conn) Discard() error {
	for {
		if _, _, err := c.Next(); err != nil {
			return err
		}
	}
}

func (c *Conn) next() (Opcode, []byte, error) {
	c.msg, c.read = nil, 0
	var first Opcode
	started := false
	for {
		f, err := c.head()
		if err != nil {
			return 0, nil, err
		}
		if f.op >= opClose {
			if err := c.control(f); err != nil {
				return 0, nil, err
			}
			continue
		}
		if (f.op == opContinuation) != started {
			return 0, nil, &ProtocolError{CloseProtocol, "fragments out of order"}
		}
		if !started {
			first, started = f.op, true
		}
		msg, err := c.payload(f)
		if err != nil {
			return 0, nil, err
		}
		if !f.fin {
			continue
		}
		started = false
		if c.sentClose() {
			// After our close nothing counts but the peer's.
			c.msg, c.read = nil, 0
			continue
		}
		if first == Text && !utf8.Valid(msg) {
			return 0, nil, &ProtocolError{CloseBadData, "text is not UTF-8"}
		}
		return first, msg, nil
	}
}

// head reads and checks the head of the next frame.
func (c *Conn) head() (frameHead, error) {
	if err := c.await(); err != nil {
		return frameHead{}, err
	}
	if err := c.fill(2); err != nil {
		return frameHead{}, err
	}
	f, n, err := checkHead(c.in[0], c.in[1], !c.client)
	if err != nil {
		return f, err
	}
	if err := c.fill(n); err != nil {
		return f, err
	}
	f.parse(c.take(n))
	return f, nil
}

// payload reads and unmasks the payload of a data frame. It returns the message up to here.
func (c *Conn) payload(f frameHead) ([]byte, error) {
	if f.size > uint64(c.o.ReadLimit-c.read) {
		return nil, &ProtocolError{CloseTooBig, "message too big"}
	}
	c.read += int64(f.size)
	size := int(f.size)
	if f.fin && c.msg == nil && size <= readBufferSize {
		// The usual case: the message stays where it was read to.
		if err := c.fill(size); err != nil {
			return nil, err
		}
		msg := c.take(size)
		mask(msg, f.key, 0)
		return msg, nil
	}
	// Memory grows with what arrives, not with what is announced.
	for pos := 0; pos < size; {
		if err := c.fill(1); err != nil {
			return nil, err
		}
		part := c.take(min(size-pos, len(c.in)))
		mask(part, f.key, pos)
		c.msg = append(c.msg, part...)
		pos += len(part)
	}
	if c.msg == nil {
		c.msg = []byte{}
	}
	return c.msg, nil
}

// control reads a control frame and does what it asks for.
func (c *Conn) control(f frameHead) error {
	if err := c.fill(int(f.size)); err != nil {
		return err
	}
	p := c.take(int(f.size))
	mask(p, f.key, 0)
	switch f.op {
	case opPing:
		return c.answerPing(p)
	case opClose:
		return closedBy(p)
	}
	return nil
}

// closedBy reads a close frame.
func closedBy(p []byte) error {
	if len(p) == 0 {
		return &CloseError{Code: closeNoStatus}
	}
	if len(p) == 1 || !validCode(int(binary.BigEndian.Uint16(p))) {
		return &ProtocolError{CloseProtocol, "bad close frame"}
	}
	if !utf8.Valid(p[2:]) {
		return &ProtocolError{CloseBadData, "text is not UTF-8"}
	}
	return &CloseError{Code: int(binary.BigEndian.Uint16(p)), Reason: string(p[2:])}
}

// validCode reports whether a code may be in a close frame, RFC 6455 §7.4.
func validCode(code int) bool {
	switch {
	case code < 1000 || code >= 5000:
		return false
	case code >= 3000:
		return true
	}
	return code <= 1014 && code != 1004 && code != closeNoStatus && code != 1006
}

// take uses n of the bytes that were read.
func (c *Conn) take(n int) []byte {
	b := c.in[:n:n]
	c.in = c.in[n:]
	return b
}

// await waits for the next frame to begin, without a buffer.
func (c *Conn) await() error {
	if len(c.in) > 0 {
		return nil
	}
	c.giveBack()
	n, err := c.stream.Read(c.small[:])
	c.in = c.small[:n]
	return c.noteRead(n, err)
}

// fill reads until at least n bytes are there, n <= readBufferSize. A frame has begun.
func (c *Conn) fill(n int) error {
	for len(c.in) < n {
		if err := c.more(n - len(c.in)); err != nil {
			return err
		}
	}
	return nil
}

// more reads once into the read buffer, which has room for the bytes needed.
func (c *Conn) more(need int) error {
	switch {
	case c.big == nil:
		c.big = c.o.Buffers.getRead()
		fallthrough
	case len(c.in) == 0, readBufferSize-c.tail < max(need, readBufferSize/4):
		c.tail = copy(c.big[:], c.in)
	}
	have := len(c.in)
	n, err := c.stream.Read(c.big[c.tail:])
	c.tail += n
	c.in = c.big[c.tail-n-have : c.tail]
	return c.noteRead(n, err)
}

// noteRead returns err unless something was read.
func (c *Conn) noteRead(n int, err error) error {
	if n <= 0 {
		return err
	}
	if c.alive != nil {
		c.lastRead.Store(time.Now().UnixNano())
	}
	return nil
}

// giveBack returns the read buffer.
func (c *Conn) giveBack() {
	if c.big != nil {
		c.o.Buffers.read.Put(c.big)
		c.big, c.tail = nil, 0
	}
}

func (b *Buffers) getRead() *readBuffer {
	if r, ok := b.read.Get().(*readBuffer); ok {
		return r
	}
	return new(readBuffer)
}

// fail ends reading because of err, tells the peer if there is something to tell, and
// returns the reason.
func (c *Conn) fail(err error) error {
	switch e := err.(type) {
	case *CloseError:
		code, reason := e.Code, e.Reason
		if code == closeNoStatus {
			code, reason = 0, ""
		}
		_ = c.sendClose(code, reason)
	case *ProtocolError:
		if c.sendClose(e.Code, e.Reason) == nil && !c.ended.Load() {
			c.linger()
		}
	}
	if cause := c.cause.Load(); cause != nil {
		err = *cause
	}
	c.in, c.msg = nil, nil
	c.giveBack()
	c.cause.CompareAndSwap(nil, &err)
	return err
}

// linger reads over what the peer still sends. Closing with bytes unread would reset the connection, and the
// peer might never see the close frame.
func (c *Conn) linger() {
	c.stream.closeWrite()
	if c.stream.SetReadDeadline(time.Now().Add(c.o.CloseTimeout)) != nil {
		return
	}
	b := c.o.Buffers.getRead()
	defer c.o.Buffers.read.Put(b)
	for {
		if _, err := c.stream.Read(b[:]); err != nil {
			return
		}
	}
}
