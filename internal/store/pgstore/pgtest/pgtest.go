// Package pgtest starts a PostgreSQL server for tests.
package pgtest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/tidegate/tidegate/internal/testkit"
)

// Server is a PostgreSQL server on a directory and a port of its own.
type Server struct {
	bin, data string
	port      *testkit.Port
	run       func(name string, args ...string) error
}

// Start makes a cluster and starts it. The programs are those of Debian's package postgresql, which `make test-setup` installs; as root
// they are run as the user postgres, since they refuse root.
func Start() (*Server, error) {
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "tidegate-pg")
	if err != nil {
		return nil, err
	}
	port, err := testkit.ReservePort()
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, data: filepath.Join(dir, "data"), port: port}
	var as *syscall.Credential
	if os.Getuid() == 0 {
		if as, err = postgres(); err != nil {
			return nil, err
		}
		if err := os.Chown(dir, int(as.Uid), int(as.Gid)); err != nil {
			return nil, err
		}
	}
	s.run = func(name string, args ...string) error {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Dir = dir
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if name == "pg_ctl" { // the server it starts keeps its output open
			cmd.Stdout, cmd.Stderr = nil, nil
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w: %s", name, err, out.String())
		}
		return nil
	}
	err = s.run("initdb", "-D", s.data, "-U", "tidegate", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C")
	if err == nil {
		err = s.Up()
	}
	if err != nil {
		return nil, errors.Join(err, port.Release(), os.RemoveAll(dir))
	}
	return s, nil
}

// Up starts the server, after Down or Kill. A client that stands still after it has connected, and has not said who it is, holds up a shutdown for as long as
// authentication_timeout.
func (s *Server) Up() error {
	return s.run("pg_ctl", "-D", s.data, "-w", "-t", "60", "-l", filepath.Join(s.data, "log"), "-o",
		fmt.Sprintf("-p %d -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=200 -c authentication_timeout=5s", s.port.Number()), "start")
}

// Down stops the server as a restart does: connections are cut, transactions are rolled back.
func (s *Server) Down() error { return s.run("pg_ctl", "-D", s.data, "-w", "-m", "fast", "stop") }

// Kill ends the server without a goodbye, as a power cut would as far as connections go.
func (s *Server) Kill() error { return s.run("pg_ctl", "-D", s.data, "-w", "-m", "immediate", "stop") }

// URL names the server's database.
func (s *Server) URL() string {
	return fmt.Sprintf("postgres://tidegate@%s/postgres?sslmode=disable", s.port.Address())
}

// Close stops the server and removes its files.
func (s *Server) Close() error {
	return errors.Join(s.Kill(), s.port.Release(), os.RemoveAll(filepath.Dir(s.data)))
}

// programs finds the directory of initdb and pg_ctl.
func programs() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if path, err := exec.LookPath("initdb"); err == nil {
		found = append(found, path)
	}
	if len(found) == 0 {
		return "", errors.New("PostgreSQL is not installed: run make test-setup")
	}
	path, err := filepath.EvalSymlinks(slices.Max(found)) // the other programs are where it really is
	return filepath.Dir(path), err
}

func postgres() (*syscall.Credential, error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(err1, err2)
}

// Dump is a schema of the server's database as SQL.
func (s *Server) Dump(schema string) ([]byte, error) {
	return s.client(nil, "pg_dump", "--inserts", "--no-owner", "--schema", schema, "--dbname", s.URL())
}

// Load runs SQL, as Dump makes it.
func (s *Server) Load(sql []byte) error {
	_, err := s.client(sql, "psql", "--quiet", "--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--single-transaction", "--dbname", s.URL())
	return err
}

// client runs a program that talks to the server and returns what it prints.
func (s *Server) client(in []byte, name string, args ...string) ([]byte, error) {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", name, err, errs.String())
	}
	return out.Bytes(), nil
}
