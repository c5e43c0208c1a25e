// Package mongotest starts MongoDB-wire servers for tests. DESIGN.md of mongocluster says what each of them is good for.
package mongotest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/tidegate/tidegate/internal/testkit"
)

// startTimeout is for a busy machine; a server is up in half a second on an idle one.
const startTimeout = 60 * time.Second

// Server is a running server.
type Server struct {
	URI       string // without a user
	Port      int
	Directory string

	command func(*Server) (*exec.Cmd, error)
	words   []string
	stdin   io.Closer
	cmd     *exec.Cmd
}

// start starts a server with an empty directory on a free port, and ends it with the test.
func start(t testing.TB, command func(*Server) (*exec.Cmd, error), words ...string) *Server {
	t.Helper()
	port := testkit.FreePort(t).Number()
	s := &Server{Port: port, Directory: t.TempDir(), URI: fmt.Sprintf("mongodb://127.0.0.1:%d/", port), command: command, words: words}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

// Start starts the server again, with the data it had.
func (s *Server) Start() error {
	cmd, err := s.command(s)
	if err != nil {
		return err
	}
	if s.stdin, err = cmd.StdinPipe(); err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	// What it logs is read when it does not start; no test looks at it otherwise.
	log, err := os.OpenFile(filepath.Join(s.Directory, "..", fmt.Sprintf("server-%d.log", s.Port)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	s.cmd = cmd
	if err := s.isUp(stdout); err != nil {
		s.Kill()
		text, _ := os.ReadFile(log.Name())
		return fmt.Errorf("start server: %w\n%s", err, text)
	}
	return nil
}

// isUp waits for the server's word that it is ready, and for its port.
func (s *Server) isUp(stdout io.Reader) error {
	ready := make(chan error, 1)
	go func() {
		_, err := bufio.NewReader(stdout).ReadString('\n')
		ready <- err
	}()
	deadline := time.After(startTimeout)
	select {
	case err := <-ready:
		if err != nil {
			return err
		}
	case <-deadline:
		return errors.New("it is not ready in time")
	}
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.Port))
		if err == nil {
			return conn.Close()
		}
		select {
		case <-deadline:
			return err
		case <-poll.C:
		}
	}
}

// Kill ends the server at once.
func (s *Server) Kill() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	_ = s.stdin.Close()
	s.cmd = nil
}

// Stop ends the server in order, with all that it has answered on disk: a killed one may lose its last second.
func (s *Server) Stop() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = s.stdin.Close()
	process := s.cmd.Process
	late := time.AfterFunc(startTimeout, func() { _ = process.Kill() })
	_ = s.cmd.Wait()
	late.Stop()
	s.cmd = nil
}

// Restart stops the server and starts it with other words.
func (s *Server) Restart(t testing.TB, words ...string) {
	t.Helper()
	s.Stop()
	s.words = words
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
}

// Client is a plain client, as users have one.
func (s *Server) Client(t testing.TB) *mongo.Client {
	t.Helper()
	return Client(t, s.URI)
}

// Client connects to a URI until the test ends.
func Client(t testing.TB, uri string) *mongo.Client {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	return client
}

// installed finds what make test-setup has put below test/clustersync.
func installed(env, name string) (string, error) {
	if path := os.Getenv(env); path != "" {
		return path, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		// The root has scripts; the modules for tests below it have not.
		if _, err := os.Stat(filepath.Join(dir, "scripts", "test-setup.sh")); err == nil {
			path := filepath.Join(dir, "test", "clustersync", filepath.FromSlash(name))
			if _, err := os.Stat(path); err != nil {
				return "", fmt.Errorf("%s is missing: run `make test-setup`", path)
			}
			return path, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("the project's root is not above this folder: set %s", env)
		}
		dir = parent
	}
}
