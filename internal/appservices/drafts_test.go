package appservices_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/appservices"
	"github.com/tidegate/tidegate/internal/devicesync"
)

// deploy deploys a draft and returns the deployment as it ended.
func (f *fixture) deploy(draft string) map[string]any {
	f.t.Helper()
	made := f.call("POST", f.app+"/drafts/"+draft+"/deployment", nil).want(201)
	if made.text("status") != "created" {
		f.t.Errorf("a new deployment: %s", made.body)
	}
	return f.call("GET", f.app+"/deployments/"+made.text("_id"), nil).want(200).json()
}

func (f *fixture) draft() string {
	f.t.Helper()
	return f.call("POST", f.app+"/drafts", nil).want(201).text("_id")
}

// D12: pause and terminate in a draft do nothing until it is deployed.
func TestD12DraftDoesNothingUntilDeployed(t *testing.T) {
	f := newRig(t, "todo").automatic("todo")
	for _, step := range []struct{ blob, live string }{{"disabled", "enabled"}, {"", "disabled"}} {
		draft := f.draft()
		before := f.live()
		f.patch(seedBlob(step.blob)).want(204)
		f.wantState(step.blob) // the owner sees the draft
		if f.live() != before {
			t.Fatalf("%q in a draft has changed what is live", step.blob)
		}
		if got := f.call("GET", f.app+"/sync/state", nil).want(200).text("state"); got != step.live {
			t.Errorf("sync/state: %q, want %q", got, step.live)
		}
		if d := f.deploy(draft); d["status"] != "successful" || d["draft_id"] != draft || d["origin"] != "Admin API" {
			t.Errorf("deployment: %v", d)
		}
		if got := f.live().Record.State; string(got) != step.blob {
			t.Errorf("deployed %q: %q", step.blob, got)
		}
		f.settled()
		if l := f.call("GET", f.app+"/drafts", nil).want(200).list(); len(l) != 0 {
			t.Errorf("drafts after the deployment: %v", l)
		}
	}
	// What the draft says is checked as what is live is.
	f.draft()
	f.state("disabled").want(400, "InvalidParameter")
	f.state("enabled").want(400, "MissingParameter")
}

// D12: the console's first change makes a draft by itself; API and CLI make none.
func TestD12ConsoleMakesDrafts(t *testing.T) {
	f := newRig(t, "todo").automatic("todo")
	const header, ui = "X-BAAS-Request-Origin", "mongodb-baas-ui"
	f.patch(seedBlob("disabled"), header, "mongodb-baas-cli").want(204)
	if d := f.call("GET", f.app+"/deployments", nil).want(200).list()[0].(map[string]any); d["origin"] != "CLI" || f.live().Record.State != devicesync.Disabled {
		t.Errorf("deployment: %v", d)
	}
	f.patch(seedBlob("enabled"), header, ui).want(204)
	if f.live().Record.State != devicesync.Disabled {
		t.Error("the console's change is live at once")
	}
	drafts := f.call("GET", f.app+"/drafts", nil).want(200).list()
	if len(drafts) != 1 {
		t.Fatalf("drafts: %v", drafts)
	}
	f.call("DELETE", f.app+"/drafts/"+drafts[0].(map[string]any)["_id"].(string), nil).want(204)
	f.call("PATCH", f.app+"/deploy/config", `{"ui_drafts_disabled":true}`).want(204)
	f.patch(seedBlob("enabled"), header, ui).want(204)
	if f.live().Record.State != devicesync.Enabled {
		t.Error("drafts are off, and the change is not live")
	}
	f.call("PUT", f.app+"/deploy/config", `{"ui_drafts_disabled":false}`).want(204)
	f.call("PUT", f.app+"/deploy/config", `{"automatic_deployment":{"enabled":true}}`).want(400)
	f.call("PUT", f.app+"/sync/config", `{"development_mode_enabled":true}`).want(204)
	if c := f.call("GET", f.app+"/deploy/config", nil).want(200).json(); c["ui_drafts_disabled"] != true {
		t.Errorf("in Development Mode: %v", c)
	}
	f.patch(seedBlob("disabled"), header, ui).want(204)
	if f.live().Record.State != devicesync.Disabled {
		t.Error("in Development Mode the change is not live")
	}
}

