package mongocluster_test

import (
	"errors"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/mongocluster"
	"github.com/tidegate/tidegate/internal/clustersync/mongocluster/fakemongo"
	"github.com/tidegate/tidegate/internal/clustersync/mongocluster/mongotest"
)

func raw(t *testing.T, d bson.D) bson.Raw {
	t.Helper()
	out, err := bson.Marshal(d)
	check(t, err)
	return out
}

// bodies reads a collection.
func bodies(t *testing.T, c *mongocluster.Cluster, ns clustersync.Namespace) map[string]bson.Raw {
	t.Helper()
	out := map[string]bson.Raw{}
	check(t, c.Read(t.Context(), clustersync.Ref{Namespace: ns}, clustersync.Range{}, clustersync.ReadOptions{}, func(docs []clustersync.Document) error {
		for _, doc := range docs {
			out[doc.Key.Raw.Lookup("_id").String()] = doc.Body
		}
		return nil
	}))
	return out
}

// TestOddNames: documents with dollars and dots in their names are written as they are (spec §20).
func TestOddNames(t *testing.T) {
	_, c, _ := filled(t, 2, fakemongo.Options{})
	odd := []bson.D{
		{{Key: "_id", Value: int32(0)}, {Key: "$set", Value: bson.D{{Key: "a", Value: int32(1)}}}},
		{{Key: "_id", Value: int32(1)}, {Key: "a.b", Value: int32(1)}, {Key: "c", Value: bson.D{{Key: "$d", Value: int32(2)}}}},
		{{Key: "_id", Value: int32(9)}, {Key: "$x", Value: "new"}},
	}
	var intents []clustersync.Intent
	for _, d := range odd {
		intents = append(intents, clustersync.Intent{Doc: document(d)})
	}
	failed, err := c.Apply(t.Context(), shop, intents, clustersync.WriteOptions{})
	if err != nil || len(failed) > 0 {
		t.Fatalf("failed %v, %v", failed, err)
	}
	got := bodies(t, c, shop)
	for _, intent := range intents {
		if string(got[intent.Doc.Key.Raw.Lookup("_id").String()]) != string(intent.Doc.Body) {
			t.Errorf("%v is not what was written", intent.Doc.Key.Raw)
		}
	}
}

// TestApplyManyKinds: deletes, replaced and new documents, a value of a unique index that moves between them, and one that cannot have it.
func TestApplyManyKinds(t *testing.T) {
	_, c, _ := filled(t, 5, fakemongo.Options{})
	refused, err := c.CreateIndexes(t.Context(), shop, []bson.Raw{raw(t, bson.D{{Key: "key", Value: bson.D{{Key: "n", Value: int32(1)}}}, {Key: "name", Value: "n_1"}, {Key: "unique", Value: true}})})
	if err != nil || len(refused) > 0 {
		t.Fatal(refused, err)
	}
	set := func(id, n int32) clustersync.Intent {
		return clustersync.Intent{Doc: document(bson.D{{Key: "_id", Value: id}, {Key: "n", Value: n}}), New: id > 10}
	}
	gone := numbered(0, 1)[0]
	gone.Body = nil
	intents := []clustersync.Intent{set(20, 0), set(1, 100), set(21, 1), set(2, 3), {Doc: gone}}
	failed, err := c.Apply(t.Context(), shop, intents, clustersync.WriteOptions{})
	check(t, err)
	var dup *clustersync.DuplicateKeyError
	if len(failed) == 0 || failed[0].Index != 3 || !errors.As(failed[0].Err, &dup) || dup.Index != "n_1" || dup.Holder.Lookup("n").Int32() != 3 {
		t.Fatalf("failed %+v, want the fourth, for the value that document 3 holds", failed)
	}
	if len(failed) > 1 {
		t.Errorf("failed %+v, want one", failed)
	}
	if strings.Contains(failed[0].Err.Error(), "dup key") {
		t.Error("the error shows the server's text, which holds values of users")
	}
	if got := bodies(t, c, shop); len(got) != 6 {
		t.Errorf("%d documents, want 6: %v", len(got), got)
	}
}

