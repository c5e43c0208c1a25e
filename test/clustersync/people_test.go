package clustersync

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidegate/tidegate/internal/clustersync"
)

var (
	docs     = flag.Int("docs", 600, "documents loaded before the sync starts")
	spool    = flag.Bool("spool", false, "the sync keeps in its records what changes during the copy, whatever the source remembers")
	kills    = flag.Int("kills", 1, "how often the sync is killed, there and back")
	life     = flag.Duration("life", 1500*time.Millisecond, "how long the sync is at work, at most, before it is killed")
	seed     = flag.Uint64("seed", 1, "of what happens at random")
	pace     = flag.Duration("pace", 40*time.Millisecond, "between two writes of a writer")
	patience = flag.Duration("patience", 60*time.Second, "how long is waited for anything")
)

// endpoint is a cluster with its server and its people.
type endpoint interface {
	kind() clustersync.Kind
	uri() string                         // for the sync, whose user bypasses the write block
	open(testing.TB) clustersync.Cluster // likewise
	refused(error) bool                  // whether a write failed because writes are blocked

	// What people do.
	create(context.Context, clustersync.Namespace) error
	drop(context.Context, clustersync.Namespace) error
	rename(ctx context.Context, from, to clustersync.Namespace) error
	index(ctx context.Context, ns clustersync.Namespace, field string, unique bool) error
	dropIndex(ctx context.Context, ns clustersync.Namespace, field string) error
	load(context.Context, clustersync.Namespace, []document) error
	put(context.Context, clustersync.Namespace, document) error
	update(context.Context, clustersync.Namespace, document) error // if it is there
	remove(ctx context.Context, ns clustersync.Namespace, id string) error
	all(context.Context, clustersync.Namespace) (map[string]string, error) // documents as JSON, by id
}

// errNotHad is what an endpoint answers to what it does not have.
var errNotHad = errors.New("there is no such thing here")

// document is what people write.
type document struct {
	ID   string
	N    int
	Text string
	Tags []string
}

var text = strings.Repeat("tide ", 40)

func newDocument(id string, n int) document {
	return document{ID: id, N: n, Text: text[:n%len(text)], Tags: []string{"a", fmt.Sprint(n % 7)}}
}

// Namespaces of the tests.
const (
	databases   = 4
	collections = 5 // in each
)

func namespaces(kind clustersync.Kind) []clustersync.Namespace {
	var out []clustersync.Namespace
	for d := range databases {
		for c := range collections {
			out = append(out, namespace(kind, d, fmt.Sprintf("c%d", c)))
		}
	}
	return out
}

func namespace(kind clustersync.Kind, database int, collection string) clustersync.Namespace {
	if kind == clustersync.Tidegate {
		collection = "_default." + collection
	}
	return clustersync.Namespace{Database: fmt.Sprintf("e2e%d", database), Collection: collection}
}

// fill loads documents over all namespaces.
func fill(t testing.TB, e endpoint, n int) {
	t.Helper()
	all := namespaces(e.kind())
	for i, ns := range all {
		if err := e.create(t.Context(), ns); err != nil {
			t.Fatalf("create %s: %v", ns, err)
		}
		const batch = 500
		for from := 0; from < n/len(all); from += batch {
			var docs []document
			for k := from; k < min(from+batch, n/len(all)); k++ {
				docs = append(docs, newDocument(fmt.Sprintf("w%d-%d-%05d", k%4, i, k), k))
			}
			if err := e.load(t.Context(), ns, docs); err != nil {
				t.Fatalf("load %s: %v", ns, err)
			}
		}
	}
}

// crowd are writers and a reader.
type crowd struct {
	t       testing.TB
	e       endpoint
	writes  atomic.Int64
	reads   atomic.Int64
	refused atomic.Int64
	stop    chan struct{}
	settled atomic.Bool // no more collections and indexes are made: tidegate's write block is for documents
	resting atomic.Bool // nothing is done meanwhile
	wg      sync.WaitGroup
	once    sync.Once
}

