package clustersync_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/clustertest"
)

// engineTest runs a test where time is not real.
func engineTest(t *testing.T, opts clustertest.Options, edit func(*syncRun), test func(*syncRun)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newSync(t, opts, func(s *syncRun) {
			if edit != nil {
				edit(s)
			}
		})
		test(s)
		if s.cancel != nil {
			s.cancel(errors.New("the test is over"))
			synctest.Wait()
		}
	})
}

// TestEngineKinds syncs and reverses under writes between clusters of other abilities, over connections that fail at random.
func TestEngineKinds(t *testing.T) {
	for name, opts := range map[string]clustertest.Options{
		"usual": {}, "oplog": {OplogStyle: true}, "no index changes": {NoIndexChanges: true}, "no deltas": {NoDelta: true},
	} {
		t.Run(name, func(t *testing.T) {
			engineTest(t, opts, func(s *syncRun) {
				s.inject = [2]func(clustertest.Call) clustertest.Fault{clustertest.Flaky(1, 0.03), clustertest.Flaky(2, 0.03)}
			}, func(s *syncRun) {
				fill(s.t, s.src())
				s.start()
				w := newWriter(s.src(), 5)
				for i := range 100 {
					w.document()
					if i%4 == 0 && !opts.NoIndexChanges {
						w.catalog()
					}
					s.until("a moment", func() bool { return true })
				}
				s.commit()
				if opts.NoIndexChanges {
					return // hidden and the like cannot be there
				}
				s.equal()
			})
		})
	}
}

// TestEngineByName syncs clusters whose collections have no UUIDs.
func TestEngineByName(t *testing.T) {
	engineTest(t, clustertest.Options{NoUUIDs: true, Kind: clustersync.Tidegate}, nil, func(s *syncRun) {
		u := s.src()
		for n := range 30 {
			must(s.t, u.Insert(ns("a"), bson.D{{Key: "_id", Value: fmt.Sprint(n)}}))
		}
		s.start()
		must(s.t, u.Insert(ns("new"), bson.D{{Key: "_id", Value: "x"}}))
		s.until("canCommit", s.canCommit)
		must(s.t, u.Rename(ns("a"), ns("b"), false))
		must(s.t, u.Insert(ns("b"), bson.D{{Key: "_id", Value: "y"}}))
		must(s.t, u.Drop(ns("new")))
		must(s.t, u.Insert(ns("new"), bson.D{{Key: "_id", Value: "z"}}))
		s.commit()
		s.equal()
		must(s.t, s.dst().Insert(ns("b"), bson.D{{Key: "_id", Value: "w"}}))
		s.reverse()
		s.commit()
		s.equal()
	})
}

func filtered(t *testing.T, spec clustersync.FilterSpec) func(*syncRun) {
	return func(s *syncRun) {
		f, err := clustersync.NewFilter(spec, clustersync.DefaultMetadataDatabase)
		must(s.t, err)
		s.plan.Filter, s.plan.Reversible, s.plan.Verification, s.plan.WriteBlocking = f, false, false, clustersync.BlockDestination
	}
}

func TestEngineFilter(t *testing.T) {
	only := filtered(t, clustersync.FilterSpec{Include: []clustersync.NamespacePattern{{Database: "db"}}})
	outside := clustertest.NS("other", "x")
	engineTest(t, clustertest.Options{}, only, func(s *syncRun) {
		u := s.src()
		fill(s.t, u)
		for n := range 30 {
			must(s.t, u.Insert(outside, bson.D{{Key: "_id", Value: n}}))
		}
		s.start()
		s.until("canCommit", s.canCommit)
		// A collection comes in by a rename across databases, which is a copy, and one by its UUID.
		must(s.t, u.Rename(outside, ns("came"), false))
		must(s.t, u.Update(ns("came"), 3, bson.D{{Key: "n", Value: 1}}))
		s.commit()
		s.equal()
	})
	some := filtered(t, clustersync.FilterSpec{Exclude: []clustersync.NamespacePattern{{Database: "db", Collections: []string{"out"}}}})
	engineTest(t, clustertest.Options{}, some, func(s *syncRun) {
		u := s.src()
		fill(s.t, u)
		must(s.t, u.Insert(ns("out"), bson.D{{Key: "_id", Value: 1}}))
		s.start()
		s.until("canCommit", s.canCommit)
		must(s.t, u.Rename(ns("a"), ns("out"), true))
		if err := <-s.ended; clustersync.NameOf(err) != clustersync.UnsupportedEvent || !strings.Contains(err.Error(), "db.a") {
			s.t.Errorf("a collection that leaves the filter: %v", err)
		}
	})
}

