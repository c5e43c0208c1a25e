package appservices_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/appservices"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/store"
)

// An app that is made over the API has no database until sync is enabled with the name of one.
func TestD08AppsBindDatabases(t *testing.T) {
	r := newRig(t, "todo")
	apps := "/groups/" + r.group + "/apps"
	made := r.call("POST", apps, `{"name":"Shop","environment":"testing","data_source":{"name":"mongodb-atlas","type":"mongodb-atlas","config":{"clusterName":"C1"}}}`).want(201)
	if !strings.HasPrefix(made.text("client_app_id"), "shop-") || made.text("product") != "standard" {
		t.Errorf("app: %s", made.body)
	}
	f := r.fixture(made.text("_id"), "shop")
	if s := f.sync(); s["state"] != "" || s["client_max_offline_days"] != 30.0 {
		t.Errorf("before the first enabling: %v", s)
	}
	f.state("").want(204)
	f.call("GET", f.app+"/sync/lifecycle", nil).want(404)
	f.call("GET", f.app+"/sync/progress", nil).want(404)
	f.state("enabled").want(400, "MissingParameter")
	f.patch(full("enabled", "todo")).want(400, "InvalidParameter") // that is another app's
	f.patch(full("enabled", "shop")).want(400, "InvalidParameter") // there is none of that name
	f.patch(full("enabled", "No Such Name")).want(400)

	// In Development Mode it is made.
	f.call("PUT", f.app+"/sync/config", `{"development_mode_enabled":true}`).want(204)
	if c := f.call("GET", f.app+"/sync/config", nil).want(200).json(); c["development_mode_enabled"] != true || c["service_id"] != nil {
		t.Errorf("sync/config: %v", c)
	}
	f.patch(full("enabled", "shop")).want(204)
	f.settled()
	if row := f.live(); row.Record.State != devicesync.Enabled || !row.Config.DevelopmentMode || *row.Config.ClientMaxOfflineDays != 30 || row.Config.AutoPauseDays != 30 {
		t.Errorf("live: %+v", row)
	}
	if n := len(r.call("GET", apps, nil).want(200).list()); n != 2 {
		t.Errorf("%d apps: the new database has two", n)
	}
	if c := f.call("GET", f.app+"/sync/config", nil).want(200).json(); c["development_mode_enabled"] != true || c["service_id"] == nil {
		t.Errorf("sync/config: %v", c)
	}
	if d := f.call("GET", f.app+"/description", nil).want(200).json()["sync"].(map[string]any); d["state"] != "enabled" || d["database"] != "shop" {
		t.Errorf("description: %v", d)
	}
	r.restart()
	f.wantState("enabled")

	// Deleting the app leaves the database alone; another app can be bound to it then.
	f.call("DELETE", f.app, nil).want(204)
	f.call("GET", f.app, nil).want(404, "AppNotFound")
	if f.live().Record.State != devicesync.Enabled {
		t.Error("deleting an app has changed its database")
	}
	if n := len(r.call("GET", apps, nil).want(200).list()); n != 1 {
		t.Errorf("%d apps: a deleted one comes back", n)
	}
	next := r.fixture(r.call("POST", apps, `{"name":"Next","data_source":{"name":"s","type":"mongodb","config":{"uri":"mongodb://user:secret@host"}}}`).want(201).text("_id"), "shop")
	next.patch(full("disabled", "shop")).want(400) // the rules of a first enabling hold
	next.patch(full("enabled", "shop")).want(204)
	next.wantState("enabled")
	for _, path := range []string{next.service, next.service + "/config", next.app + "/pull"} {
		if body := r.call("GET", path, nil).want(200).body; strings.Contains(string(body), "secret") {
			t.Errorf("%s tells a password: %s", path, body)
		}
	}
}

func TestAppsThatAreRefused(t *testing.T) {
	r := newRig(t)
	apps := "/groups/" + r.group + "/apps"
	for body, code := range map[string]string{
		`{}`:             "MissingParameter",
		`{"name":"a b"}`: "InvalidParameter",
		`{"name":"` + strings.Repeat("a", 65) + `"}`:            "InvalidParameter",
		`{"name":"a","template_id":"x"}`:                        "InvalidParameter",
		`{"name":"a","environment":"moon"}`:                     "InvalidParameter",
		`{"name":"a","data_source":{"name":"x"}}`:               "MissingParameter",
		`{"name":"a","data_source":{"name":"x","type":"http"}}`: "InvalidParameter",
	} {
		r.call("POST", apps, body).want(400, code)
	}
	if n := len(r.call("GET", apps, nil).want(200).list()); n != 0 {
		t.Errorf("%d apps", n)
	}
}

// The ids of a database's app stay, also when the database is deleted and made again; meanwhile there is none.
func TestAutomaticAppsFollowTheirDatabases(t *testing.T) {
	r := newRig(t, "todo")
	f := r.automatic("todo")
	if err := r.gateway.Delete(t.Context(), "todo", true); err != nil {
		t.Fatal(err)
	}
	r.call("GET", f.app, nil).want(404, "AppNotFound")
	if _, err := r.gateway.Create(t.Context(), "todo", &config.Database{}); err != nil {
		t.Fatal(err)
	}
	if again := r.automatic("todo"); again.service != f.service {
		t.Errorf("%s, was %s", again.service, f.service)
	}
	f.wantState("enabled")
}

