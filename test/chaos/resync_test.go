package chaos

import (
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var resyncDocs = flag.Int("resync-docs", 50_000, "documents that are resynced")

// resyncState is the answer of _resync.
type resyncState struct {
	Status    string
	ID        string `json:"resync_id"`
	Processed int    `json:"docs_processed"`
	Changed   int    `json:"docs_changed"`
	Total     int    `json:"docs_total"`
	Changes   *int
	Error     string `json:"last_error"`
}

// resyncOf asks a URL of a resync.
func resyncOf(t *testing.T, method, url string, body any) resyncState {
	t.Helper()
	var s resyncState
	if status, err := call(method, url, body, &s); err != nil || status != http.StatusOK {
		t.Fatalf("%s %s: status %d: %v", method, url, status, err)
	}
	return s
}

// pollResync asks for the status until it is as it should be.
func pollResync(t *testing.T, url string, until func(resyncState) bool) resyncState {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(5 * time.Minute)
	for {
		s := resyncOf(t, http.MethodGet, url, nil)
		if until(s) {
			return s
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("the resync does not get on: %+v", s)
		}
	}
}

func ended(s resyncState) bool { return s.Status != "running" && s.Status != "stopping" }

// loadDocs writes n small documents, 1,000 at a time. more adds members to the i-th.
func loadDocs(t *testing.T, p *process, n int, more func(i int, doc map[string]any)) {
	t.Helper()
	for at := 0; at < n; at += 1000 {
		docs := make([]map[string]any, 0, 1000)
		for i := at; i < min(at+1000, n); i++ {
			doc := map[string]any{"_id": fmt.Sprintf("doc-%07d", i), "n": i}
			more(i, doc)
			docs = append(docs, doc)
		}
		mustCall(t, http.MethodPost, p.admin+"/"+db+"/_bulk_docs", map[string]any{"docs": docs})
	}
}

// seedConfig writes a config file whose sync function puts each document into one of ten channels whose names begin with
// letter.
func seedConfig(t *testing.T, path, letter string) {
	t.Helper()
	file := fmt.Sprintf(`{"databases": {%q: {"sync": "function (doc) { channel('%s' + (doc.n %% 10)); }", "users": {
		"old": {"password": "letmein", "admin_channels": ["a3"]}, "new": {"password": "letmein", "admin_channels": ["b3"]}}}}}`, db, letter)
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestSeedResync walks the six steps of the seed (resync.md §3.1) with a config file, and kills the gateway half-way.
func TestSeedResync(t *testing.T) {
	data, n := t.TempDir(), *resyncDocs
	file := filepath.Join(t.TempDir(), "tidegate.json")
	seedConfig(t, file, "a")
	p := start(t, data, "--config", file)
	loadDocs(t, p, n, func(int, map[string]any) {})
	old, new := "old", "new"
	wantSeen(t, p, old, n/10)
	wantSeen(t, p, new, 0)

	// 1. Update the configuration file. 2. Restart.
	seedConfig(t, file, "b")
	if code := p.stop(); code != 0 {
		t.Fatalf("exit code %d\n%s", code, p.log)
	}
	p = start(t, data, "--config", file)
	wantState(t, p, "Online")
	wantSeen(t, p, old, n/10) // the new function changes nothing for what is stored

	// 3. Take the database offline. 4. Resync, under the seed's spelling.
	mustCall(t, http.MethodPost, p.admin+"/"+db+"/_offline", nil)
	began := time.Now()
	first := resyncOf(t, http.MethodPost, p.admin+"/"+db+"/resync", nil)
	if first.Status != "running" || first.Total != n {
		t.Fatalf("started: %+v", first)
	}
	half := pollResync(t, p.admin+"/"+db+"/resync", func(s resyncState) bool { return s.Processed >= n/3 })
	p.kill()
	if half.Processed >= n {
		t.Fatalf("it had ended before it was killed: %+v", half)
	}
	fsck(t, "--data", data)
	p = start(t, data, "--config", file)
	wantState(t, p, "Offline")
	if s := resyncOf(t, http.MethodGet, p.admin+"/"+db+"/resync", nil); s.Status != "stopped" || s.ID != first.ID || s.Processed < half.Processed {
		t.Fatalf("after the crash: %+v, before it %+v", s, half)
	}

	// It goes on. 5. Monitor the status; the message body has the number of changes.
	again := resyncOf(t, http.MethodPost, p.admin+"/"+db+"/resync", nil)
	end := pollResync(t, p.admin+"/"+db+"/resync", ended)
	if again.ID != first.ID || end.Status != "completed" || end.ID != first.ID || end.Processed != n || end.Changes == nil || *end.Changes != n {
		t.Fatalf("end: %+v", end)
	}
	t.Logf("%d documents in %s, a crash and a restart included", n, time.Since(began).Round(time.Millisecond))
	wantState(t, p, "Offline") // never online by itself

	// 6. Bring the database back online.
	mustCall(t, http.MethodPost, p.admin+"/"+db+"/_online?wait=true", nil)
	wantState(t, p, "Online")
	wantSeen(t, p, new, n/10)
	wantSeen(t, p, old, 0)
	if s := resyncOf(t, http.MethodGet, p.admin+"/"+db+"/_resync", nil); s.ID != first.ID || s.Changed != n {
		t.Errorf("online again: %+v", s)
	}
	if code := p.stop(); code != 0 {
		t.Fatalf("exit code %d\n%s", code, p.log)
	}
	fsck(t, "--data", data)
}

func wantState(t *testing.T, p *process, want string) {
	t.Helper()
	var info struct{ State string }
	if status, err := call(http.MethodGet, p.admin+"/"+db+"/", nil, &info); err != nil || info.State != want {
		t.Fatalf("state %q, want %s (status %d, %v)\n%s", info.State, want, status, err, p.log)
	}
}

// wantSeen counts the documents that a user's feed has, from the beginning.
func wantSeen(t *testing.T, p *process, user string, want int) {
	t.Helper()
	var page struct {
		Results []struct{ ID string }
	}
	u, err := url.Parse(p.public + "/" + db + "/_changes?since=0&active_only=true")
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, "letmein")
	if status, err := call(http.MethodGet, u.String(), nil, &page); err != nil || status != http.StatusOK {
		t.Fatalf("_changes of %s: status %d: %v", user, status, err)
	}
	seen := 0
	for _, e := range page.Results {
		if e.ID[0] != '_' { // not the user itself
			seen++
		}
	}
	if seen != want {
		t.Fatalf("%s sees %d documents, want %d", user, seen, want)
	}
}
