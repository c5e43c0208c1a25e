package clustertest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/tidegate/tidegate/internal/clustersync"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// errDuplicateID is a second document of one _id.
var errDuplicateID = errors.New("duplicate key in index _id_")

// put stores a document whatever was there. The unique indexes are asked first.
func (c *collection) put(d clustersync.Document) error {
	if err := c.unique(d); err != nil {
		return err
	}
	if place, ok := c.where[d.Key.ID]; ok {
		d.Key = c.docs[place].Key // an _id does not change, not even its type
		c.docs[place] = d
		return nil
	}
	c.last++
	c.where[d.Key.ID], c.numbers[d.Key.ID] = len(c.docs), c.last
	c.docs = append(c.docs, d)
	c.trim()
	return nil
}

// trim has a capped collection forget its oldest documents, which no event tells.
func (c *collection) trim() {
	if !c.capped {
		return
	}
	size, _ := c.options.Lookup("size").AsInt64OK()
	most, _ := c.options.Lookup("max").AsInt64OK()
	var bytes int64
	for _, d := range c.docs {
		bytes += int64(len(d.Body))
	}
	drop := 0
	for len(c.docs)-drop > 1 && (size > 0 && bytes > size || most > 0 && int64(len(c.docs)-drop) > most) {
		bytes -= int64(len(c.docs[drop].Body))
		drop++
	}
	if drop > 0 {
		c.docs = slices.Delete(c.docs, 0, drop)
		c.renumber()
	}
}

// remove deletes a document and reports whether there was one.
func (c *collection) remove(id string) bool {
	place, ok := c.where[id]
	if !ok {
		return false
	}
	c.docs = slices.Delete(c.docs, place, place+1)
	c.renumber()
	return true
}

func (c *collection) renumber() {
	clear(c.where)
	for i, d := range c.docs {
		c.where[d.Key.ID] = i
	}
}

// unique is a *clustersync.DuplicateKeyError if another document holds a value of d in a unique index.
func (c *collection) unique(d clustersync.Document) error {
	for _, spec := range c.indexes {
		if !isSet(spec, "unique") && !isSet(spec, "prepareUnique") {
			continue
		}
		key, covered := indexKey(spec, d.Body)
		if !covered {
			continue
		}
		for _, other := range c.docs {
			if other.Key.ID == d.Key.ID {
				continue
			}
			if k, ok := indexKey(spec, other.Body); ok && k == key {
				name := spec.Lookup("name").StringValue()
				holder := slices.Clone(idOf(other.Key.Raw).Value)
				return &clustersync.DuplicateKeyError{Index: name, Holder: keyValue(spec, d.Body), Err: fmt.Errorf("held by _id %x", holder)}
			}
		}
	}
	return nil
}

func isSet(spec bson.Raw, member string) bool {
	b, _ := spec.Lookup(member).BooleanOK()
	return b
}

// indexKey is what an index keeps of a document, and whether it keeps it at all.
func indexKey(spec, body bson.Raw) (string, bool) {
	fields, err := spec.Lookup("key").Document().Elements()
	if err != nil {
		return "", false
	}
	key, some := "", false
	for _, f := range fields {
		v, err := body.LookupErr(f.Key())
		some = some || err == nil
		if err != nil {
			v = bson.RawValue{Type: bson.TypeNull}
		}
		key += canonical(v) + "\x00"
	}
	return key, some || !isSet(spec, "sparse")
}

// keyValue is the keyValue of a server's error.
func keyValue(spec, body bson.Raw) bson.Raw {
	fields, err := spec.Lookup("key").Document().Elements()
	if err != nil {
		return nil
	}
	var out bson.D
	for _, f := range fields {
		out = append(out, bson.E{Key: f.Key(), Value: body.Lookup(f.Key())})
	}
	return marshal(out)
}

// violations are the documents that keep an index from being unique.
func (c *collection) violations(spec bson.Raw) []bson.RawValue {
	holders := map[string][]bson.RawValue{}
	for _, d := range c.docs {
		if k, ok := indexKey(spec, d.Body); ok {
			holders[k] = append(holders[k], idOf(d.Key.Raw))
		}
	}
	var out []bson.RawValue
	for _, ids := range holders {
		if len(ids) > 1 {
			out = append(out, ids...)
		}
	}
	return out
}

// index returns the place of an index by its name, or -1.
func (c *collection) index(name string) int {
	return slices.IndexFunc(c.indexes, func(spec bson.Raw) bool {
		n, _ := spec.Lookup("name").StringValueOK()
		return n == name
	})
}

// addIndex makes an index and reports whether it is new. A spec that fits another one half is an error.
func (c *collection) addIndex(spec bson.Raw) (bool, error) {
	name, _ := spec.Lookup("name").StringValueOK()
	keys := spec.Lookup("key").String()
	for _, other := range c.indexes {
		sameName, sameKeys := other.Lookup("name").StringValue() == name, other.Lookup("key").String() == keys
		switch {
		case sameName && sameKeys:
			return false, nil
		case sameName || sameKeys:
			return false, fmt.Errorf("index %s: another one has its name or keys", name)
		}
	}
	if isSet(spec, "unique") {
		if ids := c.violations(spec); len(ids) > 0 {
			return false, &clustersync.NotUniqueError{Index: name, IDs: ids}
		}
	}
	c.indexes = append(c.indexes, spec)
	return true, nil
}
