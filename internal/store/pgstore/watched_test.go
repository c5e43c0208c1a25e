package pgstore

import (
	"bytes"
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestSlowWritesAreNotSilence: a message that takes long to go out, but goes, is not taken for a connection that is gone.
func TestSlowWritesAreNotSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		w := &watched{Conn: here, ask: func(context.Context, uint32) bool { return false }}
		w.in.doubt, w.outs.doubt = w.doubt, w.doubt
		message := bytes.Repeat([]byte("x"), 12*writePart)
		got := make(chan int, 1)
		go func() {
			n, buf := 0, make([]byte, writePart)
			for n < len(message) {
				time.Sleep(500 * time.Millisecond)
				m, err := there.Read(buf)
				if n += m; err != nil {
					break
				}
			}
			got <- n
		}()
		n, err := w.Write(message)
		_ = w.Close()
		if read := <-got; err != nil || n != len(message) || read != n {
			t.Errorf("%d of %d bytes are written, %d read: %v", n, len(message), read, err)
		}
	})
}
