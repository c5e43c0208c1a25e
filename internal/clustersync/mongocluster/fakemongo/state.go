package fakemongo

import (
	"encoding/hex"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// state is what the server holds. Everything is done with the server locked.
type state struct {
	clock   bson.Timestamp
	floor   bson.Timestamp // the history before is gone
	dbs     map[string]map[string]*collection
	order   []string // databases, as they were made
	events  []event
	oplog   []bson.Raw
	uuids   int
	blocked bool
}

type collection struct {
	name    string
	uuid    bson.Binary
	options bson.D
	indexes []bson.D // without the one on _id
	docs    []bson.Raw
	byKey   map[string]int // position in docs
	ordinal int
}

// event is a change event without its token.
type event struct {
	at    bson.Timestamp
	db    string
	doc   bson.D
	plain bool // told also without showExpandedEvents
}

func (s *state) init() {
	s.clock = bson.Timestamp{T: 1_700_000_000, I: 1}
	s.floor = s.clock
	s.dbs = map[string]map[string]*collection{}
	s.note()
}

func (s *state) tick() bson.Timestamp {
	s.clock.I++
	if s.clock.I%1000 == 0 {
		s.clock = bson.Timestamp{T: s.clock.T + 1, I: 1}
	}
	return s.clock
}

// note is a no-op in the oplog.
func (s *state) note() {
	s.log(bson.D{{Key: "op", Value: "n"}, {Key: "ns", Value: ""}, {Key: "o", Value: bson.D{}}})
}

func (s *state) log(entry bson.D) bson.Timestamp {
	at := s.tick()
	s.oplog = append(s.oplog, marshal(append(bson.D{{Key: "ts", Value: at}, {Key: "t", Value: int64(1)}, {Key: "v", Value: int32(2)}}, entry...)))
	return at
}

func (s *state) coll(db, name string) *collection { return s.dbs[db][name] }

// views are collections with a viewOn, and have no UUID.
func (c *collection) isView() bool { return get(c.options, "viewOn") != nil }

func (s *state) create(db, name string, options bson.D) *collection {
	s.uuids++
	id := make([]byte, 16)
	copy(id, fmt.Sprintf("fake%012d", s.uuids))
	c := &collection{name: name, uuid: bson.Binary{Subtype: 4, Data: id}, options: options, byKey: map[string]int{}, ordinal: s.uuids}
	if s.dbs[db] == nil {
		s.dbs[db] = map[string]*collection{}
		s.order = append(s.order, db)
	}
	s.dbs[db][name] = c
	description := append(bson.D{{Key: "idIndex", Value: bson.D{{Key: "v", Value: int32(2)}, {Key: "key", Value: bson.D{{Key: "_id", Value: int32(1)}}}, {Key: "name", Value: "_id_"}}}}, options...)
	s.tell(db, c, "create", false, bson.E{Key: "operationDescription", Value: description})
	return c
}

func (s *state) drop(db, name string) bool {
	c := s.coll(db, name)
	if c == nil {
		return false
	}
	delete(s.dbs[db], name)
	s.tell(db, c, "drop", true)
	if len(s.dbs[db]) == 0 {
		delete(s.dbs, db)
		s.order = slices.DeleteFunc(s.order, func(n string) bool { return n == db })
	}
	return true
}

// tell adds a change event about a collection, and its entry in the oplog.
func (s *state) tell(db string, c *collection, op string, plain bool, more ...bson.E) {
	entry := bson.D{{Key: "op", Value: "c"}, {Key: "ns", Value: db + ".$cmd"}, {Key: "o", Value: bson.D{{Key: op, Value: c.name}}}}
	key := get(more, "documentKey")
	switch op {
	case "insert":
		entry = bson.D{{Key: "op", Value: "i"}, {Key: "ns", Value: db + "." + c.name}, {Key: "ui", Value: c.uuid}, {Key: "o", Value: get(more, "fullDocument")}, {Key: "o2", Value: key}}
	case "replace", "update":
		entry = bson.D{{Key: "op", Value: "u"}, {Key: "ns", Value: db + "." + c.name}, {Key: "ui", Value: c.uuid}, {Key: "o", Value: bson.D{{Key: "$v", Value: int32(2)}}}, {Key: "o2", Value: key}}
	case "delete":
		entry = bson.D{{Key: "op", Value: "d"}, {Key: "ns", Value: db + "." + c.name}, {Key: "ui", Value: c.uuid}, {Key: "o", Value: key}}
	}
	at := s.log(entry)
	doc := bson.D{{Key: "operationType", Value: op}, {Key: "clusterTime", Value: at}, {Key: "ns", Value: bson.D{{Key: "db", Value: db}, {Key: "coll", Value: c.name}}}}
	if !c.isView() {
		doc = append(doc, bson.E{Key: "collectionUUID", Value: c.uuid})
	}
	s.events = append(s.events, event{at: at, db: db, plain: plain, doc: append(doc, more...)})
}

// token is a resume token of that time; events of one time cannot be told apart, which the fake does not have.
func token(at bson.Timestamp) bson.D {
	return bson.D{{Key: "_data", Value: fmt.Sprintf("82%08X%08X", at.T, at.I)}}
}

func timeOfToken(doc bson.Raw) (bson.Timestamp, bool) {
	value, err := doc.LookupErr("_data")
	if err != nil {
		return bson.Timestamp{}, false
	}
	data, err := hex.DecodeString(value.StringValue())
	if err != nil || len(data) < 9 || data[0] != 0x82 {
		return bson.Timestamp{}, false
	}
	n := func(b []byte) uint32 { return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]) }
	return bson.Timestamp{T: n(data[1:5]), I: n(data[5:9])}, true
}

// get returns a member of a document, nil if there is none.
func get(d bson.D, name string) any {
	for _, e := range d {
		if e.Key == name {
			return e.Value
		}
	}
	return nil
}

func set(d bson.D, name string, v any) bson.D {
	for i, e := range d {
		if e.Key == name {
			out := slices.Clone(d)
			out[i].Value = v
			return out
		}
	}
	return append(slices.Clone(d), bson.E{Key: name, Value: v})
}

func unset(d bson.D, name string) bson.D {
	return slices.DeleteFunc(slices.Clone(d), func(e bson.E) bool { return e.Key == name })
}

func decode(raw bson.Raw) bson.D {
	var d bson.D
	if err := bson.Unmarshal(raw, &d); err != nil {
		panic(fmt.Sprintf("fakemongo: %v", err))
	}
	return d
}
