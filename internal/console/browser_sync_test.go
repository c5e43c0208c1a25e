package console_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
)

// syncSite is a site with the database "todo", drafts disabled unless with says so, and a window that is logged in on its Device
// Sync page.
func syncSite(t *testing.T, drafts bool) (*site, *window, appIDs) {
	t.Helper()
	s := newSite(t)
	s.do("PUT", "/todo/", "{}")
	ids := s.app("todo")
	if !drafts {
		s.doApps("PATCH", ids.path()+"/deploy/config", `{"ui_drafts_disabled":true}`)
	}
	b := newBrowser(t, s)
	b.login()
	b.open("/db/todo/sync")
	b.waitAt(ids.path() + "/sync")
	return s, b, ids
}

// appIDs are the ids of an app and of its data source.
type appIDs struct{ group, app, service string }

func (i appIDs) path() string { return "/groups/" + i.group + "/apps/" + i.app }

func (i appIDs) config() string { return i.path() + "/services/" + i.service + "/config" }

// doApps calls the App Services API as its owner, without a draft's origin.
func (s *site) doApps(method, path, body string) string {
	s.t.Helper()
	return s.call(s.appsAsOwner(), method, "/api/admin/v3.0"+path, body)
}

// app finds the app of a database.
func (s *site) app(database string) appIDs {
	s.t.Helper()
	var profile struct {
		Roles []struct {
			Group string `json:"group_id"`
		} `json:"roles"`
	}
	s.parse(s.doApps("GET", "/auth/profile", ""), &profile)
	group := profile.Roles[0].Group
	var apps []struct {
		ID       string `json:"_id"`
		Database string `json:"database"`
	}
	s.parse(s.doApps("GET", "/groups/"+group+"/apps", ""), &apps)
	for _, a := range apps {
		if a.Database != database {
			continue
		}
		var services []struct {
			ID string `json:"_id"`
		}
		s.parse(s.doApps("GET", "/groups/"+group+"/apps/"+a.ID+"/services", ""), &services)
		return appIDs{group, a.ID, services[0].ID}
	}
	s.t.Fatal("no app for", database)
	return appIDs{}
}

func (s *site) parse(text string, into any) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		s.t.Fatal(err, text)
	}
}

// liveState is what sync/state answers.
func (s *site) liveState(i appIDs) string {
	s.t.Helper()
	var got struct{ State string }
	s.parse(s.doApps("GET", i.path()+"/sync/state", ""), &got)
	return got.State
}

func TestBrowserD17PauseSync(t *testing.T) {
	t.Parallel()
	s, b, ids := syncSite(t, false)
	b.waitState("Sync on")
	b.shoot("sync-enabled")

	// Cancel changes nothing.
	b.click("[data-testid=pause-sync]")
	b.waitVisible("[data-testid=pause-confirm]")
	b.waitText("#pause", "Pause sync of todo?")
	b.waitText("#pause", "720 hours")
	b.shoot("sync-pause-dialog")
	b.click("[data-testid=pause-cancel]")
	b.waitHidden("[data-testid=pause-confirm]")
	if got := s.liveState(ids); got != "enabled" {
		t.Fatalf("state after cancelling: %q", got)
	}

	// By keyboard alone: open, step to the button, press it.
	b.focus("[data-testid=pause-sync]")
	b.press(kb.Enter)
	b.waitVisible("[data-testid=pause-confirm]")
	b.waitFocus("[data-testid=pause-cancel]")
	b.press(kb.Tab)
	b.waitFocus("[data-testid=pause-confirm]")
	b.press(kb.Enter)
	b.waitState("Paused")
	b.waitText(".toast", "Device sync is paused")
	b.waitText("[data-testid=resume-deadline]", "can be resumed until")
	b.waitText(".facts", "by admin")
	if got := s.liveState(ids); got != "disabled" {
		t.Fatalf("state after pausing: %q", got)
	}
	b.clearToasts()
	b.shoot("sync-paused")
}

func TestBrowserD20ResumeWithoutConfiguration(t *testing.T) {
	t.Parallel()
	s, b, ids := syncSite(t, false)
	before := s.doApps("GET", ids.config(), "")
	s.doApps("PATCH", ids.config(), `{"flexible_sync":{"state":"disabled"}}`)
	b.waitState("Paused") // by itself
	b.waitHidden("[data-testid=enable-guide]")
	b.click("[data-testid=enable-sync]")
	b.waitVisible("[data-testid=enable-confirm]")
	b.press(escapeKey)
	b.waitHidden("[data-testid=enable-confirm]")
	b.click("[data-testid=enable-sync]")
	b.click("[data-testid=enable-confirm]")
	b.waitState("Sync on")
	after := s.doApps("GET", ids.config(), "")
	strip := func(text string) string {
		var v map[string]map[string]any
		_ = json.Unmarshal([]byte(text), &v)
		return text[:strings.Index(text, `"flexible_sync"`)]
	}
	if strip(before) != strip(after) {
		t.Errorf("the configuration changed: %s, was %s", after, before)
	}
}

