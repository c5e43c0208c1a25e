package rest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/tidegate/tidegate/internal/gateway"
)

const javascript = "Content-Type: application/javascript"

// resync reads an answer of _resync.
func (a reply) resync() resyncStatus {
	a.t.Helper()
	var st resyncStatus
	if err := json.Unmarshal([]byte(a.is(200).body), &st); err != nil {
		a.t.Fatalf("%s: %v", a.body, err)
	}
	return st
}

// slowly takes 20 ms for each document with a member slow.
const slowly = `function (doc) { if (doc.slow) { var t = Date.now(); while (Date.now() - t < 20) {} } channel("b"); }`

// slowRig has a database whose resync takes 4 s, unless it is stopped.
func slowRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, rigOptions{database: `{"sync":"function (doc) { channel('a'); }","resync_concurrency":1,` + guestRead + `}`})
	r.bulk("db", 200, `"slow":true`)
	r.a("PUT", "/db/_config/sync", slowly, javascript).is(200)
	return r
}

// bulk writes documents with a member beside their ID.
func (r *rig) bulk(ks string, n int, member string) {
	r.t.Helper()
	var docs []string
	for i := range n {
		docs = append(docs, fmt.Sprintf(`{"_id":"doc%04d",%s}`, i, member))
	}
	r.a("POST", "/"+ks+"/_bulk_docs", `{"docs":[`+strings.Join(docs, ",")+`]}`).is(201)
}

