package pebblestore_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

// benchSpace is the space of the benchmarks; benchValue a document of 1 KiB that compresses like JSON.
const benchSpace store.Space = 1

func benchValue() []byte {
	v := make([]byte, 0, 1024)
	r := rand.New(rand.NewPCG(1, 2))
	for len(v) < 1000 {
		v = fmt.Appendf(v, `{"name":"item %d","value":%d},`, r.IntN(1e6), r.Int64())
	}
	return v[:1000]
}

// openDisk opens a store on a real disk, under the folder that TMPDIR names.
func openDisk(b *testing.B) *pebblestore.Store {
	s, err := pebblestore.Open(b.TempDir(), pebblestore.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

func docKey(i uint64) []byte {
	return store.NewKey(benchSpace, store.KindDoc).Collection(0).Name(fmt.Sprintf("document-%012d", i))
}

// writeDocument does what a write of a document does: reads the record, takes a sequence, and puts record,
// body and index entry.
func writeDocument(tx store.Tx, key, value []byte) error {
	if _, err := tx.Get(key); err != nil {
		return err
	}
	seq, err := tx.NextSequence(benchSpace)
	if err != nil {
		return err
	}
	if err := tx.Put(key, value[:120]); err != nil {
		return err
	}
	key[store.Header-1] = byte(store.KindBody)
	if err := tx.Put(key, value); err != nil {
		return err
	}
	return tx.Put(store.NewKey(benchSpace, store.KindChannel).Collection(0).Name("*").Seq(seq), key)
}

// BenchmarkUpdate is synced Updates a second.
func BenchmarkUpdate(b *testing.B) {
	small := func(tx store.Tx, key, value []byte) error { return tx.Put(key, value[:100]) }
	for _, kind := range []struct {
		name string
		fn   func(tx store.Tx, key, value []byte) error
	}{{"small", small}, {"document", writeDocument}} {
		for _, writers := range []int{1, 8, 32, 128} {
			b.Run(fmt.Sprintf("%s/writers=%d", kind.name, writers), func(b *testing.B) {
				s := openDisk(b)
				value := benchValue()
				var next atomic.Uint64
				runWriters(b, s, writers, func() error {
					key := docKey(next.Add(1))
					return s.Update(context.Background(), func(tx store.Tx) error { return kind.fn(tx, key, value) })
				})
			})
		}
	}
}

// runWriters runs b.N operations on so many goroutines and reports rates.
func runWriters(b *testing.B, s *pebblestore.Store, writers int, op func() error) {
	before := s.Stats()
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := op(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	after := s.Stats()
	b.ReportMetric(float64(after.Commits-before.Commits)/b.Elapsed().Seconds(), "updates/s")
	if syncs := after.Syncs - before.Syncs; syncs > 0 {
		b.ReportMetric(float64(after.Commits-before.Commits)/float64(syncs), "commits/sync")
	}
}

// BenchmarkBatch is Updates of 100 documents each, as _bulk_docs makes them.
func BenchmarkBatch(b *testing.B) {
	for _, writers := range []int{1, 8} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := openDisk(b)
			value := benchValue()
			var next atomic.Uint64
			runWriters(b, s, writers, func() error {
				base := next.Add(100)
				return s.Update(context.Background(), func(tx store.Tx) error {
					for i := range uint64(100) {
						if err := tx.Put(docKey(base+i), value); err != nil {
							return err
						}
					}
					return nil
				})
			})
			b.ReportMetric(100*float64(b.N)/b.Elapsed().Seconds(), "puts/s")
		})
	}
}

// fill puts n documents of 1 KiB.
func fill(b *testing.B, s store.Store, n uint64) {
	value := benchValue()
	for base := uint64(0); base < n; base += 500 {
		err := s.Update(context.Background(), func(tx store.Tx) error {
			for i := base; i < min(base+500, n); i++ {
				if err := tx.Put(docKey(i), value); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// Documents of the read benchmarks: few fit into the cache of 64 MiB, many do not.
const (
	fewDocs  = 20_000
	manyDocs = 200_000
)

func BenchmarkGet(b *testing.B) {
	for _, docs := range []uint64{fewDocs, manyDocs} {
		b.Run(fmt.Sprint("docs=", docs), func(b *testing.B) {
			s := openDisk(b)
			fill(b, s, docs)
			get := func() error {
				key := docKey(rand.Uint64N(docs))
				return s.View(context.Background(), func(r store.Reader) error {
					v, err := r.Get(key)
					if err == nil && v == nil {
						err = tidegate.ErrMissing
					}
					return err
				})
			}
			for range docs { // warm the cache
				if err := get(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := get(); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkView is what a View costs without anything in it.
func BenchmarkView(b *testing.B) {
	s := openDisk(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := s.View(context.Background(), func(store.Reader) error { return nil }); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkScan(b *testing.B) {
	s := openDisk(b)
	fill(b, s, fewDocs)
	for _, length := range []uint64{10, 1000} {
		b.Run(fmt.Sprint("keys=", length), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				from := rand.Uint64N(fewDocs - length)
				err := s.View(context.Background(), func(r store.Reader) error {
					it := r.Scan(store.Range{Start: docKey(from), End: docKey(from + length)})
					defer it.Close()
					n := uint64(0)
					for it.Next() {
						n += uint64(min(len(it.Value()), 1))
					}
					if n != length {
						b.Errorf("%d keys", n)
					}
					return it.Err()
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(length)*float64(b.N)/b.Elapsed().Seconds(), "keys/s")
		})
	}
}
