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

// Verifier compares the two sides of a sync while it runs (spec §18). It reads every collection of both clusters once, part by part, as
// sums of hashes ("initial hashing"), and from then on compares one by one the documents that change on either side ("stream hashing").
// At commit it says whether the two are equal. It is not resumable: a new Verifier begins again.
//
// The engine tells it of changes of the source with Observe, from before Run on; it follows the destination itself, so that a write to the
// destination that did not come from the sync is found as well.
//
// Why nothing is missed: a document was equal on both sides when it was hashed or compared, or it is dirty. Whatever changes on either
// side after that makes it dirty again. When both streams are read to their ends and nothing is dirty, all are equal.
type Verifier struct {
	cfg   VerifierConfig
	both  sides
	dirty *dirtySet

	mu      sync.Mutex
	pairs   map[string]Pair   // by refKey of the source: as Pairs gave them last
	hashed  map[string]bool   // what initial hashing is done with
	again   map[string]uint64 // how often a pair was to be hashed anew
	gone    map[string]bool   // not on the source when it was to be hashed last
	started bool
	swept   bool // all that was there first is hashed
	followed
	failed error         // why Run ended
	moved  chan struct{} // closed and made anew when one of these changes

	counts hashCounts
	round  time.Time     // when the last round over dirty documents began; mu guards it
	rounds chan struct{} // taken by who compares dirty documents
	lists  chan struct{} // taken by who asks for the pairs
}

// VerifierConfig says what is compared, and how.
type VerifierConfig struct {
	Source, Destination Cluster

	// Pairs gives the collections of the sync as they are mapped now: each of the source, with its name there now and on the destination.
	// It is called often and must not wait for the sync to come further.
	Pairs func(context.Context) ([]Pair, error)
	// Indexes gives those that the destination should have for a pair; nil: those of the source.
	Indexes func(Pair) []bson.Raw
	// Include tells collections of the source that belong to the sync: one that no pair has is a difference. Nil: nothing is said of them.
	Include func(Namespace) bool
	// Foreign tells namespaces of the destination that are no affair of the sync (data that was there before). Nil: there are none.
	Foreign func(Namespace) bool

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
	// Canonical gives the bytes that are equal on both sides if the document is; none if the document counts as missing. Nil: its body.
	Canonical func(Document) ([]byte, error)
	// Translate writes a key of one kind down as the other kind does. Nil: as it is. Of a mixed pair, keys that mean one document
	// have one Raw as tidegate writes it down.
	Translate func(k Key, from, to Kind) (Key, error)
}

// Limits of a verifier.
const (
	defaultVerifyWorkers   = 2
	defaultVerifyPartBytes = 64 << 20
	defaultMaxDirty        = 1_000_000
	defaultVerifyPause     = time.Second
	maxLateDocuments       = 10_000 // of collections that turned up after initial hashing, which Final can still hash
	finalRounds            = 5      // how often differing documents are looked at again in Final
	maxDifferences         = 100    // kept in an error
)

