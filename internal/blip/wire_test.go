package blip

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

// hostile are things a peer must not do, and how the connection ends then. They are sent after request #1.
var hostile = map[string]struct {
	send func(p *rawPeer)
	want *ProtocolError
}{
	"empty":             {func(p *rawPeer) { p.put(nil) }, errFrame},
	"one byte":          {func(p *rawPeer) { p.put([]byte{2}) }, errFrame},
	"endless varint":    {func(p *rawPeer) { p.put([]byte(strings.Repeat("\xff", 20))) }, errFrame},
	"endless flags":     {func(p *rawPeer) { p.put([]byte("\x02" + strings.Repeat("\xff", 20))) }, errFrame},
	"no checksum":       {func(p *rawPeer) { p.put([]byte{2, 0, 1, 2, 3}) }, errFrame},
	"bad checksum":      {func(p *rawPeer) { p.put([]byte{2, 0, 0, 1, 2, 3, 4}) }, errChecksum},
	"bad deflate":       {func(p *rawPeer) { p.put([]byte{2, 8, 0xff, 0xff, 1, 2, 3, 4}) }, errDeflate},
	"number 0":          {func(p *rawPeer) { p.send(0, 0, encoded("x", "")) }, errNumber},
	"number repeated":   {func(p *rawPeer) { p.send(1, 0, encoded("x", "")) }, errNumber},
	"number left out":   {func(p *rawPeer) { p.send(3, 0, encoded("x", "")) }, errNumber},
	"more after end":    {func(p *rawPeer) { p.send(2, 0, encoded("x", "")); p.send(2, 0x40, "more") }, errNumber},
	"reply to nothing":  {func(p *rawPeer) { p.send(7, 1, "\x00") }, errStray},
	"reply to number 0": {func(p *rawPeer) { p.send(0, 1, "\x00") }, errStray},
	"endless properties": {func(p *rawPeer) {
		p.send(2, 0x40, string(binary.AppendUvarint(nil, MaxProperties+1)))
	}, &ProtocolError{closeTooBig, "properties too long"}},
	"properties of 2^63": {func(p *rawPeer) {
		p.send(2, 0x40, string(binary.AppendUvarint(nil, 1<<63)))
	}, &ProtocolError{closeTooBig, "properties too long"}},
	"properties' length without end": {func(p *rawPeer) {
		p.send(2, 0x40, "\xff\xff\xff\xff\xff")
		p.send(2, 0x40, "\xff\xff\xff\xff\xff")
	}, &ProtocolError{closeTooBig, "properties too long"}},
	"message too big": {func(p *rawPeer) {
		p.send(2, 0x40, encoded("x", ""))
		for range 20 {
			p.send(2, 0x40, strings.Repeat("x", 16000))
		}
	}, errTooBig},
	"bomb": {func(p *rawPeer) { p.send(2, 8, encoded("x", strings.Repeat("x", 300<<10))) }, errTooBig},
	"unfinished messages": {func(p *rawPeer) {
		for i := range maxIncomplete + 1 {
			p.send(uint64(2+i), 0x40, encoded("x", "y"))
		}
	}, errTooMany},
}

func TestHostile(t *testing.T) {
	for name, h := range hostile {
		t.Run(name, func(t *testing.T) {
			handled := make(chan struct{}, 10)
			c, p := meet(t, Options{MaxMessage: 256 << 10, Handle: func(r *Request) {
				handled <- struct{}{}
				r.Release()
			}})
			call := make(chan error, 1)
			if err := c.Send(t.Context(), message("call", nil), func(r *Reply) { call <- r.Err() }); err != nil {
				t.Fatal(err)
			}
			p.expect()
			p.send(1, 0, encoded("x", ""))
			<-handled
			go h.send(p)
			err := <-c.err
			if e, ok := errors.AsType[*ProtocolError](err); !ok || *e != *h.want {
				t.Errorf("ended with %v, want %v", err, h.want)
			}
			if code, reason := c.t.closed(); code != h.want.Code || reason != h.want.Reason {
				t.Errorf("closed with %d %q", code, reason)
			}
			if got := <-call; !errors.Is(got, err) {
				t.Errorf("the pending call ended with %v", got)
			}
			if c.Context().Err() == nil || c.o.Stats.ProtocolErrors.Load() != 1 || c.o.Stats.Connections.Load() != 0 {
				t.Error("the context goes on, or the counters are wrong")
			}
			if err := c.Post(message("late", nil), func(*Reply) { t.Error("onReply was called") }); err == nil {
				t.Errorf("a request after the end: %v", err)
			}
			if n := c.pending.Load(); n != 0 {
				t.Errorf("%d bytes are still held", n)
			}
		})
	}
}

