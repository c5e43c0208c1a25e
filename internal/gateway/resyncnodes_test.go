package gateway

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/changes"
	"github.com/tidegate/tidegate/internal/database"
)

// fillAll writes the documents that are slow, in one go.
func fillAll(t *testing.T, r *Running, n int) {
	t.Helper()
	db, _, release, err := r.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	var ws []*database.Write
	for i := range n {
		ws = append(ws, &database.Write{ID: fmt.Sprintf("doc%04d", i), Body: []byte(`{"slow":true}`), NewEdits: true})
	}
	for _, res := range db.Admin(0).PutAll(t.Context(), ws) {
		if res.Err != nil {
			t.Fatal(res.Err)
		}
	}
}

// inChannel lists the documents of a channel, as a node sees it.
func inChannel(t *testing.T, r *Running, channel string) (ids []string) {
	t.Helper()
	db, _, release, err := r.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	feed, err := db.Admin(0).Changes(t.Context(), database.ChangesOptions{Request: changes.Request{Channels: []string{channel}}})
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	for {
		entries, err := feed.Next(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == 0 {
			slices.Sort(ids)
			return ids
		}
		for _, e := range entries {
			if len(e.Removed) == 0 {
				ids = append(ids, e.ID)
			}
		}
	}
}

// offlineFleet is two nodes on which a database is offline whose resync takes a while.
func offlineFleet(t *testing.T, docs int) (a, b *node, ra, rb *Running) {
	t.Helper()
	f := newFleet(t)
	a, b = f.node("a"), f.node("b")
	ra = create(t, a.Gateway, "db", slowConfig(`function (doc) { channel('a'); }`))
	rb = b.on(t, "db")
	fillAll(t, ra, docs)
	if err := a.TakeOffline(t.Context(), "db"); err != nil {
		t.Fatal(err)
	}
	if _, err := update(t, a.Gateway, "db", "", `{"sync":`+string(tidegate.AppendJSONString(nil, slowly))+`}`); err != nil {
		t.Fatal(err)
	}
	eventually(t, "new function on the other node", func() bool {
		cfg, _ := rb.Config()
		return string(cfg.Sync) == slowly && rb.State() == Online
	})
	if _, err := a.StartResync(t.Context(), "db", ResyncRequest{}); tidegate.ErrorCode(err) != tidegate.Unavailable || !strings.Contains(err.Error(), " on node b") {
		t.Fatalf("started while node b serves: %v", err)
	}
	if err := b.TakeOffline(t.Context(), "db"); err != nil {
		t.Fatal(err)
	}
	return a, b, ra, rb
}

// An offline resync on one node is told of, refused a second time and stopped by the other, which cannot come online meanwhile.
func TestFleetResyncIsKnownOnAllNodes(t *testing.T) {
	const docs = 500
	a, b, ra, rb := offlineFleet(t, docs)
	first := startResync(t, a.Gateway, ResyncRequest{})
	if got := resyncStatus(t, rb); got.ID != first.ID || got.State != database.ResyncRunning || got.Node != "a" {
		t.Errorf("on the other node: %+v", got)
	}
	if _, err := b.StartResync(t.Context(), "db", ResyncRequest{}); err != errResyncRunning {
		t.Errorf("a second one was not refused: %v", err)
	}
	if err := b.BringOnline(t.Context(), "db", 0, true); tidegate.ErrorReason(err) != tidegate.ErrorReason(errResyncing) {
		t.Errorf("online while another node rewrites the routing: %v", err)
	}
	wantState(t, rb, Offline)
	eventually(t, "states of all nodes", func() bool {
		states, err := b.NodeStates(t.Context())
		return err == nil && states["a"]["db"] == "Resyncing" && states["b"]["db"] == "Offline"
	})
	if _, err := b.StopResync(t.Context(), "db"); err != nil {
		t.Fatal(err)
	}
	finishResync(t, rb, database.ResyncStopped)
	end := finishResync(t, ra, database.ResyncStopped)
	if end.DocsProcessed == docs {
		t.Error("it was not stopped")
	}
	if _, err := b.StopResync(t.Context(), "db"); err != errResyncNotRunning {
		t.Errorf("stopped twice: %v", err)
	}
	if again := startResync(t, b.Gateway, ResyncRequest{}); again.ID != first.ID {
		t.Errorf("it does not go on on the other node: %+v", again)
	}
	if end := finishResync(t, rb, database.ResyncCompleted); end.Node != "b" || end.DocsProcessed != docs {
		t.Errorf("ended as %+v", end)
	}
}

// If the node that runs a resync is gone another one goes on, and what the first one still does then is not stored.
func TestFleetResyncIsTakenOver(t *testing.T) {
	const docs = 200
	a, b, ra, rb := offlineFleet(t, docs)
	first := startResync(t, a.Gateway, ResyncRequest{})
	a.link.set(true)
	eventually(t, "resync on the other node", func() bool {
		st := resyncStatus(t, rb)
		return st.ID == first.ID && st.Node == "b" && st.State == database.ResyncCompleted && rb.State() == Offline
	})
	if err := b.BringOnline(t.Context(), "db", 0, true); err != nil {
		t.Fatal(err)
	}
	if got := inChannel(t, rb, "b"); len(got) != docs {
		t.Errorf("%d documents are routed anew", len(got))
	}
	a.link.set(false)
	eventually(t, "end of the run on the node that was away", func() bool { return ra.currentRun() == nil })
	if got := resyncStatus(t, ra); got.Node != "b" || got.State != database.ResyncCompleted {
		t.Errorf("the node that was away has written %+v", got)
	}
	checkData(t, rb)
}

func checkData(t *testing.T, r *Running) {
	t.Helper()
	db, _, release, err := r.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	report, err := db.Check(t.Context(), database.CheckOptions{})
	if err != nil || report.NProblems > 0 {
		t.Errorf("check: %v, %+v", err, report)
	}
}

// While one node runs an online resync all nodes write into both generations, and its end is the same moment for all: what it leaves is what the
// function makes of what was written, wherever that was.
func TestFleetOnlineResyncWhileAllNodesWrite(t *testing.T) {
	f := newFleet(t)
	nodes := []*node{f.node("a"), f.node("b"), f.node("c")}
	create(t, nodes[0].Gateway, "db", slowConfig(`function (doc) { channel('old'); }`))
	var rs []*Running
	for _, n := range nodes {
		rs = append(rs, n.on(t, "db"))
	}
	fillAll(t, rs[0], slowDocs)
	candidate := `function (doc) { if (doc.slow) { var t = Date.now(); while (Date.now() - t < 10) {} } channel(doc.even ? 'even' : 'odd'); }`
	writing, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i, r := range rs {
		wg.Go(func() { writeUntil(writing, t, r, i) })
	}
	startResync(t, nodes[0].Gateway, ResyncRequest{Online: true, SyncFunction: &candidate})
	if got := resyncStatus(t, rs[1]); got.State != database.ResyncRunning && got.State != database.ResyncCompleted || got.Node != "a" {
		t.Errorf("on another node: %+v", got)
	}
	finishResync(t, rs[0], database.ResyncCompleted)
	for _, r := range rs { // the function is that of all nodes from now on
		eventually(t, "candidate as the function of "+r.g.NodeID(), func() bool {
			cfg, _ := r.Config()
			return string(cfg.Sync) == candidate && len(r.ResyncDue()) == 0 && r.State() == Online
		})
	}
	stop()
	wg.Wait()
	want := routed(t, rs[0])
	for _, r := range rs {
		for _, channel := range []string{"old", "even", "odd"} {
			if got := inChannel(t, r, channel); !slices.Equal(got, want[channel]) {
				t.Errorf("node %s has %d documents in channel %s, want %d", r.g.NodeID(), len(got), channel, len(want[channel]))
			}
		}
	}
	checkData(t, rs[1])
}

// writeUntil writes documents on a node, new ones and those of others, until ctx ends.
func writeUntil(ctx context.Context, t *testing.T, r *Running, i int) {
	for n := 0; ctx.Err() == nil; n++ {
		db, leaving, release, err := r.Acquire(context.Background())
		if err != nil {
			continue // it takes over the definition
		}
		id := fmt.Sprintf("doc%04d", n%slowDocs)
		if n%3 == 0 {
			id = fmt.Sprintf("new%d.%04d", i, n)
		}
		h := db.Admin(0)
		w := &database.Write{ID: id, Body: fmt.Appendf(nil, `{"even":%t}`, n%2 == 0), NewEdits: true}
		if doc, err := h.Get(context.Background(), id, database.GetOptions{}); err == nil {
			w.Parent = doc.Rev
		}
		_, err = h.Put(context.Background(), w)
		if err != nil && tidegate.ErrorCode(err) != tidegate.Conflict && leaving.Err() == nil {
			t.Errorf("write %s on node %d: %v", id, i, err)
		}
		release()
	}
}

// routed computes from all documents which are in which channel.
func routed(t *testing.T, r *Running) map[string][]string {
	t.Helper()
	db, _, release, err := r.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	want := map[string][]string{}
	for _, id := range inChannel(t, r, "*") {
		doc, err := db.Admin(0).Get(t.Context(), id, database.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		channel := "odd"
		if strings.Contains(string(doc.Body), `"even":true`) {
			channel = "even"
		}
		want[channel] = append(want[channel], id)
	}
	return want
}