func TestServices(t *testing.T) {
	f := newRig(t, "todo").automatic("todo")
	services := f.app + "/services"
	f.call("POST", services, `{"name":"mongodb-atlas","type":"mongodb-atlas"}`).want(409, "ServiceAlreadyExists")
	second := f.call("POST", services, `{"name":"second","type":"mongodb","config":{"readPreference":"nearest"}}`).want(201).text("_id")
	at := services + "/" + second
	if cfg := f.call("GET", at+"/config", nil).want(200).json(); cfg["readPreference"] != "nearest" || cfg["flexible_sync"].(map[string]any)["state"] != "" {
		t.Errorf("config: %v", cfg)
	}
	f.call("PATCH", at+"/config", full("enabled", "todo")).want(400, "InvalidParameter") // one service has sync
	f.call("POST", services, map[string]any{"name": "third", "type": "mongodb", "config": full("enabled", "todo")}).want(400)
	f.call("PATCH", at+"/config", full("", "")).want(204)
	f.wantState("enabled")
	f.call("PATCH", at, `{"name":"mongodb-atlas"}`).want(409, "ServiceAlreadyExists")
	f.call("PATCH", at, `{"type":"mongodb-atlas"}`).want(400)
	if got := f.call("PATCH", at, `{"name":"renamed"}`).want(200).text("name"); got != "renamed" {
		t.Errorf("name %q", got)
	}
	f.call("DELETE", f.service, nil).want(400, "DestructiveChangeNotAllowed")

	// After a termination sync can be configured on the other one.
	f.state("").want(204)
	f.settled()
	f.call("PATCH", at+"/config", full("enabled", "todo")).want(204)
	f.wantState("") // of the first service
	f.call("DELETE", f.service, nil).want(204)
	f.call("GET", f.service+"/config", nil).want(404, "ServiceNotFound")
	f.call("DELETE", at+"?allow_destructive_changes=true", nil).want(204)
	f.settled()
	if f.live().Record.State != devicesync.Terminated {
		t.Error("sync goes on without its service")
	}
	// A service that is made with a sync configuration acts as a PATCH of it.
	f.call("POST", services, map[string]any{"name": "mongodb-atlas", "type": "mongodb-atlas", "config": full("enabled", "todo")}).want(201)
	if f.live().Record.State != devicesync.Enabled {
		t.Error("sync was not configured with the service")
	}
	for i := range appservices.MaxServices - 1 {
		f.call("POST", services, fmt.Sprintf(`{"name":"s%d","type":"mongodb"}`, i)).want(201)
	}
	f.call("POST", services, `{"name":"more","type":"mongodb"}`).want(400)
}

// The other endpoints under sync.
func TestSyncEndpoints(t *testing.T) {
	f := newRig(t, "todo").automatic("todo")
	sync := f.app + "/sync"
	service := f.service[strings.LastIndex(f.service, "/")+1:]
	f.call("GET", sync+"/data", nil).want(400, "MissingParameter")
	if d := f.call("GET", sync+"/data?service_id="+service, nil).want(200).json(); len(d) != 0 {
		t.Errorf("sync/data: %v", d)
	}
	f.call("GET", sync+"/data?service_id=x", nil).want(404, "ServiceNotFound")
	if l := f.call("GET", sync+"/client_schemas/SWIFT", nil).want(200).list(); len(l) != 0 {
		t.Errorf("client_schemas: %v", l)
	}
	if text := f.call("GET", sync+"/client_schemas/COBOL", nil).want(400).text("error"); text != "Unsupported client language: 'COBOL'" {
		t.Errorf("error %q", text)
	}
	f.call("GET", sync+"/schemas/versions", nil).want(200)
	made := f.call("POST", f.app+"/schemas", `{"metadata":{"database":"todo","collection":"items"},"schema":{"title":"Item","properties":{"a":{"bsonType":"string"}}}}`).want(200).text("_id")
	f.call("PATCH", sync+"/schemas", map[string]string{"service_id": service, "partition_key": "_p", "partition_key_type": "long"}).want(204)
	f.call("PATCH", sync+"/schemas", map[string]string{"service_id": service, "partition_key": "_p", "partition_key_type": "date"}).want(400)
	f.call("PATCH", sync+"/schemas", map[string]string{"service_id": service}).want(400, "MissingParameter")
	if s := string(f.call("GET", f.app+"/schemas/"+made, nil).want(200).body); !strings.Contains(s, `"_p":{"bsonType":"long"}`) {
		t.Errorf("schema: %s", s)
	}
	if l := f.call("GET", sync+"/client_schemas/SWIFT", nil).want(200).list(); len(l) != 1 {
		t.Errorf("client_schemas: %v", l)
	}
	if l := f.call("GET", f.app+"/schemas", nil).want(200).list(); len(l) != 1 {
		t.Errorf("schemas: %v", l)
	}
	f.call("GET", f.app+"/event_subscriptions?type=SYNCTRANSLATOR", nil).want(200)
	f.call("GET", f.app+"/event_subscriptions?type=DATABASE", nil).want(400)
	f.call("PUT", sync+"/config", `{}`).want(400, "MissingParameter")
	f.call("PUT", sync+"/config", `{"development_mode_enabled":true,"allow_guest":true}`).want(400)

	epoch := f.live().Record.Epoch.No
	f.call("POST", sync+"/reset_all", `{"reason":"test"}`).want(204)
	if now := f.live().Record.Epoch.No; now != epoch+1 {
		t.Errorf("epoch %d, was %d", now, epoch)
	}
	f.call("POST", sync+"/trim", nil).want(202)
	f.call("PUT", sync+"/force_reset", `{"file_ident":77}`).want(404, "UserNotFound")
	f.call("PUT", sync+"/force_reset", `{}`).want(400, "MissingParameter")
	if l := f.call("GET", sync+"/clients?state=pending&limit=5&after=1", nil).want(200).list(); len(l) != 0 {
		t.Errorf("clients: %v", l)
	}
	for _, bad := range []string{"state=odd", "limit=0", "limit=x", "after=x"} {
		f.call("GET", sync+"/clients?"+bad, nil).want(400, "InvalidParameter")
	}
	if l := f.call("GET", sync+"/quarantine", nil).want(200).list(); len(l) != 0 {
		t.Errorf("quarantine: %v", l)
	}
	for method, path := range map[string]string{"GET": "/quarantine/1", "DELETE": "/quarantine/1", "POST": "/quarantine/1/restore"} {
		f.call(method, sync+path, nil).want(404)
	}
	status := f.call("GET", sync+"/lifecycle", nil).want(200).json()
	if status["phase"] != "steady" || status["must_terminate"] != false || status["resume_deadline"] != nil {
		t.Errorf("lifecycle: %v", status)
	}
}

