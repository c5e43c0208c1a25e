package database_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/changes"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/store"
)

const loadDocs = 40

// TestResyncOnlineUnderLoad resyncs back and forth between two functions while writers write and feeds follow. No request
// fails, and in the end documents, principals and feeds are what a computation from scratch gives.
func TestResyncOnlineUnderLoad(t *testing.T) {
	fns := []modelFn{{refuses: 8}, {channels: 1, grants: 1, roles: 1, until: 1, refuses: 8}}
	w := newResyncWorld(t, fns[0])
	defer func() { w.stop() }()
	database.BatchDocs(w.db, 8)
	for i := range loadDocs {
		id := fmt.Sprintf("doc%03d", i)
		w.ids = append(w.ids, id)
		w.write(store.Collection(3*(i%2)), id, loadBody(rand.New(rand.NewPCG(1, uint64(i)))), false, false)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for i := range 3 {
		writers.Go(func() { loadWriter(ctx, t, w, rand.New(rand.NewPCG(2, uint64(i)))) })
	}
	var feeds sync.WaitGroup
	var followers []*liveFollower
	for _, user := range modelUsers {
		for _, coll := range modelColls {
			f := &liveFollower{user: user, coll: coll, holds: map[string]bool{}}
			followers = append(followers, f)
			feeds.Go(func() { f.follow(t, w.db) })
		}
	}
	for n := range 2 {
		if err := w.resync(database.ResyncOptions{Online: true}, fns[(n+1)%2], nil); err != nil {
			t.Errorf("resync %d: %v", n, err)
		}
		w.fn = fns[(n+1)%2]
	}
	cancel()
	writers.Wait()
	// What is written last is what everybody must get to.
	for _, coll := range modelColls {
		for _, user := range modelUsers {
			w.ids = append(w.ids, "end-"+user)
			w.write(coll, "end-"+user, modelBody{C0: []string{"!"}, C1: []string{"!"}}, false, false)
		}
	}
	feeds.Wait()
	slices.Sort(w.ids)
	w.ids = slices.Compact(w.ids)
	if problems := w.verify(); len(problems) > 0 {
		t.Errorf("%d problems: %q", len(problems), problems[:min(len(problems), 10)])
	}
	want := w.scratch(func(string, ...any) {})
	for _, f := range followers {
		if got := slices.Sorted(maps.Keys(f.holds)); !slices.Equal(got, want.visible[f.user][f.coll]) {
			t.Errorf("the feed of %s in %d delivered %q, from scratch %q", f.user, f.coll, got, want.visible[f.user][f.coll])
		}
	}
}

func loadBody(rnd *rand.Rand) modelBody {
	some := func() []string { return []string{[]string{"x", "y", "z"}[rnd.IntN(3)]} }
	y := modelBody{C0: some(), C1: some(), E0: "2080-01-01T00:00:00Z"}
	if rnd.IntN(3) == 0 {
		y.G0, y.G1 = &modelGrant{modelUsers[rnd.IntN(3)], some()}, &modelGrant{modelUsers[rnd.IntN(3)], some()}
	}
	if rnd.IntN(6) == 0 {
		y.R1 = &modelRole{modelUsers[rnd.IntN(3)], []string{"role:" + modelRoles[rnd.IntN(2)]}}
	}
	return y
}

// loadWriter writes until ctx ends: alone, in batches, deletions and purges.
func loadWriter(ctx context.Context, t *testing.T, w *resyncWorld, rnd *rand.Rand) {
	for ctx.Err() == nil {
		h := w.db.Admin(modelColls[rnd.IntN(2)])
		var ws []*database.Write
		for range 1 + rnd.IntN(4) {
			body, err := json.Marshal(loadBody(rnd))
			if err != nil {
				t.Error(err)
				return
			}
			wr := &database.Write{ID: w.ids[8+rnd.IntN(loadDocs)], Body: bytesLower(body), NewEdits: true, Deleted: rnd.IntN(8) == 0}
			if raw, err := h.Raw(ctx, wr.ID); err == nil {
				wr.Parent = raw.Rev
			}
			ws = append(ws, wr)
		}
		for _, res := range h.PutAll(ctx, ws) {
			if res.Err != nil && tidegate.ErrorCode(res.Err) != tidegate.Conflict && ctx.Err() == nil {
				t.Errorf("write: %v", res.Err)
				return
			}
		}
	}
}

// liveFollower is a client with a continuous feed and revocations. It ends when it has what was written last.
type liveFollower struct {
	user  string
	coll  store.Collection
	holds map[string]bool
}

func (f *liveFollower) follow(t *testing.T, db *database.Database) {
	user, err := db.Access().User(t.Context(), f.user)
	if err != nil {
		t.Error(err)
		return
	}
	h := db.As(user, f.coll)
	feed, err := h.Changes(t.Context(), database.ChangesOptions{Request: changes.Request{Revocations: true}})
	if err != nil {
		t.Error(err)
		return
	}
	defer feed.Close()
	for !f.holds["end-"+modelUsers[len(modelUsers)-1]] {
		entries, err := feed.Next(t.Context(), 16)
		if err == nil && len(entries) == 0 {
			err = feed.Wait(t.Context())
		}
		if err != nil {
			t.Errorf("feed of %s: %v", f.user, err)
			return
		}
		for _, entry := range entries {
			if err := f.take(t.Context(), h, entry); err != nil {
				t.Errorf("feed of %s: %s: %v", f.user, entry.ID, err)
			}
		}
	}
}

func (f *liveFollower) take(ctx context.Context, h *database.Handle, entry tidegate.Change) error {
	switch {
	case strings.HasPrefix(entry.ID, "_user/"):
		return nil
	case entry.Left || entry.Deleted || entry.Revoked:
		delete(f.holds, entry.ID)
		return nil
	}
	fresh, err := h.Fresh(ctx)
	if err != nil {
		return err
	}
	_, err = fresh.Get(ctx, entry.ID, database.GetOptions{})
	switch tidegate.ErrorCode(err) {
	case tidegate.Forbidden, tidegate.NotFound:
		return nil // it went on: another entry follows
	}
	if err == nil {
		f.holds[entry.ID] = true
		return nil
	}
	return err
}
