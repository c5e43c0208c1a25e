package changes

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

// manyDocs fills a world with n documents, each in the channel "all" and one of ten others.
func manyDocs(b *testing.B, n int) *world {
	st, err := pebblestore.Open(b.TempDir(), pebblestore.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { st.Close() })
	w := newWorld(st)
	for i := 0; i < n; i += 500 {
		writes := make([]write, 500)
		for j := range writes {
			writes[j] = write{id: fmt.Sprintf("document-%06d", i+j), channels: []string{"all", fmt.Sprint("c", j%10)}}
		}
		w.writeAll(writes...)
	}
	return w
}

// BenchmarkOneShot reads 50,000 entries from the store, as JSON.
func BenchmarkOneShot(b *testing.B) {
	const n = 50_000
	w := manyDocs(b, n)
	w.user("bob", "all")
	w.user("ten", "c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9")
	w.user("old")
	w.always("old", "c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9")
	for name, req := range map[string]Request{
		"admin":                   {Admin: true},
		"one channel backfilled":  {Viewer: "bob"},
		"ten channels backfilled": {Viewer: "ten"},
		"ten channels":            {Viewer: "old"},
	} {
		b.Run(name, func(b *testing.B) {
			h := NewHub(w.st, w.space, HubOptions{})
			rows := 0
			var buf []byte
			for b.Loop() {
				f, err := h.Feed(req, w, worldHistory{w})
				if err != nil {
					b.Fatal(err)
				}
				for {
					batch, err := f.Next(b.Context(), 0)
					if err != nil {
						b.Fatal(err)
					}
					if len(batch) == 0 {
						break
					}
					rows += len(batch)
					buf = buf[:0]
					for i := range batch {
						buf = batch[i].AppendJSON(buf)
					}
				}
				f.Close()
			}
			b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkFanOut is one write until 1,000 waiting feeds have its entry.
func BenchmarkFanOut(b *testing.B) {
	const n = 1000
	w := manyDocs(b, 500)
	w.user("bob", "all")
	h := NewHub(w.st, w.space, HubOptions{})
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { _ = h.Run(ctx) })
	var got atomic.Int64
	ready, all := make(chan struct{}, n), make(chan struct{})
	for range n {
		f, err := h.Feed(Request{Viewer: "bob", Since: tidegate.Since{Seq: 501}}, w, worldHistory{w})
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		wg.Go(func() {
			for first := true; ; first = false {
				batch, err := f.Next(ctx, 0)
				if err != nil {
					return
				}
				if len(batch) > 0 && got.Add(int64(len(batch))) == n {
					all <- struct{}{}
				}
				if first {
					ready <- struct{}{}
				}
				if f.Wait(ctx) != nil {
					return
				}
			}
		})
	}
	for range n {
		<-ready
	}
	for b.Loop() {
		got.Store(0)
		w.put("document-000000", "all")
		<-all
	}
}

// BenchmarkIdleFeed opens waiting feeds; what one takes in memory, its goroutine apart, is reported.
func BenchmarkIdleFeed(b *testing.B) {
	w := manyDocs(b, 500)
	w.user("bob", "all", "c1", "c2", "c3")
	h := NewHub(w.st, w.space, HubOptions{})
	const n = 2000
	for b.Loop() {
		feeds := make([]*Feed, n)
		before := heap()
		for i := range feeds {
			feeds[i] = settled(b, h, w, Request{Viewer: "bob", Since: tidegate.Since{Seq: 400}})
		}
		b.ReportMetric(float64(heap()-before)/n, "bytes/feed")
		for _, f := range feeds {
			f.Close()
		}
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkWriteIndex is the index's part of a commit: a document that moves on in two channels.
func BenchmarkWriteIndex(b *testing.B) {
	w := newWorld(openStore(b))
	w.put("document", "a", "b")
	old := w.docs["document"].state
	b.ReportAllocs()
	err := w.st.Update(b.Context(), func(tx store.Tx) error {
		tx = discard{tx}
		for b.Loop() {
			next := *old
			next.Seq++
			if err := WriteIndex(tx, w.space, w.coll, "document", old, &next); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

// discard is a transaction that keeps nothing.
type discard struct{ store.Tx }

func (discard) Put(key, value []byte) error { return nil }
func (discard) Delete(key []byte) error     { return nil }