// The parameters of logs, and how the pages follow each other.
func TestLogs(t *testing.T) {
	f := newRig(t, "todo").automatic("todo")
	for range 7 {
		f.clock.advance(1e9)
		f.state("odd").want(400)
		f.call("PUT", f.app+"/sync/config", `{"development_mode_enabled":false}`).want(204)
	}
	seen := map[string]bool{}
	query := "limit=4"
	for pages := 0; query != "" && pages < 10; pages++ {
		page := f.call("GET", f.app+"/logs?"+query, nil).want(200).json()
		query = ""
		for _, e := range page["logs"].([]any) {
			id := e.(map[string]any)["_id"].(string)
			if seen[id] {
				t.Errorf("entry %s is on two pages", id)
			}
			seen[id] = true
		}
		if end, ok := page["nextEndDate"].(string); ok {
			query = fmt.Sprintf("limit=4&end_date=%s&skip=%v", end, page["nextSkip"])
		}
	}
	if len(seen) != 14 {
		t.Errorf("%d entries on all pages", len(seen))
	}
	if n := len(f.call("GET", f.app+"/logs?errors_only=true", nil).want(200).json()["logs"].([]any)); n != 7 {
		t.Errorf("%d errors", n)
	}
	if n := len(f.call("GET", f.app+"/logs?type=AUTH,SYNC_OTHER", nil).want(200).json()["logs"].([]any)); n != 0 {
		t.Errorf("%d of other types", n)
	}
	if n := len(f.call("GET", f.app+"/logs?user_id=x", nil).want(200).json()["logs"].([]any)); n != 0 {
		t.Errorf("%d of nobody", n)
	}
	start := f.clock.now().Format("2006-01-02T15:04:05.999999999Z")
	if n := len(f.call("GET", f.app+"/logs?start_date="+start, nil).want(200).json()["logs"].([]any)); n != 0 {
		t.Errorf("%d later than the last", n)
	}
	for _, bad := range []string{"limit=101", "limit=0", "skip=-1", "start_date=now"} {
		f.call("GET", f.app+"/logs?"+bad, nil).want(400, "InvalidParameter")
	}
}

// A database whose app was deleted has none, and who looks for it writes nothing: devices may ask for an app without a login.
func TestDeletedAutomaticAppCostsNoWrites(t *testing.T) {
	r := newRig(t, "todo")
	apps := "/groups/" + r.group + "/apps"
	id := r.call("GET", apps, nil).want(200).list()[0].(map[string]any)["_id"].(string)
	r.call("DELETE", apps+"/"+id, nil).want(204)
	before := r.st.(store.StatsReader).Stats().Commits
	for range 3 {
		if _, err := r.api.DatabaseOf(t.Context(), "todo-abcde"); tidegate.ErrorCode(err) != tidegate.NotFound {
			t.Errorf("an app that there is not: %v", err)
		}
	}
	if n := len(r.call("GET", apps, nil).want(200).list()); n != 0 {
		t.Errorf("%d apps: a deleted one comes back", n)
	}
	if after := r.st.(store.StatsReader).Stats().Commits; after != before {
		t.Errorf("%d writes", after-before)
	}
}
