package clustersync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Collections of the metadata (spec §15.2).
const (
	resumeCollection    = "resumeData"
	globalCollection    = "globalState"
	partitionCollection = "partitions"
	uuidMapCollection   = "uuidMap"
	indexCollection     = "indexCorrection"
	statsCollection     = "statistics"
	spoolCollection     = "spool" // and the parity of its generation
)

// Resume is the record of one instance in resumeData: where it is to go on. State is the control side's, all else the engine's.
type Resume struct {
	ID    string `bson:"_id"`
	State string `bson:"state"` // of package job

	Phase            Phase             `bson:"syncPhase"`
	PhaseTransitions []PhaseTransition `bson:"phaseTransitions"`
	DirectionMapping *DirectionMapping `bson:"directionMapping,omitempty"`

	// Epoch counts the reverses. Of records on both clusters the higher epoch counts; the other one is what a reverse has left behind.
	Epoch int `bson:"epoch"`
	// Swapped: source and destination of the plan are exchanged.
	Swapped bool `bson:"swapped"`
	// HandedOver: a reverse has moved the records to the other cluster. Received: these are the moved ones, and the reverse is not done.
	HandedOver bool `bson:"handedOver"`
	Received   bool `bson:"received"`

	T0       Position       `bson:"startTimestamp"`
	Listed   bool           `bson:"listed"`           // uuidMap and indexCorrection hold the listing
	CRUD     Position       `bson:"crudStreamResume"` // everything up to here is applied
	CRUDTime bson.Timestamp `bson:"crudStreamResumeTimestamp"`
	DDLTime  bson.Timestamp `bson:"ddlStreamResumeTimestamp"`

	Spool   SpoolState `bson:"spool"`
	CopyEnd Position   `bson:"copyEnd"` // the backlog of the copy goes up to here
	Drained bool       `bson:"copyDrained"`

	Mass massState `bson:"massDelete"`

	CommitStep CommitStep `bson:"commitStep"`
	Tc         Position   `bson:"commitTimestamp"`
	R0         Position   `bson:"reverseTimestamp"`
	CanWrite   bool       `bson:"canWrite"`

	// What is blocked, or about to be: recorded before it is done (spec §12).
	BlockSource      bool     `bson:"blockSource"`
	BlockDestination bool     `bson:"blockDestination"`
	Warnings         []string `bson:"warnings,omitempty"`
}

// SpoolState is how far the spool is, which keeps what changes while the copy is under way (spec §8.9).
type SpoolState struct {
	Used bool     `bson:"used"`
	Full bool     `bson:"full"` // nothing more is put into it
	At   Position `bson:"at"`   // everything up to here is in it, or is applied
	// Generations are written one after another; all before Generation are complete, and those up to Replayed are applied.
	Generation int64 `bson:"generation"`
	Replayed   int64 `bson:"replayed"`
	// Applied is the number of the last change of a collection that is applied: none is begun again that is done, as from a checkpoint.
	Applied int64 `bson:"applied"`
	Runs    int64 `bson:"runs"`    // of processes that have written
	Records int64 `bson:"records"` // written of this generation, those written twice counted twice
	// Capped are collections, by refKey, that were told of since the copy began and in which the order counts.
	Capped []string `bson:"capped,omitempty"`
}

// CommitStep is how far a commit is: each step is recorded before what must not be done twice.
type CommitStep string

// The steps. All up to CommitReady may be done again from the beginning; from CommitCanWrite on the destination is the users'.
const (
	CommitNone     CommitStep = ""
	CommitStarted  CommitStep = "started"
	CommitMarked   CommitStep = "commit timestamp taken"
	CommitDrained  CommitStep = "events applied"
	CommitVerified CommitStep = "verified"
	CommitCanWrite CommitStep = "destination writable"
	CommitFinished CommitStep = "finished"
)

func (r Resume) committing() bool {
	return r.CommitStep != CommitNone && r.CommitStep != CommitFinished
}

// Journal is the one writer of an instance's [Resume]. Safe for concurrent use.
type Journal struct {
	meta  Metadata
	fence func() int64

	write held // over a write, so that records are written in the order of their changes
	mu    sync.Mutex
	rec   Resume
}

// OpenJournal reads the record of an instance; found is false if there is none, and a new one begins, which is stored by the first Update.
func OpenJournal(ctx context.Context, meta Metadata, fence func() int64, instance string) (j *Journal, found bool, err error) {
	j = newJournal(meta, fence, instance)
	var rec Resume
	switch err := meta.Get(ctx, resumeCollection, instance, &rec); {
	case errors.Is(err, ErrNotFound):
		return j, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("read where the sync stands: %w", err)
	}
	j.rec = rec
	return j, true, nil
}

func newJournal(meta Metadata, fence func() int64, instance string) *Journal {
	return &Journal{meta: meta, fence: fence, write: newHeld(), rec: Resume{ID: instance, Phase: PhaseNone}}
}

// Get returns the record as it is now.
func (j *Journal) Get() Resume {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.rec
	r.PhaseTransitions, r.Warnings = slices.Clone(r.PhaseTransitions), slices.Clone(r.Warnings)
	return r
}

// Update changes the record and stores it. If it cannot be stored it stays as it was.
func (j *Journal) Update(ctx context.Context, change func(*Resume)) error {
	if err := j.write.lock(ctx); err != nil {
		return err
	}
	defer j.write.unlock()
	next := j.Get()
	change(&next)
	if err := j.meta.Put(ctx, j.fence(), resumeCollection, next); err != nil {
		return fmt.Errorf("store where the sync stands: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.rec = next
	return nil
}

// SetState persists the state of the job.
func (j *Journal) SetState(ctx context.Context, state string) error {
	return j.Update(ctx, func(r *Resume) { r.State = state })
}

// enter notes a phase.
func (r *Resume) enter(p Phase, at time.Time) {
	r.Phase = p
	r.PhaseTransitions = append(r.PhaseTransitions, PhaseTransition{p, bson.Timestamp{T: uint32(at.Unix()), I: 1}})
}
