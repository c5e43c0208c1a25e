package blip

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// plan is a message of the property test.
type plan struct {
	size                      int
	urgent, compress, noReply bool
	fail, asReader, asStream  bool
}

func drawPlan(t *rapid.T) plan {
	return plan{
		size:     rapid.SampledFrom([]int{0, 1, 70, 300, 1000, 4000, 16373, 16374, 40000, 150000}).Draw(t, "size"),
		urgent:   rapid.Bool().Draw(t, "urgent"),
		compress: rapid.Bool().Draw(t, "compress"),
		noReply:  rapid.IntRange(0, 4).Draw(t, "noReply") == 0,
		fail:     rapid.IntRange(0, 4).Draw(t, "fail") == 0,
		asReader: rapid.IntRange(0, 2).Draw(t, "asReader") == 0,
		asStream: rapid.IntRange(0, 2).Draw(t, "asStream") == 0,
	}
}

func (p *plan) body(i int) []byte {
	random := rand.New(rand.NewPCG(uint64(i), uint64(p.size)))
	pattern := make([]byte, 500)
	for k := range pattern {
		pattern[k] = byte(random.IntN(1 + i%40))
	}
	return bytes.Repeat(pattern, p.size/len(pattern)+1)[:p.size]
}

// exchange is one direction of the property test: what was sent and has to come back.
type exchange struct {
	plans []plan
	mu    sync.Mutex
	wg    sync.WaitGroup
	fault error
}

func (e *exchange) failf(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fault == nil {
		e.fault = fmt.Errorf(format, args...)
	}
}

// handle checks a request and echoes it.
func (e *exchange) handle(r *Request) {
	defer e.wg.Done()
	n, _ := r.Property("n")
	var i int
	if _, err := fmt.Sscan(n, &i); err != nil || i >= len(e.plans) {
		e.failf("request %q", n)
		return
	}
	p := e.plans[i]
	if !bytes.Equal(r.Body(), p.body(i)) || r.Urgent() != p.urgent || r.NoReply() != p.noReply || int(r.Number()) != i+1 {
		e.failf("request %d arrived as another, of %d bytes", i, len(r.Body()))
	}
	m := &Message{Body: r.Body(), Compress: !p.compress, Done: r.Release}
	m.Properties.Add("n", n)
	switch {
	case p.fail:
		r.Fail("HTTP", 400+i, "as planned")
		r.Release()
	case p.asReader:
		m.Body, m.BodyReader = nil, bytes.NewReader(r.Body())
		r.Respond(m)
	default:
		r.Respond(m)
	}
}

// send sends all requests.
func (e *exchange) send(t interface{ Fatal(...any) }, c *Conn, background func(func())) {
	for i, p := range e.plans {
		e.wg.Add(1) // for the handler
		m := &Message{Body: p.body(i), Urgent: p.urgent, Compress: p.compress, NoReply: p.noReply, StreamReply: p.asStream}
		m.Properties.AddInt("n", int64(i))
		if p.asReader {
			m.Body, m.BodyReader = nil, bytes.NewReader(m.Body)
		}
		if !p.noReply {
			e.wg.Add(1)
		}
		err := c.Post(m, func(r *Reply) {
			background(func() {
				defer e.wg.Done()
				defer r.Release()
				e.check(i, &p, r)
			})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// check checks the reply to request i.
func (e *exchange) check(i int, p *plan, r *Reply) {
	if p.fail {
		if want := (Error{"HTTP", 400 + i, "as planned"}); r.Err() == nil || r.Err().Error() != want.Error() {
			e.failf("reply %d: %v", i, r.Err())
		}
		return
	}
	var got bytes.Buffer
	if _, err := got.ReadFrom(r.Reader()); err != nil || r.Err() != nil {
		e.failf("reply %d: %v, %v", i, err, r.Err())
	}
	n, _ := r.Property("n")
	if n != number(i) || !bytes.Equal(got.Bytes(), p.body(i)) {
		e.failf("reply %d is %q of %d bytes, want %d", i, n, got.Len(), p.size)
	}
}

// TestAnyExchange: whatever is sent both ways at once arrives, in order, and leaves nothing behind.
func TestAnyExchange(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		there := &exchange{plans: rapid.SliceOfN(rapid.Custom(drawPlan), 1, 15).Draw(rt, "there")}
		back := &exchange{plans: rapid.SliceOfN(rapid.Custom(drawPlan), 0, 15).Draw(rt, "back")}
		pool := NewPool(rapid.IntRange(1, 2).Draw(rt, "compressors"))
		options := func(handle func(*Request)) Options {
			return Options{
				Handle:      handle,
				Compression: rapid.IntRange(0, 9).Draw(rt, "level"),
				MaxPending:  rapid.SampledFrom([]int64{1, 100000, 0}).Draw(rt, "pending"),
				Pool:        pool,
				Budget:      NewBudget(1 << 30),
			}
		}
		a, b := options(back.handle), options(there.handle)
		p, q := newPipe()
		x, y := NewConn(p, a), NewConn(q, b)
		var ended, readers sync.WaitGroup
		ended.Go(func() { _ = x.Run() })
		ended.Go(func() { _ = y.Run() })
		there.send(rt, x, readers.Go)
		back.send(rt, y, readers.Go)
		there.wg.Wait()
		back.wg.Wait()
		readers.Wait()
		x.Drop(errPeerGone)
		y.Drop(errPeerGone)
		ended.Wait()
		for _, e := range []*exchange{there, back} {
			if e.fault != nil {
				rt.Fatal(e.fault)
			}
		}
		for _, c := range []*Conn{x, y} {
			if c.pending.Load() != 0 || c.finished.Load() != 0 || c.awaiting.Load() != 0 || c.o.Budget.Used() != 0 {
				rt.Fatalf("left behind: pending %d, finished %d, awaiting %d, budget %d",
					c.pending.Load(), c.finished.Load(), c.awaiting.Load(), c.o.Budget.Used())
			}
		}
		if n := pool.compressorsOut.Load(); n != 0 {
			rt.Fatalf("%d compressors are still out", n)
		}
	})
}
