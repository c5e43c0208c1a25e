package database_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

// Sources that a benchmark goes back and forth between: by the second all documents change.
const (
	benchBefore = `function(doc) { channel(doc.channels); }`
	benchAfter  = `function(doc) { channel(doc.channels); channel("more"); }`
)

// fill writes n documents of 1 KiB.
func fill(b *testing.B, e *env, n int) {
	b.Helper()
	ws := make([]*database.Write, 0, 500)
	for i := range n {
		ws = append(ws, &database.Write{ID: fmt.Sprintf("doc-%08d", i), Body: benchBody(i), NewEdits: true})
		if len(ws) < cap(ws) && i+1 < n {
			continue
		}
		for _, res := range e.admin.PutAll(b.Context(), ws) {
			if res.Err != nil {
				b.Fatal(res.Err)
			}
		}
		ws = ws[:0]
	}
}

// BenchmarkResync resyncs 50,000 documents of 1 KiB on disk.
func BenchmarkResync(b *testing.B) {
	const docs = 50_000
	for _, online := range []bool{false, true} {
		for _, change := range []bool{true, false} {
			b.Run(fmt.Sprintf("online=%v/change=%v", online, change), func(b *testing.B) {
				e := benchDB(b, true)
				fill(b, e, docs)
				b.ResetTimer()
				report := cpuTimer(b)
				for n := range b.N {
					source := benchBefore
					if change && n%2 == 0 {
						source = benchAfter
					}
					o := database.ResyncOptions{Online: online, Reset: true, Functions: map[store.Collection]string{0: source}}
					status, err := e.db.Resync(b.Context(), o)
					if err != nil || status.DocsProcessed != docs || (status.DocsChanged == docs) != change {
						b.Fatalf("%+v %v", status, err)
					}
				}
				report(docs * b.N)
			})
		}
	}
}

// BenchmarkResyncMemory tells how much of the heap is in use, at most, during a resync of 20,000 and of 200,000 documents, with the caches of the store
// so small that they are full in either case.
func BenchmarkResyncMemory(b *testing.B) {
	for _, docs := range []int{20_000, 200_000} {
		for _, online := range []bool{false, true} {
			b.Run(fmt.Sprintf("docs=%d/online=%v", docs, online), func(b *testing.B) {
				st, err := pebblestore.Open(b.TempDir(), pebblestore.Options{CacheBytes: 4 << 20, MemTableBytes: 4 << 20})
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(func() { _ = st.Close() })
				e := openOn(b, st, vfs.NewMem(), database.Options{Now: time.Now, Collections: []database.CollectionOptions{{Sync: benchBefore}}})
				fill(b, e, docs)
				runtime.GC()
				b.ResetTimer()
				largest := uint64(0)
				database.AtBatch(e.db, func(n int) {
					if n%(docs/2560) == 0 {
						runtime.GC() // what is left is in use
						var m runtime.MemStats
						runtime.ReadMemStats(&m)
						largest = max(largest, m.HeapAlloc)
					}
				})
				defer database.AtBatch(e.db, nil)
				for range b.N {
					o := database.ResyncOptions{Online: online, Reset: true, Functions: map[store.Collection]string{0: benchAfter}}
					if _, err := e.db.Resync(b.Context(), o); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(largest)/(1<<20), "heap-MiB")
			})
		}
	}
}

// BenchmarkWriteDuringResync tells how long writes of eight clients take, without and with an online resync under way.
func BenchmarkWriteDuringResync(b *testing.B) {
	const docs = 50_000
	for _, online := range []bool{false, true} {
		b.Run(fmt.Sprintf("resync=%v", online), func(b *testing.B) {
			e := benchDB(b, true)
			fill(b, e, docs)
			ctx, cancel := context.WithCancelCause(b.Context())
			defer cancel(nil)
			var resyncs sync.WaitGroup
			runs := 0
			if online {
				begun := make(chan struct{})
				database.AtBatch(e.db, func(n int) {
					if runs == 0 && n == 1 {
						close(begun)
					}
				})
				resyncs.Go(func() {
					for ; ctx.Err() == nil; runs++ {
						source := []string{benchAfter, benchBefore}[runs%2]
						_, _ = e.db.Resync(ctx, database.ResyncOptions{Online: true, Functions: map[store.Collection]string{0: source}})
					}
				})
				<-begun
			}
			var mu sync.Mutex
			var took []time.Duration
			b.ResetTimer()
			b.SetParallelism(4)
			next := 0
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					mu.Lock()
					next++
					i := next
					mu.Unlock()
					start := time.Now()
					_, err := e.admin.Put(b.Context(), &database.Write{ID: fmt.Sprintf("new-%08d", i), Body: benchBody(i), NewEdits: true})
					d := time.Since(start)
					if err != nil {
						b.Error(err)
						return
					}
					mu.Lock()
					took = append(took, d)
					mu.Unlock()
				}
			})
			b.StopTimer()
			cancel(database.ErrResyncStopped)
			resyncs.Wait()
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1e3, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1e3, "p99-ms")
			b.ReportMetric(float64(runs), "resyncs")
		})
	}
}
