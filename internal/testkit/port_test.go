package testkit

import (
	"net"
	"testing"
)

// TestPort: a port can be listened on again and again, and is no one else's until it is released.
func TestPort(t *testing.T) {
	p := FreePort(t)
	for range 2 {
		l, err := net.Listen("tcp", p.Address())
		if err != nil {
			t.Fatal(err)
		}
		if got := l.Addr().(*net.TCPAddr).Port; got != p.Number() {
			t.Errorf("port %d, want %d", got, p.Number())
		}
		_ = l.Close()
	}
	if c, err := net.Dial("tcp", p.Address()); err == nil {
		_ = c.Close()
		t.Error("somebody listens")
	}
	if l, err := net.ListenPacket("udp", p.Address()); err == nil {
		_ = l.Close()
		t.Error("another can have the port")
	}
	if err := p.Release(); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenPacket("udp", p.Address())
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}
