package store

import (
	"encoding/binary"

	"github.com/tidegate/tidegate"
)

// The key layout. Every key is
//
//	space (4 bytes, big endian) ‖ kind (1 byte) ‖ collection (4 bytes, for kinds that have one) ‖ rest
//
// Names inside a key are escaped (0x00 → 0x00 0xff) and end with 0x00 0x01, so that a name is never a
// prefix of another's key and order is by bytes. Sequences are 8 bytes, big endian.
//
//	kind           rest                               value
//	KindDoc        doc id                             document record (database)
//	KindBody       doc id, rev id                     body of one revision, JSON without underscore members
//	KindChannel    channel, seq                       index entry (changes); channel "*" holds every document
//	KindLocal      local doc id                       local document (database)
//	KindPrincipal  name ("user:x" / "role:x")         principal (access)
//	KindGrant      principal name, collection, doc id grants that the document makes to it (access)
//	KindInvalid    principal name                     lowest sequence since which it must be rebuilt (access)
//	KindSession    session id hash                    session (access)
//	KindBlobRef    blob key, collection, doc id       the document refers to the blob (database)
//	KindBlob       blob key                           body of a small attachment (database)
//	KindBlobChunk  see blob.InStore                   attachments kept in the store, in chunks (blob)
//	KindExpiry     time (8 bytes, unix ms), what      what expires then (database)
//	KindMeta       name                               single records: database settings, feed floor …
//	KindSequence   –                                  the last sequence of the space (engine)
//	KindEvent      seq, name                          who or what changed at seq besides documents: a principal, a session
//	                                                  (access), a purged document (changes)
//	KindNextMark   run, principal name                as KindInvalid, by what a run of resync builds (access)
//	KindGuard      doc id                             revisions of a purged document (database)
//	KindClient     checkpoint id                      client record of device sync (database)
//	KindRetired    salted hash of a checkpoint id     where a client was last, whose record is gone (database)
//	KindQuarantine time (8 bytes, unix ms), number    a body that was taken and not made current (database)
//
// The collection of KindDoc, KindChannel and KindGrant is a physical number (see Routing).
//
// KindGrant, KindBlobRef and KindExpiry carry the collection behind the name, because they are scanned by
// name first.
type Kind byte

// The kinds. Values are part of the stored format: never reuse one.
const (
	KindSequence  Kind = 0x01
	KindMeta      Kind = 0x02
	KindDoc       Kind = 0x10
	KindBody      Kind = 0x11
	KindChannel   Kind = 0x12
	KindLocal     Kind = 0x13
	KindGuard     Kind = 0x14
	KindPrincipal Kind = 0x20
	KindGrant     Kind = 0x21
	KindInvalid   Kind = 0x22
	KindSession   Kind = 0x23
	KindEvent     Kind = 0x24
	KindNextMark  Kind = 0x25
	KindBlob      Kind = 0x30
	KindBlobRef   Kind = 0x31
	KindBlobChunk Kind = 0x32
	KindExpiry    Kind = 0x40

	KindClient     Kind = 0x50
	KindRetired    Kind = 0x51
	KindQuarantine Kind = 0x52
)

// Collection numbers a collection inside its space. 0 is the default one (_default._default); the others
// are given out when a collection is first configured.
type Collection uint32

// Key is a key being built. Its methods append and return the longer key, so keys read as they are laid
// out: NewKey(space, KindBody).Collection(c).Name(id).Name(rev). As with append, two keys that are built on
// the same shorter one may share its memory: Clone that first, or use one before building the next.
type Key []byte

// NewKey begins a key of the kind.
func NewKey(space Space, kind Kind) Key {
	k := make(Key, 0, 64)
	k = binary.BigEndian.AppendUint32(k, uint32(space))
	return append(k, byte(kind))
}

// SpaceKey is the prefix of all keys of the space.
func SpaceKey(space Space) Key {
	return binary.BigEndian.AppendUint32(make(Key, 0, 8), uint32(space))
}

// Collection appends a collection number.
func (k Key) Collection(c Collection) Key { return binary.BigEndian.AppendUint32(k, uint32(c)) }

// Name appends an escaped, terminated name.
func (k Key) Name(s string) Key {
	for i := range len(s) {
		if s[i] == 0 {
			k = append(k, 0, 0xff)
		} else {
			k = append(k, s[i])
		}
	}
	return append(k, 0, 1)
}

// Seq appends a sequence.
func (k Key) Seq(s tidegate.Seq) Key { return binary.BigEndian.AppendUint64(k, uint64(s)) }

// Uint64 appends a number in order.
func (k Key) Uint64(n uint64) Key { return binary.BigEndian.AppendUint64(k, n) }

// Clone returns a copy that shares nothing with k.
func (k Key) Clone() Key { return append(Key(nil), k...) }

// CutName reads the escaped name at the beginning of rest and returns what follows it.
func CutName(rest []byte) (name string, after []byte, err error) {
	var out []byte
	for i := 0; i+1 < len(rest); i++ {
		if rest[i] != 0 {
			continue
		}
		switch rest[i+1] {
		case 1:
			if out == nil {
				return string(rest[:i]), rest[i+2:], nil
			}
			return string(append(out, rest[:i]...)), rest[i+2:], nil
		case 0xff:
			out = append(out, rest[:i+1]...)
			rest = rest[i+2:]
			i = -1
		default:
			return "", nil, errKey
		}
	}
	return "", nil, errKey
}

// CutSeq reads a sequence at the beginning of rest.
func CutSeq(rest []byte) (tidegate.Seq, []byte, error) {
	if len(rest) < 8 {
		return 0, nil, errKey
	}
	return tidegate.Seq(binary.BigEndian.Uint64(rest)), rest[8:], nil
}

// CutCollection reads a collection number at the beginning of rest.
func CutCollection(rest []byte) (Collection, []byte, error) {
	if len(rest) < 4 {
		return 0, nil, errKey
	}
	return Collection(binary.BigEndian.Uint32(rest)), rest[4:], nil
}

var errKey = tidegate.Errorf(tidegate.Corrupt, "a stored key does not make sense")

// Header is the length of space and kind in a key, in bytes.
const Header = 5
