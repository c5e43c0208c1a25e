package database_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/store/blob"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

// TestCrash cuts the power under concurrent writers and looks at what is left (I1): every acknowledged revision
// is there with its body and attachments, nothing is half written, and all that is stored twice agrees.
func TestCrash(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { crashOnce(t, seed) })
	}
}

// ackedWrite is a write that was acknowledged before the power went.
type ackedWrite struct {
	id   string
	rev  tidegate.RevID
	body string
	att  string
}

func crashOnce(t *testing.T, seed uint64) {
	fs := vfs.NewCrashableMem()
	st, err := pebblestore.Open("db", pebblestore.Options{FS: fs, MinFreeBytes: -1, MemTableBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := blob.OpenFiles("blobs", blob.Options{FS: fs, MinFreeBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	opts := database.Options{
		Name: "test", Space: space, AllowConflicts: true, OldRevExpiry: -1, InlineAttachmentBytes: 8,
		Collections: byChannelsCollection(t),
	}
	db, err := database.Open(t.Context(), st, blobs, opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var mu sync.Mutex
	var acked []ackedWrite
	enough := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { _ = db.Run(ctx) })
	for w := range 6 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(w)))
			for i := 0; ctx.Err() == nil; i++ {
				write(ctx, t, db, rnd, w, i, func(a ackedWrite) {
					mu.Lock()
					defer mu.Unlock()
					if acked = append(acked, a); len(acked) == 60+int(seed)*11 {
						close(enough)
					}
				})
			}
		})
	}
	<-enough
	// What was acknowledged before the disk is taken must be on it, with any part of what was not synced.
	mu.Lock()
	promised := append([]ackedWrite(nil), acked...)
	mu.Unlock()
	crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: int(seed * 25), RNG: rand.New(rand.NewPCG(seed, 99))})
	stop()
	wg.Wait()
	if err := errors.Join(db.Close(), st.Close()); err != nil {
		t.Fatal(err)
	}
	inspect(t, crashed, opts, promised)
}

// write makes some write and tells if it was acknowledged.
func write(ctx context.Context, t *testing.T, db *database.Database, rnd *rand.Rand, w, i int, ack func(ackedWrite)) {
	h := db.Admin(0)
	id := fmt.Sprintf("d%d", rnd.IntN(5))
	att := fmt.Sprintf("content %d %06d", w, i)[:rnd.IntN(10)+3] // some in the store, some in files
	body := fmt.Sprintf(`{"channels":"c%d","w":%d,"i":%d,"grant":[["u%d","c"]]}`, rnd.IntN(3), w, i, rnd.IntN(2))
	newWrite := func(i int) *database.Write {
		write := foreign(id, []byte(body), w, i)
		write.Attachments = map[string]database.AttachmentInput{"f": {Data: []byte(att), Length: -1}}
		return write
	}
	switch rnd.IntN(4) {
	case 0:
		ws := []*database.Write{newWrite(2 * i), newWrite(2*i + 1)}
		for _, res := range h.PutAll(ctx, ws) {
			if res.Err == nil {
				ack(ackedWrite{id, res.Rev, body, att})
			} else if ctx.Err() == nil {
				t.Errorf("batch: %v", res.Err)
			}
		}
	default:
		res, err := h.Put(ctx, newWrite(2*i))
		if err == nil {
			ack(ackedWrite{id, res.Rev, body, att})
		} else if ctx.Err() == nil {
			t.Errorf("put: %v", err)
		}
	}
}

// inspect opens what a crash left.
func inspect(t *testing.T, fs vfs.FS, opts database.Options, promised []ackedWrite) {
	t.Helper()
	st, err := pebblestore.Open("db", pebblestore.Options{FS: fs, MinFreeBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	e := openOn(t, st, fs, opts)
	e.check()
	for _, a := range promised {
		doc, err := e.admin.Get(t.Context(), a.id, database.GetOptions{Rev: a.rev})
		if err != nil {
			t.Errorf("%s %s: %v", a.id, a.rev, err)
			continue
		}
		if string(doc.Body) != a.body {
			t.Errorf("%s %s: %s, want %s", a.id, a.rev, doc.Body, a.body)
		}
		if got := e.content(e.admin, a.id, a.rev, "f"); got != a.att {
			t.Errorf("%s %s: attachment %q, want %q", a.id, a.rev, got, a.att)
		}
	}
	// It goes on: no sequence is given twice.
	if _, err := e.admin.Put(t.Context(), &database.Write{ID: "after", NewEdits: true}); err != nil {
		t.Fatal(err)
	}
	e.check()
}
