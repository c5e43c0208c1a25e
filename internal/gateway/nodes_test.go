package gateway

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/cluster"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/store"
)

// node opens a gateway that is one of several on the store of e.
func (e *env) node(id string, files map[string]*config.Database, keys ...*config.Keyring) *Gateway {
	e.t.Helper()
	g, err := e.tryNode(id, files, keys...)
	if err != nil {
		e.t.Fatal(err)
	}
	return g
}

func (e *env) tryNode(id string, files map[string]*config.Database, keys ...*config.Keyring) (*Gateway, error) {
	e.t.Helper()
	nodes, err := cluster.Join(e.t.Context(), e.st, cluster.Options{NodeID: id, Beat: 50 * time.Millisecond, DeadAfter: 10 * time.Second})
	if err != nil {
		e.t.Fatal(err)
	}
	cheapest := 4
	s := &config.Startup{}
	s.Auth.BcryptCost = &cheapest
	o := Options{
		Store: e.st, Blobs: e.blobs, NodeID: id, Startup: s, FileDatabases: files, Cluster: nodes,
		Logger: slog.New(e.logs),
	}
	if len(keys) > 0 {
		o.Secrets = keys[0]
	}
	g, err := Open(e.t.Context(), o)
	if err == nil {
		e.t.Cleanup(func() { e.close(g) })
	}
	return g, err
}

// until waits for what other nodes put in force.
func until(t *testing.T, what string, done func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := done()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// serves waits until a node serves the database with the version of its config.
func serves(t *testing.T, g *Gateway, name, version string) *Running {
	t.Helper()
	var r *Running
	until(t, "database "+name+" on node "+g.NodeID(), func() (err error) {
		if r, err = g.Database(name); err != nil {
			return err
		}
		if _, v := r.Config(); v != version || r.State() != Online {
			return errors.New("it is " + r.State().String() + " at version " + v + ", not " + version)
		}
		return nil
	})
	return r
}

// TestNodesFollowDefinitions: what is made, changed and deleted on one node is so on the other.
func TestNodesFollowDefinitions(t *testing.T) {
	e := newEnv(t)
	a, b := e.node("a", nil), e.node("b", nil)
	ra := create(t, a, "db", `{"sync":"function(doc) { if (doc.bad) { throw({forbidden: 'old'}); } }"}`)
	_, v1 := ra.Config()
	rb := serves(t, b, "db", v1)
	if err := put(t, rb, "doc", `{"a":1}`); err != nil {
		t.Fatal(err)
	}
	wantBody(t, ra, "doc", `{"a":1}`)
	if ra.SyncEpoch() != rb.SyncEpoch() || ra.ServerUUID() != rb.ServerUUID() {
		t.Error("the nodes serve different data")
	}
	v2, err := update(t, b, "db", v1, `{"sync":"function(doc) { if (doc.bad) { throw({forbidden: 'new'}); } }"}`)
	if err != nil {
		t.Fatal(err)
	}
	serves(t, a, "db", v2)
	wantCode(t, put(t, ra, "x", `{"bad":true}`), tidegate.Forbidden, "new")
	if _, err := update(t, a, "db", v1, `{"revs_limit":9}`); tidegate.ErrorCode(err) != tidegate.Exists {
		t.Errorf("a change of an old version: %v", err)
	}

	v3, err := update(t, a, "db", "", `{"offline":true}`)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "b takes the database offline", func() error {
		if _, v := rb.Config(); v != v3 || rb.State() != Offline {
			return errors.New(rb.State().String())
		}
		return nil
	})
	v4, err := update(t, b, "db", "", `{"offline":false}`)
	if err != nil {
		t.Fatal(err)
	}
	serves(t, a, "db", v4)

	if err := a.Delete(t.Context(), "db", false); err != nil {
		t.Fatal(err)
	}
	until(t, "b closes the database", func() error {
		if names := b.Names(); len(names) > 0 {
			return errors.New(strings.Join(names, " "))
		}
		return nil
	})
	again := create(t, b, "db", `{}`) // on the data that it left
	_, v5 := again.Config()
	wantBody(t, serves(t, a, "db", v5), "doc", `{"a":1}`)
}

