package rest

import (
	"strings"
	"testing"

	"github.com/tidegate/tidegate/internal/devicesync"
)

// resetRig is a database that everybody may use, with three documents, after a client has stored its checkpoints and sync was
// terminated and enabled again.
func resetRig(t *testing.T, config string) *rig {
	r := newRig(t, rigOptions{startup: cheapPasswords, database: openGuest})
	for _, id := range []string{"a", "b", "c"} {
		r.put(id, `{"channels":["!"]}`)
	}
	r.p("PUT", "/db/_local/pull", `{"session_id":"x","last_seq":"2","history":[]}`).is(201)
	r.p("PUT", "/db/_local/mine", `{"settings":1}`).is(201)
	r.sync(terminateSync)
	r.syncPhase("db", devicesync.Steady)
	r.sync(`{"action":"enable","config":{"database_name":"db"` + config + `}}`)
	return r
}

// What PouchDB sees after a termination (device-sync.md §12.5): its checkpoint is gone and can be stored again, and a feed from its old
// position starts at nothing, which a header says.
func TestD32PouchDBStartsAgain(t *testing.T) {
	r := resetRig(t, "")
	r.p("GET", "/db/_local/pull", "").is(404)
	r.p("GET", "/db/_local/mine", "").is(200)
	got := r.p("GET", "/db/_changes?since=2&style=all_docs", "")
	got.is(200)
	if reason := got.header.Get("X-Tidegate-Client-Reset"); reason != "epoch_changed" {
		t.Errorf("reason %q", reason)
	}
	if n := strings.Count(got.body, `"seq":"4294967296:`); n != 4 {
		t.Errorf("%d labelled entries in %s", n, got.body)
	}
	r.p("PUT", "/db/_local/pull", `{"session_id":"y","last_seq":"4294967296:4","history":[]}`).is(201)
	r.p("GET", "/db/_local/pull", "").is(200)
	if got := r.p("GET", "/db/_changes?since=4294967296:4", ""); got.header.Get("X-Tidegate-Client-Reset") != "" || strings.Contains(got.body, `"id"`) {
		t.Errorf("%v %s", got.header, got.body)
	}
	r.p("GET", "/db/_changes?since=x", "").is(400)
	// An administrator's feed is plain, and goes on from any position.
	if got := r.a("GET", "/db/_changes?since=2", ""); strings.Count(got.body, `"id"`) != 2 || strings.Contains(got.body, `"seq":"4294967296:`) {
		t.Errorf("an administrator gets %s", got.body)
	}
	r.a("GET", "/db/_changes?since=99999999999", "").is(200)
}

// With recovery disabled PouchDB is refused with 403, by which it stops. A server that replicates is not.
func TestD34PouchDBIsRefused(t *testing.T) {
	r := resetRig(t, `,"is_recovery_mode_disabled":true`)
	for _, path := range []string{"/db/_local/pull", "/db/_changes?since=2", "/db/_changes?since=2&feed=longpoll"} {
		got := r.p("GET", path, "")
		got.is(403)
		if !strings.Contains(got.body, `"reason":"client_reset_required: epoch_changed"`) || !strings.Contains(got.body, `"verdict":"reset_wipe"`) {
			t.Errorf("%s: %s", path, got.body)
		}
	}
	r.p("GET", "/db/_changes?since=2", "", "User-Agent: CouchDB-Replicator/3.3").is(200)
	r.p("GET", "/db/_local/pull", "", "User-Agent: CouchDB-Replicator/3.3").is(404)
	// It ends when the client comes with a new database.
	r.p("GET", "/db/_local/other", "").is(404)
	r.p("GET", "/db/_changes", "").is(200)
}

// A bulk push from before the deletion is taken, closed and kept in quarantine; the client goes on.
func TestD32EditOfADeletedDocument(t *testing.T) {
	r := newRig(t, rigOptions{startup: cheapPasswords, database: openGuest})
	push := func(docs string) reply {
		return r.p("POST", "/db/_bulk_docs", `{"new_edits":false,"docs":[`+docs+`]}`)
	}
	push(`{"_id":"d","_rev":"1-a","_revisions":{"start":1,"ids":["a"]}}`).is(201)
	push(`{"_id":"d","_rev":"2-t","_deleted":true,"_revisions":{"start":2,"ids":["t","a"]}}`).is(201)
	r.sync(terminateSync)
	r.syncPhase("db", devicesync.Steady)
	r.sync(`{"action":"enable","config":{"database_name":"db"}}`)
	r.p("POST", "/db/_revs_diff", `{"d":["1-a","2-t","2-e"]}`).is(200)
	if got := r.p("POST", "/db/_revs_diff", `{"d":["1-a","2-t"]}`); got.body != "{}" {
		t.Errorf("%s", got.body)
	}
	if got := push(`{"_id":"d","_rev":"2-e","v":1,"_revisions":{"start":2,"ids":["e","a"]}}`); got.status != 201 || !strings.Contains(got.body, `{"id":"d","rev":"2-e"}`) {
		t.Errorf("%d %s", got.status, got.body)
	}
	r.p("GET", "/db/d", "").fails(404, "deleted")
	list, err := r.running("db").DeviceSync().Quarantine(t.Context(), "", 10)
	if err != nil || len(list) != 1 || string(list[0].Body) != `{"v":1}` {
		t.Errorf("%+v %v", list, err)
	}
}
