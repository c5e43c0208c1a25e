package blip

import (
	"strconv"
	"sync/atomic"
)

// incoming is a message being received, or received.
type incoming struct {
	c      *Conn
	number uint64
	kind   kind
	flags  byte // of the first frame

	buf  *buffer // encoded message, as far as it is here; nil after release
	skip int     // bytes of the length of the properties
	end  int     // where the body begins; 0: not known yet

	held     int64  // bytes counted in the connection's memory and in the budget
	wire     int64  // bytes on the wire, as flow control counts (blip.md §10)
	acked    int64  // highest value acknowledged
	order    uint64 // of the first frame, among all messages
	complete bool
}

// properties returns the properties; they are gone after Release.
func (m *incoming) properties() Properties {
	if m.buf == nil || m.end == 0 || m.end > len(m.buf.b) {
		return Properties{}
	}
	return Properties{b: m.buf.b[m.skip:m.end]}
}

// body returns what follows the properties.
func (m *incoming) body() []byte {
	if m.buf == nil || m.end > len(m.buf.b) {
		return nil
	}
	return m.buf.b[m.end:]
}

// Request is a request of the peer. It must be answered once with Respond, Fail or NoHandler, unless NoReply is
// set, and released once nobody needs its body. Both may be done on any goroutine, in either order.
type Request struct {
	in       incoming
	profile  string
	answered atomic.Bool
	released atomic.Bool
}

// Number is the request's number, for logs.
func (r *Request) Number() uint64 { return r.in.number }

// Profile names the operation; it is "" if the request has none.
func (r *Request) Profile() string { return r.profile }

// Property returns a property. ok is false if it is absent or empty.
func (r *Request) Property(name string) (value string, ok bool) {
	value, _ = r.in.properties().Get(name)
	return value, value != ""
}

// Properties returns all properties, valid until Release.
func (r *Request) Properties() Properties { return r.in.properties() }

// Body returns the body, valid until Release.
func (r *Request) Body() []byte { return r.in.body() }

// NoReply reports whether the peer wants no answer.
func (r *Request) NoReply() bool { return r.in.flags&flagNoReply != 0 }

// Urgent reports whether the peer sent the request as urgent.
func (r *Request) Urgent() bool { return r.in.flags&flagUrgent != 0 }

// Respond sends the reply. It never blocks. The first answer counts, later ones and those to a NoReply request
// only call m.Done. Properties that cannot be sent are answered HTTP/500.
func (r *Request) Respond(m *Message) { r.answer(kindReply, m) }

// Fail sends an error reply. text is for people and ends up in the peer's log.
func (r *Request) Fail(domain string, code int, text string) {
	var m Message
	m.Properties.Add("Error-Code", strconv.Itoa(code))
	m.Properties.Add("Error-Domain", domain)
	m.Body = []byte(text)
	r.answer(kindError, &m)
}

// NoHandler says that nobody here knows the request's profile, in the words that clients look for.
func (r *Request) NoHandler() { r.Fail("BLIP", 404, "No handler for BLIP request") }

func (r *Request) answer(k kind, m *Message) {
	if r.NoReply() || r.answered.Swap(true) {
		m.done()
		return
	}
	if m.Properties.check() != nil {
		m.done()
		r.answered.Store(false)
		r.Fail("HTTP", 500, "Internal error")
		return
	}
	r.in.c.enqueueReply(&r.in, k, m)
}

// Release gives the memory of properties and body back. It is idempotent.
func (r *Request) Release() {
	if !r.released.Swap(true) {
		r.in.c.release(&r.in)
	}
}