// TestNodesDoNotWaitForEachDatabase: one that cannot be changed now holds up no other.
func TestNodesDoNotWaitForEachDatabase(t *testing.T) {
	e := newEnv(t)
	a, b := e.node("a", nil), e.node("b", nil)
	_, version := create(t, a, "busy", `{}`).Config()
	unlock, err := serves(t, b, "busy", version).lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	later, err := update(t, a, "busy", "", `{"revs_limit":30}`)
	if err != nil {
		t.Fatal(err)
	}
	_, version = create(t, a, "other", `{}`).Config()
	serves(t, b, "other", version)
	last, err := update(t, a, "busy", "", `{"revs_limit":31}`)
	if err != nil {
		t.Fatal(err)
	}
	if _, v := get(t, b, "busy").Config(); v == later || v == last {
		t.Fatal("the database was not held")
	}
	unlock()
	serves(t, b, "busy", last)
}

// TestNodesDeleteWhatWasChanged: a node that deletes a database by an outdated definition has it closed in the end.
func TestNodesDeleteWhatWasChanged(t *testing.T) {
	e := newEnv(t)
	a, b := e.node("a", nil), e.node("b", nil)
	_, version := create(t, a, "db", `{}`).Config()
	rb := serves(t, b, "db", version)
	old := rb.definition()
	version, err := update(t, a, "db", "", `{"revs_limit":30}`)
	if err != nil {
		t.Fatal(err)
	}
	serves(t, b, "db", version)
	rb.adopt(old)
	if err := b.Delete(t.Context(), "db", false); err != nil {
		t.Fatal(err)
	}
	if rb.State() != Offline || rb.DB() != nil {
		t.Errorf("the deleted database is %s", rb.State())
	}
}

// TestNodesFlush: after a flush nothing can be written to the old data any more, by whoever has not heard of it.
func TestNodesFlush(t *testing.T) {
	e := newEnv(t)
	a, b := e.node("a", nil), e.node("b", nil)
	ra := create(t, a, "db", `{}`)
	_, version := ra.Config()
	rb := serves(t, b, "db", version)
	if err := put(t, rb, "doc", `{"a":1}`); err != nil {
		t.Fatal(err)
	}
	unlock, err := rb.lock(t.Context()) // b does not come to hear of it
	if err != nil {
		t.Fatal(err)
	}
	old := rb.definition().Space
	if err := a.Flush(t.Context(), "db"); err != nil {
		t.Fatal(err)
	}
	if err := put(t, rb, "late", `{"a":1}`); !errors.Is(err, store.ErrGone) {
		t.Errorf("a write to data that were flushed: %v", err)
	}
	unlock()
	until(t, "b serves the new data", func() error {
		if rb.State() != Online || rb.definition().Space == old {
			return errors.New(rb.State().String())
		}
		return nil
	})
	if _, err := read(t, rb, "doc"); tidegate.ErrorCode(err) != tidegate.NotFound {
		t.Errorf("a flushed document: %v", err)
	}
	if err := put(t, rb, "doc", `{"b":2}`); err != nil {
		t.Fatal(err)
	}
	wantBody(t, ra, "doc", `{"b":2}`)
	if ra.SyncEpoch() != rb.SyncEpoch() {
		t.Error("the nodes tell of different epochs")
	}
	until(t, "the old data are destroyed", func() error {
		if n := e.keys(old); n > 1 { // the mark stays
			return errors.New(strconv.Itoa(n) + " rows")
		}
		return nil
	})
}

