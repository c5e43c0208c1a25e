package job

import (
	"testing"

	"github.com/tidegate/tidegate"
)

// The table of cluster-sync.md §4: every call in every state.
func TestSyncCalls(t *testing.T) {
	legal := map[SyncState]map[SyncEvent]SyncState{
		SyncIdle:      {SyncStart: SyncRunning},
		SyncRunning:   {SyncPause: SyncPaused, SyncCommit: SyncCommitting},
		SyncPaused:    {SyncResume: SyncRunning},
		SyncCommitted: {SyncReverse: SyncReversing},
	}
	for _, s := range SyncStates() {
		for _, call := range []SyncEvent{SyncStart, SyncPause, SyncResume, SyncCommit, SyncReverse} {
			got, err := NextSync(s, call)
			want, ok := legal[s][call]
			switch {
			case ok && (err != nil || got != want):
				t.Errorf("%s in %s: %s, %v; want %s", call, s, got, err, want)
			case !ok && (tidegate.ErrorCode(err) != tidegate.Conflict || got != s):
				t.Errorf("%s in %s: %s, %v; want a conflict, and no move", call, s, got, err)
			}
		}
	}
}

func TestSyncMovesWithoutCalls(t *testing.T) {
	happens := map[SyncEvent][2]SyncState{
		SyncNothingFound: {SyncInitializing, SyncIdle},
		SyncCommitDone:   {SyncCommitting, SyncCommitted},
		SyncReverseDone:  {SyncReversing, SyncRunning},
	}
	for ev, move := range happens {
		for _, s := range SyncStates() {
			got, err := NextSync(s, ev)
			if s == move[0] && (got != move[1] || err != nil) || s != move[0] && (got != s || err == nil) {
				t.Errorf("%s in %s: %s, %v", ev, s, got, err)
			}
		}
	}
}

func TestRestoreSync(t *testing.T) {
	for _, s := range SyncStates() {
		for _, found := range append(SyncStates(), 0, 99) {
			recorded := found == SyncRunning || found == SyncPaused || found == SyncCommitting || found == SyncCommitted || found == SyncReversing
			got, err := RestoreSync(s, found)
			if s == SyncInitializing && recorded {
				if got != found || err != nil {
					t.Errorf("restore %s: %s, %v", found, got, err)
				}
			} else if got != s || err == nil {
				t.Errorf("restore %s in %s: %s, %v", found, s, got, err)
			}
		}
	}
}

func TestSyncNames(t *testing.T) {
	for _, s := range SyncStates() {
		if got := ParseSyncState(s.String()); got != s {
			t.Errorf("%s reads as %s", s, got)
		}
	}
	for _, name := range []string{"", "running", "SYNCSTATE(9)"} {
		if got := ParseSyncState(name); got != 0 {
			t.Errorf("%q reads as %s", name, got)
		}
	}
	seen := map[string]bool{}
	for _, e := range SyncEvents() {
		if seen[e.String()] || e.String() == "" {
			t.Errorf("event %d is called %q", e, e)
		}
		seen[e.String()] = true
	}
}
