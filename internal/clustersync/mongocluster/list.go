package mongocluster

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// maxListRounds is how often the indexes of a database are read anew because collections gave way to others meanwhile.
const maxListRounds = 10

// List implements [clustersync.Cluster] (spec §7.1 step 3).
func (c *Cluster) List(ctx context.Context) ([]clustersync.Collection, error) {
	names, err := c.databases(ctx)
	if err != nil {
		return nil, err
	}
	var all []clustersync.Collection
	for _, name := range names {
		if c.internal(name) {
			continue
		}
		found, err := c.listDatabase(ctx, name)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

func (c *Cluster) databases(ctx context.Context) ([]string, error) {
	raw, err := c.run(ctx, "list databases", "admin", bson.D{{Key: "listDatabases", Value: 1}, {Key: "nameOnly", Value: true}})
	if err != nil {
		return nil, err
	}
	var reply struct {
		Databases []struct {
			Name string `bson:"name"`
		} `bson:"databases"`
	}
	if err := bson.Unmarshal(raw, &reply); err != nil {
		return nil, c.failed("list databases", err)
	}
	names := make([]string, 0, len(reply.Databases))
	for _, d := range reply.Databases {
		names = append(names, d.Name)
	}
	return names, nil
}

// listDatabase lists a database so that no collection has the indexes of another that took its name meanwhile: after the
// indexes are read, the collections are listed again, and those that are not what they were are read again.
func (c *Cluster) listDatabase(ctx context.Context, db string) ([]clustersync.Collection, error) {
	listed, err := c.catalog(ctx, db)
	if err != nil {
		return nil, err
	}
	done := map[clustersync.Ref]clustersync.Collection{}
	for range maxListRounds {
		for _, coll := range listed {
			if _, ok := done[coll.Ref]; ok {
				continue
			}
			if err := c.details(ctx, &coll); errors.Is(err, clustersync.ErrNotFound) {
				continue // gone; the next listing will not have it
			} else if err != nil {
				return nil, err
			}
			done[coll.Ref] = coll
		}
		again, err := c.catalog(ctx, db)
		if err != nil {
			return nil, err
		}
		if listed = again; allIn(again, done) {
			break
		}
	}
	var out []clustersync.Collection
	for _, coll := range listed {
		if whole, ok := done[coll.Ref]; ok {
			out = append(out, whole)
		}
	}
	return out, nil
}

func allIn(listed []clustersync.Collection, done map[clustersync.Ref]clustersync.Collection) bool {
	for _, coll := range listed {
		if _, ok := done[coll.Ref]; !ok {
			return false
		}
	}
	return true
}

// catalog lists the collections and views of a database, system collections left out.
func (c *Cluster) catalog(ctx context.Context, db string) ([]clustersync.Collection, error) {
	return c.catalogWhere(ctx, db, nil)
}

func (c *Cluster) catalogWhere(ctx context.Context, db string, filter bson.D) ([]clustersync.Collection, error) {
	cmd := bson.D{{Key: "listCollections", Value: 1}}
	if filter != nil {
		cmd = append(cmd, bson.E{Key: "filter", Value: filter})
	}
	entries, err := c.all(ctx, "list collections of "+db, db, cmd)
	if err != nil {
		return nil, err
	}
	var out []clustersync.Collection
	for _, entry := range entries {
		coll := collectionOf(db, entry)
		if !strings.HasPrefix(coll.Collection, "system.") {
			out = append(out, coll)
		}
	}
	return out, nil
}

// collectionOf reads an entry of listCollections.
func collectionOf(db string, entry bson.Raw) clustersync.Collection {
	coll := clustersync.Collection{Type: clustersync.CollectionType(lookupString(entry, "type"))}
	coll.Database, coll.Collection = db, lookupString(entry, "name")
	coll.UUID = uuidOf(entry, "info", "uuid")
	coll.Options = withoutMember(lookupDoc(entry, "options"), "uuid")
	coll.Capped = lookupBool(coll.Options, "capped")
	switch {
	case lookupDoc(coll.Options, "timeseries") != nil:
		coll.Type = clustersync.TimeSeries
	case lookupString(coll.Options, "viewOn") != "":
		coll.Type = clustersync.View
	case coll.Type == "":
		coll.Type = clustersync.Plain
	}
	if coll.Type == clustersync.View {
		coll.UUID = "" // views have none; a server that gives one gives it for itself only
	}
	return coll
}

// details adds what listCollections does not tell.
func (c *Cluster) details(ctx context.Context, coll *clustersync.Collection) error {
	if coll.Type != clustersync.Plain {
		return nil
	}
	indexes, err := c.indexes(ctx, coll.Namespace)
	if err != nil {
		return err
	}
	coll.Indexes = indexes
	coll.Count, coll.Bytes, err = c.size(ctx, coll.Namespace)
	return err
}

// indexes returns the specs of a collection's indexes, the one on _id left out.
func (c *Cluster) indexes(ctx context.Context, ns clustersync.Namespace) ([]bson.Raw, error) {
	all, err := c.all(ctx, "list indexes of "+ns.String(), ns.Database, bson.D{{Key: "listIndexes", Value: ns.Collection}})
	if err != nil {
		return nil, err
	}
	var out []bson.Raw
	for _, spec := range all {
		if !isIDIndex(spec) {
			out = append(out, withoutMember(spec, "ns"))
		}
	}
	return out, nil
}

// isIDIndex tells the index on _id, the one that a clustered collection lists included.
func isIDIndex(spec bson.Raw) bool {
	if lookupString(spec, "name") == "_id_" || lookupBool(spec, "clustered") {
		return true
	}
	key := lookupDoc(spec, "key")
	elements, err := key.Elements()
	if err != nil || len(elements) != 1 || elements[0].Key() != "_id" {
		return false
	}
	n, ok := elements[0].Value().AsInt64OK()
	return ok && n == 1
}

// size estimates a collection: documents and bytes. Unknown is zero; only a server that cannot be reached is an error.
func (c *Cluster) size(ctx context.Context, ns clustersync.Namespace) (count, bytes int64, err error) {
	raw, err := c.run(ctx, "measure "+ns.String(), ns.Database, bson.D{{Key: "collStats", Value: ns.Collection}})
	if errors.Is(err, clustersync.ErrUnreachable) {
		return 0, 0, err
	}
	if err == nil {
		count, bytes = lookupInt(raw, "count"), lookupInt(raw, "size")
	}
	if err != nil || count > 0 && bytes == 0 {
		// avgObjSize can be 0 on a fresh sharded collection (spec §7.3), and collStats is gone from the stable API.
		n, b, err := c.sizeByAggregation(ctx, ns)
		if err != nil {
			return count, bytes, passingOnly(err)
		}
		count, bytes = max(count, n), max(bytes, b)
	}
	return count, bytes, nil
}

func (c *Cluster) sizeByAggregation(ctx context.Context, ns clustersync.Namespace) (count, bytes int64, err error) {
	parts, err := c.all(ctx, "measure "+ns.String(), ns.Database, bson.D{{Key: "aggregate", Value: ns.Collection},
		{Key: "pipeline", Value: bson.A{bson.D{{Key: "$collStats", Value: bson.D{{Key: "storageStats", Value: bson.D{}}}}}}}, {Key: "cursor", Value: bson.D{}}})
	for _, part := range parts { // one for each shard
		count += lookupInt(part, "storageStats", "count")
		bytes += lookupInt(part, "storageStats", "size")
	}
	return count, bytes, err
}

// uuidOf reads a UUID as text; "" if there is none.
func uuidOf(doc bson.Raw, path ...string) string {
	value, err := doc.LookupErr(path...)
	if err != nil {
		return ""
	}
	subtype, data, ok := value.BinaryOK()
	if !ok || subtype != bson.TypeBinaryUUID || len(data) != 16 {
		return ""
	}
	h := hex.EncodeToString(data)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// binaryUUID is the way back.
func binaryUUID(uuid string) (bson.Binary, bool) {
	data, err := hex.DecodeString(strings.ReplaceAll(uuid, "-", ""))
	return bson.Binary{Subtype: bson.TypeBinaryUUID, Data: data}, err == nil && len(data) == 16
}

// withoutMember returns doc without a top-level member. A nil document gives an empty one.
func withoutMember(doc bson.Raw, names ...string) bson.Raw {
	elements, _ := doc.Elements()
	out := newDoc()
	for _, e := range elements {
		if !contains(names, e.Key()) {
			out.append(e.Key(), e.Value())
		}
	}
	return out.end()
}
