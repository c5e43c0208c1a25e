package rest

import (
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"runtime"
	"testing"
)

// startFeed opens a feed over a real connection and returns once it is running.
func startFeed(t *testing.T, r *rig, srv *httptest.Server, feed string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	n := r.server.feeds.count()
	if feed == "websocket" {
		openWebSocket(t, conn, "/db/_changes?feed=websocket", "{}").message("[]")
	} else {
		openClient(t, conn, "GET", "/db/_changes?feed="+feed, "")
	}
	if got := r.server.feeds.count(); got != n+1 {
		t.Fatalf("%d feeds after opening one more than %d", got, n)
	}
	return conn
}

// lookUntil has the watch look at connections until there are n feeds. How long it takes until a connection's end
// has travelled over the loopback is the kernel's affair; the test's own deadline bounds it.
func lookUntil(r *rig, n int) {
	for r.server.feeds.count() != n {
		r.server.watch.look()
		runtime.Gosched()
	}
}

// Clients that go are noticed though nobody sits in Read for them.
func TestWatchNoticesTheEnd(t *testing.T) {
	r := newRig(t, rigOptions{})
	srv := r.serveLoopback(r.admin)
	var conns []net.Conn
	for _, feed := range []string{"continuous", "websocket", "continuous"} {
		conns = append(conns, startFeed(t, r, srv, feed))
	}
	r.server.watch.look() // all are quiet
	if n := r.server.feeds.count(); n != 3 {
		t.Fatalf("%d feeds", n)
	}
	for i, conn := range conns {
		_ = conn.Close()
		lookUntil(r, 2-i)
	}
	r.server.watch.mu.Lock()
	defer r.server.watch.mu.Unlock()
	if len(r.server.watch.all) != 0 || r.server.watch.running {
		t.Errorf("%d connections are still watched", len(r.server.watch.all))
	}
}

// A client that talks is listened to, and its end is noticed all the same.
func TestWatchListensToTalkers(t *testing.T) {
	r := newRig(t, rigOptions{})
	srv := r.serveLoopback(r.admin)
	ws := &wsClient{t: t, conn: startFeed(t, r, srv, "websocket")}
	ws.in = lines(ws.conn)
	ws.send(0x89, "ping")
	pong := make(chan struct{})
	go func() {
		defer close(pong)
		if first, got := ws.frame(); first != 0x8a || got != "ping" {
			t.Errorf("pong %#x %q", first, got)
		}
	}()
	for done := false; !done; {
		r.server.watch.look()
		runtime.Gosched()
		select {
		case <-pong:
			done = true
		default:
		}
	}
	line := startFeed(t, r, srv, "continuous")
	if _, err := io.WriteString(line, "GET / HTTP/1.1\r\n\r\n"); err != nil { // nobody answers
		t.Fatal(err)
	}
	r.put("doc", `{}`) // the feeds are alive
	ws.message("[" + entry(1, "doc") + "]")
	_ = ws.conn.Close()
	lookUntil(r, 1)
	_ = line.Close()
	lookUntil(r, 0)
}

// A listener whose feed has ended is closed by the server, after all that was to be sent.
func TestFeedsCloseTheirConnections(t *testing.T) {
	r := newRig(t, rigOptions{})
	srv := r.serveLoopback(r.admin)
	conns := make([]net.Conn, 3)
	for i := range conns {
		conns[i] = startFeed(t, r, srv, "continuous")
	}
	r.put("doc", `{}`)
	if err := r.gateway.TakeOffline(t.Context(), "db"); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%x\r\n%s\n\r\n0\r\n\r\n", len(entry(1, "doc"))+1, entry(1, "doc"))
	for _, conn := range conns {
		got, err := io.ReadAll(conn)
		if err != nil || (string(got) != want && string(got) != "0\r\n\r\n") {
			t.Errorf("after the end: %q, %v", got, err)
		}
	}
}

// Who closes a feed and opens the next finds room, though nobody has noticed yet that the first is gone.
func TestFeedLimitLooksForTheGone(t *testing.T) {
	r := newRig(t, rigOptions{startup: `{"replicator":{"max_concurrent_replications":1}}`})
	srv := r.serveLoopback(r.admin)
	for range 3 {
		conn := startFeed(t, r, srv, "continuous")
		_ = conn.Close()
		for r.a("GET", "/db/_changes", "").status != 200 { // until the end has travelled over the loopback
			runtime.Gosched()
		}
	}
}
