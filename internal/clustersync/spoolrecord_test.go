package clustersync

import (
	"reflect"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// TestSpoolRecord: what is kept of an event is all of it, but of a document only which one.
func TestSpoolRecord(t *testing.T) {
	raw := func(d bson.D) bson.Raw {
		b, err := bson.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	ref := Ref{Namespace{"db", "c"}, "uuid"}
	at := bson.Timestamp{T: 7, I: 3}
	index := []bson.Raw{raw(bson.D{{Key: "name", Value: "n_1"}})}
	for _, ev := range []Event{
		{Op: OpCreate, Collection: Collection{Ref: ref, Type: View, Options: raw(bson.D{{Key: "viewOn", Value: "x"}}), Indexes: index, Capped: true, Count: 4, Bytes: 5}},
		{Op: OpDrop}, {Op: OpDropDatabase}, {Op: OpRename, To: Namespace{"db", "d"}, Dropped: "other"},
		{Op: OpCreateIndexes, Indexes: index}, {Op: OpDropIndexes, Indexes: index}, {Op: OpModify, Change: raw(bson.D{{Key: "validator", Value: bson.D{}}})},
		{Op: OpShard, Change: raw(bson.D{{Key: "shardKey", Value: bson.D{}}})}, {Op: OpUnsupported, Reason: "why"},
		{Op: OpTouched, Doc: Document{Key: Key{ID: "\xff\x00k", Raw: raw(bson.D{{Key: "_id", Value: 1}})}, Format: MongoDB}},
	} {
		ev.Ref, ev.Time = ref, at
		r, err := newSpoolRecord(ev, 12, false)
		if err != nil {
			t.Fatal(err)
		}
		b, err := bson.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var back spoolRecord
		if err := bson.Unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		ev.Bytes = len(ev.Doc.Key.Raw)
		if got := back.event(); !reflect.DeepEqual(got, ev) || back.ordered() != ev.DDL() {
			t.Errorf("got  %+v\nwant %+v", got, ev)
		}
	}
	insert := Event{Op: OpInsert, Ref: ref, Doc: Document{Key: Key{ID: "k", Raw: raw(bson.D{{Key: "_id", Value: 1}})}, Body: []byte("body")}}
	r, err := newSpoolRecord(insert, 1, true)
	if err != nil || r.event().Op != OpTouched || r.event().Doc.Body != nil || !r.ordered() {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := newSpoolRecord(Event{Op: OpDelete, Ref: ref}, 1, false); err == nil {
		t.Error("a document without a key is kept")
	}
}
