package mongocluster

import (
	"context"
	"errors"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// change is a change event as the server sends it (spec §8.2).
type change struct {
	ID          bson.Raw       `bson:"_id"`
	Type        string         `bson:"operationType"`
	ClusterTime bson.Timestamp `bson:"clusterTime"`
	NS          namespace      `bson:"ns"`
	To          namespace      `bson:"to"`
	NSType      string         `bson:"nsType"`
	DocumentKey bson.Raw       `bson:"documentKey"`
	Document    bson.RawValue  `bson:"fullDocument"`
	Update      bson.Raw       `bson:"updateDescription"`
	Description bson.Raw       `bson:"operationDescription"`
}

type namespace struct {
	DB   string `bson:"db"`
	Coll string `bson:"coll"`
}

func (n namespace) of() clustersync.Namespace {
	return clustersync.Namespace{Database: n.DB, Collection: n.Coll}
}

// decode turns a change event into one of ours; ok is false for what is not synced.
func (s *changeStream) decode(ctx context.Context, raw bson.Raw) (e clustersync.Event, ok bool, err error) {
	var ch change
	if err := bson.Unmarshal(raw, &ch); err != nil {
		return e, false, s.c.failed("read change event", err)
	}
	e = clustersync.Event{Time: ch.ClusterTime, At: clustersync.Position{Token: ch.ID, Time: ch.ClusterTime}, Bytes: len(raw)}
	e.Ref = clustersync.Ref{Namespace: ch.NS.of(), UUID: uuidOf(raw, "collectionUUID")}
	if s.c.skipped(e.Ref.Namespace) && (ch.Type != "rename" || s.c.skipped(ch.To.of())) {
		return e, false, nil
	}
	switch ch.Type {
	case "insert", "replace", "update", "delete":
		return e, true, s.decodeDocument(ctx, &ch, &e)
	}
	return s.decodeDDL(ctx, &ch, e)
}

func (s *changeStream) decodeDocument(ctx context.Context, ch *change, e *clustersync.Event) error {
	key, err := keyOf(ch.DocumentKey)
	if err != nil {
		return s.c.failed("read change event", err)
	}
	if e.Ref.UUID == "" && !s.caps.expanded {
		if e.Ref.UUID, err = s.lookUpUUID(ctx, e.Ref.Namespace); err != nil {
			return err
		}
	}
	e.Doc = clustersync.Document{Key: key, Format: clustersync.MongoDB}
	body, whole := ch.Document.DocumentOK()
	switch {
	case ch.Type == "delete":
		e.Op = clustersync.OpDelete
	case ch.Type == "update" || !whole:
		e.Op, e.Delta = clustersync.OpTouched, ch.Update
	case ch.Type == "insert":
		e.Op, e.Doc.Body = clustersync.OpInsert, body
	default:
		e.Op, e.Doc.Body = clustersync.OpReplace, body
	}
	return nil
}

// lookUpUUID finds the UUID that an event of an older server does not carry. There, every DDL event ends the sync (spec §8.2), so the
// answer stays right.
func (s *changeStream) lookUpUUID(ctx context.Context, ns clustersync.Namespace) (string, error) {
	if uuid, ok := s.uuids[ns.String()]; ok {
		return uuid, nil
	}
	coll, err := s.c.lookUp(ctx, ns)
	if errors.Is(err, clustersync.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if s.uuids == nil {
		s.uuids = map[string]string{}
	}
	s.uuids[ns.String()] = coll.UUID
	return coll.UUID, nil
}

// decodeDDL reads everything that is not about a single document.
func (s *changeStream) decodeDDL(ctx context.Context, ch *change, e clustersync.Event) (clustersync.Event, bool, error) {
	if !s.caps.expanded {
		e.Op, e.Reason = clustersync.OpUnsupported, ch.Type+" on a server that does not tell the whole of such changes"
		return e, true, nil
	}
	switch ch.Type {
	case "create":
		e.Op = clustersync.OpCreate
		e.Collection = created(e.Ref, ch)
		e.Ref = e.Collection.Ref
	case "drop":
		e.Op = clustersync.OpDrop
	case "dropDatabase":
		e.Op = clustersync.OpDropDatabase
	case "rename":
		e.Op, e.To, e.Dropped = clustersync.OpRename, ch.To.of(), uuidOf(ch.Description, "dropTarget")
	case "createIndexes", "dropIndexes":
		return s.decodeIndexes(ctx, ch, e)
	case "modify":
		return s.decodeModify(ctx, ch, e)
	case "shardCollection":
		e.Op, e.Change = clustersync.OpShard, ch.Description
	case "startIndexBuild", "abortIndexBuild", "commitIndexBuild", "endOfTransaction":
		return e, false, nil // createIndexes follows when an index is there
	default:
		e.Op, e.Reason = clustersync.OpUnsupported, ch.Type
	}
	return e, true, nil
}

// created is the collection that a create event tells of.
func created(ref clustersync.Ref, ch *change) clustersync.Collection {
	options := withoutMember(ch.Description, "idIndex", "viewPipeline", "uuid")
	if pipeline, err := ch.Description.LookupErr("viewPipeline"); err == nil { // SecantusDB's name for it
		options = withMember(options, "pipeline", pipeline)
	}
	coll := clustersync.Collection{Ref: ref, Type: clustersync.Plain, Options: options, Capped: lookupBool(options, "capped")}
	switch {
	case ch.NSType == "timeseries" || lookupDoc(options, "timeseries") != nil:
		coll.Type = clustersync.TimeSeries
	case ch.NSType == "view" || lookupString(options, "viewOn") != "":
		coll.Type = clustersync.View
		coll.UUID = ""
	}
	return coll
}

// decodeIndexes reads index specs. SecantusDB leaves out all but key and name, so specs that have no more are looked up; a spec
// that is really that short is what the listing has, too.
func (s *changeStream) decodeIndexes(ctx context.Context, ch *change, e clustersync.Event) (clustersync.Event, bool, error) {
	specs, err := documents(ch.Description, "indexes")
	if err != nil {
		return e, false, s.c.failed("read change event", err)
	}
	bare := false
	for _, spec := range specs {
		if isIDIndex(spec) {
			continue
		}
		spec = withoutMember(spec, "ns")
		bare = bare || isBare(spec)
		e.Indexes = append(e.Indexes, spec)
	}
	if ch.Type == "dropIndexes" {
		e.Op = clustersync.OpDropIndexes
		return e, len(e.Indexes) > 0, nil
	}
	e.Op = clustersync.OpCreateIndexes
	if bare {
		if e.Indexes, err = s.c.fullSpecs(ctx, e.Ref, e.Indexes); err != nil {
			return e, false, err
		}
	}
	return e, len(e.Indexes) > 0, nil
}

func isBare(spec bson.Raw) bool {
	return len(withoutMember(spec, "v", "key", "name")) == 5 // an empty document
}

// fullSpecs returns the specs with what the listing says of indexes of the same name and key.
func (c *Cluster) fullSpecs(ctx context.Context, ref clustersync.Ref, specs []bson.Raw) ([]bson.Raw, error) {
	ns, err := c.find(ctx, ref) // it may have another name by now
	var listed []bson.Raw
	if err == nil {
		listed, err = c.indexes(ctx, ns)
	}
	if errors.Is(err, clustersync.ErrNotFound) || errors.Is(err, clustersync.ErrGone) {
		return specs, nil
	}
	if err != nil {
		return nil, err
	}
	out := make([]bson.Raw, len(specs))
	for i, spec := range specs {
		out[i] = spec
		for _, other := range listed {
			if lookupString(other, "name") == lookupString(spec, "name") && string(lookupDoc(other, "key")) == string(lookupDoc(spec, "key")) {
				out[i] = other
			}
		}
	}
	return out, nil
}

// decodeModify reads a collMod. SecantusDB tells nothing of a changed view, so the view is read.
func (s *changeStream) decodeModify(ctx context.Context, ch *change, e clustersync.Event) (clustersync.Event, bool, error) {
	e.Op, e.Change = clustersync.OpModify, ch.Description
	if len(ch.Description) > 5 {
		return e, true, nil
	}
	coll, err := s.c.lookUp(ctx, e.Ref.Namespace)
	if errors.Is(err, clustersync.ErrNotFound) {
		return e, false, nil
	}
	if err != nil {
		return e, false, err
	}
	if coll.Type != clustersync.View {
		return e, false, nil // nothing was changed
	}
	e.Ref.UUID, e.Change = "", coll.Options
	return e, true, nil
}

// withMember returns doc with one more member.
func withMember(raw bson.Raw, name string, value bson.RawValue) bson.Raw {
	out := newDoc()
	elements, _ := raw.Elements()
	for _, e := range elements {
		out.append(e.Key(), e.Value())
	}
	return out.append(name, value).end()
}
