package blip

import (
	"bytes"
	"context"
	"io"
	"strconv"
	"sync/atomic"
)

// Reply is the answer to a request, or the reason why there will be none. It must be released.
type Reply struct {
	in       incoming
	err      error
	stream   *stream // set for StreamReply
	released atomic.Bool
}

// maxErrorText is how much of an error reply's body an Error carries, in bytes.
const maxErrorText = 1 << 10

// Err is nil for a proper reply. It is an *Error if the peer answered with an error, and why the connection
// ended if that came first.
func (r *Reply) Err() error { return r.err }

// Property returns a property. ok is false if it is absent or empty.
func (r *Reply) Property(name string) (value string, ok bool) {
	value, _ = r.in.properties().Get(name)
	return value, value != ""
}

// Properties returns all properties, valid until Release.
func (r *Reply) Properties() Properties { return r.in.properties() }

// Body returns the body, valid until Release. It is empty for a StreamReply.
func (r *Reply) Body() []byte {
	if r.stream != nil {
		return nil
	}
	return r.in.body()
}

// Reader reads the body. For a StreamReply it blocks for what has not arrived, and must not be used on the
// connection's reading goroutine (where onReply is called).
func (r *Reply) Reader() io.Reader {
	if r.stream != nil {
		return r.stream
	}
	return bytes.NewReader(r.Body())
}

// Release gives the memory of properties and body back. What a StreamReply has not read is read over. It is
// idempotent.
func (r *Reply) Release() {
	if r.released.Swap(true) || r.in.c == nil {
		return
	}
	if r.stream != nil {
		r.stream.abandon()
	}
	r.in.c.release(&r.in)
}

// peerError makes the Error of an error reply.
func peerError(m *incoming) *Error {
	p := m.properties()
	e := &Error{Domain: "BLIP"}
	if d, _ := p.Get("Error-Domain"); d != "" {
		e.Domain = d
	}
	code, _ := p.Get("Error-Code")
	e.Code, _ = strconv.Atoi(code) // 0 if the peer sent nonsense
	body := m.body()
	e.Text = string(body[:min(len(body), maxErrorText)])
	return e
}

// Call sends a request and waits for the reply, which must be released also if it says Err. It must not be
// called on the reading goroutine. An error means that there will be no reply; after ctx ended, a reply that
// comes later is dropped.
func (c *Conn) Call(ctx context.Context, m *Message) (*Reply, error) {
	got := make(chan *Reply, 1)
	var gone atomic.Bool
	err := c.Send(ctx, m, func(r *Reply) {
		got <- r
		if gone.Load() {
			dropReply(got)
		}
	})
	if err != nil {
		return nil, err
	}
	select {
	case r := <-got:
		if r.in.c == nil {
			return nil, r.err
		}
		return r, nil
	case <-ctx.Done():
		gone.Store(true)
		dropReply(got)
		return nil, context.Cause(ctx)
	}
}

// dropReply releases a reply that nobody waits for.
func dropReply(got chan *Reply) {
	select {
	case r := <-got:
		r.Release()
	default:
	}
}
