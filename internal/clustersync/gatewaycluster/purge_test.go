package gatewaycluster_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// TestPurgedOnSource: a purge leaves nothing to follow. What is only on the destination is counted by the verifier, with a remedy, and the remedy
// works while writes are blocked.
func TestPurgedOnSource(t *testing.T) {
	a, b := newRig(t), newRig(t)
	a.must("PUT", "/db/", `{}`)
	for _, id := range []string{"kept", "purged", "deleted"} {
		a.must("PUT", "/db/"+id, `{"n":1}`)
	}
	src, dst := a.cluster(), b.cluster()
	users := ns("db", "_default._default")
	copyAll(t, src, dst, users)
	if err := dst.BlockWrites(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	from := mark(t, src)
	purge := `{"purged":["*"]}`
	a.must("POST", "/db/_purge", purge)
	follow(t, src, dst, from, mark(t, src))
	verify := func() clustersync.Report {
		t.Helper()
		r, err := clustersync.Verify(t.Context(), src, dst, clustersync.VerifyOptions{Rounds: 1, Pause: 1})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := verify()
	if r.Equal || r.OnlyDestination != 1 || !strings.Contains(r.String(), "purged on the source") || !strings.Contains(r.Remedy, "Tidegate-Bypass-Write-Block: true") {
		t.Fatalf("after a purge on the source: %+v\n%s", r, r)
	}
	if d := r.Differences; len(d) != 1 || d[0].What != clustersync.ExtraDocument || !strings.Contains(d[0].ID, "purged") {
		t.Errorf("differences %+v", d)
	}
	if err := b.ask(b.admin, "POST", "/db/_purge", purge, nil); err == nil {
		t.Error("a purge passes the write block by itself")
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.admin.URL+"/db/_purge", strings.NewReader(purge))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Tidegate-Bypass-Write-Block", "true")
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("the remedy: %v %v", resp, err)
	}
	_ = resp.Body.Close()
	if r := verify(); !r.Equal || r.Remedy != "" {
		t.Errorf("after the remedy: %s", r)
	}
	// A deletion is no purge: it has a tombstone, which goes over.
	doc := a.must("GET", "/db/deleted", "")
	from = mark(t, src)
	a.must("DELETE", "/db/deleted?rev="+doc["_rev"].(string), "")
	follow(t, src, dst, from, mark(t, src))
	if r := verify(); !r.Equal {
		t.Errorf("after a deletion: %s", r)
	}
}
