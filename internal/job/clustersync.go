package job

import (
	"fmt"

	"github.com/tidegate/tidegate"
)

// SyncState is what a cluster sync is doing (cluster-sync.md §4). The zero SyncState is none.
type SyncState uint8

// The states of a cluster sync.
const (
	SyncInitializing SyncState = iota + 1 // started; the records of an earlier run are being looked for
	SyncIdle                              // there is nothing to do yet
	SyncRunning                           // copying, or following
	SyncPaused
	SyncCommitting // cutting over
	SyncCommitted
	SyncReversing // source and destination are being swapped
)

var syncStateNames = [...]string{"", "INITIALIZING", "IDLE", "RUNNING", "PAUSED", "COMMITTING", "COMMITTED", "REVERSING"}

// String returns the state's name on the wire and in records.
func (s SyncState) String() string {
	if int(s) < len(syncStateNames) {
		return syncStateNames[s]
	}
	return fmt.Sprintf("SYNCSTATE(%d)", uint8(s))
}

// ParseSyncState returns the state of a name on the wire; 0 if there is none.
func ParseSyncState(name string) SyncState {
	for _, s := range SyncStates() {
		if syncStateNames[s] == name {
			return s
		}
	}
	return 0
}

// SyncStates lists all states of a cluster sync.
func SyncStates() []SyncState {
	return []SyncState{SyncInitializing, SyncIdle, SyncRunning, SyncPaused, SyncCommitting, SyncCommitted, SyncReversing}
}

// Active reports whether the engine of a cluster sync runs in this state.
func (s SyncState) Active() bool {
	return s == SyncRunning || s == SyncCommitting || s == SyncReversing
}

// SyncEvent is what makes a cluster sync's state change.
type SyncEvent uint8

// The events. The first five are the calls of the API, the others happen.
const (
	SyncStart SyncEvent = iota + 1
	SyncPause
	SyncResume
	SyncCommit
	SyncReverse

	SyncNothingFound // no records of an earlier run
	SyncCommitDone
	SyncReverseDone
)

var syncEventNames = [...]string{"", "start", "pause", "resume", "commit", "reverse", "nothing found", "commit done", "reverse done"}

// String returns the event's name: that of a call is the last element of its path.
func (e SyncEvent) String() string {
	if int(e) < len(syncEventNames) {
		return syncEventNames[e]
	}
	return fmt.Sprintf("syncevent(%d)", uint8(e))
}

// SyncEvents lists all events of a cluster sync.
func SyncEvents() []SyncEvent {
	return []SyncEvent{SyncStart, SyncPause, SyncResume, SyncCommit, SyncReverse, SyncNothingFound, SyncCommitDone, SyncReverseDone}
}

// NextSync returns the state that an event leads to from s. Conflict: the event is not legal in s, which stays.
func NextSync(s SyncState, ev SyncEvent) (SyncState, error) {
	next, ok := syncMoves[syncMove{s, ev}]
	if !ok {
		return s, tidegate.Errorf(tidegate.Conflict, "%s is not allowed in state %s", ev, s)
	}
	return next, nil
}

// syncMove is a cell of the table: what happens in which state.
type syncMove struct {
	in SyncState
	ev SyncEvent
}

// syncMoves is the one table of moves (cluster-sync.md §4). What is not in it is not legal.
var syncMoves = map[syncMove]SyncState{
	{SyncInitializing, SyncNothingFound}: SyncIdle,
	{SyncIdle, SyncStart}:                SyncRunning,
	{SyncRunning, SyncPause}:             SyncPaused,
	{SyncPaused, SyncResume}:             SyncRunning,
	{SyncRunning, SyncCommit}:            SyncCommitting,
	{SyncCommitting, SyncCommitDone}:     SyncCommitted,
	{SyncCommitted, SyncReverse}:         SyncReversing,
	{SyncReversing, SyncReverseDone}:     SyncRunning,
}

// RestoreSync returns the state of a cluster sync whose records say that it was in found when its process ended. Conflict: it is not being
// started, or found is none that is recorded.
func RestoreSync(s, found SyncState) (SyncState, error) {
	if s != SyncInitializing || found < SyncRunning || found > SyncReversing {
		return s, tidegate.Errorf(tidegate.Conflict, "state %s cannot be restored in state %s", found, s)
	}
	return found, nil
}
