package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/store"
)

// Trim does the daily trim of device-sync.md §8.6 now: a floor marker if anything was written since the last one, history below the
// floor destroyed, deletions forgotten that are older than the ledger is kept, old bodies dropped from quarantine. It does nothing
// that a pause suspends. It waits for what another node is doing.
func (s *DeviceSync) Trim(ctx context.Context) error { return s.lead(ctx, s.trim) }

// trim is Trim under the database's lease.
func (s *DeviceSync) trim(ctx context.Context) error {
	keeper := s.keeper()
	now := s.r.g.opts.Now()
	if err := s.trimHistory(ctx, keeper, now); err != nil {
		return fmt.Errorf("trim history: %w", err)
	}
	if err := s.trimRows(ctx, keeper); err != nil && !errors.Is(err, errStepDone) {
		return fmt.Errorf("trim history: %w", err)
	}
	days := s.live.Row().Config.QuarantineDays
	if days == 0 { // the config is erased
		days = devicesync.DefaultQuarantineDays
	}
	n, err := keeper.ExpireQuarantine(ctx, now.Add(-time.Duration(days)*24*time.Hour))
	if n > 0 {
		s.log().Info("device sync: old bodies dropped from quarantine", "bodies", n)
	}
	return err
}

// trimHistory puts the floors in force that are due.
func (s *DeviceSync) trimHistory(ctx context.Context, keeper *database.Keeper, now time.Time) error {
	last, err := keeper.LastSequence(ctx)
	if err != nil {
		return err
	}
	need, err := s.lowestNeed(ctx)
	if err != nil {
		return err
	}
	plan := s.live.Row().PlanTrim(last, need, now)
	if plan == (devicesync.TrimPlan{}) {
		return nil
	}
	if !plan.Forget.IsZero() {
		if _, plan.Ledger, err = keeper.LedgerBefore(ctx, plan.Forget); err != nil {
			return err
		}
	}
	space := s.r.definition().Space
	row, err := s.edit(ctx, func(row devicesync.Row) (devicesync.Row, bool, error) {
		if row.PlanTrim(last, 0, now) == (devicesync.TrimPlan{}) {
			return row, false, nil // paused, or terminated, meanwhile
		}
		row.Record.Trimmed(plan, now)
		return row, true, nil
	}, func(tx store.Tx, row *devicesync.Row) error {
		if !plan.Marker {
			return nil
		}
		marker, err := tx.NextSequence(space)
		row.Record.Markers = append(slices.Clone(row.Record.Markers), marker)
		return err
	})
	if err != nil {
		return err
	}
	if plan.Evict {
		s.endBelow(row.Record.HistoryFloor)
	}
	if plan.Ledger > 0 {
		n, err := keeper.Forget(ctx, plan.Forget, nil)
		if err != nil {
			return err
		}
		s.log().Info("device sync: old deletions forgotten", "deletions", n, "ledger_floor", uint64(row.Record.LedgerFloor))
	}
	return nil
}

// trimRows destroys what is below the floor, now or after an earlier trim that was cut short.
func (s *DeviceSync) trimRows(ctx context.Context, keeper *database.Keeper) error {
	row := s.live.Row()
	run := row.Record.Trim
	if run == nil || row.Record.State == devicesync.Terminated {
		return nil
	}
	keeper = keeper.Fenced(s.fence(func(row *devicesync.Row) bool { return row.Record.Trim != nil && *row.Record.Trim == *run }))
	remembered, err := keeper.Remember(ctx, run.After, run.Through, nil)
	if err != nil {
		return err
	}
	collapsed, err := keeper.Collapse(ctx, run.After, run.Through, nil)
	if err != nil {
		return err
	}
	retired := int64(0)
	if days := row.Config.ClientMaxOfflineDays; days != nil {
		before := s.r.g.opts.Now().Add(-time.Duration(*days) * 24 * time.Hour)
		if retired, err = keeper.RetireIdle(ctx, before, nil); err != nil {
			return err
		}
	}
	s.log().Info("device sync: history trimmed", "floor", uint64(run.Through), "deletions", remembered, "documents", collapsed, "clients", retired)
	_, err = s.edit(ctx, func(row devicesync.Row) (devicesync.Row, bool, error) {
		if row.Record.Trim == nil || *row.Record.Trim != *run {
			return row, false, nil
		}
		row.Record.TrimEnded()
		return row, true, nil
	}, nil)
	return err
}

