package replicate_test

import (
	"testing"

	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/replicate"
)

// TestReadOnlyDatabaseTakesNothingFromGateways: a replication neither pulls into a read-only database nor pushes into one
// (resync.md §1.4).
func TestReadOnlyDatabaseTakesNothingFromGateways(t *testing.T) {
	for _, v := range []replicate.Version{replicate.V4, replicate.V3} {
		t.Run(v.Subprotocol(), func(t *testing.T) {
			there := newRemote(t, database.Options{})
			there.version = v
			there.fill("there", 20)
			here := newEnv(t, database.Options{ReadOnly: true})
			rep := here.replicator(there, replicate.ActiveOptions{Pull: true})
			run(t, rep)
			if n, failed := len(here.contents()), rep.Stats().Pull.Failures.Load(); n != 0 || failed == 0 {
				t.Errorf("pulled into it: %d documents, %d refused", n, failed)
			}

			shut := newRemote(t, database.Options{ReadOnly: true})
			shut.version = v
			writer := newEnv(t, database.Options{})
			writer.fill("writer", 20)
			rep = writer.replicator(shut, replicate.ActiveOptions{Push: true})
			run(t, rep)
			if n := len(shut.contents()); n != 0 {
				t.Errorf("pushed into it: %d documents", n)
			}
		})
	}
}
