package gateway

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/job"
	"github.com/tidegate/tidegate/internal/replicate"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/blob"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

// fakes makes replicators that connect at once and do nothing, unless a test says more.
type fakes struct {
	mu      sync.Mutex
	made    map[string][]*fake // by id, the last one is the latest
	starts  []time.Time
	prepare func(*fake) // before it is handed out
}

// fake is a Replicator.
type fake struct {
	o        replicate.ActiveOptions
	refuse   error         // Run fails at once
	end      chan error    // what Run returns
	slow     chan struct{} // if not nil: how Run and Reset wait before they end
	onRun    func()
	ended    func() // if not nil: called when Run ends
	mu       sync.Mutex
	st       replicate.Status
	runs     int
	resets   int
	resetErr error
}

func (f *fakes) make(o replicate.ActiveOptions) (Replicator, error) {
	r := &fake{o: o, end: make(chan error, 1)}
	r.st.Push.Active, r.st.Pull.Active = o.Push, o.Pull
	f.mu.Lock()
	defer f.mu.Unlock()
	r.onRun = func() { f.mu.Lock(); defer f.mu.Unlock(); f.starts = append(f.starts, time.Now()) }
	if f.prepare != nil {
		f.prepare(r)
	}
	f.made[o.ID] = append(f.made[o.ID], r)
	return r, nil
}

// last is the latest replicator of an id; nil if there is none.
func (f *fakes) last(id string) *fake {
	f.mu.Lock()
	defer f.mu.Unlock()
	if list := f.made[id]; len(list) > 0 {
		return list[len(list)-1]
	}
	return nil
}

// runs counts the runs of an id.
func (f *fakes) runs(id string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, r := range f.made[id] {
		r.mu.Lock()
		n += r.runs
		r.mu.Unlock()
	}
	return n
}

// set changes the state of all directions there are.
func (r *fake) set(s replicate.State, err error) {
	r.mu.Lock()
	for _, d := range []*replicate.DirectionStatus{&r.st.Push, &r.st.Pull} {
		if d.Active {
			d.State, d.Err, d.ErrAt = s, err, time.Now()
		}
	}
	r.mu.Unlock()
	r.o.OnChange()
}

func (r *fake) Run(ctx context.Context) error {
	r.mu.Lock()
	r.runs++
	r.mu.Unlock()
	r.onRun()
	if r.ended != nil {
		defer r.ended()
	}
	r.set(replicate.Starting, nil)
	if r.refuse != nil {
		r.set(replicate.Failed, r.refuse)
		return r.refuse
	}
	r.set(replicate.Running, nil)
	err := error(nil)
	select {
	case err = <-r.end:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if r.slow != nil {
		<-r.slow
	}
	r.mu.Lock()
	r.st.Pull.LastSeq = "7"
	r.mu.Unlock()
	r.set(replicate.Stopped, nil)
	return err
}

func (r *fake) Status() replicate.Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.st
}

func (r *fake) Reset(ctx context.Context) error {
	if r.slow != nil {
		select {
		case <-r.slow:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.resets++
	return r.resetErr
}

// replEnv is a store in a bubble, on which gateways with fake replicators are opened.
type replEnv struct {
	env
	fakes *fakes
	keys  *config.Keyring
}

// bubble runs a test with a replEnv where time is not real.
func bubble(t *testing.T, f func(t *testing.T, e *replEnv)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st, err := pebblestore.OpenMem()
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := st.Close(); err != nil {
				t.Error(err)
			}
		}()
		blobs, err := blob.OpenFiles(t.TempDir(), blob.Options{})
		if err != nil {
			t.Fatal(err)
		}
		f(t, &replEnv{env{t, st, blobs, &logs{waits: map[string]chan struct{}{}}}, &fakes{made: map[string][]*fake{}}, nil})
	})
}

// gateway opens a gateway; stop closes it.
func (e *replEnv) gateway(files map[string]*config.Database) (g *Gateway, stop func()) {
	e.t.Helper()
	s := &config.Startup{}
	cheapest := 4
	s.Auth.BcryptCost = &cheapest
	g, err := Open(e.t.Context(), Options{
		Store: e.st, Blobs: e.blobs, NodeID: "node", Startup: s, FileDatabases: files, Logger: slog.New(e.logs),
		NewReplicator: e.fakes.make, Secrets: e.keys,
	})
	if err != nil {
		e.t.Fatal(err)
	}
	return g, func() { e.close(g) }
}

// define makes or changes a definition.
func define(t *testing.T, r *Running, id, body string) (created bool) {
	t.Helper()
	created, err := tryDefine(r, id, body)
	if err != nil {
		t.Fatal(err)
	}
	return created
}

func tryDefine(r *Running, id, body string) (created bool, err error) {
	patch, err := config.ParseReplicationPatch([]byte(body), id)
	if err != nil {
		return false, err
	}
	return r.Replications().Put(context.Background(), id, patch)
}

// wantRepl checks the state of a replication, when nothing moves any more.
func wantRepl(t *testing.T, r *Running, id string, want job.State) ReplicationStatus {
	t.Helper()
	synctest.Wait()
	s, err := r.Replications().Status(id)
	if err != nil {
		t.Fatal(err)
	}
	if s.State != want {
		t.Fatalf("%s is %s (%s), want %s", id, s.State, s.Error, want)
	}
	return s
}

// act does something to a replication and checks what is answered.
func act(t *testing.T, r *Running, id string, ev job.Event, want job.State) {
	t.Helper()
	s, err := r.Replications().Act(t.Context(), id, ev)
	if err != nil {
		t.Fatal(err)
	}
	if s.State != want || s.ID != id {
		t.Fatalf("%s: the answer is %q %s, want %s", ev, s.ID, s.State, want)
	}
}

// rows returns what is stored about replications, as one text.
func (e *replEnv) rows(space store.Space) string {
	e.t.Helper()
	var all []string
	err := e.st.View(e.t.Context(), func(r store.Reader) error {
		all = nil
		return scan(r, store.NewKey(space, store.KindMeta), func(rest, value []byte) error {
			if strings.HasPrefix(string(rest), "gateway.replication") {
				all = append(all, string(value))
			}
			return nil
		})
	})
	if err != nil {
		e.t.Fatal(err)
	}
	return strings.Join(all, "\n")
}

const (
	pullAlways = `{"remote":"http://h/d","direction":"pull","continuous":true}`
	pullOnce   = `{"remote":"http://h/d","direction":"pull"}`
)

var errPlanned = errors.New("as planned")
