package console_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestBrowserClientsAndSessions(t *testing.T) {
	t.Parallel()
	s, b, ids := syncSite(t, false)
	b.click(`.tabs a[href$="/sync/clients"]`)
	b.waitText("#session-rows", "Nobody is connected")
	b.waitText("main", "No client has synced yet")
	b.shoot("clients-empty")

	// A feed that is open, and a checkpoint that is written, show by themselves or when the page is opened again.
	s.do("PUT", "/todo/_local/pouch-1", `{"last_seq":0,"session_id":"s","history":[]}`)
	server := httptest.NewServer(s.admin)
	defer server.Close()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/todo/_changes?feed=continuous&heartbeat=30000", nil)
	if err != nil {
		t.Fatal(err)
	}
	feed, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Body.Close()
	b.waitText("[data-testid=sessions]", "Changes feed")
	b.waitText("[data-testid=sessions]", "127.0.0.1")
	b.open(ids.path() + "/sync/clients")
	b.waitText("[data-testid=clients]", "pouch-1")
	b.waitText("[data-testid=clients]", "CouchDB")
	b.shoot("clients")

	b.click("[data-testid=reset-client]")
	b.waitText("#reset-client-title", "Reset client 1?")
	b.press(escapeKey)
	b.click("[data-testid=reset-client]")
	b.click("[data-testid=reset-client-confirm]")
	b.waitText(".toast", "resets at its next connection")
	b.waitText("[data-testid=reset-state]", "resets at its next connection")
	b.open(ids.path() + "/sync")
	b.waitText("[data-testid=pending]", "1")
	b.waitText("[data-testid=clients]", "1")
	b.waitText("#terminate [data-key=clients]", "1")
	b.waitText("#terminate [data-show=anyClients]:not([hidden])", "All of them have to reset")
	b.open(ids.path() + "/sync/clients?state=done")
	b.waitText("main", "No client in this state")

	leave()
	b.open(ids.path() + "/sync/clients")
	b.waitText("#session-rows", "Nobody is connected")

	// Everybody at once.
	b.open(ids.path() + "/sync")
	b.click("[data-testid=reset-all]")
	b.fill("[data-testid=reset-all-text]", "Reset All Clients")
	b.click("[data-testid=reset-all-confirm]")
	b.waitText(".toast", "new epoch")
	b.waitText("[data-key=epoch]", "1")
	b.click("[data-testid=trim]")
	b.waitText(".toast", "trim")
	if status := b.post(ids.path()+"/sync/reset-all", "confirm=yes"); status != http.StatusBadRequest {
		t.Errorf("a wrong text is answered with %d", status)
	}
}

func TestBrowserD38QuarantineRestore(t *testing.T) {
	t.Parallel()
	s, b, ids := syncSite(t, false)
	b.click(`.tabs a[href$="/sync/quarantine"]`)
	b.waitText("[data-testid=empty]", "Nothing is in quarantine")
	s.do("PUT", "/todo/milk", `{"text":"buy milk","done":false,"price":1.50}`)
	s.do("POST", "/todo/_sync/unsynced", `{"client":"c1","docs":[{"_id":"milk","_rev":"1-abc","text":"buy milk","done":true,"price":1.50},{"_id":"bread","_rev":"1-def","text":"bread"}]}`)
	b.open(ids.path() + "/sync/quarantine")
	b.waitText("[data-testid=quarantine]", "Handed in by an app")
	b.waitText("[data-testid=quarantine]", "_default._default")
	b.shoot("quarantine")
	b.click("[data-testid=quarantine] tbody tr a")
	b.waitText("h1", "milk")
	b.waitText("[data-testid=quarantine-diff] .del", `"done": false`)
	b.waitText("[data-testid=quarantine-diff] .add", `"done": true`)
	b.waitText("[data-testid=quarantine-diff]", `1.50`) // digits as they were written
	b.shoot("quarantined")
	b.click("[data-testid=restore]")
	b.click("[data-testid=restore-confirm]")
	b.waitText(".toast", "restored")
	if doc := s.do("GET", "/todo/milk", ""); !strings.Contains(doc, `"done":true`) {
		t.Errorf("the document is %s", doc)
	}
	b.click("[data-testid=quarantine] tbody tr a")
	b.waitText("h1", "bread")
	b.waitText(".facts", "there is no such document")
	at := eval[string](b, `location.pathname`)
	b.click("[data-testid=drop]")
	b.click("[data-testid=drop-confirm]")
	b.waitText(".toast", "dropped")
	b.waitText("[data-testid=empty]", "Nothing is in quarantine")
	b.open(strings.TrimPrefix(at, "/_console"))
	b.waitText("[data-testid=error-page]", "Not in quarantine")
}

