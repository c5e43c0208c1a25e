package rest

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// socketBuffers are the sizes of a connection's buffers in the kernel, in bytes; 0: what the system gives it.
type socketBuffers struct{ send, receive int }

// feedBuffers are those of a feed. Without a bound the kernel would let a reader that stalls pile up megabytes.
func feedBuffers() socketBuffers { return socketBuffers{send: 128 << 10, receive: 4 << 10} }

// rawConn is a connection taken over from the HTTP server. The server's buffers and request are given up, so
// that an idle feed costs little more than its socket.
type rawConn struct {
	net.Conn
	early []byte // what the client sent before the take-over and nobody has read yet

	mu       sync.Mutex // one writer at a time
	deadline time.Time  // of writing, as it is set on the connection
}

// hijack takes the connection over. ok is false where the connection cannot be taken (HTTP/2, a test's
// recorder); nothing has happened then.
func hijack(w *response, buffers socketBuffers) (conn *rawConn, ok bool, err error) {
	if w.started() {
		return nil, false, nil
	}
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, false, nil
	}
	w.hijacked = true
	conn = &rawConn{Conn: c}
	if n := rw.Reader.Buffered(); n > 0 {
		conn.early = make([]byte, n)
		if _, err := io.ReadFull(rw.Reader, conn.early); err != nil {
			c.Close()
			return nil, true, fmt.Errorf("take over connection: %w", err)
		}
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
	return conn, true, nil
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

// Read reads first what the client had sent early.
func (c *rawConn) Read(p []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(p, c.early)
		if c.early = c.early[n:]; len(c.early) == 0 {
			c.early = nil
		}
		return n, nil
	}
	return c.Conn.Read(p)
}

// writeWithin writes all of b within d, or a little longer: the deadline is moved only when less than d is left
// of it, since each move costs as much as a small write. Writes of several goroutines do not mix.
func (c *rawConn) writeWithin(b []byte, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); c.deadline.Sub(now) < d {
		c.deadline = now.Add(d + d/4)
		if err := c.SetWriteDeadline(c.deadline); err != nil {
			return fmt.Errorf("write to client: %w", err)
		}
	}
	if _, err := c.Conn.Write(b); err != nil {
		return fmt.Errorf("write to client: %w", err)
	}
	return nil
}

// writeHead writes the head of a response. Headers are those of h, plus Date.
func (c *rawConn) writeHead(proto, status string, h http.Header, d time.Duration) error {
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
	return c.writeWithin(b, d)
}

type headWriter []byte

func (w *headWriter) Write(p []byte) (int, error)       { *w = append(*w, p...); return len(p), nil }
func (w *headWriter) WriteString(s string) (int, error) { *w = append(*w, s...); return len(s), nil }
