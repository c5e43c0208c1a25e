package rest

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

// Decompressed bytes are capped in number (the same limit as for plain bytes) and in ratio: beyond
// inflateSlack bytes a body may not be more than maxInflateRatio times as long as what was sent.
const (
	maxInflateRatio = 200
	inflateSlack    = 1 << 20
)

var (
	errBodyTooLarge  = tidegate.Errorf(tidegate.TooLarge, "Request body too large")
	errInflateRatio  = tidegate.Errorf(tidegate.TooLarge, "Request body too large: compressed too well")
	errBadGzip       = tidegate.Errorf(tidegate.Invalid, "Bad gzip body")
	errBadEncoding   = tidegate.Errorf(tidegate.BadType, "Unsupported Content-Encoding; use gzip")
	errEmptyDocument = tidegate.Errorf(tidegate.Invalid, "Document body is empty")
	errBodyMemory    = tidegate.Errorf(tidegate.Unavailable, "Too many large requests at once, try again later")
)

// bodyReader returns the request's body, decompressed and limited to limit bytes: reading more fails with
// TooLarge. A body that says beforehand that it is longer is refused unread.
func (s *Server) bodyReader(r *request, limit int64) (io.Reader, error) {
	if r.ContentLength > limit {
		return nil, errBodyTooLarge
	}
	return inflate(r.Body, r.Header.Get("Content-Encoding"), limit)
}

// inflate returns src without its content coding, limited to limit bytes.
func inflate(src io.Reader, encoding string, limit int64) (io.Reader, error) {
	raw := &limitedBody{r: src, left: limit}
	switch strings.ToLower(encoding) {
	case "", "identity":
		return raw, nil
	case "gzip":
		zr, err := gzip.NewReader(raw)
		if err != nil {
			return nil, gzipError(err)
		}
		return &inflatedBody{z: zr, raw: raw, limit: limit}, nil
	}
	return nil, errBadEncoding
}

// limitedBody reads at most left bytes and fails instead of ending early.
type limitedBody struct {
	r    io.Reader
	left int64
	read int64
}

func (l *limitedBody) Read(p []byte) (int, error) {
	if l.left < 0 {
		return 0, errBodyTooLarge
	}
	// One byte more than allowed tells a body that is too long from one that just fits.
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.r.Read(p)
	l.read += int64(n)
	l.left -= int64(n)
	if l.left < 0 {
		return n - 1, errBodyTooLarge
	}
	return n, bodyError(err)
}

// bodyError says what a failed read of a body is to the client.
func bodyError(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return errBodyTooLarge
	}
	if tidegate.ErrorCode(err) != tidegate.Internal {
		return err
	}
	return &tidegate.Error{Code: tidegate.Invalid, Reason: "The request body could not be read", Err: err}
}

// inflatedBody reads a gzip body within the caps.
type inflatedBody struct {
	z     *gzip.Reader
	raw   *limitedBody
	limit int64
	out   int64
}

func (b *inflatedBody) Read(p []byte) (int, error) {
	n, err := b.z.Read(p)
	b.out += int64(n)
	switch {
	case b.out > b.limit:
		return 0, errBodyTooLarge
	case b.out > inflateSlack && b.out > b.raw.read*maxInflateRatio:
		return 0, errInflateRatio
	case err == nil || err == io.EOF:
		return n, err
	}
	return n, gzipError(err)
}

func gzipError(err error) error {
	if _, ok := errors.AsType[*tidegate.Error](err); ok {
		return err
	}
	return errBadGzip
}

// A bodyBuffer holds a body that was read whole. Free gives the memory back; nothing may refer to it then.
type bodyBuffer struct {
	bytes  []byte
	budget *memoryBudget
	held   int64
	pool   *bufferPool
	buf    *bytes.Buffer
}

// Free gives the buffer back.
func (b *bodyBuffer) Free() {
	b.budget.give(b.held)
	b.held = 0
	b.pool.put(b.buf)
	b.buf, b.bytes = nil, nil
}

// readBody reads the whole body, at most limit bytes. The caller frees the buffer.
func (s *Server) readBody(r *request, limit int64) (*bodyBuffer, error) {
	src, err := s.bodyReader(r, limit)
	if err != nil {
		return nil, err
	}
	b := &bodyBuffer{budget: &s.bodyMemory, pool: &s.buffers, buf: s.buffers.get()}
	if err := b.fill(src, r.ContentLength); err != nil {
		b.Free()
		return nil, err
	}
	b.bytes = b.buf.Bytes()
	return b, nil
}

// fill reads src to its end. Memory beyond what the pool's buffers have anyway is asked of the budget before
// it is taken, in steps, so that many large bodies at once cannot exhaust the process.
func (b *bodyBuffer) fill(src io.Reader, expect int64) error {
	if expect > 0 && expect <= maxPooledBuffer {
		b.buf.Grow(int(expect) + bytes.MinRead) // room for the read that finds the end
	}
	for {
		if b.buf.Available() < bytes.MinRead {
			if grown := int64(2*b.buf.Cap() + bytes.MinRead); grown > maxPooledBuffer {
				if !b.budget.take(grown - b.held) {
					return errBodyMemory
				}
				b.held = grown
			}
			b.buf.Grow(max(bytes.MinRead, b.buf.Len()))
		}
		free := b.buf.AvailableBuffer()
		n, err := src.Read(free[:cap(free)])
		b.buf.Write(free[:n])
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// memoryBudget bounds the bytes of large request bodies held at one time.
type memoryBudget struct {
	max  int64
	used atomic.Int64
}

func (m *memoryBudget) take(n int64) bool {
	if m.used.Add(n) > m.max {
		m.used.Add(-n)
		return false
	}
	return true
}

func (m *memoryBudget) give(n int64) { m.used.Add(-n) }

// readJSON reads the body of a JSON endpoint: checks its type, reads it, and checks that it is one JSON
// value. The caller frees the buffer. An empty body is returned as such, without an error.
func (s *Server) readJSON(r *request) (*bodyBuffer, error) {
	return s.readJSONUpTo(r, s.limits.RequestBytes)
}

func (s *Server) readJSONUpTo(r *request, limit int64) (*bodyBuffer, error) {
	if err := checkJSONType(r.Header); err != nil {
		return nil, err
	}
	b, err := s.readBody(r, limit)
	if err != nil {
		return nil, err
	}
	if len(b.bytes) == 0 {
		return b, nil
	}
	if err := jsondoc.Check(b.bytes, s.jsonLimits()); err != nil {
		b.Free()
		return nil, err
	}
	return b, nil
}

// jsonLimits are the limits for JSON that is not a document.
func (s *Server) jsonLimits() jsondoc.Limits {
	return jsondoc.Limits{Depth: s.limits.JSONDepth, Bytes: int(s.limits.RequestBytes)}
}

// checkJSONType refuses a Content-Type that is not JSON; an absent one counts as JSON (gateway-rest.md §3).
func checkJSONType(h http.Header) error {
	ct := h.Get("Content-Type")
	if ct == "" || strings.HasPrefix(strings.ToLower(ct), "application/json") {
		return nil
	}
	return tidegate.Errorf(tidegate.BadType, "Invalid content type %s - expected application/json", ct)
}
