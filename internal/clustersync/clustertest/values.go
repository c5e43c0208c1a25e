package clustertest

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/tidegate/tidegate/internal/clustersync"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// document makes the Document of a body, which has an _id.
func (s *server) document(body bson.Raw) clustersync.Document {
	return clustersync.Document{Key: keyOf(body.Lookup("_id")), Format: s.opts.Kind, Body: body}
}

// keyOf makes the key of an _id. Numbers that are equal are one key; inside of objects they are not looked at.
func keyOf(id bson.RawValue) clustersync.Key {
	return clustersync.Key{ID: canonical(id), Raw: marshal(bson.D{{Key: "_id", Value: id}})}
}

func canonical(v bson.RawValue) string {
	if n, ok := number(v); ok {
		if n == nil {
			return "n:NaN"
		}
		return "n:" + n.RatString()
	}
	return strconv.Itoa(int(v.Type)) + ":" + string(v.Value)
}

// number returns the value of a finite number, nil and true for NaN. Infinities are as large as can be.
func number(v bson.RawValue) (*big.Rat, bool) {
	switch v.Type {
	case bson.TypeInt32:
		return new(big.Rat).SetInt64(int64(v.Int32())), true
	case bson.TypeInt64:
		return new(big.Rat).SetInt64(v.Int64()), true
	case bson.TypeDouble:
		f := v.Double()
		if math.IsInf(f, 0) {
			f = math.Copysign(math.MaxFloat64, f)
		}
		return new(big.Rat).SetFloat64(f), true // nil for NaN
	case bson.TypeDecimal128:
		r, ok := new(big.Rat).SetString(v.Decimal128().String())
		if !ok {
			return nil, true
		}
		return r, true
	default:
		return nil, false
	}
}

// rank is the place of a type in the order of BSON.
func rank(t bson.Type) int {
	order := []bson.Type{bson.TypeMinKey, bson.TypeNull, bson.TypeInt32, bson.TypeString, bson.TypeEmbeddedDocument, bson.TypeArray,
		bson.TypeBinary, bson.TypeObjectID, bson.TypeBoolean, bson.TypeDateTime, bson.TypeTimestamp, bson.TypeRegex, bson.TypeMaxKey}
	for i, o := range order {
		if o == t {
			return i
		}
	}
	return rank(bson.TypeInt32) // the other numbers
}

// compareIDs is the order of _ids, exact for scalar types.
func compareIDs(a, b bson.RawValue) int {
	if c := cmp.Compare(rank(a.Type), rank(b.Type)); c != 0 {
		return c
	}
	x, isNumber := number(a)
	y, _ := number(b)
	switch {
	case isNumber && (x == nil || y == nil):
		return cmp.Compare(btoi(x != nil), btoi(y != nil))
	case isNumber:
		return x.Cmp(y)
	case a.Type == bson.TypeString:
		return strings.Compare(a.StringValue(), b.StringValue())
	case a.Type == bson.TypeDateTime:
		return cmp.Compare(a.DateTime(), b.DateTime())
	default:
		return bytes.Compare(a.Value, b.Value)
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// applyDelta makes of body what an updateDescription says.
func applyDelta(body, delta bson.Raw) (bson.Raw, error) {
	doc := bson.D{}
	if err := bson.Unmarshal(body, &doc); err != nil {
		return nil, fmt.Errorf("decode the document: %w", err)
	}
	var d struct {
		UpdatedFields bson.D   `bson:"updatedFields"`
		RemovedFields []string `bson:"removedFields"`
	}
	if err := bson.Unmarshal(delta, &d); err != nil {
		return nil, fmt.Errorf("decode the delta: %w", err)
	}
	for _, e := range d.UpdatedFields {
		doc = set(doc, strings.Split(e.Key, "."), e.Value)
	}
	for _, f := range d.RemovedFields {
		doc = unset(doc, strings.Split(f, "."))
	}
	return marshal(doc), nil
}

// set sets a member by its path; arrays are not gone into.
func set(doc bson.D, path []string, value any) bson.D {
	for i := range doc {
		if doc[i].Key != path[0] {
			continue
		}
		if len(path) == 1 {
			doc[i].Value = value
		} else {
			inner, _ := doc[i].Value.(bson.D)
			doc[i].Value = set(inner, path[1:], value)
		}
		return doc
	}
	if len(path) > 1 {
		value = set(nil, path[1:], value)
	}
	return append(doc, bson.E{Key: path[0], Value: value})
}

func unset(doc bson.D, path []string) bson.D {
	out := bson.D{}
	for _, e := range doc {
		switch inner, isDoc := e.Value.(bson.D); {
		case e.Key != path[0]:
			out = append(out, e)
		case len(path) > 1 && isDoc:
			out = append(out, bson.E{Key: e.Key, Value: unset(inner, path[1:])})
		case len(path) > 1:
			out = append(out, e)
		}
	}
	return out
}

// merge returns options with the members of change set.
func merge(options, change bson.Raw) bson.Raw {
	doc := bson.D{}
	if options != nil {
		mustUnmarshal(options, &doc)
	}
	var members bson.D
	mustUnmarshal(change, &members)
	for _, e := range members {
		doc = set(doc, []string{e.Key}, e.Value)
	}
	return marshal(doc)
}

// marshal is for values that are known to be encodable; anything else is a mistake in a test.
func marshal(v any) bson.Raw {
	if d, ok := v.(bson.D); ok && d == nil {
		v = bson.D{}
	}
	b, err := bson.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("clustertest: encode %T: %v", v, err))
	}
	return b
}

func mustUnmarshal(b bson.Raw, out any) {
	if err := bson.Unmarshal(b, out); err != nil {
		panic(fmt.Sprintf("clustertest: decode: %v", err))
	}
}
