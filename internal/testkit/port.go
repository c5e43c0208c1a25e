// Package testkit is what tests of several packages share.
package testkit

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
)

// Port is a TCP port of 127.0.0.1 that nobody but its owner uses, whether something listens on it or not. It must be released.
//
// A port that was listened on and closed is anybody's: tests that run at the same time get it, and what was meant for one's own server, or for
// nobody, reaches theirs.
type Port struct {
	addr netip.AddrPort
	held net.PacketConn // the UDP port of the same number: a mark for others who want a Port
}

// ReservePort finds a port that nobody listens on and keeps it. It is outside the range of ephemeral ports, so no connection gets it, and
// nobody who lets the system choose.
func ReservePort() (*Port, error) {
	for range 100 {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(10_000+rand.IntN(20_000)))
		held, err := net.ListenPacket("udp", addr.String())
		if err != nil {
			continue
		}
		if l, err := net.Listen("tcp", addr.String()); err == nil {
			return &Port{addr, held}, l.Close()
		}
		_ = held.Close()
	}
	return nil, errors.New("no free port was found")
}

// Number is that of the port.
func (p *Port) Number() int { return int(p.addr.Port()) }

// Address is 127.0.0.1 and the port.
func (p *Port) Address() string { return p.addr.String() }

// Release gives the port up. Whatever listens on it should have ended.
func (p *Port) Release() error { return p.held.Close() }

// FreePort reserves a port until the test ends.
func FreePort(t testing.TB) *Port {
	t.Helper()
	p, err := ReservePort()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Release() })
	return p
}
