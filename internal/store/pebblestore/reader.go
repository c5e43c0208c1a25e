package pebblestore

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// reader is a store.Reader on a Pebble snapshot. It copies values into a buffer of its own that lives until
// the transaction ends: that costs less than keeping Pebble's blocks pinned, which a long walk over
// documents would do by the thousand.
type reader struct {
	from  pebble.Reader
	buf   []byte
	spent []byte      // the chunk before buf, kept only to be poisoned
	iters []*iterator // the open ones
	sick  func(error) // told about errors that Pebble gives
}

// Chunks of a reader's buffer, in bytes. Values larger than a chunk get memory of their own.
const (
	minChunk = 4 << 10
	maxChunk = 64 << 10
)

// Get implements store.Reader.
func (r *reader) Get(key []byte) ([]byte, error) {
	v, closer, err := r.from.Get(key)
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, r.failed("read key", err)
	}
	out := r.keep(v)
	if err := closer.Close(); err != nil {
		return nil, r.failed("read key", err)
	}
	return out, nil
}

// keep copies v; the copy is never nil and holds until end.
func (r *reader) keep(v []byte) []byte {
	if len(v) > maxChunk {
		return append(make([]byte, 0, len(v)), v...)
	}
	if cap(r.buf)-len(r.buf) < len(v) || r.buf == nil {
		size := max(minChunk, len(v), min(2*cap(r.buf), maxChunk))
		r.spent, r.buf = r.buf, make([]byte, 0, size)
	}
	at := len(r.buf)
	r.buf = append(r.buf, v...)
	return r.buf[at:len(r.buf):len(r.buf)]
}

// LastSequence implements store.Reader.
func (r *reader) LastSequence(space store.Space) (tidegate.Seq, error) {
	v, err := r.Get(sequenceKey(space))
	if err != nil || v == nil {
		return 0, err
	}
	return decodeSequence(v)
}

// Scan implements store.Reader.
func (r *reader) Scan(rng store.Range) store.Iterator { return r.scan(rng) }

func (r *reader) scan(rng store.Range) *iterator {
	it := &iterator{r: r, reverse: rng.Reverse}
	if rng.Start != nil && rng.End != nil && string(rng.Start) >= string(rng.End) {
		it.done = true
		return it
	}
	p, err := r.from.NewIter(&pebble.IterOptions{LowerBound: rng.Start, UpperBound: rng.End})
	if err != nil {
		it.err, it.done = r.failed("open iterator", err), true
		return it
	}
	it.p = p
	r.iters = append(r.iters, it)
	return it
}

// end closes what the transaction left open and makes the reader fit for the next one.
func (r *reader) end(poison bool) {
	for len(r.iters) > 0 {
		_ = r.iters[len(r.iters)-1].Close()
	}
	if poison {
		overwrite(r.buf)
		overwrite(r.spent)
		r.buf = nil
	}
	r.spent, r.from = nil, nil
	r.buf = r.buf[:0]
}

// failed turns an error of Pebble into one of ours.
func (r *reader) failed(what string, err error) error {
	if pebble.IsCorruptionError(err) {
		err = &tidegate.Error{Code: tidegate.Corrupt, Reason: "the store is damaged", Err: fmt.Errorf("%s: %w", what, err)}
	} else {
		err = fmt.Errorf("%s: %w", what, err)
	}
	if r.sick != nil {
		r.sick(err)
	}
	return err
}

func overwrite(b []byte) {
	b = b[:cap(b)]
	for i := range b {
		b[i] = 0xdd
	}
}

// sequenceKey is where the last sequence of a space is stored.
func sequenceKey(space store.Space) []byte { return store.NewKey(space, store.KindSequence) }

func decodeSequence(v []byte) (tidegate.Seq, error) {
	if len(v) != 8 {
		return 0, tidegate.Errorf(tidegate.Corrupt, "a stored sequence does not make sense")
	}
	return tidegate.Seq(binary.BigEndian.Uint64(v)), nil
}
