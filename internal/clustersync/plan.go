package clustersync

import (
	"runtime"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Plan is what /start asked for, checked (spec §5.1), with every default in its place. It never changes while a job lives: it is kept in the
// record globalState and read from there after a restart. What may change from one run of the process to the next is in [Settings].
type Plan struct {
	Source      string // "cluster0" or "cluster1", before any reverse
	Destination string // the other one

	Reversible    bool
	WriteBlocking WriteBlocking
	// WriteBlockingAsked: the mode was given in the request, so that a cluster that cannot block fails the start (WriteBlockFailed). Otherwise
	// the sync goes on unblocked, with a warning (spec §5.1.1).
	WriteBlockingAsked bool
	BuildIndexes       BuildIndexes

	// Filter says which namespaces and documents are synced, how they are called on the destination and which are copied in
	// natural order. It is never nil, and immutable.
	Filter *Filter

	DetectRandomID          bool
	PreExistingDestination  bool // the destination holds other namespaces already (spec §5.1.3)
	Verification            bool // as asked; Settings.DisableVerification overrides it
	SkipDiskSpaceCheck      bool
	CreateSupportingIndexes bool
	Sharding                []ShardKey // of collections on a sharded destination
}

// ShardKey says how a collection is sharded on the destination.
type ShardKey struct {
	Namespace Namespace // of the source
	Key       bson.Raw  // {field: 1, -1 or "hashed", …}
}

// WriteBlocking says where the writes of users are blocked (spec §12).
type WriteBlocking string

// The modes.
const (
	BlockNone        WriteBlocking = "none"
	BlockDestination WriteBlocking = "destinationOnly"
	BlockBoth        WriteBlocking = "sourceAndDestination"
)

// BuildIndexes says when indexes are built on the destination, and which (spec §9.1).
type BuildIndexes string

// The modes.
const (
	IndexesAfterCopy       BuildIndexes = "afterDataCopy"
	IndexesBeforeCopy      BuildIndexes = "beforeDataCopy"
	ExcludeHashed          BuildIndexes = "excludeHashed" // otherwise as beforeDataCopy
	ExcludeHashedAfterCopy BuildIndexes = "excludeHashedAfterCopy"
	IndexesNever           BuildIndexes = "never"
)

// AfterCopy reports whether indexes are built once the data is copied.
func (b BuildIndexes) AfterCopy() bool { return b == IndexesAfterCopy || b == ExcludeHashedAfterCopy }

// NoHashed reports whether hashed indexes are left out.
func (b BuildIndexes) NoHashed() bool { return b == ExcludeHashed || b == ExcludeHashedAfterCopy }

// Settings are what the command line says (spec §2.1): they may differ each time the process is started.
type Settings struct {
	Limits              Limits
	HotDocs             []HotDocs
	DisableVerification bool
	Spool               SpoolMode // "" is SpoolAuto
	MassDelete          MassDelete
}

// SpoolMode says whether changes are kept while the copy is under way (spec §8.9).
type SpoolMode string

// The modes. SpoolAuto keeps them once the history of the source looks too short for the copy.
const (
	SpoolAuto   SpoolMode = "auto"
	SpoolAlways SpoolMode = "always"
	SpoolNever  SpoolMode = "never"
)

// HotDocs are documents of a source collection that are left out of change event application and copied during commit.
type HotDocs struct {
	Namespace Namespace
	IDs       []bson.Raw // each {"_id": …}
}

// Limits bound what a sync does at a time.
type Limits struct {
	CopyReaders   int
	CopyWriters   int
	ApplyWorkers  int
	BatchDocs     int   // documents in one write
	BatchBytes    int   // bytes in one write
	InFlightBytes int64 // documents read and not yet written, of the copy and of change event application each
	PartBytes     int64 // size of a partition
	IndexBatch    int   // indexes built by one command
	SpoolRecords  int64 // of changes that are kept while the copy is under way
	RandomBytes   int64 // collections beyond that are looked at for random keys (detectRandomId)
}

// Defaults and bounds of Limits.
const (
	DefaultBatchDocs     = 2_000
	DefaultBatchBytes    = 16 << 20
	DefaultInFlightBytes = 256 << 20
	DefaultPartBytes     = 64 << 20
	DefaultIndexBatch    = 2
	DefaultSpoolRecords  = 20_000_000
	DefaultRandomBytes   = 20 << 30

	MaxWorkers    = 256
	MaxBatchDocs  = 100_000
	MaxBatchBytes = 48_000_000
	MaxIndexBatch = 64

	DefaultLoadLevel     = 3
	PreExistingLoadLevel = 2 // with preExistingDestinationData
	MaxLoadLevel         = 4
)

// LoadLevel gives the limits of a load level, 1 to 4 (spec §7.6), for this machine.
func LoadLevel(level int) Limits { return loadLevel(level, runtime.GOMAXPROCS(0)) }

func loadLevel(level, cpus int) Limits {
	l := Limits{
		BatchDocs: DefaultBatchDocs, BatchBytes: DefaultBatchBytes, InFlightBytes: DefaultInFlightBytes,
		PartBytes: DefaultPartBytes, IndexBatch: DefaultIndexBatch,
		SpoolRecords: DefaultSpoolRecords, RandomBytes: DefaultRandomBytes,
	}
	half := max(2, cpus/2)
	switch level {
	case 1:
		l.CopyReaders, l.CopyWriters, l.ApplyWorkers = 1, 2, 2
	case 2:
		l.CopyReaders, l.CopyWriters, l.ApplyWorkers = 2, 4, half
	case 4:
		l.CopyReaders, l.CopyWriters, l.ApplyWorkers = cpus, 2*cpus, 2*cpus
	default:
		l.CopyReaders, l.CopyWriters, l.ApplyWorkers = half, cpus, cpus
	}
	return l
}
