package devicesync

import (
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/tidegate/tidegate"
)

// Decide is steps 2 to 6 of the PATCH algorithm (device-sync.md §4.3): the row that a change makes of row, and what comes of it. A
// change that is refused changes nothing. Refusals are errors with a code of the Admin API ([AppCode]).
func Decide(row Row, c Change, now time.Time) (Row, Outcome, error) {
	mode, part, err := c.Patch.choose(&row)
	if err != nil {
		return row, Outcome{}, err
	}
	next := row
	if next.Service, err = row.Service.merge(c.Patch.Service); err != nil {
		return row, Outcome{}, err
	}
	if row.Record.State != Terminated && next.Service.Cluster() != row.Service.Cluster() {
		return row, Outcome{}, invalid("clusterName", "cannot be changed before sync is terminated")
	}
	from := row.Record.State
	to := from
	if part != nil && part.State != nil {
		to = *part.State
	}
	if to == Terminated {
		err = next.terminate(c.By, now)
	} else {
		err = next.configure(mode, part, to, c, now)
	}
	if err != nil {
		return row, Outcome{}, err
	}
	out := Outcome{From: from, To: next.Record.State, Terminating: next.Record.Phase == Terminating}
	if reflect.DeepEqual(row, next) {
		out.Row = &row
		return row, out, nil
	}
	out.Changed, out.Row = true, &next
	return next, out, nil
}

// choose returns the part of a patch that concerns the row, and its mode; nil if there is none. At most one mode is configured at a
// time, and it is left only by a termination (§9.4).
func (p Patch) choose(row *Row) (Mode, *Part, error) {
	var mode Mode
	var part *Part
	for _, one := range []struct {
		mode Mode
		part *Part
	}{{Flexible, p.Flexible}, {Partition, p.Partition}} {
		asks := one.part != nil && wants(one.part.State, p.State)
		switch {
		case one.part == nil:
		case row.Record.State != Terminated && row.Config.Mode != one.mode:
			if asks {
				return "", nil, refuse(tidegate.Conflict, CodeModeSwitch, "sync is configured in %s mode: terminate it before it is configured in %s mode", row.Config.Mode, one.mode)
			}
		case part != nil && asks && wants(part.State, p.State):
			return "", nil, refuse(tidegate.Conflict, CodeModeSwitch, "sync can be configured in one mode only")
		case part == nil || asks:
			mode, part = one.mode, one.part
		}
	}
	if p.State != nil {
		if part == nil {
			mode, part = row.Config.Mode, &Part{}
			if mode == "" {
				mode = Flexible
			}
		}
		part = &Part{State: p.State, Members: part.Members}
	}
	return mode, part, nil
}

// wants reports whether a state other than Terminated is asked for, by a part or for whatever part there is.
func wants(part, whole *State) bool {
	return part != nil && *part != Terminated || part == nil && whole != nil && *whole != Terminated
}

// terminate begins a termination, unless there is nothing to terminate. The config stays until the last step; nobody is shown it.
func (r *Row) terminate(by string, now time.Time) error {
	from := r.Record.State
	place, err := Next(r.Record.Place(), Terminate)
	if err != nil || from == Terminated {
		return err
	}
	rec := &r.Record
	rec.State, rec.Phase = place.State, place.Phase
	rec.LastDisabled, rec.DisabledBy = now.Unix(), by
	rec.TerminatedClients = r.Config.TerminatedClients
	rec.Termination = &Termination{From: from, Step: StepSessions, StartedAt: now.UTC(), By: by}
	rec.Warned, rec.HeldSince = nil, time.Time{}
	return nil
}

