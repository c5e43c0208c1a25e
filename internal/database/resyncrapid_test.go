package database_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/store"
)

// resyncDriver does random things to a world.
type resyncDriver struct {
	*resyncWorld
	rt *rapid.T
}

// modelFns are not many, since compiling takes long under the race detector. From one to another anything changes, one thing
// or nearly nothing.
var modelFns = []modelFn{
	{refuses: 8},
	{channels: 1, refuses: 8},
	{grants: 1, refuses: 8},
	{roles: 1, refuses: 5},
	{until: 1, refuses: 8},
	{channels: 2, grants: 2, roles: 1, until: 1, refuses: 6},
	{refuses: 4},
}

// otherFn draws a function that is not the present one.
func (d *resyncDriver) otherFn() modelFn {
	others := slices.DeleteFunc(slices.Clone(modelFns), func(fn modelFn) bool { return fn == d.fn })
	return rapid.SampledFrom(others).Draw(d.rt, "function")
}

func (d *resyncDriver) channels(label string) []string {
	return rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"x", "y", "z", "own0", "role0"}), 0, 2, rapid.ID[string]).Draw(d.rt, label)
}

func (d *resyncDriver) grant(label string) *modelGrant {
	if !rapid.Bool().Draw(d.rt, label) {
		return nil
	}
	to := rapid.SampledFrom(append([]string{"role:r0", "role:r1", "nobody"}, modelUsers...)).Draw(d.rt, "to")
	return &modelGrant{to, d.channels("what")}
}

func (d *resyncDriver) role(label string) *modelRole {
	if rapid.IntRange(0, 2).Draw(d.rt, label) > 0 {
		return nil
	}
	return &modelRole{rapid.SampledFrom(modelUsers).Draw(d.rt, "to"), []string{"role:" + rapid.SampledFrom(modelRoles).Draw(d.rt, "role")}}
}

func (d *resyncDriver) until(label string) string {
	return rapid.SampledFrom([]string{"", "", "2080-01-01T00:00:00Z", "2081-01-01T00:00:00Z"}).Draw(d.rt, label)
}

func (d *resyncDriver) drawWrite() {
	coll := rapid.SampledFrom(modelColls).Draw(d.rt, "collection")
	id := rapid.SampledFrom(d.ids).Draw(d.rt, "document")
	switch rapid.IntRange(0, 9).Draw(d.rt, "kind of write") {
	case 0:
		d.purge(coll, id)
		return
	case 1:
		d.write(coll, id, modelBody{}, true, false)
		return
	}
	y := modelBody{
		C0: d.channels("c0"), C1: d.channels("c1"), C2: d.channels("c2"),
		G0: d.grant("g0"), G1: d.grant("g1"), G2: d.grant("g2"),
		R0: d.role("r0"), R1: d.role("r1"),
		E0: d.until("e0"), E1: d.until("e1"),
	}
	d.write(coll, id, y, rapid.IntRange(0, 5).Draw(d.rt, "deleted") == 0, rapid.IntRange(0, 4).Draw(d.rt, "branch") == 0)
}

// drawPull lets a client read some of what is new to it.
func (d *resyncDriver) drawPull() {
	key := rapid.SampledFrom(slices.Sorted(maps.Keys(d.clients))).Draw(d.rt, "client")
	d.pull(d.clients[key], rapid.IntRange(1, 4).Draw(d.rt, "entries"), rapid.IntRange(1, 3).Draw(d.rt, "pages"))
}

// something happens beside a resync, or between two.
func (d *resyncDriver) something() {
	for range rapid.IntRange(0, 3).Draw(d.rt, "things") {
		if rapid.IntRange(0, 3).Draw(d.rt, "thing") == 0 {
			d.drawPull()
		} else {
			d.drawWrite()
		}
	}
}

// How a resync is interrupted.
const (
	toItsEnd = iota
	byStop   // as by an administrator
	byCancel // as when the process goes down in order
	byKill   // as by SIGKILL
)

