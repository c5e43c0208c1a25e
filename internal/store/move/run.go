package move

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/archive"
	"github.com/tidegate/tidegate/internal/store/blob"
)

// Remote is a Source with a move under way, as its driver sees it.
type Remote interface {
	Snapshot(ctx context.Context) (io.ReadCloser, error)
	Changes(ctx context.Context) (io.ReadCloser, error)
	Stop(ctx context.Context, most time.Duration) error
	Digest(ctx context.Context) (string, error)
	Finish(ctx context.Context, to string) error
}

// Options of a move.
type Options struct {
	// To is what the source tells people who start it again: where to, without a password.
	To string
	// StopAtMost bounds for how long writes are refused.
	StopAtMost time.Duration
	Progress   archive.Progress
	// Round is told what each round brought.
	Round func(archive.Changes)
}

// Result says how it went.
type Result struct {
	Snapshot archive.Summary
	Rounds   int
	Changed  archive.Changes // all rounds together
	Stopped  time.Duration   // for how long writes were refused
	// Whole: both stores were compared as a whole once more while writes were refused; else what changed was read back.
	Whole bool
}

const (
	// fewRows, or whatever was taken over in a tenth of the time that writes may be refused for, is left for when they are.
	fewRows   = 500
	shortPart = 10
	// maxRounds: a source that changes faster than can be followed is stopped all the same; StopAtMost says whether that does.
	maxRounds = 30
	// wholeRate is how many bytes a second both stores are taken to be read with, to know whether there is time to compare them as a whole.
	wholeRate = 16 << 20
)

// Run moves everything into an empty store. Until its last step the source goes on as it was if anything fails, and the store carries a mark that it is
// not whole (archive.Unfinished).
func Run(ctx context.Context, from Remote, st store.Store, blobs blob.Store, o Options) (Result, error) {
	var res Result
	snapshot, err := from.Snapshot(ctx)
	if err != nil {
		return res, fmt.Errorf("read a snapshot: %w", err)
	}
	defer snapshot.Close()
	bytes := int64(0)
	progress := func(sum archive.Summary) {
		bytes = sum.Bytes
		if o.Progress != nil {
			o.Progress(sum)
		}
	}
	// Restore compares the store with the snapshot before it does the rest.
	_, res.Snapshot, err = archive.Restore(ctx, snapshot, st, blobs, progress, func(ctx context.Context) error {
		if err := res.follow(ctx, from, st, blobs, o); err != nil {
			return err
		}
		return res.finish(ctx, from, st, blobs, o, bytes)
	})
	return res, err
}

// follow takes over what changes until that is little.
func (res *Result) follow(ctx context.Context, from Remote, st store.Store, blobs blob.Store, o Options) error {
	for range maxRounds {
		began := time.Now()
		n, err := res.round(ctx, from, st, blobs, o)
		if err != nil {
			return err
		}
		if n.Rows <= fewRows || time.Since(began) < o.StopAtMost/shortPart {
			return nil
		}
	}
	return nil
}

func (res *Result) round(ctx context.Context, from Remote, st store.Store, blobs blob.Store, o Options) (archive.Changes, error) {
	changes, err := from.Changes(ctx)
	if err != nil {
		return archive.Changes{}, fmt.Errorf("read what was changed: %w", err)
	}
	defer changes.Close()
	n, err := archive.ApplyChanges(ctx, changes, st, blobs)
	if err != nil {
		return n, fmt.Errorf("take over what was changed: %w", err)
	}
	res.Rounds++
	res.Changed.Rows += n.Rows
	res.Changed.Blobs += n.Blobs
	if o.Round != nil {
		o.Round(n)
	}
	return n, nil
}

// finish stops writes, takes over the rest, compares, and has the source give way.
func (res *Result) finish(ctx context.Context, from Remote, st store.Store, blobs blob.Store, o Options, bytes int64) error {
	began := time.Now()
	if err := from.Stop(ctx, o.StopAtMost); err != nil {
		return fmt.Errorf("stop writes: %w", err)
	}
	bound, cancel := context.WithTimeout(ctx, o.StopAtMost)
	defer cancel()
	if _, err := res.round(bound, from, st, blobs, o); err != nil {
		return err
	}
	if left := o.StopAtMost - time.Since(began); time.Duration(bytes/wholeRate)*time.Second < left/2 {
		if err := compare(bound, from, st); err != nil {
			return err
		}
		res.Whole = true
	}
	if err := archive.Complete(bound, st, true); err != nil {
		return err
	}
	if err := from.Finish(ctx, o.To); err != nil {
		if code := tidegate.ErrorCode(err); code == tidegate.Gone || code == tidegate.Conflict || code == tidegate.Invalid { // it has not, for certain
			return errors.Join(fmt.Errorf("have the gateway give way: %w", err), archive.Complete(context.WithoutCancel(ctx), st, false))
		}
		return fmt.Errorf("have the gateway give way, which it may or may not have done: %w", err)
	}
	res.Stopped = time.Since(began)
	return nil
}

// compare holds both stores against each other, row by row and sequence by sequence.
func compare(ctx context.Context, from Remote, st store.Store) error {
	var here, there string
	both, bothCtx := errgroup.WithContext(ctx)
	both.Go(func() (err error) { here, err = archive.Digest(bothCtx, st); return err })
	both.Go(func() (err error) { there, err = from.Digest(bothCtx); return err })
	if err := both.Wait(); err != nil {
		return fmt.Errorf("compare the stores: %w", err)
	}
	if here != there {
		return tidegate.Errorf(tidegate.Corrupt, "the new store does not hold what the old one does (digest %s, want %s)", here, there)
	}
	return nil
}
