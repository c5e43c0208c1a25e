package blip

import (
	"fmt"
	"io"
)

// Message is a request or a reply to be sent. The connection keeps Body and reads BodyReader until Done is
// called; neither may be changed before.
type Message struct {
	Properties Properties
	Body       []byte
	// BodyReader is read to its end instead of Body, a frame at a time, while the message is sent. Its errors
	// end the connection: a message cannot be taken back once it has begun.
	BodyReader io.Reader

	Urgent   bool // goes ahead of messages that are not; a reply is as urgent as its request
	Compress bool // is compressed if the connection compresses at all
	NoReply  bool // a request that wants no answer

	// StreamReply, for a request: onReply is called as soon as the reply's properties are here, and its body is
	// read with Reply.Reader while it arrives. The peer is acknowledged what has been read, so that a slow
	// reader holds up this reply only, with at most about 200 KiB in memory.
	StreamReply bool

	// Done, if set, is called once: when the body has been handed to the transport or will never be. It is
	// called on a goroutine of the connection and must not block.
	Done func()
}

// done calls Done.
func (m *Message) done() {
	if m.Done != nil {
		m.Done()
	}
}

// Error is an error reply of the peer (blip.md §12.1).
type Error struct {
	Domain string // "BLIP", "HTTP", "LiteCore", …
	Code   int
	Text   string // the body, for people; at most 1 KiB of it
}

// Error returns domain, code and text.
func (e *Error) Error() string { return fmt.Sprintf("%s/%d: %s", e.Domain, e.Code, e.Text) }

// ProtocolError ends a connection because the peer broke the rules of the framing or a limit.
type ProtocolError struct {
	Code   int // of the WebSocket close frame: 1002, 1009, …
	Reason string
}

// Error returns the reason.
func (e *ProtocolError) Error() string { return fmt.Sprintf("blip: %s (%d)", e.Reason, e.Code) }

// Codes of the WebSocket close frame that a Conn uses by itself.
const (
	closeProtocol  = 1002
	closeTooBig    = 1009
	closeTransient = 4001 // the peer should try again later
)
