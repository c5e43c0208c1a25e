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
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/job"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/blob"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

// clock is a time that tests set.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// openAt opens a gateway whose time is the clock's.
func (e *env) openAt(c *clock) *Gateway {
	e.t.Helper()
	g, err := Open(e.t.Context(), Options{
		Store: e.st, Blobs: e.blobs, NodeID: "node", Startup: &config.Startup{}, Logger: slog.New(e.logs), Now: c.now,
	})
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { e.close(g) })
	return g
}

func newClock() *clock { return &clock{at: time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)} }

// change asks for a change by the body of a PATCH.
func (s *DeviceSync) change(body string) (devicesync.Outcome, error) {
	p, err := devicesync.ParsePatch([]byte(body))
	if err != nil {
		return devicesync.Outcome{}, err
	}
	return s.Apply(context.Background(), devicesync.Change{Patch: p, By: "user:test", Origin: "API"})
}

func must(t *testing.T, s *DeviceSync, body string) {
	t.Helper()
	if _, err := s.change(body); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
}

// settled waits until a place is reached.
func settled(t *testing.T, s *DeviceSync, place devicesync.Place) {
	t.Helper()
	late := time.After(patience)
	for {
		row, changed := s.Live().Watch()
		if row.Record.Place() == place {
			return
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("device sync is %v, want %v", row.Record.Place(), place)
		}
	}
}

var (
	terminated = devicesync.Place{State: devicesync.Terminated, Phase: devicesync.Steady}
	paused     = devicesync.Place{State: devicesync.Disabled, Phase: devicesync.Steady}
)

const (
	pauseBody     = `{"flexible_sync":{"state":"disabled"}}`
	resumeBody    = `{"flexible_sync":{"state":"enabled"}}`
	terminateBody = `{"flexible_sync":{"state":""}}`
	enableBody    = `{"flexible_sync":{"state":"enabled","database_name":"db"}}`
)

func TestD03PauseIsDurableBeforeItIsAnswered(t *testing.T) {
	e := newEnv(t)
	g := e.open(nil)
	r := create(t, g, "db", `{}`)
	epoch := r.SyncEpoch()
	must(t, r.DeviceSync(), pauseBody)
	row, stored, err := readRow(t.Context(), e.st, r.definition())
	if err != nil || stored == nil || row.Record.State != devicesync.Disabled {
		t.Fatalf("%+v, %v", row, err)
	}
	settled(t, r.DeviceSync(), paused)
	e.close(g)
	g = e.open(nil)
	r = get(t, g, "db")
	if row := r.DeviceSync().Live().Row(); row.Record.Place() != paused || r.SyncEpoch() != epoch || row.Record.DisabledBy != "user:test" {
		t.Errorf("after a restart: %+v", row.Record)
	}
	must(t, r.DeviceSync(), resumeBody)
	if r.SyncEpoch() != epoch || r.DeviceSync().Live().Row().Record.State != devicesync.Enabled {
		t.Errorf("resumed: %+v", r.DeviceSync().Live().Row().Record)
	}
}

// A pause ends when the last session has gone, and not before.
func TestD04PausingEndsWithTheLastSession(t *testing.T) {
	e := newEnv(t)
	r := create(t, e.open(nil), "db", `{}`)
	s := r.DeviceSync()
	device, err := s.Join(t.Context(), devicesync.Session{Kind: "blip"}, devicesync.Access{})
	if err != nil {
		t.Fatal(err)
	}
	peer, err := s.Join(t.Context(), devicesync.Session{Kind: "blip"}, devicesync.Access{Peer: true})
	if err != nil {
		t.Fatal(err)
	}
	must(t, s, pauseBody)
	await(t, device.Context().Done(), "end of the session")
	if gate, ok := errors.AsType[*devicesync.GateError](context.Cause(device.Context())); !ok || gate.Code != devicesync.SyncPaused {
		t.Errorf("ended with %v", context.Cause(device.Context()))
	}
	if peer.Context().Err() != nil || s.Live().Row().Record.Phase != devicesync.Pausing {
		t.Errorf("peer %v, phase %s", peer.Context().Err(), s.Live().Row().Record.Phase)
	}
	if _, err := s.Join(t.Context(), devicesync.Session{}, devicesync.Access{}); tidegate.ErrorCode(err) != tidegate.Unavailable {
		t.Errorf("let in while paused: %v", err)
	}
	device.Leave()
	settled(t, s, paused)
	must(t, s, `{"flexible_sync":{"pause_peers":true}}`)
	await(t, peer.Context().Done(), "end of the peer's session")
	peer.Leave()
}

