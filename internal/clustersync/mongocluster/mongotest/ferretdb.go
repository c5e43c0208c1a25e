package mongotest

import (
	"os/exec"
	"strconv"
	"testing"

	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// oplogBytes is more than any test writes: FerretDB does not keep to it anyway.
const oplogBytes = 512 << 20

// FerretDB starts a FerretDB 1.24 with an oplog, which it keeps only for who makes one.
func FerretDB(t testing.TB) *Server {
	t.Helper()
	s := start(t, ferretdb)
	if err := s.Client(t).Database("local").CreateCollection(t.Context(), "oplog.rs", options.CreateCollection().SetCapped(true).SetSizeInBytes(oplogBytes)); err != nil {
		t.Fatal(err)
	}
	return s
}

func ferretdb(s *Server) (*exec.Cmd, error) {
	path, err := installed("TIDEGATE_FERRETDB", ".bin/ferretdb")
	if err != nil {
		return nil, err
	}
	return exec.Command(path, strconv.Itoa(s.Port), s.Directory), nil
}
