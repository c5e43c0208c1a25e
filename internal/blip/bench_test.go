package blip

import (
	"bytes"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// fastPipe is a transport in memory that hands batches over, as a socket does with many frames in a read.
type fastPipe struct {
	in, out  chan *[][]byte
	back     chan *[][]byte // emptied batches
	peerBack chan *[][]byte
	batch    *[][]byte
	next     int
	done     chan struct{}
	once     *sync.Once
}

func newFastPipe() (a, b *fastPipe) {
	x, y, done, once := make(chan *[][]byte, 4), make(chan *[][]byte, 4), make(chan struct{}), new(sync.Once)
	p, q := make(chan *[][]byte, 8), make(chan *[][]byte, 8)
	return &fastPipe{in: x, out: y, back: p, peerBack: q, done: done, once: once}, &fastPipe{in: y, out: x, back: q, peerBack: p, done: done, once: once}
}

func (p *fastPipe) ReadMessage() ([]byte, error) {
	for p.batch == nil || p.next == len(*p.batch) {
		if p.batch != nil {
			select {
			case p.back <- p.batch:
			default:
			}
			p.batch = nil
		}
		select {
		case p.batch = <-p.in:
			p.next = 0
		case <-p.done:
			return nil, errPeerGone
		}
	}
	p.next++
	return (*p.batch)[p.next-1], nil
}

func (p *fastPipe) WriteMessages(messages [][]byte) error {
	var batch *[][]byte
	select {
	case batch = <-p.peerBack:
	default:
		batch = new([][]byte)
	}
	b := (*batch)[:0]
	for i, m := range messages {
		if i < cap(b) {
			b = b[:i+1]
			b[i] = append(b[i][:0], m...)
		} else {
			b = append(b, bytes.Clone(m))
		}
	}
	*batch = b
	select {
	case p.out <- batch:
		return nil
	case <-p.done:
		return errPeerGone
	}
}

func (p *fastPipe) Close(int, string) error { return p.Abort() }
func (p *fastPipe) Abort() error            { p.once.Do(func() { close(p.done) }); return nil }

func benchPair(b *testing.B, level int, handle func(*Request)) *Conn {
	x, y := newFastPipe()
	pool := NewPool(0)
	c := NewConn(x, Options{Compression: level, Pool: pool})
	d := NewConn(y, Options{Compression: level, Pool: pool, Handle: handle})
	var ended sync.WaitGroup
	ended.Go(func() { _ = c.Run() })
	ended.Go(func() { _ = d.Run() })
	b.Cleanup(func() { c.Drop(errPeerGone); ended.Wait() })
	return c
}

var smallBody = []byte(`{"_id":"user::4711","channels":["a","b"],"name":"Somebody Somewhere","address":{"city":"Nowhere","zip":"00000"},"seen":1700000000}`)

func BenchmarkSmall(b *testing.B) {
	for _, level := range []int{0, 1, 6, 9} {
		b.Run(fmt.Sprintf("level=%d", level), func(b *testing.B) {
			var got atomic.Int64
			all := make(chan struct{})
			total := int64(b.N)
			c := benchPair(b, level, func(r *Request) {
				r.Release()
				if got.Add(1) == total {
					close(all)
				}
			})
			m := &Message{Body: smallBody, NoReply: true, Compress: true}
			m.Properties.Add("Profile", "rev")
			m.Properties.Add("id", "user::4711")
			m.Properties.Add("rev", "1-0123456789abcdef0123456789abcdef")
			b.ReportAllocs()
			b.SetBytes(int64(len(smallBody) + m.Properties.Size()))
			b.ResetTimer()
			for range b.N {
				if err := c.Send(b.Context(), m, nil); err != nil {
					b.Fatal(err)
				}
			}
			<-all
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

func BenchmarkPingPong(b *testing.B) {
	c := benchPair(b, 0, func(r *Request) {
		r.Respond(&Message{})
		r.Release()
	})
	m := &Message{Body: smallBody}
	m.Properties.Add("Profile", "rev")
	b.ReportAllocs()
	for range b.N {
		r, err := c.Call(b.Context(), m)
		if err != nil {
			b.Fatal(err)
		}
		r.Release()
	}
}

func BenchmarkPipelined(b *testing.B) {
	c := benchPair(b, 0, func(r *Request) {
		r.Respond(&Message{})
		r.Release()
	})
	m := &Message{Body: smallBody}
	m.Properties.Add("Profile", "rev")
	b.ReportAllocs()
	var wg sync.WaitGroup
	wg.Add(b.N)
	onReply := func(r *Reply) { r.Release(); wg.Done() }
	for range b.N {
		if err := c.Send(b.Context(), m, onReply); err != nil {
			b.Fatal(err)
		}
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

func BenchmarkLarge(b *testing.B) {
	for _, level := range []int{0, 1, 6} {
		b.Run(fmt.Sprintf("level=%d", level), func(b *testing.B) {
			c := benchPair(b, level, func(r *Request) {
				r.Respond(&Message{})
				r.Release()
			})
			m := &Message{Body: bytes.Repeat(smallBody, 1<<20/len(smallBody)), Compress: true}
			m.Properties.Add("Profile", "rev")
			b.SetBytes(int64(len(m.Body)))
			b.ReportAllocs()
			for range b.N {
				r, err := c.Call(b.Context(), m)
				if err != nil {
					b.Fatal(err)
				}
				r.Release()
			}
		})
	}
}

// BenchmarkDeflate is what each level costs for frames of about 1 KiB that differ.
func BenchmarkDeflate(b *testing.B) {
	for level := 1; level <= 9; level++ {
		b.Run(fmt.Sprintf("level=%d", level), func(b *testing.B) {
			d := NewPool(0).deflater(level)
			raw := bytes.Repeat(smallBody, 8)[:1024]
			var out []byte
			total := 0
			b.SetBytes(int64(len(raw)))
			for i := range b.N {
				for k := 10; k < len(raw); k += 37 {
					raw[k] = byte('a' + (i*7+k)%26)
				}
				out = d.deflate(out[:0], nil, raw)
				total += len(out)
			}
			b.ReportMetric(float64(total)/float64(b.N), "bytes/frame")
		})
	}
}

// BenchmarkIdle is what a connection costs that has been busy and is idle.
func BenchmarkIdle(b *testing.B) {
	for _, level := range []int{0, 6} {
		b.Run(fmt.Sprintf("level=%d", level), func(b *testing.B) {
			pool := NewPool(0)
			const conns = 1000
			var before, after runtime.MemStats
			for range b.N {
				var keep []*Conn
				runtime.GC()
				runtime.ReadMemStats(&before)
				for range conns {
					x, y := newPipe()
					c := NewConn(x, Options{Compression: level, Pool: pool, Handle: func(r *Request) { r.Release() }})
					d := NewConn(y, Options{Compression: level, Pool: pool, Handle: func(r *Request) { r.Respond(new(Message)); r.Release() }})
					go func() { _ = c.Run() }()
					go func() { _ = d.Run() }()
					m := &Message{Body: smallBody, Compress: true}
					m.Properties.Add("Profile", "rev")
					r, err := c.Call(b.Context(), m)
					if err != nil {
						b.Fatal(err)
					}
					r.Release()
					keep = append(keep, c, d)
				}
				runtime.GC()
				runtime.GC()
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(after.HeapAlloc+after.StackInuse-before.HeapAlloc-before.StackInuse)/2/conns, "bytes/conn")
				for _, c := range keep {
					c.Drop(errPeerGone)
				}
			}
		})
	}
}
