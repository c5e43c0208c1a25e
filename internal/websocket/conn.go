package websocket

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults of Options.
const (
	defaultReadLimit    = 1 << 20
	defaultWriteTimeout = 30 * time.Second
	defaultCloseTimeout = 5 * time.Second
)

// Options of a connection. The zero value works.
type Options struct {
	ReadLimit    int64         // largest message from the peer in bytes; 0: 1 MiB
	WriteTimeout time.Duration // how long a write may take before the peer counts as dead; 0: 30 seconds
	CloseTimeout time.Duration // how long the peer may take to answer a close; 0: 5 seconds

	// PingAfter is after how much silence the peer is asked whether it is there; 0: never. If nothing comes
	// within PongTimeout (0: 20 seconds) the connection ends with ErrDeadPeer.
	PingAfter   time.Duration
	PongTimeout time.Duration

	Buffers *Buffers // shared by connections; nil: the connection has its own
}

// ErrDeadPeer ends a connection whose peer did not answer a ping.
var ErrDeadPeer = errors.New("websocket: the peer does not answer")

// ErrClosed is returned for writes after Close or Abort.
var ErrClosed = errors.New("websocket: closed")

// ProtocolError ends a connection whose peer broke the rules. The peer has been told with a close frame.
type ProtocolError struct {
	Code   int // of the close frame
	Reason string
}

// Error returns reason and code.
func (e *ProtocolError) Error() string { return fmt.Sprintf("websocket: %s (%d)", e.Reason, e.Code) }

// CloseError says that the peer closed the connection.
type CloseError struct {
	Code   int // of the close frame; 1005 if it had none
	Reason string
}

// Error returns reason and code.
func (e *CloseError) Error() string {
	return fmt.Sprintf("websocket: closed by the peer: %q (%d)", e.Reason, e.Code)
}

// Buffers are shared by connections, which borrow one while data is flowing.
type Buffers struct {
	read  sync.Pool // of *readBuffer
	write sync.Pool // of *writeBuffer
}

// Sizes of the buffers: a read brings in two of the largest frames that BLIP sends, a write four.
const (
	readBufferSize  = 32 << 10
	writeBufferSize = 64 << 10
)

type (
	readBuffer  [readBufferSize]byte
	writeBuffer struct{ b []byte }
)

// smallRead is how much of a message is taken in before a buffer is borrowed. Small messages fit. It is a prime,
// so that a run of messages of one size does not end at the end of every small read, and so goes on with large ones.
const smallRead = 61

// Conn is one end of a WebSocket. One goroutine may read; all other methods may be called by any.
type Conn struct {
	stream *Stream
	o      Options
	client bool

	// Of the reading goroutine:
	in    []byte // bytes read and not used yet, in small or in big
	big   *readBuffer
	tail  int   // where free room begins in big
	read  int64 // bytes of the message being read
	msg   []byte
	small [smallRead]byte

	writing   sync.Mutex
	closeSent bool        // under writing
	saidBye   atomic.Bool // the same, for the reader

	late struct { // a pong that has to wait for a writer
		sync.Mutex
		pong []byte
		has  atomic.Bool
	}

	reading  atomic.Bool
	lastRead atomic.Int64 // time of it, Unix nanoseconds; kept only if there are pings
	asked    bool         // of keepAlive: a ping is unanswered
	askedAt  int64        // when it was sent, Unix nanoseconds
	alive    *time.Timer  // nil: no pings
	cause    atomic.Pointer[error]
	ended    atomic.Bool
}

// Server makes the server's end of a WebSocket on a connection whose upgrade has been answered.
func Server(s *Stream, o Options) *Conn { return newConn(s, o, false) }

func newConn(s *Stream, o Options, client bool) *Conn {
	if o.ReadLimit <= 0 {
		o.ReadLimit = defaultReadLimit
	}
	if o.WriteTimeout <= 0 {
		o.WriteTimeout = defaultWriteTimeout
	}
	if o.CloseTimeout <= 0 {
		o.CloseTimeout = defaultCloseTimeout
	}
	if o.PongTimeout <= 0 {
		o.PongTimeout = defaultPongTimeout
	}
	if o.Buffers == nil {
		o.Buffers = new(Buffers)
	}
	c := &Conn{stream: s, o: o, client: client}
	c.startKeepAlive()
	return c
}

// Stream returns the connection below, for deadlines and addresses.
func (c *Conn) Stream() *Stream { return c.stream }

// finish closes the connection below.
func (c *Conn) finish(cause error) {
	if cause != nil {
		c.cause.CompareAndSwap(nil, &cause)
	}
	if !c.ended.Swap(true) {
		c.stopKeepAlive()
		_ = c.stream.Close() // nothing can be done about it
	}
}

// Abort ends the connection at once, without a close frame.
func (c *Conn) Abort() error {
	c.finish(ErrClosed)
	return nil
}
