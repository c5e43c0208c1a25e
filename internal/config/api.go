package config

import "errors"

// ParseStartup reads a config file in the 3.x or the 2.8 form, or a mix. getenv looks a variable up as
// os.LookupEnv does. The databases of the file, if any, come by name; their script settings may still be file
// paths: see Database.LoadFiles.
//
// It checks the form; Validate checks the values. The error is an *Error of all problems found.
func ParseStartup(src []byte, getenv func(string) (string, bool)) (*Startup, map[string]*Database, error) {
	n, err := parse(src, newExpander(getenv))
	if err != nil {
		return nil, nil, err
	}
	d := &decoder{expand: newExpander(getenv)}
	var f file
	f.decode(d, n)
	startup := f.startup(d)
	return startup, f.Databases, d.err()
}

// ParseDatabase reads one database's config as a REST body gives it: no environment variables, no file paths,
// no users and roles. It checks the form; Validate checks the values.
//
// The error is an *Error.
func ParseDatabase(src []byte) (*Database, error) {
	d := &decoder{}
	cfg := &Database{}
	if err := d.database(src, cfg); err != nil {
		return nil, err
	}
	return cfg, nil
}

// Merge returns a copy with the fields of a POST body put in: a field that is there replaces the old one,
// objects member by member, and null resets (gateway-rest.md §10.3). Masked secrets stay what they are.
//
// The error is an *Error.
func (d *Database) Merge(src []byte) (*Database, error) {
	dec := &decoder{merge: true}
	cfg := d.Clone()
	if err := dec.database(src, cfg); err != nil {
		return nil, err
	}
	return cfg, cfg.KeepSecrets(d)
}

// database reads a REST body into cfg.
func (d *decoder) database(src []byte, cfg *Database) error {
	n, err := parse(src, nil)
	if err != nil {
		return err
	}
	if d.want(n, kindObject, "") {
		for _, key := range []string{"users", "roles"} {
			if m := n.get(key); m != nil && m.value.kind != kindNull {
				d.add(m.at, key, "only a config file sets %s here; over the API they are created one by one under /{db}/_%s/", key, key[:4])
			}
		}
		moveDeprecated(n)
		d.decodeValue(n, cfg, "")
	}
	return d.err()
}

// Problems returns the list of problems in an error of this package, nil for others.
func Problems(err error) []Problem {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Problems
	}
	return nil
}
