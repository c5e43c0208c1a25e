package blip

import "context"

type kind byte

const (
	kindReply kind = 1
	kindError kind = 2
)
const (
	flagNoReply = 0x20
	flagUrgent  = 0x10
)

type buffer struct{ b []byte }

type stream struct{}

func (s *stream) Read(p []byte) (int, error) { return 0, nil }
func (s *stream) abandon()                   {}

// Budget is memory for received messages, shared by connections.
type Budget struct{}

// NewBudget makes a budget of so many bytes.
func NewBudget(bytes int64) *Budget { return &Budget{} }

// Pool holds buffers and compressors for connections to share.
type Pool struct{}

// NewPool makes a pool; at most compressors deflate writers (about 1 MiB each) are in use at a time.
func NewPool(compressors int) *Pool { return &Pool{} }

// Conn is one end of a BLIP connection.
type Conn struct{}

// NewConn makes a connection over t. Nothing is received until Run is called.
func NewConn(t Transport, o Options) *Conn { return &Conn{} }

// Run reads until the connection ends and returns why. Call it once; Handle and all onReply run in it.
func (c *Conn) Run() error { return nil }

// Context ends with the connection; its cause is why.
func (c *Conn) Context() context.Context { return context.Background() }

// Close sends what is queued (for at most CloseTimeout), then a CLOSE frame.
func (c *Conn) Close(code int, reason string) {}

// Drop ends the connection without a CLOSE frame.
func (c *Conn) Drop(cause error) {}

// Send queues a request; it blocks while the queue is full. onReply (nil only for NoReply) is called exactly once
// if Send returns nil, on the reading goroutine, also when the connection ends.
func (c *Conn) Send(ctx context.Context, m *Message, onReply func(*Reply)) error { return nil }

// Post is Send, but never blocks: the queue may grow past its limit. It may be called on the reading goroutine.
func (c *Conn) Post(m *Message, onReply func(*Reply)) error { return nil }

func (m *Message) done()                                      {}
func (c *Conn) intern(b []byte) string                        { return string(b) }
func (c *Conn) release(m *incoming)                           {}
func (c *Conn) enqueueReply(in *incoming, k kind, m *Message) {}
