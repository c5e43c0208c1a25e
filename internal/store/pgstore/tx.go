package pgstore

import (
	"bytes"
	"errors"
	"math"
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

// tx is the transaction that the committer is running: the group's changes on top of what the database has.
type tx struct {
	reader
	o      *overlay
	start  mark
	max    int
	active bool
}

var (
	_ store.Tx               = (*tx)(nil)
	_ store.RangeDeleter     = (*tx)(nil)
	_ store.SequenceAdvancer = (*tx)(nil)
)

// Get implements store.Reader: the group's changes, then what was fetched, then the database.
func (t *tx) Get(key []byte) ([]byte, error) {
	if !t.active {
		return nil, errTxDone
	}
	if v, found := t.o.get(key); found {
		return v, nil
	}
	v, err := t.reader.Get(key)
	if err == nil {
		t.fetched[string(key)] = v // nothing else commits: it stays so
	}
	return v, err
}

// LastSequence implements store.Reader.
func (t *tx) LastSequence(space store.Space) (tidegate.Seq, error) {
	if !t.active {
		return 0, errTxDone
	}
	if last, known := t.o.seqs[space]; known {
		return last, nil
	}
	last, err := t.reader.LastSequence(space)
	if err == nil {
		t.o.seqs[space] = last // known from here on, whatever becomes of this transaction
	}
	return last, err
}

// NextSequence implements store.Tx.
func (t *tx) NextSequence(space store.Space) (tidegate.Seq, error) {
	last, err := t.LastSequence(space)
	if err != nil {
		return 0, err
	}
	t.o.setSeq(space, last+1)
	return last + 1, nil
}

// AdvanceSequence implements store.SequenceAdvancer.
func (t *tx) AdvanceSequence(space store.Space, to tidegate.Seq) error {
	last, err := t.LastSequence(space)
	if err == nil && last < to {
		t.o.setSeq(space, to)
	}
	return err
}

// Put implements store.Tx.
func (t *tx) Put(key, value []byte) error {
	if err := t.check(key, len(value)); err != nil {
		return err
	}
	if value == nil {
		value = []byte{}
	}
	t.o.set(key, value)
	return nil
}

// Delete implements store.Tx.
func (t *tx) Delete(key []byte) error {
	if err := t.check(key, 0); err != nil {
		return err
	}
	t.o.set(key, nil)
	return nil
}

// DeleteRange implements store.RangeDeleter.
func (t *tx) DeleteRange(r store.Range) error {
	switch {
	case !t.active:
		return errTxDone
	case len(r.Start) == 0 || len(r.End) == 0:
		return errOpenRange
	case bytes.Compare(r.Start, r.End) >= 0:
		return nil
	}
	t.o.deleteRange(r.Start, r.End)
	first, after := spaces(r.Start, r.End)
	if after-first > maxSpacesInRange { // only what is known need be set: the statement removes the rows
		for space := range t.o.seqs {
			if int64(space) >= first && int64(space) < after {
				t.o.setSeq(space, 0)
			}
		}
		return nil
	}
	for space := first; space < after; space++ {
		t.o.setSeq(store.Space(space), 0)
	}
	return nil
}

// maxSpacesInRange is up to how many spaces of a deleted range are noted one by one.
const maxSpacesInRange = 64

func (t *tx) check(key []byte, valueLen int) error {
	switch {
	case !t.active:
		return errTxDone
	case len(key) == 0:
		return errEmptyKey
	case len(key) == store.Header && key[store.Header-1] == byte(store.KindSequence):
		return errEngineKey
	case t.o.bytes-t.start.bytes+len(key)+valueLen > t.max:
		return errTxTooLong
	}
	return nil
}

// Scan implements store.Reader.
func (t *tx) Scan(r store.Range) store.Iterator {
	if !t.active {
		return &iterator{err: errTxDone, done: true}
	}
	below := t.scan(r)
	if len(t.o.ops) == 0 {
		return below
	}
	above := t.o.between(r.Start, r.End)
	if r.Reverse {
		slices.Reverse(above)
	}
	return &mergeIterator{o: t.o, below: below, above: above, reverse: r.Reverse, ops: len(t.o.ops)}
}

// begin and end frame one run of a function. end takes everything back if the function failed.
func (t *tx) begin() { t.start, t.active = t.o.mark(), true }

func (t *tx) end(ok bool) {
	t.active = false
	if !ok {
		t.o.cut(t.start)
	}
}

// mergeIterator walks the database and the overlay as one. The overlay's part is fixed when the scan begins: what the
// transaction writes later is not shown.
type mergeIterator struct {
	o       *overlay
	below   *iterator
	above   []entry // in the order of the walk
	reverse bool
	ops     int // of the overlay when the scan began

	started bool
	belowOK bool // below stands on a key that is not hidden and not yet shown
	now     entry
	from    source
}

// source is where the key under the iterator comes from.
type source uint8

const (
	nowhere source = iota
	fromBelow
	fromAbove
)

var _ store.Iterator = (*mergeIterator)(nil)

// Next implements store.Iterator.
func (m *mergeIterator) Next() bool {
	switch {
	case !m.started:
		m.started = true
		m.advance(m.below.Next())
	case m.from == nowhere:
		return false
	case m.from == fromBelow:
		m.advance(m.below.Next())
	}
	return m.settle()
}

// SeekGE implements store.Iterator.
func (m *mergeIterator) SeekGE(key []byte) bool {
	if m.reverse {
		m.from = nowhere
		return m.below.SeekGE(key) // notes the error
	}
	if m.started && (m.from == nowhere || bytes.Compare(m.now.key, key) >= 0) {
		return m.from != nowhere
	}
	m.started = true
	for len(m.above) > 0 && bytes.Compare(m.above[0].key, key) < 0 {
		m.above = m.above[1:]
	}
	m.advance(m.below.SeekGE(key))
	return m.settle()
}

// advance skips keys of the database that a range deletion hides.
func (m *mergeIterator) advance(ok bool) {
	for ok && m.hidden(m.below.Key()) {
		ok = m.below.Next()
	}
	m.belowOK = ok
}

func (m *mergeIterator) hidden(key []byte) bool {
	for _, at := range m.o.ranges {
		if p := &m.o.ops[at]; at < m.ops && bytes.Compare(p.key, key) <= 0 && bytes.Compare(key, p.end) < 0 {
			return true
		}
	}
	return false
}

// settle stands on the next key of the two, the overlay's where they have the same.
func (m *mergeIterator) settle() bool {
	for {
		m.from = nowhere
		if m.below.Err() != nil || !m.belowOK && len(m.above) == 0 {
			return false
		}
		order := math.MaxInt // the database is next
		if len(m.above) > 0 {
			order = math.MinInt
			if m.belowOK {
				if order = bytes.Compare(m.above[0].key, m.below.Key()); m.reverse {
					order = -order
				}
			}
		}
		if order > 0 {
			m.now, m.from = entry{m.below.Key(), m.below.Value()}, fromBelow
			return true
		}
		e := m.above[0]
		m.above = m.above[1:]
		if order == 0 {
			m.advance(m.below.Next())
		}
		if e.value != nil {
			m.now, m.from = e, fromAbove
			return true
		}
	}
}

// Key implements store.Iterator.
func (m *mergeIterator) Key() []byte {
	if m.from == nowhere {
		return nil
	}
	return m.now.key
}

// Value implements store.Iterator.
func (m *mergeIterator) Value() []byte {
	if m.from == nowhere {
		return nil
	}
	return m.now.value
}

// Err implements store.Iterator.
func (m *mergeIterator) Err() error { return m.below.Err() }

// Close implements store.Iterator.
func (m *mergeIterator) Close() error {
	m.from, m.started, m.above = nowhere, true, nil
	return m.below.Close()
}
