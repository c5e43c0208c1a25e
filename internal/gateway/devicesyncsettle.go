package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/store"
)

// settler finishes what a row says is under way: a pause whose sessions are ending, or a termination (device-sync.md §2.3, §8.2). There
// is one at most for each database. After a restart it goes on at the recorded step, each of which may be repeated.
type settler struct {
	cancel context.CancelFunc
	done   chan struct{}
	again  bool // the row has changed since it looked; guarded by DeviceSync.mu
}

// settle starts the settler if there is something to finish and none runs.
func (s *DeviceSync) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.settler != nil {
		s.settler.again = true
		return
	}
	if s.held > 0 || !unsettled(s.live.Row()) {
		return
	}
	ctx, cancel := context.WithCancel(s.r.g.ctx)
	one := &settler{cancel: cancel, done: make(chan struct{})}
	s.settler = one
	if !s.r.g.spawn(func() { s.runSettler(ctx, one) }) { // all is closing; the next start goes on
		s.settler = nil
		close(one.done)
		cancel()
	}
}

// unsettled reports whether a row says that something is under way that a settler finishes.
func unsettled(row *devicesync.Row) bool {
	return row.Record.Phase == devicesync.Pausing || row.Record.Phase == devicesync.Terminating || row.Record.Phase == devicesync.Building
}

// hold keeps settlers from running until release is called, and returns when none does.
func (s *DeviceSync) hold() (release func()) {
	s.mu.Lock()
	s.held++
	one := s.settler
	s.mu.Unlock()
	if one != nil {
		one.cancel()
		<-one.done
	}
	return func() {
		s.mu.Lock()
		s.held--
		s.mu.Unlock()
		s.settle()
	}
}

// settleRetry is how long a settler waits after an error of the store.
const settleRetry = 5 * time.Second

// runSettler runs until nothing is under way.
func (s *DeviceSync) runSettler(ctx context.Context, one *settler) {
	defer close(one.done)
	defer one.cancel()
	for {
		err := s.settleHere(ctx)
		s.mu.Lock()
		stop := ctx.Err() != nil || err == nil && !one.again && !unsettled(s.live.Row())
		one.again = false
		if stop {
			s.settler = nil
		}
		s.mu.Unlock()
		if stop {
			return
		}
		if err != nil {
			s.log().Error("device sync: what is under way could not be finished yet", "error", err)
			select {
			case <-time.After(settleRetry):
			case <-ctx.Done():
			}
		}
	}
}

// settleHere does one thing that the row says is under way, once this node is the one that does such things.
func (s *DeviceSync) settleHere(ctx context.Context) error {
	if !unsettled(s.live.Row()) {
		return nil
	}
	if s.live.Row().Record.Phase == devicesync.Building { // which needs the database to be online here
		within, stop := s.during(ctx, devicesync.Building)
		err := s.r.AwaitState(within, Online)
		stop()
		if err != nil && ctx.Err() == nil {
			return nil // in another phase
		}
	}
	return s.lead(ctx, s.settleOnce)
}

// settleOnce does one thing that the row says is under way.
func (s *DeviceSync) settleOnce(ctx context.Context) error {
	row := s.live.Row()
	switch row.Record.Phase {
	case devicesync.Pausing:
		if err := s.sessionsGone(ctx, devicesync.Pausing); err != nil {
			return err
		}
		return s.endPhase(ctx, devicesync.Pausing, devicesync.SessionsGone)
	case devicesync.Building:
		return s.build(ctx)
	case devicesync.Terminating:
		return s.terminate(ctx, row.Record.Termination.Step)
	default:
		return nil
	}
}

// endPhase records the event that ends a phase, unless it has ended otherwise meanwhile.
func (s *DeviceSync) endPhase(ctx context.Context, phase devicesync.Phase, ev devicesync.Event) error {
	_, err := s.edit(ctx, func(row devicesync.Row) (devicesync.Row, bool, error) {
		if row.Record.Phase != phase {
			return row, false, nil
		}
		return row, true, row.Record.Happen(ev, nil)
	}, nil)
	return err
}

