package pebblestore

import (
	"bytes"
	"encoding/binary"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// sequences are the last sequences of the spaces, as the committer knows them. They are read from Pebble
// when a space is first used and written with each group that moved them.
type sequences struct {
	known  map[store.Space]tidegate.Seq
	undo   []spaceSeq    // what the running transaction changed, oldest first
	loaded []store.Space // what it read from the store, where it may have seen its own deletions
	forgot bool          // it deleted a range in which sequences lie

	// Of the group under construction.
	dirty       map[store.Space]struct{}
	groupForgot bool
}

type spaceSeq struct {
	space store.Space
	seq   tidegate.Seq
}

func newSequences() *sequences {
	return &sequences{known: make(map[store.Space]tidegate.Seq), dirty: make(map[store.Space]struct{})}
}

func (s *sequences) last(space store.Space, t *tx) (tidegate.Seq, error) {
	if n, ok := s.known[space]; ok {
		return n, nil
	}
	v, err := t.Get(sequenceKey(space))
	if err != nil {
		return 0, err
	}
	var n tidegate.Seq
	if v != nil {
		if n, err = decodeSequence(v); err != nil {
			return 0, err
		}
	}
	s.known[space] = n
	s.loaded = append(s.loaded, space)
	return n, nil
}

func (s *sequences) next(space store.Space, t *tx) (tidegate.Seq, error) {
	n, err := s.last(space, t)
	if err != nil {
		return 0, err
	}
	s.change(space, n, n+1)
	return n + 1, nil
}

func (s *sequences) advance(space store.Space, to tidegate.Seq, t *tx) error {
	n, err := s.last(space, t)
	if err == nil && n < to {
		s.change(space, n, to)
	}
	return err
}

func (s *sequences) change(space store.Space, from, to tidegate.Seq) {
	s.undo = append(s.undo, spaceSeq{space, from})
	s.known[space] = to
}

// forget sets the known sequences that lie in the range to 0. The others are read again when needed.
func (s *sequences) forget(r store.Range) {
	s.forgot = true
	for space, n := range s.known {
		if k := sequenceKey(space); n > 0 && bytes.Compare(r.Start, k) <= 0 && bytes.Compare(k, r.End) < 0 {
			s.change(space, n, 0)
		}
	}
}

// begin, then accept or takeBack, frame a transaction.
func (s *sequences) begin() {
	s.undo, s.loaded, s.forgot = s.undo[:0], s.loaded[:0], false
}

func (s *sequences) accept() {
	for _, u := range s.undo {
		s.dirty[u.space] = struct{}{}
	}
	s.groupForgot = s.groupForgot || s.forgot
}

func (s *sequences) takeBack() {
	for i := len(s.undo) - 1; i >= 0; i-- {
		s.known[s.undo[i].space] = s.undo[i].seq
	}
	for _, space := range s.loaded {
		delete(s.known, space)
	}
}

// seal writes the sequences that the group moved into the overlay and returns them appended to moved, and
// whether other sequences may have gone with a deleted range.
func (s *sequences) seal(o *overlay, moved []spaceSeq) (_ []spaceSeq, forgot bool) {
	for space := range s.dirty {
		n := s.known[space]
		var v [8]byte
		binary.BigEndian.PutUint64(v[:], uint64(n))
		o.set(sequenceKey(space), v[:])
		moved = append(moved, spaceSeq{space, n})
	}
	forgot = s.groupForgot
	clear(s.dirty)
	s.groupForgot = false
	return moved, forgot
}
