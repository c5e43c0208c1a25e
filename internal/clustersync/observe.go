package clustersync

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what is counted as it happens: how long operations take.
type metrics struct {
	durations map[Operation]prometheus.Histogram
	batches   prometheus.Histogram // documents of a batch of the copy

	mu    sync.Mutex
	stats map[Operation]*durationStat // since the last report
}

// durationStat is the member of an operation in the line "Operation duration stats" (spec §21.2).
type durationStat struct {
	Average int64 `json:"averageDurationMs"`
	Maximum int64 `json:"maximumDurationMs"`
	Number  int64 `json:"numOperations"`
	sum     time.Duration
}

func newMetrics() *metrics {
	m := &metrics{durations: map[Operation]prometheus.Histogram{}, stats: map[Operation]*durationStat{}}
	for op, name := range map[Operation]string{
		CopyRead: "collection_copy_source_read_op_duration", CopyWrite: "collection_copy_destination_write_op_duration",
		ApplyWrite: "cea_destination_write_op_duration", ApplyRead: "cea_source_read_op_duration",
		Refetch: "cea_crud_applier_refetch_duration", HotDoc: "hot_doc_apply_op_duration",
	} {
		m.durations[op] = prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: metricsPrefix + name, Help: "Duration in milliseconds.", Buckets: prometheus.ExponentialBuckets(1, 2, 16),
		})
	}
	m.batches = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: metricsPrefix + "bulk_inserter_docs_per_batch", Help: "Documents inserted by one write of the copy.", Buckets: prometheus.ExponentialBuckets(1, 4, 10),
	})
	return m
}

// observe notes a duration.
func (m *metrics) observe(op Operation, d time.Duration) {
	if h := m.durations[op]; h != nil {
		h.Observe(float64(d) / float64(time.Millisecond))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stats[op]
	if s == nil {
		s = new(durationStat)
		m.stats[op] = s
	}
	s.Number++
	s.sum += d
	s.Maximum = max(s.Maximum, d.Milliseconds())
	s.Average = (s.sum / time.Duration(s.Number)).Milliseconds()
}

// durationStats gives what was observed since the last time, as attributes of a log line.
func (m *metrics) durationStats() []any {
	m.mu.Lock()
	defer m.mu.Unlock()
	var attrs []any
	for _, o := range []struct {
		op   Operation
		name string
	}{{ApplyRead, "CEASourceRead"}, {ApplyWrite, "CEADestinationWrite"}, {CopyRead, "collectionCopySourceRead"}, {CopyWrite, "collectionCopyDestinationWrite"}} {
		if s := m.stats[o.op]; s != nil {
			attrs = append(attrs, o.name, s)
		}
	}
	clear(m.stats)
	return attrs
}

// observer has the engine tell the metrics what they want to know. The log it writes itself.
func (c *Control) observer() Observer {
	return Observer{Duration: c.metrics.observe, Batch: func(documents int) { c.metrics.batches.Observe(float64(documents)) }}
}
