package websocket

import "time"

const defaultPongTimeout = 20 * time.Second

// startKeepAlive arms the timer that looks after the peer. It is the only cost of an idle connection's pings.
func (c *Conn) startKeepAlive() {
	if c.o.PingAfter <= 0 {
		return
	}
	c.lastRead.Store(time.Now().UnixNano())
	// It is armed once it is where keepAlive finds it.
	c.alive = time.AfterFunc(time.Hour, c.keepAlive)
	c.alive.Reset(c.o.PingAfter)
}

func (c *Conn) stopKeepAlive() {
	if c.alive != nil {
		c.alive.Stop()
	}
}

// keepAlive runs when the peer may have been silent for too long.
func (c *Conn) keepAlive() {
	heard := c.lastRead.Load()
	silent := time.Since(time.Unix(0, heard))
	// The answer counts however long ago it came: a timer that is late must not make it look like none.
	c.asked = c.asked && heard < c.askedAt
	switch {
	case c.ended.Load():
		return
	case !c.reading.Load():
		// Whoever uses the connection does not read: the silence is not the peer's.
		c.lastRead.Store(time.Now().UnixNano())
		c.asked = false
		c.alive.Reset(c.o.PingAfter)
	case silent < c.o.PingAfter:
		c.asked = false
		c.alive.Reset(c.o.PingAfter - silent)
	case c.asked:
		c.finish(ErrDeadPeer)
	default:
		c.ping()
		c.alive.Reset(c.o.PongTimeout)
	}
}

// ping asks the peer, unless a writer is busy: a write that does not get through ends the connection by itself.
func (c *Conn) ping() {
	if !c.writing.TryLock() {
		return
	}
	defer c.unlock()
	if !c.closeSent {
		c.askedAt = time.Now().UnixNano()
		c.asked = c.writeFrame(opPing, nil) == nil
	}
}
