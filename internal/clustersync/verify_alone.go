package clustersync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// VerifyOptions of a verification by itself.
type VerifyOptions struct {
	Include func(Namespace) bool // of the source's names; nil: all
	// Map gives the destination's name for one of the source; nil: the same. What is not ok is left out.
	Map     func(Namespace) (to Namespace, ok bool)
	Compare Comparison

	Workers        int                 // 0: 2
	PartitionBytes int64               // 0: 64 MiB
	Rounds         int                 // how often a differing document is looked at before it is called different; 0: 5
	Pause          time.Duration       // between rounds; 0: 1 s
	MaxDifferences int                 // kept in the report; 0: 100
	MaxPending     int                 // differing documents of a collection looked at again; 0: 100,000. Beyond, the report says "at least"
	OnlyData       bool                // leave out options, indexes and collections of the destination alone
	Log            *slog.Logger        // nil: none
	Progress       func(done, all int) // called after each collection; nil: not
}

// Limits of a verification by itself.
const (
	defaultVerifyRounds = 5
	defaultMaxPending   = 100_000
)

// Verify compares two clusters by itself. Documents that differ are looked at again, a bounded number of times, before they are called
// different, so that it can be used while both sides change: it then says whether what it read came to be equal. The error is for what
// could not be read; differences are in the report.
func Verify(ctx context.Context, src, dst Cluster, opts VerifyOptions) (Report, error) {
	a := &alone{sides: sides{src, dst, opts.Compare}, opts: opts, began: time.Now()}
	a.opts.Workers = cmp.Or(opts.Workers, defaultVerifyWorkers)
	a.opts.PartitionBytes = cmp.Or(opts.PartitionBytes, defaultVerifyPartBytes)
	a.opts.Rounds = cmp.Or(opts.Rounds, defaultVerifyRounds)
	a.opts.Pause = cmp.Or(opts.Pause, defaultVerifyPause)
	a.opts.MaxDifferences = cmp.Or(opts.MaxDifferences, maxDifferences)
	a.opts.MaxPending = cmp.Or(opts.MaxPending, defaultMaxPending)
	if opts.Log == nil {
		a.opts.Log = slog.New(slog.DiscardHandler)
	}
	return a.verify(ctx)
}

// alone is one verification by itself.
type alone struct {
	sides
	opts  VerifyOptions
	began time.Time

	mu     sync.Mutex
	report Report
	counts hashCounts
}

func (a *alone) verify(ctx context.Context) (Report, error) {
	pairs, err := a.pairs(ctx)
	if err != nil {
		return Report{}, err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(a.opts.Workers)
	for _, p := range pairs {
		g.Go(func() error { return a.verifyPair(gctx, p, len(pairs)) })
	}
	if err := g.Wait(); err != nil {
		return Report{}, err
	}
	if err := a.verifyCatalogs(ctx); err != nil {
		return Report{}, err
	}
	r := a.report
	slices.SortFunc(r.Collections, func(x, y CollectionCheck) int { return strings.Compare(x.Source, y.Source) })
	slices.SortFunc(r.Differences, func(x, y Difference) int { return strings.Compare(x.String(), y.String()) })
	r.Equal = r.Total == 0
	r.Remedy = a.strangersHint(r.OnlyDestination)
	for i := range 2 {
		r.Documents += a.counts.documents[i].Load()
		r.Bytes += a.counts.bytes[i].Load()
	}
	r.Seconds = time.Since(a.began).Seconds()
	return r, nil
}

func (a *alone) pairs(ctx context.Context) ([]Pair, error) {
	listed, err := a.source.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the source: %w", err)
	}
	var out []Pair
	for _, c := range listed {
		if a.opts.Include != nil && !a.opts.Include(c.Namespace) {
			continue
		}
		if c.Unmappable != nil {
			return nil, fmt.Errorf("list the source: %w", c.Unmappable)
		}
		to, ok := c.Namespace, true
		if a.opts.Map != nil {
			to, ok = a.opts.Map(c.Namespace)
		}
		if ok {
			out = append(out, Pair{c, to})
		}
	}
	return out, nil
}

