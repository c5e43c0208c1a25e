package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

func TestOfflineWaitsForRequestsAndEndsFeeds(t *testing.T) {
	e := newEnv(t)
	g := e.open(nil)
	r := create(t, g, "db", `{}`)
	db, leaving, release, err := r.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- g.TakeOffline(t.Context(), "db") }()
	await(t, leaving.Done(), "end of the feed")
	if !errors.Is(context.Cause(leaving), errGoingOffline) {
		t.Errorf("cause: %v", context.Cause(leaving))
	}
	wantState(t, r, Stopping)
	_, _, _, err = r.Acquire(t.Context())
	wantCode(t, err, tidegate.Unavailable, "DB is Stopping - try again later")
	select {
	case err := <-done:
		t.Fatalf("offline while a request runs: %v", err)
	default:
	}
	if err := putIn(t, db, "doc", `{"a":1}`); err != nil { // the running request gets to its end
		t.Fatal(err)
	}
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	wantState(t, r, Offline)
	if e.logs.has("requests were still running") {
		t.Error("it did not notice that the request had ended")
	}
	_, _, _, err = r.Acquire(t.Context())
	wantCode(t, err, tidegate.Unavailable, "DB is currently under maintenance")
	if r.DB() != nil || r.Err() != nil {
		t.Error("offline with a database or an error")
	}
	if err := g.TakeOffline(t.Context(), "db"); err != nil {
		t.Errorf("offline again: %v", err)
	}

	if err := g.BringOnline(t.Context(), "db", 0, true); err != nil {
		t.Fatal(err)
	}
	wantState(t, r, Online)
	wantBody(t, r, "doc", `{"a":1}`)
	if err := g.BringOnline(t.Context(), "db", 0, true); err != nil {
		t.Errorf("online again: %v", err)
	}
	for _, err := range []error{g.TakeOffline(t.Context(), "x"), g.BringOnline(t.Context(), "x", 0, false), g.Flush(t.Context(), "x")} {
		wantCode(t, err, tidegate.NotFound, `no such database "x"`)
	}
}

func TestOnlineAfterADelay(t *testing.T) {
	e := newEnv(t)
	g := e.open(nil)
	r := create(t, g, "db", `{"offline":true}`)
	wantState(t, r, Offline)
	r.mu.Lock()
	moved := r.moved
	r.mu.Unlock()
	if err := g.BringOnline(t.Context(), "db", time.Millisecond, false); err != nil {
		t.Fatal(err)
	}
	await(t, moved, "move")
	if err := g.BringOnline(t.Context(), "db", time.Hour, false); err != nil { // closing does not wait for this one
		t.Fatal(err)
	}
}

func TestReloadServesWhoWaits(t *testing.T) {
	e := newEnv(t)
	g := e.open(nil)
	r := create(t, g, "db", `{}`)
	old, leaving, release, err := r.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	updated := make(chan error, 1)
	go func() {
		_, err := update(t, g, "db", "", `{"revs_limit":9}`)
		updated <- err
	}()
	await(t, leaving.Done(), "end of the feed")
	if !errors.Is(context.Cause(leaving), errReloading) {
		t.Errorf("cause: %v", context.Cause(leaving))
	}
	acquired := make(chan bool, 1)
	go func() {
		db, _, free, err := r.Acquire(t.Context())
		if err == nil {
			free()
		}
		acquired <- err == nil && db != old
	}()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, _, err := r.Acquire(canceled); !errors.Is(err, context.Canceled) {
		t.Errorf("a waiting request whose client is gone: %v", err)
	}
	release()
	if err := <-updated; err != nil {
		t.Fatal(err)
	}
	if !<-acquired {
		t.Error("a request that came during the reload was not served by the new database")
	}
}