// attempt runs a resync until its end or as it is interrupted. It reports whether it completed.
func (d *resyncDriver) attempt(o database.ResyncOptions, fn modelFn) (how int, completed bool) {
	how = rapid.SampledFrom([]int{toItsEnd, toItsEnd, byStop, byCancel, byKill}).Draw(d.rt, "interrupted")
	at := rapid.IntRange(1, 5).Draw(d.rt, "at batch")
	if how == byKill {
		d.dying.die(rapid.IntRange(0, 12).Draw(d.rt, "updates until death"))
	}
	err := d.resync(o, fn, func(n int, stop context.CancelCauseFunc) {
		if o.Online && how != byKill {
			d.something()
		}
		switch {
		case n != at:
		case how == byStop:
			stop(database.ErrResyncStopped)
		case how == byCancel:
			stop(context.Canceled)
		}
	})
	switch {
	case err == nil:
		completed = true
	case how == byStop && errors.Is(err, database.ErrResyncStopped), how == byCancel && errors.Is(err, context.Canceled), how == byKill && errors.Is(err, errKilled):
	default:
		d.rt.Fatalf("resync %+v: %v", o, err)
	}
	if how == byKill || how == byCancel {
		if completed && o.Online {
			d.fn = fn
		}
		d.reopen()
	}
	return how, completed
}

// online changes the function by an online resync, with whatever happens meanwhile.
func (d *resyncDriver) online() {
	fn := d.otherFn()
	o := database.ResyncOptions{Online: true, Concurrency: 2}
	how, completed := d.attempt(o, fn)
	for !completed && (how == byCancel || how == byKill) && rapid.Bool().Draw(d.rt, "goes on") {
		d.something()
		_, unfinished, err := d.db.InterruptedResync(d.rt.Context())
		if err != nil {
			d.rt.Fatal(err)
		}
		if !unfinished && how == byCancel {
			d.rt.Fatal("an interrupted resync is not to be gone on with")
		}
		how, completed = d.attempt(o, fn)
	}
	if completed {
		d.fn = fn
	}
}

// offline changes the function as the seed says: the database is opened with the new one, and resynced.
func (d *resyncDriver) offline() {
	d.fn, d.uniform = d.otherFn(), false
	d.reopen()
	o := database.ResyncOptions{Regenerate: rapid.Bool().Draw(d.rt, "regenerate"), Reset: rapid.Bool().Draw(d.rt, "reset"), Concurrency: 2}
	_, d.uniform = d.attempt(o, d.fn)
	o.Reset = false
	for !d.uniform && rapid.IntRange(0, 3).Draw(d.rt, "goes on") > 0 {
		d.something()
		_, d.uniform = d.attempt(o, d.fn)
	}
	d.forgetClients() // who is past the old sequences is not told (resync.md §3.6)
}

func (d *resyncDriver) wantRight() {
	d.rt.Helper()
	if problems := d.verify(); len(problems) > 0 {
		d.rt.Fatalf("%d problems: %q", len(problems), problems)
	}
}

func TestResyncModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d := &resyncDriver{newResyncWorld(rt, rapid.SampledFrom(modelFns).Draw(rt, "function")), rt}
		defer func() { d.stop() }()
		for range rapid.IntRange(2, 8).Draw(rt, "writes") {
			d.drawWrite()
		}
		for range rapid.IntRange(1, 3).Draw(rt, "steps") {
			switch rapid.IntRange(0, 5).Draw(rt, "step") {
			case 0:
				if !d.uniform { // an online resync of all makes it so
					d.something()
				}
				d.offline()
			case 1, 2, 3:
				if d.uniform {
					d.online()
				} else if err := d.resync(database.ResyncOptions{Reset: true}, d.fn, nil); err != nil {
					rt.Fatal(err)
				} else {
					d.uniform = true
					d.forgetClients()
				}
			default:
				d.something()
			}
			d.wantRight()
		}
	})
}

