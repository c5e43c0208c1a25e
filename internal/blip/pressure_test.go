package blip

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestReadingPauses: while too much is not released nothing more is read, unless a reply is awaited.
func TestReadingPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var held []*Request
		c, p := meet(t, Options{MaxPending: 10_000, Handle: func(r *Request) { held = append(held, r) }})
		for i := range 40 {
			p.send(uint64(i+1), 0x20, encoded("x", strings.Repeat("x", 1000)))
		}
		synctest.Wait()
		paused := len(held)
		if paused > 10 || paused < 5 {
			t.Fatalf("%d messages were read", paused)
		}
		if err := c.Post(message("ask", nil), func(r *Reply) { r.Release() }); err != nil {
			t.Fatal(err)
		}
		p.expect()
		synctest.Wait()
		if len(held) != 40 {
			t.Errorf("while a reply was awaited %d messages were read", len(held))
		}
		p.send(1, 1, "\x00")
		p.send(41, 0x20, encoded("x", ""))
		synctest.Wait()
		if len(held) != 40 {
			t.Error("reading did not pause again")
		}
		for _, r := range held {
			r.Release()
		}
		synctest.Wait()
		if len(held) != 41 {
			t.Error("reading did not go on")
		}
		held[40].Release()
	})
}

// TestAcksAreWithheld: under pressure only the oldest incomplete message is acknowledged; later the others are.
func TestAcksAreWithheld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, p := meet(t, Options{MaxPending: 40_000, Handle: func(r *Request) { r.Release() }})
		for i := range 8 {
			p.send(1, 0x60, encoded("x", strings.Repeat("a", 16000)))
			p.send(2, 0x60, encoded("x", strings.Repeat("b", 16000)))
			synctest.Wait()
			_ = i
		}
		for n := len(p.pipe.in.ch); n > 0; n-- {
			if f := p.expect(); f.number != 1 {
				t.Errorf("message %d was acknowledged", f.number)
			}
		}
		p.send(1, 0x20, "end")
		if f := p.expect(); f.number != 2 || f.flags != 0x34 {
			t.Errorf("after the oldest: %+v", f)
		}
		p.send(2, 0x20, "end")
	})
}

// TestBudget: a connection that cannot get memory ends in a way after which clients come back.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(4 << 10)
		var held *Request
		o := Options{Budget: budget, Handle: func(r *Request) { held = r }}
		_, p := meet(t, o)
		p.send(1, 0x20, encoded("x", strings.Repeat("x", 3000)))
		c, q := meet(t, Options{Budget: budget, Handle: func(r *Request) { r.Release() }})
		q.send(1, 0, encoded("x", strings.Repeat("x", 3000)))
		synctest.Wait()
		first := held
		first.Release()
		synctest.Wait()
		if c.Context().Err() != nil || budget.Used() != 0 {
			t.Fatalf("it did not go on: %v, %d in use", c.Context().Err(), budget.Used())
		}
		p.send(2, 0x20, encoded("x", strings.Repeat("x", 3000)))
		synctest.Wait()
		q.send(2, 0, encoded("x", strings.Repeat("x", 3000)))
		began := time.Now()
		if err := <-c.err; err != errMemory || time.Since(began) != defaultBudgetWait {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if code, _ := c.t.closed(); code != 4001 {
			t.Errorf("closed with %d", code)
		}
		held.Release()
	})
}

// TestHog: when memory is short it is the greediest connection that goes, and the others get what they need.
func TestHog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(64 << 10)
		hog, p := meet(t, Options{Budget: budget, Handle: func(*Request) { t.Error("it was never finished") }})
		for i := range 15 { // messages that are never finished
			p.send(uint64(i+1), 0x40, encoded("x", strings.Repeat("x", 4000)))
		}
		synctest.Wait()
		var got atomic.Int32
		c, q := meet(t, Options{Budget: budget, Handle: func(r *Request) { got.Add(1); r.Release() }})
		q.send(1, 0x20, encoded("x", strings.Repeat("x", 9000)))
		synctest.Wait()
		if got.Load() != 0 || hog.Context().Err() != nil {
			t.Fatalf("%d messages came, the hog ended with %v: there was memory", got.Load(), hog.Context().Err())
		}
		if err := <-hog.err; err != errMemory {
			t.Errorf("the hog ended with %v", err)
		}
		synctest.Wait()
		if got.Load() != 1 || c.Context().Err() != nil {
			t.Errorf("%d messages came, the other connection ended with %v", got.Load(), c.Context().Err())
		}
	})
}

// TestBombMeetsBudget: memory is counted while a frame is inflated, not afterwards.
func TestBombMeetsBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(1 << 20)
		_, p := meet(t, Options{Budget: budget, Handle: func(r *Request) {}})
		p.send(1, 0x20, encoded("x", "held"))
		synctest.Wait()
		c, q := meet(t, Options{Budget: budget})
		q.send(1, 8, encoded("x", strings.Repeat("x", 8<<20)))
		if err := <-c.err; err != errMemory {
			t.Error(err)
		}
		if used := budget.Used(); used > 1<<10 {
			t.Errorf("%d bytes are in use", used)
		}
	})
}

