package clustersync_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidegate/tidegate/internal/clustersync/clustertest"
)

var (
	crashSeeds = flag.Int("crash-seeds", 8, "histories in which the sync is killed at random calls")
	crashFrom  = flag.Int("crash-from", 0, "the first of them")
)

// killAfter has the process die at one of the next calls of either connection, before or after that call has its effect.
func (s *syncRun) killAfter(random *rand.Rand, most int) {
	side, n := random.IntN(2), 1+random.IntN(most)
	s.inject = [2]func(clustertest.Call) clustertest.Fault{}
	s.inject[side] = func(c clustertest.Call) clustertest.Fault {
		if c.N < n {
			return clustertest.Fault{}
		}
		return clustertest.Fault{Err: errKilled, After: []int{0, -1, 2}[n%3]}
	}
}

var errKilled = fmt.Errorf("killed")

// untilEnded runs do now and then until the process has died or holds is true. It reports whether it lives.
func (s *syncRun) untilEnded(do func(), holds func() bool, wait bool) (alive bool) {
	s.t.Helper()
	tries := 200
	if wait {
		tries = 6000
	}
	for range tries {
		do()
		if holds() {
			return true
		}
		t := time.NewTimer(50 * time.Millisecond)
		select {
		case <-t.C:
		case s.died = <-s.ended:
			return false
		}
	}
	if wait {
		s.t.Fatalf("neither dead nor done: %+v", s.engine.Snapshot())
	}
	return false
}

// TestEngineCrash kills the process at random calls, during the copy, change event application, commit and reverse, until it has come
// through. Both sides are equal then.
func TestEngineCrash(t *testing.T) {
	seeds := *crashSeeds
	if testing.Short() {
		seeds = min(seeds, 3)
	}
	for seed := *crashFrom; seed < *crashFrom+seeds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { crash(t, uint64(seed)) }) })
	}
}

func crash(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 3))
	opts := clustertest.Options{NoRename: seed%3 == 1}
	s := newSync(t, opts, func(s *syncRun) { s.plan.Verification = seed%2 == 0 })
	fill(t, s.src())
	w := newWriter(s.src(), seed)
	for direction := range 2 {
		kills := 0
		for alive := false; !alive; {
			if kills++; kills > 60 {
				t.Fatalf("the sync does not come through: %v", s.died)
			}
			if kills <= 15 {
				s.killAfter(random, 20*kills)
			} else {
				s.inject = [2]func(clustertest.Call) clustertest.Fault{}
			}
			s.open()
			if s.journal.Get().State == "REVERSING" {
				j, err := s.reversal().Run(t.Context())
				if err != nil {
					continue
				}
				s.journal, s.swapped = j, j.Get().Swapped
			}
			s.run()
			alive = s.life(random, w, kills > 5)
		}
		s.equal()
		if direction == 0 {
			w = newWriter(s.dst(), seed+100)
			for range 30 {
				w.document()
				w.catalog()
			}
			s.inject = [2]func(clustertest.Call) clustertest.Fault{}
			s.killAfter(random, 60)
			s.open()
			if j, err := s.reversal().Run(t.Context()); err == nil {
				s.journal, s.swapped = j, j.Get().Swapped
			} else if s.journal.Get().State != "REVERSING" {
				s.inject = [2]func(clustertest.Call) clustertest.Fault{}
				s.open()
				s.finishReverse()
			}
		}
	}
}

// life is that of one process. It reports whether it came to the end of the commit.
func (s *syncRun) life(random *rand.Rand, w *writer, commit bool) bool {
	changes := 0
	write := func() {
		if changes++; changes < 40 {
			w.document()
			if random.IntN(4) == 0 {
				w.catalog()
			}
		}
	}
	if s.journal.Get().State != "COMMITTING" {
		ready := func() bool { return commit && s.canCommit() }
		if s.journal.Get().State == "COMMITTED" {
			return s.end() == nil
		}
		if !s.untilEnded(write, ready, commit) || s.engine.Commit(s.t.Context()) != nil {
			s.killDead()
			return false
		}
	}
	return s.end() == nil
}

// end waits for the end of the process.
func (s *syncRun) end() error {
	s.died = <-s.ended
	return s.died
}

// killDead kills a process that may be dead already.
func (s *syncRun) killDead() {
	for _, c := range s.conns {
		c.Kill()
	}
	s.cancel(errKilled)
	select {
	case <-s.ended:
	default:
	}
	synctest.Wait()
}
