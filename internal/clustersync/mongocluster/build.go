package mongocluster

import (
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// doc builds a BSON document from raw members. Documents of users pass through here as the bytes they are.
type doc struct {
	start int32
	bytes []byte
}

func newDoc() *doc {
	start, bytes := bsoncore.AppendDocumentStart(nil)
	return &doc{start, bytes}
}

func (d *doc) append(name string, v bson.RawValue) *doc {
	d.bytes = bsoncore.AppendHeader(d.bytes, bsoncore.Type(v.Type), name)
	d.bytes = append(d.bytes, v.Value...)
	return d
}

func (d *doc) document(name string, v bson.Raw) *doc {
	d.bytes = bsoncore.AppendDocumentElement(d.bytes, name, bsoncore.Document(v))
	return d
}

func (d *doc) string(name, v string) *doc {
	d.bytes = bsoncore.AppendStringElement(d.bytes, name, v)
	return d
}

func (d *doc) boolean(name string, v bool) *doc {
	d.bytes = bsoncore.AppendBooleanElement(d.bytes, name, v)
	return d
}

func (d *doc) int(name string, v int32) *doc {
	d.bytes = bsoncore.AppendInt32Element(d.bytes, name, v)
	return d
}

// array adds an array of documents.
func (d *doc) array(name string, docs []bson.Raw) *doc {
	start, bytes := bsoncore.AppendArrayElementStart(d.bytes, name)
	for i, v := range docs {
		bytes = bsoncore.AppendDocumentElement(bytes, strconv.Itoa(i), bsoncore.Document(v))
	}
	d.bytes, _ = bsoncore.AppendArrayEnd(bytes, start)
	return d
}

func (d *doc) end() bson.Raw {
	d.bytes, _ = bsoncore.AppendDocumentEnd(d.bytes, d.start)
	return d.bytes
}

// marshal is for small documents made here, which cannot fail.
func marshal(v any) bson.Raw {
	raw, err := bson.Marshal(v)
	if err != nil {
		panic("mongocluster: marshal: " + err.Error())
	}
	return raw
}
