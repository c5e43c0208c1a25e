package mapping

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"math"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/jsondoc"
)

// mayWrap reports whether an object has one or two members, one of them with a $: cheap, and true of all that stand for a value.
func mayWrap(raw []byte) bool {
	n, dollar := 0, false
	for name := range jsondoc.Members(raw) {
		if n++; n > 2 {
			return false
		}
		dollar = dollar || strings.HasPrefix(name, "$")
	}
	return dollar
}

// fields are the members of a small object that must have just these.
func fields(raw []byte, names ...string) ([][]byte, bool) {
	if len(raw) == 0 || raw[0] != '{' {
		return nil, false
	}
	out := make([][]byte, len(names))
	n := 0
	for name, value := range jsondoc.Members(raw) {
		n++
		for i, want := range names {
			if name == want {
				out[i] = value
			}
		}
	}
	if n != len(names) {
		return nil, false
	}
	for _, v := range out {
		if v == nil {
			return nil, false
		}
	}
	return out, true
}

// strs are members that must be strings.
func strs(raw []byte, names ...string) ([]string, bool) {
	values, ok := fields(raw, names...)
	if !ok {
		return nil, false
	}
	out := make([]string, len(values))
	for i, v := range values {
		if out[i], ok = jsondoc.Unquote(v); !ok {
			return nil, false
		}
	}
	return out, true
}

// unwrap reads an object as the value it would stand for, generously: what it gives is written again and compared.
func (r *bsonReader) unwrap(raw []byte, depth int) (bson.RawValue, bool) {
	if s, ok := strs(raw, "$code"); ok {
		return valueOf(bson.TypeJavaScript, appendText(nil, s[0])), true
	}
	if v, ok := fields(raw, "$code", "$scope"); ok {
		return r.codeWithScope(v[0], v[1], depth)
	}
	name := ""
	var value []byte
	for name, value = range jsondoc.Members(raw) {
		break
	}
	s, isText := jsondoc.Unquote(value)
	switch name {
	case "$oid":
		oid, err := bson.ObjectIDFromHex(s)
		return valueOf(bson.TypeObjectID, oid[:]), err == nil
	case "$symbol":
		return valueOf(bson.TypeSymbol, appendText(nil, s)), isText
	case "$stringBytes":
		b, err := base64.StdEncoding.DecodeString(s)
		return text(string(b)), err == nil
	case "$numberLong":
		n, err := strconv.ParseInt(s, 10, 64)
		return long(n), err == nil
	case "$numberDouble":
		return oddDouble(s)
	case "$numberDecimal":
		d, err := bson.ParseDecimal128(s)
		return decimal(d), err == nil
	case "$numberDecimalBits":
		b, err := hex.DecodeString(s)
		if err != nil || len(b) != 16 {
			return bson.RawValue{}, false
		}
		return decimal(bson.NewDecimal128(binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]))), true
	case "$date":
		ms, ok := strs(value, "$numberLong")
		if !ok {
			return bson.RawValue{}, false
		}
		n, err := strconv.ParseInt(ms[0], 10, 64)
		return valueOf(bson.TypeDateTime, appendUint64(nil, uint64(n))), err == nil
	case "$timestamp":
		return timestamp(value)
	case "$binary":
		return binaryData(value)
	case "$regularExpression":
		p, ok := strs(value, "pattern", "options")
		if !ok || strings.Contains(p[0]+p[1], "\x00") {
			return bson.RawValue{}, false
		}
		return valueOf(bson.TypeRegex, []byte(p[0]+"\x00"+p[1]+"\x00")), true
	case "$dbPointer":
		return dbPointer(value)
	case "$undefined":
		return valueOf(bson.TypeUndefined, nil), true
	case "$minKey":
		return valueOf(bson.TypeMinKey, nil), true
	case "$maxKey":
		return valueOf(bson.TypeMaxKey, nil), true
	}
	return bson.RawValue{}, false
}

// oddDouble reads the doubles that JSON has no numbers for.
func oddDouble(s string) (bson.RawValue, bool) {
	switch bits, isNaN := strings.CutPrefix(s, "NaN:"); {
	case isNaN:
		n, err := strconv.ParseUint(bits, 16, 64)
		return double(math.Float64frombits(n)), err == nil && math.IsNaN(math.Float64frombits(n))
	case s == "NaN":
		return double(math.Float64frombits(plainNaN)), true
	case s == "Infinity":
		return double(math.Inf(1)), true
	case s == "-Infinity":
		return double(math.Inf(-1)), true
	}
	return bson.RawValue{}, false
}

func timestamp(raw []byte) (bson.RawValue, bool) {
	v, ok := fields(raw, "t", "i")
	if !ok {
		return bson.RawValue{}, false
	}
	t, err := strconv.ParseUint(string(v[0]), 10, 32)
	i, err2 := strconv.ParseUint(string(v[1]), 10, 32)
	return valueOf(bson.TypeTimestamp, appendUint64(nil, t<<32|i)), err == nil && err2 == nil
}

func binaryData(raw []byte) (bson.RawValue, bool) {
	p, ok := strs(raw, "base64", "subType")
	if !ok {
		return bson.RawValue{}, false
	}
	data, err := base64.StdEncoding.DecodeString(p[0])
	subtype, err2 := hex.DecodeString(p[1])
	if err != nil || err2 != nil || len(subtype) != 1 {
		return bson.RawValue{}, false
	}
	return valueOf(bson.TypeBinary, appendBinary(nil, subtype[0], data)), true
}

func dbPointer(raw []byte) (bson.RawValue, bool) {
	v, ok := fields(raw, "$ref", "$id")
	if !ok {
		return bson.RawValue{}, false
	}
	ref, ok := jsondoc.Unquote(v[0])
	id, ok2 := strs(v[1], "$oid")
	if !ok || !ok2 {
		return bson.RawValue{}, false
	}
	oid, err := bson.ObjectIDFromHex(id[0])
	return valueOf(bson.TypeDBPointer, append(appendText(nil, ref), oid[:]...)), err == nil
}

func (r *bsonReader) codeWithScope(code, scope []byte, depth int) (bson.RawValue, bool) {
	text, ok := jsondoc.Unquote(code)
	if !ok || scope[0] != '{' {
		return bson.RawValue{}, false
	}
	v, err := r.object(scope, depth+1)
	if err != nil || v.Type != bson.TypeEmbeddedDocument {
		return bson.RawValue{}, false
	}
	out := append(appendText(beginDocument(nil), text), v.Value...)
	// Its length is written like a document's, but it does not end with a zero.
	out = endDocument(out, 0)
	out = out[:len(out)-1]
	binary.LittleEndian.PutUint32(out, uint32(len(out)))
	return valueOf(bson.TypeCodeWithScope, out), true
}