// D13: terminate and enable within one draft cancel out, and that is said.
func TestD13TerminateAndEnableInOneDraft(t *testing.T) {
	f := newRig(t, "todo").automatic("todo")
	draft, epoch := f.draft(), f.live().Record.Epoch
	f.patch(seedBlob("")).want(204)
	f.patch(seedBlob("enabled")).want(204)
	notices := list(f.call("GET", f.app+"/drafts/"+draft+"/diff", nil).want(200).json()["notices"])
	if len(notices) != 1 || !strings.Contains(notices[0].(string), "cancel out") {
		t.Errorf("the diff says %v", notices)
	}
	made := f.call("POST", f.app+"/drafts/"+draft+"/deployment", `{"name":"again"}`).want(201)
	if !strings.Contains(made.text("notice"), "terminates nothing") {
		t.Errorf("the deployment says %s", made.body)
	}
	if now := f.live().Record; now.Epoch != epoch || now.State != devicesync.Enabled || now.Phase != devicesync.Steady {
		t.Errorf("live: %+v", now)
	}
	// Two deployments do it.
	draft = f.draft()
	f.state("").want(204)
	f.deploy(draft)
	f.settled()
	draft = f.draft()
	f.patch(full("enabled", "todo")).want(204)
	f.deploy(draft)
	if now := f.live().Record; now.Epoch.No != epoch.No+1 || now.State != devicesync.Enabled {
		t.Errorf("live: %+v", now)
	}
}

// D14: one draft for each user; its diff; discarding it; a conflict with what others have deployed meanwhile.
func TestD14DraftExistsDiffDiscardConflict(t *testing.T) {
	f := newRig(t, "todo").automatic("todo")
	draft := f.draft()
	f.call("POST", f.app+"/drafts", nil).want(409, "DraftAlreadyExists")
	empty := f.call("GET", f.app+"/drafts/"+draft+"/diff", nil).want(200).json()
	if len(list(empty["diffs"])) != 0 {
		t.Errorf("the diff of nothing: %v", empty)
	}
	f.patch(map[string]any{"flexible_sync": map[string]any{"client_max_offline_days": 3}}).want(204)
	diffs := list(f.call("GET", f.app+"/drafts/"+draft+"/diff", nil).want(200).json()["diffs"])
	if len(diffs) != 1 || !strings.Contains(diffs[0].(string), "+++ sync/config.json") ||
		!strings.Contains(diffs[0].(string), "\n+    \"client_max_offline_days\": 3,") || !strings.Contains(diffs[0].(string), "\n-    \"client_max_offline_days\": null,") {
		t.Errorf("diffs: %v", diffs)
	}
	f.call("DELETE", f.app+"/drafts/"+draft, nil).want(204)
	f.call("DELETE", f.app+"/drafts/"+draft, nil).want(404, "DraftNotFound")
	if s := f.sync(); s["client_max_offline_days"] != nil {
		t.Errorf("after discarding: %v", s)
	}

	// Another user deploys in between.
	draft = f.draft()
	f.patch(map[string]any{"flexible_sync": map[string]any{"client_max_offline_days": 3}}).want(204)
	key, private, err := f.keys.Create(t.Context(), "other", access.RoleOwner)
	if err != nil {
		t.Fatal(err)
	}
	other := f.as("", "POST", "/auth/providers/mongodb-cloud/login", map[string]string{"username": key.PublicKey, "apiKey": private.Reveal()}).want(200).text("access_token")
	f.as(other, "GET", f.app+"/drafts/"+draft, nil).want(404, "DraftNotFound")
	f.as(other, "PATCH", f.service+"/config", seedBlob("disabled")).want(204)
	f.call("POST", f.app+"/drafts/"+draft+"/deployment", nil).want(409, "DraftConflict")
	notices := list(f.call("GET", f.app+"/drafts/"+draft+"/diff", nil).want(200).json()["notices"])
	if len(notices) != 1 {
		t.Errorf("notices: %v", notices)
	}
	if got := f.call("GET", f.app+"/pull", nil).want(200).json()["sync"].(map[string]any)["config"].(map[string]any); got["client_max_offline_days"] != 3.0 || got["state"] != "enabled" {
		t.Errorf("what the draft holds cannot be exported: %v", got)
	}
	f.call("DELETE", f.app+"/drafts/"+draft, nil).want(204)
	f.wantState("disabled")
}

// A change that did not come through this API makes a draft stale, too.
func TestD14ConflictWithTheGateway(t *testing.T) {
	f := newRig(t, "todo").automatic("todo")
	draft := f.draft()
	f.state("disabled").want(204)
	days := devicesync.Patch{Flexible: &devicesync.Part{Members: map[string]json.RawMessage{"client_max_offline_days": json.RawMessage("4")}}}
	if _, err := f.deviceSync().Apply(t.Context(), devicesync.Change{Patch: days, By: "system"}); err != nil {
		t.Fatal(err)
	}
	f.call("POST", f.app+"/drafts/"+draft+"/deployment", nil).want(409, "DraftConflict")
}