func TestConfiguredOffline(t *testing.T) {
	e := newEnv(t)
	g := e.open(nil)
	r := create(t, g, "db", `{}`)
	if err := put(t, r, "doc", `{"a":1}`); err != nil {
		t.Fatal(err)
	}
	if _, err := update(t, g, "db", "", `{"offline":true}`); err != nil {
		t.Fatal(err)
	}
	wantState(t, r, Offline)
	if _, err := update(t, g, "db", "", `{"revs_limit":9}`); err != nil {
		t.Fatal(err)
	}
	wantState(t, r, Offline)
	e.close(g)
	g = e.open(nil)
	r = get(t, g, "db")
	wantState(t, r, Offline)
	if _, err := update(t, g, "db", "", `{"offline":false}`); err != nil {
		t.Fatal(err)
	}
	wantState(t, r, Online)
	wantBody(t, r, "doc", `{"a":1}`)
}

// A database that was taken offline by hand stays so over config changes, until one says otherwise
// (resync.md §2), and comes back after a restart.
func TestOfflineByHand(t *testing.T) {
	e := newEnv(t)
	g := e.open(nil)
	r := create(t, g, "db", `{}`)
	if err := g.TakeOffline(t.Context(), "db"); err != nil {
		t.Fatal(err)
	}
	if _, err := update(t, g, "db", "", `{"revs_limit":9}`); err != nil {
		t.Fatal(err)
	}
	wantState(t, r, Offline)
	if cfg, _ := r.Config(); *cfg.RevsLimit != 9 {
		t.Error("the change is not in force")
	}
	if _, err := update(t, g, "db", "", `{"offline":false}`); err != nil {
		t.Fatal(err)
	}
	wantState(t, r, Online)
	if err := g.TakeOffline(t.Context(), "db"); err != nil {
		t.Fatal(err)
	}
	e.close(g)
	wantState(t, get(t, e.open(nil), "db"), Online)
}

// A database that does not load is there with its error, and the others are served.
func TestOneThatDoesNotLoad(t *testing.T) {
	var broken atomic.Bool
	scripts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
			http.Error(w, "down", http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, "function(doc) { channel('fetched'); }")
	}))
	defer scripts.Close()
	e := newEnv(t)
	g := e.open(nil)
	create(t, g, "bad", `{"sync":"`+scripts.URL+`/sync.js"}`)
	create(t, g, "good", `{}`)
	e.close(g)

	broken.Store(true)
	g = e.open(nil)
	bad := get(t, g, "bad")
	wantState(t, bad, Offline)
	if err := bad.Err(); err == nil || !strings.Contains(err.Error(), "500 Internal Server Error") {
		t.Errorf("its error: %v", err)
	}
	wantState(t, get(t, g, "good"), Online)
	if err := g.BringOnline(t.Context(), "bad", 0, true); err == nil {
		t.Error("it came online")
	}
	wantState(t, bad, Offline)
	if bad.Err() == nil {
		t.Error("its error is gone")
	}

	broken.Store(false)
	if err := g.BringOnline(t.Context(), "bad", 0, true); err != nil {
		t.Fatal(err)
	}
	wantState(t, bad, Online)
	if bad.Err() != nil {
		t.Error(bad.Err())
	}
	if cfg, _ := bad.Config(); !cfg.Sync.IsURL() {
		t.Errorf("the config holds what was fetched instead of the URL: %s", cfg.Sync)
	}
	if err := g.Delete(t.Context(), "bad", true); err != nil {
		t.Error(err)
	}
}

// faulty is a store whose Wait fails for one space when told to.
type faulty struct {
	store.Store
	space atomic.Uint32
	fail  chan struct{}
}

func (f *faulty) Wait(ctx context.Context, space store.Space, after tidegate.Seq) (tidegate.Seq, error) {
	if uint32(space) != f.space.Load() {
		return f.Store.Wait(ctx, space, after)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-f.fail:
			cancel()
		case <-stop:
		}
	}()
	seq, err := f.Store.Wait(ctx, space, after)
	select {
	case <-f.fail:
		return 0, errors.New("planted fault")
	default:
		return seq, err
	}
}

