package clustersync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"
)

// While a large collection is copied the source may forget what has changed since. So the stream is read during the copy, too, if the history looks
// too short (spec §8.9): which documents were touched, each once, and changes of collections and indexes are kept in the metadata, and applied
// after the copy: first these, in their order, and then the documents as they are by then. That is the same as applying everything in its
// order: a document belongs to a collection by UUID, whatever its name, and what becomes of it is fetched.

// Times and bounds of a spool.
const (
	spoolLook    = 10 * time.Second // between two looks at the history, the first of which follow sooner
	spoolMargin  = 4                // the history should be as many times as long as the copy takes
	spoolSave    = time.Second
	spoolIdle    = 5 * time.Second // between two notes of a position at which nothing is kept
	spoolPending = 2_000           // records that are written at once
	spoolSeen    = 1 << 20         // documents that are remembered as kept; forgetting one only costs a write
)

// spooling does a part of the copy, and meanwhile keeps what changes, if that is needed.
func (e *Engine) spooling(ctx context.Context, do func(context.Context) error) error {
	g, gctx := errgroup.WithContext(ctx)
	done := make(chan struct{})
	g.Go(func() error {
		wanted, err := e.watchHistory(gctx, done)
		if err != nil || !wanted {
			return err
		}
		s := e.newSpooler()
		e.setSpool(s)
		defer e.setSpool(nil)
		return s.run(gctx, done)
	})
	g.Go(func() error {
		defer close(done)
		return do(gctx)
	})
	return g.Wait()
}

func (e *Engine) setSpool(s *spooler) {
	e.spoolMu.Lock()
	defer e.spoolMu.Unlock()
	e.spool = s
}

// watchHistory waits until a spool is needed; false: the copy was done before.
func (e *Engine) watchHistory(ctx context.Context, done <-chan struct{}) (needed bool, err error) {
	switch mode := e.cfg.Settings.Spool; {
	case e.journal.Get().Spool.Full:
		return false, nil
	case e.journal.Get().Spool.Used, mode == SpoolAlways:
		return true, nil
	case mode == SpoolNever:
		return false, nil
	}
	began := time.Now()
	before, _ := e.stats.copyCounts()
	for pause := time.Second; ; pause = min(2*pause, spoolLook) {
		oldest, newest, err := e.cfg.Source.Oplog(ctx)
		switch {
		case ctx.Err() != nil:
			return false, context.Cause(ctx)
		case err != nil:
			e.cfg.Log.DebugContext(ctx, "The history of the source could not be measured", "error", err)
		case !oldest.IsZero() && !newest.IsZero() && e.historyShort(oldest, newest, began, before.CopiedBytes):
			e.cfg.Log.InfoContext(ctx, "The history of the source may be too short for the copy: changes are kept in the records meanwhile", "historySeconds", int64(newest.Sub(oldest).Seconds()))
			return true, nil
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-done:
			t.Stop()
			return false, nil
		case <-ctx.Done():
			t.Stop()
			return false, context.Cause(ctx)
		}
	}
}

// historyShort compares the history with the time that the copy will have taken, and what is left of it with what is needed. began is when this
// process began to copy, with copied bytes there already.
func (e *Engine) historyShort(oldest, newest, began time.Time, copied int64) bool {
	window := newest.Sub(oldest)
	t0 := time.Unix(int64(e.journal.Get().T0.Time.T), 0)
	if t0.Sub(oldest) < window/2 && newest.Sub(t0) > window/spoolMargin {
		return true
	}
	counts, _ := e.stats.copyCounts()
	done, took := counts.CopiedBytes-copied, time.Since(began)
	if done <= 0 || took < time.Second {
		return false // there is nothing to estimate by
	}
	left := time.Duration(float64(took) * float64(counts.TotalBytes-counts.CopiedBytes) / float64(done))
	return window < spoolMargin*(newest.Sub(t0)+left)
}

// spooler reads the stream and keeps what it tells.
type spooler struct {
	e    *Engine
	most int64

	mu      held  // also over writes
	next    int64 // number of the next record
	pending []any
	seen    map[xxh3.Uint128]struct{} // documents kept in this generation
	at      Position                  // read up to here
	saved   time.Time
	records int64
	capped  []string // as in SpoolState
}

func (e *Engine) newSpooler() *spooler {
	return &spooler{e: e, mu: newHeld(), most: e.limits().SpoolRecords, seen: map[xxh3.Uint128]struct{}{}, saved: time.Now()}
}

// begin notes that there is a spool. Each process numbers its records after those of the ones before.
func (s *spooler) begin(ctx context.Context) error {
	if err := s.mu.lock(ctx); err != nil {
		return err
	}
	defer s.mu.unlock()
	err := s.e.update(ctx, func(r *Resume) {
		if !r.Spool.Used {
			r.Spool = SpoolState{Used: true, At: r.T0, Generation: 1}
		}
		r.Spool.Runs++
	})
	st := s.e.journal.Get().Spool
	const perRun = 1 << 40
	s.next, s.at, s.records, s.capped = st.Runs*perRun, st.At, st.Records, slices.Clone(st.Capped)
	return err
}

