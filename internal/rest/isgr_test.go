package rest

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"testing"
)

const seedShapes = `{"unsupported":{"replication_seed_shapes":true}}`

// Every curl example of the seed about inter-gateway replication, in the forms of 2.8: only host, port and names of
// databases are changed, and what is evidently mistyped there (missing commas, comments, a resolver left out).
func TestSeedExamples(t *testing.T) {
	r := newRig(t, rigOptions{database: seedShapes})
	jsonType := "Content-Type: application/json"
	call := func(method, target, body string) reply { t.Helper(); return r.a(method, target, body, jsonType) }

	// Example 11: a definition with everything.
	call("POST", "/db/_replication/db1-rep-id1-pull-oneshot", `{
		"replication_id": "db1-rep-id1-pull-oneshot",
		"direction": "pull",
		"remote": "https://example.com:4984/remote_db1",
		"user": "user1",
		"password": "password",
		"batch_size": 1000,
		"conflict_resolution_type": "custom",
		"custom_conflict_resolver": "`+"`function(conflict) { return defaultPolicy(conflict); }`"+`",
		"continuous": false,
		"enable_delta_sync": false,
		"filter": "sync_gateway/bychannel",
		"query_params": ["channel.user1"],
		"max_backoff_time": 5,
		"purge_on_removal": false,
		"state": "running",
		"adhoc": false,
		"cancel": false
	}`).want(201, "")
	// Example 13: continuous, one-shot, ad hoc.
	call("POST", "/db/_replication/", `{
		"replication_id": "db1-rep-id1-pull-cont",
		"direction": "pull",
		"continuous": true,
		"purge-on-removal": true,
		"remote": "http://user:password@example.com:4985/db1-remote",
		"filter":"sync_gateway/bychannel",
		"query_params": {
			"channels": ["channel1.user1"]
		}
	}`).want(201, "")
	call("POST", "/db/_replication/", `{
		"replication_id": "db1-rep-id3-pull-oneshot",
		"direction": "pull",
		"remote": "http://user:password@example.com:4985/db1-remote",
		"filter": "sync_gateway/bychannel",
		"query_params": { "channels": ["channel1.user1"] }
	}`).want(201, "")
	call("POST", "/db/_replication/", `{
		"replication_id": "db1-rep-id1-pull-adhoc",
		"adhoc": true,
		"direction": "pull",
		"purge-on-removal": true,
		"remote": "http://user:password@example.com:4985/db1-remote",
		"filter":"sync_gateway/bychannel",
		"query_params": {
			"channels": ["channel1.user1"]
		}
	}`).want(201, "")

	// Examples 14 and 15: one definition, and all.
	call("POST", "/db/_replication/db1-rep-id1", `{"direction":"pull","remote":"http://user1:password1@example.com:4984/db1-remote",
		"purge_on_removal":true,"continuous":true,"filter":"sync_gateway/bychannel","query_params":{"channels":["channel.user1"]}}`).want(201, "")
	const one = `{"replication_id":"db1-rep-id1","remote":"http://user1:****@example.com:4984/db1-remote","direction":"pull",
		"purge_on_removal":true,"continuous":true,"filter":"sync_gateway/bychannel","query_params":{"channels":["channel.user1"]},
		"assigned_node":"node","conflict_resolution_type":"default","initial_state":"running","max_backoff_time":5,"batch_size":200,
		"target_state":"running","cluster_uuid":null,"created_at":null,"updated_at":null}`
	call("GET", "/db/_replication/db1-rep-id1", "").want(200, `{"db1-rep-id1":`+one+`}`)
	call("GET", "/db/_replication", "").want(200, `{"db1-rep-id1":`+one+`,"db1-rep-id1-pull-adhoc":null,"db1-rep-id1-pull-cont":null,
		"db1-rep-id1-pull-oneshot":null,"db1-rep-id3-pull-oneshot":null}`)

	// Example 16: changes, and an id that does not match.
	call("PUT", "/db/_replication/db1-rep-id1", `{
		"direction": "push",
		"purge_on_removal":false,
		"remote": "http://user1:password1@example.com:4984/db1-remote",
		"filter":"sync_gateway/bychannel",
		"query_params": {
			"channels":["channel.user1"]
		},
		"continuous": false
	}`).want(200, "")
	call("PUT", "/db/_replication/db1-rep-id2", `{"replication_id":"db1-rep-id1"}`).
		want(400, `{"error":"Bad Request","reason":"Replication ID in body \"db1-rep-id1\" does not match request URI"}`)

	// Example 17: removing.
	call("DELETE", "/db/_replication/db1-rep-id3-pull-oneshot", "").want(200, "")
	call("DELETE", "/db/_replication/db1-rep-id3-pull-oneshot", "").is(404)

	// Examples 18 and 24: one status. 19 and 25: all of them.
	const status = `"docs_read":0,"docs_written":0,"doc_write_failures":0,"doc_write_conflict":0,"rejected_by_remote":0,"rejected_by_local":0`
	r.settled(t, "db1-rep-id1", "running")
	call("GET", "/db/_replicationStatus/db1-rep-id1", "").want(200, `[{"replication_id":"db1-rep-id1",`+status+`,"status":"running"}]`)
	for _, id := range []string{"db1-rep-id1-pull-adhoc", "db1-rep-id1-pull-cont", "db1-rep-id1-pull-oneshot"} {
		r.settled(t, id, "running")
	}
	all := call("GET", "/db/_replicationStatus?activeOnly=false&includeConfig=true&localOnly=false&includeError=true", "").is(200)
	var list []struct {
		ID     string `json:"replication_id"`
		Status string
		Config struct {
			Remote string
			Node   string `json:"assigned_node"`
		}
	}
	if err := json.Unmarshal([]byte(all.body), &list); err != nil || len(list) != 4 {
		t.Fatalf("%v: %s", err, all.body)
	}
	for _, s := range list {
		if s.Status != "running" || !strings.HasPrefix(s.Config.Remote, "http") || s.Config.Node != "" {
			t.Errorf("%+v", s)
		}
	}

	// Examples 20, 21 and 22: start, stop, reset.
	for _, tt := range []struct{ action, state string }{{"start", "running"}, {"stop", "stopped"}, {"reset", "stopped"}, {"start", "running"}} {
		for _, method := range []string{"PUT", "POST"} {
			if tt.action == "reset" || tt.action == "stop" || method == "PUT" {
				call(method, "/db/_replicationStatus/db1-rep-id1?action="+tt.action, "").
					want(200, `{"replication_id":"db1-rep-id1",`+status+`,"status":"`+tt.state+`"}`)
			}
		}
	}
	call("POST", "/db/_replicationstatus/db1-rep-id1/stop", "").want(200, `{"replication_id":"db1-rep-id1",`+status+`,"status":"stopped"}`)
	call("POST", "/db/_replicationStatus/db1-rep-id1/reset", "").want(200, `{"replication_id":"db1-rep-id1",`+status+`,"status":"stopped"}`)
	call("GET", "/_expvars", "").is(200)
}