func TestD07TerminationWaitsForSessionsAndStateLags(t *testing.T) {
	e := newEnv(t)
	r := create(t, e.open(nil), "db", `{}`)
	s := r.DeviceSync()
	peer, err := s.Join(t.Context(), devicesync.Session{}, devicesync.Access{Peer: true})
	if err != nil {
		t.Fatal(err)
	}
	must(t, s, terminateBody)
	await(t, peer.Context().Done(), "end of the session")
	row := s.Live().Row()
	if row.Record.LiveState() != devicesync.Enabled || row.Record.State != devicesync.Terminated || row.Record.Epoch.No != 0 {
		t.Errorf("%+v", row.Record)
	}
	if _, err := s.change(enableBody); devicesync.AppCode(err) != devicesync.CodeSyncTerminating {
		t.Errorf("enabled while terminating: %v", err)
	}
	peer.Leave()
	settled(t, s, terminated)
	if row := s.Live().Row(); row.Record.LiveState() != devicesync.Terminated || row.Record.Epoch.No != 1 {
		t.Errorf("%+v", row.Record)
	}
	if _, err := s.change(resumeBody); devicesync.AppCode(err) != devicesync.CodeMissingParameter {
		t.Errorf("enabled without database_name: %v", err)
	}
	if _, err := s.change(`{"flexible_sync":{"state":"enabled","database_name":"another"}}`); tidegate.ErrorCode(err) != tidegate.Invalid {
		t.Errorf("enabled for another database: %v", err)
	}
	must(t, s, enableBody)
}

// crashing is a store that stops for good after some Updates: nothing that comes later is stored, or the last one is and its answer is
// lost.
type crashing struct {
	store.Store
	left   atomic.Int64
	unsaid bool
}

var errCrashed = tidegate.Errorf(tidegate.Unavailable, "crashed")

func (c *crashing) Update(ctx context.Context, fn func(store.Tx) error) error {
	left := c.left.Add(-1)
	if left < 0 && !(c.unsaid && left == -1) {
		return errCrashed
	}
	err := c.Store.Update(ctx, fn)
	if left < 0 {
		return errCrashed
	}
	return err
}

// slowReading is a store of which one View, the next after next was set, tells what it read only when it is let go.
type slowReading struct {
	store.Store
	next atomic.Pointer[slowView]
}

type slowView struct{ read, letGo chan struct{} }

func (s *slowReading) View(ctx context.Context, fn func(store.Reader) error) error {
	err := s.Store.View(ctx, fn)
	if v := s.next.Swap(nil); v != nil {
		close(v.read)
		<-v.letGo
	}
	return err
}

