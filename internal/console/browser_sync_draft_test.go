package console_test

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"
)

func TestBrowserD19DraftBannerAndDeploy(t *testing.T) {
	t.Parallel()
	s, b, ids := syncSite(t, true)
	b.click("[data-testid=pause-sync]")
	b.click("[data-testid=pause-confirm]")
	// Nothing has happened yet: the live state stands beside the drafted one.
	b.waitVisible("[data-testid=draft-banner]")
	b.waitText("[data-testid=draft-banner]", "Nothing has happened yet")
	b.waitState("Sync on")
	b.waitText("[data-testid=drafted-state]", "Paused")
	if got := s.liveState(ids); got != "enabled" {
		t.Fatalf("a draft has changed what is live: %q", got)
	}
	b.clearToasts()
	b.shoot("sync-draft")

	b.click("[data-testid=discard-draft]")
	b.click("[data-testid=discard-confirm]")
	b.waitText(".toast", "discarded")
	b.waitHidden("[data-testid=draft-banner]")

	b.click("[data-testid=pause-sync]")
	b.click("[data-testid=pause-confirm]")
	b.click("[data-testid=review-draft]")
	b.waitText("[data-testid=draft-diff]", `"disabled"`)
	b.shoot("draft-review")
	b.press(kb.Escape)
	b.waitHidden("[data-testid=draft-diff]")
	b.click("[data-testid=review-draft]")
	b.set("#draft-review [name=name]", "maintenance of the cluster")
	b.click("[data-testid=deploy-draft]")
	b.waitState("Paused")
	b.waitHidden("[data-testid=draft-banner]")
	if got := s.liveState(ids); got != "disabled" {
		t.Fatalf("state after the deployment: %q", got)
	}

	// The history knows it; an older configuration is deployed again without changing the state.
	b.open(ids.path() + "/deploy")
	b.waitText("[data-testid=deployments] tbody tr", "maintenance of the cluster")
	b.waitText("[data-testid=deployments] tbody tr", "admin")
	b.waitText("[data-testid=deployment-status]", "successful")
	b.shoot("deployment")
	b.click("[data-testid=redeploy]")
	b.click("[data-testid=redeploy-confirm]")
	b.waitText(".toast", "in force again")
	if got := s.liveState(ids); got != "disabled" {
		t.Fatalf("state after deploying again: %q", got)
	}
	if kind := eval[string](b, `fetch(document.querySelector("[data-testid=export]").href).then((r) => r.status + " " + r.headers.get("Content-Type") + " " + r.headers.get("Content-Disposition"))`); !strings.HasPrefix(kind, "200 application/zip attachment") {
		t.Errorf("the export is answered with %q", kind)
	}

	// Without drafts a change is in force at once.
	b.click("[data-dismiss]")
	b.waitHidden(".toast")
	b.click("[data-testid=disable-drafts]")
	b.waitVisible("[data-testid=enable-drafts]")
	b.open(ids.path() + "/sync")
	b.click("[data-testid=enable-sync]")
	b.click("[data-testid=enable-confirm]")
	b.waitState("Sync on")
	b.click("[data-dismiss]")
	b.open(ids.path() + "/deploy")
	b.click("[data-testid=enable-drafts]")
	b.waitVisible("[data-testid=disable-drafts]")
}

func TestBrowserD19TerminationInADraft(t *testing.T) {
	t.Parallel()
	s, b, ids := syncSite(t, true)
	terminate := func() {
		b.click("[data-testid=terminate-sync]")
		b.fill("[data-testid=terminate-text]", "Terminate Sync")
		b.click("[data-testid=terminate-confirm]")
		b.waitText("[data-testid=drafted-state]", "Terminated")
	}
	terminate()
	b.waitText("[data-testid=terminate-first]", "cancel out")
	b.waitHidden("[data-testid=enable-guide]")
	if got := s.liveState(ids); got != "enabled" {
		t.Fatalf("a draft has terminated sync: %q", got)
	}
	b.clearToasts()
	b.shoot("sync-draft-terminate")

	// Somebody else's change in between: the draft cannot be deployed, and says so.
	s.doApps("PATCH", ids.config(), `{"flexible_sync":{"client_max_offline_days":9}}`)
	b.click("[data-testid=review-draft]")
	b.click("[data-testid=deploy-draft]")
	b.waitText(".toast.error", "changed after this draft was made")
	b.waitText("[data-testid=draft-notice]", "changed after this draft was made")
	if got := s.liveState(ids); got != "enabled" {
		t.Fatalf("a stale draft was deployed: %q", got)
	}

	// Terminate now, then enable: the draft is thrown away, and a termination deployed.
	b.click("[data-testid=terminate-now]")
	b.fill("[data-testid=terminate-now-text]", "Terminate Sync")
	b.click("[data-testid=terminate-now-confirm]")
	b.waitState("Terminated")
	b.waitVisible("[data-testid=enable-guide]")

	// Enabling goes through a draft, too.
	b.fill("[data-testid=enable-database]", "todo")
	b.enableGuided()
	b.waitText("[data-testid=drafted-state]", "Sync on")
	b.waitHidden("[data-testid=enable-guide]")
	b.click("[data-testid=review-draft]")
	b.click("[data-testid=deploy-draft]")
	b.waitState("Sync on")
	b.waitHidden("[data-testid=draft-banner]")
}

