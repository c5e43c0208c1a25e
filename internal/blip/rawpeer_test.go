package blip

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"hash/crc32"
	"testing"
)

// rawPeer is a peer that speaks in frames, written by blip.md and the standard library, and not by our code.
type rawPeer struct {
	t    testing.TB
	pipe *pipe
	// sending
	crc    uint32
	packed bytes.Buffer
	w      *flate.Writer
	// receiving
	theirCRC uint32
	o        oracle
}

// rawFrame is a frame that was received.
type rawFrame struct {
	number  uint64
	flags   byte
	payload []byte // inflated; of an ACK as it is
	wire    int    // payload and checksum on the wire
	size    int    // of the whole frame
}

// meet joins a connection with a raw peer and runs it until the test ends.
func meet(t testing.TB, o Options) (*end, *rawPeer) {
	t.Helper()
	mine, theirs := newPipe()
	c := &end{Conn: NewConn(mine, o), t: mine, err: make(chan error, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.err <- c.Run()
	}()
	t.Cleanup(func() {
		c.Drop(errPeerGone)
		<-done
		c.clean(t)
	})
	return c, newRawPeer(t, theirs)
}

func newRawPeer(t testing.TB, p *pipe) *rawPeer {
	r := &rawPeer{t: t, pipe: p}
	r.w, _ = flate.NewWriter(&r.packed, 6)
	return r
}

// send sends a frame with a payload, compressed if the flags say so.
func (p *rawPeer) send(number uint64, flags byte, payload string) {
	p.t.Helper()
	p.put(p.encode(number, flags, payload))
}

func (p *rawPeer) encode(number uint64, flags byte, payload string) []byte {
	b := append(binary.AppendUvarint(nil, number), flags)
	p.crc = crc32.Update(p.crc, crc32.IEEETable, []byte(payload))
	if flags&0x08 != 0 {
		p.packed.Reset()
		_, _ = p.w.Write([]byte(payload))
		_ = p.w.Flush()
		b = append(b, p.packed.Bytes()[:p.packed.Len()-4]...)
	} else {
		b = append(b, payload...)
	}
	return binary.BigEndian.AppendUint32(b, p.crc)
}

// put sends a whole frame as it is. The connection may have ended; what comes back tells.
func (p *rawPeer) put(b []byte) {
	p.t.Helper()
	_ = p.pipe.WriteMessages([][]byte{b})
}

// ack acknowledges.
func (p *rawPeer) ack(number uint64, kind byte, value int) {
	p.put(binary.AppendUvarint(append(binary.AppendUvarint(nil, number), kind|0x30), uint64(value)))
}

// next receives a frame; ok is false when the connection has ended.
func (p *rawPeer) next() (f rawFrame, ok bool) {
	p.t.Helper()
	b, err := p.pipe.ReadMessage()
	if err != nil {
		return f, false
	}
	if len(b) > 16384 {
		p.t.Fatalf("a frame of %d bytes", len(b))
	}
	f.size = len(b)
	var n int
	f.number, n = binary.Uvarint(b)
	b = b[n:]
	f.flags, b = b[0], b[1:]
	if f.flags&7 >= 4 {
		f.payload = b
		return f, true
	}
	f.wire = len(b)
	payload, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	f.payload = payload
	if f.flags&0x08 != 0 {
		if len(payload) == 0 {
			p.t.Fatal("a compressed frame without payload")
		}
		if f.payload, err = p.o.inflate(payload); err != nil {
			p.t.Fatal(err)
		}
	}
	if p.theirCRC = crc32.Update(p.theirCRC, crc32.IEEETable, f.payload); p.theirCRC != sum {
		p.t.Fatalf("checksum %x, want %x", sum, p.theirCRC)
	}
	return f, true
}

// expect receives a frame that must come.
func (p *rawPeer) expect() rawFrame {
	p.t.Helper()
	f, ok := p.next()
	if !ok {
		p.t.Fatal("the connection has ended")
	}
	return f
}

// encoded makes an encoded message of a profile and a body.
func encoded(profile, body string) string {
	props := "Profile\x00" + profile + "\x00"
	return string(rune(len(props))) + props + body
}
