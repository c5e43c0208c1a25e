package gatewaycluster_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// benchDocs is a collection of documents of about 1 KB.
func benchDocs(b *testing.B, r *rig, n int) clustersync.Namespace {
	b.Helper()
	r.must("PUT", "/bench/", `{}`)
	text := strings.Repeat("all work and no play ", 45)
	for at := 0; at < n; at += 1000 {
		var docs []string
		for i := at; i < min(at+1000, n); i++ {
			docs = append(docs, fmt.Sprintf(`{"_id":"doc%08d","n":%d,"text":%q}`, i, i, text))
		}
		r.must("POST", "/bench/_bulk_docs", `{"docs":[`+strings.Join(docs, ",")+`]}`)
	}
	return ns("bench", "_default._default")
}

// BenchmarkCopy is the copy of a collection, and what it is measured by: reading everything with _all_docs and writing everything with
// _bulk_docs, as it is, with no thought of revisions.
func BenchmarkCopy(b *testing.B) {
	const n = 20_000
	a := newRig(b)
	name := benchDocs(b, a, n)
	src := a.cluster()
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			docs := 0
			err := src.Read(b.Context(), clustersync.Ref{Namespace: name}, clustersync.Range{}, clustersync.ReadOptions{BatchDocs: 1000, BatchBytes: 8 << 20}, func(d []clustersync.Document) error {
				docs += len(d)
				return nil
			})
			if err != nil || docs != n {
				b.Fatal(docs, err)
			}
		}
		b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "docs/s")
	})
	b.Run("read baseline", func(b *testing.B) {
		for b.Loop() {
			resp, err := http.Get(a.admin.URL + "/bench/_all_docs?include_docs=true&revs=true")
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "docs/s")
	})
	b.Run("copy", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			to := newRig(b)
			dst := to.cluster()
			if err := dst.Create(b.Context(), clustersync.Collection{Ref: clustersync.Ref{Namespace: name}}); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			err := src.Read(b.Context(), clustersync.Ref{Namespace: name}, clustersync.Range{}, clustersync.ReadOptions{BatchDocs: 1000, BatchBytes: 8 << 20}, func(d []clustersync.Document) error {
				_, err := dst.Insert(b.Context(), name, d, clustersync.WriteOptions{})
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "docs/s")
	})
}
