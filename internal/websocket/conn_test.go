package websocket

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pair joins a server and a client in memory.
func pair(server, client Options) (s, c *Conn) {
	a, b := net.Pipe()
	return Server(NewStream(a, nil), server), newConn(NewStream(b, nil), client, true)
}

func TestMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := pair(Options{}, Options{})
		for _, ends := range [][2]*Conn{{s, c}, {c, s}} {
			var want [][]byte
			for _, size := range []int{0, 1, 7, 8, 55, 61, 125, 126, 1000, 65535, 65536, 300000, 5} {
				b := make([]byte, size)
				for i := range b {
					b[i] = byte(i * 7)
				}
				want = append(want, b)
			}
			go func() {
				if err := ends[0].WriteMessages(want); err != nil {
					t.Error(err)
				}
				if err := ends[0].Write(Text, []byte("täxt")); err != nil {
					t.Error(err)
				}
			}()
			for _, w := range want {
				if got, err := ends[1].ReadMessage(); err != nil || !bytes.Equal(got, w) {
					t.Fatalf("%d bytes, %v, want %d", len(got), err, len(w))
				}
			}
			if op, got, err := ends[1].Next(); op != Text || string(got) != "täxt" || err != nil {
				t.Errorf("%d %q %v", op, got, err)
			}
		}
		_ = c.Abort()
		if _, err := s.ReadMessage(); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		if err := c.WriteMessages([][]byte{{1}}); err == nil {
			t.Error("written after the end")
		}
	})
}

func TestCloseHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := pair(Options{}, Options{})
		ended := make(chan error, 1)
		go func() { ended <- s.Discard() }()
		go func() { _ = c.Close(4001, "later") }()
		if e, ok := errors.AsType[*CloseError](c.Discard()); !ok || e.Code != 4001 || e.Reason != "later" {
			t.Errorf("the client sees %v", e)
		}
		if e, ok := errors.AsType[*CloseError](<-ended); !ok || e.Code != 4001 || e.Reason != "later" {
			t.Errorf("the server sees %v", e)
		}
		// A peer that does not answer.
		a, b := net.Pipe()
		s = Server(NewStream(a, nil), Options{})
		go func() { _, _ = io.Copy(io.Discard, b) }()
		go func() { _ = s.Close(1000, strings.Repeat("ä", 100)) }()
		began := time.Now()
		if err := s.Discard(); err != ErrClosed || time.Since(began) != defaultCloseTimeout {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// frames sends raw bytes to a server and returns how it ended and its last frame.
func frames(t *testing.T, o Options, in string) (last []byte, err error) {
	a, b := net.Pipe()
	s := Server(NewStream(a, []byte(in)), o)
	got := make(chan []byte, 1)
	go func() {
		all, _ := io.ReadAll(b)
		got <- all
	}()
	for err == nil {
		_, _, err = s.Next()
	}
	_ = s.Abort()
	return <-got, err
}

func TestRules(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		code int
	}{
		"no mask":           {"\x82\x01a", CloseProtocol},
		"reserved bits":     {"\xc2\x80\x00\x00\x00\x00", CloseProtocol},
		"unknown frame":     {"\x83\x80\x00\x00\x00\x00", CloseProtocol},
		"unknown control":   {"\x8b\x80\x00\x00\x00\x00", CloseProtocol},
		"long control":      {"\x89\xfe\x00\x7e\x00\x00\x00\x00", CloseProtocol},
		"control in pieces": {"\x09\x80\x00\x00\x00\x00", CloseProtocol},
		"continues nothing": {"\x80\x80\x00\x00\x00\x00", CloseProtocol},
		"never ends":        {"\x02\x80\x00\x00\x00\x00\x82\x80\x00\x00\x00\x00", CloseProtocol},
		"too big":           {"\x82\xfe\x01\x00\x00\x00\x00\x00", CloseTooBig},
		"far too big":       {"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00", CloseTooBig},
		"no UTF-8":          {"\x81\x81\x00\x00\x00\x00\xff", CloseBadData},
		"bad close":         {"\x88\x81\x00\x00\x00\x00\x03", CloseProtocol},
		"bad close code":    {"\x88\x82\x00\x00\x00\x00\x03\xed", CloseProtocol},
	} {
		synctest.Test(t, func(t *testing.T) {
			last, err := frames(t, Options{ReadLimit: 100}, c.in)
			e, ok := errors.AsType[*ProtocolError](err)
			if !ok || e.Code != c.code {
				t.Errorf("%s: %v", name, err)
			}
			if len(last) < 4 || last[0] != 0x88 || int(binary.BigEndian.Uint16(last[2:])) != c.code || string(last[4:]) != e.Reason {
				t.Errorf("%s: last frame %q", name, last)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		// A close without a code is answered without one; a ping before it, within a message in pieces, is answered.
		last, err := frames(t, Options{}, "\x02\x81\x00\x00\x00\x00a\x89\x81\x00\x00\x00\x00p\x80\x81\x00\x00\x00\x00b\x88\x80\x00\x00\x00\x00")
		if e, ok := errors.AsType[*CloseError](err); !ok || e.Code != closeNoStatus || string(last) != "\x8a\x01p\x88\x00" {
			t.Errorf("%v, %q", err, last)
		}
	})
}

func TestKeepAlive(t *testing.T) {
	for _, o := range []Options{
		{PingAfter: time.Minute},
		{PingAfter: time.Minute, PongTimeout: time.Minute}, // the answer is as old as the silence that makes it ask again
		{PingAfter: time.Minute, PongTimeout: time.Hour},
	} {
		keepsAlive(t, o)
	}
}

// keepsAlive: a peer that answers stays, one that does not goes.
func keepsAlive(t *testing.T, o Options) {
	synctest.Test(t, func(t *testing.T) {
		s, c := pair(o, Options{})
		ended := make(chan error, 1)
		began := time.Now()
		go func() { ended <- s.Discard() }()
		stop := make(chan struct{})
		go func() { _ = c.Discard(); close(stop) }() // answers pings
		time.Sleep(time.Hour)
		select {
		case err := <-ended:
			t.Fatalf("ended after %v: %v", time.Since(began), err)
		default:
		}
		_ = c.Abort()
		<-stop
		<-ended
		// A peer that takes pings and says nothing.
		a, b := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, b) }()
		s = Server(NewStream(a, nil), o)
		began = time.Now()
		if err := s.Discard(); err != ErrDeadPeer || time.Since(began) != o.PingAfter+s.o.PongTimeout {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// TestSlowReader: a peer that does not read is let go, and the reader is not held up by its pings.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		s := Server(NewStream(a, nil), Options{WriteTimeout: time.Second})
		wrote := make(chan error, 1)
		go func() { wrote <- s.WriteMessages([][]byte{make([]byte, 100)}) }()
		synctest.Wait()
		read := make(chan error, 1)
		go func() { read <- s.Discard() }()
		began := time.Now()
		for range 3 {
			_, _ = b.Write([]byte("\x89\x81\x00\x00\x00\x00p"))
		}
		if time.Since(began) != 0 {
			t.Error("the pings had to wait")
		}
		if err := <-wrote; err == nil {
			t.Error("written")
		}
		if err := <-read; err == nil || time.Since(began) > 2*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

func TestMask(t *testing.T) {
	for size := range 100 {
		for pos := range 5 {
			b, want := make([]byte, size), make([]byte, size)
			key := [4]byte{1, 20, 33, 240}
			for i := range b {
				b[i] = byte(i)
				want[i] = byte(i) ^ key[(pos+i)%4]
			}
			if mask(b, binary.LittleEndian.Uint32(key[:]), pos); !bytes.Equal(b, want) {
				t.Fatalf("size %d at %d: %x, want %x", size, pos, b, want)
			}
		}
	}
}

// TestIdleHasNoBuffer: a connection that waits for a message has given its buffer back.
func TestIdleHasNoBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := pair(Options{}, Options{})
		go func() { _ = s.Discard() }()
		if err := c.WriteMessages([][]byte{make([]byte, 50000), make([]byte, 3)}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if s.big != nil || s.msg != nil || len(s.in) > 0 {
			t.Error("an idle connection holds a buffer")
		}
		_ = s.Abort()
	})
}

func TestDial(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/no":
			http.Error(w, "no such database", http.StatusNotFound)
			return
		case "/moved":
			http.Redirect(w, r, "/", http.StatusFound)
			return
		case "/long":
			w.Header().Set("X-Long", strings.Repeat("x", 2*maxResponseHead))
			return
		case "/hang":
			<-r.Context().Done()
			return
		}
		if err := CheckUpgrade(r); err != nil || r.Header.Get("Authorization") != "Basic x" {
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
		conn, _, _ := http.NewResponseController(w).Hijack()
		head := make(http.Header)
		AcceptUpgrade(r, head, r.URL.Query().Get("choose"))
		b := bytes.NewBufferString("HTTP/1.1 101 Switching Protocols\r\n")
		_ = head.Write(b)
		b.WriteString("\r\n\x82\x05early") // a frame with the answer
		_, _ = conn.Write(b.Bytes())
		_ = Server(NewStream(conn, nil), Options{}).Discard()
	}))
	defer server.Close()
	o := DialOptions{Header: http.Header{"Authorization": {"Basic x"}}, Subprotocols: []string{"a", "b"}}
	for _, target := range []string{server.URL + "/?choose=b", strings.Replace(server.URL, "http", "ws", 1)} {
		c, resp, err := Dial(t.Context(), target, o)
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.Header.Get("Sec-WebSocket-Protocol"); strings.Contains(target, "choose") != (got == "b") {
			t.Errorf("subprotocol %q", got)
		}
		if b, err := c.ReadMessage(); err != nil || string(b) != "early" {
			t.Errorf("%q, %v", b, err)
		}
		_ = c.Abort()
	}
	for path, want := range map[string]int{"/no": 404, "/moved": 302, "/?choose=c": 101, "/long": 0} {
		c, resp, err := Dial(t.Context(), server.URL+path, o)
		if err == nil {
			_ = c.Abort()
			t.Fatalf("%s: no error", path)
		}
		status := 0
		if resp != nil {
			status = resp.StatusCode
		}
		if status != want || want != 0 && !errors.Is(err, ErrRefused) {
			t.Errorf("%s: status %d, %v", path, status, err)
		}
		if path == "/no" {
			if body, _ := io.ReadAll(resp.Body); string(body) != "no such database\n" {
				t.Errorf("body %q", body)
			}
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gaveUp := errors.New("gave up")
	cancel(gaveUp)
	if _, _, err := Dial(ctx, server.URL+"/hang", o); err == nil {
		t.Error("dialled without time")
	}
	if _, _, err := Dial(t.Context(), "ftp://x/", o); err == nil {
		t.Error("dialled ftp")
	}
}

func TestDialTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "here", http.StatusTeapot)
	}))
	defer server.Close()
	config := server.Client().Transport.(*http.Transport).TLSClientConfig
	_, resp, err := Dial(t.Context(), strings.Replace(server.URL, "https", "wss", 1), DialOptions{TLSConfig: config})
	if resp == nil || resp.StatusCode != http.StatusTeapot {
		t.Error(err)
	}
	if _, resp, err := Dial(t.Context(), server.URL, DialOptions{}); err == nil || resp != nil {
		t.Error("a certificate of nobody was taken")
	}
}