// gather has four writers write, one of which makes and drops collections and indexes and renames, and one reader read.
func gather(t testing.TB, e endpoint, seed uint64) *crowd {
	c := &crowd{t: t, e: e, stop: make(chan struct{})}
	t.Cleanup(c.disperse)
	for w := range 4 {
		random := rand.New(rand.NewPCG(seed, uint64(w)))
		c.every(*pace, func(ctx context.Context) error { return c.write(ctx, w, random) })
	}
	c.every(10**pace, c.change(rand.New(rand.NewPCG(seed, 99))))
	ns := namespaces(e.kind())[0]
	c.every(20**pace, func(ctx context.Context) error {
		_, err := e.all(ctx, ns)
		if err != nil {
			return fmt.Errorf("read %s: %w", ns, err)
		}
		c.reads.Add(1)
		c.writes.Add(-1)
		return nil
	})
	return c
}

// every calls f again and again until the crowd is dispersed. What is refused because writes are blocked is counted; other errors fail.
func (c *crowd) every(pause time.Duration, f func(context.Context) error) {
	c.wg.Go(func() {
		ticker := time.NewTicker(pause)
		defer ticker.Stop()
		for {
			select {
			case <-c.stop:
				return
			case <-ticker.C:
			}
			if c.resting.Load() {
				continue
			}
			switch err := f(c.t.Context()); {
			case err == nil:
				c.writes.Add(1)
			case c.e.refused(err):
				c.refused.Add(1)
			case errors.Is(err, errNotHad), c.t.Context().Err() != nil:
			default:
				c.t.Errorf("a writer: %v", err)
			}
		}
	})
}

// whileInTime is a condition of a sync's progress that has the crowd rest whenever the sync is behind by more than some seconds: on a busy machine it
// would never catch up.
func (c *crowd) whileInTime(holds func(progressBody) bool) func(progressBody) bool {
	const most = 5
	return func(p progressBody) bool {
		c.resting.Store(p.LagTimeSeconds != nil && *p.LagTimeSeconds > most)
		return holds(p)
	}
}

// disperse ends all writers.
func (c *crowd) disperse() {
	c.once.Do(func() { close(c.stop) })
	c.wg.Wait()
}

// write is one write of a writer, who has documents of its own.
func (c *crowd) write(ctx context.Context, w int, random *rand.Rand) error {
	all := namespaces(c.e.kind())
	i := random.IntN(len(all))
	n := random.IntN(100_000)
	existing := fmt.Sprintf("w%d-%d-%05d", w, i, 4*random.IntN(max(1, *docs/len(all)/4))+w)
	fresh := fmt.Sprintf("w%d-%d-new-%d", w, i, random.IntN(500))
	switch random.IntN(10) {
	case 0, 1, 2:
		return c.e.put(ctx, all[i], newDocument(fresh, n))
	case 3, 4:
		return c.e.put(ctx, all[i], newDocument(existing, n))
	case 5, 6, 7:
		return c.e.update(ctx, all[i], newDocument(existing, n))
	case 8:
		return c.e.remove(ctx, all[i], existing)
	default:
		return c.e.remove(ctx, all[i], fresh)
	}
}

// change makes and drops indexes and collections, and renames.
func (c *crowd) change(random *rand.Rand) func(context.Context) error {
	made := map[clustersync.Namespace]bool{}
	return func(ctx context.Context) error {
		if c.settled.Load() && c.e.kind() == clustersync.Tidegate {
			return nil
		}
		ns := namespace(c.e.kind(), random.IntN(databases), fmt.Sprintf("extra%d", random.IntN(3)))
		to := namespace(c.e.kind(), random.IntN(databases), fmt.Sprintf("extra%d", random.IntN(3)))
		to.Database = ns.Database
		indexed := namespaces(c.e.kind())[random.IntN(databases*collections)]
		switch action := random.IntN(5); {
		case action == 0:
			return c.e.index(ctx, indexed, "n", false)
		case action == 1:
			return c.e.dropIndex(ctx, indexed, "n")
		case !made[ns]:
			if err := c.e.create(ctx, ns); err != nil {
				return fmt.Errorf("create %s: %w", ns, err)
			}
			made[ns] = true
			return c.e.put(ctx, ns, newDocument("only", random.IntN(1000)))
		case action == 2:
			if err := c.e.drop(ctx, ns); err != nil {
				return fmt.Errorf("drop %s: %w", ns, err)
			}
			delete(made, ns)
			return nil
		case action == 3 && !made[to]:
			if err := c.e.rename(ctx, ns, to); err != nil {
				return fmt.Errorf("rename %s to %s: %w", ns, to, err)
			}
			delete(made, ns)
			made[to] = true
			return nil
		default:
			return c.e.put(ctx, ns, newDocument(fmt.Sprintf("d%d", random.IntN(20)), random.IntN(1000)))
		}
	}
}
