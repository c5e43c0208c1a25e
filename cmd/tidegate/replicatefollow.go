package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// follower runs one replication on a gateway and follows it.
type follower struct {
	o      *replicateOptions
	source *databaseClient
	target *databaseClient
	view   *progressView
	poll   time.Duration

	last      replicationStatus // the latest that is known
	apart     time.Time         // since when DST is not connected; zero: it is
	silent    time.Time         // since when SRC does not answer; zero: it does
	pullEnd   int64             // the last sequence of DST; 0 without a pull
	pushEnd   int64             // that of SRC; 0 without a push
	lastAsked time.Time         // when they were asked for these
	noLag     bool              // a database does not tell them
}

const (
	pollEvery      = 250 * time.Millisecond
	askSequences   = 2 * time.Second
	silentPatience = 30 * time.Second // for SRC, which may be restarting
	cancelTimeout  = 25 * time.Second
)

func newFollower(o *replicateOptions, out io.Writer) *follower {
	return &follower{
		o: o, source: newDatabaseClient(o.source), target: newDatabaseClient(o.target),
		view: newProgressView(out), poll: pollEvery,
	}
}

// run starts the replication and returns when it is over: nil if everything was copied; errInterrupted if ctx has ended.
func (f *follower) run(ctx context.Context) error {
	if err := f.start(ctx); err != nil {
		if ctx.Err() != nil {
			return f.interrupted(ctx)
		}
		return err
	}
	ticker := time.NewTicker(f.poll)
	defer ticker.Stop()
	for {
		over, err := f.look(ctx, time.Now())
		if ctx.Err() != nil {
			return f.interrupted(ctx)
		}
		if over {
			f.view.summary(&f.last, err)
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}

// start has the gateway begin, unless it is at it already.
func (f *follower) start(ctx context.Context) error {
	s, err := f.source.status(ctx, f.o.id())
	if err == nil && !s.Ended {
		return fmt.Errorf("the same replication is running; end it with %s", f.deletion())
	}
	if _, answered := errors.AsType[*answerError](err); err != nil && !answered {
		return fmt.Errorf("ask the gateway of SRC: %w", err)
	}
	if err := f.source.request(ctx, http.MethodPost, "/_replication/", f.o.definition(), nil); err != nil {
		return fmt.Errorf("start the replication at SRC: %w", err)
	}
	return nil
}

// path is the replication's, below one of the APIs of replications.
func (f *follower) path(api string) string { return "/" + api + "/" + url.PathEscape(f.o.id()) }

// deletion is the command that ends the replication by hand.
func (f *follower) deletion() string {
	return "curl -X DELETE " + f.o.source.url + f.path("_replication")
}

// look asks how it stands. over: there is nothing more to come, and err is nil if everything was copied.
func (f *follower) look(ctx context.Context, now time.Time) (over bool, err error) {
	s, err := f.source.status(ctx, f.o.id())
	if err != nil {
		return f.unknown(err, now)
	}
	f.silent, f.last = time.Time{}, *s
	switch {
	case s.Ended && s.Status == "stopped":
		return true, nil
	case s.Ended:
		return true, errors.New("the replication was stopped or deleted at SRC")
	case s.Status == "error":
		return true, f.abandon(ctx, s.Error)
	case s.Status == "running":
		f.apart = time.Time{}
	case f.apart.IsZero():
		f.apart = now
	case f.o.patience > 0 && now.Sub(f.apart) >= f.o.patience:
		return true, f.abandon(ctx, s.Error)
	}
	f.ends(ctx, now)
	f.lag()
	f.view.show(s, now)
	return false, nil
}

// unknown deals with an answer that is no status.
func (f *follower) unknown(err error, now time.Time) (over bool, _ error) {
	if a, ok := errors.AsType[*answerError](err); ok {
		if a.status == http.StatusNotFound {
			return true, errors.New("the gateway of SRC does not know the replication any more: it was restarted, or the database was deleted")
		}
		if a.status < 500 {
			return true, fmt.Errorf("follow the replication at SRC: %w", err)
		}
	}
	if f.silent.IsZero() {
		f.silent = now
	}
	if now.Sub(f.silent) < silentPatience {
		return false, nil
	}
	return true, fmt.Errorf("the gateway of SRC does not answer, and may be replicating still: %w", err)
}

// abandon deletes a replication that has failed and returns why it has.
func (f *follower) abandon(ctx context.Context, reason string) error {
	if reason == "" {
		reason = "the target was not connected"
	}
	err := fmt.Errorf("the replication failed: %s", reason)
	if e := f.source.request(ctx, http.MethodDelete, f.path("_replication"), nil, nil); e != nil {
		return fmt.Errorf("%w (and it could not be deleted: %w; do that with %s)", err, e, f.deletion())
	}
	return err
}

// interrupted cancels the replication on the gateway.
func (f *follower) interrupted(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
	defer cancel()
	err := f.source.request(ctx, http.MethodPut, f.path("_replicationStatus")+"?action=stop", nil, nil)
	if a, ok := errors.AsType[*answerError](err); ok && a.status == http.StatusNotFound {
		err = nil // it did not begin, or has ended
	}
	if err != nil {
		return fmt.Errorf("%w; the replication could not be cancelled: %w; do that with %s", errInterrupted, err, f.deletion())
	}
	if s, err := f.source.status(ctx, f.o.id()); err == nil {
		f.last = *s
	}
	f.view.summary(&f.last, errInterrupted)
	return fmt.Errorf("%w; the replication was cancelled on the gateway", errInterrupted)
}

// ends asks now and then for the last sequences of the databases that are read.
func (f *follower) ends(ctx context.Context, now time.Time) {
	if f.noLag || now.Sub(f.lastAsked) < askSequences {
		return
	}
	f.lastAsked = now
	f.pullEnd, f.pushEnd = 0, 0
	known := true
	if f.o.direction != "push" {
		f.pullEnd, known = f.target.lastSequence(ctx)
	}
	if f.o.direction != "pull" && known {
		f.pushEnd, known = f.source.lastSequence(ctx)
	}
	f.noLag = !known
}

// lag shows how far the checkpoints of a replication that runs are behind, where that can be known.
func (f *follower) lag() {
	pull, pullKnown := sequence(f.last.LastPull)
	push, pushKnown := sequence(f.last.LastPush)
	if f.noLag || f.last.Status != "running" || !pullKnown && f.last.LastPull != "" || !pushKnown && f.last.LastPush != "" {
		f.view.lagUnknown()
		return
	}
	f.view.lag(max(f.pullEnd-pull, 0)+max(f.pushEnd-push, 0), f.pullEnd+f.pushEnd)
}
