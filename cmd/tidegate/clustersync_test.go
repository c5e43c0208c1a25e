package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidegate/tidegate/internal/clustersync"
)

const secretURI = "mongodb://admin:hunter2secret@localhost:2701"

// Every mistake on the command line or in the file is told in words, with status 2, and no password with it.
func TestClusterSyncArguments(t *testing.T) {
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "sync.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	both := []string{"--cluster0", secretURI, "--cluster1", secretURI + "1"}
	with := func(more ...string) []string { return append(both[:len(both):len(both)], more...) }
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "--cluster0 is required"},
		{both[:2], "--cluster1 is required"},
		{with("--id", "shard01"), "not supported"},
		{with("--port", "70000"), "--port"},
		{with("--port", "x"), "port"},
		{with("--loadLevel", "5"), "--loadLevel"},
		{with("--verbosity", "LOUD"), "--verbosity"},
		{with("--createIndexesBatchSize", "65"), "--createIndexesBatchSize"},
		{with("--migrationName", "a-b"), "--migrationName"},
		{with("--migrationName", "a", "--metadataDb", "b"), "give one"},
		{with("--changeSource", "magic"), "--changeSource"},
		{with("--copyWorkers", "-1"), "--copyWorkers"},
		{with("--batchBytes", "1"), "--batchBytes"},
		{with("--massDeletePercent", "101"), "--massDeletePercent"},
		{with("--oplogRolloverResilienceIntervalSeconds", "-2"), "--oplogRolloverResilienceIntervalSeconds"},
		{with("--hotDocIDs", "{}"), "--hotDocIDs"},
		{with("--hotDocIDs", `{"database":"a","collection":"b","ids":[{"x":1}]}`), "--hotDocIDs"},
		{with("--hotDocIDs", `{"database":"a","collection":"b","ids":[{"_id":1}],"more":1}`), "--hotDocIDs"},
		{with("--host", "0.0.0.0"), "--insecure-listen"},
		{with("--speed", "9"), "unknown flag"},
		{with("mongodb://a:hunter2secret@b"), "flags only"},
		{[]string{"--config", file("cluster2: x")}, `there is no setting "cluster2"`},
		{[]string{"--config", file("config: x")}, `there is no setting "config"`},
		{[]string{"--config", file("port: 1\nport: 2")}, "given twice"},
		{[]string{"--config", file("port: [1]")}, "single value"},
		{[]string{"--config", file("port: hunter2secret")}, "cannot be used"},
		{[]string{"--config", file("- port")}, "name: value"},
		{[]string{"--config", file("cluster0: \"mongodb://a:hunter2secret")}, "not YAML"},
		{[]string{"--config", file("port: 27000")}, "--cluster0 is required"},
	} {
		var out, errOut bytes.Buffer
		err := run(t.Context(), append([]string{"clustersync"}, tt.args...), noEnv, stdio{strings.NewReader(""), &out, &errOut})
		if err == nil || exitCode(err) != 2 || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want %q", tt.args, err, tt.want)
		}
		if all := fmt.Sprint(err) + out.String() + errOut.String(); strings.Contains(all, "hunter2secret") {
			t.Errorf("%q shows a password: %s", tt.args, all)
		}
	}
}

// URIs that cannot be used end it with 1, also without a password in what it says (spec §2.1).
func TestClusterSyncURIs(t *testing.T) {
	const good = "mongodb://admin:hunter2secret@127.0.0.1:1"
	for uri, want := range map[string]string{
		good + "/?readConcernLevel=local":     "Invalid URI option, read concern must be majority",
		good + "/?w=1":                        "Invalid URI option, write concern must be majority",
		good + "/?readPreference=secondary":   "read preference",
		good + "/?socketTimeoutMS=1":          "socketTimeoutMS",
		"postgres://admin:hunter2secret@h":    "must begin with mongodb://",
		"tidegate://admin:hunter2secret@h:xx": "tidegate",
	} {
		var out syncBytes
		err := run(t.Context(), []string{"clustersync", "--cluster0", good, "--cluster1", uri, "--port", "0"}, noEnv, stdio{strings.NewReader(""), &out, io.Discard})
		if err == nil || exitCode(err) != 1 || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "cluster1") {
			t.Errorf("%s: %v", uri, err)
		}
		if n := strings.Count(out.String(), `"level":"fatal"`); n != 1 {
			t.Errorf("%s: %d fatal lines", uri, n)
		}
		if strings.Contains(out.String()+fmt.Sprint(err), "hunter2secret") {
			t.Errorf("%s shows a password: %s", uri, out.String())
		}
	}
}

