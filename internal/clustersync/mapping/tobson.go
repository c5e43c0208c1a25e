package mapping

import (
	"bytes"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

// maxInlineBytes is the longest tidegate document that is looked at, attachments in base64 and all: more than MongoDB holds.
const maxInlineBytes = 64 << 20

// literalField is the only member of a MongoDB object that stands for a JSON number which no type of BSON has: its digits.
const literalField = "~$numberLiteral"

func documentToBSON(doc []byte) (bson.Raw, error) {
	if len(doc) > maxInlineBytes {
		return nil, fmt.Errorf("a document of %d bytes as JSON: %w", len(doc), clustersync.ErrTooLarge)
	}
	if err := jsondoc.Check(doc, jsondoc.Limits{Bytes: maxInlineBytes, Depth: maxDepth}); err != nil {
		return nil, unmappable("", err.Error())
	}
	rawID, _ := jsondoc.Get(doc, "_id")
	id, ok := jsondoc.Unquote(rawID)
	if !ok {
		return nil, unmappable("_id", "there is none")
	}
	raw, err := withID(id, doc)
	if err != nil {
		return nil, fmt.Errorf("document %q: %w", id, err)
	}
	if len(raw) > maxBSONBytes {
		return nil, fmt.Errorf("document %q: %d bytes as BSON: %w", id, len(raw), clustersync.ErrTooLarge)
	}
	return raw, nil
}

// withID writes the document down with its _id first, as MongoDB keeps it.
func withID(id string, doc []byte) (bson.Raw, error) {
	r := bsonReader{}
	key, err := r.exactKey(id, doc)
	if err != nil {
		return nil, err
	}
	out := appendElement(beginDocument(make([]byte, 0, len(doc)+len(doc)/2)), "_id", key)
	for name, value := range jsondoc.Members(doc) {
		if out, err = r.top(out, name, value); err != nil {
			return nil, err
		}
	}
	return endDocument(out, 0), nil
}

// bsonReader reads checked JSON as BSON.
type bsonReader struct{ path string }

// exactKey is the _id of a document: what its document ID stands for, or what the document itself has, if that says more.
func (r *bsonReader) exactKey(id string, doc []byte) (bson.RawValue, error) {
	implied, err := keyValue(id)
	if err != nil {
		return implied, err
	}
	own, ok := jsondoc.Get(doc, exactID)
	if !ok {
		return implied, nil
	}
	v, err := r.value(own, 1)
	if err != nil {
		return v, err
	}
	if its, exact, err := idOf(v); err != nil || exact || its != id {
		return v, unmappable(exactID, "a reserved name")
	}
	return v, nil
}

// top appends a member at the top of a document.
func (r *bsonReader) top(out []byte, name string, value []byte) ([]byte, error) {
	switch name {
	case exactID, "_id", "_rev", "_revisions", "_deleted", "_exp":
		return out, nil
	case attachmentsField:
		return r.attachments(out, value)
	}
	if strings.HasPrefix(name, "_") {
		return out, unmappable(name, "a reserved name")
	}
	v, err := r.member(name, value, 1)
	if err != nil {
		return out, err
	}
	as := topToBSON(name)
	if as == attachmentsField && isAttachments(v) {
		return out, unmappable(name, "it would be taken for attachments")
	}
	return appendElement(out, as, v), nil
}

// member reads the value of a member.
func (r *bsonReader) member(name string, value []byte, depth int) (bson.RawValue, error) {
	outer := r.path
	r.path = join(outer, name)
	defer func() { r.path = outer }()
	if strings.IndexByte(name, 0) >= 0 {
		return bson.RawValue{}, unmappable(r.path, "NUL in the name of a member")
	}
	return r.value(value, depth)
}

// value reads a value that is in depth others.
func (r *bsonReader) value(raw []byte, depth int) (bson.RawValue, error) {
	switch raw[0] {
	case '"':
		s, _ := jsondoc.Unquote(raw)
		return text(s), nil
	case 't':
		return valueOf(bson.TypeBoolean, []byte{1}), nil
	case 'f':
		return valueOf(bson.TypeBoolean, []byte{0}), nil
	case 'n':
		return valueOf(bson.TypeNull, nil), nil
	case '[':
		return r.array(raw, depth)
	case '{':
		return r.object(raw, depth)
	}
	if v, ok := number(raw); ok {
		return v, nil
	}
	doc := appendElement(beginDocument(nil), literalField, text(string(raw)))
	return valueOf(bson.TypeEmbeddedDocument, endDocument(doc, 0)), nil
}

func (r *bsonReader) array(raw []byte, depth int) (bson.RawValue, error) {
	out := beginDocument(nil)
	i := 0
	for elem := range jsondoc.Elements(raw) {
		v, err := r.value(elem, depth+1)
		if err != nil {
			return v, err
		}
		out = appendElement(out, arrayKey(i), v)
		i++
	}
	return valueOf(bson.TypeArray, endDocument(out, 0)), nil
}

// object reads an object: the value that it stands for if it is written exactly as we would, or itself.
func (r *bsonReader) object(raw []byte, depth int) (bson.RawValue, error) {
	if mayWrap(raw) {
		if v, ok := r.wrapped(raw, depth); ok {
			return v, nil
		}
	}
	out := beginDocument(nil)
	n := 0
	for name, value := range jsondoc.Members(raw) {
		v, err := r.member(name, value, depth+1)
		if err != nil {
			return v, err
		}
		out = appendElement(out, swapDollar(name), v)
		n++
	}
	doc := bson.Raw(endDocument(out, 0))
	if n == 1 {
		if elements, err := doc.Elements(); err == nil {
			if _, taken := literalOf(elements[0]); taken {
				return bson.RawValue{}, unmappable(r.path, "a reserved name")
			}
		}
	}
	return valueOf(bson.TypeEmbeddedDocument, doc), nil
}

// literalOf gives the digits that the only member of an object stands for, if it does.
func literalOf(e bson.RawElement) (string, bool) {
	if e.Key() != literalField {
		return "", false
	}
	digits, ok := e.Value().StringValueOK()
	if !ok || digits == "" || strings.IndexByte("-0123456789", digits[0]) < 0 || strings.ContainsAny(digits, " \t\r\n") ||
		jsondoc.Check([]byte(digits), jsondoc.Limits{}) != nil {
		return "", false
	}
	_, typed := number([]byte(digits))
	return digits, !typed
}

// wrapped gives the value that an object stands for: that which would be written so, but for white space, escapes and order.
func (r *bsonReader) wrapped(raw []byte, depth int) (bson.RawValue, bool) {
	v, ok := r.unwrap(raw, depth)
	if !ok {
		return v, false
	}
	w := jsonWriter{}
	if w.value(v, depth) != nil || len(w.b) == 0 || w.b[0] != '{' {
		return v, false
	}
	return v, bytes.Equal(jsondoc.AppendCanonical(nil, raw, false), jsondoc.AppendCanonical(nil, w.b, false))
}
