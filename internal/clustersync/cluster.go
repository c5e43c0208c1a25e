// Package clustersync copies one cluster into another, follows its changes, cuts over and reverses: mongosync's API and
// states (shared/spec/cluster-sync.md) over any two endpoints that are a [Cluster].
//
// The engine (copy, change event application, DDL, indexes, commit, reverse, verification) and the control side (HTTP API,
// states, options, persisted records) are here; what a cluster is, is not: mongocluster speaks to MongoDB,
// gatewaycluster to a tidegate deployment.
package clustersync

import (
	"context"
	"errors"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Cluster is one side of a sync. Implementations are safe for concurrent use. Every call retries what is worth retrying for
// a short while (seconds) on its own; an error that carries [ErrUnreachable] may pass, and the engine retries it with
// backoff; any other error is final for that call. A canceled context ends a call soon.
type Cluster interface {
	Source
	Destination

	// Kind says what is at the other end; it decides how documents are written down.
	Kind() Kind

	// Inspect looks at the cluster: who it is, what it can do. It is called at start-up and before start and reverse.
	Inspect(ctx context.Context) (Info, error)

	// Ping measures one round trip.
	Ping(ctx context.Context) (time.Duration, error)

	// List returns all user namespaces (never internal ones, spec §6), each as it is at some time during the call, with a listing that
	// cannot mix two collections of one name (spec §7.1 step 3). A time-series collection and the like are listed, with the Type that
	// makes pre-flight refuse them.
	List(ctx context.Context) ([]Collection, error)

	// Metadata is where the records of the sync are kept on this cluster.
	Metadata() Metadata

	// Close gives all connections back.
	Close(ctx context.Context) error
}

// Kind is a kind of cluster.
type Kind string

// The kinds.
const (
	MongoDB  Kind = "mongodb"
	Tidegate Kind = "tidegate"
)

// Source is what the engine needs of the cluster it reads.
type Source interface {
	// Mark makes the cluster's clock pass everything acknowledged before the call and returns a position P such that all
	// of that is at or before P, in a way that Changes(P) gives everything acknowledged after the call. It is T0, Tc, R0 and the
	// heartbeat of the spec.
	Mark(ctx context.Context) (Position, error)

	// Reached reports whether a stream that has come to at has given everything up to mark.
	Reached(at, mark Position) bool

	// Changes opens the stream of changes after from. ErrHistoryLost: the cluster no longer has them.
	Changes(ctx context.Context, from Position) (Stream, error)

	// Oplog returns the time of the oldest change that Changes could still give and that of the newest. Zero times: unknown.
	Oplog(ctx context.Context) (oldest, newest time.Time, err error)

	// Partition cuts a collection into ranges of about targetBytes, which together hold every document exactly once. One range
	// with nil bounds: the collection is to be read in one go.
	Partition(ctx context.Context, c Collection, targetBytes int64) ([]Range, error)

	// Read gives the documents of a range in batches of about batchBytes and at most batchDocs, in the order of the range (of
	// insertion, if natural). A batch and its documents are fn's to keep. ref.UUID guards against another collection of
	// that name: a renamed collection is read on under its new name; ErrGone: it is there no more.
	Read(ctx context.Context, ref Ref, r Range, opts ReadOptions, fn func([]Document) error) error

	// Fetch returns the current documents of these keys, in the same order; a zero Document (nil Body) where there is none. ErrGone:
	// the collection is there no more, or can no longer be found by its UUID, so nothing can be said of its documents.
	Fetch(ctx context.Context, ref Ref, keys []Key) ([]Document, error)
}

// Destination is what the engine needs of the cluster it writes.
type Destination interface {
	// Create makes the collection or view; its indexes are made apart. ErrExists: the name is taken.
	Create(ctx context.Context, c Collection) error
	// Drop removes a collection or view; a missing one is no error.
	Drop(ctx context.Context, ns Namespace) error
	// Rename moves a collection inside the cluster. ErrExists: the target's name is taken. ErrNotFound: there is none of the old name.
	Rename(ctx context.Context, from, to Namespace) error
	// Modify changes options of a collection or view, with the members of collMod (validator, validationLevel, viewOn,
	// pipeline, changeStreamPreAndPostImages, cappedSize, cappedMax, expireAfterSeconds). ErrUnsupported: this cluster cannot.
	Modify(ctx context.Context, ns Namespace, change bson.Raw) error

	// CreateIndexes makes these indexes; one that exists with the same name and keys is no error, nor one that exists under
	// another name or with other keys (the listing was newer, spec §8.6). Refused gives what could not be made, and why.
	CreateIndexes(ctx context.Context, ns Namespace, specs []bson.Raw) (refused []RefusedIndex, err error)
	// DropIndex removes an index; a missing index or collection is no error.
	DropIndex(ctx context.Context, ns Namespace, name string) error
	// ModifyIndex changes what collMod can of an index (prepareUnique, unique, forceNonUnique, expireAfterSeconds, hidden), by other means
	// where the cluster has no collMod (spec §9.2). ErrUnsupported: it cannot. A [*NotUniqueError]: unique was asked for
	// and there are violations.
	ModifyIndex(ctx context.Context, ns Namespace, name string, change bson.D) error

	// Insert stores new documents; one whose key is there already is left as it is and counted. Used by the copy.
	Insert(ctx context.Context, ns Namespace, docs []Document, opts WriteOptions) (InsertResult, error)
	// Apply makes each document what its intent says, in any order: each key occurs at most once. It is idempotent.
	// Failures are those of single documents (duplicate keys of unique indexes); err is of the call as a whole.
	Apply(ctx context.Context, ns Namespace, intents []Intent, opts WriteOptions) (failed []Failure, err error)
	// ApplyDelta applies one update as the event told it, for a document that cannot be fetched (spec §8.5). It changes nothing if the
	// document is missing. ErrUnsupported: the cluster has no such thing.
	ApplyDelta(ctx context.Context, ns Namespace, key Key, delta bson.Raw) error

	// BlockWrites blocks or frees the writes of users; the sync's own pass. ErrUnsupported: no such thing here, or it would have no
	// effect (access control off); the error says which. Idempotent.
	BlockWrites(ctx context.Context, block bool) error
	// WritesBlocked reports whether users' writes are blocked now.
	WritesBlocked(ctx context.Context) (bool, error)
}

// Amender is a Source that has no events of its own for collections and finds out about them by looking, so that its positions say which there
// were. Optional. After a crash the sync's records are ahead of the position that it goes on from: what was made and dropped in between, or
// dropped and made again, would never be told.
type Amender interface {
	// Amend returns the position as if, of the collections that are synced, those known had been there and no others. One that was made
	// after the position is followed from its beginning.
	Amend(ctx context.Context, from Position, known []Known, synced func(Namespace) bool) (Position, error)
}

// Known is a collection that the sync has on record, with the time of the event that told of it; zero if it was listed.
type Known struct {
	Ref
	Made bson.Timestamp
}

// Sharder is a Destination that may have shards. Optional.
type Sharder interface {
	// Shard has a collection sharded by a key; one that is so is no error, nor is a cluster without shards.
	Shard(ctx context.Context, ns Namespace, key bson.Raw, unique bool) error
}

// FixedCapped is a Destination that may be unable to change the size of a capped collection, so that it must be created with the one it
// is to have (spec §10). Optional.
type FixedCapped interface {
	FixedCapped(ctx context.Context) (bool, error)
}

// Namespace names a collection. For a tidegate cluster Database is the database, and Collection is "scope.collection".
type Namespace struct{ Database, Collection string }

func (n Namespace) String() string { return n.Database + "." + n.Collection }

// Ref is a collection by name and, where the cluster has them, by UUID ("" if not).
type Ref struct {
	Namespace
	UUID string
}

// CollectionType is what a namespace holds.
type CollectionType string

// The types.
const (
	Plain      CollectionType = "collection"
	View       CollectionType = "view"
	TimeSeries CollectionType = "timeseries"
)

// Collection is a namespace as its cluster lists it.
type Collection struct {
	Ref
	Type CollectionType
	// Options as listCollections gives them, without the UUID. Options of a foreign kind mean nothing to a cluster and are left out.
	Options bson.Raw
	// Indexes with their full specs, the one on _id left out.
	Indexes []bson.Raw
	Capped  bool
	Count   int64 // estimated
	Bytes   int64 // estimated, of documents as they are sent

	// Unmappable says why a collection has no name on the other kind of cluster; nil if it has. Its Namespace is that of its own kind then, which is
	// good for filters and messages, and for nothing else.
	Unmappable error
}

// Range is the documents with From ≤ key < To in the order of the cluster's keys; nil is open. The bounds are the cluster's own, as a BSON
// document with one member, so that they can be kept in metadata.
type Range struct {
	From bson.Raw `bson:"from,omitempty"`
	To   bson.Raw `bson:"to,omitempty"`
}

// ReadOptions say how a range is read.
type ReadOptions struct {
	Natural    bool // in the order of insertion
	BatchDocs  int
	BatchBytes int

	// Of a natural read, where a cluster can go on with one: Place is told after each batch where that is, and Resume is such a place, of this or
	// of an earlier process. Place may be nil; a cluster that cannot never calls it. ErrPlaceLost: there is no going on from Resume.
	Resume bson.Raw
	Place  func(bson.Raw)
}

// KeyOrder is a Source that can compare the order of keys with that of the documents on its disk. Optional.
type KeyOrder interface {
	// RandomKeys reports whether the keys of a collection have nothing to do with the order in which its documents are stored, so that to read it
	// in the order of keys is to jump about. ErrUnsupported: that cannot be told; the error says why.
	RandomKeys(ctx context.Context, c Collection) (bool, error)
}

// Key names a document in its collection.
type Key struct {
	// ID is canonical: two keys that mean one document to the source have equal IDs (1, 1.0 and NumberLong(1) do). It routes events
	// to workers and joins them.
	ID string
	// Raw is the key as the cluster writes it down: {"_id": …, shard key fields …}. For tidegate {"_id": "doc id"}.
	Raw bson.Raw
}

// Document is a document as its source writes it down.
type Document struct {
	Key    Key
	Format Kind
	// Body is, for MongoDB, the document's BSON. For tidegate a JSON array of all leaf revisions, each an object as for
	// _bulk_docs with new_edits=false (_id, _rev, _revisions, _deleted, _attachments with data). nil: there is no document.
	Body []byte
}

// Intent is what shall become of a document: Doc.Body nil deletes it. New is a hint that it is probably not there yet.
type Intent struct {
	Doc Document
	New bool
}

// WriteOptions of a batch.
type WriteOptions struct {
	Ordered bool // capped collections: in the order given
}

// InsertResult counts what a copy wrote.
type InsertResult struct {
	Inserted, Present int
	Bytes             int64
}

// Failure is a document of a batch that could not be written.
type Failure struct {
	Index int // in the batch
	Err   error
}

// RefusedIndex is an index that a cluster would not make.
type RefusedIndex struct {
	Name string
	Err  error
}

// Op is what an event says.
type Op uint8

// The operations. Touched is an update or a write of which the source does not say enough: the document must be fetched.
const (
	OpInsert  Op = iota + 1 // Doc is the new document
	OpReplace               // Doc is the new document
	OpTouched               // fetch; Delta, if any, is the update as the event told it
	OpDelete                // Maybe: fetch first, delete only if it is missing
	OpCreate                // Collection
	OpDrop                  // Ref
	OpDropDatabase
	OpRename        // Ref, To, Dropped
	OpCreateIndexes // Indexes
	OpDropIndexes   // Indexes (their names count)
	OpModify        // Change
	OpShard         // Change: shardCollection
	OpUnsupported   // Reason
)

// Event is a change.
type Event struct {
	Op    Op
	Ref   Ref
	Time  bson.Timestamp
	At    Position // resume here once this event and all before it are applied; zero if a stream may not be resumed here
	Doc   Document // its Key is set for all operations on documents
	Delta bson.Raw // updateDescription
	Maybe bool
	Bytes int

	Collection Collection // OpCreate
	To         Namespace  // OpRename
	Dropped    string     // OpRename: UUID of the collection that gave way
	Indexes    []bson.Raw
	Change     bson.Raw
	Reason     string
}

// DDL reports whether the event is a barrier.
func (e Event) DDL() bool { return e.Op >= OpCreate }

// Position is a place in a cluster's history, as the cluster writes it down. It can be kept in metadata. The zero Position is none.
type Position struct {
	Token bson.Raw       `bson:"token,omitempty"`
	Time  bson.Timestamp `bson:"time"`
}

// Zero reports whether there is no position.
func (p Position) Zero() bool { return p.Token == nil && p.Time.IsZero() }

// Stream is an open stream of changes, for one goroutine.
type Stream interface {
	// Next waits up to wait for changes and returns those that are there (maybe none), with the position that the stream has come to once
	// they are applied, which moves on when nothing happens, too. It reopens itself after errors that pass. ErrHistoryLost: the
	// history up to here is gone.
	Next(ctx context.Context, wait time.Duration) ([]Event, Position, error)
	Close(ctx context.Context) error
}

// Info is what Inspect found.
type Info struct {
	// Hosts identify the cluster, sorted, "host:port" each; ID is its own name (replica set id, node id), "" if it has none.
	Hosts []string
	ID    string
	// Name is "host:port" of the URI's first host, without credentials.
	Name string

	Version      string // as the server tells it
	Major, Minor int
	Topology     Topology
	Shards       int
	MongoDB      bool // a MongoDB server, or what says that it is one: the rules on versions count

	ChangeSource string // "changeStream", "oplog", "feed"; "" if it can only be a destination
	Unused       string // why it can only be a destination
	CanBlock     bool
	AuthOff      bool // everybody may do everything
	// Missing lists the privileges that the sync's user lacks, by role in the sync ("source", "destination", "reverse").
	Missing map[string][]string

	DiskTotal, DiskUsed int64 // bytes; 0: unknown
	// UserDatabases lists databases with user data, MetadataDatabases those that a sync left behind.
	UserDatabases, MetadataDatabases []string
	Balancer                         bool // it is on
	Warnings                         []string
}

// Topology of a cluster.
type Topology string

// The topologies.
const (
	Standalone Topology = "standalone"
	ReplicaSet Topology = "replicaSet"
	Sharded    Topology = "sharded"
	Gateways   Topology = "tidegate"
)

// Metadata keeps the records of a sync on a cluster: small documents by collection and id (spec §15.2). Every write carries the fence
// of the lease it is made under; ErrFenced: a younger lease has written, and the caller must stop.
type Metadata interface {
	// Exists reports whether there are records of a sync.
	Exists(ctx context.Context) (bool, error)
	// Get decodes the record into out; ErrNotFound.
	Get(ctx context.Context, collection string, id any, out any) error
	// All calls fn for each record of the collection.
	All(ctx context.Context, collection string, fn func(bson.Raw) error) error
	// Put stores records, each with its _id, whole.
	Put(ctx context.Context, fence int64, collection string, records ...any) error
	// Delete removes records by id; missing ones are no error.
	Delete(ctx context.Context, fence int64, collection string, ids ...any) error
	// Acquire takes the lease of that name if it is free, expired or the owner's own; the fence grows with each change of owner. It also
	// renews. ErrLeaseHeld: somebody else's.
	Acquire(ctx context.Context, name, owner string, ttl time.Duration) (fence int64, err error)
	// Release gives the lease back; another owner's is left alone.
	Release(ctx context.Context, name, owner string) error
	// Erase removes all records.
	Erase(ctx context.Context) error
}

// Errors that the engine branches on; clusters wrap them.
var (
	ErrUnreachable  = errors.New("the cluster cannot be reached")
	ErrUnauthorized = errors.New("not authorized")
	ErrHistoryLost  = errors.New("the change history needed is gone")
	ErrGone         = errors.New("the collection is gone")
	ErrExists       = errors.New("the namespace exists")
	ErrNotFound     = errors.New("not found")
	ErrUnsupported  = errors.New("not supported by the cluster")
	ErrTooLarge     = errors.New("the document is too large")
	ErrFenced       = errors.New("another instance has taken over")
	ErrLeaseHeld    = errors.New("another instance holds the lease")
	ErrPlaceLost    = errors.New("the place to go on from is lost")
	ErrUnmappable   = errors.New("cannot be written down on the other kind of cluster")
)

// DuplicateKeyError is a write refused by a unique index other than the one on _id.
type DuplicateKeyError struct {
	Index  string
	Holder bson.Raw // keyValue, if the server says
	Err    error
}

func (e *DuplicateKeyError) Error() string { return "duplicate key in index " + e.Index }
func (e *DuplicateKeyError) Unwrap() error { return e.Err }

// NotUniqueError says which documents keep an index from being unique.
type NotUniqueError struct {
	Index string
	IDs   []bson.RawValue
}

func (e *NotUniqueError) Error() string { return "index " + e.Index + " has duplicate keys" }
