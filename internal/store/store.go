// Package store is the contract between document logic and an engine: an ordered, transactional key-value
// space with dense sequences, wake-ups and leases. DESIGN.md in this folder says how and why; storetest
// holds the conformance suite that every engine passes.
package store

import (
	"context"
	"io"
	"time"

	"github.com/tidegate/tidegate"
)

// Space is the storage id of one database. All keys of a database begin with it, and each space has its
// own sequence. Space 0 belongs to the node: database definitions, node identity.
type Space uint32

// Store is an engine. Implementations are safe for concurrent use.
type Store interface {
	// View runs fn with a consistent snapshot of what is durable. The snapshot is valid until fn returns;
	// a caller must not wait for a network peer inside fn. Errors of fn are returned as they are.
	View(ctx context.Context, fn func(Reader) error) error

	// Update runs fn in a transaction and returns once its effects are durable and visible to every later
	// View. fn runs in the commit section, where nothing else commits: it must be quick, do no I/O of its
	// own and no JSON or script work, must not call Update, and may be run more than once. If fn returns an
	// error nothing is changed, sequences included, and the error is returned as it is, once a View sees
	// all that fn saw: who starts over because a document moved reads where it moved to. A panic in fn is
	// an Internal error and changes nothing either.
	//
	// A canceled ctx stops an Update that has not begun; one that has begun is carried to its end.
	// Unavailable: the engine takes no writes now (closing, disk nearly full, connection lost).
	Update(ctx context.Context, fn func(Tx) error) error

	// Wait returns when the space's last visible sequence is greater than after, with that sequence; or
	// ctx's error.
	Wait(ctx context.Context, space Space, after tidegate.Seq) (tidegate.Seq, error)

	// Lease takes the named lease for ttl and keeps it renewed. It blocks until the lease is free or ctx
	// ends. See Lease.
	Lease(ctx context.Context, name string, ttl time.Duration) (Lease, error)

	// TryLease takes the named lease if it is free now; nil, and no error, if it is not.
	TryLease(ctx context.Context, name string, ttl time.Duration) (Lease, error)

	// Close waits for running transactions and closes the engine. Later calls return Unavailable.
	Close() error
}

// Reader reads one snapshot, for one goroutine. Returned slices must not be changed, and must not be kept
// after the transaction unless copied: engines use that memory again.
type Reader interface {
	// Get returns the value of key. A missing key gives nil and no error; a stored value is never nil.
	Get(key []byte) ([]byte, error)

	// Scan returns an iterator over the range, placed before its first key. The caller closes it before
	// the transaction ends.
	Scan(r Range) Iterator

	// LastSequence returns the last sequence of the space that is visible here; 0 if none.
	LastSequence(space Space) (tidegate.Seq, error)
}

// Tx is a transaction under way. It reads its own writes, and everything committed before it. Get is made to
// be quick; Scan may have to look at all that other writers have pending, so it is for rare work.
type Tx interface {
	Reader

	// Put stores value under key. The engine keeps neither slice after Put returns. Invalid: the key is
	// empty, or the engine's own (KindSequence). TooLarge: the transaction has grown over the engine's limit.
	Put(key, value []byte) error

	// Delete removes key; a missing key is no error.
	Delete(key []byte) error

	// NextSequence allocates the next sequence of the space. Sequences are dense: one whose transaction
	// fails is given to the next.
	NextSequence(space Space) (tidegate.Seq, error)
}

// Range is the keys from Start (included) to End (excluded). A nil Start or End is open. Reverse walks
// from the last key to the first.
type Range struct {
	Start, End []byte
	Reverse    bool
}

// Iterator walks a range. Use:
//
//	it := r.Scan(rng)
//	defer it.Close()
//	for it.Next() { … it.Key() … it.Value() … }
//	if err := it.Err(); err != nil { … }
type Iterator interface {
	// Next moves to the next key and reports whether there is one.
	Next() bool
	// SeekGE moves forward to the first key ≥ key within the range and reports whether there is one. If it
	// stands on such a key already it stays there. Not for Reverse ranges.
	SeekGE(key []byte) bool
	// Key and Value are valid until the next move or Close. A value that cannot be read is nil, and ends
	// the walk.
	Key() []byte
	Value() []byte
	// Err returns the error that ended the walk early, if any.
	Err() error
	io.Closer
}

// Lease is an exclusive right under a name, held until Release or loss.
type Lease interface {
	// Context ends when the lease is lost or released; its cause says which.
	Context() context.Context
	// Epoch grows each time the name changes hands; it fences what the holder writes.
	Epoch() uint64
	// Release gives the lease up; it is idempotent.
	Release()
}

// RangeDeleter is an optional interface of a Tx that deletes a whole range at once.
type RangeDeleter interface {
	// DeleteRange removes all keys of the range (Reverse is ignored; Start and End are required, else
	// Invalid). A range that holds the sequence of a space, as Prefix(SpaceKey(space)) does, sets it to 0.
	DeleteRange(r Range) error
}

