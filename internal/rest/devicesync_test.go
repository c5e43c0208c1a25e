package rest

import (
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidegate/tidegate/internal/devicesync"
)

// syncPhase waits until a database's device sync is in a phase.
func (r *rig) syncPhase(db string, phase devicesync.Phase) {
	r.t.Helper()
	live := r.running(db).DeviceSync().Live()
	deadline := time.After(time.Minute)
	for {
		row, changed := live.Watch()
		if row.Record.Phase == phase {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			r.t.Fatalf("device sync stays in phase %q", row.Record.Phase)
		}
	}
}

// sync asks for an action of device sync.
func (r *rig) sync(body string) {
	r.t.Helper()
	r.a("POST", "/db/_device_sync", body).is(202)
}

const (
	pauseSync     = `{"action":"pause"}`
	resumeSync    = `{"action":"resume"}`
	terminateSync = `{"action":"terminate","confirm":"Terminate Sync"}`
)

// syncBubble runs fn with a database that everybody may use, served by the replication protocol itself.
func syncBubble(t *testing.T, fn func(t *testing.T, r *rig, dial func() net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		o := rigOptions{startup: cheapPasswords, database: openGuest}
		r := newRig(t, o)
		b := r.server.settings.BLIP
		r.server.replicate = Replicator(ReplicateServer(b, nil, slog.New(slog.DiscardHandler)), b)
		r.public = r.server.Public()
		fn(t, r, servePipes(t, r.public))
	})
}

// closes expects a CLOSE frame, after frames that carry text or data.
func (c *httpClient) closes(code int, reason string) {
	c.t.Helper()
	for {
		var head [2]byte
		if _, err := io.ReadFull(c.conn, head[:]); err != nil {
			c.t.Fatalf("the connection ended without a CLOSE frame: %v", err)
		}
		n := int(head[1])
		if n == 126 {
			var long [2]byte
			_, _ = io.ReadFull(c.conn, long[:])
			n = int(binary.BigEndian.Uint16(long[:]))
		}
		payload := make([]byte, n)
		if _, err := io.ReadFull(c.conn, payload); err != nil {
			c.t.Fatal(err)
		}
		if head[0] != 0x88 {
			continue
		}
		if got := int(binary.BigEndian.Uint16(payload)); got != code || string(payload[2:]) != reason {
			c.t.Fatalf("CLOSE %d %q, want %d %q", got, payload[2:], code, reason)
		}
		return
	}
}

// opened expects that the connection has become a WebSocket.
func (c *httpClient) upgraded() *httpClient {
	c.t.Helper()
	if c.resp.StatusCode != 101 {
		c.t.Fatalf("status %d", c.resp.StatusCode)
	}
	return c
}

// replicationCalls are requests that replicate: † in device-sync.md §12.4.
var replicationCalls = [][3]string{
	{"GET", "/db/_changes", ""}, {"HEAD", "/db/_changes", ""}, {"POST", "/db/_changes", `{}`}, {"GET", "/db/_changes?feed=continuous", ""},
	{"GET", "/db/_changes?feed=longpoll", ""}, {"POST", "/db/_revs_diff", `{}`}, {"POST", "/db/_bulk_get", `{"docs":[]}`},
	{"POST", "/db/_bulk_docs", `{"docs":[],"new_edits":false}`}, {"GET", "/db/_local/x", ""}, {"PUT", "/db/_local/x", `{}`},
	{"DELETE", "/db/_local/x?rev=0-1", ""}, {"POST", "/db/_ensure_full_commit", ""},
	{"PUT", "/db/pushed?new_edits=false", `{"_rev":"1-a"}`}, {"GET", "/db/doc?open_revs=all", ""},
}

// refusedCalls expects that all of them are refused; writes of checkpoints always with 503.
func (r *rig) refusedCalls(status int, code string) {
	r.t.Helper()
	for _, c := range replicationCalls {
		want := status
		if strings.HasPrefix(c[1], "/db/_local/") && c[0] != "GET" {
			want = 503
		}
		a := r.p(c[0], c[1], c[2], "Accept: application/json").is(want).has(headerSyncState, strings.TrimPrefix(code, "sync_"))
		if want == 503 {
			a.has("Retry-After", "30")
		}
		if c[0] != "HEAD" && !strings.Contains(a.body, `"reason":"`+code+`: `) {
			r.t.Errorf("%s %s: %s", c[0], c[1], a.body)
		}
		if a.header.Get(headerSyncEpoch) == "" {
			r.t.Errorf("%s %s names no epoch", c[0], c[1])
		}
	}
}

