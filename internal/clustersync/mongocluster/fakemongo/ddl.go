package fakemongo

import (
	"cmp"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// envelope are members of every command, which are no options.
var envelope = []string{"lsid", "$clusterTime", "$db", "writeConcern", "readConcern", "$readPreference", "comment", "maxTimeMS"}

func (c *call) listDatabases() (bson.Raw, error) {
	dbs := bson.A{}
	for _, name := range c.s.state.order {
		dbs = append(dbs, bson.D{{Key: "name", Value: name}})
	}
	return success(bson.E{Key: "databases", Value: dbs}), nil
}

func (c *call) listCollections() (bson.Raw, error) {
	var all []bson.Raw
	list := make([]*collection, 0, len(c.s.state.dbs[c.db]))
	for _, coll := range c.s.state.dbs[c.db] {
		list = append(list, coll)
	}
	slices.SortFunc(list, func(a, b *collection) int { return cmp.Compare(a.ordinal, b.ordinal) })
	for _, coll := range list {
		kind, info := "collection", bson.D{{Key: "readOnly", Value: false}, {Key: "uuid", Value: coll.uuid}}
		switch {
		case coll.isView():
			kind, info = "view", bson.D{{Key: "readOnly", Value: true}}
		case get(coll.options, "timeseries") != nil:
			kind = "timeseries"
		}
		d := bson.D{{Key: "name", Value: coll.name}, {Key: "type", Value: kind}, {Key: "options", Value: append(bson.D{}, coll.options...)}, {Key: "info", Value: info}}
		if ok, err := c.s.matches(d, c.doc("filter")); err != nil || ok {
			if err != nil {
				return nil, err
			}
			all = append(all, marshal(d))
		}
	}
	if c.db == "local" && !c.s.opts.Standalone {
		all = append(all, marshal(bson.D{{Key: "name", Value: "oplog.rs"}, {Key: "type", Value: "collection"}, {Key: "options", Value: bson.D{{Key: "capped", Value: true}}}}))
	}
	return c.cursor(all, "$cmd.listCollections"), nil
}

func (c *call) listIndexes() (bson.Raw, error) {
	coll := c.coll()
	if coll == nil {
		return nil, c.missing(c.text("listIndexes"))
	}
	all := []bson.Raw{marshal(bson.D{{Key: "v", Value: int32(2)}, {Key: "key", Value: bson.D{{Key: "_id", Value: int32(1)}}}, {Key: "name", Value: "_id_"}})}
	for _, index := range coll.indexes {
		all = append(all, marshal(index))
	}
	return c.cursor(all, coll.name), nil
}

func (c *call) create() (bson.Raw, error) {
	if coll := c.coll(); coll != nil {
		return nil, refuse(48, "Collection already exists")
	}
	var options bson.D
	for _, e := range c.cmd[1:] {
		if !slices.Contains(envelope, e.Key) {
			options = append(options, e)
		}
	}
	c.s.state.create(c.db, c.text("create"), options)
	c.s.wake()
	return success(), nil
}

func (c *call) drop() (bson.Raw, error) {
	if !c.s.state.drop(c.db, c.text("drop")) {
		return nil, c.missing(c.text("drop"))
	}
	c.s.wake()
	return success(), nil
}

func (c *call) dropDatabase() (bson.Raw, error) {
	for name := range c.s.state.dbs[c.db] {
		c.s.state.drop(c.db, name)
	}
	at := c.s.state.log(bson.D{{Key: "op", Value: "c"}, {Key: "ns", Value: c.db + ".$cmd"}, {Key: "o", Value: bson.D{{Key: "dropDatabase", Value: int32(1)}}}})
	c.s.state.events = append(c.s.state.events, event{at: at, db: c.db, plain: true, doc: bson.D{{Key: "operationType", Value: "dropDatabase"}, {Key: "clusterTime", Value: at}, {Key: "ns", Value: bson.D{{Key: "db", Value: c.db}}}}})
	c.s.wake()
	return success(), nil
}

func (c *call) rename() (bson.Raw, error) {
	fromDB, from, _ := strings.Cut(c.text("renameCollection"), ".")
	toDB, to, _ := strings.Cut(c.text("to"), ".")
	coll := c.s.state.coll(fromDB, from)
	if coll == nil {
		return nil, refuse(26, "Source collection %s.%s does not exist", fromDB, from)
	}
	if toDB != fromDB {
		return nil, refuse(20, "a rename across databases is not played")
	}
	description := bson.D{{Key: "to", Value: bson.D{{Key: "db", Value: toDB}, {Key: "coll", Value: to}}}}
	if there := c.s.state.coll(toDB, to); there != nil {
		if drop, _ := get(c.cmd, "dropTarget").(bool); !drop {
			return nil, refuse(48, "target namespace exists")
		}
		description = append(description, bson.E{Key: "dropTarget", Value: there.uuid})
	}
	c.s.state.tell(fromDB, coll, "rename", true, bson.E{Key: "to", Value: get(description, "to")}, bson.E{Key: "operationDescription", Value: description})
	delete(c.s.state.dbs[fromDB], from)
	coll.name = to
	c.s.state.dbs[toDB][to] = coll
	c.s.wake()
	return success(), nil
}

func (c *call) createIndexes() (bson.Raw, error) {
	coll := c.coll()
	if coll == nil {
		coll = c.s.state.create(c.db, c.text("createIndexes"), nil)
	}
	for _, raw := range c.docs("indexes") {
		spec := decode(raw)
		exists := false
		for _, have := range coll.indexes {
			sameName, sameKey := equal(get(have, "name"), get(spec, "name")), equal(get(have, "key"), get(spec, "key"))
			switch {
			case sameName && sameKey:
				exists = true
			case sameName:
				return nil, refuse(86, "An existing index has the same name as the requested index")
			case sameKey:
				return nil, refuse(85, "Index already exists with a different name")
			}
		}
		if exists {
			continue
		}
		if truthy(get(spec, "unique")) && len(coll.violations(spec)) > 0 {
			return nil, refuse(11000, "E11000 duplicate key error collection: %s.%s index: %s dup key: {}", c.db, coll.name, get(spec, "name"))
		}
		if get(spec, "v") == nil {
			spec = append(bson.D{{Key: "v", Value: int32(2)}}, spec...)
		}
		coll.indexes = append(coll.indexes, spec)
		c.s.state.tell(c.db, coll, "createIndexes", false, bson.E{Key: "operationDescription", Value: bson.D{{Key: "indexes", Value: bson.A{spec}}}})
	}
	c.s.wake()
	return success(), nil
}

func (c *call) dropIndexes() (bson.Raw, error) {
	coll := c.coll()
	if coll == nil {
		return nil, c.missing(c.text("dropIndexes"))
	}
	i := slices.IndexFunc(coll.indexes, func(spec bson.D) bool { return get(spec, "name") == get(c.cmd, "index") })
	if i < 0 {
		return nil, refuse(27, "index not found with name [%v]", get(c.cmd, "index"))
	}
	c.s.state.tell(c.db, coll, "dropIndexes", false, bson.E{Key: "operationDescription", Value: bson.D{{Key: "indexes", Value: bson.A{coll.indexes[i]}}}})
	coll.indexes = slices.Delete(slices.Clone(coll.indexes), i, i+1)
	c.s.wake()
	return success(), nil
}

// violations returns the ids of documents that share a key of an index.
func (coll *collection) violations(spec bson.D) bson.A {
	seen := map[string][]any{}
	for _, doc := range coll.docs {
		if doc != nil {
			text := coll.keyIn(spec, doc)
			seen[text] = append(seen[text], idOf(doc))
		}
	}
	var out bson.A
	for _, ids := range seen {
		if len(ids) > 1 {
			out = append(out, bson.D{{Key: "ids", Value: bson.A(ids)}})
		}
	}
	return out
}

// keyIn is the key of a document in an index.
func (coll *collection) keyIn(spec bson.D, doc bson.Raw) string {
	d := decode(doc)
	var text strings.Builder
	for _, field := range get(spec, "key").(bson.D) {
		v, _ := at(d, field.Key)
		text.WriteString(keyText(v) + "|")
	}
	return text.String()
}