// The forms of 3.x, which are the usual ones.
func TestReplicationDefinitions(t *testing.T) {
	r := newRig(t, rigOptions{})
	const flat = `"replication_id":"r","remote":"http://u:****@h/d","direction":"pushAndPull","continuous":true,"conflict_resolution_type":"default",
		"initial_state":"running","max_backoff_time":5,"batch_size":200,"target_state":"running","cluster_uuid":null,"created_at":null,"updated_at":null`
	r.a("PUT", "/db/_replication/r", `{"remote":"http://u:secret@h/d","direction":"push_and_pull","continuous":true}`).want(201, "")
	got := r.a("GET", "/db/_replication/r", "").want(200, `{`+flat+`,"assigned_node":"node (local)","r":{`+flat+`,"assigned_node":"node"}}`)
	r.a("GET", "/db/_replication/", "").want(200, `{"r":{`+flat+`,"assigned_node":"node (local)"}}`)
	r.a("GET", "/db/_replication/r?format=2.8", "").want(200, `{"r":{`+flat+`,"assigned_node":"node"}}`)
	r.a("GET", "/db/_replication?format=2.8", "").want(200, `{"r":{`+flat+`,"assigned_node":"node"}}`)
	r.a("HEAD", "/db/_replication/r", "").is(200)
	r.a("HEAD", "/db/_replication/none", "").is(404)
	r.a("GET", "/db/_replication/none", "").fails(404, "missing")
	// What was read can be written back, and keeps the password.
	r.a("PUT", "/db/_replication/r", got.body).want(200, "")
	r.a("POST", "/db/_replication", got.body).want(200, "")
	db, err := r.gateway.Database("db")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := db.Replications().Get("r"); err != nil || info.Config.Remote.Reveal() != "http://u:secret@h/d" {
		t.Errorf("%v, %v", info.Config, err)
	}
	// An id that is the name of a field, and one that is none of the API's.
	r.a("PUT", "/db/_replication/filter", `{"remote":"http://h/d","direction":"pull"}`).want(201, "")
	if body := r.a("GET", "/db/_replication/filter", "").is(200).body; strings.Contains(body, `"filter":{`) {
		t.Error(body)
	}
	r.a("PUT", "/db/_replication/a%2Fb%20c", `{"remote":"http://h/d","direction":"pull"}`).want(201, "")
	r.a("GET", "/db/_replication/a%2Fb%20c", "").is(200)
	r.a("DELETE", "/db/_replication/a%2Fb%20c", "").want(200, "")

	// Without an id there is one all the same.
	made := r.a("POST", "/db/_replication/", `{"remote":"http://h/d","direction":"pull"}`).is(201)
	id := made.member("replication_id")
	if made.header.Get("Location") != "/db/_replication/"+id || len(id) != 36 {
		t.Errorf("%s, %s", id, made.header.Get("Location"))
	}
	r.a("GET", made.header.Get("Location"), "").is(200)

	for body, reason := range map[string]string{
		`{"filtr":"x"}`:                    `JSON Unknown Field: line 1, column 2: filtr: unknown key "filtr"; the nearest valid key is "filter"`,
		`{"direction":"push"}`:             "Replication remote must be specified",
		`{"remote":"x","direction":"pul"}`: "Replication remote URL is invalid",
		`{"remote":"http://u:p@h/d","remote_username":"u","direction":"push"}`:                                                                  "Auth credentials can be specified using…",
		`{"remote":"http://h/d","direction":"pull","conflict_resolution_type":"custom","custom_conflict_resolver":"function(c) { return c. }"}`: "Syntax error in conflict resolver…",
		`{"remote":"http://u:****@h/d","direction":"push"}`:                                                                                     "remote: a masked password means the stored one, and none is stored for this host and user",
		`[]`: "expected an object, found an array…",
		`{`:  "Bad JSON…",
	} {
		if reason == "expected an object, found an array…" {
			r.a("PUT", "/db/_replication/new", body).is(400)
			continue
		}
		r.a("PUT", "/db/_replication/new", body).fails(400, reason)
	}
	r.a("PUT", "/db/_replication/"+strings.Repeat("x", 161), `{}`).fails(400, "Replication ID must be less than 160 characters")
	r.a("PUT", "/db/_replication/none", `{"cancel":true}`).fails(404, "missing")
	r.a("PUT", "/db/_replication/r", `{"cancel":true}`).want(200, "")
	r.settled(t, "r", "stopped")
	r.a("POST", "/db/_offline", "").is(200)
	r.a("GET", "/db/_replication/", "").is(503)
}

