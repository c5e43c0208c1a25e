package clustersync

import (
	"context"
	"log/slog"
)

// Reversal exchanges source and destination of a committed sync (spec §14).
type Reversal struct {
	Source, Destination Cluster      // as they were until now
	Journal             *Journal     // on the destination
	Fence               func() int64 // of the lease in the metadata of the old source
	Plan                *Plan
	Log                 *slog.Logger
}

// Check says whether the engine could go the other way: the plan was reversible with writes blocked on both sides, the sync is committed, the
// old source is still blocked (it is blocked again if not), and the old destination still has its changes since the commit
// (OplogRollover). Clusters, versions and privileges are the caller's to check. Errors are ReversePreconditionFailed unless they say otherwise.
func (r Reversal) Check(ctx context.Context) error { return nil }

// Run persists state REVERSING, hands the records over to the old source, makes it fit to be written, and returns the journal there, which
// says RUNNING, with Swapped and Epoch moved on. It may be called again after a crash, with the journal that [Latest] gives; if that is
// already the one on the old source, Source is still the old source.
func (r Reversal) Run(ctx context.Context) (*Journal, error) { return nil, nil }

// Latest returns which of two journals counts, that of a's or b's cluster; nil if neither was found. A reverse leaves records on both.
func Latest(a, b *Journal) *Journal { return nil }
