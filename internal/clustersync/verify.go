package clustersync

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// Verifier compares the two sides of a sync while it runs (spec §18). It reads every collection of both clusters once, part by part, as
// sums of hashes ("initial hashing"), and from then on compares one by one the documents that change on either side ("stream hashing").
// At commit it says whether the two are equal. It is not resumable: a new Verifier begins again.
//
// The engine tells it of every change of the source with Observe, from before Run on; it follows the destination itself, so that a write
// to the destination that did not come from the sync is found as well.
type Verifier struct {
	cfg VerifierConfig
}

// VerifierConfig says what is compared, and how.
type VerifierConfig struct {
	Source, Destination Cluster

	// Pairs gives the collections of the sync as they are mapped now: each of the source, with its name there now and on the destination.
	// It must not wait for the sync to come further.
	Pairs func(context.Context) ([]Pair, error)

	// Compare is needed for clusters that do not write equal documents down as equal bytes; its zero value compares bytes.
	Compare Comparison

	// Metadata takes keys of changed documents beyond MaxDirty. Nil: there is no bound.
	Metadata Metadata
	Fence    func() int64

	Workers        int           // parts hashed at a time; 0: 2
	PartitionBytes int64         // 0: 64 MiB
	MaxDirty       int           // keys kept in memory; 0: 1,000,000
	Pause          time.Duration // between rounds over changed documents; 0: 1 s
	Log            *slog.Logger  // nil: none
}

// Pair is a collection of the source and where it is on the destination.
type Pair struct {
	Source      Collection
	Destination Namespace
}

// Comparison brings documents of two clusters to one form.
type Comparison struct {
	// Canonical gives the bytes that are equal on both sides if the document is. Nil: its body.
	Canonical func(Document) ([]byte, error)
	// Translate writes a key of one kind down as the other kind does. Nil: as it is.
	Translate func(k Key, from, to Kind) (Key, error)
}

// NewVerifier returns a verifier that has not begun. Observe may be called at once.
func NewVerifier(cfg VerifierConfig) *Verifier { return &Verifier{cfg: cfg} }

// Observe takes note of a change of the source. It must be called for every event that the stream gives, in order, whether the event is
// applied already or not. It seldom waits (when keys must be put into metadata).
func (v *Verifier) Observe(ctx context.Context, e Event) error { return nil }

// Dirty has the verifier look at documents of a source collection again.
func (v *Verifier) Dirty(ctx context.Context, source Ref, keys ...Key) error { return nil }

// Run hashes both sides and then compares what changes, until ctx ends. It returns nil when ctx ends, and an error only if it cannot go on;
// differences are no error before Final.
func (v *Verifier) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Final says whether the two sides are equal: nil, or a [*MismatchError]. To be called while Run runs, when the source is quiet and
// everything of it is observed and applied; writers of the destination are found, not waited for. It first waits for the end of hashing.
func (v *Verifier) Final(ctx context.Context) error { return nil }

// Progress is the member `verification` of the progress (spec §5.2).
func (v *Verifier) Progress() VerificationProgress { return VerificationProgress{} }

// Hashing reports whether both sides are in stream hashing, which canCommit asks for.
func (v *Verifier) Hashing() bool {
	p := v.Progress()
	return p.Source.Phase == StreamHashing && p.Destination.Phase == StreamHashing
}

// VerificationProgress is how far each side is.
type VerificationProgress struct {
	Source      VerificationSide `json:"source"`
	Destination VerificationSide `json:"destination"`
}

// VerificationSide is how far one side is. The names are mongosync's.
type VerificationSide struct {
	EstimatedDocumentCount int64             `json:"estimatedDocumentCount"`
	HashedDocumentCount    int64             `json:"hashedDocumentCount"`
	LagTimeSeconds         int64             `json:"lagTimeSeconds"`
	TotalCollectionCount   int64             `json:"totalCollectionCount"`
	ScannedCollectionCount int64             `json:"scannedCollectionCount"`
	Phase                  VerificationPhase `json:"phase"`
}

// VerificationPhase of one side.
type VerificationPhase string

// The phases.
const (
	NotStarted     VerificationPhase = "not started"
	InitialHashing VerificationPhase = "initial hashing"
	StreamHashing  VerificationPhase = "stream hashing"
)

// ErrMismatch is under every [*MismatchError]; the sync fails with VerificationFailed.
var ErrMismatch = errors.New("source and destination differ")

// MismatchError says where the two sides differ.
type MismatchError struct {
	Total       int64        // of differences
	Differences []Difference // the first of them
}

func (e *MismatchError) Error() string { return ErrMismatch.Error() }
func (e *MismatchError) Unwrap() error { return ErrMismatch }

// Difference is one thing that is not the same on both sides.
type Difference struct {
	Source      string         `json:"source"`        // namespace there; "" if it has none
	Destination string         `json:"destination"`   // namespace there; "" if it has none
	ID          string         `json:"_id,omitempty"` // canonical extended JSON of the key; "" for a difference of the collections themselves
	What        DifferenceKind `json:"what"`
	Detail      string         `json:"detail,omitempty"` // never contents of documents, only names of members
}

// DifferenceKind says how two sides differ.
type DifferenceKind string

// The kinds of differences.
const (
	MissingDocument   DifferenceKind = "missing on the destination"
	ExtraDocument     DifferenceKind = "not on the source"
	OtherDocument     DifferenceKind = "different documents"
	MissingCollection DifferenceKind = "collection missing on the destination"
	ExtraCollection   DifferenceKind = "collection not on the source"
	OtherOptions      DifferenceKind = "different options"
	OtherIndexes      DifferenceKind = "different indexes"
)

// VerifyOptions of a verification by itself.
type VerifyOptions struct {
	Include func(Namespace) bool      // of the source's names; nil: all
	Map     func(Namespace) Namespace // source's name to the destination's; nil: the same
	Compare Comparison

	Workers        int           // 0: 2
	PartitionBytes int64         // 0: 64 MiB
	Rounds         int           // how often a differing document is looked at before it is called different; 0: 5
	Pause          time.Duration // between rounds; 0: 1 s
	MaxDifferences int           // kept in the report; 0: 100
	MaxPending     int           // differing documents kept in memory to be looked at again; 0: 100,000
	OnlyData       bool          // leave out options, indexes and views
	Log            *slog.Logger  // nil: none
}

// Report is what a verification found.
type Report struct {
	Equal       bool              `json:"equal"`
	Collections []CollectionCheck `json:"collections"`
	Total       int64             `json:"totalDifferences"`
	Differences []Difference      `json:"differences"` // the first MaxDifferences
	Documents   int64             `json:"documents"`   // hashed, of both sides
	Bytes       int64             `json:"bytes"`
	Seconds     float64           `json:"seconds"`
}

// CollectionCheck is what was found of one collection.
type CollectionCheck struct {
	Source                        string `json:"source"`
	Destination                   string `json:"destination"`
	SourceCount, DestinationCount int64
	Differences                   int64  `json:"differences"`
	NotCompared                   string `json:"notCompared,omitempty"` // why its documents were not compared
}

// Verify compares two clusters by itself. Documents that differ are looked at again, a bounded number of times, before they are called
// different, so that it can be used while both sides change. The error is for what could not be read; differences are in the report.
func Verify(ctx context.Context, src, dst Cluster, opts VerifyOptions) (Report, error) {
	return Report{}, nil
}

// ExitCode is 0 if both are equal and 3 if not; a command that could not compare ends with 1, one not understood with 2.
func (r Report) ExitCode() int { return 0 }

// String is the report for people.
func (r Report) String() string { return "" }
