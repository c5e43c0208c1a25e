package jsondoc

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
)

// keyStack finds duplicate keys. It holds the keys of all objects that are open, innermost last. Few keys
// are compared one by one; more go into a hash table, so that an object of a million keys takes time in
// proportion. The hash is seeded, so that nobody can choose keys that collide.
//
// The first keys are in an array rather than all in one slice: so the stack of most documents takes no
// allocation.
type keyStack struct {
	raw       []byte // the input, where most keys are
	unescaped []byte // keys that have escapes, without them
	n         int
	first     [48]key
	more      []key
	table     []uint32 // of all open objects that have many keys, innermost last: 1 + index of a key; 0 is free
	seed      maphash.Seed
}

// key is raw[start:end]; or unescaped[start-inUnescaped:end] if start has that bit.
type key struct {
	tag        uint64 // equal for equal keys; the seeded hash in objects with many keys
	start, end uint32
}

const (
	inUnescaped = 1 << 31
	maxInput    = inUnescaped - 1
)

// keyFrame is one open object: where its keys and its table begin.
type keyFrame struct {
	keys, table, unescaped int
}

// fewKeys is up to how many keys of an object are compared one by one.
const fewKeys = 24

func (k *keyStack) open() keyFrame {
	return keyFrame{keys: k.n, table: len(k.table), unescaped: len(k.unescaped)}
}

func (k *keyStack) close(f keyFrame) {
	k.n = f.keys
	k.more = k.more[:max(0, k.n-len(k.first))]
	k.table = k.table[:f.table]
	k.unescaped = k.unescaped[:f.unescaped]
}

// at returns the i-th key of all.
func (k *keyStack) at(i int) *key {
	if i < len(k.first) {
		return &k.first[i]
	}
	return &k.more[i-len(k.first)]
}

func (k *keyStack) push(added key) {
	if k.n < len(k.first) {
		k.first[k.n] = added
	} else {
		k.more = append(k.more, added)
	}
	k.n++
}

// add adds the key raw[start:end] to the innermost object, and returns its text without escapes; false if
// the object has it already.
func (k *keyStack) add(f *keyFrame, start, end int, escaped bool) (text []byte, ok bool) {
	text = k.raw[start:end]
	added := key{start: uint32(start), end: uint32(end)}
	if escaped {
		start = len(k.unescaped)
		k.unescaped = appendUnescaped(k.unescaped, text)
		text = k.unescaped[start:]
		added.start, added.end = uint32(start)|inUnescaped, uint32(len(k.unescaped))
	}
	added.tag = quickTag(text)
	if k.n-f.keys >= fewKeys {
		return text, k.addHashed(f, added)
	}
	for i := f.keys; i < k.n; i++ {
		if own := k.at(i); own.tag == added.tag && (len(text) < 8 || bytes.Equal(k.text(own), text)) {
			return text, false
		}
	}
	k.push(added)
	return text, true
}

func (k *keyStack) text(of *key) []byte {
	if of.start&inUnescaped != 0 {
		return k.unescaped[of.start&^inUnescaped : of.end]
	}
	return k.raw[of.start:of.end]
}

// quickTag is cheap and differs for most keys that differ; for all that are shorter than eight bytes.
func quickTag(text []byte) uint64 {
	n := len(text)
	if n >= 8 {
		first, last := binary.LittleEndian.Uint64(text), binary.LittleEndian.Uint64(text[n-8:])
		return 1<<63 | (first*31+last)*31 + uint64(n)
	}
	tag := uint64(n)
	for _, c := range text {
		tag = tag<<8 | uint64(c)
	}
	return tag
}

// addHashed is add for an object that has many keys.
func (k *keyStack) addHashed(f *keyFrame, added key) bool {
	if len(k.table) == f.table { // the first time
		if k.seed == (maphash.Seed{}) {
			k.seed = maphash.MakeSeed()
		}
		for i := f.keys; i < k.n; i++ {
			k.at(i).tag = maphash.Bytes(k.seed, k.text(k.at(i)))
		}
	}
	if n := k.n - f.keys; 2*(n+1) > len(k.table)-f.table {
		k.grow(f, 4*n)
	}
	added.tag = maphash.Bytes(k.seed, k.text(&added))
	table := k.table[f.table:]
	slot := k.find(table, &added)
	if table[slot] != 0 {
		return false
	}
	k.push(added)
	table[slot] = uint32(k.n)
	return true
}

// grow makes the table of the innermost object at least size slots long (a power of two).
func (k *keyStack) grow(f *keyFrame, size int) {
	slots := 64
	for slots < size {
		slots *= 2
	}
	k.table = append(k.table[:f.table], make([]uint32, slots)...)
	table := k.table[f.table:]
	for i := f.keys; i < k.n; i++ {
		table[k.find(table, k.at(i))] = uint32(i + 1)
	}
}

// find returns the slot that holds the key, or else the free one where it belongs.
func (k *keyStack) find(table []uint32, wanted *key) int {
	for slot := int(wanted.tag) & (len(table) - 1); ; slot = (slot + 1) & (len(table) - 1) {
		at := table[slot]
		if at == 0 {
			return slot
		}
		if has := k.at(int(at - 1)); has.tag == wanted.tag && bytes.Equal(k.text(has), k.text(wanted)) {
			return slot
		}
	}
}
