package gatewaycluster_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/gatewaycluster"
	"github.com/tidegate/tidegate/internal/clustersync/mapping"
)

// readAll reads a collection whole.
func readAll(t testing.TB, c clustersync.Cluster, ns clustersync.Namespace) []clustersync.Document {
	t.Helper()
	var out []clustersync.Document
	opts := clustersync.ReadOptions{BatchDocs: 50, BatchBytes: 1 << 20}
	err := c.Read(t.Context(), clustersync.Ref{Namespace: ns}, clustersync.Range{}, opts, func(docs []clustersync.Document) error {
		out = append(out, docs...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// copyAll makes a collection on dst and copies all documents, the way an initial sync does.
func copyAll(t testing.TB, src, dst clustersync.Cluster, ns clustersync.Namespace) {
	t.Helper()
	var colls []clustersync.Collection
	patient(t, func() (err error) { colls, err = src.List(t.Context()); return err })
	for _, c := range colls {
		if c.Namespace == ns {
			if err := dst.Create(t.Context(), c); err != nil && !errors.Is(err, clustersync.ErrExists) {
				t.Fatal(err)
			}
		}
	}
	if _, err := dst.Insert(t.Context(), ns, readAll(t, src, ns), clustersync.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// follow applies the changes of a source to a destination (none, if that is nil) until the stream has come to mark. It returns the DDL events.
func follow(t testing.TB, src, dst clustersync.Cluster, from, mark clustersync.Position) (ddl []clustersync.Event, at clustersync.Position) {
	t.Helper()
	var stream clustersync.Stream
	patient(t, func() (err error) { stream, err = src.Changes(t.Context(), from); return err })
	at = from
	for !src.Reached(at, mark) {
		var events []clustersync.Event
		var now clustersync.Position
		patient(t, func() (err error) { events, now, err = stream.Next(t.Context(), 5*time.Second); return err })
		touched := map[clustersync.Ref]map[string]clustersync.Key{}
		for _, e := range events {
			switch {
			case e.DDL():
				applyTouched(t, src, dst, touched)
				applyDDL(t, dst, e)
				ddl = append(ddl, e)
			case touched[e.Ref] == nil:
				touched[e.Ref] = map[string]clustersync.Key{e.Doc.Key.ID: e.Doc.Key}
			default:
				touched[e.Ref][e.Doc.Key.ID] = e.Doc.Key
			}
		}
		applyTouched(t, src, dst, touched)
		at = now
	}
	return ddl, at
}

func applyDDL(t testing.TB, dst clustersync.Cluster, e clustersync.Event) {
	t.Helper()
	var err error
	switch e.Op {
	case clustersync.OpCreate:
		if err = dst.Create(t.Context(), e.Collection); errors.Is(err, clustersync.ErrExists) {
			err = nil
		}
	case clustersync.OpDrop:
		err = dst.Drop(t.Context(), e.Ref.Namespace)
	default:
		t.Fatalf("event %+v", e)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// applyTouched makes documents what they are on the source, and forgets them.
func applyTouched(t testing.TB, src, dst clustersync.Cluster, touched map[clustersync.Ref]map[string]clustersync.Key) {
	t.Helper()
	for ref, byID := range touched {
		delete(touched, ref)
		keys := slices.Collect(maps.Values(byID))
		var docs []clustersync.Document
		var err error
		patient(t, func() error {
			if docs, err = src.Fetch(t.Context(), ref, keys); errors.Is(err, clustersync.ErrGone) {
				return nil
			}
			return err
		})
		if errors.Is(err, clustersync.ErrGone) {
			continue
		}
		intents := make([]clustersync.Intent, len(docs))
		for i, d := range docs {
			if d.Body == nil {
				d = clustersync.Document{Key: keys[i], Format: src.Kind()}
			}
			intents[i].Doc = d
		}
		failed, err := dst.Apply(t.Context(), ref.Namespace, intents, clustersync.WriteOptions{})
		if err != nil || len(failed) > 0 {
			t.Fatalf("apply to %s: %v %v", ref.Namespace, failed, err)
		}
	}
}

// equal compares two collections byte by byte: revisions, histories, tombstones, attachments.
func equal(t testing.TB, a, b []clustersync.Document) {
	t.Helper()
	if len(a) != len(b) {
		t.Errorf("%d and %d documents", len(a), len(b))
	}
	for i := range min(len(a), len(b)) {
		if a[i].Key.ID != b[i].Key.ID || !sameLeaves(t, a[i].Body, b[i].Body) {
			t.Errorf("document %s and %s:\n%s\n%s", a[i].Key.ID, b[i].Key.ID, a[i].Body, b[i].Body)
		}
	}
}

// sameLeaves compares arrays of revisions without their order.
func sameLeaves(t testing.TB, a, b []byte) bool {
	t.Helper()
	x, err := mapping.CanonicalLeaves(clustersync.Document{Body: a})
	y, err2 := mapping.CanonicalLeaves(clustersync.Document{Body: b})
	if err != nil || err2 != nil {
		t.Error(err, err2)
	}
	return len(a) == len(b) && bytes.Equal(x, y)
}

// branchy are documents with all that a revision tree can be.
var branchy = []string{
	`{"docs":[{"_id":"plain","n":1},{"_id":"käse/😀 %2F+?","n":1.10},{"_id":"expires","_exp":"2040-01-01T00:00:00Z"},{"_id":"deleted"},{"_id":"twice","n":1}]}`,
	`{"docs":[{"_id":"twice","_rev":"2-b","_revisions":{"start":2,"ids":["b","a"]},"n":2},{"_id":"twice","_rev":"3-c","_revisions":{"start":3,"ids":["c","bb","a"]},"n":3}],"new_edits":false}`,
	`{"docs":[{"_id":"closed","_rev":"2-b","_revisions":{"start":2,"ids":["b","a"]},"n":2},{"_id":"closed","_rev":"2-c","_revisions":{"start":2,"ids":["c","a"]},"n":3},{"_id":"closed","_rev":"3-d","_revisions":{"start":3,"ids":["d","c","a"]},"_deleted":true,"why":"lost"}],"new_edits":false}`,
	`{"docs":[{"_id":"attached","_attachments":{"a/b.txt":{"content_type":"text/plain","data":"aGVsbG8="},"none":{"data":""}}}]}`,
	`{"docs":[{"_id":"dead","_rev":"2-x","_revisions":{"start":2,"ids":["x","w"]},"_deleted":true,"kept":true}],"new_edits":false}`,
}

// fillBranchy makes a database with them.
func fillBranchy(t testing.TB, r *rig, config string) clustersync.Namespace {
	t.Helper()
	r.must("PUT", "/tree/", config)
	for _, body := range branchy {
		r.must("POST", "/tree/_bulk_docs", body)
	}
	deleted := r.must("GET", "/tree/deleted", "")
	r.must("DELETE", "/tree/deleted?rev="+deleted["_rev"].(string), "")
	return ns("tree", "_default._default")
}

// TestTreesGoAlong: copies and changes of documents with branches, tombstones, attachments and expiries are the documents that they are copies of.
func TestTreesGoAlong(t *testing.T) {
	for _, config := range []string{`{"allow_conflicts":true,"revs_limit":40}`, `{}`} {
		a, b := newRig(t), newRig(t)
		src, dst := a.cluster(), b.cluster()
		name := fillBranchy(t, a, config)
		from, err := src.Mark(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		copyAll(t, src, dst, name)
		want := readAll(t, src, name)
		if len(want) != 8 {
			t.Fatalf("%d documents on the source", len(want))
		}
		equal(t, readAll(t, dst, name), want)

		// A branch loses and another one goes on; with allow_conflicts false the destination would close the wrong one.
		a.must("POST", "/tree/_bulk_docs", `{"docs":[{"_id":"twice","_rev":"4-t","_revisions":{"start":4,"ids":["t","c","bb","a"]},"_deleted":true},
			{"_id":"twice","_rev":"3-r","_revisions":{"start":3,"ids":["r","b","a"]},"n":"resolved"}],"new_edits":false,"keep_branches":true}`)
		attached := a.must("GET", "/tree/attached", "")
		a.must("PUT", "/tree/attached", fmt.Sprintf(`{"_rev":%q,"n":2,"_attachments":{"a/b.txt":{"stub":true},"new":{"data":"bmV3"}}}`, attached["_rev"]))
		plain := a.must("GET", "/tree/plain", "")
		a.must("DELETE", "/tree/plain?rev="+plain["_rev"].(string), "")
		mark, err := src.Mark(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, at := follow(t, src, dst, from, mark)
		equal(t, readAll(t, dst, name), readAll(t, src, name))
		if got := b.must("GET", "/tree/twice", ""); got["n"] != "resolved" {
			t.Errorf("the winner is %v", got)
		}
		// Once more from the beginning: nothing changes, not even sequences.
		before := b.must("GET", "/tree/", "")["update_seq"]
		follow(t, src, dst, from, mark)
		copyAll(t, src, dst, name)
		if after := b.must("GET", "/tree/", "")["update_seq"]; after != before {
			t.Errorf("a second time takes sequences %v to %v", before, after)
		}
		if !src.Reached(at, mark) {
			t.Error("the position is not at the mark")
		}
	}
}

// TestRefusedDocuments: what the destination's sync function refuses is an error that names the document and says why.
func TestRefusedDocuments(t *testing.T) {
	a, b := newRig(t), newRig(t)
	src, dst := a.cluster(), b.cluster()
	a.must("PUT", "/db/", `{}`)
	b.must("PUT", "/db/", `{"sync":"function(doc){ if (doc.bad) { throw({forbidden: 'not here'}); } }"}`)
	a.must("POST", "/db/_bulk_docs", `{"docs":[{"_id":"good"},{"_id":"wicked","bad":true},{"_id":"nice"}]}`)
	name := ns("db", "_default._default")
	docs := readAll(t, src, name)
	_, err := dst.Insert(t.Context(), name, docs, clustersync.WriteOptions{})
	if err == nil || !strings.Contains(err.Error(), `"wicked"`) || !strings.Contains(err.Error(), "not here") {
		t.Errorf("Insert: %v", err)
	}
	var intents []clustersync.Intent
	for _, d := range docs {
		intents = append(intents, clustersync.Intent{Doc: d})
	}
	failed, err := dst.Apply(t.Context(), name, intents, clustersync.WriteOptions{})
	if err != nil || len(failed) != 1 || failed[0].Index != 2 || !strings.Contains(failed[0].Err.Error(), `"wicked"`) {
		t.Errorf("Apply: %v %v", failed, err)
	}
	if got := readAll(t, dst, name); len(got) != 2 {
		t.Errorf("%d documents", len(got))
	}
}

// TestDeletions: a document that a tidegate source does not have at all is purged, one that MongoDB does not have gets a tombstone.
func TestDeletions(t *testing.T) {
	r := newRig(t)
	c := r.cluster()
	r.must("PUT", "/db/", `{}`)
	r.must("POST", "/db/_bulk_docs", `{"docs":[{"_id":"purged"},{"_id":"deleted"},{"_id":"507f1f77bcf86cd799439011"}]}`)
	name := ns("db", "_default._default")
	oid, _ := bson.ObjectIDFromHex("507f1f77bcf86cd799439011")
	intent := func(id any, kind clustersync.Kind) clustersync.Intent {
		raw, err := bson.Marshal(bson.D{{Key: "_id", Value: id}})
		if err != nil {
			t.Fatal(err)
		}
		return clustersync.Intent{Doc: clustersync.Document{Key: clustersync.Key{Raw: raw}, Format: kind}}
	}
	for range 2 {
		failed, err := c.Apply(t.Context(), name, []clustersync.Intent{
			intent("deleted", clustersync.MongoDB), intent("purged", clustersync.Tidegate), intent(oid, clustersync.MongoDB), intent("never", clustersync.MongoDB),
		}, clustersync.WriteOptions{})
		if err != nil || len(failed) > 0 {
			t.Fatal(failed, err)
		}
	}
	docs := readAll(t, c, name)
	if len(docs) != 2 || docs[0].Key.ID != oid.Hex() || docs[1].Key.ID != "deleted" || !bytes.Contains(docs[1].Body, []byte(`"_rev":"2-`)) {
		t.Errorf("%s", docs)
	}
}

// TestBrokenConnections: whatever request of a sync breaks, before it is carried out or after, the outcome is the same.
func TestBrokenConnections(t *testing.T) {
	a, b := newRig(t), newRig(t)
	src, dst := a.cluster(), b.cluster()
	name := fillBranchy(t, a, `{"allow_conflicts":true}`)
	rng := rand.New(rand.NewPCG(1, 2))
	var mu sync.Mutex
	flaky := func() fate {
		mu.Lock()
		defer mu.Unlock()
		if rng.IntN(5) > 0 {
			return answered
		}
		return []fate{lost, forgotten, cutShort}[rng.IntN(3)]
	}
	a.fault.Store(&flaky)
	b.fault.Store(&flaky)
	retry := func(what string, do func() error) {
		t.Helper()
		var err error
		for range 50 {
			if err = do(); err == nil {
				return
			}
			if !errors.Is(err, clustersync.ErrUnreachable) {
				t.Fatalf("%s: %v", what, err)
			}
		}
		t.Fatalf("%s: %v", what, err)
	}
	var from clustersync.Position
	retry("mark", func() (err error) { from, err = src.Mark(t.Context()); return err })
	retry("create", func() error {
		err := dst.Create(t.Context(), clustersync.Collection{Ref: clustersync.Ref{Namespace: name}})
		if errors.Is(err, clustersync.ErrExists) {
			return nil // its answer was lost
		}
		return err
	})
	retry("copy", func() error {
		return src.Read(t.Context(), clustersync.Ref{Namespace: name}, clustersync.Range{}, clustersync.ReadOptions{BatchDocs: 3}, func(docs []clustersync.Document) error {
			_, err := dst.Insert(t.Context(), name, docs, clustersync.WriteOptions{})
			return err
		})
	})
	var fence int64
	retry("lease", func() (err error) {
		fence, err = dst.Metadata().Acquire(t.Context(), "coordinator", "me", time.Minute)
		return err
	})
	retry("record", func() error {
		return dst.Metadata().Put(t.Context(), fence, "resumeData", bson.D{{Key: "_id", Value: "coordinator"}, {Key: "at", Value: from.Token}})
	})
	a.fault.Store(nil)
	b.fault.Store(nil)
	equal(t, readAll(t, dst, name), readAll(t, src, name))
}

// TestUnreachable: who is not there is told apart from who refuses.
func TestUnreachable(t *testing.T) {
	c, err := gatewaycluster.Open(t.Context(), "tidegate://someone:very%40secret@127.0.0.1:1", gatewaycluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Inspect(t.Context())
	if !errors.Is(err, clustersync.ErrUnreachable) || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.List(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	for _, uri := range []string{"http://x", "tidegate://", "tidegate://u:p@h/db", "tidegate://u:p@ss/x@h", "tidegate://h?x=1", "tidegate://u:%zz@h"} {
		if _, err := gatewaycluster.Open(t.Context(), uri, gatewaycluster.Options{}); err == nil || strings.Contains(err.Error(), "p@ss") || strings.Contains(err.Error(), "%zz") {
			t.Errorf("%s: %v", uri, err)
		}
	}
}

// TestAttachments of some size go along with the documents that have them.
func TestAttachments(t *testing.T) {
	a, b := newRig(t), newRig(t)
	src, dst := a.cluster(), b.cluster()
	a.must("PUT", "/db/", `{}`)
	data := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("tidegate"), 1<<14)) // 128 KiB: not in the store, but in files
	for i := range 3 {
		a.must("PUT", "/db/big"+fmt.Sprint(i), fmt.Sprintf(`{"_attachments":{"x":{"data":%q},"y":{"data":%q}}}`, data, data))
	}
	name := ns("db", "_default._default")
	copyAll(t, src, dst, name)
	equal(t, readAll(t, dst, name), readAll(t, src, name))
}
