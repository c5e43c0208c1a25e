package pgstore

import (
	"bytes"
	"math"
	"slices"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// overlay is what a group of transactions has changed so far, on top of the database. A transaction that fails is cut off its
// end. It is used by the committer alone.
type overlay struct {
	ops    []op
	last   map[string]int // key → index of the last op on it
	ranges []int          // indexes of the ops that delete a range
	bytes  int

	seqs    map[store.Space]tidegate.Seq // sequences that are known in this group
	seqUndo []seqChange
}

// op is one change. A nil value deletes; end is that of a range deletion.
type op struct {
	key, value, end []byte
	prev            int // the op on the same key before this one; -1: none
}

type seqChange struct {
	space store.Space
	was   tidegate.Seq
	known bool
}

type mark struct{ ops, ranges, bytes, seqs int }

func newOverlay() *overlay {
	return &overlay{last: map[string]int{}, seqs: map[store.Space]tidegate.Seq{}}
}

func (o *overlay) mark() mark { return mark{len(o.ops), len(o.ranges), o.bytes, len(o.seqUndo)} }

// cut takes back everything that came after m.
func (o *overlay) cut(m mark) {
	for i := len(o.ops) - 1; i >= m.ops; i-- {
		p := &o.ops[i]
		switch {
		case p.end != nil:
		case p.prev >= 0:
			o.last[string(p.key)] = p.prev
		default:
			delete(o.last, string(p.key))
		}
	}
	for i := len(o.seqUndo) - 1; i >= m.seqs; i-- {
		if c := o.seqUndo[i]; c.known {
			o.seqs[c.space] = c.was
		} else {
			delete(o.seqs, c.space)
		}
	}
	o.ops, o.ranges, o.bytes, o.seqUndo = o.ops[:m.ops], o.ranges[:m.ranges], m.bytes, o.seqUndo[:m.seqs]
}

// set puts a value, or deletes the key if value is nil. It copies both.
func (o *overlay) set(key, value []byte) {
	p := op{key: bytes.Clone(key), prev: -1}
	if value != nil {
		p.value = append(make([]byte, 0, len(value)), value...)
	}
	if prev, ok := o.last[string(key)]; ok {
		p.prev = prev
	}
	o.last[string(p.key)] = len(o.ops)
	o.ops = append(o.ops, p)
	o.bytes += len(key) + len(value)
}

func (o *overlay) deleteRange(start, end []byte) {
	o.ranges = append(o.ranges, len(o.ops))
	o.ops = append(o.ops, op{key: bytes.Clone(start), end: bytes.Clone(end), prev: -1})
	o.bytes += len(start) + len(end)
}

// get says what the overlay knows of a key: found is false if nothing; a nil value means that it is deleted.
func (o *overlay) get(key []byte) (value []byte, found bool) {
	at, ok := o.last[string(key)]
	if !ok {
		at = -1
	}
	if o.rangeAfter(key, at) {
		return nil, true
	}
	if at < 0 {
		return nil, false
	}
	return o.ops[at].value, true
}

// rangeAfter reports whether a range deletion later than op number at covers key.
func (o *overlay) rangeAfter(key []byte, at int) bool {
	for j := len(o.ranges) - 1; j >= 0 && o.ranges[j] > at; j-- {
		p := &o.ops[o.ranges[j]]
		if bytes.Compare(p.key, key) <= 0 && bytes.Compare(key, p.end) < 0 {
			return true
		}
	}
	return false
}

// entry is a key that was changed, with its last value; nil: deleted.
type entry struct{ key, value []byte }

// between returns what was changed in [start, end), in order of keys.
func (o *overlay) between(start, end []byte) []entry {
	var out []entry
	for key, at := range o.last {
		k := o.ops[at].key
		if (start != nil && key < string(start)) || (end != nil && key >= string(end)) {
			continue
		}
		e := entry{key: k, value: o.ops[at].value}
		if o.rangeAfter(k, at) {
			e.value = nil
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b entry) int { return bytes.Compare(a.key, b.key) })
	return out
}

// setSeq notes the last sequence of a space.
func (o *overlay) setSeq(space store.Space, seq tidegate.Seq) {
	was, known := o.seqs[space]
	o.seqUndo = append(o.seqUndo, seqChange{space, was, known})
	o.seqs[space] = seq
}

// moved are the spaces whose sequences were set.
func (o *overlay) moved() map[store.Space]struct{} {
	moved := make(map[store.Space]struct{}, 1)
	for _, c := range o.seqUndo {
		moved[c.space] = struct{}{}
	}
	return moved
}

// spaces returns the spaces, from first to before end, whose sequence key lies in a range.
func spaces(start, end []byte) (first, after int64) {
	return firstSpace(start), firstSpace(end)
}

// firstSpace is the lowest space whose sequence key is not below key.
func firstSpace(key []byte) int64 {
	var space int64
	for i := range 4 {
		space <<= 8
		if i < len(key) {
			space |= int64(key[i])
		}
	}
	if space <= math.MaxUint32 && bytes.Compare(store.NewKey(store.Space(space), store.KindSequence), key) < 0 {
		space++
	}
	return space
}
