package changes

import (
	"bytes"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// row is a row of the index that is not taken apart yet. A value of "" is the place of the user's
// pseudo-entry.
type row struct {
	seq   tidegate.Seq
	value string
}

// flags are those of the entry.
func (r row) flags() Flags {
	if len(r.value) < 2 {
		return 0
	}
	return Flags(r.value[1]) & flagsMask
}

// sole reports whether the document is in no other channel.
func (r row) sole() bool { return len(r.value) >= 2 && r.value[1]&soleChannel != 0 }

// head takes the row apart as far as every entry has it.
func (r row) head() (Entry, error) {
	er := entryReader{rest: r.value}
	e := er.head(r.seq)
	if er.failed {
		return Entry{}, errCorruptEntry
	}
	return e, nil
}

// withLeaves is head and the other leaves.
func (r row) withLeaves() (Entry, error) {
	er := entryReader{rest: r.value}
	e := er.head(r.seq)
	if er.parts&partOthers != 0 {
		e.Others = er.leaves()
	}
	if er.failed {
		return Entry{}, errCorruptEntry
	}
	return e, nil
}

// source is the rows of one channel within a range of sequences, in order, read a few at a time.
type source struct {
	channel  string
	lost     bool         // the viewer has the channel no more: removals only
	from, to tidegate.Seq // what is still to be read, both included
	reverse  bool
	chunk    int // rows of the next fill
	rows     []row
	at       int
}

// Rows of the first and of the largest fill of a source.
const (
	firstChunk = 4
	maxChunk   = 256
)

// head is the next row.
func (s *source) head() row { return s.rows[s.at] }

// rowReader reads rows of one collection.
type rowReader interface {
	// fill replaces s.rows by the next rows of s, at most s.chunk, and moves the range on. No rows: the
	// range is at its end.
	fill(s *source) error
	// star returns the row of channel "*" at seq, if there is one.
	star(seq tidegate.Seq) (Entry, bool, error)
	// close ends the use of the store.
	close() error
}

// indexRows reads rows from the store.
type indexRows struct {
	r     store.Reader
	space store.Space
	coll  store.Collection // physical
	buf   []byte           // values of a fill, one after the other
	ends  []int
	read  int // rows, in all fills

	// Looking up rows of "*" goes forward nearly always, so one iterator serves many look-ups.
	stars   store.Iterator
	starAt  tidegate.Seq
	starKey []byte
}

func (x *indexRows) fill(s *source) error {
	rng := rowRange(x.space, x.coll, s.channel, s.from, s.to)
	rng.Reverse = s.reverse
	s.rows, s.at = s.rows[:0], 0
	x.buf, x.ends = x.buf[:0], x.ends[:0]
	it := x.r.Scan(rng)
	defer it.Close()
	for len(s.rows) < s.chunk && it.Next() {
		seq, err := keySeq(it.Key())
		if err != nil {
			return err
		}
		x.buf = append(x.buf, it.Value()...)
		x.ends = append(x.ends, len(x.buf))
		s.rows = append(s.rows, row{seq: seq})
	}
	if err := it.Err(); err != nil {
		return err
	}
	values, start := string(x.buf), 0
	for i, end := range x.ends {
		s.rows[i].value = values[start:end]
		start = end
	}
	x.read += len(s.rows)
	s.move(len(s.rows) == s.chunk)
	return nil
}

// move takes what was read off the range. more: there may be rows behind it.
func (s *source) move(more bool) {
	switch {
	case !more:
		s.from, s.to = 1, 0
	case s.reverse:
		s.to = s.rows[len(s.rows)-1].seq - 1
	default:
		s.from = s.rows[len(s.rows)-1].seq + 1
	}
	s.chunk = min(2*s.chunk, maxChunk)
}

func (x *indexRows) star(seq tidegate.Seq) (Entry, bool, error) {
	if x.stars == nil || seq < x.starAt {
		if err := x.close(); err != nil {
			return Entry{}, false, err
		}
		x.stars = x.r.Scan(rowRange(x.space, x.coll, tidegate.AllChannels, seq, maxSeq))
	}
	x.starAt = seq
	x.starKey = append(x.starKey[:0], rowKey(x.space, x.coll, tidegate.AllChannels, seq)...)
	if !x.stars.SeekGE(x.starKey) || !bytes.Equal(x.stars.Key(), x.starKey) {
		return Entry{}, false, x.stars.Err()
	}
	e, err := ParseEntry(seq, string(x.stars.Value()))
	return e, err == nil, err
}

// close ends what star opened.
func (x *indexRows) close() error {
	if x.stars == nil {
		return nil
	}
	err := x.stars.Close()
	x.stars = nil
	return err
}
