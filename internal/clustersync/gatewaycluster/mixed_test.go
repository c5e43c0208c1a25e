package gatewaycluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/clustertest"
	"github.com/tidegate/tidegate/internal/clustersync/gatewaycluster"
	"github.com/tidegate/tidegate/internal/clustersync/mapping"
)

// asMongoDB says that its kind is MongoDB, as its documents are.
type asMongoDB struct{ clustersync.Cluster }

func (asMongoDB) Kind() clustersync.Kind { return clustersync.MongoDB }

// TestConformanceOfView is the suite for a gateway seen as a MongoDB cluster, which then has names and documents as MongoDB has.
func TestConformanceOfView(t *testing.T) {
	clustertest.Run(t, func(t *testing.T) clustertest.Fixture {
		r := newRig(t)
		view := func(c clustersync.Cluster) clustersync.Cluster {
			return asMongoDB{mapping.View(c, mapping.ViewOptions{})}
		}
		return clustertest.Fixture{
			Cluster: view(r.cluster()),
			Connect: func() clustersync.Cluster { return view(r.connect(gatewaycluster.Options{})) },
			Users:   viewPeople{people{r}},
			Can:     clustertest.Capabilities{Changes: true, UUIDs: true, Partitions: true, Block: true, MaxDocument: 1 << 20},
		}
	})
}

// viewPeople are clients of the gateway, told the names of MongoDB.
type viewPeople struct{ people }

func inner(ns clustersync.Namespace) clustersync.Namespace {
	out, err := mapping.Namespace(ns, clustersync.MongoDB, clustersync.Tidegate)
	if err != nil {
		panic(err)
	}
	return out
}

func (p viewPeople) Create(ctx context.Context, ns clustersync.Namespace) error {
	return p.people.Create(ctx, inner(ns))
}
func (p viewPeople) Put(ctx context.Context, ns clustersync.Namespace, id string, f clustertest.Fields) error {
	return p.people.Put(ctx, inner(ns), id, f)
}
func (p viewPeople) Delete(ctx context.Context, ns clustersync.Namespace, id string) error {
	return p.people.Delete(ctx, inner(ns), id)
}
func (p viewPeople) Get(ctx context.Context, ns clustersync.Namespace, id string) (clustertest.Fields, error) {
	return p.people.Get(ctx, inner(ns), id)
}
func (p viewPeople) Drop(ctx context.Context, ns clustersync.Namespace) error {
	return p.people.Drop(ctx, inner(ns))
}

// pair is a MongoDB cluster in memory and a gateway, ready for a sync.
type pair struct {
	t        *testing.T
	mongo    *clustertest.Memory
	rig      *rig
	m, g     clustersync.Cluster
	compare  clustersync.Comparison
	warnings []string
}

func newPair(t *testing.T) *pair {
	p := &pair{t: t, mongo: clustertest.NewMemory(clustertest.Options{}), rig: newRig(t)}
	p.m, p.g, p.compare = mapping.Pair(rekeyed{p.mongo}, p.rig.cluster(), mapping.ViewOptions{Warn: func(s string) { p.warnings = append(p.warnings, s) }})
	return p
}

// rekeyed finds documents by the keys themselves, as a server does, and not by the names that their source gave these.
type rekeyed struct{ *clustertest.Memory }

func rekey(d clustersync.Document) clustersync.Document {
	id := d.Key.Raw.Lookup("_id")
	if d.Body != nil {
		id = bson.Raw(d.Body).Lookup("_id")
	}
	d.Key = clustertest.Key(id)
	return d
}

func (r rekeyed) Insert(ctx context.Context, ns clustersync.Namespace, docs []clustersync.Document, o clustersync.WriteOptions) (clustersync.InsertResult, error) {
	docs = slices.Clone(docs)
	for i := range docs {
		docs[i] = rekey(docs[i])
	}
	return r.Memory.Insert(ctx, ns, docs, o)
}

func (r rekeyed) Apply(ctx context.Context, ns clustersync.Namespace, intents []clustersync.Intent, o clustersync.WriteOptions) ([]clustersync.Failure, error) {
	intents = slices.Clone(intents)
	for i := range intents {
		intents[i].Doc = rekey(intents[i].Doc)
	}
	return r.Memory.Apply(ctx, ns, intents, o)
}

func (r rekeyed) Fetch(ctx context.Context, ref clustersync.Ref, keys []clustersync.Key) ([]clustersync.Document, error) {
	keys = slices.Clone(keys)
	for i := range keys {
		keys[i] = clustertest.Key(keys[i].Raw.Lookup("_id"))
	}
	return r.Memory.Fetch(ctx, ref, keys)
}

