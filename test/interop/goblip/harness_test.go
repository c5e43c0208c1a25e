package goblip

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	goblip "github.com/couchbase/go-blip"

	"github.com/tidegate/tidegate/internal/blip"
	"github.com/tidegate/tidegate/internal/websocket"
)

const protocol = "BLIP_3+CBMobile_3"

// peers are the two ends of a connection.
type peers struct {
	ours   *blip.Conn
	theirs *goblip.Sender
	ended  chan error // what our Run returned
}

// theirContext makes a go-blip context whose handlers mirror ours.
func theirContext(t *testing.T) *goblip.Context {
	t.Helper()
	c, err := goblip.NewContext(goblip.ContextOptions{ProtocolIds: []string{"CBMobile_3"}})
	if err != nil {
		t.Fatal(err)
	}
	c.Logger = func(goblip.LogEventType, string, ...any) {}
	c.HandlerForProfile["echo"] = func(request *goblip.Message) {
		body, err := request.Body()
		if err != nil {
			t.Errorf("go-blip reads a body: %v", err)
		}
		if response := request.Response(); response != nil {
			response.SetBody(body)
			response.SetCompressed(request.Properties["compress"] == "true")
			response.Properties["n"] = request.Properties["n"]
		}
	}
	c.HandlerForProfile["fail"] = func(request *goblip.Message) {
		request.Response().SetError("HTTP", 409, "conflict")
	}
	return c
}

// ourHandler answers as theirContext does.
func ourHandler(r *blip.Request) {
	switch r.Profile() {
	case "echo":
		n, _ := r.Property("n")
		compress, _ := r.Property("compress")
		m := &blip.Message{Body: r.Body(), Compress: compress == "true", Done: r.Release}
		m.Properties.Add("n", n)
		r.Respond(m)
	case "fail":
		r.Fail("HTTP", 409, "conflict")
		r.Release()
	default:
		r.NoHandler()
		r.Release()
	}
}

// weServe makes our server and a go-blip client.
func weServe(t *testing.T, theirs *goblip.Context, o blip.Options) *peers {
	t.Helper()
	conns := make(chan *blip.Conn, 1)
	ended := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := websocket.CheckUpgrade(r); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		early, _ := rw.Reader.Peek(rw.Reader.Buffered())
		head := make(http.Header)
		websocket.AcceptUpgrade(r, head, protocol)
		var b strings.Builder
		b.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
		_ = head.Write(&b)
		b.WriteString("\r\n")
		if _, err := io.WriteString(conn, b.String()); err != nil {
			t.Error(err)
			return
		}
		ws := websocket.Server(websocket.NewStream(conn, bytes.Clone(early)), websocket.Options{ReadLimit: blip.MaxFrame})
		c := blip.NewConn(ws, o)
		conns <- c
		ended <- c.Run()
	}))
	sender, err := theirs.Dial(strings.Replace(server.URL, "http", "ws", 1))
	if err != nil {
		t.Fatal(err)
	}
	p := &peers{ours: <-conns, theirs: sender, ended: ended}
	t.Cleanup(func() { sender.Close(); p.ours.Drop(io.EOF); server.Close() })
	return p
}

// theyServe makes a go-blip server and our client. go-blip gives its server no sender, so theirs is nil.
func theyServe(t *testing.T, theirs *goblip.Context, o blip.Options) *peers {
	t.Helper()
	server := httptest.NewServer(theirs.WebSocketServer())
	ws, resp, err := websocket.Dial(t.Context(), server.URL, websocket.DialOptions{
		Options:      websocket.Options{ReadLimit: blip.MaxFrame},
		Subprotocols: []string{protocol},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Header.Get("Sec-WebSocket-Protocol"); got != protocol {
		t.Fatalf("subprotocol %q", got)
	}
	p := &peers{ours: blip.NewConn(ws, o), ended: make(chan error, 1)}
	go func() { p.ended <- p.ours.Run() }()
	t.Cleanup(func() { p.ours.Drop(io.EOF); server.Close() })
	return p
}

// body makes the body of the i-th message: mostly short, now and then of many frames.
func body(i int) []byte {
	size := []int{0, 10, 100, 400, 1000, 3000}[i%6]
	if i%500 == 7 {
		size = 200_000
	}
	b := bytes.Repeat(fmt.Appendf(nil, `{"_id":"doc-%d","channels":["a","b"]},`, i), size/30+1)[:size]
	if i%3 == 0 { // nothing for a compressor
		random := rand.New(rand.NewPCG(uint64(i), 7))
		for k := range b {
			b[k] = byte(random.Uint32())
		}
	}
	return b
}

// message makes our i-th request.
func message(i int) *blip.Message {
	m := &blip.Message{Body: body(i), Compress: i%2 == 0, Urgent: i%7 == 0, NoReply: i%11 == 0}
	m.Properties.Add("Profile", "echo")
	m.Properties.AddInt("n", int64(i))
	m.Properties.AddBool("compress", i%4 < 2)
	return m
}

// theirMessage makes their i-th request, the same.
func theirMessage(i int) *goblip.Message {
	m := goblip.NewRequest()
	m.SetProfile("echo")
	m.Properties["n"] = fmt.Sprint(i)
	m.Properties["compress"] = fmt.Sprint(i%4 < 2)
	m.SetBody(body(i))
	m.SetCompressed(i%2 == 0)
	m.SetUrgent(i%7 == 0)
	m.SetNoReply(i%11 == 0)
	return m
}
