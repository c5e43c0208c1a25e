package clustersync_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/clustertest"
)

// wholeRig is a rig with the real engine.
func wholeRig(t *testing.T) *rig {
	r := newRig(t)
	r.real = true
	return r
}

// await waits, in the bubble's time, until the progress says so.
func (r *rig) await(what string, holds func(map[string]any) bool) {
	r.t.Helper()
	for range 600 {
		a := r.do("GET", "/api/v1/progress", "")
		if a.Error != "" {
			r.t.Fatalf("waiting for %s: %s\n%s", what, a.raw, tail(r.log.String()))
		}
		if holds(a.Progress) {
			return
		}
		<-time.After(100 * time.Millisecond) // in the bubble's time
	}
	r.t.Fatalf("waited in vain for %s: %s\n%s", what, r.do("GET", "/api/v1/progress", "").raw, tail(r.log.String()))
}

func tail(s string) string { return s[max(0, len(s)-4000):] }

func is(member string, value any) func(map[string]any) bool {
	return func(p map[string]any) bool { return p[member] == value }
}

// The API, the engine and two clusters together: start, pause, kill, commit, write to the destination, reverse, write, commit.
func TestWholeMigration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := wholeRig(t)
		ns := clustertest.NS("shop", "orders")
		src, dst := r.servers[0].User(), r.servers[1].User()
		for i := range 500 {
			must(t, src.Insert(ns, bson.D{{Key: "_id", Value: i}, {Key: "n", Value: i}}))
		}
		r.start()
		r.mustPost("start")
		r.await("change event application", is("info", "change event application"))
		must(t, src.Insert(ns, bson.D{{Key: "_id", Value: 500}}))
		r.mustPost("pause")
		must(t, src.Delete(ns, 1))
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		r.start()
		if s := r.state(); s != "PAUSED" {
			t.Fatalf("%s after a restart", s)
		}
		p := r.do("GET", "/api/v1/progress", "").Progress["collectionCopy"].(map[string]any)
		if p["estimatedCopiedBytes"] == 0.0 || p["estimatedCopiedBytes"] != p["estimatedTotalBytes"] {
			t.Errorf("the copy after a restart: %v", p)
		}
		r.mustPost("resume")
		r.await("canCommit", is("canCommit", true))
		r.kill()
		r.start()
		r.await("canCommit", is("canCommit", true))
		r.mustPost("commit")
		r.await("COMMITTED", is("state", "COMMITTED"))
		same(t, src, dst, ns, 500)

		must(t, dst.Insert(ns, bson.D{{Key: "_id", Value: "after"}}))
		r.mustPost("reverse")
		r.await("canCommit of the reverse", is("canCommit", true))
		must(t, dst.Delete(ns, 2))
		if err := dst.Insert(ns, bson.D{{Key: "_id", Value: 1000}}); err != nil {
			t.Errorf("the new source does not take writes: %v", err)
		}
		r.kill()
		r.start()
		r.await("canCommit of the reverse", is("canCommit", true))
		if p := r.do("GET", "/api/v1/progress", "").Progress; p["directionMapping"].(map[string]any)["Source"] != "cluster1: host1:27017" {
			t.Errorf("%v", p)
		}
		r.mustPost("commit")
		r.await("COMMITTED", is("state", "COMMITTED"))
		same(t, src, dst, ns, 501)
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

func same(t *testing.T, a, b *clustertest.User, ns clustersync.Namespace, want int) {
	t.Helper()
	docs := func(u *clustertest.User) map[string]bool {
		out := map[string]bool{}
		for _, d := range u.Docs(ns) {
			out[d.String()] = true
		}
		return out
	}
	x, y := docs(a), docs(b)
	if len(x) != want || len(y) != want {
		t.Errorf("%d and %d documents, want %d", len(x), len(y), want)
	}
	for d := range x {
		if !y[d] {
			t.Errorf("%s is only on one side", d)
		}
	}
}