// sessionsGone waits until no session is left that the gate refuses, or the phase is not phase any more.
func (s *DeviceSync) sessionsGone(ctx context.Context, phase devicesync.Phase) error {
	slow := time.NewTimer(sessionsPatience)
	defer slow.Stop()
	told, unsubscribe := s.r.g.nodes.Subscribe(presenceTopic)
	defer unsubscribe()
	for {
		_, nodes := s.r.g.nodes.Watch()
		row, changed := s.live.Watch()
		left, gone := s.endRefused()
		elsewhere, err := s.refusedElsewhere(ctx, row.Record.Version)
		if err != nil {
			return err
		}
		if left += elsewhere; left == 0 || row.Record.Phase != phase {
			return nil
		}
		select {
		case <-gone:
		case <-changed:
		case <-told:
		case <-nodes:
		case <-slow.C:
			s.log().Warn("device sync: sessions do not end; what is under way waits for them", "sessions", left)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// sessionsPatience is within what sessions should have ended (§2.3).
const sessionsPatience = 5 * time.Second

// terminate does one step of a termination and records the next one.
func (s *DeviceSync) terminate(ctx context.Context, step devicesync.Step) error {
	started := s.live.Row().Record.Termination.StartedAt
	keeper := s.keeper().Fenced(s.fence(func(row *devicesync.Row) bool {
		t := row.Record.Termination
		return t != nil && t.Step == step && t.StartedAt.Equal(started)
	}))
	base := s.live.Row().Record.Epoch.Base
	var err error
	switch step {
	case devicesync.StepSessions:
		err = s.sessionsGone(ctx, devicesync.Terminating)
	case devicesync.StepEpoch:
		return s.terminateEpoch(ctx)
	case devicesync.StepClients:
		_, err = keeper.RetireClients(ctx, s.progress(ctx, step))
		s.recount()
	case devicesync.StepLedger:
		if err = s.total(ctx, step, keeper.CountDocuments); err == nil {
			_, err = keeper.Remember(ctx, 0, base, s.progress(ctx, step))
		}
	case devicesync.StepBodies:
		if err = s.total(ctx, step, keeper.CountDocuments); err == nil {
			_, err = keeper.Collapse(ctx, 0, base, s.progress(ctx, step))
		}
	case devicesync.StepFinish:
		return s.terminated(ctx)
	default:
		return tidegate.Errorf(tidegate.Corrupt, "a termination has no step %q", step)
	}
	if errors.Is(err, errStepDone) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("terminate device sync, step %s: %w", step, err)
	}
	return s.step(ctx, step, func(t *devicesync.Termination) { t.Step, t.Done, t.Total = step.After(), 0, 0 })
}

// errStepDone says that a step was done meanwhile: by another node, or twice.
var errStepDone = errors.New("the step of the termination was done by somebody else")

// atStep changes a row whose termination is at a step, as edit does, and returns it; nil if the termination has got beyond that meanwhile.
func (s *DeviceSync) atStep(ctx context.Context, step devicesync.Step, then func(row *devicesync.Row) error, also func(store.Tx, *devicesync.Row) error) (*devicesync.Row, error) {
	row, err := s.edit(ctx, func(row devicesync.Row) (devicesync.Row, bool, error) {
		t := row.Record.Termination
		if t == nil || t.Step != step {
			return row, false, errStepDone
		}
		copied := *t
		row.Record.Termination = &copied
		return row, true, then(&row)
	}, also)
	if errors.Is(err, errStepDone) {
		return nil, nil
	}
	return row, err
}

// step changes what is recorded of a termination, if it is still at that step.
func (s *DeviceSync) step(ctx context.Context, step devicesync.Step, change func(*devicesync.Termination)) error {
	_, err := s.atStep(ctx, step, func(row *devicesync.Row) error {
		change(row.Record.Termination)
		return nil
	}, nil)
	return err
}

// terminateEpoch allocates the epoch that comes after the termination, and records the next step, at once: it is never done twice.
func (s *DeviceSync) terminateEpoch(ctx context.Context) error {
	const step = devicesync.StepEpoch
	space := s.r.definition().Space
	_, err := s.atStep(ctx, step, func(row *devicesync.Row) error {
		row.Record.Termination.Step = step.After()
		return nil
	}, func(tx store.Tx, row *devicesync.Row) error {
		return beginEpoch(tx, space, &row.Record, devicesync.EpochReenabled, s.r.g.opts.Now())
	})
	return err
}

// terminated is the last step.
func (s *DeviceSync) terminated(ctx context.Context) error {
	if s.live.Row().Config.Mode == devicesync.Partition {
		if err := s.reroute(ctx); err != nil {
			return fmt.Errorf("give the configured sync functions their place back: %w", err)
		}
		s.log().Warn("device sync: partition mode has ended; a resync is due, so that the configured sync functions route what is stored")
	}
	row, err := s.atStep(ctx, devicesync.StepFinish, func(row *devicesync.Row) error {
		return row.EndTermination(s.r.g.opts.Now())
	}, nil)
	if row != nil {
		s.log().Info("device sync: terminated", "epoch", row.Record.Epoch.No)
	}
	return err
}

// total records how much there is to do in a step.
func (s *DeviceSync) total(ctx context.Context, step devicesync.Step, count func(context.Context) (int64, error)) error {
	n, err := count(ctx)
	if err != nil {
		return err
	}
	return s.step(ctx, step, func(t *devicesync.Termination) { t.Total = n })
}

// progressEvery is how often the progress of a step is recorded.
const progressEvery = time.Second

// progress records how much of a step is done.
func (s *DeviceSync) progress(ctx context.Context, step devicesync.Step) func(done int64) error {
	last := time.Now()
	return func(done int64) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if time.Since(last) < progressEvery {
			return nil
		}
		last = time.Now()
		return s.step(ctx, step, func(t *devicesync.Termination) { t.Done = done })
	}
}
