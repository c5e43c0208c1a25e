package appservices_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidegate/tidegate/internal/devicesync"
)

// D2: groups → apps → services → configuration, as in the seed.
func TestD02AppsServicesConfig(t *testing.T) {
	r := newRig(t, "todo", "notes")
	for product, want := range map[string]int{"": 2, "standard": 2, "atlas": 0, "data-api": 0, "device-sync,standard": 2} {
		got := r.call("GET", "/groups/"+r.group+"/apps?product="+product, nil).want(200).list()
		if len(got) != want {
			t.Errorf("product %q: %d apps", product, len(got))
		}
	}
	r.call("GET", "/groups/"+r.group+"/apps?product=toys", nil).want(400, "InvalidParameter")
	f := r.automatic("todo")
	services := r.call("GET", f.app+"/services", nil).want(200).list()
	if len(services) != 1 || services[0].(map[string]any)["name"] != "mongodb-atlas" || services[0].(map[string]any)["type"] != "mongodb-atlas" {
		t.Fatalf("services: %v", services)
	}
	cfg := r.call("GET", f.service+"/config", nil).want(200).json()
	sync := cfg["flexible_sync"].(map[string]any)
	if sync["state"] != "enabled" || sync["database_name"] != "todo" || cfg["clusterName"] != "Cluster0" || cfg["groupName"] != "Project 0" {
		t.Errorf("config: %v", cfg)
	}
	singular := strings.Replace(f.service, "/services/", "/service/", 1)
	if got := r.call("GET", singular+"/config", nil).want(200).json(); !same(got, cfg) {
		t.Errorf("the singular spelling answers %v", got)
	}
	r.call("PATCH", singular+"/config", full("disabled", "todo")).want(204)
	f.wantState("disabled")
}

func same(a, b any) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}

// seedBlob is what the seed has one make of the configuration: only flexible_sync, with its state.
func seedBlob(state string) string {
	return `{
  "flexible_sync": {
    "state": "` + state + `",
    "database_name": "todo",
    "permissions": {
      "rules": {},
      "defaultRoles": []
    },
    "client_max_offline_days": 30,
    "is_recovery_mode_disabled": false
  }
}`
}

// D3: pause by a PATCH of the flexible_sync part only, with the blob of the seed; and resume with it.
func TestD03PauseWithTheBlobOfTheSeed(t *testing.T) {
	f := newRig(t, "todo").automatic("todo")
	epoch := f.live().Record.Epoch
	if a := f.patch(seedBlob("disabled")).want(204); len(a.body) != 0 {
		t.Errorf("a body: %s", a.body)
	}
	if row := f.live(); row.Record.State != devicesync.Disabled || row.Record.LastDisabled == 0 || !strings.HasPrefix(row.Record.DisabledBy, "user:") {
		t.Errorf("after the pause: %+v", row.Record)
	}
	paused := f.sync()
	if paused["state"] != "disabled" || paused["database_name"] != "todo" || paused["last_disabled"] == nil {
		t.Errorf("config: %v", paused)
	}
	if got := f.call("GET", f.app+"/sync/state?sync_type=flexible", nil).want(200).text("state"); got != "disabled" {
		t.Errorf("sync/state: %q", got)
	}
	f.call("GET", f.app+"/sync/progress", nil).want(404)
	f.patch(seedBlob("enabled")).want(204)
	if row := f.live(); row.Record.State != devicesync.Enabled || row.Record.Epoch != epoch {
		t.Errorf("after the resume: %+v; the epoch was %+v", row.Record, epoch)
	}
	if p := f.call("GET", f.app+"/sync/progress", nil).want(200).json(); p["accepting_clients"] != true || p["progress"].(map[string]any)["todo._default"] == nil {
		t.Errorf("sync/progress: %v", p)
	}
}

// D6: terminate by "" with the other members present, as the seed's blob has them.
func TestD06TerminateWithTheBlobOfTheSeed(t *testing.T) {
	f := newRig(t, "todo").automatic("todo")
	for name, before := range map[string]string{"enabled": "", "paused": "disabled"} {
		if before != "" {
			f.patch(seedBlob(before)).want(204)
		}
		f.patch(seedBlob("")).want(204)
		f.settled()
		if row := f.live(); row.Record.State != devicesync.Terminated {
			t.Fatalf("%s: %+v", name, row.Record)
		}
		f.state("").want(204) // a terminate repeated is harmless
		f.patch(seedBlob("enabled")).want(204)
	}
}

