package clustersync_test

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/clustertest"
)

// TestGuards: whatever happened between T0 and the listing, which the stream then tells again, the destination becomes what the source is
// (spec §8.6). The listing is taken at every point of a random history.
func TestGuards(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		before, after := rapid.IntRange(0, 25).Draw(rt, "before the listing"), rapid.IntRange(0, 25).Draw(rt, "after")
		opts := clustertest.Options{OplogStyle: rapid.Bool().Draw(rt, "oplog"), NoRename: rapid.Bool().Draw(rt, "no rename")}
		synctest.Test(t, func(t *testing.T) {
			s := newSync(t, opts, func(s *syncRun) { s.plan.Verification = false })
			random := rand.New(rand.NewPCG(seed, 1))
			w := newWriter(s.src(), seed%100)
			w.random = random
			step := func() {
				w.catalog()
				w.document()
			}
			for range 10 {
				step()
			}
			var listed bool
			var left atomic.Int64
			left.Store(int64(after))
			s.inject[0] = func(c clustertest.Call) clustertest.Fault {
				switch {
				case c.Name == "List" && !listed:
					listed = true
					for range before {
						step()
					}
				case listed && left.Load() > 0:
					left.Add(-1)
					step()
				}
				return clustertest.Fault{}
			}
			s.start()
			s.until("canCommit", func() bool { return left.Load() == 0 && s.canCommit() })
			s.commit()
			if d := differences(s.src(), s.dst()); len(d) > 0 {
				rt.Errorf("seed %d, %d changes before the listing, %d after: %v", seed, before, after, d)
			}
		})
	})
}

// TestReplay: applying any part of the history again changes nothing (I12).
func TestReplay(t *testing.T) {
	for seed := range 6 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { replay(t, uint64(seed)) }) })
	}
}

func replay(t *testing.T, seed uint64) {
	s := newSync(t, clustertest.Options{}, func(s *syncRun) { s.plan.Verification = false })
	fill(t, s.src())
	s.start()
	w := newWriter(s.src(), seed)
	s.until("canCommit", s.canCommit)
	var from clustersync.Position
	for i := range 60 {
		w.document()
		if i%3 == 0 {
			w.catalog()
		}
		if i == int(seed)*8 {
			from = mark(t, s)
		}
	}
	end := mark(t, s)
	s.until("applied", func() bool { return s.conns[0].Reached(s.engine.Snapshot().Applied, end) })
	s.cancel(clustersync.ErrStopped)
	<-s.ended
	before := s.dst().Collections()
	must(t, s.journal.Update(t.Context(), func(r *clustersync.Resume) { r.CRUD = from }))
	s.start()
	s.commit()
	s.equal()
	if len(before) != len(s.dst().Collections()) {
		t.Error("the replay changed the collections")
	}
}

func mark(t *testing.T, s *syncRun) clustersync.Position {
	t.Helper()
	p, err := s.clusters[0].Connect().Mark(t.Context())
	must(t, err)
	return p
}
