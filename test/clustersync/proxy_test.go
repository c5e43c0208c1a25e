package clustersync

import (
	"io"
	"net"
	"sync"
	"testing"
)

// proxy passes connections on, and can drop them all.
type proxy struct {
	listener net.Listener
	target   string

	mu      sync.Mutex
	conns   map[net.Conn]bool
	answers int // passed on since the last drop
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, target: target, conns: map[net.Conn]bool{}}
	go p.serve()
	t.Cleanup(func() { l.Close(); p.drop() })
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

func (p *proxy) serve() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.pass(c)
	}
}

func (p *proxy) pass(client net.Conn) {
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		client.Close()
		return
	}
	p.mu.Lock()
	p.conns[client], p.conns[server] = true, true
	p.mu.Unlock()
	var wg sync.WaitGroup
	for _, way := range [][2]net.Conn{{client, &answering{server, p}}, {server, client}} {
		wg.Go(func() {
			_, _ = io.Copy(way[0], way[1]) // ends with either
			client.Close()
			server.Close()
		})
	}
	wg.Wait()
	p.mu.Lock()
	delete(p.conns, client)
	delete(p.conns, server)
	p.mu.Unlock()
}

// answering counts what comes from a server.
type answering struct {
	net.Conn
	p *proxy
}

func (a *answering) Read(b []byte) (int, error) {
	n, err := a.Conn.Read(b)
	a.p.mu.Lock()
	a.p.answers++
	a.p.mu.Unlock()
	return n, err
}

// drop breaks all connections.
func (p *proxy) drop() { p.dropAfter(0) }

// dropAfter does so if that many answers have passed since the last time, and reports whether it did: whoever needs some answers to get
// anywhere gets there, however slow everything is.
func (p *proxy) dropAfter(answers int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.answers < answers {
		return false
	}
	p.answers = 0
	for c := range p.conns {
		c.Close()
	}
	return true
}
