package websocket

import (
	"encoding/binary"
	"math/rand/v2"
)

// Opcode is a frame's type, RFC 6455 §5.2.
type Opcode byte

// The opcodes.
const (
	opContinuation Opcode = 0
	Text           Opcode = 1
	Binary         Opcode = 2
	opClose        Opcode = 8
	opPing         Opcode = 9
	opPong         Opcode = 10
)

// Close codes, RFC 6455 §7.4.1.
const (
	CloseNormal      = 1000
	CloseGoingAway   = 1001
	CloseProtocol    = 1002
	CloseUnsupported = 1003
	closeNoStatus    = 1005 // never sent: the peer's close frame had no code
	CloseBadData     = 1007
	CloseTooBig      = 1009
	CloseInternal    = 1011
)

const (
	maxControlPayload = 125
	finBit            = 0x80
	maskBit           = 0x80
)

// MaxHead is the longest head of a frame from a server, in bytes.
const MaxHead = 10

// maxMaskedHead is the longest head of a frame from a client.
const maxMaskedHead = MaxHead + 4

// PutHead writes the head of an unmasked, unfragmented frame with n bytes of payload right before b[at:] and
// returns where it begins. There must be MaxHead bytes of room.
func PutHead(b []byte, at int, op Opcode, n int) (start int) {
	switch {
	case n < 126:
		start = at - 2
		b[start+1] = byte(n)
	case n < 1<<16:
		start = at - 4
		b[start+1] = 126
		binary.BigEndian.PutUint16(b[start+2:], uint16(n))
	default:
		start = at - 10
		b[start+1] = 127
		binary.BigEndian.PutUint64(b[start+2:], uint64(n))
	}
	b[start] = finBit | byte(op)
	return start
}

// appendFrame appends an unfragmented frame. A client's is masked.
func appendFrame(b []byte, op Opcode, payload []byte, client bool) []byte {
	var head [MaxHead]byte
	start := PutHead(head[:], MaxHead, op, len(payload))
	if !client {
		return append(append(b, head[start:]...), payload...)
	}
	head[start+1] |= maskBit
	b = append(b, head[start:]...)
	// The generator is seeded by the system and cannot be foretold by whoever wrote the payload, which is all
	// that masking is for.
	key := rand.Uint32()
	b = binary.LittleEndian.AppendUint32(b, key)
	at := len(b)
	b = append(b, payload...)
	mask(b[at:], key, 0)
	return b
}

// mask applies a masking key, in the byte order of the wire, to b, which is pos bytes into the payload.
func mask(b []byte, key uint32, pos int) {
	turn := uint(pos&3) * 8
	key = key>>turn | key<<((32-turn)&31)
	wide := uint64(key)<<32 | uint64(key)
	for len(b) >= 32 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^wide)
		binary.LittleEndian.PutUint64(b[8:], binary.LittleEndian.Uint64(b[8:])^wide)
		binary.LittleEndian.PutUint64(b[16:], binary.LittleEndian.Uint64(b[16:])^wide)
		binary.LittleEndian.PutUint64(b[24:], binary.LittleEndian.Uint64(b[24:])^wide)
		b = b[32:]
	}
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^wide)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= byte(key >> (uint(i&3) * 8))
	}
}

// frameHead is the beginning of a frame from the peer.
type frameHead struct {
	op   Opcode
	fin  bool
	size uint64
	key  uint32 // 0 if the frame is not masked
}

// checkHead checks the first two bytes of a frame and says how long its head is.
func checkHead(b0, b1 byte, fromClient bool) (f frameHead, length int, err error) {
	f = frameHead{op: Opcode(b0 & 0x0f), fin: b0&finBit != 0, size: uint64(b1 & 0x7f)}
	control := f.op >= opClose
	masked := b1&maskBit != 0
	switch {
	case b0&0x70 != 0:
		return f, 0, &ProtocolError{CloseProtocol, "reserved bits set"}
	case fromClient && !masked:
		return f, 0, &ProtocolError{CloseProtocol, "frame without a mask"}
	case !fromClient && masked:
		return f, 0, &ProtocolError{CloseProtocol, "masked frame from a server"}
	case control && (!f.fin || f.size > maxControlPayload):
		return f, 0, &ProtocolError{CloseProtocol, "bad control frame"}
	case f.op > opPong || (f.op > Binary && !control):
		return f, 0, &ProtocolError{CloseProtocol, "unknown frame type"}
	}
	length = 2
	switch f.size {
	case 126:
		length += 2
	case 127:
		length += 8
	}
	if masked {
		length += 4
	}
	return f, length, nil
}

// parse parses the rest of a head whose beginning was checked. b is the whole head.
func (f *frameHead) parse(b []byte) {
	rest := b[2:]
	switch f.size {
	case 126:
		f.size, rest = uint64(binary.BigEndian.Uint16(rest)), rest[2:]
	case 127:
		f.size, rest = binary.BigEndian.Uint64(rest), rest[8:]
	}
	if len(rest) == 4 {
		f.key = binary.LittleEndian.Uint32(rest)
	}
}
