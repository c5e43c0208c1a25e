package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// runReplicate runs the command as main does.
func runReplicate(ctx context.Context, args ...string) (string, error) {
	var out bytes.Buffer
	err := run(ctx, append([]string{"replicate"}, args...), noEnv, stdio{nil, &out, &out})
	return out.String(), err
}

func bulk(from, to int) string {
	var b strings.Builder
	b.WriteString(`{"docs":[`)
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, `{"_id":"d%d","owner":"eve","channels":["c%d"]},`, i, i%2)
	}
	return strings.TrimSuffix(b.String(), ",") + "]}"
}

// TestReplicateBetweenGateways runs the command against two real gateways.
func TestReplicateBetweenGateways(t *testing.T) {
	here, there := startServe(t, "--data", t.TempDir()), startServe(t, "--data", t.TempDir())
	for _, p := range []*gatewayProcess{here, there} {
		want(t, "PUT", p.admin+"/db/", `{"sync":"function (doc) { requireUser(doc.owner); channel(doc.channels); }","unsupported":{"replication_seed_shapes":true}}`, 201)
	}
	want(t, "PUT", there.admin+"/db/_user/eve", `{"password":"hush-hush","admin_channels":["*"]}`, 201)
	want(t, "POST", here.admin+"/db/_bulk_docs", bulk(0, 500), 201)
	want(t, "PUT", here.admin+"/db/refused", `{"owner":"bob"}`, 201)
	source, target := here.admin+"/db", strings.Replace(there.public, "http://", "ws://eve:hush-hush@", 1)+"/db"

	out, err := runReplicate(t.Context(), source, target)
	if err != nil || !strings.Contains(out, "501 checked, 0 read, 500 written, 1 errors") || !strings.Contains(out, "1 by its sync function") {
		t.Errorf("push: %v\n%s", err, out)
	}
	want(t, "GET", there.admin+"/db/d499", "", 200)
	want(t, "GET", there.admin+"/db/refused", "", 404)

	want(t, "POST", there.admin+"/db/_bulk_docs", bulk(500, 600), 201)
	out, err = runReplicate(t.Context(), source, target, "--pull", "--filter-channels", "c1")
	if err != nil || !strings.Contains(out, "50 read, 0 written, 0 errors") {
		t.Errorf("pull: %v\n%s", err, out)
	}
	want(t, "GET", here.admin+"/db/d501", "", 200)
	want(t, "GET", here.admin+"/db/d500", "", 404)

	out, err = runReplicate(t.Context(), source, target) // it goes on where it was
	if err != nil || !strings.Contains(out, "done in") || strings.Contains(out, "501 checked") {
		t.Errorf("push again: %v\n%s", err, out)
	}
	if list := want(t, "GET", here.admin+"/db/_replication/", "", 200); strings.TrimSpace(list) != "{}" {
		t.Errorf("left behind: %s", list)
	}
	for _, text := range []string{out, here.log.String(), there.log.String()} {
		if strings.Contains(text, "hush-hush") {
			t.Error("a password is shown")
		}
	}
}

// TestReplicateIsCancelledOnTheGateway interrupts a continuous replication, which must not go on without the command.
func TestReplicateIsCancelledOnTheGateway(t *testing.T) {
	p := startServe(t, "--data", t.TempDir())
	for _, db := range []string{"a", "b"} {
		want(t, "PUT", p.admin+"/"+db+"/", `{}`, 201)
	}
	want(t, "PUT", p.admin+"/a/doc", `{}`, 201)
	ctx, cancel := context.WithCancel(t.Context())
	out := newSyncBuffer()
	ended := make(chan error, 1)
	go func() {
		defer out.close()
		ended <- run(ctx, []string{"replicate", p.admin + "/a", p.admin + "/b", "--both", "--continuous"}, noEnv, stdio{nil, out, out})
	}()
	if !out.awaitText("running") {
		t.Fatalf("%v\n%s", <-ended, out)
	}
	cancel()
	if err := <-ended; !errors.Is(err, errInterrupted) || !strings.Contains(out.String(), "ended in") {
		t.Errorf("got %v\n%s", err, out)
	}
	if list := want(t, "GET", p.admin+"/a/_replication/", "", 200); strings.TrimSpace(list) != "{}" {
		t.Errorf("it is still there: %s", list)
	}
}
