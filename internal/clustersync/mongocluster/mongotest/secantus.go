package mongotest

import (
	_ "embed"
	"fmt"
	"os/exec"
	"strconv"
	"testing"
)

//go:embed launch.py
var launcher string

// Words that SecantusDB is started with.
const (
	Auth = "auth"  // users must log in
	AsIs = "as-is" // without the repairs of launch.py
)

// Secantus starts a SecantusDB.
func Secantus(t testing.TB, words ...string) *Server {
	t.Helper()
	return start(t, secantus, words...)
}

func secantus(s *Server) (*exec.Cmd, error) {
	python, err := installed("TIDEGATE_SECANTUS_PYTHON", ".venv/bin/python")
	if err != nil {
		return nil, err
	}
	return exec.Command(python, append([]string{"-c", launcher, strconv.Itoa(s.Port), s.Directory}, s.words...)...), nil
}

// User makes a user on a SecantusDB without access control; started again with [Auth], it asks for it. It returns the URI of the user.
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
	// Without it a server that is stopped now loses the user.
	if err := client.Database("admin").RunCommand(t.Context(), map[string]int{"fsync": 1}).Err(); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("mongodb://%s:%s@127.0.0.1:%d/?authSource=admin", name, password, s.Port)
}
