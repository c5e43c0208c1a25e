package mapping

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

// Limits of what can be written down.
const (
	// maxDepth is how deep documents may be nested as JSON: what tidegate takes (hardening.md, Limits).
	maxDepth = 128
	// maxJSONBytes is the longest tidegate document, its attachments apart.
	maxJSONBytes = 20 << 20
	// maxBSONBytes is the longest MongoDB document.
	maxBSONBytes = 16 << 20
)

// unmappable is a value that has no counterpart. where names it, without its content.
func unmappable(where, why string) error {
	if where == "" {
		return fmt.Errorf("%s: %w", why, clustersync.ErrUnmappable)
	}
	return fmt.Errorf("field %q: %s: %w", where, why, clustersync.ErrUnmappable)
}

func documentToJSON(doc bson.Raw) (id string, body []byte, err error) {
	if !wellFormed(doc, 1) {
		return "", nil, unmappable("", "damaged BSON")
	}
	key, err := doc.LookupErr("_id")
	if err != nil {
		return "", nil, unmappable("_id", "there is none")
	}
	id, exact, err := idOf(key)
	if err != nil {
		return "", nil, err
	}
	w := jsonWriter{b: make([]byte, 0, len(doc)+len(doc)/4)}
	w.b = jsondoc.AppendString(append(w.b, `{"_id":`...), id)
	if !exact {
		w.b = append(w.b, `,"`+exactID+`":`...)
		if err := w.value(key, 1); err != nil {
			return "", nil, fmt.Errorf("_id: %w", err)
		}
	}
	attached, err := w.members(doc)
	if err != nil {
		return "", nil, fmt.Errorf("document %q: %w", id, err)
	}
	if len(w.b)-attached > maxJSONBytes {
		return "", nil, fmt.Errorf("document %q: %d bytes as JSON: %w", id, len(w.b), clustersync.ErrTooLarge)
	}
	return id, append(w.b, '}'), nil
}

// jsonWriter writes BSON values down as JSON.
type jsonWriter struct {
	b    []byte
	path string // of the value being written, for errors
}

// members writes the members of a whole document but its _id, and returns how many bytes of them are attachments.
func (w *jsonWriter) members(doc bson.Raw) (attached int, err error) {
	elements, err := doc.Elements()
	if err != nil {
		return 0, unmappable("", "damaged BSON")
	}
	seen := make(map[string]struct{}, len(elements))
	for _, e := range elements {
		name := e.Key()
		if _, twice := seen[name]; twice {
			return 0, unmappable(name, "twice in the document")
		}
		seen[name] = struct{}{}
		if name == "_id" {
			continue
		}
		if name == attachmentsField && isAttachments(e.Value()) {
			at := len(w.b)
			w.attachments(e.Value().Document())
			attached += len(w.b) - at
			continue
		}
		if err := w.member(topToJSON(name), name, e.Value(), 1); err != nil {
			return 0, err
		}
	}
	return attached, nil
}

