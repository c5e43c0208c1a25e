package clustersync_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/clustertest"
)

// TestMassDelete: a source that is emptied does not empty the destination before somebody has said so (hardening.md).
func TestMassDelete(t *testing.T) {
	for name, tt := range map[string]struct {
		percent int
		deletes int
		pauses  bool
	}{"most": {50, 200, true}, "some": {50, 60, false}, "off": {0, 200, false}} {
		for kind, opts := range map[string]clustertest.Options{"events": {}, "oplog": {OplogStyle: true}} {
			t.Run(name+" "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { massDelete(t, opts, tt.percent, tt.deletes, tt.pauses) })
			})
		}
	}
}

func massDelete(t *testing.T, opts clustertest.Options, percent, deletes int, pauses bool) {
	r := newRig(t, opts, opts)
	r.real = true
	r.settings.MassDelete = clustersync.MassDelete{Percent: percent, Documents: 20}
	r.settings.Limits = clustersync.Limits{ApplyWorkers: 2, BatchDocs: 10}
	ns := clustertest.NS("shop", "orders")
	src, dst := r.servers[0].User(), r.servers[1].User()
	for i := range 200 {
		must(t, src.Insert(ns, bson.D{{Key: "_id", Value: i}}))
	}
	r.start()
	r.mustPost("start")
	r.await("canCommit", is("canCommit", true))
	for i := range deletes {
		must(t, src.Delete(ns, i))
	}
	if pauses {
		r.await("PAUSED", is("state", "PAUSED"))
		if left := len(dst.Docs(ns)); left < 90 {
			t.Errorf("%d documents are left on the destination", left)
		}
		r.kill() // it stays paused, and says why
		r.start()
		r.await("PAUSED", is("state", "PAUSED")) // once the lease is free
		a := r.do("GET", "/api/v1/progress", "")
		if !strings.Contains(a.raw, "of 200 documents of shop.orders were deleted") {
			t.Errorf("after a restart: %s", a.raw)
		}
		if a := r.post("commit"); a.Error != "InvalidStateTransition" {
			t.Errorf("a commit while paused: %s", a.raw)
		}
		r.mustPost("resume")
		r.await("canCommit", is("canCommit", true))
	}
	<-time.After(time.Minute)
	if got := len(dst.Docs(ns)); got != 200-deletes || r.state() != "RUNNING" {
		t.Errorf("%d documents on the destination, %s", got, r.do("GET", "/api/v1/progress", "").raw)
	}
	if p := r.do("GET", "/api/v1/progress", ""); strings.Contains(p.raw, "paused by itself") {
		t.Errorf("it is still said: %s", p.raw)
	}
	r.mustPost("commit")
	r.await("COMMITTED", is("state", "COMMITTED"))
	if err := r.stop(); err != nil {
		t.Error(err)
	}
}