// The table of resync.md §3.2, but for what takes two nodes.
func TestResyncRefusals(t *testing.T) {
	r := newRig(t, rigOptions{database: `{"scopes":{"s":{"collections":{"c":{},"d":{}}}}}`})
	const mustBeOffline = "Database must be _offline before calling _resync, current state: Online"
	for _, path := range []string{"/db/_resync", "/db/resync"} {
		r.a("POST", path+"?action=begin", "").fails(400, "Unknown parameter for 'action'. Must be start or stop")
		r.a("POST", path, "").fails(503, mustBeOffline)
		r.a("POST", path+"?action=start", `{"scopes":{"s":["c"]}}`).fails(503, mustBeOffline)
		r.a("POST", path, `{"scopes":`).is(400)
		r.a("POST", path+"?action=stop", "").fails(400, "Database _resync is not running")
		r.a("GET", path, "").want(200, `{"status":"completed","start_time":"0001-01-01T00:00:00Z","last_error":"","resync_id":"",
			"docs_changed":0,"docs_processed":0}`)
		r.p("GET", path, "").is(401 + 3*boolInt(path == "/db/_resync")) // a document, on the public listener, or nothing
		r.p("POST", path, "").is(404 + boolInt(path == "/db/resync"))
	}
	r.a("POST", "/none/_resync", "").fails(404, `no such database "none"`)
	r.a("GET", "/none/_resync", "").fails(404, `no such database "none"`)
	online := "/db/_resync?online=true"
	r.a("POST", online, `{"scopes":{"s":["nope"]}}`).fails(400, "failed to find ID for collection s.nope")
	r.a("POST", online, `{"scopes":{"s":[]}}`).is(400)
	r.a("POST", online, `{"sync_function":"function (doc) {}"}`).fails(400, "sync_function is for one collection; choose it with scopes")
	r.a("POST", online, `{"scopes":{"s":["c"]},"sync_function":"function (doc) {"}`).fails(400, "Syntax error in sync function…")
	r.a("POST", online, `{"scopes":{"s":["c"]},"sync_function":"function (doc) { chanel(1); }"}`).fails(400, "the function cannot be meant so…")
	r.a("POST", online, `{"regenerate_sequences":true}`).is(400)
	r.a("POST", online, `{"unknown":true}`).is(400)

	r.a("POST", "/db/_offline", "").is(200)
	r.a("POST", online, "").fails(503, "Database must be Online for an online _resync, current state: Offline")
	r.a("POST", "/db/_resync", `{"scopes":{"s":["c","nope"]}}`).fails(400, "failed to find ID for collection s.nope")
	r.a("POST", "/db/_resync", `{"scopes":{"_default":["_default"]}}`).fails(400, "failed to find ID for collection _default._default")
	r.a("POST", "/db/_resync", `{"scopes":{"s":["c"]},"sync_function":"function (doc) {}"}`).is(400)
	r.a("POST", "/db/_resync?action=stop", "").fails(400, "Database _resync is not running")
	if st := r.running("db").State(); st != gateway.Offline { // nothing has changed
		t.Errorf("state %s", st)
	}
	if st := r.a("GET", "/db/_resync", "").resync(); st.ID != "" {
		t.Errorf("a refused resync left %+v", st)
	}
	r.a("PUT", "/shut/", `{"read_only":true}`).is(201)
	r.a("POST", "/shut/_resync?online=true", "").fails(403, "Database is read-only")
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// While a resync runs the database is Resyncing, and what asks for one or for the database is told so.
func TestStateResyncing(t *testing.T) {
	r := slowRig(t)
	r.a("POST", "/db/_offline", "").is(200)
	st := r.a("POST", "/db/_resync", "").resync()
	if st.Status != "running" || st.ID == "" || st.Total != 200 || st.Mode != "offline" || st.Changes != nil || st.Scopes["_default"][0] != "_default" {
		t.Errorf("started: %+v", st)
	}
	r.walkState(t, "db", gateway.Resyncing)
	r.a("POST", "/db/_resync", "").fails(503, "Database _resync already in progress")
	r.a("POST", "/db/resync?action=start", "").fails(503, "Database _resync already in progress")
	r.a("POST", "/db/_resync?online=true", "").fails(503, "Database _resync already in progress")
	r.a("POST", "/db/_online", "").fails(503, "Database _resync is in progress, this may take some time, try again later")
	r.a("POST", "/db/_online?wait=true", `{"delay":1}`).fails(503, "Database _resync is in progress, this may take some time, try again later")
	r.a("POST", "/db/_offline", "").want(200, "")
	if running := r.a("GET", "/db/resync", "").resync(); running.Status != "running" || running.ID != st.ID {
		t.Errorf("under the other spelling: %+v", running)
	}
	if st := r.a("POST", "/db/_resync?action=stop", "").resync(); st.Status != "stopping" && st.Status != "stopped" {
		t.Errorf("stop: %+v", st)
	}
	r.untilState(t, "db", gateway.Offline)
	stopped := r.a("GET", "/db/_resync", "").resync()
	if stopped.Status != "stopped" || stopped.ID != st.ID || stopped.Processed >= 200 || *stopped.Changes != stopped.Changed {
		t.Errorf("stopped: %+v", stopped)
	}
	r.a("POST", "/db/_resync?action=stop", "").fails(400, "Database _resync is not running")
	r.a("POST", "/db/_online?wait=true", "").is(200) // mixed routing, with a warning
	r.a("GET", "/db/doc0000", "").is(200)
}

// A run goes on where it was stopped, and begins anew where it must (resync.md §3.5).
func TestResyncGoesOn(t *testing.T) {
	r := slowRig(t)
	r.a("POST", "/db/_offline", "").is(200)
	first := r.a("POST", "/db/_resync", "").resync()
	r.a("POST", "/db/_resync?action=stop&wait=true", "").is(200)
	again := r.a("POST", "/db/_resync", "").resync()
	if again.ID != first.ID || again.Total != 200 {
		t.Errorf("went on as %+v", again)
	}
	r.a("POST", "/db/_resync?action=stop&wait=true", "").is(200)
	for query, body := range map[string]string{
		"reset=true":                "",
		"regenerate_sequences=true": "",
		"action=start":              `{"scopes":{"_default":["_default"]}}`,
	} {
		if st := r.a("POST", "/db/_resync?"+query, body).resync(); st.ID == first.ID {
			t.Errorf("%s %s: goes on with the old run", query, body)
		}
		r.a("POST", "/db/_resync?action=stop&wait=true", "").is(200)
	}
	// Another function: a new run, which comes to its end.
	r.a("PUT", "/db/_config/sync", `function (doc) { channel("c"); }`, javascript).is(200)
	before := r.a("GET", "/db/_resync", "").resync().ID
	end := r.a("POST", "/db/_resync?wait=true", "").resync()
	if end.ID == before || end.Status != "completed" || end.Processed != 200 || end.Changed != 200 || *end.Changes != 200 {
		t.Errorf("end: %+v", end)
	}
	second := r.a("POST", "/db/_resync?wait=true", "").resync()
	if second.ID == end.ID || second.Changed != 0 || second.Processed != 200 {
		t.Errorf("nothing is left to change: %+v", second)
	}
}

// A config that comes while a resync runs is stored, and in force when it has ended (resync.md §2).
func TestConfigWhileResyncing(t *testing.T) {
	r := slowRig(t)
	r.a("POST", "/db/_offline", "").is(200)
	r.a("POST", "/db/_resync", "").is(200)
	r.a("PUT", "/db/_config/sync", `function (doc) { channel("late"); }`, javascript).is(200)
	r.a("POST", "/db/_config", `{"revs_limit":30}`).is(201)
	if got := r.a("GET", "/db/_config/sync", "").is(200).body; !strings.Contains(got, "late") {
		t.Errorf("the function is %s", got)
	}
	if st := r.a("GET", "/db/_resync", "").resync(); st.Status != "running" {
		t.Errorf("it does not run any more: %+v", st)
	}
	r.a("POST", "/db/_config", `{"offline":false}`).is(201)
	r.a("POST", "/db/_resync?action=stop&wait=true", "").is(200)
	r.untilState(t, "db", gateway.Online) // as the config says now
	if got := r.a("GET", "/db/_raw/doc0000", "").is(200).body; strings.Contains(got, "late") {
		t.Errorf("the run took another function than it began with: %s", got)
	}
	r.a("PUT", "/db/new", `{}`).is(201)
	if got := r.a("GET", "/db/_raw/new", "").is(200).body; !strings.Contains(got, "late") {
		t.Errorf("the new function is not in force: %s", got)
	}
	if !r.changedSinceResync() {
		t.Error("no resync is due, though the function came after its start")
	}
}

func (r *rig) changedSinceResync() bool {
	r.t.Helper()
	a, b := r.a("GET", "/db/", "").is(200).body, r.a("GET", "/_status", "").is(200).body
	const member = `"sync_function_changed_since_resync":true`
	if strings.Contains(a, member) != strings.Contains(b, member) {
		r.t.Errorf("%s says otherwise than %s", a, b)
	}
	return strings.Contains(a, member)
}

// DELETE stops a resync first.
func TestDeleteWhileResyncing(t *testing.T) {
	for _, online := range []bool{false, true} {
		r := slowRig(t)
		query := "?online=true"
		if !online {
			r.a("POST", "/db/_offline", "").is(200)
			query = ""
		}
		r.a("POST", "/db/_resync"+query, "").is(200)
		r.a("DELETE", "/db/", "").is(200)
		r.a("GET", "/db/_resync", "").is(404)
		r.a("PUT", "/db/", `{"sync":"function (doc) { channel('a'); }"}`).is(201) // gets its data back
		r.a("GET", "/db/doc0000", "").is(200)
	}
}

// The flow of the REST API end to end, under the seed's spelling, with a user who gains and one who loses.
func TestResyncByREST(t *testing.T) {
	r := newRig(t, rigOptions{startup: cheapPasswords, database: `{"sync":"function (doc) { channel('a'); }"}`})
	for _, user := range []string{"a", "b"} {
		r.a("PUT", "/db/_user/"+user, `{"password":"letmein","admin_channels":["`+user+`"]}`).is(201)
	}
	r.bulk("db", 5, `"x":1`)
	sees := func(user string, status int) {
		t.Helper()
		r.p("GET", "/db/doc0000", "", basic(user, "letmein")).is(status)
	}
	sees("a", 200)
	sees("b", 403)
	r.a("PUT", "/db/_config/sync", `function (doc) { channel('b'); }`, javascript).is(200)
	if !r.changedSinceResync() {
		t.Error("no resync is due")
	}
	sees("a", 200) // changes nothing for stored documents
	r.a("POST", "/db/_offline", "").is(200)
	if end := r.a("POST", "/db/resync?wait=true", "").resync(); end.Changed != 5 || end.Status != "completed" {
		t.Errorf("end: %+v", end)
	}
	if st := r.running("db").State(); st != gateway.Offline {
		t.Errorf("%s by itself", st)
	}
	r.a("POST", "/db/_online?wait=true", "").is(200)
	sees("a", 403)
	sees("b", 200)
	if r.changedSinceResync() {
		t.Error("a resync is still due")
	}
	metrics := r.a("GET", "/metrics", "").is(200).body
	for _, want := range []string{
		`sgw_database_resync_num_processed{database="db"} 5`, `sgw_database_resync_num_changed{database="db"} 5`,
		`sgw_collection_resync_num_processed{collection="_default._default",database="db"} 5`,
		`sgw_collection_resync_num_changed{collection="_default._default",database="db"} 5`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	if got := r.a("GET", "/_expvar", "").is(200).body; strings.Count(got, `"resync_num_processed":5`) != 2 {
		t.Error("_expvar does not tell, or not twice")
	}
}

// A document named resync stays a document.
func TestDocumentNamedResync(t *testing.T) {
	r := newRig(t, rigOptions{database: `{"guest":{"disabled":false,"admin_channels":["!"]},"sync":"function (doc) { channel('!'); }",
		"scopes":{"_default":{"collections":{"_default":{}}},"s":{"collections":{"c":{}}}}}`})
	r.a("HEAD", "/db/resync", "").is(404)
	r.a("GET", "/db.s.c/resync", "").fails(404, "missing")
	r.a("POST", "/db.s.c/resync", `{}`).is(405)
	if st := r.a("GET", "/db/resync", "").resync(); st.Status != "completed" {
		t.Errorf("%+v", st)
	}
	for _, ks := range []string{"db", "db.s.c"} {
		rev := r.a("PUT", "/"+ks+"/resync", `{"a":1}`).is(201).rev()
		r.a("GET", "/"+ks+"/resync", "").want(200, `{"_id":"resync","_rev":"REV","a":1}`)
		r.a("HEAD", "/"+ks+"/resync", "").is(200)
		r.a("PUT", "/"+ks+"/resync/file", "text", "Content-Type: text/plain", "If-Match: "+rev).is(201)
		r.a("GET", "/"+ks+"/resync/file", "").is(200)
	}
	r.p("GET", "/db/resync", "").is(200)
	r.p("PUT", "/db/resync", `{"a":2}`).is(409)
	r.a("POST", "/db/_offline", "").is(200)
	r.a("GET", "/db/resync", "").resync()
	r.a("POST", "/db/resync?wait=true", "").resync()
	r.a("PUT", "/db/resync", `{}`).is(503)
	r.p("GET", "/db/resync", "").is(503)
}

// Compactions and resyncs exclude each other (resync.md §5).
func TestCompactWhileResyncing(t *testing.T) {
	r := slowRig(t)
	r.a("POST", "/db/_resync?online=true", "").is(200)
	r.a("POST", "/db/_compact", "").fails(503, "Process already running")
	r.a("POST", "/db/_compact?type=attachment", "").fails(503, "Process already running")
	r.a("GET", "/db/_compact", "").is(200)
	r.a("POST", "/db/_resync?action=stop&wait=true", "").is(200)
	r.a("POST", "/db/_compact", "").is(200)
}

// An online resync with a candidate puts it in force at its end: no request fails, no feed ends, and the config has it.
func TestOnlineResyncWithACandidate(t *testing.T) {
	r := newRig(t, rigOptions{startup: cheapPasswords, database: `{"sync":"function (doc) { channel('a'); }"}`})
	r.a("PUT", "/db/_user/b", `{"password":"letmein","admin_channels":["b"]}`).is(201)
	r.bulk("db", 50, `"x":1`)
	before := r.a("GET", "/db/_config", "").header.Get("ETag")
	db := r.running("db").DB()
	end := r.a("POST", "/db/_resync?online=true&wait=true", `{"sync_function":"function (doc) { channel('b'); }"}`).resync()
	if end.Status != "completed" || end.Mode != "online" || end.Changed != 50 {
		t.Errorf("end: %+v", end)
	}
	if r.running("db").DB() != db || r.running("db").State() != gateway.Online {
		t.Error("the database was loaded anew")
	}
	if got := r.a("GET", "/db/_config/sync", "").is(200).body; got != `function (doc) { channel('b'); }` {
		t.Errorf("the function is %s", got)
	}
	r.a("POST", "/db/_config", `{"revs_limit":30}`, "If-Match: "+before).is(412) // the config has changed
	if r.changedSinceResync() {
		t.Error("a resync is due")
	}
	r.p("GET", "/db/doc0007", "", basic("b", "letmein")).is(200)
	r.a("PUT", "/db/new", `{}`).is(201)
	r.p("GET", "/db/new", "", basic("b", "letmein")).is(200)
	r.a("POST", "/db/_offline", "").is(200)
	r.a("POST", "/db/_online?wait=true", "").is(200)
	r.a("PUT", "/db/newer", `{}`).is(201)
	r.p("GET", "/db/newer", "", basic("b", "letmein")).is(200)
}

// A stopped online resync leaves no trace; a config change meanwhile is in force at once, and the run goes on.
func TestOnlineResyncIsStopped(t *testing.T) {
	r := slowRig(t)
	r.a("PUT", "/db/_config/sync", `function (doc) { channel("a"); }`, javascript).is(200)
	candidate, _ := json.Marshal(map[string]string{"sync_function": slowly})
	st := r.a("POST", "/db/_resync?online=true", string(candidate)).resync()
	r.a("PUT", "/db/_config/sync", `function (doc) { channel("x"); }`, javascript).fails(http.StatusServiceUnavailable,
		"Database _resync is in progress, this may take some time, try again later") // the candidate will take that place
	r.a("POST", "/db/_config", `{"revs_limit":30}`).is(201)
	if again := r.a("GET", "/db/_resync", "").resync(); again.Status != "running" || again.ID != st.ID {
		t.Errorf("after a reload: %+v", again)
	}
	r.a("POST", "/db/_offline", "").is(200)
	if off := r.a("GET", "/db/_resync", "").resync(); off.Status != "stopped" {
		t.Errorf("offline: %+v", off)
	}
	r.a("POST", "/db/_online?wait=true", "").is(200)
	if again := r.a("GET", "/db/_resync", "").resync(); again.Status != "running" || again.ID != st.ID {
		t.Errorf("online again: %+v", again)
	}
	r.a("POST", "/db/_resync?action=stop&wait=true", "").is(200)
	if got := r.a("GET", "/db/_config/sync", "").is(200).body; !strings.Contains(got, `channel("a")`) {
		t.Errorf("the function is %s", got)
	}
	if got := r.a("GET", "/db/_raw/doc0000", "").is(200).body; strings.Contains(got, `"b"`) {
		t.Errorf("a trace: %s", got)
	}
	r.a("GET", "/db/doc0000", "").is(200)
}
