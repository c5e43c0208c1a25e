package mongocluster

import (
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// transaction is a transaction whose entries have begun: its documents change when it commits, with the last entry (spec §22).
type transaction struct {
	before bson.Timestamp // the entry before its first
	ops    []bson.Raw
}

// touched turns entries into events about the documents they name (spec §23.3).
func (s *oplogStream) touched(entries []bson.Raw, now catalog) []clustersync.Event {
	var events []clustersync.Event
	previous := s.at
	for _, entry := range entries {
		at := entryTime(entry)
		for _, op := range s.operations(entry, previous) {
			events = append(events, s.eventsOf(op, at, now)...)
		}
		previous = at
	}
	return events
}

// operations returns the writes of documents that an entry makes visible: its own, or those of a transaction that it ends.
func (s *oplogStream) operations(entry bson.Raw, previous bson.Timestamp) []bson.Raw {
	switch lookupString(entry, "op") {
	case "i", "u", "d":
		if lookupBool(entry, "fromMigrate") {
			return nil
		}
		return []bson.Raw{entry}
	case "c":
	default:
		return nil // a note, which only moves the time on
	}
	o := lookupDoc(entry, "o")
	id := transactionID(entry)
	ops, err := documents(o, "applyOps")
	switch {
	case err == nil && (lookupBool(o, "partialTxn") || lookupBool(o, "prepare")):
		t := s.pending[id]
		if t == nil {
			t = &transaction{before: previous}
			s.pending[id] = t
		}
		t.ops = append(t.ops, ops...)
		return nil
	case err == nil || lookupInt(o, "commitTransaction") > 0:
		if t := s.pending[id]; t != nil && id != "" {
			ops = append(t.ops, ops...)
			delete(s.pending, id)
		}
		return ops
	case lookupInt(o, "abortTransaction") > 0:
		delete(s.pending, id)
	}
	return nil // other commands show in the next listing
}

func transactionID(entry bson.Raw) string {
	lsid, err := entry.LookupErr("lsid")
	if err != nil {
		return ""
	}
	number, _ := entry.LookupErr("txnNumber")
	return string(lsid.Value) + string(number.Value)
}

// eventsOf makes the event of one write; two, if the collection's name has gone to another and the entry does not say whose it was then.
func (s *oplogStream) eventsOf(op bson.Raw, at bson.Timestamp, now catalog) []clustersync.Event {
	db, coll, _ := strings.Cut(lookupString(op, "ns"), ".")
	ns := clustersync.Namespace{Database: db, Collection: coll}
	if s.c.skipped(ns) {
		return nil
	}
	key, ok := entryKey(op)
	if !ok {
		return nil
	}
	var events []clustersync.Event
	for _, ref := range holders(ns, uuidOf(op, "ui"), s.told, now) {
		e := clustersync.Event{Ref: ref, Time: at, Bytes: len(op), Doc: clustersync.Document{Key: key, Format: clustersync.MongoDB}}
		switch lookupString(op, "op") {
		case "i":
			e.Op, e.Doc.Body = clustersync.OpInsert, lookupDoc(op, "o")
		case "d":
			e.Op, e.Maybe = clustersync.OpDelete, true
		default:
			e.Op = clustersync.OpTouched
		}
		events = append(events, e)
	}
	return events
}

// entryKey finds the _id of a write: in o2, in the document, or in the whole document that FerretDB writes as a $set (spec §23.5).
func entryKey(op bson.Raw) (clustersync.Key, bool) {
	for _, path := range [][]string{{"o2", "_id"}, {"o", "_id"}, {"o", "$set", "_id"}} {
		if id, err := op.LookupErr(path...); err == nil {
			return clustersync.Key{ID: canonical(id), Raw: newDoc().append("_id", id).end()}, true
		}
	}
	return clustersync.Key{}, false
}

// holders returns the collections that an entry about a name can mean and that still exist.
func holders(ns clustersync.Namespace, uuid string, told, now catalog) []clustersync.Ref {
	var refs []clustersync.Ref
	add := func(uuid string) {
		for _, coll := range now.collections {
			if coll.Type == clustersync.Plain && coll.UUID == uuid && (uuid != "" || coll.Namespace == ns) && (len(refs) == 0 || refs[0] != coll.Ref) {
				refs = append(refs, coll.Ref)
			}
		}
	}
	if uuid != "" {
		add(uuid)
		return refs
	}
	for _, c := range []catalog{told, now} {
		for _, coll := range c.collections {
			if coll.Namespace == ns {
				add(coll.UUID)
			}
		}
	}
	return refs
}
