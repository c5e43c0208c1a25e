package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tidegate/tidegate/internal/testkit"
)

// node is one of several gateways on one PostgreSQL: its data directory, its addresses, which stay the same through its lives, and its own
// network to PostgreSQL. A process that ends is started again, as a supervisor would.
type node struct {
	name          string
	data          string
	public, admin string // host:port
	pg            *link
	args          []string
	log           *lockedBuffer

	mu    sync.Mutex
	p     *process
	down  bool // killed by the test, which starts it again
	lives int
	errs  []error // of starts
	ended atomic.Int32
}

// newNode prepares a node of the store behind a link of its own.
func newNode(t *testing.T, name, storeURL string, args ...string) *node {
	t.Helper()
	u, err := url.Parse(storeURL)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{name: name, data: filepath.Join(t.TempDir(), name), log: &lockedBuffer{}, pg: newLink(t)}
	n.public, n.admin = testkit.FreePort(t).Address(), testkit.FreePort(t).Address()
	n.pg.to(u.Host)
	u.Host = n.pg.addr()
	n.args = append([]string{"--store", u.String()}, args...)
	return n
}

// supervise runs the node until ctx ends, and then kills it.
func (n *node) supervise(ctx context.Context) {
	for ctx.Err() == nil {
		p, err := launch(n.data, n.public, n.admin, n.log, n.args...)
		if err != nil {
			n.mu.Lock()
			n.errs = append(n.errs, err)
			n.mu.Unlock()
			pause(ctx, 500*time.Millisecond)
			continue
		}
		n.mu.Lock()
		n.p, n.lives = p, n.lives+1
		n.mu.Unlock()
		select {
		case <-p.done:
		case <-ctx.Done():
			p.kill()
			return
		}
		n.mu.Lock()
		if !n.down {
			n.ended.Add(1)
		}
		n.p, n.down = nil, false
		n.mu.Unlock()
	}
}

// signal sends a signal to the process, if there is one.
func (n *node) signal(sig syscall.Signal) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.p == nil {
		return
	}
	n.down = n.down || sig == syscall.SIGKILL
	_ = n.p.cmd.Process.Signal(sig)
}

// pause waits for a time that a fault or a client takes, or until ctx ends, and reports whether the time has passed.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// url is that of something in the database, by the admin API.
func (n *node) url(path string) string { return "http://" + n.admin + "/" + db + path }

// asProcess is the node as the checkers of other tests want it.
func (n *node) asProcess() *process {
	return &process{public: "http://" + n.public, admin: "http://" + n.admin}
}

// asGateway is the node as those checkers want it that compare contents.
func (n *node) asGateway(t *testing.T) *gateway {
	return &gateway{t: t, name: n.name, p: n.asProcess()}
}

// impatient is a client that gives up: a node that is stopped answers nothing.
var impatient = &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 32}}

// errUnknown: nobody knows whether the request was carried out.
var errUnknown = errors.New("no answer")

// ask makes one request. status is below 500; anything else, or no answer, is errUnknown.
func ask(method, url string, body, out any) (int, error) {
	status, b, err := exchange(impatient, method, url, body)
	switch {
	case errors.Is(err, errRequest):
		return 0, err
	case err != nil:
		return 0, fmt.Errorf("%w: %w", errUnknown, err)
	case status >= 500:
		return status, fmt.Errorf("%w: status %d, %.200s", errUnknown, status, b)
	case out != nil && status < 300:
		return status, json.Unmarshal(b, out)
	}
	return status, nil
}

// healthy is nil if the node answers and takes writes.
func (n *node) healthy() error {
	var doc struct {
		Rev string `json:"_rev"`
	}
	path := n.url("/_local/health-" + n.name)
	if _, err := ask(http.MethodGet, path, nil, &doc); err != nil {
		return fmt.Errorf("%s: %w", n.name, err)
	}
	body := map[string]any{"at": time.Now()}
	if doc.Rev != "" {
		body["_rev"] = doc.Rev
	}
	if status, err := ask(http.MethodPut, path, body, nil); err != nil || status >= 300 && status != http.StatusConflict {
		return fmt.Errorf("%s: PUT: status %d: %w", n.name, status, err)
	}
	return nil
}

// waitHealthy waits until all nodes answer and take writes.
func waitHealthy(ctx context.Context, nodes []*node, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		var err error
		for _, n := range nodes {
			err = errors.Join(err, n.healthy())
		}
		if err == nil || !pause(ctx, 100*time.Millisecond) {
			return err
		}
	}
}