func TestD04ClientsRefusedAndSessionsEndedWhilePaused(t *testing.T) {
	syncBubble(t, func(t *testing.T, r *rig, dial func() net.Conn) {
		r.a("PUT", "/db/doc", `{"a":1}`).is(201)
		blip := openClient(t, dial(), "GET", "/db/_blipsync", "", offering(blip4)...).upgraded()
		poll := openClient(t, dial(), "GET", "/db/_changes?feed=longpoll&since=2", "")
		lines := openClient(t, dial(), "GET", "/db/_changes?feed=continuous", "")
		synctest.Wait()
		if n := len(r.running("db").DeviceSync().Sessions()); n != 3 {
			t.Errorf("%d sessions", n)
		}
		ended := make(chan string, 2)
		for _, c := range []*httpClient{poll, lines} {
			go func() {
				b, err := io.ReadAll(c.resp.Body)
				if err != nil {
					t.Errorf("a feed did not end in form: %v", err)
				}
				ended <- string(b)
			}()
		}
		r.sync(pauseSync)
		blip.closes(4001, "sync_paused")
		for range 2 {
			if body := <-ended; !strings.Contains(body, `"last_seq":"2"`) && !strings.Contains(body, `"id":"doc"`) {
				t.Errorf("a feed ended as %q", body)
			}
		}
		_ = blip.conn.Close()
		r.syncPhase("db", devicesync.Steady)
		if n := len(r.running("db").DeviceSync().Sessions()); n != 0 {
			t.Errorf("%d sessions are left", n)
		}
		r.refusedCalls(503, "sync_paused")
		refused := openClient(t, dial(), "GET", "/db/_blipsync", "", offering(blip4)...)
		body, _ := io.ReadAll(refused.resp.Body)
		if refused.resp.Status != "503 sync_paused" || !strings.Contains(string(body), `"realm_code":101`) || refused.resp.Header.Get("Retry-After") != "30" {
			t.Errorf("%s: %s", refused.resp.Status, body)
		}
		// What is no replication goes on.
		r.p("GET", "/db/doc", "").is(200)
		r.p("PUT", "/db/other", `{}`).is(201)
		r.p("POST", "/db/_bulk_docs", `{"docs":[{"_id":"third"}]}`).is(201)
		r.p("GET", "/db/_all_docs", "").is(200)
		if got := r.p("GET", "/db/", "").is(200); got.member("sync_state") != "paused" {
			t.Errorf("%s", got.body)
		}
	})
}

func TestD05ResumeGoesOnInTheSameEpoch(t *testing.T) {
	syncBubble(t, func(t *testing.T, r *rig, dial func() net.Conn) {
		r.a("PUT", "/db/doc", `{"a":1}`).is(201)
		r.p("PUT", "/db/_local/client", `{"last_seq":"2"}`).is(201)
		epoch := r.p("GET", "/db/", "").is(200).member("sync_epoch")
		start := r.running("db").InstanceStart()
		r.sync(pauseSync)
		r.p("PUT", "/db/meanwhile", `{}`).is(201)
		r.sync(resumeSync)
		if r.p("GET", "/db/", "").member("sync_epoch") != epoch || !r.running("db").InstanceStart().Equal(start) {
			t.Error("the epoch has changed")
		}
		r.p("GET", "/db/_local/client", "").is(200)
		feed := r.p("GET", "/db/_changes?since=2", "").is(200)
		if strings.Contains(feed.body, `"id":"doc"`) || !strings.Contains(feed.body, `"id":"meanwhile"`) {
			t.Errorf("%s", feed.body)
		}
		openClient(t, dial(), "GET", "/db/_blipsync", "", offering(blip4)...).upgraded()
	})
}