func TestBrowserSyncFailsSessionAndServerGo(t *testing.T) {
	t.Parallel()
	s, b, _ := syncSite(t, false)
	s.do("PUT", "/other/", `{"scopes":{"s":{"collections":{"a":{},"b":{}}}}}`)
	ids := s.app("other")
	s.doApps("PATCH", ids.path()+"/deploy/config", `{"ui_drafts_disabled":true}`)
	s.doApps("PATCH", ids.config(), `{"flexible_sync":{"client_max_offline_days":30}}`)
	b.open(ids.path() + "/sync")
	b.waitState("Sync on")
	s.do("PUT", "/other/_config?allow_destructive_changes=true", `{"scopes":{"s":{"collections":{"a":{}}}}}`)
	b.waitState("Error") // by itself
	b.waitText("[data-testid=sync-error]", "have been dropped: s.b")
	b.waitText("[data-testid=must-terminate]", "Terminate sync, then enable it again")
	b.waitHidden("[data-testid=pause-sync]")
	b.waitHidden("[data-testid=trim]")
	b.shoot("sync-error")

	// The server goes away under an open dialog, and comes back: nothing is lost, nothing happened.
	b.click("[data-testid=terminate-sync]")
	b.fill("[data-testid=terminate-text]", "Terminate Sync")
	s.stop()
	b.click("[data-testid=terminate-confirm]")
	b.waitFor("body.is-gone")
	s.start(s.address)
	b.waitFor("body:not(.is-gone)")
	if got := eval[string](b, `document.querySelector("[data-testid=terminate-text]").value`); got != "Terminate Sync" {
		t.Errorf("what was typed is lost: %q", got)
	}
	if got := s.liveState(ids); got != "enabled" {
		t.Errorf("sync was terminated without the server being there: %q", got)
	}

	// The session ends: the login leads back to the page.
	s.clock.forward(s.sessionIdle())
	b.waitVisible("[data-testid=session-ended]")
	b.fill("[name=name]", "admin")
	b.fill("[name=secret]", "correct horse")
	b.click("[data-testid=login]")
	b.waitAt(ids.path() + "/sync")
	b.waitState("Error")

	b.open("/groups/" + ids.group + "/apps/000000000000000000000000/sync")
	b.waitText("[data-testid=error-page]", "Not found")
	b.open(ids.path() + "/logs?errors_only=1")
	b.waitText("[data-testid=empty]", "Nothing is logged")
	b.open(ids.path() + "/logs")
	b.waitText("[data-testid=sync-log]", "PATCH")
	b.shoot("sync-log")
}

func TestBrowserSyncForReaders(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.do("PUT", "/world/", "{}")
	ids := s.app("world")
	b := newBrowser(t, s)
	b.loginAs("reader", "only looking")
	b.open("/db/world/sync")
	b.waitState("Sync on")
	for _, id := range []string{"pause-sync", "terminate-sync", "reset-all", "trim"} {
		if eval[bool](b, `!!document.querySelector("[data-testid=`+id+`]")`) {
			t.Errorf("a reader has the button %s", id)
		}
	}
	b.post(ids.path()+"/sync/pause", "")
	if got := s.liveState(ids); got != "enabled" {
		t.Fatalf("a reader has paused sync: %q", got)
	}
	// An app can be deleted; its database stays, and says so.
	s.doApps("DELETE", ids.path(), "")
	b.open("/db/world/sync")
	b.waitText("[data-testid=error-page]", "No app is bound to this database")
	// Who administers one database has no role in an app, and stays logged in.
	other := newBrowser(t, s)
	other.loginAsOnly("worlds", "one database")
	other.open("/db/world/sync")
	other.waitText("[data-testid=error-page]", "You may not do this")
	other.open("/db/world/replications")
	other.waitText("h1", "Replications")
}

// Every page can be used by ear: nothing to press or fill in is without a name, no id is there twice, headings are in order.
func TestBrowserSyncPagesByEar(t *testing.T) {
	t.Parallel()
	s, b, ids := syncSite(t, true)
	s.do("PUT", "/todo/_replication/r1", `{"remote":"http://127.0.0.1:1/db","direction":"push","initial_state":"stopped"}`)
	s.do("PUT", "/todo/_local/pouch-1", `{"last_seq":0,"session_id":"s","history":[]}`)
	b.click("[data-testid=pause-sync]")
	b.click("[data-testid=pause-confirm]")
	b.waitVisible("[data-testid=draft-banner]")
	for _, path := range []string{
		ids.path() + "/sync", ids.path() + "/sync/config", ids.path() + "/sync/clients", ids.path() + "/sync/quarantine", ids.path() + "/logs",
		ids.path() + "/deploy", ids.path() + "/services", ids.config(), "/apps", "/db/todo/replications", "/db/todo/replication?id=r1",
		"/db/todo/replication/new", "/db/todo/replication/edit?id=r1", "/db/todo/resync",
	} {
		b.open(path)
		b.waitFor("main h1")
		if found := eval[string](b, byEar); found != "" {
			t.Errorf("%s: %s", path, found)
		}
	}
}

// byEar is a script that returns what is wrong with a page for who cannot see it.
const byEar = `(() => {
  const wrong = [];
  const say = (what, element) => wrong.push(what + ": " + element.outerHTML.slice(0, 120));
  const seen = new Set();
  for (const e of document.querySelectorAll("[id]")) {
    if (seen.has(e.id)) say("id twice", e);
    seen.add(e.id);
  }
  for (const e of document.querySelectorAll("button, a[href]")) {
    if (!(e.getAttribute("aria-label") || e.textContent).trim()) say("no name", e);
  }
  for (const e of document.querySelectorAll("input:not([type=hidden]), select, textarea")) {
    if (!e.labels.length && !e.getAttribute("aria-label")) say("no label", e);
  }
  for (const e of document.querySelectorAll("[aria-labelledby], [aria-controls]")) {
    for (const id of (e.getAttribute("aria-labelledby") || e.getAttribute("aria-controls")).split(" ")) {
      if (!document.getElementById(id)) say("points to nothing", e);
    }
  }
  for (const e of document.querySelectorAll("[data-open]")) {
    if (!document.getElementById(e.dataset.open)) say("opens nothing", e);
  }
  for (const e of document.querySelectorAll("ul > :not(li), ol > :not(li), dl > :not(dt):not(dd):not(div)")) say("in a list", e);
  if (document.querySelectorAll("h1").length != 1) wrong.push("not one h1");
  return wrong.join("; ");
})()`
