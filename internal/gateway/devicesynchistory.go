package gateway

import (
	"context"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/devicesync"
)

// history is what package database does to a database's space for its device sync. It works on the store alone, whether the
// database is open or not. Pages may be asked for again, after a crash, with the cursor they were asked for with before.
type history interface {
	// TerminatePage does a page of a step of a termination into epoch: StepClients, StepLedger or StepBodies.
	TerminatePage(ctx context.Context, step devicesync.Step, epoch devicesync.Epoch, cursor []byte) (devicesync.Page, error)
	// TrimPage does a page of a trim up to floor: tombstones become ledger rows, clients that were last seen before are retired.
	TrimPage(ctx context.Context, floor tidegate.Seq, cursor []byte) (devicesync.Page, error)

	Clients(ctx context.Context, f devicesync.ClientFilter) ([]devicesync.Client, error)
	// ClientCounts returns how many clients are known, and how many are to reset and have not done so.
	ClientCounts(ctx context.Context) (all, pending int, err error)
	// ForceReset marks a client; NotFound.
	ForceReset(ctx context.Context, fileIdent int64) error

	Ledger(ctx context.Context) (devicesync.Ledger, error)

	Quarantine(ctx context.Context, after string, limit int) ([]devicesync.Quarantined, error)
	QuarantineRows(ctx context.Context) (int64, error)
	Quarantined(ctx context.Context, id string) (devicesync.Quarantined, error) // NotFound
	DropQuarantined(ctx context.Context, id string) error                       // NotFound
}
