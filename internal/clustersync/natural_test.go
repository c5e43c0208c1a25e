package clustersync_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/clustertest"
)

// scattered fills a collection with keys in a random order.
func scattered(t *testing.T, u *clustertest.User, name string, n int) {
	t.Helper()
	must(t, u.Create(ns(name), bson.D{}))
	for _, id := range rand.New(rand.NewPCG(1, 2)).Perm(n) {
		must(t, u.Insert(ns(name), bson.D{{Key: "_id", Value: id}, {Key: "s", Value: strings.Repeat("x", 40)}}))
	}
}

// TestDetectRandomID: a large collection whose keys are random is read in natural order by itself, unless it was told not to (spec §5.1).
func TestDetectRandomID(t *testing.T) {
	for name, tt := range map[string]struct {
		detect bool
		opts   clustertest.Options
		limit  int64
		parts  string
		warned bool
	}{
		"on":          {true, clustertest.Options{}, 1000, "ordered: several, random: one", false},
		"off":         {false, clustertest.Options{}, 1000, "ordered: several, random: several", false},
		"small":       {true, clustertest.Options{}, 1 << 20, "ordered: several, random: several", false},
		"not to tell": {true, clustertest.Options{NoKeyOrder: true}, 1000, "ordered: several, random: several", true},
	} {
		t.Run(name, func(t *testing.T) {
			engineTest(t, tt.opts, func(s *syncRun) {
				s.plan.DetectRandomID, s.settings.Limits.RandomBytes = tt.detect, tt.limit
			}, func(s *syncRun) {
				must(s.t, s.src().Create(ns("ordered"), bson.D{}))
				for i := range 100 {
					must(s.t, s.src().Insert(ns("ordered"), bson.D{{Key: "_id", Value: i}, {Key: "s", Value: strings.Repeat("x", 40)}}))
				}
				scattered(s.t, s.src(), "random", 100)
				s.start()
				s.until("canCommit", s.canCommit)
				var got []string
				for _, n := range s.engine.Snapshot().Namespaces {
					how := "several"
					if n.Partitions == 1 {
						how = "one"
					}
					got = append(got, n.Source.Collection+": "+how)
				}
				if text := strings.Join(got, ", "); text != tt.parts {
					s.t.Errorf("partitions: %s, want %s", text, tt.parts)
				}
				if warned := strings.Contains(fmt.Sprint(s.engine.Snapshot().Warnings), "copyInNaturalOrder"); warned != tt.warned {
					s.t.Errorf("warnings: %q", s.engine.Snapshot().Warnings)
				}
				s.commit()
				s.equal()
			})
		})
	}
}

// TestNaturalRestart: a copy in natural order goes on where it was after a crash, or from the beginning if the place is lost (spec §7.5). Documents
// come and go meanwhile.
func TestNaturalRestart(t *testing.T) {
	for name, lost := range map[string]bool{"goes on": false, "place lost": true} {
		t.Run(name, func(t *testing.T) {
			natural := func(s *syncRun) {
				f, err := clustersync.NewFilter(clustersync.FilterSpec{Natural: []clustersync.NamespacePattern{{Database: "db"}}}, "")
				must(t, err)
				s.plan.Filter, s.plan.Verification = f, false // the verifier reads, too
			}
			engineTest(t, clustertest.Options{}, natural, func(s *syncRun) {
				const n = 400
				scattered(s.t, s.src(), "random", n)
				read := 0 // documents read by the process
				slow := func(c clustertest.Call) clustertest.Fault {
					if c.Name == "Read" {
						read += 7
						return clustertest.Fault{Wait: func(ctx context.Context) {
							select {
							case <-time.After(time.Second):
							case <-ctx.Done():
							}
						}}
					}
					return clustertest.Fault{}
				}
				s.inject[0] = slow
				w := newWriter(s.src(), 3)
				for range 3 {
					read = 0
					s.start()
					for range 150 {
						w.document()
						s.until("a moment", func() bool { return true })
						tick()
						<-time.After(90 * time.Millisecond)
					}
					s.conns[0].Kill()
					s.conns[1].Kill()
					s.cancel(errKilled)
					<-s.ended
					if lost {
						s.src().LosePlaces()
					}
				}
				s.inject[0] = func(c clustertest.Call) clustertest.Fault {
					if c.Name == "Read" {
						read += 7
					}
					return clustertest.Fault{}
				}
				read = 0
				s.start()
				s.until("copied", func() bool { return s.engine.Snapshot().Phase == clustersync.PhaseApply })
				if all := read >= n; all != lost {
					s.t.Errorf("the last process read %d documents of about %d", read, n)
				}
				s.commit()
				s.equal()
			})
		})
	}
}