// verify compares both sides and returns what differs.
func (p *pair) verify(src, dst clustersync.Cluster) string {
	p.t.Helper()
	report, err := clustersync.Verify(p.t.Context(), src, dst, clustersync.VerifyOptions{Compare: p.compare, Rounds: 1, Pause: 1})
	if err != nil {
		p.t.Fatal(err)
	}
	if report.Equal != (report.Total == 0) {
		p.t.Errorf("report %+v", report)
	}
	out, err := json.Marshal(report.Differences)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(out)
}

func (p *pair) equal(src, dst clustersync.Cluster) {
	p.t.Helper()
	if d := p.verify(src, dst); d != "null" && d != "[]" {
		p.t.Errorf("they differ: %s", d)
	}
}

// odd are documents of every type, with keys of many.
var odd = []bson.D{
	{{Key: "_id", Value: bson.ObjectID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}}, {Key: "n", Value: int32(5)}, {Key: "l", Value: int64(5)}, {Key: "d", Value: 5.0}},
	{{Key: "_id", Value: int32(1)}, {Key: "at", Value: bson.DateTime(1e12)}, {Key: "nan", Value: math.NaN()}, {Key: "neg", Value: math.Copysign(0, -1)}},
	{{Key: "_id", Value: 2.0}, {Key: "_rev", Value: "mine"}, {Key: "$set", Value: bson.D{{Key: "$oid", Value: "x"}}}, {Key: "a.b", Value: nil}},
	{{Key: "_id", Value: bson.D{{Key: "a", Value: int64(1)}, {Key: "b", Value: "x"}}}, {Key: "bin", Value: bson.Binary{Subtype: 4, Data: []byte("0123456789abcdef")}}},
	{{Key: "_id", Value: "_design/x"}, {Key: "channels", Value: bson.A{"a", "b"}}, {Key: "big", Value: int64(1)<<53 + 1}},
	{{Key: "_id", Value: "näme/with?odd&chars=1%"}, {Key: "re", Value: bson.Regex{Pattern: "^a", Options: "i"}}, {Key: "ts", Value: bson.Timestamp{T: 5, I: 6}}},
	{{Key: "_id", Value: bson.DateTime(5)}, {Key: "max", Value: bson.MaxKey{}}, {Key: "bad", Value: "\xff\xfe"}},
}

