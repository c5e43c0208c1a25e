package rest

import (
	"maps"
	"net/http"
	"os"
	"runtime"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tidegate/tidegate/internal/blip"
	"github.com/tidegate/tidegate/internal/gateway"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/telemetry"
)

// traffic counts the bodies of requests and answers on the listeners.
type traffic struct {
	publicRead, publicWritten atomic.Int64
	adminRead, adminWritten   atomic.Int64
}

// count adds a request that was answered to the statistics (gateway-rest.md §22.3) and, if asked for, to the
// log.
func (s *Server) count(r *request, w *response) {
	read := max(r.ContentLength, 0)
	switch r.listener {
	case public:
		s.diag.traffic.publicRead.Add(read)
		s.diag.traffic.publicWritten.Add(w.written)
		if r.running != nil {
			h := r.running.HTTP()
			h.Requests.Add(1)
			h.BytesRead.Add(read)
			h.BytesWritten.Add(w.written)
		}
	case admin:
		s.diag.traffic.adminRead.Add(read)
		s.diag.traffic.adminWritten.Add(w.written)
	}
	s.diag.logging.request(s.log, r, w)
}

// newMetrics makes the registry of /metrics.
func (s *Server) newMetrics() *prometheus.Registry {
	others := append([]prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	}, s.deps.Collectors...)
	reg, err := telemetry.NewRegistry(s.snapshot, others...)
	if err != nil {
		panic("rest: two metrics have the same name: " + err.Error()) // a mistake in the tables
	}
	return reg
}

// handleMetrics answers /metrics and /_metrics.
func (s *Server) handleMetrics(w http.ResponseWriter, r *request) error {
	s.diag.prometheus.ServeHTTP(w, r.Request)
	return nil
}

func newMetricsHandler(reg *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{DisableCompression: true, MaxRequestsInFlight: 4})
}

// handleExpvar answers /_expvar.
func (s *Server) handleExpvar(w http.ResponseWriter, _ *request) error {
	b, err := telemetry.AppendExpvar(nil, s.snapshot(), os.Args[:1]) // flags could hold what is nobody's business
	if err != nil {
		return err
	}
	return s.writeJSON(w, http.StatusOK, b)
}

// handleMemStats answers /_stats.
func (s *Server) handleMemStats(w http.ResponseWriter, _ *request) error {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return s.reply(w, http.StatusOK, map[string]runtime.MemStats{"memstats": m})
}

// snapshot gathers all statistics.
func (s *Server) snapshot() telemetry.Snapshot {
	resources := s.diag.process.Figures()
	resources["pub_net_bytes_recv"] = s.diag.traffic.publicRead.Load()
	resources["pub_net_bytes_sent"] = s.diag.traffic.publicWritten.Load()
	resources["admin_net_bytes_recv"] = s.diag.traffic.adminRead.Load()
	resources["admin_net_bytes_sent"] = s.diag.traffic.adminWritten.Load()
	if c := s.deps.LogCounts; c != nil {
		resources["error_count"], resources["warn_count"] = c.Errors(), c.Warnings()
	}
	snap := telemetry.Snapshot{Global: map[string]telemetry.Figures{telemetry.GroupResources: resources}}
	for _, db := range s.gateway.Databases() {
		snap.Databases = append(snap.Databases, databaseFigures(db))
		snap.Own = append(snap.Own, ownFigures(db)...)
		snap.Own = append(snap.Own, s.syncFigures(db)...)
	}
	snap.Own = append(snap.Own, telemetry.Own{Name: "feeds", Help: "Open changes feeds and replications.", Value: float64(s.feeds.count())})
	if s.deps.StoreStats != nil {
		snap.Own = append(snap.Own, storeFigures(s.deps.StoreStats())...)
	}
	if s.deps.BLIPStats != nil {
		snap.Own = append(snap.Own, blipFigures(s.deps.BLIPStats)...)
	}
	return snap
}

// databaseFigures are a database's statistics under the product's names.
func databaseFigures(r *gateway.Running) telemetry.DatabaseFigures {
	stats, h, auth := r.Stats(), r.HTTP(), r.AuthStats()
	figures := telemetry.Figures{
		"num_public_rest_requests":  h.Requests.Load(),
		"public_rest_bytes_read":    h.BytesRead.Load(),
		"public_rest_bytes_written": h.BytesWritten.Load(),
	}
	maps.Insert(figures, stats.Database())
	maps.Insert(figures, stats.Replication.Database())
	figures["high_seq_feed"] = figures["last_sequence_assigned_value"]
	security := telemetry.Figures{
		"auth_success_count": auth.AuthSuccess, "auth_failed_count": auth.AuthFailed, "total_auth_time": int64(auth.AuthTime),
	}
	maps.Insert(security, stats.Security())
	collections := map[string]telemetry.Figures{}
	for _, c := range stats.Collections() {
		collections[c.Name] = maps.Collect(c.All())
	}
	replications := map[string]telemetry.Figures{}
	for id, f := range r.Replications().Figures() {
		replications[id] = f
	}
	return telemetry.DatabaseFigures{
		Name: r.Name(), Replications: replications,
		Groups: map[string]telemetry.Figures{
			telemetry.GroupDatabase: figures, telemetry.GroupSecurity: security,
			telemetry.GroupPull:      maps.Collect(stats.Replication.Pull.All()),
			telemetry.GroupPush:      maps.Collect(stats.Replication.Push.All()),
			telemetry.GroupDeltaSync: maps.Collect(stats.Replication.Delta.All()),
			telemetry.GroupCache: {
				"high_seq_cached": figures["last_sequence_assigned_value"], "high_seq_stable": figures["last_sequence_assigned_value"],
			},
		},
		Collections: collections,
	}
}

