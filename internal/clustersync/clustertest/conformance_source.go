package clustertest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tidegate/tidegate/internal/clustersync"
)

func testInspect(t *testing.T, s suite) {
	s.filled("one", 1)
	info, err := s.Cluster.Inspect(s.ctx())
	s.ok(err)
	if info.Name == "" || len(info.Hosts) == 0 || info.Version == "" || info.Topology == "" {
		t.Errorf("Inspect leaves out who it is: %+v", info)
	}
	if s.Can.Changes != (info.ChangeSource != "") {
		t.Errorf("change source %q, capability %v", info.ChangeSource, s.Can.Changes)
	}
	if s.Can.Block != info.CanBlock {
		t.Errorf("CanBlock %v, capability %v", info.CanBlock, s.Can.Block)
	}
	if len(info.UserDatabases) != 1 || info.UserDatabases[0] != s.ns("one").Database {
		t.Errorf("user databases %q", info.UserDatabases)
	}
	if _, err := s.Cluster.Ping(s.ctx()); err != nil {
		t.Errorf("Ping: %v", err)
	}
}

func testList(t *testing.T, s suite) {
	ns := s.filled("listed", 3)
	s.ok(s.Cluster.Metadata().Put(s.ctx(), 0, "resumeData", map[string]any{"_id": "coordinator"}))
	c := s.must(ns)
	if c.Type != clustersync.Plain || c.Capped {
		t.Errorf("listed as %+v", c)
	}
	if s.Can.UUIDs != (c.UUID != "") {
		t.Errorf("UUID %q, capability %v", c.UUID, s.Can.UUIDs)
	}
	all, err := s.Cluster.List(s.ctx())
	s.ok(err)
	for _, other := range all {
		if other.Namespace != ns && other.Database != ns.Database {
			t.Errorf("%s is listed, which is not a user's", other.Namespace)
		}
	}
}

func testCanceled(t *testing.T, s suite) {
	ns := s.filled("canceled", 3)
	c := s.must(ns)
	ctx, cancel := context.WithCancel(s.ctx())
	cancel()
	for name, call := range map[string]func() error{
		"List":  func() error { _, err := s.Cluster.List(ctx); return err },
		"Fetch": func() error { _, err := s.Cluster.Fetch(ctx, c.Ref, []clustersync.Key{{ID: "x"}}); return err },
		"Read": func() error {
			return s.Cluster.Read(ctx, c.Ref, clustersync.Range{}, readAll, func([]clustersync.Document) error { return nil })
		},
	} {
		if err := call(); err == nil {
			t.Errorf("%s works with a canceled context", name)
		}
	}
}

func testRead(t *testing.T, s suite) {
	const n = 250
	ns := s.filled("read", n)
	for _, target := range []int64{1 << 30, 2000} {
		docs := s.byID(s.read(ns, target))
		if len(docs) != n {
			t.Errorf("%d documents with ranges of %d bytes, want %d", len(docs), target, n)
		}
	}
	ranges, err := s.Cluster.Partition(s.ctx(), s.must(ns), 2000)
	s.ok(err)
	if s.Can.Partitions && len(ranges) < 2 {
		t.Errorf("%d ranges of 2,000 bytes of %d documents", len(ranges), n)
	}
	natural := clustersync.ReadOptions{Natural: true, BatchDocs: 100, BatchBytes: 1 << 20}
	var read []clustersync.Document
	s.ok(s.Cluster.Read(s.ctx(), s.must(ns).Ref, clustersync.Range{}, natural, func(docs []clustersync.Document) error {
		read = append(read, docs...)
		return nil
	}))
	if got := len(s.byID(read)); got != n {
		t.Errorf("%d documents in natural order, want %d", got, n)
	}
	empty := s.ns("empty")
	s.ok(s.Users.Create(s.ctx(), empty))
	if docs := s.read(empty, 2000); len(docs) != 0 {
		t.Errorf("%d documents in an empty collection", len(docs))
	}
}

func testReadBatches(t *testing.T, s suite) {
	const n = 120
	ref := s.must(s.filled("batches", n)).Ref
	errStop := errors.New("enough")
	for _, opts := range []clustersync.ReadOptions{{BatchDocs: 7, BatchBytes: 1 << 20}, {BatchDocs: 1000, BatchBytes: 3000}} {
		batches, total := 0, 0
		s.ok(s.Cluster.Read(s.ctx(), ref, clustersync.Range{}, opts, func(docs []clustersync.Document) error {
			if len(docs) == 0 || len(docs) > opts.BatchDocs {
				t.Errorf("a batch of %d documents, at most %d are wanted", len(docs), opts.BatchDocs)
			}
			batches, total = batches+1, total+len(docs)
			return nil
		}))
		if total != n || batches < 2 {
			t.Errorf("%+v: %d documents in %d batches", opts, total, batches)
		}
		s.is(s.Cluster.Read(s.ctx(), ref, clustersync.Range{}, opts, func([]clustersync.Document) error { return errStop }), errStop)
	}
}