// copyMixed does an initial copy of every collection.
func (p *pair) copyMixed(src, dst clustersync.Cluster) {
	p.t.Helper()
	colls, err := src.List(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	for _, c := range colls {
		if err := dst.Create(p.t.Context(), c); err != nil && !errors.Is(err, clustersync.ErrExists) {
			p.t.Fatal(err)
		}
		if _, err := dst.Insert(p.t.Context(), c.Namespace, readAll(p.t, src, c.Namespace), clustersync.WriteOptions{}); err != nil {
			p.t.Fatal(err)
		}
	}
}

// TestMongoToGatewayAndBack: documents of every type go to a gateway, their changes follow, they verify; then the gateway's changes go back.
func TestMongoToGatewayAndBack(t *testing.T) {
	p := newPair(t)
	user, shop, files := p.mongo.User(), ns("shopDB", "orders"), ns("shopDB", "fs.files")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(user.Create(shop, nil))
	must(user.Create(files, nil))
	for _, d := range odd {
		must(user.Insert(shop, d))
		must(user.Insert(files, d))
	}
	from := mark(t, p.m)
	p.copyMixed(p.m, p.g)
	p.equal(p.m, p.g)

	// The same _id with another type, a replacement, an update, a deletion.
	must(user.Delete(shop, int32(1)))
	must(user.Insert(shop, bson.D{{Key: "_id", Value: 1.0}, {Key: "again", Value: true}}))
	must(user.Replace(shop, bson.D{{Key: "_id", Value: bson.DateTime(5)}, {Key: "replaced", Value: 1.5}}))
	must(user.Update(shop, odd[0][0].Value, bson.D{{Key: "n", Value: int64(6)}}))
	must(user.Delete(files, "_design/x"))
	to := mark(t, p.m)
	p.follow(p.m, p.g, from, to)
	p.equal(p.m, p.g)
	p.follow(p.m, p.g, from, to) // replayed from the beginning
	p.equal(p.m, p.g)

	// Cut over; people write to the gateway; back.
	r0 := mark(t, p.g)
	order := p.rig.must("GET", "/shop+d+b._default.orders/~1", "")
	p.rig.must("PUT", "/shop+d+b._default.orders/~1", fmt.Sprintf(`{"_rev":%q,"~_id":1.0,"again":false,"when":{"$date":{"$numberLong":"77"}}}`, order["_rev"]))
	p.rig.must("PUT", "/shop+d+b._default.orders/mobile", `{"made":"there","n":12345678901234567890123,"_attachments":{"pic":{"content_type":"image/png","data":"AQID"}}}`)
	gone := p.rig.must("GET", "/shop+d+b._default.fs%252Efiles/~2", "")
	p.rig.must("DELETE", "/shop+d+b._default.fs%252Efiles/~2?rev="+gone["_rev"].(string), "")
	p.follow(p.g, p.m, r0, mark(t, p.g))
	p.equal(p.g, p.m)
	p.equal(p.m, p.g)
	docs, err := p.m.Fetch(t.Context(), clustersync.Ref{Namespace: shop}, []clustersync.Key{clustertest.Key("mobile"), clustertest.Key(1.0)})
	must(err)
	if raw := bson.Raw(docs[0].Body); !strings.Contains(raw.String(), "~$numberLiteral") || raw.Lookup("_attachments", "pic", "content_type").StringValue() != "image/png" {
		t.Errorf("mobile is %s", raw)
	}
	if raw := bson.Raw(docs[1].Body); raw.Lookup("_id").Type != bson.TypeDouble || raw.Lookup("when").Type != bson.TypeDateTime {
		t.Errorf("1.0 is %s", raw)
	}
}

// follow applies events as the engine does, with keys of the events where documents are missing.
func (p *pair) follow(src, dst clustersync.Cluster, from, to clustersync.Position) {
	p.t.Helper()
	stream, err := src.Changes(p.t.Context(), from)
	if err != nil {
		p.t.Fatal(err)
	}
	for at := from; !src.Reached(at, to); {
		events, now, err := stream.Next(p.t.Context(), 1e9)
		if err != nil {
			p.t.Fatal(err)
		}
		for _, e := range events {
			doc := e.Doc
			if e.Op == clustersync.OpTouched {
				docs, err := src.Fetch(p.t.Context(), e.Ref, []clustersync.Key{e.Doc.Key})
				if err != nil {
					p.t.Fatal(err)
				}
				if doc = docs[0]; doc.Body == nil {
					doc = clustersync.Document{Key: e.Doc.Key}
				}
			}
			failed, err := dst.Apply(p.t.Context(), e.Ref.Namespace, []clustersync.Intent{{Doc: doc}}, clustersync.WriteOptions{})
			if err != nil || len(failed) > 0 {
				p.t.Fatal(failed, err)
			}
		}
		at = now
	}
}

// TestMixedDifferences: the verifier finds what differs on either side.
func TestMixedDifferences(t *testing.T) {
	p := newPair(t)
	user, name := p.mongo.User(), ns("db", "c")
	if err := user.Create(name, nil); err != nil {
		t.Fatal(err)
	}
	for _, d := range odd {
		if err := user.Insert(name, d); err != nil {
			t.Fatal(err)
		}
	}
	p.copyMixed(p.m, p.g)
	one := p.rig.must("GET", "/db._default.c/~1", "")
	p.rig.must("PUT", "/db._default.c/~1", fmt.Sprintf(`{"_rev":%q,"at":{"$date":{"$numberLong":"1000000000000"}},"nan":{"$numberDouble":"NaN"},"neg":0.0}`, one["_rev"])) // not -0.0
	two := p.rig.must("GET", "/db._default.c/~2", "")
	p.rig.must("DELETE", "/db._default.c/~2?rev="+two["_rev"].(string), "")
	p.rig.must("PUT", "/db._default.c/stranger", `{}`)
	d := p.verify(p.m, p.g)
	for _, want := range []string{string(clustersync.OtherDocument), string(clustersync.MissingDocument), string(clustersync.ExtraDocument), "stranger"} {
		if !strings.Contains(d, want) {
			t.Errorf("%q is not among the differences: %s", want, d)
		}
	}
	if n := strings.Count(d, `"what"`); n != 3 {
		t.Errorf("%d differences: %s", n, d)
	}
}

// TestMixedLosses: what cannot go along is said.
func TestMixedLosses(t *testing.T) {
	p := newPair(t)
	p.rig.must("PUT", "/db/", `{"allow_conflicts":true}`)
	p.rig.must("POST", "/db/_bulk_docs", `{"docs":[{"_id":"twice","_rev":"1-b","n":2},{"_id":"twice","_rev":"1-c","n":3}],"new_edits":false}`)
	p.rig.must("POST", "/db/_bulk_docs", `{"docs":[{"_id":"expires","_exp":4000000000}]}`)
	p.copyMixed(p.g, p.m)
	p.equal(p.g, p.m)
	if got := strings.Join(p.warnings, "\n"); !strings.Contains(got, "conflicting revisions") || !strings.Contains(got, "expiry") {
		t.Errorf("warnings %q", got)
	}
	p.rig.must("PUT", "/db/reserved", `{"~_id":"wrong"}`)
	err := p.g.Read(t.Context(), clustersync.Ref{Namespace: ns("db", "_default")}, clustersync.Range{}, clustersync.ReadOptions{BatchDocs: 10}, func([]clustersync.Document) error { return nil })
	if !errors.Is(err, clustersync.ErrUnmappable) || !strings.Contains(err.Error(), `"reserved"`) {
		t.Errorf("a document that cannot be mapped: %v", err)
	}
	p.rig.must("PUT", "/odd$name/", `{}`)
	p.oddName()
	p.oddEvents()
	refused, err := p.g.CreateIndexes(t.Context(), ns("db", "_default"), []bson.Raw{clustertestIndex})
	again, err2 := p.g.CreateIndexes(t.Context(), ns("db", "_default"), []bson.Raw{clustertestIndex})
	if err != nil || err2 != nil || len(refused) != 1 || refused[0].Name != "x_1" || len(again) != 1 {
		t.Errorf("indexes: %v %v, %v %v", refused, err, again, err2)
	}
	if err := p.g.Rename(t.Context(), ns("db", "_default"), ns("db", "x")); !errors.Is(err, clustersync.ErrUnsupported) {
		t.Errorf("rename: %v", err)
	}
}

// oddName: a name that cannot be mapped is listed as such, and is refused only where it is synced.
func (p *pair) oddName() {
	t := p.t
	all, err := p.g.List(t.Context())
	i := slices.IndexFunc(all, func(c clustersync.Collection) bool { return c.Unmappable != nil })
	if err != nil || i < 0 || !errors.Is(all[i].Unmappable, clustersync.ErrUnmappable) || all[i].Database != "odd$name" {
		t.Fatalf("a name that cannot be mapped: %v, %v", all, err)
	}
	for include, fails := range map[string]bool{`[{"database":"db"}]`: false, `[{"databaseRegex":{"pattern":"."}}]`: true} {
		req, err := clustersync.ParseStart([]byte(`{"source":"cluster0","destination":"cluster1","includeNamespaces":` + include + `}`))
		if err != nil {
			t.Fatal(err)
		}
		report, err := clustersync.DryRun(t.Context(), [2]clustersync.Cluster{p.g, p.m}, req, clustersync.Environment{})
		if err != nil {
			t.Fatal(err)
		}
		refused := slices.ContainsFunc(report.Refused, func(r clustersync.Refusal) bool { return strings.Contains(r.Text, "odd$name") })
		if refused != fails {
			t.Errorf("%s: refused %+v", include, report.Refused)
		}
	}
}

// oddEvents: changes that cannot be written down do not end a stream of which they may be no affair.
func (p *pair) oddEvents() {
	t := p.t
	from, err := p.g.Mark(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.rig.must("PUT", "/odd$name/x", `{"n":1}`)
	p.rig.must("PUT", "/db/reserved2", `{"~_id":"wrong"}`)
	p.rig.must("PUT", "/db/fine", `{"n":1}`)
	to, err := p.g.Mark(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stream, err := p.g.Changes(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for at := from; !p.g.Reached(at, to); {
		var events []clustersync.Event
		if events, at, err = stream.Next(t.Context(), time.Second); err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if !e.DDL() {
				seen = append(seen, fmt.Sprintf("%s %v", e.Ref.Database, e.Doc.Body != nil))
			}
		}
	}
	slices.Sort(seen)
	seen = slices.Compact(seen)
	if want := []string{"db false", "odd$name false"}; !slices.Equal(seen, want) {
		t.Errorf("events %q, want %q", seen, want)
	}
}

var clustertestIndex = func() bson.Raw {
	raw, err := bson.Marshal(bson.D{{Key: "key", Value: bson.D{{Key: "x", Value: int32(1)}}}, {Key: "name", Value: "x_1"}})
	if err != nil {
		panic(err)
	}
	return raw
}()
