package chaos

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"github.com/tidegate/tidegate/internal/testkit"
)

// process is one life of a gateway on a data directory.
type process struct {
	cmd           *exec.Cmd
	public, admin string // base URLs
	log           *lockedBuffer
	done          chan struct{}
}

// start runs the gateway and returns once it listens. More arguments are passed to serve.
func start(t *testing.T, data string, args ...string) *process {
	t.Helper()
	// The ports stay its own when it is dead: what is said to it then reaches nobody, not another test's gateway.
	p, err := launch(data, testkit.FreePort(t).Address(), testkit.FreePort(t).Address(), &lockedBuffer{}, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

// launch runs the gateway on two addresses and returns once it listens. Its log is added to log.
func launch(data, public, admin string, log *lockedBuffer, args ...string) (*process, error) {
	bin, err := testkit.Binary()
	if err != nil {
		return nil, err
	}
	args = append([]string{"serve", "--data", data, "--public", public, "--admin", admin, "--metrics", "127.0.0.1:0", "--log-format", "json"}, args...)
	p := &process{cmd: exec.Command(bin, args...), log: log, done: make(chan struct{})}
	r, w := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = w, w
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	ready := make(chan map[string]string, 1)
	go p.follow(r, ready)
	go func() { _ = p.cmd.Wait(); w.Close(); close(p.done) }()
	select {
	case addr := <-ready:
		p.public, p.admin = "http://"+addr["public"], "http://"+addr["admin"]
	case <-p.done:
		return nil, fmt.Errorf("the gateway ended while starting:\n%s", p.log)
	}
	return p, nil
}

// follow keeps the log and reports the three addresses once all are known.
func (p *process) follow(r io.Reader, ready chan<- map[string]string) {
	found := map[string]string{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.log.write(lines.Bytes())
		var entry struct{ Msg, Listener, Address string }
		if json.Unmarshal(lines.Bytes(), &entry) != nil || entry.Msg != "listening" {
			continue
		}
		found[entry.Listener] = entry.Address
		if len(found) == 3 {
			ready <- found
		}
	}
}

// kill ends the process at once and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.done
}

// stop asks the process to end and returns its exit code.
func (p *process) stop() int {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// fsck checks a store with the real command. args say which.
func fsck(t *testing.T, args ...string) {
	t.Helper()
	bin, err := testkit.Binary()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(bin, append([]string{"fsck"}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("tidegate fsck: %v\n%s", err, out)
	}
}

// call makes one request with a JSON body (nil: none) and decodes the JSON answer into out (nil: dropped).
func call(method, url string, body, out any) (int, error) {
	status, b, err := exchange(http.DefaultClient, method, url, body)
	if err == nil && out != nil && status < 300 {
		err = json.Unmarshal(b, out)
	}
	return status, err
}

// errRequest: the test made a request that cannot be sent.
var errRequest = errors.New("this is no request")

// exchange makes one request with a JSON body (nil: none). status is 0 if nothing was answered.
func exchange(client *http.Client, method, url string, body any) (status int, answer []byte, err error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, nil, fmt.Errorf("%w: %w", errRequest, err)
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, url, r)
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", errRequest, err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(res.Body)
	return res.StatusCode, answer, err
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) write(line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Write(line)
	l.b.WriteByte('\n')
}

// String returns the last part of the log.
func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.b.Bytes()
	return string(b[max(0, len(b)-8<<10):])
}