func TestAdminFeedsStayOpenWhilePaused(t *testing.T) {
	syncBubble(t, func(t *testing.T, r *rig, _ func() net.Conn) {
		dial := servePipes(t, r.admin)
		feed := openClient(t, dial(), "GET", "/db/_changes?feed=continuous", "")
		synctest.Wait()
		r.sync(pauseSync)
		r.syncPhase("db", devicesync.Steady)
		r.a("PUT", "/db/doc", `{}`).is(201)
		line := make([]byte, 64)
		if n, err := feed.resp.Body.Read(line); err != nil || !strings.Contains(string(line[:n]), `"doc"`) {
			t.Errorf("%q, %v", line[:n], err)
		}
		r.a("GET", "/db/_changes", "").is(200)
		r.sync(terminateSync)
		if _, err := io.ReadAll(feed.resp.Body); err != nil {
			t.Error(err)
		}
		r.syncPhase("db", devicesync.Steady)
		r.a("GET", "/db/_changes", "").is(503)
	})
}

func TestD08OneEpochForEachEnabling(t *testing.T) {
	syncBubble(t, func(t *testing.T, r *rig, _ func() net.Conn) {
		r.a("PUT", "/db/doc", `{"a":1}`).is(201)
		before := r.p("GET", "/db/", "").member("sync_epoch")
		r.sync(terminateSync)
		r.syncPhase("db", devicesync.Steady)
		r.refusedCalls(503, "sync_terminated")
		r.a("POST", "/db/_device_sync", `{"action":"enable"}`).is(400)
		r.sync(`{"action":"enable","config":{"database_name":"db"}}`)
		r.p("GET", "/db/_changes?since=1", "").is(200).has(headerSyncEpoch, r.p("GET", "/db/", "").member("sync_epoch"))
		if r.p("GET", "/db/", "").member("sync_epoch") == before {
			t.Error("the same epoch")
		}
		r.p("GET", "/db/_changes", "", headerSyncEpoch+": "+before).fails409(t)
		r.p("GET", "/db/doc", "").is(200)
	})
}

// fails409 expects the refusal of a client that is in another epoch.
func (a reply) fails409(t *testing.T) {
	t.Helper()
	if a.is(409); !strings.Contains(a.body, `"reason":"sync_epoch_mismatch"`) || !strings.Contains(a.body, `"verdict":"reset_recover"`) {
		t.Errorf("%s", a.body)
	}
}

func TestTerminatedClientsStop(t *testing.T) {
	syncBubble(t, func(t *testing.T, r *rig, dial func() net.Conn) {
		r.a("PUT", "/db/doc", `{}`).is(201)
		r.sync(`{"action":"configure","config":{"terminated_clients":"stop"}}`)
		blip := openClient(t, dial(), "GET", "/db/_blipsync", "", offering(blip4)...).upgraded()
		r.sync(terminateSync)
		blip.closes(4002, "sync_terminated")
		_ = blip.conn.Close()
		r.syncPhase("db", devicesync.Steady)
		r.refusedCalls(403, "sync_terminated")
		refused := openClient(t, dial(), "GET", "/db/_blipsync", "", offering(blip4)...)
		if refused.resp.Status != "403 sync_terminated" {
			t.Errorf("%s", refused.resp.Status)
		}
		_, _ = io.ReadAll(refused.resp.Body)
		r.p("POST", "/db/_sync/unsynced", `{"docs":[{"_id":"a"}]}`).is(403)
	})
}

// D44: whatever the state, a checkpoint write is answered with success or with a 5xx by the gate.
func TestD44CheckpointWritesAreNever4xxByTheGate(t *testing.T) {
	syncBubble(t, func(t *testing.T, r *rig, _ func() net.Conn) {
		put := func(want int) {
			t.Helper()
			r.p("PUT", "/db/_local/c", `{}`).is(want)
			if want == 503 {
				r.p("DELETE", "/db/_local/c?rev=0-1", "").is(503)
			} else {
				r.p("DELETE", "/db/_local/c?rev=0-1", "").is(200)
			}
		}
		put(201)
		r.sync(pauseSync)
		put(503)
		r.sync(`{"action":"configure","config":{"terminated_clients":"stop"}}`)
		r.sync(terminateSync)
		put(503)
		r.syncPhase("db", devicesync.Steady)
		put(503)
		r.p("GET", "/db/_local/c", "").is(403)
	})
}

