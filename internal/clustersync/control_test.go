package clustersync_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/clustertest"
)

// rig is a Control over two clusters in memory, whose engine does only what a test tells it.
type rig struct {
	t        testing.TB
	servers  [2]*clustertest.Memory // what clusters are; connections are made anew with each process
	conns    [2]*clustertest.Memory
	control  *clustersync.Control
	api      *clustersync.API
	log      *logBuffer
	settings clustersync.Settings
	env      clustersync.Environment

	finish chan struct{} // closed: a commit ends
	swap   chan struct{} // closed: a reverse ends
	check  error         // what a reversal's Check says
	begin  error         // what Begin says
	stuck  chan error    // what Run ends with
	drain  chan struct{} // nil, or Run stops only once it is closed

	mu       sync.Mutex
	snapshot clustersync.Snapshot
	engines  int
	panics   bool // Snapshot does
	real     bool // with the real engine

	cancel context.CancelFunc
	ended  chan error
}

type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newRig(t testing.TB, opts ...clustertest.Options) *rig {
	r := &rig{t: t, log: new(logBuffer), finish: make(chan struct{}), swap: make(chan struct{}), stuck: make(chan error, 1)}
	r.snapshot = clustersync.Snapshot{Phase: clustersync.PhaseApply, CanCommit: true, LagSeconds: new(int64(3))}
	for i := range r.servers {
		o := clustertest.Options{}
		if i < len(opts) {
			o = opts[i]
		}
		o.Name = fmt.Sprintf("host%d", i)
		r.servers[i] = clustertest.NewMemory(o)
	}
	return r
}

// start starts a process; before may change its connections.
func (r *rig) start(before ...func(*rig)) {
	for i, s := range r.servers {
		r.conns[i] = s.Connect()
	}
	for _, f := range before {
		f(r)
	}
	cfg := clustersync.ControlConfig{
		Clusters: [2]clustersync.Cluster{r.conns[0], r.conns[1]}, Settings: r.settings, Environment: r.env,
		Log: slog.New(slog.NewJSONHandler(r.log, &slog.HandlerOptions{Level: clustersync.LevelTrace})),
	}
	if !r.real {
		cfg = cfg.WithStubs(
			func(c clustersync.EngineConfig) (clustersync.EngineStub, error) {
				return &stubEngine{r: r, cfg: c, commit: make(chan struct{})}, nil
			},
			func(rev clustersync.Reversal) clustersync.ReversalStub { return stubReversal{r, rev} },
		)
	}
	r.control = clustersync.NewControl(cfg)
	r.api = clustersync.NewAPI(r.control, clustersync.APIOptions{Log: cfg.Log, Loopback: true})
	ctx, cancel := context.WithCancel(r.t.Context())
	r.cancel, r.ended = cancel, make(chan error, 1)
	go func() { r.ended <- r.control.Run(ctx) }()
	synctest.Wait()
}

// stop ends the process in order.
func (r *rig) stop() error {
	r.cancel()
	return <-r.ended
}

// kill ends the process as if it had been killed: nothing of it reaches the clusters any more.
func (r *rig) kill() {
	for _, c := range r.conns {
		c.Kill()
	}
	_ = r.stop()
}

// stubEngine keeps the journal as a real one does, and does nothing else.
type stubEngine struct {
	r      *rig
	cfg    clustersync.EngineConfig
	commit chan struct{}
	once   sync.Once
}

func (e *stubEngine) Begin(context.Context) error { return e.r.begin }

func (e *stubEngine) Run(ctx context.Context) error {
	e.r.mu.Lock()
	e.r.engines++
	e.r.mu.Unlock()
	if e.cfg.Journal.Get().State == "COMMITTING" {
		e.once.Do(func() { close(e.commit) })
	}
	select {
	case <-ctx.Done():
		if e.r.drain != nil {
			<-e.r.drain
		}
		return context.Cause(ctx)
	case err := <-e.r.stuck:
		return err
	case <-e.commit:
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-e.r.finish:
		return e.cfg.Journal.SetState(ctx, "COMMITTED")
	}
}

