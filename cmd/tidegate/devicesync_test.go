package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// runDeviceSync runs the command as main does, and returns what it printed and its exit status.
func runDeviceSync(ctx context.Context, in string, args ...string) (out string, code int) {
	var b bytes.Buffer
	err := run(ctx, append([]string{"device-sync"}, args...), noEnv, stdio{strings.NewReader(in), &b, &b})
	if err != nil {
		return b.String() + err.Error(), exitCode(err)
	}
	return b.String(), 0
}

func TestDeviceSyncCommandLine(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"", "say what to do"},
		{"pasue --db notes", `unknown argument "pasue" (did you mean "pause"?)`},
		{"pause", "say which database with --db"},
		{"config --db notes", "must be followed by pull, push"},
		{"config fetch --db notes", "must be followed by pull, push"},
		{"config pull --db notes", "name the file with --file"},
		{"reset-client --db notes", "say which client with --file-ident"},
		{"quarantine drop --db notes", "say which body with --id"},
		{"pause --db notes -o yaml", "-o must be text or json"},
		{"pause --db notes --wiat", `unknown flag --wiat (did you mean "wait"?)`},
	} {
		out, code := runDeviceSync(t.Context(), "", strings.Fields(tt.args)...)
		if code != 2 || !strings.Contains(out, tt.want) {
			t.Errorf("%s: %d\n%s", tt.args, code, out)
		}
	}
	out, code := runDeviceSync(t.Context(), "", "--help")
	if code != 0 {
		t.Error(code)
	}
	for _, name := range []string{
		"-db", "-admin", "-y", "-yes", "-confirm", "-config", "-file", "-dry-run", "-wait", "-o", "-reset-state", "-file-ident", "-reason", "-id", "-limit",
	} {
		if !strings.Contains(out, "  "+name+" ") && !strings.Contains(out, "  "+name+"\n") && !strings.Contains(out, "  "+name+"\t") {
			t.Errorf("help does not tell of %s", name)
		}
	}
}

// TestDeviceSyncOfAGateway runs the commands against a real gateway.
func TestDeviceSyncOfAGateway(t *testing.T) {
	p := startServe(t, "--data", t.TempDir())
	want(t, "PUT", p.admin+"/notes/", `{}`, 201)
	want(t, "PUT", p.admin+"/notes/doc", `{"a":1}`, 201)
	do := func(in string, code int, say string, args ...string) {
		t.Helper()
		out, got := runDeviceSync(t.Context(), in, append(args, "--db", "notes", "--admin", p.admin)...)
		if got != code || !strings.Contains(out, say) {
			t.Errorf("%v: status %d, want %d %q\n%s", args, got, code, say, out)
		}
	}
	do("n\n", 2, "not confirmed", "pause")
	do("y\n", 0, "is paused", "pause", "--wait")
	do("", 0, "paused", "status")
	do("", 0, "is enabled", "resume", "-y")

	file := filepath.Join(t.TempDir(), "config.json")
	do("", 0, "", "config", "pull", "--file", file)
	b, err := os.ReadFile(file)
	if err != nil || !bytes.Contains(b, []byte(`"type": "flexible"`)) {
		t.Fatalf("%s, %v", b, err)
	}
	do("", 0, "nothing differs", "config", "push", "--file", file)
	changed := bytes.Replace(b, []byte(`"client_max_offline_days": null`), []byte(`"client_max_offline_days": 14`), 1)
	if err := os.WriteFile(file, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	do("", 0, "client_max_offline_days: null -> 14", "config", "push", "--file", file, "--dry-run")
	do("", 0, `"client_max_offline_days": null`, "config", "pull", "--file", "-")
	do("", 0, "is configured", "config", "push", "--file", file, "-y")
	do("", 0, `"client_max_offline_days": 14`, "config", "pull", "--file", "-")
	do(`{"state":""}`, 2, "a push does not terminate", "config", "push", "--file", "-", "-y")
	do(`{"client_max_offline_days":0}`, 2, "client_max_offline_days", "config", "push", "--file", "-", "-y")

	do("", 0, "KIND", "sessions")
	do("", 0, "FILE_IDENT", "clients", "--reset-state", "pending")
	do("", 2, "404", "reset-client", "--file-ident", "9")
	do("", 0, "trimmed", "trim")
	do("", 0, "every client resets", "reset-all", "--reason", "test", "-y")
	want(t, "POST", p.admin+"/notes/_sync/unsynced", `{"docs":[{"_id":"lost","x":1}]}`, 202)
	do("", 0, "lost", "quarantine", "list")
	do("", 2, "404", "quarantine", "drop", "--id", "none", "-y")

	do("terminate sync\n", 2, "not confirmed", "terminate")
	do("Terminate Sync\n", 0, "is terminated", "terminate", "--wait")
	do("", 2, "database_name", "enable", "-y")
	do(`{"flexible_sync":{"state":"enabled","database_name":"notes","change_history_hours":0}}`, 0, "is enabled", "enable", "--config", "-", "-y")
	do("", 0, "is terminated", "terminate", "-y", "--wait")
	do("", 0, `"sync_state":"terminated"`, "status", "-o", "json")
	out, code := runDeviceSync(t.Context(), "", "status", "--admin", p.admin)
	if code != 0 || !strings.Contains(out, "notes") {
		t.Errorf("status of all: %d\n%s", code, out)
	}
	if out, code := runDeviceSync(t.Context(), "", "status", "--db", "nobody", "--admin", p.admin); code != 2 || !strings.Contains(out, "404") {
		t.Errorf("a database that is not there: %d\n%s", code, out)
	}
	if out, code := runDeviceSync(t.Context(), "", "pause", "-y", "--db", "notes", "--admin", "http://127.0.0.1:1"); code != 1 {
		t.Errorf("no gateway: %d\n%s", code, out)
	}
}

func TestDeviceSyncInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := &deviceSyncClient{o: &deviceSyncOptions{name: "notes"}, db: newDatabaseClient(endpoint{url: "http://127.0.0.1:1/notes"})}
	if _, err := c.pollUntil(ctx, func(*deviceSyncStatus) bool { return false }); err == nil || errors.Is(err, errUsage) {
		t.Error(err)
	}
}
