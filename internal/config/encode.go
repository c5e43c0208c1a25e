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

// Encode returns the config as compact JSON with its secrets as they are.
func (d *Database) Encode() []byte { return d.Seal(nil) }

// Seal returns the config as compact JSON for storage: its secrets are encrypted, unless k is nil.
func (d *Database) Seal(k *Keyring) []byte { return encode(d, sealing(k)) }

// sealing makes secrets write the form that is stored.
func sealing(k *Keyring) json.Options {
	return json.WithMarshalers(json.JoinMarshalers(
		json.MarshalFunc(func(s Secret) ([]byte, error) { return appendString(nil, s.stored(k)), nil }),
		json.MarshalFunc(func(r RemoteURL) ([]byte, error) { return appendString(nil, r.stored(k)), nil }),
	))
}

func encode(v any, opts ...json.Options) []byte {
	out, err := json.Marshal(v, append(opts, json.Deterministic(true), jsontext.EscapeForHTML(false))...)
	if err != nil {
		panic("config: a checked config does not encode: " + err.Error()) // impossible: every type here encodes
	}
	return out
}

// Decode reads what Seal or Encode wrote. Secrets that no key of k decrypts come Locked, which is no error.
func Decode(src []byte, k *Keyring) (*Database, error) {
	cfg := &Database{}
	return cfg, decodeStored(src, k, cfg)
}

// decodeStored reads a text that was stored into v, a pointer.
func decodeStored(src []byte, k *Keyring, v any) error {
	n, err := parse(src, nil)
	if err != nil {
		return err
	}
	d := &decoder{stored: true, keys: k}
	d.decodeValue(n, v, "")
	return d.err()
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