// run keeps changes until done is closed, or the spool is full.
func (s *spooler) run(ctx context.Context, done <-chan struct{}) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	for {
		var stream Stream
		err := s.e.retries.always(ctx, "open the changes of the source", func() error {
			from, err := s.position(ctx)
			if err != nil {
				return err
			}
			if from, err = s.e.amended(ctx, from); err != nil {
				return err
			}
			stream, err = s.e.cfg.Source.Changes(ctx, from)
			return err
		})
		if err != nil {
			return err
		}
		err = s.follow(ctx, stream, done)
		_ = stream.Close(context.WithoutCancel(ctx)) // it is only read
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if _, ok := errors.AsType[*streamError](err); !ok || !errors.Is(err, ErrUnreachable) {
			return err
		}
		s.e.stats.retries.Add(1)
		if pauseFor(ctx, retryFirst) != nil {
			return context.Cause(ctx)
		}
	}
}

func (s *spooler) position(ctx context.Context) (Position, error) {
	if err := s.mu.lock(ctx); err != nil {
		return Position{}, err
	}
	defer s.mu.unlock()
	return s.at, nil
}

// follow reads one stream.
func (s *spooler) follow(ctx context.Context, stream Stream, done <-chan struct{}) error {
	for {
		select {
		case <-done:
			if err := s.mu.lock(ctx); err != nil {
				return err
			}
			defer s.mu.unlock()
			return s.save(ctx)
		default:
		}
		events, at, err := stream.Next(ctx, nextWait)
		if err != nil {
			return &streamError{err}
		}
		s.e.stats.read.Add(int64(len(events)))
		full, err := s.take(ctx, events, at)
		if err != nil || full {
			return err
		}
	}
}

// take keeps a batch of events.
func (s *spooler) take(ctx context.Context, events []Event, at Position) (full bool, err error) {
	if err := s.mu.lock(ctx); err != nil {
		return false, err
	}
	defer s.mu.unlock()
	for _, ev := range events {
		s.e.stats.readBytes.Add(int64(ev.Bytes))
		if err := s.keep(ev); err != nil {
			return false, err
		}
	}
	s.at = at
	due := time.Since(s.saved)
	if len(s.pending) >= spoolPending || len(s.pending) > 0 && due >= spoolSave || due >= spoolIdle {
		err = s.save(ctx)
	}
	if err != nil || s.records < s.most {
		return false, err
	}
	if err := s.save(ctx); err != nil {
		return false, err
	}
	s.e.warn(ctx, fmt.Sprintf("more than %d changes were kept during the copy; from here on they must stay in the history of the source until the copy is done", s.most))
	return true, s.e.update(ctx, func(r *Resume) { r.Spool.Full = true })
}

// keep makes a record of an event, if it is the sync's affair and is not kept already. mu is held.
func (s *spooler) keep(ev Event) error {
	if !s.ours(ev) {
		return nil
	}
	m := s.e.catalog.of(ev.Ref)
	capped := m != nil && m.Capped || slices.Contains(s.capped, refKey(ev.Ref)) // the order counts
	if ev.Op == OpCreate && !capped && (ev.Collection.Capped || specFlag(ev.Collection.Options, "capped")) {
		s.capped = append(s.capped, refKey(ev.Ref))
	}
	if !ev.DDL() && !capped {
		sum := xxh3.HashString128(refKey(ev.Ref) + "\x00" + ev.Doc.Key.ID)
		if _, known := s.seen[sum]; known {
			return nil
		}
		if len(s.seen) >= spoolSeen {
			clear(s.seen)
		}
		s.seen[sum] = struct{}{}
	}
	r, err := newSpoolRecord(ev, s.next, capped)
	if err != nil {
		return fmt.Errorf("keep a change of %s: %w", ev.Ref.Namespace, err)
	}
	s.next++
	s.records++
	s.pending = append(s.pending, r)
	return nil
}

// ours reports whether an event may be one of the sync. What is not is ignored when it is applied.
func (s *spooler) ours(ev Event) bool {
	f := s.e.cfg.Plan.Filter
	return s.e.catalog.of(ev.Ref) != nil || f.Includes(ev.Ref.Namespace) || ev.Op == OpDropDatabase || ev.Dropped != "" ||
		ev.Op == OpRename && f.Includes(ev.To) || ev.Op == OpUnsupported
}

// save writes what is pending, and then the position. mu is held.
func (s *spooler) save(ctx context.Context) error {
	st := s.e.journal.Get().Spool
	for len(s.pending) > 0 {
		part := s.pending[:min(len(s.pending), maxRecords)]
		err := s.e.retries.do(ctx, "keep changes", func() error {
			return s.e.journal.meta.Put(ctx, s.e.journal.fence(), spoolOf(st.Generation), part...)
		})
		if err != nil {
			return err
		}
		s.pending = s.pending[len(part):]
	}
	s.pending, s.saved = nil, time.Now()
	return s.e.update(ctx, func(r *Resume) { r.Spool.At, r.Spool.Records, r.Spool.Capped = s.at, s.records, slices.Clone(s.capped) })
}

// turn ends a generation: what comes after is of the next one.
func (s *spooler) turn(ctx context.Context) error {
	if err := s.mu.lock(ctx); err != nil {
		return err
	}
	defer s.mu.unlock()
	if !s.at.Zero() { // otherwise nothing was read
		if err := s.save(ctx); err != nil {
			return err
		}
	}
	err := s.e.update(ctx, func(r *Resume) { r.Spool.Generation, r.Spool.Records = r.Spool.Generation+1, 0 })
	if err == nil {
		clear(s.seen)
		s.records = 0
	}
	return err
}
