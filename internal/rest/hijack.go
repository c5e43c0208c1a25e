package rest

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/tidegate/tidegate/internal/websocket"
)

// socketBuffers are the sizes of a connection's buffers in the kernel, in bytes; 0: what the system gives it.
type socketBuffers struct{ send, receive int }

// feedBuffers are those of a feed. Without a bound the kernel would let a reader that stalls pile up megabytes.
func feedBuffers() socketBuffers { return socketBuffers{send: 128 << 10, receive: 4 << 10} }

// hijack takes the connection over. The server's buffers and request are given up, so that an idle feed costs
// little more than its socket. ok is false where the connection cannot be taken (HTTP/2, a test's
// recorder); nothing has happened then.
func hijack(w *response, buffers socketBuffers) (conn *websocket.Stream, ok bool, err error) {
	if w.started() {
		return nil, false, nil
	}
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, false, nil
	}
	w.hijacked = true
	early := make([]byte, rw.Reader.Buffered())
	if _, err := io.ReadFull(rw.Reader, early); err != nil {
		c.Close()
		return nil, true, fmt.Errorf("take over connection: %w", err)
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		c.Close()
		return nil, true, fmt.Errorf("take over connection: %w", err)
	}
	if tcp, ok := tcpConn(c); ok {
		// Best effort: a socket without these limits works too.
		if buffers.send > 0 {
			_ = tcp.SetWriteBuffer(buffers.send)
		}
		if buffers.receive > 0 {
			_ = tcp.SetReadBuffer(buffers.receive)
		}
	}
	return websocket.NewStream(c, early), true, nil
}

// tcpConn finds the TCP connection under c.
func tcpConn(c net.Conn) (*net.TCPConn, bool) {
	for {
		switch t := c.(type) {
		case *net.TCPConn:
			return t, true
		case interface{ NetConn() net.Conn }:
			c = t.NetConn()
		default:
			return nil, false
		}
	}
}

// writeHead writes the head of a response. Headers are those of h, plus Date.
func writeHead(c *websocket.Stream, proto, status string, h http.Header, d time.Duration) error {
	b := append([]byte(nil), proto+" "+status+"\r\n"...)
	if h.Get("Date") == "" {
		b = append(b, "Date: "...)
		b = time.Now().UTC().AppendFormat(b, http.TimeFormat)
		b = append(b, "\r\n"...)
	}
	head := new(headWriter)
	if err := h.Write(head); err != nil {
		return fmt.Errorf("write response head: %w", err)
	}
	b = append(append(b, *head...), "\r\n"...)
	return c.WriteWithin(b, d)
}

type headWriter []byte

func (w *headWriter) Write(p []byte) (int, error)       { *w = append(*w, p...); return len(p), nil }
func (w *headWriter) WriteString(s string) (int, error) { *w = append(*w, s...); return len(s), nil }
