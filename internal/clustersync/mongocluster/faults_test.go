package mongocluster_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/mongocluster"
	"github.com/tidegate/tidegate/internal/clustersync/mongocluster/fakemongo"
)

// shop is the collection of these tests.
var shop = clustersync.Namespace{Database: "shop", Collection: "orders"}

// filled is a fake with n documents in shop, and a cluster on it.
func filled(t *testing.T, n int, opts fakemongo.Options) (*fakemongo.Server, *mongocluster.Cluster, clustersync.Collection) {
	t.Helper()
	s := fakemongo.Start(t, opts)
	c := open(t, s.URI, mongocluster.Options{Retry: 2 * time.Second})
	check(t, c.Create(t.Context(), clustersync.Collection{Ref: clustersync.Ref{Namespace: shop}, Type: clustersync.Plain}))
	_, err := c.Insert(t.Context(), shop, numbered(0, n), clustersync.WriteOptions{})
	check(t, err)
	return s, c, listed(t, c)
}

func listed(t *testing.T, c *mongocluster.Cluster) clustersync.Collection {
	t.Helper()
	all, err := c.List(t.Context())
	check(t, err)
	if len(all) != 1 {
		t.Fatalf("%d collections are listed, want 1", len(all))
	}
	return all[0]
}

// numbered makes documents {_id: i, n: i} with from ≤ i < to.
func numbered(from, to int) []clustersync.Document {
	var docs []clustersync.Document
	for i := from; i < to; i++ {
		docs = append(docs, document(bson.D{{Key: "_id", Value: int32(i)}, {Key: "n", Value: int32(i)}}))
	}
	return docs
}

