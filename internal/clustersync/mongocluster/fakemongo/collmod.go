package fakemongo

import (
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// collMod changes options and indexes as MongoDB does, with its conditions: unique needs prepareUnique, and no duplicates.
func (c *call) collMod() (bson.Raw, error) {
	coll := c.coll()
	if coll == nil {
		return nil, c.missing(c.text("collMod"))
	}
	var description bson.D
	for _, e := range c.cmd[1:] {
		if slices.Contains(envelope, e.Key) || c.s.opts.Ignores[e.Key] {
			continue
		}
		switch e.Key {
		case "index":
			if err := c.modifyIndex(coll, e.Value.(bson.D)); err != nil {
				return nil, err
			}
		case "cappedSize":
			coll.options = set(coll.options, "size", (integer(e.Value)+255)/256*256)
		case "cappedMax":
			coll.options = set(coll.options, "max", e.Value)
		case "validator", "validationLevel", "validationAction", "viewOn", "pipeline", "changeStreamPreAndPostImages":
			coll.options = set(coll.options, e.Key, e.Value)
		default:
			return nil, refuse(40415, "BSON field 'collMod.%s' is an unknown field.", e.Key)
		}
		description = append(description, e)
	}
	if len(description) > 0 {
		c.s.state.tell(c.db, coll, "modify", false, bson.E{Key: "operationDescription", Value: description})
		c.s.wake()
	}
	return success(), nil
}

func (c *call) modifyIndex(coll *collection, change bson.D) error {
	i := slices.IndexFunc(coll.indexes, func(spec bson.D) bool { return get(spec, "name") == get(change, "name") })
	if i < 0 {
		return refuse(27, "cannot find index %v", get(change, "name"))
	}
	spec := coll.indexes[i]
	for _, e := range change {
		if e.Key == "name" || c.s.opts.Ignores[e.Key] {
			continue
		}
		switch e.Key {
		case "prepareUnique":
			spec = set(spec, e.Key, e.Value)
		case "unique":
			if !truthy(get(spec, "prepareUnique")) {
				return refuse(72, "an index must be prepared before it is converted to unique")
			}
			if violations := coll.violations(spec); len(violations) > 0 {
				return notUnique{violations}
			}
			spec = set(unset(spec, "prepareUnique"), "unique", true)
		case "forceNonUnique":
			spec = unset(unset(spec, "prepareUnique"), "unique")
		case "hidden":
			if spec = unset(spec, "hidden"); truthy(e.Value) {
				spec = set(spec, "hidden", true)
			}
		case "expireAfterSeconds":
			spec = set(spec, e.Key, e.Value)
		default:
			return refuse(40415, "BSON field 'collMod.index.%s' is an unknown field.", e.Key)
		}
	}
	coll.indexes = slices.Clone(coll.indexes)
	coll.indexes[i] = spec
	return nil
}

// notUnique is error 359, which names the documents.
type notUnique struct{ violations bson.A }

func (notUnique) Error() string { return "Cannot convert the index to unique" }
