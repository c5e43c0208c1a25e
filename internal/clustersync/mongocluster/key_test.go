package mongocluster

import (
	"math"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"
)

func decimal(s string) bson.Decimal128 {
	d, err := bson.ParseDecimal128(s)
	if err != nil {
		panic(err)
	}
	return d
}

// inOrder are values in MongoDB's order (spec §22); those of one line are one key.
var inOrder = [][]any{
	{bson.MinKey{}},
	{nil, bson.Undefined{}},
	{math.NaN(), decimal("NaN")},
	{math.Inf(-1), decimal("-Infinity")},
	{int64(math.MinInt64), float64(math.MinInt64), decimal("-9223372036854775808")},
	{int32(-1), int64(-1), -1.0, decimal("-1"), decimal("-1.000")},
	{int32(0), int64(0), 0.0, math.Copysign(0, -1), decimal("0E+3"), decimal("-0")},
	{decimal("0.1")},
	{0.1}, // a little more than a tenth
	{0.5, decimal("0.50")},
	{int32(1), int64(1), 1.0, decimal("1")},
	{int64(1<<53 + 1), decimal("9007199254740993")},
	{int64(1<<53 + 2), float64(1<<53 + 2)},
	{int64(math.MaxInt64)},
	{float64(1 << 63)},
	{decimal("1E+6000")},
	{math.Inf(1), decimal("Infinity")},
	{"", bson.Symbol("")},
	{"1"},
	{"a", bson.Symbol("a")},
	{"ab"},
	{"b"},
	{bson.D{}},
	{bson.D{{Key: "a", Value: int32(1)}}, bson.D{{Key: "a", Value: 1.0}}},
	{bson.D{{Key: "a", Value: int32(1)}, {Key: "b", Value: int32(1)}}},
	{bson.D{{Key: "b", Value: int32(0)}}},
	{bson.D{{Key: "a", Value: "x"}}},
	{bson.A{int32(1)}, bson.A{int64(1)}},
	{bson.Binary{Data: []byte{9}}},
	{bson.Binary{Data: []byte{1, 2}}},
	{bson.Binary{Subtype: 4, Data: []byte{0, 0}}},
	{bson.ObjectID{0: 1}},
	{bson.ObjectID{0: 2}},
	{false},
	{true},
	{bson.DateTime(-5)},
	{bson.DateTime(7)},
	{bson.Timestamp{T: 1, I: 9}},
	{bson.Timestamp{T: 2, I: 1}},
	{bson.MaxKey{}},
}

func TestOrderAndKeys(t *testing.T) {
	for i, as := range inOrder {
		for j, bs := range inOrder {
			for _, a := range as {
				for _, b := range bs {
					x, y := value(a), value(b)
					if got, want := sign(compare(x, y)), sign(i-j); got != want {
						t.Errorf("%v to %v: %d, want %d", x, y, got, want)
					}
					if got, want := canonical(x) == canonical(y), i == j; got != want {
						t.Errorf("%v and %v are one key: %v, want %v", x, y, got, want)
					}
				}
			}
		}
	}
}

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}

// TestCanonicalTellsApart: documents whose texts run together are not one key, and being one key is what compare calls equal.
func TestCanonicalTellsApart(t *testing.T) {
	scalar := rapid.OneOf(rapid.Just[any](nil), rapid.Map(rapid.Int32Range(-2, 2), func(n int32) any { return n }), rapid.Map(rapid.Float64Range(-2, 2), func(f float64) any { return f }),
		rapid.Map(rapid.StringMatching(`[ab1]{0,3}`), func(s string) any { return s }), rapid.Map(rapid.Bool(), func(b bool) any { return b }))
	var any_ func(depth int) *rapid.Generator[any]
	any_ = func(depth int) *rapid.Generator[any] {
		if depth == 0 {
			return scalar
		}
		return rapid.OneOf(scalar, rapid.Custom(func(t *rapid.T) any {
			var d bson.D
			for range rapid.IntRange(0, 3).Draw(t, "members") {
				d = append(d, bson.E{Key: rapid.StringMatching(`[ab1]{0,2}`).Draw(t, "name"), Value: any_(depth-1).Draw(t, "value")})
			}
			return d
		}))
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := value(any_(2).Draw(t, "a")), value(any_(2).Draw(t, "b"))
		if (canonical(a) == canonical(b)) != (compare(a, b) == 0) || sign(compare(a, b)) != -sign(compare(b, a)) {
			t.Fatalf("%v and %v: %d, and %d; keys %q and %q", a, b, compare(a, b), compare(b, a), canonical(a), canonical(b))
		}
	})
}