// TestSplitsWhatIsTooLarge: a command that the server finds too large goes in halves, and one document alone is named (spec §7.4, §8.8).
func TestSplitsWhatIsTooLarge(t *testing.T) {
	s, c, _ := filled(t, 1, fakemongo.Options{})
	s.Once("insert", fakemongo.Answer(10334))
	result, err := c.Insert(t.Context(), shop, numbered(10, 20), clustersync.WriteOptions{})
	if err != nil || result.Inserted != 10 || result.Bytes == 0 {
		t.Errorf("%+v, %v", result, err)
	}
	s.Break(func(name string, _ int) fakemongo.Action {
		if name == "update" {
			return fakemongo.Answer(10334)
		}
		return fakemongo.Pass
	})
	failed, err := c.Apply(t.Context(), shop, []clustersync.Intent{{Doc: numbered(1, 2)[0]}, {Doc: numbered(2, 3)[0]}}, clustersync.WriteOptions{})
	if err != nil || len(failed) != 2 || !errors.Is(failed[0].Err, clustersync.ErrTooLarge) {
		t.Errorf("failed %v, %v; want two that are too large", failed, err)
	}
}

// TestBlocked: the sync passes a block and others do not; who may not pass is told why.
func TestBlocked(t *testing.T) {
	s, c, _ := filled(t, 1, fakemongo.Options{Status: userWithAll})
	check(t, c.BlockWrites(t.Context(), true))
	_, err := c.Insert(t.Context(), shop, numbered(5, 6), clustersync.WriteOptions{})
	check(t, err)
	stranger := open(t, s.URI, mongocluster.Options{AppName: "somebody"})
	_, err = stranger.Insert(t.Context(), shop, numbered(6, 7), clustersync.WriteOptions{})
	if err == nil {
		t.Error("a user's write passes the block")
	}
	off := fakemongo.Start(t, fakemongo.Options{})
	err = open(t, off.URI, mongocluster.Options{}).BlockWrites(t.Context(), true)
	if !errors.Is(err, clustersync.ErrUnsupported) || !strings.Contains(err.Error(), "access control is off") {
		t.Errorf("a block that everybody may bypass: %v", err)
	}
}

// TestModifyCorners: options that a server takes and forgets are found out, and done otherwise or refused (spec §9.2, §10).
func TestModifyCorners(t *testing.T) {
	s, c, _ := filled(t, 3, fakemongo.Options{})
	index := func(name, field string, more ...bson.E) {
		refused, err := c.CreateIndexes(t.Context(), shop, []bson.Raw{raw(t, append(bson.D{{Key: "key", Value: bson.D{{Key: field, Value: int32(1)}}}, {Key: "name", Value: name}}, more...))})
		if err != nil || len(refused) > 0 {
			t.Fatal(refused, err)
		}
	}
	spec := func(name string) bson.Raw {
		for _, spec := range listed(t, c).Indexes {
			if spec.Lookup("name").StringValue() == name {
				return spec
			}
		}
		return nil
	}
	index("n_1", "n", bson.E{Key: "unique", Value: true})
	index("same", "same")
	index("ttl", "at", bson.E{Key: "expireAfterSeconds", Value: int32(60)}, bson.E{Key: "hidden", Value: true})
	s.Script(func(o *fakemongo.Options) {
		o.Ignores = map[string]bool{"forceNonUnique": true, "hidden": true, "expireAfterSeconds": true, "cappedSize": true, "validationLevel": true, "prepareUnique": true}
	})
	for _, change := range []struct {
		index string
		d     bson.D
	}{
		{"n_1", bson.D{{Key: "forceNonUnique", Value: true}}},
		{"ttl", bson.D{{Key: "expireAfterSeconds", Value: int64(2147483647)}}},
		{"ttl", bson.D{{Key: "hidden", Value: false}}},
		{"n_1", bson.D{{Key: "prepareUnique", Value: true}}},
	} {
		check(t, c.ModifyIndex(t.Context(), shop, change.index, change.d))
	}
	if got := spec("n_1"); !got.Lookup("unique").Boolean() {
		t.Errorf("the index is %v, want it unique", got)
	}
	if got := spec("ttl"); got.Lookup("expireAfterSeconds").AsInt64() != 2147483647 || got.Lookup("hidden").Type != 0 {
		t.Errorf("the TTL index is %v", got)
	}
	var notUnique *clustersync.NotUniqueError
	if err := c.ModifyIndex(t.Context(), shop, "same", bson.D{{Key: "prepareUnique", Value: true}}); !errors.As(err, &notUnique) {
		t.Errorf("an index over duplicates is made unique: %v", err)
	}
	if spec("same") == nil {
		t.Error("an index that could not be made unique is gone")
	}
	if err := c.ModifyIndex(t.Context(), shop, "nowhere", bson.D{{Key: "hidden", Value: true}}); !errors.Is(err, clustersync.ErrNotFound) {
		t.Errorf("an index that is not there: %v", err)
	}
	for _, change := range []bson.D{{{Key: "cappedSize", Value: int64(1 << 20)}}} {
		if err := c.Modify(t.Context(), shop, raw(t, change)); !errors.Is(err, clustersync.ErrUnsupported) {
			t.Errorf("%v is taken and forgotten: %v, want ErrUnsupported", change, err)
		}
	}
}

