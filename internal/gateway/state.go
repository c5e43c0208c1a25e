package gateway

import "github.com/tidegate/tidegate"

// State is what a database is doing on this node (resync.md §1). Its text is what clients see.
type State uint8

// The states. Only Online serves document requests.
const (
	Offline  State = iota
	Starting       // loading
	Online
	Stopping // going offline: feeds being closed, requests finishing
	Resyncing
)

var stateNames = [...]string{"Offline", "Starting", "Online", "Stopping", "Resyncing"}

// String returns the state's name on the wire.
func (s State) String() string { return stateNames[s] }

// event is what makes a state change.
type event uint8

const (
	evLoad     event = iota // begin to load
	evLoaded                // loading succeeded
	evFailed                // loading or running failed
	evStop                  // begin to go offline
	evStopped               // the last request has ended
	evResync                // begin a resync
	evResynced              // the resync ended, however it ended
)

var eventNames = [...]string{"load", "loaded", "failed", "stop", "stopped", "resync", "resynced"}

func (e event) String() string { return eventNames[e] }

// moves is the one table of legal moves (resync.md §1). What is not in it is refused.
var moves = [...]struct {
	from State
	on   event
	to   State
}{
	{Offline, evLoad, Starting},
	{Starting, evLoaded, Online},
	{Starting, evFailed, Offline},
	{Online, evStop, Stopping},
	{Stopping, evStopped, Offline},
	{Offline, evResync, Resyncing},
	{Resyncing, evResynced, Offline},
}

// next is the only writer of states: it returns the state that ev leads to from s, or Conflict.
func next(s State, ev event) (State, error) {
	for _, m := range moves {
		if m.from == s && m.on == ev {
			return m.to, nil
		}
	}
	return s, tidegate.Errorf(tidegate.Conflict, "database cannot %s while %s", ev, s)
}

// States lists all states.
func States() []State { return []State{Offline, Starting, Online, Stopping, Resyncing} }
