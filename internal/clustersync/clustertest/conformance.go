package clustertest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// Fixture is an empty cluster under test.
type Fixture struct {
	Cluster clustersync.Cluster
	// Connect opens another connection, as a restarted sync has one. It is closed by the suite. Nil: those tests use Cluster.
	Connect func() clustersync.Cluster
	Users   Users
	// Namespace makes the cluster's name for a collection of a test. Nil: collection name of database "suite".
	Namespace func(name string) clustersync.Namespace
	// Forget has the cluster lose its history up to now. Nil: it cannot be made to.
	Forget func(context.Context) error
	Can    Capabilities
}

// Users are people's clients, which do not bypass the write block. Ids of documents are strings, members are strings and numbers.
type Users interface {
	Create(ctx context.Context, ns clustersync.Namespace) error
	// Put makes the document what fields say.
	Put(ctx context.Context, ns clustersync.Namespace, id string, fields Fields) error
	Delete(ctx context.Context, ns clustersync.Namespace, id string) error
	// Get returns nil fields for a missing document.
	Get(ctx context.Context, ns clustersync.Namespace, id string) (Fields, error)
	Drop(ctx context.Context, ns clustersync.Namespace) error
	// Rename and CreateIndex are called only if the capabilities say so.
	Rename(ctx context.Context, from, to clustersync.Namespace) error
	CreateIndex(ctx context.Context, ns clustersync.Namespace, name, field string, unique bool) error
}

// Fields are members of a document besides its _id.
type Fields map[string]any

// Capabilities say what a cluster has. What is not set must answer ErrUnsupported, or is not asked for.
type Capabilities struct {
	Changes     bool // it can be a source
	DDLEvents   bool // it tells of create, drop, rename and indexes
	UUIDs       bool
	Rename      bool
	Indexes     bool
	Unique      bool // unique indexes are kept
	ModifyIndex bool
	Views       bool
	Capped      bool
	Partitions  bool // it cuts collections
	Delta       bool
	Block       bool
	MaxDocument int // bytes of the largest document; 0: not tested
}

// within is how long a test waits for what should happen.
const within = 30 * time.Second

// Run is the suite that every clustersync.Cluster passes. open gives a new, empty cluster at each call.
func Run(t *testing.T, open func(t *testing.T) Fixture) {
	for _, c := range []struct {
		name  string
		test  func(*testing.T, suite)
		needs func(Capabilities) bool
	}{
		{"Inspect", testInspect, nil},
		{"List", testList, nil},
		{"CanceledContext", testCanceled, nil},
		{"ReadGivesEveryDocumentOnce", testRead, nil},
		{"ReadBatches", testReadBatches, nil},
		{"ReadFollowsRename", testReadRenamed, func(c Capabilities) bool { return c.UUIDs && c.Rename }},
		{"ReadGone", testReadGone, func(c Capabilities) bool { return c.UUIDs }},
		{"Fetch", testFetch, nil},
		{"ChangesAreComplete", testChanges, changes},
		{"ChangesResume", testResume, changes},
		{"ChangesMoveOnIdle", testIdle, changes},
		{"ChangesOfDDL", testChangesDDL, func(c Capabilities) bool { return c.DDLEvents }},
		{"HistoryLost", testHistoryLost, changes},
		{"Create", testCreate, nil},
		{"Rename", testRename, func(c Capabilities) bool { return c.Rename }},
		{"View", testView, func(c Capabilities) bool { return c.Views }},
		{"Capped", testCapped, func(c Capabilities) bool { return c.Capped }},
		{"CopyIsEqual", testCopy, nil},
		{"InsertLeavesWhatIsThere", testInsertPresent, nil},
		{"ApplyIsIdempotent", testApply, nil},
		{"ApplyDelta", testDelta, nil},
		{"Large", testLarge, func(c Capabilities) bool { return c.MaxDocument > 0 }},
		{"Indexes", testIndexes, func(c Capabilities) bool { return c.Indexes }},
		{"UniqueIndex", testUnique, func(c Capabilities) bool { return c.Indexes && c.Unique }},
		{"ModifyIndex", testModifyIndex, func(c Capabilities) bool { return c.Indexes && c.Unique && c.ModifyIndex }},
		{"BlockWrites", testBlock, func(c Capabilities) bool { return c.Block }},
		{"BlockWritesUnsupported", testNoBlock, func(c Capabilities) bool { return !c.Block }},
		{"Metadata", testMetadata, nil},
		{"MetadataSurvives", testMetadataSurvives, nil},
		{"Lease", testLease, nil},
		{"Fence", testFence, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := open(t)
			if c.needs == nil || c.needs(f.Can) {
				c.test(t, suite{Fixture: f, t: t, open: open})
			}
		})
	}
}

