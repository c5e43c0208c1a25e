package clustersync

import (
	"context"
	"errors"

	"github.com/tidegate/tidegate/internal/job"
)

// work is an engine at work.
type work struct {
	engine engine
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when it has ended; err is set before
	err    error         // why it cannot go on
}

// engineConfig is that of an engine for the present direction.
func (c *Control) engineConfig(p *Plan, j *Journal) EngineConfig {
	src, dst := direction(p, j.Get().Swapped)
	settings := c.cfg.Settings
	if p.PreExistingDestination && c.cfg.PreExisting != (Limits{}) {
		settings.Limits = c.cfg.PreExisting
	}
	return EngineConfig{
		Source: c.cfg.Clusters[src], Destination: c.cfg.Clusters[dst], Journal: j, Plan: p, Settings: settings,
		Compare: c.cfg.Compare, Observer: c.observer(), Log: c.log,
	}
}

// newEngine makes an engine that goes on from the records.
func (c *Control) newEngine() (engine, error) {
	c.mu.Lock()
	plan, j := c.plan, c.journal
	c.mu.Unlock()
	return c.cfg.newEngine(c.engineConfig(plan, j))
}

// resumeWork sets an engine to work that goes on from the records.
func (c *Control) resumeWork() error {
	e, err := c.newEngine()
	if err != nil {
		return err
	}
	c.employ(e)
	return nil
}

// peek has an engine say what there is to see of a sync that does not work.
func (c *Control) peek(ctx context.Context) error {
	e, err := c.newEngine()
	if err != nil {
		return err
	}
	if counts, ok := e.(*Engine); ok {
		if err := counts.restoreCounts(ctx); err != nil {
			return err
		}
	}
	s := e.Snapshot()
	c.mu.Lock()
	c.last = s
	c.mu.Unlock()
	return nil
}

// employ sets an engine to work.
func (c *Control) employ(e engine) {
	c.mu.Lock()
	ctx, cancel := context.WithCancelCause(c.life)
	w := &work{engine: e, cancel: cancel, done: make(chan struct{})}
	c.work = w
	c.mu.Unlock()
	go func() {
		defer cancel(nil)
		// There is nothing to begin unless the process was killed in /start.
		err := patiently(ctx, connectPatience, func() error { return e.Begin(ctx) })
		if err == nil {
			err = e.Run(ctx)
		}
		c.ended(ctx, w, err)
	}()
}

// ended notes how an engine came to its end.
func (c *Control) ended(ctx context.Context, w *work, err error) {
	stopped := ctx.Err() != nil && (err == nil || errors.Is(err, ErrStopped) || errors.Is(err, context.Canceled))
	last := w.engine.Snapshot()
	c.mu.Lock()
	c.last = last
	if c.work == w {
		c.work = nil
	}
	if state := job.ParseSyncState(c.journal.Get().State); state == job.SyncCommitted {
		c.state = state
		stopped, err = true, nil
	} else if _, paused := errors.AsType[*MassDeleteError](err); paused {
		c.state = job.SyncPaused // as the journal says
		stopped, err = true, nil
	}
	c.mu.Unlock()
	switch {
	case stopped:
	case err != nil:
		w.err = err
	default:
		w.err = Errorf(InternalError, "the engine ended without a reason")
	}
	close(w.done)
	if w.err != nil {
		c.fail(w.err)
	}
}

// dismiss has the engine stop in order and waits for it. An error is that of the job.
func (c *Control) dismiss(ctx context.Context) error {
	w := c.working()
	if w == nil {
		return nil
	}
	w.cancel(ErrStopped)
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		return Errorf(APIError, "the writers did not stop in time")
	}
}
