package job

import (
	"fmt"

	"github.com/tidegate/tidegate"
)

// State is what a replication is doing, or what an answer of the API says of it. The zero State is none.
type State uint8

// The states of a replication.
const (
	Stopped      State = iota + 1
	Starting           // asked to run, not connected yet
	Running            // connected: copying, or waiting for changes
	Reconnecting       // the connection was lost, or could not be made; it is tried again
	Resetting          // checkpoints and counters are being deleted
	Error              // given up; the error says why
	Unassigned         // no node may run it

	// Only answers of the API have these: Next neither takes nor returns them.
	Stopping // asked to stop, not stopped yet
	Removed  // stopped and deleted, being ad hoc
)

var stateNames = [...]string{
	"", "stopped", "starting", "running", "reconnecting", "resetting", "error", "unassigned", "stopping", "removed",
}

// String returns the state's name on the wire.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// ParseState returns the state of a name on the wire; 0 if there is none.
func ParseState(name string) State {
	for s := Stopped; s <= Removed; s++ {
		if stateNames[s] == name {
			return s
		}
	}
	return 0
}

// States lists the states that a replication can be in.
func States() []State {
	return []State{Stopped, Starting, Running, Reconnecting, Resetting, Error, Unassigned}
}

// Active reports whether something runs, or may run, in this state.
func (s State) Active() bool { return s == Starting || s == Running || s == Reconnecting }

// Event is what makes a replication's state change.
type Event uint8

// The events. The first four are asked for, the others happen.
const (
	Start       Event = iota + 1
	Stop              // by an operator, or because its database goes offline
	Reset             // of a replication that is not meant to run
	ResetActive       // a reset of one that is meant to run, whatever has become of it
	Connected         // one direction is connected
	Lost              // no direction is connected, and they try again
	Completed         // a one-shot has copied all there is
	Failed            // given up; or, for one direction of two, while the other one is not connected
	ResetDone         // the reset has ended, well
	Unassign          // no node may run it any more
	Assign            // this node may run it, after none might
)

var eventNames = [...]string{
	"", "start", "stop", "reset", "reset while active", "connected", "lost", "completed", "failed", "reset done", "unassign", "assign",
}

// String returns the event's name, for logs.
func (e Event) String() string {
	if int(e) < len(eventNames) {
		return eventNames[e]
	}
	return fmt.Sprintf("event(%d)", uint8(e))
}

// Events lists all events.
func Events() []Event {
	return []Event{Start, Stop, Reset, ResetActive, Connected, Lost, Completed, Failed, ResetDone, Unassign, Assign}
}

// Refusals of events that somebody asks for. Their words are those of the API.
var (
	ErrMustStop  = tidegate.Errorf(tidegate.Invalid, "Replication must be stopped before it can be reset")
	ErrResetting = tidegate.Errorf(tidegate.Invalid, "Replication cannot be started until reset is complete")
)

// move is a cell of the table: where to, or why not. Of what is late nothing comes: an event of a run that is over
// leaves the state as it is, which is not an error.
type move struct {
	to  State
	err error
}

func to(s State) move { return move{to: s} }

var (
	mustStop = move{err: ErrMustStop}
	wait     = move{err: ErrResetting}
)

// table is the one table of moves: for every state what every event does. It is a function only because Go has no
// constant arrays.
func table() map[State]map[Event]move {
	// late are the events of a run or a reset, where there is none: they change nothing.
	late := func(s State, asked map[Event]move) map[Event]move {
		for _, e := range []Event{Connected, Lost, Completed, Failed, ResetDone, Assign} {
			if _, given := asked[e]; !given {
				asked[e] = to(s)
			}
		}
		return asked
	}
	runs := func(s State) map[Event]move {
		return late(s, map[Event]move{
			Start: to(s), Stop: to(Stopped), Reset: mustStop, ResetActive: mustStop, Unassign: to(Unassigned),
			Connected: to(Running), Lost: to(Reconnecting), Completed: to(Stopped), Failed: to(Error),
		})
	}
	return map[State]map[Event]move{
		Stopped:      late(Stopped, map[Event]move{Start: to(Starting), Stop: to(Stopped), Reset: to(Resetting), ResetActive: mustStop, Unassign: to(Unassigned)}),
		Starting:     runs(Starting),
		Running:      runs(Running),
		Reconnecting: runs(Reconnecting),
		Resetting: late(Resetting, map[Event]move{
			Start: wait, Stop: to(Resetting), Reset: to(Resetting), ResetActive: to(Resetting), ResetDone: to(Stopped), Failed: to(Error), Unassign: to(Resetting),
		}),
		// One direction may go on where the other one has failed.
		Error: late(Error, map[Event]move{
			Start: to(Starting), Stop: to(Stopped), Reset: to(Resetting), ResetActive: mustStop, Unassign: to(Unassigned),
			Connected: to(Running), Lost: to(Reconnecting), Completed: to(Stopped),
		}),
		Unassigned: late(Unassigned, map[Event]move{
			Start: to(Unassigned), Stop: to(Stopped), Reset: to(Resetting), ResetActive: mustStop, Unassign: to(Unassigned), Assign: to(Stopped),
		}),
	}
}

var moves = table()

// Next returns the state that an event leads to from s; s itself if it changes nothing. Invalid: somebody asked for what
// cannot be done now (ErrMustStop, ErrResetting). Conflict: s or ev is none that a replication can have.
func Next(s State, ev Event) (State, error) {
	m, ok := moves[s][ev]
	if !ok {
		return s, tidegate.Errorf(tidegate.Conflict, "replication cannot %s while %s", ev, s)
	}
	if m.err != nil {
		return s, m.err
	}
	return m.to, nil
}

// Answer is what the API says of a replication that is in state now after somebody asked for ev: what was asked for as long
// as it has not come about. adhoc: it is deleted when it stops.
func Answer(ev Event, now State, adhoc bool) State {
	switch {
	case ev == Stop && adhoc:
		return Removed
	case ev == Stop && now.Active():
		return Stopping
	default:
		return now
	}
}

// Settled reports whether what somebody asked for by ev has come about, or will not.
func Settled(ev Event, now State) bool {
	switch ev {
	case Start:
		return now != Starting
	case Stop:
		return !now.Active()
	case Reset, ResetActive:
		return now != Resetting
	default:
		return true
	}
}

// Combine returns the state of a replication whose two directions are in these states. A direction that the replication
// does not have is 0.
func Combine(push, pull State) State {
	switch {
	case push == 0:
		return pull
	case pull == 0:
		return push
	}
	for _, s := range []State{Running, Error, Reconnecting, Starting, Resetting, Unassigned} {
		if push == s || pull == s {
			return s
		}
	}
	return Stopped
}
