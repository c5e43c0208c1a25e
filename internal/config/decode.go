package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// decoder puts nodes into Go values by their json tags and collects what does not fit. Two further tags: alias
// names other keys that are accepted, separated by commas; choice lists the words of a Choice.
type decoder struct {
	problems
	expand expander // for strings outside of JavaScript; nil: none
	// merge keeps what is in objects already and not in the text; a null member of a map removes it.
	merge bool
	// stored says that the text is one that was stored: secrets in it may be sealed by a key of keys.
	stored bool
	keys   *Keyring
}

// nodeDecoder is a type that reads its node itself.
type nodeDecoder interface {
	decodeNode(d *decoder, n *node, path string)
}

// decodeValue is decode into a pointer's target.
func (d *decoder) decodeValue(n *node, into any, path string) {
	d.decode(n, reflect.ValueOf(into).Elem(), path)
}

// decode puts n into v, which is settable. A null leaves v at its zero value.
func (d *decoder) decode(n *node, v reflect.Value, path string) {
	if n.kind == kindNull {
		v.SetZero()
		return
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() || !d.merge {
			v.Set(reflect.New(v.Type().Elem()))
		}
		d.decode(n, v.Elem(), path)
		return
	}
	if custom, ok := v.Addr().Interface().(nodeDecoder); ok {
		custom.decodeNode(d, n, path)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.decodeStruct(n, v, path)
	case reflect.Map:
		d.decodeMap(n, v, path)
	case reflect.Slice:
		d.decodeSlice(n, v, path)
	case reflect.String:
		if s, ok := d.str(n, path); ok {
			v.SetString(s)
		}
	case reflect.Bool:
		if d.want(n, kindBoolean, path) {
			v.SetBool(n.text == "true")
		}
	case reflect.Int, reflect.Int64, reflect.Uint64:
		d.decodeInt(n, v, path)
	default:
		panic("config: no decoding for " + v.Type().String()) // a field of a new type without its case here
	}
}

// want reports whether n is of the kind; else that is a problem.
func (d *decoder) want(n *node, kind nodeKind, path string) bool {
	if n.kind != kind {
		d.add(n.at, path, "expected %s, found %s", kind, n.kind)
	}
	return n.kind == kind
}

// str returns a string with its environment variables replaced.
func (d *decoder) str(n *node, path string) (string, bool) {
	if !d.want(n, kindString, path) {
		return "", false
	}
	if d.expand == nil || n.quoted {
		return n.text, true
	}
	s, err := d.expand(n.text)
	if err != nil {
		d.add(n.at, path, "%s", err)
		return "", false
	}
	return s, true
}

func (d *decoder) decodeInt(n *node, v reflect.Value, path string) {
	const want = "a whole number"
	if n.kind != kindNumber {
		d.add(n.at, path, "expected %s, found %s", want, n.kind)
		return
	}
	var err error
	if v.CanUint() {
		var u uint64
		u, err = strconv.ParseUint(n.text, 10, v.Type().Bits())
		v.SetUint(u)
	} else {
		var i int64
		i, err = strconv.ParseInt(n.text, 10, v.Type().Bits())
		v.SetInt(i)
	}
	if err != nil {
		d.add(n.at, path, "expected %s within its range, found %s", want, shorten(n.text))
	}
}

func (d *decoder) decodeSlice(n *node, v reflect.Value, path string) {
	if !d.want(n, kindArray, path) {
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.elems), len(n.elems)))
	for i, elem := range n.elems {
		if d.full() {
			return
		}
		d.decode(elem, v.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
}

func (d *decoder) decodeMap(n *node, v reflect.Value, path string) {
	if !d.want(n, kindObject, path) {
		return
	}
	if v.IsNil() || !d.merge {
		v.Set(reflect.MakeMapWithSize(v.Type(), len(n.members)))
	}
	for _, m := range n.members {
		if d.full() {
			return
		}
		key := reflect.ValueOf(m.name)
		if d.merge && m.value.kind == kindNull {
			v.SetMapIndex(key, reflect.Value{}) // removes it
			continue
		}
		elem := reflect.New(v.Type().Elem()).Elem()
		if old := v.MapIndex(key); old.IsValid() {
			elem.Set(old)
		}
		d.decode(m.value, elem, join(path, m.name))
		v.SetMapIndex(key, elem)
	}
}

func (d *decoder) decodeStruct(n *node, v reflect.Value, path string) {
	if !d.want(n, kindObject, path) {
		return
	}
	fields := structFields(v.Type())
	given := map[int]string{}
	for _, m := range n.members {
		if d.full() {
			return
		}
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == m.name || slices.Contains(f.aliases, m.name) })
		at := join(path, m.name)
		if i < 0 {
			d.unknown(m.at, at, "%s", unknownKey(m.name, keyNames(fields)))
			continue
		}
		if other, ok := given[i]; ok {
			if other != m.name { // the parser has reported equal ones
				d.add(m.at, at, "the key is another spelling of %q, which is given too", other)
			}
			continue
		}
		given[i] = m.name
		if fields[i].choices != nil {
			d.decodeChoice(m.value, v.Field(fields[i].index), fields[i].choices, at)
			continue
		}
		d.decode(m.value, v.Field(fields[i].index), at)
	}
}

// decodeChoice reads a Choice, or a pointer to one.
func (d *decoder) decodeChoice(n *node, v reflect.Value, choices []string, path string) {
	if n.kind == kindNull {
		v.SetZero()
		return
	}
	text := n.text
	if n.kind == kindString {
		s, ok := d.str(n, path)
		if !ok {
			return
		}
		text = s
	} else if n.kind != kindBoolean {
		text = ""
	}
	if !slices.Contains(choices, text) {
		d.add(n.at, path, "expected one of %s", strings.Join(choices, ", "))
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	v.SetString(text)
}

// unknownKey is the message for a key that does not exist.
func unknownKey(name string, valid []string) string {
	return fmt.Sprintf("unknown key %q; the nearest valid key is %q", shorten(name), nearest(name, valid))
}

// shorten cuts what is quoted in a message.
func shorten(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// join appends a key to a path.
func join(path, key string) string {
	key = shorten(key)
	if path == "" || key == "" {
		return path + key
	}
	return path + "." + key
}

// field is a struct field as JSON sees it.
type field struct {
	name    string
	aliases []string
	choices []string
	index   int
}

// structFields lists the fields of a struct that have a JSON name.
func structFields(t reflect.Type) []field {
	var fields []field
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		one := field{name: name, index: i}
		if alias := f.Tag.Get("alias"); alias != "" {
			one.aliases = strings.Split(alias, ",")
		}
		if choice := f.Tag.Get("choice"); choice != "" {
			one.choices = strings.Split(choice, ",")
		}
		fields = append(fields, one)
	}
	return fields
}

// keyNames lists the canonical names of fields.
func keyNames(fields []field) []string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return names
}
