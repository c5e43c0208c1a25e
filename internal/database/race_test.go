package database

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/blob"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

// These tests put something between the preparation of a write and its commit.

func openInside(t *testing.T, opts Options) *Database {
	t.Helper()
	st, err := pebblestore.OpenMem()
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := blob.OpenFiles("blobs", blob.Options{FS: vfs.NewMem(), MinFreeBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	db, err := Open(t.Context(), st, blobs, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(db.Close(), st.Close()); err != nil {
			t.Error(err)
		}
	})
	return db
}

func commitNow(t *testing.T, db *Database, p *prepared) (moved bool) {
	t.Helper()
	err := db.st.Update(t.Context(), func(tx store.Tx) (err error) {
		moved, err = p.commit(tx, nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return moved
}

// A stub stands for what an old revision has, whose body goes before the commit: the write must not keep a
// reference to content that is gone.
func TestStubOfVanishedContent(t *testing.T) {
	now := time.Now()
	db := openInside(t, Options{Now: func() time.Time { return now }})
	h := db.Admin(0)
	history := func(n int) []tidegate.RevID {
		var revs []tidegate.RevID
		for ; n > 0; n-- {
			revs = append(revs, tidegate.RevID{Generation: uint64(n), Digest: fmt.Sprint("r", n)})
		}
		return revs
	}
	put := func(w *Write) {
		if _, err := h.Put(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	put(&Write{ID: "d", History: history(1), Attachments: map[string]AttachmentInput{"f": {Data: []byte("hello"), Length: -1}}})
	put(&Write{ID: "d", History: history(2)})
	a := content{}
	a.info.SHA1 = [20]byte{0xaa, 0xf4, 0xc6, 0x1d, 0xdc, 0xc5, 0xe8, 0xa2, 0xda, 0xbe, 0xde, 0x0f, 0x3b, 0x48, 0x2c, 0xd9, 0xae, 0xa9, 0x43, 0x4d}
	j := &job{h: h, w: &Write{ID: "d", History: history(3), Attachments: map[string]AttachmentInput{
		"f": {Stub: true, Digest: a.info.Digest(), Length: -1},
	}}}
	defer j.close()
	p, err := j.prepare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	if err := db.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !commitNow(t, db, p) {
		t.Error("the write went through")
	}
	if _, err := j.prepare(t.Context()); tidegate.ErrorCode(err) != tidegate.Invalid {
		t.Errorf("again: %v", err)
	}
	if report, err := db.Check(t.Context(), CheckOptions{}); err != nil || !report.OK() {
		t.Errorf("%v %+v", err, report)
	}
}

// A document that was given more time since its expiry was read does not expire.
func TestRenewedDocumentStays(t *testing.T) {
	now := time.Now()
	db := openInside(t, Options{Now: func() time.Time { return now }})
	h := db.Admin(0)
	first, err := h.Put(t.Context(), &Write{ID: "d", NewEdits: true, Exp: []byte("100")})
	if err != nil {
		t.Fatal(err)
	}
	doc, err := h.Get(t.Context(), "d", GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	due := dueRow{at: doc.Expiry, what: expireDoc, id: "d", key: h.coll.expiryKey(doc.Expiry, expireDoc, "d", tidegate.RevID{})}
	if _, err := h.Put(t.Context(), &Write{ID: "d", NewEdits: true, Parent: first.Rev, Exp: []byte("1000")}); err != nil {
		t.Fatal(err)
	}
	now = now.Add(200 * time.Second)
	if err := db.expireDoc(t.Context(), due); err != nil {
		t.Fatal(err)
	}
	doc, err = h.Get(t.Context(), "d", GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w := &Write{ID: "d", NewEdits: true, Deleted: true, Parent: doc.Rev}
	res, err := h.put(t.Context(), &job{h: h, w: w, expires: expiryCheck{due.at}})
	if err != nil || !res.Rev.IsZero() {
		t.Errorf("%+v %v", res, err)
	}
}

// A transaction's function may be run more than once: what it leaves is what one run leaves.
func TestCommitTwice(t *testing.T) {
	db := openInside(t, Options{})
	h := db.Admin(0)
	j := &job{h: h, w: &Write{ID: "d", NewEdits: true, Body: []byte(`{"channels":["a"]}`)}}
	defer j.close()
	p, err := j.prepare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	giveUp := errors.New("once more")
	err = db.st.Update(t.Context(), func(tx store.Tx) error {
		if _, err := tx.NextSequence(db.space); err != nil {
			return err
		}
		if _, err := p.commit(tx, nil); err != nil {
			return err
		}
		return giveUp
	})
	if !errors.Is(err, giveUp) {
		t.Fatal(err)
	}
	if commitNow(t, db, p) {
		t.Fatal("moved")
	}
	if p.result.Seq != 1 {
		t.Errorf("sequence %d", p.result.Seq)
	}
	if report, err := db.Check(t.Context(), CheckOptions{}); err != nil || !report.OK() || report.LastSequence != 1 {
		t.Errorf("%v %+v", err, report)
	}
}

// Writers of a document that keeps moving take turns, and give up when they are told to.
func TestTurns(t *testing.T) {
	db := openInside(t, Options{AllowConflicts: true})
	h := db.Admin(0)
	j := &job{h: h, w: &Write{ID: "d"}}
	if err := j.takeTurn(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	other := &job{h: h, w: &Write{ID: "d"}}
	if err := other.takeTurn(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := other.takeTurn(t.Context()); err != nil {
			t.Error(err)
		}
		other.close()
	})
	j.close()
	wg.Wait()
	if n := db.stats.Moved.Load(); n != 3 {
		t.Errorf("%d tries in vain", n)
	}
}
