package config

import (
	"iter"
	"reflect"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Masked returns the config as compact JSON with every secret masked, fields in a fixed order.
func (d *Database) Masked() []byte { return encode(d) }

// Masked returns the config as compact JSON with every secret masked.
func (s *Startup) Masked() []byte { return encode(s) }

// Encode returns the config as compact JSON with its secrets, for storage.
func (d *Database) Encode() []byte { return encode(d, revealed) }

// revealed makes secrets write their text.
var revealed = json.WithMarshalers(json.JoinMarshalers(
	json.MarshalFunc(func(s Secret) ([]byte, error) { return appendString(nil, s.Reveal()), nil }),
	json.MarshalFunc(func(r RemoteURL) ([]byte, error) { return appendString(nil, r.Reveal()), nil }),
))

func encode(v any, opts ...json.Options) []byte {
	out, err := json.Marshal(v, append(opts, json.Deterministic(true), jsontext.EscapeForHTML(false))...)
	if err != nil {
		panic("config: a checked config does not encode: " + err.Error()) // impossible: every type here encodes
	}
	return out
}

// Decode reads what Encode wrote.
func Decode(src []byte) (*Database, error) {
	n, err := parse(src, nil)
	if err != nil {
		return nil, err
	}
	d := &decoder{}
	cfg := &Database{}
	d.decodeValue(n, cfg, "")
	return cfg, d.err()
}

// WithoutJavaScript returns a copy without the sources of functions.
func (d *Database) WithoutJavaScript() *Database {
	c := d.Clone()
	c.eachScript(func(j *JavaScript, _ string) { *j = "" })
	return c
}

// Scripts yields every script setting with its path; those not set are "".
func (d *Database) Scripts() iter.Seq2[string, JavaScript] {
	return func(yield func(string, JavaScript) bool) {
		more := true
		d.Clone().eachScript(func(j *JavaScript, path string) { more = more && yield(path, *j) })
	}
}

// eachScript calls fn for every script setting.
func (d *Database) eachScript(fn func(j *JavaScript, path string)) {
	visit(reflect.ValueOf(d).Elem(), "", func(v reflect.Value, path string) bool {
		if j, ok := v.Interface().(JavaScript); ok {
			fn(&j, path)
			v.SetString(string(j))
			return false
		}
		return true
	})
}
