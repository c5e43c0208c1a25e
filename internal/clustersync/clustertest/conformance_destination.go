package clustertest

import (
	"errors"
	"strings"
	"testing"

	"github.com/tidegate/tidegate/internal/clustersync"
	"go.mongodb.org/mongo-driver/v2/bson"
)

func plain(ns clustersync.Namespace) clustersync.Collection {
	return clustersync.Collection{Ref: clustersync.Ref{Namespace: ns}, Type: clustersync.Plain}
}

func testCreate(t *testing.T, s suite) {
	ns := s.ns("created")
	s.ok(s.Cluster.Create(s.ctx(), plain(ns)))
	if c := s.must(ns); c.Count != 0 {
		t.Errorf("a new collection with %d documents", c.Count)
	}
	s.is(s.Cluster.Create(s.ctx(), plain(ns)), clustersync.ErrExists)
	s.ok(s.Cluster.Drop(s.ctx(), ns))
	s.ok(s.Cluster.Drop(s.ctx(), ns)) // missing: no error
	if _, there := s.get(ns); there {
		t.Error("a dropped collection is listed")
	}
	s.ok(s.Cluster.Create(s.ctx(), plain(ns))) // the name is free again
	if docs := s.read(ns, 1<<20); len(docs) != 0 {
		t.Errorf("%d documents in a collection made anew", len(docs))
	}
}

func testRename(t *testing.T, s suite) {
	from, to, other := s.filled("from", 3), s.ns("to"), s.filled("other", 1)
	s.is(s.Cluster.Rename(s.ctx(), from, other), clustersync.ErrExists)
	s.is(s.Cluster.Rename(s.ctx(), s.ns("nowhere"), to), clustersync.ErrNotFound)
	s.ok(s.Cluster.Rename(s.ctx(), from, to))
	if docs := s.read(to, 1<<20); len(docs) != 3 {
		t.Errorf("%d documents after the rename, want 3", len(docs))
	}
	if _, there := s.get(from); there {
		t.Error("the old name is still listed")
	}
}

func testView(t *testing.T, s suite) {
	base, ns := s.filled("base", 2), s.ns("view")
	view := plain(ns)
	view.Type = clustersync.View
	view.Options = marshal(bson.D{{Key: "viewOn", Value: base.Collection}, {Key: "pipeline", Value: bson.A{}}})
	s.ok(s.Cluster.Create(s.ctx(), view))
	if c := s.must(ns); c.Type != clustersync.View || c.Options.Lookup("viewOn").StringValue() != base.Collection {
		t.Errorf("the view is listed as %+v", c)
	}
	s.is(s.Cluster.Create(s.ctx(), view), clustersync.ErrExists)
	s.ok(s.Cluster.Drop(s.ctx(), ns))
}

func testCapped(t *testing.T, s suite) {
	ns := s.ns("capped")
	capped := plain(ns)
	capped.Capped, capped.Options = true, marshal(bson.D{{Key: "capped", Value: true}, {Key: "size", Value: int64(1 << 20)}})
	s.ok(s.Cluster.Create(s.ctx(), capped))
	if c := s.must(ns); !c.Capped {
		t.Errorf("listed as %+v", c)
	}
	docs := s.read(s.filled("plain", 20), 1<<20)
	_, err := s.Cluster.Insert(s.ctx(), ns, docs, clustersync.WriteOptions{Ordered: true})
	s.ok(err)
	var got []clustersync.Document
	natural := clustersync.ReadOptions{Natural: true, BatchDocs: 7, BatchBytes: 1 << 20}
	s.ok(s.Cluster.Read(s.ctx(), s.must(ns).Ref, clustersync.Range{}, natural, func(b []clustersync.Document) error {
		got = append(got, b...)
		return nil
	}))
	for i := range docs {
		if i >= len(got) || got[i].Key.ID != docs[i].Key.ID {
			t.Fatalf("natural order is not that of insertion at %d of %d", i, len(got))
		}
	}
}

