package appservices_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/appservices"
	"github.com/tidegate/tidegate/internal/cluster"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/gateway"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/blob"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

// rig is a gateway with the API in front of it.
type rig struct {
	t       testing.TB
	st      store.Store
	blobs   blob.Store
	gateway *gateway.Gateway
	api     *appservices.Server
	keys    *access.APIKeys
	clock   *clock
	journal *appservices.Journal
	admins  []access.AdminAccount
	node    string // its id, if it is one of several; "" if it is alone

	owner, token string // public key and access token of an owner
	private      string
	group        string
}

// clock is a time that a test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// newRig makes a gateway with the named databases, and logs an owner in, for a test that runs beside others.
func newRig(t *testing.T, databases ...string) *rig {
	t.Helper()
	t.Parallel()
	return newSharedRig(t, databases...)
}

func newSharedRig(t testing.TB, databases ...string) *rig {
	t.Helper()
	return newRigOf(t, "", databases...)
}

func newRigOf(t testing.TB, node string, databases ...string) *rig {
	t.Helper()
	st, err := pebblestore.OpenMem()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	blobs, err := blob.OpenFiles(t.TempDir(), blob.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, st: st, blobs: blobs, clock: &clock{t: time.Now().UTC()}, node: node}
	r.start()
	for _, name := range databases {
		if _, err := r.gateway.Create(t.Context(), name, &config.Database{}); err != nil {
			t.Fatal(err)
		}
	}
	key, private, err := r.keys.Create(t.Context(), "owner", access.RoleOwner)
	if err != nil {
		t.Fatal(err)
	}
	r.owner, r.private = key.PublicKey, private.Reveal()
	r.login()
	return r
}

