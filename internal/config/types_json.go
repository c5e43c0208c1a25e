package config

import (
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// How the types of this package that are more than a string or a number are read and written.

func (s *Secret) decodeNode(d *decoder, n *node, path string) {
	text, ok := d.str(n, path)
	switch {
	case !ok:
	case d.stored:
		*s = openSecret(text, d.keys)
	default:
		*s = NewSecret(text)
	}
}

// decodeNode takes the text as it stands: a dollar means nothing in JavaScript.
func (j *JavaScript) decodeNode(d *decoder, n *node, path string) {
	if d.want(n, kindString, path) {
		*j = JavaScript(n.text)
	}
}

func (t *Duration) decodeNode(d *decoder, n *node, path string) {
	if n.kind != kindString {
		d.add(n.at, path, `expected a duration such as "10s" or "5m", found %s`, n.kind)
		return
	}
	text, ok := d.str(n, path)
	if !ok {
		return
	}
	v, err := time.ParseDuration(text)
	if err != nil {
		d.add(n.at, path, `expected a duration such as "10s" or "5m", found %q`, shorten(text))
		return
	}
	*t = Duration(v)
}

// MarshalText writes the duration as it is read.
func (t Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(t).String()), nil }

func (v *Number) decodeNode(d *decoder, n *node, path string) {
	if d.want(n, kindNumber, path) {
		*v = Number(n.text)
	}
}

// Float returns the number; 0 for nil.
func (v *Number) Float() float64 {
	if v == nil {
		return 0
	}
	f, _ := strconv.ParseFloat(string(*v), 64) // the parser has checked the form; out of range gives ±Inf
	return f
}

// MarshalJSON writes the digits as they were read.
func (v Number) MarshalJSON() ([]byte, error) {
	if v == "" {
		return []byte("null"), nil
	}
	return []byte(v), nil
}

// MarshalJSON writes true and false as booleans, other words as strings.
func (c Choice) MarshalJSON() ([]byte, error) {
	if c == "true" || c == "false" {
		return []byte(c), nil
	}
	return json.Marshal(string(c))
}

// True reports whether the choice is "true"; a nil one is def.
func (c *Choice) True(def bool) bool {
	if c == nil {
		return def
	}
	return *c == "true"
}

func (r *Raw) decodeNode(d *decoder, n *node, path string) {
	if d.want(n, kindObject, path) {
		*r = n.appendJSON(nil)
	}
}

// MarshalJSON returns the object.
func (r Raw) MarshalJSON() ([]byte, error) { return r, nil }

// appendJSON writes the node as compact JSON.
func (n *node) appendJSON(b []byte) []byte {
	switch n.kind {
	case kindObject:
		b = append(b, '{')
		for i, m := range n.members {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, m.name)
			b = append(b, ':')
			b = m.value.appendJSON(b)
		}
		return append(b, '}')
	case kindArray:
		b = append(b, '[')
		for i, e := range n.elems {
			if i > 0 {
				b = append(b, ',')
			}
			b = e.appendJSON(b)
		}
		return append(b, ']')
	case kindString:
		return appendString(b, n.text)
	default:
		return append(b, n.text...)
	}
}

func appendString(b []byte, s string) []byte {
	b, err := jsontext.AppendQuote(b, s)
	if err != nil {
		panic("config: a string that the parser checked is not valid UTF-8") // impossible
	}
	return b
}

// decodeStrings reads an array of strings.
func (d *decoder) decodeStrings(n *node, into *[]string, path string) {
	if !d.want(n, kindArray, path) {
		return
	}
	*into = slices.Grow([]string{}, len(n.elems))
	for _, e := range n.elems {
		if s, ok := d.str(e, path); ok {
			*into = append(*into, s)
		}
	}
}
