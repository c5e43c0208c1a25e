package fakemongo

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// keyText names a value among keys: numbers of one value are one key.
func keyText(v any) string {
	if n, ok := float(v); ok && !math.IsNaN(n) {
		return fmt.Sprintf("n%v", n)
	}
	return fmt.Sprintf("%d%x", rankOf(v), []byte(marshal(bson.D{{Key: "", Value: v}})))
}

func idOf(doc bson.Raw) any { return get(decode(doc), "_id") }

func float(v any) (float64, bool) {
	switch n := v.(type) {
	case int32:
		return float64(n), true
	case int64:
		return float64(n), true
	case int:
		return float64(n), true
	case float64:
		return n, true
	}
	return 0, false
}

func integer(v any) int64 {
	n, _ := float(v)
	return int64(n)
}

func rankOf(v any) int {
	switch v.(type) {
	case bson.MinKey:
		return 0
	case nil, bson.Null:
		return 1
	case int32, int64, int, float64, bson.Decimal128:
		return 2
	case string:
		return 3
	case bson.D:
		return 4
	case bson.A:
		return 5
	case bson.Binary:
		return 6
	case bson.ObjectID:
		return 7
	case bool:
		return 8
	case bson.DateTime:
		return 9
	case bson.Timestamp:
		return 10
	case bson.MaxKey:
		return 20
	}
	return 15
}

// order compares two values.
func order(a, b any) int {
	if c := cmp.Compare(rankOf(a), rankOf(b)); c != 0 {
		return c
	}
	switch x := a.(type) {
	case string:
		return strings.Compare(x, b.(string))
	case bson.DateTime:
		return cmp.Compare(x, b.(bson.DateTime))
	case bson.Timestamp:
		return x.Compare(b.(bson.Timestamp))
	}
	if x, ok := float(a); ok {
		y, _ := float(b)
		return cmp.Compare(x, y)
	}
	return bytes.Compare(marshal(bson.D{{Key: "", Value: a}}), marshal(bson.D{{Key: "", Value: b}}))
}

func equal(a, b any) bool { return order(a, b) == 0 }

// at follows a dotted path through documents.
func at(d bson.D, path string) (any, bool) {
	name, rest, deeper := strings.Cut(path, ".")
	for _, e := range d {
		if e.Key != name {
			continue
		}
		if !deeper {
			return e.Value, true
		}
		if inner, ok := e.Value.(bson.D); ok {
			return at(inner, rest)
		}
		return nil, false
	}
	return nil, false
}

// put sets the value at a path, through documents and arrays; nil members are made.
func put(d bson.D, path []string, v any) bson.D {
	if len(path) == 1 {
		return set(d, path[0], v)
	}
	switch inner := get(d, path[0]).(type) {
	case bson.D:
		return set(d, path[0], put(inner, path[1:], v))
	case bson.A:
		i := 0
		_, _ = fmt.Sscan(path[1], &i)
		out := slices.Clone(inner)
		for len(out) <= i {
			out = append(out, nil)
		}
		if len(path) == 2 {
			out[i] = v
		} else if element, ok := out[i].(bson.D); ok {
			out[i] = put(element, path[2:], v)
		}
		return set(d, path[0], out)
	}
	return set(d, path[0], put(nil, path[1:], v))
}

func cut(d bson.D, path []string) bson.D {
	if len(path) == 1 {
		return unset(d, path[0])
	}
	if inner, ok := get(d, path[0]).(bson.D); ok {
		return set(d, path[0], cut(inner, path[1:]))
	}
	return d
}