func (e *stubEngine) Commit(ctx context.Context) error {
	if s := e.Snapshot(); !s.CanCommit {
		return clustersync.Errorf(clustersync.CannotCommit, "commit is not possible now: %s", strings.Join(s.CannotCommit, ", "))
	}
	if err := e.cfg.Journal.SetState(ctx, "COMMITTING"); err != nil {
		return err
	}
	e.once.Do(func() { close(e.commit) })
	return nil
}

func (e *stubEngine) Snapshot() clustersync.Snapshot {
	e.r.mu.Lock()
	defer e.r.mu.Unlock()
	if e.r.panics {
		panic("a bug")
	}
	return e.r.snapshot
}

type stubReversal struct {
	r   *rig
	rev clustersync.Reversal
}

func (s stubReversal) Check(context.Context) error { return s.r.check }

func (s stubReversal) Run(ctx context.Context) (*clustersync.Journal, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.r.swap:
	}
	// The options go along.
	var options bson.Raw
	if err := s.rev.Destination.Metadata().Get(ctx, "globalState", "globalState", &options); err != nil {
		return nil, err
	}
	meta := s.rev.Source.Metadata()
	if err := meta.Put(ctx, s.rev.Fence(), "globalState", options); err != nil {
		return nil, err
	}
	j, _, err := clustersync.OpenJournal(ctx, meta, s.rev.Fence, clustersync.Coordinator)
	if err != nil {
		return nil, err
	}
	old := s.rev.Journal.Get()
	return j, j.Update(ctx, func(r *clustersync.Resume) {
		r.State, r.Swapped, r.Epoch = "RUNNING", !old.Swapped, old.Epoch+1
	})
}

// answer is what the API says.
type answer struct {
	Status      int
	Success     *bool          `json:"success"`
	Error       string         `json:"error"`
	Description string         `json:"errorDescription"`
	Progress    map[string]any `json:"progress"`
	raw         string
	header      http.Header
}

func (r *rig) do(method, path, body string) answer {
	r.t.Helper()
	req := httptest.NewRequest(method, "http://localhost:27182"+path, strings.NewReader(body))
	return r.serve(req)
}

