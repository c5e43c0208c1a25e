package clustersync_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/clustertest"
)

// What is not a proper request gets the envelope and its status (spec §3), and is in no state's way.
func TestEnvelope(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.bring("IDLE")
		for _, tt := range []struct {
			method, path, body string
			status             int
			name, text         string
		}{
			{"POST", "/api/v1/start", `{"source":"cluster0"`, 400, "InvalidRequest", "ends too early"},
			{"POST", "/api/v1/start", `{"source":"cluster0","destination":"cluster1","speed":3}`, 400, "InvalidRequest", `"speed"`},
			{"POST", "/api/v1/start", `{"source":"cluster0","source":"cluster0"}`, 400, "InvalidRequest", `"source" is given twice`},
			{"POST", "/api/v1/start", `{"source":true}`, 400, "InvalidRequest", `"source"`},
			{"POST", "/api/v1/start", `{"source":"cluster0","destination":"cluster2"}`, 200, "InvalidOption", `"destination"`},
			{"POST", "/api/v1/start", "", 400, "InvalidRequest", "empty"},
			{"POST", "/api/v1/start", "source=cluster0", 400, "InvalidRequest", "not valid JSON"},
			{"POST", "/api/v1/start", strings.Repeat(" ", 1<<20) + "{}", 413, "InvalidRequest", "1048576"},
			{"POST", "/api/v1/pause", "", 400, "InvalidRequest", "empty"},
			{"POST", "/api/v1/resume", "[]", 400, "InvalidRequest", "JSON object"},
			{"POST", "/api/v1/commit", `{"force":true}`, 400, "InvalidRequest", `"force"`},
			{"POST", "/api/v1/reverse", `null`, 400, "InvalidRequest", "JSON object"},
			{"POST", "/api/v1/reverse/", `{}`, 200, "InvalidStateTransition", "IDLE"},
			{"GET", "/api/v1/start", "", 405, "InvalidRequest", "POST"},
			{"PUT", "/api/v1/pause", "{}", 405, "InvalidRequest", "POST"},
			{"POST", "/api/v1/progress", "{}", 405, "InvalidRequest", "GET"},
			{"OPTIONS", "/api/v1/start", "", 405, "InvalidRequest", "POST"},
			{"GET", "/api/v1", "", 404, "InvalidRequest", "nothing"},
			{"GET", "/api/v2/progress", "", 404, "InvalidRequest", "nothing"},
			{"GET", "/api/v1/Progress", "", 404, "InvalidRequest", "nothing"},
			{"GET", "/api/v1/../v1/progress", "", 404, "InvalidRequest", "nothing"},
			{"GET", "/api/v1/progress//", "", 404, "InvalidRequest", "nothing"},
		} {
			a := r.do(tt.method, tt.path, tt.body)
			if a.Status != tt.status || a.Success == nil || *a.Success || a.Error != tt.name || !strings.Contains(a.Description, tt.text) ||
				!regexp.MustCompile(`^\{"success":false,"error":"\w+","errorDescription":".+"\}$`).MatchString(a.raw) {
				t.Errorf("%s %s: %d %s; want %d %s with %s", tt.method, tt.path, a.Status, a.raw, tt.status, tt.name, tt.text)
			}
			if a.header.Get("Content-Type") != "application/json" || !uuid.MatchString(a.header.Get("Trace-Id")) {
				t.Errorf("%s %s: header %v", tt.method, tt.path, a.header)
			}
			if (a.Status == 405) != (a.header.Get("Allow") != "") {
				t.Errorf("%s %s: Allow %q", tt.method, tt.path, a.header.Get("Allow"))
			}
		}
		if r.state() != "IDLE" || r.records() != "" {
			t.Errorf("%s, %s", r.state(), r.records())
		}
		if a := r.do("GET", "/api/v1/progress/", ""); a.Status != 200 {
			t.Errorf("with a slash: %d %s", a.Status, a.raw)
		}
		w := httptest.NewRecorder()
		r.api.ServeHTTP(w, httptest.NewRequest("HEAD", "http://localhost/api/v1/progress", nil))
		if w.Code != 200 || w.Body.Len() != 0 {
			t.Errorf("HEAD: %d %s", w.Code, w.Body)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// Pages of other sites do not get through, whatever name or address they use (spec §3).
func TestHostAndOrigin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.bring("RUNNING")
		for _, tt := range []struct {
			host    string
			origins []string
			allowed bool
		}{
			{"localhost:27182", nil, true}, {"localhost", nil, true}, {"LOCALHOST:1", nil, true}, {"127.0.0.1:27182", nil, true}, {"[::1]:27182", nil, true},
			{"[::1]", nil, true}, {"evil.example:27182", nil, false}, {"127.0.0.1.evil.example", nil, false}, {"localhost.evil.example", nil, false},
			{"", nil, false}, {"10.0.0.1:27182", nil, false}, {"127.0.0.2", nil, false}, {"[::2]", nil, false}, {"localhost:27182@evil", nil, false},
			{"localhost:27182", []string{"http://localhost:27182"}, true}, {"127.0.0.1:27182", []string{"http://127.0.0.1:27182"}, true},
			{"localhost:27182", []string{"http://evil.example"}, false}, {"localhost:27182", []string{"http://localhost:3000"}, false},
			{"localhost:27182", []string{"http://localhost"}, false}, {"localhost:27182", []string{"https://localhost:27182"}, false},
			{"localhost:27182", []string{"null"}, false}, {"localhost:27182", []string{""}, false}, {"localhost:27182", []string{"file://"}, false},
			{"localhost:27182", []string{"http://localhost:27182", "http://evil.example"}, false},
			{"localhost:27182", []string{"http://evil.example@localhost:27182"}, false},
		} {
			for _, path := range []string{"/api/v1/pause", "/api/v1/progress", "/metrics", "/"} {
				method, body := "GET", ""
				if path == "/api/v1/pause" {
					method, body = "POST", `{"not":"this"}`
				}
				req := httptest.NewRequest(method, "http://localhost"+path, strings.NewReader(body))
				req.Host = tt.host
				for _, o := range tt.origins {
					req.Header.Add("Origin", o)
				}
				w := httptest.NewRecorder()
				r.api.ServeHTTP(w, req)
				if allowed := w.Code != http.StatusForbidden; allowed != tt.allowed {
					t.Errorf("%s %s for host %q from %q: %d", method, path, tt.host, tt.origins, w.Code)
				}
				if w.Code == http.StatusForbidden && !strings.Contains(w.Body.String(), `"success":false`) {
					t.Errorf("no envelope: %s", w.Body)
				}
			}
		}
		if r.state() != "RUNNING" {
			t.Error("a refused call had an effect")
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// /progress in IDLE and INITIALIZING: everything but state and canCommit is null (spec §5.2).
func TestProgressBeforeStart(t *testing.T) {
	for _, state := range []string{"IDLE", "INITIALIZING"} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.bring(state)
			a := r.do("GET", "/api/v1/progress", "")
			want := `{"progress":{"state":"` + state + `","canCommit":false,"canWrite":null,"info":null,"lag":null,"lagTimeSeconds":null,"totalEventsApplied":null,` +
				`"collectionCopy":null,"directionMapping":null,"mongosyncID":null,"coordinatorID":null},"success":true}`
			if a.raw != want {
				t.Errorf("%s, want %s", a.raw, want)
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// /progress while it runs, member by member, in this order.
func TestProgressWhileRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.bring("IDLE")
		r.snapshot = clustersync.Snapshot{
			Phase: clustersync.PhaseApply, CanCommit: true, CEAStage: "steady state", LagSeconds: new(int64(2)), CatchUpSeconds: new(int64(7)),
			Events: clustersync.EventCounts{Applied: 12}, Copy: clustersync.CopyCounts{TotalBytes: 600, CopiedBytes: 694},
			Index: &clustersync.IndexBuilding{IndexesBuilt: 1, TotalIndexesToBuild: 4, CollectionsFinished: 0, CollectionsTotal: 2}, Warnings: []string{"careful"},
			Verification: &clustersync.VerificationProgress{
				Source: clustersync.VerificationSide{EstimatedDocumentCount: 5, Phase: clustersync.StreamHashing}, Destination: clustersync.VerificationSide{Phase: clustersync.InitialHashing},
			},
		}
		r.mustPost("start")
		side := func(n, phase string) string {
			return `{"estimatedDocumentCount":` + n + `,"hashedDocumentCount":0,"lagTimeSeconds":0,"totalCollectionCount":0,"scannedCollectionCount":0,"phase":"` + phase + `"}`
		}
		want := func(pings string) string {
			return `{"progress":{"state":"RUNNING","canCommit":true,"canWrite":false,"info":"change event application","ceaStage":"steady state",` +
				`"lag":{"overallLagSeconds":2,"crudLagSeconds":2,"ddlLagSeconds":2},"lagTimeSeconds":2,"totalEventsApplied":12,` +
				`"collectionCopy":{"estimatedTotalBytes":694,"estimatedCopiedBytes":694},` +
				`"directionMapping":{"Source":"cluster0: host0:27017","Destination":"cluster1: host1:27017"},"mongosyncID":"coordinator","coordinatorID":"coordinator",` +
				`"indexBuilding":{"indexesBuilt":1,"totalIndexesToBuild":4,"collectionsFinished":0,"collectionsTotal":2},` + pings +
				`"estimatedSecondsToCEACatchup":7,"estimatedOplogTimeRemaining":"not checked yet","warnings":["careful"],` +
				`"verification":{"source":` + side("5", "stream hashing") + `,"destination":` + side("0", "initial hashing") + `}},"success":true}`
		}
		if a := r.do("GET", "/api/v1/progress", ""); a.raw != want("") {
			t.Errorf("%s\nwant %s", a.raw, want(""))
		}
		r.conns[1].Inject(func(c clustertest.Call) clustertest.Fault {
			if c.Name == "Ping" {
				return clustertest.Fault{Err: clustertest.Passing()}
			}
			return clustertest.Fault{}
		})
		time.Sleep(40 * time.Second)
		a := r.do("GET", "/api/v1/progress", "")
		if !strings.Contains(a.raw, `"source":{"pingLatencyMs":1},"destination":{"pingLatencyMs":-1}`) {
			t.Error(a.raw)
		}
		m := r.do("GET", "/metrics", "")
		for _, line := range []string{
			`mongosync_phase{phase="change event application",state="RUNNING"} 1`, "mongosync_lag_time 2", "mongosync_src_ping_latency 1", "mongosync_dst_unavailable 1",
			"mongosync_cea_total_events_applied 12", "mongosync_collection_copy_copied_bytes_count 694", "mongosync_verifier_auditor_estimated_docs_count 5",
		} {
			if !strings.Contains(m.raw, line+"\n") {
				t.Errorf("no %q in %s", line, m.raw)
			}
		}
		if !strings.Contains(r.log.String(), `"Replication progress"`) {
			t.Error("no line tells of the progress")
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// Members that are there only at times.
func TestProgressLeavesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.settings.DisableVerification = true
		r.snapshot = clustersync.Snapshot{Phase: clustersync.PhaseCopy, CatchUpSeconds: new(int64(3))}
		r.bring("PAUSED")
		a := r.do("GET", "/api/v1/progress", "")
		for _, member := range []string{"verification", "ceaStage", "indexBuilding", "source", "destination", "estimatedSecondsToCEACatchup", "estimatedOplogTimeRemaining", "warnings"} {
			if _, there := a.Progress[member]; there {
				t.Errorf("%s in %s", member, a.raw)
			}
		}
		if cc, _ := a.Progress["collectionCopy"].(map[string]any); cc["estimatedTotalBytes"] != 1.0 || cc["estimatedCopiedBytes"] != 0.0 {
			t.Errorf("before the copy: %s", a.raw)
		}
		for _, member := range []string{"lag", "lagTimeSeconds"} {
			if v, there := a.Progress[member]; !there || v != nil {
				t.Errorf("%s while paused: %s", member, a.raw)
			}
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// Each request has its two lines, with one trace (spec §21.2).
func TestRequestLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.bring("IDLE")
		a := r.post("start")
		trace := a.header.Get("Trace-Id")
		var received, sent bool
		for line := range strings.Lines(r.log.String()) {
			if !strings.Contains(line, trace) {
				continue
			}
			received = received || strings.Contains(line, `"msg":"Received request"`) && strings.Contains(line, `"uri":"/api/v1/start"`) && strings.Contains(line, "cluster0")
			sent = sent || strings.Contains(line, `"msg":"sent response"`) && strings.Contains(line, `"status":200`) && strings.Contains(line, "true}")
		}
		if !received || !sent {
			t.Errorf("%s", r.log)
		}
		if !strings.Contains(r.log.String(), "Preflight checks completed.") {
			t.Error("no line of the checks")
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// What each namespace is at is an answer of its own; /progress stays as it is.
func TestNamespaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.bring("IDLE")
		if a := r.do("GET", "/api/v1/namespaces", ""); a.raw != `{"namespaces":[],"success":true}` {
			t.Error(a.raw)
		}
		ns := clustersync.Namespace{Database: "a", Collection: "b"}
		r.snapshot.Namespaces = []clustersync.NamespaceProgress{{Source: ns, Destination: ns, TotalBytes: 10, CopiedBytes: 5, CopiedDocuments: 2, Partitions: 2, Done: 1}}
		r.mustPost("start")
		want := `{"namespaces":[{"source":"a.b","destination":"a.b","estimatedBytes":10,"copiedBytes":5,"copiedDocuments":2,"partitions":2,"partitionsDone":1,"copied":false}],"success":true}`
		if a := r.do("GET", "/api/v1/namespaces", ""); a.raw != want {
			t.Error(a.raw)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A bug is 500 with the envelope, and the next request is answered.
func TestPanicIsInternalError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.bring("RUNNING")
		r.mu.Lock()
		r.panics = true
		r.mu.Unlock()
		if a := r.do("GET", "/api/v1/progress", ""); a.Status != 500 || a.Error != "InternalError" || strings.Contains(a.raw, "goroutine") {
			t.Errorf("%d %s", a.Status, a.raw)
		}
		r.mu.Lock()
		r.panics = false
		r.mu.Unlock()
		if s := r.state(); s != "RUNNING" {
			t.Error(s)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}
