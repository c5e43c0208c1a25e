package mongocluster

import (
	"context"
	"errors"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// lookUp returns what is listed under a name now, without indexes. ErrNotFound: nothing.
func (c *Cluster) lookUp(ctx context.Context, ns clustersync.Namespace) (clustersync.Collection, error) {
	found, err := c.catalogWhere(ctx, ns.Database, bson.D{{Key: "name", Value: ns.Collection}})
	if err != nil {
		return clustersync.Collection{}, err
	}
	for _, coll := range found {
		if coll.Collection == ns.Collection { // servers are known that ignore the filter
			return coll, nil
		}
	}
	return clustersync.Collection{}, &failure{verb: "look up " + ns.String(), kind: clustersync.ErrNotFound, err: clustersync.ErrNotFound, text: clustersync.ErrNotFound.Error()}
}

// find returns where the collection with ref's UUID is now; ErrGone: nowhere. Without a UUID the name is all there is.
func (c *Cluster) find(ctx context.Context, ref clustersync.Ref) (clustersync.Namespace, error) {
	coll, err := c.lookUp(ctx, ref.Namespace)
	if err == nil && (ref.UUID == "" || coll.UUID == ref.UUID) {
		return ref.Namespace, nil
	}
	if err != nil && !errors.Is(err, clustersync.ErrNotFound) {
		return ref.Namespace, err
	}
	if ref.UUID == "" {
		return ref.Namespace, gone(ref)
	}
	// A rename stays inside its database; across databases a collection gets a new UUID.
	found, err := c.catalog(ctx, ref.Database)
	if err != nil {
		return ref.Namespace, err
	}
	for _, coll := range found {
		if coll.UUID == ref.UUID {
			return coll.Namespace, nil
		}
	}
	return ref.Namespace, gone(ref)
}

// holds reports whether a name is still that of the collection with ref's UUID.
func (c *Cluster) holds(ctx context.Context, ns clustersync.Namespace, uuid string) (bool, error) {
	coll, err := c.lookUp(ctx, ns)
	if errors.Is(err, clustersync.ErrNotFound) {
		return false, nil
	}
	return err == nil && (uuid == "" || coll.UUID == uuid), err
}

func gone(ref clustersync.Ref) error {
	return &failure{verb: "read " + ref.Namespace.String(), kind: clustersync.ErrGone, err: clustersync.ErrGone, text: clustersync.ErrGone.Error()}
}

// movedTo reads the answer to a read whose collectionUUID is that of another collection: where it is now, or ErrGone (spec §7.4).
func movedTo(err error, ref clustersync.Ref) (clustersync.Namespace, error) {
	var command mongo.CommandError
	if errors.As(err, &command) && command.HasErrorCode(codeUUIDMismatch) {
		if name := lookupString(command.Raw, "actualCollection"); name != "" {
			return clustersync.Namespace{Database: ref.Database, Collection: name}, nil
		}
	}
	return ref.Namespace, gone(ref)
}
