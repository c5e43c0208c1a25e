package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeGateway is a gateway that has one replication, whose statuses a test writes down.
type fakeGateway struct {
	*httptest.Server
	mu       sync.Mutex
	defined  map[string]any
	statuses []string // answers, one after another; the last one stays
	requests []string
	auth     string
	stopped  func() // called at action=stop
}

func newFakeGateway(t *testing.T, statuses ...string) *fakeGateway {
	f := &fakeGateway{statuses: statuses, stopped: func() {}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fakeGateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if user, password, ok := r.BasicAuth(); ok {
		f.auth = user + ":" + password
	}
	what := r.Method + " " + strings.TrimPrefix(r.URL.Path, "/db")
	switch {
	case what == "GET /":
		fmt.Fprint(w, `{"update_seq":500}`)
		return
	case what == "POST /_replication/":
		if json.NewDecoder(r.Body).Decode(&f.defined) != nil || f.defined["direction"] == nil {
			w.WriteHeader(400)
			return
		}
		w.WriteHeader(201)
	case r.URL.Query().Get("action") == "stop":
		f.stopped()
	case strings.HasPrefix(what, "GET /_replicationStatus/"):
		status := `{"error":"not_found","reason":"missing"}`
		if f.defined != nil {
			status = f.statuses[0]
			f.statuses = f.statuses[min(1, len(f.statuses)-1):]
		}
		if strings.Contains(status, `"reason"`) {
			w.WriteHeader(404)
		}
		fmt.Fprint(w, status)
		return
	}
	f.requests = append(f.requests, what)
}

// replicate runs the command against the fake and returns what it prints.
func (f *fakeGateway) replicate(ctx context.Context, t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	o, err := parseReplicate(append([]string{f.URL + "/db"}, args...), func(name string) (string, bool) {
		return "environment-" + name, true
	}, stdio{nil, &out, &out})
	if err != nil {
		return "", err
	}
	follower := newFollower(o, &out)
	follower.poll = time.Millisecond
	err = follower.run(ctx)
	return out.String(), err
}

func TestReplicateFollowsToTheEnd(t *testing.T) {
	f := newFakeGateway(t, `{"status":"starting"}`, `{"status":"running","docs_read":1200,"docs_checked_pull":1300,"last_seq_pull":"400"}`,
		`{"status":"stopped","ended":true,"docs_read":12345,"docs_checked_pull":20000,"rejected_by_local":3}`)
	out, err := f.replicate(t.Context(), t, "--pull", "http://eve:hush-hush@127.0.0.1:9/other/", "--filter-channels", "a,b", "--deltas", "--conflicts", "localWins", "--admin-user", "adm")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"starting: 0 checked", "running: 1,300 checked, 1,200 read, 0 written, 0 errors", "done in ", "12,345 read", "3 could not be stored"} {
		if !strings.Contains(out, want) {
			t.Errorf("got %q, want %q", out, want)
		}
	}
	if strings.Contains(out, "lag") || strings.Contains(out, "hush") || strings.Contains(out, "\r") {
		t.Errorf("a lag that is not known, a password or a bar where there is no terminal: %q", out)
	}
	for member, want := range map[string]string{
		"adhoc": "true", "remote": "http://127.0.0.1:9/other", "remote_username": "eve", "remote_password": "hush-hush", "direction": "pull",
		"continuous": "false", "max_backoff_time": "0", "conflict_resolution_type": "localWins", "enable_delta_sync": "true",
		"filter": "sync_gateway/bychannel", "query_params": "map[channels:[a b]]",
	} {
		if got := fmt.Sprint(f.defined[member]); got != want {
			t.Errorf("%s: got %s, want %s", member, got, want)
		}
	}
	if f.auth != "adm:environment-TIDEGATE_ADMIN_PASSWORD" {
		t.Errorf("logged in as %s", f.auth)
	}
}

