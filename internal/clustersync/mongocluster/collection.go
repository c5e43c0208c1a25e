package mongocluster

import (
	"context"
	"errors"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// leftOut are options that no collection is created with (spec §7.2).
var leftOut = []string{"uuid", "autoIndexId", "timeseries", "flags", "temp", "idIndex", "create", "validationInfo"}

// Create implements [clustersync.Destination] (spec §7.2). Newer servers take a second create for done if it is the same, so the name is
// looked at first: nobody else makes collections of the sync.
func (c *Cluster) Create(ctx context.Context, coll clustersync.Collection) error {
	verb := "create " + coll.Namespace.String()
	if coll.Type == clustersync.TimeSeries {
		return unsupportedErr(verb, "time-series collections are not synced")
	}
	if _, err := c.lookUp(ctx, coll.Namespace); err == nil {
		return &failure{verb: verb, kind: clustersync.ErrExists, err: clustersync.ErrExists, text: clustersync.ErrExists.Error()}
	} else if !errors.Is(err, clustersync.ErrNotFound) {
		return err
	}
	cmd := newDoc().string("create", coll.Collection)
	elements, _ := coll.Options.Elements()
	for _, e := range elements {
		if !slices.Contains(leftOut, e.Key()) {
			cmd.append(e.Key(), option(e))
		}
	}
	err := c.runOnce(ctx, verb, coll.Database, cmd.document("writeConcern", marshal(majority)).end(), clustersync.ErrExists)
	c.forgetShardKey(coll.Namespace)
	return err
}

// runOnce sends a command that cannot be done twice. If its answer is lost and it is refused when it is sent again, as one that was carried
// out is, it was.
func (c *Cluster) runOnce(ctx context.Context, verb, db string, cmd any, done error) error {
	lost := false
	return c.retry(ctx, func() error {
		_, err := c.once(ctx, verb, db, cmd)
		if lost && errors.Is(err, done) {
			return nil
		}
		lost = lost || errors.Is(err, clustersync.ErrUnreachable)
		return err
	})
}

// option is the value of an option as create takes it: a clustered index is listed with a version that create refuses to hear of on
// some servers.
func option(e bson.RawElement) bson.RawValue {
	value := e.Value()
	if index, ok := value.DocumentOK(); ok && e.Key() == "clusteredIndex" {
		return bson.RawValue{Type: bson.TypeEmbeddedDocument, Value: withoutMember(index, "v")}
	}
	return value
}

// Drop implements [clustersync.Destination].
func (c *Cluster) Drop(ctx context.Context, ns clustersync.Namespace) error {
	_, err := c.run(ctx, "drop "+ns.String(), ns.Database, bson.D{{Key: "drop", Value: ns.Collection}, {Key: "writeConcern", Value: majority}})
	c.forgetShardKey(ns)
	if errors.Is(err, clustersync.ErrNotFound) {
		return nil
	}
	return err
}

// Rename implements [clustersync.Destination]: never with dropTarget (spec §8.6).
func (c *Cluster) Rename(ctx context.Context, from, to clustersync.Namespace) error {
	err := c.runOnce(ctx, "rename "+from.String()+" to "+to.String(), "admin", bson.D{
		{Key: "renameCollection", Value: from.String()}, {Key: "to", Value: to.String()}, {Key: "writeConcern", Value: majority}}, clustersync.ErrNotFound)
	c.forgetShardKey(from, to)
	return err
}

// Modify implements [clustersync.Destination] with collMod (spec §8.6, §10). An option that the server takes and forgets is one that it
// does not have.
func (c *Cluster) Modify(ctx context.Context, ns clustersync.Namespace, change bson.Raw) error {
	verb := "modify " + ns.String()
	caps, err := c.capabilities(ctx)
	if err != nil {
		return err
	}
	if !caps.collMod {
		return unsupportedErr(verb, "there is no collMod")
	}
	cmd := newDoc().string("collMod", ns.Collection)
	elements, _ := change.Elements()
	for _, e := range elements {
		if !slices.Contains([]string{"collMod", "index", "uuid"}, e.Key()) {
			cmd.append(e.Key(), e.Value())
		}
	}
	if _, err := c.run(ctx, verb, ns.Database, cmd.document("writeConcern", marshal(majority)).end()); err != nil {
		return err
	}
	return c.checkModified(ctx, verb, ns, change)
}

// listedAs gives members of collMod the name under which they are listed.
var listedAs = map[string]string{"cappedSize": "size", "cappedMax": "max"}

// checkModified looks whether what was changed is listed changed. Only numbers and names are compared: documents are normalised by servers.
func (c *Cluster) checkModified(ctx context.Context, verb string, ns clustersync.Namespace, change bson.Raw) error {
	coll, err := c.lookUp(ctx, ns)
	if err != nil {
		return err
	}
	elements, _ := change.Elements()
	for _, e := range elements {
		name := e.Key()
		if other, ok := listedAs[name]; ok {
			name = other
		}
		listed, err := coll.Options.LookupErr(name)
		if want, ok := e.Value().AsInt64OK(); ok && listedAs[e.Key()] != "" {
			if got, _ := listed.AsInt64OK(); err != nil && want > 0 || err == nil && (got < want || got > want+256) { // sizes may be rounded up to a multiple of 256
				return unsupportedErr(verb, e.Key()+" is taken and ignored")
			}
		}
		if want, ok := e.Value().StringValueOK(); ok && err == nil && e.Key() != "expireAfterSeconds" {
			if got, ok := listed.StringValueOK(); ok && got != want {
				return unsupportedErr(verb, e.Key()+" is taken and ignored")
			}
		}
	}
	return nil
}
