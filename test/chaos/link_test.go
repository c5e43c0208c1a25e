package chaos

import (
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// link is a stretch of network before a gateway: a TCP proxy that a test makes slow, deaf or cut. Its address stays the
// same when the gateway starts again on another port.
type link struct {
	ln    net.Listener
	bytes atomic.Int64 // passed on, both directions together

	mu     sync.Mutex
	target string        // host:port; "": cut
	delay  time.Duration // before anything is passed on
	rate   int           // bytes per second and direction; 0: no limit
	deaf   bool          // what comes is swallowed
	pairs  map[*pair]bool
}

// pair is one connection through a link: both of its halves.
type pair struct {
	ends   [2]*net.TCPConn
	closed chan struct{}
	once   sync.Once
	lost   atomic.Bool // bytes were swallowed: nothing gets through any more, not even an end
}

// newLink makes a link that is cut until it has a target.
func newLink(t *testing.T) *link {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{ln: ln, pairs: map[*pair]bool{}}
	var serving sync.WaitGroup
	serving.Go(func() { l.serve(&serving) })
	t.Cleanup(func() {
		_ = ln.Close()
		l.cut()
		serving.Wait()
	})
	return l
}

func (l *link) addr() string { return l.ln.Addr().String() }

func (l *link) serve(serving *sync.WaitGroup) {
	for {
		c, err := l.ln.Accept()
		if err != nil {
			return
		}
		serving.Go(func() { l.pass(c.(*net.TCPConn)) })
	}
}

// pass serves one connection until it ends.
func (l *link) pass(c *net.TCPConn) {
	p := &pair{closed: make(chan struct{})}
	p.ends[0] = c
	l.mu.Lock()
	target := l.target
	l.mu.Unlock()
	out, err := net.Dial("tcp", target)
	if target == "" || err != nil {
		_ = c.SetLinger(0)
		_ = c.Close()
		return
	}
	p.ends[1] = out.(*net.TCPConn)
	l.mu.Lock()
	l.pairs[p] = true
	if l.target != target {
		p.close(true)
	}
	l.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { l.pump(p, p.ends[0], p.ends[1]) })
	both.Go(func() { l.pump(p, p.ends[1], p.ends[0]) })
	both.Wait()
	p.close(false)
	l.mu.Lock()
	delete(l.pairs, p)
	l.mu.Unlock()
}

// pump passes on what from sends.
func (l *link) pump(p *pair, from, to *net.TCPConn) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		l.mu.Lock()
		wait, rate := l.delay, l.rate
		if l.deaf {
			p.lost.Store(true)
		}
		l.mu.Unlock()
		if p.lost.Load() {
			if err != nil {
				<-p.closed // the other end learns nothing of it
				return
			}
			continue
		}
		if rate > 0 {
			wait += time.Duration(n) * time.Second / time.Duration(rate)
		}
		if wait > 0 && !p.pause(wait) {
			return
		}
		l.bytes.Add(int64(n))
		if _, werr := to.Write(buf[:n]); werr != nil || err != nil {
			p.close(false)
			return
		}
	}
}

// pause waits, or returns false when the connection ends.
func (p *pair) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.closed:
		return false
	}
}

// close ends both halves, with a reset if that is asked for.
func (p *pair) close(reset bool) {
	p.once.Do(func() {
		close(p.closed)
		for _, c := range p.ends {
			if reset {
				_ = c.SetLinger(0)
			}
			_ = c.Close()
		}
	})
}

// to leads the link to a base URL. What is open goes on.
func (l *link) to(base string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.target = strings.TrimPrefix(strings.TrimPrefix(base, "https://"), "http://")
}

// cut ends all connections and refuses new ones.
func (l *link) cut() {
	l.to("")
	l.reset()
}

// reset ends all connections in the rude way.
func (l *link) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.pairs {
		p.close(true)
	}
}

// slow makes everything take longer. Zeroes end it.
func (l *link) slow(delay time.Duration, bytesPerSecond int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delay, l.rate = delay, bytesPerSecond
}

// deafen has the link swallow what comes, without closing anything: what was open then stays so and is half-open. Undone,
// new connections work.
func (l *link) deafen(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deaf = on
	if on {
		for p := range l.pairs {
			p.lost.Store(true)
		}
	}
}
