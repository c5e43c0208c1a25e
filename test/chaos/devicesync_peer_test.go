package chaos

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/tidegate/tidegate/internal/store/pgstore/pgtest"
)

// syncAction acts on the gateway's device sync.
func (g *gateway) syncAction(action string, config map[string]any) {
	g.t.Helper()
	body := map[string]any{"action": action}
	if config != nil {
		body["config"] = config
	}
	if action == "terminate" {
		body["confirm"] = "Terminate Sync"
	}
	mustCall(g.t, http.MethodPost, g.url("/_device_sync"), body)
}

// has is nil if the gateway has a document, or with want false if it has none.
func (g *gateway) has(id string, want bool) error {
	code, err := call(http.MethodGet, g.url("/"+id), nil, nil)
	if err == nil && (code == http.StatusOK) != want {
		err = fmt.Errorf("GET %s: status %d", id, code)
	}
	return err
}

func (g *gateway) remove(id, rev string) {
	g.t.Helper()
	mustCall(g.t, http.MethodDelete, g.url("/"+id+"?rev="+rev), nil)
}

// TestD33GatewayPeer has a gateway replicate with another one, whose device sync is paused and terminated. A pause is none of its business,
// unless pause_peers says so; a termination ends it, and afterwards it starts over by itself: edits and deletions of both sides
// arrive, nothing that was deleted comes back, and nothing that is the same travels again.
func TestD33GatewayPeer(t *testing.T) {
	a, b := startGateway(t, "a"), startGateway(t, "b")
	revs := map[string]string{}
	for _, g := range []*gateway{a, b} {
		g.database(map[string]any{"sync": "function (doc) { channel(doc.channels); }"})
	}
	for i := range 100 {
		id := fmt.Sprintf("doc-%03d", i)
		revs[id] = a.put(id, map[string]any{"n": i})
	}
	a.replicate("ab", b.link(), "pushAndPull", map[string]any{"max_backoff_time": 1})
	eventually(t, "both have the same", func() error { return equal(a, b) })

	b.syncAction("pause", nil)
	a.put("during-the-pause", map[string]any{})
	eventually(t, "a peer goes on while devices are paused", func() error { return b.has("during-the-pause", true) })
	b.syncAction("configure", map[string]any{"pause_peers": true})
	eventually(t, "the peer is refused, too", func() error { return a.is("ab", "reconnecting") })
	a.put("held-back", map[string]any{})
	b.put("held-back-too", map[string]any{})
	if err := errors.Join(b.has("held-back", false), a.has("held-back-too", false)); err != nil {
		t.Error(err)
	}
	b.syncAction("resume", nil)
	eventually(t, "the peer goes on after the resume", func() error { return errors.Join(a.has("held-back-too", true), equal(a, b)) })

	before, err := a.status("ab")
	if err != nil {
		t.Fatal(err)
	}
	b.syncAction("terminate", nil)
	eventually(t, "sync is terminated", func() error {
		if rec := readSync(t, b.process()); rec.State != "" || rec.Phase != "steady" {
			return fmt.Errorf("%+v", rec)
		}
		return a.is("ab", "reconnecting")
	})
	a.put("doc-000", map[string]any{"_rev": revs["doc-000"], "edited": "at a"})
	b.put("doc-001", map[string]any{"_rev": revs["doc-001"], "edited": "at b"})
	a.remove("doc-002", revs["doc-002"])
	b.remove("doc-003", revs["doc-003"])
	a.put("new-at-a", map[string]any{})
	b.put("new-at-b", map[string]any{})
	b.syncAction("enable", map[string]any{"database_name": db})
	eventually(t, "the peer starts over after the termination", func() error {
		return errors.Join(equal(a, b), b.has("new-at-a", true), a.has("new-at-b", true), a.has("doc-003", false), b.has("doc-002", false))
	})
	after, err := a.status("ab")
	if err != nil {
		t.Fatal(err)
	}
	if read, written := after.Read-before.Read, after.Written-before.Written; read > 3 || written > 3 || after.Failures > 0 {
		t.Errorf("%d documents were read and %d written, of 3 each: %+v", read, written, after)
	}
}

// TestD41PauseOutlivesItsNode pauses device sync at a process on a PostgreSQL server, which is killed. Another node refuses devices too,
// resumes, and lets them go on where they were.
func TestD41PauseOutlivesItsNode(t *testing.T) {
	server, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	key := secretsKey(t)
	open := func() *process {
		return start(t, t.TempDir(), "--store", server.URL(), "--takeover-after", "1s", "--secrets-key-file", key)
	}
	p := open()
	mustCall(t, http.MethodPut, p.admin+"/"+db+"/", map[string]any{"sync": "function (doc) { channel(doc.channels); }"})
	mustCall(t, http.MethodPut, p.admin+"/"+db+"/_user/GUEST", map[string]any{"disabled": false, "admin_channels": []string{"a"}})
	mustCall(t, http.MethodPut, p.admin+"/"+db+"/one", map[string]any{"channels": []string{"a"}})
	feed := func(p *process, since any) (code int, last any, first string) {
		var page struct {
			Results []struct{ ID string }
			Last    any `json:"last_seq"`
		}
		code, err := call(http.MethodGet, fmt.Sprintf("%s/%s/_changes?since=%v", p.public, db, since), nil, &page)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Results) > 0 {
			first = page.Results[0].ID
		}
		return code, page.Last, first
	}
	code, since, _ := feed(p, 0)
	if code != http.StatusOK {
		t.Fatalf("_changes: %d", code)
	}
	epoch := readSync(t, p).Epoch
	tidegate(t, "device-sync", "pause", "--db", db, "-y", "--admin", p.admin)
	mustCall(t, http.MethodPut, p.admin+"/"+db+"/two", map[string]any{"channels": []string{"a"}})
	p.kill()

	p = open()
	if code, _, _ := feed(p, since); code != http.StatusServiceUnavailable {
		t.Errorf("_changes at the other node while paused: %d", code)
	}
	tidegate(t, "device-sync", "enable", "--db", db, "-y", "--admin", p.admin)
	if code, _, first := feed(p, since); code != http.StatusOK || first != "two" {
		t.Errorf("_changes after the resume: %d, %q", code, first)
	}
	if now := readSync(t, p).Epoch; now != epoch {
		t.Errorf("epoch %+v, before %+v", now, epoch)
	}
	// A termination that the next node finishes.
	tidegate(t, "device-sync", "terminate", "--db", db, "--confirm", "Terminate Sync", "--admin", p.admin)
	p.kill()
	p = open()
	if rec := terminationEnds(t, p); rec.Epoch.No != epoch.No+1 {
		t.Errorf("after the termination: %+v", rec)
	}
	if code, err := call(http.MethodGet, p.admin+"/"+db+"/two", nil, nil); err != nil || code != http.StatusOK {
		t.Errorf("a document after the termination: %d, %v", code, err)
	}
	p.stop()
	fsck(t, "--store", server.URL())
}
