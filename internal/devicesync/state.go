package devicesync

import (
	"github.com/tidegate/tidegate"
)

// State is the state of a database's device sync as the Admin API spells it (device-sync.md §2.1).
type State string

// The states.
const (
	Enabled    State = "enabled"
	Disabled   State = "disabled" // paused
	Terminated State = ""         // terminated, or never configured
)

// Valid reports whether s is one of the states.
func (s State) Valid() bool { return s == Enabled || s == Disabled || s == Terminated }

// Word is the state in words: "enabled", "paused" or "terminated".
func (s State) Word() string {
	switch s {
	case Enabled:
		return "enabled"
	case Disabled:
		return "paused"
	default:
		return "terminated"
	}
}

// Phase is what is still being done about a state (§2.3).
type Phase string

// The phases.
const (
	Steady      Phase = "steady"
	Pausing     Phase = "pausing"     // the gate is closed, sessions are ending
	Terminating Phase = "terminating" // history is being destroyed
	Building    Phase = "building"    // data are being copied or indexed before clients may come
	Faulty      Phase = "error"       // clients are refused until it is terminated or a retry succeeds
)

// Event is what makes state or phase change.
type Event uint8

// The events. The first four are asked for, the others happen.
const (
	Pause Event = iota + 1
	Resume
	Terminate
	Enable

	SessionsGone   // the last session has ended
	TerminationEnd // the last step of a termination is done
	BuildStart
	BuildEnd
	Fail  // what sync depends on is lost
	Retry // what had failed works again
)

var eventNames = [...]string{"", "pause", "resume", "terminate", "enable", "sessions gone", "termination end", "build start", "build end", "fail", "retry"}

// String returns the event's name, for logs and errors.
func (e Event) String() string {
	if int(e) < len(eventNames) {
		return eventNames[e]
	}
	return "event ?"
}

// Events lists all events.
func Events() []Event {
	return []Event{Pause, Resume, Terminate, Enable, SessionsGone, TerminationEnd, BuildStart, BuildEnd, Fail, Retry}
}

// Place is where a database's device sync is: its state, and what is still being done about it.
type Place struct {
	State State
	Phase Phase
}

// Places lists all places that there are.
func Places() []Place {
	return []Place{
		{Enabled, Steady}, {Enabled, Building}, {Enabled, Faulty},
		{Disabled, Steady}, {Disabled, Pausing}, {Disabled, Faulty},
		{Terminated, Steady}, {Terminated, Terminating},
	}
}

// moves is the one table of moves (§2.2). What is not in it is not legal. Whether history still reaches back to a pause is
// not in it: Decide knows.
var moves = map[Place]map[Event]Place{
	{Enabled, Steady}: {
		Pause: {Disabled, Pausing}, Resume: {Enabled, Steady}, Enable: {Enabled, Steady}, Terminate: {Terminated, Terminating},
		BuildStart: {Enabled, Building}, Fail: {Enabled, Faulty},
	},
	{Enabled, Building}: {
		Pause: {Disabled, Pausing}, Resume: {Enabled, Building}, Enable: {Enabled, Building}, Terminate: {Terminated, Terminating},
		BuildEnd: {Enabled, Steady}, Fail: {Enabled, Faulty},
	},
	{Enabled, Faulty}: {
		Pause: {Disabled, Faulty}, Resume: {Enabled, Faulty}, Enable: {Enabled, Faulty}, Terminate: {Terminated, Terminating},
		Retry: {Enabled, Steady}, Fail: {Enabled, Faulty},
	},
	{Disabled, Pausing}: {
		Pause: {Disabled, Pausing}, Resume: {Enabled, Steady}, Enable: {Enabled, Steady}, Terminate: {Terminated, Terminating},
		SessionsGone: {Disabled, Steady}, Fail: {Disabled, Faulty},
	},
	{Disabled, Steady}: {
		Pause: {Disabled, Steady}, Resume: {Enabled, Steady}, Enable: {Enabled, Steady}, Terminate: {Terminated, Terminating},
		Fail: {Disabled, Faulty},
	},
	{Disabled, Faulty}: {
		Pause: {Disabled, Faulty}, Resume: {Enabled, Faulty}, Enable: {Enabled, Faulty}, Terminate: {Terminated, Terminating},
		Retry: {Disabled, Steady}, Fail: {Disabled, Faulty},
	},
	{Terminated, Terminating}: {
		Terminate: {Terminated, Terminating}, TerminationEnd: {Terminated, Steady},
	},
	{Terminated, Steady}: {
		Terminate: {Terminated, Steady}, Enable: {Enabled, Steady},
	},
}

// Next returns the place that an event leads to. Refused with [CodeSyncTerminating]: it is enabled while a termination runs. With
// [CodeInvalidParameter]: there is nothing to pause or resume. Any other event that the place does not know is Conflict.
// The place is then unchanged.
func Next(p Place, ev Event) (Place, error) {
	if to, ok := moves[p][ev]; ok {
		return to, nil
	}
	switch {
	case p == (Place{Terminated, Terminating}) && (ev == Enable || ev == Resume):
		return p, refuse(tidegate.Conflict, CodeSyncTerminating, "sync is being terminated; it can be enabled when that has ended")
	case p.State == Terminated && (ev == Pause || ev == Resume):
		return p, refuse(tidegate.Invalid, CodeInvalidParameter, "sync is not configured: there is nothing to %s", ev)
	default:
		return p, tidegate.Errorf(tidegate.Conflict, "device sync cannot %s while %s, %s", ev, p.State.Word(), p.Phase)
	}
}
