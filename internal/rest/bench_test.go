package rest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The benchmarks speak HTTP/1.1 over the loopback with a client that does next to nothing, so that what they
// report is nearly all the server's. CPU figures include both ends of the connection.

// benchClient is one kept-alive connection.
type benchClient struct {
	b    *testing.B
	conn net.Conn
	in   *bufio.Reader
	buf  bytes.Buffer
}

func newBenchClient(b *testing.B, srv *httptest.Server) *benchClient {
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return &benchClient{b: b, conn: conn, in: bufio.NewReaderSize(conn, 64<<10)}
}

// do sends a request and reads its answer, checking the status.
func (c *benchClient) do(status int, method, target string, body []byte) {
	c.buf.Reset()
	fmt.Fprintf(&c.buf, "%s %s HTTP/1.1\r\nHost: localhost\r\n", method, target)
	if body != nil {
		fmt.Fprintf(&c.buf, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	c.buf.WriteString("\r\n")
	c.buf.Write(body)
	if _, err := c.conn.Write(c.buf.Bytes()); err != nil {
		c.b.Fatal(err)
	}
	c.answer(status)
}

// answer reads an answer without making objects of it.
func (c *benchClient) answer(status int) {
	length, chunked := 0, false
	for n := 0; ; n++ {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			c.b.Fatal(err)
		}
		switch {
		case n == 0:
			if got := string(line[9:12]); got != strconv.Itoa(status) {
				c.b.Fatalf("status %s, want %d", got, status)
			}
		case len(line) == 2:
			if !chunked {
				c.skip(length)
				return
			}
			c.skipChunks()
			return
		case bytes.HasPrefix(line, []byte("Content-Length: ")):
			length, _ = strconv.Atoi(strings.TrimSpace(string(line[16:])))
		case bytes.HasPrefix(line, []byte("Transfer-Encoding: chunked")):
			chunked = true
		}
	}
}

func (c *benchClient) skip(n int) {
	if _, err := c.in.Discard(n); err != nil {
		c.b.Fatal(err)
	}
}

func (c *benchClient) skipChunks() {
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			c.b.Fatal(err)
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(line)), 16, 32)
		if err != nil {
			c.b.Fatal(err)
		}
		c.skip(int(n) + 2)
		if n == 0 {
			return
		}
	}
}

// benchDoc is a document of about 1 KiB with the sync function's default channel.
func benchDoc(i int) []byte {
	return fmt.Appendf(nil, `{"channels":["c%d"],"n":%d,"name":"somebody","tags":["a","b","c"],"nested":{"x":1.5,"y":-2,"z":null},"text":%q}`, i%10, i, strings.Repeat("lorem ipsum ", 75))
}

func newBenchRig(b *testing.B) (*rig, *httptest.Server) {
	r := newRig(b, rigOptions{database: openGuest, onDisk: true})
	return r, r.serveLoopback(r.public)
}

func BenchmarkGet(b *testing.B) {
	r, srv := newBenchRig(b)
	r.put("doc", string(benchDoc(1)))
	c := newBenchClient(b, srv)
	b.ReportAllocs()
	defer cpu(b)()
	for b.Loop() {
		c.do(200, "GET", "/db/doc", nil)
	}
}

func BenchmarkPut(b *testing.B) {
	_, srv := newBenchRig(b)
	c := newBenchClient(b, srv)
	body := benchDoc(1)
	b.ReportAllocs()
	defer cpu(b)()
	n := 0
	for b.Loop() {
		n++
		c.do(201, "PUT", "/db/doc"+strconv.Itoa(n), body)
	}
}

func BenchmarkBulkDocs100(b *testing.B) {
	_, srv := newBenchRig(b)
	c := newBenchClient(b, srv)
	docs := make([][]byte, 100)
	for i := range docs {
		docs[i] = benchDoc(i)
	}
	body := []byte(`{"docs":[` + string(bytes.Join(docs, []byte{','})) + `]}`)
	b.ReportAllocs()
	defer cpu(b)()
	for b.Loop() {
		c.do(201, "POST", "/db/_bulk_docs", body)
	}
	b.ReportMetric(float64(b.N)*100/b.Elapsed().Seconds(), "docs/s")
}