// member writes one member of an object that has members already, or of one that was just begun.
func (w *jsonWriter) member(as, name string, v bson.RawValue, depth int) error {
	if !utf8.ValidString(name) {
		return unmappable(w.path, "the name of a member is not UTF-8")
	}
	if w.b[len(w.b)-1] != '{' {
		w.b = append(w.b, ',')
	}
	w.b = append(jsondoc.AppendString(w.b, as), ':')
	outer := w.path
	w.path = join(outer, name)
	err := w.value(v, depth)
	w.path = outer
	return err
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// value writes a value that is in depth others.
func (w *jsonWriter) value(v bson.RawValue, depth int) error {
	switch v.Type {
	case bson.TypeEmbeddedDocument:
		return w.object(v.Document(), depth)
	case bson.TypeArray:
		return w.array(v, depth)
	case bson.TypeString:
		w.text(v.StringValue())
	case bson.TypeBoolean:
		w.b = strconv.AppendBool(w.b, v.Boolean())
	case bson.TypeNull:
		w.b = append(w.b, "null"...)
	case bson.TypeInt32:
		w.b = strconv.AppendInt(w.b, int64(v.Int32()), 10)
	case bson.TypeInt64:
		w.long(v.Int64())
	case bson.TypeDouble:
		w.double(v.Double())
	case bson.TypeDecimal128:
		w.decimal(v.Decimal128())
	default:
		if depth+wrapperDepth > maxDepth {
			return unmappable(w.path, "nested too deep")
		}
		return w.wrapped(v, depth)
	}
	return nil
}

// wrapperDepth is how deep the objects that stand for values of a type that JSON lacks are at most.
const wrapperDepth = 2

// wrapped writes a value of a type that JSON lacks as canonical extended JSON.
func (w *jsonWriter) wrapped(v bson.RawValue, depth int) error {
	switch v.Type {
	case bson.TypeObjectID:
		w.b = fmt.Appendf(w.b, `{"$oid":"%s"}`, v.ObjectID().Hex())
	case bson.TypeDateTime:
		w.b = fmt.Appendf(w.b, `{"$date":{"$numberLong":"%d"}}`, v.DateTime())
	case bson.TypeTimestamp:
		t, i := v.Timestamp()
		w.b = fmt.Appendf(w.b, `{"$timestamp":{"t":%d,"i":%d}}`, t, i)
	case bson.TypeBinary:
		return w.binary(v.Value)
	case bson.TypeRegex:
		pattern, options := v.Regex()
		return w.texts(`{"$regularExpression":{"pattern":`, pattern, `,"options":`, options, `}}`)
	case bson.TypeDBPointer:
		ref, id := v.DBPointer()
		return w.texts(`{"$dbPointer":{"$ref":`, ref, `,"$id":{"$oid":`, id.Hex(), `}}}`)
	case bson.TypeJavaScript:
		return w.texts(`{"$code":`, v.JavaScript(), `}`, "", "")
	case bson.TypeSymbol:
		return w.texts(`{"$symbol":`, v.Symbol(), `}`, "", "")
	case bson.TypeCodeWithScope:
		code, scope := v.CodeWithScope()
		if err := w.texts(`{"$code":`, code, `,"$scope":`, "", ""); err != nil {
			return err
		}
		if err := w.object(scope, depth+1); err != nil {
			return err
		}
		w.b = append(w.b, '}')
	case bson.TypeUndefined:
		w.b = append(w.b, `{"$undefined":true}`...)
	case bson.TypeMinKey:
		w.b = append(w.b, `{"$minKey":1}`...)
	case bson.TypeMaxKey:
		w.b = append(w.b, `{"$maxKey":1}`...)
	default:
		return unmappable(w.path, fmt.Sprintf("a value of the unknown type %d", v.Type))
	}
	return nil
}

// object writes an embedded document.
func (w *jsonWriter) object(doc bson.Raw, depth int) error {
	if depth >= maxDepth {
		return unmappable(w.path, "nested too deep")
	}
	elements, err := doc.Elements()
	if err != nil {
		return unmappable(w.path, "damaged BSON")
	}
	if len(elements) == 1 {
		if literal, ok := literalOf(elements[0]); ok {
			w.b = append(w.b, literal...)
			return nil
		}
	}
	seen := make(map[string]struct{}, len(elements))
	start, swapped := len(w.b), false
	w.b = append(w.b, '{')
	for _, e := range elements {
		name := e.Key()
		swapped = swapped || strings.HasPrefix(name, escape+"$")
		if _, twice := seen[name]; twice {
			return unmappable(join(w.path, name), "twice in the object")
		}
		seen[name] = struct{}{}
		if err := w.member(swapDollar(name), name, e.Value(), depth+1); err != nil {
			return err
		}
	}
	w.b = append(w.b, '}')
	if swapped && mayWrap(w.b[start:]) {
		if _, taken := new(bsonReader).wrapped(w.b[start:], depth); taken {
			return unmappable(w.path, "it would be taken for a value of another type")
		}
	}
	return nil
}

// array writes an array; what its members are called in BSON does not count.
func (w *jsonWriter) array(v bson.RawValue, depth int) error {
	if depth >= maxDepth {
		return unmappable(w.path, "nested too deep")
	}
	values, err := v.Array().Values()
	if err != nil {
		return unmappable(w.path, "damaged BSON")
	}
	w.b = append(w.b, '[')
	for i, v := range values {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		if err := w.value(v, depth+1); err != nil {
			return err
		}
	}
	w.b = append(w.b, ']')
	return nil
}

// text writes a string; MongoDB may hold some that are not UTF-8.
func (w *jsonWriter) text(s string) {
	if utf8.ValidString(s) {
		w.b = jsondoc.AppendString(w.b, s)
		return
	}
	w.b = fmt.Appendf(w.b, `{"$stringBytes":"%s"}`, base64.StdEncoding.EncodeToString([]byte(s)))
}

// texts writes a, the string b, c, the string d, and the rest; c ends it if the rest is empty.
func (w *jsonWriter) texts(a, b, c, d, rest string) error {
	if !utf8.ValidString(b) || !utf8.ValidString(d) {
		return unmappable(w.path, "not UTF-8")
	}
	w.b = append(jsondoc.AppendString(append(w.b, a...), b), c...)
	if rest != "" {
		w.b = append(jsondoc.AppendString(w.b, d), rest...)
	}
	return nil
}

// long writes an int64; one that an int32 could hold says that it is none.
func (w *jsonWriter) long(n int64) {
	if n == int64(int32(n)) {
		w.b = fmt.Appendf(w.b, `{"$numberLong":"%d"}`, n)
		return
	}
	w.b = strconv.AppendInt(w.b, n, 10)
}

// plainNaN is the NaN that is written without its bits.
const plainNaN = 0x7ff8000000000000

// double writes a double, always with a point or an exponent.
func (w *jsonWriter) double(f float64) {
	switch bits := math.Float64bits(f); {
	case bits == plainNaN:
		w.b = append(w.b, `{"$numberDouble":"NaN"}`...)
	case math.IsNaN(f):
		w.b = fmt.Appendf(w.b, `{"$numberDouble":"NaN:%016x"}`, bits)
	case math.IsInf(f, 1):
		w.b = append(w.b, `{"$numberDouble":"Infinity"}`...)
	case math.IsInf(f, -1):
		w.b = append(w.b, `{"$numberDouble":"-Infinity"}`...)
	default:
		w.b = appendDouble(w.b, f)
	}
}

// decimal writes a decimal; one of whose encoding its digits do not tell all, with its bits.
func (w *jsonWriter) decimal(d bson.Decimal128) {
	if again, err := bson.ParseDecimal128(d.String()); err == nil && again == d {
		w.b = fmt.Appendf(w.b, `{"$numberDecimal":"%s"}`, d)
		return
	}
	high, low := d.GetBytes()
	w.b = fmt.Appendf(w.b, `{"$numberDecimalBits":"%016x%016x"}`, high, low)
}

// oldBinary is the subtype whose data has its length once more before it.
const oldBinary = 2

// binary writes binary data given as it is in BSON: length, subtype, data.
func (w *jsonWriter) binary(raw []byte) error {
	if len(raw) < 5 {
		return unmappable(w.path, "damaged BSON")
	}
	subtype, data := raw[4], raw[5:]
	if subtype == oldBinary {
		if len(data) < 4 || int(binary.LittleEndian.Uint32(data)) != len(data)-4 {
			return unmappable(w.path, "damaged binary data of subtype 2")
		}
		data = data[4:]
	}
	w.b = append(w.b, `{"$binary":{"base64":"`...)
	w.b = base64.StdEncoding.AppendEncode(w.b, data)
	w.b = append(w.b, `","subType":"`...)
	w.b = append(hex.AppendEncode(w.b, []byte{subtype}), `"}}`...)
	return nil
}
