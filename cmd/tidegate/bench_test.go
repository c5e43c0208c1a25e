package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/tidegate/tidegate/internal/bench"
)

// TestBenchMeasuresReplication runs the replications of the load tool, which check what comes, against a gateway.
func TestBenchMeasuresReplication(t *testing.T) {
	p := startServe(t, "--data", t.TempDir())
	for _, version := range []string{"3", "4"} {
		var out bytes.Buffer
		errs := newSyncBuffer()
		err := run(t.Context(), []string{"bench", "--url", p.public, "--admin", p.admin, "--metrics", p.metrics, "--db", "v" + version,
			"--only", "blip-push,blip-pull,blip-idle", "--documents", "500", "--replicators", "1,2", "--pullers", "30",
			"--compression", "6", "--unanswered", "50", "--blip-version", version, "--json", "-"}, noEnv, stdio{nil, &out, errs})
		if err != nil {
			t.Fatalf("version %s: %v\n%s", version, err, errs)
		}
		var report bench.Report
		if err := json.Unmarshal(out.Bytes(), &report); err != nil {
			t.Fatal(err)
		}
		var work []string
		var woken []float64
		for _, row := range report.Rows {
			work = append(work, row.Name)
			if strings.HasPrefix(row.Name, "feeds") {
				woken = append(woken, row.Value)
			}
			if row.Value <= 0 || strings.HasPrefix(row.Name, "BLIP pu") && row.Unit == "docs/s" && row.Wire < 100 {
				t.Errorf("version %s: %v", version, row)
			}
		}
		if len(work) != 9 {
			t.Errorf("version %s: got %d rows %q, want 9", version, len(work), work)
		}
		// A feed that has not gone to sleep again when the next write comes is not woken by it.
		if len(woken) != 2 || woken[0] <= 10 || woken[0] > 30 || woken[1] > 10 {
			t.Errorf("version %s: one write woke %v of 30 feeds and of 10", version, woken)
		}
	}
}

// TestBenchMeasuresGateways runs the replications between gateways of the load tool, with a peer and with itself.
func TestBenchMeasuresGateways(t *testing.T) {
	p, peer := startServe(t, "--data", t.TempDir()), startServe(t, "--data", t.TempDir())
	for name, more := range map[string][]string{"alone": nil, "peer": {"--peer", peer.public, "--peer-admin", peer.admin}} {
		var out bytes.Buffer
		errs := newSyncBuffer()
		err := run(t.Context(), append([]string{"bench", "--url", p.public, "--admin", p.admin, "--db", name,
			"--only", "gateway-pull,gateway-push", "--documents", "300", "--json", "-"}, more...), noEnv, stdio{nil, &out, errs})
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, errs)
		}
		var report bench.Report
		if err := json.Unmarshal(out.Bytes(), &report); err != nil {
			t.Fatal(err)
		}
		if len(report.Rows) != 2 || report.Rows[0].Value <= 0 || report.Rows[1].Value <= 0 {
			t.Errorf("%s: got %v", name, report.Rows)
		}
	}
}
