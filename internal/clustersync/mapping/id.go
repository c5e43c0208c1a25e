package mapping

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

// escape begins a document ID that stands for an _id which is neither a string that can be one nor an ObjectId; its JSON follows.
const escape = "~"

// exactID is the member of a tidegate document that holds the _id when the document ID stands for several that MongoDB takes for equal.
const exactID = "~_id"

func documentID(key bson.Raw) (id string, exact bool, err error) {
	if !wellFormed(key, 1) {
		return "", false, unmappable("_id", "damaged BSON")
	}
	v, err := key.LookupErr("_id")
	if err != nil {
		return "", false, unmappable("_id", "there is none")
	}
	return idOf(v)
}

// idOf is the document ID of an _id, and whether that is all there is to know of it.
func idOf(v bson.RawValue) (id string, exact bool, err error) {
	switch v.Type {
	case bson.TypeString:
		if s := v.StringValue(); tidegate.ValidDocID(s) == nil && !standsFor(s) {
			return s, true, nil
		}
	case bson.TypeObjectID:
		return v.ObjectID().Hex(), true, nil
	case bson.TypeArray, bson.TypeRegex, bson.TypeUndefined:
		return "", false, unmappable("_id", "a value that MongoDB does not take there, either")
	}
	plain, err := plainValue(v, 1)
	if err != nil {
		return "", false, err
	}
	w := jsonWriter{b: []byte(escape), path: "_id"}
	if err := w.value(plain, 1); err != nil {
		return "", false, err
	}
	if err := tidegate.ValidDocID(string(w.b)); err != nil {
		return "", false, unmappable("_id", fmt.Sprintf("longer than the %d bytes of a document ID", tidegate.MaxDocIDLen))
	}
	return string(w.b), bytes.Equal(plain.Value, v.Value) && plain.Type == v.Type, nil
}

// plainValue gives the value that all values have in common which MongoDB takes for equal to this one.
func plainValue(v bson.RawValue, depth int) (bson.RawValue, error) {
	if depth > maxDepth {
		return v, unmappable("_id", "nested too deep")
	}
	var raw bson.Raw
	switch v.Type {
	case bson.TypeEmbeddedDocument:
		raw = v.Document()
	case bson.TypeArray:
		raw = bson.Raw(v.Array())
	default:
		return plainNumber(v), nil
	}
	elements, err := raw.Elements()
	if err != nil {
		return v, unmappable("_id", "damaged BSON")
	}
	doc := beginDocument(nil)
	for _, e := range elements {
		plain, err := plainValue(e.Value(), depth+1)
		if err != nil {
			return v, err
		}
		doc = appendElement(doc, e.Key(), plain)
	}
	return valueOf(v.Type, endDocument(doc, 0)), nil
}

// standsFor reports whether a document ID stands for an _id other than the string that it is.
func standsFor(id string) bool {
	_, ok := typedID(id)
	return ok
}

// typedID gives the _id that a document ID stands for, if it is not the string that it is: that whose ID it would be.
func typedID(id string) (bson.RawValue, bool) {
	if isObjectID(id) {
		oid, err := bson.ObjectIDFromHex(id)
		return valueOf(bson.TypeObjectID, oid[:]), err == nil
	}
	text, ok := strings.CutPrefix(id, escape)
	if !ok || jsondoc.Check([]byte(text), jsondoc.Limits{}) != nil {
		return bson.RawValue{}, false
	}
	r := bsonReader{path: "_id"}
	v, err := r.value([]byte(text), 1)
	if err != nil {
		return bson.RawValue{}, false
	}
	again, _, err := idOf(v)
	return v, err == nil && again == id
}

// isObjectID reports whether s is 24 hexadecimal digits in lower case.
func isObjectID(s string) bool {
	if len(s) != 24 || s != strings.ToLower(s) {
		return false
	}
	_, err := hex.DecodeString(s)
	return err == nil
}

// keyValue is the _id that a document ID stands for.
func keyValue(id string) (bson.RawValue, error) {
	if err := tidegate.ValidDocID(id); err != nil {
		return bson.RawValue{}, unmappable("_id", "no document ID")
	}
	if v, ok := typedID(id); ok {
		return v, nil
	}
	return text(id), nil
}

func keyOf(id string) (bson.Raw, error) {
	v, err := keyValue(id)
	if err != nil {
		return nil, err
	}
	return keyWith(v), nil
}

func keyWith(v bson.RawValue) bson.Raw {
	return endDocument(appendElement(beginDocument(nil), "_id", v), 0)
}

func translate(k clustersync.Key, from, to clustersync.Kind) (clustersync.Key, error) {
	if from == to {
		return k, nil
	}
	if to == clustersync.Tidegate {
		id, _, err := documentID(k.Raw)
		if err != nil {
			return clustersync.Key{}, err
		}
		return clustersync.Key{ID: id, Raw: keyWith(text(id))}, nil
	}
	if !wellFormed(k.Raw, 1) {
		return clustersync.Key{}, unmappable("_id", "damaged BSON")
	}
	id, ok := k.Raw.Lookup("_id").StringValueOK()
	if !ok {
		return clustersync.Key{}, unmappable("_id", "no document ID")
	}
	raw, err := keyOf(id)
	return clustersync.Key{ID: k.ID, Raw: raw}, err
}

func keyText(key bson.Raw) (string, error) {
	if !wellFormed(key, 1) {
		return "", unmappable("_id", "damaged BSON")
	}
	v, err := key.LookupErr("_id")
	if err != nil {
		return "", unmappable("_id", "there is none")
	}
	plain, err := plainValue(v, 1)
	if err != nil {
		return "", err
	}
	w := jsonWriter{path: "_id"}
	err = w.value(plain, 1)
	return string(w.b), err
}