// ownFigures are a database's statistics that the product does not have.
func ownFigures(r *gateway.Running) []telemetry.Own {
	label := [2]string{"database", r.Name()}
	stats := r.Stats()
	repl := &stats.Replication
	own := []telemetry.Own{
		{Name: "writes_repeated_total", Help: "Writes computed again because their document had moved.", Counter: true, Value: float64(stats.Moved.Load())},
		{Name: "documents_expired_total", Help: "Documents that were deleted at their expiry.", Counter: true, Value: float64(stats.DocsExpired.Load())},
		{Name: "replication_store_queue", Help: "Revisions that replications received and that wait to be stored.", Value: float64(repl.StoreQueue.Load())},
		{Name: "replication_protocol_errors_total", Help: "Replications that were cut because the client broke the protocol.", Counter: true, Value: float64(repl.ProtocolErrors.Load())},
		{Name: "replication_slow_readers_total", Help: "Replications that were cut because the client did not read.", Counter: true, Value: float64(repl.SlowReaders.Load())},
		{Name: "replication_logins_ended_total", Help: "Replications that were cut because their login ended.", Counter: true, Value: float64(repl.LoginsEnded.Load())},
		{Name: "database_requests", Help: "Requests being served, feeds and connections included: what going offline waits for.", Value: float64(r.Requests())},
		{Name: "feed_wakeups_total", Help: "Changes feeds that were asleep and were woken.", Counter: true, Value: float64(stats.FeedWakeups.Load())},
	}
	for i := range own {
		own[i].Labels = [][2]string{label}
	}
	state := r.State()
	for _, s := range gateway.States() {
		v := 0.0
		if s == state {
			v = 1
		}
		own = append(own, telemetry.Own{
			Name: "database_state", Help: "1 for the state that the database is in.", Value: v,
			Labels: [][2]string{label, {"state", s.String()}},
		})
	}
	return own
}

// storeFigures are the statistics of the storage engine.
func storeFigures(st store.Stats) []telemetry.Own {
	return []telemetry.Own{
		{Name: "store_commits_total", Help: "Transactions made durable.", Counter: true, Value: float64(st.Commits)},
		{Name: "store_syncs_total", Help: "Syncs that made them durable.", Counter: true, Value: float64(st.Syncs)},
		{Name: "store_written_bytes_total", Help: "Bytes of keys and values written.", Counter: true, Value: float64(st.BytesWritten)},
		{Name: "store_cache_hits_total", Help: "Block cache hits.", Counter: true, Value: float64(st.CacheHits)},
		{Name: "store_cache_misses_total", Help: "Block cache misses.", Counter: true, Value: float64(st.CacheMisses)},
		{Name: "store_disk_bytes", Help: "Bytes on disk.", Value: float64(st.DiskBytes)},
		{Name: "store_queue", Help: "Transactions waiting to be committed.", Value: float64(st.QueueDepth)},
	}
}

// blipFigures are the statistics of the framing of replications, of all databases together.
func blipFigures(st *blip.Stats) []telemetry.Own {
	own := []telemetry.Own{
		{Name: "blip_connections", Help: "Open connections of the BLIP protocol.", Value: float64(st.Connections.Load())},
		{Name: "blip_queued_messages", Help: "Messages that wait to be sent, or are being sent.", Value: float64(st.Queued.Load())},
		{Name: "blip_protocol_errors_total", Help: "Times that a peer broke the rules of BLIP.", Counter: true, Value: float64(st.ProtocolErrors.Load())},
		{Name: "blip_handler_panics_total", Help: "Messages whose handling failed by a fault of ours.", Counter: true, Value: float64(st.Panics.Load())},
	}
	for _, d := range []struct {
		name string
		*blip.Traffic
	}{{"in", &st.In}, {"out", &st.Out}} {
		labels := [][2]string{{"direction", d.name}}
		own = append(own,
			telemetry.Own{Name: "blip_messages_total", Help: "Whole messages.", Counter: true, Value: float64(d.Messages.Load()), Labels: labels},
			telemetry.Own{Name: "blip_frames_total", Help: "Frames, without acknowledgements.", Counter: true, Value: float64(d.Frames.Load()), Labels: labels},
			telemetry.Own{Name: "blip_wire_bytes_total", Help: "Bytes of frames, acknowledgements too.", Counter: true, Value: float64(d.WireBytes.Load()), Labels: labels},
			telemetry.Own{Name: "blip_raw_bytes_total", Help: "Bytes of frames before compression.", Counter: true, Value: float64(d.RawBytes.Load()), Labels: labels},
		)
	}
	return own
}