// D7: the configuration is erased at once, sync/state lags behind the end of the termination.
func TestD07ConfigErasedStateLags(t *testing.T) {
	f := newRig(t, "todo").automatic("todo")
	f.patch(map[string]any{"flexible_sync": map[string]any{"client_max_offline_days": 7, "queryable_fields_names": []string{"owner"}}}).want(204)
	f.state("").want(204)
	erased := f.sync()
	delete(erased, "last_disabled")
	want := map[string]any{
		"state": "", "database_name": "", "permissions": map[string]any{"rules": map[string]any{}, "defaultRoles": []any{}},
		"client_max_offline_days": 30, "is_recovery_mode_disabled": false, "queryable_fields_names": []any{},
	}
	if !same(erased, want) {
		t.Errorf("after a termination: %v", erased)
	}
	// While it runs sync/state answers what was before, and then "".
	said := map[string]bool{}
	deadline := time.After(20 * time.Second)
	for said[""] = false; !said[""]; {
		row, moved := f.deviceSync().Live().Watch()
		state := f.call("GET", f.app+"/sync/state", nil).want(200).text("state")
		said[state] = true
		if state == "" && row.Record.Phase == devicesync.Terminating && f.live().Record.Phase == devicesync.Terminating {
			t.Fatal(`sync/state says "" before the termination has ended`)
		}
		if state == "" {
			break
		}
		select {
		case <-moved:
		case <-deadline:
			t.Fatal("the termination does not end")
		}
	}
	if said["disabled"] {
		t.Error("sync/state says disabled")
	}
	if s := f.sync(); s["last_disabled"] == nil {
		t.Errorf("no last_disabled: %v", s)
	}
}

// D8: enabling again needs database_name; the full configuration works, and begins a new epoch.
func TestD08EnableAgain(t *testing.T) {
	f := newRig(t, "todo").automatic("todo")
	epoch := f.live().Record.Epoch
	f.state("").want(204)
	f.settled()
	f.state("enabled").want(400, "MissingParameter")
	f.patch(full("enabled", "other")).want(400, "InvalidParameter")
	f.state("disabled").want(400, "InvalidParameter")
	if f.live().Record.State != devicesync.Terminated {
		t.Fatal("a refused change has changed something")
	}
	f.patch(full("enabled", "todo")).want(204)
	now := f.live().Record
	if now.State != devicesync.Enabled || now.Epoch.No != epoch.No+1 || now.Epoch.ID == epoch.ID {
		t.Errorf("enabled again: %+v", now)
	}
	if s := f.sync(); s["client_max_offline_days"] != 30.0 {
		t.Errorf("config: %v", s)
	}
}

// D9: what is refused changes nothing, other members of the same request included.
func TestD09RefusalsChangeNothing(t *testing.T) {
	f := newRig(t, "todo").automatic("todo")
	f.patch(map[string]any{"flexible_sync": map[string]any{"client_max_offline_days": 9}}).want(204)
	before, config := f.live(), f.call("GET", f.service+"/config", nil).want(200).json()
	deployments := len(f.call("GET", f.app+"/deployments", nil).want(200).list())
	for body, code := range map[string]string{
		`{"flexible_sync":{"state":"paused","client_max_offline_days":1}}`:                 "InvalidParameter",
		`{"flexible_sync":{"client_max_offline_days":0,"is_recovery_mode_disabled":true}}`: "InvalidParameter",
		`{"flexible_sync":{"client_max_offline_days":1.5}}`:                                "InvalidParameter",
		`{"flexible_sync":{"client_max_offline_days":-1}}`:                                 "InvalidParameter",
		`{"flexible_sync":{"database_name":"other","client_max_offline_days":1}}`:          "InvalidParameter",
		`{"flexible_sync":{"permissions":[],"client_max_offline_days":1}}`:                 "InvalidParameter",
		`{"flexible_sync":{"queryable_fields_names":["and"],"client_max_offline_days":1}}`: "InvalidParameter",
		`{"flexible_sync":{"queryable_fields_names":["a.b"]}}`:                             "InvalidParameter",
		`{"flexible_sync":{"indexed_queryable_fields_names":["a"]}}`:                       "InvalidParameter",
		`{"flexible_sync":{"asymmetric_tables":["A"],"client_max_offline_days":1}}`:        "DestructiveChangeNotAllowed",
		`{"flexible_sync":{"client_max_offline_days":1},"readPreference":"fastest"}`:       "InvalidParameter",
		`{"flexible_sync":{"client_max_offline_days":1},"clusterName":"Other"}`:            "InvalidParameter",
		`{"flexible_sync":[]}`: "InvalidParameter",
		`[]`:                   "MalformedJson",
		`{`:                    "MalformedJson",
		``:                     "MalformedJson",
		`{"flexible_sync":{"state":"disabled","state":"enabled"}}`: "MalformedJson",
	} {
		f.patch(body).want(400, code)
	}
	f.patch(`{"sync":{"state":"enabled","database_name":"todo","partition":{"key":"_p","type":"string"}}}`).want(409, "SyncModeSwitchRequiresTermination")
	if after := f.call("GET", f.service+"/config", nil).want(200).json(); !same(after, config) || f.live() != before {
		t.Errorf("the configuration was %v and is %v", config, after)
	}
	if n := len(f.call("GET", f.app+"/deployments", nil).want(200).list()); n != deployments {
		t.Errorf("%d deployments, were %d", n, deployments)
	}
}

