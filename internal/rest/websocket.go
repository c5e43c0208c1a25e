package rest

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidegate/tidegate"
)

// The server side of RFC 6455, as far as a feed needs it: one message with options from the client, then
// messages to the client only. It has no buffers and no goroutine of its own, so an idle feed stays small.

// opcode is a frame's type, RFC 6455 §5.2.
type opcode byte

const (
	opContinuation opcode = 0
	opText         opcode = 1
	opBinary       opcode = 2
	opClose        opcode = 8
	opPing         opcode = 9
	opPong         opcode = 10
)

// Close codes, RFC 6455 §7.4.1.
const (
	closeNormal      = 1000
	closeGoingAway   = 1001
	closeProtocol    = 1002
	closeUnsupported = 1003
	closeBadData     = 1007
	closeTooBig      = 1009
	closeInternal    = 1011
)

const (
	maxControlPayload = 125
	finBit            = 0x80
	maskBit           = 0x80
	websocketMagic    = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
)

// A closeError is a fault of the client that ends a WebSocket with a code.
type closeError struct {
	code   int
	reason string
}

func (e *closeError) Error() string { return fmt.Sprintf("websocket: %s (%d)", e.reason, e.code) }

// errPeerClosed says that the client closed the WebSocket.
var errPeerClosed = errors.New("the client closed the WebSocket")

// isUpgrade reports whether a request asks for a WebSocket.
func isUpgrade(h http.Header) bool {
	return hasToken(h.Values("Connection"), "upgrade") && hasToken(h.Values("Upgrade"), "websocket")
}

func hasToken(values []string, token string) bool {
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}

// checkUpgrade reports what is wrong with a request that should ask for a WebSocket.
func checkUpgrade(w *response, r *request) error {
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(r.Header.Get("Sec-WebSocket-Key")))
	switch {
	case r.Method != http.MethodGet || !isUpgrade(r.Header):
		w.Header().Set("Upgrade", "websocket")
		return statusError(http.StatusUpgradeRequired, "this needs a WebSocket upgrade")
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		w.Header().Set("Sec-WebSocket-Version", "13")
		return statusError(http.StatusUpgradeRequired, "unsupported WebSocket version")
	case err != nil || len(key) != 16:
		return tidegate.Errorf(tidegate.Invalid, "bad Sec-WebSocket-Key")
	}
	return nil
}

// upgrade makes the connection of a request that checkUpgrade found good a WebSocket; the headers of w go along. The
// error is for an HTTP answer if nothing was sent.
func upgrade(w *response, r *request, buffers socketBuffers, within time.Duration) (*wsConn, error) {
	head := w.Header().Clone()
	conn, ok, err := hijack(w, buffers)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, statusError(http.StatusHTTPVersionNotSupported, "a WebSocket needs HTTP/1.1")
	}
	sum := sha1.Sum([]byte(strings.TrimSpace(r.Header.Get("Sec-WebSocket-Key")) + websocketMagic))
	head.Set("Upgrade", "websocket")
	head.Set("Connection", "Upgrade")
	head.Set("Sec-WebSocket-Accept", base64.StdEncoding.EncodeToString(sum[:]))
	if err := conn.writeHead("HTTP/1.1", "101 Switching Protocols", head, within); err != nil {
		conn.Close()
		return nil, err
	}
	return &wsConn{rawConn: conn}, nil
}

// wsConn is the server's end of a WebSocket.
type wsConn struct{ *rawConn }

// frameHead is the beginning of a frame from the client.
type frameHead struct {
	op   opcode
	fin  bool
	size uint64
	mask [4]byte
}

// readHead reads and checks the head of the next frame.
func (c *wsConn) readHead() (frameHead, error) {
	var b [8]byte
	if _, err := io.ReadFull(c, b[:2]); err != nil {
		return frameHead{}, err
	}
	f := frameHead{op: opcode(b[0] & 0x0f), fin: b[0]&finBit != 0, size: uint64(b[1] & 0x7f)}
	control := f.op >= opClose
	switch {
	case b[0]&0x70 != 0:
		return f, &closeError{closeProtocol, "reserved bits set"}
	case b[1]&maskBit == 0:
		return f, &closeError{closeProtocol, "frame without a mask"}
	case control && (!f.fin || f.size > maxControlPayload):
		return f, &closeError{closeProtocol, "bad control frame"}
	case f.op > opPong || (f.op > opBinary && !control):
		return f, &closeError{closeProtocol, "unknown frame type"}
	}
	if ext := extendedLen(f.size); ext > 0 {
		clear(b[:])
		if _, err := io.ReadFull(c, b[8-ext:]); err != nil {
			return f, err
		}
		f.size = binary.BigEndian.Uint64(b[:])
	}
	_, err := io.ReadFull(c, f.mask[:])
	return f, err
}