// testCopy copies a collection to another cluster of the kind and back over itself.
func testCopy(t *testing.T, s suite) {
	dst := s.another()
	from := s.filled("copied", 150)
	for i := range 20 { // documents with a history
		s.put(from, i, "second")
	}
	want := s.byID(s.read(from, 2000))
	to := dst.ns("copied")
	s.ok(dst.Cluster.Create(s.ctx(), plain(to)))
	copied := 0
	for range 2 { // again: all are there
		c := s.must(from)
		s.ok(s.Cluster.Read(s.ctx(), c.Ref, clustersync.Range{}, readAll, func(docs []clustersync.Document) error {
			res, err := dst.Cluster.Insert(s.ctx(), to, docs, clustersync.WriteOptions{})
			copied += res.Inserted
			if err == nil && res.Inserted+res.Present != len(docs) {
				t.Errorf("%d inserted and %d present of %d", res.Inserted, res.Present, len(docs))
			}
			return err
		}))
		if copied != len(want) {
			t.Errorf("%d documents inserted, want %d", copied, len(want))
		}
	}
	sameDocuments(t, dst.byID(dst.read(to, 1<<20)), want)
	if f, err := dst.Users.Get(s.ctx(), to, docID(3)); err != nil || f["value"] != "second" {
		t.Errorf("a user reads %v, %v", f, err)
	}
}

func testInsertPresent(t *testing.T, s suite) {
	if s.Cluster.Kind() != clustersync.MongoDB {
		return // documents of tidegate have histories: one that is newer is written
	}
	dst := s.another()
	from, to := s.filled("present", 10), dst.filled("present", 5)
	for i := range 10 {
		s.put(from, i, "theirs")
	}
	res, err := dst.Cluster.Insert(s.ctx(), to, s.read(from, 1<<20), clustersync.WriteOptions{})
	s.ok(err)
	if res.Inserted != 5 || res.Present != 5 {
		t.Errorf("inserted %d, present %d; want 5 and 5", res.Inserted, res.Present)
	}
	if f, err := dst.Users.Get(s.ctx(), to, docID(1)); err != nil || f["value"] != "first" {
		t.Errorf("a document that was there is %v, %v", f, err)
	}
}

// testApply applies intents twice, in two orders, with hints that are right and wrong.
func testApply(t *testing.T, s suite) {
	dst := s.another()
	from, to := s.filled("apply", 20), dst.ns("apply")
	s.ok(dst.Cluster.Create(s.ctx(), plain(to)))
	docs := s.read(from, 1<<20)
	apply := func(intents []clustersync.Intent) {
		t.Helper()
		failed, err := dst.Cluster.Apply(s.ctx(), to, intents, clustersync.WriteOptions{})
		if err != nil || len(failed) > 0 {
			t.Fatalf("Apply: %v, %v", failed, err)
		}
	}
	var first []clustersync.Intent
	for i, d := range docs {
		first = append(first, clustersync.Intent{Doc: d, New: i%2 == 0})
	}
	apply(first[:15])
	apply(first) // 15 of them are there, with the hint that they are not
	sameDocuments(t, dst.byID(dst.read(to, 1<<20)), s.byID(docs))

	for i := range 5 {
		s.put(from, i, "second")
		s.ok(s.Users.Delete(s.ctx(), from, docID(10+i)))
	}
	ref := s.must(from).Ref
	var keys []clustersync.Key
	for _, d := range docs {
		keys = append(keys, d.Key)
	}
	now, err := s.Cluster.Fetch(s.ctx(), ref, keys)
	s.ok(err)
	var second []clustersync.Intent
	for i, d := range now {
		if d.Body == nil {
			d = clustersync.Document{Key: keys[i], Format: s.Cluster.Kind()}
		}
		second = append(second, clustersync.Intent{Doc: d})
	}
	for range 2 {
		apply(second)
	}
	sameDocuments(t, dst.byID(dst.read(to, 1<<20)), s.byID(s.read(from, 1<<20)))
	if f, err := dst.Users.Get(s.ctx(), to, docID(11)); err != nil || f != nil {
		t.Errorf("a deleted document is %v, %v", f, err)
	}
	failed, err := dst.Cluster.Apply(s.ctx(), to, nil, clustersync.WriteOptions{})
	if err != nil || len(failed) > 0 {
		t.Errorf("no intents: %v, %v", failed, err)
	}
}