// syncBytes is a buffer that goroutines share.
type syncBytes struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBytes) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBytes) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// What is kept during the copy is told by the flag of mongosync.
func TestClusterSyncSpool(t *testing.T) {
	for value, want := range map[string]clustersync.SpoolMode{"-1": clustersync.SpoolAuto, "0": clustersync.SpoolNever, "60": clustersync.SpoolAlways} {
		o, err := parseClusterSync([]string{"--cluster0", "mongodb://a", "--cluster1", "mongodb://b", "--oplogRolloverResilienceIntervalSeconds", value}, noEnv,
			stdio{strings.NewReader(""), io.Discard, io.Discard})
		if err != nil {
			t.Fatal(err)
		}
		settings := o.control(clusterPair{}, discard()).Settings
		if got := settings.Spool; got != want {
			t.Errorf("%s: %s, want %s", value, got, want)
		}
		if m := settings.MassDelete; m.Percent != 50 || m.Documents != 10_000 {
			t.Errorf("by default: %+v", m)
		}
	}
}

// Flags win over the file, and the file over the environment.
func TestClusterSyncConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sync.yaml")
	text := `# a sync
cluster0: mongodb://file0
port: 1000
loadLevel: 2
disableVerification: true
verbosity: "WARN"
hotDocIDs:
  - '{"database":"a","collection":"b","ids":[{"_id":{"$oid":"0123456789abcdef01234567"}}]}'
  - {db: c, collection: d, ids: [{_id: 1}, {_id: x}]}
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	environ := map[string]string{cluster0Variable: "mongodb://env0", cluster1Variable: "mongodb://env1"}
	o, err := parseClusterSync([]string{"--config", path, "--port", "2000"}, func(n string) (string, bool) { v, ok := environ[n]; return v, ok },
		stdio{strings.NewReader(""), io.Discard, io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	if u := o.uris(); u != [2]string{"mongodb://file0", "mongodb://env1"} || o.port != 2000 || o.loadLevel != 2 || !o.disableVerification || o.verbosity != "WARN" {
		t.Errorf("%+v", o)
	}
	if len(o.hot) != 2 || len(o.hot[1].IDs) != 2 || o.hot[1].Namespace != (clustersync.Namespace{Database: "c", Collection: "d"}) {
		t.Errorf("%v", o.hot)
	}
	if l := o.limits(clustersync.DefaultLoadLevel); l.CopyReaders != clustersync.LoadLevel(2).CopyReaders || l.BatchDocs != clustersync.DefaultBatchDocs {
		t.Errorf("%+v", l)
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", o.attrs()...)
	if strings.Contains(log.String(), "env1") {
		t.Errorf("a URI is logged: %s", &log)
	}
}

// The log looks as mongosync's does (spec §21.1).
func TestSyncLog(t *testing.T) {
	dir := t.TempDir()
	l, err := openSyncLog(&clusterSyncOptions{verbosity: "DEBUG", logPath: dir, metricsLogPath: dir}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	l.Info("hello", "field", strings.Repeat("x", 2000), "password", "hunter2secret")
	l.Log(t.Context(), clustersync.LevelFatal, "bye")
	l.Log(t.Context(), clustersync.LevelTrace, "not shown")
	first, err := os.ReadFile(filepath.Join(dir, syncLogFile))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(first)), "\n")
	var line map[string]any
	if len(lines) != 2 || json.Unmarshal([]byte(lines[0]), &line) != nil || line["message"] != "hello" || line["level"] != "info" || line["mongosyncID"] != "coordinator" ||
		len([]rune(line["field"].(string))) != maxLogField+1 || !strings.Contains(lines[1], `"level":"fatal"`) || strings.Contains(lines[0], "hunter2secret") {
		t.Errorf("%s", first)
	}
	if _, err := time.Parse(time.RFC3339, fmt.Sprint(line["time"])); err != nil {
		t.Error(err)
	}
	if err := l.file.rotate(); err != nil {
		t.Fatal(err)
	}
	aside, err := filepath.Glob(filepath.Join(dir, "mongosync-*.log.gz"))
	if err != nil || len(aside) != 1 {
		t.Fatalf("%v, %v", aside, err)
	}
	f, err := os.Open(aside[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if kept, err := io.ReadAll(z); err != nil || !bytes.Equal(kept, first) {
		t.Errorf("%s, %v", kept, err)
	}
	reg := prometheus.NewRegistry()
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "mongosync_lag_time"})
	reg.MustRegister(g)
	g.Set(3)
	if err := writeMetrics(l.metrics, reg, time.Unix(0, 0).UTC()); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, syncMetricsFile)); err != nil || string(b) != `{"time":"1970-01-01T00:00:00Z","metrics":{"mongosync_lag_time":3}}`+"\n" {
		t.Errorf("%s, %v", b, err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// fakeSync answers as a sync does.
func fakeSync(t *testing.T, progress, namespaces string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api/v1/progress":
			fmt.Fprint(w, progress)
		case "/api/v1/namespaces":
			fmt.Fprint(w, namespaces)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestClusterSyncStatus(t *testing.T) {
	url := fakeSync(t, `{"progress":{"state":"RUNNING","canCommit":true,"canWrite":false,"info":"change event application","ceaStage":"steady state",
"lag":null,"lagTimeSeconds":75,"totalEventsApplied":12345,"collectionCopy":{"estimatedTotalBytes":2048,"estimatedCopiedBytes":1024},
"directionMapping":{"Source":"cluster0: a:1","Destination":"cluster1: b:2"},"mongosyncID":"coordinator","coordinatorID":"coordinator",
"indexBuilding":{"indexesBuilt":1,"totalIndexesToBuild":4,"collectionsFinished":0,"collectionsTotal":2},"warnings":["be\u001b[31m careful"]},"success":true}`,
		`{"namespaces":[{"source":"a.done","destination":"a.done","estimatedBytes":1,"copiedBytes":1,"copiedDocuments":7,"partitions":1,"partitionsDone":1,"copied":true},
{"source":"a.half\u001b[2J","destination":"b.half","estimatedBytes":100,"copiedBytes":50,"copiedDocuments":5,"partitions":2,"partitionsDone":1,"copied":false}],"success":true}`)
	var out bytes.Buffer
	if err := run(t.Context(), []string{"clustersync", "status", "--url", url}, noEnv, stdio{strings.NewReader(""), &out, io.Discard}); err != nil {
		t.Fatal(err)
	}
	want := `tidegate clustersync  RUNNING