func TestBrowserD21IdsInTheAddress(t *testing.T) {
	t.Parallel()
	_, b, ids := syncSite(t, false)
	b.click(`.nav a[href$="/sources"]`)
	b.waitAt(ids.path() + "/services")
	b.click("[data-testid=source-link]")
	b.waitAt(ids.config())
	at := strings.Split(eval[string](b, `location.pathname`), "/")
	if len(at) != 9 || at[3] != ids.group || at[5] != ids.app || at[7] != ids.service || at[8] != "config" {
		t.Fatalf("the address is %q", at)
	}
	for id, want := range map[string]string{"group": ids.group, "app": ids.app, "service": ids.service} {
		if got := b.text("[data-testid=" + id + "-id]"); got != want {
			t.Errorf("the page shows the %s %q, not %q", id, got, want)
		}
	}
	b.waitText(".nav a[aria-current=page]", "mongodb-atlas")
	b.waitText("[data-testid=source-json]", `"clusterName": "Cluster0"`)
	b.shoot("data-source")

	b.run("choose", chooseOption("[data-testid=read-preference]", "nearest"))
	b.click("[data-testid=save-source]")
	b.waitText(".toast", "saved")
	b.waitText("[data-testid=source-json]", `"readPreference": "nearest"`)
	b.open("/apps")
	b.waitText("[data-testid=apps]", "todo")
	b.waitText("[data-testid=apps] .state", "Sync on")
	b.shoot("apps")
}

func TestBrowserD22AdvancedConfiguration(t *testing.T) {
	t.Parallel()
	s, b, ids := syncSite(t, false)
	b.click(`.tabs a[href$="/sync/config"]`)
	b.waitVisible("[data-testid=save-config]")
	if !eval[bool](b, `document.querySelector("[data-testid=never-trim]").checked`) {
		t.Error("an automatic app never trims; the form says otherwise")
	}
	b.click("[data-testid=never-trim]")
	b.fill("[data-testid=offline-days]", "0")
	b.click("[data-testid=recovery]")
	b.shoot("sync-config")
	b.click("[data-testid=save-config]")
	b.waitVisible("[data-testid=save-confirm]")
	b.click("[data-testid=save-confirm]")
	b.waitText("[data-testid=problem]", "client_max_offline_days")
	b.fill("[data-testid=offline-days]", "many")
	b.click("[data-testid=save-config]")
	b.click("[data-testid=save-confirm]")
	b.waitText("[data-testid=problem]", "no whole number")
	b.fill("[data-testid=offline-days]", "45")
	b.click("[data-testid=save-config]")
	b.click("[data-testid=save-confirm]")
	b.waitText(".toast", "saved")
	var cfg struct {
		Sync struct {
			Days int  `json:"client_max_offline_days"`
			Off  bool `json:"is_recovery_mode_disabled"`
		} `json:"flexible_sync"`
	}
	s.parse(s.doApps("GET", ids.config(), ""), &cfg)
	if cfg.Sync.Days != 45 || !cfg.Sync.Off {
		t.Errorf("configured as %+v", cfg.Sync)
	}
	s.doApps("PATCH", ids.config(), `{"flexible_sync":{"state":""}}`)
	b.open(ids.path() + "/sync/config")
	b.waitText("[data-testid=empty]", "There is no configuration")
}

func TestBrowserD24MustTerminate(t *testing.T) {
	t.Parallel()
	s, b, ids := syncSite(t, false)
	s.doApps("PATCH", ids.config(), `{"flexible_sync":{"change_history_hours":12,"state":"disabled"}}`)
	b.waitText("[data-testid=resume-deadline]", "can be resumed until")
	s.clock.forward(11 * time.Hour)
	b.waitAt("ended=1&next=" + strings.ReplaceAll(ids.path()+"/sync", "/", "%2F")) // the session is over long since
	b.login()
	b.open(ids.path() + "/sync")
	b.waitText("[data-testid=resume-deadline]", "Resume soon")
	b.shoot("sync-deadline")
	s.clock.forward(2 * time.Hour)
	b.waitVisible("[data-testid=login]")
	b.login()
	b.open(ids.path() + "/sync")
	b.waitText("[data-testid=must-terminate]", "cannot be resumed")
	b.waitHidden("[data-testid=enable-sync]")
	b.shoot("sync-must-terminate")
	if page := b.postText(ids.path()+"/sync/resume", ""); !strings.Contains(page, "it must be terminated and enabled again") {
		t.Errorf("a resume that is refused is answered with %s", page)
	}
	if got := s.liveState(ids); got != "disabled" {
		t.Errorf("it was resumed: %q", got)
	}
	b.click("[data-testid=terminate-sync]")
	b.fill("[data-testid=terminate-text]", "Terminate Sync")
	b.click("[data-testid=terminate-confirm]")
	b.waitVisible("[data-testid=enable-guide]")
}

func TestBrowserPartitionMode(t *testing.T) {
	t.Parallel()
	s, b, ids := syncSite(t, false)
	s.doApps("PATCH", ids.config(), `{"flexible_sync":{"state":""}}`)
	b.waitVisible("[data-testid=enable-guide]")
	b.click("[data-testid=mode-partition]")
	b.waitHidden("[name=queryable]")
	b.fill("[data-testid=enable-database]", "todo")
	b.click("[data-testid=enable-guide] [data-testid=enable-sync]")
	b.waitText("[data-testid=problem]", "Partition key")
	b.fill("[name=partition_key]", "owner")
	b.enableGuided()
	b.waitState("Sync on")
	b.click("[data-testid=pause-sync]")
	b.click("[data-testid=pause-confirm]")
	b.waitState("Paused")
	b.click("[data-testid=enable-sync]")
	b.click("[data-testid=enable-confirm]")
	b.waitState("Sync on")
	if cfg := s.doApps("GET", ids.config(), ""); !strings.Contains(cfg, `"key":"owner"`) {
		t.Errorf("the configuration is %s", cfg)
	}
	b.open(ids.path() + "/sync/config")
	b.waitText("[data-testid=empty]", "Partition-based sync")
}