func testReadRenamed(t *testing.T, s suite) {
	const n = 60
	ns := s.filled("old", n)
	ref := s.must(ns).Ref
	s.ok(s.Users.Rename(s.ctx(), ns, s.ns("new")))
	s.filled("old", 1) // another collection of that name
	var docs []clustersync.Document
	s.ok(s.Cluster.Read(s.ctx(), ref, clustersync.Range{}, readAll, func(b []clustersync.Document) error {
		docs = append(docs, b...)
		return nil
	}))
	if got := len(s.byID(docs)); got != n {
		t.Errorf("%d documents of the renamed collection, want %d", got, n)
	}
	got, err := s.Cluster.Fetch(s.ctx(), ref, []clustersync.Key{docs[n-1].Key})
	if err != nil || got[0].Body == nil {
		t.Errorf("Fetch from the renamed collection: %v", err)
	}
}

func testReadGone(t *testing.T, s suite) {
	ns := s.filled("gone", 5)
	ref := s.must(ns).Ref
	docs := s.read(ns, 1<<20)
	s.ok(s.Users.Drop(s.ctx(), ns))
	for i := range 2 { // once without, once with another collection of that name
		err := s.Cluster.Read(s.ctx(), ref, clustersync.Range{}, readAll, func([]clustersync.Document) error { return nil })
		s.is(err, clustersync.ErrGone)
		_, err = s.Cluster.Fetch(s.ctx(), ref, []clustersync.Key{docs[0].Key})
		s.is(err, clustersync.ErrGone)
		if i == 0 {
			s.filled("gone", 5)
		}
	}
}

func testFetch(t *testing.T, s suite) {
	ns := s.filled("fetch", 30)
	ref := s.must(ns).Ref
	docs := s.read(ns, 1<<20)
	keys := []clustersync.Key{docs[20].Key, docs[3].Key, docs[9].Key}
	s.ok(s.Users.Delete(s.ctx(), ns, docID(999))) // of a missing document
	got, err := s.Cluster.Fetch(s.ctx(), ref, keys)
	s.ok(err)
	if len(got) != 3 {
		t.Fatalf("%d documents for 3 keys", len(got))
	}
	for i, k := range keys {
		if got[i].Key.ID != k.ID || got[i].Body == nil {
			t.Errorf("place %d: %s, want %s", i, got[i].Key.Raw, k.Raw)
		}
	}
	if string(got[1].Body) != string(docs[3].Body) {
		t.Errorf("fetched %q, read %q", got[1].Body, docs[3].Body)
	}
	// A document that was never there is not fetched. What a deleted one leaves is the cluster's affair (a tombstone, for tidegate).
	missing := s.another()
	stranger := missing.filled("fetch", 31)
	theirs := missing.byID(missing.read(stranger, 1<<20))
	for id, d := range theirs {
		if _, here := s.byID(docs)[id]; here {
			continue
		}
		got, err := s.Cluster.Fetch(s.ctx(), ref, []clustersync.Key{d.Key, docs[0].Key})
		if err != nil || got[0].Body != nil || got[1].Body == nil {
			t.Errorf("a missing and a present document: %v, %v", got, err)
		}
	}
}

// follow reads a stream until it has reached the mark, calling fn for each event.
func (s suite) follow(from, to clustersync.Position, fn func(clustersync.Event)) clustersync.Position {
	s.t.Helper()
	ctx, cancel := context.WithTimeoutCause(s.ctx(), within, errors.New("the stream does not reach the mark"))
	defer cancel()
	stream, err := s.Cluster.Changes(ctx, from)
	s.ok(err)
	defer func() { s.ok(stream.Close(s.ctx())) }()
	at := from
	for !s.Cluster.Reached(at, to) {
		events, now, err := stream.Next(ctx, time.Second)
		if err != nil {
			s.t.Fatalf("Next: %v (%v)", err, context.Cause(ctx))
		}
		for _, e := range events {
			fn(e)
		}
		at = now
	}
	return at
}

func (s suite) mark() clustersync.Position {
	s.t.Helper()
	p, err := s.Cluster.Mark(s.ctx())
	s.ok(err)
	if p.Zero() {
		s.t.Fatal("Mark gives no position")
	}
	return p
}

