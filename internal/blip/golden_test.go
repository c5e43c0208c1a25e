package blip

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"hash/crc32"
	"os"
	"slices"
	"testing"
)

// golden is a frame of testdata/blip-frames.json, as real peers have sent it (blip.md §14).
type golden struct {
	Name, Direction, Hex, Stream, Body string
	Number                             uint64
	Flags                              byte
	PayloadLen                         int `json:"payload_len"`
	Complete                           bool
	Properties                         map[string]string
	BodyLen                            *int   `json:"body_len"`
	BodySHA1                           string `json:"body_sha1"`
	AckBytes                           *int64 `json:"ack_bytes"`
}

func goldens(t testing.TB) []golden {
	t.Helper()
	b, err := os.ReadFile("testdata/blip-frames.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []golden
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	if len(all) != 40 {
		t.Fatalf("%d golden frames", len(all))
	}
	return all
}

func (g *golden) bytes(t testing.TB) []byte {
	t.Helper()
	b, err := hex.DecodeString(g.Hex)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// goldenStream decodes the frames of one stream and direction, and encodes the uncompressed ones again.
type goldenStream struct {
	c        *Conn
	messages map[flowKey]*incoming
	crc      uint32 // of what is encoded
}

func TestGoldenFrames(t *testing.T) {
	streams := make(map[string]*goldenStream)
	for _, g := range goldens(t) {
		t.Run(g.Stream+"/"+g.Name, func(t *testing.T) {
			s := streams[g.Stream+g.Direction]
			if s == nil {
				s = &goldenStream{c: NewConn(nil, Options{}), messages: make(map[flowKey]*incoming)}
				streams[g.Stream+g.Direction] = s
			}
			s.check(t, &g)
		})
	}
}

func (s *goldenStream) check(t *testing.T, g *golden) {
	b := g.bytes(t)
	f, err := parseFrame(b)
	if err != nil {
		t.Fatal(err)
	}
	if f.number != g.Number || f.flags != g.Flags {
		t.Fatalf("number %d flags %x", f.number, f.flags)
	}
	if g.AckBytes != nil {
		value, _ := binary.Uvarint(f.payload)
		if int64(value) != *g.AckBytes || !f.isAck() {
			t.Errorf("ACK of %d", value)
		}
		if again := appendAck(nil, ack{f.number, f.kind(), int64(value)}); !bytes.Equal(again, b) {
			t.Errorf("encoded again: %x, want %x", again, b)
		}
		return
	}
	key := flowKey{f.number, f.kind() != kindRequest}
	m := s.messages[key]
	if m == nil {
		m = &incoming{c: s.c, number: f.number, flags: f.flags, kind: f.kind()}
		s.messages[key] = m
	}
	before := m.size()
	if err := s.c.extend(&f, m); err != nil {
		t.Fatal(err)
	}
	raw := m.buf.b[before:]
	if len(raw) != g.PayloadLen || f.more() == g.Complete {
		t.Errorf("payload of %d bytes, more %v", len(raw), f.more())
	}
	s.crc = crc32.Update(s.crc, crc32.IEEETable, raw)
	if f.flags&flagCompressed == 0 {
		again := append(appendHead(nil, f.number, f.flags), raw...)
		if again = binary.BigEndian.AppendUint32(again, s.crc); !bytes.Equal(again, b) {
			t.Errorf("encoded again: %x, want %x", again, b)
		}
	}
	if g.Complete {
		delete(s.messages, key)
		checkGoldenMessage(t, g, m)
		reencode(t, g, m)
	}
}

func checkGoldenMessage(t *testing.T, g *golden, m *incoming) {
	t.Helper()
	if !m.wellFormed() {
		t.Fatal("malformed properties")
	}
	n := 0
	for k, v := range m.properties().All() {
		if g.Properties[k] != v {
			t.Errorf("%s = %q, want %q", k, v, g.Properties[k])
		}
		n++
	}
	if n != len(g.Properties) {
		t.Errorf("%d properties, want %v", n, g.Properties)
	}
	if g.BodyLen == nil || len(m.body()) != *g.BodyLen {
		t.Errorf("body of %d bytes", len(m.body()))
	}
	if sum := sha1.Sum(m.body()); hex.EncodeToString(sum[:]) != g.BodySHA1 {
		t.Error("the body's SHA-1 differs")
	}
	if g.Body != "" && string(m.body()) != g.Body {
		t.Errorf("body %q, want %q", m.body(), g.Body)
	}
}

// reencode builds the message from its properties, sorted as in the file, and compares.
func reencode(t *testing.T, g *golden, m *incoming) {
	t.Helper()
	if g.Stream != "basic" {
		return
	}
	var names []string
	for name := range g.Properties {
		names = append(names, name)
	}
	slices.Sort(names)
	var p Properties
	for _, name := range names {
		p.Add(name, g.Properties[name])
	}
	if again := append(p.appendTo(nil), m.body()...); !bytes.Equal(again, m.buf.b) {
		t.Errorf("message encoded again: %x, want %x", again, m.buf.b)
	}
}

// TestGoldenThroughConn sends the golden frames to a connection as a peer does.
func TestGoldenThroughConn(t *testing.T) {
	mine, theirs := newPipe()
	var got []string
	c := NewConn(mine, Options{Handle: func(r *Request) {
		got = append(got, r.Profile())
		r.Release()
	}})
	var want []string
	for _, g := range goldens(t) {
		if g.Stream != "basic" || g.Direction != "client->server" {
			continue
		}
		if err := theirs.WriteMessages([][]byte{g.bytes(t)}); err != nil {
			t.Fatal(err)
		}
		if g.Complete {
			want = append(want, g.Properties["Profile"])
		}
	}
	_ = theirs.Abort()
	if err := c.Run(); err != errPeerGone {
		t.Error(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if n := c.pending.Load(); n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
}