// TestIgnored: what a peer may send although it means nothing. The stream goes on afterwards.
func TestIgnored(t *testing.T) {
	var profiles []string
	c, p := meet(t, Options{Handle: func(r *Request) {
		profiles = append(profiles, r.Profile())
		r.Respond(&Message{})
		r.Release()
	}})
	got := make(chan error, 1)
	if err := c.Send(t.Context(), message("call", nil), func(r *Reply) { got <- r.Err(); r.Release() }); err != nil {
		t.Fatal(err)
	}
	p.expect()
	for _, undefined := range []byte{3, 6, 7} {
		p.send(9, undefined, "not a message")
		p.send(9, undefined|8, strings.Repeat("it moves the window on ", 20))
	}
	p.ack(77, 4, 5) // unknown message
	p.ack(1, 4, 1<<40)
	p.put([]byte{1, 0x34})             // no count
	p.put([]byte{1, 0x34, 0xff, 0xff}) // unreadable count
	p.send(1, 1|8, "\x00"+strings.Repeat("it moves the window on ", 20))
	if err := <-got; err != nil {
		t.Error(err)
	}
	p.send(1, 1, "\x00again") // a second reply
	p.send(1, 0x41, "\x00ag") // and one in pieces
	p.send(1, 1, "ain")       //
	b := p.encode(1, 0, encoded("flags", ""))
	p.put(append([]byte{1, 0x80, 1}, b[2:]...)) // flags with an undefined bit
	if f := p.expect(); f.number != 1 || f.flags != 1 || string(f.payload) != "\x00" {
		t.Errorf("reply %+v", f)
	}
	// Compressed, but without payload: no data.
	p.send(2, 0x48, encoded("empty frame", ""))
	p.put(binary.BigEndian.AppendUint32([]byte{2, 8}, p.crc))
	if f := p.expect(); f.number != 2 || f.flags != 1 {
		t.Errorf("reply %+v", f)
	}
	if !slices.Equal(profiles, []string{"flags", "empty frame"}) {
		t.Errorf("handled %q", profiles)
	}
}

// TestAnswers: what the framing layer answers by itself, byte by byte.
func TestAnswers(t *testing.T) {
	failing := errors.New("a handler's panic")
	panics := make(chan any, 10)
	_, p := meet(t, Options{OnPanic: func(v any, stack []byte) {
		if len(stack) == 0 {
			t.Error("no stack")
		}
		panics <- v
	}, Handle: func(r *Request) {
		switch r.Profile() {
		case "panic":
			panic(failing)
		case "answered":
			r.Respond(&Message{})
			r.Fail("HTTP", 500, "the second answer is not sent")
			r.Release()
			r.Release()
			panic(failing)
		case "NUL":
			m := new(Message)
			m.Properties.Add("bad\x00name", "")
			r.Respond(m)
		default:
			r.NoHandler()
		}
		r.Release()
	}})
	number := uint64(0)
	ask := func(flags byte, payload, want string, kind byte) {
		t.Helper()
		number++
		p.send(number, flags, payload)
		if want == "" {
			return
		}
		if f := p.expect(); f.number != number || f.flags != kind || string(f.payload) != want {
			t.Errorf("%q: got %x %q", payload, f.flags, f.payload)
		}
	}
	const (
		noHandler = "\x21Error-Code\x00404\x00Error-Domain\x00BLIP\x00No handler for BLIP request"
		malformed = "\x21Error-Code\x00400\x00Error-Domain\x00BLIP\x00malformed request"
		internal  = "\x21Error-Code\x00500\x00Error-Domain\x00HTTP\x00Internal error"
	)
	ask(0, encoded("what", ""), noHandler, 2)
	ask(0x10, encoded("what", "urgent"), noHandler, 0x12)
	ask(0x20, encoded("what", "no reply"), "", 0)
	ask(0, "\x00", noHandler, 2) // no profile
	ask(0, "", malformed, 2)
	ask(0, "\x05a\x00b\x00c", malformed, 2)          // no NUL at the end
	ask(0, "\x02a\x00", malformed, 2)                // half a pair
	ask(0, "\x08a\x00b\x00a\x00c\x00", malformed, 2) // twice
	ask(0, "\x20a\x00b\x00", malformed, 2)           // longer than the message
	ask(0, "\x80", malformed, 2)                     // half a length
	ask(0x20, "\x05a\x00b\x00c", "", 0)              // malformed, no reply
	ask(0, encoded("panic", ""), internal, 2)        //
	ask(0, encoded("answered", ""), "\x00", 1)       //
	ask(0, encoded("NUL", ""), internal, 2)          //
	ask(0, "\x04a\x00\x00\x00", malformed, 2)        // an empty value is fine, three strings are not
	ask(0, "\x09Profile\x00\x00", noHandler, 2)      // empty
	ask(0, "\x03\x00b\x00rest of it", noHandler, 2)  // an empty name is odd but well-formed
	for range 2 {
		if v := <-panics; v != failing {
			t.Error(v)
		}
	}
}

