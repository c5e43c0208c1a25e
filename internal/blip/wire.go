package blip

import "encoding/binary"

// kind is a frame's type (blip.md §4).
type kind byte

const (
	kindRequest  kind = 0
	kindReply    kind = 1
	kindError    kind = 2
	kindAckMsg   kind = 4 // acknowledges a request
	kindAckReply kind = 5 // acknowledges a reply
)

// The flags beside the type.
const (
	typeMask       = 0x07
	flagCompressed = 0x08
	flagUrgent     = 0x10
	flagNoReply    = 0x20
	flagMore       = 0x40
)

// Limits of the wire (blip.md §9, §10, §13), in bytes.
const (
	maxFrame    = 16384  // a whole frame of ours
	sharedFrame = 4096   // the same, while something urgent waits behind a message that is not
	frameHead   = 10     // what is left of a frame for head and checksum, as the other implementations count
	crcSize     = 4      // the checksum
	ackEvery    = 50000  // of one message received
	maxUnacked  = 128000 // of one message sent

	// deflateRoom is what is left of a frame of compressed data beside frameHead. Deflate makes data that cannot
	// be compressed longer, by ten bytes for a frame.
	deflateRoom = 118
)

// MaxFrame is the longest frame that is accepted, in bytes; a transport should refuse longer messages.
const MaxFrame = 1 << 20

// frame is a frame of the peer, taken apart.
type frame struct {
	number  uint64
	flags   byte
	payload []byte // for an ACK all that follows the flags
	sum     uint32 // not of an ACK
}

var (
	errFrame    = &ProtocolError{closeProtocol, "unreadable frame"}
	errChecksum = &ProtocolError{closeProtocol, "bad checksum"}
	errDeflate  = &ProtocolError{closeProtocol, "bad deflate data"}
	errNumber   = &ProtocolError{closeProtocol, "message number out of order"}
	errStray    = &ProtocolError{closeProtocol, "reply to a request that was not sent"}
	errTooBig   = &ProtocolError{closeTooBig, "message too big"}
	errTooMany  = &ProtocolError{closeTooBig, "too many unfinished messages"}
	errPending  = &ProtocolError{closeTooBig, "too much is pending"}
	errMemory   = &ProtocolError{closeTransient, "out of memory, try again later"}
)

// parseFrame takes a frame apart.
func parseFrame(b []byte) (frame, error) {
	number, n := binary.Uvarint(b)
	if n <= 0 {
		return frame{}, errFrame
	}
	b = b[n:]
	flags, n := binary.Uvarint(b)
	if n <= 0 {
		return frame{}, errFrame
	}
	f := frame{number: number, flags: byte(flags), payload: b[n:]}
	if f.isAck() {
		return f, nil
	}
	end := len(f.payload) - crcSize
	if end < 0 {
		return frame{}, errFrame
	}
	f.sum = binary.BigEndian.Uint32(f.payload[end:])
	f.payload = f.payload[:end]
	return f, nil
}

func (f *frame) kind() kind  { return kind(f.flags & typeMask) }
func (f *frame) isAck() bool { return f.kind() == kindAckMsg || f.kind() == kindAckReply }
func (f *frame) more() bool  { return f.flags&flagMore != 0 }

// wire is what flow control counts of a frame: payload and checksum.
func (f *frame) wire() int64 { return int64(len(f.payload) + crcSize) }

// appendHead appends the beginning of a frame.
func appendHead(b []byte, number uint64, flags byte) []byte {
	return append(binary.AppendUvarint(b, number), flags)
}

// appendAck appends a whole ACK frame.
func appendAck(b []byte, a ack) []byte {
	b = appendHead(b, a.number, byte(a.kind)|flagUrgent|flagNoReply)
	return binary.AppendUvarint(b, uint64(a.value))
}

// ack says how many bytes of a message have been received.
type ack struct {
	number uint64
	kind   kind
	value  int64
}
