package blip

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// ErrClosed is why a connection ended that was closed with Close.
var ErrClosed = errors.New("blip: the connection was closed")

// Conn is one end of a BLIP connection. While nothing is under way it is one goroutine, which sits in the
// transport's ReadMessage.
type Conn struct {
	t      Transport
	o      Options
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu       sync.Mutex // of what follows
	out      queue
	acks     []ack
	queued   int                   // bytes in out and suspended
	messages int                   // likewise
	flows    map[flowKey]*outgoing // begun, more than one frame
	calls    map[uint64]call       // requests sent, waiting for their reply
	lastSent uint64                // number of the last request that has begun
	writing  bool                  // a writer goroutine is running
	closed   bool                  // nothing can be queued any more
	closing  bool                  // Close was called
	space    chan struct{}         // closed when there is room in the queue; nil: nobody waits
	drained  chan struct{}         // closed when nothing is queued; nil: nobody waits
	writers  sync.WaitGroup
	z        *deflater // nil: none is held
	zTimer   *time.Timer

	// The writer's alone:
	outCRC uint32

	// The reader's alone:
	inCRC       uint32
	win         window
	lastRequest uint64 // number of the last request that has begun
	lastProfile string

	// Only the reader changes what follows, so that it may look without the lock. Other goroutines look, and move
	// the ACK state of the messages, under it. It is locked before mu, never after, and not while a callback runs.
	rmu      sync.Mutex
	requests map[uint64]*Request // incomplete
	replies  map[uint64]*Reply   // incomplete
	order    uint64
	withheld atomic.Bool // ACKs are

	pending  atomic.Int64 // bytes of messages that are not released
	finished atomic.Int64 // the part of them in complete messages
	awaiting atomic.Int64 // requests of ours that wait for a reply
	long     atomic.Int64 // messages of more than one frame that are queued, or suspended
	paused   atomic.Bool
	replying atomic.Int64  // replies of one frame that are queued
	resume   chan struct{} // made by the first pause
}

// call is a request that waits for its reply.
type call struct {
	onReply func(*Reply)
	stream  bool
}

// NewConn makes a connection over t. Nothing is received until Run is called, which must be.
func NewConn(t Transport, o Options) *Conn {
	c := &Conn{t: t, o: o.withDefaults()}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.o.Stats.Connections.Add(1)
	return c
}

// Context ends with the connection; its cause is why.
func (c *Conn) Context() context.Context { return c.ctx }

// Run reads until the connection ends, and returns why: ErrClosed, the cause given to Drop, a *ProtocolError, or
// what the transport said. Call it once; Handle and all onReply run in it. Handlers' contexts should come from
// Context: Run waits for the BodyReader that is being read, if any.
func (c *Conn) Run() error {
	err := c.receive()
	c.cancel(err) // the first cause counts
	err = context.Cause(c.ctx)
	if e, ok := errors.AsType[*ProtocolError](err); ok {
		c.o.Stats.ProtocolErrors.Add(1)
		c.refuse()
		_ = c.t.Close(e.Code, e.Reason) // it ends in any case
		for {
			if _, err := c.t.ReadMessage(); err != nil {
				break
			}
		}
	}
	_ = c.t.Abort() // likewise
	c.finish(err)
	c.o.Stats.Connections.Add(-1)
	return err
}

// refuse makes everything that would be queued fail.
func (c *Conn) refuse() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.wakeSenders()
}

// finish tells everybody who waits that the connection has ended.
func (c *Conn) finish(err error) {
	c.refuse()
	c.writers.Wait() // what is in the writer's hands comes back
	c.mu.Lock()
	calls, left := c.calls, c.out.drain()
	for _, m := range c.flows {
		if m.suspended {
			m.next, left = left, m
		}
	}
	c.calls, c.flows = nil, nil
	c.o.Stats.Queued.Add(int64(-c.messages))
	c.messages, c.queued = 0, 0
	c.returnDeflater()
	c.wakeDrained()
	c.mu.Unlock()
	for m := left; m != nil; {
		next := m.next
		c.undelivered(m, err)
		m = next
	}
	c.endReplies(err)
	for _, call := range calls {
		if call.onReply != nil {
			c.deliver(call.onReply, &Reply{err: err})
		}
	}
}

// undelivered gives up a message that will not be sent.
func (c *Conn) undelivered(m *outgoing, err error) {
	if m.onDone != nil {
		m.onDone()
	}
	if m.onReply != nil {
		c.deliver(m.onReply, &Reply{err: err})
	}
}

// endReplies gives back incomplete messages and ends replies that are being read.
func (c *Conn) endReplies(err error) {
	c.rmu.Lock()
	requests, replies := c.requests, c.replies
	c.requests, c.replies = nil, nil
	c.rmu.Unlock()
	for _, r := range requests {
		c.release(&r.in)
	}
	for _, r := range replies {
		if r.stream != nil {
			c.awaiting.Add(-1)
			r.stream.end(err)
			continue
		}
		c.release(&r.in)
	}
}

// Drop ends the connection without a CLOSE frame. cause is what Run returns.
func (c *Conn) Drop(cause error) {
	c.cancel(cause)
	_ = c.t.Abort() // it ends in any case
}

// Close ends the connection: requests are refused from now on, what is queued is sent for at most
// Options.CloseTimeout, then a CLOSE frame with the code. It returns after that; Run returns when the peer has
// answered, or after a time.
func (c *Conn) Close(code int, reason string) {
	c.mu.Lock()
	if c.closing || c.closed {
		c.mu.Unlock()
		return
	}
	c.closing = true
	c.wakeSenders()
	var drained chan struct{}
	if c.messages > 0 || c.writing {
		drained = make(chan struct{})
		c.drained = drained
	}
	c.mu.Unlock()
	if drained != nil {
		timer := time.NewTimer(c.o.CloseTimeout)
		defer timer.Stop()
		select {
		case <-drained:
		case <-timer.C:
		case <-c.ctx.Done():
		}
	}
	c.refuse()
	_ = c.t.Close(code, reason) // it ends in any case
	c.cancel(ErrClosed)
}

// deliver calls an onReply.
func (c *Conn) deliver(onReply func(*Reply), r *Reply) {
	defer c.recovered(nil)
	c.awaiting.Add(-1)
	onReply(r)
}

// recovered keeps a panic of a callback from ending the process. r, if any, is answered.
func (c *Conn) recovered(r *Request) {
	v := recover()
	if v == nil {
		return
	}
	c.o.Stats.Panics.Add(1)
	if c.o.OnPanic != nil {
		c.o.OnPanic(v, debug.Stack())
	}
	if r != nil {
		r.Fail("HTTP", 500, "Internal error")
		r.Release()
	}
}

// wakeSenders lets those go on who wait for room in the queue. mu is locked.
func (c *Conn) wakeSenders() {
	if c.space != nil {
		close(c.space)
		c.space = nil
	}
}

// wakeDrained lets Close go on. mu is locked.
func (c *Conn) wakeDrained() {
	if c.drained != nil {
		close(c.drained)
		c.drained = nil
	}
}