// TestPropertiesInPieces: the boundary between frames may be anywhere, within the length of the properties too.
func TestPropertiesInPieces(t *testing.T) {
	props := "Profile\x00pieces\x00long\x00" + strings.Repeat("v", 300) + "\x00"
	whole := string(binary.AppendUvarint(nil, uint64(len(props)))) + props + "body"
	got := make(chan string, 1)
	_, p := meet(t, Options{Handle: func(r *Request) {
		long, _ := r.Property("long")
		got <- r.Profile() + long + string(r.Body())
		r.Release()
	}})
	want := "pieces" + strings.Repeat("v", 300) + "body"
	number := uint64(0)
	for _, cuts := range [][2]int{{1, 2}, {1, 1}, {2, 10}, {1, 200}, {100, len(whole) - 4}, {0, 1}, {5, len(whole)}} {
		for _, flags := range []byte{0, 8} {
			number++
			p.send(number, 0x60|flags, whole[:cuts[0]])
			p.send(number, 0x60|8-flags, whole[cuts[0]:cuts[1]])
			p.send(number, 0x20|flags, whole[cuts[1]:])
			if s := <-got; s != want {
				t.Errorf("cut at %v: %.30q", cuts, s)
			}
		}
	}
}

// TestReceiverAcknowledges: ACKs at the multiples of 50000 bytes, as go-blip sends them (blip.md §10).
func TestReceiverAcknowledges(t *testing.T) {
	_, p := meet(t, Options{Handle: func(r *Request) {
		r.Respond(&Message{})
		r.Release()
	}})
	acks := make(chan []uint64, 1)
	go func() {
		var all []uint64
		for {
			f := p.expect()
			if f.flags&7 != 4 {
				acks <- all
				return
			}
			value, _ := binary.Uvarint(f.payload)
			if f.flags != 0x34 || f.number != 1 {
				t.Errorf("ACK %+v", f)
			}
			all = append(all, value)
		}
	}()
	p.send(1, 0x40, encoded("x", strings.Repeat("a", 16374-11)))
	for range 6 {
		p.send(1, 0x40, strings.Repeat("a", 16374))
	}
	p.send(1, 0, strings.Repeat("a", 5000))
	if got := <-acks; !slices.Equal(got, []uint64{65512, 114646}) {
		t.Errorf("ACKs %v", got)
	}
}

// TestSenderStopsWithoutAcks: without ACKs a message stops at 128 kB, others go on, and an ACK lets it go on.
func TestSenderStopsWithoutAcks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := meet(t, Options{})
		if err := c.Post(&Message{Body: make([]byte, 400<<10), NoReply: true}, nil); err != nil {
			t.Fatal(err)
		}
		sent := 0
		for sent <= maxUnacked {
			sent += p.expect().wire
		}
		if sent != 131024 {
			t.Errorf("stopped after %d bytes", sent)
		}
		if err := c.Post(&Message{Body: []byte("other"), NoReply: true}, nil); err != nil {
			t.Fatal(err)
		}
		if f := p.expect(); f.number != 2 || string(f.payload) != "\x00other" {
			t.Errorf("%+v", f)
		}
		p.ack(1, 4, 3000) // not enough
		p.ack(1, 5, 131024)
		synctest.Wait()
		if n := len(p.pipe.in.ch); n != 0 {
			t.Fatalf("%d frames too early", n)
		}
		p.ack(1, 4, 65512)
		for got := 0; got < 65512; {
			f := p.expect()
			if got += f.wire; f.number != 1 {
				t.Fatalf("%+v", f)
			}
		}
		synctest.Wait()
		if n := len(p.pipe.in.ch); n != 0 {
			t.Fatalf("%d frames too many", n)
		}
		c.Close(1000, "") // waits in vain
		if code, _ := c.t.closed(); code != 1000 {
			t.Errorf("closed with %d", code)
		}
	})
}