// scriptedConn is a connection whose peer sends fixed bytes, a few in each read, and takes everything.
type scriptedConn struct {
	net.Conn
	in   *bytes.Reader
	step int
}

func (c *scriptedConn) Read(p []byte) (int, error)       { return c.in.Read(p[:min(len(p), c.step)]) }
func (c *scriptedConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c *scriptedConn) SetWriteDeadline(time.Time) error { return nil }
func (c *scriptedConn) SetReadDeadline(time.Time) error  { return nil }
func (c *scriptedConn) Close() error                     { return nil }

// FuzzRead: whatever a peer sends, reading ends within what it sent, and does not depend on how it is cut.
func FuzzRead(f *testing.F) {
	f.Add([]byte{0x81, 0x82, 0, 0, 0, 0, '{', '}'}, true)
	f.Add([]byte{0x01, 0x81, 1, 2, 3, 4, 5, 0x80, 0x80, 0, 0, 0, 0}, true)
	f.Add([]byte{0x89, 0x80, 0, 0, 0, 0, 0x88, 0x82, 0, 0, 0, 0, 3, 0xe8}, true)
	f.Add([]byte{0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, true)
	f.Add(append([]byte{0x82, 126, 0, 200}, make([]byte, 250)...), false)
	f.Fuzz(func(t *testing.T, data []byte, server bool) {
		const limit = 1 << 10
		var first [][]byte
		for _, step := range []int{len(data) + 1, 1, 7} {
			c := newConn(NewStream(&scriptedConn{in: bytes.NewReader(data), step: step}, nil), Options{ReadLimit: limit}, !server)
			var got [][]byte
			total := 0
			for {
				_, msg, err := c.Next()
				if err != nil {
					break
				}
				if total += len(msg); len(msg) > limit || total > len(data) {
					t.Fatalf("%d bytes from %d", total, len(data))
				}
				got = append(got, bytes.Clone(msg))
			}
			if first == nil {
				first = append(got, nil)
			}
			if !bytes.Equal(bytes.Join(append(got, nil), []byte("|")), bytes.Join(first, []byte("|"))) {
				t.Fatal("it matters how the bytes are cut")
			}
		}
	})
}

func BenchmarkMask(b *testing.B) {
	buf := make([]byte, 16<<10)
	b.SetBytes(int64(len(buf)))
	for range b.N {
		mask(buf, 0x12345678, 0)
	}
}