func (r *rig) serve(req *http.Request) answer {
	r.t.Helper()
	w := httptest.NewRecorder()
	r.api.ServeHTTP(w, req)
	checkAnswer(r.t, req, w)
	b, err := io.ReadAll(w.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	a := answer{Status: w.Code, raw: string(b), header: w.Header()}
	if err := json.Unmarshal(b, &a); err != nil && strings.HasPrefix(req.URL.Path, "/api/") {
		r.t.Fatalf("%s %s answers %q: %v", req.Method, req.URL.Path, b, err)
	}
	return a
}

func (r *rig) post(call string) answer {
	body := "{ }"
	if call == "start" {
		body = `{"source":"cluster0","destination":"cluster1","reversible":true,"enableUserWriteBlocking":true}`
	}
	return r.do("POST", "/api/v1/"+call, body)
}

func (r *rig) state() string {
	r.t.Helper()
	a := r.do("GET", "/api/v1/progress", "")
	s, _ := a.Progress["state"].(string)
	return s
}

func (r *rig) mustPost(call string) {
	r.t.Helper()
	if a := r.post(call); a.Status != 200 || a.raw != `{"success":true}` {
		r.t.Fatalf("%s: %d %s", call, a.Status, a.raw)
	}
}

// records are all there are, on both clusters.
func (r *rig) records() string {
	var b strings.Builder
	for i, s := range r.servers {
		for _, collection := range []string{"globalState", "resumeData"} {
			err := s.Metadata().All(r.t.Context(), collection, func(raw bson.Raw) error {
				fmt.Fprintf(&b, "%d %s %s\n", i, collection, raw)
				return nil
			})
			if err != nil {
				r.t.Fatal(err)
			}
		}
	}
	return b.String()
}

// bring brings a new process to a state.
func (r *rig) bring(state string) {
	r.t.Helper()
	if state == "INITIALIZING" {
		r.start(func(r *rig) {
			r.conns[0].Inject(func(clustertest.Call) clustertest.Fault {
				return clustertest.Fault{Wait: func(ctx context.Context) { <-ctx.Done() }, Err: clustertest.Passing()}
			})
		})
		return
	}
	r.start()
	for _, step := range []struct{ reached, call string }{
		{"IDLE", "start"}, {"RUNNING", ""}, {"PAUSED", ""}, {"COMMITTING", ""}, {"COMMITTED", "reverse"}, {"REVERSING", ""},
	} {
		if step.reached == state {
			break
		}
		switch {
		case step.call != "":
			r.mustPost(step.call)
		case step.reached == "RUNNING" && state == "PAUSED":
			r.mustPost("pause")
		case step.reached == "RUNNING":
			r.mustPost("commit")
		case step.reached == "COMMITTING":
			close(r.finish)
		}
		synctest.Wait()
	}
	if got := r.state(); got != state {
		r.t.Fatalf("state %s, want %s", got, state)
	}
}

// Every call in every state (spec §4): what is legal moves, what is not says so and changes nothing.
func TestStateMatrix(t *testing.T) {
	legal := map[string]map[string]string{
		"IDLE": {"start": "RUNNING"}, "RUNNING": {"pause": "PAUSED", "commit": "COMMITTING"}, "PAUSED": {"resume": "RUNNING"},
		"COMMITTED": {"reverse": "REVERSING"},
	}
	for _, state := range []string{"INITIALIZING", "IDLE", "RUNNING", "PAUSED", "COMMITTING", "COMMITTED", "REVERSING"} {
		for _, call := range []string{"start", "pause", "resume", "commit", "reverse"} {
			t.Run(state+"/"+call, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t)
					r.bring(state)
					before, engines := r.records(), r.engines
					a := r.post(call)
					synctest.Wait()
					after, want := r.state(), legal[state][call]
					switch {
					case want != "":
						if a.raw != `{"success":true}` || a.Status != 200 || after != want {
							t.Errorf("%d %s, state %s; want %s", a.Status, a.raw, after, want)
						}
						if !strings.Contains(r.records(), `"state": "`+want+`"`) && !strings.Contains(r.records(), `"state":"`+want+`"`) {
							t.Errorf("%s is not on record: %s", want, r.records())
						}
					default:
						text := fmt.Sprintf(`{"success":false,"error":"InvalidStateTransition","errorDescription":"%s is not allowed in state %s"}`, call, state)
						if a.raw != text || a.Status != 200 || after != state || r.records() != before || r.engines != engines {
							t.Errorf("%d %s, state %s", a.Status, a.raw, after)
						}
					}
					if err := r.stop(); err != nil {
						t.Error(err)
					}
				})
			})
		}
	}
}