func TestReplicationStatus(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.a("PUT", "/db/_replication/good", `{"remote":"http://u:secret@h/d","direction":"pull","continuous":true}`).is(201)
	r.a("PUT", "/db/_replication/bad", `{"remote":"http://h/broken","direction":"push"}`).is(201)
	r.a("PUT", "/db/_replication/idle", `{"remote":"http://h/d","direction":"push","initial_state":"stopped"}`).is(201)
	r.settled(t, "good", "running")
	r.settled(t, "bad", "error")
	const zero = `"docs_read":0,"docs_written":0,"doc_write_failures":0,"doc_write_conflict":0,"rejected_by_remote":0,"rejected_by_local":0`
	const good, idle = `{"replication_id":"good",` + zero + `,"status":"running"}`, `{"replication_id":"idle",` + zero + `,"status":"stopped"}`
	const bad = `{"replication_id":"bad",` + zero + `,"status":"error","error_message":"the remote is broken","error_time":null}`
	for query, want := range map[string]string{
		"":                                    `[` + bad + `,` + good + `,` + idle + `]`,
		"?activeOnly=true":                    `[` + good + `]`,
		"?includeError=false":                 `[` + good + `,` + idle + `]`,
		"?localOnly=true&activeOnly=false":    `[` + bad + `,` + good + `,` + idle + `]`,
		"?localOnly=x&includeError=x&other=1": `[` + good + `,` + idle + `]`,
	} {
		r.a("GET", "/db/_replicationStatus/"+query, "").want(200, want)
		r.a("GET", "/db/_replicationstatus"+query, "").want(200, want)
	}
	r.a("GET", "/db/_replicationStatus/good", "").want(200, good)
	r.a("GET", "/db/_replicationStatus/good?format=2.8", "").want(200, `[`+good+`]`)
	if body := r.a("GET", "/db/_replicationStatus/bad?activeOnly=true", "").is(200).body; body != "null" {
		t.Error(body)
	}
	r.a("GET", "/db/_replicationStatus/bad?activeOnly=true&format=2.8", "").want(200, `[]`)
	r.a("GET", "/db/_replicationStatus/good?includeConfig=true", "").want(200, good[:len(good)-1]+`,"config":{"replication_id":"good",
		"remote":"http://u:****@h/d","direction":"pull","continuous":true,"conflict_resolution_type":"default","initial_state":"running",
		"max_backoff_time":5,"batch_size":200}}`)
	r.a("HEAD", "/db/_replicationStatus/", "").is(200)
	r.a("GET", "/db/_replicationStatus/none", "").fails(404, "missing")

	r.a("PUT", "/db/_replicationStatus/good", "").fails(400, "Query parameter 'action' must be specified")
	r.a("PUT", "/db/_replicationStatus/good?action=x", "").fails(400, `Unrecognized action "x".  Valid values are start/stop/reset.`)
	r.a("POST", "/db/_replicationStatus/good/x", "").fails(400, `Unrecognized action "x".  Valid values are start/stop/reset.`)
	r.a("PUT", "/db/_replicationStatus/none?action=start", "").fails(404, "missing")
	r.a("PUT", "/db/_replicationStatus/good?action=reset", "").fails(400, "Replication must be stopped before it can be reset")
	r.a("PUT", "/db/_replication/adhoc", `{"remote":"http://h/d","direction":"push","adhoc":true}`).is(201)
	r.a("PUT", "/db/_replicationStatus/adhoc?action=stop", "").want(200, `{"replication_id":"adhoc","status":"removed"}`)
	r.a("GET", "/db/_replicationStatus/adhoc", "").is(404)
}