func testDelta(t *testing.T, s suite) {
	ns := s.filled("delta", 2)
	docs := s.read(ns, 1<<20)
	delta := marshal(bson.D{{Key: "updatedFields", Value: bson.D{{Key: "value", Value: "patched"}}}, {Key: "removedFields", Value: bson.A{"padding"}}})
	err := s.Cluster.ApplyDelta(s.ctx(), ns, docs[0].Key, delta)
	if !s.Can.Delta {
		s.is(err, clustersync.ErrUnsupported)
		return
	}
	s.ok(err)
	f, err := s.Users.Get(s.ctx(), ns, docID(0))
	s.ok(err)
	if _, padded := f["padding"]; f["value"] != "patched" || padded {
		t.Errorf("after the delta: %v", f)
	}
	s.ok(s.Users.Delete(s.ctx(), ns, docID(1)))
	s.ok(s.Cluster.ApplyDelta(s.ctx(), ns, docs[1].Key, delta))
	if f, err := s.Users.Get(s.ctx(), ns, docID(1)); err != nil || f != nil {
		t.Errorf("a delta made a document: %v, %v", f, err)
	}
}

// testLarge copies the largest document that the cluster takes.
func testLarge(t *testing.T, s suite) {
	dst := s.another()
	from, to := s.filled("large", 1), dst.ns("large")
	s.ok(s.Users.Put(s.ctx(), from, "large", Fields{"value": strings.Repeat("x", s.Can.MaxDocument-1024)}))
	s.ok(dst.Cluster.Create(s.ctx(), plain(to)))
	docs := s.read(from, 1<<20)
	for range 2 {
		_, err := dst.Cluster.Insert(s.ctx(), to, docs, clustersync.WriteOptions{})
		s.ok(err)
		var intents []clustersync.Intent
		for _, d := range docs {
			intents = append(intents, clustersync.Intent{Doc: d})
		}
		failed, err := dst.Cluster.Apply(s.ctx(), to, intents, clustersync.WriteOptions{})
		if err != nil || len(failed) > 0 {
			t.Fatalf("Apply: %v, %v", failed, err)
		}
	}
	sameDocuments(t, dst.byID(dst.read(to, 1<<20)), s.byID(docs))
}

func indexSpec(name, field string, unique bool) bson.Raw {
	spec := bson.D{{Key: "v", Value: int32(2)}, {Key: "key", Value: bson.D{{Key: field, Value: int32(1)}}}, {Key: "name", Value: name}}
	if unique {
		spec = append(spec, bson.E{Key: "unique", Value: true})
	}
	return marshal(spec)
}

func (s suite) indexNames(ns clustersync.Namespace) []string {
	s.t.Helper()
	var out []string
	for _, spec := range s.must(ns).Indexes {
		out = append(out, spec.Lookup("name").StringValue())
	}
	return out
}

func testIndexes(t *testing.T, s suite) {
	ns := s.filled("indexes", 3)
	specs := []bson.Raw{indexSpec("n_1", "n", false), indexSpec("value_1", "value", false)}
	for range 2 {
		refused, err := s.Cluster.CreateIndexes(s.ctx(), ns, specs)
		if err != nil || len(refused) > 0 {
			t.Fatalf("CreateIndexes: %v, %v", refused, err)
		}
	}
	if got := s.indexNames(ns); len(got) != 2 {
		t.Errorf("indexes %q, want n_1 and value_1; _id_ is left out", got)
	}
	// Of the same name with other keys, or of the same keys with another name: the listing was newer.
	refused, err := s.Cluster.CreateIndexes(s.ctx(), ns, []bson.Raw{indexSpec("n_1", "other", false), indexSpec("also_n", "n", false)})
	if err != nil || len(refused) > 0 {
		t.Errorf("indexes that others half fit: %v, %v", refused, err)
	}
	s.ok(s.Cluster.DropIndex(s.ctx(), ns, "n_1"))
	s.ok(s.Cluster.DropIndex(s.ctx(), ns, "n_1"))
	s.ok(s.Cluster.DropIndex(s.ctx(), s.ns("nowhere"), "n_1"))
}

