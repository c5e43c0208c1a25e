package mapping

import (
	"bytes"
	"math"
	"math/big"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// appendDouble appends a finite double with the fewest digits that tell it from all others, and always with a point or an exponent,
// which tells it from an integer.
func appendDouble(b []byte, f float64) []byte {
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	start := len(b)
	b = strconv.AppendFloat(b, f, format, -1, 64)
	if !bytes.ContainsAny(b[start:], ".e") {
		b = append(b, ".0"...)
	}
	return b
}

// number is what a JSON number is in BSON: an integer that fits, or a double that has exactly this value, read as its shortest decimal;
// ok is false if it is neither, so that its digits must be kept.
func number(literal []byte) (v bson.RawValue, ok bool) {
	text := string(literal)
	if !bytes.ContainsAny(literal, ".eE") && text != "-0" {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return integer(n), true
		}
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) || !sameDecimal(literal, appendDouble(nil, f)) {
		return bson.RawValue{}, false
	}
	return double(f), true
}

// sameDecimal reports whether two JSON numbers have the same decimal value.
func sameDecimal(a, b []byte) bool {
	ad, ae, aok := decimalOf(a)
	bd, be, bok := decimalOf(b)
	return aok && bok && ae == be && bytes.Equal(ad, bd)
}

// maxExponent bounds exponents that are looked at; no double has one as large.
const maxExponent = 1 << 20

// decimalOf gives a number's sign and digits without zeros at either end, and the power of ten of the last digit.
func decimalOf(literal []byte) (digits []byte, exponent int, ok bool) {
	negative := false
	if len(literal) > 0 && literal[0] == '-' {
		negative, literal = true, literal[1:]
	}
	if i := bytes.IndexAny(literal, "eE"); i >= 0 {
		n, err := strconv.Atoi(string(literal[i+1:]))
		if err != nil || n > maxExponent || n < -maxExponent {
			return nil, 0, false
		}
		exponent, literal = n, literal[:i]
	}
	if whole, fraction, found := bytes.Cut(literal, []byte(".")); found {
		exponent -= len(fraction)
		literal = append(bytes.Clone(whole), fraction...)
	}
	literal = bytes.TrimLeft(literal, "0")
	trimmed := bytes.TrimRight(literal, "0")
	exponent += len(literal) - len(trimmed)
	if len(trimmed) == 0 {
		exponent = 0
	}
	if negative {
		trimmed = append([]byte("-"), trimmed...)
	}
	return trimmed, exponent, true
}

// integer is n as an int32 if it fits, else as an int64.
func integer(n int64) bson.RawValue {
	if n == int64(int32(n)) {
		return valueOf(bson.TypeInt32, appendInt32(nil, int32(n)))
	}
	return long(n)
}

func long(n int64) bson.RawValue { return valueOf(bson.TypeInt64, appendUint64(nil, uint64(n))) }

func double(f float64) bson.RawValue {
	return valueOf(bson.TypeDouble, appendUint64(nil, math.Float64bits(f)))
}

func decimal(d bson.Decimal128) bson.RawValue {
	high, low := d.GetBytes()
	return valueOf(bson.TypeDecimal128, appendUint64(appendUint64(nil, low), high))
}

// plainNumber gives the number that MongoDB takes for equal to this one and that all equal ones have in common.
func plainNumber(v bson.RawValue) bson.RawValue {
	switch v.Type {
	case bson.TypeInt32:
		return v
	case bson.TypeInt64:
		return integer(v.Int64())
	case bson.TypeDouble:
		return plainDouble(v.Double())
	case bson.TypeDecimal128:
		return plainDecimal(v.Decimal128())
	}
	return v
}

func plainDouble(f float64) bson.RawValue {
	switch {
	case math.IsNaN(f):
		return double(math.Float64frombits(plainNaN))
	case f == math.Trunc(f) && f >= -1<<63 && f < 1<<63:
		return integer(int64(f))
	}
	return double(f)
}

// maxDoubleExponent is a power of ten above which, and below whose negative, no decimal equals a double or an int64: 34 digits and a power of
// ten as small as 10^-1074 at most.
const maxDoubleExponent = 1100

func plainDecimal(d bson.Decimal128) bson.RawValue {
	switch {
	case d.IsNaN():
		return double(math.Float64frombits(plainNaN))
	case d.IsInf() != 0:
		return double(math.Inf(d.IsInf()))
	}
	digits, exponent, err := d.BigInt()
	if err != nil {
		return decimal(d)
	}
	if digits.Sign() == 0 {
		return integer(0)
	}
	ten, rest := big.NewInt(10), new(big.Int)
	for {
		q, r := new(big.Int).QuoRem(digits, ten, rest)
		if r.Sign() != 0 {
			break
		}
		digits, exponent = q, exponent+1
	}
	if exponent <= maxDoubleExponent && exponent >= -maxDoubleExponent {
		if v, ok := exactly(digits, exponent); ok {
			return v
		}
	}
	// As many digits and as small an exponent as there is room for would be equal, too: this one has none to spare.
	if plain, ok := bson.ParseDecimal128FromBigInt(digits, exponent); ok {
		return decimal(plain)
	}
	return decimal(d)
}

// exactly gives digits·10^exponent as an integer or a double, if one has that very value.
func exactly(digits *big.Int, exponent int) (bson.RawValue, bool) {
	power := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(exponent, -exponent))), nil)
	value := new(big.Rat).SetInt(digits)
	if exponent >= 0 {
		value.Mul(value, new(big.Rat).SetInt(power))
	} else {
		value.Quo(value, new(big.Rat).SetInt(power))
	}
	if value.IsInt() && value.Num().IsInt64() {
		return integer(value.Num().Int64()), true
	}
	if f, exact := value.Float64(); exact {
		return double(f), true
	}
	return bson.RawValue{}, false
}
