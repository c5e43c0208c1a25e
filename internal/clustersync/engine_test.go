package clustersync_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/clustertest"
)

// syncRun is a sync between two clusters in memory, whose process may be killed and started again.
type syncRun struct {
	t        *testing.T
	clusters [2]*clustertest.Memory // the servers, for users
	conns    [2]*clustertest.Memory // of the present process
	plan     *clustersync.Plan
	settings clustersync.Settings
	inject   [2]func(clustertest.Call) clustertest.Fault
	swapped  bool
	runs     int

	engine  *clustersync.Engine
	journal *clustersync.Journal
	cancel  context.CancelCauseFunc
	ended   chan error
	died    error // why the last process ended
}

// newSync makes two clusters; edit changes the plan.
func newSync(t *testing.T, opts clustertest.Options, edit ...func(*syncRun)) *syncRun {
	t.Helper()
	s := &syncRun{t: t}
	for i, name := range []string{"one", "two"} {
		o := opts
		o.Name = name
		s.clusters[i] = clustertest.NewMemory(o)
	}
	s.plan = &clustersync.Plan{
		Source: "cluster0", Destination: "cluster1", Reversible: true, WriteBlocking: clustersync.BlockBoth, WriteBlockingAsked: true,
		BuildIndexes: clustersync.IndexesAfterCopy, Filter: &clustersync.Filter{}, Verification: true,
	}
	s.settings.Limits = clustersync.Limits{CopyReaders: 2, CopyWriters: 2, ApplyWorkers: 3, BatchDocs: 7, PartBytes: 2000, InFlightBytes: 20_000, IndexBatch: 2}
	for _, f := range edit {
		f(s)
	}
	return s
}

func (s *syncRun) side(i int) int {
	if s.swapped {
		return 1 - i
	}
	return i
}

// src and dst are the users of the present source and destination.
func (s *syncRun) src() *clustertest.User { return s.clusters[s.side(0)].User() }
func (s *syncRun) dst() *clustertest.User { return s.clusters[s.side(1)].User() }

// open begins a process: new connections, leases and the journal that counts.
func (s *syncRun) open() {
	s.t.Helper()
	s.runs++
	owner := fmt.Sprintf("process %d", s.runs)
	var journals [2]*clustersync.Journal
	for i, c := range s.clusters {
		s.conns[i] = c.Connect()
		meta := s.conns[i].Metadata()
		_ = meta.Release(s.t.Context(), "coordinator", fmt.Sprintf("process %d", s.runs-1)) // as if it had expired
		must(s.t, func() error { _, err := meta.Acquire(s.t.Context(), "coordinator", owner, time.Hour); return err }())
		j, found, err := clustersync.OpenJournal(s.t.Context(), meta, s.fence(i), clustersync.Coordinator)
		must(s.t, err)
		if s.journal = j; found {
			journals[i] = j
		}
		s.conns[i].Inject(s.inject[i])
	}
	if found := clustersync.Latest(journals[0], journals[1]); found != nil {
		s.journal = found
	}
	s.swapped = s.journal.Get().Swapped
}

// fence is that of the process that opens it.
func (s *syncRun) fence(i int) func() int64 {
	owner := fmt.Sprintf("process %d", s.runs)
	fence, err := s.clusters[i].Connect().Metadata().Acquire(s.t.Context(), "coordinator", owner, time.Hour)
	must(s.t, err)
	return func() int64 { return fence }
}

// start has a process carry the sync on.
func (s *syncRun) start() {
	s.t.Helper()
	s.open()
	if s.journal.Get().State == "REVERSING" {
		s.finishReverse()
	}
	s.run()
}

func (s *syncRun) run() {
	s.t.Helper()
	e, err := clustersync.NewEngine(clustersync.EngineConfig{
		Source: s.conns[s.side(0)], Destination: s.conns[s.side(1)], Journal: s.journal, Plan: s.plan, Settings: s.settings,
	})
	must(s.t, err)
	ctx, cancel := context.WithCancelCause(s.t.Context())
	s.engine, s.cancel, s.ended = e, cancel, make(chan error, 1)
	go func(ended chan<- error) { ended <- e.Run(ctx) }(s.ended)
}

// until waits for a condition; the process must not end meanwhile.
func (s *syncRun) until(what string, holds func() bool) {
	s.t.Helper()
	for range 6000 {
		if holds() {
			return
		}
		t := time.NewTimer(100 * time.Millisecond)
		select {
		case <-t.C:
		case err := <-s.ended:
			s.t.Fatalf("%s: the sync ended: %v", what, err)
		}
	}
	s.t.Fatalf("%s: never; %+v", what, s.engine.Snapshot())
}