direction cluster0: a:1  ->  cluster1: b:2
phase     collections > partitions > copy > [change events] > commit > committed
copy      [##########----------]  50% 1.0 KiB of 2.0 KiB
changes   steady state, lag 1m15s, 12,345 events applied
indexes   [#####---------------]  25% 1 of 4 built, 0 of 2 collections finished
cutover   can commit: yes, can write to the destination: no

namespaces: 1 of 2 copied
  [##########----------]  50%  a.half?[2J -> b.half  5 docs  50 B
  [####################] 100%  a.done                7 docs  1 B
warning   be?[31m careful
`
	if out.String() != want {
		t.Errorf("%s\nwant\n%s", &out, want)
	}
	for _, tt := range []struct{ url, want string }{
		{fakeSync(t, `{"success":false,"error":"OplogRollover","errorDescription":"gone"}`, ""), "OplogRollover: gone"},
		{fakeSync(t, "<html>", ""), "no cluster sync"},
		{"http://127.0.0.1:1", "does not answer"},
	} {
		err := run(t.Context(), []string{"clustersync", "status", "--url", tt.url}, noEnv, stdio{strings.NewReader(""), io.Discard, io.Discard})
		if err == nil || !strings.Contains(err.Error(), tt.want) || exitCode(err) != 1 {
			t.Errorf("%s: %v", tt.url, err)
		}
	}
}

// On a terminal the view is written over in place, within its size.
func TestSyncViewOnTerminal(t *testing.T) {
	var out bytes.Buffer
	v := &syncView{out: &out, terminal: true, color: true, size: func() (int, int) { return 40, 12 }}
	s := &syncStatus{at: time.Unix(100, 0), progress: clustersync.Progress{State: "RUNNING", Info: new("collection copy"), TotalEventsApplied: new(int64),
		CollectionCopy: &clustersync.CollectionCopy{EstimatedTotalBytes: new(int64(4000)), EstimatedCopiedBytes: 1000}}}
	for i := range 30 {
		s.namespaces = append(s.namespaces, clustersync.NamespaceStatus{Source: fmt.Sprintf("a.c%d", i), Destination: fmt.Sprintf("a.c%d", i)})
	}
	for range 2 {
		out.Reset()
		if err := v.show(s, nil); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(out.String(), "\n"); n > 11 || n != v.lines {
			t.Errorf("%d lines:\n%s", n, &out)
		}
		next := *s
		next.at = s.at.Add(2 * time.Second)
		next.progress.CollectionCopy = &clustersync.CollectionCopy{EstimatedTotalBytes: new(int64(4000)), EstimatedCopiedBytes: 2000}
		s = &next
	}
	if !strings.HasPrefix(out.String(), "\x1b[") || !strings.Contains(out.String(), "and ") {
		t.Errorf("%q", &out)
	}
	if b, _ := v.rates(); b != 500 {
		t.Errorf("%v bytes/s", b)
	}
	out.Reset()
	if err := v.show(nil, errors.New("the sync does not answer")); err != nil || v.lines != 1 {
		t.Errorf("%v, %d", err, v.lines)
	}
	v.close()
	if !strings.HasSuffix(out.String(), "\x1b[?25h") {
		t.Error("the cursor stays hidden")
	}
}

// Two gateways and the commands around them, in one process: dry run, sync, status, commit, verify, stop.
func TestClusterSyncOfGateways(t *testing.T) {
	a, b := startServe(t, "--data", t.TempDir()), startServe(t, "--data", t.TempDir())
	for _, p := range []*gatewayProcess{a, b} {
		if code, body := request(t, "PUT", p.admin+"/shop/", `{}`); p == a && code != 201 {
			t.Fatalf("make a database: %d %s", code, body)
		} else if p == b {
			request(t, "DELETE", p.admin+"/shop/", "")
		}
	}
	for i := range 20 {
		request(t, "PUT", fmt.Sprintf("%s/shop/d%d", a.admin, i), `{"n":1}`)
	}
	uri := func(p *gatewayProcess) string {
		return strings.Replace(p.admin, "http://", "tidegate://admin:hunter2secret@", 1)
	}
	command := func(args ...string) (string, error) {
		var out bytes.Buffer
		err := run(t.Context(), append([]string{"clustersync"}, args...), noEnv, stdio{strings.NewReader(""), &out, io.Discard})
		return out.String(), err
	}
	clusters := []string{"--cluster0", uri(a), "--cluster1", uri(b)}
	if out, err := command(append(clusters, "--dry-run")...); err != nil || !strings.Contains(out, "Would be copied: 1 namespaces, about 20 documents") {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := command("verify", "--rounds", "1", uri(a), uri(b)); !errors.Is(err, errDiffer) || exitCode(err) != exitDiffer {
		t.Errorf("verify before the sync: %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	log := newSyncBuffer()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, append([]string{"clustersync", "--port", "0", "--host", "127.0.0.1"}, clusters...), noEnv, stdio{strings.NewReader(""), log, io.Discard})
		log.close()
	}()
	line, ok := log.await(func(e map[string]any) bool { return e["message"] == "Listening" })
	if !ok {
		t.Fatalf("%v\n%s", <-ended, log)
	}
	base := "http://" + line["address"].(string)
	await := func(want string) {
		t.Helper()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for range 1500 {
			if _, body := request(t, "GET", base+"/api/v1/progress", ""); strings.Contains(body, want) {
				return
			}
			<-tick.C
		}
		t.Fatalf("waited in vain for %s\n%s", want, log)
	}
	await(`"state":"IDLE"`)
	if _, body := request(t, "POST", base+"/api/v1/start", `{"source":"cluster0","destination":"cluster1"}`); body != `{"success":true}` {
		t.Fatal(body)
	}
	await(`"canCommit":true`)
	if out, err := command("status", "--url", base); err != nil || !strings.Contains(out, "shop._default._default") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, body := request(t, "POST", base+"/api/v1/commit", `{}`); body != `{"success":true}` {
		t.Fatal(body)
	}
	await(`"state":"COMMITTED"`)
	if out, err := command("verify", "--json", uri(a), uri(b)); err != nil || !strings.Contains(out, `"equal": true`) {
		t.Errorf("%v\n%s", err, out)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if strings.Contains(log.String(), "hunter2secret") {
		t.Error("a password is logged")
	}
}