// The checkers of the model can fail: each of these faults is found.
func TestResyncModelSeesFaults(t *testing.T) {
	from, to := modelFn{refuses: 8}, modelFn{channels: 1, grants: 1, roles: 1, refuses: 8}
	next := func(tx store.Tx, kind store.Kind, skipName bool, fn func(key, value []byte) bool) {
		it := tx.Scan(store.Prefix(store.NewKey(space, kind)))
		defer it.Close()
		for it.Next() {
			rest := it.Key()[store.Header:]
			if skipName {
				_, rest, _ = store.CutName(rest)
			}
			if coll, _, _ := store.CutCollection(rest); coll >= store.FirstPhysical && fn(slices.Clone(it.Key()), slices.Clone(it.Value())) {
				return
			}
		}
		t.Error("there is no such row")
	}
	remove := func(kind store.Kind, skipName bool) func(tx store.Tx) error {
		return func(tx store.Tx) (err error) {
			next(tx, kind, skipName, func(key, _ []byte) bool { err = tx.Delete(key); return true })
			return err
		}
	}
	for name, fault := range map[string]func(tx store.Tx) error{
		"none":            nil,
		"a record misses": remove(store.KindDoc, false),
		"an entry misses": remove(store.KindChannel, false),
		"a grant misses":  remove(store.KindGrant, true),
		"the marks miss": func(tx store.Tx) error {
			return tx.(store.RangeDeleter).DeleteRange(store.Prefix(store.NewKey(space, store.KindNextMark)))
		},
		"a write goes into one generation": func(tx store.Tx) (err error) {
			next(tx, store.KindDoc, false, func(key, value []byte) bool {
				_, rest, _ := store.CutCollection(key[store.Header:])
				live := append(store.NewKey(space, store.KindDoc).Collection(0), rest...)
				stored, _ := tx.Get(live)
				err = tx.Put(key, stored) // as before the run
				return true
			})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newResyncWorld(t, from)
			defer func() { w.stop() }()
			for i, id := range w.ids {
				w.write(0, id, modelBody{
					C0: []string{"x"}, C1: []string{"y"},
					G0: &modelGrant{modelUsers[i%3], []string{"x"}}, G1: &modelGrant{modelUsers[(i+1)%2], []string{"y"}},
					R1: &modelRole{modelUsers[i%3], []string{"role:r1"}},
				}, false, false)
			}
			if problems := w.verify(); len(problems) > 0 {
				t.Fatalf("before: %q", problems)
			}
			err := w.resync(database.ResyncOptions{Online: true}, to, func(n int, _ context.CancelCauseFunc) {
				if n == 3 && fault != nil {
					if err := w.st.Update(t.Context(), fault); err != nil {
						t.Error(err)
					}
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			w.fn = to
			problems := w.verify()
			if (len(problems) > 0) != (fault != nil) {
				t.Errorf("found %q", problems)
			}
		})
	}
}

// After a restart in the middle of an online resync, writes go into both generations before it goes on.
func TestResyncOnlineAfterRestart(t *testing.T) {
	w := newResyncWorld(t, modelFn{refuses: 8})
	defer func() { w.stop() }()
	for _, id := range w.ids {
		w.write(0, id, modelBody{C0: []string{"x"}, C1: []string{"y"}, G0: &modelGrant{"u0", []string{"x"}}}, false, false)
	}
	to := modelFn{channels: 1, refuses: 8}
	o := database.ResyncOptions{Online: true}
	err := w.resync(o, to, func(n int, stop context.CancelCauseFunc) {
		if n == 2 {
			stop(context.Canceled)
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	was, err := w.db.ResyncStatus(t.Context())
	if err != nil || was.State != database.ResyncRunning || was.DocsProcessed == 0 {
		t.Fatalf("%+v %v", was, err)
	}
	w.reopen()
	for i := range 4 {
		w.write(0, w.ids[2*i], modelBody{C0: []string{"x"}, C1: []string{fmt.Sprint("own", i)}, G0: &modelGrant{"u1", []string{"z"}}}, false, false)
	}
	if problems := w.verify(); len(problems) > 0 {
		t.Fatalf("before it goes on: %q", problems)
	}
	opts, unfinished, err := w.db.InterruptedResync(t.Context())
	if err != nil || !unfinished || !opts.Online || opts.Functions[0] != to.source() {
		t.Fatalf("%+v %v %v", opts, unfinished, err)
	}
	status, err := w.db.Resync(t.Context(), opts)
	if err != nil || status.ID != was.ID || status.DocsProcessed != int64(len(w.ids)) || !status.StartTime.Equal(was.StartTime) {
		t.Fatalf("%+v %v", status, err)
	}
	w.fn = to
	if problems := w.verify(); len(problems) > 0 {
		t.Fatalf("after: %q", problems)
	}
	if infos := w.db.Collections(); infos[0].Sync != to.source() {
		t.Errorf("the function is %s", infos[0].Sync)
	}
	if changed, err := w.db.SyncFunctionChanged(t.Context()); err != nil || len(changed) > 0 {
		t.Errorf("%v %v", changed, err)
	}
}
