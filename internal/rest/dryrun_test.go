package rest

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/gateway"
)

const dryRunPath = "/db/_resync?action=dry_run"

// candidate is a body for a dry run of a function.
func candidate(source string) string {
	b, err := json.Marshal(map[string]string{"sync_function": source})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// moved routes by another member than the default function.
const moved = `function (doc) {
	if (doc.broken) {
		doc.there.is.none();
	}
	channel(doc.region);
}`

func newPlanRig(t *testing.T) *rig {
	r := newRig(t, rigOptions{database: `{"sync":"function (doc) { channel(doc.channels); }"}`})
	r.a("PUT", "/db/_user/bob", `{"password":"letmein","admin_channels":["north"]}`).is(201)
	r.put("a", `{"channels":["north"],"region":"south"}`)
	r.put("b", `{"channels":["north"],"region":"north"}`)
	r.put("c", `{"channels":["north"],"broken":true}`)
	return r
}

func (a reply) report() *database.PlanReport {
	a.t.Helper()
	a.is(200)
	var p database.PlanReport
	dec := json.NewDecoder(strings.NewReader(a.body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		a.t.Fatalf("%v: %s", err, a.body)
	}
	return &p
}

func wantPlan(t *testing.T, p *database.PlanReport) {
	t.Helper()
	if p.DocsProcessed != 3 || p.DocsWouldChange != 2 || p.DocsRejected != 1 || p.DocsFailed != 1 || p.Users != 1 ||
		len(p.Channels) != 2 || p.Channels[0] != (database.PlanChannel{Collection: "_default._default", Channel: "north", Lost: 2}) ||
		p.Principals[0].Name != "bob" || p.Principals[0].DocsLost != 2 || p.Failures[0].Doc != "c" || p.Failures[0].Line != 3 {
		t.Errorf("%+v", p)
	}
}

// TestDryRunInEveryState: it is the same report whether the database serves or not, and nothing has changed after it.
func TestDryRunInEveryState(t *testing.T) {
	r := newPlanRig(t)
	before := r.a("GET", "/db/_changes?include_docs=true", "").body
	wantPlan(t, r.a("POST", dryRunPath, candidate(moved)).report())
	r.a("POST", "/db/_offline", "").is(200)
	wantPlan(t, r.a("POST", "/db/resync?action=dry_run", candidate(moved)).report())
	if state := r.a("GET", "/db/", "").member("state"); state != "Offline" {
		t.Errorf("state %s", state)
	}
	if p := r.a("POST", dryRunPath, "").report(); p.AnyChange() || p.DocsProcessed != 3 {
		t.Errorf("the function in force: %+v", p)
	}
	r.a("POST", "/db/_online?wait=true", "").is(200)
	if after := r.a("GET", "/db/_changes?include_docs=true", "").body; after != before {
		t.Errorf("before %s\nafter %s", before, after)
	}
	if st := r.a("GET", "/db/_resync", ""); st.member("resync_id") != "" || st.member("status") != "completed" {
		t.Errorf("a dry run is no resync: %s", st.body)
	}
	r.a("POST", "/db/_config", `{"read_only":true}`).is(201)
	wantPlan(t, r.a("POST", dryRunPath, candidate(moved)).report())
}

func TestDryRunRefusals(t *testing.T) {
	r := newPlanRig(t)
	r.create("two", `{"scopes":{"s":{"collections":{"c":{},"d":{}}}}}`)
	for _, c := range []struct {
		path, body string
		status     int
		reason     string
	}{
		{dryRunPath, candidate("function (doc) {\n  channel(doc.x;\n}"), 400, "Syntax error in sync function: line 2, …"},
		{dryRunPath, candidate("5"), 400, "Syntax error in sync function: …"},
		{dryRunPath, `{"sync_function":5}`, 400, "Bad JSON: …"},
		{dryRunPath, `{"function":"x"}`, 400, "Bad JSON: …"},
		{dryRunPath, `{`, 400, "…"},
		{dryRunPath, `{"scopes":{"_default":["none"]}}`, 400, "failed to find ID for collection _default.none"},
		{dryRunPath, `{"scopes":{}, "sync_function":"` + strings.Repeat("x", maxConfigBytes) + `"}`, 413, "…"},
		{"/two/_resync?action=dry_run", candidate("function (doc) {}"), 400, "sync_function is for one collection; choose it with scopes"},
		{"/none/_resync?action=dry_run", "", 404, `no such database "none"`},
		{dryRunPath + "&stream=true", candidate("function ("), 400, "Syntax error in sync function: …"},
	} {
		r.a("POST", c.path, c.body).fails(c.status, c.reason)
	}
	r.p("POST", dryRunPath, "").is(404)
	r.a("POST", "/two/_resync?action=dry_run", `{"scopes":{"s":["c"]},"sync_function":"function (doc) {}"}`).report()
}

// TestDryRunStream: lines say how far it is, and the last one has the report.
func TestDryRunStream(t *testing.T) {
	r := newPlanRig(t)
	a := r.a("POST", dryRunPath+"&stream=true", candidate(moved)).is(200).has("Content-Type", "application/x-ndjson")
	lines := strings.Split(strings.TrimSpace(a.body), "\n")
	var last struct{ Report *database.PlanReport }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.Report == nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	wantPlan(t, last.Report)
}

// manySlow documents keep a dry run of slowly busy for ten seconds; nobody waits for its end.
const manySlow = 1000

// startSlowDryRun begins one over a connection and returns once it has said how far it is.
func startSlowDryRun(t *testing.T, r *rig) (cancel context.CancelFunc, rest *bufio.Reader) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "POST", r.serveLoopback(r.admin).URL+dryRunPath+"&stream=true", strings.NewReader(candidate(slowly)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", jsonType)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); res.Body.Close() })
	rest = bufio.NewReader(res.Body)
	line, err := rest.ReadString('\n')
	if err != nil || !strings.Contains(line, `"progress":{"status":"running"`) || !strings.Contains(line, `"mode":"dry_run"`) {
		t.Fatalf("%v: %s", err, line)
	}
	return cancel, rest
}

// noDryRun waits until none is under way.
func (r *rig) noDryRun() {
	for strings.Contains(r.a("GET", "/db/_resync", "").body, "dry_run") {
		runtime.Gosched()
	}
}

// TestDryRunIsTheResyncOfTheDatabase: it has the one place that there is, the status tells of it, and stop stops it.
func TestDryRunIsTheResyncOfTheDatabase(t *testing.T) {
	r := newPlanRig(t)
	r.bulk("db", manySlow, `"slow":true`)
	_, rest := startSlowDryRun(t, r)
	st := r.a("GET", "/db/_resync", "")
	if st.member("mode") != "dry_run" || st.member("status") != "running" || !strings.Contains(st.body, `"docs_total":1003`) {
		t.Errorf("status %s", st.body)
	}
	r.a("POST", dryRunPath, "").fails(503, "Database _resync already in progress")
	r.a("POST", "/db/_resync?online=true", "").fails(503, "Database _resync already in progress")
	r.put("while", `{}`)
	r.a("POST", "/db/_resync?action=stop", "").is(200)
	line, err := io.ReadAll(rest)
	if err != nil || !strings.HasSuffix(string(line), `{"error":"Service Unavailable","reason":"the resync was stopped"}`+"\n") {
		t.Errorf("%v: %s", err, line)
	}
	r.noDryRun()
	r.a("POST", "/db/_resync?action=stop", "").fails(400, "Database _resync is not running")
}

// TestDryRunEndsWithItsClient: nobody computes for who is gone; and with the database's being online.
func TestDryRunEndsWithItsClient(t *testing.T) {
	r := newPlanRig(t)
	r.bulk("db", manySlow, `"slow":true`)
	cancel, _ := startSlowDryRun(t, r)
	cancel()
	r.noDryRun()
	_, rest := startSlowDryRun(t, r)
	r.a("POST", "/db/_offline", "").is(200)
	line, err := io.ReadAll(rest)
	if err != nil || !strings.Contains(string(line), `"error":"Service Unavailable"`) {
		t.Errorf("%v: %s", err, line)
	}
	if db, err := r.gateway.Database("db"); err != nil || db.State() != gateway.Offline {
		t.Error(err)
	}
}