func TestEngineRemapAndDocuments(t *testing.T) {
	spec := clustersync.FilterSpec{
		Remap:     []clustersync.Remap{{From: "db", To: "elsewhere"}},
		Documents: &clustersync.DocumentFilter{Field: "keep", Values: []bson.RawValue{rawValue(t, true)}},
	}
	engineTest(t, clustertest.Options{}, filtered(t, spec), func(s *syncRun) {
		u := s.src()
		put := func(id int, keep bool) {
			must(s.t, u.Replace(ns("a"), bson.D{{Key: "_id", Value: id}, {Key: "keep", Value: keep}}))
		}
		for id := range 20 {
			put(id, id%2 == 0)
		}
		s.start()
		s.until("canCommit", s.canCommit)
		put(0, false)
		put(1, true)
		put(30, true)
		put(31, false)
		must(s.t, u.Update(ns("a"), 2, bson.D{{Key: "keep", Value: false}}))
		s.commit()
		if got := len(s.dst().Docs(clustertest.NS("elsewhere", "a"))); got != 10-2+2 {
			s.t.Errorf("%d documents on the destination, want 10", got)
		}
		if len(s.dst().Collections()) != 1 {
			s.t.Errorf("collections: %v", s.dst().Collections())
		}
	})
}

func rawValue(t *testing.T, v any) bson.RawValue {
	t.Helper()
	raw, err := bson.Marshal(bson.D{{Key: "v", Value: v}})
	must(t, err)
	return bson.Raw(raw).Lookup("v")
}

// TestEngineUnique moves the values of a unique index around while the destination's index is unique, as after a reverse to a cluster that
// cannot change indexes (spec §8.8).
func TestEngineUnique(t *testing.T) {
	engineTest(t, clustertest.Options{NoIndexChanges: true}, nil, func(s *syncRun) {
		u := s.src()
		const n = 30
		for id := range n {
			must(s.t, u.Insert(ns("a"), bson.D{{Key: "_id", Value: id}, {Key: "u", Value: id}}))
		}
		must(s.t, u.CreateIndex(ns("a"), bson.D{{Key: "name", Value: "u_1"}, {Key: "key", Value: bson.D{{Key: "u", Value: 1}}}, {Key: "unique", Value: true}}))
		s.start()
		s.commit()
		s.equal()
		u = s.dst()
		// Every value moves on by one, in a circle, over a value that is free.
		for range 3 {
			must(s.t, u.Update(ns("a"), 0, bson.D{{Key: "u", Value: -1}}))
			for id := n - 1; id > 0; id-- {
				must(s.t, u.Update(ns("a"), id, bson.D{{Key: "u", Value: fmt.Sprint("t", id)}}))
			}
			for id := range n {
				must(s.t, u.Update(ns("a"), id, bson.D{{Key: "u", Value: (id + 1) % n}}))
			}
		}
		s.reverse()
		s.until("canCommit", s.canCommit)
		for id := range n {
			must(s.t, s.src().Update(ns("a"), id, bson.D{{Key: "u", Value: -id - 1}}))
		}
		for id := range n {
			must(s.t, s.src().Update(ns("a"), id, bson.D{{Key: "u", Value: (id + 5) % n}}))
		}
		s.commit()
		s.equal()
		if s.engine.Snapshot().Events.DuplicateKeys == 0 {
			s.t.Error("no duplicate keys were met")
		}
	})
}