func TestReplicateShowsTheLag(t *testing.T) {
	f := newFakeGateway(t, `{"status":"running","last_seq_push":"100"}`, `{"status":"stopped","ended":true}`)
	out, err := f.replicate(t.Context(), t, "http://127.0.0.1:9/other")
	if err != nil || !strings.Contains(out, "lag 400") {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestReplicateOnATerminal(t *testing.T) {
	var out bytes.Buffer
	v := newProgressView(&out)
	v.terminal = true
	v.lag(250, 1000)
	v.show(&replicationStatus{Status: "running", Written: 10}, v.started.Add(2*time.Second))
	v.summary(&replicationStatus{Written: 12, WriteFailures: 2, Conflicts: 1, RejectedThere: 1}, nil)
	for _, want := range []string{"\r", "[###############-----] running", "10 written", "5/s", "lag 250", "\ndone in", "1 conflicts, 1 by"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got %q, want %q", out.String(), want)
		}
	}
}

func TestReplicateFails(t *testing.T) {
	for _, c := range []struct {
		name, status, want string
		deleted            bool
	}{
		{"an error", `{"status":"error","error_message":"no common subprotocol"}`, "no common subprotocol", true},
		{"stopped by others", `{"status":"removed","ended":true}`, "stopped or deleted", false},
		{"forgotten", `{"error":"not_found","reason":"missing"}`, "does not know the replication any more", false},
		{"too long without a connection", `{"status":"reconnecting","error_message":"connection refused"}`, "connection refused", true},
	} {
		f := newFakeGateway(t, `{"status":"starting"}`, c.status)
		out, err := f.replicate(t.Context(), t, "http://127.0.0.1:9/other", "--both", "--patience", "1ns")
		if err == nil || exitCode(err) != 1 || !strings.Contains(err.Error(), c.want) || !strings.Contains(out, "ended in") {
			t.Errorf("%s: got %v, %q", c.name, err, out)
		}
		if deleted := strings.HasPrefix(f.requests[len(f.requests)-1], "DELETE /_replication/cli-"); deleted != c.deleted {
			t.Errorf("%s: requests %q", c.name, f.requests)
		}
	}
}

func TestReplicateIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := newFakeGateway(t, `{"status":"running","docs_written":7}`)
	f.stopped = func() { f.statuses = []string{`{"status":"removed","ended":true,"docs_written":9}`} }
	time.AfterFunc(20*time.Millisecond, cancel)
	out, err := f.replicate(ctx, t, "http://127.0.0.1:9/other", "--continuous")
	if !errors.Is(err, errInterrupted) || exitCode(err) != 130 {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(out, "9 written") || f.requests[len(f.requests)-1] != "PUT /_replicationStatus/"+f.defined["replication_id"].(string) {
		t.Errorf("got %q after %q", out, f.requests)
	}
	if _, limited := f.defined["max_backoff_time"]; limited {
		t.Error("a continuous replication gives up")
	}
}

func TestReplicateTwiceAtOnce(t *testing.T) {
	f := newFakeGateway(t, `{"status":"running"}`)
	f.defined = map[string]any{}
	if _, err := f.replicate(t.Context(), t, "http://127.0.0.1:9/other"); err == nil || !strings.Contains(err.Error(), "curl -X DELETE") {
		t.Errorf("got %v", err)
	}
	if len(f.requests) > 0 {
		t.Errorf("it asked for %q", f.requests)
	}
}

func TestReplicateCommandLines(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"http://h/a", "needs SRC and DST"},
		{"http://h/a http://eve:hush@h/b http://eve:hush@h/c", "and nothing more"},
		{"http://h/a http://eve:hush@[h/b", "DST is not a URL"},
		{"http://eve:hush@h http://h/b", "SRC must be of the form"},
		{"http://h/a ftp://eve:hush@h/b", "DST must be of the form"},
		{"http://h/a http://h/b --pull --both", "say one of"},
		{"http://h/a http://h/b --password hush", "no user"},
		{"http://h/a http://h/b --pasword=hush", `did you mean "password"?`},
		{"--pull=maybe http://h/a http://h/b", "invalid boolean"},
		{"http://h/a http://h/b --patience -1s", "--patience"},
	} {
		err := run(t.Context(), append([]string{"replicate"}, strings.Fields(c.args)...), noEnv, stdio{nil, io.Discard, io.Discard})
		if !errors.Is(err, errUsage) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: got %v, want %q", c.args, err, c.want)
		}
	}
	var out bytes.Buffer
	secrets := func(string) (string, bool) { return "hush", true }
	if err := run(t.Context(), []string{"replicate", "--help"}, secrets, stdio{nil, &out, &out}); err != nil || !strings.Contains(out.String(), "-filter-channels") || strings.Contains(out.String(), "hush") {
		t.Errorf("got %v, %s", err, &out)
	}
}

func TestGrouped(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -123456: "-123,456", 1234567: "1,234,567"} {
		if got := grouped(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}
