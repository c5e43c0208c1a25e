package pebblestore

import (
	"bytes"
	"errors"
	"slices"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

var (
	errTxDone    = errors.New("the transaction has ended")
	errEmptyKey  = tidegate.Errorf(tidegate.Invalid, "a stored key is not empty")
	errEngineKey = tidegate.Errorf(tidegate.Invalid, "the key belongs to the engine")
	errTxTooLong = tidegate.Errorf(tidegate.TooLarge, "the transaction is too large")
	errOpenRange = tidegate.Errorf(tidegate.Invalid, "a range to delete has a start and an end")
)

// tx is the transaction that the committer is running. There is one, used again for each Update.
type tx struct {
	reader // Pebble's head: all groups before this one, synced or not
	o      *overlay
	start  mark // where the transaction began in the overlay
	seqs   *sequences
	max    int // bytes of keys and values
	active bool
}

var (
	_ store.Tx           = (*tx)(nil)
	_ store.RangeDeleter = (*tx)(nil)

	_ store.SequenceAdvancer = (*tx)(nil)
)

// Get implements store.Reader: the overlay, then Pebble.
func (t *tx) Get(key []byte) ([]byte, error) {
	if !t.active {
		return nil, errTxDone
	}
	if v, found := t.o.get(key); found {
		return v, nil
	}
	return t.reader.Get(key)
}

// Scan implements store.Reader.
func (t *tx) Scan(r store.Range) store.Iterator {
	if !t.active {
		return &iterator{err: errTxDone, done: true}
	}
	below := t.scan(r)
	if t.o.empty() {
		return below
	}
	above := t.o.slice(r.Start, r.End)
	if r.Reverse {
		slices.Reverse(above)
	}
	return &mergeIterator{o: t.o, below: below, above: above, reverse: r.Reverse}
}

// LastSequence implements store.Reader.
func (t *tx) LastSequence(space store.Space) (tidegate.Seq, error) {
	if !t.active {
		return 0, errTxDone
	}
	return t.seqs.last(space, t)
}

// Put implements store.Tx.
func (t *tx) Put(key, value []byte) error {
	if err := t.check(key, len(value)); err != nil {
		return err
	}
	t.o.set(key, value)
	return nil
}

// Delete implements store.Tx.
func (t *tx) Delete(key []byte) error {
	if err := t.check(key, 0); err != nil {
		return err
	}
	t.o.del(key)
	return nil
}

// DeleteRange implements store.RangeDeleter. A range that holds the sequence of a space sets it back to 0.
func (t *tx) DeleteRange(r store.Range) error {
	switch {
	case !t.active:
		return errTxDone
	case len(r.Start) == 0 || len(r.End) == 0:
		return errOpenRange
	case bytes.Compare(r.Start, r.End) >= 0:
		return nil
	}
	t.o.delRange(r.Start, r.End)
	t.seqs.forget(r)
	return nil
}

// NextSequence implements store.Tx.
func (t *tx) NextSequence(space store.Space) (tidegate.Seq, error) {
	if !t.active {
		return 0, errTxDone
	}
	return t.seqs.next(space, t)
}

// AdvanceSequence implements store.SequenceAdvancer.
func (t *tx) AdvanceSequence(space store.Space, to tidegate.Seq) error {
	if !t.active {
		return errTxDone
	}
	return t.seqs.advance(space, to, t)
}

func (t *tx) check(key []byte, valueLen int) error {
	switch {
	case !t.active:
		return errTxDone
	case len(key) == 0:
		return errEmptyKey
	case len(key) == store.Header && key[store.Header-1] == byte(store.KindSequence):
		return errEngineKey
	case len(t.o.data)-t.start.data+len(key)+valueLen > t.max:
		return errTxTooLong
	}
	return nil
}

// begin and end frame one run of a function. end takes everything back if the function failed.
func (t *tx) begin() {
	t.start = t.o.mark()
	t.seqs.begin()
	t.active = true
}

func (t *tx) end(ok, poison bool) {
	t.active = false
	from := t.from
	t.reader.end(poison)
	t.from = from
	if ok {
		t.seqs.accept()
	} else {
		t.o.cut(t.start)
		t.seqs.takeBack()
	}
}
