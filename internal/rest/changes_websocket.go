package rest

import (
	"bytes"
	"errors"
	"net"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

const (
	maxWebSocketOptions = 1 << 20 // bytes of the client's first message
	optionsTimeout      = 30 * time.Second
	maxPointless        = 64 << 10 // bytes of a message after the first, which nobody reads
	minGzipMessage      = 8        // longer messages are compressed if the client asked for it
)

// websocketChanges begins a websocket feed (gateway-rest.md §14.2): its options are the client's first
// message.
func (s *Server) websocketChanges(r *request, counted func()) error {
	if err := s.checkWebSocketOrigin(r); err != nil {
		counted()
		return err
	}
	if err := checkUpgrade(r.answer, r); err != nil {
		counted()
		return err
	}
	f, handle, err := s.newLiveFeed(r, counted)
	if err != nil {
		return err
	}
	ws, err := upgrade(r.answer, r, feedBuffers(), s.limits.WriteTimeout)
	if err != nil {
		f.abandon()
		return err
	}
	o, err := s.websocketOptions(ws)
	if err == nil {
		f.feed, err = s.openFeed(f.leaving, handle, o)
	}
	if err != nil {
		closeWebSocket(ws, err, s.limits.WriteTimeout)
		f.abandon()
		return nil
	}
	f.tune(o)
	f.conn, f.wire = &wsFeedConn{ws}, newMessageWire(o.gzip)
	go f.run()
	return nil
}

// websocketOptions reads the client's first message.
func (s *Server) websocketOptions(ws *wsConn) (feedOptions, error) {
	if err := ws.SetReadDeadline(time.Now().Add(optionsTimeout)); err != nil {
		return feedOptions{}, err
	}
	msg, err := ws.readMessage(maxWebSocketOptions, s.limits.WriteTimeout)
	if err != nil {
		return feedOptions{}, err
	}
	if err := ws.SetReadDeadline(time.Time{}); err != nil {
		return feedOptions{}, err
	}
	if err := jsondoc.Check(msg, s.jsonLimits()); err != nil {
		return feedOptions{}, err
	}
	q, err := bodyQuery(msg)
	if err != nil {
		return feedOptions{}, err
	}
	return s.feedOptions(q, feedWebSocket)
}

// closeWebSocket closes a WebSocket whose feed could not begin and tells the client why.
func closeWebSocket(ws *wsConn, err error, d time.Duration) {
	if e, ok := errors.AsType[*closeError](err); ok {
		ws.closeWith(e.code, e.reason, d)
		return
	}
	if e, ok := errors.AsType[*tidegate.Error](err); ok {
		code := closeInternal
		if e.Code == tidegate.Invalid {
			code = closeUnsupported
		}
		ws.closeWith(code, tidegate.ErrorReason(err), d)
		return
	}
	_ = ws.Close() // the client is gone
}

// wsFeedConn is the client of a websocket feed.
type wsFeedConn struct{ *wsConn }

func (c *wsFeedConn) write(b []byte, d time.Duration) error { return c.writeWithin(b, d) }

func (c *wsFeedConn) watch(d time.Duration) {
	if e, ok := errors.AsType[*closeError](c.discard(maxPointless, d)); ok {
		c.closeWith(e.code, e.reason, d)
	}
}

func (c *wsFeedConn) netConn() net.Conn { return c.Conn }

func (c *wsFeedConn) end(polite bool, d time.Duration) {
	if polite {
		c.closeWith(closeGoingAway, "the feed has ended", d)
		return
	}
	_ = c.Close()
}

// messageWire is an array of entries a message.
type messageWire struct {
	z   *gzip.Writer // nil: messages are plain text
	buf *bytes.Buffer
}

func newMessageWire(compressed bool) *messageWire {
	m := new(messageWire)
	if compressed {
		m.buf = new(bytes.Buffer)
		// A level that keeps nothing between messages: an idle feed must stay small.
		m.z, _ = gzip.NewWriterLevel(m.buf, gzip.StatelessCompression)
	}
	return m
}

func (*messageWire) encode(b []byte, entries []tidegate.Change) []byte {
	for i := range entries {
		if len(b) == wireRoom {
			b = append(b, '[')
		} else {
			b = append(b, ',')
		}
		b = entries[i].AppendJSON(b)
	}
	return b
}

func (m *messageWire) frame(b []byte) []byte {
	b = append(b, ']')
	n := len(b) - wireRoom
	if m.z == nil || n <= minGzipMessage {
		return b[putFrameHead(b, wireRoom, opText, n):]
	}
	m.buf.Reset()
	m.buf.Write(make([]byte, maxFrameHead))
	// Writing to memory cannot fail.
	_, _ = m.z.Write(b[wireRoom:])
	_ = m.z.Flush()
	packed := m.buf.Bytes()
	start := putFrameHead(packed, maxFrameHead, opBinary, len(packed)-maxFrameHead)
	if m.buf.Cap() > maxPooledBuffer {
		m.buf = new(bytes.Buffer)
	}
	return packed[start:]
}

func (*messageWire) heartbeat() []byte { return []byte{finBit | byte(opText), 0} }
func (*messageWire) caughtUp() []byte  { return []byte{finBit | byte(opText), 2, '[', ']'} }
