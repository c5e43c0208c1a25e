package clustersync

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/mongocluster"
	"github.com/tidegate/tidegate/internal/clustersync/mongocluster/mongotest"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// mongoServer is a SecantusDB with access control: the sync bypasses the write block, people do not.
type mongoServer struct {
	server *mongotest.Server
	admin  string // URI of the sync's user
	client *mongo.Client
}

func newMongo(t testing.TB) endpoint {
	t.Helper()
	s := mongotest.Secantus(t)
	admin := s.User(t, "sync", "sync-secret", "root")
	users := s.User(t, "people", "people-secret", "readWriteAnyDatabase", "dbAdminAnyDatabase")
	s.Restart(t, mongotest.Auth)
	return &mongoServer{s, admin, mongotest.Client(t, users)}
}

func (m *mongoServer) kind() clustersync.Kind { return clustersync.MongoDB }
func (m *mongoServer) uri() string            { return m.admin }

func (m *mongoServer) open(t testing.TB) clustersync.Cluster {
	t.Helper()
	c, err := mongocluster.Open(t.Context(), m.admin, mongocluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func (m *mongoServer) coll(ns clustersync.Namespace) *mongo.Collection {
	return m.client.Database(ns.Database).Collection(ns.Collection)
}

func (m *mongoServer) create(ctx context.Context, ns clustersync.Namespace) error {
	return m.client.Database(ns.Database).CreateCollection(ctx, ns.Collection)
}

func (m *mongoServer) drop(ctx context.Context, ns clustersync.Namespace) error {
	return m.coll(ns).Drop(ctx)
}

func (m *mongoServer) rename(ctx context.Context, from, to clustersync.Namespace) error {
	err := m.client.Database("admin").RunCommand(ctx, bson.D{{Key: "renameCollection", Value: from.String()}, {Key: "to", Value: to.String()}}).Err()
	if server := (mongo.ServerError)(nil); errors.As(err, &server) && server.HasErrorCode(48) {
		return nil // the server brings a name back now and then when it is listed while it is renamed
	}
	return err
}

func (m *mongoServer) index(ctx context.Context, ns clustersync.Namespace, field string, unique bool) error {
	_, err := m.coll(ns).Indexes().CreateOne(ctx, mongo.IndexModel{Keys: bson.D{{Key: field, Value: 1}}, Options: options.Index().SetName(field + "_1").SetUnique(unique)})
	return err
}

func (m *mongoServer) dropIndex(ctx context.Context, ns clustersync.Namespace, field string) error {
	err := m.coll(ns).Indexes().DropOne(ctx, field+"_1")
	if server := (mongo.ServerError)(nil); errors.As(err, &server) && (server.HasErrorCode(27) || server.HasErrorCode(26)) {
		return nil
	}
	return err
}

func (d document) bson() bson.D {
	return bson.D{{Key: "_id", Value: d.ID}, {Key: "n", Value: d.N}, {Key: "text", Value: d.Text}, {Key: "tags", Value: d.Tags},
		{Key: "inner", Value: bson.D{{Key: "n", Value: d.N}}}}
}

func (m *mongoServer) load(ctx context.Context, ns clustersync.Namespace, docs []document) error {
	all := make([]any, len(docs))
	for i, d := range docs {
		all[i] = d.bson()
	}
	_, err := m.coll(ns).InsertMany(ctx, all, options.InsertMany().SetOrdered(false))
	return err
}

func (m *mongoServer) put(ctx context.Context, ns clustersync.Namespace, d document) error {
	_, err := m.coll(ns).ReplaceOne(ctx, bson.D{{Key: "_id", Value: d.ID}}, d.bson(), options.Replace().SetUpsert(true))
	return err
}

func (m *mongoServer) update(ctx context.Context, ns clustersync.Namespace, d document) error {
	_, err := m.coll(ns).UpdateOne(ctx, bson.D{{Key: "_id", Value: d.ID}}, bson.D{{Key: "$set", Value: bson.D{{Key: "n", Value: d.N}, {Key: "inner.n", Value: d.N}}}})
	return err
}

func (m *mongoServer) remove(ctx context.Context, ns clustersync.Namespace, id string) error {
	_, err := m.coll(ns).DeleteOne(ctx, bson.D{{Key: "_id", Value: id}})
	return err
}

func (m *mongoServer) all(ctx context.Context, ns clustersync.Namespace) (map[string]string, error) {
	cursor, err := m.coll(ns).Find(ctx, bson.D{})
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for cursor.Next(ctx) {
		var doc map[string]any
		if err := bson.UnmarshalExtJSON([]byte(cursor.Current.String()), false, &doc); err != nil {
			return nil, err
		}
		id, _ := doc["_id"].(string)
		delete(doc, "_id")
		text, err := bson.MarshalExtJSON(doc, false, false)
		if err != nil {
			return nil, err
		}
		if out[id], err = sortedJSON(text); err != nil {
			return nil, err
		}
	}
	return out, cursor.Err()
}

// sortedJSON writes JSON in one way, without the members that a database adds.
func sortedJSON(text []byte) (string, error) {
	var doc map[string]any
	if err := json.Unmarshal(text, &doc); err != nil {
		return "", err
	}
	for _, name := range []string{"_id", "_rev", "_revisions"} {
		delete(doc, name)
	}
	out, err := json.Marshal(doc)
	return string(out), err
}

// refused reports whether an error is the write block's.
func (m *mongoServer) refused(err error) bool {
	server := (mongo.ServerError)(nil)
	return errors.As(err, &server) && server.HasErrorCode(371)
}
