package database_test

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

// benchBody makes a document of about 1 KiB in two channels.
func benchBody(i int) []byte {
	b := fmt.Appendf(nil, `{"type":"reading","n":%d,"channels":["all","c%d"],"name":"station %d","tags":["x","y","z"],"pad":"`, i, i%100, i)
	for len(b) < 1020 {
		b = append(b, "0123456789abcdef"...)
	}
	return append(b, `"}`...)
}

// benchDB opens a database on real files (every write is synced) or in memory.
func benchDB(b *testing.B, disk bool) *env {
	b.Helper()
	var st store.Store
	var err error
	fs := vfs.FS(vfs.NewMem())
	if disk {
		st, err = pebblestore.Open(b.TempDir(), pebblestore.Options{})
	} else {
		st, err = pebblestore.Open("db", pebblestore.Options{FS: fs, MinFreeBytes: -1})
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = st.Close() })
	return openOn(b, st, fs, database.Options{Now: time.Now, Collections: []database.CollectionOptions{{Sync: `function(doc) { channel(doc.channels); }`}}})
}

// cpuTimer measures the processor time of the whole process, which tells more than the clock on a busy machine.
func cpuTimer(b *testing.B) (report func(docs int)) {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	start := used()
	return func(docs int) {
		b.ReportMetric(float64(used()-start)/float64(docs)/1e3, "cpu-µs/doc")
		b.ReportMetric(float64(docs)/b.Elapsed().Seconds(), "docs/s")
	}
}

func stores(b *testing.B, fn func(b *testing.B, disk bool)) {
	for _, disk := range []bool{true, false} {
		name := "mem"
		if disk {
			name = "disk"
		}
		b.Run(name, func(b *testing.B) { fn(b, disk) })
	}
}

func BenchmarkPutNew(b *testing.B) {
	stores(b, func(b *testing.B, disk bool) {
		for _, clients := range []int{1, 8, 32} {
			b.Run(fmt.Sprint(clients), func(b *testing.B) {
				e := benchDB(b, disk)
				var next atomic.Int64
				b.SetParallelism(max(clients/2, 1))
				b.ReportAllocs()
				b.ResetTimer()
				report := cpuTimer(b)
				work := func() {
					i := int(next.Add(1))
					w := &database.Write{ID: fmt.Sprintf("doc%08d", i), Body: benchBody(i), NewEdits: true}
					if _, err := e.admin.Put(b.Context(), w); err != nil {
						b.Error(err)
					}
				}
				if clients == 1 {
					for b.Loop() {
						work()
					}
				} else {
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							work()
						}
					})
				}
				report(b.N)
			})
		}
	})
}

func BenchmarkPutAll100(b *testing.B) {
	stores(b, func(b *testing.B, disk bool) {
		for _, clients := range []int{1, 8} {
			b.Run(fmt.Sprint(clients), func(b *testing.B) {
				e := benchDB(b, disk)
				var next atomic.Int64
				b.SetParallelism(max(clients/2, 1))
				b.ReportAllocs()
				b.ResetTimer()
				report := cpuTimer(b)
				work := func() {
					ws := make([]*database.Write, 100)
					for k := range ws {
						i := int(next.Add(1))
						ws[k] = &database.Write{ID: fmt.Sprintf("doc%08d", i), Body: benchBody(i), NewEdits: true}
					}
					for _, res := range e.admin.PutAll(b.Context(), ws) {
						if res.Err != nil {
							b.Error(res.Err)
						}
					}
				}
				if clients == 1 {
					for b.Loop() {
						work()
					}
				} else {
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							work()
						}
					})
				}
				report(100 * b.N)
			})
		}
	})
}

func BenchmarkGet(b *testing.B) {
	stores(b, func(b *testing.B, disk bool) {
		e := benchDB(b, disk)
		const n = 10000
		ws := make([]*database.Write, n)
		for i := range ws {
			ws[i] = &database.Write{ID: fmt.Sprintf("doc%08d", i), Body: benchBody(i), NewEdits: true}
		}
		e.admin.PutAll(b.Context(), ws)
		var next atomic.Int64
		b.ReportAllocs()
		b.ResetTimer()
		report := cpuTimer(b)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				i := next.Add(7919) % n
				if _, err := e.admin.Get(b.Context(), fmt.Sprintf("doc%08d", i), database.GetOptions{}); err != nil {
					b.Error(err)
				}
			}
		})
		report(b.N)
	})
}

func BenchmarkChanges(b *testing.B) {
	for _, docs := range []bool{false, true} {
		b.Run(fmt.Sprintf("docs=%v", docs), func(b *testing.B) {
			e := benchDB(b, false)
			const n = 20000
			for start := 0; start < n; start += 500 {
				ws := make([]*database.Write, 500)
				for i := range ws {
					ws[i] = &database.Write{ID: fmt.Sprintf("doc%08d", start+i), Body: benchBody(start + i), NewEdits: true}
				}
				e.admin.PutAll(b.Context(), ws)
			}
			b.ReportAllocs()
			b.ResetTimer()
			report := cpuTimer(b)
			seen := 0
			for b.Loop() {
				f, err := e.admin.Changes(b.Context(), database.ChangesOptions{IncludeDocs: docs})
				if err != nil {
					b.Fatal(err)
				}
				for {
					page, err := f.Next(b.Context(), 0)
					if err != nil {
						b.Fatal(err)
					}
					if len(page) == 0 {
						break
					}
					seen += len(page)
				}
				f.Close()
			}
			report(seen)
		})
	}
}