// D9: a resume after the change history has rolled past the pause is refused, and a termination is the way on.
func TestD09ResumeAfterHistoryIsLost(t *testing.T) {
	f := newRig(t, "todo").automatic("todo")
	f.patch(map[string]any{"flexible_sync": map[string]any{"state": "disabled", "change_history_hours": 12}}).want(204)
	f.settled()
	f.clock.advance(13 * time.Hour)
	f.login()
	f.patch(seedBlob("enabled")).want(409, "ChangeStreamHistoryLost")
	f.wantState("disabled")
	status := f.call("GET", f.app+"/sync/lifecycle", nil).want(200).json()
	if status["must_terminate"] != true || status["resume_deadline"] == nil {
		t.Errorf("lifecycle: %v", status)
	}
	f.state("").want(204)
	f.settled()
	f.patch(full("enabled", "todo")).want(204)
	f.wantState("enabled")
}

// D10: a PATCH with some members leaves the others; what is read-only may be sent back.
func TestD10PartialAndReadOnly(t *testing.T) {
	f := newRig(t, "todo").automatic("todo")
	f.patch(map[string]any{"flexible_sync": map[string]any{"client_max_offline_days": 9, "queryable_fields_names": []string{"owner", "team"}}}).want(204)
	f.patch(map[string]any{"flexible_sync": map[string]any{"is_recovery_mode_disabled": true}, "readPreference": "nearest"}).want(204)
	cfg := f.call("GET", f.service+"/config", nil).want(200)
	s := cfg.json()["flexible_sync"].(map[string]any)
	if s["client_max_offline_days"] != 9.0 || s["is_recovery_mode_disabled"] != true || len(s["queryable_fields_names"].([]any)) != 2 || cfg.text("readPreference") != "nearest" {
		t.Errorf("config: %s", cfg.body)
	}
	// All that GET answers can be sent back, with another state in it.
	whole := cfg.json()
	whole["flexible_sync"].(map[string]any)["state"] = "disabled"
	whole["flexible_sync"].(map[string]any)["last_disabled"] = "1764000000"
	whole["clusterId"], whole["unknown"] = "mine", 1
	f.patch(whole).want(204)
	after := f.call("GET", f.service+"/config", nil).want(200).json()
	paused := after["flexible_sync"].(map[string]any)
	if paused["state"] != "disabled" || paused["last_disabled"] == 1764000000.0 || after["clusterId"] == "mine" {
		t.Errorf("config: %v", after)
	}
	members := maps.Clone(paused)
	members["client_max_offline_days"] = nil
	f.patch(map[string]any{"flexible_sync": members}).want(204)
	if s := f.sync(); s["client_max_offline_days"] != nil {
		t.Errorf("null is not never: %v", s)
	}
}

