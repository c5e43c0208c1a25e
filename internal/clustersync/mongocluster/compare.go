package mongocluster

import (
	"bytes"
	"cmp"
	"math"
	"math/big"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// compare orders two values as a server orders keys with the simple collation (spec §22, BSON order).
func compare(a, b bson.RawValue) int {
	if c := cmp.Compare(rank(a.Type), rank(b.Type)); c != 0 {
		return c
	}
	switch rank(a.Type) {
	case rankNumber:
		return compareNumbers(a, b)
	case rankString:
		return cmp.Compare(text(a), text(b))
	case rankDocument, rankArray:
		return compareDocuments(a, b)
	case rankBinary:
		as, ad, _ := a.BinaryOK()
		bs, bd, _ := b.BinaryOK()
		return cmp.Or(cmp.Compare(len(ad), len(bd)), cmp.Compare(as, bs), bytes.Compare(ad, bd))
	case rankBool:
		return cmp.Compare(boolInt(a), boolInt(b))
	case rankDate:
		at, _ := a.DateTimeOK()
		bt, _ := b.DateTimeOK()
		return cmp.Compare(at, bt)
	case rankTimestamp:
		at, ai, _ := a.TimestampOK()
		bt, bi, _ := b.TimestampOK()
		return cmp.Or(cmp.Compare(at, bt), cmp.Compare(ai, bi))
	case rankMin, rankNull, rankMax:
		return 0
	}
	return bytes.Compare(a.Value, b.Value) // ObjectId, and types that cannot be keys in practice
}

const (
	rankMin = iota
	rankNull
	rankNumber
	rankString
	rankDocument
	rankArray
	rankBinary
	rankObjectID
	rankBool
	rankDate
	rankTimestamp
	rankRegex
	rankPointer
	rankCode
	rankCodeScope
	rankMax
)

func rank(t bson.Type) int {
	switch t {
	case bson.TypeMinKey:
		return rankMin
	case bson.TypeUndefined, bson.TypeNull:
		return rankNull
	case bson.TypeInt32, bson.TypeInt64, bson.TypeDouble, bson.TypeDecimal128:
		return rankNumber
	case bson.TypeString, bson.TypeSymbol:
		return rankString
	case bson.TypeEmbeddedDocument:
		return rankDocument
	case bson.TypeArray:
		return rankArray
	case bson.TypeBinary:
		return rankBinary
	case bson.TypeObjectID:
		return rankObjectID
	case bson.TypeBoolean:
		return rankBool
	case bson.TypeDateTime:
		return rankDate
	case bson.TypeTimestamp:
		return rankTimestamp
	case bson.TypeRegex:
		return rankRegex
	case bson.TypeDBPointer:
		return rankPointer
	case bson.TypeJavaScript:
		return rankCode
	case bson.TypeCodeWithScope:
		return rankCodeScope
	}
	return rankMax
}

// compareDocuments compares member by member: type, name, value; the shorter is the smaller.
func compareDocuments(a, b bson.RawValue) int {
	as, _ := bson.Raw(a.Value).Elements()
	bs, _ := bson.Raw(b.Value).Elements()
	for i := range min(len(as), len(bs)) {
		av, bv := as[i].Value(), bs[i].Value()
		if c := cmp.Or(cmp.Compare(rank(av.Type), rank(bv.Type)), cmp.Compare(as[i].Key(), bs[i].Key()), compare(av, bv)); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(as), len(bs))
}

// number is a number of any type: exact, or one of the three that are none.
type number struct {
	special int // -2 NaN, -1 -∞, 1 +∞, 0: exact counts
	exact   *big.Rat
}

func compareNumbers(a, b bson.RawValue) int {
	if a.Type != bson.TypeDecimal128 && b.Type != bson.TypeDecimal128 && a.Type != bson.TypeDouble && b.Type != bson.TypeDouble {
		an, _ := a.AsInt64OK()
		bn, _ := b.AsInt64OK()
		return cmp.Compare(an, bn)
	}
	x, y := numberOf(a), numberOf(b)
	if x.special != 0 || y.special != 0 {
		return cmp.Compare(x.special, y.special)
	}
	return x.exact.Cmp(y.exact)
}

func numberOf(v bson.RawValue) number {
	switch v.Type {
	case bson.TypeDouble:
		return numberOfDouble(v.Double())
	case bson.TypeDecimal128:
		d, _ := v.Decimal128OK()
		switch {
		case d.IsNaN():
			return number{special: -2}
		case d.IsInf() != 0:
			return number{special: d.IsInf()}
		}
		coefficient, exponent, err := d.BigInt()
		if err != nil {
			return number{special: -2}
		}
		exact := new(big.Rat).SetInt(coefficient)
		scale := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(exponent, -exponent))), nil))
		if exponent < 0 {
			return number{exact: exact.Quo(exact, scale)}
		}
		return number{exact: exact.Mul(exact, scale)}
	}
	n, _ := v.AsInt64OK()
	return number{exact: new(big.Rat).SetInt64(n)}
}

func numberOfDouble(f float64) number {
	switch {
	case math.IsNaN(f):
		return number{special: -2}
	case math.IsInf(f, 1):
		return number{special: 1}
	case math.IsInf(f, -1):
		return number{special: -1}
	}
	return number{exact: new(big.Rat).SetFloat64(f)}
}

func text(v bson.RawValue) string {
	if s, ok := v.StringValueOK(); ok {
		return s
	}
	s, _ := v.SymbolOK()
	return s
}

func boolInt(v bson.RawValue) int {
	if b, _ := v.BooleanOK(); b {
		return 1
	}
	return 0
}