// NewVerifier returns a verifier that has not begun. Observe may be called at once.
func NewVerifier(cfg VerifierConfig) *Verifier {
	if cfg.Workers <= 0 {
		cfg.Workers = defaultVerifyWorkers
	}
	if cfg.PartitionBytes <= 0 {
		cfg.PartitionBytes = defaultVerifyPartBytes
	}
	if cfg.MaxDirty <= 0 {
		cfg.MaxDirty = defaultMaxDirty
	}
	if cfg.Pause <= 0 {
		cfg.Pause = defaultVerifyPause
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Verifier{
		cfg: cfg, both: sides{cfg.Source, cfg.Destination, cfg.Compare},
		dirty: newDirtySet(cfg.MaxDirty, cfg.Metadata, cfg.Fence),
		pairs: map[string]Pair{}, hashed: map[string]bool{}, again: map[string]uint64{}, gone: map[string]bool{}, moved: make(chan struct{}), rounds: make(chan struct{}, 1), lists: make(chan struct{}, 1), round: time.Now(),
	}
}

// Observe takes note of a change of the source, which should be one of a collection of the sync. It must be called for every such event
// that the stream gives, in order, applied already or not, before Final at the latest. It seldom waits (when keys must be put into metadata).
func (v *Verifier) Observe(ctx context.Context, e Event) error {
	if e.DDL() {
		v.observeDDL(e)
		return nil
	}
	return v.Dirty(ctx, e.Ref, e.Doc.Key)
}

// Dirty has the verifier look at documents of a source collection again.
func (v *Verifier) Dirty(ctx context.Context, source Ref, keys ...Key) error {
	pair := refKey(source)
	// A collection that is not known yet will be hashed once it is, and all that has happened by then with it.
	if !v.known(pair) {
		return nil
	}
	for _, k := range keys {
		id, err := v.both.join(k, v.cfg.Source.Kind())
		if err != nil {
			return fmt.Errorf("verify %s: %w", source.Namespace, err)
		}
		if err := v.dirty.add(ctx, dirtyID{pair, id}, k); err != nil {
			return err
		}
	}
	return nil
}

// Run hashes both sides and then compares what changes, until ctx ends. It returns nil when ctx ends, and an error only if it cannot go on;
// differences are no error before Final.
func (v *Verifier) Run(ctx context.Context) error {
	err := v.run(ctx)
	if ctx.Err() != nil {
		err = nil
	}
	v.change(func() {
		if v.failed = err; err == nil {
			v.failed = errors.New("the verifier is not running")
		}
	})
	return err
}

// Final says whether the two sides are equal: nil, or a [*MismatchError]. To be called while Run runs, when the source is quiet and
// everything of it is observed and applied; writers of the destination are found, not waited for. It first waits for the end of hashing.
func (v *Verifier) Final(ctx context.Context) error { return v.final(ctx) }

// Progress is the member `verification` of the progress (spec §5.2).
func (v *Verifier) Progress() VerificationProgress { return v.progress() }

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
	Total           int64        // of differences
	OnlyDestination int64        // documents of these that the source does not have
	Differences     []Difference // the first of them
	Remedy          string       // what to do about them, for people; "" if there is nothing to be said
}

func (e *MismatchError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v in %d places", ErrMismatch, e.Total)
	const shown = 3
	for i, d := range e.Differences {
		if i == shown {
			b.WriteString("; …")
			break
		}
		b.WriteString("; ")
		b.WriteString(d.String())
	}
	if e.Remedy != "" {
		b.WriteString(". " + e.Remedy)
	}
	return b.String()
}

func (e *MismatchError) Unwrap() error { return ErrMismatch }

// refKey names a collection of the source over its renames, if its cluster has UUIDs.
func refKey(r Ref) string {
	if r.UUID != "" {
		return r.UUID
	}
	return r.String()
}

// known reports whether a pair was there when Pairs was asked last.
func (v *Verifier) known(pair string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, ok := v.pairs[pair]
	return ok
}

// change changes what mu guards and wakes those who wait for it.
func (v *Verifier) change(f func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f()
	close(v.moved)
	v.moved = make(chan struct{})
}

// observeDDL: where collections have no UUIDs, a name may mean another collection now.
func (v *Verifier) observeDDL(e Event) {
	if e.Ref.UUID != "" {
		return
	}
	switch e.Op {
	case OpCreate, OpDrop, OpRename:
		v.change(func() {
			v.rehash(refKey(e.Ref))
			v.rehash(e.To.String())
		})
	}
}

func (v *Verifier) progress() VerificationProgress {
	v.mu.Lock()
	defer v.mu.Unlock()
	var p VerificationProgress
	phase, documents, late, scanned := NotStarted, int64(0), int64(0), int64(0)
	for key, pair := range v.pairs {
		documents += pair.Source.Count
		if v.hashed[key] {
			scanned++
		} else {
			late += pair.Source.Count
		}
	}
	if v.started {
		phase = InitialHashing
		all := scanned > 0 && scanned == int64(len(v.pairs)) && !v.followed.opening // Final may see that before the sweep is over
		if (v.swept || all) && late <= maxLateDocuments {
			phase = StreamHashing
		}
	}
	for i, side := range []*VerificationSide{&p.Source, &p.Destination} {
		hashed := documents
		if phase != StreamHashing {
			hashed = min(documents, v.counts.documents[i].Load()) // some are hashed more than once
		}
		*side = VerificationSide{
			EstimatedDocumentCount: documents, HashedDocumentCount: hashed,
			TotalCollectionCount: int64(len(v.pairs)), ScannedCollectionCount: scanned, Phase: phase,
		}
	}
	if phase == StreamHashing {
		if v.dirty.len() > 0 {
			p.Source.LagTimeSeconds = int64(time.Since(v.round) / time.Second)
		}
		if !v.followed.never {
			p.Destination.LagTimeSeconds = int64(time.Since(v.followed.seen) / time.Second)
		}
	}
	return p
}
