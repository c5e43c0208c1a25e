package rest

import (
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/tidegate/tidegate/internal/blip"
	"github.com/tidegate/tidegate/internal/telemetry"
)

// Every figure of a replication has a counter, and every counter is one of the product's figures.
func TestReplicationFiguresArePublished(t *testing.T) {
	r := newRig(t, rigOptions{})
	running, err := r.gateway.Database("db")
	if err != nil {
		t.Fatal(err)
	}
	repl := &running.Stats().Replication
	for group, all := range map[string]iter.Seq2[string, int64]{
		telemetry.GroupPull: repl.Pull.All(), telemetry.GroupPush: repl.Push.All(), telemetry.GroupDeltaSync: repl.Delta.All(),
	} {
		got := slices.Sorted(maps.Keys(maps.Collect(all)))
		want := slices.Sorted(slices.Values(telemetry.Keys(group)))
		if len(want) == 0 || !slices.Equal(got, want) {
			t.Errorf("%s:\ngot  %q\nwant %q", group, got, want)
		}
	}
	for name := range repl.Database() {
		if !slices.Contains(telemetry.Keys(telemetry.GroupDatabase), name) {
			t.Errorf("%s is not among the figures of databases", name)
		}
	}
	repl.BytesSent.Store(11)
	repl.Pull.RevsSent.Store(12)
	repl.Pull.NotePending(13)
	repl.Pull.NotePending(5)
	repl.Push.Docs.Store(14)
	repl.Delta.CacheMiss.Store(15)
	repl.StoreQueue.Store(17)
	framing := new(blip.Stats)
	framing.Queued.Store(18)
	framing.Out.WireBytes.Store(19)
	r.server.deps.BLIPStats = framing
	metrics := r.do(r.server.Metrics(), "GET", "/metrics", "").is(200).body
	for _, line := range []string{
		`sgw_database_replication_bytes_sent{database="db"} 11`, `sgw_replication_pull_rev_send_count{database="db"} 12`,
		`sgw_replication_pull_max_pending{database="db"} 13`, `sgw_replication_push_doc_push_count{database="db"} 14`,
		`sgw_delta_sync_delta_sync_miss{database="db"} 15`,
		`tidegate_replication_store_queue{database="db"} 17`, `tidegate_blip_queued_messages 18`,
		`tidegate_blip_wire_bytes_total{direction="in"} 0`, `tidegate_blip_wire_bytes_total{direction="out"} 19`,
	} {
		if !strings.Contains(metrics, "\n"+line+"\n") {
			t.Errorf("/metrics lacks %s", line)
		}
	}
}
