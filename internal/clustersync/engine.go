package clustersync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Engine carries one sync in one direction: initial sync, change event application, commit. It goes on from what its [Journal] says, so it
// is made anew after a restart, a pause and a reverse. Its methods may be called from any goroutine.
type Engine struct {
	cfg     EngineConfig
	journal *Journal
	catalog *catalog
	retries *retrier
	stats   stats
	lag     lagMeter

	verifier *Verifier // nil: verification is off
	hot      hotDocs
	seen     hotSeen

	mass    massGuard
	spoolMu sync.Mutex
	spool   *spooler // that writes; nil: none does

	commitOnce sync.Once
	commitOn   chan struct{} // closed when the journal says COMMITTING
}

// EngineConfig is what an engine works with.
type EngineConfig struct {
	Source, Destination Cluster // as they are now: after a reverse, exchanged
	Journal             *Journal
	Plan                *Plan
	Settings            Settings

	Compare  Comparison // of mixed pairs, for the verifier
	Observer Observer
	Log      *slog.Logger // nil: none
}

// Observer is told what happens; each of its functions may be nil. They are called from the engine's goroutines and must not wait.
type Observer struct {
	Phase    func(Phase, time.Time)
	Warning  func(string) // a text for `warnings`, once each
	Duration func(Operation, time.Duration)
	Batch    func(documents int) // of the copy, written
	Retry    func(error)
}

// Operation is something whose duration is measured (spec §21.3).
type Operation string

// The operations.
const (
	CopyRead   Operation = "collection_copy_source_read"
	CopyWrite  Operation = "collection_copy_destination_write"
	ApplyWrite Operation = "cea_destination_write"
	ApplyRead  Operation = "cea_source_read"
	Refetch    Operation = "cea_crud_applier_refetch"
	HotDoc     Operation = "hot_doc_apply"
)

// Phase is what a running sync is at (spec §4): the syncPhase of records.
type Phase string

// The phases.
const (
	PhaseNone       Phase = "uninitialized"
	PhaseCollection Phase = "initializing collections and indexes"
	PhasePartition  Phase = "initializing partitions"
	PhaseCopy       Phase = "collection copy"
	PhaseWait       Phase = "waiting to start change event application"
	PhaseApply      Phase = "change event application"
	PhaseCommit     Phase = "waiting for commit to complete"
	PhaseDone       Phase = "commit completed"
)

// Coordinator is the instance id of a sync that one process carries alone.
const Coordinator = "coordinator"

// ErrStopped, as the cause of the end of Run's context, has the engine finish what is in flight and save a checkpoint (pause, clean
// stop). With any other cause it ends at once.
var ErrStopped = errors.New("the sync is stopped")

// NewEngine returns an engine that has done nothing yet.
func NewEngine(cfg EngineConfig) (*Engine, error) {
	if id := cfg.Journal.Get().ID; id != Coordinator {
		return nil, Errorf(InvalidOption, "several instances of one sync (--id %s) are not supported yet: run a single one without --id", id)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{cfg: cfg, journal: cfg.Journal, commitOn: make(chan struct{})}
	e.retries = &retrier{log: cfg.Log, told: cfg.Observer.Retry, count: &e.stats.retries}
	e.catalog = newCatalog(cfg, e.retries)
	if cfg.Plan.Verification && !cfg.Settings.DisableVerification {
		e.verifier = e.newVerifier()
	}
	if cfg.Journal.Get().committing() {
		e.commitOnce.Do(func() { close(e.commitOn) })
	}
	return e, nil
}

// Begin takes the first steps of a new sync, those that /start must know of before it answers: the start timestamp T0, from which a
// stream of changes must open, and the write block of the destination (WriteBlockFailed). It does nothing if that is done.
func (e *Engine) Begin(ctx context.Context) error {
	if e.journal.Get().Phase != PhaseNone {
		return nil
	}
	if err := e.takeT0(ctx); err != nil {
		return fmt.Errorf("take the start timestamp: %w", err)
	}
	return e.blockDestination(ctx)
}

// Run carries the sync on from wherever the journal says it stands, the steps of a commit included, and returns nil when it is committed
// (the journal says COMMITTED). It returns an error that is [ErrStopped] when it was stopped in order, the context's cause when it
// was ended otherwise; any other error is final.
func (e *Engine) Run(ctx context.Context) error {
	err := e.run(ctx)
	if err != nil && ctx.Err() != nil && !errors.Is(err, ErrFenced) {
		cause := context.Cause(ctx)
		if errors.Is(cause, ErrStopped) && !endedByContext(err) {
			return err // it could not be stopped in order
		}
		return cause
	}
	return err
}

// Commit has Run cut over: it checks that this is possible (CannotCommit), persists state COMMITTING and returns. The caller has asked the
// table of states before.
func (e *Engine) Commit(ctx context.Context) error {
	if why := e.cannotCommit(); len(why) > 0 {
		return Errorf(CannotCommit, "commit is not possible now: %s", strings.Join(why, "; "))
	}
	if err := e.startCommit(ctx); err != nil {
		return fmt.Errorf("persist the commit: %w", err)
	}
	return nil
}

// Snapshot is where the engine stands. It is taken from memory and does not wait.
func (e *Engine) Snapshot() Snapshot { return e.snapshot() }

// Snapshot is what the progress, the metrics and the status view show of an engine (spec §5.2).
type Snapshot struct {
	Phase        Phase
	CanCommit    bool
	CannotCommit []string // why not
	CanWrite     bool
	CEAStage     string // "collection copy drain", "steady state"; "" outside CEA

	LagSeconds     *int64 // nil: unknown
	CatchUpSeconds *int64 // nil: not falling
	Resume         Position
	Applied        Position // the stream's position up to which everything is applied

	Events           EventCounts
	Copy             CopyCounts
	Namespaces       []NamespaceProgress // in the order of their names
	Index            *IndexBuilding      // nil: no indexes are built after the copy, or it has not begun
	Verification     *VerificationProgress
	Warnings         []string
	BlockedSource    bool
	BlockedDest      bool
	PhaseTransitions []PhaseTransition
}

// EventCounts count change events of this engine.
type EventCounts struct {
	Read, ReadBytes         int64
	Applied, CRUD, DDL      int64
	DuplicateKeys, Refetchs int64
	Retries, IndexesCreated int64
	Spread                  *float64 // of the last, over the writers: (most-least)/average; nil: none yet
}

// CopyCounts say how far the initial sync is.
type CopyCounts struct {
	TotalBytes, CopiedBytes     int64 // equal at the end
	CopiedDocuments             int64
	Batches                     int64
	PartitionsDone, Partitions  int64
	StartedAt, EstimatedDoneAt  time.Time
	CollectionsDone, Collection int64
}

// NamespaceProgress is how far the copy of a collection is.
type NamespaceProgress struct {
	Source, Destination Namespace
	TotalBytes          int64
	CopiedBytes         int64
	CopiedDocuments     int64
	Partitions, Done    int64
}

// PhaseTransition is an entry of phaseTransitions.
type PhaseTransition struct {
	Phase Phase          `bson:"phase"`
	TS    bson.Timestamp `bson:"ts"`
}
