package gateway

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/devicesync"
)

// In partition mode a built-in function routes documents (device-sync.md §9.4). Enabling it opens the database anew with that function
// and runs it over what is stored, in phase building; terminating it gives the configured functions their place back, and says that a
// resync is due.

// routedBy gives collections the function of partition mode, if that is configured.
func routedBy(live *devicesync.Live, collections []database.CollectionOptions) []database.CollectionOptions {
	if live == nil {
		return collections
	}
	if source := live.Row().RoutingFunction(); source != "" {
		for i := range collections {
			collections[i].Sync = source
		}
	}
	return collections
}

// reroute opens the database with the function that holds now, if it is open, and notes that every collection is due for a resync.
func (s *DeviceSync) reroute(ctx context.Context) error {
	r := s.r
	unlock, err := r.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if r.State() == Resyncing || r.currentRun() != nil {
		return errResyncing
	}
	old := r.definition()
	d := *old
	d.Generation++
	d.ResyncDue = slices.Sorted(maps.Keys(syncSources(d.Config)))
	if r.State() != Online {
		if err := r.g.replace(ctx, &d, old); err != nil {
			return err
		}
		r.adopt(&d)
		return nil
	}
	db, err := r.g.open(ctx, &d, r.stats, s.live)
	if err != nil {
		return err
	}
	if err := r.g.replace(ctx, &d, old); err != nil {
		return joinClose(err, db)
	}
	return r.reload(context.WithoutCancel(ctx), &d, db)
}

var errNotRouted = tidegate.Errorf(tidegate.Unavailable, "the resync of partition mode did not come to its end")

// build routes what is stored by the function of partition mode. It goes on where it was after a restart, since a resync does.
func (s *DeviceSync) build(ctx context.Context) error {
	ctx, stop := s.during(ctx, devicesync.Building)
	defer stop()
	err := s.buildRouting(ctx)
	if err != nil && errors.Is(context.Cause(ctx), errPhaseOver) {
		return nil // paused or terminated meanwhile
	}
	return err
}

func (s *DeviceSync) buildRouting(ctx context.Context) error {
	if err := s.reroute(ctx); err != nil {
		return err
	}
	if err := s.r.AwaitState(ctx, Online); err != nil {
		return err
	}
	if _, err := s.r.g.StartResync(ctx, s.r.name, ResyncRequest{Online: true, Reset: true}); err != nil {
		return err
	}
	if err := s.r.AwaitResync(ctx); err != nil {
		return err
	}
	if len(s.r.ResyncDue()) > 0 {
		return errNotRouted
	}
	return s.endPhase(ctx, devicesync.Building, devicesync.BuildEnd)
}

// errPhaseOver ends what is done during a phase.
var errPhaseOver = errors.New("device sync is in another phase")

// during returns a context that ends when device sync leaves a phase.
func (s *DeviceSync) during(ctx context.Context, phase devicesync.Phase) (within context.Context, stop func()) {
	within, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			row, changed := s.live.Watch()
			if row.Record.Phase != phase {
				cancel(errPhaseOver)
				return
			}
			select {
			case <-changed:
			case <-within.Done():
				return
			}
		}
	}()
	return within, func() {
		cancel(context.Canceled)
		<-done
	}
}
