package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// runResync runs the command as main does.
func runResync(ctx context.Context, in string, args ...string) (string, error) {
	var out bytes.Buffer
	err := run(ctx, append([]string{"resync"}, args...), noEnv, stdio{strings.NewReader(in), &out, &out})
	return out.String(), err
}

func TestResyncCommandLine(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"", "say which database with --db"},
		{"statsu --db notes", `unknown argument "statsu" (did you mean "status"?)`},
		{"--db notes --wiat", `unknown flag --wiat (did you mean "wait"?)`},
		{"--db notes more", `unexpected argument "more"`},
		{"--db notes --sync-function f.js", "--sync-function goes with --online"},
		{"--db notes --online --regenerate", "--regenerate does not go with --online"},
		{"--db notes --online --take-offline", "say one of --take-offline and --online"},
		{"--db notes --admin ftp://x", "--admin must be of the form"},
		{"--db notes --admin http://x --admin-password hush-hush", "there is a password for --admin and no user"},
	} {
		out, err := runResync(t.Context(), "", strings.Fields(tt.args)...)
		if !errors.Is(err, errUsage) || !strings.Contains(err.Error(), tt.want) || strings.Contains(out, "hush-hush") {
			t.Errorf("%s: %v\n%s", tt.args, err, out)
		}
	}
	if _, err := runResync(t.Context(), "", "--db", "notes", "--online", "--sync-function", filepath.Join(t.TempDir(), "none.js")); err == nil || !strings.Contains(err.Error(), "read sync function") {
		t.Errorf("a file that is not there: %v", err)
	}
	out, err := runResync(t.Context(), "", "--help")
	if err != nil {
		t.Error(err)
	}
	for _, name := range []string{
		"-db", "-admin", "-admin-user", "-admin-password", "-online", "-sync-function", "-collections", "-regenerate", "-reset", "-take-offline", "-wait",
	} {
		if !strings.Contains(out, "  "+name+" ") && !strings.Contains(out, "  "+name+"\n") {
			t.Errorf("help does not tell of %s", name)
		}
	}
}

// TestResyncOfAGateway runs the command against a real gateway: as the seed has it, and online.
func TestResyncOfAGateway(t *testing.T) {
	p := startServe(t, "--data", t.TempDir())
	db := []string{"--db", "notes", "--admin", p.admin}
	want(t, "PUT", p.admin+"/notes/", `{"sync":"function (doc) { channel('a'); }"}`, 201)
	want(t, "POST", p.admin+"/notes/_bulk_docs", bulk(0, 300), 201)
	expect := func(in, output string, args ...string) {
		t.Helper()
		out, err := runResync(t.Context(), in, append(args, db...)...)
		if err != nil || !strings.Contains(out, output) {
			t.Errorf("tidegate resync %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	fails := func(reason string, args ...string) {
		t.Helper()
		out, err := runResync(t.Context(), "", append(args, db...)...)
		if err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("tidegate resync %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	expect("", "there never was a resync of notes", "status")
	fails("must be _offline before calling _resync, current state: Online (--take-offline does that, and --online does without)")
	fails("Database _resync is not running", "stop")
	fails("failed to find ID for collection s.c", "--online", "--collections", "s.c")
	fails(`"s" is not of the form scope.collection`, "--online", "--collections", "s")

	want(t, "POST", p.admin+"/notes/_config", `{"sync":"function (doc) { channel('b'); }"}`, 201)
	expect("", "notes is online", "--take-offline")
	expect("", "completed: 300 of 300 documents, 300 changed", "status")
	expect("function (doc) { channel('c'); }", "completed: 300 of 300 documents, 300 changed", "--online", "--sync-function", "-", "--wait")
	if got := want(t, "GET", p.admin+"/notes/_config/sync", "", 200); got != "function (doc) { channel('c'); }" {
		t.Errorf("the function is %s", got)
	}
	file := filepath.Join(t.TempDir(), "bad.js")
	if err := os.WriteFile(file, []byte("function (doc) { chanel('d'); }"), 0o600); err != nil {
		t.Fatal(err)
	}
	fails("'chanel' is not defined", "--online", "--sync-function", file)
	want(t, "POST", p.admin+"/notes/_offline", "", 200)
	expect("", "completed: 300 of 300 documents, 300 changed", "start", "--regenerate", "--reset", "--wait", "--collections", "_default._default")
	expect("", "runs; `tidegate resync status --db notes`")
	out, err := runResync(t.Context(), "", "--db", "none", "--admin", p.admin)
	if err == nil || !strings.Contains(err.Error(), `no such database "none"`) {
		t.Errorf("a database that is not there: %v\n%s", err, out)
	}
}

// TestResyncIsFollowed: Ctrl-C ends nothing on the gateway; a run that fails or is stopped is no success.
func TestResyncIsFollowed(t *testing.T) {
	for _, tt := range []struct{ status, want string }{
		{"completed", ""}, {"stopped", "was stopped"}, {"error", "the resync failed: the disk is full"},
	} {
		err := outcome(&resyncStatus{Status: tt.status, Error: "the disk is full"})
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.status, err)
		}
	}
	p := startServe(t, "--data", t.TempDir())
	slow := `{"sync":"function (doc) { if (doc.owner && !doc._deleted) { var t = Date.now(); while (Date.now() - t < 30 && doc.slow) {} } channel('a'); }","resync_concurrency":1}`
	want(t, "PUT", p.admin+"/notes/", slow, 201)
	want(t, "POST", p.admin+"/notes/_bulk_docs", strings.ReplaceAll(bulk(0, 100), `"owner"`, `"slow":true,"owner"`), 201)
	want(t, "POST", p.admin+"/notes/_offline", "", 200)
	ctx, cancel := context.WithCancel(t.Context())
	out := newSyncBuffer()
	ended := make(chan error, 1)
	go func() {
		defer out.close()
		ended <- run(ctx, []string{"resync", "--db", "notes", "--admin", p.admin, "--wait"}, noEnv, stdio{nil, out, out})
	}()
	if !out.awaitText("running: ") {
		t.Fatalf("%v\n%s", <-ended, out)
	}
	cancel()
	if err := <-ended; !errors.Is(err, errInterrupted) || !strings.Contains(err.Error(), "the resync goes on") {
		t.Errorf("interrupted: %v", err)
	}
	text, err := runResync(t.Context(), "", "stop", "--db", "notes", "--admin", p.admin)
	if err != nil || !strings.Contains(text, "stopped") {
		t.Errorf("stop: %v\n%s", err, text)
	}
}

func TestResyncLine(t *testing.T) {
	left := int64(75)
	v := &resyncView{out: io.Discard, terminal: true, started: time.Now()}
	got := v.line(&resyncStatus{Status: "running", Processed: 12_345, Total: 50_000, Changed: 77, Rejected: 2, Errored: 1, PerSecond: 1000, Left: &left})
	const want = "[####----------------] running: 12,345 of 50,000 documents, 77 changed, 2 refused by the function, 1 errors, 1,000/s, 1m15s left"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
