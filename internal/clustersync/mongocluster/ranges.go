package mongocluster

import (
	"errors"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// rangeMode is how a range of keys is asked for, best first (spec §7.3).
type rangeMode int

const (
	rangeMinMax rangeMode = iota // min, max and a hint: index order, all types
	rangeExpr                    // $expr: all types, too
	rangeFilter                  // the server sends everything, and what is outside is thrown away here
)

var byID = bson.D{{Key: "_id", Value: 1}}

// errIgnored: the server took bounds without a word, and sent what is outside of them.
var errIgnored = errors.New("bounds were ignored")

func (c *Cluster) rangeMode() rangeMode {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ranges
}

// weaken takes the next best mode if the failure of this one says that the server does not have it.
func (c *Cluster) weaken(mode rangeMode, err error) bool {
	if mode == rangeFilter || !errors.Is(err, errIgnored) && !isUnsupported(err) && !hasCode(err, codeBadValue, codeInternal, 17, 51173, 168, 14) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ranges == mode {
		c.ranges++
	}
	return true
}

// scans reports whether the server reads whole collections for what others look up in an index: it says so, or it ignores hints.
func (c *Cluster) scans() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ranges != rangeMinMax || c.caps != nil && c.caps.scans
}

// within is the filter of a range without type bracketing (spec §7.3).
func within(from, to *bson.RawValue) bson.D {
	var all bson.A
	if from != nil {
		all = append(all, bson.D{{Key: "$gte", Value: bson.A{"$_id", bson.D{{Key: "$literal", Value: *from}}}}})
	}
	if to != nil {
		all = append(all, bson.D{{Key: "$lt", Value: bson.A{"$_id", bson.D{{Key: "$literal", Value: *to}}}}})
	}
	return bson.D{{Key: "$expr", Value: bson.D{{Key: "$and", Value: all}}}}
}

// bound reads the one member of a range's end; nil if it is open.
func bound(doc bson.Raw) *bson.RawValue {
	if doc == nil {
		return nil
	}
	value, err := doc.LookupErr("_id")
	if err != nil {
		return nil
	}
	return &value
}

// isCollated reports whether strings have another order in a collection than that of their bytes.
func isCollated(options bson.Raw) bool {
	locale := lookupString(options, "collation", "locale")
	return locale != "" && locale != "simple"
}

// documents returns the array of documents under a name.
func documents(doc bson.Raw, name string) ([]bson.Raw, error) {
	value, err := doc.LookupErr(name)
	if err != nil {
		return nil, err
	}
	array, ok := value.ArrayOK()
	if !ok {
		return nil, errors.New(name + " is no array")
	}
	values, err := array.Values()
	if err != nil {
		return nil, err
	}
	var out []bson.Raw
	for _, v := range values {
		if d, ok := v.DocumentOK(); ok {
			out = append(out, d)
		}
	}
	return out, nil
}
