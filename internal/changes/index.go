package changes

import (
	"encoding/binary"
	"slices"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// Membership is how a document stands to a channel that it is or was in. The zero value: it is in it.
// Otherwise Seq, Rev and Deleted are those of the write that took it out.
type Membership struct {
	Removed bool
	Seq     tidegate.Seq
	Rev     tidegate.RevID
	Deleted bool
}

// DocState is what the index knows of a document: its current revision and sequence, and the channels it
// is or was in.
type DocState struct {
	Seq      tidegate.Seq
	Rev      tidegate.RevID
	Deleted  bool
	Others   []Leaf
	Channels map[string]Membership
}

// WriteIndex moves a document's rows from old (nil: it was not there) to new (nil: it is purged), inside the
// transaction that stores the document. coll is the physical number of the generation (store.Routing).
//
// Rows of channels that the document is in move to new.Seq; removals that were there before stay at theirs;
// channels that are in old and not in new lose their row. Each write of a document has its own sequence; only an
// offline resync moves rows at the sequence that the document has (resync.md §3.6).
func WriteIndex(tx store.Tx, space store.Space, coll store.Collection, docID string, old, new *DocState) error {
	w := indexWriter{tx: tx, key: store.NewKey(space, store.KindChannel).Collection(coll)}
	w.prefix = len(w.key)
	if old != nil && (new == nil || new.Seq != old.Seq) {
		w.remove(tidegate.AllChannels, old.Seq)
	}
	if old != nil {
		for channel, m := range old.Channels {
			at := rowSeq(old, m)
			if channel == tidegate.AllChannels {
				continue
			}
			if new != nil {
				if m, ok := new.Channels[channel]; ok && rowSeq(new, m) == at {
					continue
				}
			}
			w.remove(channel, at)
		}
	}
	if new != nil {
		w.put(docID, old, new)
	}
	return w.err
}

// rowSeq is the sequence of the row of a channel to which the document stands as m says.
func rowSeq(s *DocState, m Membership) tidegate.Seq {
	if m.Removed {
		return m.Seq
	}
	return s.Seq
}

// indexWriter puts and deletes the rows of one collection. It keeps the first error.
type indexWriter struct {
	tx     store.Tx
	key    store.Key // the collection's prefix, and room for the rest
	prefix int
	err    error
}

func (w *indexWriter) at(channel string, seq tidegate.Seq) store.Key {
	w.key = w.key[:w.prefix].Name(channel).Seq(seq)
	return w.key
}

func (w *indexWriter) remove(channel string, seq tidegate.Seq) {
	if w.err == nil {
		w.err = w.tx.Delete(w.at(channel, seq))
	}
}

func (w *indexWriter) set(channel string, seq tidegate.Seq, value []byte) {
	if w.err == nil {
		w.err = w.tx.Put(w.at(channel, seq), value)
	}
}

// put writes the rows of new that are not in the index yet.
func (w *indexWriter) put(docID string, old, new *DocState) {
	e := new.entry(docID)
	buf := make([]byte, 0, 160)
	buf = e.AppendBinary(buf)
	for channel, m := range new.Channels {
		switch {
		case channel == tidegate.AllChannels: // has its row anyway
		case !m.Removed:
			w.set(channel, new.Seq, buf)
		case old == nil || !old.hasRemoval(channel, m.Seq):
			w.set(channel, m.Seq, new.removal(docID, m).AppendBinary(nil))
		}
	}
	new.route(&e)
	w.set(tidegate.AllChannels, new.Seq, e.AppendBinary(buf[:0]))
}

func (s *DocState) hasRemoval(channel string, seq tidegate.Seq) bool {
	m, ok := s.Channels[channel]
	return ok && m.Removed && m.Seq == seq
}

// entry returns the row of the channels that the document is in.
func (s *DocState) entry(docID string) Entry {
	e := Entry{Seq: s.Seq, DocID: docID, Rev: s.Rev, Others: s.Others}
	members := 0
	for _, m := range s.Channels {
		if !m.Removed {
			members++
		}
	}
	e.Sole = members == 1
	if s.Deleted {
		e.Flags |= Deleted
	} else if slices.ContainsFunc(s.Others, func(l Leaf) bool { return !l.Deleted }) {
		e.Flags |= Conflicted
	}
	return e
}

// removal returns the row of a channel that the document was in. That of a deletion lists the other leaves too, if it is written now: a
// reader whose own branch was closed on a deleted document learns of it by no other row.
func (s *DocState) removal(docID string, m Membership) *Entry {
	e := &Entry{Seq: m.Seq, DocID: docID, Rev: m.Rev, Flags: Removed}
	if m.Deleted {
		e.Flags |= Deleted
		if m.Seq == s.Seq {
			e.Others = s.Others
		}
	}
	return e
}

// route adds to e what rows of the channel "*" say besides.
func (s *DocState) route(e *Entry) {
	e.Routed, e.Sole = true, false
	var left map[tidegate.Seq]*Departure
	for channel, m := range s.Channels {
		switch {
		case !m.Removed:
			e.Channels = append(e.Channels, channel)
		case m.Seq == s.Seq:
			e.RemovedFrom = append(e.RemovedFrom, channel)
		case m.Seq < s.Seq && s.Seq-m.Seq <= LeftWindow:
			d := left[m.Seq]
			if d == nil {
				if left == nil {
					left = make(map[tidegate.Seq]*Departure)
				}
				d = &Departure{Seq: m.Seq, Rev: m.Rev, Deleted: m.Deleted}
				left[m.Seq] = d
			}
			d.Channels = append(d.Channels, channel)
		}
	}
	slices.Sort(e.Channels)
	slices.Sort(e.RemovedFrom)
	for _, d := range left {
		slices.Sort(d.Channels)
		e.Left = append(e.Left, *d)
	}
	slices.SortFunc(e.Left, func(a, b Departure) int { return compareSeq(b.Seq, a.Seq) })
}

func compareSeq(a, b tidegate.Seq) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// rowKey is the key of a row.
func rowKey(space store.Space, coll store.Collection, channel string, seq tidegate.Seq) store.Key {
	return store.NewKey(space, store.KindChannel).Collection(coll).Name(channel).Seq(seq)
}

// rowRange is the range of a channel's rows with from ≤ sequence ≤ to.
func rowRange(space store.Space, coll store.Collection, channel string, from, to tidegate.Seq) store.Range {
	start := rowKey(space, coll, channel, from)
	end := start[:len(start)-8].Clone().Seq(min(to, maxSeq-1) + 1)
	return store.Range{Start: start, End: end}
}

// maxSeq is above every sequence.
const maxSeq = ^tidegate.Seq(0)

// keySeq reads the sequence at the end of a row's key.
func keySeq(key []byte) (tidegate.Seq, error) {
	if len(key) < 8 {
		return 0, errCorruptEntry
	}
	return tidegate.Seq(binary.BigEndian.Uint64(key[len(key)-8:])), nil
}

// WriteEvent notes that a principal ("user:bob", "role:r") changed at seq, so that followers of the store
// look at it again.
func WriteEvent(tx store.Tx, space store.Space, seq tidegate.Seq, principal string) error {
	return tx.Put(store.NewKey(space, store.KindEvent).Seq(seq).Name(principal), []byte{})
}
