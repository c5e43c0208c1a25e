package blip

import (
	"context"

	"github.com/tidegate/tidegate"
)

// errNoOnReply is a caller's mistake.
var errNoOnReply = tidegate.Errorf(tidegate.Internal, "a request that wants a reply needs somebody to get it")

// Send queues a request; it blocks while the queue is full, under ctx. If it returns nil, onReply (which may be nil
// only for NoReply, and is not called then) is called exactly once on the reading goroutine, also when the
// connection ends first. The reply must be released. Requests start in the order of the calls.
func (c *Conn) Send(ctx context.Context, m *Message, onReply func(*Reply)) error {
	return c.request(ctx, true, m, onReply)
}

// Post is Send, but it never blocks: the queue may grow past its limit. It may be called on the reading goroutine.
func (c *Conn) Post(m *Message, onReply func(*Reply)) error {
	return c.request(c.ctx, false, m, onReply)
}

func (c *Conn) request(ctx context.Context, wait bool, m *Message, onReply func(*Reply)) error {
	if err := m.Properties.check(); err != nil {
		return err
	}
	if m.NoReply {
		onReply = nil
	} else if onReply == nil {
		return errNoOnReply
	}
	o := c.newOutgoing(kindRequest, m)
	o.urgent, o.noReply, o.streamReply, o.onReply = m.Urgent, m.NoReply, m.StreamReply, onReply
	c.mu.Lock()
	for wait && c.queued >= c.o.SendQueue && !c.closed && !c.closing {
		if c.space == nil {
			c.space = make(chan struct{})
		}
		space := c.space
		c.mu.Unlock()
		select {
		case <-space:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.ctx.Done():
			return context.Cause(c.ctx)
		}
		c.mu.Lock()
	}
	if c.closed || c.closing {
		c.mu.Unlock()
		return c.why()
	}
	if onReply != nil {
		c.awaiting.Add(1)
	}
	c.enqueue(o)
	c.mu.Unlock()
	if onReply != nil {
		c.unpause() // reading must not pause while a reply is awaited
	}
	return nil
}

// why is the error for what comes after the end.
func (c *Conn) why() error {
	if err := context.Cause(c.ctx); err != nil {
		return err
	}
	return ErrClosed
}

// enqueueReply queues a reply. It never blocks.
func (c *Conn) enqueueReply(in *incoming, k kind, m *Message) {
	o := c.newOutgoing(k, m)
	o.number, o.urgent = in.number, in.flags&flagUrgent != 0
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		m.done()
		return
	}
	c.enqueue(o)
	c.mu.Unlock()
}

// minCompress is how long a payload must be to be compressed, in bytes: less is not worth the time.
const minCompress = 64

func (c *Conn) newOutgoing(k kind, m *Message) *outgoing {
	o, ok := c.o.Pool.outgoing.Get().(*outgoing)
	if !ok {
		o = new(outgoing)
	}
	head := o.head[:0]
	*o = outgoing{kind: k, body: m.Body, src: m.BodyReader, onDone: m.Done}
	o.head = m.Properties.appendTo(head)
	o.charge = len(o.head)
	if o.src != nil {
		o.body, o.charge = nil, o.charge+maxFrame
	}
	o.charge += len(o.body)
	o.compress = m.Compress && c.o.Compression > 0 && o.charge >= minCompress
	o.single = o.src == nil && o.rest() <= room(sharedFrame, o.compress)
	return o
}

// room is how many bytes of a message go into a frame of at most limit bytes.
func room(limit int, compress bool) int {
	if compress {
		return limit - frameHead - deflateRoom
	}
	return limit - frameHead
}

// enqueue adds a message and sees to it that somebody sends it. mu is locked.
func (c *Conn) enqueue(o *outgoing) {
	c.queued += o.charge
	c.messages++
	switch {
	case !o.single:
		c.long.Add(1)
		c.unpause() // ACKs must be read
	case o.kind != kindRequest:
		c.replying.Add(1)
	}
	c.o.Stats.Queued.Add(1)
	c.out.push(o)
	c.startWriter()
}

// startWriter starts the writer unless it is running. mu is locked.
func (c *Conn) startWriter() {
	if c.writing || c.closed {
		return
	}
	c.writing = true
	c.writers.Add(1)
	go c.write()
}