// TestNotUnique: error 359 names the documents.
func TestNotUnique(t *testing.T) {
	_, c, _ := filled(t, 0, fakemongo.Options{})
	for i := range int32(3) {
		_, err := c.Insert(t.Context(), shop, []clustersync.Document{document(bson.D{{Key: "_id", Value: i}, {Key: "n", Value: int32(7)}})}, clustersync.WriteOptions{})
		check(t, err)
	}
	_, err := c.CreateIndexes(t.Context(), shop, []bson.Raw{raw(t, bson.D{{Key: "key", Value: bson.D{{Key: "n", Value: int32(1)}}}, {Key: "name", Value: "n_1"}})})
	check(t, err)
	check(t, c.ModifyIndex(t.Context(), shop, "n_1", bson.D{{Key: "prepareUnique", Value: true}}))
	var notUnique *clustersync.NotUniqueError
	if err := c.ModifyIndex(t.Context(), shop, "n_1", bson.D{{Key: "unique", Value: true}}); !errors.As(err, &notUnique) || len(notUnique.IDs) != 3 {
		t.Errorf("%v, want the ids of three documents", err)
	}
}

// TestShardKeys: writes to a sharded collection carry its key, and the simple collation where servers want to be told (spec §8.4, §7.4).
func TestShardKeys(t *testing.T) {
	s, c, _ := filled(t, 0, fakemongo.Options{Sharded: true, Shards: 2, ShardKeys: map[string]bson.D{"shop.orders": {{Key: "region.code", Value: int32(1)}}}})
	docs := []clustersync.Document{document(bson.D{{Key: "_id", Value: int32(1)}, {Key: "region", Value: bson.D{{Key: "code", Value: "north"}}}})}
	failed, err := c.Apply(t.Context(), shop, []clustersync.Intent{{Doc: docs[0]}}, clustersync.WriteOptions{})
	if err != nil || len(failed) > 0 {
		t.Fatal(failed, err)
	}
	if got := bodies(t, c, shop); string(got[docs[0].Key.Raw.Lookup("_id").String()]) != string(docs[0].Body) {
		t.Errorf("%v is not what was written", got)
	}
	gone := clustersync.Document{Format: clustersync.MongoDB, Key: clustersync.Key{Raw: raw(t, bson.D{{Key: "_id", Value: int32(1)}, {Key: "region.code", Value: "north"}})}}
	if failed, err = c.Apply(t.Context(), shop, []clustersync.Intent{{Doc: gone}}, clustersync.WriteOptions{}); err != nil || len(failed) > 0 {
		t.Fatal(failed, err)
	}
	if got := bodies(t, c, shop); len(got) != 0 {
		t.Errorf("%v is left", got)
	}
	if s.Calls("delete") != 1 {
		t.Errorf("%d deletes", s.Calls("delete"))
	}
}

