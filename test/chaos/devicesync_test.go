package chaos

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"testing"
)

var terminations = flag.Int("terminations", 6, "how often the gateway is killed during a termination")

// syncRecord is what the gateway says of device sync.
type syncRecord struct {
	State       string
	Phase       string
	Epoch       struct{ No, Base uint64 }
	Floor       uint64 `json:"history_floor"`
	Termination *struct{ Step string }
	Ledger      struct{ Rows int }
	Clients     int
}

func readSync(t *testing.T, p *process) (rec syncRecord) {
	t.Helper()
	if code, err := call(http.MethodGet, p.admin+"/"+db+"/_device_sync", nil, &rec); err != nil || code != http.StatusOK {
		t.Fatalf("read device sync: %d, %v\n%s", code, err, p.log)
	}
	return rec
}

// terminationEnds waits for the end of a termination.
func terminationEnds(t *testing.T, p *process) syncRecord {
	t.Helper()
	for range 100_000 {
		if rec := readSync(t, p); rec.State == "" && rec.Phase == "steady" {
			return rec
		}
	}
	t.Fatalf("a termination does not end: %+v", readSync(t, p))
	return syncRecord{}
}

const (
	syncDocs    = 600
	syncDeleted = 200 // of them
)

// TestD40KillDuringTermination kills the gateway with SIGKILL in the middle of a termination, again and again on the same data. Each time
// the next life goes on by itself and ends it: one epoch, every document, every deletion.
func TestD40KillDuringTermination(t *testing.T) {
	data := t.TempDir()
	rnd := rand.New(rand.NewPCG(*seed, 40))
	p := start(t, data)
	mustCall(t, http.MethodPut, p.admin+"/"+db+"/", map[string]any{})
	fillSynced(t, p)
	seen := map[string]int{}
	for round := range *terminations {
		mustCall(t, http.MethodPost, p.admin+"/"+db+"/_device_sync", map[string]any{"action": "terminate", "confirm": "Terminate Sync"})
		step := "(ended)"
		for range rnd.IntN(30) {
			if rec := readSync(t, p); rec.Termination != nil {
				step = rec.Termination.Step
			}
		}
		seen[step]++
		p.kill()
		fsck(t, "--data", data)
		p = start(t, data)
		rec := terminationEnds(t, p)
		if rec.Epoch.No != uint64(round+1) || rec.Floor != rec.Epoch.Base-1 || rec.Clients != 0 {
			t.Fatalf("round %d: %+v", round, rec)
		}
		checkSynced(t, p, rec)
		mustCall(t, http.MethodPost, p.admin+"/"+db+"/_device_sync", map[string]any{"action": "enable", "config": map[string]any{"database_name": db}})
		mustCall(t, http.MethodPut, fmt.Sprintf("%s/%s/_local/app-%d", p.admin, db, round), map[string]any{"last_seq": "1", "session_id": "x"})
	}
	t.Logf("killed at %v", seen)
	p.stop()
	fsck(t, "--data", data)
}

// fillSynced makes documents, and deletes some.
func fillSynced(t *testing.T, p *process) {
	t.Helper()
	docs := make([]map[string]any, syncDocs)
	for i := range docs {
		docs[i] = map[string]any{"_id": fmt.Sprintf("d%04d", i), "n": i}
	}
	var written []struct{ ID, Rev string }
	if code, err := call(http.MethodPost, p.admin+"/"+db+"/_bulk_docs", map[string]any{"docs": docs}, &written); err != nil || code != http.StatusCreated {
		t.Fatal(code, err)
	}
	gone := make([]map[string]any, syncDeleted)
	for i := range gone {
		gone[i] = map[string]any{"_id": written[i].ID, "_rev": written[i].Rev, "_deleted": true}
	}
	mustCall(t, http.MethodPost, p.admin+"/"+db+"/_bulk_docs", map[string]any{"docs": gone})
}

// checkSynced looks for all documents and all deletions.
func checkSynced(t *testing.T, p *process, rec syncRecord) {
	t.Helper()
	var all struct{ Rows []struct{ ID string } }
	if code, err := call(http.MethodGet, p.admin+"/"+db+"/_all_docs", nil, &all); err != nil || code != http.StatusOK || len(all.Rows) != syncDocs-syncDeleted {
		t.Fatalf("%d documents, %d, %v", len(all.Rows), code, err)
	}
	if rec.Ledger.Rows != syncDeleted {
		t.Fatalf("%d deletions are remembered, want %d", rec.Ledger.Rows, syncDeleted)
	}
}

// A restored backup begins a new epoch in every database, and a copy that goes on beside the original has other ids.
func TestD36RestoreBeginsAnEpoch(t *testing.T) {
	data, file := t.TempDir(), filepath.Join(t.TempDir(), "backup")
	p := start(t, data)
	mustCall(t, http.MethodPut, p.admin+"/"+db+"/", map[string]any{})
	fillSynced(t, p)
	tidegate(t, "backup", file, "--admin", p.admin)
	info := func(p *process) (d struct {
		Epoch  string `json:"sync_epoch"`
		Server string `json:"server_uuid"`
		Seq    uint64 `json:"update_seq"`
	}) {
		t.Helper()
		if code, err := call(http.MethodGet, p.admin+"/"+db+"/", nil, &d); err != nil || code != http.StatusOK {
			t.Fatal(code, err)
		}
		return d
	}
	before := info(p)
	for _, more := range [][]string{nil, {"--as-new"}} {
		restored := filepath.Join(t.TempDir(), "restored")
		tidegate(t, append([]string{"restore", file, "--data", restored}, more...)...)
		fsck(t, "--data", restored)
		q := start(t, restored)
		after, rec := info(q), readSync(t, q)
		if after.Epoch == before.Epoch || after.Seq != rec.Epoch.Base || rec.Floor != rec.Epoch.Base-1 || (after.Server == before.Server) != (more == nil) {
			t.Errorf("%v: %+v, before %+v, %+v", more, after, before, rec)
		}
		q.stop()
	}
}
