package mongocluster_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/mongocluster"
	"github.com/tidegate/tidegate/internal/clustersync/mongocluster/fakemongo"
	"github.com/tidegate/tidegate/internal/clustersync/mongocluster/mongotest"
)

var errEnough = errors.New("enough")

// readNatural reads in natural order from a place and stops after some batches; it returns the keys and the last place.
func readNatural(ctx context.Context, c clustersync.Cluster, ref clustersync.Ref, from bson.Raw, batches int) (keys []string, place bson.Raw, err error) {
	opts := clustersync.ReadOptions{Natural: true, BatchDocs: 10, Resume: from, Place: func(p bson.Raw) { place = p }}
	err = c.Read(ctx, ref, clustersync.Range{}, opts, func(docs []clustersync.Document) error {
		if batches--; batches < 0 {
			return errEnough
		}
		for _, d := range docs {
			keys = append(keys, d.Key.ID)
		}
		return nil
	})
	return keys, place, err
}

// TestNaturalResume: a read in natural order goes on behind a record, on the same node and nowhere else (spec §7.5).
func TestNaturalResume(t *testing.T) {
	const n = 95
	s, c, coll := filled(t, n, fakemongo.Options{Election: bson.NewObjectID()})
	first, place, err := readNatural(t.Context(), c, coll.Ref, nil, 4)
	if !errors.Is(err, errEnough) || len(first) != 40 || place == nil {
		t.Fatalf("%d keys, place %v, %v", len(first), place, err)
	}
	rest, _, err := readNatural(t.Context(), c, coll.Ref, place, 100)
	check(t, err)
	seen := map[string]int{}
	for _, k := range append(first, rest...) {
		seen[k]++
	}
	if len(seen) != n || len(rest) != n-40 {
		t.Errorf("%d documents, %d of them after the place", len(seen), len(rest))
	}
	lost := func(why string, ref clustersync.Ref) {
		t.Helper()
		if _, _, err := readNatural(t.Context(), c, ref, place, 100); !errors.Is(err, clustersync.ErrPlaceLost) {
			t.Errorf("%s: %v", why, err)
		}
	}
	moved := clustersync.Namespace{Database: shop.Database, Collection: "moved"}
	check(t, c.Rename(t.Context(), shop, moved))
	if rest, _, err := readNatural(t.Context(), c, coll.Ref, place, 100); err != nil || len(rest) != n-40 {
		t.Errorf("renamed: %d documents, %v", len(rest), err)
	}
	remove := func(id int32) {
		gone := numbered(int(id), int(id)+1)[0]
		gone.Body = nil
		_, err := c.Apply(t.Context(), moved, []clustersync.Intent{{Doc: gone}}, clustersync.WriteOptions{})
		check(t, err)
	}
	remove(39)
	lost("its document is gone", coll.Ref)
	_, err = c.Insert(t.Context(), moved, numbered(39, 40), clustersync.WriteOptions{})
	check(t, err)
	lost("its document is there again, in another record", coll.Ref)
	other, oc, ocoll := filled(t, n, fakemongo.Options{Election: bson.NewObjectID()})
	if _, _, err := readNatural(t.Context(), oc, ocoll.Ref, place, 100); !errors.Is(err, clustersync.ErrPlaceLost) {
		t.Errorf("another node (%s): %v", other.URI, err)
	}
	// A node that was not the primary all the time tells no place: the record may be another node's.
	s.Break(func(command string, _ int) fakemongo.Action {
		if command == "getMore" {
			s.Elect(bson.NewObjectID())
		}
		return fakemongo.Pass
	})
	_, place, err = readNatural(t.Context(), c, coll.Ref, nil, 100)
	if id := place.Lookup("id"); err != nil || place == nil || id.Int32() != 9 {
		t.Errorf("the last place is %v, %v; want that of the first batch", place, err)
	}
}

// TestNaturalWithoutPlaces: servers that know nothing of places are read all the same.
func TestNaturalWithoutPlaces(t *testing.T) {
	for name, opts := range map[string]fakemongo.Options{
		"refused": {Lacks: map[string]bool{"$_requestResumeToken": true}, Election: bson.NewObjectID()},
		"ignored": {Ignores: map[string]bool{"$_requestResumeToken": true}, Election: bson.NewObjectID()},
		"sharded": {Sharded: true, Shards: 1},
	} {
		_, c, coll := filled(t, 55, opts)
		keys, place, err := readNatural(t.Context(), c, coll.Ref, nil, 100)
		if err != nil || len(keys) != 55 || place != nil {
			t.Errorf("%s: %d keys, place %v, %v", name, len(keys), place, err)
		}
	}
}

// TestRandomKeys compares the order of keys with that of records.
func TestRandomKeys(t *testing.T) {
	fill := func(c *mongocluster.Cluster, ids []int) clustersync.Collection {
		var docs []clustersync.Document
		for _, id := range ids {
			docs = append(docs, document(bson.D{{Key: "_id", Value: int32(id)}}))
		}
		_, err := c.Insert(t.Context(), shop, docs, clustersync.WriteOptions{})
		check(t, err)
		return listed(t, c)
	}
	ascending := make([]int, 300)
	descending := make([]int, 300)
	for i := range ascending {
		ascending[i], descending[i] = i, 300-i
	}
	random := rand.New(rand.NewPCG(4, 5)).Perm(300)
	for name, tt := range map[string]struct {
		ids  []int
		opts fakemongo.Options
		want bool
		err  error
	}{
		"ascending":  {ascending, fakemongo.Options{}, false, nil},
		"descending": {descending, fakemongo.Options{}, false, nil},
		"random":     {random, fakemongo.Options{}, true, nil},
		"no records": {random, fakemongo.Options{Lacks: map[string]bool{"showRecordId": true}}, false, clustersync.ErrUnsupported},
		"no samples": {random, fakemongo.Options{Lacks: map[string]bool{"$sample": true}}, false, clustersync.ErrUnsupported},
		"sharded":    {random, fakemongo.Options{Sharded: true, Shards: 2}, false, clustersync.ErrUnsupported},
	} {
		s := fakemongo.Start(t, tt.opts)
		c := open(t, s.URI, mongocluster.Options{})
		got, err := c.RandomKeys(t.Context(), fill(c, tt.ids))
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	s := mongotest.Secantus(t)
	c := open(t, s.URI, mongocluster.Options{})
	coll := fill(c, random)
	if _, err := c.RandomKeys(t.Context(), coll); err != nil && !errors.Is(err, clustersync.ErrUnsupported) {
		t.Errorf("SecantusDB: %v", err)
	}
	keys, place, err := readNatural(t.Context(), c, coll.Ref, nil, 100)
	t.Logf("SecantusDB: place %v", place)
	if err != nil || len(keys) != len(random) {
		t.Errorf("SecantusDB: %d keys, %v", len(keys), err)
	}
}
