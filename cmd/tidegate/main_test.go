package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// gatewayProcess is `tidegate serve` run inside the test.
type gatewayProcess struct {
	public, admin, metrics string // base URLs
	log, out               *syncBuffer
	stop                   func() error // ends it as SIGTERM would, and waits
}

// startServe runs serve with the arguments on free ports and returns once it listens.
func startServe(t *testing.T, args ...string) *gatewayProcess {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &gatewayProcess{log: newSyncBuffer(), out: newSyncBuffer()}
	args = append([]string{"serve", "--public", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--metrics", "127.0.0.1:0",
		"--log-format", "json", "--min-free-mib", "1"}, args...)
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, args, func(string) (string, bool) { return "", false }, stdio{strings.NewReader(""), p.out, p.log})
		p.log.close()
		p.out.close()
	}()
	p.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { _ = p.stop() })
	for _, listener := range []struct {
		name string
		url  *string
	}{{"public", &p.public}, {"admin", &p.admin}, {"metrics", &p.metrics}} {
		line, ok := p.log.await(func(e map[string]any) bool { return e["msg"] == "listening" && e["listener"] == listener.name })
		if !ok {
			t.Fatalf("serve ended: %v\n%s", p.stop(), p.log)
		}
		*listener.url = "http://" + line["address"].(string)
	}
	return p
}

func request(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func want(t *testing.T, method, url, body string, status int) string {
	t.Helper()
	got, text := request(t, method, url, body)
	if got != status {
		t.Fatalf("%s %s: status %d, want %d: %s", method, url, got, status, text)
	}
	return text
}

func TestServeKeepsDatabasesAndDocumentsOverRestarts(t *testing.T) {
	data := t.TempDir()
	p := startServe(t, "--data", data)
	want(t, "PUT", p.admin+"/db/", `{}`, 201)
	want(t, "PUT", p.admin+"/db/doc", `{"n":1}`, 201)
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	p = startServe(t, "--data", data)
	if got := want(t, "GET", p.admin+"/db/doc", "", 200); !strings.Contains(got, `"n":1`) {
		t.Errorf("got %s", got)
	}
	want(t, "GET", p.metrics+"/metrics", "", 200)
	want(t, "GET", p.metrics+"/_ping", "", 200)
}

func TestSecondProcessOnTheSameDirectoryIsRefused(t *testing.T) {
	data := t.TempDir()
	startServe(t, "--data", data)
	err := run(t.Context(), []string{"serve", "--data", data, "--public", "127.0.0.1:0", "--admin", "", "--metrics", ""},
		noEnv, stdio{nil, io.Discard, io.Discard})
	if err == nil || !strings.Contains(err.Error(), data) {
		t.Errorf("got %v, want an error that names the directory", err)
	}
	err = run(t.Context(), []string{"fsck", "--data", data}, noEnv, stdio{nil, io.Discard, io.Discard})
	if err == nil {
		t.Error("fsck ran beside a gateway")
	}
}

func TestStopDrainsOpenFeeds(t *testing.T) {
	p := startServe(t, "--data", t.TempDir())
	want(t, "PUT", p.admin+"/db/", `{}`, 201)
	want(t, "PUT", p.admin+"/db/doc", `{}`, 201)
	res, err := http.Get(p.admin + "/db/_changes?feed=continuous&heartbeat=60000")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	first := make([]byte, 8)
	if _, err := io.ReadFull(res.Body, first); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- p.stop() }()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Errorf("the feed was cut instead of ended: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestFsckOfAStoppedGateway(t *testing.T) {
	data := t.TempDir()
	p := startServe(t, "--data", data)
	want(t, "PUT", p.admin+"/db/", `{}`, 201)
	for _, id := range []string{"a", "b", "c"} {
		want(t, "PUT", p.admin+"/db/"+id, `{"channels":["x"],"_attachments":{"f":{"data":"QUJD"}}}`, 201)
	}
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"fsck", "--data", data, "--blobs"}, noEnv, stdio{nil, &out, io.Discard}); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	if !strings.Contains(out.String(), "3 documents") {
		t.Errorf("got %s", &out)
	}
	err := run(t.Context(), []string{"fsck", "--data", data, "--db", "nope"}, noEnv, stdio{nil, &out, io.Discard})
	if err == nil || !strings.Contains(err.Error(), "nope") {
		t.Errorf("an unknown database: got %v", err)
	}
}

func TestDemo(t *testing.T) {
	data := t.TempDir()
	p := startServe(t, "--data", data, "--demo")
	if !p.out.awaitText("Stop with Ctrl-C") {
		t.Fatalf("no text:\n%s", p.log)
	}
	if got := want(t, "GET", p.admin+"/world/FRA", "", 200); !strings.Contains(got, `"Paris"`) {
		t.Errorf("got %s", got)
	}
	passwords, err := demoPasswords(filepath.Join(data, "demo-credentials.json"))
	if err != nil {
		t.Fatal(err)
	}
	url := strings.Replace(p.public, "http://", "http://ada:"+passwords["ada"]+"@", 1)
	want(t, "GET", url+"/world/FRA", "", 200)
	want(t, "GET", url+"/world/KEN", "", 403)
	for name, password := range passwords {
		if strings.Contains(p.log.String(), password) {
			t.Errorf("the password of %s is in the log", name)
		}
	}
}

func TestConfigFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.json")
	src := `{
  "databases": {
    "cfg": {
      "sync": ` + "`function (doc) {\n  if (doc.bad) { throw({forbidden: \"no \\\"bad\\\" here\"}); }\n  channel(\"c\");\n}`" + `,
      "users": {"ann": {"password": "hush-hush", "admin_channels": ["c"]}},
      "guest": {"disabled": true}
    }
  }
}`
	if err := os.WriteFile(file, []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startServe(t, "--data", filepath.Join(dir, "data"), "--config", file)
	url := strings.Replace(p.public, "http://", "http://ann:hush-hush@", 1)
	want(t, "PUT", url+"/cfg/doc", `{}`, 201)
	want(t, "GET", url+"/cfg/doc", "", 200)
	want(t, "PUT", url+"/cfg/other", `{"bad":true}`, 403)
	want(t, "GET", p.public+"/cfg/doc", "", 401)
	if strings.Contains(p.log.String(), "hush-hush") {
		t.Error("a password is in the log")
	}
}

func TestMistypedConfigKeyIsNamedWithTheNearest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, []byte(`{"databases":{"db":{"alow_conflicts":true}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	err := run(t.Context(), []string{"serve", "--config", file}, noEnv, stdio{nil, io.Discard, io.Discard})
	for _, part := range []string{"alow_conflicts", "databases.db", "allow_conflicts"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("got %v, want %q in it", err, part)
		}
	}
}

func TestExposedAdminListenerIsRefused(t *testing.T) {
	for _, flag := range []string{"admin", "metrics"} {
		err := run(t.Context(), []string{"serve", "--data", t.TempDir(), "--public", "127.0.0.1:0", "--admin", "", "--metrics", "", "--" + flag, ":0"},
			noEnv, stdio{nil, io.Discard, io.Discard})
		if err == nil || !strings.Contains(err.Error(), "--insecure-"+flag) {
			t.Errorf("%s: got %v", flag, err)
		}
	}
}

func TestCommandLines(t *testing.T) {
	for _, c := range []struct {
		args string
		want string
		bad  bool
	}{
		{"", "Usage: tidegate COMMAND", true},
		{"help", "Usage: tidegate COMMAND", false},
		{"help serve", "--config", false},
		{"serve --help", "Usage: tidegate serve", false},
		{"fsck -h", "Usage: tidegate fsck", false},
		{"bench --help", "Usage: tidegate bench", false},
		{"version", "tidegate ", false},
		{"serv", `did you mean "serve"?`, true},
		{"serve --datta x", `did you mean "data"?`, true},
		{"serve extra", `unexpected argument "extra"`, true},
		{"serve --log-level loud", "unknown log level", true},
		{"bench --clients x", "not a number above 0", true},
	} {
		var out bytes.Buffer
		err := run(t.Context(), strings.Fields(c.args), noEnv, stdio{nil, &out, &out})
		text := out.String()
		if err != nil {
			text += err.Error()
		}
		if !strings.Contains(text, c.want) {
			t.Errorf("tidegate %s: got %q, want %q", c.args, text, c.want)
		}
		if c.bad != errors.Is(err, errUsage) {
			t.Errorf("tidegate %s: got error %v", c.args, err)
		}
	}
}

func TestHashPassword(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"hash-password"}, noEnv, stdio{strings.NewReader("correct horse\n"), &out, io.Discard}); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out.String(), "$2a$10$") {
		t.Errorf("got %q", out.String())
	}
}

func TestConnectionLimitAnswers(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	l := &limited{Listener: ln, slots: make(chan struct{}, 1)}
	accepted := make(chan net.Conn)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := dial()
	defer first.Close()
	held := <-accepted
	second := dial()
	defer second.Close()
	answer, err := io.ReadAll(second)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 503") || !strings.HasSuffix(string(answer), `open connections"}`) {
		t.Errorf("got %q, %v", answer, err)
	}
	held.Close()
	third := dial()
	defer third.Close()
	(<-accepted).Close()
}

func noEnv(string) (string, bool) { return "", false }

// syncBuffer keeps what is written and lets a test wait for a line of it.
type syncBuffer struct {
	mu    sync.Mutex
	cond  *sync.Cond
	b     bytes.Buffer
	ended bool
}

func newSyncBuffer() *syncBuffer {
	b := &syncBuffer{}
	b.cond = sync.NewCond(&b.mu)
	return b
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cond.Broadcast()
	return s.b.Write(p)
}

func (s *syncBuffer) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.cond.Broadcast()
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// await waits for a JSON line that matches; false when the writer has ended without one.
func (s *syncBuffer) await(match func(map[string]any) bool) (map[string]any, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for line := range bytes.Lines(s.b.Bytes()) {
			var e map[string]any
			if json.Unmarshal(line, &e) == nil && match(e) {
				return e, true
			}
		}
		if s.ended {
			return nil, false
		}
		s.cond.Wait()
	}
}

// awaitText waits until the text has been written.
func (s *syncBuffer) awaitText(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !strings.Contains(s.b.String(), text) {
		if s.ended {
			return false
		}
		s.cond.Wait()
	}
	return true
}