func TestReplicationsInStatusAndStatistics(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.a("PUT", "/db/_replication/r", `{"remote":"http://u:secret@h/d","direction":"pull"}`).is(201)
	r.settled(t, "r", "running")
	var status struct {
		Databases map[string]struct {
			Replications []struct{ Status string } `json:"replication_status"`
			Cluster      struct {
				Replications map[string]struct{ Remote, Direction string }
			}
		}
	}
	body := r.a("GET", "/_status", "").is(200).body
	if err := json.Unmarshal([]byte(body), &status); err != nil {
		t.Fatal(err)
	}
	db := status.Databases["db"]
	if len(db.Replications) != 1 || db.Replications[0].Status != "running" || db.Cluster.Replications["r"].Remote != "http://u:****@h/d" {
		t.Errorf("%s", body)
	}
	var vars struct {
		Gateway struct {
			PerDB map[string]struct {
				Replications map[string]map[string]int64
			} `json:"per_db"`
		} `json:"syncgateway"`
	}
	body = r.a("GET", "/_expvar", "").is(200).body
	if err := json.Unmarshal([]byte(body), &vars); err != nil {
		t.Fatal(err)
	}
	figures := vars.Gateway.PerDB["db"].Replications["r"]
	for _, name := range []string{"sgr_num_docs_pulled", "sgr_num_docs_pushed", "sgr_conflict_resolved_merge_count", "expected_seq_len", "processed_seq_len_post_cleanup"} {
		if _, ok := figures[name]; !ok {
			t.Errorf("no %s in %v", name, figures)
		}
	}
	if _, ok := figures["sgr_num_handlers_panicked"]; ok || len(figures) != 27 {
		t.Errorf("%d figures", len(figures))
	}
	for _, want := range []string{
		`sgw_replication_sgr_num_docs_pulled{database="db",replication="r"} 0`, `sgw_replication_sgr_num_handlers_panicked{database="db",replication="r"} 0`,
		`sgw_replication_expected_sequence_len{database="db",replication="r"} 0`,
	} {
		if body := r.a("GET", "/metrics", "").is(200).body; !strings.Contains(body, want) {
			t.Errorf("no %s", want)
		}
	}
}