func TestEngineHotDocs(t *testing.T) {
	id, err := bson.Marshal(bson.D{{Key: "_id", Value: 7}})
	must(t, err)
	hot := func(s *syncRun) {
		s.settings.HotDocs = []clustersync.HotDocs{{Namespace: ns("a"), IDs: []bson.Raw{id}}}
	}
	engineTest(t, clustertest.Options{}, hot, func(s *syncRun) {
		fill(s.t, s.src())
		s.start()
		s.until("canCommit", s.canCommit)
		must(s.t, s.src().Update(ns("a"), 7, bson.D{{Key: "hot", Value: true}}))
		must(s.t, s.src().Update(ns("a"), 8, bson.D{{Key: "cold", Value: true}}))
		end := mark(s.t, s)
		s.until("applied", func() bool { return s.conns[0].Reached(s.engine.Snapshot().Applied, end) })
		if body := s.dst().Docs(ns("a"))[7].String(); strings.Contains(body, "hot") {
			s.t.Errorf("the hot document was applied: %s", body)
		}
		s.commit()
		s.equal()
	})
}

// TestEngineLateWriter writes to the source, which is not blocked, after the commit has begun.
func TestEngineLateWriter(t *testing.T) {
	for name, most := range map[string]int{"some": 3, "for ever": 1 << 30} {
		t.Run(name, func(t *testing.T) {
			engineTest(t, clustertest.Options{}, filtered(t, clustersync.FilterSpec{}), func(s *syncRun) {
				fill(s.t, s.src())
				s.start()
				s.until("canCommit", s.canCommit)
				writes := 0
				s.conns[1].Inject(func(c clustertest.Call) clustertest.Fault { // the check of indexes and catalogs
					if c.Name == "List" && writes < most {
						writes++
						_ = s.src().Replace(ns("a"), bson.D{{Key: "_id", Value: "late"}, {Key: "n", Value: writes}})
						return clustertest.Fault{Wait: pause}
					}
					return clustertest.Fault{}
				})
				must(s.t, s.engine.Commit(s.t.Context()))
				err := <-s.ended
				if most > 3 {
					if clustersync.NameOf(err) != clustersync.MigrationFailed || !strings.Contains(err.Error(), "source was modified after commit began") {
						s.t.Errorf("a writer who does not stop: %v", err)
					}
					if s.engine.Snapshot().CanWrite {
						s.t.Error("canWrite")
					}
					return
				}
				must(s.t, err)
				s.equal()
			})
		})
	}
}

func TestEngineMismatch(t *testing.T) {
	engineTest(t, clustertest.Options{}, nil, func(s *syncRun) {
		fill(s.t, s.src())
		s.start()
		s.until("canCommit", s.canCommit)
		_, err := s.clusters[1].Connect().Insert(s.t.Context(), ns("a"), []clustersync.Document{{
			Key: clustertest.Key("stranger"), Format: clustersync.MongoDB, Body: mustMarshal(s.t, bson.D{{Key: "_id", Value: "stranger"}}),
		}}, clustersync.WriteOptions{})
		must(s.t, err)
		must(s.t, s.engine.Commit(s.t.Context()))
		if err := <-s.ended; clustersync.NameOf(err) != clustersync.VerificationFailed {
			s.t.Errorf("a stranger on the destination: %v", err)
		} else if !strings.Contains(err.Error(), "only on the destination (1)") || !strings.Contains(err.Error(), "start clustersync again") {
			s.t.Errorf("the remedy is not told: %v", err)
		}
		for i, blocked := range []bool{false, true} {
			if is, err := s.clusters[i].Connect().WritesBlocked(s.t.Context()); err != nil || is != blocked {
				s.t.Errorf("writes on cluster%d blocked: %v, %v", i, is, err)
			}
		}
		gone := clustersync.Intent{Doc: clustersync.Document{Key: clustertest.Key("stranger"), Format: clustersync.MongoDB}}
		_, err = s.clusters[1].Connect().Apply(s.t.Context(), ns("a"), []clustersync.Intent{gone}, clustersync.WriteOptions{})
		must(s.t, err)
		s.start() // the commit goes on
		must(s.t, <-s.ended)
		s.equal()
	})
}

func mustMarshal(t *testing.T, v any) bson.Raw {
	t.Helper()
	raw, err := bson.Marshal(v)
	must(t, err)
	return raw
}

