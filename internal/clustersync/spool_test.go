package clustersync_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/clustertest"
)

// shortHistory has the source forget all but its last changes, and the copy take its time.
func shortHistory(opts clustertest.Options, keeps int, mode clustersync.SpoolMode) func(*syncRun) {
	return func(s *syncRun) {
		opts.Name, opts.History = "one", keeps
		s.clusters[0] = clustertest.NewMemory(opts)
		s.settings.Spool = mode
		s.inject[0] = slowReads
	}
}

func slowReads(c clustertest.Call) clustertest.Fault {
	if c.Name != "Read" {
		return clustertest.Fault{}
	}
	return clustertest.Fault{Wait: func(ctx context.Context) {
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
		}
	}}
}

// copying reports whether the copy is not over.
func (s *syncRun) copying() bool {
	p := s.engine.Snapshot().Phase
	return p != clustersync.PhaseApply && p != clustersync.PhaseCommit && p != clustersync.PhaseDone
}

// moment lets a little time pass, in which the sync must not end.
func (s *syncRun) moment() {
	s.t.Helper()
	select {
	case <-time.After(50 * time.Millisecond):
	case s.died = <-s.ended:
		s.ended <- s.died
	}
}

// TestSpool: a source that forgets its changes during the copy loses nothing with a spool, and ends the sync without one (spec §8.9).
func TestSpool(t *testing.T) {
	for mode, want := range map[clustersync.SpoolMode]clustersync.ErrorName{
		clustersync.SpoolAlways: "", clustersync.SpoolAuto: "", clustersync.SpoolNever: clustersync.OplogRollover,
	} {
		t.Run(string(mode), func(t *testing.T) {
			engineTest(t, clustertest.Options{}, shortHistory(clustertest.Options{}, 60, mode), func(s *syncRun) {
				fill(s.t, s.src())
				// A history that begins long ago looks long enough until it is written over.
				s.start()
				w := newWriter(s.src(), 9)
				changes := 0
				for s.copying() && s.died == nil {
					w.document()
					if changes++; changes%9 == 0 {
						w.catalog()
					}
					s.moment()
				}
				if changes < 100 {
					s.t.Fatalf("only %d changes during the copy", changes)
				}
				if want != "" {
					if err := <-s.ended; clustersync.NameOf(err) != want {
						s.t.Errorf("ended with %v, want %s", err, want)
					}
					return
				}
				if !s.journal.Get().Spool.Used {
					s.t.Error("nothing was kept")
				}
				s.commit()
				s.equal()
				for _, name := range []string{"spool0", "spool1"} {
					must(s.t, s.conns[1].Metadata().All(s.t.Context(), name, func(r bson.Raw) error { return fmt.Errorf("%s is left: %s", name, r) }))
				}
			})
		})
	}
}

// TestSpoolLongHistory: nothing is kept while the source remembers long enough.
func TestSpoolLongHistory(t *testing.T) {
	engineTest(t, clustertest.Options{}, shortHistory(clustertest.Options{}, 0, clustersync.SpoolAuto), func(s *syncRun) {
		fill(s.t, s.src())
		<-time.After(24 * time.Hour)
		must(s.t, s.src().Insert(ns("a"), bson.D{{Key: "_id", Value: "today"}}))
		s.start()
		s.commit()
		s.equal()
		if s.journal.Get().Spool.Used {
			s.t.Error("changes were kept")
		}
	})
}