// tickEvery is how often samples are taken, and looked for what is due.
const tickEvery = devicesync.SampleEvery

// trimEvery is how often history is trimmed.
const trimEvery = 24 * time.Hour

// watchDeviceSync does what is due for all databases, until the gateway closes.
func (g *Gateway) watchDeviceSync() {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-g.ctx.Done():
			return
		}
		for _, r := range g.Databases() {
			if err := r.deviceSync.tick(g.ctx); err != nil && g.ctx.Err() == nil {
				r.deviceSync.log().Error("device sync: what is due could not be done", "error", err)
			}
		}
	}
}

// tick does what is due: a sample, warnings, the automatic pause, the daily trim.
func (s *DeviceSync) tick(ctx context.Context) error {
	if s.devices() > 0 {
		s.Touch() // an open session is activity, even an idle one
	}
	return s.tryLead(ctx, s.due)
}

// due does what is due under the database's lease.
func (s *DeviceSync) due(ctx context.Context) error {
	now := s.r.g.opts.Now()
	activity := time.UnixMilli(s.active.Load()).UTC()
	others, err := s.others(ctx)
	if err != nil {
		return err
	}
	for _, p := range others {
		if p.Sessions > 0 {
			activity = now.UTC()
		} else if at := time.Unix(p.Active, 0).UTC(); at.After(activity) {
			activity = at
		}
	}
	if err := s.sample(ctx, now, activity); err != nil {
		return err
	}
	if at, ok := s.live.Row().AutoPauseAt(activity); ok && !now.Before(at) {
		s.log().Info("device sync: no device or peer has been active; it pauses by itself", "days", s.live.Row().Config.AutoPauseDays)
		change := devicesync.Change{Patch: devicesync.StatePatch(devicesync.Disabled), By: "auto", Origin: "system"}
		if _, err := s.Apply(ctx, change); err != nil {
			return err
		}
	}
	if now.Sub(s.live.Row().Record.LastTrim) >= trimEvery {
		return s.trim(ctx)
	}
	return nil
}

// sample records what is due every hour: which sequence is the last one, the last activity, and which warnings were given.
func (s *DeviceSync) sample(ctx context.Context, now, activity time.Time) error {
	last, err := s.keeper().LastSequence(ctx)
	if err != nil {
		return err
	}
	var warnings []string
	_, err = s.edit(ctx, func(row devicesync.Row) (devicesync.Row, bool, error) {
		warnings = nil
		changed := false
		if samples := row.Sampled(now, last); len(samples) != len(row.Record.Samples) || len(samples) > 0 && samples[len(samples)-1] != row.Record.Samples[len(samples)-1] {
			row.Record.Samples, changed = samples, true
		}
		if row.Config.AutoPauseDays > 0 && activity.After(row.Record.LastActivity) {
			row.Record.LastActivity, changed = activity, true
		}
		due := row.Warnings(activity, now)
		for _, w := range due {
			if !slices.Contains(row.Record.Warned, w) {
				warnings = append(warnings, w)
			}
		}
		if !slices.Equal(due, row.Record.Warned) {
			row.Record.Warned, changed = due, true
		}
		return row, changed, nil
	}, nil)
	if err != nil {
		return err
	}
	s.warn(warnings, activity)
	return nil
}

// warn logs warnings that are due for the first time.
func (s *DeviceSync) warn(warnings []string, activity time.Time) {
	row := s.live.Row()
	for _, w := range warnings {
		switch w {
		case devicesync.WarnAutoPause:
			at, _ := row.AutoPauseAt(activity)
			s.log().Warn("device sync: it will pause by itself for want of activity", "at", at)
		case devicesync.WarnResumeDeadline:
			s.log().Warn("device sync: it is paused, and can be resumed only until its change history ends", "resume_deadline", row.ResumeDeadline())
		case devicesync.WarnMustTerminate:
			s.log().Error("device sync: its change history has rolled past the pause; it must be terminated and enabled again")
		}
	}
}