// No answer and no line of the log shows a password.
func TestReplicationPasswordsStayHidden(t *testing.T) {
	var out lockedBuffer
	r := newRig(t, rigOptions{log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	bodies := []string{
		r.a("PUT", "/db/_replication/a", `{"remote":"http://u:hush-1@h/d","direction":"pull"}`).is(201).body,
		r.a("PUT", "/db/_replication/b", `{"remote":"http://h/broken","user":"u","password":"hush-2","direction":"pull"}`).is(201).body,
		r.a("PUT", "/db/_replication/c", `{"remote":"http://u:hush-3@[h/d","direction":"pull"}`).is(400).body,
		r.a("PUT", "/db/_replication/d", `{"remote":"http://u:hush-4@h/d","password":"hush-5","direction":"pull"}`).is(400).body,
		r.a("PUT", "/db/_replication/d", `{"remote":["http://u:hush-6@h/d"],"direction":"pull"}`).is(400).body,
		r.a("POST", "/db/_config", `{"replications":{"e":{"remote":"http://u:hush-7@h/d","direction":"pull"}}}`).is(201).body,
	}
	r.settled(t, "b", "error")
	for _, target := range []string{
		"/db/_replication/", "/db/_replication/a", "/db/_replication/b?format=2.8", "/db/_replicationStatus/?includeConfig=true",
		"/db/_replicationStatus/a?includeConfig=true", "/_status", "/db/_config", "/_config?include_runtime=true", "/_expvar",
	} {
		bodies = append(bodies, r.a("GET", target, "").is(200).body)
	}
	for _, text := range append(bodies, out.String()) {
		if i := strings.Index(text, "hush"); i >= 0 {
			t.Errorf("shown: …%s…", text[max(0, i-80):i+20])
		}
	}
	if !slices.ContainsFunc(bodies, func(s string) bool { return strings.Contains(s, "u:****@h") }) || !bytes.Contains([]byte(out.String()), []byte("replication")) {
		t.Error("this test looks at nothing")
	}
}
