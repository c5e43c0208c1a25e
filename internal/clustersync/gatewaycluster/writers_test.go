package gatewaycluster_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/mapping"
)

// TestCopyUnderWriters copies and follows while people write, delete, branch, and make and drop collections, and compares in the end. It reads
// and writes as the engine does: a copy that began at a mark, and everything since then.
func TestCopyUnderWriters(t *testing.T) {
	a, b := newRig(t), newRig(t)
	src, dst := a.cluster(), b.cluster()
	a.must("PUT", "/db/", `{"allow_conflicts":true,"scopes":{"_default":{"collections":{"_default":{},"other":{}}}}}`)
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for w := range 3 {
		writers.Go(func() { write(t, a, w) })
	}
	writers.Go(func() { makeAndDrop(t, a, stop) })

	from := mark(t, src)
	var colls []clustersync.Collection
	patient(t, func() (err error) { colls, err = src.List(t.Context()); return err })
	for _, c := range colls {
		if err := dst.Create(t.Context(), c); err != nil && !errors.Is(err, clustersync.ErrExists) {
			t.Fatal(err)
		}
		copyRanges(t, src, dst, c)
	}
	_, at := follow(t, src, dst, from, mark(t, src))
	for range 2 {
		_, at = follow(t, src, dst, at, mark(t, src)) // a stream that is opened again and again
	}
	close(stop)
	writers.Wait()
	follow(t, src, dst, at, mark(t, src))

	x, y, compare := mapping.Pair(src, dst, mapping.ViewOptions{})
	report, err := clustersync.Verify(t.Context(), x, y, clustersync.VerifyOptions{Compare: compare, Rounds: 1, Pause: 1})
	if err != nil || !report.Equal || report.Documents < 20 {
		t.Fatalf("%s %v", report, err)
	}
	for _, c := range []string{"_default._default", "_default.other"} {
		equal(t, readAll(t, dst, ns("db", c)), readAll(t, src, ns("db", c)))
	}
	if ids, err := b.check("db"); err != nil || len(ids) > 0 {
		t.Errorf("the destination's database: %v %v", ids, err)
	}
}

// copyRanges copies a collection range by range; one that is gone by now is left.
func copyRanges(t *testing.T, src, dst clustersync.Cluster, c clustersync.Collection) {
	t.Helper()
	ranges, err := src.Partition(t.Context(), c, 5000)
	if errors.Is(err, clustersync.ErrGone) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range ranges {
		err := src.Read(t.Context(), c.Ref, r, clustersync.ReadOptions{BatchDocs: 7}, func(docs []clustersync.Document) error {
			_, err := dst.Insert(t.Context(), c.Namespace, docs, clustersync.WriteOptions{})
			return err
		})
		if err != nil && !errors.Is(err, clustersync.ErrGone) {
			t.Fatal(err)
		}
	}
}

// write writes to a few documents in all the ways there are. Who loses a race with another writer is refused, which is no matter.
func write(t *testing.T, r *rig, seed int) {
	rng := rand.New(rand.NewPCG(uint64(seed), 7))
	for n := range 120 {
		ks := []string{"/db._default._default/", "/db._default.other/"}[rng.IntN(2)]
		id := fmt.Sprintf("doc%d", rng.IntN(60))
		var doc map[string]any
		_ = r.ask(r.admin, http.MethodGet, ks+id, "", &doc)
		rev, _ := doc["_rev"].(string)
		var err error
		switch op := rng.IntN(10); {
		case op < 2 && rev != "":
			err = r.ask(r.admin, http.MethodDelete, ks+id+"?rev="+rev, "", nil)
		case op == 2: // a branch
			gen := rng.IntN(3) + 1
			err = r.ask(r.admin, http.MethodPost, ks+"_bulk_docs", fmt.Sprintf(`{"docs":[{"_id":%q,"_rev":"%d-%d%d","branch":true}],"new_edits":false}`, id, gen, seed, n), nil)
		case op == 3 && rev != "":
			err = r.ask(r.admin, http.MethodPut, ks+id, fmt.Sprintf(`{"_rev":%q,"_attachments":{"a":{"data":"%08d"}}}`, rev, n%1000*10000), nil)
		case rev != "":
			err = r.ask(r.admin, http.MethodPut, ks+id, fmt.Sprintf(`{"_rev":%q,"n":%d,"by":%d}`, rev, n, seed), nil)
		default:
			err = r.ask(r.admin, http.MethodPut, ks+id, fmt.Sprintf(`{"n":%d,"by":%d}`, n, seed), nil)
		}
		if s := new(status); err != nil && (!errors.As(err, &s) || s.code != http.StatusConflict) {
			t.Errorf("writer %d: %v", seed, err)
			return
		}
	}
}

// makeAndDrop makes a database with a collection and drops it, again and again.
func makeAndDrop(t *testing.T, r *rig, stop chan struct{}) {
	often := time.NewTicker(100 * time.Millisecond)
	defer often.Stop()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-often.C:
		}
		name := fmt.Sprintf("/temp%d/", n%2)
		for _, step := range [][2]string{{http.MethodPut, `{}`}, {http.MethodPost, fmt.Sprintf(`{"_id":"d","n":%d}`, n)}, {http.MethodDelete, ``}} {
			path := name
			if step[0] == http.MethodDelete {
				path += "?purge=true"
			}
			if err := r.ask(r.admin, step[0], path, step[1], nil); err != nil {
				t.Errorf("%s %s: %v", step[0], path, err)
				return
			}
		}
	}
}