// TestSpoolOnce: a document is kept once, however often it changes, and what is too much is left to the source.
func TestSpoolBounds(t *testing.T) {
	for name, tt := range map[string]struct {
		most int64
		full bool
	}{"once": {1000, false}, "full": {20, true}} {
		t.Run(name, func(t *testing.T) {
			edit := shortHistory(clustertest.Options{}, 0, clustersync.SpoolAlways)
			engineTest(t, clustertest.Options{}, func(s *syncRun) { edit(s); s.settings.Limits.SpoolRecords = tt.most }, func(s *syncRun) {
				fill(s.t, s.src())
				s.start()
				changes := 0
				for ; s.copying() && changes < 60; changes++ {
					must(s.t, s.src().Update(ns("a"), changes%5, bson.D{{Key: "n", Value: changes}}))
					must(s.t, s.src().Insert(ns("b"), bson.D{{Key: "_id", Value: 1000 + changes}}))
					if !tt.full {
						must(s.t, s.src().Delete(ns("b"), 1000+changes))
						must(s.t, s.src().Insert(ns("b"), bson.D{{Key: "_id", Value: 1000 + changes}}))
					}
					s.moment()
				}
				if n := s.journal.Get().Spool.Records; n > int64(changes+30) {
					s.t.Errorf("%d records of %d documents", n, changes+5)
				}
				s.commit()
				s.equal()
				if full := s.journal.Get().Spool.Full; full != tt.full || full != strings.Contains(fmt.Sprint(s.engine.Snapshot().Warnings), "must stay in the history") {
					s.t.Errorf("full: %v, warnings %q", full, s.engine.Snapshot().Warnings)
				}
			})
		})
	}
}

// TestSpoolProperty: whatever happens during the copy, on a source that forgets it soon, and wherever the process is killed, the destination becomes
// what the source is. -crash-seeds says in how many histories.
func TestSpoolProperty(t *testing.T) {
	for seed := *crashFrom; seed < *crashFrom+*crashSeeds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(uint64(seed), 11))
			yes := func() bool { return random.IntN(2) == 0 }
			opts := clustertest.Options{OplogStyle: yes(), NoRename: yes(), NoUUIDs: yes()}
			kills, verify := random.IntN(7), yes()
			var why string
			synctest.Test(t, func(t *testing.T) { why = spoolProperty(t, opts, random.Uint64(), kills, verify) })
			if why != "" {
				t.Errorf("%+v, %d kills: %s", opts, kills, why)
			}
		})
	}
}

// spoolProperty carries a sync through its kills and returns what is wrong at the end.
func spoolProperty(t *testing.T, opts clustertest.Options, seed uint64, kills int, verify bool) string {
	s := newSync(t, opts, shortHistory(opts, 90, clustersync.SpoolAlways), func(s *syncRun) { s.plan.Verification = verify })
	fill(t, s.src())
	random := rand.New(rand.NewPCG(seed, 5))
	w := newWriter(s.src(), seed%500)
	changes := 0
	write := func() {
		if changes++; changes < 200 {
			w.document()
			if random.IntN(6) == 0 {
				w.catalog()
			}
		}
	}
	for lives := 0; ; lives++ {
		s.inject = [2]func(clustertest.Call) clustertest.Fault{slowReads}
		if lives < kills {
			s.killAfter(random, 300)
			s.inject[0] = both(s.inject[0], slowReads)
		}
		s.died = errKilled // unless it comes to an end
		s.open()
		s.run()
		ready := func() bool { return changes > 200 && s.canCommit() }
		if s.journal.Get().CommitStep != clustersync.CommitNone || s.untilEnded(write, ready, true) && s.engine.Commit(t.Context()) == nil {
			s.died = <-s.ended
		}
		switch {
		case s.died == nil:
			return strings.Join(differences(s.src(), s.dst()), "\n")
		case lives > kills, clustersync.NameOf(s.died) == clustersync.OplogRollover:
			return s.died.Error()
		}
		s.killDead()
	}
}

// both joins two injectors: the fault of the first, at the pace of the second.
func both(fault, pace func(clustertest.Call) clustertest.Fault) func(clustertest.Call) clustertest.Fault {
	return func(c clustertest.Call) clustertest.Fault {
		var f clustertest.Fault
		if fault != nil {
			f = fault(c)
		}
		f.Wait = pace(c).Wait
		return f
	}
}