// A deployment that fails says why and changes nothing.
func TestD14FailedDeployment(t *testing.T) {
	f := newRig(t, "todo").automatic("todo")
	f.patch(map[string]any{"flexible_sync": map[string]any{"state": "disabled", "change_history_hours": 12}}).want(204)
	f.settled()
	draft := f.draft()
	f.patch(seedBlob("enabled")).want(204)
	f.clock.advance(13 * time.Hour)
	f.login()
	before := f.live()
	if d := f.deploy(draft); d["status"] != "failed" || !strings.Contains(d["status_error_message"].(string), "terminated") {
		t.Errorf("deployment: %v", d)
	}
	if f.live() != before {
		t.Error("a failed deployment has changed what is live")
	}
	f.call("GET", f.app+"/drafts/"+draft, nil).want(200)
}

// D15: the list of deployments, its parameters, and what is kept.
func TestD15Deployments(t *testing.T) {
	f := newRig(t, "todo").automatic("todo")
	for i := range 30 {
		f.clock.advance(time.Second)
		f.patch(map[string]any{"flexible_sync": map[string]any{"client_max_offline_days": i + 1}}).want(204)
	}
	f.patch(map[string]any{"flexible_sync": map[string]any{"client_max_offline_days": 30}}).want(204) // nothing new
	get := func(query string) []map[string]any {
		var out []map[string]any
		for _, d := range f.call("GET", f.app+"/deployments"+query, nil).want(200).list() {
			out = append(out, d.(map[string]any))
		}
		return out
	}
	newest := get("")
	if len(newest) != 25 || newest[0]["_id"].(string) < newest[24]["_id"].(string) {
		t.Fatalf("%d deployments", len(newest))
	}
	if rest := get("?before=" + newest[24]["_id"].(string)); len(rest) != 5 {
		t.Errorf("%d before the last of the page", len(rest))
	}
	if rest := get(fmt.Sprintf("?before=%d", int64(newest[9]["deployed_at"].(float64)))); len(rest) != 20 {
		t.Errorf("%d before a time", len(rest))
	}
	if n := len(get("?limit=3")); n != 3 {
		t.Errorf("%d with a limit of 3", n)
	}
	if n := len(get("?user_id=" + strings.Repeat("0", 24))); n != 0 {
		t.Errorf("%d of nobody", n)
	}
	f.call("GET", f.app+"/deployments?limit=0", nil).want(400)
	f.call("GET", f.app+"/deployments?before=soon", nil).want(400)

	// Redeploying takes the configuration back, and leaves the state alone.
	f.state("disabled").want(204)
	f.call("POST", f.app+"/deployments/"+newest[20]["_id"].(string)+"/redeploy", nil).want(204)
	if s := f.sync(); s["state"] != "disabled" || s["client_max_offline_days"] != 10.0 {
		t.Errorf("after a redeploy: %v", s)
	}
	f.state("").want(204)
	f.settled()
	f.call("POST", f.app+"/deployments/"+newest[20]["_id"].(string)+"/redeploy", nil).want(204)
	f.wantState("")
	for i := range appservices.MaxDeployments {
		f.call("PATCH", f.service, map[string]string{"name": fmt.Sprint("name", i)}).want(200)
	}
	last := ""
	kept := 0
	for {
		page := get("?before=" + last)
		if len(page) == 0 {
			break
		}
		kept += len(page)
		last = page[len(page)-1]["_id"].(string)
	}
	if kept != appservices.MaxDeployments {
		t.Errorf("%d deployments are kept", kept)
	}
}

// A deployment that a crash interrupted is settled when the server starts.
func TestInterruptedDeployments(t *testing.T) {
	f := newRig(t, "todo").automatic("todo")
	f.patch(map[string]any{"flexible_sync": map[string]any{"client_max_offline_days": 3}}).want(204)
	id := f.call("GET", f.app+"/deployments", nil).want(200).list()[0].(map[string]any)["_id"].(string)
	for _, c := range []struct {
		days int
		want string
	}{{3, "successful"}, {4, "failed"}} {
		if err := appservices.Interrupt(t.Context(), f.st, f.appID, id, c.days); err != nil {
			t.Fatal(err)
		}
		f.restart()
		d := f.call("GET", f.app+"/deployments/"+id, nil).want(200).json()
		if d["status"] != c.want {
			t.Errorf("%d days: %v", c.days, d)
		}
		if s := f.sync(); s["client_max_offline_days"] != 3.0 {
			t.Errorf("config: %v", s)
		}
	}
}