func (a *alone) verifyPair(ctx context.Context, p Pair, all int) error {
	check := CollectionCheck{Source: p.Source.String(), Destination: p.Destination.String(), NotCompared: notCompared(p)}
	var different []Difference
	if check.NotCompared == "" {
		pending, atLeast, err := a.hashPair(ctx, p, &check)
		if err != nil {
			return err
		}
		if different, err = a.settle(ctx, p, pending); err != nil {
			return err
		}
		a.mu.Lock()
		a.report.AtLeast = a.report.AtLeast || atLeast && len(different) > 0
		a.mu.Unlock()
	}
	check.Differences = int64(len(different))
	a.mu.Lock()
	a.report.Collections = append(a.report.Collections, check)
	done := len(a.report.Collections)
	a.mu.Unlock()
	a.add(different)
	if a.opts.Progress != nil {
		a.opts.Progress(done, all)
	}
	return nil
}

// add counts differences and keeps the first.
func (a *alone) add(different []Difference) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.report.Total += int64(len(different))
	for _, d := range different {
		if d.What == ExtraDocument {
			a.report.OnlyDestination++
		}
	}
	room := max(0, a.opts.MaxDifferences-len(a.report.Differences))
	a.report.Differences = append(a.report.Differences, different[:min(room, len(different))]...)
}

// hashPair hashes both sides of a pair and returns the documents that were not the same.
func (a *alone) hashPair(ctx context.Context, p Pair, check *CollectionCheck) (pending []Key, atLeast bool, err error) {
	parts, err := a.parts(ctx, p, a.opts.PartitionBytes)
	if errors.Is(err, ErrGone) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	for _, part := range parts {
		sum, err := a.difference(ctx, part, &a.counts, func(_ context.Context, docs []joined) error {
			for _, d := range docs {
				if len(pending) == a.opts.MaxPending {
					return errEnough
				}
				pending = append(pending, d.key)
			}
			return nil
		})
		check.SourceCount += sum[0].total()
		check.DestinationCount += sum[1].total()
		switch {
		case errors.Is(err, errEnough):
			return pending, true, nil
		case errors.Is(err, ErrGone):
			return nil, false, nil // from the source
		case err != nil:
			return nil, false, err
		}
	}
	return pending, false, nil
}

// settle looks again at documents that were not the same, until they are or the rounds are over.
func (a *alone) settle(ctx context.Context, p Pair, pending []Key) ([]Difference, error) {
	var different []Difference
	for round := 0; round < a.opts.Rounds && len(pending) > 0; round++ {
		if round > 0 {
			if err := pauseFor(ctx, a.opts.Pause); err != nil {
				return nil, err
			}
		}
		var still []Key
		different = different[:0]
		for batch := range slices.Chunk(pending, keysAtATime) {
			found, err := a.compareKeys(ctx, p, batch)
			if errors.Is(err, ErrGone) {
				return nil, nil // from the source
			}
			if err != nil {
				return nil, err
			}
			for i, d := range found {
				if d.What != "" {
					still, different = append(still, batch[i]), append(different, d)
				}
			}
		}
		pending = still
	}
	return different, nil
}

// verifyCatalogs compares what is listed, again and again while it differs, for DDL may be on its way.
func (a *alone) verifyCatalogs(ctx context.Context) error {
	var different []Difference
	for round := range a.opts.Rounds {
		if round > 0 {
			if err := pauseFor(ctx, a.opts.Pause); err != nil {
				return err
			}
		}
		pairs, err := a.pairs(ctx)
		if err != nil {
			return err
		}
		if different, err = a.catalogs(ctx, pairs, catalogRules{include: a.ours}); err != nil {
			return err
		}
		if a.opts.OnlyData {
			different = slices.DeleteFunc(different, func(d Difference) bool { return d.What != MissingCollection })
		}
		if len(different) == 0 {
			return nil
		}
	}
	a.add(different)
	return nil
}

// ours says which collections that only the destination has are differences: with a filter those that would have passed it. Where names
// are mapped nothing can be said of them.
func (a *alone) ours(ns Namespace) bool {
	return a.opts.Map == nil && (a.opts.Include == nil || a.opts.Include(ns))
}