// start opens the gateway and the API on the store, as a process does.
func (r *rig) start() {
	r.t.Helper()
	r.journal = appservices.NewJournal(slog.DiscardHandler)
	cheapest := 4
	startup := &config.Startup{}
	startup.Auth.BcryptCost = &cheapest
	nodes := cluster.Alone(r.st, "node")
	if r.node != "" {
		var err error
		if nodes, err = cluster.Join(r.t.Context(), r.st, cluster.Options{NodeID: r.node, Beat: 50 * time.Millisecond}); err != nil {
			r.t.Fatal(err)
		}
	}
	g, err := gateway.Open(r.t.Context(), gateway.Options{
		Cluster: nodes, Store: r.st, Blobs: r.blobs, NodeID: nodes.Self(), Startup: startup, Now: r.clock.now, Logger: slog.New(r.journal),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.gateway = g
	r.keys = access.NewAPIKeys(r.st, g.Passwords())
	admins, err := access.NewAdminAccounts(r.admins, g.Passwords())
	if err != nil {
		r.t.Fatal(err)
	}
	r.api, err = appservices.New(r.t.Context(), appservices.Options{
		Gateway: g, Store: r.st, Keys: r.keys, Admins: admins, Now: r.clock.now, Journal: r.journal,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	api := r.api
	go func() { defer close(ended); api.Run(ctx) }()
	r.t.Cleanup(func() {
		stop()
		<-ended
		if err := g.Close(context.Background()); err != nil {
			r.t.Error(err)
		}
	})
}

// restart ends the gateway and opens everything again on the same store.
func (r *rig) restart() {
	r.t.Helper()
	if err := r.gateway.Close(context.Background()); err != nil {
		r.t.Fatal(err)
	}
	r.start()
}

func (r *rig) login() {
	r.t.Helper()
	a := r.as("", "POST", "/auth/providers/mongodb-cloud/login", map[string]string{"username": r.owner, "apiKey": r.private})
	a.want(200)
	r.token = a.text("access_token")
	profile := r.call("GET", "/auth/profile", nil)
	profile.want(200)
	r.group = profile.json()["roles"].([]any)[0].(map[string]any)["group_id"].(string)
}

// answer is what came back.
type answer struct {
	t      testing.TB
	name   string
	code   int
	header http.Header
	body   []byte
}

func (r *rig) call(method, path string, body any, headers ...string) *answer {
	r.t.Helper()
	return r.as(r.token, method, path, body, headers...)
}

// as makes a request with a bearer token; "" for none. A body that is no string is sent as JSON. Headers are pairs.
func (r *rig) as(token, method, path string, body any, headers ...string) *answer {
	r.t.Helper()
	var sent []byte
	switch b := body.(type) {
	case nil:
	case string:
		sent = []byte(b)
	case []byte:
		sent = b
	default:
		var err error
		if sent, err = json.Marshal(b); err != nil {
			r.t.Fatal(err)
		}
	}
	req := httptest.NewRequestWithContext(r.t.Context(), method, "http://localhost:4985"+appservices.BasePath+path, bytes.NewReader(sent))
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	r.api.ServeHTTP(w, req)
	checkAnswer(r.t, r.api, req, w)
	return &answer{r.t, method + " " + path, w.Code, w.Header(), w.Body.Bytes()}
}

func (a *answer) want(code int, errorCode ...string) *answer {
	a.t.Helper()
	if a.code != code {
		a.t.Fatalf("%s: %d %s; want %d", a.name, a.code, a.body, code)
	}
	if len(errorCode) > 0 && a.text("error_code") != errorCode[0] {
		a.t.Fatalf("%s: %s; want %s", a.name, a.body, errorCode[0])
	}
	return a
}

func (a *answer) json() map[string]any {
	a.t.Helper()
	var m map[string]any
	if err := json.Unmarshal(a.body, &m); err != nil {
		a.t.Fatalf("%s: %s: %v", a.name, a.body, err)
	}
	return m
}

func (a *answer) list() []any {
	a.t.Helper()
	var l []any
	if err := json.Unmarshal(a.body, &l); err != nil || l == nil {
		a.t.Fatalf("%s: %s: %v", a.name, a.body, err)
	}
	return l
}

func (a *answer) text(name string) string {
	a.t.Helper()
	s, _ := a.json()[name].(string)
	return s
}

// fixture is an app with its synced service.
type fixture struct {
	*rig
	app, service string // paths
	appID        string
	database     string
}

// automatic returns the automatic app of a database, found by the steps of the seed.
func (r *rig) automatic(database string) *fixture {
	r.t.Helper()
	for _, one := range r.call("GET", "/groups/"+r.group+"/apps", nil).want(200).list() {
		a := one.(map[string]any)
		if a["name"] == database {
			return r.fixture(a["_id"].(string), database)
		}
	}
	r.t.Fatalf("there is no app of %s", database)
	return nil
}

func (r *rig) fixture(appID, database string) *fixture {
	r.t.Helper()
	f := &fixture{rig: r, app: "/groups/" + r.group + "/apps/" + appID, appID: appID, database: database}
	services := r.call("GET", f.app+"/services", nil).want(200).list()
	f.service = f.app + "/services/" + services[0].(map[string]any)["_id"].(string)
	return f
}

// patch changes the configuration of the service.
func (f *fixture) patch(body any, headers ...string) *answer {
	f.t.Helper()
	return f.call("PATCH", f.service+"/config", body, headers...)
}

// state makes a PATCH of the state alone.
func (f *fixture) state(state string) *answer {
	f.t.Helper()
	return f.patch(map[string]any{"flexible_sync": map[string]any{"state": state}})
}

// sync returns flexible_sync of the configuration.
func (f *fixture) sync() map[string]any {
	f.t.Helper()
	return f.call("GET", f.service+"/config", nil).want(200).json()["flexible_sync"].(map[string]any)
}

func (f *fixture) wantState(want string) {
	f.t.Helper()
	if got := f.sync()["state"]; got != want {
		f.t.Fatalf("the state is %q, want %q", got, want)
	}
}

// live is the row of the database.
func (f *fixture) live() *devicesync.Row { return f.deviceSync().Live().Row() }

func (f *fixture) deviceSync() *gateway.DeviceSync {
	f.t.Helper()
	r, err := f.gateway.Database(f.database)
	if err != nil {
		f.t.Fatal(err)
	}
	return r.DeviceSync()
}

// settled waits until nothing is being done about the state any more.
func (f *fixture) settled() {
	f.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		row, moved := f.deviceSync().Live().Watch()
		if row.Record.Phase == devicesync.Steady {
			return
		}
		select {
		case <-moved:
		case <-deadline:
			f.t.Fatalf("still %s", row.Record.Phase)
		}
	}
}

// full is the whole configuration of the seed.
func full(state, database string) map[string]any {
	return map[string]any{"flexible_sync": map[string]any{
		"state": state, "database_name": database, "permissions": map[string]any{"rules": map[string]any{}, "defaultRoles": []any{}},
		"client_max_offline_days": 30, "is_recovery_mode_disabled": false,
	}}
}

// readContract reads api/appservices-openapi.yaml, which every answer of every test of this package is held against.
var readContract = sync.OnceValues(func() (*openapi3.T, error) {
	doc, err := openapi3.NewLoader().LoadFromFile("../../api/appservices-openapi.yaml")
	if err != nil {
		return nil, err
	}
	return doc, doc.Validate(context.Background())
})

// checkAnswer holds an answer against the contract, and against what holds for all of them.
func checkAnswer(t testing.TB, api *appservices.Server, req *http.Request, w *httptest.ResponseRecorder) {
	t.Helper()
	if id := w.Header().Get("X-Appservices-Request-Id"); len(id) != 24 {
		t.Errorf("%s %s: request id %q", req.Method, req.URL, id)
	}
	if w.Body.Len() > 0 && w.Code >= 400 && w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%s %s: Content-Type %q", req.Method, req.URL, w.Header().Get("Content-Type"))
	}
	doc, err := readContract()
	if err != nil {
		t.Fatal(err)
	}
	path := patternOf(api, strings.TrimPrefix(req.URL.Path, appservices.BasePath))
	pathItem := doc.Paths.Value(path)
	if pathItem == nil || pathItem.GetOperation(req.Method) == nil {
		return // somebody looks for what is not there
	}
	op := pathItem.GetOperation(req.Method)
	kind, _, _ := mime.ParseMediaType(w.Header().Get("Content-Type"))
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: req, Route: &routers.Route{Spec: doc, Path: path, PathItem: pathItem, Method: req.Method, Operation: op},
		},
		Status: w.Code, Header: w.Result().Header, Body: io.NopCloser(bytes.NewReader(w.Body.Bytes())),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true, ExcludeResponseBody: kind != "application/json"},
	}
	if w.Code < 400 && op.Responses.Status(w.Code) == nil {
		t.Errorf("%s %s answers %d, which the contract does not know", req.Method, path, w.Code)
	}
	if err := openapi3filter.ValidateResponse(req.Context(), input); err != nil {
		t.Errorf("%s %s: %v\n%d %s", req.Method, path, err, w.Code, w.Body)
	}
}

// patternOf returns the path of an endpoint with its variables in braces.
func patternOf(api *appservices.Server, path string) string {
	segments := strings.Split(strings.Trim(path, "/"), "/")
	best, variables := path, 100
	for _, e := range api.Endpoints() {
		pattern := strings.Split(strings.Trim(e.Path, "/"), "/")
		if len(pattern) != len(segments) {
			continue
		}
		n, match := 0, true
		for i, seg := range pattern {
			if strings.HasPrefix(seg, "{") {
				n++
			} else if seg != segments[i] {
				match = false
			}
		}
		if match && n < variables {
			best, variables = e.Path, n
		}
	}
	return best
}

func TestContractHasTheEndpointsOfTheServer(t *testing.T) {
	doc, err := readContract()
	if err != nil {
		t.Fatal(err)
	}
	served := map[string]bool{}
	for _, e := range newRig(t).api.Endpoints() {
		served[e.Method+" "+e.Path] = true
		if item := doc.Paths.Value(e.Path); item == nil || item.GetOperation(e.Method) == nil {
			t.Errorf("%s %s is served and not in the contract", e.Method, e.Path)
		}
	}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			if !served[method+" "+path] {
				t.Errorf("%s %s is in the contract and not served", method, path)
			}
		}
	}
}
