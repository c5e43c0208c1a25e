package mapping

import (
	"bytes"
	"encoding/binary"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// wellFormed reports whether b is a BSON document, down to its last value. The driver's own check panics on some that are none.
func wellFormed(b []byte, depth int) bool {
	if len(b) < 5 || int64(binary.LittleEndian.Uint32(b)) != int64(len(b)) || b[len(b)-1] != 0 || depth > 2*maxDepth {
		return false
	}
	b = b[4 : len(b)-1]
	for len(b) > 0 {
		name := bytes.IndexByte(b[1:], 0)
		if name < 0 {
			return false
		}
		value := b[1+name+1:]
		n := valueLen(bson.Type(b[0]), value, depth)
		if n < 0 {
			return false
		}
		b = value[n:]
	}
	return true
}

// valueLen is how long the value at the beginning of b is; -1 if it is none.
func valueLen(t bson.Type, b []byte, depth int) int {
	n := -1
	switch t {
	case bson.TypeNull, bson.TypeUndefined, bson.TypeMinKey, bson.TypeMaxKey:
		n = 0
	case bson.TypeBoolean:
		n = 1
	case bson.TypeInt32:
		n = 4
	case bson.TypeDouble, bson.TypeInt64, bson.TypeDateTime, bson.TypeTimestamp:
		n = 8
	case bson.TypeObjectID:
		n = 12
	case bson.TypeDecimal128:
		n = 16
	case bson.TypeString, bson.TypeJavaScript, bson.TypeSymbol:
		return textLen(b)
	case bson.TypeDBPointer:
		if n = textLen(b); n >= 0 {
			n += 12
		}
	case bson.TypeRegex:
		return twoTexts(b)
	case bson.TypeBinary:
		n = prefixed(b, 5)
	case bson.TypeEmbeddedDocument, bson.TypeArray:
		if n = prefixed(b, 0); n < 0 || !wellFormed(b[:n], depth+1) {
			return -1
		}
	case bson.TypeCodeWithScope:
		return codeLen(b, depth)
	}
	if n > len(b) {
		return -1
	}
	return n
}

// prefixed is the length that b begins with, and more bytes; -1 if b is shorter.
func prefixed(b []byte, more int) int {
	if len(b) < 4 {
		return -1
	}
	n := int64(binary.LittleEndian.Uint32(b)) + int64(more)
	if n < int64(more) || n > int64(len(b)) {
		return -1
	}
	return int(n)
}

// textLen is the length of a string with its own.
func textLen(b []byte) int {
	n := prefixed(b, 4)
	if n < 5 || b[n-1] != 0 {
		return -1
	}
	return n
}

// twoTexts is the length of two strings that end with a zero each.
func twoTexts(b []byte) int {
	first := bytes.IndexByte(b, 0)
	if first < 0 {
		return -1
	}
	second := bytes.IndexByte(b[first+1:], 0)
	if second < 0 {
		return -1
	}
	return first + 1 + second + 1
}

// codeLen is the length of code with its scope.
func codeLen(b []byte, depth int) int {
	n := prefixed(b, 0)
	if n < 4 {
		return -1
	}
	code := textLen(b[4:n])
	if code < 0 || !wellFormed(b[4+code:n], depth+1) {
		return -1
	}
	return n
}
