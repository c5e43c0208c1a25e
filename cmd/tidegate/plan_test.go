package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// planFile writes a function into a file.
func planFile(t *testing.T, source string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "sync.js")
	if err := os.WriteFile(name, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestPlan(t *testing.T) {
	p := startServe(t, "--data", t.TempDir())
	want(t, "PUT", p.admin+"/db/", `{"sync":"function (doc) { channel(doc.channels); access(doc.who, doc.gives); }"}`, 201)
	want(t, "PUT", p.admin+"/db/_user/bob", `{"password":"hush-hush","admin_channels":["north"]}`, 201)
	for i := range 1200 {
		if i%100 == 0 {
			var docs []string
			for n := range 100 {
				docs = append(docs, fmt.Sprintf(`{"_id":"d%04d","channels":["north"],"region":"south"}`, i+n))
			}
			want(t, "POST", p.admin+"/db/_bulk_docs", `{"docs":[`+strings.Join(docs, ",")+`]}`, 201)
		}
	}
	want(t, "PUT", p.admin+"/db/same", `{"channels":["north"],"region":"north","who":"bob","gives":"extra"}`, 201)
	moves := planFile(t, "function (doc) {\n  channel(doc.region);\n}\n")
	grows := planFile(t, "function (doc) {\n  channel(doc.channels);\n  channel(doc.region);\n  access(doc.who, doc.gives);\n}\n")
	same := planFile(t, "function (doc) {\n  channel(doc.channels); access(doc.who, doc.gives);\n}\n")
	throws := planFile(t, "function (doc) {\n  channel(doc.channels); access(doc.who, doc.gives);\n  if (doc.who) {\n    doc.none.at.all();\n  }\n}\n")
	refuses := planFile(t, "function (doc) {\n  if (doc.who) { throw({forbidden: \"no\\u001b[2J\"}); }\n  channel(doc.channels);\n}\n")
	for _, c := range []struct {
		args   []string
		status int
		want   []string
	}{
		{[]string{"--sync-function", same}, 0, []string{"1,201 documents, 0 would change", "No changes"}},
		{nil, 0, []string{"No changes"}},
		{[]string{"--sync-function", moves}, 2, []string{
			"  north  .       -1,200\n", "  south  +1,200  .\n", "  user bob  .  -1,200  channels -extra\n", "  d0000  +south -north\n", "  and 1,181 more documents\n",
			"Plan: 1,201 of 1,201 documents change, 1 users and 0 roles reach others; the function throws for 0 and refuses 0.\n",
		}},
		{[]string{"--sync-function", moves, "--fail-on", "losses"}, 2, nil},
		{[]string{"--sync-function", moves, "--fail-on", "throws"}, 0, nil},
		{[]string{"--sync-function", grows}, 2, []string{"+1,200"}},
		{[]string{"--sync-function", grows, "--fail-on", "losses"}, 0, []string{"+1,200"}},
		{[]string{"--sync-function", throws}, 3, []string{"  same  exception  line 4, column 13: TypeError: cannot read property 'at' of undefined\n"}},
		{[]string{"--sync-function", throws, "--fail-on", "throws", "--keyspace", "_default._default"}, 3, nil},
		{[]string{"--sync-function", throws, "--fail-on", "none"}, 0, nil},
		{[]string{"--sync-function", refuses}, 2, []string{"  same  rejected  no?[2J\n"}},
		{[]string{"--sync-function", planFile(t, "function (doc) {\n  channel(;\n}")}, 1, nil},
		{[]string{"--sync-function", "/no/such/file"}, 1, nil},
		{[]string{"--keyspace", "no.such"}, 1, nil},
		{[]string{"--keyspace", "nothing"}, 1, nil},
		{[]string{"--fail-on", "loses"}, 1, nil},
		{[]string{"-o", "yaml"}, 1, nil},
	} {
		out, status, err := runTool(t.Context(), append([]string{"plan", "--db", "db", "--admin", p.admin}, c.args...)...)
		if status != c.status || (status == 1) != (err != nil && err.Error() != "") {
			t.Errorf("%q: status %d, want %d (%v)\n%s", c.args, status, c.status, err, out)
		}
		for _, w := range c.want {
			if !strings.Contains(out, w) {
				t.Errorf("%q: no %q in\n%s", c.args, w, out)
			}
		}
		if strings.Contains(out, "hush") || strings.Contains(out, "\x1b") {
			t.Errorf("%q: a secret, or something for the terminal in %q", c.args, out)
		}
	}
	out, status, _ := runTool(t.Context(), "plan", "--db", "db", "--admin", p.admin, "--sync-function", moves, "-o", "json")
	var r struct {
		Would int64 `json:"docs_would_change"`
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil || r.Would != 1201 || status != 2 {
		t.Errorf("status %d, %v: %s", status, err, out)
	}
	if _, _, err := runTool(t.Context(), "plan", "--db", "db", "--admin", p.admin, "--sync-function", planFile(t, "function (doc) {\n  channel(;\n}")); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("got %v", err)
	}
	if got := want(t, "GET", p.admin+"/db/_resync", "", 200); !strings.Contains(got, `"resync_id":""`) {
		t.Errorf("a plan has left a trace: %s", got)
	}
}

// TestPlanShowsProgress, on a terminal and elsewhere, and what becomes of streams that end early.
func TestPlanShowsProgress(t *testing.T) {
	const progress = `{"progress":{"status":"running","mode":"dry_run","docs_total":1000,"docs_processed":500}}` + "\n"
	answer := ""
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, answer) }))
	defer gateway.Close()
	o, err := parsePlan([]string{"--db", "db", "--admin", gateway.URL}, noEnv, stdio{})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	view := newPlanView(&out)
	view.terminal = true
	answer = progress + `{"report":{"docs_processed":1000}}` + "\n"
	report, _, err := runPlan(t.Context(), o, view)
	if err != nil || report.DocsProcessed != 1000 || !strings.Contains(out.String(), "[##########----------] running: 500 of 1,000") || !strings.HasSuffix(out.String(), "\n") {
		t.Errorf("%v, %q", err, out.String())
	}
	for _, c := range []struct{ answer, want string }{
		{progress, "without a report"},
		{progress + `{"error":"Service Unavailable","reason":"the resync was stopped"}`, "the resync was stopped"},
		{progress + `<html>`, "read the answer"},
	} {
		answer = c.answer
		if _, _, err := runPlan(t.Context(), o, newPlanView(&out)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.answer, err)
		}
	}
}

// TestPlanIsInterrupted: the gateway does not go on for nobody.
func TestPlanIsInterrupted(t *testing.T) {
	gone := make(chan struct{})
	began := make(chan struct{})
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, `{"progress":{"status":"running"}}`)
		_ = http.NewResponseController(w).Flush()
		close(began)
		<-r.Context().Done()
		close(gone)
	}))
	defer gateway.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() { <-began; cancel() }()
	if _, status, err := runTool(ctx, "plan", "--db", "db", "--admin", gateway.URL); status != 130 {
		t.Errorf("status %d, %v", status, err)
	}
	<-gone
}