// testChanges: everything between two marks is given, and what the last event of each document says is what it is.
func testChanges(t *testing.T, s suite) {
	ns := s.filled("changes", 20)
	ref := s.must(ns).Ref
	from := s.mark()
	for i := range 20 {
		switch i % 4 {
		case 0:
			s.put(ns, i, "second")
		case 1:
			s.ok(s.Users.Delete(s.ctx(), ns, docID(i)))
		case 2:
			s.put(ns, 100+i, "new")
		}
	}
	s.put(ns, 0, "third")
	s.put(ns, 102, "newer")
	to := s.mark()
	s.put(ns, 300, "after the mark")
	last := map[string]clustersync.Event{}
	s.follow(from, to, func(e clustersync.Event) {
		if e.DDL() {
			return
		}
		if e.Ref.Namespace != ns || s.Can.UUIDs && e.Ref.UUID != ref.UUID {
			t.Errorf("event of %+v, want %+v", e.Ref, ref)
		}
		last[e.Doc.Key.ID] = e
	})
	if len(last) < 15 || len(last) > 20+10+1 {
		t.Errorf("%d documents are told as changed; 5 were written, 5 deleted, 5 new", len(last))
	}
	for _, e := range last {
		docs, err := s.Cluster.Fetch(s.ctx(), e.Ref, []clustersync.Key{e.Doc.Key})
		s.ok(err)
		switch e.Op {
		case clustersync.OpInsert, clustersync.OpReplace:
			if string(docs[0].Body) != string(e.Doc.Body) {
				t.Errorf("%s is told as %q and is %q", e.Doc.Key.Raw, e.Doc.Body, docs[0].Body)
			}
		case clustersync.OpDelete:
			if docs[0].Body != nil && s.Cluster.Kind() == clustersync.MongoDB {
				t.Errorf("%s is told as deleted and is there", e.Doc.Key.Raw)
			}
		}
	}
}

// testResume resumes at the position of each event and looks for those that come after it.
func testResume(t *testing.T, s suite) {
	ns := s.filled("resume", 0)
	from := s.mark()
	const n = 12
	for i := range n {
		s.put(ns, i, "written")
	}
	to := s.mark()
	var all []clustersync.Event
	s.follow(from, to, func(e clustersync.Event) {
		if !e.DDL() {
			all = append(all, e)
		}
	})
	for i, e := range all {
		if e.At.Zero() {
			continue
		}
		after := map[string]bool{}
		s.follow(e.At, to, func(e clustersync.Event) { after[e.Doc.Key.ID] = true })
		for _, later := range all[i+1:] {
			if !after[later.Doc.Key.ID] {
				t.Errorf("resumed after event %d of %d: %s is not given", i, len(all), later.Doc.Key.Raw)
			}
		}
	}
	if len(all) < n {
		t.Errorf("%d events of %d writes", len(all), n)
	}
}

// testIdle: a stream of a cluster where nothing happens comes to a mark, and can be resumed there.
func testIdle(t *testing.T, s suite) {
	ns := s.filled("idle", 2)
	from := s.mark()
	at := s.follow(from, s.mark(), func(e clustersync.Event) { t.Logf("event %+v", e) })
	s.put(ns, 7, "later")
	seen := 0
	s.follow(at, s.mark(), func(e clustersync.Event) { seen++ })
	if seen == 0 {
		t.Error("what is written after an idle stream's position is not given")
	}
	oldest, newest, err := s.Cluster.Oplog(s.ctx())
	if err != nil || newest.Before(oldest) {
		t.Errorf("Oplog: %v to %v, %v", oldest, newest, err)
	}
}

// testChangesDDL: events on collections are barriers in the place where they happened.
func testChangesDDL(t *testing.T, s suite) {
	s.filled("before", 0)
	from := s.mark()
	ns := s.filled("made", 1)
	want := []clustersync.Op{clustersync.OpCreate}
	if s.Can.Indexes {
		s.ok(s.Users.CreateIndex(s.ctx(), ns, "value_1", "value", false))
		want = append(want, clustersync.OpCreateIndexes)
	}
	if s.Can.Rename {
		s.ok(s.Users.Rename(s.ctx(), ns, s.ns("renamed")))
		ns = s.ns("renamed")
		want = append(want, clustersync.OpRename)
	}
	s.ok(s.Users.Drop(s.ctx(), ns))
	want = append(want, clustersync.OpDrop)
	var got []clustersync.Op
	s.follow(from, s.mark(), func(e clustersync.Event) {
		if e.DDL() && e.Op != clustersync.OpDropIndexes {
			got = append(got, e.Op)
		}
		if e.Op == clustersync.OpRename && e.To != ns {
			t.Errorf("renamed to %s, told as %s", ns, e.To)
		}
	})
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("events %v, want %v", got, want)
	}
}

func testHistoryLost(t *testing.T, s suite) {
	if s.Forget == nil {
		return
	}
	ns := s.filled("lost", 1)
	from := s.mark()
	s.put(ns, 2, "forgotten")
	s.ok(s.Forget(s.ctx()))
	stream, err := s.Cluster.Changes(s.ctx(), from)
	if err == nil {
		_, _, err = stream.Next(s.ctx(), time.Second)
		s.ok(stream.Close(s.ctx()))
	}
	s.is(err, clustersync.ErrHistoryLost)
}
