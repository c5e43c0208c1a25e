package rest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pipeListener is a listener whose connections are pipes in memory, so that servers and clients can live in
// a bubble of testing/synctest.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { close(l.closed); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// servePipes serves a handler on pipes and returns how to connect.
func servePipes(t testing.TB, h http.Handler) (dial func() net.Conn) {
	l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	srv := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
	})
	return func() net.Conn {
		client, server := net.Pipe()
		l.conns <- server
		t.Cleanup(func() { _ = client.Close() })
		return client
	}
}

// bubble runs fn with a gateway in a bubble, where time stands still while anything runs.
func bubble(t *testing.T, o rigOptions, fn func(t *testing.T, r *rig, dial func() net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, o)
		fn(t, r, servePipes(t, r.admin))
	})
}

// httpClient is a connection on which one request was sent.
type httpClient struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
	resp *http.Response
}

// open sends a request and reads the head of the response.
func openClient(t testing.TB, conn net.Conn, method, target, body string, header ...string) *httpClient {
	t.Helper()
	c := &httpClient{t: t, conn: conn, in: bufio.NewReader(conn)}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: localhost\r\n", method, target)
	for _, line := range header {
		b.WriteString(line + "\r\n")
	}
	if body != "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\nContent-Type: application/json\r\n", len(body))
	}
	b.WriteString("\r\n" + body)
	if _, err := io.WriteString(conn, b.String()); err != nil {
		t.Fatal(err)
	}
	var err error
	if c.resp, err = http.ReadResponse(c.in, &http.Request{Method: method}); err != nil {
		t.Fatal(err)
	}
	c.in = bufio.NewReader(c.resp.Body)
	return c
}

// line reads the next line of the body, without its end.
func (c *httpClient) line() string {
	c.t.Helper()
	s, err := c.in.ReadString('\n')
	if err != nil {
		c.t.Fatalf("read line: %v after %q", err, s)
	}
	return strings.TrimSuffix(s, "\n")
}

// rest reads the body to its end.
func (c *httpClient) rest() string {
	c.t.Helper()
	b, err := io.ReadAll(c.in)
	if err != nil {
		c.t.Fatalf("read body: %v after %q", err, b)
	}
	return string(b)
}

// entry is how a feed shows the first revision of an empty document.
func entry(seq int, id string) string {
	return fmt.Sprintf(`{"seq":%d,"id":%q,"changes":[{"rev":%q}]}`, seq, id, emptyRev)
}

// emptyRev is the revision that a first write of {} gets.
const emptyRev = "1-ca9ad22802b66f662ff171f226211d5c"

// pass lets time pass in a bubble.
func pass(d time.Duration) { <-time.NewTimer(d).C }