// The session of spec §25, twice reversed.
func TestSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.bring("PAUSED")
		if p := r.do("GET", "/api/v1/progress", "").Progress; p["lagTimeSeconds"] != nil || p["lag"] != nil {
			t.Errorf("paused: %v", p)
		}
		r.mustPost("resume")
		r.mustPost("commit")
		if a := r.do("GET", "/api/v1/progress", ""); a.Progress["canCommit"] != false {
			t.Errorf("committing: %s", a.raw)
		}
		close(r.finish)
		synctest.Wait()
		p := r.do("GET", "/api/v1/progress", "").Progress
		if p["state"] != "COMMITTED" || p["canWrite"] != true || p["lagTimeSeconds"] != 0.0 || p["info"] != "commit completed" {
			t.Errorf("committed: %v", p)
		}
		for n, want := range []string{"cluster1: host1:27017", "cluster0: host0:27017"} {
			close(r.swap)
			r.mustPost("reverse")
			synctest.Wait()
			p := r.do("GET", "/api/v1/progress", "").Progress
			if p["state"] != "RUNNING" || p["directionMapping"].(map[string]any)["Source"] != want {
				t.Errorf("reverse %d: %v", n, p)
			}
			r.mustPost("commit")
			synctest.Wait()
			if s := r.state(); s != "COMMITTED" {
				t.Fatalf("after commit %d: %s", n, s)
			}
			r.swap = make(chan struct{})
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A process that is killed in any state, or stopped, goes on in it when it is started again (spec §2.2).
func TestRestore(t *testing.T) {
	for _, state := range []string{"IDLE", "RUNNING", "PAUSED", "COMMITTING", "COMMITTED", "REVERSING"} {
		for _, how := range []string{"killed", "stopped"} {
			t.Run(state+" "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t)
					r.bring(state)
					began := time.Now()
					if how == "killed" {
						r.kill()
					} else if err := r.stop(); err != nil {
						t.Fatal(err)
					}
					engines := r.engines
					r.start()
					if how == "killed" && state != "IDLE" {
						if s := r.state(); s != "INITIALIZING" {
							t.Errorf("%s while the old lease lasts", s)
						}
						time.Sleep(time.Minute)
						synctest.Wait()
					}
					if s := r.state(); s != state {
						t.Errorf("%s after %s: %s", s, time.Since(began), r.log)
					}
					if works := state == "RUNNING" || state == "COMMITTING"; works != (r.engines > engines) {
						t.Errorf("an engine works: %t", !works)
					}
					switch state {
					case "COMMITTING":
						close(r.finish)
					case "REVERSING":
						close(r.swap)
					}
					synctest.Wait()
					if want := map[string]string{"COMMITTING": "COMMITTED", "REVERSING": "RUNNING"}[state]; want != "" && r.state() != want {
						t.Errorf("%s, want %s: %s", r.state(), want, r.log)
					}
					if err := r.stop(); err != nil {
						t.Error(err)
					}
				})
			})
		}
	}
}

// The records are found on either cluster, also after reverses, whichever way the labels are given; other clusters are refused.
func TestRestoreFindsRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.bring("COMMITTED")
		close(r.swap)
		r.mustPost("reverse")
		synctest.Wait()
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		r.start()
		p := r.do("GET", "/api/v1/progress", "").Progress
		if p["state"] != "RUNNING" || p["directionMapping"].(map[string]any)["Source"] != "cluster1: host1:27017" {
			t.Errorf("after a reverse: %v; %s", p, r.log)
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}

		r.servers[0], r.servers[1] = r.servers[1], r.servers[0]
		r.start()
		if err := <-r.ended; clustersync.NameOf(err) != clustersync.MetadataConflict || !strings.Contains(err.Error(), "host0") {
			t.Errorf("with the clusters exchanged: %v", err)
		}
		r.servers[0], r.servers[1] = r.servers[1], clustertest.NewMemory(clustertest.Options{Name: "third"})
		r.start()
		if err := <-r.ended; clustersync.NameOf(err) != clustersync.MetadataConflict {
			t.Errorf("with another cluster: %v", err)
		}
		if a := r.do("GET", "/api/v1/progress", ""); a.Error != "MetadataConflict" || *a.Success {
			t.Errorf("progress of a job that has failed: %s", a.raw)
		}
		if a := r.post("start"); a.Error != "MetadataConflict" {
			t.Errorf("a call to a job that has failed: %s", a.raw)
		}
		if !strings.Contains(r.log.String(), "Got a fatal error running Mongosync") {
			t.Error("there is no fatal line")
		}
	})
}

func TestSameClusterTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.servers[1] = r.servers[0]
		r.start()
		if err := <-r.ended; clustersync.NameOf(err) != clustersync.InvalidOption || !strings.Contains(err.Error(), "same cluster") {
			t.Errorf("%v", err)
		}
	})
}

