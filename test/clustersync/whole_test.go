package clustersync

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/mapping"
)

// pairs are the pairs of endpoints.
var pairs = []struct {
	name                string
	source, destination func(testing.TB) endpoint
}{
	{"mongodb to mongodb", newMongo, newMongo},
	{"tidegate to tidegate", newGateway, newGateway},
	{"mongodb to tidegate", newMongo, newGateway},
	{"tidegate to mongodb", newGateway, newMongo},
}

// TestWhole is a migration from end to end on each pair: load, sync while people write, pause and resume, the sync killed at random, commit,
// compare; then the same back, by reverse.
func TestWhole(t *testing.T) {
	t.Parallel()
	onEachPair(t, func(t *testing.T, a, b endpoint) {
		(&whole{t: t, random: rand.New(rand.NewPCG(*seed, 7)), a: a, b: b}).run()
	})
}

// onEachPair tests all pairs at a time: most of it is waiting.
func onEachPair(t *testing.T, test func(t *testing.T, a, b endpoint)) {
	var wg sync.WaitGroup
	for _, p := range pairs {
		wg.Go(func() {
			t.Run(p.name, func(t *testing.T) { test(t, p.source(t), p.destination(t)) })
		})
	}
	wg.Wait()
}

type whole struct {
	t      *testing.T
	random *rand.Rand
	a, b   endpoint
	s      *syncer
}

func (w *whole) run() {
	began := time.Now()
	fill(w.t, w.a, *docs)
	w.t.Logf("%d documents loaded in %s", *docs, since(began))
	writers := gather(w.t, w.a, *seed)
	w.s = newSyncer(w.t, w.a.uri(), w.b.uri(), spoolArgs()...)
	w.s.awaitProgress("state IDLE", inState("IDLE"))
	w.s.post("start", startBody(true))
	w.migrate(w.a, w.b, writers, (*kills+1)/2)

	if err := w.try(w.a); !w.a.refused(err) {
		w.t.Errorf("a write to the old source after the commit: %v", err)
	}
	if err := w.try(w.b); err != nil {
		w.t.Errorf("a write to the destination after the commit: %v", err)
	}
	before, err := w.s.progress()
	if err != nil {
		w.t.Fatal(err)
	}
	w.s.post("reverse", nil)
	now := w.s.awaitProgress("state RUNNING after reverse", inState("RUNNING"))
	if now.DirectionMapping.Source != before.DirectionMapping.Destination || now.DirectionMapping.Destination != before.DirectionMapping.Source {
		w.t.Errorf("direction %+v, before %+v", now.DirectionMapping, before.DirectionMapping)
	}
	w.migrate(w.b, w.a, gather(w.t, w.b, *seed+1), *kills/2)
	if err := w.try(w.a); err != nil {
		w.t.Errorf("a write to the first source after the way back: %v", err)
	}
	if code := w.s.stop(); code != 0 {
		w.t.Errorf("the sync process ended with %d:\n%s", code, w.s.log)
	}
	w.t.Logf("there and back in %s", since(began))
}

// spoolArgs are the flags that have changes kept during the copy.
func spoolArgs() []string {
	if !*spool {
		return nil
	}
	return []string{"--oplogRolloverResilienceIntervalSeconds", "1"}
}

// try is one write of a user.
func (w *whole) try(e endpoint) error {
	return e.put(w.t.Context(), namespaces(e.kind())[1], newDocument("after-commit", 1))
}

// migrate has the sync killed, paused and resumed while writers write, commits, and compares the two sides.
func (w *whole) migrate(from, to endpoint, writers *crowd, kills int) {
	w.t.Helper()
	began := time.Now()
	for k := range kills {
		// A killed process leaves its lease behind: the next one waits until it has run out.
		w.s.awaitProgress("state RUNNING", inState("RUNNING"))
		w.pause(time.Duration(w.random.Int64N(int64(*life))))
		w.t.Logf("kill %d of %d: state %s", k+1, kills, w.state())
		w.s.restart()
		if k == kills/2 {
			w.rest()
		}
	}
	writers.settled.Store(true)
	w.s.awaitProgress("state RUNNING", inState("RUNNING"))
	w.s.commit()
	w.t.Logf("commit accepted after %s, %d writes and %d reads", since(began), writers.writes.Load(), writers.reads.Load())
	if kills > 1 && w.random.IntN(2) == 0 {
		w.pause(time.Duration(w.random.IntN(300)) * time.Millisecond)
		w.s.restart()
	}
	done := w.s.awaitProgress("state COMMITTED", inState("COMMITTED"))
	if !done.CanWrite {
		w.t.Error("committed, and canWrite is false")
	}
	await(w.t, "writers to be refused", func() (bool, string) { return writers.refused.Load() > 0, "none is" })
	writers.disperse()
	w.t.Logf("committed after %s; %d writes were refused", since(began), writers.refused.Load())
	w.compare(from, to)
}

// rest pauses, has the process stopped and started again meanwhile, and resumes.
func (w *whole) rest() {
	w.t.Helper()
	w.s.awaitProgress("state RUNNING", inState("RUNNING"))
	w.s.post("pause", nil)
	w.s.awaitProgress("state PAUSED", inState("PAUSED"))
	if code := w.s.stop(); code != 0 {
		w.t.Errorf("the paused process ended with %d:\n%s", code, w.s.log)
	}
	w.s.start()
	w.s.awaitProgress("state PAUSED after a restart", inState("PAUSED"))
	w.s.post("resume", nil)
}

func (w *whole) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.t.Context().Done():
	}
}

func (w *whole) state() string {
	p, err := w.s.progress()
	return strings.TrimSpace(fmt.Sprint(p.State, " ", p.Info, " ", errors.Join(err)))
}

// compare compares two endpoints, by the verifier and by what people read.
func (w *whole) compare(from, to endpoint) {
	w.t.Helper()
	verify(w.t, from, to, 0)
	for _, ns := range namespaces(from.kind()) {
		other, err := mapping.Namespace(ns, from.kind(), to.kind())
		if err != nil {
			w.t.Fatal(err)
		}
		a, err := from.all(w.t.Context(), ns)
		if err != nil {
			w.t.Fatal(err)
		}
		b, err := to.all(w.t.Context(), other)
		if err != nil {
			w.t.Fatal(err)
		}
		if !maps.Equal(a, b) {
			w.t.Errorf("%s has %d documents, %s %d, and they are not the same", ns, len(a), other, len(b))
		}
	}
}

// verify runs the verifier by itself and expects so many differences.
func verify(t testing.TB, from, to endpoint, want int64) clustersync.Report {
	t.Helper()
	src, dst, compare := mapping.Pair(from.open(t), to.open(t), mapping.ViewOptions{})
	report, err := clustersync.Verify(t.Context(), src, dst, clustersync.VerifyOptions{Compare: compare, Rounds: 2, Pause: 100 * time.Millisecond})
	if err != nil {
		t.Fatalf("verify: %v", err)
	}
	if report.Total != want {
		t.Errorf("want %d differences:\n%s", want, report)
	}
	t.Logf("verified: %d documents, %d collections, %d differences in %.1f s", report.Documents, len(report.Collections), report.Total, report.Seconds)
	return report
}

func since(t time.Time) time.Duration { return time.Since(t).Round(10 * time.Millisecond) }