// /progress, the log and the metrics of a whole run show no password and no document.
func TestNoSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := wholeRig(t)
		const secret = "hunter2-in-a-document"
		must(t, r.servers[0].User().Insert(clustertest.NS("a", "b"), bson.D{{Key: "_id", Value: secret}, {Key: "x", Value: secret}}))
		r.start()
		r.mustPost("start")
		r.await("canCommit", is("canCommit", true))
		all := r.log.String()
		for _, path := range []string{"/api/v1/progress", "/api/v1/namespaces", "/metrics", "/"} {
			w := httptest.NewRecorder()
			r.api.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost"+path, nil))
			all += w.Body.String()
		}
		if strings.Contains(all, secret) {
			t.Error("the contents of a document are shown")
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A dry run says what there is to say, and nothing is different afterwards.
func TestDryRun(t *testing.T) {
	src, dst := clustertest.NewMemory(clustertest.Options{Name: "a"}), clustertest.NewMemory(clustertest.Options{Name: "b"})
	u := src.User()
	must(t, u.Insert(clustertest.NS("shop", "orders"), bson.D{{Key: "_id", Value: 1}}))
	must(t, u.Insert(clustertest.NS("logs", "x"), bson.D{{Key: "_id", Value: 1}}))
	must(t, u.Create(clustertest.NS("shop", "series"), bson.D{{Key: "timeseries", Value: bson.D{}}}))
	must(t, dst.User().Insert(clustertest.NS("there", "x"), bson.D{{Key: "_id", Value: 1}}))
	req, err := clustersync.ParseStart([]byte(`{"source":"cluster0","destination":"cluster1","excludeNamespaces":[{"database":"logs"}]}`))
	must(t, err)
	report, err := clustersync.DryRun(context.Background(), [2]clustersync.Cluster{src, dst}, req, clustersync.Environment{})
	must(t, err)
	text := report.String()
	for _, want := range []string{
		"Source       cluster0: a:27017 (MongoDB 8.0.5, replicaSet)", "Would be copied: 1 namespaces, about 1 documents", "shop.orders", "Would be skipped (not in the filter): 1",
		"logs.x", "APIError: shop.series cannot be synced", "DestinationNotEmpty: the destination holds data: there",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if clustersync.NameOf(report.Err()) != clustersync.APIError {
		t.Errorf("%v", report.Err())
	}
	if there, err := dst.Metadata().Exists(context.Background()); there || err != nil {
		t.Errorf("records after a dry run: %t, %v", there, err)
	}
	bad, err := clustersync.ParseStart([]byte(`{"source":"cluster0","destination":"cluster0"}`))
	must(t, err)
	report, err = clustersync.DryRun(context.Background(), [2]clustersync.Cluster{src, dst}, bad, clustersync.Environment{})
	if err != nil || len(report.Refused) != 1 || report.Refused[0].Name != clustersync.InvalidOption {
		t.Errorf("%+v, %v", report, err)
	}
}

// The metrics of a run with a real engine: those that only it can tell, and the machine's where it tells them.
func TestMetricsOfARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := wholeRig(t)
		ns := clustertest.NS("shop", "orders")
		for i := range 50 {
			must(t, r.servers[0].User().Insert(ns, bson.D{{Key: "_id", Value: i}}))
		}
		r.start()
		r.mustPost("start")
		r.await("canCommit", is("canCommit", true))
		must(t, r.servers[0].User().Delete(ns, 7))
		<-time.After(30 * time.Second)
		m := r.do("GET", "/metrics", "").raw
		wanted := []string{"mongosync_bulk_inserter_docs_per_batch_count 1\n", "mongosync_bulk_inserter_docs_per_batch_sum 50\n", "mongosync_cea_spread_disparity "}
		if runtime.GOOS == "linux" {
			wanted = append(wanted, "mongosync_host_memory_percent_used ")
		}
		for _, want := range wanted {
			if !strings.Contains(m, "\n"+want) {
				t.Errorf("no %q in %s", want, m)
			}
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}
