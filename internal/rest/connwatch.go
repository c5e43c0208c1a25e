package rest

import (
	"net"
	"sync"
	"syscall"
	"time"
)

// A client that goes away is noticed by reading from its connection. A goroutine that sits in Read would be
// half of what an idle feed costs, so connections that allow it are looked at in turn, without waiting, by one
// goroutine for all. Only a client that says something gets a goroutine of its own.

// watchInterval is how often each connection is looked at.
const watchInterval = 2 * time.Second

// connState is what a look at a connection finds.
type connState uint8

const (
	connQuiet connState = iota // the client is there and says nothing
	connTalks                  // there is something to read
	connGone                   // closed or broken
)

// watched is one connection to look at.
type watched struct {
	raw   syscall.RawConn
	talks func() // what to do when the client says something; the connection is not looked at any more
	gone  func() // what to do when it is gone
	index int    // in connWatch.all; -1: no more
}

// connWatch looks at connections. Its zero value is ready; its goroutine runs while there is something to
// look at.
type connWatch struct {
	mu      sync.Mutex
	all     []*watched
	running bool
	stop    chan struct{}
}

// add begins to look at a connection. ok is false if it is of a kind that cannot be looked at.
func (c *connWatch) add(conn net.Conn, talks, gone func()) (w *watched, ok bool) {
	tcp, ok := tcpConn(conn)
	if !ok || !canPeek {
		return nil, false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, false
	}
	w = &watched{raw: raw, talks: talks, gone: gone}
	c.mu.Lock()
	defer c.mu.Unlock()
	w.index = len(c.all)
	c.all = append(c.all, w)
	if !c.running {
		c.running, c.stop = true, make(chan struct{})
		go c.run(c.stop)
	}
	return w, true
}

// remove ends looking at a connection. It is idempotent.
func (c *connWatch) remove(w *watched) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.index < 0 {
		return
	}
	last := len(c.all) - 1
	c.all[w.index] = c.all[last]
	c.all[w.index].index = w.index
	c.all[last] = nil
	c.all = c.all[:last]
	w.index = -1
	if last == 0 {
		c.running = false
		close(c.stop)
	}
}

func (c *connWatch) run(stop <-chan struct{}) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			c.look()
		}
	}
}

// look looks at every connection once and returns how many are gone.
func (c *connWatch) look() (gone int) {
	c.mu.Lock()
	all := append([]*watched(nil), c.all...)
	c.mu.Unlock()
	for _, w := range all {
		switch peek(w.raw) {
		case connTalks:
			c.remove(w)
			w.talks()
		case connGone:
			c.remove(w)
			w.gone()
			gone++
		}
	}
	return gone
}
