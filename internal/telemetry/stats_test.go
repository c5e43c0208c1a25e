package telemetry

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

func example() Snapshot {
	return Snapshot{
		Global: map[string]Figures{GroupResources: {"num_goroutines": 12}},
		Databases: []DatabaseFigures{{
			Name: "db",
			Groups: map[string]Figures{
				GroupDatabase:  {"num_doc_writes": 7, "sync_function_count": 8, "public_rest_bytes_written": 9},
				GroupDeltaSync: {"delta_cache_miss": 3},
			},
			Collections: map[string]Figures{"s.c": {"num_doc_reads": 5}},
		}, {Name: "idle"}},
		Own: []Own{{Name: "things_total", Help: "Things.", Counter: true, Value: 4, Labels: [][2]string{{"kind", "x"}}}},
	}
}

func TestEveryKeyIsInBothForms(t *testing.T) {
	b, err := AppendExpvar(nil, example(), []string{"tidegate"})
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		SyncGateway struct {
			Global map[string]map[string]json.Number
			PerDB  map[string]map[string]map[string]any `json:"per_db"`
		}
		Tidegate map[string]float64
	}
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	reg, err := NewRegistry(example)
	if err != nil {
		t.Fatal(err)
	}
	families := gather(t, reg)
	for _, g := range globalGroups() {
		for _, k := range g.keys {
			if _, ok := m.SyncGateway.Global[g.name][k.name]; !ok {
				t.Errorf("_expvar lacks global.%s.%s", g.name, k.name)
			}
			if families["sgw_"+g.subsystem+"_"+k.prom] == nil {
				t.Errorf("/metrics lacks %s.%s", g.name, k.name)
			}
		}
	}
	for _, db := range []string{"db", "idle"} {
		for _, g := range databaseGroups() {
			for _, k := range g.keys {
				if _, ok := m.SyncGateway.PerDB[db][g.name][k.name]; !ok {
					t.Errorf("_expvar lacks %s.%s.%s", db, g.name, k.name)
				}
				if f := families["sgw_"+g.subsystem+"_"+k.prom]; f == nil || len(f.Metric) != 2 {
					t.Errorf("/metrics lacks %s.%s", g.name, k.name)
				}
			}
		}
	}
	for _, path := range [][2]string{{"database", "cache_feed"}, {"database", "import_feed"}, {"cbl_replication_push", "sync_function_count"}} {
		if _, ok := m.SyncGateway.PerDB["db"][path[0]][path[1]]; !ok {
			t.Errorf("_expvar lacks %v", path)
		}
	}
	if m.Tidegate[`things_total{kind="x"}`] != 4 {
		t.Errorf("our own figures: %v", m.Tidegate)
	}
}

func gather(t *testing.T, reg *prometheus.Registry) map[string]*dto.MetricFamily {
	t.Helper()
	all, err := reg.Gather() // it checks names, labels, help and duplicates
	if err != nil {
		t.Fatal(err)
	}
	families := map[string]*dto.MetricFamily{}
	for _, f := range all {
		families[f.GetName()] = f
	}
	return families
}

func TestPrometheusNamesAndKinds(t *testing.T) {
	reg, err := NewRegistry(example)
	if err != nil {
		t.Fatal(err)
	}
	families := gather(t, reg)
	for name, want := range map[string]struct {
		kind  dto.MetricType
		value float64
	}{
		"sgw_up": {dto.MetricType_GAUGE, 1},
		"sgw_resource_utilization_num_goroutines": {dto.MetricType_GAUGE, 12},
		"sgw_database_num_doc_writes":             {dto.MetricType_COUNTER, 7},
		"sgw_database_http_bytes_written":         {dto.MetricType_COUNTER, 9},
		"sgw_delta_sync_delta_sync_miss":          {dto.MetricType_COUNTER, 3},
		"sgw_collection_num_doc_reads":            {dto.MetricType_COUNTER, 5},
		"tidegate_things_total":                   {dto.MetricType_COUNTER, 4},
	} {
		f := families[name]
		if f == nil {
			t.Errorf("%s is missing", name)
			continue
		}
		got := f.Metric[0].GetGauge().GetValue() + f.Metric[0].GetCounter().GetValue()
		if f.GetType() != want.kind || got != want.value {
			t.Errorf("%s: %s %v, want %s %v", name, f.GetType(), got, want.kind, want.value)
		}
	}
	for _, gone := range []string{"sgw_database_public_rest_bytes_written", "sgw_cbl_replication_pull_rev_send_count"} {
		if families[gone] != nil {
			t.Errorf("%s is there", gone)
		}
	}
}

func TestProcessFigures(t *testing.T) {
	f := NewProcess().Figures()
	for _, key := range []string{"go_memstats_heapalloc", "go_memstats_sys", "num_goroutines", "goroutines_high_watermark", "process_memory_resident", "system_memory_total", "uptime"} {
		if f[key] <= 0 {
			t.Errorf("%s is %d", key, f[key])
		}
	}
	known := map[string]bool{}
	for _, k := range globalGroups()[0].keys {
		known[k.name] = true
	}
	for key := range f {
		if !known[key] {
			t.Errorf("%s is no key of the product", key)
		}
	}
}

func TestParseTicks(t *testing.T) {
	for line, want := range map[string][2]uint64{
		"cpu  10 1 5 100 4 0 2 3 7 9\n": {21, 125}, // guest times are part of user times
		"cpu  1 2 3 4 5\n":              {6, 15},
		"cpu  1 2 3 x 5\n":              {0, 0},
		"intr 1 2 3 4 5 6\n":            {0, 0},
		"":                              {0, 0},
	} {
		if busy, total := parseTicks(line); busy != want[0] || total != want[1] {
			t.Errorf("%q: %d of %d, want %v", line, busy, total, want)
		}
	}
}

func TestLogCounts(t *testing.T) {
	var out bytes.Buffer
	var c LogCounts
	log := c.Count(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn})))
	log.Info("not logged")
	log.Warn("one")
	log.With("a", 1).WithGroup("g").Error("two", "b", 2)
	log.With("a", 1).Warn("three")
	if c.Errors() != 1 || c.Warnings() != 2 {
		t.Errorf("%d errors, %d warnings", c.Errors(), c.Warnings())
	}
	if got := strings.Count(out.String(), "\n"); got != 3 || !strings.Contains(out.String(), "a=1 g.b=2") {
		t.Errorf("passed on: %s", out.String())
	}
}
