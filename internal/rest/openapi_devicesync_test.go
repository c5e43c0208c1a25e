package rest

import (
	"encoding/json"
	"strconv"
	"strings"
)

// deviceSync exercises the operations of device sync.
func (e *exercise) deviceSync() {
	const path = "/ds/_device_sync"
	e.call(admin, "PUT", "/ds/", openGuest, 201)
	e.call(admin, "GET", path, "", 200)
	e.call(admin, "GET", path+"/sessions", "", 200)
	e.call(public, "PUT", "/ds/_local/app-1", `{"last_seq":"0","session_id":"s"}`, 201)
	e.call(public, "GET", "/ds/_local/app-1", "", 200)
	clients := e.call(admin, "GET", path+"/clients?limit=5&after=0", "", 200)
	var known struct {
		Clients []struct {
			Ident int64 `json:"file_ident"`
		} `json:"clients"`
	}
	if err := json.Unmarshal([]byte(clients.body), &known); err != nil || len(known.Clients) == 0 {
		e.t.Fatalf("clients: %v, %s", err, clients.body)
	}
	e.call(admin, "POST", path+"/reset_client", `{"file_ident":`+strconv.FormatInt(known.Clients[0].Ident, 10)+`}`, 202)
	e.call(admin, "GET", path+"/clients?state=pending", "", 200)
	e.call(admin, "POST", path+"/reset_client", `{"file_ident":123456}`, 404)
	e.call(admin, "POST", path+"/trim", "", 202)
	e.call(admin, "POST", path+"/reset_all", `{"reason":"a test"}`, 202)

	for _, l := range []listener{public, admin} {
		e.call(l, "GET", "/ds/_sync?client=app-1&since=1", "", 200)
		e.call(l, "GET", "/ds/_sync?since=x", "", 400)
		e.call(l, "POST", "/ds/_sync/unsynced", `{"client":"app-1","docs":[{"_id":"a","_rev":"1-a","x":1},{"_id":"b","y":2}]}`, 202)
		e.call(l, "POST", "/ds/_sync/unsynced", `{"docs":[{"x":1}]}`, 400)
	}
	rows := e.call(admin, "GET", path+"/quarantine?limit=10", "", 200)
	var kept struct {
		Quarantine []struct {
			ID string `json:"id"`
		} `json:"quarantine"`
	}
	if err := json.Unmarshal([]byte(rows.body), &kept); err != nil || len(kept.Quarantine) != 4 {
		e.t.Fatalf("quarantine: %v, %s", err, rows.body)
	}
	one, two := path+"/quarantine/"+kept.Quarantine[0].ID, path+"/quarantine/"+kept.Quarantine[1].ID
	e.call(admin, "GET", path+"/quarantine?after="+kept.Quarantine[0].ID, "", 200)
	e.call(admin, "GET", one, "", 200)
	e.call(admin, "POST", one+"/restore", "", 201)
	e.call(admin, "POST", one+"/restore", "", 404)
	e.call(admin, "GET", one, "", 404)
	e.call(admin, "DELETE", two, "", 204)
	e.call(admin, "DELETE", two, "", 404)
	e.call(admin, "GET", "/ds/a", "", 200)
	e.deviceSyncStates(path)
	for _, key := range []string{"GET ", "POST ", "GET /sessions", "GET /clients", "POST /reset_all", "POST /trim", "GET /quarantine"} {
		method, rest, _ := strings.Cut(key, " ")
		e.call(admin, method, "/none/_device_sync"+rest, "{}", 404)
	}
}

// deviceSyncStates goes through the states, and asks at each for what is refused.
func (e *exercise) deviceSyncStates(path string) {
	e.call(admin, "POST", path, `{"action":"dance"}`, 400)
	e.call(admin, "POST", path, `{"action":"terminate","confirm":"terminate sync"}`, 400)
	e.call(admin, "POST", path, `{"action":"configure","config":{"client_max_offline_days":30,"terminated_clients":"stop"}}`, 202)
	e.call(admin, "POST", path, `{"action":"pause"}`, 202)
	e.call(public, "GET", "/ds/", "", 200)
	e.call(public, "GET", "/ds/_changes", "", 503)
	e.call(public, "PUT", "/ds/_local/app-1", `{}`, 503)
	e.call(admin, "POST", path, `{"action":"resume"}`, 202)
	e.call(public, "GET", "/ds/_changes", "", 409, headerSyncEpoch+": 00000000-0000-4000-8000-000000000000")
	e.call(admin, "POST", path+"?allow_destructive_changes=false", `{"action":"terminate","confirm":"Terminate Sync"}`, 202)
	e.r.syncPhase("ds", "steady")
	e.call(public, "GET", "/ds/_changes", "", 403)
	e.call(public, "POST", "/ds/_sync/unsynced", `{"docs":[]}`, 403)
	e.call(admin, "POST", path+"/reset_all", `{}`, 409)
	e.call(admin, "POST", path, `{"action":"pause"}`, 400)
	e.call(admin, "POST", path, `{"action":"enable","config":{"database_name":"ds"}}`, 202)
	e.call(admin, "POST", path, `{"action":"enable","config":{"partition":{"key":"owner","type":"string"}}}`, 409)
	e.call(admin, "GET", path, "", 200)
}
