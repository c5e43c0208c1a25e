package rest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidegate/tidegate/internal/websocket"
)

// wsClient is the client's end of a WebSocket, written by the RFC and not by the server's code.
type wsClient struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
}

const wsHead = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// openWebSocket makes a WebSocket and sends the options of the feed.
func openWebSocket(t testing.TB, conn net.Conn, target, options string) *wsClient {
	t.Helper()
	c := &wsClient{t: t, conn: conn, in: bufio.NewReader(conn)}
	if _, err := io.WriteString(conn, "GET "+target+" HTTP/1.1\r\nHost: localhost\r\n"+wsHead+"\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	// The accept value is the example of RFC 6455 §1.3.
	if resp.StatusCode != 101 || resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" ||
		!strings.EqualFold(resp.Header.Get("Upgrade"), "websocket") || !strings.EqualFold(resp.Header.Get("Connection"), "upgrade") {
		t.Fatalf("upgrade: %d %v", resp.StatusCode, resp.Header)
	}
	if options != "" {
		c.send(0x81, options)
	}
	return c
}

// send writes a masked frame. The server may have hung up already: what comes back tells.
func (c *wsClient) send(first byte, payload string) {
	c.t.Helper()
	mask := []byte{1, 2, 3, 4}
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	b = append(b, mask...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	_, _ = c.conn.Write(b)
}

// frame reads a frame.
func (c *wsClient) frame() (first byte, payload string) {
	c.t.Helper()
	var head [2]byte
	if _, err := io.ReadFull(c.in, head[:]); err != nil {
		c.t.Fatalf("read frame: %v", err)
	}
	if head[1]&0x80 != 0 {
		c.t.Fatal("a frame from the server is masked")
	}
	n := uint64(head[1])
	if n >= 126 {
		ext := make([]byte, 8)
		if _, err := io.ReadFull(c.in, ext[map[uint64]int{126: 6, 127: 0}[n]:]); err != nil {
			c.t.Fatal(err)
		}
		n = binary.BigEndian.Uint64(ext)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(c.in, b); err != nil {
		c.t.Fatal(err)
	}
	return head[0], string(b)
}

// message expects a text message.
func (c *wsClient) message(want string) {
	c.t.Helper()
	if first, got := c.frame(); first != 0x81 || got != want {
		c.t.Fatalf("frame %#x %q, want %q", first, got, want)
	}
}

// closed expects a close frame and the end of the connection.
func (c *wsClient) closed(code int, reason string) {
	c.t.Helper()
	first, payload := c.frame()
	if first != 0x88 || len(payload) < 2 || int(binary.BigEndian.Uint16([]byte(payload))) != code || payload[2:] != reason {
		c.t.Fatalf("close frame %#x %q, want %d %q", first, payload, code, reason)
	}
	if _, err := c.in.ReadByte(); !errors.Is(err, io.EOF) {
		c.t.Fatalf("after the close: %v", err)
	}
}

func TestWebSocketFeed(t *testing.T) {
	bubble(t, rigOptions{}, func(t *testing.T, r *rig, dial func() net.Conn) {
		r.put("a", `{}`)
		r.put("b", `{}`)
		c := openWebSocket(t, dial(), "/db/_changes?feed=websocket&since=99", `{"heartbeat":25000}`)
		c.message("[" + entry(1, "a") + "," + entry(2, "b") + "]")
		c.message("[]") // caught up
		began := time.Now()
		c.message("")
		if waited := time.Since(began); waited != 25*time.Second {
			t.Errorf("the heartbeat came after %v", waited)
		}
		go r.put("c", `{}`)
		c.message("[" + entry(3, "c") + "]")
		c.send(0x89, "ping")
		if first, got := c.frame(); first != 0x8a || got != "ping" {
			t.Errorf("pong %#x %q", first, got)
		}
		c.send(0x81, "idle talk") // is read over
		go func() { _ = r.gateway.TakeOffline(t.Context(), "db") }()
		c.closed(4001, "the feed has ended")
		synctest.Wait()
		if n := r.server.feeds.count(); n != 0 {
			t.Errorf("%d feeds are still counted", n)
		}
	})
}

func TestWebSocketOptions(t *testing.T) {
	bubble(t, rigOptions{}, func(t *testing.T, r *rig, dial func() net.Conn) {
		r.put("a", `{}`)
		r.put("b", `{}`)
		c := openWebSocket(t, dial(), "/db/_changes?feed=websocket", `{"since":"1","limit":1}`)
		c.message("[" + entry(2, "b") + "]")
		c.closed(4001, "the feed has ended")
		c = openWebSocket(t, dial(), "/db/_changes?feed=websocket", `{"filter":"_doc_ids","doc_ids":["b"],"include_docs":true,"timeout":2000}`)
		c.message(`[{"seq":2,"id":"b","changes":[{"rev":"` + emptyRev + `"}],"doc":{"_id":"b","_rev":"` + emptyRev + `"}}]`)
		c.message("[]")
		c.closed(4001, "the feed has ended") // after two seconds of the bubble's time
		// In fragments, with a ping between.
		c = openWebSocket(t, dial(), "/db/_changes?feed=websocket", "")
		c.send(0x01, `{"si`)
		go c.send(0x89, "x")
		if first, got := c.frame(); first != 0x8a || got != "x" {
			t.Errorf("pong %#x %q", first, got)
		}
		c.send(0x80, `nce":2}`)
		c.message("[]")
		_ = c.conn.Close()
	})
}

func TestWebSocketCompressed(t *testing.T) {
	bubble(t, rigOptions{}, func(t *testing.T, r *rig, dial func() net.Conn) {
		c := openWebSocket(t, dial(), "/db/_changes?feed=websocket", `{"accept_encoding":"gzip"}`)
		c.message("[]") // too short to be compressed
		var stream bytes.Buffer
		var z *gzip.Reader
		for i := range 5 {
			id := fmt.Sprintf("doc%d", i)
			go r.put(id, `{}`)
			first, payload := c.frame()
			if first != 0x82 {
				t.Fatalf("frame %#x", first)
			}
			stream.WriteString(payload)
			if z == nil {
				var err error
				if z, err = gzip.NewReader(&stream); err != nil {
					t.Fatal(err)
				}
			}
			want := "[" + entry(i+1, id) + "]"
			got := make([]byte, len(want))
			if _, err := io.ReadFull(z, got); err != nil || string(got) != want {
				t.Fatalf("message %d: %q, %v", i, got, err)
			}
		}
	})
}

func TestWebSocketRefusals(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.a("GET", "/db/_changes?feed=websocket", "").has("Upgrade", "websocket").fails(426, "this needs a WebSocket upgrade")
	r.a("GET", "/db/_changes?feed=websocket", "", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 8").
		has("Sec-WebSocket-Version", "13").fails(426, "unsupported WebSocket version")
	r.a("GET", "/db/_changes?feed=websocket", "", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: short").
		fails(400, "bad Sec-WebSocket-Key")
	if n := r.server.feeds.count(); n != 0 {
		t.Errorf("%d feeds are still counted", n)
	}
	bubble(t, rigOptions{}, func(t *testing.T, r *rig, dial func() net.Conn) {
		for options, want := range map[string]struct {
			code   int
			reason string
		}{
			`nonsense`:       {1003, "Bad JSON: unexpected byte at byte 0"},
			`[]`:             {1003, "Document body must be JSON"},
			`{"since":"x"}`:  {1003, "Invalid sequence"},
			`{"filter":"x"}`: {1003, "Unknown filter; try sync_gateway/bychannel or _doc_ids"},
			`{"a":"` + strings.Repeat("x", maxWebSocketOptions) + `"}`: {1009, "message too big"},
		} {
			c := openWebSocket(t, dial(), "/db/_changes?feed=websocket", "")
			go c.send(0x81, options)
			first, payload := c.frame()
			if first != 0x88 || int(binary.BigEndian.Uint16([]byte(payload))) != want.code || !strings.HasPrefix(payload[2:], want.reason[:10]) {
				t.Errorf("%.40s: close %q, want %+v", options, payload, want)
			}
		}
		for name, send := range map[string]func(*wsClient){
			"no mask":           func(c *wsClient) { _, _ = c.conn.Write([]byte{0x81, 2, '{', '}'}) },
			"reserved bits":     func(c *wsClient) { c.send(0xc1, "{}") },
			"unknown frame":     func(c *wsClient) { c.send(0x83, "{}") },
			"unknown control":   func(c *wsClient) { c.send(0x8b, "") },
			"long control":      func(c *wsClient) { c.send(0x89, strings.Repeat("x", 126)) },
			"control in pieces": func(c *wsClient) { c.send(0x09, "x") },
			"continues nothing": func(c *wsClient) { c.send(0x80, "x") },
			"never ends":        func(c *wsClient) { c.send(0x01, "x"); c.send(0x81, "x") },
		} {
			c := openWebSocket(t, dial(), "/db/_changes?feed=websocket", "")
			go send(c)
			if first, payload := c.frame(); first != 0x88 || binary.BigEndian.Uint16([]byte(payload)) != websocket.CloseProtocol {
				t.Errorf("%s: %#x %q", name, first, payload)
			}
		}
		c := openWebSocket(t, dial(), "/db/_changes?feed=websocket", "")
		go c.send(0x81, "\xff\xfe")
		if first, payload := c.frame(); first != 0x88 || binary.BigEndian.Uint16([]byte(payload)) != websocket.CloseBadData {
			t.Errorf("no UTF-8: %#x %q", first, payload)
		}
		// A client that never says what it wants is let go.
		c = openWebSocket(t, dial(), "/db/_changes?feed=websocket", "")
		began := time.Now()
		if _, err := io.ReadAll(c.in); err != nil || time.Since(began) != optionsTimeout {
			t.Errorf("silence ended after %v: %v", time.Since(began), err)
		}
		// One that breaks the rules later, too.
		c = openWebSocket(t, dial(), "/db/_changes?feed=websocket", "{}")
		c.message("[]")
		go c.send(0x83, "x")
		c.closed(websocket.CloseProtocol, "unknown frame type")
		// One that says goodbye is answered.
		c = openWebSocket(t, dial(), "/db/_changes?feed=websocket", "{}")
		c.message("[]")
		go c.send(0x88, "\x03\xe8bye")
		if first, payload := c.frame(); first != 0x88 || payload != "\x03\xe8bye" {
			t.Errorf("close: %#x %q", first, payload)
		}
		synctest.Wait()
		if n := r.server.feeds.count(); n != 0 {
			t.Errorf("%d feeds are still counted", n)
		}
	})
}