// TestNodesRace: of two creations of one name one counts; of changes at the same time none is lost.
func TestNodesRace(t *testing.T) {
	e := newEnv(t)
	nodes := []*Gateway{e.node("a", nil), e.node("b", nil)}
	var made, refused sync.Map
	var work sync.WaitGroup
	for i, g := range nodes {
		work.Go(func() {
			for n := range 10 {
				name := "db" + strconv.Itoa(n)
				switch _, err := g.Create(t.Context(), name, parse(t, `{"bucket":"bucket-`+g.NodeID()+`"}`)); {
				case err == nil:
					if _, twice := made.LoadOrStore(name, i); twice {
						t.Errorf("%s was made twice", name)
					}
				case tidegate.ErrorCode(err) == tidegate.Exists:
					refused.Store(name, i)
				default:
					t.Error(err)
				}
			}
		})
	}
	work.Wait()
	for n := range 10 {
		name := "db" + strconv.Itoa(n)
		winner, ok := made.Load(name)
		if !ok {
			t.Errorf("%s was not made", name)
			continue
		}
		for _, g := range nodes {
			until(t, name+" on node "+g.NodeID(), func() error {
				r, err := g.Database(name)
				if err != nil {
					return err
				}
				if want := "bucket-" + nodes[winner.(int)].NodeID(); r.StorageID() != want || r.State() != Online {
					return errors.New(r.StorageID() + ", not " + want + ": " + r.State().String())
				}
				return nil
			})
		}
	}

	for i, g := range nodes {
		work.Go(func() {
			for n := range 5 {
				coll := "c" + strconv.Itoa(i) + strconv.Itoa(n)
				for {
					_, err := g.Update(t.Context(), "db0", "", func(cfg *config.Database) (Change, error) {
						if cfg.Scopes == nil {
							*cfg = *parse(t, `{"bucket":"`+cfg.Bucket+`","scopes":{"s":{"collections":{}}}}`)
						}
						cfg.Scopes["s"].Collections[coll] = config.Collection{}
						return Change{Config: cfg}, nil
					})
					if err == nil {
						break
					}
					if tidegate.ErrorCode(err) != tidegate.Unavailable {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	work.Wait()
	r := get(t, nodes[0], "db0")
	until(t, "both nodes have the same config", func() error {
		_, va := r.Config()
		_, vb := get(t, nodes[1], "db0").Config()
		if va != vb {
			return errors.New(va + " and " + vb)
		}
		return nil
	})
	if cfg, _ := r.Config(); len(cfg.Scopes["s"].Collections) != 10 {
		t.Errorf("of 10 changes the config has %d", len(cfg.Scopes["s"].Collections))
	}
}

// TestNodesWithDifferentFiles: the file that was edited last counts; a node that starts again with what it had changes nothing, and a
// database that is in one node's file is served by all.
func TestNodesWithDifferentFiles(t *testing.T) {
	e := newEnv(t)
	const v1, v2, v3 = `{"db":{"revs_limit":5}}`, `{"db":{"revs_limit":6}}`, `{"db":{"revs_limit":7}}`
	revs := func(g *Gateway) int {
		t.Helper()
		cfg, _ := get(t, g, "db").Config()
		return *cfg.RevsLimit
	}
	a, b := e.node("a", fileDBs(t, v1)), e.node("b", fileDBs(t, v1))
	c := e.node("c", nil)
	if !slices.Equal(c.Names(), []string{"db"}) || revs(b) != 5 {
		t.Fatal(c.Names(), revs(b))
	}
	e.close(a)
	a = e.node("a", fileDBs(t, v2))
	want := func(n int) {
		t.Helper()
		for _, g := range []*Gateway{a, b, c} {
			until(t, "node "+g.NodeID(), func() error {
				if got := revs(g); got != n {
					return errors.New("revs_limit " + strconv.Itoa(got))
				}
				return nil
			})
		}
	}
	want(6)
	e.close(b)
	b = e.node("b", fileDBs(t, v1)) // as it was: nobody has edited it
	want(6)
	e.close(b)
	b = e.node("b", fileDBs(t, v3))
	want(7)
	e.close(a)
	a = e.node("a", nil) // it is still in the file of b
	want(7)
	e.close(b)
	b = e.node("b", nil)
	if len(b.Names()) > 0 {
		t.Errorf("in no file any more, and served: %v", b.Names())
	}
	until(t, "the others do not serve it either", func() error {
		if names := slices.Concat(a.Names(), c.Names()); len(names) > 0 {
			return errors.New(strings.Join(names, " "))
		}
		return nil
	})
}

// TestChangesKeepWhatFilesHad: a config change over the API on a node that was there before keeps what others' files had.
func TestChangesKeepWhatFilesHad(t *testing.T) {
	e := newEnv(t)
	const v1, v2 = `{"db":{"revs_limit":5}}`, `{"db":{"revs_limit":6}}`
	a, b := e.node("a", fileDBs(t, v1)), e.node("b", fileDBs(t, v1))
	if _, err := update(t, a, "db", "", `{"revs_limit":9}`); err != nil {
		t.Fatal(err)
	}
	e.close(a)
	a = e.node("a", fileDBs(t, v2))
	e.close(b)
	b = e.node("b", fileDBs(t, v1)) // nobody has edited it
	for _, g := range []*Gateway{a, b} {
		if cfg, _ := get(t, g, "db").Config(); *cfg.RevsLimit != 6 {
			t.Errorf("node %s: revs_limit %d", g.NodeID(), *cfg.RevsLimit)
		}
	}
}

// TestFilesDoNotUndoChanges: a change that another node makes while this one starts is not lost by what this one notes of its file.
func TestFilesDoNotUndoChanges(t *testing.T) {
	e := newEnv(t)
	const file = `{"db":{"revs_limit":5}}`
	a := e.node("a", fileDBs(t, file))
	found, err := readStored(t.Context(), e.st, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := e.node("b", nil)
	version, err := update(t, a, "db", "", `{"revs_limit":9}`)
	if err != nil {
		t.Fatal(err)
	}
	starts := &Gateway{opts: b.opts, log: b.log, nodes: b.nodes} // b once more, with a file
	starts.opts.FileDatabases = fileDBs(t, file)
	if _, err := starts.reconcile(t.Context(), found.definitions); !errors.Is(err, errOutdated) {
		t.Errorf("by what was stored before: %v", err)
	}
	if _, err := starts.readDefinitions(t.Context()); err != nil {
		t.Error(err)
	}
	serves(t, b, "db", version)
	if err := a.Delete(t.Context(), "db", true); err != nil {
		t.Fatal(err)
	}
	if _, err := starts.reconcile(t.Context(), found.definitions); !errors.Is(err, errOutdated) {
		t.Errorf("by what was stored before the deletion: %v", err)
	}
}

// stubborn is a store that refuses Updates while told to, or says so of those that it has made.
type stubborn struct {
	store.Store
	refuses, unsaid, blind atomic.Bool
}

func (s *stubborn) Update(ctx context.Context, fn func(store.Tx) error) error {
	if s.refuses.Load() {
		return errCrashed
	}
	err := s.Store.Update(ctx, fn)
	if s.unsaid.Load() {
		return errCrashed
	}
	return err
}

func (s *stubborn) Lease(ctx context.Context, name string, ttl time.Duration) (store.Lease, error) {
	if s.refuses.Load() { // its epoch is a write
		return nil, errCrashed
	}
	return s.Store.Lease(ctx, name, ttl)
}

func (s *stubborn) View(ctx context.Context, fn func(store.Reader) error) error {
	if s.blind.Load() {
		return errCrashed
	}
	return s.Store.View(ctx, fn)
}

// TestFollowingIsTriedAgain: a node that cannot reach the store while it goes over to what another has flushed serves that when it can.
func TestFollowingIsTriedAgain(t *testing.T) {
	e := newEnv(t)
	a := e.node("a", nil)
	st := &stubborn{Store: e.st}
	e.st = st
	b := e.node("b", nil)
	ra := create(t, a, "db", `{}`)
	_, version := ra.Config()
	rb := serves(t, b, "db", version)
	st.refuses.Store(true)
	if err := a.Flush(t.Context(), "db"); err != nil {
		t.Fatal(err)
	}
	until(t, "b has tried", func() error {
		if rb.State() != Offline || rb.Err() == nil {
			return errors.New(rb.State().String())
		}
		return nil
	})
	st.refuses.Store(false)
	serves(t, b, "db", version)
	if rb.SyncEpoch() != ra.SyncEpoch() {
		t.Error("it serves other data")
	}
}

// TestOnlineAfterFlushElsewhere: a database that is brought online just after another node has flushed and changed it has the device sync
// of the new data.
func TestOnlineAfterFlushElsewhere(t *testing.T) {
	e := newEnv(t)
	a, b := e.node("a", nil), e.node("b", nil)
	ra := create(t, a, "db", `{}`)
	_, version := ra.Config()
	rb := serves(t, b, "db", version)
	if err := b.TakeOffline(t.Context(), "db"); err != nil {
		t.Fatal(err)
	}
	unlock, err := rb.lock(t.Context()) // b does not come to hear of it
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if err := a.Flush(t.Context(), "db"); err != nil {
		t.Fatal(err)
	}
	if _, err := update(t, a, "db", "", `{"revs_limit":9}`); err != nil {
		t.Fatal(err)
	}
	if err := rb.reread(t.Context()); err != nil {
		t.Fatal(err)
	}
	if is, want := rb.deviceSync.live.Row().Record.Epoch, ra.deviceSync.live.Row().Record.Epoch; is != want || rb.SyncEpoch() != ra.SyncEpoch() {
		t.Errorf("epoch %+v, want %+v", is, want)
	}
}

// TestUnreadableReplication: a definition that cannot be read is no reason to try for ever to put another in its place.
func TestUnreadableReplication(t *testing.T) {
	e := newEnv(t)
	a := e.node("a", nil)
	r := create(t, a, "db", `{}`)
	err := e.st.Update(t.Context(), func(tx store.Tx) error { return tx.Put(replicationKey(r.definition().Space, "r"), []byte("{")) })
	if err != nil {
		t.Fatal(err)
	}
	p, err := config.ParseReplicationPatch([]byte(`{"remote":"http://h/d","direction":"pull"}`), "r")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Replications().Put(t.Context(), "r", p); tidegate.ErrorCode(err) != tidegate.Conflict {
		t.Errorf("put: %v", err)
	}
}

// TestStatesAreToldAgain: what may have been told though the store said otherwise is told again.
func TestStatesAreToldAgain(t *testing.T) {
	e := newEnv(t)
	a := e.node("a", nil)
	st := &stubborn{Store: e.st}
	e.st = st
	b := e.node("b", nil)
	ra := create(t, a, "db", `{}`)
	_, version := ra.Config()
	rb := serves(t, b, "db", version)
	if err := errors.Join(a.TakeOffline(t.Context(), "db"), b.TakeOffline(t.Context(), "db")); err != nil {
		t.Fatal(err)
	}
	unlock, err := rb.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	st.unsaid.Store(true)
	if err := rb.start(t.Context(), nil); err == nil {
		t.Error("it came online")
	}
	st.unsaid.Store(false)
	unlock()
	until(t, "a knows that the database is offline on b", func() error {
		states, err := a.NodeStates(t.Context())
		if s := states["b"]["db"]; err == nil && s != Offline.String() {
			err = errors.New(s)
		}
		return err
	})
}

// TestAloneOpensWhatTakesNoWrites: a node that is alone serves from a store that takes no writes now, as with a disk that is nearly full.
func TestAloneOpensWhatTakesNoWrites(t *testing.T) {
	e := newEnv(t)
	st := &stubborn{Store: e.st}
	e.st = st
	g := e.open(nil)
	if err := put(t, create(t, g, "db", `{}`), "doc", `{"a":1}`); err != nil {
		t.Fatal(err)
	}
	e.close(g)
	st.refuses.Store(true)
	wantBody(t, get(t, e.open(nil), "db"), "doc", `{"a":1}`)
}

// TestNodesShareKeys: a node that cannot read what the others encrypt is refused.
func TestNodesShareKeys(t *testing.T) {
	e := newEnv(t)
	key := func(texts ...string) *config.Keyring {
		t.Helper()
		k, err := config.ParseKeys([]byte(strings.Join(texts, "\n")))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	one, two := config.NewKey(), config.NewKey()
	a := e.node("a", nil, key(one))
	if _, err := e.tryNode("b", nil, key(two)); tidegate.ErrorCode(err) != tidegate.Invalid || !strings.Contains(err.Error(), "secrets-key-file") {
		t.Errorf("a node with another key: %v", err)
	}
	c := e.node("c", nil, key(two, one)) // the key is being replaced
	if _, err := e.tryNode("d", nil, key(one)); tidegate.ErrorCode(err) != tidegate.Invalid {
		t.Errorf("a node without the new key: %v", err)
	}
	e.close(a)
	e.close(c)
	e.node("e", nil, key(config.NewKey())) // the machines with the key are gone
	if !e.logs.has("with a key that this node does not have") {
		t.Error("nothing tells that passwords are lost")
	}
}