// Prefetcher is an optional interface of a Store that is far away: with it what a whole group of Updates, or of Views, will want is
// read in one round trip. UpdateReading and ViewReading ask for it by assertion.
type Prefetcher interface {
	// ViewReading is View for a function that will probably Get these keys. It may share its snapshot with other Views.
	ViewReading(ctx context.Context, keys [][]byte, fn func(Reader) error) error
	// UpdateReading is Update for a function that will probably Get these keys.
	UpdateReading(ctx context.Context, keys [][]byte, fn func(Tx) error) error
}

// UpdateReading is st.Update, told beforehand what fn will probably Get where the engine cares.
func UpdateReading(ctx context.Context, st Store, keys func() [][]byte, fn func(Tx) error) error {
	if p, ok := st.(Prefetcher); ok {
		return p.UpdateReading(ctx, keys(), fn)
	}
	return st.Update(ctx, fn)
}

// ViewReading is st.View, told beforehand what fn will probably Get where the engine cares.
func ViewReading(ctx context.Context, st Store, keys func() [][]byte, fn func(Reader) error) error {
	if p, ok := st.(Prefetcher); ok {
		return p.ViewReading(ctx, keys(), fn)
	}
	return st.View(ctx, fn)
}

// Fetcher is an optional interface of a Reader that is far away. Use Fetch.
type Fetcher interface {
	// Fetch returns the Reader with what it will probably Get read, in one round trip; of large values it may leave some out, which Get then reads.
	Fetch(keys [][]byte) (Reader, error)
}

// Fetch is r, told beforehand what it will probably Get where the engine cares.
func Fetch(r Reader, keys [][]byte) (Reader, error) {
	if f, ok := r.(Fetcher); ok && len(keys) > 0 {
		return f.Fetch(keys)
	}
	return r, nil
}

// IsFar reports whether the engine cares what it is told beforehand.
func IsFar(st Store) bool {
	_, far := st.(Prefetcher)
	return far
}

// SequenceAdvancer is an optional interface of a Tx that moves the sequence of a space forward at once. Use
// AdvanceSequence.
type SequenceAdvancer interface {
	// AdvanceSequence makes to the last sequence of the space. It does nothing if the last is greater.
	AdvanceSequence(space Space, to tidegate.Seq) error
}

// AdvanceSequence makes to the last sequence of the space, unless that is greater: those in between belong to nothing.
func AdvanceSequence(tx Tx, space Space, to tidegate.Seq) error {
	if a, ok := tx.(SequenceAdvancer); ok {
		return a.AdvanceSequence(space, to)
	}
	last, err := tx.LastSequence(space)
	for err == nil && last < to {
		last, err = tx.NextSequence(space)
	}
	return err
}

// Fencer is an optional interface of a Store that several processes have open at once.
type Fencer interface {
	// Fence makes the store this process's alone among those that have it open now: the Updates of the others fail with ErrFenced from its return on, also
	// of one that stands still and goes on later. This process itself updates nothing meanwhile. Who opens the store later is not meant.
	Fence(ctx context.Context) error
}

// Stats are figures of an engine for telemetry. Counters grow for the life of the process.
type Stats struct {
	Commits      uint64 // Updates that were made durable
	Syncs        uint64 // fsyncs (or their like) that made them durable
	BytesWritten uint64 // bytes of keys and values
	DiskBytes    uint64 // bytes on disk now
	CacheHits    uint64
	CacheMisses  uint64
	QueueDepth   int // Updates waiting now
}

// StatsReader is an optional interface of a Store.
type StatsReader interface{ Stats() Stats }

// Errors that callers branch on.
var (
	ErrClosed    = tidegate.Errorf(tidegate.Unavailable, "the store is closed")
	ErrDiskFull  = tidegate.Errorf(tidegate.Unavailable, "the disk is nearly full; writes are refused until there is room")
	ErrReadOnly  = tidegate.Errorf(tidegate.Unavailable, "the store is read-only after an error; see the log")
	ErrFenced    = tidegate.Errorf(tidegate.Unavailable, "another process had the store for itself since this one opened it: start it again")
	ErrLeaseLost = tidegate.Errorf(tidegate.Unavailable, "the lease was lost")
	ErrReleased  = tidegate.Errorf(tidegate.Canceled, "the lease was released")
)

// Prefix returns the range of all keys that begin with p.
func Prefix(p []byte) Range { return Range{Start: p, End: PrefixEnd(p)} }

// PrefixEnd returns the first key after all keys that begin with p; nil if there is none.
func PrefixEnd(p []byte) []byte {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] != 0xff {
			end := append([]byte(nil), p[:i+1]...)
			end[i]++
			return end
		}
	}
	return nil
}
