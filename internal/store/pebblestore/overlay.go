package pebblestore

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
)

// overlay is the write set of the group under construction. It is, byte for byte, the Pebble batch that
// will be applied, together with an index that finds the last thing done to a key. Nothing is allocated for
// a write once the buffers have grown, and a transaction that fails is cut off the end.
//
// It is used by the committer alone.
type overlay struct {
	data   []byte           // the batch: header, then the operations
	ops    []op             // the operations in order
	last   map[uint64]int32 // hash of a key → index of the last op on a key with that hash
	ranges []int32          // indexes of the ops that delete a range
	seed   maphash.Seed
	bytes  uint64 // keys and values, for the statistics
}

// op is one operation of the batch; key and value are places in data. For a range deletion they are its
// start and its end.
type op struct {
	hash             uint64
	keyStart, keyEnd uint32
	valStart, valEnd uint32
	prevWithHash     int32 // the previous op whose key has the same hash; -1 if none
	kind             pebble.InternalKeyKind
}

// mark is a state of an overlay to which it can be cut back.
type mark struct {
	data, ops, ranges int
	bytes             uint64
}

func newOverlay() *overlay {
	o := &overlay{
		data: make([]byte, batchrepr.HeaderLen, 64<<10),
		last: make(map[uint64]int32),
		seed: maphash.MakeSeed(),
	}
	return o
}

// reset empties the overlay. If keepData is false the batch's bytes now belong to somebody else.
func (o *overlay) reset(keepData bool) {
	if !keepData || cap(o.data) > 4*maxGroupBytes {
		o.data = make([]byte, batchrepr.HeaderLen, 64<<10)
	}
	o.data = o.data[:batchrepr.HeaderLen]
	clear(o.data)
	if cap(o.ops) > 16*maxGroupUpdates {
		o.ops, o.last = nil, make(map[uint64]int32)
	}
	o.ops = o.ops[:0]
	clear(o.last)
	o.ranges = o.ranges[:0]
	o.bytes = 0
}

func (o *overlay) empty() bool { return len(o.ops) == 0 }

func (o *overlay) mark() mark {
	return mark{data: len(o.data), ops: len(o.ops), ranges: len(o.ranges), bytes: o.bytes}
}

// cut takes back everything that came after m.
func (o *overlay) cut(m mark) {
	for i := len(o.ops) - 1; i >= m.ops; i-- {
		p := &o.ops[i]
		switch {
		case p.kind == pebble.InternalKeyKindRangeDelete:
		case p.prevWithHash >= 0:
			o.last[p.hash] = p.prevWithHash
		default:
			delete(o.last, p.hash)
		}
	}
	o.data, o.ops, o.ranges, o.bytes = o.data[:m.data], o.ops[:m.ops], o.ranges[:m.ranges], m.bytes
}

// set, del and delRange append an operation. They copy what they are given.
func (o *overlay) set(key, value []byte) {
	o.point(o.add(pebble.InternalKeyKindSet, key, value, true), key)
}

func (o *overlay) del(key []byte) {
	o.point(o.add(pebble.InternalKeyKindDelete, key, nil, false), key)
}

func (o *overlay) delRange(start, end []byte) {
	o.ranges = append(o.ranges, o.add(pebble.InternalKeyKindRangeDelete, start, end, true))
}

func (o *overlay) add(kind pebble.InternalKeyKind, key, value []byte, hasValue bool) int32 {
	p := op{kind: kind, prevWithHash: -1}
	o.data = append(o.data, byte(kind))
	o.data = binary.AppendUvarint(o.data, uint64(len(key)))
	p.keyStart = uint32(len(o.data))
	o.data = append(o.data, key...)
	p.keyEnd = uint32(len(o.data))
	if hasValue {
		o.data = binary.AppendUvarint(o.data, uint64(len(value)))
		p.valStart = uint32(len(o.data))
		o.data = append(o.data, value...)
		p.valEnd = uint32(len(o.data))
	}
	o.bytes += uint64(len(key) + len(value))
	o.ops = append(o.ops, p)
	return int32(len(o.ops) - 1)
}

func (o *overlay) point(i int32, key []byte) {
	p := &o.ops[i]
	p.hash = maphash.Bytes(o.seed, key)
	if prev, ok := o.last[p.hash]; ok {
		p.prevWithHash = prev
	}
	o.last[p.hash] = i
}

func (o *overlay) key(p *op) []byte { return o.data[p.keyStart:p.keyEnd:p.keyEnd] }

// value is never nil, not even for an empty value.
func (o *overlay) value(p *op) []byte { return o.data[p.valStart:p.valEnd:p.valEnd] }

// get says what the overlay knows of key: found is false if nothing; a nil value means that it is deleted.
func (o *overlay) get(key []byte) (value []byte, found bool) {
	at := int32(-1)
	if len(o.last) > 0 {
		if i, ok := o.last[maphash.Bytes(o.seed, key)]; ok {
			for ; i >= 0; i = o.ops[i].prevWithHash {
				if bytes.Equal(o.key(&o.ops[i]), key) {
					at = i
					break
				}
			}
		}
	}
	if o.rangeDeletedAfter(key, at) {
		return nil, true
	}
	if at < 0 {
		return nil, false
	}
	if p := &o.ops[at]; p.kind == pebble.InternalKeyKindSet {
		return o.value(p), true
	}
	return nil, true
}

// rangeDeletedAfter reports whether a range deletion later than op number at covers key.
func (o *overlay) rangeDeletedAfter(key []byte, at int32) bool {
	for j := len(o.ranges) - 1; j >= 0 && o.ranges[j] > at; j-- {
		p := &o.ops[o.ranges[j]]
		if bytes.Compare(o.key(p), key) <= 0 && bytes.Compare(key, o.value(p)) < 0 {
			return true
		}
	}
	return false
}

// entry is a key of the overlay as a scan sees it; a nil value hides the key below.
type entry struct{ key, value []byte }

// slice returns the last state of every key that was written in [start, end), in order of keys. Its cost
// is that of looking at the whole group, which is why Scan in a transaction is for rare work.
func (o *overlay) slice(start, end []byte) []entry {
	var found []int32
	for i := range o.ops {
		p := &o.ops[i]
		if p.kind == pebble.InternalKeyKindRangeDelete {
			continue
		}
		k := o.key(p)
		if (start == nil || bytes.Compare(k, start) >= 0) && (end == nil || bytes.Compare(k, end) < 0) {
			found = append(found, int32(i))
		}
	}
	slices.SortFunc(found, func(a, b int32) int {
		if c := bytes.Compare(o.key(&o.ops[a]), o.key(&o.ops[b])); c != 0 {
			return c
		}
		return int(b - a) // the last one first
	})
	var out []entry
	for _, i := range found {
		p := &o.ops[i]
		k := o.key(p)
		if n := len(out); n > 0 && bytes.Equal(out[n-1].key, k) {
			continue
		}
		e := entry{key: k}
		if p.kind == pebble.InternalKeyKindSet && !o.rangeDeletedAfter(k, i) {
			e.value = o.value(p)
		}
		out = append(out, e)
	}
	return out
}

// hidden reports whether a range deletion of the group covers key, so that what Pebble has under it is
// gone.
func (o *overlay) hidden(key []byte) bool { return len(o.ranges) > 0 && o.rangeDeletedAfter(key, -1) }

// repr finishes the batch and returns its bytes.
func (o *overlay) repr() []byte {
	batchrepr.SetCount(o.data, uint32(len(o.ops)))
	return o.data
}