func changes(c Capabilities) bool { return c.Changes }

// suite is one test's cluster with helpers that end the test when something fails.
type suite struct {
	Fixture
	t    *testing.T
	open func(*testing.T) Fixture
}

// another opens a second cluster.
func (s suite) another() suite { return suite{Fixture: s.open(s.t), t: s.t, open: s.open} }

func (s suite) ctx() context.Context { return s.t.Context() }

func (s suite) ns(name string) clustersync.Namespace {
	if s.Namespace != nil {
		return s.Namespace(name)
	}
	return NS("suite", name)
}

func (s suite) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s suite) is(err, want error) {
	s.t.Helper()
	if !errors.Is(err, want) {
		s.t.Fatalf("error %v, want %v", err, want)
	}
}

// filled makes a collection with n documents "d0000"… of about 100 bytes.
func (s suite) filled(name string, n int) clustersync.Namespace {
	s.t.Helper()
	ns := s.ns(name)
	s.ok(s.Users.Create(s.ctx(), ns))
	for i := range n {
		s.put(ns, i, "first")
	}
	return ns
}

const padding = "................................................................"

func docID(i int) string { return fmt.Sprintf("d%04d", i) }

func (s suite) put(ns clustersync.Namespace, i int, value string) {
	s.t.Helper()
	s.ok(s.Users.Put(s.ctx(), ns, docID(i), Fields{"n": i, "value": value, "padding": padding}))
}

// get lists the collection; ok is false if it is not there.
func (s suite) get(ns clustersync.Namespace) (clustersync.Collection, bool) {
	s.t.Helper()
	all, err := s.Cluster.List(s.ctx())
	s.ok(err)
	for _, c := range all {
		if c.Namespace == ns {
			return c, true
		}
	}
	return clustersync.Collection{}, false
}

func (s suite) must(ns clustersync.Namespace) clustersync.Collection {
	s.t.Helper()
	c, ok := s.get(ns)
	if !ok {
		s.t.Fatalf("%s is not listed", ns)
	}
	return c
}

var readAll = clustersync.ReadOptions{BatchDocs: 100, BatchBytes: 1 << 20}

// read reads all ranges of a collection, in order.
func (s suite) read(ns clustersync.Namespace, target int64) []clustersync.Document {
	s.t.Helper()
	c := s.must(ns)
	ranges, err := s.Cluster.Partition(s.ctx(), c, target)
	s.ok(err)
	var out []clustersync.Document
	for _, r := range ranges {
		s.ok(s.Cluster.Read(s.ctx(), c.Ref, r, readAll, func(docs []clustersync.Document) error {
			out = append(out, docs...)
			return nil
		}))
	}
	return out
}

// byID maps documents by the ID of their keys and finds those that occur twice.
func (s suite) byID(docs []clustersync.Document) map[string]clustersync.Document {
	s.t.Helper()
	out := map[string]clustersync.Document{}
	for _, d := range docs {
		if _, twice := out[d.Key.ID]; twice {
			s.t.Fatalf("document %s is given twice", d.Key.Raw)
		}
		if d.Key.ID == "" || d.Key.Raw == nil || d.Body == nil || d.Format != s.Cluster.Kind() {
			s.t.Fatalf("document %s: no key, no body or format %q", d.Key.Raw, d.Format)
		}
		out[d.Key.ID] = d
	}
	return out
}

// sameDocuments compares two collections of one kind of cluster byte by byte.
func sameDocuments(t *testing.T, got, want map[string]clustersync.Document) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d documents, want %d", len(got), len(want))
	}
	for id, w := range want {
		if g := got[id]; string(g.Body) != string(w.Body) {
			t.Errorf("document %s:\n got %.300q\nwant %.300q", w.Key.Raw, g.Body, w.Body)
		}
	}
}
