package pebblestore

import (
	"bytes"

	"github.com/tidegate/tidegate/internal/store"
)

// mergeIterator walks Pebble and the overlay as one. The overlay's part is fixed when the scan begins:
// what the transaction writes later is not shown.
type mergeIterator struct {
	o       *overlay
	below   *iterator
	above   []entry // in the order of the walk
	reverse bool

	started   bool
	belowOK   bool // below stands on a key that is not hidden and not yet shown
	key, val  []byte
	fromBelow bool
	valid     bool
}

var _ store.Iterator = (*mergeIterator)(nil)

// Next implements store.Iterator.
func (m *mergeIterator) Next() bool {
	if !m.started {
		m.started = true
		m.advanceBelow(m.below.Next())
	} else if !m.valid {
		return false
	} else if m.fromBelow {
		m.advanceBelow(m.below.Next())
	}
	return m.settle()
}

// SeekGE implements store.Iterator.
func (m *mergeIterator) SeekGE(key []byte) bool {
	if m.reverse {
		m.valid = m.below.SeekGE(key) // records the error
		return false
	}
	if m.started && (!m.valid || bytes.Compare(m.key, key) >= 0) {
		return m.valid
	}
	m.started = true
	for len(m.above) > 0 && bytes.Compare(m.above[0].key, key) < 0 {
		m.above = m.above[1:]
	}
	m.advanceBelow(m.below.SeekGE(key))
	return m.settle()
}

// advanceBelow skips keys that a range deletion of the group hides.
func (m *mergeIterator) advanceBelow(ok bool) {
	for ok && m.o.hidden(m.below.Key()) {
		ok = m.below.Next()
	}
	m.belowOK = ok
}

// settle stands on the next key of the two, the overlay's before Pebble's where they have the same.
func (m *mergeIterator) settle() bool {
	for {
		m.valid = false
		if m.below.Err() != nil || (!m.belowOK && len(m.above) == 0) {
			return false
		}
		c := -1 // the overlay is next
		if len(m.above) == 0 {
			c = 1
		} else if m.belowOK {
			if c = bytes.Compare(m.above[0].key, m.below.Key()); m.reverse {
				c = -c
			}
		}
		if c > 0 {
			m.key, m.fromBelow, m.valid = m.below.Key(), true, true
			return true
		}
		e := m.above[0]
		m.above = m.above[1:]
		if c == 0 && m.belowOK && bytes.Equal(e.key, m.below.Key()) {
			m.advanceBelow(m.below.Next())
		}
		if e.value != nil {
			m.key, m.val, m.fromBelow, m.valid = e.key, e.value, false, true
			return true
		}
	}
}

// Key implements store.Iterator.
func (m *mergeIterator) Key() []byte {
	if !m.valid {
		return nil
	}
	return m.key
}

// Value implements store.Iterator.
func (m *mergeIterator) Value() []byte {
	switch {
	case !m.valid:
		return nil
	case m.fromBelow:
		v := m.below.Value()
		m.valid = m.below.Err() == nil
		return v
	default:
		return m.val
	}
}

// Err implements store.Iterator.
func (m *mergeIterator) Err() error { return m.below.Err() }

// Close implements store.Iterator.
func (m *mergeIterator) Close() error {
	m.valid, m.started = false, true
	m.above = nil
	return m.below.Close()
}
