package clustersync

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metricsPrefix is mongosync's (spec §21.3).
const metricsPrefix = "mongosync_"

// metric is one value of /metrics. value's ok is false where there is nothing to say.
type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*view) (value float64, ok bool)
}

// collector turns a view into metrics whenever somebody asks.
type collector struct {
	c       *Control
	metrics []metric
	phase   *prometheus.Desc
}

// Metrics gives what /metrics does.
func (c *Control) Metrics() prometheus.Gatherer {
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(newCollector(c))
	for _, h := range c.metrics.durations {
		reg.MustRegister(h)
	}
	reg.MustRegister(c.metrics.batches)
	return reg
}

// metricsHandler answers GET /metrics in the text format 0.0.4.
func (c *Control) metricsHandler() http.Handler {
	return promhttp.HandlerFor(c.Metrics(), promhttp.HandlerOpts{})
}

func newCollector(c *Control) *collector {
	out := &collector{c: c, phase: prometheus.NewDesc(metricsPrefix+"phase", "1 for the phase that the sync is in.", []string{"state", "phase"}, nil)}
	add := func(kind prometheus.ValueType, name, help string, value func(*view) (float64, bool)) {
		out.metrics = append(out.metrics, metric{prometheus.NewDesc(metricsPrefix+name, help, nil, nil), kind, value})
	}
	gauge := func(name, help string, value func(*view) (float64, bool)) {
		add(prometheus.GaugeValue, name, help, value)
	}
	counter := func(name, help string, value func(*Snapshot) int64) {
		add(prometheus.CounterValue, name, help, func(v *view) (float64, bool) { return float64(value(&v.engine)), v.plan != nil })
	}
	ping := func(source, down bool) func(*view) (float64, bool) {
		return func(v *view) (float64, bool) {
			p := v.ping(source)
			switch {
			case p == nil:
				return 0, false
			case down:
				return bit(*p < 0), true
			}
			return float64(*p), *p >= 0
		}
	}
	gauge("lag_time", "Seconds between the newest change of the source and the last one applied.", func(v *view) (float64, bool) {
		if v.engine.LagSeconds == nil {
			return 0, false
		}
		return float64(*v.engine.LagSeconds), true
	})
	gauge("src_ping_latency", "Milliseconds of a round trip to the source.", ping(true, false))
	gauge("dst_ping_latency", "Milliseconds of a round trip to the destination.", ping(false, false))
	gauge("src_unavailable", "1 if the source did not answer the last ping.", ping(true, true))
	gauge("dst_unavailable", "1 if the destination did not answer the last ping.", ping(false, true))
	counter("retry_count", "Calls to a cluster that were repeated.", func(e *Snapshot) int64 { return e.Events.Retries })
	counter("collection_copy_copied_docs_count", "Documents copied.", func(e *Snapshot) int64 { return e.Copy.CopiedDocuments })
	counter("collection_copy_copied_bytes_count", "Bytes copied.", func(e *Snapshot) int64 { return e.Copy.CopiedBytes })
	counter("collection_copy_partitions_completed_count", "Partitions copied.", func(e *Snapshot) int64 { return e.Copy.PartitionsDone })
	counter("cea_change_stream_reader_events_read", "Changes read from the source.", func(e *Snapshot) int64 { return e.Events.Read })
	counter("cea_change_stream_reader_bytes_read", "Bytes of changes read from the source.", func(e *Snapshot) int64 { return e.Events.ReadBytes })
	counter("cea_total_events_applied", "Changes applied.", func(e *Snapshot) int64 { return e.Events.Applied })
	counter("cea_total_crud_events_applied", "Changes of documents applied.", func(e *Snapshot) int64 { return e.Events.CRUD })
	counter("cea_total_ddl_events_applied", "Changes of collections and indexes applied.", func(e *Snapshot) int64 { return e.Events.DDL })
	counter("cea_crud_applier_duplicate_key_errors_count", "Writes refused by unique indexes, and repeated.", func(e *Snapshot) int64 { return e.Events.DuplicateKeys })
	counter("index_checker_service_created_count", "Indexes created.", func(e *Snapshot) int64 { return e.Events.IndexesCreated })
	counter("bulk_inserter_docs_inserted_count", "Documents inserted by the copy.", func(e *Snapshot) int64 { return e.Copy.CopiedDocuments })
	optional := func(name, help string, value func(*view) *float64) {
		gauge(name, help, func(v *view) (float64, bool) {
			if f := value(v); f != nil {
				return *f, true
			}
			return 0, false
		})
	}
	optional("cea_spread_disparity", "How unevenly changes are spread over the writers: (most - least) / average.", func(v *view) *float64 { return v.engine.Events.Spread })
	optional("host_cpu_usage", "Percent of the processors of this machine that were busy in the last seconds.", func(v *view) *float64 { return v.gauges.host.cpu })
	optional("host_memory_percent_used", "Percent of the memory of this machine that is in use.", func(v *view) *float64 { return v.gauges.host.memory })
	verifier := func(name, help string, value func(*VerificationProgress) int64) {
		gauge(name, help, func(v *view) (float64, bool) {
			if v.engine.Verification == nil || v.quiet {
				return 0, false
			}
			return float64(value(v.engine.Verification)), true
		})
	}
	verifier("verifier_lag_time", "Seconds that the verifier is behind.", func(p *VerificationProgress) int64 {
		return max(p.Source.LagTimeSeconds, p.Destination.LagTimeSeconds)
	})
	verifier("verifier_auditor_num_docs_hashed", "Documents hashed on both sides.", func(p *VerificationProgress) int64 {
		return p.Source.HashedDocumentCount + p.Destination.HashedDocumentCount
	})
	verifier("verifier_auditor_estimated_docs_count", "Documents to be hashed on both sides.", func(p *VerificationProgress) int64 {
		return p.Source.EstimatedDocumentCount + p.Destination.EstimatedDocumentCount
	})
	verifier("verifier_auditor_scanned_collection_count", "Collections hashed on both sides.", func(p *VerificationProgress) int64 {
		return p.Source.ScannedCollectionCount + p.Destination.ScannedCollectionCount
	})
	return out
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	out <- c.phase
	for _, m := range c.metrics {
		out <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	v := c.c.look()
	out <- prometheus.MustNewConstMetric(c.phase, prometheus.GaugeValue, 1, v.state.String(), string(v.engine.Phase))
	for _, m := range c.metrics {
		if value, ok := m.value(&v); ok {
			out <- prometheus.MustNewConstMetric(m.desc, m.kind, value)
		}
	}
}

// ping returns the last measurement of the present source or destination.
func (v *view) ping(source bool) *int64 {
	if v.plan == nil {
		return nil
	}
	src, dst := v.sides()
	if source {
		return v.gauges.pings[src]
	}
	return v.gauges.pings[dst]
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
