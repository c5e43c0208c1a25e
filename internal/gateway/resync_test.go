package gateway

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/store"
)

// slowly takes 10 ms for each document with a member slow, and routes it to b.
const slowly = `function (doc) { if (doc.slow) { var t = Date.now(); while (Date.now() - t < 10) {} } channel('b'); }`

const slowDocs = 60

// slowConfig is a config whose resync takes 0.6 s, unless it is stopped.
func slowConfig(sync string) string {
	return `{"resync_concurrency":1,"sync":` + string(tidegate.AppendJSONString(nil, sync)) + `}`
}

// fill writes the documents that are slow.
func fill(t *testing.T, r *Running) {
	t.Helper()
	for i := range slowDocs {
		if err := put(t, r, fmt.Sprintf("doc%04d", i), `{"slow":true}`); err != nil {
			t.Fatal(err)
		}
	}
}

// startResync starts one, which must not be refused.
func startResync(t *testing.T, g *Gateway, req ResyncRequest) *ResyncInfo {
	t.Helper()
	info, err := g.StartResync(t.Context(), "db", req)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// finishResync waits for the end of the run, and of the move after it.
func finishResync(t *testing.T, r *Running, want database.ResyncState) *ResyncInfo {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := r.AwaitResync(ctx); err != nil {
		t.Fatal(err)
	}
	info := resyncStatus(t, r)
	if info.State != want {
		t.Fatalf("the resync is %s (%s), want %s", info.State, info.LastError, want)
	}
	return info
}

func resyncStatus(t *testing.T, r *Running) *ResyncInfo {
	t.Helper()
	info, err := r.ResyncStatus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// quickly makes the functions of all documents that are slow quick again.
const quickly = `function (doc) { channel('b'); }`

// The seed's flow with a config file: edit, restart, offline, resync, online; and a restart in the middle, which leaves
// the database offline until the resync has gone on (resync.md §3.1, §3.5).
func TestResyncWithAConfigFile(t *testing.T) {
	e := newEnv(t)
	file := func(sync string) map[string]*config.Database {
		return fileDBs(t, `{"db":`+slowConfig(sync)+`}`)
	}
	g := e.open(file(`function (doc) { channel('a'); }`))
	fill(t, get(t, g, "db"))
	e.close(g)

	g = e.open(file(slowly)) // 1. edit the file, 2. restart
	r := get(t, g, "db")
	wantState(t, r, Online)
	wantDue(t, r, "_default._default")
	if err := g.TakeOffline(t.Context(), "db"); err != nil { // 3.
		t.Fatal(err)
	}
	first := startResync(t, g, ResyncRequest{}) // 4.
	wantState(t, r, Resyncing)
	e.close(g) // in the middle

	g = e.open(file(slowly))
	r = get(t, g, "db")
	wantState(t, r, Offline)
	wantCode(t, r.Err(), tidegate.Unavailable, "the resync of the database was interrupted")
	if got := resyncStatus(t, r); got.State != database.ResyncStopped || got.ID != first.ID { // 5.
		t.Errorf("after the restart: %+v", got)
	}
	if _, err := update(t, g, "db", "", `{"revs_limit":9}`); err != nil { // does not bring it online
		t.Fatal(err)
	}
	wantState(t, r, Offline)
	if again := startResync(t, g, ResyncRequest{}); again.ID != first.ID {
		t.Errorf("it does not go on: %+v", again)
	}
	end := finishResync(t, r, database.ResyncCompleted)
	if end.ID != first.ID || end.DocsProcessed != slowDocs || end.DocsChanged != slowDocs {
		t.Errorf("end: %+v", end)
	}
	wantState(t, r, Offline)
	if r.Err() != nil {
		t.Error(r.Err())
	}
	wantDue(t, r)
	if err := g.BringOnline(t.Context(), "db", 0, true); err != nil { // 6.
		t.Fatal(err)
	}
	e.close(g)
	g = e.open(file(slowly))
	wantState(t, get(t, g, "db"), Online)
	wantDue(t, get(t, g, "db"))
}

// One that was stopped on purpose does not keep the database offline; one that was interrupted does not either, if
// somebody says so.
func TestHalfDoneAndOnline(t *testing.T) {
	e := newEnv(t)
	g := e.open(nil)
	r := create(t, g, "db", slowConfig(`function (doc) { channel('a'); }`))
	fill(t, r)
	if _, err := update(t, g, "db", "", `{"sync":`+string(tidegate.AppendJSONString(nil, slowly))+`}`); err != nil {
		t.Fatal(err)
	}
	if err := g.TakeOffline(t.Context(), "db"); err != nil {
		t.Fatal(err)
	}
	startResync(t, g, ResyncRequest{})
	e.close(g)
	g = e.open(nil)
	r = get(t, g, "db")
	wantState(t, r, Offline)
	if err := g.BringOnline(t.Context(), "db", 0, true); err != nil {
		t.Fatal(err)
	}
	if !e.logs.has("its resync has not come to its end") || r.Err() != nil {
		t.Error("no warning, or still an error", r.Err())
	}
	if err := g.TakeOffline(t.Context(), "db"); err != nil {
		t.Fatal(err)
	}
	startResync(t, g, ResyncRequest{})
	if _, err := g.StopResync(t.Context(), "db"); err != nil {
		t.Fatal(err)
	}
	finishResync(t, r, database.ResyncStopped)
	wantDue(t, r, "_default._default")
	e.close(g)
	wantState(t, get(t, e.open(nil), "db"), Online)
}

// An online resync that a restart interrupted goes on by itself, with its candidate (resync.md §3.5, §3.9).
func TestOnlineResyncGoesOnAfterARestart(t *testing.T) {
	e := newEnv(t)
	g := e.open(nil)
	r := create(t, g, "db", slowConfig(`function (doc) { channel('a'); }`))
	fill(t, r)
	candidate := slowly
	first := startResync(t, g, ResyncRequest{Online: true, SyncFunction: &candidate})
	e.close(g)

	g = e.open(nil)
	r = get(t, g, "db")
	wantState(t, r, Online)
	if got := resyncStatus(t, r); got.State != database.ResyncRunning || got.ID != first.ID {
		t.Fatalf("after the restart: %+v", got)
	}
	if err := put(t, r, "meanwhile", `{}`); err != nil {
		t.Fatal(err)
	}
	finishResync(t, r, database.ResyncCompleted)
	if cfg, _ := r.Config(); string(cfg.Sync) != slowly {
		t.Errorf("the function is %s", cfg.Sync)
	}
	wantDue(t, r)
	e.close(g)
	if cfg, _ := get(t, e.open(nil), "db").Config(); string(cfg.Sync) != slowly {
		t.Errorf("after another restart the function is %s", cfg.Sync)
	}
}

// The lease of another node keeps a resync out, and says that one runs.
func TestResyncElsewhere(t *testing.T) {
	e := newEnv(t)
	g := e.open(nil)
	r := create(t, g, "db", `{}`)
	lease, err := e.st.Lease(t.Context(), fmt.Sprintf("resync.%d", r.definition().Space), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.TakeOffline(t.Context(), "db"); err != nil {
		t.Fatal(err)
	}
	_, err = g.StartResync(t.Context(), "db", ResyncRequest{})
	wantCode(t, err, tidegate.Unavailable, "Process already running")
	wantState(t, r, Offline)
	lease.Release()
	startResync(t, g, ResyncRequest{})
	finishResync(t, r, database.ResyncCompleted)
	wantState(t, r, Offline)
}

// A database whose routing is another's is served only after a resync with new sequences (resync.md §3.7).
func TestRequiredResync(t *testing.T) {
	e := newEnv(t)
	g := e.open(nil)
	r := create(t, g, "db", `{"scopes":{"s":{"collections":{"c":{}}}}}`)
	space, id := r.definition().Space, r.definition().Collections["s.c"]
	err := e.st.Update(t.Context(), func(tx store.Tx) error { return database.MarkRequireResync(tx, space, id) })
	if err != nil {
		t.Fatal(err)
	}
	e.close(g)
	g = e.open(nil)
	r = get(t, g, "db")
	required := func() []string {
		t.Helper()
		names, err := r.RequireResync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	wantState(t, r, Offline)
	wantCode(t, r.Err(), tidegate.Unavailable, "a resync with regenerate_sequences is required before it can be online: s.c")
	wantCode(t, g.BringOnline(t.Context(), "db", 0, true), tidegate.Unavailable, "is required")
	if _, err := update(t, g, "db", "", `{"offline":false,"revs_limit":9}`); err != nil { // stored, and no more
		t.Fatal(err)
	}
	wantState(t, r, Offline)
	if err := g.Delete(t.Context(), "db", false); err != nil {
		t.Fatal(err)
	}
	r = create(t, g, "db", `{"scopes":{"s":{"collections":{"c":{}}}}}`) // on the same data
	wantState(t, r, Offline)
	wantCode(t, r.Err(), tidegate.Unavailable, "is required")
	startResync(t, g, ResyncRequest{}) // keeps the sequences: not enough
	finishResync(t, r, database.ResyncCompleted)
	wantCode(t, g.BringOnline(t.Context(), "db", 0, true), tidegate.Unavailable, "is required")
	if got := required(); len(got) != 1 || got[0] != "s.c" {
		t.Errorf("required: %q", got)
	}
	startResync(t, g, ResyncRequest{Regenerate: true, Scopes: map[string][]string{"s": {"c"}}})
	finishResync(t, r, database.ResyncCompleted)
	if got := required(); got != nil {
		t.Errorf("still required: %q", got)
	}
	if err := g.BringOnline(t.Context(), "db", 0, true); err != nil {
		t.Fatal(err)
	}
	wantState(t, r, Online)
}

// A change of the config and the switch of an online resync at the same time: neither is lost.
func TestSwitchAndConfigChange(t *testing.T) {
	e := newEnv(t)
	g := e.open(nil)
	r := create(t, g, "db", `{}`)
	if err := put(t, r, "doc", `{}`); err != nil {
		t.Fatal(err)
	}
	d := r.definition()
	candidate := quickly
	plan, err := g.planResync(t.Context(), d, ResyncRequest{Online: true, SyncFunction: &candidate})
	if err != nil {
		t.Fatal(err)
	}
	// The switch is committed after the change has read the definition and before it is stored.
	_, err = g.Update(t.Context(), "db", "", func(old *config.Database) (Change, error) {
		cfg, err := old.Merge([]byte(`{"revs_limit":9}`))
		if err == nil && old.Sync == "" {
			err = e.st.Update(t.Context(), func(tx store.Tx) error {
				_, err := r.switchTo(tx, d, plan)
				return err
			})
		}
		return Change{Config: cfg}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if cfg, _ := r.Config(); string(cfg.Sync) != quickly || *cfg.RevsLimit != 9 {
		t.Errorf("in force: %s", cfg.Masked())
	}
	e.close(g)
	if cfg, _ := get(t, e.open(nil), "db").Config(); string(cfg.Sync) != quickly || *cfg.RevsLimit != 9 {
		t.Errorf("stored: %s", cfg.Masked())
	}
}

// Resyncs of both kinds, stops, offline, online, config changes, writes and questions all at once: everything is done or
// refused with a reason, nothing waits for ever, and in the end the database serves what the last function says.
func TestResyncAndEverythingAtOnce(t *testing.T) {
	e := newEnv(t)
	g := e.open(nil)
	r := create(t, g, "db", `{}`)
	for i := range 20 {
		if err := put(t, r, fmt.Sprintf("doc%d", i), `{}`); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	candidate := quickly
	var wg sync.WaitGroup
	for name, op := range map[string]func(i int) error{
		"offline": func(int) error { return g.TakeOffline(ctx, "db") },
		"online":  func(i int) error { return g.BringOnline(ctx, "db", 0, i%2 == 0) },
		"resync":  func(int) error { _, err := g.StartResync(ctx, "db", ResyncRequest{}); return err },
		"online resync": func(i int) error {
			_, err := g.StartResync(ctx, "db", ResyncRequest{Online: true, Reset: i%3 == 0})
			return err
		},
		"online resync of a candidate": func(int) error {
			_, err := g.StartResync(ctx, "db", ResyncRequest{Online: true, SyncFunction: &candidate})
			return err
		},
		"stop": func(int) error { _, err := g.StopResync(ctx, "db"); return err },
		"change": func(i int) error {
			_, err := update(t, g, "db", "", fmt.Sprintf(`{"revs_limit":%d}`, 20+i))
			return err
		},
		"change of the function": func(i int) error {
			_, err := update(t, g, "db", "", fmt.Sprintf(`{"sync":"function (doc) { channel('c%d'); }"}`, i%2))
			return err
		},
		"put":    func(i int) error { return put(t, r, fmt.Sprintf("new%d", i), `{}`) },
		"status": func(int) error { _, err := r.ResyncStatus(ctx); return err },
	} {
		wg.Go(func() {
			for i := range 15 {
				switch err := op(i); tidegate.ErrorCode(err) {
				case tidegate.Unavailable, tidegate.Invalid:
				default:
					if err != nil {
						t.Errorf("%s, %d: %v", name, i, err)
					}
				}
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		t.Fatal("something waits for ever")
	}
	if _, err := g.StopResync(ctx, "db"); err == nil {
		if err := r.AwaitResync(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.TakeOffline(ctx, "db"); err != nil {
		t.Fatal(err)
	}
	startResync(t, g, ResyncRequest{Reset: true})
	finishResync(t, r, database.ResyncCompleted)
	wantDue(t, r)
	if err := g.BringOnline(ctx, "db", 0, true); err != nil {
		t.Fatal(err)
	}
	wantState(t, r, Online)
	if report, err := r.DB().Check(ctx, database.CheckOptions{}); err != nil || len(report.Problems) > 0 {
		t.Errorf("%v: %+v", err, report)
	}
}
