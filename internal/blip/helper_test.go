package blip

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
)

// pipe is a transport in memory.
type pipe struct {
	in, out *pipeHalf
	mu      sync.Mutex
	code    int // of Close
	reason  string
}

// pipeHalf is one direction: bounded, as a network is.
type pipeHalf struct {
	ch   chan []byte
	done chan struct{}
	once sync.Once
}

func newHalf() *pipeHalf { return &pipeHalf{ch: make(chan []byte, 64), done: make(chan struct{})} }

func (h *pipeHalf) end() { h.once.Do(func() { close(h.done) }) }

func newPipe() (a, b *pipe) {
	x, y := newHalf(), newHalf()
	return &pipe{in: x, out: y}, &pipe{in: y, out: x}
}

var errPeerGone = errors.New("the peer is gone")

func (p *pipe) ReadMessage() ([]byte, error) {
	select {
	case b := <-p.in.ch:
		return b, nil
	default:
	}
	select {
	case b := <-p.in.ch:
		return b, nil
	case <-p.in.done:
		select { // what was sent before the end arrives
		case b := <-p.in.ch:
			return b, nil
		default:
			return nil, errPeerGone
		}
	}
}

func (p *pipe) WriteMessages(messages [][]byte) error {
	for _, m := range messages {
		select {
		case p.out.ch <- append([]byte(nil), m...):
		case <-p.out.done:
			return net.ErrClosed
		}
	}
	return nil
}

func (p *pipe) Close(code int, reason string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.code == 0 {
		p.code, p.reason = code, reason
	}
	p.in.end()
	p.out.end()
	return nil
}

func (p *pipe) Abort() error {
	p.in.end()
	p.out.end()
	return nil
}

func (p *pipe) closed() (int, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.code, p.reason
}

// end is one end of a connection under test.
type end struct {
	*Conn
	t   *pipe
	err chan error // what Run returned
}

// connect joins two connections and runs both until the test ends.
func connect(t testing.TB, a, b Options) (x, y *end) {
	t.Helper()
	p, q := newPipe()
	x = &end{Conn: NewConn(p, a), t: p, err: make(chan error, 1)}
	y = &end{Conn: NewConn(q, b), t: q, err: make(chan error, 1)}
	var ended sync.WaitGroup
	for _, e := range []*end{x, y} {
		ended.Go(func() { e.err <- e.Run() })
	}
	t.Cleanup(func() {
		x.Drop(errors.New("the test is over"))
		y.Drop(errors.New("the test is over"))
		ended.Wait()
		for _, e := range []*end{x, y} {
			e.clean(t)
		}
	})
	return x, y
}

// clean checks that a connection that has ended holds nothing.
func (e *end) clean(t testing.TB) {
	t.Helper()
	if n := e.awaiting.Load(); n != 0 {
		t.Errorf("%d requests still wait for a reply", n)
	}
	if e.z != nil || e.messages != 0 {
		t.Errorf("the queue holds %d messages, compressor %v", e.messages, e.z != nil)
	}
}

// message makes a request.
func message(profile string, body []byte) *Message {
	m := &Message{Body: body}
	m.Properties.Add("Profile", profile)
	return m
}

// echo answers a request with its properties and body.
func echo(r *Request) {
	m := &Message{Body: r.Body(), Compress: true, Done: r.Release}
	for k, v := range r.Properties().All() {
		m.Properties.Add(k, v)
	}
	r.Respond(m)
	if r.NoReply() {
		return
	}
}

func number(i int) string { return fmt.Sprint(i) }
