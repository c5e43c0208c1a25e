package chaos

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// memoryCeiling is what the gateway's resident memory may reach under everything the test throws at it, in
// bytes. Its parts: 64 MiB block cache, 4 × 16 MiB of recent writes, 64 MiB for the largest body that is read
// whole, the feeds' ring, scripts at 32 MiB each, and the collector's room for as much again.
const memoryCeiling = 640 << 20

// TestI14MemoryIsBounded floods the gateway with readers that stall, bodies that explode, scripts that
// misbehave and writes all the while (I14): its memory stays under a ceiling, and an ordinary client goes on.
func TestI14MemoryIsBounded(t *testing.T) {
	p := start(t, t.TempDir())
	mustCall(t, http.MethodPut, p.admin+"/"+db+"/", map[string]any{})
	mustCall(t, http.MethodPut, p.admin+"/hostile/", map[string]any{
		"javascript_timeout_secs": 1,
		"sync": `function (doc) {
			if (doc.how === "loop") { for (;;) {} }
			if (doc.how === "recurse") { var f = function (n) { return f(n + 1) + 1; }; f(0); }
			if (doc.how === "hoard") { var a = []; for (;;) { a.push(new Array(100000).join("x")); } }
			if (doc.how === "double") { var s = "x"; for (;;) { s += s; } }
			channel("ok");
		}`})

	var readers []net.Conn
	for range 64 {
		readers = append(readers, stalledReader(t, p))
	}
	defer func() {
		for _, c := range readers {
			c.Close()
		}
	}()

	var wg sync.WaitGroup
	wg.Go(func() { flood(t, p) })
	wg.Go(func() { bombs(t, p) })
	wg.Go(func() { hostileScripts(t, p) })
	wg.Wait()

	peak, err := checkCeiling(p.cmd.Process.Pid, memoryCeiling)
	if err != nil {
		t.Error(err)
	}
	t.Logf("at most %d MiB resident", peak>>20)
	// Others progress.
	mustCall(t, http.MethodPut, p.admin+"/"+db+"/after", map[string]any{"n": 1})
	mustCall(t, http.MethodGet, p.admin+"/"+db+"/after", nil)
	mustCall(t, http.MethodPut, p.admin+"/hostile/after", map[string]any{"n": 1})
}

// stalledReader opens a continuous feed with bodies and never reads a byte of it.
func stalledReader(t *testing.T, p *process) net.Conn {
	t.Helper()
	host := strings.TrimPrefix(p.admin, "http://")
	c, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
	if _, err := fmt.Fprintf(c, "GET /%s/_changes?feed=continuous&include_docs=true&heartbeat=30000 HTTP/1.1\r\nHost: %s\r\n\r\n", db, host); err != nil {
		t.Fatal(err)
	}
	return c
}

// flood writes 100 MB in documents of 20 KB, several clients at once.
func flood(t *testing.T, p *process) {
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 50 {
				var docs []any
				for j := range 25 {
					docs = append(docs, map[string]any{"_id": fmt.Sprintf("f-%d-%d-%d", w, i, j), "pad": strings.Repeat("y", 20_000)})
				}
				if status, err := call(http.MethodPost, p.admin+"/"+db+"/_bulk_docs", map[string]any{"docs": docs}, nil); err != nil || status != 201 {
					t.Errorf("_bulk_docs: status %d: %v", status, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// bombs sends small bodies that unpack to 2 GiB.
func bombs(t *testing.T, p *process) {
	var member bytes.Buffer
	zw, err := gzip.NewWriterLevel(&member, gzip.BestCompression)
	if err != nil {
		t.Error(err)
		return
	}
	if _, err := zw.Write(bytes.Repeat([]byte{' '}, 1<<20)); err != nil {
		t.Error(err)
		return
	}
	if err := zw.Close(); err != nil {
		t.Error(err)
		return
	}
	packed := bytes.Repeat(member.Bytes(), 2048) // members one after another unpack as one (RFC 1952 §2.2)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			req, err := http.NewRequest(http.MethodPost, p.admin+"/"+db+"/_bulk_docs", bytes.NewReader(packed))
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Content-Encoding", "gzip")
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				if !isConnectionError(err) { // the gateway need not read the rest of a body it has refused
					t.Error(err)
				}
				return
			}
			defer res.Body.Close()
			_, _ = io.Copy(io.Discard, res.Body)
			if res.StatusCode != http.StatusRequestEntityTooLarge {
				t.Errorf("a bomb: status %d", res.StatusCode)
			}
		})
	}
	wg.Wait()
}

// hostileScripts makes the sync function misbehave in every way it can.
func hostileScripts(t *testing.T, p *process) {
	for _, how := range []string{"loop", "recurse", "hoard", "double", "hoard", "double"} {
		status, err := call(http.MethodPut, p.admin+"/hostile/"+how, map[string]any{"how": how}, nil)
		if err != nil || status != http.StatusInternalServerError {
			t.Errorf("a script that should %s: status %d: %v", how, status, err)
		}
		if status, err := call(http.MethodGet, p.admin+"/hostile/"+how, nil, nil); err != nil || status != http.StatusNotFound {
			t.Errorf("a refused write left something behind: status %d: %v", status, err)
		}
	}
}

var errCeiling = errors.New("memory went over the ceiling")

// checkCeiling returns the most memory that a process ever had resident, in bytes, and errCeiling if that is
// above the ceiling.
func checkCeiling(pid int, ceiling int64) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		return 0, err
	}
	if kib<<10 > ceiling {
		err = fmt.Errorf("%w: %d MiB, allowed %d MiB", errCeiling, kib>>10, ceiling>>20)
	}
	return kib << 10, err
}

// The checker sees a process that hoards: this test binary, started again.
func TestI14CheckerSeesAHoarder(t *testing.T) {
	const env = "CHAOS_HOARD"
	if os.Getenv(env) != "" {
		hoard := bytes.Repeat([]byte{1}, memoryCeiling+64<<20)
		fmt.Println("hoarding", len(hoard))
		_, _ = os.Stdin.Read(make([]byte, 1)) // until the parent is done
		os.Exit(int(hoard[0]) - 1)
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestI14CheckerSeesAHoarder$")
	cmd.Env = append(os.Environ(), env+"=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdout.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	if _, err := checkCeiling(cmd.Process.Pid, memoryCeiling); !errors.Is(err, errCeiling) {
		t.Errorf("got %v", err)
	}
	stdin.Close()
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		_ = cmd.Process.Kill()
	}
}
