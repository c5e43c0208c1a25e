package clustersync

import (
	"context"
	"errors"
	"fmt"

	"github.com/tidegate/tidegate/internal/job"
)

// Start is the call /start: pre-flight checks, the records, then work (spec §5.1, §6).
func (c *Control) Start(ctx context.Context, req *StartRequest) error {
	return c.call(ctx, job.SyncStart, func(ctx context.Context, to job.SyncState) error {
		check, infos, err := c.prepare(ctx, req)
		if err != nil {
			return err
		}
		if err := check.run(ctx); err != nil {
			return err
		}
		for _, w := range check.warnings {
			c.log.Warn(w)
		}
		c.log.Info("Preflight checks completed.")
		return c.begin(ctx, check, infos, to)
	})
}

// prepare makes a plan of a request.
func (c *Control) prepare(ctx context.Context, req *StartRequest) (*preflight, [2]Info, error) {
	plan, err := req.plan(c.cfg.Environment)
	if err != nil {
		return nil, [2]Info{}, err
	}
	infos, err := c.inspect(ctx)
	if err != nil {
		return nil, infos, err
	}
	src, dst := direction(plan, false)
	if err := plan.settle(req, infos[src], infos[dst]); err != nil {
		return nil, infos, err
	}
	return &preflight{
		src: c.cfg.Clusters[src], dst: c.cfg.Clusters[dst], srcInfo: infos[src], dstInfo: infos[dst], plan: plan, env: c.cfg.Environment,
	}, infos, nil
}

// begin takes the lease, writes the records and takes the engine's first steps. If any of it fails everything is undone.
func (c *Control) begin(ctx context.Context, check *preflight, infos [2]Info, to job.SyncState) (err error) {
	_, dst := direction(check.plan, false)
	l := c.leases[dst]
	if err := l.take(ctx); err != nil {
		return err
	}
	// Another process may have come and gone since the checks; its records are not ours to undo.
	if err := check.noRecords(ctx); err != nil {
		l.release(ctx)
		return err
	}
	stopKeeping := c.keepLease(l)
	defer func() {
		if err != nil {
			stopKeeping()
			undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
			defer cancel()
			if undone := l.on.Erase(undo); undone != nil {
				c.log.Warn("Records of a sync that could not be started remain on the destination", "error", undone.Error())
			}
			l.release(undo)
		}
	}()
	record := newGlobalState(check.plan, infos, c.cfg.Environment.MigrationName)
	if err := l.on.Put(ctx, l.fence.Load(), globalCollection, record); err != nil {
		return fmt.Errorf("write the options down: %w", err)
	}
	j, _, err := OpenJournal(ctx, l.on, l.fence.Load, Coordinator)
	if err != nil {
		return err
	}
	if err := j.SetState(ctx, to.String()); err != nil {
		return err
	}
	e, err := c.cfg.newEngine(c.engineConfig(check.plan, j))
	if err != nil {
		return err
	}
	if err := e.Begin(ctx); err != nil {
		return err
	}
	if check.plan.PreExistingDestination {
		c.log.Warn("ATTENTION! Migration into a cluster that is not empty is allowed. This is a preview feature.")
	}
	c.mu.Lock()
	c.infos, c.plan, c.journal, c.state, c.gauges.preflight = infos, check.plan, j, to, check.warnings
	c.mu.Unlock()
	c.employ(e)
	return nil
}

// Pause is the call /pause: it returns once nothing is written any more and the place to go on from is saved (spec §5.3).
func (c *Control) Pause(ctx context.Context) error {
	return c.call(ctx, job.SyncPause, func(ctx context.Context, to job.SyncState) error {
		if err := c.dismiss(ctx); err != nil {
			return err
		}
		if err := c.persist(ctx, to); err != nil {
			return errors.Join(err, c.resumeWork()) // it goes on as before
		}
		return nil
	})
}

// Resume is the call /resume: the sync goes on from the records on the destination.
func (c *Control) Resume(ctx context.Context) error {
	return c.call(ctx, job.SyncResume, func(ctx context.Context, to job.SyncState) error {
		if err := c.persist(ctx, to); err != nil {
			return err
		}
		return c.resumeWork()
	})
}

// Commit is the call /commit: it returns once it is on record that the sync will be cut over (spec §13).
func (c *Control) Commit(ctx context.Context) error {
	return c.call(ctx, job.SyncCommit, func(ctx context.Context, to job.SyncState) error {
		w := c.working()
		if w == nil {
			return Errorf(CannotCommit, "the sync is not at work yet")
		}
		if err := w.engine.Commit(ctx); err != nil {
			return err
		}
		c.setCommitting(to)
		return nil
	})
}

// setCommitting: a short commit may be over before the call is.
func (c *Control) setCommitting(to job.SyncState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == job.SyncRunning {
		c.state = to
	}
}

// Reverse is the call /reverse: it returns once it is on record that the direction will be swapped (spec §14).
func (c *Control) Reverse(ctx context.Context) error {
	return c.call(ctx, job.SyncReverse, func(ctx context.Context, to job.SyncState) error {
		infos, err := c.inspect(ctx)
		if err != nil {
			return err
		}
		if err := c.checkReverse(ctx, infos); err != nil {
			return err
		}
		if err := c.persist(ctx, to); err != nil {
			return err
		}
		c.mu.Lock()
		c.infos = infos
		c.mu.Unlock()
		c.turn()
		return nil
	})
}