// D45: neither the end of a login, nor an offline database, nor the end of the server closes a socket with 1000 or 1001.
func TestD45SocketsAreNeverClosedWith1000Or1001(t *testing.T) {
	for name, end := range map[string]func(r *rig){
		"offline":  func(r *rig) { r.a("POST", "/db/_offline", "").is(200) },
		"config":   func(r *rig) { r.a("PUT", "/db/_config", `{"revs_limit":77}`).is(201) },
		"login":    func(r *rig) { r.a("DELETE", "/db/_user/ann", "").is(200) },
		"shutdown": func(r *rig) { _ = r.gateway.Close(r.t.Context()) },
		"epoch":    func(r *rig) { r.a("POST", "/db/_device_sync/reset_all", `{"reason":"test"}`).is(202) },
	} {
		t.Run(name, func(t *testing.T) {
			syncBubble(t, func(t *testing.T, r *rig, dial func() net.Conn) {
				r.a("PUT", "/db/_user/ann", `{"password":"letmein"}`).is(201)
				blip := openClient(t, dial(), "GET", "/db/_blipsync", "", offering(blip4, basic("ann", "letmein"))...).upgraded()
				feed := openClient(t, dial(), "GET", "/db/_changes?feed=websocket", "", append(wsHeaders, basic("ann", "letmein"))...).upgraded()
				if _, err := feed.conn.Write([]byte{0x81, 0x82, 0, 0, 0, 0, '{', '}'}); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				done := make(chan struct{})
				codes := make(chan int, 2)
				for _, c := range []*httpClient{blip, feed} {
					go func() {
						codes <- c.closeCode()
						_ = c.conn.Close()
					}()
				}
				go func() { end(r); close(done) }()
				for range 2 {
					if code := <-codes; code != devicesync.CloseRetry {
						t.Errorf("closed with %d", code)
					}
				}
				<-done
			})
		})
	}
}

// closeCode reads up to a CLOSE frame and returns its code; 0 if there is none.
func (c *httpClient) closeCode() int {
	for {
		var head [2]byte
		if _, err := io.ReadFull(c.conn, head[:]); err != nil {
			return 0
		}
		payload := make([]byte, head[1])
		if _, err := io.ReadFull(c.conn, payload); err != nil {
			return 0
		}
		if head[0] == 0x88 && len(payload) >= 2 {
			return int(binary.BigEndian.Uint16(payload))
		}
	}
}

func TestD39VerdictCall(t *testing.T) {
	syncBubble(t, func(t *testing.T, r *rig, _ func() net.Conn) {
		r.a("PUT", "/db/doc", `{}`).is(201)
		ask := func(since, verdict, reason string) {
			t.Helper()
			a := r.p("GET", "/db/_sync?client=c&since="+since, "").is(200)
			if a.member("verdict") != verdict || reason != "" && a.member("reason") != reason {
				t.Errorf("since %s: %s", since, a.body)
			}
		}
		ask("", "fresh", "")
		ask("1", "ok", "")
		ask("99", "reset_recover", "server_behind")
		r.sync(pauseSync)
		ask("1", "ok", "")
		r.a("POST", "/db/_device_sync/reset_all", `{}`).is(202)
		ask("1", "reset_recover", "epoch_changed")
		r.sync(`{"action":"configure","config":{"is_recovery_mode_disabled":true}}`)
		ask("1", "reset_wipe", "epoch_changed")
		r.sync(terminateSync)
		r.syncPhase("db", devicesync.Steady)
		if a := r.p("GET", "/db/_sync?since=1", "").is(200); a.member("sync_state") != "terminated" {
			t.Errorf("%s", a.body)
		}
	})
}

func TestMetricsOfDeviceSync(t *testing.T) {
	syncBubble(t, func(t *testing.T, r *rig, _ func() net.Conn) {
		scrape := func(want ...string) {
			t.Helper()
			body := r.a("GET", "/metrics", "").is(200).body
			for _, line := range want {
				if !strings.Contains(body, "tidegate_device_sync_"+line+"\n") {
					t.Errorf("no %s", line)
				}
			}
		}
		scrape(`state{db="db"} 2`, `epoch{db="db"} 0`, `sessions{db="db",kind="blip"} 0`, `ledger_rows{db="db"} 0`)
		r.p("PUT", "/db/_local/c", `{"last_seq":"0"}`).is(201)
		r.a("POST", "/db/_device_sync/reset_client", `{"file_ident":1}`).is(202)
		r.p("GET", "/db/_local/c", "").is(404)
		r.sync(pauseSync)
		r.p("GET", "/db/_changes", "").is(503)
		r.p("POST", "/db/_sync/unsynced", `{"docs":[{"_id":"a"}]}`).is(202)
		scrape(`state{db="db"} 1`, `refused_total{code="sync_paused",db="db"} 1`, `quarantine_rows{db="db"} 1`,
			`client_resets_total{db="db",kind="couch",reason="forced",verdict="reset_recover"} 1`)
	})
}