// A status that counts clients while a termination retires them does not make later ones tell of them.
func TestClientsAreNotCountedAfterTheyAreRetired(t *testing.T) {
	e := newEnv(t)
	st := &slowReading{Store: e.st}
	e.st = st
	r := create(t, e.open(nil), "db", `{}`)
	s := r.DeviceSync()
	checkpoint(t, r, "phone")
	count := func() int {
		n, _, err := s.clientCounts(t.Context(), s.keeper())
		if err != nil {
			t.Error(err)
		}
		return n
	}
	v := &slowView{make(chan struct{}), make(chan struct{})}
	st.next.Store(v)
	early := make(chan int, 1)
	go func() { early <- count() }()
	await(t, v.read, "count")
	if _, err := s.keeper().RetireClients(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	s.recount()
	close(v.letGo)
	if n := <-early; n != 1 {
		t.Errorf("%d clients were there", n)
	}
	if n := count(); n != 0 {
		t.Errorf("%d clients after they were retired", n)
	}
}

// D40: the process dies at each write of a termination in turn, also between a write and its answer. After a restart the termination goes
// on by itself, ends, has made one epoch, and no document is lost.
func TestD40CrashAtEachStepOfATermination(t *testing.T) {
	for _, unsaid := range []bool{false, true} {
		for at := int64(1); ; at++ {
			completed := false
			t.Run(strconv.FormatBool(unsaid)+"/"+strconv.FormatInt(at, 10), func(t *testing.T) { completed = crashTermination(t, at, unsaid) })
			if completed || t.Failed() {
				break
			}
			if at > 60 {
				t.Fatal("a termination has no end")
			}
		}
	}
}

// crashTermination lets the store die at a write, and reports whether the termination had ended before.
func crashTermination(t *testing.T, at int64, unsaid bool) (completed bool) {
	blobs, err := blob.OpenFiles(t.TempDir(), blob.Options{})
	if err != nil {
		t.Fatal(err)
	}
	e := &env{t: t, st: memStore(t), blobs: blobs, logs: &logs{waits: map[string]chan struct{}{}}}
	dying := &crashing{Store: e.st, unsaid: unsaid}
	dying.left.Store(1 << 40)
	whole := e.st
	e.st = dying
	g := e.open(nil)
	r := create(t, g, "db", `{"guest":{"disabled":false}}`)
	for i := range 5 {
		if err := put(t, r, "doc"+strconv.Itoa(i), `{"n":1}`); err != nil {
			t.Fatal(err)
		}
	}
	remove(t, r, "doc0")
	checkpoint(t, r, "client")
	before := r.SyncEpoch()
	dying.left.Store(at)
	_, err = r.DeviceSync().change(terminateBody)
	if err == nil {
		late := time.After(patience)
		for dying.left.Load() > 0 && r.DeviceSync().Live().Row().Record.Place() != terminated {
			_, changed := r.DeviceSync().Live().Watch()
			select {
			case <-changed:
			case <-time.After(5 * time.Millisecond): // a write that is no change of the row
			case <-late:
				t.Fatal("neither an end nor a crash")
			}
		}
		completed = r.DeviceSync().Live().Row().Record.Place() == terminated
	}
	_ = g.Close(context.Background()) // a dead store cannot be closed well
	e.st = whole
	g = e.open(nil)
	r = get(t, g, "db")
	if err != nil { // it was refused, or was made and nobody was told
		if row := r.DeviceSync().Live().Row(); row.Record.State == devicesync.Enabled {
			must(t, r.DeviceSync(), terminateBody)
		}
	}
	settled(t, r.DeviceSync(), terminated)
	checkTerminated(t, r, before)
	return completed
}

// checkTerminated checks what a termination leaves.
func checkTerminated(t *testing.T, r *Running, before string) {
	t.Helper()
	rec := r.DeviceSync().Live().Row().Record
	if rec.Epoch.No != 1 || rec.Epoch.ID == before || rec.HistoryFloor != rec.Epoch.Base-1 || rec.Marker() != rec.Epoch.Base || rec.Termination != nil {
		t.Errorf("%+v", rec)
	}
	for i := 1; i < 5; i++ {
		if body, err := read(t, r, "doc"+strconv.Itoa(i)); err != nil || body != `{"n":1}` {
			t.Errorf("document %d: %s, %v", i, body, err)
		}
	}
	st, err := r.DeviceSync().Status(t.Context())
	if err != nil || st.Ledger.Rows != 1 || st.Clients != 0 {
		t.Errorf("%+v, %v", st, err)
	}
	must(t, r.DeviceSync(), enableBody)
	db, _, release, err := r.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if _, v, err := db.Admin(0).Checkpoint(t.Context(), database.ClientRef{Kind: database.ClientBLIP, ID: "client"}); !errors.Is(err, tidegate.ErrMissing) || v.Kind != devicesync.ResetRecover {
		t.Errorf("the client of before: %+v, %v", v, err)
	}
}

// checkpoint makes a client known.
func checkpoint(t *testing.T, r *Running, id string) {
	t.Helper()
	db, _, release, err := r.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	ref := database.ClientRef{Kind: database.ClientBLIP, ID: id}
	if _, err := db.Admin(0).StoreCheckpoint(t.Context(), ref, "", []byte(`{"remote":"3"}`)); err != nil {
		t.Fatal(err)
	}
}

// remove deletes a document.
func remove(t *testing.T, r *Running, id string) {
	t.Helper()
	db, _, release, err := r.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	h := db.Admin(0)
	doc, err := h.Get(t.Context(), id, database.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Put(t.Context(), &database.Write{ID: id, Parent: doc.Rev, Deleted: true, NewEdits: true}); err != nil {
		t.Fatal(err)
	}
}

func TestD23AutoPauseAfterInactivity(t *testing.T) {
	e := newEnv(t)
	c := newClock()
	r := create(t, e.openAt(c), "db", `{}`)
	s := r.DeviceSync()
	must(t, s, `{"flexible_sync":{"auto_pause_days":30}}`)
	idle, err := s.Join(t.Context(), devicesync.Session{}, devicesync.Access{})
	if err != nil {
		t.Fatal(err)
	}
	days := func(n int) {
		t.Helper()
		for range n * 24 {
			c.pass(time.Hour)
			if err := s.tick(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	days(40)
	if s.Live().Row().Record.State != devicesync.Enabled {
		t.Fatal("paused beside an open session")
	}
	idle.Leave()
	if err := put(t, r, "a", `{}`); err != nil { // no replication, so no activity
		t.Fatal(err)
	}
	days(26)
	if e.logs.has("it will pause by itself") {
		t.Error("warned four days before")
	}
	days(2)
	if !e.logs.has("it will pause by itself") || s.Live().Row().Record.State != devicesync.Enabled {
		t.Errorf("not warned, or paused too early: %+v", s.Live().Row().Record)
	}
	days(3)
	if rec := s.Live().Row().Record; rec.State != devicesync.Disabled || rec.DisabledBy != "auto" {
		t.Errorf("%+v", rec)
	}
	must(t, s, resumeBody)
	days(29)
	if s.Live().Row().Record.State != devicesync.Enabled {
		t.Error("the clock did not start anew with the resume")
	}
}

func TestD24HistoryRollsPastThePause(t *testing.T) {
	e := newEnv(t)
	c := newClock()
	s := create(t, e.openAt(c), "db", `{}`).DeviceSync()
	must(t, s, `{"flexible_sync":{"change_history_hours":12}}`)
	must(t, s, pauseBody)
	settled(t, s, paused)
	c.pass(11 * time.Hour)
	must(t, s, resumeBody)
	must(t, s, pauseBody)
	settled(t, s, paused)
	c.pass(10 * time.Hour)
	if err := s.tick(t.Context()); err != nil || !e.logs.has("it is paused, and can be resumed only until") {
		t.Errorf("no warning before the deadline: %v", err)
	}
	c.pass(3 * time.Hour)
	if _, err := s.change(resumeBody); devicesync.AppCode(err) != devicesync.CodeHistoryLost {
		t.Errorf("resumed after 13 hours: %v", err)
	}
	if st, err := s.Status(t.Context()); err != nil || !st.MustTerminate || st.State != devicesync.Disabled {
		t.Errorf("%+v, %v", st, err)
	}
	must(t, s, terminateBody)
	settled(t, s, terminated)
	must(t, s, enableBody)
}

func TestD26AndD27TrimAndPause(t *testing.T) {
	e := newEnv(t)
	c := newClock()
	r := create(t, e.openAt(c), "db", `{}`)
	s := r.DeviceSync()
	must(t, s, `{"flexible_sync":{"client_max_offline_days":3,"change_history_hours":240}}`)
	n := 0
	day := func() {
		t.Helper()
		for range 24 {
			c.pass(time.Hour)
			if err := s.tick(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		n++
		id := "d" + strconv.Itoa(n)
		if err := put(t, r, id, `{}`); err != nil {
			t.Fatal(err)
		}
		remove(t, r, id)
	}
	for range 10 {
		day()
	}
	floor := s.Live().Row().Record.HistoryFloor
	st, err := s.Status(t.Context())
	if err != nil || floor == 0 || st.Ledger.Rows < 4 || st.Ledger.Rows > 7 || st.Trim != nil {
		t.Fatalf("floor %d, ledger %+v, %v", floor, st.Ledger, err)
	}
	if rec := s.Live().Row().Record; rec.Marker() <= floor || len(rec.Markers) > 6 {
		t.Errorf("markers %v", rec.Markers)
	}
	must(t, s, pauseBody)
	settled(t, s, paused)
	floor = s.Live().Row().Record.HistoryFloor
	for range 9 {
		day()
	}
	if got := s.Live().Row().Record.HistoryFloor; got != floor {
		t.Errorf("trimmed while paused: %d, %d", floor, got)
	}
	day()
	day()
	if got := s.Live().Row().Record.HistoryFloor; got <= floor {
		t.Error("a pause past its window still holds history back")
	}
}

func TestD28DroppingASyncedCollection(t *testing.T) {
	e := newEnv(t)
	g := e.open(nil)
	const two, one = `{"scopes":{"s":{"collections":{"a":{},"b":{}}}}}`, `{"scopes":{"s":{"collections":{"a":{}}}}}`
	r := create(t, g, "db", two)
	drop := func(allow bool) error {
		_, err := g.Update(t.Context(), "db", "", func(*config.Database) (Change, error) {
			return Change{Config: parse(t, one), AllowDestructive: allow}, nil
		})
		return err
	}
	must(t, r.DeviceSync(), `{"flexible_sync":{"client_max_offline_days":30}}`)
	if err := drop(false); devicesync.AppCode(err) != devicesync.CodeDestructive || !strings.Contains(err.Error(), "s.b") {
		t.Fatalf("dropped: %v", err)
	}
	if cfg, _ := r.Config(); len(cfg.Scopes["s"].Collections) != 2 {
		t.Error("refused, and changed")
	}
	if err := drop(true); err != nil {
		t.Fatal(err)
	}
	s := r.DeviceSync()
	if rec := s.Live().Row().Record; rec.Phase != devicesync.Faulty || rec.Error == nil {
		t.Fatalf("%+v", rec)
	}
	if err := s.Allow(devicesync.Access{}); err == nil || !strings.HasPrefix(err.Error(), "sync_error") {
		t.Errorf("a client is let in: %v", err)
	}
	if _, err := g.Update(t.Context(), "db", "", func(*config.Database) (Change, error) { return Change{Config: parse(t, two)}, nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.Allow(devicesync.Access{}); err != nil || s.Live().Row().Record.Error != nil {
		t.Errorf("refused though the collection is back: %v", err)
	}
	if err := drop(true); err != nil || s.Allow(devicesync.Access{}) == nil {
		t.Fatal(err)
	}
	must(t, s, terminateBody)
	settled(t, s, terminated)
	must(t, s, enableBody)
	if rec := s.Live().Row().Record; rec.Error != nil || rec.Phase != devicesync.Steady {
		t.Errorf("%+v", rec)
	}
	// Nobody has configured sync of this one.
	create(t, g, "plain", two)
	if _, err := g.Update(t.Context(), "plain", "", func(*config.Database) (Change, error) { return Change{Config: parse(t, one)}, nil }); err != nil {
		t.Error(err)
	}
}

func TestResetAllBeginsAnEpoch(t *testing.T) {
	e := newEnv(t)
	r := create(t, e.open(nil), "db", `{}`)
	s := r.DeviceSync()
	session, err := s.Join(t.Context(), devicesync.Session{}, devicesync.Access{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ResetAll(t.Context(), "a copy was put back", "user:test"); err != nil {
		t.Fatal(err)
	}
	await(t, session.Context().Done(), "end of the session")
	rec := s.Live().Row().Record
	if rec.Epoch.No != 1 || rec.Epoch.Reason != devicesync.EpochForced || rec.State != devicesync.Enabled || !rec.Stale(5) {
		t.Errorf("%+v", rec)
	}
	if err := put(t, r, "a", `{}`); err != nil {
		t.Fatal(err)
	}
	if last, err := r.DB().LastSequence(t.Context()); err != nil || last != rec.Epoch.Base+1 {
		t.Errorf("last sequence %d, %v", last, err)
	}
}

func TestMarkRestored(t *testing.T) {
	e := newEnv(t)
	g := e.open(nil)
	r := create(t, g, "db", `{}`)
	if err := put(t, r, "a", `{}`); err != nil {
		t.Fatal(err)
	}
	epoch, uuid, cluster := r.SyncEpoch(), r.ServerUUID(), g.ClusterUUID()
	e.close(g)
	for _, asNew := range []bool{false, true} {
		if n, err := MarkRestored(t.Context(), e.st, asNew); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		g = e.open(nil)
		r = get(t, g, "db")
		rec := r.DeviceSync().Live().Row().Record
		if rec.Epoch.Reason != devicesync.EpochRestored || !rec.Epoch.Repeats() || r.SyncEpoch() == epoch || g.ClusterUUID() == cluster {
			t.Errorf("%+v", rec)
		}
		if (r.ServerUUID() == uuid) == asNew {
			t.Errorf("as new %v: server UUID %s, was %s", asNew, r.ServerUUID(), uuid)
		}
		if _, err := read(t, r, "a"); err != nil {
			t.Error(err)
		}
		e.close(g)
	}
}

func TestFlushKeepsStateAndResetsClients(t *testing.T) {
	e := newEnv(t)
	g := e.open(nil)
	r := create(t, g, "db", `{}`)
	s := r.DeviceSync()
	must(t, s, `{"flexible_sync":{"client_max_offline_days":9}}`)
	must(t, s, pauseBody)
	settled(t, s, paused)
	epoch := r.SyncEpoch()
	if err := g.Flush(t.Context(), "db"); err != nil {
		t.Fatal(err)
	}
	row := s.Live().Row()
	if row.Record.Place() != paused || *row.Config.ClientMaxOfflineDays != 9 || r.SyncEpoch() == epoch || !row.Record.Stale(3) {
		t.Errorf("%+v", row)
	}
	e.close(g)
	if again := get(t, e.open(nil), "db").DeviceSync().Live().Row(); again.Record.Epoch.ID != row.Record.Epoch.ID {
		t.Errorf("after a restart: %+v", again.Record)
	}
}

// Who changes at the same time as others is heard, and nothing is lost: each change is decided on what the one before left.
func TestConcurrentChanges(t *testing.T) {
	e := newEnv(t)
	s := create(t, e.open(nil), "db", `{}`).DeviceSync()
	var wg sync.WaitGroup
	fields := []string{"auto_pause_days", "change_history_hours", "quarantine_days", "client_max_offline_days"}
	for i, field := range fields {
		wg.Go(func() {
			for {
				_, err := s.change(`{"flexible_sync":{"` + field + `":` + strconv.Itoa(70+i) + `}}`)
				if !errors.Is(err, errRowMoved) {
					if err != nil {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	wg.Wait()
	c := s.Live().Row().Config
	if got := []int{c.AutoPauseDays, c.ChangeHistoryHours, c.QuarantineDays, *c.ClientMaxOfflineDays}; !slices.Equal(got, []int{70, 71, 72, 73}) {
		t.Errorf("%v", got)
	}
}

func memStore(t *testing.T) store.Store {
	t.Helper()
	st, err := pebblestore.OpenMem()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return st
}

// A replication of the gateway's own goes on beside a pause, unless pause_peers is set, and waits, reconnecting, for the end of a
// termination.
func TestReplicationsWaitForTheGate(t *testing.T) {
	bubble(t, func(t *testing.T, e *replEnv) {
		g, stop := e.gateway(nil)
		defer stop()
		r := create(t, g, "db", `{}`)
		define(t, r, "r", pullAlways)
		s := r.DeviceSync()
		state := func(want job.State, reason string) {
			t.Helper()
			if st := wantRepl(t, r, "r", want); !strings.Contains(st.Error, reason) {
				t.Fatalf("%q, want %q", st.Error, reason)
			}
		}
		state(job.Running, "")
		must(t, s, pauseBody)
		state(job.Running, "")
		must(t, s, `{"flexible_sync":{"pause_peers":true}}`)
		state(job.Reconnecting, "sync_paused")
		must(t, s, resumeBody)
		state(job.Running, "")
		must(t, s, terminateBody)
		state(job.Reconnecting, "sync_terminated")
		if s.Live().Row().Record.Place() != terminated {
			t.Errorf("%+v", s.Live().Row().Record)
		}
		must(t, s, enableBody)
		state(job.Running, "")
		if n := e.fakes.runs("r"); n != 3 {
			t.Errorf("%d runs", n)
		}
	})
}

// D43: terminated and enabled again a hundred times under load. Every write that was acknowledged is there, deletions stay, sequences go
// up, and each round is one epoch.
func TestD43TerminateAndEnableUnderLoad(t *testing.T) {
	e := newEnv(t)
	r := create(t, e.open(nil), "db", `{}`)
	s := r.DeviceSync()
	writes := make(chan struct{}, 30) // so many for each round, while it goes on
	var writers sync.WaitGroup
	acked := make([]int, 3)
	for w := range acked {
		writers.Go(func() {
			i := 0
			for range writes {
				id := "w" + strconv.Itoa(w) + "-" + strconv.Itoa(i)
				if err := put(t, r, id, `{}`); err != nil {
					t.Error(err)
					return
				}
				if i%5 == 0 {
					remove(t, r, id)
				}
				i++
				acked[w] = i
			}
		})
	}
	last := tidegate.Seq(0)
	for range 100 {
		must(t, s, terminateBody)
		for range cap(writes) {
			writes <- struct{}{}
		}
		settled(t, s, terminated)
		must(t, s, enableBody)
		now, err := r.DB().LastSequence(t.Context())
		if err != nil || now <= last {
			t.Fatalf("last sequence %d after %d, %v", now, last, err)
		}
		last = now
	}
	close(writes)
	writers.Wait()
	if rec := s.Live().Row().Record; rec.Epoch.No != 100 || rec.Epoch.Base > last {
		t.Errorf("%+v", rec)
	}
	for w, n := range acked {
		for i := range n {
			_, err := read(t, r, "w"+strconv.Itoa(w)+"-"+strconv.Itoa(i))
			if gone := errors.Is(err, tidegate.ErrDeleted); gone != (i%5 == 0) || err != nil && !gone {
				t.Fatalf("document %d of writer %d: %v", i, w, err)
			}
		}
	}
	t.Logf("%v documents", acked)
}