func (s *syncRun) canCommit() bool { return s.engine.Snapshot().CanCommit }

// commit cuts over.
func (s *syncRun) commit() {
	s.t.Helper()
	s.until("canCommit", s.canCommit)
	must(s.t, s.engine.Commit(s.t.Context()))
	must(s.t, <-s.ended)
	if rec := s.journal.Get(); rec.State != "COMMITTED" || !rec.CanWrite {
		s.t.Fatalf("after the commit: %+v", rec)
	}
}

func (s *syncRun) reversal() clustersync.Reversal {
	return clustersync.Reversal{
		Source: s.conns[s.side(0)], Destination: s.conns[s.side(1)], Journal: s.journal, Fence: s.fence(s.side(0)), Plan: s.plan,
	}
}

// reverse turns the sync around and has it run on.
func (s *syncRun) reverse() {
	s.t.Helper()
	must(s.t, s.reversal().Check(s.t.Context()))
	s.finishReverse()
	s.run()
}

func (s *syncRun) finishReverse() {
	s.t.Helper()
	j, err := s.reversal().Run(s.t.Context())
	must(s.t, err)
	s.journal, s.swapped = j, j.Get().Swapped
}

// equal compares all collections, options, indexes and documents.
func (s *syncRun) equal() {
	s.t.Helper()
	if d := differences(s.src(), s.dst()); len(d) > 0 {
		s.t.Fatalf("source and destination differ (epoch %d):\n%s", s.journal.Get().Epoch, strings.Join(d, "\n"))
	}
}

func differences(a, b *clustertest.User) (out []string) {
	as, bs := a.Collections(), b.Collections()
	for ns, x := range as {
		y, ok := bs[ns]
		if !ok {
			out = append(out, fmt.Sprintf("%s is missing", ns))
			continue
		}
		if options(x.Options) != options(y.Options) || x.Type != y.Type {
			out = append(out, fmt.Sprintf("%s: %v %v, options %s and %s", ns, x.Type, y.Type, options(x.Options), options(y.Options)))
		}
		if i, j := indexes(x), indexes(y); i != j {
			out = append(out, fmt.Sprintf("%s: indexes %s and %s", ns, i, j))
		}
		if i, j := a.Docs(ns), b.Docs(ns); !slices.EqualFunc(i, j, func(x, y bson.Raw) bool { return slices.Equal(x, y) }) {
			out = append(out, fmt.Sprintf("%s: documents: %s", ns, differentDocs(i, j)))
		}
	}
	for ns := range bs {
		if _, ok := as[ns]; !ok {
			out = append(out, fmt.Sprintf("%s is too much", ns))
		}
	}
	return out
}

// differentDocs tells the first difference of two lists in the order of their keys.
func differentDocs(a, b []bson.Raw) string {
	for i, x := range a {
		if i == len(b) || !slices.Equal(x, b[i]) {
			return fmt.Sprintf("%d and %d, the first that differs is %v, not %v", len(a), len(b), x, b[min(i, len(b)):min(i+1, len(b))])
		}
	}
	return fmt.Sprintf("%d and %d, the first too much is %v", len(a), len(b), b[len(a)])
}

func options(raw bson.Raw) string {
	m := map[string]string{}
	elements, _ := raw.Elements()
	for _, e := range elements {
		m[e.Key()] = e.Value().String()
	}
	return fmt.Sprint(m)
}

func indexes(c clustersync.Collection) string {
	m := map[string]string{}
	for _, spec := range c.Indexes {
		m[spec.Lookup("name").StringValue()] = options(spec)
	}
	return fmt.Sprint(m)
}

// fill makes a source with something of everything.
func fill(t *testing.T, u *clustertest.User) {
	t.Helper()
	for i, name := range []string{"a", "b", "c"} {
		must(t, u.Create(ns(name), bson.D{}))
		for n := range 40 * (i + 1) {
			must(t, u.Insert(ns(name), bson.D{{Key: "_id", Value: n}, {Key: "n", Value: n}, {Key: "u", Value: n}, {Key: "s", Value: strings.Repeat("x", n)}}))
		}
	}
	index := func(c, name string, key bson.D, more ...bson.E) {
		must(t, u.CreateIndex(ns(c), append(bson.D{{Key: "name", Value: name}, {Key: "key", Value: key}}, more...)))
	}
	index("a", "u_1", bson.D{{Key: "u", Value: 1}}, bson.E{Key: "unique", Value: true})
	index("a", "n_1", bson.D{{Key: "n", Value: 1}}, bson.E{Key: "hidden", Value: true})
	index("b", "t_1", bson.D{{Key: "t", Value: 1}}, bson.E{Key: "expireAfterSeconds", Value: 3600})
	must(t, u.Create(ns("view"), bson.D{{Key: "viewOn", Value: "a"}, {Key: "pipeline", Value: bson.A{}}}))
	must(t, u.Create(ns("capped"), bson.D{{Key: "capped", Value: true}, {Key: "size", Value: int64(1 << 20)}, {Key: "max", Value: int64(50)}}))
	for n := range 20 {
		must(t, u.Insert(ns("capped"), bson.D{{Key: "_id", Value: n}}))
	}
}

