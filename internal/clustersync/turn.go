package clustersync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tidegate/tidegate/internal/job"
)

// checkReverse makes the checks of spec §14.1: first those of options, clusters and privileges, then the engine's.
func (c *Control) checkReverse(ctx context.Context, infos [2]Info) error {
	c.mu.Lock()
	plan, j := c.plan, c.journal
	c.mu.Unlock()
	refuse := func(format string, args ...any) error { return Errorf(ReversePreconditionFailed, format, args...) }
	switch {
	case !plan.Reversible:
		return refuse(`the sync was not started with "reversible": true`)
	case plan.WriteBlocking != BlockBoth:
		return refuse(`the sync was not started with "enableUserWriteBlocking": true`)
	case plan.Filter.Filtering() || plan.Filter.Remapping() || plan.Filter.FilteringDocuments():
		return refuse("the sync has a filter")
	}
	from, to := direction(plan, j.Get().Swapped)
	src, dst := infos[from], infos[to]
	if err := reversiblePair(src, dst); err != nil {
		return refuse("%s", strings.Replace(err.Error(), `"reversible"`, "reversing", 1))
	}
	missing := slices.Concat(dst.Missing["source"], src.Missing["destination"], src.Missing["reverse"], dst.Missing["reverse"])
	if len(missing) > 0 {
		return refuse("the user lacks privileges for the swapped roles: %s", someOf(missing))
	}
	if dst.ChangeSource == "" {
		return refuse("%s cannot be a source: %s", labelOf(to), dst.Unused)
	}
	err := c.reversal().Check(ctx)
	switch {
	case err == nil:
		return c.checkIndexFormats(ctx, c.cfg.Clusters[from], labelOf(from))
	case errors.Is(err, ErrHistoryLost):
		return Errorf(OplogRollover, "the changes since the commit are not in the history of %s any more: %w", labelOf(to), err)
	case NameOf(err) == MigrationFailed:
		return Errorf(ReversePreconditionFailed, "%w", err)
	}
	return err
}

// reversal is the swap of the present direction. After a crash in the middle of one the records may be on the old source already, still saying
// the old direction.
func (c *Control) reversal() reversal {
	c.mu.Lock()
	defer c.mu.Unlock()
	src, dst := direction(c.plan, c.journal.Get().Swapped)
	return c.cfg.newReversal(Reversal{
		Source: c.cfg.Clusters[src], Destination: c.cfg.Clusters[dst], Journal: c.journal, Fence: c.leases[src].fence.Load, Plan: c.plan, Log: c.log,
	})
}

// turn swaps the direction in the background (spec §14.2). The state is REVERSING, on record, until the swap is complete; a process that is
// killed on the way does it again.
func (c *Control) turn() {
	done := make(chan struct{})
	c.mu.Lock()
	life := c.life
	c.turning = done
	c.mu.Unlock()
	go func() {
		defer close(done)
		if err := c.swap(life); err != nil && life.Err() == nil {
			c.fail(fmt.Errorf("reverse: %w", err))
		}
	}()
}

func (c *Control) swap(ctx context.Context) error {
	c.mu.Lock()
	src, _ := direction(c.plan, c.journal.Get().Swapped)
	l := c.leases[src]
	c.mu.Unlock()
	if err := patiently(ctx, connectPatience, func() error { return l.wait(ctx) }); err != nil {
		return err
	}
	c.keepLease(l)
	var j *Journal
	err := patiently(ctx, connectPatience, func() (err error) { j, err = c.reversal().Run(ctx); return err })
	if err != nil {
		return err
	}
	next, err := job.NextSync(job.SyncReversing, job.SyncReverseDone)
	if err != nil {
		return err
	}
	// No call may come between the state and the work that belongs to it.
	c.calling.Lock()
	defer c.calling.Unlock()
	c.mu.Lock()
	c.journal, c.state, c.last = j, next, Snapshot{}
	c.mu.Unlock()
	return c.resumeWork()
}