// While one call is in progress no other is taken, and /progress answers at once (spec §3).
func TestOneCallAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.drain = make(chan struct{})
		r.bring("RUNNING")
		paused := make(chan answer)
		go func() { paused <- r.post("pause") }()
		synctest.Wait()
		for _, call := range []string{"start", "pause", "resume", "commit", "reverse"} {
			if a := r.post(call); a.Status != 200 || a.Error != "APIError" || a.Description != "another request is in progress" {
				t.Errorf("%s: %s", call, a.raw)
			}
		}
		if s := r.state(); s != "RUNNING" {
			t.Errorf("state %s while the writers stop", s)
		}
		close(r.drain)
		if a := <-paused; a.raw != `{"success":true}` {
			t.Error(a.raw)
		}
		if s := r.state(); s != "PAUSED" {
			t.Error(s)
		}
		r.drain = nil
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A start that fails leaves nothing behind, and may be tried again.
func TestStartFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.begin = clustersync.Errorf(clustersync.WriteBlockFailed, "no")
		r.bring("IDLE")
		if a := r.post("start"); a.Error != "WriteBlockFailed" || a.Status != 200 {
			t.Error(a.raw)
		}
		if s := r.state(); s != "IDLE" || r.records() != "" {
			t.Errorf("%s, %s", s, r.records())
		}
		r.begin = errors.New("something of the driver")
		if a := r.post("start"); a.Error != "APIError" {
			t.Error(a.raw)
		}
		// A write that cannot be made, whether or not it was.
		for _, after := range []int{0, -1} {
			r.begin = nil
			r.conns[1].Inject(func(c clustertest.Call) clustertest.Fault {
				if c.Name == "Metadata.Put" {
					return clustertest.Fault{Err: clustertest.Passing(), After: after}
				}
				return clustertest.Fault{}
			})
			if a := r.post("start"); a.Error != "ClusterUnreachable" {
				t.Error(a.raw)
			}
			if s := r.state(); s != "IDLE" || r.records() != "" {
				t.Errorf("%s, %s", s, r.records())
			}
			r.conns[1].Inject(nil)
		}
		r.mustPost("start")
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A process that is killed at any call that /start makes leaves nothing that keeps the next one from starting the sync, or goes on by itself.
func TestKilledInStart(t *testing.T) {
	for i := range 4 {
		side, lost := i/2, i%2
		for n := 1; ; n++ {
			reached := false
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.bring("IDLE")
				calls := 0
				r.conns[side].Inject(func(c clustertest.Call) clustertest.Fault {
					if calls++; calls < n {
						return clustertest.Fault{}
					}
					reached = true
					// The write that it died in may have been carried out.
					return clustertest.Fault{Err: errors.New("killed"), After: -lost}
				})
				r.post("start")
				r.kill()
				r.start()
				time.Sleep(time.Minute)
				synctest.Wait()
				if s := r.state(); s == "IDLE" {
					r.mustPost("start")
				} else if s != "RUNNING" {
					t.Errorf("killed at call %d of cluster%d: %s: %s", n, side, s, r.log)
				}
				if err := r.stop(); err != nil {
					t.Error(err)
				}
			})
			if !reached {
				break
			}
		}
	}
}

// A process that is killed at any call to a cluster that a call of the API makes is afterwards in the state before the call or in the one after it, and
// if the call was answered with success, in the one after it.
func TestKilledInCall(t *testing.T) {
	for call, move := range map[string][2]string{"pause": {"RUNNING", "PAUSED"}, "resume": {"PAUSED", "RUNNING"}, "commit": {"RUNNING", "COMMITTING"}, "reverse": {"COMMITTED", "REVERSING"}} {
		for i := range 4 {
			side, lost := i/2, i%2
			for n := 1; n < 20; n++ {
				reached := false
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t)
					r.bring(move[0])
					calls := 0
					r.conns[side].Inject(func(c clustertest.Call) clustertest.Fault {
						if calls++; calls < n {
							return clustertest.Fault{}
						}
						reached = true
						return clustertest.Fault{Err: errors.New("killed"), After: -lost}
					})
					done := r.post(call).Error == ""
					r.kill()
					r.start()
					time.Sleep(time.Minute)
					synctest.Wait()
					if s := r.state(); s != move[1] && (done || s != move[0]) {
						t.Errorf("killed at call %d of cluster%d in %s (answered: %t): %s: %s", n, side, call, done, s, r.log)
					}
					if err := r.stop(); err != nil {
						t.Error(err)
					}
				})
				if !reached {
					break
				}
			}
		}
	}
}

