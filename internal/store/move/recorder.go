// Package move brings everything that a gateway stores into another store while it serves: a snapshot first, then what was changed since, again and
// again until that is little, and the rest while writes are refused for a moment. Source is the end of the gateway, over a store with a
// Recorder; Run is the end that fills the other store, and drives.
package move

import (
	"bytes"
	"context"
	"slices"
	"sync"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/archive"
)

// ErrStopped is the answer to writes while the last of them are moved.
var ErrStopped = tidegate.Errorf(tidegate.Unavailable, "writes are stopped for a moment: everything is being moved to another store")

// Recorder is a store that can keep account of what is changed in it, and can refuse changes. It costs next to nothing while it does neither.
type Recorder struct {
	store.Store

	// gate is held for reading by every Update from its beginning until what it changed is noted. Who holds it for writing knows that what is noted,
	// and only that, has changed.
	gate      sync.RWMutex
	recording bool
	stopped   bool

	// MaxBytes bounds the keys that are noted between two snapshots. A move during which more is changed fails.
	MaxBytes int

	mu      sync.Mutex
	changed archive.Changed
	bytes   int  // of the keys in changed
	full    bool // more was changed than may be noted
}

// maxRecorded is the default of Recorder.MaxBytes: some millions of documents that are written while a snapshot is copied.
const maxRecorded = 256 << 20

// noteBytes is what a key costs besides its own bytes.
const noteBytes = 64

// errTooMuch ends a move.
var errTooMuch = tidegate.Errorf(tidegate.TooLarge, "more was changed while the store was copied than can be kept account of: move at a quieter time, or with the gateway stopped")

// NewRecorder makes a recorder that records nothing yet.
func NewRecorder(st store.Store) *Recorder { return &Recorder{Store: st, MaxBytes: maxRecorded} }

// Update implements store.Store. Unavailable also: ErrStopped.
func (r *Recorder) Update(ctx context.Context, fn func(store.Tx) error) error {
	r.gate.RLock()
	defer r.gate.RUnlock()
	if r.stopped {
		return ErrStopped
	}
	if !r.recording {
		return r.Store.Update(ctx, fn)
	}
	var last *recordingTx
	err := r.Store.Update(ctx, func(tx store.Tx) error {
		last = &recordingTx{Tx: tx}
		return fn(last)
	})
	if last != nil { // also after an error: nothing is lost by a key too many
		r.note(last)
	}
	return err
}

func (r *Recorder) note(t *recordingTx) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.full {
		return
	}
	if r.changed.Keys == nil {
		r.changed.Keys = map[string]struct{}{}
	}
	for _, key := range t.keys {
		if _, noted := r.changed.Keys[key]; !noted {
			r.changed.Keys[key] = struct{}{}
			r.bytes += len(key) + noteBytes
		}
	}
	for _, rng := range t.ranges {
		same := func(o store.Range) bool { return bytes.Equal(o.Start, rng.Start) && bytes.Equal(o.End, rng.End) }
		if !slices.ContainsFunc(r.changed.Ranges, same) {
			r.changed.Ranges = append(r.changed.Ranges, rng)
			r.bytes += len(rng.Start) + len(rng.End) + noteBytes
		}
	}
	if r.bytes > r.MaxBytes {
		r.full, r.changed, r.bytes = true, archive.Changed{}, 0
	}
}

// snapshot begins to record, if it is not done already, and runs fn with a snapshot and everything that was changed between the last one and this:
// a store that was equal to the last one and gets these values is equal to this one. Writers wait until the snapshot is taken. Nothing begins once ctx
// has ended, after which end may have been called.
func (r *Recorder) snapshot(ctx context.Context, fn func(store.Reader, archive.Changed) error) error {
	r.gate.Lock()
	open := sync.OnceFunc(r.gate.Unlock)
	defer open()
	if err := ctx.Err(); err != nil {
		return err
	}
	r.recording = true
	r.mu.Lock()
	changed, full := r.changed, r.full
	r.changed, r.bytes = archive.Changed{}, 0
	r.mu.Unlock()
	if full {
		return errTooMuch
	}
	return r.View(ctx, func(rd store.Reader) error {
		open()
		return fn(rd, changed)
	})
}

// stop refuses writes from now on. When it returns none is under way. Nothing is stopped once ctx has ended, after which end may have been called.
func (r *Recorder) stop(ctx context.Context) {
	r.gate.Lock()
	defer r.gate.Unlock()
	r.stopped = r.stopped || ctx.Err() == nil
}

// end takes writes again and forgets what was recorded.
func (r *Recorder) end() {
	r.gate.Lock()
	defer r.gate.Unlock()
	r.recording, r.stopped = false, false
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changed, r.bytes, r.full = archive.Changed{}, 0, false
}

// recordingTx keeps what one run of a transaction changed.
type recordingTx struct {
	store.Tx
	keys   []string
	ranges []store.Range
}

func (t *recordingTx) Put(key, value []byte) error {
	t.keys = append(t.keys, string(key))
	return t.Tx.Put(key, value)
}

func (t *recordingTx) Delete(key []byte) error {
	t.keys = append(t.keys, string(key))
	return t.Tx.Delete(key)
}

// DeleteRange implements store.RangeDeleter, also for an engine that does not.
func (t *recordingTx) DeleteRange(rng store.Range) error {
	t.ranges = append(t.ranges, store.Range{Start: bytes.Clone(rng.Start), End: bytes.Clone(rng.End)})
	if d, ok := t.Tx.(store.RangeDeleter); ok {
		return d.DeleteRange(rng)
	}
	it := t.Scan(store.Range{Start: rng.Start, End: rng.End})
	defer it.Close()
	for it.Next() {
		if err := t.Tx.Delete(bytes.Clone(it.Key())); err != nil {
			return err
		}
	}
	return it.Err()
}

// AdvanceSequence implements store.SequenceAdvancer. Sequences are told with every snapshot.
func (t *recordingTx) AdvanceSequence(space store.Space, to tidegate.Seq) error {
	return store.AdvanceSequence(t.Tx, space, to)
}
