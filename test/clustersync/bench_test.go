package clustersync

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/mapping"
)

// BenchmarkSync measures a sync on each pair against the plain baseline, in one run: everything read and everything written with the same
// driver and batches, one after another, with nothing kept and nothing checked.
//
//	go test ./test/clustersync -run '^$' -bench Sync -benchtime 1x -docs 20000
//
// baseline, copy and apply are documents per second; the ratios are to the baseline. rss-MB is the most memory that the sync process had.
func BenchmarkSync(b *testing.B) {
	for _, p := range pairs {
		b.Run(strings.ReplaceAll(p.name, " ", "_"), func(b *testing.B) {
			for b.Loop() {
				measure(b, p.source, p.destination, *docs)
			}
		})
	}
}

// BenchmarkMemory measures the memory of a sync with collections ten times larger.
func BenchmarkMemory(b *testing.B) {
	for _, n := range []int{*docs, 10 * *docs} {
		b.Run(fmt.Sprintf("%d_documents", n), func(b *testing.B) {
			for b.Loop() {
				measure(b, newMongo, newMongo, n)
			}
		})
	}
}

func measure(b *testing.B, newSource, newDestination func(testing.TB) endpoint, n int) {
	src := newSource(b)
	fill(b, src, n)
	n = n / (databases * collections) * databases * collections
	copied, bytes := baseline(b, src, newDestination(b))
	if copied.docs != int64(n) {
		b.Fatalf("the baseline copied %d documents of %d", copied.docs, n)
	}
	dst := newDestination(b)
	s := newSyncer(b, src.uri(), dst.uri(), "--disableVerification")
	s.awaitProgress("state IDLE", inState("IDLE"))
	began := time.Now()
	s.post("start", startBody(true))
	s.awaitProgress("the copy to end", func(p progressBody) bool { return p.Info != "" && strings.HasPrefix(p.Info, "change event") })
	copyTime := time.Since(began)
	s.awaitProgress("canCommit", canCommit)

	s.post("pause", nil)
	touched := touch(b, src, n)
	s.post("resume", nil)
	began = time.Now()
	last := namespaces(dst.kind())[databases*collections-1]
	await(b, "what changed to be applied", func() (bool, string) {
		p, err := s.progress()
		return err == nil && p.CanCommit && p.LagTimeSeconds != nil && *p.LagTimeSeconds == 0 && has(b, dst, last, "last"), fmt.Sprintf("%+v %v", p, err)
	})
	applyTime := time.Since(began)

	rate := func(docs int, d time.Duration) float64 { return float64(docs) / d.Seconds() }
	b.ReportMetric(copied.rate(), "baseline-docs/s")
	b.ReportMetric(float64(bytes)/1e6/copied.took.Seconds(), "baseline-MB/s")
	b.ReportMetric(rate(n, copyTime), "copy-docs/s")
	b.ReportMetric(float64(bytes)/1e6/copyTime.Seconds(), "copy-MB/s")
	b.ReportMetric(rate(n, copyTime)/copied.rate(), "copy/baseline")
	b.ReportMetric(rate(touched, applyTime), "apply-docs/s")
	b.ReportMetric(rate(touched, applyTime)/copied.rate(), "apply/baseline")
	b.ReportMetric(s.peakMemory(), "rss-MB")
	b.ReportMetric(0, "ns/op")
	s.stop()
}

// plain is what the baseline did.
type plain struct {
	docs int64
	took time.Duration
}

func (p plain) rate() float64 { return float64(p.docs) / p.took.Seconds() }

// Batches of the baseline are those of the sync.
var baselineBatches = clustersync.ReadOptions{BatchDocs: 2000, BatchBytes: 8 << 20}

// baseline copies everything once, plainly.
func baseline(b *testing.B, from, to endpoint) (out plain, bytes int64) {
	ctx := b.Context()
	src, dst, _ := mapping.Pair(from.open(b), to.open(b), mapping.ViewOptions{})
	listed, err := src.List(ctx)
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	for _, c := range listed {
		if err := dst.Create(ctx, clustersync.Collection{Ref: clustersync.Ref{Namespace: c.Namespace}, Type: clustersync.Plain}); err != nil {
			b.Fatal(err)
		}
		err := src.Read(ctx, c.Ref, clustersync.Range{}, baselineBatches, func(docs []clustersync.Document) error {
			out.docs += int64(len(docs))
			for _, d := range docs {
				bytes += int64(len(d.Body))
			}
			_, err := dst.Insert(ctx, c.Namespace, docs, clustersync.WriteOptions{})
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	out.took = time.Since(began)
	return out, bytes
}

// touch replaces one document in ten, and a last one.
func touch(b *testing.B, e endpoint, n int) (touched int) {
	all := namespaces(e.kind())
	for i, ns := range all {
		for k := 0; k < n/len(all); k += 10 {
			if err := e.put(b.Context(), ns, newDocument(fmt.Sprintf("w%d-%d-%05d", k%4, i, k), k+1)); err != nil {
				b.Fatal(err)
			}
			touched++
		}
	}
	if err := e.put(b.Context(), all[len(all)-1], newDocument("last", 1)); err != nil {
		b.Fatal(err)
	}
	return touched + 1
}

func has(b *testing.B, e endpoint, ns clustersync.Namespace, id string) bool {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	docs, err := e.all(ctx, ns)
	return err == nil && docs[id] != ""
}

// peakMemory is the most memory that the process had, in MB.
func (s *syncer) peakMemory() float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1000
		}
	}
	return 0
}