// D11: the shape of errors, the headers, and where codes belong. The rig looks at every answer besides.
func TestD11ErrorsAndHeaders(t *testing.T) {
	r := newRig(t, "todo")
	f := r.automatic("todo")
	none := strings.Repeat("0", 24)
	for path, code := range map[string]string{
		"/groups/" + none + "/apps":                  "GroupNotFound",
		"/groups/mine/apps/" + f.appID:               "GroupNotFound",
		"/groups/" + r.group + "/apps/" + none:       "AppNotFound",
		"/groups/" + r.group + "/apps/x":             "AppNotFound",
		f.app + "/services/" + none:                  "ServiceNotFound",
		f.app + "/services/" + none + "/config":      "ServiceNotFound",
		f.app + "/schemas/" + none:                   "SchemaNotFound",
		f.app + "/drafts/" + none:                    "DraftNotFound",
		f.app + "/deployments/" + none:               "DeploymentNotFound",
		f.app + "/functions":                         "BadRequest",
		f.app + "/hosting/config":                    "BadRequest",
		"/nothing":                                   "BadRequest",
		f.app + "/sync/quarantine/" + none + "/what": "BadRequest",
	} {
		r.call("GET", path, nil).want(404, code)
	}
	bad := f.state("sleeping").want(400, "InvalidParameter")
	id := bad.header.Get("X-Appservices-Request-Id")
	link := bad.text("link")
	if want := "http://localhost:4985/_console/groups/" + r.group + "/apps/" + f.appID + "/logs?co_id=" + id; link != want {
		t.Errorf("link %s, want %s", link, want)
	}
	if got := r.call("GET", "/groups/"+none+"/apps", nil).text("link"); got != "http://localhost:4985" {
		t.Errorf("link without an app: %s", got)
	}
	if bad.header.Get("Content-Type") != "application/json" {
		t.Errorf("Content-Type %q", bad.header.Get("Content-Type"))
	}
	if a := r.call("PUT", f.service+"/config", nil).want(405); a.header.Get("Allow") != "GET, PATCH" {
		t.Errorf("Allow %q", a.header.Get("Allow"))
	}
	f.patch(`{"flexible_sync":{"x":"`+strings.Repeat("a", 16<<20)+`"}}`).want(413, "BadRequest")

	logged := r.call("GET", f.app+"/logs?co_id="+id, nil).want(200).json()["logs"].([]any)
	if len(logged) != 1 || logged[0].(map[string]any)["error_code"] != "InvalidParameter" || logged[0].(map[string]any)["type"] != "API" {
		t.Errorf("log: %v", logged)
	}
}

// D20: a resume after a pause needs no configuration, enabling after a termination needs all of it again.
func TestD20ResumeWithoutConfiguration(t *testing.T) {
	f := newRig(t, "todo").automatic("todo")
	f.patch(map[string]any{"flexible_sync": map[string]any{"client_max_offline_days": 9, "queryable_fields_names": []string{"owner"}}}).want(204)
	f.state("disabled").want(204)
	f.state("enabled").want(204)
	if s := f.sync(); s["client_max_offline_days"] != 9.0 || len(list(s["queryable_fields_names"])) != 1 {
		t.Errorf("after a pause: %v", s)
	}
	f.state("").want(204)
	f.settled()
	f.state("enabled").want(400, "MissingParameter")
	f.patch(full("enabled", "todo")).want(204)
	if s := f.sync(); s["client_max_offline_days"] != 30.0 || len(list(s["queryable_fields_names"])) != 0 {
		t.Errorf("after a termination: %v", s)
	}
}

// Changes at the same time are made one after the other, each on what the one before left.
func TestChangesAtOnce(t *testing.T) {
	f := newRig(t, "todo").automatic("todo")
	members := []string{`"client_max_offline_days":5`, `"is_recovery_mode_disabled":true`, `"queryable_fields_names":["a"]`, `"auto_pause_days":3`,
		`"change_history_hours":48`, `"quarantine_days":7`, `"pause_peers":true`, `"terminated_clients":"stop"`}
	var all sync.WaitGroup
	for _, m := range members {
		all.Go(func() { f.patch(`{"flexible_sync":{` + m + `}}`) })
		all.Go(func() { f.call("GET", f.app+"/pull", nil) })
	}
	all.Wait()
	raw := string(f.call("GET", f.service+"/config", nil).want(200).body)
	for _, m := range members {
		if !strings.Contains(raw, m) {
			t.Errorf("%s is lost: %s", m, raw)
		}
	}
	if n := len(f.call("GET", f.app+"/deployments", nil).want(200).list()); n != len(members) {
		t.Errorf("%d deployments", n)
	}
}

// D29: another mode only after a termination.
func TestD29ModeSwitch(t *testing.T) {
	f := newRig(t, "todo").automatic("todo")
	partition := `{"sync":{"state":"enabled","database_name":"todo","partition":{"key":"_p","type":"string","required":false,"permissions":{"read":true,"write":true}}}}`
	f.patch(partition).want(409, "SyncModeSwitchRequiresTermination")
	f.state("").want(204)
	f.settled()
	f.patch(partition).want(204)
	f.settled()
	cfg := f.call("GET", f.service+"/config", nil).want(200).json()
	if cfg["sync"].(map[string]any)["state"] != "enabled" || cfg["flexible_sync"].(map[string]any)["state"] != "" {
		t.Errorf("config: %v", cfg)
	}
	for kind, want := range map[string]string{"partition": "enabled", "flexible": ""} {
		if got := f.call("GET", f.app+"/sync/state?sync_type="+kind, nil).want(200).text("state"); got != want {
			t.Errorf("sync/state of %s: %q", kind, got)
		}
	}
	f.call("GET", f.app+"/sync/state?sync_type=other", nil).want(400, "InvalidParameter")
	data := f.call("GET", f.app+"/sync/data?service_id="+f.service[strings.LastIndex(f.service, "/")+1:], nil).want(200).json()
	if !same(data["partition_fields"], []any{map[string]any{"key": "_p", "type": "string"}}) {
		t.Errorf("sync/data: %v", data)
	}
	f.patch(full("enabled", "todo")).want(409, "SyncModeSwitchRequiresTermination")
	f.patch(`{"sync":{"state":"disabled"}}`).want(204)
	f.patch(`{"sync":{"state":""}}`).want(204)
	f.settled()
	f.patch(full("enabled", "todo")).want(204)
	f.call("PUT", f.app+"/sync/migration", `{}`).want(400)
	f.call("GET", f.app+"/sync/migration", nil).want(200)
}

