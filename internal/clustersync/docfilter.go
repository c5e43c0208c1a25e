package clustersync

import (
	"math"
	"math/big"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/jsondoc"
)

// DocumentFilter keeps documents whose top-level field equals one of some values (spec §11.5).
type DocumentFilter struct {
	Field  string          `bson:"field"`
	Values []bson.RawValue `bson:"matchValues"`
}

// documents is a DocumentFilter fit for use.
type documents struct {
	field  string
	wanted map[string]bool // by canonicalValue
}

// keeps reports whether the document has one of the values. Of a tidegate document any leaf revision may have it: the leaves are one
// document, which is synced whole.
func (f *documents) keeps(d Document) bool {
	if d.Format != Tidegate {
		v, err := bson.Raw(d.Body).LookupErr(f.field)
		return err == nil && f.wanted[canonicalValue(v)]
	}
	for leaf := range jsondoc.Elements(d.Body) {
		raw, ok := jsondoc.Get(leaf, f.field)
		if !ok {
			continue
		}
		// A value that JSON has no type for is written down in extended JSON, as the mapping does.
		var doc bson.Raw
		if bson.UnmarshalExtJSON(append(append([]byte(`{"v":`), raw...), '}'), false, &doc) == nil && f.wanted[canonicalValue(doc.Lookup("v"))] {
			return true
		}
	}
	return false
}

// canonicalValue gives equal texts for values that MongoDB calls equal: numbers of any type by their value.
func canonicalValue(v bson.RawValue) string {
	switch v.Type {
	case bson.TypeInt32:
		return "n" + strconv.FormatInt(int64(v.Int32()), 10)
	case bson.TypeInt64:
		return "n" + strconv.FormatInt(v.Int64(), 10)
	case bson.TypeDouble:
		return canonicalDouble(v.Double())
	case bson.TypeDecimal128:
		return canonicalDecimal(v.Decimal128())
	}
	return string([]byte{byte(v.Type)}) + string(v.Value)
}

func canonicalDouble(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nNaN"
	case math.IsInf(f, 1):
		return "nInfinity"
	case math.IsInf(f, -1):
		return "n-Infinity"
	}
	return canonicalRat(new(big.Rat).SetFloat64(f))
}

// maxExponent bounds the decimals that are written out: no double and no integer is beyond it, so what is compares equal only to
// other decimals, by text.
const maxExponent = 400

func canonicalDecimal(d bson.Decimal128) string {
	coefficient, exponent, err := d.BigInt()
	switch {
	case d.IsNaN():
		return "nNaN"
	case d.IsInf() != 0:
		return "n" + strings.Repeat("-", (1-d.IsInf())/2) + "Infinity"
	case err != nil:
		return "n?" + d.String()
	case coefficient.Sign() == 0:
		return "n0"
	}
	// Take trailing zeros into the exponent, so that equal values are equal texts.
	ten, digit := big.NewInt(10), new(big.Int)
	for {
		q, r := new(big.Int).QuoRem(coefficient, ten, digit)
		if r.Sign() != 0 {
			break
		}
		coefficient, exponent = q, exponent+1
	}
	if exponent > maxExponent || exponent < -maxExponent-smallestDouble {
		return "n" + coefficient.String() + "e" + strconv.Itoa(exponent)
	}
	scale := new(big.Int).Exp(ten, big.NewInt(int64(max(exponent, -exponent))), nil)
	if exponent >= 0 {
		return canonicalRat(new(big.Rat).SetInt(coefficient.Mul(coefficient, scale)))
	}
	return canonicalRat(new(big.Rat).SetFrac(coefficient, scale))
}

// smallestDouble: the smallest double has that many binary, and so decimal, places.
const smallestDouble = 1074

func canonicalRat(r *big.Rat) string {
	if r.IsInt() {
		return "n" + r.Num().String()
	}
	return "n" + r.String()
}
