package clustersync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Waits of the verifier.
const (
	verifyFirstBackoff = 100 * time.Millisecond
	verifyMaxBackoff   = 10 * time.Second
	followWait         = time.Second // of one Next on the destination's stream
)

// followed is how far the destination's own stream is read.
type followed struct {
	never   bool // the destination has no changes to follow
	opening bool // the stream is not open yet
	at      Position
	seen    time.Time // when the stream said something last
}

func (v *Verifier) run(ctx context.Context) error {
	v.change(func() { v.started, v.followed.opening, v.failed = true, true, nil })
	if err := v.retry(ctx, func() error { return v.dirty.erase(ctx) }); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	opened := make(chan struct{})
	g.Go(func() error { return v.followDestination(ctx, opened) })
	g.Go(func() error {
		// Nothing is hashed before the stream is open: what changes then would be missed.
		select {
		case <-opened:
			return v.hashing(ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	g.Go(func() error { return v.comparing(ctx) })
	return g.Wait()
}

// retry repeats what cannot reach a cluster.
func (v *Verifier) retry(ctx context.Context, do func() error) error {
	for backoff := verifyFirstBackoff; ; backoff = min(2*backoff, verifyMaxBackoff) {
		err := do()
		if err == nil || !errors.Is(err, ErrUnreachable) || ctx.Err() != nil {
			return err
		}
		v.cfg.Log.DebugContext(ctx, "verifier tries again", "error", err)
		if err := pauseFor(ctx, backoff); err != nil {
			return err
		}
	}
}

func pauseFor(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// refresh asks for the pairs. What belongs to pairs that are no more is forgotten: should they come back they are hashed anew.
func (v *Verifier) refresh(ctx context.Context) (map[string]Pair, error) {
	// One at a time: an older list must not take the place of a newer one.
	select {
	case v.lists <- struct{}{}:
		defer func() { <-v.lists }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var list []Pair
	err := v.retry(ctx, func() (err error) { list, err = v.cfg.Pairs(ctx); return err })
	if err != nil {
		return nil, fmt.Errorf("list what is to be verified: %w", err)
	}
	pairs := make(map[string]Pair, len(list))
	for _, p := range list {
		if notCompared(p) == "" {
			pairs[refKey(p.Source.Ref)] = p
		}
	}
	var gone []string
	v.change(func() {
		for key := range v.pairs {
			if _, ok := pairs[key]; !ok {
				gone = append(gone, key)
				v.rehash(key)
			}
		}
		v.pairs = pairs
	})
	for _, key := range gone {
		v.dirty.forget(key)
	}
	return pairs, nil
}

// hashing hashes every pair once, and those that turn up later.
func (v *Verifier) hashing(ctx context.Context) error {
	for {
		pairs, err := v.refresh(ctx)
		if err != nil {
			return err
		}
		if err := v.sweep(ctx, v.unhashed(pairs)); err != nil {
			return err
		}
		v.change(func() { v.swept = true })
		if err := pauseFor(ctx, v.cfg.Pause); err != nil {
			return err
		}
	}
}

// unhashed returns the pairs that are not hashed, the largest first.
func (v *Verifier) unhashed(pairs map[string]Pair) []Pair {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []Pair
	for key, p := range pairs {
		if !v.hashed[key] {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b Pair) int { return int(b.Source.Bytes - a.Source.Bytes) })
	return out
}

// sweep hashes pairs, part by part, so many at a time. A pair that is gone meanwhile is left to the next sweep, should it come back.
func (v *Verifier) sweep(ctx context.Context, pairs []Pair) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(v.cfg.Workers)
	for _, p := range pairs {
		var parts []verifyPart
		err := v.retry(ctx, func() (err error) { parts, err = v.both.parts(ctx, p, v.cfg.PartitionBytes); return err })
		if errors.Is(err, ErrGone) {
			v.change(func() { v.gone[refKey(p.Source.Ref)] = true })
			continue
		}
		if err != nil {
			return errors.Join(err, g.Wait())
		}
		v.sweepPair(ctx, g, p, parts)
	}
	return g.Wait()
}

func (v *Verifier) sweepPair(ctx context.Context, g *errgroup.Group, p Pair, parts []verifyPart) {
	key := refKey(p.Source.Ref)
	v.mu.Lock()
	asked := v.again[key]
	v.mu.Unlock()
	var left atomic.Int64
	left.Store(int64(len(parts)))
	for _, part := range parts {
		g.Go(func() error {
			err := v.retry(ctx, func() error { return v.hashPart(ctx, part) })
			if err == nil && left.Add(-1) == 0 {
				v.change(func() {
					v.hashed[key] = v.again[key] == asked
					delete(v.gone, key)
				})
			}
			if errors.Is(err, ErrGone) {
				v.change(func() { v.gone[key] = true })
				return nil // and what is left never comes to 0
			}
			return err
		})
	}
}

// rehash has a pair hashed anew. mu is held, by change.
func (v *Verifier) rehash(pair string) {
	delete(v.hashed, pair)
	delete(v.gone, pair)
	v.again[pair]++
}

func (v *Verifier) hashPart(ctx context.Context, p verifyPart) error {
	pair := refKey(p.pair.Source.Ref)
	_, err := v.both.difference(ctx, p, &v.counts, func(ctx context.Context, docs []joined) error {
		for _, d := range docs {
			if err := v.dirty.add(ctx, dirtyID{pair, d.id}, d.key); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}
