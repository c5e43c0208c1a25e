package clustersync

import (
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// neverExpires is the expireAfterSeconds of TTL indexes during a sync.
const neverExpires = int32(2147483647)

// indexMembers are the members of an index that the destination gets during a sync (spec §9.1). unique, prepareUnique and hidden come at commit;
// everything else is old or unknown.
var indexMembers = []string{
	"v", "key", "name", "sparse", "partialFilterExpression", "collation", "weights", "default_language", "language_override", "textIndexVersion",
	"2dsphereIndexVersion", "bits", "min", "max", "wildcardProjection", "storageEngine",
}

// transformIndex gives the spec that the destination has during a sync.
func transformIndex(spec bson.Raw) (bson.Raw, error) {
	elements, err := spec.Elements()
	if err != nil {
		return nil, err
	}
	var out bson.D
	for _, e := range elements {
		switch name := e.Key(); {
		case name == "key":
			out = append(out, bson.E{Key: name, Value: modernKeys(e.Value())})
		case name == "expireAfterSeconds":
			out = append(out, bson.E{Key: name, Value: neverExpires})
		case slices.Contains(indexMembers, name):
			out = append(out, bson.E{Key: name, Value: e.Value()})
		}
	}
	return bson.Marshal(out)
}

// finalIndex gives the spec that an index has once the sync is committed, for a destination that cannot change an index.
func finalIndex(spec bson.Raw) (bson.Raw, error) {
	base, err := transformIndex(spec)
	if err != nil {
		return nil, err
	}
	var out bson.D
	elements, err := base.Elements()
	if err != nil {
		return nil, err
	}
	for _, e := range elements {
		if e.Key() == "expireAfterSeconds" {
			continue
		}
		out = append(out, bson.E{Key: e.Key(), Value: e.Value()})
	}
	for _, name := range []string{"unique", "expireAfterSeconds", "hidden"} {
		if v, err := spec.LookupErr(name); err == nil {
			out = append(out, bson.E{Key: name, Value: v})
		}
	}
	return bson.Marshal(out)
}

// modernKeys rewrites the directions of keys as servers take them today: whatever is not a name or a negative number is 1.
func modernKeys(keys bson.RawValue) any {
	doc, ok := keys.DocumentOK()
	if !ok {
		return keys
	}
	elements, err := doc.Elements()
	if err != nil {
		return keys
	}
	out := bson.D{}
	for _, e := range elements {
		out = append(out, bson.E{Key: e.Key(), Value: modernDirection(e.Value())})
	}
	return out
}

func modernDirection(v bson.RawValue) any {
	if name, ok := v.StringValueOK(); ok && name != "" {
		return name
	}
	if n, ok := asNumber(v); ok && n < 0 {
		return int32(-1)
	}
	return int32(1)
}

// hashedIndex reports whether an index has a hashed key.
func hashedIndex(spec bson.Raw) bool {
	doc, ok := spec.Lookup("key").DocumentOK()
	if !ok {
		return false
	}
	elements, err := doc.Elements()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(elements, func(e bson.RawElement) bool {
		kind, _ := e.Value().StringValueOK()
		return kind == "hashed"
	})
}

func specFlag(spec bson.Raw, member string) bool {
	on, _ := spec.Lookup(member).BooleanOK()
	return on
}

// withMembers gives the document with members set; a nil value removes one.
func withMembers(doc bson.Raw, changes bson.D) (bson.Raw, error) {
	var elements []bson.RawElement
	if len(doc) > 0 {
		var err error
		if elements, err = doc.Elements(); err != nil {
			return nil, err
		}
	}
	out := bson.D{}
	done := map[string]bool{}
	value := func(name string) (any, bool) {
		for _, c := range changes {
			if c.Key == name {
				return c.Value, true
			}
		}
		return nil, false
	}
	for _, e := range elements {
		if v, ok := value(e.Key()); ok {
			done[e.Key()] = true
			if v != nil {
				out = append(out, bson.E{Key: e.Key(), Value: v})
			}
			continue
		}
		out = append(out, bson.E{Key: e.Key(), Value: e.Value()})
	}
	for _, c := range changes {
		if !done[c.Key] && c.Value != nil {
			done[c.Key] = true
			out = append(out, c)
		}
	}
	return bson.Marshal(out)
}