// extendedLen is how many bytes of length follow the seven bits.
func extendedLen(size uint64) int {
	switch size {
	case 126:
		return 2
	case 127:
		return 8
	}
	return 0
}

// payload reads and unmasks a frame's payload onto buf.
func (c *wsConn) payload(f frameHead, buf []byte, limit int) ([]byte, error) {
	if f.size > uint64(limit-len(buf)) {
		return buf, &closeError{closeTooBig, "message too big"}
	}
	start := len(buf)
	buf = append(buf, make([]byte, f.size)...)
	if _, err := io.ReadFull(c, buf[start:]); err != nil {
		return buf, err
	}
	for i := range buf[start:] {
		buf[start+i] ^= f.mask[i&3]
	}
	return buf, nil
}

// readMessage reads the next text or binary message of at most limit bytes, answering pings meanwhile.
func (c *wsConn) readMessage(limit int, within time.Duration) ([]byte, error) {
	var msg []byte
	first, started := opcode(0), false
	for {
		f, err := c.readHead()
		if err != nil {
			return nil, err
		}
		if f.op >= opClose {
			if err := c.control(f, within); err != nil {
				return nil, err
			}
			continue
		}
		if (f.op == opContinuation) != started {
			return nil, &closeError{closeProtocol, "fragments out of order"}
		}
		if !started {
			first, started = f.op, true
		}
		if msg, err = c.payload(f, msg, limit); err != nil {
			return nil, err
		}
		if !f.fin {
			continue
		}
		if first == opText && !utf8.Valid(msg) {
			return nil, &closeError{closeBadData, "text is not UTF-8"}
		}
		return msg, nil
	}
}

// control reads a control frame and does what it asks for. errPeerClosed: it was a close, now answered.
func (c *wsConn) control(f frameHead, within time.Duration) error {
	var room [maxControlPayload]byte
	p, err := c.payload(f, room[:0], maxControlPayload)
	if err != nil {
		return err
	}
	switch f.op {
	case opPing:
		return c.write(opPong, p, within)
	case opClose:
		if err := c.write(opClose, p[:min(len(p), 2)], within); err != nil {
			return err
		}
		return errPeerClosed
	}
	return nil
}

// discard reads frames until the client closes or breaks the rules. The options message was all a feed's
// client may say: data frames are read over.
func (c *wsConn) discard(limit int64, within time.Duration) error {
	for {
		f, err := c.readHead()
		if err != nil {
			return err
		}
		if f.op >= opClose {
			if err := c.control(f, within); err != nil {
				return err
			}
			continue
		}
		if f.size > uint64(limit) {
			return &closeError{closeTooBig, "message too big"}
		}
		if _, err := io.CopyN(io.Discard, c.rawConn, int64(f.size)); err != nil {
			return err
		}
	}
}

// maxFrameHead is the longest head of a frame from the server.
const maxFrameHead = 10

// putFrameHead writes the head of an unfragmented frame with n bytes of payload right before b[at:] and
// returns where it begins. There must be maxFrameHead bytes of room.
func putFrameHead(b []byte, at int, op opcode, n int) (start int) {
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

// write sends one small message or control frame.
func (c *wsConn) write(op opcode, payload []byte, within time.Duration) error {
	b := make([]byte, maxFrameHead, maxFrameHead+len(payload))
	b = append(b, payload...)
	return c.writeWithin(b[putFrameHead(b, maxFrameHead, op, len(payload)):], within)
}

// closeWith says why and closes the connection.
func (c *wsConn) closeWith(code int, reason string, within time.Duration) {
	b := binary.BigEndian.AppendUint16(nil, uint16(code))
	b = append(b, reason[:min(len(reason), maxControlPayload-2)]...)
	// The connection is closed in either case.
	_ = c.write(opClose, b, within)
	_ = c.Close()
}
