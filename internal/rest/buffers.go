package rest

import (
	"bytes"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// maxPooledBuffer is the largest buffer kept for reuse, in bytes: one large document must not pin its memory
// for good.
const maxPooledBuffer = 256 << 10

// bufferPool keeps buffers for bodies, requests' and responses'.
type bufferPool struct{ pool sync.Pool }

// get returns an empty buffer.
func (p *bufferPool) get() *bytes.Buffer {
	if b, ok := p.pool.Get().(*bytes.Buffer); ok {
		return b
	}
	return bytes.NewBuffer(make([]byte, 0, 4<<10))
}

// put gives a buffer back. Nothing may refer to its bytes any more.
func (p *bufferPool) put(b *bytes.Buffer) {
	if b == nil || b.Cap() > maxPooledBuffer {
		return
	}
	b.Reset()
	p.pool.Put(b)
}

// gzipPool keeps gzip writers, which are large.
type gzipPool struct{ pool sync.Pool }

func (p *gzipPool) get(w io.Writer) *gzip.Writer {
	if z, ok := p.pool.Get().(*gzip.Writer); ok {
		z.Reset(w)
		return z
	}
	z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		panic("rest: gzip.BestSpeed is no level: " + err.Error()) // impossible
	}
	return z
}

func (p *gzipPool) put(z *gzip.Writer) {
	z.Reset(io.Discard)
	p.pool.Put(z)
}