func TestBrowserD18TerminateNeedsTheTypedText(t *testing.T) {
	t.Parallel()
	s, b, ids := syncSite(t, false)
	b.click("[data-testid=terminate-sync]")
	b.waitVisible("[data-testid=terminate-text]")
	b.waitFocus("[data-testid=terminate-text]")
	disabled := func() bool {
		return eval[bool](b, `document.querySelector("[data-testid=terminate-confirm]").disabled`)
	}
	for _, text := range []string{"", "terminate sync", "Terminate Sync ", "Terminate"} {
		b.fill("[data-testid=terminate-text]", text)
		if !disabled() {
			t.Errorf("the button is enabled for %q", text)
		}
	}
	b.press(kb.Enter) // sends nothing
	b.fill("[data-testid=terminate-text]", "Terminate Sync")
	if disabled() {
		t.Error("the button is disabled for the exact text")
	}
	b.shoot("sync-terminate-dialog")
	b.click("[data-testid=terminate-cancel]")
	b.waitHidden("[data-testid=terminate-text]")

	// The server checks it too, whatever the page lets through.
	status := b.post(ids.path()+"/sync/terminate", "confirm=terminate+sync")
	if status != 400 {
		t.Errorf("a wrong text is answered with %d", status)
	}
	if got := s.liveState(ids); got != "enabled" {
		t.Fatalf("state after a wrong text: %q", got)
	}

	// By keyboard alone.
	b.focus("[data-testid=terminate-sync]")
	b.press(kb.Enter)
	b.waitFocus("[data-testid=terminate-text]")
	b.press("Terminate Sync")
	b.press(kb.Tab)
	b.press(kb.Tab)
	b.waitFocus("[data-testid=terminate-confirm]")
	b.press(kb.Enter)
	b.waitState("Terminated")
	b.waitVisible("[data-testid=enable-guide]")
	if got := s.liveState(ids); got != "" {
		t.Fatalf("state after terminating: %q", got)
	}
	b.shoot("sync-terminated")
}

func TestBrowserD20GuideAfterTermination(t *testing.T) {
	t.Parallel()
	s, b, ids := syncSite(t, false)
	s.doApps("PATCH", ids.config(), `{"flexible_sync":{"state":""}}`)
	b.waitVisible("[data-testid=enable-guide]")
	// It asks for everything again, empty.
	if got := eval[string](b, `document.querySelector("[data-testid=enable-database]").value`); got != "" {
		t.Errorf("the database is filled in: %q", got)
	}
	b.fill("[data-testid=enable-database]", "nosuch")
	b.fill("[data-testid=history-hours]", "12")
	b.waitHidden("[name=partition_key]")
	b.click("[data-testid=mode-partition]")
	b.waitVisible("[name=partition_key]")
	b.click("[value=flexible]")
	b.click("[data-testid=recovery]")
	b.click("[data-testid=enable-guide] [data-testid=enable-sync]")
	b.waitText("[data-testid=recommendations]", "A short history window")
	b.waitText("[data-testid=recommendations]", "Client recovery is off")
	b.waitText("[data-testid=recommendations]", "No schema")
	b.waitText("[data-testid=recommendations]", "No TLS")
	b.shoot("sync-enable-review")
	b.click("[data-testid=enable-review] [data-testid=enable-confirm]")
	b.waitText("[data-testid=problem]", "this app is that of the database") // refused, and what was typed is still there
	if got := eval[string](b, `document.querySelector("[data-testid=history-hours]").value`); got != "12" {
		t.Errorf("what was typed is lost: %q", got)
	}
	b.fill("[data-testid=enable-database]", "todo")
	b.click("[data-testid=recovery]")
	b.click("[data-testid=enable-guide] [data-testid=enable-sync]")
	b.waitVisible("[data-testid=enable-review]")
	b.click("[data-testid=enable-back]")
	b.waitVisible("[data-testid=enable-guide]")
	b.fill("[data-testid=history-hours]", "72")
	b.enableGuided()
	b.waitState("Sync on")
	b.waitText(".toast", "Device sync is enabled")
	b.waitText("[data-key=epoch]", "1")
	var cfg struct {
		Sync struct {
			State    string
			Database string `json:"database_name"`
			Hours    int    `json:"change_history_hours"`
			Off      bool   `json:"is_recovery_mode_disabled"`
		} `json:"flexible_sync"`
	}
	s.parse(s.doApps("GET", ids.config(), ""), &cfg)
	if cfg.Sync.State != "enabled" || cfg.Sync.Database != "todo" || cfg.Sync.Hours != 72 || cfg.Sync.Off {
		t.Errorf("configured as %+v", cfg.Sync)
	}
}
