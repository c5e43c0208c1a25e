package clustersync

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// comparing compares, round after round, what changed.
func (v *Verifier) comparing(ctx context.Context) error {
	for {
		if err := pauseFor(ctx, v.cfg.Pause); err != nil {
			return err
		}
		if err := v.compareRound(ctx, false); err != nil {
			return err
		}
		if v.dirty.hasRoom() {
			err := v.retry(ctx, func() error { _, err := v.dirty.load(ctx); return err })
			if err != nil {
				return err
			}
		}
	}
}

// compareRound compares every document that is due, or every one that is in memory.
func (v *Verifier) compareRound(ctx context.Context, all bool) error {
	select {
	case v.rounds <- struct{}{}:
		defer func() { <-v.rounds }()
	case <-ctx.Done():
		return ctx.Err()
	}
	began := time.Now()
	v.mu.Lock()
	v.round = began
	pairs := v.pairs
	v.mu.Unlock()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(v.cfg.Workers)
	for key, docs := range v.dirty.take(began, all) {
		pair, ok := pairs[key]
		if !ok {
			v.dirty.forget(key) // gone since; should it come back it is hashed anew
			continue
		}
		for len(docs) > 0 {
			n := min(keysAtATime, len(docs))
			batch := docs[:n]
			docs = docs[n:]
			g.Go(func() error { return v.compareBatch(ctx, pair, batch) })
		}
	}
	return g.Wait()
}

func (v *Verifier) compareBatch(ctx context.Context, p Pair, docs []taken) error {
	keys := make([]Key, len(docs))
	for i, d := range docs {
		keys[i] = d.key
	}
	var found []Difference
	err := v.retry(ctx, func() (err error) { found, err = v.both.compareKeys(ctx, p, keys); return err })
	if errors.Is(err, ErrGone) {
		what := Difference{Source: p.Source.String(), Destination: p.Destination.String(), What: ExtraCollection, Detail: err.Error()}
		for _, d := range docs {
			v.dirty.differs(d, what, time.Now(), v.cfg.Pause)
		}
		return nil
	}
	if err != nil {
		return err
	}
	for i, d := range docs {
		if found[i].What == "" {
			v.dirty.equal(d)
		} else {
			v.dirty.differs(d, found[i], time.Now(), v.cfg.Pause)
		}
	}
	return nil
}

func (v *Verifier) final(ctx context.Context) error {
	if _, err := v.refresh(ctx); err != nil {
		return err
	}
	if v.neverFollows() {
		v.change(v.rehashAll)
	}
	for round := range finalRounds {
		if round > 0 {
			if err := pauseFor(ctx, v.cfg.Pause); err != nil {
				return err
			}
		}
		if err := v.settle(ctx); err != nil {
			return err
		}
		if err := v.compareAll(ctx); err != nil {
			return err
		}
		if v.dirty.len() == 0 {
			break
		}
	}
	var different []Difference
	err := v.retry(ctx, func() (err error) { different, err = v.compareCatalogs(ctx); return err })
	if err != nil {
		return fmt.Errorf("compare the catalogs: %w", err)
	}
	documents, strangers, first := v.dirty.differences(maxDifferences)
	if documents == 0 && len(different) == 0 {
		return nil
	}
	total := documents + int64(len(different))
	different = append(different, first...)
	return v.mismatch(total, strangers, different[:min(len(different), maxDifferences)])
}

func (v *Verifier) neverFollows() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.followed.never
}

func (v *Verifier) mismatch(total, strangers int64, first []Difference) error {
	for _, d := range first {
		v.cfg.Log.Error("verifier mismatch", "source", d.Source, "destination", d.Destination, "id", d.ID, "what", string(d.What), "detail", d.Detail)
	}
	hint := v.both.strangersHint(strangers)
	if hint != "" {
		hint += "; then start clustersync again: the commit goes on"
	}
	return &MismatchError{Total: total, OnlyDestination: strangers, Differences: first, Remedy: hint}
}

// settle waits until everything is hashed and the destination's stream has come to what it is now.
func (v *Verifier) settle(ctx context.Context) error {
	err := v.until(ctx, func() bool { return v.started && !v.followed.opening })
	if err != nil {
		return err
	}
	if !v.neverFollows() {
		var mark Position
		err := v.retry(ctx, func() (err error) { mark, err = v.cfg.Destination.Mark(ctx); return err })
		if err != nil {
			return fmt.Errorf("mark the destination: %w", err)
		}
		if err := v.until(ctx, func() bool { return v.cfg.Destination.Reached(v.followed.at, mark) }); err != nil {
			return err
		}
	}
	return v.until(ctx, func() bool {
		for key := range v.pairs {
			if !v.hashed[key] && !v.gone[key] {
				return false
			}
		}
		return true
	})
}

// until waits for a condition on what mu guards, which is held while it is asked. It ends if Run does.
func (v *Verifier) until(ctx context.Context, holds func() bool) error {
	for {
		v.mu.Lock()
		ok, failed, moved := holds(), v.failed, v.moved
		v.mu.Unlock()
		switch {
		case ok:
			return nil
		case failed != nil:
			return fmt.Errorf("verify: %w", failed)
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// compareAll compares everything that is dirty, with what is in metadata. A set that is full of differences is left as it is.
func (v *Verifier) compareAll(ctx context.Context) error {
	for {
		if err := v.compareRound(ctx, true); err != nil {
			return err
		}
		if !v.dirty.hasRoom() {
			return nil
		}
		var some bool
		err := v.retry(ctx, func() (err error) { some, err = v.dirty.load(ctx); return err })
		if err != nil || !some {
			return err
		}
	}
}
