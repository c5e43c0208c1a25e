package clustersync

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"
)

// Once so little is left, or it is done so soon, the stream itself is followed.
const (
	spoolFew   = 10_000
	spoolQuick = 10 * time.Second
)

func isEnough(err error) bool { return errors.Is(err, errEnough) }

// drainSpool applies what was kept during the copy. What changes meanwhile is kept in turn, so that the source may forget it.
func (e *Engine) drainSpool(ctx context.Context) error {
	if !e.journal.Get().Spool.Used {
		return nil
	}
	err := e.spooling(ctx, func(ctx context.Context) error {
		for {
			if err := e.settleSpool(ctx); err != nil {
				return err
			}
			began, few := time.Now(), e.journal.Get().Spool.Records <= spoolFew
			if err := e.nextGeneration(ctx); err != nil {
				return err
			}
			if few || time.Since(began) < spoolQuick {
				return nil
			}
		}
	})
	if err != nil {
		return err
	}
	if err := e.settleSpool(ctx); err != nil {
		return err
	}
	return e.nextGeneration(ctx) // the last one: nobody writes any more
}

// nextGeneration ends the generation that is written and applies it.
func (e *Engine) nextGeneration(ctx context.Context) error {
	e.spoolMu.Lock()
	s := e.spool
	e.spoolMu.Unlock()
	if s == nil { // nobody writes
		s = e.newSpooler()
	}
	if err := s.turn(ctx); err != nil {
		return err
	}
	return e.settleSpool(ctx)
}

// settleSpool applies the generation before the one that is written, unless that was done, and removes its records.
func (e *Engine) settleSpool(ctx context.Context) error {
	st := e.journal.Get().Spool
	closed := st.Generation - 1
	if closed < 1 {
		return nil
	}
	if st.Replayed < closed {
		if err := e.replaySpool(ctx, closed); err != nil {
			return err
		}
		if err := e.update(ctx, func(r *Resume) { r.Spool.Replayed = closed }); err != nil {
			return err
		}
	}
	return e.eraseSpool(ctx, closed)
}

// replaySpool applies a generation. It may be done again.
func (e *Engine) replaySpool(ctx context.Context, generation int64) error {
	var ordered []*spoolRecord
	var documents int64
	err := e.spooled(ctx, generation, func(r *spoolRecord) error {
		if r.ordered() {
			ordered = append(ordered, r)
		} else {
			documents++
		}
		return nil
	})
	if err != nil {
		return err
	}
	e.cfg.Log.InfoContext(ctx, "Applying what was kept during the copy", "documents", documents, "others", len(ordered))
	slices.SortFunc(ordered, func(a, b *spoolRecord) int { return cmp.Compare(a.Number, b.Number) })
	ordered = slices.CompactFunc(ordered, func(a, b *spoolRecord) bool { return a.Number == b.Number }) // a scan that was repeated
	a := e.newApplier()
	return a.replay(ctx, func(read, write context.Context) error {
		t := a.water.begin()
		for _, r := range ordered {
			if r.Op == OpTouched || r.Number <= e.journal.Get().Spool.Applied {
				continue
			}
			if err := a.barrier(read, write, r.event()); err != nil {
				return err
			}
			if err := e.update(write, func(rec *Resume) { rec.Spool.Applied = r.Number }); err != nil {
				return err
			}
		}
		k := keptKeys{a: a, ticket: t}
		for _, r := range ordered {
			if r.Op == OpTouched {
				if err := k.apply(read, write, r); err != nil {
					return err
				}
			}
		}
		err := e.spooled(read, generation, func(r *spoolRecord) error {
			if r.ordered() {
				return nil
			}
			return k.apply(read, write, r)
		})
		t.seal(Position{})
		return err
	})
}

// keptKeys applies documents of a spool.
type keptKeys struct {
	a      *applier
	ticket *ticket
	listed map[Namespace]bool // the collections of a source without UUIDs; nil until they are needed
}

// apply has a document fetched. One of a collection that is known by name only, and that is no more, is passed over: a collection must not come into
// being for its sake.
func (k *keptKeys) apply(read, write context.Context, r *spoolRecord) error {
	if err := context.Cause(read); err != nil {
		return err
	}
	ev := r.event()
	if ev.Ref.UUID == "" && k.a.e.catalog.of(ev.Ref) == nil {
		if err := k.list(read); err != nil {
			return err
		}
		if !k.listed[ev.Ref.Namespace] {
			return nil
		}
	}
	return k.a.dispatchDocument(write, ev, k.ticket)
}

func (k *keptKeys) list(ctx context.Context) error {
	if k.listed != nil {
		return nil
	}
	return k.a.e.retries.do(ctx, "list the source", func() error {
		all, err := k.a.e.cfg.Source.List(ctx)
		if err != nil {
			return err
		}
		k.listed = map[Namespace]bool{}
		for _, c := range all {
			k.listed[c.Namespace] = c.Type == Plain
		}
		return nil
	})
}

// replay applies what feed dispatches, all of it.
func (a *applier) replay(ctx context.Context, feed func(read, write context.Context) error) error {
	write, cancel := outlive(ctx)
	defer cancel()
	read, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	return a.work(read, write, stop, func(read, write context.Context) error {
		if err := feed(read, write); err != nil {
			return err
		}
		return a.allDone(read)
	})
}

// allDone waits until everything that was dispatched is applied, what unique indexes had refused at first included.
func (a *applier) allDone(ctx context.Context) error {
	for {
		_, busy, moved := a.water.get()
		if !busy {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
