package appservices

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"sync/atomic"
	"time"
)

// idGenerator makes ids of 24 hex digits that ascend: seconds, a part that only this process has, a counter.
type idGenerator struct {
	process [5]byte
	counter atomic.Uint64
	now     func() time.Time
}

func newIDGenerator(now func() time.Time) *idGenerator {
	g := &idGenerator{now: now}
	_, _ = rand.Read(g.process[:]) // never fails
	return g
}

// next returns a new id. Ids of one second and one process ascend until the counter of 24 bits is at its end.
func (g *idGenerator) next() string {
	var b [12]byte
	binary.BigEndian.PutUint32(b[:], uint32(g.now().Unix()))
	copy(b[4:], g.process[:])
	n := g.counter.Add(1)
	b[9], b[10], b[11] = byte(n>>16), byte(n>>8), byte(n)
	return hex.EncodeToString(b[:])
}

// isID reports whether s has the form of an id.
func isID(s string) bool {
	if len(s) != 24 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// derivedID is the id that always belongs to a name of a kind.
func derivedID(kind, name string) string {
	sum := sha256.Sum256([]byte(kind + "\x00" + name))
	return hex.EncodeToString(sum[:12])
}

// clientAppID makes the readable id of an app: its name with five more characters.
func clientAppID(name string) string {
	const alphabet = "abcdefghijklmnopqrstuvwxyz012345" // 32 of them: every byte hits each equally often
	var tail [5]byte
	_, _ = rand.Read(tail[:])
	for i, c := range tail {
		tail[i] = alphabet[c%32]
	}
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		}
		return '-'
	}, strings.ToLower(name))
	return clean + "-" + string(tail[:])
}
