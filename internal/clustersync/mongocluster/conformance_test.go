package mongocluster_test

import (
	"context"
	"errors"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/clustertest"
	"github.com/tidegate/tidegate/internal/clustersync/mongocluster"
	"github.com/tidegate/tidegate/internal/clustersync/mongocluster/mongotest"
)

// all is what a MongoDB server can do.
var all = clustertest.Capabilities{Changes: true, DDLEvents: true, UUIDs: true, Rename: true, Indexes: true, Unique: true, ModifyIndex: true, Views: true,
	Capped: true, Partitions: true, Delta: true, MaxDocument: 15 << 20}

// TestSecantus runs the suite on SecantusDB with access control, so that users can be blocked.
func TestSecantus(t *testing.T) {
	t.Parallel()
	can := all
	can.Block = true
	type pair struct{ sync, users string }
	var servers []pair
	for range 2 {
		s := mongotest.Secantus(t)
		servers = append(servers, pair{s.User(t, "sync", "s3cret", "root"), s.User(t, "people", "pw", "readWriteAnyDatabase")})
		s.Restart(t, mongotest.Auth)
	}
	opened := map[*testing.T]int{}
	clustertest.Run(t, func(t *testing.T) clustertest.Fixture {
		s := servers[opened[t]%len(servers)]
		opened[t]++
		return fixture(t, s.sync, s.users, mongocluster.Options{}, can)
	})
}

// TestSecantusOplog runs the suite with the oplog followed instead of a change stream.
func TestSecantusOplog(t *testing.T) {
	t.Parallel()
	can := all
	can.DDLEvents = false // what comes and goes between two listings is not told
	can.MaxDocument = 0   // TestSecantus has large ones
	conformance(t, mongocluster.Options{Changes: mongocluster.ChangesOplog}, can)
}

// TestSecantusAsIs runs it without the repairs of launch.py, one of which makes renames useless for a sync.
func TestSecantusAsIs(t *testing.T) {
	t.Parallel()
	can := all
	can.Rename = false
	can.MaxDocument = 0
	conformance(t, mongocluster.Options{}, can, mongotest.AsIs)
}

// conformance runs the suite on two servers, emptied for each test: the second is for tests that want another cluster.
func conformance(t *testing.T, opts mongocluster.Options, can clustertest.Capabilities, words ...string) {
	servers := []*mongotest.Server{mongotest.Secantus(t, words...), mongotest.Secantus(t, words...)}
	opened := map[*testing.T]int{}
	clustertest.Run(t, func(t *testing.T) clustertest.Fixture {
		s := servers[opened[t]%len(servers)]
		opened[t]++
		return fixture(t, s.URI, s.URI, opts, can)
	})
}

// fixture is an emptied cluster, seen by the sync with one URI and by users with another.
func fixture(t *testing.T, uri, usersURI string, opts mongocluster.Options, can clustertest.Capabilities) clustertest.Fixture {
	users := mongotest.Client(t, usersURI)
	empty(t, mongotest.Client(t, uri))
	connect := func() clustersync.Cluster {
		c, err := mongocluster.Open(t.Context(), uri, opts)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close(context.Background()) })
		return c
	}
	return clustertest.Fixture{Cluster: connect(), Connect: connect, Users: people{users}, Can: can}
}

// empty drops everything.
func empty(t *testing.T, client *mongo.Client) {
	t.Helper()
	names, err := client.ListDatabaseNames(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if name == "admin" || name == "local" || name == "config" {
			continue
		}
		if err := client.Database(name).Drop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// people are users with a plain client.
type people struct{ client *mongo.Client }

func (p people) coll(ns clustersync.Namespace) *mongo.Collection {
	return p.client.Database(ns.Database).Collection(ns.Collection)
}

func (p people) Create(ctx context.Context, ns clustersync.Namespace) error {
	return p.client.Database(ns.Database).CreateCollection(ctx, ns.Collection)
}

func (p people) Put(ctx context.Context, ns clustersync.Namespace, id string, fields clustertest.Fields) error {
	doc := bson.M{"_id": id}
	for k, v := range fields {
		doc[k] = v
	}
	_, err := p.coll(ns).ReplaceOne(ctx, bson.D{{Key: "_id", Value: id}}, doc, options.Replace().SetUpsert(true))
	return err
}

func (p people) Delete(ctx context.Context, ns clustersync.Namespace, id string) error {
	_, err := p.coll(ns).DeleteOne(ctx, bson.D{{Key: "_id", Value: id}})
	return err
}

func (p people) Get(ctx context.Context, ns clustersync.Namespace, id string) (clustertest.Fields, error) {
	var doc bson.M
	err := p.coll(ns).FindOne(ctx, bson.D{{Key: "_id", Value: id}}).Decode(&doc)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return nil, nil
	}
	delete(doc, "_id")
	return clustertest.Fields(doc), err
}

func (p people) Drop(ctx context.Context, ns clustersync.Namespace) error {
	return p.coll(ns).Drop(ctx)
}

func (p people) Rename(ctx context.Context, from, to clustersync.Namespace) error {
	return p.client.Database("admin").RunCommand(ctx, bson.D{{Key: "renameCollection", Value: from.String()}, {Key: "to", Value: to.String()}}).Err()
}

func (p people) CreateIndex(ctx context.Context, ns clustersync.Namespace, name, field string, unique bool) error {
	_, err := p.coll(ns).Indexes().CreateOne(ctx, mongo.IndexModel{Keys: bson.D{{Key: field, Value: 1}}, Options: options.Index().SetName(name).SetUnique(unique)})
	return err
}

// TestFerretDB runs what applies on FerretDB, through its oplog.
func TestFerretDB(t *testing.T) {
	t.Parallel()
	servers := []*mongotest.Server{mongotest.FerretDB(t), mongotest.FerretDB(t)}
	opened := map[*testing.T]int{}
	clustertest.Run(t, func(t *testing.T) clustertest.Fixture {
		s := servers[opened[t]%len(servers)]
		opened[t]++
		return fixture(t, s.URI, s.URI, mongocluster.Options{}, clustertest.Capabilities{Changes: true, UUIDs: true, Rename: true, Indexes: true, Unique: true, Delta: true})
	})
}
