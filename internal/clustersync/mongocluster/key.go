package mongocluster

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// keyOf makes a key of a documentKey: {"_id": …, shard key fields …}.
func keyOf(documentKey bson.Raw) (clustersync.Key, error) {
	id, err := documentKey.LookupErr("_id")
	if err != nil {
		return clustersync.Key{}, fmt.Errorf("read key: a document without _id")
	}
	return clustersync.Key{ID: canonical(id), Raw: documentKey}, nil
}

// documentOf makes a document of its BSON.
func documentOf(body bson.Raw) (clustersync.Document, error) {
	id, err := body.LookupErr("_id")
	if err != nil {
		return clustersync.Document{}, fmt.Errorf("read document: there is no _id")
	}
	key := clustersync.Key{ID: canonical(id), Raw: newDoc().append("_id", id).end()}
	return clustersync.Document{Key: key, Format: clustersync.MongoDB, Body: body}, nil
}

// canonical writes a value down so that two that are one _id to the server are equal (spec §8.3): numbers of one value are equal whatever their
// type is, and so inside documents; strings equal symbols. Collations are not looked at: the engine gives a collection
// with one to a single worker.
func canonical(v bson.RawValue) string {
	var b strings.Builder
	writeCanonical(&b, v)
	return b.String()
}

func writeCanonical(b *strings.Builder, v bson.RawValue) {
	r := rank(v.Type)
	b.WriteByte(byte('A' + r))
	switch r {
	case rankNumber:
		b.WriteString(canonicalNumber(v))
	case rankString:
		b.WriteString(text(v))
	case rankDocument, rankArray:
		elements, _ := bson.Raw(v.Value).Elements()
		for _, e := range elements {
			writeSized(b, e.Key())
			writeSized(b, canonical(e.Value()))
		}
	case rankMin, rankNull, rankMax:
	default:
		b.Write(v.Value)
	}
}

// writeSized writes a text with its length before it, so that no two sequences of texts run together.
func writeSized(b *strings.Builder, s string) {
	var size [binary.MaxVarintLen64]byte
	b.Write(size[:binary.PutUvarint(size[:], uint64(len(s)))])
	b.WriteString(s)
}

func canonicalNumber(v bson.RawValue) string {
	if v.Type == bson.TypeInt32 || v.Type == bson.TypeInt64 {
		n, _ := v.AsInt64OK()
		return strconv.FormatInt(n, 10)
	}
	n := numberOf(v)
	if n.special != 0 {
		return "special" + strconv.Itoa(n.special)
	}
	return n.exact.RatString() // "5" if it is whole, like the integers above
}