func TestFailureOfOneDatabaseLeavesTheOthers(t *testing.T) {
	e := newEnv(t)
	f := &faulty{Store: e.st, fail: make(chan struct{})}
	f.space.Store(1) // the first database
	e.st = f
	g := e.open(nil)
	bad, good := create(t, g, "bad", `{}`), create(t, g, "good", `{}`)
	if bad.definition().Space != 1 {
		t.Fatal("the test breaks another database than it means to")
	}
	_, leaving, release, err := bad.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	close(f.fail)
	await(t, leaving.Done(), "end of the feed")
	release()
	unlock, err := bad.lock(t.Context()) // when it is done going offline
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	wantState(t, bad, Offline)
	if err := bad.Err(); err == nil || !strings.Contains(err.Error(), "planted fault") {
		t.Errorf("its error: %v", err)
	}
	if err := put(t, good, "doc", `{}`); err != nil {
		t.Error(err)
	}
	f.space.Store(0)
	if err := g.BringOnline(t.Context(), "bad", 0, true); err != nil {
		t.Fatal(err)
	}
	wantState(t, bad, Online)
}

func TestCloseDrains(t *testing.T) {
	e := newEnv(t)
	g := e.open(nil)
	r := create(t, g, "db", `{}`)
	db, leaving, release, err := r.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- g.Close(context.Background()) }()
	await(t, leaving.Done(), "end of the feed")
	if err := putIn(t, db, "doc", `{"a":1}`); err != nil {
		t.Errorf("a running write: %v", err)
	}
	release()
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	wantState(t, r, Offline)
	if err := g.Close(context.Background()); err != nil {
		t.Errorf("closed again: %v", err)
	}
	_, err = g.Create(t.Context(), "other", parse(t, `{}`))
	wantCode(t, err, tidegate.Unavailable, "closing")
	_, err = update(t, g, "db", "", `{"revs_limit":9}`)
	wantCode(t, err, tidegate.Unavailable, "closing")
	wantCode(t, g.BringOnline(t.Context(), "db", 0, true), tidegate.Unavailable, "closing")
	wantState(t, r, Offline)
	if err := g.Run(t.Context()); !errors.Is(err, errClosed) {
		t.Errorf("Run: %v", err)
	}
	wantBody(t, get(t, e.open(nil), "db"), "doc", `{"a":1}`)
}

// A request that never ends does not hold Close up for longer than its context.
func TestCloseGivesUpOnStuckRequests(t *testing.T) {
	e := newEnv(t)
	g := e.open(nil)
	r := create(t, g, "db", `{}`)
	db, _, release, err := r.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if !e.logs.has("requests were still running") {
		t.Error("nothing says so")
	}
	_, _ = db.LastSequence(t.Context()) // must not crash
	release()
}

func TestRunEndsWithItsContext(t *testing.T) {
	g := newEnv(t).open(nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// Requests, feeds, offline, online and config changes all at once: every request is served or told to come
// back, no feed is left, and nothing is counted twice.
func TestEverythingAtOnce(t *testing.T) {
	e := newEnv(t)
	g := e.open(nil)
	r := create(t, g, "db", `{}`)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var served, refused atomic.Int64
	for i := range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				r.mu.Lock()
				moved := r.moved
				r.mu.Unlock()
				db, leaving, release, err := r.Acquire(ctx)
				if err != nil {
					select {
					case <-moved:
					case <-ctx.Done():
					}
					refused.Add(1)
					if code := tidegate.ErrorCode(err); code != tidegate.Unavailable && code != tidegate.Canceled {
						t.Error(err)
						return
					}
					continue
				}
				if _, err := db.LastSequence(ctx); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
				served.Add(1)
				if i == 0 { // a feed
					<-leaving.Done()
					release()
					continue
				}
				release()
				select { // others come back at the next move
				case <-moved:
				case <-ctx.Done():
				}
			}
		})
	}
	for n := range 4 {
		if _, err := update(t, g, "db", "", fmt.Sprintf(`{"revs_limit":%d}`, n+10)); err != nil {
			t.Error(err)
		}
		if n%3 == 0 {
			if err := errors.Join(g.TakeOffline(t.Context(), "db"), g.BringOnline(t.Context(), "db", 0, true)); err != nil {
				t.Error(err)
			}
		}
	}
	stop()
	wg.Wait()
	wantState(t, r, Online)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inst.requests != 0 || served.Load() == 0 {
		t.Errorf("%d requests counted in, %d served, %d refused", r.inst.requests, served.Load(), refused.Load())
	}
}
