package rest

import (
	"bytes"
	"errors"
	"net"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/jsondoc"
	"github.com/tidegate/tidegate/internal/websocket"
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
	ws, err := upgrade(r.answer, r, feedBuffers(), websocket.Options{
		ReadLimit: maxWebSocketOptions, WriteTimeout: s.limits.WriteTimeout, Buffers: &s.wsBuffers,
	})
	if err != nil {
		f.abandon()
		return err
	}
	o, err := s.websocketOptions(ws)
	if err == nil {
		f.feed, err = s.openFeed(f.leaving, r, handle, o)
	}
	if err != nil {
		f.abandon() // a client that comes back at once finds its place free
		closeWebSocket(ws, err)
		return nil
	}
	f.tune(o)
	f.conn, f.wire = &wsFeedConn{ws}, newMessageWire(o.gzip)
	go f.run()
	return nil
}

// websocketOptions reads the client's first message.
func (s *Server) websocketOptions(ws *websocket.Conn) (feedOptions, error) {
	if err := ws.Stream().SetReadDeadline(time.Now().Add(optionsTimeout)); err != nil {
		return feedOptions{}, err
	}
	_, msg, err := ws.Next()
	if err != nil {
		return feedOptions{}, err
	}
	if err := ws.Stream().SetReadDeadline(time.Time{}); err != nil {
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
func closeWebSocket(ws *websocket.Conn, err error) {
	e, ok := errors.AsType[*tidegate.Error](err)
	if !ok {
		_ = ws.Abort() // the client is gone, or knows already
		return
	}
	code := websocket.CloseInternal
	if e.Code == tidegate.Invalid {
		code = websocket.CloseUnsupported
	}
	_ = ws.CloseNow(code, tidegate.ErrorReason(err)) // it is closed in either case
}

// wsFeedConn is the client of a websocket feed.
type wsFeedConn struct{ *websocket.Conn }

func (c *wsFeedConn) write(b []byte, _ time.Duration) error { return c.WriteFrames(b) }

// watch reads over what the client says: the options were all it may.
func (c *wsFeedConn) watch(time.Duration) {
	c.SetReadLimit(maxPointless)
	_ = c.Discard() // why it ended has been said to the client
}

func (c *wsFeedConn) netConn() net.Conn { return c.Stream().Conn }

// end never says that all is well, nor that the server goes away: clients of replication would stop for good (device-sync.md §12.4).
func (c *wsFeedConn) end(polite bool, cause error, _ time.Duration) {
	code, reason := devicesync.CloseRetry, "the feed has ended"
	if gate, ok := errors.AsType[*devicesync.GateError](cause); ok {
		code, reason = gate.Close()
	}
	if polite {
		_ = c.CloseNow(code, reason) // it is closed in either case
		return
	}
	_ = c.Abort() // likewise
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
		return b[websocket.PutHead(b, wireRoom, websocket.Text, n):]
	}
	m.buf.Reset()
	m.buf.Write(make([]byte, websocket.MaxHead))
	// Writing to memory cannot fail.
	_, _ = m.z.Write(b[wireRoom:])
	_ = m.z.Flush()
	packed := m.buf.Bytes()
	start := websocket.PutHead(packed, websocket.MaxHead, websocket.Binary, len(packed)-websocket.MaxHead)
	if m.buf.Cap() > maxPooledBuffer {
		m.buf = new(bytes.Buffer)
	}
	return packed[start:]
}

func (*messageWire) heartbeat() []byte { return textFrame("") }
func (*messageWire) caughtUp() []byte  { return textFrame("[]") }

// textFrame makes a short text message.
func textFrame(text string) []byte {
	b := append(make([]byte, websocket.MaxHead), text...)
	return b[websocket.PutHead(b, websocket.MaxHead, websocket.Text, len(text)):]
}
