package clustersync

import (
	"context"
	"fmt"
	"slices"

	"github.com/tidegate/tidegate/internal/job"
)

// startUp finds out what there is to do (spec §2.2): it looks for records on both clusters and goes on from there.
func (c *Control) startUp(ctx context.Context) error {
	var infos [2]Info
	err := patiently(ctx, connectPatience, func() (err error) { infos, err = c.inspect(ctx); return err })
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if err := different(infos); err != nil {
		return err
	}
	c.mu.Lock()
	c.infos = infos
	c.mu.Unlock()

	var found *records
	var begun []int
	err = patiently(ctx, connectPatience, func() (err error) { found, begun, err = c.findRecords(ctx, infos); return err })
	if err != nil {
		return err
	}
	if found == nil && len(begun) > 0 {
		if found, err = c.clean(ctx, infos, begun); err != nil {
			return err
		}
	}
	if found == nil {
		next, err := job.NextSync(job.SyncInitializing, job.SyncNothingFound)
		if err == nil {
			c.setState(next)
		}
		return err
	}
	return c.restore(ctx, infos, found)
}

// different makes sure that the two clusters are two.
func different(infos [2]Info) error {
	same := infos[0].ID != "" && infos[0].ID == infos[1].ID || len(infos[0].Hosts) > 0 && slices.Equal(infos[0].Hosts, infos[1].Hosts)
	if same {
		return Errorf(InvalidOption, "cluster0 and cluster1 are the same cluster (%s)", infos[0].Name)
	}
	return nil
}

// records are those of an earlier run.
type records struct {
	on      int // the cluster
	journal *Journal
	state   job.SyncState
	plan    *Plan
}

// findRecords returns the records that count (a reverse leaves some on both clusters); nil if there are none. begun are clusters with
// options of a sync and no state: its process was killed in /start.
func (c *Control) findRecords(ctx context.Context, infos [2]Info) (found *records, begun []int, err error) {
	var journals [2]*Journal
	var options [2]*globalState
	for i, l := range c.leases {
		g, err := readGlobalState(ctx, l.on)
		if err != nil {
			return nil, nil, fmt.Errorf("look for a sync on %s: %w", labelOf(i), err)
		}
		if g == nil {
			continue
		}
		if err := g.check(infos, labelOf(i), c.cfg.Environment.MigrationName); err != nil {
			return nil, nil, err
		}
		j, found, err := OpenJournal(ctx, l.on, l.fence.Load, Coordinator)
		if err != nil {
			return nil, nil, fmt.Errorf("look for a sync on %s: %w", labelOf(i), err)
		}
		options[i] = g
		if !found {
			begun = append(begun, i)
			continue
		}
		journals[i] = j
	}
	if journals[0] == nil && journals[1] == nil {
		return nil, begun, nil
	}
	out := &records{journal: Latest(journals[0], journals[1])}
	if out.journal == journals[1] {
		out.on = 1
	}
	g := options[out.on]
	if out.plan, err = g.plan(c.cfg.Environment.MetadataDatabase); err != nil {
		return nil, nil, err
	}
	text := out.journal.Get().State
	if out.state, err = job.RestoreSync(job.SyncInitializing, job.ParseSyncState(text)); err != nil {
		return nil, nil, Errorf(MetadataConflict, "the records on %s name a state that there is not: %q", labelOf(out.on), text)
	}
	return out, nil, nil
}

// clean removes what a process left that was killed in /start, unless it was not: then its records are returned.
func (c *Control) clean(ctx context.Context, infos [2]Info, begun []int) (*records, error) {
	for _, i := range begun {
		if err := patiently(ctx, connectPatience, func() error { return c.leases[i].wait(ctx) }); err != nil {
			return nil, err
		}
	}
	found, begun, err := c.findRecords(ctx, infos)
	if err != nil || found != nil {
		return found, err
	}
	for _, i := range begun {
		if err := c.leases[i].on.Erase(ctx); err != nil {
			return nil, fmt.Errorf("remove what a start left on %s: %w", labelOf(i), err)
		}
		c.leases[i].release(ctx)
	}
	return nil, nil
}

// restore takes a sync up again where its process left it.
func (c *Control) restore(ctx context.Context, infos [2]Info, found *records) error {
	l := c.leases[found.on]
	if err := patiently(ctx, connectPatience, func() error { return l.wait(ctx) }); err != nil {
		return err
	}
	// Whoever held the lease until now may have come further.
	on := found.on
	err := patiently(ctx, connectPatience, func() (err error) { found, _, err = c.findRecords(ctx, infos); return err })
	if err != nil {
		return err
	}
	if found == nil || found.on != on {
		return Errorf(MetadataConflict, "another process has moved the sync on while this one was starting")
	}
	// No call may come between the state and the work that belongs to it.
	c.calling.Lock()
	defer c.calling.Unlock()
	c.mu.Lock()
	c.plan, c.journal, c.state = found.plan, found.journal, found.state
	c.mu.Unlock()
	c.keepLease(l)
	c.log.Info("Restored the sync from its records", "state", found.state.String(), "on", labelOf(on))
	switch {
	case found.state == job.SyncReversing:
		c.turn()
	case found.state.Active():
		return c.resumeWork()
	default:
		return c.peek(ctx)
	}
	return nil
}

// keepLease renews a lease as long as the process lives, or until stop is called, which waits for it; the job fails if it is lost.
func (c *Control) keepLease(l *lease) (stop func()) {
	c.mu.Lock()
	ctx, cancel := context.WithCancel(c.life)
	c.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := l.keep(ctx); err != nil {
			c.fail(err)
		}
	}()
	return func() { cancel(); <-done }
}