// configure merges a part into the config and moves to a state other than Terminated.
func (r *Row) configure(mode Mode, part *Part, to State, c Change, now time.Time) error {
	from := r.Record.State
	place, err := Next(r.Record.Place(), asked(from, to))
	if err != nil {
		return err
	}
	old := r.Config
	base := old
	if from == Terminated {
		base = DefaultConfig()
	}
	base.Mode = mode
	if part == nil {
		base.Mode = old.Mode
	}
	cfg, err := base.merge(part)
	if err != nil {
		return err
	}
	if part != nil {
		cfg.Automatic = false // somebody has taken it in hand
	}
	if err := cfg.check(); err != nil {
		return err
	}
	switch {
	case from == Terminated && c.Serverless:
		return refuse(tidegate.Invalid, CodeInvalidParameter, "a serverless data source cannot sync")
	case from == Terminated && cfg.DatabaseName == "":
		return refuse(tidegate.Invalid, CodeMissingParameter, "database_name: sync cannot be enabled without it")
	case from != Terminated && !sameSet(cfg.AsymmetricTables, old.AsymmetricTables):
		if !c.AllowDestructive {
			return Destructive("changing asymmetric_tables needs a termination of sync")
		}
		return r.terminate(c.By, now)
	case from != Terminated:
		if err := cfg.checkChange(old, from); err != nil {
			return err
		}
	}
	if from == Disabled && to == Enabled && r.MustTerminate(now) {
		return refuse(tidegate.Conflict, CodeHistoryLost, "sync was paused for longer than its change history reaches back: it must be terminated and enabled again")
	}
	r.Config = cfg
	r.Record.moveTo(from, to, place, c.By, now)
	if from == Terminated && mode == Partition { // what is stored must be routed first
		return r.Record.Happen(BuildStart, nil)
	}
	return nil
}

// Destructive is the refusal of a change that would need a termination, for want of allow_destructive_changes (§7.1).
func Destructive(why string) error {
	return refuse(tidegate.Invalid, CodeDestructive, "%s; it is made with allow_destructive_changes=true", why)
}

// asked is the event of going from one state to another, neither of which is a termination.
func asked(from, to State) Event {
	switch {
	case to == Disabled:
		return Pause
	case from == Terminated:
		return Enable
	default:
		return Resume
	}
}

// moveTo notes a state that was reached.
func (r *Record) moveTo(from, to State, place Place, by string, now time.Time) {
	r.State, r.Phase = place.State, place.Phase
	if from == to {
		return
	}
	r.Warned, r.HeldSince = nil, time.Time{}
	switch {
	case to == Disabled:
		r.LastDisabled, r.DisabledBy = now.Unix(), by
	case from == Terminated:
		r.Error, r.TerminatedClients = nil, ""
		r.Epoch.StartedAt, r.Epoch.Reason = now.UTC(), EpochReenabled
		r.EnabledAt, r.DisabledBy = now.UTC(), ""
	default:
		r.EnabledAt, r.DisabledBy = now.UTC(), ""
	}
}

// Happen applies an event that nobody asked for: the end of sessions, of a termination or of a build, a failure or its end. fault is
// what is recorded with Fail. Conflict: it cannot happen where sync is.
func (r *Record) Happen(ev Event, fault *Fault) error {
	place, err := Next(r.Place(), ev)
	if err != nil {
		return err
	}
	r.State, r.Phase = place.State, place.Phase
	switch ev {
	case Fail:
		r.Error = fault
	case Retry, TerminationEnd:
		r.Error = nil
	}
	return nil
}

// BeginEpoch makes the record that of the next epoch: every token given out before is stale. base is NextBase of the last sequence.
func (r *Record) BeginEpoch(base tidegate.Seq, id string, reason EpochReason, now time.Time) {
	r.Epoch = Epoch{No: r.Epoch.No + 1, ID: id, Base: base, StartedAt: now.UTC(), Reason: reason}
	r.Markers = []tidegate.Seq{base}
	r.HistoryFloor = base - 1
	r.Samples, r.LastTrim, r.Trim, r.HeldSince = nil, time.Time{}, nil, time.Time{}
}

// EndTermination is the last step of a termination: the config is gone, and the history before the epoch.
func (r *Row) EndTermination(now time.Time) error {
	if err := r.Record.Happen(TerminationEnd, nil); err != nil {
		return err
	}
	r.Record.HistoryFloor = r.Record.Epoch.Base - 1
	r.Record.Termination = nil
	r.Record.LastDisabled = now.Unix()
	r.Config = Config{}
	return nil
}

// sameSet reports whether two lists hold the same strings.
func sameSet(a, b []string) bool {
	sorted := func(s []string) string {
		s = slices.Clone(s)
		slices.Sort(s)
		return strings.Join(slices.Compact(s), "\x00")
	}
	return sorted(a) == sorted(b)
}
