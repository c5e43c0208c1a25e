package database_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/script"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/blob"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

// The candidate of an online resync becomes the collection's function in the transaction of the switch, or not at all.
func TestResyncOnSwitch(t *testing.T) {
	e := open(t, database.Options{})
	e.put(`{"_id":"d","channels":["a"],"groups":["b"]}`)
	key := store.NewKey(space, store.KindMeta).Name("the definition")
	refuse := errors.New("no")
	before := e.last()
	o := database.ResyncOptions{
		Online: true, Functions: map[store.Collection]string{0: byGroups},
		OnSwitch: func(tx store.Tx) error { _ = tx.Put(key, []byte("x")); return refuse },
	}
	status, err := e.db.Resync(t.Context(), o)
	if !errors.Is(err, refuse) || status.State != database.ResyncError || status.LastError == "" {
		t.Errorf("%+v %v", status, err)
	}
	if raw := e.raw("d"); e.last() != before || raw.Channels["b"].Latest.Start != 0 {
		t.Errorf("a switch that failed left a trace: %+v", raw)
	}
	if e.db.Collections()[0].Sync != byChannels {
		t.Error("the candidate is the function though the switch failed")
	}
	e.check()
	o.OnSwitch = func(tx store.Tx) error { return tx.Put(key, []byte("x")) }
	if _, err := e.db.Resync(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	err = e.st.View(t.Context(), func(r store.Reader) error {
		if b, err := r.Get(key); string(b) != "x" || err != nil {
			t.Errorf("what OnSwitch stored: %q, %v", b, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if e.db.Collections()[0].Sync != byGroups {
		t.Error("the candidate is not the function")
	}
	e.put(`{"_id":"later","channels":["a"],"groups":["c"]}`)
	if _, ok := e.raw("later").Channels["c"]; !ok {
		t.Error("later writes are not routed by the candidate")
	}
	e.tidy()
	e.check()
}

// Regeneration clears require_resync and gives principals new sequences; what was routed by which function is known.
func TestResyncRegenerates(t *testing.T) {
	e := open(t, database.Options{})
	e.user("amy", "a")
	e.put(`{"_id":"d","channels":["a"],"groups":["a"]}`)
	err := e.st.Update(t.Context(), func(tx store.Tx) error { return database.MarkRequireResync(tx, space, 0) })
	if err != nil {
		t.Fatal(err)
	}
	required := func(want int) {
		t.Helper()
		if colls, err := e.db.RequireResync(t.Context()); len(colls) != want || err != nil {
			t.Errorf("required of %v, %v", colls, err)
		}
	}
	required(1)
	e.resync(database.ResyncOptions{}, "")
	required(1)
	_, at := e.changes(e.as("amy"), tidegate.Since{}, false)
	granted := e.as("amy").User().Channels(0)["a"]
	e.resync(database.ResyncOptions{Regenerate: true}, "")
	required(0)
	if now := e.as("amy").User().Channels(0)["a"]; now <= granted || now <= at.Seq {
		t.Errorf("granted at %d, was %d", now, granted)
	}
	lines, _ := e.changes(e.as("amy"), at, true)
	wantLines(t, "amy", lines, "d")
	if changed, err := e.db.SyncFunctionChanged(t.Context()); len(changed) > 0 || err != nil {
		t.Errorf("%v %v", changed, err)
	}
	e.resync(database.ResyncOptions{}, byGroups) // as on a node that has another function
	if changed, err := e.db.SyncFunctionChanged(t.Context()); len(changed) != 1 || err != nil {
		t.Errorf("%v %v", changed, err)
	}
}

// When sequences come near those of the run it begins again, and comes to the same end.
func TestResyncOnlineRunsOutOfRoom(t *testing.T) {
	e := open(t, database.Options{})
	amy := e.user("amy", "a", "b")
	for i := range 10 {
		e.put(fmt.Sprintf(`{"_id":"d%d","channels":["a"],"groups":["b"]}`, i))
	}
	_, at := e.changes(amy, tidegate.Since{}, false)
	database.Margin(e.db, 20)
	database.BatchDocs(e.db, 2)
	n := 0
	database.AtBatch(e.db, func(int) {
		for range 5 {
			if n++; n <= 100 {
				e.put(fmt.Sprintf(`{"_id":"n%d","channels":["a"],"groups":["b"]}`, n))
			}
		}
	})
	status, err := e.db.Resync(t.Context(), database.ResyncOptions{Online: true, Functions: map[store.Collection]string{0: byGroups}})
	database.AtBatch(e.db, nil)
	if err != nil || status.DocsProcessed < 10 || status.DocsChanged != status.DocsProcessed {
		t.Fatalf("%+v %v", status, err)
	}
	if last := e.last(); last < 20*64 {
		t.Errorf("it did not begin again: last sequence %d", last)
	}
	lines, _ := e.changes(e.as("amy"), at, false)
	if want := 10 + min(n, 100); len(lines) != want {
		t.Errorf("amy is told of %d documents, not of %d", len(lines), want)
	}
	e.check()
	e.tidy()
	e.check()
}

// The sweeper drops no expiry that the next generation needs, and expires nothing by it before its time.
func TestResyncOnlineAndExpiry(t *testing.T) {
	e := open(t, database.Options{})
	for i := range 6 {
		e.put(fmt.Sprintf(`{"_id":"d%d","channels":["a"],"groups":["b"],"until":"2026-11-22T00:00:00Z","expires":"2026-11-23T00:00:00Z"}`, i))
	}
	database.BatchDocs(e.db, 2)
	database.AtBatch(e.db, func(n int) {
		switch n {
		case 1:
			e.put(`{"_id":"d5","_rev":"` + e.raw("d5").Rev.String() + `","until":"2026-11-22T00:00:00Z"}`)
			e.check()
		case 2: // behind what the new function says, before what the old one does
			e.clock.add(14 * time.Hour)
			if err := e.db.Sweep(t.Context()); err != nil {
				t.Error(err)
			}
			for i := range 6 {
				if e.raw(fmt.Sprint("d", i)).Deleted {
					t.Errorf("d%d expired before the switch", i)
				}
			}
			e.check()
		}
	})
	e.resync(database.ResyncOptions{Online: true}, byGroups)
	e.check()
	if err := e.db.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		if !e.raw(fmt.Sprint("d", i)).Deleted {
			t.Errorf("d%d did not expire after the switch", i)
		}
	}
	e.tidy()
	if report := e.check(); report.Expiries > 6 {
		t.Errorf("%d expiry rows are left", report.Expiries) // of old bodies
	}
}

// Documents that move under an offline resync, since another node has the database online, are computed again.
func TestResyncOfflineOfDocumentsThatMove(t *testing.T) {
	e := open(t, database.Options{})
	for i := range 8 {
		e.put(fmt.Sprintf(`{"_id":"d%d","channels":["a"],"groups":["b"],"gives":[["bob","x"]]}`, i))
	}
	database.BatchDocs(e.db, 2)
	database.AtBatch(e.db, func(n int) {
		if n > 3 {
			return
		}
		id := fmt.Sprint("d", 2*n) // the next page, which may have been computed
		e.put(fmt.Sprintf(`{"_id":%q,"_rev":%q,"channels":["a"],"groups":["c"]}`, id, e.raw(id).Rev))
		if _, err := e.admin.Purge(t.Context(), []string{fmt.Sprint("d", 2*n+1)}); err != nil {
			t.Error(err)
		}
	})
	status := e.resync(database.ResyncOptions{}, byGroups)
	if status.DocsProcessed < 5 {
		t.Errorf("%+v", status)
	}
	for n := 1; n <= 3; n++ {
		if raw := e.raw(fmt.Sprint("d", 2*n)); raw.Channels["c"].Latest.Start == 0 || raw.Channels["b"].Latest.Start != 0 {
			t.Errorf("%+v", raw.Channels)
		}
	}
	e.check()
}

// A document that makes no sense is counted and stays as it is.
func TestResyncOfADamagedDocument(t *testing.T) {
	bothModes(t, func(t *testing.T, e *env, resync func() database.ResyncStatus) {
		for i := range 4 {
			e.put(fmt.Sprintf(`{"_id":"d%d","channels":["a"],"groups":["b"]}`, i))
		}
		key := store.NewKey(space, store.KindDoc).Collection(0).Name("d2")
		var was []byte
		err := e.st.Update(t.Context(), func(tx store.Tx) error {
			stored, err := tx.Get(key)
			was = bytes.Clone(stored)
			if err != nil {
				return err
			}
			return tx.Put(key, []byte("nonsense"))
		})
		if err != nil {
			t.Fatal(err)
		}
		status := resync()
		if status.DocsErrored != 1 || status.DocsChanged != 3 || status.DocsProcessed != 4 {
			t.Errorf("%+v", status)
		}
		if _, err := e.admin.Raw(t.Context(), "d2"); tidegate.ErrorCode(err) != tidegate.Corrupt {
			t.Errorf("the damaged document: %v", err)
		}
		// Repaired by hand it can be purged; then all is well.
		err = e.st.Update(t.Context(), func(tx store.Tx) error {
			it := tx.Scan(store.Prefix(store.NewKey(space, store.KindDoc)))
			defer it.Close()
			var keys [][]byte
			for it.Next() {
				if string(it.Value()) == "nonsense" {
					keys = append(keys, bytes.Clone(it.Key()))
				}
			}
			for _, key := range keys {
				if err := tx.Put(key, was); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.admin.Purge(t.Context(), []string{"d2"}); err != nil {
			t.Fatal(err)
		}
		e.tidy()
	})
}

// One at a time; its status is told while it runs, and stored.
func TestResyncTwiceAtOnce(t *testing.T) {
	e := open(t, database.Options{})
	for i := range 6 {
		e.put(fmt.Sprintf(`{"_id":"d%d","channels":["a"],"groups":["b"]}`, i))
	}
	database.BatchDocs(e.db, 2)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var told []database.ResyncStatus
	database.AtBatch(e.db, func(n int) {
		if n != 1 {
			return
		}
		_, err := e.db.Resync(t.Context(), database.ResyncOptions{})
		wantErr(t, err, tidegate.Unavailable, "Database _resync already in progress")
		status, err := e.db.ResyncStatus(t.Context())
		if err != nil || status.State != database.ResyncRunning || status.DocsProcessed != 2 || status.DocsTotal != 6 || status.DocsPerSecond == 0 {
			t.Errorf("%+v %v", status, err)
		}
		stored, err := database.ReadResyncStatus(t.Context(), e.st, space)
		if err != nil || stored.ID != status.ID || stored.DocsProcessed != 2 || stored.State != database.ResyncRunning {
			t.Errorf("stored: %+v %v", stored, err)
		}
		cancel(errors.New("the node goes down"))
	})
	_, err := e.db.Resync(ctx, database.ResyncOptions{Progress: func(s database.ResyncStatus) { told = append(told, s) }})
	if !errors.Is(err, context.Canceled) || len(told) == 0 {
		t.Errorf("%v, told of %+v", err, told)
	}
	database.AtBatch(e.db, nil)
	first, err := e.db.ResyncStatus(t.Context())
	if err != nil || first.State != database.ResyncRunning { // whether somebody runs it is the lease's to say
		t.Errorf("%+v %v", first, err)
	}
	o, unfinished, err := e.db.InterruptedResync(t.Context())
	if err != nil || !unfinished || o.Online {
		t.Errorf("%+v %v %v", o, unfinished, err)
	}
	if status := e.resync(o, ""); status.ID != first.ID {
		t.Errorf("%+v, was %+v", status, first)
	}
	if _, unfinished, _ := e.db.InterruptedResync(t.Context()); unfinished {
		t.Error("a complete resync is unfinished")
	}
}

// busyStore refuses some Updates.
type busyStore struct {
	store.Store
	mu   sync.Mutex
	busy int
}

func (s *busyStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	s.mu.Lock()
	busy := s.busy > 0
	s.busy--
	s.mu.Unlock()
	if busy {
		return store.ErrDiskFull
	}
	return s.Store.Update(ctx, fn)
}

// What the store cannot do now is tried again.
func TestResyncWaitsForTheStore(t *testing.T) {
	st, err := pebblestore.OpenMem()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	busy := &busyStore{Store: st}
	e := openOn(t, busy, vfs.NewMem(), database.Options{})
	e.put(`{"_id":"d","channels":["a"],"groups":["b"]}`)
	busy.mu.Lock()
	busy.busy = 3
	busy.mu.Unlock()
	if status := e.resync(database.ResyncOptions{}, byGroups); status.DocsChanged != 1 {
		t.Errorf("%+v", status)
	}
}

// Check knows what there may be of generations.
func TestCheckOfGenerations(t *testing.T) {
	doc := func(coll store.Collection, id string) store.Key {
		return store.NewKey(space, store.KindDoc).Collection(coll).Name(id)
	}
	next := store.FirstPhysical
	copyDoc := func(to store.Key) func(tx store.Tx) error {
		return func(tx store.Tx) error {
			stored, err := tx.Get(doc(next, "d0"))
			if err != nil {
				return err
			}
			return tx.Put(to, stored)
		}
	}
	for name, tt := range map[string]struct {
		kind  string
		plant func(tx store.Tx) error
	}{
		"nothing":                        {"", func(store.Tx) error { return nil }},
		"a generation that there is not": {database.CheckKey, copyDoc(doc(next+9, "d0"))},
		"a document only in the next":    {database.CheckRecord, copyDoc(doc(next, "ghost"))},
		"another document in the next": {database.CheckRecord, func(tx store.Tx) error {
			stored, err := tx.Get(doc(0, "d3"))
			if err != nil {
				return err
			}
			return tx.Put(doc(next, "d0"), stored)
		}},
		"an entry of nothing": {database.CheckIndex, func(tx store.Tx) error {
			return tx.Put(store.NewKey(space, store.KindChannel).Collection(next).Name("zz").Seq(7), []byte("x"))
		}},
		"a mark of no run": {database.CheckAccess, func(tx store.Tx) error {
			return tx.Put(store.NewKey(space, store.KindNextMark).Collection(77).Name("user:bob"), make([]byte, 16))
		}},
		"a sequence that the run did not give": {database.CheckSequence, func(tx store.Tx) error {
			stored, err := tx.Get(doc(next, "d0"))
			if err != nil {
				return err
			}
			b := bytes.Clone(stored)
			b[2] = 0x70
			return tx.Put(doc(next, "d0"), b)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			e := open(t, database.Options{})
			for i := range 4 {
				e.put(fmt.Sprintf(`{"_id":"d%d","channels":["a"],"groups":["b"],"gives":[["bob","x"]],"n":%[1]d}`, i))
			}
			database.BatchDocs(e.db, 2)
			ctx, cancel := context.WithCancel(t.Context())
			database.AtBatch(e.db, func(n int) { cancel() })
			_, err := e.db.Resync(ctx, database.ResyncOptions{Online: true, Functions: map[store.Collection]string{0: byGroups}})
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			e.check()
			if err := e.st.Update(t.Context(), tt.plant); err != nil {
				t.Fatal(err)
			}
			report, err := e.db.Check(t.Context(), database.CheckOptions{})
			if err != nil {
				t.Fatal(err)
			}
			found := tt.kind == "" && report.OK()
			for _, p := range report.Problems {
				found = found || p.Kind == tt.kind
			}
			if !found {
				t.Errorf("want a problem of kind %q, found %+v", tt.kind, report.Problems)
			}
		})
	}
}

// TestResyncCrash cuts the power under a resync and writers. What is left is consistent, the counters are right, and it goes
// on to its end.
func TestResyncCrash(t *testing.T) {
	for seed := range 6 {
		online := seed%2 == 0
		t.Run(fmt.Sprintf("%d online=%v", seed, online), func(t *testing.T) { resyncCrashOnce(t, 1+seed/2, online) })
	}
}

func resyncCrashOnce(t *testing.T, at int, online bool) {
	fs := vfs.NewCrashableMem()
	st, err := pebblestore.Open("db", pebblestore.Options{FS: fs, MinFreeBytes: -1, MemTableBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	e := openOn(t, st, fs, database.Options{})
	const n = 40
	for i := range n {
		e.put(fmt.Sprintf(`{"_id":"d%02d","channels":["a"],"groups":["b"],"gives":[["bob","x%d"]]}`, i, i))
	}
	database.BatchDocs(e.db, 5)
	var crashed vfs.FS
	o := database.ResyncOptions{Online: online, Functions: map[store.Collection]string{0: byGroups}}
	database.AtBatch(e.db, func(batch int) {
		if online {
			e.put(fmt.Sprintf(`{"_id":"new%d","channels":["a"],"groups":["b"]}`, batch))
		}
		if batch == at {
			crashed = fs.CrashClone(vfs.CrashCloneCfg{})
		}
	})
	if _, err := e.db.Resync(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	database.AtBatch(e.db, nil)

	after, err := pebblestore.Open("db", pebblestore.Options{FS: crashed, MinFreeBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = after.Close() })
	blobs, err := blob.OpenFiles("blobs", blob.Options{FS: vfs.NewMem(), MinFreeBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	left := openWith(t, after, blobs, database.Options{})
	left.check()
	was, err := left.db.ResyncStatus(t.Context())
	if err != nil || was.State != database.ResyncRunning || was.DocsProcessed != int64(5*at) || was.DocsChanged != was.DocsProcessed {
		t.Fatalf("%+v %v", was, err)
	}
	opts, unfinished, err := left.db.InterruptedResync(t.Context())
	if err != nil || !unfinished {
		t.Fatal(unfinished, err)
	}
	status, err := left.db.Resync(t.Context(), opts)
	if err != nil || status.ID != was.ID || status.DocsChanged != status.DocsProcessed || status.DocsProcessed < n {
		t.Fatalf("%+v %v", status, err)
	}
	for i := range n {
		if raw := left.raw(fmt.Sprintf("d%02d", i)); raw.Channels["b"].Latest.Start == 0 || !raw.Channels["a"].Removed.Removed {
			t.Errorf("d%02d: %+v", i, raw.Channels)
		}
	}
	left.check()
	left.tidy()
	left.check()
}

// A function is compiled once for all that ask.
func TestResyncCandidateThatDoesNotCompile(t *testing.T) {
	e := open(t, database.Options{})
	database.Compiling(e.db, script.CompileSync)
	_, err := e.db.Resync(t.Context(), database.ResyncOptions{Online: true, Functions: map[store.Collection]string{0: "function(doc) { channel( }"}})
	if tidegate.ErrorCode(err) != tidegate.Invalid || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("%v", err)
	}
	if status, err := e.db.ResyncStatus(t.Context()); status.ID != "" || err != nil {
		t.Errorf("%+v %v", status, err)
	}
}

// Who asked before the switch is not shown by old grants what only the new function puts there.
func TestResyncOnlineAndHandlesFromBefore(t *testing.T) {
	e := open(t, database.Options{})
	e.user("bob")
	e.put(`{"_id":"granter","grant":[["bob","x"]],"gives":[["bob","y"]]}`)
	e.put(`{"_id":"secret","channels":["secret"],"groups":["x"]}`)
	e.put(`{"_id":"mine","channels":["z"],"groups":["y"]}`)
	h := e.as("bob")
	e.get(e.admin, "secret", tidegate.RevID{})
	if _, err := h.Get(t.Context(), "secret", database.GetOptions{}); reason(err) != "forbidden" {
		t.Fatal(err)
	}
	listing := e.as("bob") // begins before the switch and goes on behind it
	e.resync(database.ResyncOptions{Online: true}, byGroups)
	if _, err := h.Get(t.Context(), "secret", database.GetOptions{}); reason(err) != "forbidden" {
		t.Errorf("a document that neither function shows to bob: %v", err)
	}
	e.get(h, "mine", tidegate.RevID{})
	var ids []string
	err := listing.AllDocs(t.Context(), database.AllDocsOptions{}, func(row *database.AllDocsRow) error {
		ids = append(ids, row.ID)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	wantLines(t, "bob's listing", ids, "mine")
}
