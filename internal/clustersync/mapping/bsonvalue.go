package mapping

import (
	"encoding/binary"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// This file builds BSON: a document is begun, elements are appended, and its end writes its length.

func valueOf(t bson.Type, value []byte) bson.RawValue { return bson.RawValue{Type: t, Value: value} }

func text(s string) bson.RawValue { return valueOf(bson.TypeString, appendText(nil, s)) }

func appendText(b []byte, s string) []byte {
	return append(append(appendInt32(b, int32(len(s)+1)), s...), 0)
}

func appendInt32(b []byte, n int32) []byte   { return binary.LittleEndian.AppendUint32(b, uint32(n)) }
func appendUint64(b []byte, n uint64) []byte { return binary.LittleEndian.AppendUint64(b, n) }

// appendBinary appends binary data of a subtype.
func appendBinary(b []byte, subtype byte, data []byte) []byte {
	if subtype == oldBinary {
		b = append(appendInt32(b, int32(len(data)+4)), subtype)
		return append(appendInt32(b, int32(len(data))), data...)
	}
	return append(append(appendInt32(b, int32(len(data))), subtype), data...)
}

func beginDocument(b []byte) []byte { return append(b, 0, 0, 0, 0) }

// appendElement appends a member. The key has no NUL.
func appendElement(b []byte, key string, v bson.RawValue) []byte {
	b = append(append(append(b, byte(v.Type)), key...), 0)
	return append(b, v.Value...)
}

// endDocument ends the document that began at start.
func endDocument(b []byte, start int) []byte {
	b = append(b, 0)
	binary.LittleEndian.PutUint32(b[start:], uint32(len(b)-start))
	return b
}

func arrayKey(i int) string { return strconv.Itoa(i) }
