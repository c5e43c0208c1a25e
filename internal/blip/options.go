package blip

import "time"

// Transport carries frames: a WebSocket whose binary messages are BLIP frames.
type Transport interface {
	// ReadMessage blocks for the next message. Its bytes are valid until the next call, and the caller may
	// change them. Any error is final; Abort is called then.
	ReadMessage() ([]byte, error)
	// WriteMessages sends messages in order, if it can in one write. Only one call is made at a time. It does
	// not keep the bytes.
	WriteMessages(messages [][]byte) error
	// Close sends a CLOSE frame with a code and makes ReadMessage fail soon, at the latest after a bounded time.
	Close(code int, reason string) error
	// Abort ends the connection at once, without a CLOSE frame.
	Abort() error
}

// Options of a connection. The zero value works.
type Options struct {
	// Handle gets every incoming request, complete, in the order of arrival. It is called on the reading
	// goroutine, so it must not block; it must see to it that the request is answered and released, on whatever
	// goroutine. nil: all requests are answered with Request.NoHandler.
	Handle func(*Request)

	Compression int   // 0: send everything uncompressed; 1 (fast) to 9 (small), see libraryLevels
	MaxMessage  int64 // largest incoming message in bytes; 0: 64 MiB
	// MaxPending is how many bytes of messages received and not yet released are taken before reading pauses;
	// 0: 32 MiB. Reading does not pause while a request of ours awaits its reply or a long message of ours its
	// ACKs, or a handler that waits for them could never go on; at MaxPending+MaxMessage the connection is closed.
	MaxPending int64
	SendQueue  int // bytes queued before Send blocks; 0: 1 MiB

	Budget *Budget // memory shared by the connections of a process; nil: no common bound
	Pool   *Pool   // buffers and compressors shared by connections; nil: the connection has its own
	Stats  *Stats  // counters shared by connections; nil: nothing is counted

	CloseTimeout time.Duration // how long Close waits for what is queued; 0: 5 seconds
	// BudgetWait is how long reading waits for the budget before the connection ends; 0: 10 seconds. After a quarter of it
	// the connection that holds most is dropped.
	BudgetWait time.Duration

	// OnPanic is told of a panic in Handle or in an onReply. The connection goes on; a request that was not
	// answered is answered HTTP/500. nil: nobody is told.
	OnPanic func(value any, stack []byte)
}

// Defaults of Options.
const (
	defaultMaxMessage   = 64 << 20
	defaultMaxPending   = 32 << 20
	defaultSendQueue    = 1 << 20
	defaultCloseTimeout = 5 * time.Second
	defaultBudgetWait   = 10 * time.Second
)

func (o Options) withDefaults() Options {
	if o.MaxMessage <= 0 {
		o.MaxMessage = defaultMaxMessage
	}
	if o.MaxPending <= 0 {
		o.MaxPending = defaultMaxPending
	}
	if o.SendQueue <= 0 {
		o.SendQueue = defaultSendQueue
	}
	if o.CloseTimeout <= 0 {
		o.CloseTimeout = defaultCloseTimeout
	}
	if o.BudgetWait <= 0 {
		o.BudgetWait = defaultBudgetWait
	}
	o.Compression = min(max(o.Compression, 0), 9)
	if o.Pool == nil {
		o.Pool = NewPool(0)
	}
	if o.Stats == nil {
		o.Stats = new(Stats)
	}
	return o
}