func document(d bson.D) clustersync.Document {
	body, err := bson.Marshal(d)
	if err != nil {
		panic(err)
	}
	key, err := bson.Marshal(d[:1])
	if err != nil {
		panic(err)
	}
	return clustersync.Document{Key: clustersync.Key{ID: fmt.Sprint(d[0].Value), Raw: key}, Format: clustersync.MongoDB, Body: body}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// calls are calls of a cluster by name. Each can be made again.
type calls map[string]func(context.Context) error

// everyCall are the calls of a cluster that talk to it, as an engine makes them.
func everyCall(c *mongocluster.Cluster, coll clustersync.Collection) calls {
	all := calls{}
	maps.Copy(all, sourceCalls(c, coll))
	maps.Copy(all, destinationCalls(c))
	maps.Copy(all, metadataCalls(c.Metadata()))
	return all
}

func destinationCalls(c *mongocluster.Cluster) calls {
	docs := numbered(0, 30)
	intents := make([]clustersync.Intent, len(docs))
	for i, doc := range docs {
		intents[i].Doc = doc
	}
	index, _ := bson.Marshal(bson.D{{Key: "key", Value: bson.D{{Key: "n", Value: int32(1)}}}, {Key: "name", Value: "n_1"}})
	delta, _ := bson.Marshal(bson.D{{Key: "updatedFields", Value: bson.D{{Key: "n", Value: int32(3)}}}, {Key: "removedFields", Value: bson.A{}}})
	return calls{
		"Insert": func(ctx context.Context) error {
			_, err := c.Insert(ctx, shop, docs, clustersync.WriteOptions{})
			return err
		},
		"Apply": func(ctx context.Context) error {
			failed, err := c.Apply(ctx, shop, intents, clustersync.WriteOptions{})
			if err == nil && len(failed) > 0 {
				err = fmt.Errorf("failed %v", failed)
			}
			return err
		},
		"ApplyDelta":    func(ctx context.Context) error { return c.ApplyDelta(ctx, shop, docs[3].Key, delta) },
		"CreateIndexes": func(ctx context.Context) error { _, err := c.CreateIndexes(ctx, shop, []bson.Raw{index}); return err },
		"DropIndex":     func(ctx context.Context) error { return c.DropIndex(ctx, shop, "none") },
		"Drop": func(ctx context.Context) error {
			return c.Drop(ctx, clustersync.Namespace{Database: "shop", Collection: "none"})
		},
		"BlockWrites":   func(ctx context.Context) error { return c.BlockWrites(ctx, true) },
		"WritesBlocked": func(ctx context.Context) error { _, err := c.WritesBlocked(ctx); return err },
	}
}

func metadataCalls(meta clustersync.Metadata) calls {
	return calls{
		"Acquire": func(ctx context.Context) error {
			_, err := meta.Acquire(ctx, "coordinator", "me", time.Minute)
			return err
		},
		"Put": func(ctx context.Context) error {
			return meta.Put(ctx, 1, "resumeData", bson.D{{Key: "_id", Value: "coordinator"}, {Key: "state", Value: "RUNNING"}})
		},
		"Get": func(ctx context.Context) error {
			var out bson.M
			err := meta.Get(ctx, "resumeData", "coordinator", &out)
			if errors.Is(err, clustersync.ErrNotFound) {
				return nil
			}
			return err
		},
		"All": func(ctx context.Context) error {
			return meta.All(ctx, "resumeData", func(bson.Raw) error { return nil })
		},
		"Delete": func(ctx context.Context) error { return meta.Delete(ctx, 1, "resumeData", "coordinator") },
		"Exists": func(ctx context.Context) error { _, err := meta.Exists(ctx); return err },
		"Erase":  func(ctx context.Context) error { return meta.Erase(ctx) },
	}
}

func sourceCalls(c *mongocluster.Cluster, coll clustersync.Collection) calls {
	keys := []clustersync.Key{numbered(3, 4)[0].Key, numbered(7, 8)[0].Key}
	return calls{
		"Inspect": func(ctx context.Context) error { _, err := c.Inspect(ctx); return err },
		"List":    func(ctx context.Context) error { _, err := c.List(ctx); return err },
		"Mark":    func(ctx context.Context) error { _, err := c.Mark(ctx); return err },
		"Oplog":   func(ctx context.Context) error { _, _, err := c.Oplog(ctx); return err },
		"Partition": func(ctx context.Context) error {
			_, err := c.Partition(ctx, coll, 500)
			return err
		},
		"Read": func(ctx context.Context) error {
			n := 0
			err := c.Read(ctx, coll.Ref, clustersync.Range{}, clustersync.ReadOptions{BatchDocs: 10}, func(docs []clustersync.Document) error { n += len(docs); return nil })
			if err == nil && n != 200 {
				err = fmt.Errorf("%d documents are read, want 200", n)
			}
			return err
		},
		"Fetch": func(ctx context.Context) error {
			docs, err := c.Fetch(ctx, coll.Ref, keys)
			if err == nil && (docs[0].Body == nil || docs[1].Body == nil) {
				err = errors.New("a document is missing")
			}
			return err
		},
		"Changes": func(ctx context.Context) error {
			stream, err := c.Changes(ctx, clustersync.Position{})
			if err == nil {
				_, _, err = stream.Next(ctx, 0)
				err = errors.Join(err, stream.Close(ctx))
			}
			return err
		},
	}
}

// TestEveryBreak breaks every single message of every call, before and after the server did what it says: the call must get over it. A
// driver waits half a second after each break, so all calls are tried at once, each on a server of its own.
func TestEveryBreak(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	defer all.Wait()
	for broken, action := range map[string]fakemongo.Action{"request": fakemongo.DropBefore, "answer": fakemongo.DropAfter, "primary": fakemongo.NotPrimary()} {
		_, c, coll := filled(t, 200, fakemongo.Options{Status: userWithAll})
		for name := range everyCall(c, coll) {
			s, c, coll := filled(t, 200, fakemongo.Options{Status: userWithAll})
			call := everyCall(c, coll)[name]
			all.Go(func() {
				for n := 1; breakOne(t, s, n, action, call, name+", lost "+broken); n++ {
				}
			})
		}
	}
}

// breakOne breaks the n-th message of a call. It reports whether there was one.
func breakOne(t *testing.T, s *fakemongo.Server, n int, action fakemongo.Action, call func(context.Context) error, what string) bool {
	seen, hit := 0, false
	s.Break(func(string, int) fakemongo.Action {
		if seen++; seen == n {
			hit = true
			return action
		}
		return fakemongo.Pass
	})
	err := call(t.Context())
	s.Break(nil)
	if err != nil {
		t.Errorf("%s %d: %v", what, n, err)
	}
	return hit
}

// TestUnreachable: what never passes ends with the error that says that it may.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	s := fakemongo.Start(t, fakemongo.Options{Status: userWithAll})
	c := open(t, s.URI, mongocluster.Options{Retry: 100 * time.Millisecond})
	check(t, c.Create(t.Context(), clustersync.Collection{Ref: clustersync.Ref{Namespace: shop}, Type: clustersync.Plain}))
	coll := listed(t, c)
	s.Break(func(string, int) fakemongo.Action { return fakemongo.DropBefore })
	for name, call := range everyCall(c, coll) {
		if err := call(t.Context()); !errors.Is(err, clustersync.ErrUnreachable) {
			t.Errorf("%s: %v, want ErrUnreachable", name, err)
		}
	}
}

// TestCanceled: a call ends soon when its context does, also one that waits for a slow server.
func TestCanceled(t *testing.T) {
	s, c, coll := filled(t, 1, fakemongo.Options{Status: userWithAll})
	s.Break(func(string, int) fakemongo.Action { return fakemongo.Slow(time.Minute) })
	for name, call := range everyCall(c, coll) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		start := time.Now()
		if err := call(ctx); err == nil {
			t.Errorf("%s succeeds", name)
		}
		cancel()
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s ends %v after its context", name, took)
		}
	}
}