// D29: the mode is switched by a termination. In partition mode documents are routed by one field, also those that were there before.
func TestD29PartitionModeRoutesByItsKey(t *testing.T) {
	r := newRig(t, rigOptions{startup: cheapPasswords, database: `{"sync":"function (doc) { channel('all'); }"}`})
	r.a("PUT", "/db/_user/ann", `{"password":"letmein","admin_channels":["ann"]}`).is(201)
	r.a("PUT", "/db/hers", `{"owner":"ann"}`).is(201)
	r.a("PUT", "/db/other", `{"owner":"bob"}`).is(201)
	const enable = `{"action":"enable","config":{"database_name":"db","partition":{"key":"owner","type":"string","required":true}}}`
	r.a("POST", "/db/_device_sync", enable).is(409)
	r.sync(terminateSync)
	r.syncPhase("db", devicesync.Steady)
	r.sync(enable)
	r.syncPhase("db", devicesync.Steady)
	ann := basic("ann", "letmein")
	if feed := r.p("GET", "/db/_changes", "", ann).is(200).body; !strings.Contains(feed, `"hers"`) || strings.Contains(feed, `"other"`) {
		t.Errorf("ann sees %s", feed)
	}
	r.a("PUT", "/db/nobodys", `{}`).is(403)
	r.a("PUT", "/db/strange", `{"owner":{"a":1}}`).is(403)
	r.a("PUT", "/db/new", `{"owner":"ann"}`).is(201)
	r.p("GET", "/db/new", "", ann).is(200)
	r.sync(terminateSync)
	r.syncPhase("db", devicesync.Steady)
	if due := r.running("db").ResyncDue(); len(due) != 1 {
		t.Errorf("due for a resync: %v", due)
	}
	r.a("PUT", "/db/free", `{}`).is(201)
	if feed := r.a("GET", "/db/_changes?filter=sync_gateway/bychannel&channels=all", "").is(503).body; !strings.Contains(feed, "sync_terminated") {
		t.Errorf("%s", feed)
	}
	r.sync(`{"action":"enable","config":{"database_name":"db"}}`)
	if feed := r.a("GET", "/db/_changes?filter=sync_gateway/bychannel&channels=all", "").is(200).body; !strings.Contains(feed, `"free"`) {
		t.Errorf("the configured function does not route: %s", feed)
	}
}

// What clients may only write is an empty feed to them, and an ordinary collection to administrators.
func TestAsymmetricTables(t *testing.T) {
	r := newRig(t, rigOptions{database: `{"guest":{"disabled":false,"collection_access":{"s":{"logs":{"admin_channels":["*"]},"notes":{"admin_channels":["*"]}}}},"unsupported":{"allow_guest_star":true},"scopes":{"s":{"collections":{"logs":{},"notes":{}}}}}`})
	r.a("POST", "/db/_device_sync", `{"action":"configure","config":{"asymmetric_tables":["logs"]}}`).is(400)
	r.sync(terminateSync)
	r.syncPhase("db", devicesync.Steady)
	r.sync(`{"action":"enable","config":{"database_name":"db","asymmetric_tables":["logs"]}}`)
	for _, ks := range []string{"db.s.logs", "db.s.notes"} {
		r.p("POST", "/"+ks+"/_bulk_docs", `{"docs":[{"_id":"x","_rev":"1-a"}],"new_edits":false}`).is(201)
	}
	for path, there := range map[string]bool{"logs": false, "notes": true} {
		if feed := r.p("GET", "/db.s."+path+"/_changes", "").is(200); strings.Contains(feed.body, `"x"`) != there {
			t.Errorf("%s: %s", path, feed.body)
		}
		if feed := r.a("GET", "/db.s."+path+"/_changes", "").is(200); !strings.Contains(feed.body, `"x"`) {
			t.Errorf("%s, to an administrator: %s", path, feed.body)
		}
	}
}