func testUnique(t *testing.T, s suite) {
	dst := s.another()
	ns := s.filled("unique", 4)
	refused, err := s.Cluster.CreateIndexes(s.ctx(), ns, []bson.Raw{indexSpec("value_1", "value", true)})
	if err != nil || len(refused) != 1 || refused[0].Name != "value_1" {
		t.Errorf("a unique index over duplicates: refused %v, %v", refused, err)
	}
	refused, err = s.Cluster.CreateIndexes(s.ctx(), ns, []bson.Raw{indexSpec("n_1", "n", true)})
	if err != nil || len(refused) > 0 {
		t.Fatalf("a unique index: refused %v, %v", refused, err)
	}
	theirs := dst.filled("unique", 0)
	s.ok(dst.Users.Put(s.ctx(), theirs, "stranger", Fields{"n": 2}))
	s.ok(dst.Users.Put(s.ctx(), theirs, "friend", Fields{"n": 77}))
	var intents []clustersync.Intent
	for _, d := range dst.read(theirs, 1<<20) {
		intents = append(intents, clustersync.Intent{Doc: d})
	}
	failed, err := s.Cluster.Apply(s.ctx(), ns, intents, clustersync.WriteOptions{})
	s.ok(err)
	var dup *clustersync.DuplicateKeyError
	if len(failed) != 1 || !errors.As(failed[0].Err, &dup) || dup.Index != "n_1" {
		t.Fatalf("one of two documents has a duplicate: failed %v", failed)
	}
	if f, err := s.Users.Get(s.ctx(), ns, "friend"); err != nil || f == nil {
		t.Errorf("the other document: %v, %v", f, err)
	}
}

func testModifyIndex(t *testing.T, s suite) {
	ns := s.filled("modify", 3)
	_, err := s.Cluster.CreateIndexes(s.ctx(), ns, []bson.Raw{indexSpec("value_1", "value", false), indexSpec("n_1", "n", false)})
	s.ok(err)
	modify := func(name string, change bson.D) error { return s.Cluster.ModifyIndex(s.ctx(), ns, name, change) }
	for _, name := range []string{"n_1", "value_1"} {
		s.ok(modify(name, bson.D{{Key: "prepareUnique", Value: true}}))
	}
	s.ok(modify("n_1", bson.D{{Key: "unique", Value: true}}))
	var notUnique *clustersync.NotUniqueError
	if err := modify("value_1", bson.D{{Key: "unique", Value: true}}); !errors.As(err, &notUnique) || len(notUnique.IDs) == 0 {
		t.Errorf("unique over duplicates: %v", err)
	}
	if err := s.Users.Put(s.ctx(), ns, "again", Fields{"n": 1}); err == nil {
		t.Error("a duplicate is taken by a unique index")
	}
}

func testBlock(t *testing.T, s suite) {
	ns := s.filled("blocked", 3)
	docs := s.read(ns, 1<<20)
	expect := func(want bool) {
		t.Helper()
		if got, err := s.Cluster.WritesBlocked(s.ctx()); err != nil || got != want {
			t.Errorf("WritesBlocked: %v, %v; want %v", got, err, want)
		}
	}
	expect(false)
	for range 2 {
		s.ok(s.Cluster.BlockWrites(s.ctx(), true))
		expect(true)
	}
	if err := s.Users.Put(s.ctx(), ns, docID(1), Fields{"value": "refused"}); err == nil {
		t.Error("a user's write passes")
	}
	if err := s.Users.Delete(s.ctx(), ns, docID(1)); err == nil {
		t.Error("a user's deletion passes")
	}
	if f, err := s.Users.Get(s.ctx(), ns, docID(1)); err != nil || f["value"] != "first" {
		t.Errorf("a user reads %v, %v", f, err)
	}
	failed, err := s.Cluster.Apply(s.ctx(), ns, []clustersync.Intent{{Doc: clustersync.Document{Key: docs[0].Key, Format: s.Cluster.Kind()}}}, clustersync.WriteOptions{})
	if err != nil || len(failed) > 0 {
		t.Errorf("the sync's own deletion: %v, %v", failed, err)
	}
	s.ok(s.Cluster.Create(s.ctx(), plain(s.ns("made"))))
	for range 2 {
		s.ok(s.Cluster.BlockWrites(s.ctx(), false))
		expect(false)
	}
	s.put(ns, 1, "free")
}

func testNoBlock(t *testing.T, s suite) {
	s.is(s.Cluster.BlockWrites(s.ctx(), true), clustersync.ErrUnsupported)
}
