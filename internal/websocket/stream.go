package websocket

import (
	"fmt"
	"net"
	"sync"
	"time"
)

// Stream is a connection whose writes are bounded in time. It is what is left of an HTTP connection once it has
// been taken over from the server.
type Stream struct {
	net.Conn
	early []byte // what the peer sent before the take-over and nobody has read yet

	mu       sync.Mutex // one writer at a time
	deadline time.Time  // of writing, as it is set on the connection
}

// NewStream makes a stream. early is what has been read from conn already; it is read first.
func NewStream(conn net.Conn, early []byte) *Stream {
	if len(early) == 0 {
		early = nil
	}
	return &Stream{Conn: conn, early: early}
}

// Read reads first what the peer had sent early.
func (s *Stream) Read(p []byte) (int, error) {
	if len(s.early) > 0 {
		n := copy(p, s.early)
		if s.early = s.early[n:]; len(s.early) == 0 {
			s.early = nil
		}
		return n, nil
	}
	return s.Conn.Read(p)
}

// WriteWithin writes all of b within d, or a little longer: the deadline is moved only when less than d is left
// of it, since each move costs as much as a small write. Writes of several goroutines do not mix.
func (s *Stream) WriteWithin(b []byte, d time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); s.deadline.Sub(now) < d {
		s.deadline = now.Add(d + d/4)
		if err := s.SetWriteDeadline(s.deadline); err != nil {
			return fmt.Errorf("write to peer: %w", err)
		}
	}
	if _, err := s.Conn.Write(b); err != nil {
		return fmt.Errorf("write to peer: %w", err)
	}
	return nil
}

// closeWrite tells the peer that nothing more will come, where the connection can say so.
func (s *Stream) closeWrite() {
	if c, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		// The connection is closed soon in either case.
		_ = c.CloseWrite()
	}
}
