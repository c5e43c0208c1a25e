package rest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tidegate/tidegate/internal/gateway"
)

// everyState are the routes that work whatever a database is doing (resync.md §1); all others of a database are 503. Those
// in the last lines are not in the list of the spec: what makes a database or changes its config goes with _config, and
// _flush and the document beside the alias of _resync look at the state themselves.
var everyState = map[listener]string{
	public: `GET /{db}/, HEAD /{db}/
		PUT /{db}/`,
	admin: `GET /{db}/, HEAD /{db}/, DELETE /{db}/
		GET /{db}/_config, PUT /{db}/_config, POST /{db}/_config
		GET /{ks}/_config/sync, PUT /{ks}/_config/sync, DELETE /{ks}/_config/sync
		GET /{ks}/_config/import_filter, PUT /{ks}/_config/import_filter, DELETE /{ks}/_config/import_filter
		POST /{db}/_online, POST /{db}/_offline
		GET /{db}/_resync, POST /{db}/_resync, GET /{ks}/resync, POST /{ks}/resync
		GET /{db}/_index_init, POST /{db}/_index_init
		GET /{db}/_device_sync, POST /{db}/_device_sync, GET /{db}/_device_sync/sessions, GET /{db}/_device_sync/clients
		POST /{db}/_device_sync/reset_client, POST /{db}/_device_sync/reset_all, POST /{db}/_device_sync/trim
		GET /{db}/_device_sync/quarantine, GET /{db}/_device_sync/quarantine/{id}, DELETE /{db}/_device_sync/quarantine/{id}
		POST /{db}/_device_sync/quarantine/{id}/restore
		PUT /{db}/, GET /{db}/_config/audit, PUT /{db}/_config/audit, POST /{db}/_config/audit
		POST /{db}/_flush`,
}

// walkState asks for every route of a database that is in a state.
func (r *rig) walkState(t *testing.T, db string, state gateway.State) {
	t.Helper()
	want := "503 DB is " + state.String() + " - try again later"
	if state == gateway.Offline {
		want = "503 DB is currently under maintenance"
	}
	for _, l := range []listener{public, admin} {
		open := map[string]bool{}
		for part := range strings.SplitSeq(strings.ReplaceAll(everyState[l], "\n", ","), ",") {
			open[strings.TrimSpace(part)] = true
		}
		h, keys := gates(r.server, l)
		for _, key := range keys {
			method, pattern, _ := strings.Cut(key, " ")
			if !strings.HasPrefix(pattern, "/{") {
				if got := r.do(h, method, path(pattern, ""), "").outcome(); got != "ok" {
					t.Errorf("%s: %s %s: %s", state, l, key, got)
				}
				continue
			}
			header := basic("nobody", "wrong") // the state comes before credentials
			if l == public && open[key] {
				header = "X: y"
			}
			got := r.do(h, method, path(pattern, db), "", header).outcome()
			switch {
			case !open[key] && got != want:
				t.Errorf("%s: %s %s: %s, want %s", state, l, key, got, want)
			case open[key] && strings.HasPrefix(got, "503"):
				t.Errorf("%s: %s %s: %s, though it is for every state", state, l, key, got)
			}
			delete(open, key)
		}
		delete(open, "")
		for key := range open {
			t.Errorf("%s %s: no such route", l, key)
		}
	}
	r.a("POST", "/"+db+"/_flush", "").fails(503, strings.TrimPrefix(want, "503 "))
	r.a("GET", "/"+db+".s.c/resync", "").fails(503, strings.TrimPrefix(want, "503 "))
	r.p("GET", "/"+db+"/resync", "").fails(503, strings.TrimPrefix(want, "503 "))
	if got := r.a("GET", "/"+db+"/", "").is(200).member("state"); got != state.String() {
		t.Errorf("state %s, want %s", got, state)
	}
	for _, path := range []string{"/_all_dbs?verbose=true", "/_status"} {
		if got := r.a("GET", path, "").is(200).body; !strings.Contains(got, `"state":"`+state.String()+`"`) {
			t.Errorf("%s: %s: %s", state, path, got)
		}
	}
	if got := r.a("GET", "/metrics", "").is(200).body; !strings.Contains(got, fmt.Sprintf("tidegate_database_state{database=%q,state=%q} 1", db, state)) {
		t.Errorf("%s: not in the metrics", state)
	}
}

// untilState waits for a state that somebody else brings about.
func (r *rig) untilState(t *testing.T, db string, state gateway.State) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := r.running(db).AwaitState(ctx, state); err != nil {
		t.Fatalf("%s never was %s: %v", db, state, err)
	}
}

