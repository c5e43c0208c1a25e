package mongocluster_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/mongocluster"
	"github.com/tidegate/tidegate/internal/clustersync/mongocluster/mongotest"
)

// open opens a cluster until the test ends.
func open(t *testing.T, uri string, opts mongocluster.Options) *mongocluster.Cluster {
	t.Helper()
	c, err := mongocluster.Open(t.Context(), uri, opts)
	check(t, err)
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// TestSecantusKilled kills the server under a stream and starts it again: the stream goes on, and a token from before still counts.
func TestSecantusKilled(t *testing.T) {
	t.Parallel()
	s := mongotest.Secantus(t)
	c := open(t, s.URI, mongocluster.Options{Retry: 30 * time.Second})
	from := mark(t, c)
	stream := changes(t, c, from)
	for i := range 3 {
		_, err := c.Insert(t.Context(), shop, numbered(10*i, 10*i+10), clustersync.WriteOptions{})
		check(t, err)
		if i < 2 {
			// What is acknowledged is in the log, which the server writes a moment later than it says.
			check(t, s.Client(t).Database("admin").RunCommand(t.Context(), bson.D{{Key: "fsync", Value: 1}}).Err())
			s.Restart(t)
		}
	}
	to := mark(t, c)
	for name, stream := range map[string]clustersync.Stream{"open": stream, "resumed": changes(t, c, from)} {
		seen := map[string]bool{}
		for _, e := range follow(t, c, stream, to) {
			if !e.DDL() {
				seen[e.Doc.Key.ID] = true
			}
		}
		if len(seen) != 30 {
			t.Errorf("the stream that was %s tells of %d documents, want 30", name, len(seen))
		}
	}
}

// TestSecantusRanges reads a collection with keys of every type in ranges: each document is in exactly one (spec §7.3).
func TestSecantusRanges(t *testing.T) {
	t.Parallel()
	s := mongotest.Secantus(t)
	c := open(t, s.URI, mongocluster.Options{})
	var docs []clustersync.Document
	for i := range int32(200) {
		for _, id := range []any{i, float64(i) + 0.5, fmt.Sprintf("k%d", i), bson.D{{Key: "n", Value: i}}, bson.NewObjectID(), bson.DateTime(i), bson.Binary{Data: []byte{byte(i)}}} {
			docs = append(docs, document(bson.D{{Key: "_id", Value: id}, {Key: "padding", Value: "................................"}}))
		}
	}
	docs = append(docs, document(bson.D{{Key: "_id", Value: true}}), document(bson.D{{Key: "_id", Value: nil}}))
	result, err := c.Insert(t.Context(), shop, docs, clustersync.WriteOptions{})
	check(t, err)
	coll := listed(t, c)
	ranges, err := c.Partition(t.Context(), coll, 8<<10)
	check(t, err)
	seen := map[string]int{}
	for _, r := range ranges {
		check(t, c.Read(t.Context(), coll.Ref, r, clustersync.ReadOptions{BatchDocs: 50}, func(docs []clustersync.Document) error {
			for _, doc := range docs {
				seen[doc.Key.ID]++
			}
			return nil
		}))
	}
	if len(ranges) < 5 || len(seen) != result.Inserted || result.Inserted != len(docs) {
		t.Errorf("%d documents of %d in %d ranges", len(seen), result.Inserted, len(ranges))
	}
	for key, n := range seen {
		if n != 1 {
			t.Errorf("%q is in %d ranges", key, n)
		}
	}
}

// TestSecantusEvents: what its events leave out is looked up: options of indexes, and what a view is changed to.
func TestSecantusEvents(t *testing.T) {
	t.Parallel()
	s := mongotest.Secantus(t)
	c := open(t, s.URI, mongocluster.Options{})
	from := mark(t, c)
	db := s.Client(t).Database("shop")
	run := func(cmd bson.D) { check(t, db.RunCommand(t.Context(), cmd).Err()) }
	run(bson.D{{Key: "create", Value: "orders"}})
	run(bson.D{{Key: "createIndexes", Value: "orders"}, {Key: "indexes", Value: bson.A{
		bson.D{{Key: "key", Value: bson.D{{Key: "n", Value: 1}}}, {Key: "name", Value: "n_1"}, {Key: "unique", Value: true}},
		bson.D{{Key: "key", Value: bson.D{{Key: "at", Value: 1}}}, {Key: "name", Value: "ttl"}, {Key: "expireAfterSeconds", Value: 60}}}}})
	check(t, c.Rename(t.Context(), shop, clustersync.Namespace{Database: "shop", Collection: "sold"}))
	run(bson.D{{Key: "create", Value: "cheap"}, {Key: "viewOn", Value: "sold"}, {Key: "pipeline", Value: bson.A{bson.D{{Key: "$match", Value: bson.D{{Key: "n", Value: 1}}}}}}})
	run(bson.D{{Key: "collMod", Value: "cheap"}, {Key: "viewOn", Value: "sold"}, {Key: "pipeline", Value: bson.A{}}})
	seen := map[string]bool{}
	for _, e := range follow(t, c, changes(t, c, from), mark(t, c)) {
		switch e.Op {
		case clustersync.OpCreateIndexes:
			for _, spec := range e.Indexes {
				unique, _ := spec.Lookup("unique").BooleanOK()
				seen["unique"] = seen["unique"] || unique
				_, ttl := spec.Lookup("expireAfterSeconds").AsInt64OK()
				seen["ttl"] = seen["ttl"] || ttl
			}
		case clustersync.OpCreate:
			pipeline, _ := e.Collection.Options.Lookup("pipeline").ArrayOK()
			seen["view"] = seen["view"] || e.Collection.Type == clustersync.View && e.Ref.UUID == "" && len(pipeline) > 5
		case clustersync.OpModify:
			seen["changed"] = e.Change.Lookup("viewOn").StringValue() == "sold"
		}
	}
	for _, what := range []string{"unique", "ttl", "view", "changed"} {
		if !seen[what] {
			t.Errorf("%s is not told: %v", what, seen)
		}
	}
}
