package websocket

import (
	"encoding/binary"
	"time"
)

// WriteMessages sends binary messages, several in one write.
func (c *Conn) WriteMessages(messages [][]byte) error {
	c.writing.Lock()
	defer c.unlock()
	if c.closeSent {
		return ErrClosed
	}
	out := c.o.Buffers.getWrite()
	defer c.o.Buffers.putWrite(out)
	for _, m := range messages {
		if len(out.b) > 0 && len(out.b)+maxMaskedHead+len(m) > writeBufferSize {
			if err := c.flush(out); err != nil {
				return err
			}
		}
		out.b = appendFrame(out.b, Binary, m, c.client)
	}
	return c.flush(out)
}

// Write sends one message.
func (c *Conn) Write(op Opcode, message []byte) error {
	c.writing.Lock()
	defer c.unlock()
	if c.closeSent {
		return ErrClosed
	}
	return c.writeFrame(op, message)
}

// WriteFrames sends whole frames that the caller has made with PutHead. Only a server may.
func (c *Conn) WriteFrames(b []byte) error {
	c.writing.Lock()
	defer c.unlock()
	if c.closeSent {
		return ErrClosed
	}
	return c.stream.WriteWithin(b, c.o.WriteTimeout)
}

// writeFrame sends a frame; the caller has locked writing.
func (c *Conn) writeFrame(op Opcode, payload []byte) error {
	out := c.o.Buffers.getWrite()
	defer c.o.Buffers.putWrite(out)
	out.b = appendFrame(out.b, op, payload, c.client)
	return c.flush(out)
}

func (c *Conn) flush(out *writeBuffer) error {
	if len(out.b) == 0 {
		return nil
	}
	err := c.stream.WriteWithin(out.b, c.o.WriteTimeout)
	out.b = out.b[:0]
	if err != nil {
		// Part of a frame may be on its way: nothing sensible can follow.
		c.finish(err)
	}
	return err
}

func (b *Buffers) getWrite() *writeBuffer {
	if w, ok := b.write.Get().(*writeBuffer); ok {
		return w
	}
	return &writeBuffer{make([]byte, 0, writeBufferSize)}
}

func (b *Buffers) putWrite(w *writeBuffer) {
	if cap(w.b) > 2*writeBufferSize {
		return
	}
	w.b = w.b[:0]
	b.write.Put(w)
}

// answerPing sends a pong. If a writer is busy it is left to the writer: the reader must not wait for a peer
// that reads slowly. Of several pings that come meanwhile the last is answered, as RFC 6455 §5.5.3 allows.
func (c *Conn) answerPing(payload []byte) error {
	if c.writing.TryLock() {
		defer c.unlock()
		if c.closeSent {
			return nil
		}
		return c.writeFrame(opPong, payload)
	}
	c.late.Lock()
	c.late.pong = append(c.late.pong[:0], payload...)
	c.late.Unlock()
	c.late.has.Store(true)
	if c.writing.TryLock() { // the writer may have left before it could see the pong
		c.unlock()
	}
	return nil
}

// unlock ends writing, after the pong that had to wait, if there is one.
func (c *Conn) unlock() {
	for {
		if c.late.has.Swap(false) && !c.closeSent {
			c.late.Lock()
			pong := append([]byte(nil), c.late.pong...)
			c.late.Unlock()
			_ = c.writeFrame(opPong, pong) // the next write says the same
		}
		c.writing.Unlock()
		if !c.late.has.Load() || !c.writing.TryLock() {
			return
		}
	}
}

// Close sends a close frame. Reading goes on until the peer has answered, at most for CloseTimeout; what it
// still sends is read over. A goroutine must be reading for the peer's answer to be seen.
func (c *Conn) Close(code int, reason string) error {
	if err := c.sendClose(code, reason); err != nil {
		c.finish(err)
		return err
	}
	time.AfterFunc(c.o.CloseTimeout, func() { c.finish(ErrClosed) })
	return nil
}

// CloseNow sends a close frame and closes the connection without waiting for an answer.
func (c *Conn) CloseNow(code int, reason string) error {
	err := c.sendClose(code, reason)
	c.finish(ErrClosed)
	return err
}

// sendClose sends a close frame unless one was sent. code 0: a frame without a code.
func (c *Conn) sendClose(code int, reason string) error {
	c.writing.Lock()
	defer c.unlock()
	if c.closeSent || c.ended.Load() {
		return nil
	}
	c.closeSent = true
	c.saidBye.Store(true)
	var p []byte
	if code != 0 {
		p = binary.BigEndian.AppendUint16(nil, uint16(code))
		p = append(p, cutUTF8(reason, maxControlPayload-2)...)
	}
	return c.writeFrame(opClose, p)
}

// cutUTF8 returns at most n bytes of s, whole characters only.
func cutUTF8(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n]
}

// sentClose reports whether a close frame was sent.
func (c *Conn) sentClose() bool { return c.saidBye.Load() }
