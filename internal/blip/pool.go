package blip

import (
	"bytes"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/flate"
)

// Pool holds what connections need only while data is flowing: buffers, compressors, scratch memory. Connections
// of a process should share one.
type Pool struct {
	compressors    int64 // the most in use at a time
	compressorsOut atomic.Int64

	sizes     [len(bufferSizes{})]sync.Pool // of *buffer
	inflaters sync.Pool                     // of *inflater
	batches   sync.Pool                     // of *batch
	outgoing  sync.Pool                     // of *outgoing
	deflaters [10]sync.Pool                 // of *deflater, by level
}

// NewPool makes a pool. At most so many compressors, of about 0.2 to 1.2 MiB each, are in use at a time; while there is
// none to be had, messages are sent uncompressed. 0: 64.
func NewPool(compressors int) *Pool {
	if compressors <= 0 {
		compressors = 64
	}
	return &Pool{compressors: int64(compressors)}
}

// Sizes of pooled buffers: powers of two from minBuffer to maxBuffer. Larger ones are left to the collector.
const (
	minBufferBits = 8
	maxBufferBits = 20
)

type bufferSizes [maxBufferBits - minBufferBits + 1]struct{}

// buffer holds an incoming message.
type buffer struct{ b []byte }

// buffer returns an empty buffer with room for n bytes.
func (p *Pool) buffer(n int) *buffer {
	class := max(bits.Len(uint(max(n, 1)-1)), minBufferBits)
	if class > maxBufferBits {
		return &buffer{make([]byte, 0, n)}
	}
	if b, ok := p.sizes[class-minBufferBits].Get().(*buffer); ok {
		return b
	}
	return &buffer{make([]byte, 0, 1<<class)}
}

// put gives a buffer back; nothing may refer to it any more.
func (p *Pool) put(b *buffer) {
	if b == nil {
		return
	}
	class := bits.Len(uint(cap(b.b))) - 1
	if class > maxBufferBits || class < minBufferBits || cap(b.b) != 1<<class {
		return
	}
	b.b = b.b[:0]
	p.sizes[class-minBufferBits].Put(b)
}

func (p *Pool) inflater() *inflater {
	if z, ok := p.inflaters.Get().(*inflater); ok {
		return z
	}
	return new(inflater)
}

// libraryLevels are the compressor's levels for ours. A flush for each frame of a kilobyte is dear, and the library's
// levels differ less in what they save (a seventh from 2 to 6) than in what they cost (half as much again); so our
// usual level, 6, is one of its fast ones.
var libraryLevels = [10]int{0, 1, 1, 1, 2, 2, 2, 5, 6, 9}

// deflater is a compressor that a connection has borrowed.
type deflater struct {
	w     *flate.Writer
	out   []byte // what it writes is appended here
	level int
}

// Write takes what the compressor puts out.
func (d *deflater) Write(p []byte) (int, error) {
	d.out = append(d.out, p...)
	return len(p), nil
}

// deflater returns a compressor that begins afresh, or nil if too many are in use.
func (p *Pool) deflater(level int) *deflater {
	if p.compressorsOut.Add(1) > p.compressors {
		p.compressorsOut.Add(-1)
		return nil
	}
	if d, ok := p.deflaters[level].Get().(*deflater); ok {
		d.w.Reset(d)
		return d
	}
	d := &deflater{level: level}
	w, err := flate.NewWriter(d, libraryLevels[level])
	if err != nil { // the level is 1 to 9
		p.compressorsOut.Add(-1)
		return nil
	}
	d.w = w
	return d
}

func (p *Pool) putDeflater(d *deflater) {
	d.out = nil
	p.compressorsOut.Add(-1)
	p.deflaters[d.level].Put(d)
}

// syncMarker is the end of every flush; it is not sent (blip.md §7).
const syncMarker = "\x00\x00\xff\xff"

// deflate appends a frame's payload, compressed. The payload is given in two parts.
func (d *deflater) deflate(b, part1, part2 []byte) []byte {
	d.out = b
	// Writing to memory cannot fail.
	_, _ = d.w.Write(part1)
	_, _ = d.w.Write(part2)
	_ = d.w.Flush()
	b = bytes.TrimSuffix(d.out, []byte(syncMarker))
	d.out = nil
	return b
}
