package pebblestore

import (
	"bytes"
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tidegate/tidegate/internal/store"
)

var errSeekReverse = errors.New("SeekGE on a reverse range")

// iterator is a store.Iterator on Pebble.
type iterator struct {
	r       *reader
	p       *pebble.Iterator // nil once closed, or if the range is empty
	reverse bool
	placed  bool // on a key, or past the last one
	done    bool
	err     error
}

var _ store.Iterator = (*iterator)(nil)

// Next implements store.Iterator.
func (it *iterator) Next() bool {
	switch {
	case it.done:
		return false
	case it.placed && it.reverse:
		return it.at(it.p.Prev())
	case it.placed:
		return it.at(it.p.Next())
	case it.reverse:
		return it.at(it.p.Last())
	default:
		return it.at(it.p.First())
	}
}

// SeekGE implements store.Iterator.
func (it *iterator) SeekGE(key []byte) bool {
	switch {
	case it.done:
		return false
	case it.reverse:
		it.err, it.done = errSeekReverse, true
		return false
	case it.placed && bytes.Compare(it.p.Key(), key) >= 0:
		return true // it only moves forward
	default:
		return it.at(it.p.SeekGE(key))
	}
}

func (it *iterator) at(valid bool) bool {
	it.placed = true
	if valid {
		return true
	}
	it.done = true
	if err := it.p.Error(); err != nil {
		it.err = it.r.failed("walk range", err)
	}
	return false
}

// Key implements store.Iterator.
func (it *iterator) Key() []byte {
	if it.done || !it.placed {
		return nil
	}
	return it.p.Key()
}

// Value implements store.Iterator. A value that cannot be read ends the walk: Next returns false and Err
// says why.
func (it *iterator) Value() []byte {
	if it.done || !it.placed {
		return nil
	}
	v, err := it.p.ValueAndErr()
	if err != nil {
		it.err, it.done = it.r.failed("read value", err), true
		return nil
	}
	if v == nil {
		return []byte{}
	}
	return v
}

// Err implements store.Iterator.
func (it *iterator) Err() error { return it.err }

// Close implements store.Iterator. It is idempotent.
func (it *iterator) Close() error {
	if it.p == nil {
		return nil
	}
	err := it.p.Close()
	it.p, it.done = nil, true
	if i := slices.Index(it.r.iters, it); i >= 0 {
		it.r.iters = slices.Delete(it.r.iters, i, i+1)
	}
	if err != nil && it.err == nil {
		it.err = it.r.failed("close iterator", err)
		return it.err
	}
	return nil
}
