package access

import (
	"crypto/sha256"
	"net/netip"
	"strings"
	"time"
)

// failures are the times of the last failed logins from one address under one name, oldest first; no more
// than are allowed in a minute.
type failures struct{ times []time.Time }

// attemptKey is what failures of a name from an address are counted under. Hosts of one IPv6 network count
// as one: an address costs them nothing.
func attemptKey(remoteAddr, name string) [sha256.Size]byte {
	host := remoteAddr
	if ap, err := netip.ParseAddrPort(remoteAddr); err == nil {
		addr := ap.Addr().Unmap().WithZone("")
		host = addr.String()
		if addr.Is6() {
			if prefix, err := addr.Prefix(64); err == nil {
				host = prefix.String()
			}
		}
	}
	var b strings.Builder
	b.WriteString(host)
	b.WriteByte(0)
	b.WriteString(name)
	return sha256.Sum256([]byte(b.String()))
}

// blocked reports whether the attempts of who have failed too often in the last minute. p.mu is held.
func (p *Passwords) blocked(who [sha256.Size]byte, now time.Time) bool {
	f, ok := p.failures.get(who)
	if !ok || p.cfg.FailuresPerMinute < 0 {
		return false
	}
	return len(f.times) >= p.cfg.FailuresPerMinute && now.Sub(f.times[0]) < time.Minute
}

// countFailure notes a failed attempt. p.mu is held.
func (p *Passwords) countFailure(who [sha256.Size]byte, now time.Time) {
	if p.cfg.FailuresPerMinute < 0 {
		return
	}
	f, ok := p.failures.get(who)
	if !ok {
		f = new(failures)
		p.failures.put(who, f)
	}
	if len(f.times) >= p.cfg.FailuresPerMinute {
		f.times = append(f.times[:0], f.times[1:]...)
	}
	f.times = append(f.times, now)
	p.lastFailure = now
}

// uncountFailure takes the last one back: it was none. p.mu is held.
func (p *Passwords) uncountFailure(who [sha256.Size]byte) {
	f, ok := p.failures.get(who)
	if !ok {
		return
	}
	if f.times = f.times[:max(0, len(f.times)-1)]; len(f.times) == 0 {
		p.failures.remove(who)
	}
}