// TestSlowStream: what is read is acknowledged, so that a slow reader bounds what arrives.
func TestSlowStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB
		x, y := connect(t, Options{}, Options{Handle: func(r *Request) {
			r.Respond(&Message{BodyReader: bytes.NewReader(body)})
			r.Release()
		}})
		m := message("get", nil)
		m.StreamReply = true
		r, err := x.Call(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := x.pending.Load(); n < 100<<10 || n > 200<<10 {
			t.Errorf("%d bytes are held before anything was read", n)
		}
		if y.Context().Err() != nil || y.long.Load() != 1 {
			t.Error("the sender does not wait")
		}
		part := make([]byte, 1<<20)
		if _, err := io.ReadFull(r.Reader(), part); err != nil || !bytes.Equal(part, body[:1<<20]) {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := x.pending.Load(); n > 200<<10 {
			t.Errorf("%d bytes are held", n)
		}
		r.Release() // the rest is read over
		synctest.Wait()
		if x.pending.Load() != 0 || x.awaiting.Load() != 0 || y.long.Load() != 0 {
			t.Errorf("left: pending %d, awaiting %d, sending %d", x.pending.Load(), x.awaiting.Load(), y.long.Load())
		}
	})
}

// TestStreamBreaks: a reader learns that the connection ended; a BodyReader that fails ends it.
func TestStreamBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("the disk is broken")
		x, y := connect(t, Options{}, Options{Handle: func(r *Request) {
			r.Respond(&Message{BodyReader: io.MultiReader(bytes.NewReader(make([]byte, 100_000)), brokenReader{broken})})
			r.Release()
		}})
		m := message("get", nil)
		m.StreamReply = true
		r, err := x.Call(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, r.Reader()); err == nil || n > 100_000 {
			t.Errorf("%d bytes, %v", n, err)
		}
		r.Release()
		if err := <-y.err; !errors.Is(err, broken) {
			t.Error(err)
		}
	})
}

type brokenReader struct{ err error }

func (b brokenReader) Read([]byte) (int, error) { return 0, b.err }

// TestSendQueue: Send waits for room, under its context; Post does not.
func TestSendQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := meet(t, Options{SendQueue: 1000})
		send := func() error { return c.Post(&Message{Body: make([]byte, 500<<10), NoReply: true}, nil) }
		if err := send(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the message is suspended
		sent := make(chan error, 1)
		go func() { sent <- c.Send(t.Context(), &Message{NoReply: true}, nil) }()
		synctest.Wait()
		select {
		case err := <-sent:
			t.Fatalf("Send did not wait: %v", err)
		default:
		}
		for value := 0; ; {
			f := p.expect()
			value += f.wire
			if f.flags&0x40 == 0 {
				break
			}
			p.ack(1, 4, value)
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
	})
}

// TestCompressorIsGivenBack: soon after the last message.
func TestCompressorIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := NewPool(1)
		c, p := meet(t, Options{Compression: 6, Pool: pool})
		for i := range 3 {
			m := &Message{Body: bytes.Repeat([]byte("compress me "), 50), NoReply: true, Compress: true}
			if err := c.Post(m, nil); err != nil {
				t.Fatal(err)
			}
			if f := p.expect(); f.flags != 0x28 || !bytes.Equal(f.payload[1:], m.Body) {
				t.Errorf("%d: flags %x, %d bytes", i, f.flags, len(f.payload))
			}
			synctest.Wait()
			if pool.compressorsOut.Load() != 1 {
				t.Error("the compressor was not kept for a moment")
			}
			time.Sleep(2 * deflaterLinger)
			if pool.compressorsOut.Load() != 0 {
				t.Error("the compressor was not given back")
			}
		}
		// None is to be had: the message goes uncompressed.
		taken := pool.deflater(1)
		if err := c.Post(&Message{Body: make([]byte, 500), NoReply: true, Compress: true}, nil); err != nil {
			t.Fatal(err)
		}
		if f := p.expect(); f.flags != 0x20 {
			t.Errorf("flags %x", f.flags)
		}
		pool.putDeflater(taken)
	})
}

// TestDeafPeer: a peer that sends requests and reads no replies is slowed down, so that memory stays bounded.
func TestDeafPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := meet(t, Options{Handle: func(r *Request) { r.Respond(&Message{}); r.Release() }})
		const many = 50_000
		go func() {
			for i := range many {
				p.send(uint64(i+1), 0, encoded("x", ""))
			}
		}()
		time.Sleep(10 * time.Second)
		if n := c.replying.Load(); n < maxReplying || n > maxReplying+1000 {
			t.Errorf("%d replies are queued", n)
		}
		for range many {
			p.expect()
		}
	})
}