// writer changes a cluster at random.
type writer struct {
	random *rand.Rand
	user   *clustertest.User
	fresh  int
}

func newWriter(u *clustertest.User, seed uint64) *writer {
	return &writer{random: rand.New(rand.NewPCG(seed, 7)), user: u, fresh: 1000 * int(seed%1000)}
}

// document changes one document.
func (w *writer) document() {
	all := w.user.Collections()
	names := slices.DeleteFunc(slices.SortedFunc(maps.Keys(all), func(a, b clustersync.Namespace) int { return strings.Compare(a.String(), b.String()) }),
		func(ns clustersync.Namespace) bool { return all[ns].Type == clustersync.View || all[ns].Capped })
	if len(names) == 0 {
		return
	}
	ns, id := names[w.random.IntN(len(names))], w.random.IntN(60)
	switch w.random.IntN(5) {
	case 0:
		w.fresh++
		_ = w.user.Insert(ns, bson.D{{Key: "_id", Value: w.fresh}, {Key: "n", Value: id}, {Key: "u", Value: w.fresh}})
	case 1:
		_ = w.user.Replace(ns, bson.D{{Key: "_id", Value: id}, {Key: "n", Value: w.random.IntN(1000)}, {Key: "u", Value: id}})
	case 2:
		_ = w.user.Delete(ns, id)
	default:
		_ = w.user.Update(ns, id, bson.D{{Key: "n", Value: w.random.IntN(1000)}, {Key: "m", Value: id}}, "s")
	}
}

// catalog changes collections and indexes.
func (w *writer) catalog() {
	pick := func() clustersync.Namespace { return ns(string(rune('a' + w.random.IntN(6)))) }
	x, y := pick(), pick()
	all := w.user.Collections()
	isView := func(ns clustersync.Namespace) bool { return all[ns].Type == clustersync.View }
	what := w.random.IntN(9)
	if what >= 2 && what < 8 && (isView(x) || isView(y)) {
		return // servers refuse these on views
	}
	switch what {
	case 0:
		_ = w.user.Create(x, bson.D{})
	case 1:
		_ = w.user.Drop(x)
	case 2, 3:
		if x != y {
			_ = w.user.Rename(x, y, w.random.IntN(2) == 0)
		}
	case 4, 5:
		name := []string{"i_1", "j_1"}[w.random.IntN(2)]
		_ = w.user.CreateIndex(x, bson.D{{Key: "name", Value: name}, {Key: "key", Value: bson.D{{Key: []string{"n", "m"}[w.random.IntN(2)], Value: 1}}}})
	case 6:
		_ = w.user.DropIndex(x, []string{"i_1", "j_1"}[w.random.IntN(2)])
	case 7:
		_ = w.user.Modify(x, bson.D{{Key: "validator", Value: bson.D{{Key: "n", Value: w.random.IntN(100)}}}})
	case 8:
		_ = w.user.Create(x, bson.D{{Key: "viewOn", Value: "a"}, {Key: "pipeline", Value: bson.A{}}})
	}
}

func TestEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSync(t, clustertest.Options{})
		fill(t, s.src())
		s.start()
		w := newWriter(s.src(), 1)
		s.until("canCommit", func() bool {
			w.document()
			return s.canCommit()
		})
		s.commit()
		s.equal()
		for round := range 2 {
			if s.src().Insert(ns("a"), bson.D{{Key: "_id", Value: "refused"}}) == nil {
				t.Fatal("the old source takes writes")
			}
			w = newWriter(s.dst(), uint64(round+2))
			for range 50 {
				w.document()
			}
			w.catalog()
			s.reverse()
			for range 50 {
				w.document()
			}
			s.commit()
			s.equal()
		}
	})
}

// pause is a call that takes its time.
func pause(ctx context.Context) {
	t := time.NewTimer(20 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// tick lets a little time pass.
func tick() { <-time.After(10 * time.Millisecond) }
