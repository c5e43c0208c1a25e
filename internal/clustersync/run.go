package clustersync

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"
)

// run carries on from the journal.
func (e *Engine) run(ctx context.Context) error {
	rec := e.journal.Get()
	if rec.CommitStep == CommitFinished {
		return nil
	}
	if err := e.catalog.load(ctx); err != nil {
		return err
	}
	if err := errors.Join(e.restoreCounts(ctx), e.rememberHot(ctx), e.loadHot(ctx)); err != nil {
		return err
	}
	if err := errors.Join(e.settleMoves(ctx), e.settleDrops(ctx)); err != nil {
		return err
	}
	if rec.CommitStep == CommitCanWrite {
		return e.finishCommit(ctx)
	}
	if err := e.reassertBlocks(ctx); err != nil {
		return err
	}
	if err := e.answerDeletes(ctx); err != nil {
		return err
	}
	if err := e.initialSync(ctx); err != nil {
		return err
	}
	return e.follow(ctx)
}

// follow applies changes until the sync is committed.
func (e *Engine) follow(ctx context.Context) error {
	aside, end := context.WithCancelCause(ctx)
	defer end(nil)
	g, gctx := errgroup.WithContext(aside)
	if e.verifier != nil {
		g.Go(func() error { return beside("verify", e.verifier.Run(gctx)) })
	}
	g.Go(func() error { return beside("build indexes", e.buildIndexes(gctx)) })
	g.Go(func() error {
		err := e.applyAndCommit(gctx)
		if err == nil {
			end(errCommitted)
		}
		return err
	})
	err := g.Wait()
	if errors.Is(context.Cause(aside), errCommitted) {
		return nil // what ended because of that says nothing
	}
	return err
}

// errCommitted ends what runs beside change event application.
var errCommitted = errors.New("the sync is committed")

func beside(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

func ignoreNotFound(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// newVerifier makes the verifier of the two sides as the catalog maps them.
func (e *Engine) newVerifier() *Verifier {
	cfg := VerifierConfig{
		Source: e.cfg.Source, Destination: e.cfg.Destination, Compare: e.cfg.Compare, Log: e.cfg.Log,
		Metadata: e.journal.meta, Fence: e.journal.fence, PartitionBytes: e.cfg.Settings.Limits.PartBytes,
		Pairs:   func(context.Context) ([]Pair, error) { return e.pairs(), nil },
		Indexes: func(p Pair) []bson.Raw { return e.wantedIndexes(refKey(p.Source.Ref)) },
		Include: e.cfg.Plan.Filter.Includes,
	}
	if e.cfg.Plan.PreExistingDestination {
		cfg.Foreign = e.foreign
	}
	return NewVerifier(cfg)
}

// pairs are the collections of the sync as they are mapped now.
func (e *Engine) pairs() []Pair {
	var out []Pair
	for _, m := range e.catalog.all() {
		if m.Made && !m.Copying {
			out = append(out, Pair{Source: m.collection(), Destination: m.Destination})
		}
	}
	return out
}

// wantedIndexes are the indexes that the destination should have for a mapping, as they are on the source.
func (e *Engine) wantedIndexes(id string) []bson.Raw {
	out := []bson.Raw{} // not nil, which would stand for those of the source
	for _, x := range e.catalog.indexesOf(id) {
		if x.Refused == "" {
			out = append(out, x.Spec)
		}
	}
	return out
}

// foreign tells namespaces of the destination that were there before.
func (e *Engine) foreign(ns Namespace) bool { return e.catalog.holder(ns) == nil }