// D30: a breaking change of a schema is refused while sync is configured; forced, it terminates sync.
func TestD30BreakingSchemaChange(t *testing.T) {
	f := newRig(t, "todo").automatic("todo")
	schema := func(text string) map[string]any {
		return map[string]any{
			"metadata": map[string]any{"data_source": "mongodb-atlas", "database": "todo", "collection": "items"}, "schema": json.RawMessage(text),
		}
	}
	base := `{"title":"Item","bsonType":"object","required":["_id"],"properties":{"_id":{"bsonType":"objectId"},"name":{"bsonType":"string"},"tags":{"bsonType":"array","items":{"bsonType":"string"}}}}`
	made := f.call("POST", f.app+"/schemas", schema(base)).want(200)
	at := f.app + "/schemas/" + made.text("_id")
	f.call("POST", f.app+"/schemas", schema(base)).want(400)
	f.call("PUT", at, schema(strings.Replace(base, `"name":`, `"note":{"bsonType":"string"},"name":`, 1))).want(204)
	now := string(f.call("GET", at, nil).want(200).body)
	for what, change := range map[string][2]string{
		"removed":  {`"name":{"bsonType":"string"},`, ``},
		"type":     {`"name":{"bsonType":"string"}`, `"name":{"bsonType":"int"}`},
		"required": {`"required":["_id"]`, `"required":["_id","name"]`},
		"renamed":  {`"Item"`, `"Thing"`},
		"elements": {`"items":{"bsonType":"string"}`, `"items":{"bsonType":"int"}`},
	} {
		wide := strings.Replace(base, `"name":`, `"note":{"bsonType":"string"},"name":`, 1)
		f.call("PUT", at, schema(strings.Replace(wide, change[0], change[1], 1))).want(400, "DestructiveChangeNotAllowed")
		if after := string(f.call("GET", at, nil).body); after != now {
			t.Errorf("%s: the schema was changed", what)
		}
	}
	f.call("DELETE", at, nil).want(400, "DestructiveChangeNotAllowed")
	f.wantState("enabled")
	for i, flag := range []string{"allow_destructive_changes=true", "bypass_service_change=SyncSchemaVersionIncrease"} {
		change := []string{`{"title":"Item","bsonType":"object","properties":{"_id":{"bsonType":"objectId"}}}`, `{"title":"Other"}`}[i]
		f.call("PUT", at+"?"+flag, schema(change)).want(204)
		f.wantState("")
		f.settled()
		f.patch(full("enabled", "todo")).want(204)
	}
	f.state("").want(204)
	f.settled()
	f.call("DELETE", at, nil).want(204)
	f.call("POST", f.app+"/schemas", schema(`[]`)).want(400, "SchemaValidationFailedWrite")
}

// What is changed is logged: who, from, to, in which deployment; and what the gateway does by itself.
func TestStateChangesAreLogged(t *testing.T) {
	f := newRig(t, "todo").automatic("todo")
	f.state("disabled").want(204)
	f.state("enabled").want(204)
	if err := f.deviceSync().ResetAll(t.Context(), "test", "system"); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		var all []string
		for _, e := range f.call("GET", f.app+"/logs", nil).want(200).json()["logs"].([]any) {
			for _, m := range list(e.(map[string]any)["messages"]) {
				all = append(all, m.(string))
			}
		}
		found := func(part string) bool {
			return slices.ContainsFunc(all, func(s string) bool { return strings.Contains(s, part) })
		}
		if found("paused, was enabled") && found("enabled, was paused") && found("every client must reset") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("log: %q", all)
		}
	}
}

func list(v any) []any { l, _ := v.([]any); return l }