// guestRead is the config of a database that everybody may read.
const guestRead = `"guest":{"disabled":false},"unsupported":{"api_endpoints":{"enable_couchbase_bucket_flush":true}}`

func TestStateOffline(t *testing.T) {
	r := newRig(t, rigOptions{database: `{` + guestRead + `}`})
	r.a("POST", "/db/_offline", "").want(200, "")
	r.walkState(t, "db", gateway.Offline)
	r.a("POST", "/db/_offline", "").want(200, "")
	r.a("GET", "/db/resync", "").is(200)
	r.create("configured", `{"offline":true,`+guestRead+`}`)
	r.walkState(t, "configured", gateway.Offline)
	r.a("POST", "/configured/_online?wait=true", "").want(200, "") // also if the config says offline
	r.a("GET", "/configured/doc", "").is(404)
}

func TestStateStopping(t *testing.T) {
	r := newRig(t, rigOptions{database: `{` + guestRead + `}`})
	body, writer := io.Pipe()
	wrote := r.inBackground(t, r.admin, "PUT", "/db/slow", body)
	r.untilServed(t)
	offline := r.inBackground(t, r.admin, "POST", "/db/_offline", nil)
	r.untilState(t, "db", gateway.Stopping)
	r.walkState(t, "db", gateway.Stopping)
	r.a("POST", "/db/_resync", "").fails(503, "Database must be _offline before calling _resync, current state: Stopping")
	second := r.inBackground(t, r.admin, "POST", "/db/_offline", nil)
	online := r.a("POST", "/db/_online", "").want(200, "") // as soon as it is offline
	_ = online
	if _, err := io.WriteString(writer, `{"a":1}`); err != nil {
		t.Fatal(err)
	}
	_ = writer.Close()
	(<-wrote).is(201) // what was under way is finished
	(<-offline).want(200, "")
	(<-second).want(200, "")
	r.untilState(t, "db", gateway.Online)
	r.a("GET", "/db/slow", "").is(200)
}

func TestStateStarting(t *testing.T) {
	hold, asked := make(chan struct{}), make(chan struct{}, 8)
	var slow bool
	scripts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if slow {
			asked <- struct{}{}
			<-hold
		}
		fmt.Fprint(w, "function (doc) { channel('a'); }")
	}))
	defer scripts.Close()
	r := newRig(t, rigOptions{database: `{"sync":"` + scripts.URL + `/sync.js",` + guestRead + `}`})
	r.a("POST", "/db/_offline", "").want(200, "")
	slow = true
	r.a("POST", "/db/_online", `{"delay":0.001}`).want(200, "") // at once
	<-asked
	r.walkState(t, "db", gateway.Starting)
	r.a("POST", "/db/_offline", "").fails(503, "Unable to take Database offline, database must be in Online state but was Starting")
	r.a("POST", "/db/_online", "").want(200, "")
	r.a("POST", "/db/_resync", "").fails(503, "Database must be _offline before calling _resync, current state: Starting")
	close(hold)
	r.untilState(t, "db", gateway.Online)
}

// A request that a database has waited for for a minute is cut off (resync.md §1.1).
func TestRequestsAreCutOff(t *testing.T) {
	bubble(t, rigOptions{}, func(t *testing.T, r *rig, _ func() net.Conn) {
		body, writer := io.Pipe()
		wrote := r.inBackground(t, r.admin, "PUT", "/db/slow", body)
		r.untilServed(t)
		began := time.Now()
		r.a("POST", "/db/_offline", "").want(200, "")
		if took := time.Since(began); took < gateway.DrainTimeout || took > gateway.DrainTimeout+5*time.Second {
			t.Errorf("offline after %s", took)
		}
		if _, err := io.WriteString(writer, `{"a":1}`); err != nil {
			t.Fatal(err)
		}
		_ = writer.Close()
		(<-wrote).fails(503, "DB is currently under maintenance")
		r.a("POST", "/db/_online?wait=true", "").want(200, "")
		r.a("GET", "/db/slow", "").is(404)
	})
}

// inBackground sends a request whose answer comes on a channel.
func (r *rig) inBackground(t *testing.T, h http.Handler, method, target string, body io.Reader) <-chan reply {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), method, target, body)
	req.Host = "localhost"
	answer := make(chan reply, 1)
	go func() {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		answer <- reply{t, w.Code, w.Header(), w.Body.String()}
	}()
	return answer
}

// untilServed waits until a request is counted in by db.
func (r *rig) untilServed(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); r.running("db").Requests() == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the request is not being served")
		}
		<-time.After(time.Millisecond)
	}
}
