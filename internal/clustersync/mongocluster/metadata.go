package mongocluster

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// leases is the collection that holds the leases; it is no record of a sync.
const leases = "lease"

// fenceField is the member of every record that says under which lease it was written (spec §15.3).
const fenceField = "_fence"

// Metadata implements [clustersync.Cluster].
func (c *Cluster) Metadata() clustersync.Metadata { return metadata{c: c, db: c.opts.Database} }

// metadata is a database with the collections of spec §15.2.
type metadata struct {
	c  *Cluster
	db string
}

// Exists implements [clustersync.Metadata].
func (m metadata) Exists(ctx context.Context) (bool, error) {
	return m.c.hasRecords(ctx, m.db)
}

// hasRecords reports whether any collection but the leases has a document.
func (c *Cluster) hasRecords(ctx context.Context, db string) (bool, error) {
	found, err := c.catalog(ctx, db)
	if err != nil {
		return false, err
	}
	for _, coll := range found {
		if coll.Collection == leases || coll.Type != clustersync.Plain {
			continue
		}
		docs, err := c.all(ctx, "look for records", db, bson.D{{Key: "find", Value: coll.Collection}, {Key: "limit", Value: 1}, {Key: "readConcern", Value: readMajority}})
		if err != nil {
			return false, err
		}
		if len(docs) > 0 {
			return true, nil
		}
	}
	return false, nil
}

// Get implements [clustersync.Metadata].
func (m metadata) Get(ctx context.Context, collection string, id, out any) error {
	verb := "read record of " + collection
	found, err := m.c.all(ctx, verb, m.db, bson.D{{Key: "find", Value: collection}, {Key: "filter", Value: bson.D{{Key: "_id", Value: id}}},
		{Key: "limit", Value: 1}, {Key: "readConcern", Value: readMajority}})
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return fmt.Errorf("%s: %w", verb, clustersync.ErrNotFound)
	}
	if err := bson.Unmarshal(withoutMember(found[0], fenceField), out); err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	return nil
}

// All implements [clustersync.Metadata], in the order of the ids.
func (m metadata) All(ctx context.Context, collection string, fn func(bson.Raw) error) error {
	err := m.c.Read(ctx, clustersync.Ref{Namespace: m.ns(collection)}, clustersync.Range{}, clustersync.ReadOptions{}, func(docs []clustersync.Document) error {
		for _, doc := range docs {
			if err := fn(withoutMember(doc.Body, fenceField)); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, clustersync.ErrGone) {
		return nil // there was never a record
	}
	return err
}

// Put implements [clustersync.Metadata]: a record that a younger lease has written is not matched, so that the upsert fails on its _id.
func (m metadata) Put(ctx context.Context, fence int64, collection string, records ...any) error {
	verb := "write record of " + collection
	bodies := make([]bson.Raw, len(records))
	for i, record := range records {
		raw, err := bson.Marshal(record)
		if err != nil {
			return fmt.Errorf("%s: %w", verb, err)
		}
		if _, err := bson.Raw(raw).LookupErr("_id"); err != nil {
			return fmt.Errorf("%s: it has no _id", verb)
		}
		bodies[i] = withMember(withoutMember(raw, fenceField), fenceField, value(fence))
	}
	if len(bodies) > 1 && m.c.scans() {
		var err error
		if bodies, err = m.insertNew(ctx, verb, collection, bodies); err != nil {
			return err
		}
	}
	for races := 0; len(bodies) > 0; races++ {
		ops := make([]bson.Raw, len(bodies))
		for i, body := range bodies {
			ops[i] = newDoc().document("q", mine(body.Lookup("_id"), fence)).document("u", body).boolean("upsert", true).end()
		}
		_, failed, err := write{command: "update", list: "updates", ns: m.ns(collection), bypass: true, journal: true}.send(ctx, m.c, ops)
		if err != nil {
			return err
		}
		if bodies, err = presentOf(verb, bodies, failed); err != nil {
			return err
		}
		if len(bodies) > 0 && races == 1 { // the first time it may have been a race of two inserts
			return fmt.Errorf("%s: %w", verb, clustersync.ErrFenced)
		}
	}
	return nil
}

// insertNew stores what is not there, which a server that scans does much faster than an upsert, and returns the rest.
func (m metadata) insertNew(ctx context.Context, verb, collection string, bodies []bson.Raw) ([]bson.Raw, error) {
	_, failed, err := write{command: "insert", list: "documents", ns: m.ns(collection), bypass: true, journal: true}.send(ctx, m.c, bodies)
	if err != nil {
		return nil, err
	}
	return presentOf(verb, bodies, failed)
}

// presentOf returns the records that were there already; any other failure is an error.
func presentOf(verb string, bodies []bson.Raw, failed []itemError) ([]bson.Raw, error) {
	var present []bson.Raw
	for _, e := range failed {
		if !e.duplicate() {
			return nil, fmt.Errorf("%s: %w", verb, e.error())
		}
		present = append(present, bodies[e.Index])
	}
	return present, nil
}

// Delete implements [clustersync.Metadata].
func (m metadata) Delete(ctx context.Context, fence int64, collection string, ids ...any) error {
	if len(ids) == 0 {
		return nil
	}
	ops := make([]bson.Raw, len(ids))
	for i, id := range ids {
		ops[i] = newDoc().document("q", mine(value(id), fence)).int("limit", 1).end()
	}
	_, failed, err := write{command: "delete", list: "deletes", ns: m.ns(collection), journal: true}.send(ctx, m.c, ops)
	if err == nil && len(failed) > 0 {
		err = fmt.Errorf("delete records of %s: %w", collection, failed[0].error())
	}
	if err != nil {
		return err
	}
	left, err := m.c.all(ctx, "delete records of "+collection, m.db, bson.D{{Key: "find", Value: collection},
		{Key: "filter", Value: bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}, {Key: fenceField, Value: bson.D{{Key: "$gt", Value: fence}}}}},
		{Key: "limit", Value: 1}, {Key: "readConcern", Value: readMajority}})
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("delete records of %s: %w", collection, clustersync.ErrFenced)
	}
	return err
}

// mine matches a record that no younger lease has written.
func mine(id bson.RawValue, fence int64) bson.Raw {
	return newDoc().append("_id", id).document(fenceField, marshal(bson.D{{Key: "$not", Value: bson.D{{Key: "$gt", Value: fence}}}})).end()
}

// Erase implements [clustersync.Metadata]. The leases stay, because fences must go on growing.
func (m metadata) Erase(ctx context.Context) error {
	found, err := m.c.catalog(ctx, m.db)
	if err != nil {
		return err
	}
	var all []error
	for _, coll := range found {
		if coll.Collection != leases {
			all = append(all, m.c.Drop(ctx, coll.Namespace))
		}
	}
	return errors.Join(all...)
}

func (m metadata) ns(collection string) clustersync.Namespace {
	return clustersync.Namespace{Database: m.db, Collection: collection}
}