func benchChanges(b *testing.B, query string) {
	r, srv := newBenchRig(b)
	const rows = 5000
	var body bytes.Buffer
	for i := range rows {
		if i%500 == 0 {
			body.WriteString(`{"docs":[`)
		} else {
			body.WriteByte(',')
		}
		body.Write(benchDoc(i))
		if i%500 == 499 {
			body.WriteString(`]}`)
			r.a("POST", "/db/_bulk_docs", body.String()).is(201)
			body.Reset()
		}
	}
	c := newBenchClient(b, srv)
	b.ReportAllocs()
	b.ResetTimer()
	defer cpu(b)()
	for b.Loop() {
		c.do(200, "GET", "/db/_changes"+query, nil)
	}
	b.ReportMetric(float64(b.N)*rows/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkChanges(b *testing.B)     { benchChanges(b, "") }
func BenchmarkChangesDocs(b *testing.B) { benchChanges(b, "?include_docs=true") }

// BenchmarkIdleListeners reports what one idle continuous listener takes in memory, the test's own end of the
// connection included, and how long one write takes to reach them all.
func BenchmarkIdleListeners(b *testing.B) {
	for _, feed := range []string{"continuous", "websocket", "longpoll"} {
		b.Run(feed, func(b *testing.B) { benchListeners(b, feed) })
	}
}

func benchListeners(b *testing.B, feed string) {
	r, srv := newBenchRig(b)
	const listeners = 1000
	r.server.feeds.perUsr = 2 * listeners
	writer := newBenchClient(b, srv)
	writer.do(201, "PUT", "/db/warm", benchDoc(1))
	heapBefore, stackBefore := memoryInUse()
	conns := make([]net.Conn, listeners)
	for i := range conns {
		conns[i] = openListener(b, srv, feed)
	}
	heap, stack := memoryInUse()
	defer func() {
		b.ReportMetric(float64(heap-heapBefore)/listeners, "heap-B/listener")
		b.ReportMetric(float64(stack-stackBefore)/listeners, "stack-B/listener")
	}()
	if feed == "longpoll" {
		return
	}
	var all sync.WaitGroup
	n := 0
	defer cpu(b)()
	for b.Loop() {
		all.Add(listeners)
		n++
		id := "doc" + strconv.Itoa(n) + "."
		for _, conn := range conns {
			go func() {
				awaitID(b, conn, id)
				all.Done()
			}()
		}
		writer.do(201, "PUT", "/db/"+id, []byte(`{}`))
		all.Wait()
	}
}

// openListener opens a feed and reads all that comes at once.
func openListener(b *testing.B, srv *httptest.Server, feed string) net.Conn {
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	head := "GET /db/_changes?since=now&heartbeat=60000&feed=" + feed + " HTTP/1.1\r\nHost: localhost\r\n"
	if feed == "websocket" {
		head += wsHead
	}
	if _, err := io.WriteString(conn, head+"\r\n"); err != nil {
		b.Fatal(err)
	}
	want := "\r\n\r\n"
	if feed == "websocket" {
		opts := []byte(`{"since":"now","heartbeat":60000}`)
		if _, err := conn.Write(append([]byte{0x81, 0x80 | byte(len(opts)), 0, 0, 0, 0}, opts...)); err != nil {
			b.Fatal(err)
		}
		want = "[]"
	}
	awaitID(b, conn, want)
	return conn
}

// awaitID reads until text has come.
func awaitID(b *testing.B, conn net.Conn, text string) {
	buf := make([]byte, 0, 2048)
	for !bytes.Contains(buf, []byte(text)) {
		n, err := conn.Read(buf[len(buf):cap(buf)])
		if err != nil {
			b.Errorf("listener: %v", err)
			return
		}
		buf = buf[:len(buf)+n]
	}
}

// cpu reports the processor time that the process spends on each operation from now on.
func cpu(b *testing.B) (report func()) {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	start := used()
	return func() { b.ReportMetric(float64((used()-start).Nanoseconds())/1000/float64(b.N), "cpu-µs/op") }
}

// memoryInUse is what heap and stacks take once garbage is gone.
func memoryInUse() (heap, stack uint64) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc, m.StackInuse
}