// TestReplyAfterRequest: a reply to a request that has not been sent completely is against the rules.
func TestReplyAfterRequest(t *testing.T) {
	c, p := meet(t, Options{})
	got := make(chan error, 1)
	if err := c.Post(&Message{Body: make([]byte, 400<<10)}, func(r *Reply) { got <- r.Err() }); err != nil {
		t.Fatal(err)
	}
	p.expect()
	p.send(1, 1, "\x00")
	if err := <-c.err; err != errStray {
		t.Error(err)
	}
	if err := <-got; err != errStray {
		t.Error(err)
	}
}

// TestCloseSendsWhatIsQueued: Close comes after the messages, with its code.
func TestCloseSendsWhatIsQueued(t *testing.T) {
	c, p := meet(t, Options{})
	for range 100 {
		if err := c.Post(&Message{NoReply: true, Body: make([]byte, 20000)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	closed := make(chan struct{})
	go func() { c.Close(4001, "later"); close(closed) }()
	complete := 0
	for complete < 100 {
		if f := p.expect(); f.flags&0x40 == 0 {
			complete++
		}
	}
	<-closed
	if code, reason := c.t.closed(); code != 4001 || reason != "later" {
		t.Errorf("closed with %d %q", code, reason)
	}
	if err := <-c.err; err != ErrClosed {
		t.Error(err)
	}
	if err := c.Send(t.Context(), message("x", nil), func(*Reply) {}); err != ErrClosed {
		t.Error(err)
	}
}

// TestDrop: no CLOSE frame, and the cause reaches everybody.
func TestDrop(t *testing.T) {
	c, p := meet(t, Options{})
	why := errors.New("the database is gone")
	got := make(chan error, 1)
	if err := c.Send(t.Context(), message("x", nil), func(r *Reply) { got <- r.Err() }); err != nil {
		t.Fatal(err)
	}
	p.expect()
	c.Drop(why)
	if err := <-c.err; err != why {
		t.Error(err)
	}
	if err := <-got; err != why {
		t.Error(err)
	}
	if code, _ := c.t.closed(); code != 0 {
		t.Errorf("closed with %d", code)
	}
}

// TestFrameCRC guards the helper of these tests against being wrong in the same way.
func TestFrameCRC(t *testing.T) {
	p := newRawPeer(t, nil)
	b := p.encode(9, 1, "\x00")
	if got := binary.BigEndian.Uint32(b[len(b)-4:]); got != crc32.ChecksumIEEE([]byte{0}) || got != 0xd202ef8d {
		t.Errorf("%x", got)
	}
}

func FuzzFrames(f *testing.F) {
	for _, g := range goldens(f) {
		f.Add(g.bytes(f), []byte{1, 0x34, 5})
	}
	f.Add([]byte{1, 0x40, 0, 0xd2, 0x02, 0xef, 0x8d}, []byte{1, 0, 0xd2, 0x02, 0xef, 0x8d})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		p, _ := newPipe()
		c := NewConn(p, Options{MaxMessage: 1 << 16, Handle: func(r *Request) { r.Respond(&Message{Body: r.Body()}); r.Release() }})
		for _, b := range [][]byte{first, second} {
			if c.receiveFrame(b) != nil {
				break
			}
		}
		_ = p.Abort()
		c.Drop(errPeerGone)
		_ = c.Run()
		if n := c.pending.Load(); n != 0 {
			t.Fatalf("%d bytes are still held", n)
		}
	})
}

func FuzzProperties(f *testing.F) {
	for _, s := range []string{"", "a\x00b\x00", "a\x00", "a", "\x00\x00", "a\x00b\x00a\x00c\x00", "a\x00\x00b\x00\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		parts := strings.Split(string(b), "\x00")
		want := len(b) == 0 || b[len(b)-1] == 0 && len(parts)%2 == 1
		seen := make(map[string]string)
		var names []string
		for i := 0; want && i+1 < len(parts); i += 2 {
			if _, twice := seen[parts[i]]; twice {
				want = false
			}
			seen[parts[i]] = parts[i+1]
			names = append(names, parts[i])
		}
		if got := wellFormed(b); got != want {
			t.Fatalf("well formed %v, want %v", got, want)
		}
		p := Properties{b: b}
		if !want {
			_, _ = p.Get("a") // must not go astray
			return
		}
		var again Properties
		for k, v := range p.All() {
			if seen[k] != v || k != names[0] {
				t.Fatalf("%q = %q", k, v)
			}
			names = names[1:]
			again.Add(k, v)
			if got, ok := p.Get(k); !ok || got != v {
				t.Fatalf("Get(%q) = %q, %v", k, got, ok)
			}
		}
		if len(names) != 0 || string(again.b) != string(b) {
			t.Fatalf("built again: %q", again.b)
		}
	})
}
