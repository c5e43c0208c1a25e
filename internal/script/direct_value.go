package script

import (
	"bytes"
	"math"
	"strconv"
	"unicode/utf8"
)

// valueKind is the type of a value of the direct evaluator.
type valueKind uint8

const (
	kindUndefined valueKind = iota
	kindNull
	kindBool
	kindNumber
	kindString
	kindRoot   // doc, oldDoc or meta itself
	kindObject // a JSON object below a root, not taken apart
	kindArray  // a JSON array below a root, not taken apart
	kindList   // an array that the script made
	kindTable  // an object that the script made
	kindUnset  // a let or const before its declaration ran
)

// value is one JavaScript value. It is small enough to be passed by value.
type value struct {
	kind valueKind
	// root tells whose part a kindObject or kindArray is, and which root a kindRoot is.
	root rootID
	num  float64 // of a number; 1 or 0 of a bool
	// text is a string in UTF-8 (valid, no lone surrogates), or the JSON text of an object or array. It may be a part
	// of the caller's document and is never written to.
	text []byte
	heap *heapObject // of a list or table
}

// heapObject is an array or object that the script made.
type heapObject struct {
	elems []value  // of a list; of a table, the values of keys
	keys  []string // of a table, in the order they were added
}

func boolean(b bool) value {
	if b {
		return value{kind: kindBool, num: 1}
	}
	return value{kind: kindBool}
}

func number(f float64) value    { return value{kind: kindNumber, num: f} }
func text(b []byte) value       { return value{kind: kindString, text: b} }
func constant(s string) value   { return text([]byte(s)) }
func (v value) isNullish() bool { return v.kind <= kindNull }

// isPrimitive reports whether v is no object.
func (v value) isPrimitive() bool { return v.kind <= kindString }

func (v value) truthy() bool {
	switch v.kind {
	case kindUndefined, kindNull:
		return false
	case kindBool, kindNumber:
		return v.num != 0 && v.num == v.num
	case kindString:
		return len(v.text) > 0
	}
	return true
}

// typeOf is the typeof operator.
func (v value) typeOf() string {
	switch v.kind {
	case kindUndefined:
		return "undefined"
	case kindBool:
		return "boolean"
	case kindNumber:
		return "number"
	case kindString:
		return "string"
	}
	return "object"
}

// strictEqual is the === operator.
func strictEqual(a, b value) bool {
	if a.kind != b.kind {
		return false
	}
	switch a.kind {
	case kindBool, kindNumber:
		return a.num == b.num
	case kindString:
		return bytes.Equal(a.text, b.text)
	case kindRoot:
		return a.root == b.root
	case kindObject, kindArray:
		return a.root == b.root && &a.text[0] == &b.text[0]
	case kindList, kindTable:
		return a.heap == b.heap
	}
	return true
}

// looseEqual is the == operator where it converts nothing; ok is false for operands that it would convert.
func looseEqual(a, b value) (equal, ok bool) {
	switch {
	case a.isNullish() || b.isNullish():
		return a.isNullish() && b.isNullish(), true
	case a.kind == b.kind || !a.isPrimitive() && !b.isPrimitive():
		return strictEqual(a, b), true
	}
	return false, false
}

// compare orders two numbers or two ASCII strings, for < and its kin. unordered is set if one is NaN; ok is false for
// operands that need a conversion or UTF-16 order.
func compare(a, b value) (order int, unordered, ok bool) {
	switch {
	case a.kind == kindNumber && b.kind == kindNumber:
		switch {
		case a.num < b.num:
			return -1, false, true
		case a.num > b.num:
			return 1, false, true
		}
		return 0, a.num != b.num, true
	case a.kind == kindString && b.kind == kindString && isASCII(a.text) && isASCII(b.text):
		return bytes.Compare(a.text, b.text), false, true
	}
	return 0, false, false
}

// appendText appends what String(v) gives. ok is false for objects, whose conversion may run anything.
func (v value) appendText(b []byte) (_ []byte, ok bool) {
	switch v.kind {
	case kindUndefined:
		return append(b, "undefined"...), true
	case kindNull:
		return append(b, "null"...), true
	case kindBool:
		return strconv.AppendBool(b, v.num != 0), true
	case kindNumber:
		return appendNumber(b, v.num), true
	case kindString:
		return append(b, v.text...), true
	}
	return b, false
}

// appendNumber appends a number as JavaScript writes it: decimal notation from 1e-7 up to 1e21, and an exponent
// without leading zeros elsewhere (ECMA-262, Number::toString).
func appendNumber(b []byte, f float64) []byte {
	switch a := math.Abs(f); {
	case f != f:
		return append(b, "NaN"...)
	case math.IsInf(f, 1):
		return append(b, "Infinity"...)
	case math.IsInf(f, -1):
		return append(b, "-Infinity"...)
	case f == 0:
		return append(b, '0') // -0 too
	case a < 1e15 && f == math.Trunc(f):
		return strconv.AppendInt(b, int64(f), 10)
	case a >= 1e-6 && a < 1e21:
		return strconv.AppendFloat(b, f, 'f', -1, 64)
	}
	start := len(b)
	b = strconv.AppendFloat(b, f, 'e', -1, 64)
	// Go writes at least two digits of exponent.
	if e := bytes.LastIndexByte(b[start:], 'e'); len(b)-start-e == 4 && b[start+e+2] == '0' {
		b[start+e+2] = b[start+e+3]
		b = b[:len(b)-1]
	}
	return b
}

// utf16Len is the length property of a string.
func utf16Len(s []byte) int {
	n := 0
	for i := 0; i < len(s); {
		if s[i] < utf8.RuneSelf {
			n++
			i++
			continue
		}
		r, size := utf8.DecodeRune(s[i:])
		if n++; r > 0xFFFF {
			n++
		}
		i += size
	}
	return n
}

func isASCII(s []byte) bool {
	for _, c := range s {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// isArrayIndex reports whether a property key is a canonical array index. Such keys are enumerated before all others.
func isArrayIndex(key []byte) bool {
	if len(key) == 0 || len(key) > 10 || key[0] == '0' && len(key) > 1 {
		return false
	}
	for _, c := range key {
		if !isDigit(c) {
			return false
		}
	}
	return true
}
