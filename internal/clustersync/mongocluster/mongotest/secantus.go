// Package mongotest starts MongoDB-wire servers for tests. DESIGN.md of mongocluster says what each of them is good for.
package mongotest

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

//go:embed launch.py
var launcher string

// Words that a server is started with.
const (
	Auth = "auth"  // users must log in
	AsIs = "as-is" // without the repairs of launch.py
)

// startTimeout is for a busy machine; a server is up in half a second on an idle one.
const startTimeout = 60 * time.Second

// Server is a running SecantusDB.
type Server struct {
	URI       string // without a user
	Port      int
	Directory string

	words []string
	stdin io.Closer
	cmd   *exec.Cmd
}

// Secantus starts a SecantusDB with an empty directory on a free port, and ends it with the test.
func Secantus(t testing.TB, words ...string) *Server {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Port: port, Directory: t.TempDir(), URI: fmt.Sprintf("mongodb://127.0.0.1:%d/", port), words: words}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Kill() })
	return s
}

// Start starts the server again, with the data it had.
func (s *Server) Start() error {
	python, err := interpreter()
	if err != nil {
		return err
	}
	s.cmd = exec.Command(python, append([]string{"-c", launcher, strconv.Itoa(s.Port), s.Directory}, s.words...)...)
	stdin, err := s.cmd.StdinPipe()
	if err != nil {
		return err
	}
	s.stdin = stdin
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	// What it logs is read when it fails; no test looks at it otherwise.
	log, err := os.OpenFile(filepath.Join(s.Directory, "..", fmt.Sprintf("secantus-%d.log", s.Port)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd.Stderr = log
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("start SecantusDB: %w", err)
	}
	ready := make(chan error, 1)
	go func() {
		_, err := bufio.NewReader(stdout).ReadString('\n')
		ready <- err
	}()
	select {
	case err = <-ready:
	case <-time.After(startTimeout):
		err = errors.New("it is not ready in time")
	}
	if err != nil {
		s.Kill()
		text, _ := os.ReadFile(log.Name())
		return fmt.Errorf("start SecantusDB: %w\n%s", err, text)
	}
	return nil
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

// User makes a user on a server without access control; started again with [Auth], it asks for it. It returns the URI of the user.
func (s *Server) User(t testing.TB, name, password string, roles ...string) string {
	t.Helper()
	client := s.Client(t)
	given := make([]any, len(roles))
	for i, role := range roles {
		given[i] = map[string]string{"role": role, "db": "admin"}
	}
	cmd := struct {
		Create   string `bson:"createUser"`
		Password string `bson:"pwd"`
		Roles    []any  `bson:"roles"`
	}{name, password, given}
	if err := client.Database("admin").RunCommand(t.Context(), cmd).Err(); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("mongodb://%s:%s@127.0.0.1:%d/?authSource=admin", name, password, s.Port)
}

// Restart kills the server and starts it with other words.
func (s *Server) Restart(t testing.TB, words ...string) {
	t.Helper()
	s.Kill()
	s.words = words
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
}

// Client is a plain client, as users have one.
func (s *Server) Client(t testing.TB) *mongo.Client { return Client(t, s.URI) }

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

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// interpreter finds the Python that make test-setup has put SecantusDB into.
func interpreter() (string, error) {
	if python := os.Getenv("TIDEGATE_SECANTUS_PYTHON"); python != "" {
		return python, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil && isRoot(dir) {
			python := filepath.Join(dir, "test", "clustersync", ".venv", "bin", "python")
			if _, err := os.Stat(python); err != nil {
				return "", fmt.Errorf("SecantusDB is not installed (%s is missing): run `make test-setup`", python)
			}
			return python, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("the module's root is not above this folder: set TIDEGATE_SECANTUS_PYTHON")
		}
		dir = parent
	}
}

// isRoot tells the project's root from the modules for tests below it.
func isRoot(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == "scripts" && e.IsDir() })
}
