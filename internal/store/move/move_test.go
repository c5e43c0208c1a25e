package move_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/archive"
	"github.com/tidegate/tidegate/internal/store/blob"
	"github.com/tidegate/tidegate/internal/store/move"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

// world is a store that is served from, with a source over it.
type world struct {
	rec    *move.Recorder
	blobs  blob.Store
	source *move.Source
}

func openMem(t *testing.T) *pebblestore.Store {
	t.Helper()
	st, err := pebblestore.OpenMem()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return st
}

func newWorld(t *testing.T) *world {
	t.Helper()
	blobs, err := blob.OpenFiles(t.TempDir(), blob.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rec := move.NewRecorder(openMem(t))
	// Every gateway has something of its own in space 0.
	if err := rec.Update(t.Context(), func(tx store.Tx) error { return tx.Put(store.NewKey(0, store.KindMeta).Name("node"), []byte("1")) }); err != nil {
		t.Fatal(err)
	}
	return &world{rec, blobs, move.NewSource(rec, blobs, func() archive.Header { return archive.Header{} }, slog.New(slog.DiscardHandler))}
}

// remote drives a source in this process. before, if not nil, is called before each step.
type remote struct {
	s      *move.Source
	id     string
	before func(step string) error
}

func (r *remote) step(name string) error {
	if r.before != nil {
		return r.before(name)
	}
	return nil
}

func (r *remote) stream(ctx context.Context, name string, write func(context.Context, string, io.Writer) error) (io.ReadCloser, error) {
	if err := r.step(name); err != nil {
		return nil, err
	}
	in, out := io.Pipe()
	go func() { out.CloseWithError(write(ctx, r.id, out)) }()
	return in, nil
}

func (r *remote) Snapshot(ctx context.Context) (io.ReadCloser, error) {
	return r.stream(ctx, "snapshot", r.s.Snapshot)
}

func (r *remote) Changes(ctx context.Context) (io.ReadCloser, error) {
	return r.stream(ctx, "changes", r.s.Changes)
}

func (r *remote) Stop(_ context.Context, most time.Duration) error {
	return errors.Join(r.step("stop"), r.s.Stop(r.id, most))
}

func (r *remote) Digest(ctx context.Context) (string, error) {
	if err := r.step("digest"); err != nil {
		return "", err
	}
	return r.s.Digest(ctx, r.id)
}

func (r *remote) Finish(ctx context.Context, to string) error {
	if err := r.step("finish"); err != nil {
		return err
	}
	return r.s.Finish(ctx, r.id, to)
}

// writer changes a store at random, in spaces 1 to 3: rows, deletions, whole ranges, attachments and sequences.
type writer struct {
	w   *world
	rnd *rand.Rand
	n   int
}

func (w *writer) step(ctx context.Context) error {
	w.n++
	space := store.Space(1 + w.rnd.IntN(3))
	key := func() store.Key {
		return store.NewKey(space, store.KindDoc).Collection(0).Name(fmt.Sprint(w.rnd.IntN(100)))
	}
	if w.rnd.IntN(20) == 0 {
		return w.attachment(ctx, space)
	}
	return w.w.rec.Update(ctx, func(tx store.Tx) error {
		if w.rnd.IntN(100) == 0 {
			return tx.(store.RangeDeleter).DeleteRange(store.Prefix(store.NewKey(space, store.KindDoc)))
		}
		for range 1 + w.rnd.IntN(5) {
			if w.rnd.IntN(4) == 0 {
				if err := tx.Delete(key()); err != nil {
					return err
				}
			} else if err := tx.Put(key(), fmt.Append(nil, w.n, strings.Repeat("x", w.rnd.IntN(300)))); err != nil {
				return err
			}
		}
		_, err := tx.NextSequence(space)
		if w.rnd.IntN(50) == 0 {
			return errors.New("refused")
		}
		return err
	})
}

func (w *writer) attachment(ctx context.Context, space store.Space) error {
	info, release, err := w.w.blobs.Put(ctx, space, strings.NewReader(fmt.Sprint("attachment ", w.rnd.IntN(50))), 1000)
	if err != nil {
		return err
	}
	defer release()
	ref := append(store.NewKey(space, store.KindBlobRef), info.Key[:]...)
	return w.w.rec.Update(ctx, func(tx store.Tx) error { return tx.Put(store.Key(ref).Collection(0).Name("doc"), []byte{1}) })
}

// sameStores compares rows and sequences of two stores, and that attachments that are referred to are there.
func sameStores(t *testing.T, w *world, st store.Store, blobs blob.Store) {
	t.Helper()
	want, err1 := archive.Digest(t.Context(), w.rec)
	got, err2 := archive.Digest(t.Context(), st)
	if err := errors.Join(err1, err2); err != nil || got != want {
		t.Errorf("the stores differ: digests %s, %s, %v", want, got, err)
	}
	if sum, err := archive.Write(t.Context(), io.Discard, archive.Header{}, st, blobs, nil); err != nil || sum.Missing > 0 || sum.Blobs == 0 {
		t.Errorf("the new store: %+v, %v", sum, err)
	}
}

// TestMoveUnderWriters: with writers at work all the time, the new store holds what the old one does, and the old one takes nothing more.
func TestMoveUnderWriters(t *testing.T) {
	for seed := range uint64(3) {
		w := newWorld(t)
		first := &writer{w: w, rnd: rand.New(rand.NewPCG(seed, 1))}
		for range 800 {
			_ = first.step(t.Context())
		}
		var (
			working sync.WaitGroup
			acked   atomic.Int64
			refused = make(chan struct{})
		)
		writing, stopWriters := context.WithCancel(t.Context())
		defer stopWriters()
		for i := range uint64(4) {
			one := &writer{w: w, rnd: rand.New(rand.NewPCG(seed, 2+i))}
			working.Go(func() {
				for {
					switch err := one.step(writing); {
					case errors.Is(err, move.ErrStopped), writing.Err() != nil:
						<-refused
						return
					case err == nil:
						acked.Add(1)
					}
				}
			})
		}
		target := openMem(t)
		blobs := blob.NewInStore(target, nil)
		id, _, err := w.source.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// Some writes come between the snapshot and each round, however quick they are.
		from := &remote{s: w.source, id: id, before: func(step string) error {
			for at := acked.Load(); step == "changes" && acked.Load() < at+20 && acked.Load() < 200; {
				time.After(0)
			}
			return nil
		}}
		res, err := move.Run(t.Context(), from, target, blobs, move.Options{To: "there", StopAtMost: time.Minute})
		if err != nil {
			t.Errorf("seed %d: %v", seed, err)
			stopWriters()
		}
		close(refused)
		working.Wait()
		if res.Changed.Rows == 0 || res.Rounds < 2 || !res.Whole || res.Stopped <= 0 {
			t.Errorf("seed %d: %+v", seed, res)
		}
		sameStores(t, w, target, blobs)
		if m, err := archive.MovedTo(t.Context(), w.rec); err != nil || m == nil || m.To != "there" {
			t.Errorf("the old store says %+v, %v", m, err)
		}
		if err := archive.Unfinished(t.Context(), target); err != nil {
			t.Error(err)
		}
		select {
		case <-w.source.Moved():
		default:
			t.Error("the source does not know that it was moved")
		}
		if err := first.step(t.Context()); !errors.Is(err, move.ErrStopped) {
			t.Errorf("a write after the move: %v", err)
		}
	}
}

var errFault = errors.New("the network is gone")

// TestMoveFails: wherever a move fails, the old store takes writes and is served from again, and the new one is not taken for whole.
func TestMoveFails(t *testing.T) {
	for _, at := range []string{"snapshot", "changes", "changes again", "stop", "digest", "finish"} {
		w := newWorld(t)
		one := &writer{w: w, rnd: rand.New(rand.NewPCG(1, 1))}
		for range 500 {
			_ = one.step(t.Context())
		}
		ctx, cancel := context.WithCancel(t.Context())
		id, over, err := w.source.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		rounds := 0
		from := &remote{s: w.source, id: id, before: func(step string) error {
			if step == "changes" {
				if rounds++; rounds == 2 {
					step = "changes again"
				}
			}
			if step == at {
				return errFault
			}
			return nil
		}}
		target := openMem(t)
		_, err = move.Run(ctx, from, target, blob.NewInStore(target, nil), move.Options{To: "there", StopAtMost: time.Minute})
		if !errors.Is(err, errFault) {
			t.Errorf("%s fails: %v", at, err)
		}
		cancel() // the mover is gone
		<-over
		for err = move.ErrStopped; errors.Is(err, move.ErrStopped); {
			err = w.rec.Update(t.Context(), func(tx store.Tx) error { return tx.Put(store.NewKey(1, store.KindDoc).Name("after"), []byte("1")) })
		}
		if err != nil {
			t.Errorf("%s fails: a write afterwards: %v", at, err)
		}
		if m, err := archive.MovedTo(t.Context(), w.rec); m != nil || err != nil {
			t.Errorf("%s fails: the old store says %+v, %v", at, m, err)
		}
		want := archive.ErrUnfinished
		if at == "finish" {
			want = archive.ErrUnconfirmed
		}
		if err := archive.Unfinished(t.Context(), target); !errors.Is(err, want) && at != "snapshot" {
			t.Errorf("%s fails: the new store: %v", at, err)
		}
		for again := tidegate.Conflict; again == tidegate.Conflict; { // until the old move is cleared away
			_, _, err := w.source.Begin(t.Context())
			again = tidegate.ErrorCode(err)
		}
	}
}

// TestRecordIsBounded: a move during which more is changed than may be kept account of fails, says why, and the next one works.
func TestRecordIsBounded(t *testing.T) {
	w := newWorld(t)
	w.rec.MaxBytes = 10_000
	run := func(docs int) error {
		ctx, cancel := context.WithCancel(t.Context())
		id, over, err := w.source.Begin(ctx)
		for tidegate.ErrorCode(err) == tidegate.Conflict { // until the move before is cleared away
			id, over, err = w.source.Begin(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
		from := &remote{s: w.source, id: id, before: func(step string) error {
			if step != "changes" {
				return nil
			}
			many := docs > 20
			for ; docs > 0; docs-- {
				err = errors.Join(err, w.rec.Update(ctx, func(tx store.Tx) error {
					return tx.Put(store.NewKey(1, store.KindDoc).Name(fmt.Sprint(docs)), []byte("1"))
				}))
			}
			if many {
				err = errors.Join(err, w.source.Changes(ctx, id, io.Discard))
			}
			return err
		}}
		target := openMem(t)
		_, err = move.Run(ctx, from, target, blob.NewInStore(target, nil), move.Options{To: "there", StopAtMost: time.Minute})
		cancel() // the mover is gone, if the gateway does not end since all is done
		<-over
		return err
	}
	if err := run(1000); err == nil || !strings.Contains(err.Error(), "more was changed") {
		t.Errorf("a move with too many changes: %v", err)
	}
	if err := run(20); err != nil {
		t.Errorf("a move with few changes: %v", err)
	}
}

// TestMoveConfirmed: a move whose last answer was lost is whole, and is taken for whole when that was confirmed.
func TestMoveConfirmed(t *testing.T) {
	w := newWorld(t)
	id, _, err := w.source.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	target := openMem(t)
	lost := &lostAnswer{remote{s: w.source, id: id}}
	if _, err := move.Run(t.Context(), lost, target, blob.NewInStore(target, nil), move.Options{To: "there", StopAtMost: time.Minute}); !errors.Is(err, errFault) {
		t.Fatal(err)
	}
	if m, err := archive.MovedTo(t.Context(), w.rec); err != nil || m == nil {
		t.Errorf("the old store says %+v, %v", m, err)
	}
	if err := archive.Unfinished(t.Context(), target); !errors.Is(err, archive.ErrUnconfirmed) {
		t.Error(err)
	}
	if err := errors.Join(archive.Confirm(t.Context(), target), archive.Unfinished(t.Context(), target)); err != nil {
		t.Error(err)
	}
	if err := archive.Confirm(t.Context(), target); tidegate.ErrorCode(err) != tidegate.Conflict {
		t.Errorf("a second time: %v", err)
	}
}

type lostAnswer struct{ remote }

func (l *lostAnswer) Finish(ctx context.Context, to string) error {
	return errors.Join(errFault, l.remote.Finish(ctx, to))
}

// TestStopIsBounded: writes are taken again after the time that was allowed, and the move is over.
func TestStopIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := move.NewRecorder(fake{})
		source := move.NewSource(rec, nil, nil, slog.New(slog.DiscardHandler))
		id, over, err := source.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := source.Stop(id, move.MaxStop+1); tidegate.ErrorCode(err) != tidegate.Invalid {
			t.Errorf("too long: %v", err)
		}
		if err := source.Finish(t.Context(), id, "there"); tidegate.ErrorCode(err) != tidegate.Conflict {
			t.Errorf("too early: %v", err)
		}
		if err := source.Stop(id, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := rec.Update(t.Context(), nil); !errors.Is(err, move.ErrStopped) {
			t.Errorf("a write: %v", err)
		}
		<-over
		synctest.Wait()
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("over after %v", took)
		}
		if err := rec.Update(t.Context(), nil); err != nil {
			t.Errorf("a write afterwards: %v", err)
		}
		if err := source.Finish(t.Context(), id, "there"); tidegate.ErrorCode(err) != tidegate.Gone {
			t.Errorf("too late: %v", err)
		}
	})
}

// fake is a store that takes every write.
type fake struct{ store.Store }

func (fake) Update(context.Context, func(store.Tx) error) error { return nil }