// TestEngineStops stops in order during each phase and goes on.
func TestEngineStops(t *testing.T) {
	engineTest(t, clustertest.Options{}, nil, func(s *syncRun) {
		fill(s.t, s.src())
		w := newWriter(s.src(), 11)
		slow := func(clustertest.Call) clustertest.Fault { return clustertest.Fault{Wait: pause} }
		s.inject = [2]func(clustertest.Call) clustertest.Fault{slow, slow}
		for n := range 8 {
			s.start()
			for range n * n {
				w.document()
				s.until("a moment", func() bool { return true })
				tick()
			}
			s.cancel(clustersync.ErrStopped)
			if err := <-s.ended; !errors.Is(err, clustersync.ErrStopped) {
				s.t.Fatalf("stopped: %v", err)
			}
		}
		s.start()
		s.commit()
		s.equal()
	})
}

// TestEngineFails shows what ends a sync, and how it is called.
func TestEngineFails(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*syncRun)
		do   func(*syncRun)
		want clustersync.ErrorName
	}{
		"history lost": {do: func(s *syncRun) {
			s.cancel(clustersync.ErrStopped)
			<-s.ended
			must(s.t, s.src().Insert(ns("a"), bson.D{{Key: "_id", Value: "x"}}))
			s.src().Forget()
			s.start()
		}, want: clustersync.OplogRollover},
		"unsupported": {do: func(s *syncRun) {
			s.src().Raise(clustersync.Event{Op: clustersync.OpUnsupported, Ref: clustersync.Ref{Namespace: ns("a")}, Reason: "convertToCapped"})
		}, want: clustersync.UnsupportedEvent},
		"time series": {do: func(s *syncRun) {
			must(s.t, s.src().Create(ns("series"), bson.D{{Key: "timeseries", Value: bson.D{{Key: "timeField", Value: "t"}}}}))
			s.src().Raise(clustersync.Event{Op: clustersync.OpCreate, Ref: clustersync.Ref{Namespace: ns("s2"), UUID: "s2"},
				Collection: clustersync.Collection{Type: clustersync.TimeSeries}})
		}, want: clustersync.UnsupportedEvent},
		"fenced": {do: func(s *syncRun) {
			meta := s.clusters[1].Connect().Metadata()
			must(s.t, meta.Release(s.t.Context(), "coordinator", fmt.Sprintf("process %d", s.runs)))
			_, err := meta.Acquire(s.t.Context(), "coordinator", "another", time.Hour)
			must(s.t, err)
			must(s.t, s.src().Insert(ns("a"), bson.D{{Key: "_id", Value: "x"}}))
		}, want: clustersync.MetadataConflict},
		"name taken": {edit: func(s *syncRun) { must(s.t, s.dst().Create(ns("a"), bson.D{})) }, want: clustersync.NamespaceConflict},
		"cannot block": {edit: func(s *syncRun) {
			s.clusters[1] = clustertest.NewMemory(clustertest.Options{Name: "two", NoBlock: true})
		}, want: clustersync.WriteBlockFailed},
	} {
		t.Run(name, func(t *testing.T) {
			engineTest(t, clustertest.Options{}, c.edit, func(s *syncRun) {
				fill(s.t, s.src())
				s.start()
				if c.do != nil {
					s.until("canCommit", s.canCommit)
					c.do(s)
				}
				if err := <-s.ended; clustersync.NameOf(err) != c.want {
					s.t.Errorf("ended with %s (%v), want %s", clustersync.NameOf(err), err, c.want)
				}
			})
		})
	}
}

// TestEngineBestEffort goes on without blocking if that was not asked for.
func TestEngineBestEffort(t *testing.T) {
	edit := func(s *syncRun) {
		s.plan.WriteBlocking, s.plan.WriteBlockingAsked, s.plan.Reversible = clustersync.BlockDestination, false, false
	}
	engineTest(t, clustertest.Options{NoBlock: true}, edit, func(s *syncRun) {
		fill(s.t, s.src())
		s.start()
		s.commit()
		s.equal()
		if w := s.engine.Snapshot().Warnings; len(w) != 1 || !strings.Contains(w[0], "could not be blocked") {
			s.t.Errorf("warnings: %q", w)
		}
	})
}
