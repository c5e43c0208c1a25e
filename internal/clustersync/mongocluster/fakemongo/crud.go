package fakemongo

import (
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// find returns the document under a key, nil if there is none.
func (coll *collection) find(id any) bson.Raw {
	if i, ok := coll.byKey[keyText(id)]; ok {
		return coll.docs[i]
	}
	return nil
}

// clash is a write refused by a unique index.
type clash struct {
	index string
	key   bson.D
	value bson.D
}

func (e clash) Error() string {
	return fmt.Sprintf("E11000 duplicate key error collection: fake index: %s dup key: { … }", e.index)
}

// clashes reports which unique index refuses a document.
func (coll *collection) clashes(doc bson.Raw) error {
	for _, spec := range coll.indexes {
		if !truthy(get(spec, "unique")) && !truthy(get(spec, "prepareUnique")) {
			continue
		}
		mine := coll.keyIn(spec, doc)
		for _, other := range coll.docs {
			if other != nil && !equal(idOf(other), idOf(doc)) && coll.keyIn(spec, other) == mine {
				var value bson.D
				for _, field := range get(spec, "key").(bson.D) {
					v, _ := at(decode(doc), field.Key)
					value = append(value, bson.E{Key: field.Key, Value: v})
				}
				return clash{get(spec, "name").(string), get(spec, "key").(bson.D), value}
			}
		}
	}
	return nil
}

// store puts a document under its key and tells of it.
func (c *call) store(coll *collection, doc bson.Raw, op string, more ...bson.E) error {
	if err := coll.clashes(doc); err != nil {
		return err
	}
	id := idOf(doc)
	if i, ok := coll.byKey[keyText(id)]; ok {
		coll.docs[i] = doc
	} else {
		coll.byKey[keyText(id)] = len(coll.docs)
		coll.docs = append(coll.docs, doc)
	}
	if op != "update" {
		more = append(more, bson.E{Key: "fullDocument", Value: doc})
	}
	c.s.state.tell(c.db, coll, op, true, append(more, bson.E{Key: "documentKey", Value: bson.D{{Key: "_id", Value: id}}})...)
	return nil
}

// target collections of writes are made when they are missing.
func (c *call) writable() *collection {
	if coll := c.coll(); coll != nil {
		return coll
	}
	return c.s.state.create(c.db, c.text(c.name), nil)
}

func (c *call) insert() (bson.Raw, error) {
	if err := c.known(); err != nil {
		return nil, err
	}
	docs := c.docs("documents")
	if len(docs) == 0 {
		return nil, refuse(16, "Write batch sizes must be between 1 and 100000")
	}
	coll := c.writable()
	return c.each(len(docs), func(i int) (int, error) {
		doc := docs[i]
		if _, err := doc.LookupErr("_id"); err != nil {
			doc = marshal(withID(decode(doc), bson.NewObjectID()))
		}
		if coll.find(idOf(doc)) != nil {
			return 0, clash{"_id_", bson.D{{Key: "_id", Value: int32(1)}}, bson.D{{Key: "_id", Value: idOf(doc)}}}
		}
		return 1, c.store(coll, slices.Clone(doc), "insert")
	})
}

// known refuses the option that older servers do not have.
func (c *call) known() error {
	if get(c.cmd, "bypassEmptyTsReplacement") != nil && c.s.opts.Lacks["bypassEmptyTsReplacement"] {
		return refuse(40415, "BSON field '%s.bypassEmptyTsReplacement' is an unknown field.", c.name)
	}
	return nil
}

// each writes the items of a command and collects what fails.
func (c *call) each(n int, write func(int) (int, error)) (bson.Raw, error) {
	var done int
	var failed bson.A
	ordered, isSet := get(c.cmd, "ordered").(bool)
	for i := range n {
		changed, err := write(i)
		done += changed
		if err == nil {
			continue
		}
		e := bson.D{{Key: "index", Value: int32(i)}}
		switch x := err.(type) {
		case clash:
			e = append(e, bson.E{Key: "code", Value: int32(11000)}, bson.E{Key: "keyPattern", Value: x.key}, bson.E{Key: "keyValue", Value: x.value})
		case refusal:
			e = append(e, bson.E{Key: "code", Value: int32(x.code)})
		default:
			return nil, err
		}
		failed = append(failed, append(e, bson.E{Key: "errmsg", Value: err.Error()}))
		if ordered || !isSet {
			break
		}
	}
	c.s.wake()
	reply := bson.D{{Key: "n", Value: int32(done)}}
	if len(failed) > 0 {
		reply = append(reply, bson.E{Key: "writeErrors", Value: failed})
	}
	return success(reply...), nil
}

// first returns the first document that a filter matches.
func (c *call) first(coll *collection, filter bson.D) (bson.Raw, error) {
	if id := get(filter, "_id"); id != nil {
		doc := coll.find(id)
		if doc == nil || len(filter) == 1 {
			return doc, nil
		}
		ok, err := c.s.matches(decode(doc), filter)
		if !ok {
			doc = nil
		}
		return doc, err
	}
	for _, doc := range coll.docs {
		if doc == nil {
			continue
		}
		if ok, err := c.s.matches(decode(doc), filter); err != nil || ok {
			return doc, err
		}
	}
	return nil, nil
}

func (c *call) update() (bson.Raw, error) {
	if err := c.known(); err != nil {
		return nil, err
	}
	items := c.docs("updates")
	coll := c.writable()
	return c.each(len(items), func(i int) (int, error) {
		item := decode(items[i])
		for _, field := range c.s.opts.ShardKeys[c.db+"."+coll.name] {
			if get(get(item, "q").(bson.D), field.Key) == nil {
				return 0, refuse(61, "could not extract the shard key %s from the query", field.Key)
			}
		}
		_, n, err := c.change(coll, get(item, "q").(bson.D), get(item, "u"), truthy(get(item, "upsert")))
		return n, err
	})
}

// change updates or upserts one document and returns what it is then.
func (c *call) change(coll *collection, filter bson.D, u any, upsert bool) (bson.Raw, int, error) {
	before, err := c.first(coll, filter)
	if err != nil || before == nil && !upsert {
		return nil, 0, err
	}
	id := get(filter, "_id")
	if before != nil {
		id = idOf(before)
	} else if coll.find(id) != nil {
		return nil, 0, clash{"_id_", bson.D{{Key: "_id", Value: int32(1)}}, bson.D{{Key: "_id", Value: id}}}
	}
	after, replaced, err := c.s.updated(before, id, u)
	if err != nil {
		return nil, 0, err
	}
	switch {
	case before == nil:
		return after, 1, c.store(coll, after, "insert")
	case string(before) == string(after):
		return after, 1, nil
	case replaced:
		return after, 1, c.store(coll, after, "replace")
	}
	return after, 1, c.store(coll, after, "update", bson.E{Key: "updateDescription", Value: difference(decode(before), decode(after))})
}

// difference is an updateDescription of whole members.
func difference(before, after bson.D) bson.D {
	updated, removed := bson.D{}, bson.A{}
	for _, e := range after {
		if was := get(before, e.Key); was == nil || !equal(was, e.Value) {
			updated = append(updated, e)
		}
	}
	for _, e := range before {
		if get(after, e.Key) == nil {
			removed = append(removed, e.Key)
		}
	}
	return bson.D{{Key: "updatedFields", Value: updated}, {Key: "removedFields", Value: removed}, {Key: "truncatedArrays", Value: bson.A{}}, {Key: "disambiguatedPaths", Value: bson.D{}}}
}

func (c *call) delete() (bson.Raw, error) {
	items := c.docs("deletes")
	coll := c.writable()
	return c.each(len(items), func(i int) (int, error) {
		doc, err := c.first(coll, get(decode(items[i]), "q").(bson.D))
		if err != nil || doc == nil {
			return 0, err
		}
		id := idOf(doc)
		coll.docs[coll.byKey[keyText(id)]] = nil
		delete(coll.byKey, keyText(id))
		c.s.state.tell(c.db, coll, "delete", true, bson.E{Key: "documentKey", Value: bson.D{{Key: "_id", Value: id}}})
		return 1, nil
	})
}

func (c *call) findAndModify() (bson.Raw, error) {
	after, _, err := c.change(c.writable(), c.doc("query"), get(c.cmd, "update"), truthy(get(c.cmd, "upsert")))
	var duplicate clash
	if e, ok := err.(clash); ok {
		duplicate = e
		return nil, refuse(11000, "%s", duplicate.Error())
	}
	c.s.wake()
	var doc any
	if after != nil {
		doc = after
	}
	return success(bson.E{Key: "value", Value: doc}), err
}
