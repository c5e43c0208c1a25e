package clustersync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// Limits of what is tried again (spec §8.8). Clusters retry for some seconds by themselves.
const (
	retryFirst = 100 * time.Millisecond
	retryMost  = 30 * time.Second
	retryFor   = 30 * time.Minute
)

// retrier repeats calls to a cluster that cannot be reached.
type retrier struct {
	log   *slog.Logger
	told  func(error)
	count *atomic.Int64
}

// do calls fn until it succeeds, fails for good, or has failed for half an hour.
func (r *retrier) do(ctx context.Context, what string, fn func() error) error {
	return r.until(ctx, what, retryFor, fn)
}

// always calls fn until it succeeds or fails for good: the history of the source bounds how long that makes sense.
func (r *retrier) always(ctx context.Context, what string, fn func() error) error {
	return r.until(ctx, what, 0, fn)
}

func (r *retrier) until(ctx context.Context, what string, most time.Duration, fn func() error) error {
	began := time.Now()
	for backoff := retryFirst; ; backoff = min(2*backoff, retryMost) {
		err := fn()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !errors.Is(err, ErrUnreachable) || most > 0 && time.Since(began) > most {
			return fmt.Errorf("%s: %w", what, err)
		}
		r.count.Add(1)
		if r.told != nil {
			r.told(err)
		}
		r.log.WarnContext(ctx, "trying again", "what", what, "error", err)
		if err := pauseFor(ctx, backoff); err != nil {
			return context.Cause(ctx)
		}
	}
}

// endedByContext reports whether an error only says that its context has ended.
func endedByContext(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrStopped)
}

// held is a lock that is held over calls to a cluster, so whoever waits for it does so until its context ends. Its zero value cannot be used.
type held chan struct{}

func newHeld() held { return make(held, 1) }

// lock takes the lock; unlock is to be called if there is no error.
func (h held) lock(ctx context.Context) error {
	select {
	case h <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (h held) unlock() { <-h }
