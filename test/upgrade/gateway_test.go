package upgrade

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"syscall"
	"testing"

	"github.com/tidegate/tidegate/internal/testkit"
)

// gateway is a process of some version.
type gateway struct {
	t             *testing.T
	cmd           *exec.Cmd
	admin, public string
	log           bytes.Buffer // until it listens
	ended         chan struct{}
}

// start runs a version on a data directory and, if store is not "", a store in PostgreSQL.
func start(t *testing.T, bin, data, store string) *gateway {
	t.Helper()
	args := []string{"serve", "--data", data, "--public", testkit.FreePort(t).Address(), "--admin", testkit.FreePort(t).Address(),
		"--metrics", "127.0.0.1:0", "--log-format", "json"}
	if store != "" {
		args = append(args, "--store", store, "--takeover-after", "2s")
	}
	g := &gateway{t: t, cmd: exec.Command(bin, args...), ended: make(chan struct{})}
	out, err := g.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.stop() })
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for listening := 0; listening < 3 && lines.Scan(); {
		fmt.Fprintf(&g.log, "%s\n", lines.Bytes())
		var entry struct{ Msg, Listener, Address string }
		if json.Unmarshal(lines.Bytes(), &entry) != nil || entry.Msg != "listening" {
			continue
		}
		listening++
		switch entry.Listener {
		case "public":
			g.public = "http://" + entry.Address
		case "admin":
			g.admin = "http://" + entry.Address
		}
	}
	go func() {
		_, _ = io.Copy(io.Discard, out)
		_ = g.cmd.Wait()
		close(g.ended)
	}()
	if g.public == "" || g.admin == "" {
		<-g.ended
		t.Fatalf("%s did not start:\n%s", bin, &g.log)
	}
	return g
}

// stop asks the process to end and waits for it.
func (g *gateway) stop() int {
	_ = g.cmd.Process.Signal(syscall.SIGTERM)
	<-g.ended
	return g.cmd.ProcessState.ExitCode()
}

// call makes a request of the admin API and decodes the answer. The status is returned; anything that is no answer ends the test.
func (g *gateway) call(method, path string, body, out any) int {
	g.t.Helper()
	status, err := call(method, g.admin+path, body, out, nil)
	if err != nil {
		g.t.Fatalf("%s %s: %v", method, path, err)
	}
	return status
}

// must is call for what must succeed.
func (g *gateway) must(method, path string, body, out any) {
	g.t.Helper()
	if status := g.call(method, path, body, out); status >= 300 {
		g.t.Fatalf("%s %s: status %d", method, path, status)
	}
}

// call makes a request; edit, if not nil, changes it before it is sent.
func call(method, url string, body, out any, edit func(*http.Request)) (int, error) {
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, url, in)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	if edit != nil {
		edit(req)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && out != nil && res.StatusCode < 300 {
		if raw, ok := out.(*[]byte); ok {
			*raw = b
		} else {
			err = json.Unmarshal(b, out)
		}
	}
	return res.StatusCode, err
}

// fsck has a version look at a store.
func fsck(t *testing.T, bin string, args ...string) {
	t.Helper()
	out, err := exec.Command(bin, append([]string{"fsck", "--blobs"}, args...)...).CombinedOutput()
	if err != nil {
		t.Errorf("tidegate fsck: %v\n%s", errors.Join(err), out)
	}
}