// A commit that is not possible says what is missing.
func TestCannotCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.snapshot.CanCommit, r.snapshot.CannotCommit = false, []string{"the lag is 31 s"}
		r.bring("RUNNING")
		if a := r.post("commit"); a.Error != "CannotCommit" || !strings.Contains(a.Description, "the lag is 31 s") || a.Status != 200 {
			t.Error(a.raw)
		}
		if s := r.state(); s != "RUNNING" {
			t.Error(s)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// An engine that cannot go on ends the job: every call then says why (spec §2.1).
func TestFatal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.bring("RUNNING")
		r.stuck <- fmt.Errorf("read changes: %w", clustersync.ErrHistoryLost)
		if err := <-r.ended; !errors.Is(err, clustersync.ErrHistoryLost) {
			t.Error(err)
		}
		for _, call := range []string{"start", "pause", "resume", "commit", "reverse"} {
			if a := r.post(call); a.Error != "OplogRollover" || a.Status != 200 {
				t.Errorf("%s: %s", call, a.raw)
			}
		}
		if a := r.do("GET", "/api/v1/progress", ""); a.Error != "OplogRollover" || len(a.Progress) > 0 {
			t.Error(a.raw)
		}
	})
}

// A process whose lease is taken stops, and a second process does not get it (spec §15.3).
func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.bring("IDLE")
		other := newRig(t)
		other.servers = r.servers
		other.start()
		r.mustPost("start")
		if a := other.post("start"); a.Error != "MetadataConflict" {
			t.Error(a.raw)
		}
		if err := other.stop(); err != nil {
			t.Error(err)
		}
		time.Sleep(5 * time.Minute) // it is renewed
		if s := r.state(); s != "RUNNING" {
			t.Error(s)
		}
		// A process that was cut off for a while finds that another one has taken over.
		r.conns[1].Kill()
		time.Sleep(time.Minute)
		second := newRig(t)
		second.servers = r.servers
		second.start()
		synctest.Wait()
		if s := second.state(); s != "RUNNING" {
			t.Errorf("%s: %s", s, second.log)
		}
		if err := second.stop(); err != nil {
			t.Error(err)
		}
	})
}

// What is wrong with the clusters stops a reverse, and changes nothing (spec §14.1).
func TestReverseRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		start  string
		change func(r *rig)
		want   clustersync.ErrorName
		text   string
	}{
		{"not reversible", `{"source":"cluster0","destination":"cluster1","enableUserWriteBlocking":true}`, nil, clustersync.ReversePreconditionFailed, "reversible"},
		{"history lost", "", func(r *rig) { r.check = clustersync.ErrHistoryLost }, clustersync.OplogRollover, "history"},
		{"engine", "", func(r *rig) { r.check = errors.New("old index format") }, clustersync.ReversePreconditionFailed, "old index format"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.bring("IDLE")
				body := tt.start
				if body == "" {
					body = `{"source":"cluster0","destination":"cluster1","reversible":true}`
				}
				if a := r.do("POST", "/api/v1/start", body); a.Error != "" {
					t.Fatal(a.raw)
				}
				r.mustPost("commit")
				close(r.finish)
				synctest.Wait()
				if tt.change != nil {
					tt.change(r)
				}
				before := r.records()
				if a := r.post("reverse"); a.Error != string(tt.want) || !strings.Contains(a.Description, tt.text) {
					t.Error(a.raw)
				}
				if s := r.state(); s != "COMMITTED" || r.records() != before {
					t.Errorf("%s, %s", s, r.records())
				}
				if err := r.stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
