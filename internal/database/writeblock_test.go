package database_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
)

func (e *env) block(b database.WriteBlock) {
	e.t.Helper()
	if err := e.db.SetWriteBlock(e.t.Context(), b); err != nil {
		e.t.Fatal(err)
	}
}

// TestWriteBlockIsExact: while writers write, each in its own way, the block is set; when that returns, no sequence is taken any more, and
// nothing that was refused is there. What bypasses it is.
func TestWriteBlockIsExact(t *testing.T) {
	e := open(t, database.Options{})
	var wg sync.WaitGroup
	var refused atomic.Int64
	for w := range 4 {
		wg.Go(func() {
			for i := range 100_000 {
				raw := fmt.Sprintf(`{"_id":"w%d-%d"}`, w, i)
				var err error
				if w%2 == 0 {
					_, err = e.admin.Put(t.Context(), e.write(raw, true))
				} else {
					err = e.admin.PutAll(t.Context(), []*database.Write{e.write(raw, true)})[0].Err
				}
				if errors.Is(err, database.ErrWritesBlocked) {
					refused.Add(1)
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for start, err := tidegate.Seq(0), error(nil); start < 40; {
		if start, err = e.db.LastSequence(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	e.block(database.WriteBlock{Blocked: true})
	last, err := e.db.LastSequence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if now, err := e.db.LastSequence(t.Context()); err != nil || now != last {
		t.Errorf("sequence %d when the block was set, %d when the writers gave up (%v)", last, now, err)
	}
	if n := refused.Load(); n != 4 {
		t.Errorf("%d of 4 writers were refused", n)
	}
	if _, err := e.admin.Purge(t.Context(), []string{"w0-0"}); !errors.Is(err, database.ErrWritesBlocked) {
		t.Errorf("a purge: %v", err)
	}
	through := e.admin.BypassWriteBlock()
	if _, err := through.Put(t.Context(), e.write(`{"_id":"through"}`, true)); err != nil {
		t.Error(err)
	}
	if purged, err := through.Purge(t.Context(), []string{"w0-0"}); err != nil || len(purged) != 1 {
		t.Errorf("a purge that bypasses it: %v %v", purged, err)
	}
	e.check()
}

// TestWriteBlockStays: it is kept with the data.
func TestWriteBlockStays(t *testing.T) {
	e := open(t, database.Options{})
	e.put(`{"_id":"a"}`)
	want := database.WriteBlock{Blocked: true, BypassRole: "movers"}
	e.block(want)
	again := openOn(t, e.st, vfs.NewMem(), database.Options{})
	if got, err := again.db.WriteBlock(t.Context()); err != nil || got != want {
		t.Errorf("after opening again: %+v, %v", got, err)
	}
	if _, err := again.admin.Put(t.Context(), again.write(`{"_id":"b"}`, true)); !errors.Is(err, database.ErrWritesBlocked) {
		t.Errorf("a write: %v", err)
	}
	// The first one learns of what the other one, as another node, does.
	again.block(database.WriteBlock{})
	e.put(`{"_id":"c"}`)
	again.block(want)
	if _, err := e.admin.Put(t.Context(), e.write(`{"_id":"d"}`, true)); !errors.Is(err, database.ErrWritesBlocked) {
		t.Errorf("a write on the other node: %v", err)
	}
	if err := e.user("bob", "a").MayWrite(t.Context()); !errors.Is(err, database.ErrWritesBlocked) {
		t.Errorf("bob: %v", err)
	}
}

// TestWriteBlockHoldsExpiryBack: a document whose time comes stays until writes are let through.
func TestWriteBlockHoldsExpiryBack(t *testing.T) {
	e := open(t, database.Options{})
	e.put(`{"_id":"due","_exp":100}`)
	e.block(database.WriteBlock{Blocked: true})
	e.clock.add(200 * time.Second)
	e.sweep()
	e.get(e.admin, "due", tidegate.RevID{})
	e.block(database.WriteBlock{})
	e.sweep()
	if _, err := e.admin.Get(t.Context(), "due", database.GetOptions{}); reason(err) != "deleted" {
		t.Errorf("after the block: %v", err)
	}
	e.check()
}
