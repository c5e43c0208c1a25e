package blip

import "io"

// outgoing is a message being sent.
type outgoing struct {
	next *outgoing // in a list

	kind        kind
	number      uint64 // of a request: given when its first frame is sent
	urgent      bool
	noReply     bool
	compress    bool
	streamReply bool

	head   []byte // length of the properties and properties
	body   []byte
	src    io.Reader
	pos    int  // bytes of head and body sent; of head only if src is set
	single bool // fits one frame

	begun     bool
	suspended bool  // waits for an ACK
	wire      int64 // sent, as flow control counts
	acked     int64
	charge    int // counted in the queue

	onReply func(*Reply)
	onDone  func()
}

// rest is how many bytes are left to be sent; of a src nobody knows.
func (m *outgoing) rest() int { return len(m.head) + len(m.body) - m.pos }

// list is a FIFO of messages.
type list struct{ first, last *outgoing }

func (l *list) push(m *outgoing) {
	m.next = nil
	if l.first == nil {
		l.first = m
	} else {
		l.last.next = m
	}
	l.last = m
}

func (l *list) pop() *outgoing {
	m := l.first
	if l.first = m.next; l.first == nil {
		l.last = nil
	}
	m.next = nil
	return m
}

// append moves everything from other to the end of l.
func (l *list) append(other *list) {
	switch {
	case other.first == nil:
		return
	case l.first == nil:
		*l = *other
	default:
		l.last.next = other.first
		l.last = other.last
	}
	*other = list{}
}

// class is the queue of the urgent messages, or of the others.
type class struct {
	fresh list // no frame sent yet, in the order in which they start
	begun list // more than one frame; round-robin
	turn  bool // a begun message is next
}

func (c *class) empty(mayBegin bool) bool { return c.begun.first == nil && !c.canBegin(mayBegin) }

// canBegin reports whether the next fresh message may start.
func (c *class) canBegin(mayBegin bool) bool {
	return c.fresh.first != nil && (mayBegin || c.fresh.first.single)
}

// pop takes the next message; the class is not empty.
func (c *class) pop(mayBegin bool) *outgoing {
	if c.begun.first != nil && (c.turn || !c.canBegin(mayBegin)) {
		c.turn = false
		return c.begun.pop()
	}
	c.turn = c.begun.first != nil // who has waited is next
	return c.fresh.pop()
}

// maxBegun is how many messages of more than one frame are sent at a time. A peer has to remember each.
const maxBegun = 256

// queue is what waits to be sent, in fair order (blip.md §9): urgent messages and others take turns frame by
// frame, the messages of a class take turns too, and requests start in the order in which they were pushed.
type queue struct {
	urgent, normal class
	turn           bool // the normal class is next
	pulled         int  // requests that are fresh in the urgent class
	begun          int  // messages of more than one frame that have begun and not ended, suspended ones too
}

// push adds a new message.
func (q *queue) push(m *outgoing) {
	request := m.kind == kindRequest
	switch {
	case request && m.urgent:
		// It must not start before the requests in front of it, so they become urgent for their first frame.
		for o := q.normal.fresh.first; o != nil; o = o.next {
			if o.kind == kindRequest {
				q.pulled++
			}
		}
		q.urgent.fresh.append(&q.normal.fresh)
		fallthrough
	case request && q.pulled > 0:
		q.pulled++
		q.urgent.fresh.push(m)
	default:
		q.class(m).fresh.push(m)
	}
}

func (q *queue) class(m *outgoing) *class {
	if m.urgent {
		return &q.urgent
	}
	return &q.normal
}

// back returns a message that has more frames to send.
func (q *queue) back(m *outgoing) { q.class(m).begun.push(m) }

// pop takes the message whose frame is next, and says how long the frame may be; nil if there is none.
func (q *queue) pop() (m *outgoing, limit int) {
	mayBegin := q.begun < maxBegun
	urgent, normal := !q.urgent.empty(mayBegin), !q.normal.empty(mayBegin)
	switch {
	case urgent && (!normal || !q.turn):
		q.turn = normal
		m = q.urgent.pop(mayBegin)
	case normal:
		q.turn = false
		m = q.normal.pop(mayBegin)
	default:
		return nil, 0
	}
	if !m.begun {
		m.begun = true
		if !m.single {
			q.begun++
		}
		if m.kind == kindRequest && q.pulled > 0 {
			q.pulled--
		}
	}
	if !m.urgent && urgent && !q.urgent.empty(q.begun < maxBegun) {
		return m, sharedFrame
	}
	return m, maxFrame
}

// drain takes all messages.
func (q *queue) drain() *outgoing {
	var all list
	for _, l := range []*list{&q.urgent.fresh, &q.urgent.begun, &q.normal.fresh, &q.normal.begun} {
		all.append(l)
	}
	return all.first
}