// TestAnswerLost: what cannot be done twice is known to be done when its answer is lost, and what others did is not taken for it.
func TestAnswerLost(t *testing.T) {
	t.Parallel()
	s, c, _ := filled(t, 1, fakemongo.Options{})
	ns := func(name string) clustersync.Namespace {
		return clustersync.Namespace{Database: "shop", Collection: name}
	}
	plain := clustersync.Collection{Ref: clustersync.Ref{Namespace: ns("made")}, Type: clustersync.Plain}
	s.Once("create", fakemongo.DropAfter)
	check(t, c.Create(t.Context(), plain))
	if err := c.Create(t.Context(), plain); !errors.Is(err, clustersync.ErrExists) {
		t.Errorf("made again: %v, want ErrExists", err)
	}
	s.Once("renameCollection", fakemongo.DropAfter)
	check(t, c.Rename(t.Context(), ns("made"), ns("moved")))
	if err := c.Rename(t.Context(), ns("made"), ns("elsewhere")); !errors.Is(err, clustersync.ErrNotFound) {
		t.Errorf("renamed again: %v, want ErrNotFound", err)
	}
	if err := c.Rename(t.Context(), ns("moved"), shop); !errors.Is(err, clustersync.ErrExists) {
		t.Errorf("renamed to a name that is taken: %v, want ErrExists", err)
	}
}

// TestShard shards a collection once; where there are no shards there is nothing to do.
func TestShard(t *testing.T) {
	s, c, _ := filled(t, 0, fakemongo.Options{Sharded: true, Shards: 2})
	key := raw(t, bson.D{{Key: "n", Value: int32(1)}})
	for range 2 {
		check(t, c.Shard(t.Context(), shop, key, false))
	}
	if n := s.Calls("shardCollection"); n != 1 {
		t.Errorf("%d calls, want 1", n)
	}
	failed, err := c.Apply(t.Context(), shop, []clustersync.Intent{{Doc: numbered(1, 2)[0]}}, clustersync.WriteOptions{})
	if err != nil || len(failed) > 0 {
		t.Errorf("a write without the new key: %v, %v", failed, err)
	}
	plain, c, _ := filled(t, 0, fakemongo.Options{})
	check(t, c.Shard(t.Context(), shop, key, false))
	if n := plain.Calls("shardCollection"); n != 0 {
		t.Errorf("%d calls to a replica set, want none", n)
	}
}

// TestFixedCapped finds out whether sizes of capped collections can be changed, and leaves nothing behind.
func TestFixedCapped(t *testing.T) {
	for _, c := range []struct {
		server fakemongo.Options
		want   bool
	}{
		{fakemongo.Options{}, false},
		{fakemongo.Options{Lacks: map[string]bool{"collMod": true}}, true},
		{fakemongo.Options{Ignores: map[string]bool{"cappedSize": true}}, true},
	} {
		s := fakemongo.Start(t, c.server)
		cluster := open(t, s.URI, mongocluster.Options{})
		for range 2 {
			if got, err := cluster.FixedCapped(t.Context()); err != nil || got != c.want {
				t.Errorf("%+v: fixed %v, %v; want %v", c.server, got, err, c.want)
			}
		}
		if n := s.Calls("create"); n > 1 {
			t.Errorf("%+v: tried %d times", c.server, n)
		}
		names, err := mongotest.Client(t, s.URI).ListDatabaseNames(t.Context(), bson.D{})
		if err != nil || len(names) > 0 {
			t.Errorf("%+v: %q is left, %v", c.server, names, err)
		}
	}
}
